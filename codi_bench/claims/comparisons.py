"""Blocks of claims on released files: gains in points, and comparisons of rates; see `blocks` for the others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codi_bench.audits.ablation import DROP_FLOOR
from codi_bench.claims.blocks import corrected, rate
from codi_bench.claims.claim import Measured, Null, ends, points
from codi_bench.rules.stats import mcnemar_exact, newcombe_paired
from codi_bench.rules.validity import order_verdict, sound_verdict

Pairs = Mapping[str, tuple[np.ndarray, np.ndarray]]  # right or wrong on the same problems, bool [n] each, by metric


def gained(pairs: Pairs, control: str, *, family: str, delta: float | Mapping[str, float] = DROP_FLOOR) -> list[Measured]:
    """How many points is the first of each pair above the second? Either may be the control; delta: least effect."""
    p_values = corrected([mcnemar_exact(first, second, "greater") for first, second in pairs.values()], family)
    rows = []
    for (metric, (first, second)), p in zip(pairs.items(), p_values, strict=True):
        gain, least = newcombe_paired(first, second), delta if isinstance(delta, float) else delta[metric]
        word = sound_verdict(gain, delta=least, p={control: p}, marginal=control, n=len(first))
        rows.append(points(metric, gain, len(first), null=Null(0.0, p=p), verdict=word))
    return rows


def above(pairs: Pairs) -> list[Measured]:
    """Is the first of each pair right more often than the second, by the intervals that hold for all pairs together?

    Rows show the first. p: exact McNemar, two-sided, of this pair alone; the word is by the interval (kind `order`).
    """
    rows = []
    for metric, (first, second) in pairs.items():
        word = order_verdict(newcombe_paired(first, second, level=1 - 0.05 / len(pairs)))
        null = Null(float(second.mean()), p=mcnemar_exact(first, second))
        rows.append(rate(metric, first, null=null, verdict=word, detail={"gain": ends(newcombe_paired(first, second))}))
    return rows
