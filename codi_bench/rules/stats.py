"""Intervals, paired tests, corrections and random streams: arrays in, numbers out.

Everything is a fraction (0.437, never 43.7), differences too; only text shows them as points.
Rules and measured coverage: docs/verdicts.md, sections 1, 4 and 5.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable
from dataclasses import dataclass
from numbers import Real
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, norm

from codi_bench.errors import MeasureError, arguments, one_line

# Equal numbers may differ by the order of their sums, and two printed decimals (0.425 - 0.44) from their difference.
ROUNDING = 1e-12
Z95 = float(norm.ppf(0.975))
ALTERNATIVES = ("two-sided", "greater", "less")


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; low and high are None if no valid interval exists (max, min and range over cells)."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Interval(Estimate):
    """An estimate that has its interval."""

    low: float
    high: float


def finite(least: float = -math.inf, most: float = math.inf, **values: float | None) -> None:
    """Raises MeasureError, with the name, for a number that is missing, NaN, infinite or outside [least, most]."""
    for name, value in values.items():
        arguments.number(name, value, least, most, error=MeasureError)


def numeric(name: str, values: object) -> np.ndarray:
    """Values as an array of numbers or booleans. Raises MeasureError for texts, gaps and lists of unequal length."""
    try:
        array = np.asarray(cast("ArrayLike", values))
    except Exception as error:  # what others call an array has errors of its own
        raise MeasureError(f"{name} must be numbers, got {arguments.described(values)} ({one_line(error)})") from error
    if array.dtype.kind == "O":
        for value in array.ravel().tolist():
            if not isinstance(value, Real):
                raise MeasureError(f"{name} must be numbers, and one entry is {arguments.described(value)}")
        try:
            array = array.astype(float)
        except OverflowError as error:
            raise MeasureError(f"{name} must be numbers within the range of floats") from error
    if array.dtype.kind not in "biuf":
        raise MeasureError(f"{name} must be numbers, got {array.dtype}")
    return array


def bits(values: ArrayLike) -> np.ndarray:
    """Right/wrong outcomes as bool [n]; raises MeasureError for anything but 0 and 1, or for none at all."""
    array = numeric("outcomes", values)
    if array.ndim != 1 or not array.size:
        raise MeasureError(f"outcomes need the shape [n] with n >= 1, not {list(array.shape)}")
    # NaN is truthy: a cast alone would count a missing outcome as right.
    if not np.isin(array, (0, 1)).all():
        raise MeasureError("outcomes must be 0 or 1 (False or True), one per problem")
    return array.astype(bool)


def paired_counts(before: ArrayLike, after: ArrayLike) -> tuple[int, int, int, int]:
    """(both right, right then wrong, wrong then right, both wrong) on the same n problems."""
    before, after = bits(before), bits(after)
    if len(before) != len(after):
        raise MeasureError(f"paired outcomes need the same problems: {len(before)} before, {len(after)} after")
    cells = (before & after, before & ~after, ~before & after, ~before & ~after)
    return cast("tuple[int, int, int, int]", tuple(int(cell.sum()) for cell in cells))


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """A rate with its Wilson score interval.

    n may be fractional: a cross-validated accuracy passes successes / phi and n / phi (docs/verdicts.md, section 5).
    Raises MeasureError for n < 1, successes outside 0..n, or a level outside 0..1.
    """
    from statsmodels.stats.proportion import proportion_confint  # loads pandas

    n = arguments.number("n", n, 1, error=MeasureError)
    successes = arguments.number("successes", successes, 0, n, error=MeasureError)
    level = arguments.level(level, error=MeasureError)
    value = successes / n
    low, high = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    # At 0 and n the limit equals the rate, but only up to rounding.
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def rate_of(outcomes: ArrayLike) -> Interval:
    """The share of outcomes [n] that are true, with its Wilson score interval; raises MeasureError as `bits` does."""
    right = bits(outcomes)
    return wilson(int(right.sum()), len(right))


def newcombe_limits(
    both: ArrayLike, lost: ArrayLike, gained: ArrayLike, neither: ArrayLike, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of the paired difference (lost - gained) / n from the four counts; scalars or arrays of one shape.

    Source: Newcombe 1998, Stat. Med. 17:2635, method 10: Wilson limits of both rates, squared and added with phi; a positive
    numerator of phi is reduced by n/2 (not below 0), and phi = 0 where a margin is empty.
    """
    from statsmodels.stats.proportion import proportion_confint

    level = arguments.level(level, error=MeasureError)
    both, lost, gained, neither = (numeric("counts", cell).astype(float) for cell in (both, lost, gained, neither))
    n = both + lost + gained + neither
    first, second = (both + lost) / n, (both + gained) / n
    first_low, first_high = proportion_confint(both + lost, n, alpha=1 - level, method="wilson")
    second_low, second_high = proportion_confint(both + gained, n, alpha=1 - level, method="wilson")
    product = both * neither - lost * gained
    product = np.where(product > 0, np.maximum(product - n / 2, 0), product)
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    phi = np.where(margins > 0, product / np.sqrt(np.where(margins > 0, margins, 1)), 0)

    def reach(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return cast("np.ndarray", np.sqrt(np.maximum(one**2 - 2 * phi * one * other + other**2, 0)))

    low = first - second - reach(first - first_low, second_high - second)
    high = first - second + reach(first_high - first, second - second_low)
    return np.maximum(low, -1), np.minimum(high, 1)


def newcombe_paired(before: ArrayLike, after: ArrayLike, level: float = 0.95) -> Interval:
    """mean(before) - mean(after), the drop, with Newcombe's interval for pairs; bool [n] each, the same problems."""
    both_right, lost, gained, both_wrong = paired_counts(before, after)
    low, high = newcombe_limits(both_right, lost, gained, both_wrong, level)
    return Interval((lost - gained) / (both_right + lost + gained + both_wrong), float(low), float(high))


def mcnemar_exact(before: ArrayLike, after: ArrayLike, alternative: str = "two-sided") -> float:
    """Exact McNemar p: binomial test on the discordant pairs, 1.0 if there are none.

    alternative: `greater` asks whether the rate before is the greater one (a loss), `less` whether it is the smaller one.
    """
    alternative = arguments.choice("alternative", alternative, ALTERNATIVES, error=MeasureError)
    _, lost, gained, _ = paired_counts(before, after)
    return float(binomtest(lost, lost + gained, 0.5, alternative).pvalue) if lost + gained else 1.0


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm-adjusted p values [m], in the given order; raises MeasureError for none, or for one outside 0..1."""
    p_values = numeric("p values", p_values).astype(float)
    # NaN fails the comparison, so a test that gave no p is an error instead of shrinking the family.
    if p_values.ndim != 1 or not p_values.size or not ((p_values >= 0) & (p_values <= 1)).all():
        raise MeasureError("Holm needs p values [m] within 0..1, m >= 1")
    # statsmodels' own is the same to the last bit, and takes 0.1 s a call.
    order = np.argsort(p_values)
    steps = np.maximum.accumulate(p_values[order] * np.arange(p_values.size, 0, -1))  # a p is never below a smaller one
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def bootstrap_mean(
    outcomes: ArrayLike,
    *,
    rng: np.random.Generator,
    draws: int = 2000,
    groups: ArrayLike | None = None,
    phi: float = 1.0,
    level: float = 0.95,
) -> Interval:
    """Mean over cells of the mean over problems, with the percentile bootstrap over groups.

    outcomes: [n, cells] (or [n]), numbers or right/wrong. groups: [n] labels; a group is drawn whole (default: each
    problem alone). phi: deviations are widened by sqrt(phi) where outcomes are cross-validated (docs/verdicts.md, section 5).
    Raises MeasureError for fewer than two groups, a gap in outcomes or groups, group labels of another length, or another
    invalid argument.
    """
    level, array = arguments.level(level, error=MeasureError), numeric("outcomes", outcomes).astype(float)
    draws, phi = arguments.whole("draws", draws, error=MeasureError), arguments.number("phi", phi, 0, error=MeasureError)
    arguments.instance("rng", rng, np.random.Generator, error=MeasureError)
    if array.ndim not in (1, 2) or not array.size:
        raise MeasureError(f"outcomes need the shape [n, cells], not {list(array.shape)}")
    if not np.isfinite(array).all():
        raise MeasureError("outcomes have gaps: every problem needs a finite number in every cell")
    scores = array.reshape(len(array), -1).mean(axis=1)
    member = np.arange(len(scores)) if groups is None else _members(groups, len(scores))
    sizes, sums = np.bincount(member), np.bincount(member, weights=scores)
    if len(sizes) < 2:
        raise MeasureError("a bootstrap over groups needs at least two of them")
    # Sorted, so that the order of the problems does not change what a draw picks.
    order = np.lexsort((sizes, sums))
    sizes, sums = sizes[order], sums[order]
    picks = rng.integers(len(sizes), size=(draws, len(sizes)))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    value = float(scores.mean())
    low, high = value + (np.quantile(means, [(1 - level) / 2, (1 + level) / 2]) - value) * np.sqrt(phi)
    return Interval(value, float(low), float(high))


def _members(groups: ArrayLike, n: int) -> np.ndarray:
    """The number of each problem's group, int [n]."""
    numbers: dict[Hashable, int] = {}
    for i, name in enumerate(labels := arguments.entries("groups", groups, n, of="problem", error=MeasureError)):
        if name is None or not isinstance(name, Hashable) or name != name:
            raise MeasureError(f"groups[{i}] is {arguments.described(name)}; give every problem the name of its group")
        numbers.setdefault(name, len(numbers))
    return np.array([numbers[name] for name in labels])


def stream(seed: int, *names: str) -> np.random.Generator:
    """The random stream of (seed, names), such as (0, claim, model, metric). It does not depend on earlier draws.

    PCG64 by name, because numpy may change what default_rng means. Raises MeasureError for an invalid seed.
    """
    seed = arguments.seed(seed, error=MeasureError)
    digest = hashlib.sha256(json.dumps([seed, *map(str, names)]).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
