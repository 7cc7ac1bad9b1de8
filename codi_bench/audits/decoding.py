"""Compare the head's first words for the states of thoughts with values of steps, and with values of another problem.

Only problems that were answered rightly are used; a hit says nothing about the others. numbers float [n, places, k]: the head's
first k words at each place as numbers, NaN for words that are not numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codi_bench.errors import MeasureError
from codi_bench.rules.stats import Interval, mcnemar_exact, newcombe_paired, rate_of, stream
from codi_bench.rules.validity import Verdict, sound_verdict

HIT_FLOOR = 0.05
FEWEST = 20  # problems, below which no rate is told
OTHER = "another problem's"


@dataclass(frozen=True, eq=False)
class HitComparison:
    """Hits of n problems with their own values, and with another problem's values in the same states, bool [n] each.

    mean: the mean hit rate over the values of all other problems. p: exact McNemar, one-sided.
    """

    own: np.ndarray
    other: np.ndarray
    mean: float

    @property
    def rate(self) -> Interval:
        return rate_of(self.own)

    @property
    def gain(self) -> Interval:
        return newcombe_paired(self.own, self.other)

    @property
    def p(self) -> float:
        return mcnemar_exact(self.own, self.other, "greater")

    def word(self, p: float, delta: float = HIT_FLOOR) -> Verdict:
        """Are there more hits than with another problem's values, by Delta? p: corrected."""
        return sound_verdict(self.gain, delta=delta, p={OTHER: p}, marginal=OTHER, n=len(self.own))


def compared(true: np.ndarray, *, seed: int) -> HitComparison:
    """Compare hits bool [n, n], of row i with the values of row j. Raises MeasureError for fewer than FEWEST rows."""
    n = len(true)
    if n < FEWEST:
        raise MeasureError(f"{n} rightly answered problems have that many steps, but {FEWEST} are needed: give more problems")
    rows = np.arange(n)
    partner = stream(seed, OTHER).permutation(rows)
    partner = np.where(partner == rows, (rows + 1) % n, partner)  # nobody is another
    return HitComparison(true[rows, rows], true[rows, partner], float((true.sum() - np.trace(true)) / (n * (n - 1))))


def all_found(numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Do all m values of row j occur among the words of row i? bool [n, n]; values float [n, m]."""
    matches = [(numbers == row[:, None, None, None]).any(axis=(2, 3)).all(axis=0) for row in values]
    return np.array(matches, bool).reshape(len(values), len(numbers)).T


def all_begun(texts: Sequence[set[str]], values: Sequence[Sequence[str]]) -> np.ndarray:
    """Does each value of row j begin with a number in the words of row i? bool [n, n].

    This is the most generous reading of a number that takes several ids.
    """
    prefixes = [[{value[:end] for end in range(1, len(value) + 1)} for value in row] for row in values]
    return np.array([[all(beginnings & words for beginnings in row) for row in prefixes] for words in texts])


def first_is(numbers: np.ndarray, place: int, values: np.ndarray) -> np.ndarray:
    """Is the first word of row i at a place the value of row j? bool [n, n]; values float [n]."""
    return np.asarray(numbers[:, place, :1] == values[None])
