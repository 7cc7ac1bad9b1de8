"""Ablation as it should have been measured: one place replaced, the rest recomputed.

Each function gives the claim's metrics (and further ones) with their verdicts. `reported` holds the published values of the
source's own models, of which half the effect must at least be there; other models have the family's floor.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codi_bench.audits import ablation as ablating
from codi_bench.audits.ablation import CLEAN, Sweep
from codi_bench.claims.claim import Bench, Measured, Null
from codi_bench.claims.seed_sound import (
    NO_BOUND,
    NUM_ABLATED,
    SEED,
    as_points,
    effect_over,
    ends,
    without_word,
)
from codi_bench.models.edits import BOT, Edit, direct

SWEEP = "sound sweep"  # what `Bench.once` knows it by


def sweep(bench: Bench) -> Sweep:
    """Every place replaced in every way, with the controls, checked."""

    def compute():
        names, edits = conditions(bench.num_latents)
        found = bench.effects(NUM_ABLATED, edits, num_latents=bench.num_latents, scoring="study", seed=SEED + bench.seed)
        swept = Sweep(names, found.right, found.log_probability, found.reference)
        ablating.check_controls(swept)
        return swept

    return bench.once(SWEEP, compute)


def conditions(num_latents: int) -> tuple[tuple[str, ...], list[list[Edit]]]:
    """Names and edits of the sweep: clean, controls, each place by each kind, and direct effects by the main kind.

    Bot is the same in every problem, so its mean and another problem's bot are itself: zero and noise remain.
    """
    main = ablating.MAIN
    found: list[tuple[str, list[Edit]]] = [
        (CLEAN, []),
        (ablating.SELF, [Edit("all", "self")]),
        (ablating.ALL, [Edit("all", main)]),
    ]
    found += [(f"{BOT}={kind}", [Edit(BOT, kind)]) for kind in ("zero", "noise")]
    for place in range(num_latents):
        for kind in ablating.KINDS:
            found += [(f"{place}={kind}", [Edit(place, kind)])] * (ablating.DONORS if kind == "resample" else 1)
        found.append((f"{place}={main} direct", direct(Edit(place, main), num_latents)))
    return tuple(name for name, _ in found), [edits for _, edits in found]


def ablation(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Accuracy drop when one place is replaced by its mean (bot: zeros) and the rest recomputed."""
    swept, n = sweep(bench), len(sweep(bench).right[0])
    found = ablating.latents(swept, bench.num_latents)
    rows = []
    for place in (BOT, *range(bench.num_latents)):
        names = [name for name in dict.fromkeys(swept.names) if name.split("=")[0] == str(place)]
        effects = {name.split("=")[1]: ablating.effect(swept, name, seed=SEED + bench.seed) for name in names}
        main = effects["zero" if place == BOT else ablating.MAIN]
        p = main.p if place == BOT else found.drop_p[place]  # bot is a row of its own, no statement about a thought
        delta = effect_over({k: v / 100 for k, v in reported.items()}, f"drop_{place}", 0.0, ablating.DROP_FLOOR)
        outcomes = swept.rows(f"{place}={'zero' if place == BOT else ablating.MAIN}")[0][0]
        value, low, high = as_points(main.drop)
        detail = {
            "replaced_by": "zero" if place == BOT else ablating.MAIN,
            "effects": {
                kind: {"drop": ends(e.drop), "log_probability": ends(e.log_probability), "p": e.p} for kind, e in effects.items()
            },
            "reference": swept.reference,
        }
        rows.append(
            Measured(
                f"drop_{place}",
                value,
                n,
                "points",
                low,
                high,
                cell={"layer": None, "latent_pos": place},
                outcomes=outcomes,
                detail=detail,
                null=Null(0.0, p=p),
                verdict=ablating.drop_word(main.drop, p, n=n, delta=delta),
            )
        )
    all_of_them = ablating.effect(swept, ablating.ALL, seed=SEED + bench.seed)
    value, low, high = as_points(all_of_them.drop)
    why = without_word("a control: what all latents together carry")
    rows.append(Measured("drop_all", value, n, "points", low, high, detail=why, null=Null(0.0, p=all_of_them.p)))
    return rows


def ablation_critical(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Range of the drops over the latents, and whether one stands out (GPT-2's claim) or none does (LLaMA's)."""
    swept = sweep(bench)
    found, n = ablating.latents(swept, bench.num_latents), len(swept.right[0])
    verdict = ablating.critical_word(found, n=n) if bench.architecture == "gpt2" else ablating.none_word(found, n=n)
    drops = [100 * drop.value for drop in found.drops]
    place = int(np.argmax([c.value for c in found.contrasts]))
    detail = {
        "no_interval": NO_BOUND,
        "critical": list(found.critical),
        "contrasts": [ends(c) for c in found.contrasts],
        "contrast_p": list(found.contrast_p),
        "upper": list(found.upper),
        "note": "critical latents: " + (", ".join(map(str, found.critical)) or "none shown"),
    }
    cell = {"layer": None, "latent_pos": place}
    null = Null(0.0, p=found.q_p)
    return [Measured("range", float(np.ptp(drops)), n, "points", cell=cell, detail=detail, null=null, verdict=verdict)]
