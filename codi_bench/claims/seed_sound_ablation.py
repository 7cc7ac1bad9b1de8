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
        effects = bench.effects(NUM_ABLATED, edits, num_latents=bench.num_latents, scoring="study", seed=SEED + bench.seed)
        ablations = Sweep(names, effects.right, effects.log_probability, effects.reference)
        ablating.check_controls(ablations)
        return ablations

    return bench.once(SWEEP, compute)


def conditions(num_latents: int) -> tuple[tuple[str, ...], list[list[Edit]]]:
    """Names and edits of the sweep: clean, controls, each place by each kind, and direct effects by the main kind.

    Bot is the same in every problem, so its mean and another problem's bot are itself: zero and noise remain.
    """
    main = ablating.MAIN
    named_edits: list[tuple[str, list[Edit]]] = [
        (CLEAN, []),
        (ablating.SELF, [Edit("all", "self")]),
        (ablating.ALL, [Edit("all", main)]),
    ]
    named_edits += [(f"{BOT}={kind}", [Edit(BOT, kind)]) for kind in ("zero", "noise")]
    for place in range(num_latents):
        for kind in ablating.KINDS:
            named_edits += [(f"{place}={kind}", [Edit(place, kind)])] * (ablating.DONORS if kind == "resample" else 1)
        named_edits.append((f"{place}={main} direct", direct(Edit(place, main), num_latents)))
    return tuple(name for name, _ in named_edits), [edits for _, edits in named_edits]


def ablation(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Accuracy drop when one place is replaced by its mean (bot: zeros) and the rest recomputed."""
    ablations, n = sweep(bench), len(sweep(bench).right[0])
    latents = ablating.latents(ablations, bench.num_latents)
    rows = []
    for place in (BOT, *range(bench.num_latents)):
        names = [name for name in dict.fromkeys(ablations.names) if name.split("=")[0] == str(place)]
        effects = {name.split("=")[1]: ablating.effect(ablations, name, seed=SEED + bench.seed) for name in names}
        main = effects["zero" if place == BOT else ablating.MAIN]
        p = main.p if place == BOT else latents.drop_p[place]  # bot is a row of its own, no statement about a thought
        delta = effect_over(
            {name: percentage / 100 for name, percentage in reported.items()}, f"drop_{place}", 0.0, ablating.DROP_FLOOR
        )
        outcomes = ablations.rows(f"{place}={'zero' if place == BOT else ablating.MAIN}")[0][0]
        value, low, high = as_points(main.drop)
        detail = {
            "replaced_by": "zero" if place == BOT else ablating.MAIN,
            "effects": {
                kind: {"drop": ends(effect.drop), "log_probability": ends(effect.log_probability), "p": effect.p}
                for kind, effect in effects.items()
            },
            "reference": ablations.reference,
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
    all_latents = ablating.effect(ablations, ablating.ALL, seed=SEED + bench.seed)
    value, low, high = as_points(all_latents.drop)
    why = without_word("a control: what all latents together carry")
    rows.append(Measured("drop_all", value, n, "points", low, high, detail=why, null=Null(0.0, p=all_latents.p)))
    return rows


def ablation_critical(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Range of the drops over the latents, and whether one stands out (GPT-2's claim) or none does (LLaMA's)."""
    ablations = sweep(bench)
    latents, n = ablating.latents(ablations, bench.num_latents), len(ablations.right[0])
    verdict = ablating.critical_word(latents, n=n) if bench.architecture == "gpt2" else ablating.none_word(latents, n=n)
    drops = [100 * drop.value for drop in latents.drops]
    place = int(np.argmax([contrast.value for contrast in latents.contrasts]))
    detail = {
        "no_interval": NO_BOUND,
        "critical": list(latents.critical),
        "contrasts": [ends(contrast) for contrast in latents.contrasts],
        "contrast_p": list(latents.contrast_p),
        "upper": list(latents.upper),
        "note": "critical latents: " + (", ".join(map(str, latents.critical)) or "none shown"),
    }
    cell = {"layer": None, "latent_pos": place}
    null = Null(0.0, p=latents.q_p)
    return [Measured("range", float(np.ptp(drops)), n, "points", cell=cell, detail=detail, null=null, verdict=verdict)]
