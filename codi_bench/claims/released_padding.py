"""Runs of one model in batches of other sizes, as two repositories released them: which problems are answered otherwise."""

from __future__ import annotations

import numpy as np

from codi_bench.audits.ablation import DROP_FLOOR
from codi_bench.claims.blocks import PAIRED, gains, rate
from codi_bench.claims.claim import Measured, Protocols, Published, claim, measured, without_word
from codi_bench.claims.first_study import GPT2
from codi_bench.claims.on_files import ReleasedBench
from codi_bench.claims.released_study import FAMILY, RELEASED, SOURCE
from codi_bench.errors import MeasureError
from codi_bench.rules.stats import mcnemar_exact, wilson
from codi_bench.thoughts.cot_exploration import Labels, gpt2_labels, gpt2_words
from codi_bench.thoughts.decoded import Decoded, decoded_latent
from codi_bench.thoughts.internalize_cot import spelling


@claim(
    "rel-padding",
    f"{SOURCE}, against the authors' own log (github.com/zhenyi4/codi)",
    kind="exists",
    n=1000,
    protocol=(
        "right of GSM8K test 0 to 999 in batches of 1 (the labels, float32) and of 128 (the log, bfloat16, which holds right "
        "answers alone); of 132 of them in batches of 16"
    ),
    sound=(
        "the same problems, compared by their text: which share is right in one run and wrong in the other; batch_128: is more "
        f"answered rightly there than in batches of 1? {PAIRED}. The checkpoint is the same by name; dtype and versions differ"
    ),
    files={GPT2: (gpt2_labels, decoded_latent, gpt2_words)},
    **RELEASED,
)
def padding(bench: ReleasedBench, published: Published) -> Protocols:
    """The padding of a batch decides which problems are answered rightly."""
    labels, words = bench.read(gpt2_labels), bench.read(gpt2_words)
    log = in_log(labels, bench.read(decoded_latent))
    yield [rate("batch_1", labels.right), rate("batch_128", log), rate("batch_16", words.right[words.clean])]

    known = {spelling(problem.question): right for problem, right in zip(labels.problems, labels.right, strict=True)}
    of_16 = {spelling(words.questions[i]): words.right[i] for i in np.flatnonzero(words.clean)}
    shared = [question for question in of_16 if question in known]
    pairs = {
        "differ_128": (labels.right, log),
        "differ_16": (np.array([known[q] for q in shared]), np.array([of_16[q] for q in shared])),
    }
    yield [differ(metric, *pair) for metric, pair in pairs.items()] + gains(
        {"batch_128": (log, labels.right)}, "batches of 1", family=FAMILY, delta=DROP_FLOOR
    )


def in_log(labels: Labels, log: Decoded) -> np.ndarray:
    """Which of the labelled problems, in the order of GSM8K, the log has as right: bool [n].

    Raises MeasureError where the log has another problem at that place.
    """
    right = np.zeros(len(labels.problems), bool)
    for problem in log.problems:
        place = int(problem.group.rpartition(":")[2])
        if place < len(right):
            if spelling(problem.question) != spelling(labels.problems[place].question):
                raise MeasureError(f"problem {place} of the log is another one than that of the labels")
            right[place] = True
    return right


def differ(metric: str, one: np.ndarray, other: np.ndarray) -> Measured:
    """Share of problems that are right in one of two runs, bool [n] each, and wrong in the other."""
    lost, gained = int((one & ~other).sum()), int((~one & other).sum())
    note = {
        "note": f"{gained} right in the larger batches alone, {lost} in batches of 1 alone; p {mcnemar_exact(one, other):.2g}"
    }
    why = without_word("a share of changes has no null: of the same run twice it is 0")
    return measured(metric, wilson(lost + gained, len(one)), len(one), outcomes=one != other, detail=why | note)
