"""How evenly accuracy is spread over layers and positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from codi_bench.errors import MeasureError, arguments
from codi_bench.measures.arrays import real


@dataclass(frozen=True)
class Spread:
    """std (population) and range over the cells, percentage points; evenness in [0, 1], 1 where all cells are equal."""

    std: float
    range: float
    evenness: float


def spread(accuracy: ArrayLike, *, chance: float = 0.5) -> Spread:
    """Spread of a grid of accuracies, fractions [layers, positions].

    evenness: Pielou's J, the entropy of the cells' shares of accuracy above chance over the log of the number of cells; a
    cell below chance has share 0. The study printed the std and called it "concentrated" or "even"; evenness is ours.
    Source: Pielou 1966, The measurement of diversity in different types of biological collections, J. Theor. Biol. 13.
    Raises MeasureError for fewer than two cells, accuracies outside [0, 1], or a grid nowhere above chance.
    """
    grid = real("accuracy", accuracy).astype(np.float64)
    if grid.ndim != 2 or grid.size < 2:
        raise MeasureError(f"a spread needs accuracies [layers, positions] of at least two cells, got {list(grid.shape)}")
    if not ((grid >= 0) & (grid <= 1)).all():
        raise MeasureError("accuracies must be fractions in [0, 1]")
    chance = arguments.number("chance", chance, 0, 1, error=MeasureError)
    excess = np.clip(grid - chance, 0.0, None)
    if excess.sum() == 0:
        raise MeasureError(f"evenness needs a cell above chance ({chance}), but the best has {grid.max()}")
    shares = excess[excess > 0] / excess.sum()
    evenness = (shares * np.log(1 / shares)).sum() / np.log(grid.size)
    return Spread(100 * float(grid.std()), 100 * float(np.ptp(grid)), min(1.0, float(evenness)))
