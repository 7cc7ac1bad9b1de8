"""Decoding: which values the head reads in thoughts, on a released log or on the live states of a model.

Place j of a metric is the source's: 0 is the state at bot, j that at latent position j - 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from codi_bench.audits import decoding
from codi_bench.audits.decoding import HIT_FLOOR, HitComparison, all_begun, all_found, compared, first_is
from codi_bench.claims.claim import Bench, Measured, Null
from codi_bench.claims.seed_sound import SEED, effect_over, ends, without_word
from codi_bench.errors import MeasureError
from codi_bench.problems.problem import parse_number
from codi_bench.rules.stats import mcnemar_exact, newcombe_paired, wilson
from codi_bench.rules.validity import Z95, across_claims, none_stands_out, passes, sound_verdict
from codi_bench.thoughts.decoded import Decoded, number

Tests = Callable[[Bench, Decoded], dict[str, np.ndarray]]  # by metric bool [n, n]: of row i with what row j should show
Measure = Callable[[Bench], list[Measured]]
Sound = Callable[[Bench, Mapping[str, float]], list[Measured]]
LARGEST = 1000  # numbers below take one id of GPT-2's tokenizer


def both(tests: Tests) -> tuple[Measure, Sound]:
    """How a claim of rates is measured: as published, and against what another problem should show.

    Metrics whose problems are too few are left out; MeasureError where all are.
    """

    def comparisons(bench: Bench) -> dict[str, HitComparison]:
        def compute():
            matrices = {
                metric: matrix for metric, matrix in tests(bench, bench.decoded).items() if len(matrix) >= decoding.FEWEST
            }
            if not matrices:
                raise MeasureError(f"fewer than {decoding.FEWEST} rightly answered problems of any such length: give more")
            return {metric: compared(matrix, seed=SEED + bench.seed) for metric, matrix in matrices.items()}

        return bench.once(f"decoded {tests.__name__}", compute)

    def measure(bench: Bench) -> list[Measured]:
        return [_rate(metric, comparison) for metric, comparison in comparisons(bench).items()]

    def soundly(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
        p = across_claims([comparison.p for comparison in comparisons(bench).values()], decoding.NUM_CLAIMS)
        rows = []
        for (metric, comparison), corrected in zip(comparisons(bench).items(), p, strict=True):
            delta = effect_over(reported, metric, comparison.mean, HIT_FLOOR)
            word = comparison.word(float(corrected), delta)
            null = Null(comparison.mean, p=float(corrected))
            rows.append(_rate(metric, comparison, null=null, verdict=word, detail={"gain": ends(comparison.gain)}))
        return rows

    return measure, soundly


def _rate(metric: str, comparison: HitComparison, **more) -> Measured:
    rate = comparison.rate
    return Measured(metric, rate.value, len(comparison.own), "fraction", rate.low, rate.high, outcomes=comparison.own, **more)


def _rows(decoded: Decoded, intermediates: int) -> np.ndarray:
    """Problems with so many results before the last, all of which are plain numbers."""
    mask = [len(p.values) == p.num_steps == intermediates + 1 and not np.isnan(p.values[:-1]).any() for p in decoded.problems]
    return np.flatnonzero(mask)


def _values(decoded: Decoded, rows: np.ndarray, steps: slice) -> np.ndarray:
    return np.array([decoded.problems[i].values[steps] for i in rows])


def _intermediate_hits(decoded: Decoded, counts: Sequence[int], *, first: int) -> dict[int, np.ndarray]:
    """Are all intermediate results among the first words of some place? By how many there are."""
    numbers = decoded.numbers()[..., :first]
    rows_of = {m: _rows(decoded, m) for m in counts}
    return {m: all_found(numbers[rows], _values(decoded, rows, slice(-1))) for m, rows in rows_of.items() if len(rows)}


def _table(bench: Bench, decoded: Decoded) -> dict[str, np.ndarray]:
    return {f"steps_{m}": hits for m, hits in _intermediate_hits(decoded, (1, 2, 3), first=5).items()}


def strict_tests(bench: Bench, found: Decoded) -> dict[str, np.ndarray]:
    return {
        f"top{first}_{m}": hits for first in (5, 1) for m, hits in _intermediate_hits(found, (1, 2, 3, 4), first=first).items()
    }


def _with_final(decoded: Decoded, steps: int, *, first: int, places: slice = slice(None)) -> np.ndarray:
    """Are the results of all steps there, the last one too?"""
    rows = [i for i, p in enumerate(decoded.problems) if p.num_steps == steps]
    values = np.array([decoded.problems[i].values for i in rows]).reshape(len(rows), steps)
    return all_found(decoded.numbers()[rows, places, :first], values)


def reading_tests(bench: Bench, found: Decoded) -> dict[str, np.ndarray]:
    """Other readings of the table: beginnings of numbers, small whole numbers, the last step too."""
    numbers, tests = found.numbers(), {}
    for m in (1, 2, 3):
        rows = _rows(found, m)
        if not len(rows):
            continue
        values = _values(found, rows, slice(-1))
        words = [{w.strip() for place in found.words[i] for w in place} for i in rows]
        numerals = [{word for word in texts if not np.isnan(number(word))} for texts in words]
        tests[f"prefix_{m}"] = all_begun(numerals, [[f"{value:g}" for value in row] for row in values])
        small = ((values >= 0) & (values < LARGEST) & (values == np.floor(values))).all(axis=1)
        tests[f"below_{LARGEST}_{m}"] = all_found(numbers[rows[small]], values[small])
        tests[f"with_final_{m}"] = _with_final(found, m, first=5)
    return tests


def _journal_table(bench: Bench, decoded: Decoded) -> dict[str, np.ndarray]:
    tests = {f"top1_{m}": _with_final(decoded, m, first=1) for m in (1, 2, 3)}
    return tests | {f"even_top5_{m}": _with_final(decoded, m, first=5, places=slice(0, None, 2)) for m in (1, 2, 3)}


# What the source tells of problems with 1, 2 and 3 intermediate results: (step, place).
SLOTS = {
    1: ((1, 0), (1, 2), (1, 4), (1, 6)),
    2: ((1, 0), (1, 2), (2, 0), (2, 2), (2, 4), (2, 6)),
    3: ((1, 0), (2, 2), (3, 4), (3, 6)),
}


def _slots(bench: Bench, decoded: Decoded) -> dict[str, np.ndarray]:
    numbers, tests = decoded.numbers(), {}
    for m, slots in SLOTS.items():
        rows = _rows(decoded, m)
        for step, place in slots:
            if len(rows) and place < numbers.shape[1]:
                values = _values(decoded, rows, slice(step - 1, step))[:, 0]
                tests[f"of{m}_step{step}_at{place}"] = first_is(numbers[rows], place, values)
    return tests


def _saturation(bench: Bench, decoded: Decoded) -> dict[str, np.ndarray]:
    first = np.array([[place[0].strip() for place in words] for words in decoded.words])
    return {f"same_{a}_{a + 2}": first[:, a, None] == first[None, :, a + 2] for a in range(0, first.shape[1] - 2, 2)}


def _final(bench: Bench, decoded: Decoded) -> dict[str, np.ndarray]:
    answers = np.array([[float(p.answer)] for p in decoded.problems])
    return {f"top{first}": all_found(decoded.numbers()[..., :first], answers) for first in (1, 5)}


table, table_sound = both(_table)
strict, strict_sound = both(strict_tests)
grouped_readings, grouped_readings_sound = both(reading_tests)
journal_table, journal_table_sound = both(_journal_table)
slots, slots_sound = both(_slots)
saturation, saturation_sound = both(_saturation)
final_answer, _final_over_others = both(_final)


def readings(bench: Bench) -> list[Measured]:
    """Other readings of the table, and the share of single values that are found."""
    return [*grouped_readings(bench), *_per_value(bench)]


def readings_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same against another problem's values; single values are no unit that could be tested."""
    return [*grouped_readings_sound(bench, reported), *_per_value(bench)]


