"""Decide the words of Reproduction (docs/verdicts.md, section 2) and Regression (section 4), and the winner of a pair.

Pure rules: numbers in, a word and a one-line reason out. Rates, drops and margins are fractions throughout (5 points are
0.05); only reasons are written in points. A NaN or a missing number that a rule needs raises MeasureError: the row is blocked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from numpy.typing import ArrayLike
from scipy.stats import norm

from codi_bench.errors import MeasureError, arguments
from codi_bench.rules.stats import ROUNDING, Z95, Estimate, finite, mcnemar_exact, numeric, paired_counts

ONE_POINT = 0.01
RATE_MARGIN = 0.05
DRIFT_LEVEL = 0.005
WINNER_LEVEL = 0.05
Z90 = float(norm.ppf(0.95))


class Reproduction(StrEnum):
    """Does the published number come out under the published protocol?"""

    REPRODUCED = "REPRODUCED"
    NOT_REPRODUCED = "NOT REPRODUCED"
    INCONCLUSIVE = "INCONCLUSIVE"


class Regression(StrEnum):
    """Did our own number move? UNCHECKED means that nothing is recorded; it never counts as a pass."""

    SAME = "SAME"
    DRIFTED = "DRIFTED"
    UNCHECKED = "UNCHECKED"


@dataclass(frozen=True)
class Outcome:
    """A word and a one-line reason."""

    word: Reproduction | Regression
    why: str


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


# Reproduction: measured against `reported`, same protocol, same model.


def equivalence_margin(reported: float, *, drop: bool = False) -> float:
    """The margin d of the other-list rule: 5 points for a rate; for a drop, half the reported drop if that is smaller."""
    finite(reported=reported)
    return min(RATE_MARGIN, abs(reported) / 2) if drop else RATE_MARGIN


def same_list(measured: float, reported: float, *, n: int, printed_unit: float) -> Outcome:
    """Compare two counts on one fixed list of n problems: only protocol and numerics can make them differ.

    printed_unit: the last printed digit as a fraction: 0.001 for "43.7 %".
    """
    finite(measured=measured, reported=reported)
    finite(1, n=n)
    finite(0, printed_unit=printed_unit)
    difference, tolerance = measured - reported, max(ONE_POINT, 2 / n) + printed_unit / 2
    word = Reproduction.REPRODUCED if abs(difference) <= tolerance + ROUNDING else Reproduction.NOT_REPRODUCED
    return Outcome(word, f"same list of {n}: D = {_points(difference)} points, allowed {100 * tolerance:.2f} either way")


def _standard_error(value: float, n: int | None, s: float | None) -> float | None:
    """s where it is known, else sqrt(p(1-p)/n), else None.

    For a drop p is its size: the least error that a net change of that size can have. 0 and 1 are moved inwards by half
    a problem, since p(1-p) would claim that ten right of ten leave no error at all.
    """
    if s is not None:
        finite(0, s=s)
        return s
    if n is None:
        return None
    finite(1, n=n)
    if abs(value) > 1:
        raise MeasureError(f"{value} is no rate: p(1-p)/n needs a fraction, any other number its own spread")
    p = min(max(abs(value), 0.5 / n), 1 - 0.5 / n)
    return math.sqrt(p * (1 - p) / n)


def other_list(
    measured: float,
    reported: float,
    *,
    margin: float,
    n_measured: int | None = None,
    s_measured: float | None = None,
    n_reported: int | None = None,
    s_reported: float | None = None,
    effect: float | None = None,
) -> Outcome:
    """Compare numbers from two samples, or from unknown ones: equivalence (TOST at 5 %) against a difference beyond the margin d.

    n_*: problems behind a rate; s_*: standard error, which stands over n (numbers that are not means over problems: std
    over 50 redraws of the reported protocol). A number with neither is INCONCLUSIVE. effect: the claimed effect (rate over
    chance, drop); a margin wider than it is vacuous and cannot give REPRODUCED.
    """
    finite(measured=measured, reported=reported)
    finite(0, margin=margin)
    errors = _standard_error(measured, n_measured, s_measured), _standard_error(reported, n_reported, s_reported)
    for name, error in zip(("measured", "reported"), errors, strict=True):
        if error is None:
            return Outcome(Reproduction.INCONCLUSIVE, f"other list: the {name} number has neither spread nor n")
    difference, s = measured - reported, math.hypot(*cast("tuple[float, float]", errors))
    why = f"other list: D = {_points(difference)} points, s = {100 * s:.2f}, margin {100 * margin:.2f}"
    if abs(difference) - Z95 * s > margin:
        return Outcome(Reproduction.NOT_REPRODUCED, f"{why}: the 95 % interval lies beyond the margin")
    if effect is not None:
        finite(effect=effect)
        if margin > abs(effect):
            return Outcome(
                Reproduction.INCONCLUSIVE,
                f"{why}: vacuous, since the margin is wider than the effect of {_points(effect)} points",
            )
    if abs(difference) + Z90 * s < margin:
        return Outcome(Reproduction.REPRODUCED, f"{why}: the 90 % interval lies inside the margin")
    return Outcome(Reproduction.INCONCLUSIVE, f"{why}: the interval crosses the margin")


def _by_interval(
    estimate: Estimate, why: str, *, holds: Callable[[float, float], bool], fails: Callable[[float, float], bool]
) -> Outcome:
    """Judge by the ends of the 95 % interval: holds(low, high), fails(low, high), or INCONCLUSIVE if neither or without ends."""
    arguments.instance("estimate", estimate, Estimate, error=MeasureError)
    finite(value=estimate.value)
    if estimate.low is None or estimate.high is None:
        return Outcome(Reproduction.INCONCLUSIVE, f"{why}: the measured number has no interval")
    finite(low=estimate.low, high=estimate.high)
    word = Reproduction.INCONCLUSIVE
    if holds(estimate.low, estimate.high):
        word = Reproduction.REPRODUCED
    elif fails(estimate.low, estimate.high):
        word = Reproduction.NOT_REPRODUCED
    return Outcome(word, f"{why}: measured {estimate.value:.4g}, 95 % interval {estimate.low:.4g} to {estimate.high:.4g}")


def stated_range(measured: Estimate, *, low: float, high: float) -> Outcome:
    """A published range such as "50-60 %" against the measured 95 % interval, ends included."""
    finite(low=low, high=high)
    if low > high:
        raise MeasureError(f"stated range {low} to {high} has its ends in the wrong order")
    return _by_interval(
        measured,
        f"stated range {low:.4g} to {high:.4g}",
        holds=lambda below, above: low <= below and above <= high,
        fails=lambda below, above: above < low or high < below,
    )


def fact(measured: float | str, reported: float | str, *, printed_unit: float = 0) -> Outcome:
    """Compare a width, a count or a name. printed_unit: the last printed digit if the source rounds (1e6 for "124M")."""
    finite(0, printed_unit=printed_unit)
    for side in (measured, reported):
        if not isinstance(side, str):
            finite(fact=side)
    equal = measured == reported
    if printed_unit:
        finite(measured=cast("float", measured), reported=cast("float", reported))
        equal = abs(cast("float", measured) - cast("float", reported)) <= printed_unit / 2
    word = Reproduction.REPRODUCED if equal else Reproduction.NOT_REPRODUCED
    return Outcome(word, f"fact: measured {measured}, reported {reported}")


def reproduce_order(difference: Estimate) -> Outcome:
    """Judge the claim "A above B" by the 95 % interval of A - B; an end at exactly 0 counts as inside."""
    return _by_interval(
        difference,
        "order, A - B",
        holds=lambda below, above: below > 0,
        fails=lambda below, above: above < 0,
    )


CASES: dict[str, Callable[..., Outcome]] = {
    "same-list": same_list,
    "other-list": other_list,
    "stated-range": stated_range,
    "fact": fact,
    "order": reproduce_order,
}


def reproduce(case: str, *numbers: object, **details: object) -> Outcome:
    """Apply the rule that a baseline file names; numbers and details are the arguments of that rule."""
    return CASES[arguments.choice("reproduction case", case, CASES)](*numbers, **details)


# Regression: measured against `recorded`, problem by problem.


def regression_count(
    recorded_bits: ArrayLike | None, measured_bits: ArrayLike, *, same_environment: bool, family_size: int
) -> Outcome:
    """Compare right/wrong outcomes of the same problems, bool [n] each. UNCHECKED if recorded_bits is None.

    Same environment key: any flip is DRIFTED. Other: exact McNemar p <= 0.005 / family_size and a net change of more than
    0.5 % of n; family_size is the number of recorded metrics. The bits do not show one wrong answer becoming another: compare
    the answers themselves if they are recorded. Raises MeasureError for lists of different length.
    """
    finite(1, family_size=family_size)
    if recorded_bits is None:
        return Outcome(Regression.UNCHECKED, "no outcomes recorded")
    both_right, lost, gained, both_wrong = paired_counts(recorded_bits, measured_bits)
    n, p, level = both_right + lost + gained + both_wrong, mcnemar_exact(recorded_bits, measured_bits), DRIFT_LEVEL / family_size
    why = f"b = {lost} right then wrong, g = {gained} wrong then right, of {n}, p = {p:.3g}"
    if same_environment:
        return Outcome(
            Regression.DRIFTED if lost + gained else Regression.SAME, f"{why}; no flip is allowed in the same environment"
        )
    # 0.5 % in whole numbers: 200 x |b - g| > n has no rounding.
    drifted = p <= level and 200 * abs(lost - gained) > n
    rule = f"in another environment, drifted at p <= {level:.3g} and a net change above {n / 200:g}"
    return Outcome(Regression.DRIFTED if drifted else Regression.SAME, f"{why}; {rule}")


def _maybe_nan(name: str, value: float) -> float:
    """A number, which may be NaN or infinite."""
    array = numeric(name, value)
    if array.ndim:
        raise MeasureError(f"{name} must be one number, got {list(array.shape)}")
    return float(array)


def regression_value(recorded: float | None, measured: float | None, tolerance: float) -> Outcome:
    """Compare two numbers: SAME up to and including the tolerance, DRIFTED with a NaN or one None, UNCHECKED with two None.

    tolerance: deterministic in the same environment, 4 times the calibrated device spread in another.
    """
    finite(0, tolerance=tolerance)
    if recorded is None and measured is None:
        return Outcome(Regression.UNCHECKED, "no value recorded")
    if recorded is None or measured is None:
        return Outcome(Regression.DRIFTED, f"recorded {recorded}, measured {measured}: one of them has no number")
    recorded, measured = _maybe_nan("recorded", recorded), _maybe_nan("measured", measured)
    # Asked this way round, NaN is never within; equality first, since inf - inf is NaN.
    same = recorded == measured or abs(measured - recorded) <= tolerance
    why = f"recorded {recorded:.6g}, measured {measured:.6g}, tolerance {tolerance:.3g}"
    return Outcome(Regression.SAME if same else Regression.DRIFTED, why)


def regression_verdict(
    recorded: str | None, measured: str | None, *, fragile: bool = False, words: Collection[str] = ()
) -> Outcome:
    """Compare two verdicts: a changed one is DRIFTED; if it was recorded as fragile, SAME with the change in the reason.

    words: those that measured noise can turn the verdict into in another environment; empty in the same one.
    """
    if recorded is None and measured is None:
        return Outcome(Regression.UNCHECKED, "no verdict recorded")
    if recorded == measured:
        return Outcome(Regression.SAME, f"verdict {measured}")
    change = f"verdict {recorded} became {measured}"
    if fragile:
        return Outcome(Regression.SAME, f"{change}; recorded as fragile")
    if measured in words:
        return Outcome(Regression.SAME, f"{change}; the measured noise between environments explains it")
    return Outcome(Regression.DRIFTED, change)


def winner(difference: float, p: float) -> str | None:
    """The winner, "a" or "b", by the sign of the difference a - b; None if the corrected two-sided p is above 0.05."""
    finite(difference=difference, p=p)
    if p > WINNER_LEVEL or difference == 0:
        return None
    return "a" if difference > 0 else "b"
