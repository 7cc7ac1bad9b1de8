"""Coconuts that others trained on ProsQA and ProntoQA: latents steered, left out, and read on their way to the answer."""

from __future__ import annotations

import numpy as np

from codi_bench.claims.blocks import PAIRED, drops, gains, rate, rates
from codi_bench.claims.claim import Protocols, Published, claim, without_word
from codi_bench.claims.comparisons import above
from codi_bench.claims.on_files import ReleasedBench
from codi_bench.claims.released_study import FAMILY, RELEASED
from codi_bench.rules.controls import ROOM, check_alive, check_room
from codi_bench.thoughts.coconut_cot import SteeredAnswers, WordAnswers, steering
from codi_bench.thoughts.rizvi_coconut import (
    Beliefs,
    UnaidedAnswers,
    prontoqa_beliefs,
    prontoqa_unaided,
    prosqa_beliefs,
    prosqa_unaided,
    smollm2_unaided,
)

SOURCE = "results released in github.com/michaelrizvi/coconut, recomputed"
PROSQA, PRONTOQA = "coconut-gpt2-prosqa-rizvi", "coconut-gpt2-prontoqa-rizvi"
UNAIDED = {PROSQA: prosqa_unaided, PRONTOQA: prontoqa_unaided, "coconut-smollm2-135m-prosqa-rizvi": smollm2_unaided}
BELIEFS = {PROSQA: prosqa_beliefs, PRONTOQA: prontoqa_beliefs}
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


# Left out


@claim(
    "rel-coconut-no-latents",
    SOURCE,
    kind="exists",
    n=300,
    protocol=(
        "question alone, no latent; right if all that stands behind the last # is the right answer: ProsQA's 500 test problems, "
        "800 of ProntoQA (63 answers there have no # and count as wrong), for SmolLM2 ProsQA's 300 validation problems. What the "
        "same models answer with their latents was not released"
    ),
    sound=(
        "gain over always giving the first of the two answers that a question names, or the second, whichever is more often "
        f"right; {PAIRED}. last_word: right by the last word of the answer"
    ),
    files={model: (file,) for model, file in UNAIDED.items()},
    **RELEASED,
)
def no_latents(bench: ReleasedBench, published: Published) -> Protocols:
    """Without any latent the model still answers."""
    answers: UnaidedAnswers = bench.read(UNAIDED[bench.model.name])
    yield [rate("accuracy", answers.right)]
    first, second = (answers.options == answers.golds[:, None]).T
    best = max(first, second, key=lambda option: option.sum())
    pairs = {"accuracy": (answers.right, best), "last_word": (answers.words == answers.golds, best)}
    yield gains(pairs, "one of two", family=FAMILY, delta=ROOM)


# Read on their way


@claim(
    "rel-coconut-frontier",
    SOURCE,
    kind="order",
    n=200,
    protocol=(
        "is the right answer more probable than the wrong one? At bot, before the first thought; at the latents, read after as "
        "many passes; at eot. ProsQA: 300 validation graphs, the probability of a word's tokens one after the other, which is "
        "small there (median below 0.002), so that only which is the greater counts; ProntoQA: the first 200 test problems, True "
        "against False"
    ),
    sound="against bot: the interval of the paired difference that holds for all places together",
    files={model: (file,) for model, file in BELIEFS.items()},
    **RELEASED,
)
def frontier(bench: ReleasedBench, published: Published) -> Protocols:
    """With each thought the search advances: the right answer is ahead more often than before the first one."""
    beliefs: Beliefs = bench.read(BELIEFS[bench.model.name])
    ahead = {place: right > beliefs.wrong[place] for place, right in beliefs.right.items()}
    yield rates(ahead)
    before = ahead.pop("bot")
    start = rate("bot", before, detail=without_word("what the others are compared with"))
    yield [start, *above({place: (each, before) for place, each in ahead.items()})]