def _per_value(bench: Bench) -> list[Measured]:
    decoded, rows, numbers = bench.decoded, [], bench.decoded.numbers()
    why = without_word("values of one problem are not independent of each other")
    for m in (1, 2, 3):
        indices = _rows(decoded, m)
        if len(indices) >= decoding.FEWEST:
            values = _values(decoded, indices, slice(-1))
            hits = [(numbers[i] == value).any() for i, row in zip(indices, values) for value in row]
            rows.append(Measured(f"per_value_{m}", float(np.mean(hits)), len(indices), "fraction", detail=why))
    return rows


def final_answer_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is the answer surely read less than 5 points more often than another problem's?"""
    rows = _final_over_others(bench, {})
    bound = 1 - 0.1 / len(rows)
    comparisons = {metric: compared(matrix, seed=SEED + bench.seed) for metric, matrix in _final(bench, bench.decoded).items()}
    words = []
    for row in rows:
        comparison = comparisons[row.metric]
        upper, gain = newcombe_paired(comparison.own, comparison.other, level=bound).high, comparison.gain
        assert row.null is not None and row.null.p is not None and gain.low is not None and gain.high is not None
        deviates = passes(row.null.p) and gain.low > 0
        se = (gain.high - gain.low) / (2 * Z95)
        words.append(none_stands_out([upper], margin=HIT_FLOOR, deviates=deviates, n=len(comparison.own), se=se))
    return [replace(row, verdict=word) for row, word in zip(rows, words, strict=True)]


