"""Which values the head reads in thoughts, against those of another problem: on a released log or on the live states of a model.

Place j of a metric is the source's: 0 is the state at bot, j that at latent position j - 1. What is looked for comes by metric as
a matrix, bool [n, n]: is what row j should show true of row i?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from codi_bench.audits import decoding
from codi_bench.audits.decoding import HIT_FLOOR, HitComparison, all_begun, all_found, compared, first_is
from codi_bench.claims.blocks import corrected, effect_over, rate
from codi_bench.claims.claim import SEED, Bench, Measured, Null, Published, ends, once
from codi_bench.claims.runs import NUM_PROBLEMS
from codi_bench.errors import MeasureError
from codi_bench.thoughts.decoded import Decoded, decoded_latent, number

FAMILY = "decoding"
LOG = {"gpt2": (decoded_latent,)}  # what a log tells is measured on it too
DECODED: dict[str, Any] = {"family": FAMILY, "n": NUM_PROBLEMS, "files": LOG}
RIGHT = "rightly answered problems alone; the head's first words behind bot and each latent; numbers compared as numbers; "
OTHERS = (
    "the same, against the values of another problem of as many steps: exact McNemar, Holm in the claim times the claims of the "
    "family; the null is the mean over all other problems"
)
LARGEST = 1000  # numbers below take one id of GPT-2's tokenizer
Matrices = Mapping[str, np.ndarray]


@once
def comparisons(bench: Bench, tests: Callable[[Decoded], Matrices]) -> dict[str, HitComparison]:
    """Metrics whose problems are too few are left out; MeasureError where all are."""
    matrices = {metric: matrix for metric, matrix in tests(bench.decoded).items() if len(matrix) >= decoding.FEWEST}
    if not matrices:
        raise MeasureError(f"fewer than {decoding.FEWEST} rightly answered problems of any such length: give more")
    return {metric: compared(matrix, seed=SEED + bench.seed) for metric, matrix in matrices.items()}


def hit_rates(bench: Bench, tests: Callable[[Decoded], Matrices]) -> list[Measured]:
    """How often own values are read."""
    return [rate(metric, comparison.own) for metric, comparison in comparisons(bench, tests).items()]


def hits_over_others(bench: Bench, tests: Callable[[Decoded], Matrices], published: Published) -> list[Measured]:
    """Are own values read more often than another problem's, by half of what was published?"""
    by_metric, rows = comparisons(bench, tests), []
    p_values = corrected([comparison.p for comparison in by_metric.values()], FAMILY)
    for (metric, comparison), p in zip(by_metric.items(), p_values, strict=True):
        word = comparison.word(p, effect_over(published, metric, comparison.mean, HIT_FLOOR))
        null = Null(comparison.mean, p=p)
        rows.append(rate(metric, comparison.own, null=null, verdict=word, detail={"gain": ends(comparison.gain)}))
    return rows


# Which problems, and what they should show


def rows_with(decoded: Decoded, intermediates: int) -> np.ndarray:
    """Problems with so many results before the last, all of which are plain numbers."""
    mask = [len(p.values) == p.num_steps == intermediates + 1 and not np.isnan(p.values[:-1]).any() for p in decoded.problems]
    return np.flatnonzero(mask)


def values_of(decoded: Decoded, rows: np.ndarray, steps: slice) -> np.ndarray:
    return np.array([decoded.problems[i].values[steps] for i in rows])


def intermediates(decoded: Decoded, counts: Sequence[int], *, first: int) -> dict[int, np.ndarray]:
    """Are all intermediate results among the first words of some place? By how many there are."""
    numbers = decoded.numbers()[..., :first]
    rows_of = {m: rows_with(decoded, m) for m in counts}
    return {m: all_found(numbers[rows], values_of(decoded, rows, slice(-1))) for m, rows in rows_of.items() if len(rows)}


