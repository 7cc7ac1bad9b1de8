"""Dynamics within latent CoT (arXiv 2602.08783, as others report it): what fewer latents solve, and what a zero changes."""

from __future__ import annotations

from typing import Any

import numpy as np

from codi_bench.claims import runs
from codi_bench.claims.ablations import NUM_ABLATED, edited
from codi_bench.claims.blocks import rates
from codi_bench.claims.claim import NOTHING_MORE, Bench, Protocols, Published, claim
from codi_bench.claims.open_questions.reading import NUM_READ
from codi_bench.errors import MeasureError
from codi_bench.models.edits import Edit
from codi_bench.rules.controls import check_alive

SOURCE = "Dynamics within latent CoT, arXiv 2602.08783 (second-hand)"
LATENTS: dict[str, Any] = {"family": "latents", "kind": "value"}


@claim(
    "dyn-solved-rate",
    SOURCE,
    n=NUM_READ,
    protocol=f"right after eot behind any of 0 to k latents, {NUM_READ} problems",
    sound="nothing more: it grows by construction, whatever a latent holds; see cap-truncation",
    answers="either",
    **LATENTS,
)
def solved_rate(bench: Bench, published: Published) -> Protocols:
    """This share of problems is answered rightly after at least one of the first k latents."""
    fewer = runs.shortened(bench, NUM_READ)
    right = [*fewer.values()]
    yield rates({f"solved_{k}": np.any(right[: k + 1], axis=0) for k in range(len(right))})
    fewer.checked()
    yield NOTHING_MORE


@claim(
    "dyn-flip",
    SOURCE,
    n=NUM_ABLATED,
    protocol=f"wrong answers that change count too, {NUM_ABLATED} problems",
    sound="nothing more: the loss of accuracy is cap-ablate-one's",
    **LATENTS,
)
def flips(bench: Bench, published: Published) -> Protocols:
    """Replacing one latent by zero changes this share of predictions."""
    places = range(bench.model.num_latents)
    clean, same, *zeroed = edited(bench, [[], [Edit("all", "self")], *([Edit(k, "zero")] for k in places)]).numbers
    changed = [~((own == clean) | (np.isnan(own) & np.isnan(clean))) for own in (same, *zeroed)]
    yield rates({f"flip_{k + 1}": flipped for k, flipped in enumerate(changed[1:])})
    if changed[0].any():
        raise MeasureError("a control fails: replacing every latent by itself changes an answer")
    check_alive(clean, {f"{k}=zero": own for k, own in enumerate(zeroed)})
    yield NOTHING_MORE
