"""Right and wrong answers with true rates: the critical positions of ablations, and what intervals of fixed outcomes cover."""

from __future__ import annotations

import numpy as np

from benchmarks.calibration import planted
from codi_bench.errors import MeasureError
from codi_bench.measures.ablation import position_effects
from codi_bench.rules.intervals import heterogeneity
from codi_bench.rules.stats import Estimate, bootstrap_mean, newcombe_paired, wilson

# --- ablations -------------------------------------------------------------------------------------------------------


def critical(rng, *, n, drops, baseline, gains) -> dict:
    """What is said of the positions: which are critical, that none is, or nothing."""
    made = planted.ablations(rng, n=n, drops=drops, baseline=baseline, gains=gains)
    found = position_effects(made.clean, made.ablated)
    named = "critical: " + ", ".join(map(str, found.critical))
    return {"word": named if found.critical else "no critical position" if found.none_critical else "undecided"}


# --- intervals of fixed outcomes ---------------------------------------------------------------------------------------


def _covers(truth: float, found: Estimate) -> dict:
    return {
        "word": "below" if truth < found.low else "above" if truth > found.high else "covered",
        "width": found.high - found.low,
    }


def rate_interval(rng, *, n, p) -> dict:
    return _covers(p, wilson(int(rng.binomial(n, p)), n))


def drop_interval(rng, *, n, drop, baseline, gains) -> dict:
    made = planted.ablations(rng, n=n, drops=[drop], baseline=baseline, gains=gains)
    return _covers(drop, newcombe_paired(made.clean, made.ablated[0]))


def tau_interval(rng, *, n, rates, shared) -> dict:
    return _covers(float(np.std(rates)), heterogeneity(planted.answers(rng, n=n, rates=rates, shared=shared)).tau)


def mean_interval(rng, *, n, rates, shared, variants, bootstrap) -> dict:
    right = planted.answers(rng, n=n, rates=rates, shared=shared, variants=variants)
    return _covers(float(np.mean(rates)), bootstrap_mean(right, rng=rng, draws=bootstrap, groups=_groups(n, variants)))


def difference_interval(rng, *, n, rates, other, shared, variants, bootstrap) -> dict:
    """Two models on the same problems, which are hard or easy for both."""
    right = planted.answers(rng, n=n, rates=[*rates, *other], shared=shared, variants=variants)
    a, b = right[:, : len(rates)], right[:, len(rates) :]
    truth = float(np.mean(rates) - np.mean(other))
    return _covers(truth, mean_difference(a, b, rng=rng, draws=bootstrap, groups=_groups(n, variants)))


def _groups(n: int, variants: int):
    return None if variants == 1 else np.arange(n) // variants


def mean_difference(a, b, *, rng, groups=None, phi: float = 1.0, draws: int = 2000) -> Estimate:
    """mean(a) - mean(b) of two models on the same problems, bootstrap over groups; [n] or [n, cells] each.

    The models may have different numbers of cells. groups, phi, draws and errors: as in stats.bootstrap_mean.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.ndim not in (1, 2) or b.ndim not in (1, 2) or len(a) != len(b) or not len(a):
        raise MeasureError(f"a difference needs [n] or [n, cells] of the same problems, not {list(a.shape)} and {list(b.shape)}")
    if not 1 <= phi < float("inf"):
        raise MeasureError(f"phi widens an interval: a finite number of at least 1, got {phi}")
    difference = a.reshape(len(a), -1).mean(axis=1) - b.reshape(len(b), -1).mean(axis=1)
    return bootstrap_mean(difference, rng=rng, groups=groups, phi=phi, draws=draws)
