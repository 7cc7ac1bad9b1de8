"""What a claim is, and what it may ask of the bench that measures it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from codi_bench.models.edits import Edit
from codi_bench.problems import Problem
from codi_bench.thoughts.record import Answers


@dataclass(frozen=True)
class Captured:
    """Problems, hidden states [n, 1 + K, L + 1, d] of the thoughts about them, answers, and whether each was right (bool [n]).

    The hidden states are what the store holds: half precision, mapped from a file, so take what you need and then compute.
    """

    problems: list[Problem]
    hidden_states: np.ndarray
    answers: Answers
    right: np.ndarray


class Bench(Protocol):
    """One model with its problems. What it computes it computes once."""

    family: str
    layers: tuple[int, ...]
    sae_layers: tuple[int, ...]
    num_latents: int

    def captured(self, n: int, *, num_latents: int, variants: int = 1) -> Captured:
        """The first n test problems (`variants` tellings each), thought about with num_latents thoughts and answered."""

    def right_under(self, n: int, conditions: Sequence[Sequence[Edit]], *, num_latents: int) -> np.ndarray:
        """Right or wrong on the first n test problems under each condition, bool [conditions, n]."""

    def facts(self) -> dict[str, int]:
        """parameters (of the backbone, as sources count them: without CODI's projection), layers, width."""

    def once(self, name: str, compute: Callable):
        """`compute()` the first time a claim asks for that name, the same value ever after."""


@dataclass(frozen=True)
class Measured:
    """One measured number. low, high: 95 % interval, None where there is no honest one (detail says why).

    outcomes: right or wrong per problem where the number is an accuracy. cell: {"layer", "latent_pos"} where it has one.
    """

    metric: str
    value: float
    n: int
    unit: str
    low: float | None = None
    high: float | None = None
    cell: dict | None = None
    outcomes: np.ndarray | None = None
    detail: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A reported claim: its sentence, source and protocol in words, and the measurement that makes its metrics.

    kind: value, exists, location, none, even, order or fact (VERDICTS §1). compared: may a paired test on the same problems
    name a winner between two models?
    """

    id: str
    family: str
    kind: str
    sentence: str
    source: str
    protocol: str
    measure: Callable[[Bench], list[Measured]]
    seeds: dict[str, int] = field(default_factory=dict)
    compared: bool = False
