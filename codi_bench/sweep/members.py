"""The models of a sweep: sizes x seeds x architectures, all with one recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import cast

from codi_bench.errors import CodiBenchError
from codi_bench.problems.generator import DIGITS
from codi_bench.training.recipes import Recipe

FAMILIES = ("gpt2", "llama")
WIDTHS = (24, 40, 64, 104)
SEEDS = (0, 1, 2)
LAYERS = 4  # of every size, so that the same cells are probed; fewer have no three inner layers
HEADS = {24: 2, 40: 4, 64: 4, 104: 4}
PHASES = (("teacher", 600), ("both", 400))  # at most ten minutes on one core, the largest size included
SNAPSHOTS = (
    12  # checkpoints of the student, each after 1.4 times as many of its steps, from which one of matched accuracy is chosen
)


@dataclass(frozen=True)
class Member:
    """One model: its architecture, width and seed.

    Raises CodiBenchError for an unknown family or width, and for a seed that is not a whole number.
    """

    family: str
    width: int
    seed: int

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise CodiBenchError(f"unknown architecture {self.family!r}: use {' or '.join(FAMILIES)}")
        if self.width not in tuple(HEADS):
            raise CodiBenchError(f"no recipe for width {self.width!r}: use {', '.join(map(str, HEADS))}")
        if type(self.seed) is not int:
            raise CodiBenchError(f"seed must be a whole number, got {type(self.seed).__name__}")

    @property
    def name(self) -> str:
        return f"{self.family}-w{self.width}-s{self.seed}"


def members(families: Sequence[str] = FAMILIES, widths: Sequence[int] = WIDTHS, seeds: Sequence[int] = SEEDS) -> list[Member]:
    """The members, each once, smallest first, so that errors show early. Raises CodiBenchError as `Member` does."""
    combinations = [Member(architecture, width, seed) for width, seed, architecture in product(widths, seeds, families)]
    return sorted(dict.fromkeys(combinations), key=lambda member: member.width)


def recipe(member: Member, phases: Sequence[tuple[str, int]] = PHASES) -> Recipe:
    """The one recipe, at the member's size; problems of up to three steps with values 0..9."""
    steps = sum(count for _, count in phases)
    return Recipe(
        f"{member.family}-w{member.width}",
        member.family,
        width=member.width,
        layers=LAYERS,
        heads=HEADS[member.width],
        inner=2 * member.width,
        phases=cast("tuple[tuple[str, int], ...]", tuple(map(tuple, phases))),  # lists where they come from JSON
        horizon=steps + steps // 3,
        cooldown=min(100, steps // 4),
        batch_size=32,
        learning_rate=2e-3,
        distill_factor=5.0,
        train_problems=20_000,
        warmup=50,
        limits=DIGITS,
    )


def snapshots(phases: Sequence[tuple[str, int]] = PHASES, count: int = SNAPSHOTS) -> tuple[int, ...]:
    """The steps after which the model is saved, the last one included: close together early, where accuracy rises fast."""
    student = sum(steps for who, steps in phases if who == "both")
    teacher = sum(steps for _, steps in phases) - student
    return tuple(sorted({teacher + max(1, round(student * 2 ** (-k / 2))) for k in range(count)}))
