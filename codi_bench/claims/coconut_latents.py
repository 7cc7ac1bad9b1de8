"""Coconuts that others trained on ProsQA and ProntoQA: latents steered, left out, and read on their way to the answer."""

from __future__ import annotations

import numpy as np

from codi_bench.claims.blocks import PAIRED, drops, rates
from codi_bench.claims.claim import Protocols, Published, claim
from codi_bench.claims.on_files import ReleasedBench
from codi_bench.claims.released_study import FAMILY, RELEASED
from codi_bench.rules.controls import check_alive, check_room
from codi_bench.thoughts.coconut_cot import SteeredAnswers, WordAnswers, steering

LIANG = "coconut-gpt2-prosqa-liang"
TWO = 0.5  # a question of ProsQA names two answers, one of ProntoQA asks true or false


# Steered


@claim(
    "rel-coconut-steering",
    "steering outputs of github.com/valerieliang/coconut-cot, recomputed",
    kind="exists",
    n=300,
    protocol="validation problems of ProsQA; latents 0 to 4 pushed by 5, 10, 20 and 40 times a direction, one at a time",
    sound=(
        f"loss against the clean run; {PAIRED}. Controls: some condition must change some answer, and the clean run must be "
        "better than one of the two answers that a question names"
    ),
    files={LIANG: (steering,)},
    **RELEASED,
)
def steered(bench: ReleasedBench, published: Published) -> Protocols:
    """Steering a thought changes the answer."""
    answers: SteeredAnswers = bench.read(steering)
    conditions = {f"latent_{place}_by_{strength}": each for (place, strength), each in answers.steered.items()}
    outcomes = {"clean": answers.clean.right, **{name: each.right for name, each in conditions.items()}}
    yield rates(outcomes)
    check_alive(counted(answers.clean), {name: counted(each) for name, each in conditions.items()})
    check_room(answers.clean.right, TWO)
    yield drops(outcomes, published, family=FAMILY)


def counted(answers: WordAnswers) -> np.ndarray:
    """Each answer with how it was counted, str [n]."""
    return np.char.add(np.char.add(answers.words, " "), answers.right.astype(str))