def count(bench: Bench) -> list[Measured]:
    """How many problems are answered rightly: by the integer part, as the log counts, and as floats."""
    decoded = bench.decoded
    answers = [parse_number(text) for text in decoded.said]
    floats = np.array([number == float(p.answer) for number, p in zip(answers, decoded.problems, strict=True)])
    share = wilson(int(floats.sum()), decoded.asked)
    return [
        Measured("right_integer", len(answers), decoded.asked, "count"),
        Measured("right_float", int(floats.sum()), decoded.asked, "count"),
        Measured("accuracy", share.value, decoded.asked, "fraction", share.low, share.high),
    ]


def nothing_more(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """What is measured soundly where the published protocol leaves nothing to be done otherwise, and no rule gives a word."""
    return []


def parity(bench: Bench) -> list[Measured]:
    """Share of problems whose first word is a number, by place."""
    return [_number_rate(j, outcomes) for j, outcomes in enumerate(_are_numbers(bench).T)]


def parity_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Share of problems with numbers at all even places and at no odd one, against the other way round."""
    numbers = _are_numbers(bench)
    even, odd = numbers[:, ::2], numbers[:, 1::2]
    own, other = even.all(axis=1) & ~odd.any(axis=1), odd.all(axis=1) & ~even.any(axis=1)
    assert isinstance(own, np.ndarray) and isinstance(other, np.ndarray)  # which numpy's types leave open
    rate, gain = wilson(int(own.sum()), len(own)), newcombe_paired(own, other)
    p = float(across_claims([mcnemar_exact(own, other, "greater")], decoding.NUM_CLAIMS)[0])
    word = sound_verdict(gain, delta=HIT_FLOOR, p={"odd places": p}, marginal="odd places", n=len(own))
    null = Null(float(other.mean()), p=p)
    return [
        Measured(
            "alternates",
            rate.value,
            len(own),
            "fraction",
            rate.low,
            rate.high,
            outcomes=own,
            detail={"gain": ends(gain)},
            null=null,
            verdict=word,
        )
    ]


def _are_numbers(bench: Bench) -> np.ndarray:
    """Is the first word a number? bool [n, places]."""
    return ~np.isnan(bench.decoded.numbers()[..., 0])


def _number_rate(place: int, outcomes: np.ndarray, **more) -> Measured:
    rate = wilson(int(outcomes.sum()), len(outcomes))
    return Measured(f"number_{place}", rate.value, len(outcomes), "fraction", rate.low, rate.high, outcomes=outcomes, **more)


def shuffled(bench: Bench) -> list[Measured]:
    """Another problem's value among the first five words of some place, problems with one intermediate result."""
    comparison = _shuffled_values(bench)
    rate = wilson(int(comparison.other.sum()), len(comparison.other))
    return [Measured("shuffled", rate.value, len(comparison.other), "fraction", rate.low, rate.high, outcomes=comparison.other)]


def shuffled_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same over all pairs of problems."""
    comparison = _shuffled_values(bench)
    return [
        Measured(
            "shuffled",
            comparison.mean,
            len(comparison.other),
            "fraction",
            detail=without_word("a control: the null of the others"),
        )
    ]


def _shuffled_values(bench: Bench) -> HitComparison:
    hits = _intermediate_hits(bench.decoded, (1,), first=5)
    if not hits:
        raise MeasureError("no rightly answered problem has one intermediate result: give more problems")
    return compared(hits[1], seed=SEED + bench.seed)
