"""The log of decoded thoughts that CODI's authors released, recomputed: what the head reads first behind bot and each latent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codi_bench.audits import decoding
from codi_bench.audits.decoding import HIT_FLOOR, HitComparison, compared
from codi_bench.claims import hits
from codi_bench.claims.blocks import gains, rate
from codi_bench.claims.claim import NOTHING_MORE, SEED, Bench, Measured, Protocols, Published, claim, measured, without_word
from codi_bench.claims.hits import DECODED, FAMILY, OTHERS, RIGHT, hit_rates, hits_over_others
from codi_bench.errors import MeasureError
from codi_bench.problems.answers import parse_number
from codi_bench.rules.stats import Z95, newcombe_paired, wilson
from codi_bench.rules.validity import Verdict, none_stands_out, passes
from codi_bench.thoughts.decoded import Decoded

SOURCE = "released log, outputs/decoded_latent.txt of github.com/zhenyi4/codi, recomputed"


@claim(
    "log-count",
    SOURCE,
    kind="fact",
    protocol=f"{RIGHT}counted by the integer part, and as floats",
    sound="nothing more: the log holds right answers alone",
    **DECODED,
)
def count(bench: Bench, published: Published) -> Protocols:
    """This many problems are answered rightly."""
    decoded = bench.decoded
    numbers = [parse_number(text) for text in decoded.said]
    equal = sum(number == float(p.answer) for number, p in zip(numbers, decoded.problems, strict=True))
    yield [
        measured("right_integer", len(numbers), decoded.asked, "count"),
        measured("right_float", equal, decoded.asked, "count"),
        measured("accuracy", wilson(equal, decoded.asked), decoded.asked),
    ]
    yield NOTHING_MORE


@claim(
    "log-parity",
    SOURCE,
    kind="exists",
    protocol=f"{RIGHT}is the first word a number?",
    sound="numbers at all even places and no odd one, against the other way round; exact McNemar",
    **DECODED,
)
def parity(bench: Bench, published: Published) -> Protocols:
    """The head reads a number at even places and none at odd ones."""
    yield hits.number_rates(bench.decoded)
    numbers = hits.are_numbers(bench.decoded)
    even, odd = numbers[:, ::2], numbers[:, 1::2]
    alternate, opposite = even.all(axis=1) & ~odd.any(axis=1), odd.all(axis=1) & ~even.any(axis=1)
    pair = np.asarray(alternate), np.asarray(opposite)
    yield gains({"alternates": pair}, "odd places", family=FAMILY, delta=HIT_FLOOR)


@claim(
    "log-table3-strict",
    SOURCE,
    kind="value",
    protocol=f"{RIGHT}by the number of results before the last",
    sound=OTHERS,
    **DECODED,
)
def table3_strict(bench: Bench, published: Published) -> Protocols:
    """All results before the last are among the first five words, or are first, at some place."""
    yield hit_rates(bench, hits.strict)
    yield hits_over_others(bench, hits.strict, published)


@claim(
    "log-table3-readings",
    SOURCE,
    kind="value",
    protocol=f"{RIGHT}values counted singly; numbers that begin alike; whole numbers below 1000 alone; the last result too",
    sound=OTHERS,
    **DECODED,
)
def table3_readings(bench: Bench, published: Published) -> Protocols:
    """Under other readings of the table the results are found this often."""
    yield hit_rates(bench, hits.readings) + single_values(bench.decoded)
    yield hits_over_others(bench, hits.readings, published) + single_values(bench.decoded)


def single_values(decoded: Decoded) -> list[Measured]:
    """The share of single values that are found: no unit that could be tested."""
    rows, numbers, why = [], decoded.numbers(), without_word("values of one problem are not independent of each other")
    for m in (1, 2, 3):
        indices = hits.rows_with(decoded, m)
        if len(indices) >= decoding.FEWEST:
            values = hits.values_of(decoded, indices, slice(-1))
            found = [(numbers[i] == value).any() for i, row in zip(indices, values) for value in row]
            rows.append(measured(f"per_value_{m}", float(np.mean(found)), len(indices), detail=why))
    return rows


@claim(
    "log-shuffle-control",
    SOURCE,
    kind="value",
    protocol=f"{RIGHT}one result before the last, that of a shuffled problem, first five words, any place",
    sound="the same over all pairs of problems",
    **DECODED,
)
def shuffle_control(bench: Bench, published: Published) -> Protocols:
    """Another problem's value is seldom found."""
    matrices = hits.intermediates(bench.decoded, (1,), first=5)
    if not matrices:
        raise MeasureError("no rightly answered problem has one intermediate result: give more problems")
    comparison = compared(matrices[1], seed=SEED + bench.seed)
    yield [rate("shuffled", comparison.other)]
    why = without_word("a control: the null of the others")
    yield [measured("shuffled", comparison.mean, len(comparison.other), detail=why)]


@claim(
    "log-slot-map",
    SOURCE,
    kind="value",
    protocol=f"{RIGHT}the first word at one place, by the number of results before the last",
    sound=OTHERS,
    **DECODED,
)
def slot_map(bench: Bench, published: Published) -> Protocols:
    """Results of steps are the first words at even places, one after the other."""
    yield hit_rates(bench, hits.slots)
    yield hits_over_others(bench, hits.slots, published)


@claim(
    "log-saturation",
    SOURCE,
    kind="value",
    protocol=f"{RIGHT}the first words, stripped",
    sound="the same, against the later place of another problem: exact McNemar, Holm in the claim times the claims of the family",
    **DECODED,
)
def saturation(bench: Bench, published: Published) -> Protocols:
    """Neighbouring even places read the same word, and later ones more often."""
    yield hit_rates(bench, hits.saturation)
    yield hits_over_others(bench, hits.saturation, published)


@claim(
    "log-final-answer",
    SOURCE,
    kind="none",
    protocol=f"{RIGHT}the answer at any place, first word and first five",
    sound="surely less than 5 points more often than another problem's answer",
    **DECODED,
)
def final_answer(bench: Bench, published: Published) -> Protocols:
    """The final answer is hardly read in any thought."""
    yield hit_rates(bench, hits.final)
    rows, comparisons = hits_over_others(bench, hits.final, {}), hits.comparisons(bench, hits.final)
    yield [replace(row, verdict=hardly(row, comparisons[row.metric], tests=len(rows))) for row in rows]


def hardly(row: Measured, comparison: HitComparison, *, tests: int) -> Verdict:
    """Is the answer surely read less than 5 points more often than another problem's?"""
    upper, gain = newcombe_paired(comparison.own, comparison.other, level=1 - 0.1 / tests).high, comparison.gain
    assert row.null is not None and row.null.p is not None
    deviates = passes(row.null.p) and gain.low > 0
    se = (gain.high - gain.low) / (2 * Z95)
    return none_stands_out([upper], margin=HIT_FLOOR, deviates=deviates, n=len(comparison.own), se=se)
