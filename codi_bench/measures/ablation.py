"""What removing a position costs: drops in accuracy on the same problems, and how far they differ.

The study's carry-over quirk (the zero vector is fed at step t and again at t+1) is a matter of how the answers were made,
not of this arithmetic. Its rows are bot-first: bot, then latent positions 0..4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codi_bench.errors import MeasureError


@dataclass(frozen=True)
class Criticality:
    """range: largest minus smallest drop, percentage points; position_index: the row with the largest, first on ties."""

    range: float
    position_index: int


def drops(clean, ablated) -> np.ndarray:
    """Drops in percentage points [conditions]: 100 * (share right when clean - share right when ablated), net of gains.

    clean: bool [n]; ablated: bool [conditions, n], the same problems in the same order.
    Raises MeasureError for other shapes or types, or no problems.
    """
    clean, ablated = np.asarray(clean), np.asarray(ablated)
    if clean.dtype != bool or ablated.dtype != bool:
        raise MeasureError(f"outcomes must be bool, got {clean.dtype} and {ablated.dtype}")
    if clean.ndim != 1 or ablated.ndim != 2 or ablated.shape[1:] != clean.shape:
        raise MeasureError(f"drops need clean [n] and ablated [conditions, n], got {list(clean.shape)} and {list(ablated.shape)}")
    if len(clean) == 0:
        raise MeasureError("drops need at least one problem")
    # Counts are subtracted, not shares, so that equal drops are equal floats and ties are ties.
    return 100.0 * (int(clean.sum()) - ablated.sum(axis=1)) / len(clean)


def criticality(position_drops) -> Criticality:
    """How far positions differ, and which costs most: what the study read off as "critical", without a test.

    position_drops: [positions], percentage points.
    Raises MeasureError if there is none or one is not finite.
    """
    position_drops = np.asarray(position_drops, dtype=np.float64)
    if position_drops.ndim != 1 or position_drops.size == 0 or not np.isfinite(position_drops).all():
        raise MeasureError(f"criticality needs finite drops [positions], got shape {list(position_drops.shape)}")
    return Criticality(float(np.ptp(position_drops)), int(position_drops.argmax()))
