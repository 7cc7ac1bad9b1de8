"""One number, old and new: the common part of comparing records with proposals, runs with runs, and nights of a history.

Each decides the word of a move by its own rule (docs/verdicts.md, section 4): records by a tolerance, two runs by answers or
intervals, nights by the band. This module needs no statistics, so a history can be read without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from codi_bench.records.baseline import record_key
from codi_bench.records.results import Number

EQUAL = 1e-6  # as in the deterministic tolerance: floats that are nearer than this are the same
VERDICT = "verdict changed"
QUIET = ("SAME", "same", "steady", "unmeasured")  # nothing to look at
Key = tuple[str, str, str, str]  # claim, model, metric, protocol
Reading = TypeVar("Reading")
Facet = tuple[str, Any, Any, Callable[[Any], str]]  # what it is, old, new, and how either is shown


@dataclass(frozen=True)
class Flips:
    """Problems whose outcome flipped: right then wrong, wrong then right, of n, with the exact McNemar p."""

    lost: int
    gained: int
    n: int
    p: float


@dataclass(frozen=True)
class Move(Generic[Reading]):
    """One number, old (None: it appeared) and new (None: it vanished), the word for the move, and why.

    difference: new - old in the number's own unit, with a 95 % interval if there is one. units: the difference over the
    tolerance, with its sign. also: what else differs, by a word such as `verdict changed`, and its old -> new.
    """

    key: Key
    old: Reading | None
    new: Reading | None
    word: str
    why: str = ""
    difference: Number | None = None
    also: Mapping[str, str] = field(default_factory=dict)
    units: float | None = None
    flips: Flips | None = None

    @property
    def name(self) -> str:
        """Metric and protocol as a record names them."""
        return record_key(self.key[3], self.key[2])

    @property
    def listed(self) -> bool:
        """Is there anything to show?"""
        return self.word not in QUIET or bool(self.also)


def what_else(facets: Mapping[str, Facet]) -> dict[str, str]:
    """Everything else that differs, as words and old -> new."""
    return {word: f"{what} {show(old)} → {show(new)}".strip() for word, (what, old, new, show) in facets.items() if old != new}
