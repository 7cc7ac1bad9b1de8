"""A post on the Alignment Forum (22 Dec 2025, github.com/cywinski/codi): noise in the last latents, equal values, operations."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import train_test_split

from codi_bench.audits.ablation import CLEAN
from codi_bench.audits.patching import SAME
from codi_bench.claims import transplants
from codi_bench.claims.ablations import NUM_ABLATED, chosen, replaced
from codi_bench.claims.blocks import not_lost, rate, rates
from codi_bench.claims.claim import SEED, Bench, Measured, Protocols, Published, claim
from codi_bench.claims.open_questions import NUM_PAIRS
from codi_bench.claims.operations import FAMILY, NUM_OPERATIONS, STORIES, Cell, nearest_mean, on_other_stories, operation_cells
from codi_bench.claims.transplants import PAIR, TWINS

SOURCE = "Alignment Forum, 22 Dec 2025, github.com/cywinski/codi"


@claim(
    "af-last-two-random",
    SOURCE,
    family="latents",
    kind="none",
    n=NUM_ABLATED,
    protocol=f"noise of equal norm, {NUM_ABLATED} problems (the number cannot be read)",
    sound="the loss is surely below 5 points",
    slow=True,
)
def last_two(bench: Bench, published: Published) -> Protocols:
    """Noise in the last two latents does not reduce accuracy."""
    outcomes = chosen(replaced(bench), ["last_two"])
    yield rates(outcomes)
    yield not_lost(outcomes.pop(CLEAN), outcomes, family="latents")


@claim(
    "af-same-value-patch",
    SOURCE,
    family="latents",
    kind="none",
    n=2 * NUM_PAIRS,
    protocol=TWINS.format(
        what="all latents of a problem with the same value, or one (there: the mean of such problems),"
    ).replace("becomes the twin's", "stays right"),
    sound="the loss is surely below 5 points",
    slow=True,
)
def same_value(bench: Bench, published: Published) -> Protocols:
    """The thoughts of a problem with the same value leave the answer as it is."""
    outcomes, places = transplants.transplanted(bench), transplants.places_of(bench, PAIR)
    stays = {name: outcomes.of(SAME, part)[1] for name, part in places.items()}
    yield rates(stays)
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
    slow=True,
)
def operation_direction(bench: Bench, published: Published) -> Protocols:
    """The difference of means tells plus from minus."""
    cells = operation_cells(bench, "+-", (-1,), {f"at_{place}": (place, 0) for place in range(bench.model.num_latents)})

    def fitted(name: str, cell: Cell) -> Measured:
        every, seed = np.arange(len(cell.x)), SEED + bench.seed
        train, test = train_test_split(every, test_size=0.3, random_state=seed, stratify=cell.label)
        predictions = nearest_mean(cell.x[train], cell.label[train, None], cell.x[test], 2)[:, 0]
        return rate(name, predictions == cell.label[test])

    yield [fitted(name, cell) for name, cell in cells.items()]
    yield on_other_stories(bench, cells, nearest_mean, {}, chance=1 / 2)
