"""Test whether a number changes with the size of a model: a slope on log parameters, over seeds and architectures.

The unit is a trained model. Architectures may differ in level; the slope is common. The null permutes sizes over the models of an
architecture (docs/verdicts.md, section 6), so that nothing is assumed of the noise between seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from codi_bench.errors import MeasureError, arguments
from codi_bench.measures.arrays import codes, exponents, in_range, plain, real
from codi_bench.measures.nulls import arrangements, check_ways
from codi_bench.rules.p_values import permutation_p
from codi_bench.rules.stats import Interval, stream

POWER = 0.9
LEVEL = 0.05  # two-sided


@dataclass(frozen=True)
class Trend:
    """change: from the smallest to the largest size, in the values' unit, with a 95 % t interval; p: of permutations, two-sided.

    n: models; seed_std: standard deviation around the line; detectable: the total change that n models at these sizes find with
    90 % power, in seed standard deviations. fitted [models]: the line, by architecture.
    """

    change: Interval
    p: float
    n: int
    seed_std: float
    detectable: float
    fitted: np.ndarray


def trend(
    parameters: Sequence[float], values: Sequence[float], architectures: Sequence[str], *, permutations: int = 1999, seed: int = 0
) -> Trend:
    """The common slope of `values` on log `parameters`, one pair per model.

    Raises MeasureError for lengths that differ, numbers that are not finite, an architecture of a single size, or too few models
    to estimate noise or for any p to reach 0.05 (two sizes with two seeds can be arranged in only 6 ways).
    """
    permutations = arguments.whole("permutations", permutations, 1, arguments.PERMUTATIONS, error=MeasureError)
    x, numbers, groups = _check(parameters, values, architectures)
    y, unit = in_range(numbers), float(np.ldexp(1.0, exponents(numbers))[0])
    x_deviations, span, df = _centre(x, groups), float(np.ptp(x)), len(x) - len(set(groups.tolist())) - 1
    sxx = float((x_deviations**2).sum())
    slope = float((x_deviations * _centre(y, groups)).sum() / sxx)
    line = y - _centre(y, groups) + slope * x_deviations
    std = float(np.sqrt(((y - line) ** 2).sum() / df))
    reach = unit * float(student.ppf(0.975, df)) * std / np.sqrt(sxx) * span
    blocks = [np.flatnonzero(groups == name)[:, None] for name in set(groups.tolist())]
    check_ways(arrangements(x, blocks), "train more seeds or sizes", alpha=LEVEL)
    rng = stream(seed, "trend")
    y_deviations = _centre(y, groups)
    null = np.array([abs((_shuffle(x_deviations, groups, rng) * y_deviations).sum() / sxx) for _ in range(permutations)])
    change = unit * slope * span
    return Trend(
        Interval(change, change - reach, change + reach),
        permutation_p(abs(slope), null),
        len(x),
        unit * std,
        detectable(parameters, architectures),
        unit * line,
    )


def detectable(parameters: Sequence[float], architectures: Sequence[str]) -> float:
    """The total change over the sizes that is found with 90 % power at a two-sided 5 %, in seed standard deviations.

    Known before anything is trained. Raises MeasureError as `trend` does.
    """
    x, _, groups = _check(parameters, np.zeros(len(parameters)), architectures)
    df = len(x) - len(set(groups.tolist())) - 1
    quantiles = student.ppf(0.975, df) + student.ppf(POWER, df)
    return float(quantiles * np.ptp(x) / np.sqrt((_centre(x, groups) ** 2).sum()))


def _check(
    parameters: Sequence[float] | np.ndarray, values: Sequence[float] | np.ndarray, architectures: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes, y = (real(name, v).astype(float) for name, v in (("parameters", parameters), ("values", values)))
    groups = plain("architectures", architectures, names=True)
    if not sizes.ndim == 1 or not sizes.shape == y.shape == groups.shape:
        raise MeasureError(
            f"a trend needs one size, value and architecture a model, not {sizes.shape}, {y.shape}, {groups.shape}"
        )
    if not (np.isfinite(sizes).all() and (sizes > 0).all() and np.isfinite(y).all()):
        raise MeasureError("a trend needs sizes above 0 and finite values")
    group = codes("architectures", groups, len(groups))
    for code in set(group.tolist()):
        if len(set(sizes[group == code].tolist())) < 2:
            name = groups[group == code][0]
            raise MeasureError(f"a trend needs two sizes or more of every architecture, but {name} has one")
    if len(sizes) < len(set(group.tolist())) + 2:
        raise MeasureError(f"{len(sizes)} models cannot show the noise between seeds: train more seeds or sizes")
    return np.log(sizes), y, group


def _centre(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Subtract the mean of the architecture."""
    deviations = values.copy()
    for name in set(groups.tolist()):
        deviations[groups == name] -= values[groups == name].mean()
    return deviations


def _shuffle(values: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shuffle = values.copy()
    for name in sorted(set(groups.tolist())):
        shuffle[groups == name] = rng.permutation(values[groups == name])
    return shuffle
