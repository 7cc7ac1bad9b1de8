"""Transplants: the thoughts of a twin that differs in one number, and what the model itself says of that twin.

All of the thoughts, one, all but one, or one place off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codi_bench.audits.patching import DONOR, FEWEST_PAIRS, RANDOM, SAME, Patch, PatchOutcomes
from codi_bench.claims import runs
from codi_bench.claims.blocks import rates
from codi_bench.claims.branches import check_room_of
from codi_bench.claims.claim import SEED, Bench, Measured, once
from codi_bench.claims.open_questions import NUM_PAIRS, STEPS, edits
from codi_bench.errors import MeasureError
from codi_bench.models.conditions import CLEAN, Fed
from codi_bench.models.edits import NOISE, SELF
from codi_bench.problems.pairs import Pair
from codi_bench.rules.controls import check_alive

SHIFTED = "one place off"
NUM_TWINS = 600  # pairs a step, of which few have a twin that is answered wrongly
TWINS = (
    f"{NUM_PAIRS} generated pairs a step that differ in one number, both steps together, of them those whose problems are "
    "answered rightly; {what} fed to the recipient; the rate at which the answer becomes the twin's"
)
CONTROLS = "the same, against a donor with the same value, a problem of like length and noise: exact McNemar against each, Holm"
PAIR, WITHOUT, PREFIX = "pair", "without", "prefix"
Places = Mapping[str, Sequence[int]]


def places_of(bench: Bench, kind: str) -> dict[str, tuple[int, ...]]:
    """Places by metric: all of the twin's thoughts and each alone, all without one, or the first of them."""
    every = tuple(range(bench.model.num_latents))
    return {
        PAIR: {"all": every} | {f"single_{k}": (k,) for k in every},
        WITHOUT: {f"without_{k}": tuple(j for j in every if j != k) for k in every if len(every) > 1},
        PREFIX: {f"prefix_{k}": every[: k + 1] for k in every},
    }[kind]


@once
def transplanted(bench: Bench) -> PatchOutcomes:
    """Known pairs about both steps together under every transplant and its controls."""
    sets = dict.fromkeys(places for kind in (PAIR, WITHOUT, PREFIX) for places in places_of(bench, kind).values())
    patches = [Patch(SELF, tuple(range(bench.model.num_latents)))]
    patches += [Patch(source, places) for places in sets for source in (DONOR, SAME, RANDOM, NOISE)]
    patches += [Patch(SHIFTED, places) for places in places_of(bench, PAIR).values()]
    parts, groups = [], set()
    for step in STEPS:
        pairs = bench.problems.pairs(NUM_PAIRS, step=step)
        vectors = {SHIFTED: runs.latents(bench, [pair.donor for pair in pairs])[:, 1:]}  # z_1..z_K where z_0..z_{K-1} belong
        outcomes = runs.patched(bench, NUM_PAIRS, patches, step=step, seed=SEED + bench.seed, vectors=vectors)
        new = [pair.recipient.group not in groups for pair in pairs]  # a problem counts once
        groups |= {pair.recipient.group for pair in pairs}
        parts.append(replace(outcomes, known=outcomes.known & new))
    names = ("known", "follows", "stays", "changed")
    arrays = [np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in names]
    return PatchOutcomes(parts[0].patches, *arrays)


def checked(bench: Bench) -> PatchOutcomes:
    """The same for the sound protocol: raises MeasureError where a control fails."""
    outcomes = transplanted(bench)
    runs.check_patched(bench, outcomes, NUM_PAIRS, steps=STEPS)
    return outcomes


def followed(bench: Bench, source: str, places: Places) -> dict[str, np.ndarray]:
    """Does the answer become the twin's, with thoughts of a source at some places? bool [known pairs] by metric."""
    return {name: transplanted(bench).of(source, part)[0] for name, part in places.items()}


def follow_rates(bench: Bench, places: Places) -> list[Measured]:
    return rates(followed(bench, DONOR, places))


def follow_over_controls(bench: Bench, places: Places) -> list[Measured]:
    """The same against a donor with the same value, a random one, and noise."""
    return edits.follow_rates([(name, checked(bench), part) for name, part in places.items()], family="latents")


@dataclass(frozen=True, eq=False)
class Twins:
    """Pairs of both steps, every recipient once, and the numbers that are answered, float64 [n].

    Of the recipient, of the donor, and of the recipient with all of the donor's thoughts.
    """

    pairs: tuple[Pair, ...]
    recipient: np.ndarray
    donor: np.ndarray
    fed: np.ndarray

    def gold(self, side: str) -> np.ndarray:
        """The right number of the `recipient` or of the `donor`, [n]."""
        return np.array([float(getattr(pair, side).answer) for pair in self.pairs])

    @property
    def solved(self) -> np.ndarray:
        """Is the recipient answered rightly? bool [n]."""
        return np.asarray(self.recipient == self.gold("recipient"))

    @property
    def twin_solved(self) -> np.ndarray:
        return np.asarray(self.donor == self.gold("donor"))


@once
def twins(bench: Bench) -> Twins:
    pair_of = {pair.recipient.group: pair for step in reversed(STEPS) for pair in bench.problems.pairs(NUM_TWINS, step=step)}
    pairs = tuple(pair_of.values())
    recipients, donors = ([getattr(pair, side) for pair in pairs] for side in ("recipient", "donor"))
    own, fed = bench.answers(recipients, [CLEAN, Fed(runs.latents(bench, donors)[:, :-1])]).numbers
    return Twins(pairs, own, bench.answers(donors, [CLEAN]).numbers[0], fed)


def check_twins(bench: Bench) -> None:
    """Raises MeasureError where a twin's thoughts change no answer, or too few problems are answered for one to follow."""
    found = twins(bench)
    check_alive(found.recipient, {"a twin's thoughts": found.fed})
    check_room_of(found.solved, [pair.recipient for pair in found.pairs], what="to find")


def wrong_twins(bench: Bench) -> dict[str, np.ndarray]:
    """With the thoughts of a wrongly answered twin, does its wrong answer follow, or its right one? bool [n] by metric."""
    found = twins(bench)
    gold = found.gold("donor")
    usable = found.solved & ~np.isnan(found.donor) & (found.donor != gold) & (found.donor != found.gold("recipient"))
    if usable.sum() < FEWEST_PAIRS:
        raise MeasureError(
            f"{usable.sum()} of {len(usable)} pairs have a twin with a wrong answer of its own; {FEWEST_PAIRS} are needed: give "
            "a larger --n, or a model that solves fewer"
        )
    return {"wrong": (found.fed == found.donor)[usable], "gold": (found.fed == gold)[usable]}
