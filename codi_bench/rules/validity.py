"""Decide whether a claim holds under a sound protocol: the words of docs/verdicts.md, sections 1, 3 and 6.

Pure rules: numbers in, a word and a one-line reason out. Effects, bounds and Delta are fractions (5 points are 0.05); only
reasons are written in points. p values are one-sided and already corrected. If a number that a rule needs is missing, NaN or out
of range, the rule raises MeasureError, and the row is blocked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from codi_bench.errors import MeasureError, arguments
from codi_bench.rules.intervals import heterogeneity
from codi_bench.rules.stats import ROUNDING, Z95, Estimate, finite, numeric

ALPHA = 0.025
HETEROGENEOUS = 0.05
NULL_LEVEL = 0.01
POWER_Z = 1.2816  # 90 % power
# Closer to its threshold than this, a bound may fall on the other side elsewhere.
NUMERIC = 1e-6


class Validity(StrEnum):
    """Does the claim hold under a sound protocol?"""

    SUPPORTED = "SUPPORTED"
    ARTEFACT = "ARTEFACT"
    REFUTED = "REFUTED"
    UNDERPOWERED = "UNDERPOWERED"


@dataclass(frozen=True)
class Verdict:
    """A word and a one-line reason.

    word: None if no rule gives one. fragile: Monte-Carlo error or rounding could change it (docs/verdicts.md, section 4).
    decide: for UNDERPOWERED only, the number of problems with 90 % power at Delta; None without an interval, and where that many
    problems were measured already, so that more need not decide.
    """

    word: Validity | None
    why: str
    fragile: bool = False
    decide: int | None = None


def _positive(**values: float) -> None:
    finite(least=math.ulp(0), **values)


def _check_permutations(permutations: int | None) -> None:
    if permutations is not None:
        arguments.whole("permutations", permutations, error=MeasureError)


def _amount(value: float | None, unit: str) -> str:
    unit = arguments.text("unit", unit, error=MeasureError)
    if value is None:
        return "none"
    return f"{100 * value:+.1f}" if unit == "points" else f"{value:+.3f}"


# Words (section 3).


def passes(p: float) -> bool:
    """Is p <= alpha? Allows for rounding: 1/(40 m) times m passes for every m."""
    finite(p=p)
    return p <= ALPHA + ROUNDING


def half_effect(reported_effect: float | None, floor: float) -> float:
    """Delta of a `value` claim: half the reported effect over its null, at least the floor; the floor without one."""
    _positive(floor=floor)
    if reported_effect is None:
        return floor
    finite(reported_effect=reported_effect)
    return max(reported_effect / 2, floor)


def n_decide(n: int, se: float, delta: float, z: float) -> int:
    """n_decide = ceil(n ((z + 1.2816) SE / Delta)^2)."""
    finite(0, n=n, se=se)
    _positive(delta=delta)
    finite(z=z)
    try:
        return math.ceil(n * ((z + POWER_Z) * se / delta) ** 2)
    except OverflowError as error:
        raise MeasureError(f"Delta = {delta:g} is too small for any number of problems to decide") from error


def _underpowered(why: str, *, n: int, se: float | None, delta: float, z: float, fragile: bool) -> Verdict:
    if se is None:
        return Verdict(
            Validity.UNDERPOWERED, f"{why}: undecided; without a standard error the number of problems needed is unknown", fragile
        )
    number = n_decide(n, se, delta, z)
    if number <= n:
        reason = f"{number} already have 90 % power at Delta, so the effect lies near a bound or fails a stricter null"
        return Verdict(Validity.UNDERPOWERED, f"{why}: undecided, although {reason}", fragile)
    return Verdict(Validity.UNDERPOWERED, f"{why}: undecided, at least {number} problems would decide", fragile, number)


def _answers(holds: bool | None, distance: float | None, tolerance: float) -> set[bool | None]:
    """The result of a comparison; both results if its two sides are no further apart than the tolerance."""
    return {True, False} if holds is not None and abs(cast("float", distance)) <= tolerance else {holds}


def _sound_word(above_zero: bool | None, below_delta: bool | None, marginal: bool | None, *stricter: bool | None) -> Validity:
    """Rules 2 to 5, the first match wins. An end of the interval that is None matches no rule."""
    if marginal and not all(stricter) and below_delta:
        return Validity.ARTEFACT
    if below_delta:
        return Validity.REFUTED
    if marginal and all(stricter) and above_zero:
        return Validity.SUPPORTED
    return Validity.UNDERPOWERED


def _monte_carlo(p: float, permutations: int | None) -> float:
    """Standard error of a permutation p; 0 for an exact one."""
    return 0.0 if permutations is None else math.sqrt(p * (1 - p) / (permutations + 1))


def _read_interval(theta: Estimate, unit: str) -> str:
    if theta.low is None and theta.high is None:
        return "no valid interval"
    gap = ", no valid bound at the missing end" if theta.low is None or theta.high is None else ""
    return f"[{_amount(theta.low, unit)}, {_amount(theta.high, unit)}]{gap}"


def _check_interval(theta: Estimate) -> None:
    arguments.instance("theta", theta, Estimate, error=MeasureError)
    finite(theta=theta.value)
    for end in (theta.low, theta.high):
        if end is not None:
            finite(bound=end)
    if theta.low is not None and theta.high is not None and theta.low > theta.high:
        raise MeasureError(f"interval {theta.low} to {theta.high} has its ends in the wrong order")


def sound_verdict(
    theta: Estimate,
    *,
    delta: float,
    p: Mapping[str, float],
    marginal: str,
    n: int,
    z: float = Z95,
    unit: str = "points",
    permutations: int | None = None,
    controls: Sequence[str] = (),
) -> Verdict:
    """The word of a row under the sound protocol, for the kinds `value`, `exists` and `location`: five rules in order.

    theta: effect over its strictest required null, with 95 % interval; an end that is None matches no rule. delta: the smallest
    effect that counts. p: corrected p of every required null by name; marginal: which of them is the marginal one. n: problems
    (groups). z: the corrected critical value of n_decide; its SE is (high - low) / (2 x 1.96). permutations: behind the p values,
    None for exact tests. fragile: p values within two Monte-Carlo errors of alpha, or bounds within 1e-6 of their thresholds,
    would give another word on the other side.
    Raises MeasureError with the text of a control that fails.
    """
    if controls := arguments.texts("controls", controls, error=MeasureError):
        raise MeasureError("a control fails: " + "; ".join(controls))
    _check_interval(theta)
    _positive(delta=delta, z=z)
    finite(least=1, n=n)
    _check_permutations(permutations)
    arguments.instance("p", p, Mapping, error=MeasureError)
    if arguments.text("marginal", marginal, error=MeasureError) not in p:
        raise MeasureError(f"the marginal null '{marginal}' has no p; there is a p for {', '.join(map(str, p)) or 'none'}")
    values = [p[marginal], *(value for name, value in p.items() if name != marginal)]
    for value in values:
        finite(0, 1, p=value)
    low, high = theta.low, theta.high
    answers = [
        _answers(None if low is None else low > 0, low, NUMERIC),
        _answers(None if high is None else high < delta, None if high is None else high - delta, NUMERIC),
        *(_answers(passes(value), value - ALPHA, 2 * _monte_carlo(value, permutations)) for value in values),
    ]
    word = _sound_word(low is not None and low > 0, high is not None and high < delta, *map(passes, values))
    fragile = any(_sound_word(*answer) is not word for answer in product(*answers))
    nulls = ", ".join(f"{value:.2g} ({name})" for name, value in p.items())
    why = f"effect {_amount(theta.value, unit)} {unit}, {_read_interval(theta, unit)}, Delta {_amount(delta, unit)}"
    why = f"{why}, p = {nulls}, n = {n}"
    if word is Validity.UNDERPOWERED:
        se = None if low is None or high is None else (high - low) / (2 * Z95)
        return _underpowered(why, n=n, se=se, delta=delta, z=z, fragile=fragile)
    return Verdict(word, why, fragile)


def protocol_artefact(
    measured: float,
    *,
    null_mean: float | None,
    nominal: float | None,
    p_null: float | None,
    unit: str = "points",
    permutations: int | None = None,
) -> Verdict | None:
    """ARTEFACT if the published protocol gives the number on its own null too, else None: then the sound row has the word.

    null_mean, p_null: of the measured value under the same protocol with permuted labels, None if there is no null; nominal:
    the null value that the source compares with. None also for a number that is not above its nominal null.
    """
    if p_null is None or null_mean is None or nominal is None:
        return None
    finite(measured=measured, null_mean=null_mean, nominal=nominal)
    _check_permutations(permutations)
    finite(0, 1, p_null=p_null)
    half_excess, null_excess = (measured - nominal) / 2, null_mean - nominal
    if half_excess <= 0 or p_null <= NULL_LEVEL + ROUNDING or null_excess < half_excess - ROUNDING:
        return None
    fragile = p_null - NULL_LEVEL <= 2 * _monte_carlo(p_null, permutations) or null_excess - half_excess <= NUMERIC
    number, excess, share = (_amount(value, unit) for value in (measured, 2 * half_excess, null_excess))
    return Verdict(
        Validity.ARTEFACT,
        f"{number} {unit} is {excess} over the nominal null; the protocol's own null gives {share} of it (p = {p_null:.2g})",
        fragile,
    )


def none_stands_out(
    upper_bounds: ArrayLike | Sequence[float | None],
    *,
    margin: float,
    deviates: bool,
    n: int,
    se: float | None = None,
    z: float = Z95,
    unit: str = "points",
) -> Verdict:
    """Kinds `none` and `even`: SUPPORTED if the largest bound is below the margin, REFUTED if a deviation stands out.

    upper_bounds: simultaneous 95 % upper bounds of the deviations [cells]. deviates: is one SUPPORTED under its own rule? se: the
    largest standard error of a deviation, for n_decide with Delta = margin. A large p never supports these kinds.
    """
    bounds = np.atleast_1d(numeric("upper bounds", upper_bounds)).astype(float).ravel()
    if not bounds.size or not np.isfinite(bounds).all():
        raise MeasureError("every cell needs a finite upper bound to show that none stands out")
    _positive(margin=margin, z=z)
    finite(least=1, n=n)
    if se is not None:
        finite(least=0, se=se)
    largest = float(bounds.max())
    why = f"largest upper bound {_amount(largest, unit)} {unit}, margin {_amount(margin, unit)}, n = {n}"
    fragile = abs(largest - margin) <= NUMERIC
    if largest < margin:
        return Verdict(Validity.SUPPORTED, why, fragile)
    if deviates:
        return Verdict(Validity.REFUTED, f"{why}: one deviation is SUPPORTED under its own rule", fragile)
    return _underpowered(why, n=n, se=se, delta=margin, z=z, fragile=fragile)


def order_verdict(difference: Estimate, *, unit: str = "points") -> Verdict:
    """The word for "A above B" by the 95 % interval of A - B: SUPPORTED above 0, REFUTED below 0, else UNDERPOWERED, also at 0.

    There is no smallest difference that counts, so no number of problems is named.
    """
    _check_interval(difference)
    value, low, high = difference.value, difference.low, difference.high
    if low is None or high is None:
        return Verdict(Validity.UNDERPOWERED, f"A - B = {_amount(value, unit)} {unit}, no valid interval")
    word = Validity.SUPPORTED if low > 0 else Validity.REFUTED if high < 0 else Validity.UNDERPOWERED
    why = f"A - B = {_amount(value, unit)} {unit}, 95 % interval {_amount(low, unit)} to {_amount(high, unit)}"
    return Verdict(word, why, fragile=min(abs(low), abs(high)) <= NUMERIC)


# Spread (section 6).


@dataclass(frozen=True)
class SpreadWord:
    """word: concentrated, even or mixed, with the reason; others: what Monte-Carlo error or rounding could make of it.

    decide: number of problems at which tau's upper end would lie below half the mean effect if cells were equal; None where tau's
    interval is on one side of that already.
    """

    word: str
    why: str
    others: frozenset[str]
    decide: int | None


def spread_word(
    correct: ArrayLike,
    *,
    phi: float,
    cell_p: ArrayLike,
    top_corrected_p: float,
    top_contrast_p: float,
    q: ArrayLike,
    permutations: int | None = None,
) -> SpreadWord:
    """The word for held-out right/wrong [n, cells].

    phi, q: of the permutations (intervals.accuracy_phi). cell_p: [cells], each cell alone against its marginal null. Of the best
    cell: top_corrected_p from the max-statistic, top_contrast_p from its contrast with the other cells. permutations: behind
    cell_p and top_corrected_p.
    """
    spread = heterogeneity(correct, phi)
    accuracy, cell_p, q = (numeric(*each).astype(float) for each in (("correct", correct), ("cell_p", cell_p), ("q", q)))
    accuracy = accuracy.mean(axis=0)
    _check_permutations(permutations)
    if cell_p.shape != accuracy.shape or not ((cell_p >= 0) & (cell_p <= 1)).all():
        raise MeasureError(f"spread needs a p within 0..1 for each of {len(accuracy)} cells, not {list(cell_p.shape)}")
    if q.shape not in ((), accuracy.shape) or not ((q >= 0) & (q <= 1)).all():
        raise MeasureError(f"spread needs q within 0..1, one or {len(accuracy)}, not {list(q.shape)}")
    finite(0, 1, top_corrected_p=top_corrected_p, top_contrast_p=top_contrast_p)
    half = float((accuracy - q).mean()) / 2

    def rule(best_passes: bool | None, passing: int, small: bool | None) -> str:
        if spread.p <= HETEROGENEOUS and best_passes and passes(top_contrast_p) and 2 * passing <= len(cell_p):
            return "concentrated"
        return "even" if passing == len(cell_p) and small else "mixed"

    answers = [_answers(passes(p), p - ALPHA, 2 * _monte_carlo(p, permutations)) for p in (top_corrected_p, *cell_p)]
    passing, tau_is_small = sum(map(passes, cell_p)), spread.tau.high < half
    word = rule(passes(top_corrected_p), passing, tau_is_small)
    counts = range(sum(answer == {True} for answer in answers[1:]), sum(True in answer for answer in answers[1:]) + 1)
    combinations = product(answers[0], counts, _answers(tau_is_small, spread.tau.high - half, NUMERIC))
    alternatives = frozenset(rule(*combination) for combination in combinations) - {word}
    se = (spread.tau.high - spread.tau.value) / Z95
    tau = f"tau {100 * spread.tau.value:.1f} [{100 * spread.tau.low:.1f}, {100 * spread.tau.high:.1f}] points"
    why = (
        f"Q = {spread.q:.1f} (p = {spread.p:.2g}), best cell p = {top_corrected_p:.2g}, its contrast {top_contrast_p:.2g}; "
        f"{passing} of {len(accuracy)} cells pass on their own; {tau} against half the mean effect, {100 * half:.1f}"
    )
    n = len(np.asarray(correct))
    decide = max(n + 1, n_decide(n, se, half, Z95)) if spread.tau.low < half <= spread.tau.high else None
    return SpreadWord(word, why, alternatives, decide)
