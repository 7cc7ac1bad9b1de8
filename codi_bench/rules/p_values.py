"""p values of permutations and of effects, and their corrections (docs/verdicts.md, sections 1 and 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from codi_bench.errors import MeasureError, arguments
from codi_bench.rules.stats import ROUNDING, Z95, Estimate, finite, holm, numeric

Statistic = TypeVar("Statistic", float, np.ndarray)


def permutation_p(observed: Statistic, null: ArrayLike) -> Statistic:
    """(1 + #{null >= observed}) / (B + 1): a float, or an array [...] for observed [...] and null [B, ...]."""
    observed, null = cast("Any", numeric("observed", observed).astype(float)), numeric("null", null).astype(float)
    assert isinstance(observed, np.ndarray)
    if null.ndim < 1 or not len(null) or null.shape[1:] != observed.shape:
        raise MeasureError(f"a permutation p needs observed [...] and null [B, ...], not {observed.shape} and {null.shape}")
    if np.isnan(null).any() or np.isnan(observed).any():
        raise MeasureError("a permutation p needs numbers, and one is NaN")
    p = (1 + (null >= observed - ROUNDING).sum(axis=0)) / (len(null) + 1)
    return cast("Statistic", p if observed.ndim else float(p))


def max_p(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """p values [cells] of observed [cells] against the largest cell of each draw of null [B, cells]."""
    null = numeric("null", null)
    if null.ndim != 2 or not null.size:
        raise MeasureError(f"a null over cells needs the shape [B, cells], not {list(null.shape)}")
    return permutation_p(observed, np.broadcast_to(null.max(axis=1, keepdims=True), null.shape))


def p_above(theta: Estimate) -> float:
    """One-sided p that an effect with a normal 95 % interval is not above zero; 1 where it has none."""
    arguments.instance("theta", theta, Estimate, error=MeasureError)
    finite(**{name: end for name, end in vars(theta).items() if name == "value" or end is not None})
    if theta.low is None or theta.high is None:
        return 1.0
    width = theta.high - theta.low
    return float(norm.sf(2 * Z95 * theta.value / width)) if width else float(theta.value <= 0)


def holm_permutations(m: int) -> int:
    """Permutations that Holm over m tests needs at least: with 40 m - 1 the smallest p, 1/(40 m), just reaches 0.025 / m."""
    return 40 * arguments.whole("m", m, error=MeasureError) - 1


def check_permutations(B: int, m: int) -> None:
    """Raises MeasureError if B permutations are too few for Holm over m tests: that is an error, never UNDERPOWERED."""
    if holm_permutations(m) > arguments.whole("permutations", B, 0, error=MeasureError):
        raise MeasureError(f"{B} permutations are too few for Holm over {m} tests: at least {holm_permutations(m)} are needed")


def check_permuted(null_auc: ArrayLike) -> None:
    """Check a label null [B] or [B, cells]: permuted labels must not be predicted better than by chance.

    With labels permuted inside the folds the AUC of every draw is 0.5 in expectation, whatever the scores; a pipeline that leaks
    lifts it. The band: four standard errors of the mean over draws, and one point, since groups of a size of their own cannot be
    permuted. Raises MeasureError, which blocks the rows.
    """
    draws = numeric("null AUCs", null_auc).astype(float)
    if draws.ndim < 1 or len(draws) < 2 or not draws.size or not np.isfinite(draws).all():
        raise MeasureError("null AUCs must be finite numbers [B] or [B, cells] with B >= 2")
    draws = draws.reshape(len(draws), -1).mean(axis=1)
    mean, error = float(draws.mean()), float(draws.std(ddof=1)) / math.sqrt(len(draws))
    if mean - 0.5 > max(0.01, 4 * error):
        raise MeasureError(
            f"a control fails: permuted labels have a mean AUC of {mean:.3f}, 0.5 +- {max(0.01, 4 * error):.3f} was "
            "expected; labels leak into the scores, or most groups differ in size and cannot be permuted"
        )


def holm_p(p_values: Mapping[str, float], size: int) -> dict[str, float]:
    """Holm-corrected p values by name, within a family of declared size.

    Raises MeasureError unless every test of the family has a p value: a partial run must not change a verdict.
    """
    arguments.instance("p values", p_values, Mapping, error=MeasureError)
    if len(p_values) != arguments.whole("size", size, error=MeasureError):
        raise MeasureError(f"the family has {size} tests and {len(p_values)} p values were given: Holm needs all of them")
    return dict(zip(p_values, map(float, holm(list(p_values.values()))), strict=True))


def across_claims(p_values: Sequence[float], claims: int) -> np.ndarray:
    """Holm over the tests of one claim, times the claims of its family (section 3), so a claim needs no results of the others."""
    claims = arguments.whole("claims", claims, error=MeasureError)
    return cast("np.ndarray", np.minimum(1.0, claims * holm(arguments.entries("p values", p_values, error=MeasureError))))
