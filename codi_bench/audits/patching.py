"""Audit of patches: can one thought be edited so that the answer follows? Minimal pairs, compared with controls.

The answer *follows* if it becomes the counterfactual one, and *stays* if it is the recipient's own; else it is neither.
Only pairs whose three problems are answered rightly without a patch count: in other pairs it is unknown which value a thought
should hold. Controls: another problem's thoughts (`random`), a random vector of the same norm (`noise`), a donor with
the same value (`same`), and the recipient's own thoughts (`self`), which must change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codi_bench.errors import MeasureError
from codi_bench.models.edits import NOISE, SELF
from codi_bench.rules.controls import check_alive
from codi_bench.rules.p_values import across_claims
from codi_bench.rules.stats import Estimate, mcnemar_exact, newcombe_paired, rate_of
from codi_bench.rules.validity import Verdict, sound_verdict

DONOR, SAME, RANDOM = "donor", "same", "random"
FOLLOW_FLOOR = 0.05
FEWEST_PAIRS = 20


@dataclass(frozen=True)
class Patch:
    """What a patch takes from the run `source`: the latents at `places`, or only the keys and values of one place."""

    source: str
    places: tuple[int, ...]
    keys_only: bool = False

    def __str__(self) -> str:
        return f"{','.join(map(str, self.places))}={self.source}{' keys and values' if self.keys_only else ''}"


@dataclass(frozen=True, eq=False)
class PatchOutcomes:
    """The outcomes of n pairs.

    known bool [n]: recipient, donor and `same` answered rightly without a patch; under each patch follows, stays and changed bool
    [patches, n] (changed: another text than without a patch).
    """

    patches: tuple[Patch, ...]
    known: np.ndarray
    follows: np.ndarray
    stays: np.ndarray
    changed: np.ndarray

    def of(self, source: str, places: Sequence[int], *, keys_only: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """follows and stays bool [known pairs] under one patch."""
        row = self.patches.index(Patch(source, tuple(places), keys_only))
        return self.follows[row, self.known], self.stays[row, self.known]

    def halves(self) -> tuple[PatchOutcomes, PatchOutcomes]:
        """The first and the second half of the pairs, to choose on and to count on."""
        middle = len(self.known) // 2
        first, second = (
            PatchOutcomes(self.patches, self.known[half], self.follows[:, half], self.stays[:, half], self.changed[:, half])
            for half in (slice(None, middle), slice(middle, None))
        )
        return first, second


@dataclass(frozen=True)
class Steered:
    """One patch: the rates at which the answer follows, stays, or does neither.

    controls, controls_stay: of each control, by name, the rates at which it follows and at which it stays.
    over: the follow rate over that of its strictest control, with Newcombe's interval; p: exact McNemar against each control,
    one-sided, Holm over the patches that it was tested among. follows bool [known pairs].
    """

    patch: Patch
    follow: Estimate
    stay: Estimate
    neither: Estimate
    controls: dict[str, Estimate]
    controls_stay: dict[str, float]
    over: Estimate
    p: dict[str, float]
    follows: np.ndarray


def patches(num_latents: int, *, full: bool = False) -> tuple[Patch, ...]:
    """Every single place from every source, its keys and values only, and all places at once.

    With `full` also pairs of places, and cumulative from the left and from the right.
    """
    all_places = tuple(range(num_latents))
    battery = [Patch(SELF, all_places)]
    for source in (DONOR, SAME, RANDOM, NOISE):
        battery += [Patch(source, (place,)) for place in all_places] + [Patch(source, all_places)]
    battery += [Patch(source, (place,), keys_only=True) for place in all_places for source in (SELF, DONOR, SAME, RANDOM)]
    if full:
        sets: list[tuple[int, ...]] = [(a, b) for a in all_places for b in all_places[a + 1 :]]
        sets += [all_places[: k + 1] for k in all_places[1:]] + [all_places[k:] for k in all_places[1:]]
        battery += [Patch(source, places) for places in sets for source in (DONOR, SAME, RANDOM, NOISE)]
    return tuple(dict.fromkeys(battery))


def check_known(known: np.ndarray) -> None:
    """Raises MeasureError if too few pairs (bool [n]) are known for rates to mean anything."""
    if known.sum() < FEWEST_PAIRS:
        raise MeasureError(
            f"nothing to find: only in {known.sum()} of {len(known)} pairs are all three problems answered rightly; "
            f"{FEWEST_PAIRS} are needed: give a larger --n, or a model that solves more of them"
        )


def check_controls(found: PatchOutcomes) -> None:
    """Raises MeasureError if the recipient's own values change an answer, or no other values do: then rates mean nothing."""
    for patch, changes in zip(found.patches, found.changed):
        if patch.source == SELF and changes.any():
            raise MeasureError(f"a control fails: patch '{patch}' changes {int(changes.sum())} of {found.known.sum()} answers")
    clean, changed = np.zeros(len(found.known), bool), zip(found.patches, found.changed, strict=True)
    check_alive(clean, {str(patch): changes for patch, changes in changed if patch.source not in (SELF, SAME)})


def steered(tests: Sequence[tuple[PatchOutcomes, Sequence[int]]], *, keys_only: bool = False, budget: int) -> list[Steered]:
    """Each set of places patched from the donor, compared with its controls, corrected together for a family of that budget."""
    controls = (SAME, RANDOM) if keys_only else (SAME, RANDOM, NOISE)  # a random vector has no keys and values
    runs = [{name: sample.of(name, places, keys_only=keys_only) for name in (DONOR, *controls)} for sample, places in tests]
    p = {
        name: across_claims([mcnemar_exact(run[DONOR][0], run[name][0], "greater") for run in runs], budget) for name in controls
    }
    steps = []
    for i, ((_, places), run) in enumerate(zip(tests, runs, strict=True)):
        follows, stays = run[DONOR]
        strictest = max(controls, key=lambda name: run[name][0].sum())
        steps.append(
            Steered(
                Patch(DONOR, tuple(places), keys_only),
                rate_of(follows),
                rate_of(stays),
                rate_of(~(follows | stays)),
                {name: rate_of(run[name][0]) for name in controls},
                {name: float(run[name][1].mean()) for name in controls},
                newcombe_paired(follows, run[strictest][0]),
                {name: float(p[name][i]) for name in controls},
                follows,
            )
        )
    return steps


def steered_word(step: Steered) -> Verdict:
    """Does the answer follow more often than under every control, by 5 points or more? The random donor is the marginal null."""
    return sound_verdict(step.over, delta=FOLLOW_FLOOR, p=step.p, marginal=RANDOM, n=len(step.follows))
