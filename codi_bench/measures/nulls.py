"""Check that a null of drawn labels can give a small p at all: docs/verdicts.md, section 1, alpha.

If labels can be arranged in D equally likely ways, the observed one among them, no exact p is below 1/D. If no other arrangement
is possible (all groups differ in size, there is one group, or all groups have the same labels), D = 1 and p = 1 whatever the
probes read. With an AUC of 0.98, that p would look like a finding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from codi_bench.errors import MeasureError
from codi_bench.rules.validity import ALPHA

REGROUP = "groups change labels with groups of the same size and fold alone: give more of those, or fewer folds"


def check_ways(ways: int, mend: str = REGROUP, *, alpha: float = ALPHA) -> None:
    """Raises MeasureError if there are too few distinct draws for any p to reach alpha."""
    if ways < 1 / alpha:  # of thousands of problems no float holds the ways
        number = f"{ways} distinct draw{'s' * (ways != 1)}"
        raise MeasureError(
            f"the null has too few label arrangements: it has {number}, and p <= {alpha:g} needs {math.ceil(1 / alpha)}; {mend}"
        )


def arrangements(y: np.ndarray, blocks: Iterable[np.ndarray]) -> int:
    """The number of ways to deal the labels y [n] to the groups of each block, row indices [groups, size]."""
    ways = 1
    for block in blocks:
        counts = np.unique(y[block], axis=0, return_counts=True)[1]
        ways *= math.factorial(len(block)) // math.prod(map(math.factorial, counts.tolist()))
    return ways


def check_drawn(draws: np.ndarray, observed: np.ndarray | None = None) -> None:
    """`check_ways` for label draws bool [B, n] with an unknown number of ways: counts the distinct ones, and the observed [n].

    Draws may repeat by chance: half of them must be distinct, and of 80 or more as many as alpha needs; at least two always.
    """
    rows = draws if observed is None else np.vstack([draws, observed])
    distinct = len({row.tobytes() for row in np.packbits(rows, axis=1)})
    if len(draws) > 1 and (draws == draws[0]).all():
        distinct = 1
    if distinct < max(min(len(rows) / 2, 1 / ALPHA), 1 + (len(rows) > 1)):
        check_ways(distinct, "give draws that differ")