def table(decoded: Decoded) -> dict[str, np.ndarray]:
    """As the paper's table has it: one, two or three intermediate results among the first five words."""
    return {f"steps_{m}": matrix for m, matrix in intermediates(decoded, (1, 2, 3), first=5).items()}


def strict(decoded: Decoded) -> dict[str, np.ndarray]:
    """Among the first five words, and first."""
    return {
        f"top{first}_{m}": matrix for first in (5, 1) for m, matrix in intermediates(decoded, (1, 2, 3, 4), first=first).items()
    }


def with_final(decoded: Decoded, steps: int, *, first: int, places: slice = slice(None)) -> np.ndarray:
    """Are the results of all steps there, the last one too?"""
    rows = [i for i, p in enumerate(decoded.problems) if p.num_steps == steps]
    values = np.array([decoded.problems[i].values for i in rows]).reshape(len(rows), steps)
    return all_found(decoded.numbers()[rows, places, :first], values)


def readings(decoded: Decoded) -> dict[str, np.ndarray]:
    """Other readings of the table: beginnings of numbers, small whole numbers, the last step too."""
    numbers, tests = decoded.numbers(), dict[str, np.ndarray]()
    for m in (1, 2, 3):
        rows = rows_with(decoded, m)
        if not len(rows):
            continue
        values = values_of(decoded, rows, slice(-1))
        words = [{w.strip() for place in decoded.words[i] for w in place} for i in rows]
        numerals = [{word for word in texts if not np.isnan(number(word))} for texts in words]
        tests[f"prefix_{m}"] = all_begun(numerals, [[f"{value:g}" for value in row] for row in values])
        small = ((values >= 0) & (values < LARGEST) & (values == np.floor(values))).all(axis=1)
        tests[f"below_{LARGEST}_{m}"] = all_found(numbers[rows[small]], values[small])
        tests[f"with_final_{m}"] = with_final(decoded, m, first=5)
    return tests


# What the log's source tells of problems with 1, 2 and 3 intermediate results: (step, place).
SLOTS = {
    1: ((1, 0), (1, 2), (1, 4), (1, 6)),
    2: ((1, 0), (1, 2), (2, 0), (2, 2), (2, 4), (2, 6)),
    3: ((1, 0), (2, 2), (3, 4), (3, 6)),
}


def slots(decoded: Decoded) -> dict[str, np.ndarray]:
    """Results of steps that stand first at one place."""
    numbers, tests = decoded.numbers(), dict[str, np.ndarray]()
    for m, pairs in SLOTS.items():
        rows = rows_with(decoded, m)
        for step, place in pairs:
            if len(rows) and place < numbers.shape[1]:
                values = values_of(decoded, rows, slice(step - 1, step))[:, 0]
                tests[f"of{m}_step{step}_at{place}"] = first_is(numbers[rows], place, values)
    return tests


def saturation(decoded: Decoded) -> dict[str, np.ndarray]:
    """Neighbouring even places whose first words are the same."""
    first = np.array([[place[0].strip() for place in words] for words in decoded.words])
    return {f"same_{a}_{a + 2}": first[:, a, None] == first[None, :, a + 2] for a in range(0, first.shape[1] - 2, 2)}


def final(decoded: Decoded) -> dict[str, np.ndarray]:
    """The answer itself, first word and first five."""
    answers = np.array([[float(p.answer)] for p in decoded.problems])
    return {f"top{first}": all_found(decoded.numbers()[..., :first], answers) for first in (1, 5)}


def are_numbers(decoded: Decoded) -> np.ndarray:
    """Is the first word a number? bool [n, places]."""
    return np.asarray(~np.isnan(decoded.numbers()[..., 0]))


def number_rates(decoded: Decoded) -> list[Measured]:
    """Share of problems whose first word is a number, by place."""
    return [rate(f"number_{place}", outcomes) for place, outcomes in enumerate(are_numbers(decoded).T)]
