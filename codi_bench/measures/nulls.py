"""Can a null of drawn labels give a small p at all? One rule for all of them: docs/verdicts.md, section 1, alpha.

Where labels can stand in D ways that are equally likely, the observed one among them, no exact p is below 1/D. A null that
cannot move (every group has a size of its own, there is one group, or the labels of all groups are alike) has D = 1: its p is 1
whatever the probes read, and p = 1 beside an AUC of 0.98 reads like a finding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from codi_bench.errors import MeasureError
from codi_bench.rules.validity import ALPHA

REGROUP = "groups change labels with groups of the same size and fold alone: give more of those, or fewer folds"


def check_ways(ways: int, mend: str = REGROUP, *, alpha: float = ALPHA) -> None:
    """Raises MeasureError where there are so few distinct draws that no p reaches alpha."""
    if ways < 1 / alpha:  # of thousands of problems no float holds the ways
        number = f"{ways} distinct draw{'s' * (ways != 1)}"
        raise MeasureError(f"the null cannot move: it has {number}, p <= {alpha:g} needs {math.ceil(1 / alpha)}; {mend}")


def arrangements(y: np.ndarray, blocks: Iterable[np.ndarray]) -> int:
    """In how many ways the groups of each block [groups, size], row indices, can have the labels y [n] of its groups."""
    ways = 1
    for block in blocks:
        counts = np.unique(y[block], axis=0, return_counts=True)[1]
        ways *= math.factorial(len(block)) // math.prod(map(math.factorial, counts.tolist()))
    return ways


def check_drawn(draws: np.ndarray, observed: np.ndarray | None = None) -> None:
    """The same of label draws bool [B, n] in an unknown number of ways: those that occur are counted, the observed [n] with them.

    Draws may repeat by chance: half of them must be distinct, and of 80 or more as many as alpha needs; never are all equal.
    """
    rows = draws if observed is None else np.vstack([draws, observed])
    distinct = len({row.tobytes() for row in np.packbits(rows, axis=1)})
    if len(draws) > 1 and (draws == draws[0]).all():
        distinct = 1
    if distinct < max(min(len(rows) / 2, 1 / ALPHA), 1 + (len(rows) > 1)):
        check_ways(distinct, "give draws that differ")
