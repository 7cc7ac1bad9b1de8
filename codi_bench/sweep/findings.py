"""The findings of a sweep: each number by size, at the end of training and at matched accuracy, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from codi_bench.errors import MeasureError
from codi_bench.measures.trend import Trend, trend
from codi_bench.rules.stats import holm
from codi_bench.sweep.run import FINAL, MATCHED, Audited, CheckpointComparison

NUMBERS = {  # what is followed: the name, claim, metric, and its unit in words
    "accuracy": ("task-accuracy", "accuracy", "fraction"),
    "spread (tau)": ("spread", "tau", "points"),
    "range of drops": ("ablation-critical", "range", "points"),
    "best probe (AUC)": ("probe-best", "auc", "fraction"),
}

SHARED = {  # of two models: the name, claim, metric
    "shared features": ("shared-features", "shared"),
    "CKA": ("alignment", "cka"),
    "matched SAE features": ("alignment", "matched"),
    "errors across (AUC)": ("shared-errors", "auc"),
}


@dataclass(frozen=True)
class Mean:
    """Mean over seeds of one architecture and size, with its 95 % t interval; None with a single seed."""

    family: str
    parameters: int
    value: float
    low: float | None
    high: float | None
    seeds: int


@dataclass(frozen=True)
class Followed:
    """One number over the sizes.

    trend: None, with the reason in `why`, if the models that have the number are too few; p: of the trend, Holm over all trends.
    why: also how many checkpoints lack the number, which may not be by chance.
    """

    name: str
    unit: str
    which: str
    points: tuple[tuple[str, int, float], ...]
    means: tuple[Mean, ...]
    trend: Trend | None
    why: str = ""
    p: float | None = None


def follow(audited: Sequence[Audited], *, permutations: int = 1999, seed: int = 0) -> list[Followed]:
    """Every number of NUMBERS, at both kinds of checkpoint, with the trends corrected together."""
    numbers = [_follow(name, which, audited, permutations, seed) for which in (FINAL, MATCHED) for name in NUMBERS]
    p_values = iter(
        holm([number.trend.p for number in numbers if number.trend]) if any(number.trend for number in numbers) else ()
    )
    return [replace(number, p=float(next(p_values))) if number.trend else number for number in numbers]


def _follow(name: str, which: str, audited: Sequence[Audited], permutations: int, seed: int) -> Followed:
    claim, metric, unit = NUMBERS[name]
    numbers = []
    for checkpoint in audited:
        if checkpoint.which == which:
            value = _value(checkpoint.result["rows"], claim, metric)
            if value is not None:
                numbers.append((checkpoint.member.family, checkpoint.parameters, value))
    points = tuple(sorted(numbers))
    means = tuple(_mean(architecture, size, points) for architecture, size in dict.fromkeys((f, p) for f, p, _ in points))
    missing = sum(checkpoint.which == which for checkpoint in audited) - len(points)
    why = f"{missing} checkpoints have no such number" if missing else ""
    try:
        architectures, sizes, values = zip(*points, strict=True) if points else ((), (), ())
        estimate = trend(sizes, values, architectures, permutations=permutations, seed=seed)
    except MeasureError as error:
        return Followed(name, unit, which, points, means, None, str(error))
    return Followed(name, unit, which, points, means, estimate, why)


def _value(rows: Sequence[dict], claim: str, metric: str) -> float | None:
    for row in rows:
        if (row["claim"], row["metric"], row["protocol"]) == (claim, metric, "sound") and row["measured"]:
            return float(row["measured"]["value"])
    return None


def _mean(architecture: str, size: int, points: Sequence[tuple[str, int, float]]) -> Mean:
    values = np.array([value for f, p, value in points if (f, p) == (architecture, size)])
    mean = float(values.mean())
    if len(values) < 2:
        return Mean(architecture, size, mean, None, None, len(values))
    reach = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Mean(architecture, size, mean, mean - reach, mean + reach, len(values))


def in_common(compared: Sequence[CheckpointComparison]) -> list[str]:
    """One line per measure of what two models share: seeds of one architecture, and two architectures, with their nulls."""
    lines = []
    for name, (claim, metric) in SHARED.items():
        parts = []
        for kind, alike in (("one architecture, other seeds", True), ("two architectures", False)):
            results = [pair.result["rows"] for pair in compared if (pair.one.family == pair.other.family) == alike]
            values = [value for rows in results if (value := _value(rows, claim, metric)) is not None]
            nulls = [row["null"] for rows in results for row in rows if (row["claim"], row["metric"]) == (claim, metric)]
            nulls = [null for null in nulls if null is not None]
            if values:
                null_text = f", null {np.mean(nulls):.2f}" if nulls else ""
                parts.append(
                    f"{kind} {np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f}, {len(values)} pairs{null_text})"
                )
        if parts:
            lines.append(f"{name}: {'; '.join(parts)}")
    return lines


def gap(audited: Sequence[Audited], target: float) -> float:
    """The largest distance of a checkpoint of matched accuracy from the target, on the problems that chose it."""
    return max((abs(checkpoint.choosing - target) for checkpoint in audited if checkpoint.which == MATCHED), default=0.0)
