"""The first study: what a token is worth, as it was removed there and with what follows recomputed."""

from __future__ import annotations

from typing import Any

import numpy as np

from codi_bench.audits import ablation as ablating
from codi_bench.audits.ablation import Sweep
from codi_bench.claims.ablations import sweep
from codi_bench.claims.blocks import effect_over
from codi_bench.claims.claim import (
    SEED,
    Bench,
    Measured,
    Null,
    Protocols,
    Published,
    claim,
    ends,
    measured,
    once,
    points,
    without_word,
)
from codi_bench.claims.families import FAMILIES
from codi_bench.claims.first_study import GPT2, NO_BOUND, NO_INTERVAL, SOURCE, by_sentence, places
from codi_bench.measures import criticality, drops
from codi_bench.models.conditions import CLEAN, Edited
from codi_bench.models.edits import BOT, Edit
from codi_bench.rules.stats import newcombe_paired

NUM_ABLATED = 100
PROTOCOL = (
    "first 100 problems; token t's input zeroed and the next input not recomputed, so zeros are fed at t and t+1 "
    "(token t zeroes latents t-1 and t; token 0: bot and latent 0; token 5: latent 4)"
)
SOUND = (
    f"{FAMILIES['ablation'].n} problems; one place replaced (by its mean over training problems; bot by zeros) and all "
    "that follows recomputed; exact McNemar, Holm over the latents; beside it, on the first problems, all latents, direct "
    "effects, and zero, noise of equal norm and another problem's latent (5 donors)"
)
ABLATION: dict[str, Any] = {"family": "ablation", "n": NUM_ABLATED, "protocol": PROTOCOL, "sound": SOUND, "answers": "either"}


@once
def without_token(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong: clean [n], and [tokens, n] with each token zeroed under the carry-over quirk."""
    tokens = places(bench)
    conditions = [Edited(tuple(Edit(p, "zero") for p in tokens[t : t + 2])) for t in range(len(tokens))]
    problems = bench.problems.first(NUM_ABLATED)
    right = bench.answers(problems, [CLEAN, *conditions], num_latents=bench.model.num_latents - 1).right()
    return right[0], right[1:]


@claim("ablation", f"{SOURCE}, §3", kind="value", **ABLATION)
def ablation(bench: Bench, published: Published) -> Protocols:
    """Removing token t costs this many points of accuracy."""
    clean, zeroed = without_token(bench)
    at = [{"layer": None, "latent_pos": place} for place in places(bench)]
    yield [
        points(f"drop_{cell['latent_pos']}", newcombe_paired(clean, right), len(clean), cell=cell, outcomes=right)
        for cell, right in zip(at, zeroed, strict=True)
    ]
    ablations = sweep(bench)
    everything, n = ablating.effect(ablations, ablating.ALL, seed=SEED + bench.seed), len(ablations.beside(ablating.ALL)[0])
    why = without_word("a control: what all latents together carry")
    yield [
        *(replaced_drop(bench, ablations, place, published) for place in (BOT, *range(bench.model.num_latents))),
        points("drop_all", everything.drop, n, detail=why, null=Null(0.0, p=everything.p)),
    ]


def replaced_drop(bench: Bench, ablations: Sweep, place: int | str, published: Published) -> Measured:
    """Accuracy drop when one place is replaced by its mean (bot: zeros), with the other replacements beside it."""
    kind, n = "zero" if isinstance(place, str) else ablating.MAIN, len(ablations.right[0])
    names = [name for name in dict.fromkeys(ablations.names) if name.split("=")[0] == str(place)]
    effects = {name.split("=")[1]: ablating.effect(ablations, name, seed=SEED + bench.seed) for name in names}
    main = effects[kind]
    # bot is a row of its own, no statement about a thought
    p = main.p if isinstance(place, str) else ablating.latents(ablations, bench.model.num_latents).drop_p[place]
    delta = effect_over({name: value / 100 for name, value in published.items()}, f"drop_{place}", 0.0, ablating.DROP_FLOOR)
    beside = {
        name: {"drop": ends(effect.drop), "log_probability": ends(effect.log_probability), "p": effect.p}
        for name, effect in effects.items()
    }
    return points(
        f"drop_{place}",
        main.drop,
        n,
        cell={"layer": None, "latent_pos": place},
        outcomes=ablations.rows(f"{place}={kind}")[0][0],
        detail={"replaced_by": kind, "effects": beside, "reference": ablations.reference},
        null=Null(0.0, p=p),
        verdict=ablating.drop_word(main.drop, p, n=n, delta=delta),
    )


@claim("ablation-critical", f"{SOURCE}, §3", kind="location", **ABLATION)
def ablation_critical(bench: Bench, published: Published) -> Protocols:
    """Some tokens are critical (GPT-2: 2 and 3) or none is (LLaMA)."""
    clean, zeroed = without_token(bench)
    summary = criticality(drops(clean, zeroed))
    cell = {"layer": None, "latent_pos": places(bench)[summary.position_index]}
    yield [measured("range", summary.range, len(clean), "points", cell=cell, detail={"no_interval": NO_INTERVAL})]
    ablations = sweep(bench)
    latents, n = ablating.latents(ablations, bench.model.num_latents), len(ablations.right[0])
    contrasts = [contrast.value for contrast in latents.contrasts]
    detail = {
        "no_interval": NO_BOUND,
        "critical": list(latents.critical),
        "contrasts": [ends(contrast) for contrast in latents.contrasts],
        "contrast_p": list(latents.contrast_p),
        "upper": list(latents.upper),
        "note": "critical latents: " + (", ".join(map(str, latents.critical)) or "none shown"),
    }
    found = {"cell": {"layer": None, "latent_pos": int(np.argmax(contrasts))}, "detail": detail, "null": Null(0.0, p=latents.q_p)}
    value = float(np.ptp([100 * drop.value for drop in latents.drops]))
    words = {name: ablating.critical_word if name == GPT2 else ablating.none_word for name in by_sentence(bench, "range")}
    yield [
        measured(metric, value, n, "points", verdict=words[name](latents, n=n), **found)
        for name, metric in by_sentence(bench, "range").items()
    ]
