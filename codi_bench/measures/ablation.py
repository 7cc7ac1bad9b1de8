"""What replacing a position costs: drops in accuracy on the same problems, and how far positions differ.

The study's quirk, to feed the zero vector at step t and again at t+1, belongs to how its answers were made, not to this
arithmetic. Its rows are bot-first: bot, then latent positions 0..4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from codi_bench.errors import MeasureError, arguments
from codi_bench.measures.arrays import real, truths
from codi_bench.rules.stats import Interval, holm, mcnemar_exact, newcombe_paired
from codi_bench.rules.validity import Validity, sound_verdict

HETEROGENEOUS = 0.05
BOUND_LEVEL = 0.05


@dataclass(frozen=True)
class Criticality:
    """range: largest minus smallest drop, percentage points; position_index: the row with the largest, first on ties."""

    range: float
    position_index: int


@dataclass(frozen=True)
class PositionEffects:
    """What each position costs, and whether one stands out; tuples over positions, fractions (5 points are 0.05).

    drops: net of gains over all problems, Newcombe's 95 % interval. drop_p: exact McNemar, one-sided for a loss, Holm over
    positions. matters: the drop is SUPPORTED, Delta = floor.
    q, q_p: Cochran's Q of the ablated outcomes over positions.
    contrasts: c_t = drop_t - mean of the other drops, 95 % t interval over problems, each by itself. contrast_p: one-sided t,
    Holm.
    upper: one-sided bounds of c_t at 0.05 / positions, simultaneous.
    critical: positions with q_p <= 0.05 that matter on their own and whose contrast is SUPPORTED, Delta = margin.
    none_critical: every upper bound is below the margin. Too few problems give neither.
    """

    drops: tuple[Interval, ...]
    drop_p: tuple[float, ...]
    matters: tuple[bool, ...]
    q: float
    q_p: float
    contrasts: tuple[Interval, ...]
    contrast_p: tuple[float, ...]
    upper: tuple[float, ...]
    critical: tuple[int, ...]
    none_critical: bool


def drops(clean: ArrayLike, ablated: ArrayLike) -> np.ndarray:
    """Drops in percentage points [conditions]: 100 * (share right when clean - share right when ablated), net of gains.

    clean: bool [n]; ablated: bool [conditions, n], the same problems in the same order.
    Raises MeasureError for other shapes or types, or no problems.
    """
    clean, ablated = truths("clean", clean), truths("ablated", ablated)
    if clean.dtype != bool or ablated.dtype != bool:
        raise MeasureError(f"outcomes must be bool, got {clean.dtype} and {ablated.dtype}")
    if clean.ndim != 1 or ablated.ndim != 2 or ablated.shape[1:] != clean.shape:
        raise MeasureError(f"drops need clean [n] and ablated [conditions, n], got {list(clean.shape)} and {list(ablated.shape)}")
    if len(clean) == 0:
        raise MeasureError("drops need at least one problem")
    # Counts are subtracted, not shares, so that equal drops are equal floats and ties are ties.
    return 100.0 * (int(clean.sum()) - ablated.sum(axis=1)) / len(clean)


def criticality(position_drops: ArrayLike) -> Criticality:
    """How far positions differ, and which costs most. The study called that position "critical", without a test.

    position_drops: [positions], percentage points.
    Raises MeasureError for an empty array or a drop that is not finite.
    """
    position_drops = real("position_drops", position_drops).astype(np.float64)
    if position_drops.ndim != 1 or position_drops.size == 0 or not np.isfinite(position_drops).all():
        raise MeasureError(f"criticality needs finite drops [positions], got shape {list(position_drops.shape)}")
    return Criticality(float(np.ptp(position_drops)), int(position_drops.argmax()))


def _contrasts(ablated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contrasts c [positions] and their standard errors over problems; ablated: bool [positions, n].

    The clean outcome cancels: c of a problem is the mean of the others' outcomes minus this one. A standard error is at
    least 1/n, as if one problem differed: outcomes that agree in every problem do not prove that there is no effect at all.
    """
    positions, n = ablated.shape
    # Whole numbers over positions - 1, so that equal contrasts have no spread by rounding.
    contrast = (ablated.sum(axis=0) - positions * ablated.astype(int)) / (positions - 1)  # [positions, n]
    return contrast.mean(axis=1), np.maximum(contrast.std(axis=1, ddof=1) / np.sqrt(n), 1 / n)


def _cochran(ablated: np.ndarray) -> tuple[float, float]:
    """Cochran's Q over positions and its p; 0 and 1 where every problem has one outcome at all positions."""
    if (ablated == ablated[0]).all():
        return 0.0, 1.0
    from statsmodels.stats.contingency_tables import cochrans_q  # loads pandas

    test = cochrans_q(ablated.T.astype(int))
    return float(test.statistic), float(test.pvalue)


def position_effects(clean: ArrayLike, ablated: ArrayLike, *, margin: float = 0.05, floor: float = 0.02) -> PositionEffects:
    """Drops and contrasts of positions ablated one at a time, under the rules of docs/verdicts.md, sections 3 and 6.

    clean: bool [n]; ablated: bool [positions, n], the same problems (one of each group) in the same order; thoughts only, since
    bot is a row of its own. margin: smallest contrast that counts; floor: smallest drop that counts.
    Raises MeasureError for other shapes or types, fewer than two positions or problems, or a margin or floor not above 0.
    """
    for name, least in (("margin", margin), ("floor", floor)):
        arguments.number(name, least, math.ulp(0), error=MeasureError)
    clean, ablated = truths("clean", clean), truths("ablated", ablated)
    drops(clean, ablated)
    positions, n = ablated.shape
    if positions < 2 or n < 2:
        raise MeasureError(f"positions are compared over at least 2 of them and 2 problems, not {positions} and {n}")
    costs = tuple(newcombe_paired(clean, row) for row in ablated)
    drop_p = tuple(map(float, holm([mcnemar_exact(clean, row, "greater") for row in ablated])))
    q, q_p = _cochran(ablated)
    value, error = _contrasts(ablated)
    contrast_p = tuple(map(float, holm(student.sf(value / error, n - 1))))
    reach = student.ppf(0.975, n - 1) * error
    contrasts = tuple(Interval(*map(float, bounds)) for bounds in zip(value, value - reach, value + reach, strict=True))
    upper = value + student.isf(BOUND_LEVEL / positions, n - 1) * error

    def support(effects: Sequence[Interval], p_values: Sequence[float], delta: float) -> tuple[bool, ...]:
        verdicts = (
            sound_verdict(effect, delta=delta, p={"own": p}, marginal="own", n=n)
            for effect, p in zip(effects, p_values, strict=True)
        )
        return tuple(verdict.word is Validity.SUPPORTED for verdict in verdicts)

    matters, stands_out = support(costs, drop_p, floor), support(contrasts, contrast_p, margin)
    critical = tuple(t for t in range(positions) if q_p <= HETEROGENEOUS and matters[t] and stands_out[t])
    none_critical = bool((upper < margin).all())
    return PositionEffects(
        costs, drop_p, matters, q, q_p, contrasts, contrast_p, tuple(map(float, upper)), critical, none_critical
    )
