"""Steering: a direction added to one thought, that leads from one value to another: how often does the answer follow?"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import numpy as np

from codi_bench.audits import steering
from codi_bench.audits.patching import NUM_CLAIMS
from codi_bench.audits.steering import Dose
from codi_bench.claims.claim import Bench, Measured, Null
from codi_bench.claims.own_edits import NUM_FULL, STEPS
from codi_bench.claims.seed_sound import SEED, TOPK_EPOCHS, ends
from codi_bench.errors import MeasureError
from codi_bench.measures.sae import Sae, train_topk_sae
from codi_bench.models.edits import Patch
from codi_bench.problems import generator
from codi_bench.rules.stats import stream
from codi_bench.rules.validity import across_claims

NUM_TRAINING, TRAINING_SEED, FEWEST_KNOWN = 3000, 2, 20


def steer(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Follow rate of each kind of direction, at the place and strength that are best on the first half of the pairs."""
    doses = [(step, each) for step in STEPS for each in _doses(bench, step)]
    p = across_claims([each.p for _, each in doses], NUM_CLAIMS)
    rows = []
    for (step, each), corrected in zip(doses, p, strict=True):
        name = {steering.MEAN: "mean", steering.PROBE: "probe", steering.SAE: "sae"}[each.kind]
        rows.append(
            Measured(
                f"follow_step{step}_{name}",
                each.follow.value,
                each.n,
                "fraction",
                each.follow.low,
                each.follow.high,
                cell={"layer": None, "latent_pos": each.place},
                outcomes=each.follows,
                detail={
                    "strength": each.strength,
                    "stay": ends(each.stay),
                    "neither": ends(each.neither),
                    "curve": {f"{strength:g}": rate for strength, rate in each.curve.items()},
                    "random_curve": {f"{strength:g}": rate for strength, rate in each.random_curve.items()},
                    "note": f"strength {each.strength:g}; {100 * each.neither.value:.0f} % neither",
                },
                null=Null(each.random.value, each.random.low, each.random.high, float(corrected)),
                verdict=each.word(float(corrected)),
            )
        )
    return rows


def _doses(bench: Bench, step: int) -> list[Dose]:
    """Every kind of direction at every place and strength, on the pairs whose two values are known from training problems."""
    rng = stream(SEED + bench.seed, "steer", str(step))
    pairs = bench.pairs(NUM_FULL, step=step)
    training = islice(generator.stream(TRAINING_SEED, "train", limits=bench.limits), NUM_TRAINING)
    training = [problem for problem in training if problem.num_steps > step]
    latents = bench.latents(training)[:, :-1]
    own = bench.latents([pair.recipient for pair in pairs])[:, :-1]
    known = [steering.Known(latents[:, place], np.array([p.values[step - 1] for p in training])) for place in range(own.shape[1])]
    ends_of = [(pair.recipient.values[step - 1], pair.donor.values[step - 1]) for pair in pairs]
    kept = np.array([{*both} <= known[0].enough for both in ends_of])
    if kept.sum() < FEWEST_KNOWN:
        raise MeasureError(f"of {len(kept)} pairs {int(kept.sum())} are about values with enough examples; give a larger --n")
    start, end = np.array(ends_of)[kept].T
    width = own.shape[2]
    sae = bench.kept(
        Sae, train_topk_sae, latents.reshape(-1, width), features=4 * width, k=8, epochs=TOPK_EPOCHS, seed=SEED + bench.seed
    )
    vectors, patches = {}, []
    for place, each in enumerate(known):
        for kind, way in steering.directions(each, start, end, sae=sae, rng=rng).items():
            for strength in steering.STRENGTHS:
                name = f"{kind} x {strength:g} at {place}"
                vectors[name] = own.copy()
                vectors[name][kept, place] += np.float32(strength) * way
                patches.append((kind, place, strength, Patch(name, (place,))))
    found = bench.patched(NUM_FULL, [patch for *_, patch in patches], step=step, seed=SEED + bench.seed, vectors=vectors)
    counted = found.known & kept
    if counted.sum() < FEWEST_KNOWN:
        raise MeasureError(
            f"{counted.sum()} known pairs are about values with enough examples, {FEWEST_KNOWN} are needed: give a larger --n"
        )
    follows = {tuple(key): found.follows[i, counted] for i, (*key, _) in enumerate(patches)}
    stays = {tuple(key): found.stays[i, counted] for i, (*key, _) in enumerate(patches)}
    return [steering.dose(kind, follows, stays) for kind in steering.KINDS]
