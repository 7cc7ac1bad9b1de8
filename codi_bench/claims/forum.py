"""A post on the Alignment Forum (22 Dec 2025, github.com/cywinski/codi): noise in the last latents, equal values, operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from codi_bench.audits.ablation import CLEAN
from codi_bench.audits.patching import SAME
from codi_bench.claims import operations, transplants
from codi_bench.claims.ablations import NUM_ABLATED, replaced
from codi_bench.claims.blocks import not_lost, rates
from codi_bench.claims.claim import Bench, Protocols, Published, claim
from codi_bench.claims.open_questions import NUM_PAIRS
from codi_bench.claims.operations import FAMILY, NUM_OPERATIONS, STORIES, nearest_mean, operation_cells
from codi_bench.claims.transplants import PAIR, TWINS

SOURCE = "Alignment Forum, 22 Dec 2025, github.com/cywinski/codi"
NOTHING_LOST: dict[str, Any] = {"family": "latents", "kind": "none", "sound": "the loss is surely below 5 points"}


@claim(
    "af-last-two-random",
    SOURCE,
    n=NUM_ABLATED,
    protocol=f"noise of equal norm, {NUM_ABLATED} problems (the number cannot be read)",
    answers="either",
    **NOTHING_LOST,
)
def last_two(bench: Bench, published: Published) -> Protocols:
    """Noise in the last two latents does not reduce accuracy."""
    outcomes = replaced(bench).chosen(["last_two"])
    yield rates(outcomes)
    outcomes.checked()
    yield not_lost(outcomes.pop(CLEAN), outcomes, family="latents")


@claim(
    "af-same-value-patch",
    SOURCE,
    n=2 * NUM_PAIRS,
    protocol=TWINS.format(
        what="all latents of a problem with the same value, or one (there: the mean of such problems),"
    ).replace("becomes the twin's", "stays right"),
    **NOTHING_LOST,
)
def same_value(bench: Bench, published: Published) -> Protocols:
    """The thoughts of a problem with the same value leave the answer as it is."""
    outcomes, places = transplants.transplanted(bench), transplants.places_of(bench, PAIR)
    stays = {name: outcomes.of(SAME, part)[1] for name, part in places.items()}
    yield rates(stays)
    transplants.checked(bench)
    known = np.ones(len(stays["all"]), bool)  # known pairs are answered rightly
    yield not_lost(known, stays, family="latents")


@claim(
    "af-op-probe",
    f"{SOURCE} (code alone, no number published)",
    family=FAMILY,
    kind="exists",
    n=NUM_OPERATIONS,
    protocol=f"nearer mean of two, last layer, 70 % of up to {NUM_OPERATIONS} problems to train, by latent position",
    sound=f"the same, {STORIES}; the best position of each draw, times the claims of the family",
)
def operation_direction(bench: Bench, published: Published) -> Protocols:
    """The difference of means tells plus from minus."""
    cells = operation_cells(bench, "+-", (-1,), {f"at_{place}": (place, 0) for place in range(bench.model.num_latents)})
    yield operations.on_one_split(bench, cells, nearest_mean, share=0.3)
    yield operations.on_other_stories(bench, cells, nearest_mean, {}, chance=1 / 2)
