"""Steering: a direction added to one thought, that leads from one value to another: how often does the answer follow?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import cast

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
from codi_bench.problems import Problem, generator
from codi_bench.rules.stats import stream
from codi_bench.rules.validity import across_claims

NUM_TRAINING, TRAINING_SEED, FEWEST_KNOWN = 3000, 2, 20


def steer(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Follow rate of each kind of direction, at the place and strength that are best on the first half of the pairs."""
    doses = [(step, dose) for step in STEPS for dose in _doses(bench, step)]
    p = across_claims([dose.p for _, dose in doses], NUM_CLAIMS)
    rows = []
    for (step, dose), corrected in zip(doses, p, strict=True):
        name = {steering.MEAN: "mean", steering.PROBE: "probe", steering.SAE: "sae"}[dose.kind]
        rows.append(
            Measured(
                f"follow_step{step}_{name}",
                dose.follow.value,
                dose.n,
                "fraction",
                dose.follow.low,
                dose.follow.high,
                cell={"layer": None, "latent_pos": dose.place},
                outcomes=dose.follows,
                detail={
                    "strength": dose.strength,
                    "stay": ends(dose.stay),
                    "neither": ends(dose.neither),
                    "curve": {f"{strength:g}": rate for strength, rate in dose.curve.items()},
                    "random_curve": {f"{strength:g}": rate for strength, rate in dose.random_curve.items()},
                    "note": f"strength {dose.strength:g}; {100 * dose.neither.value:.0f} % neither",
                },
                null=Null(dose.random.value, dose.random.low, dose.random.high, float(corrected)),
                verdict=dose.word(float(corrected)),
            )
        )
    return rows


def _doses(bench: Bench, step: int) -> list[Dose]:
    """Every kind of direction at every place and strength, on the pairs whose two values are known from training problems."""
    rng = stream(SEED + bench.seed, "steer", str(step))
    pairs = bench.pairs(NUM_FULL, step=step)
    training: Iterable[Problem] = islice(generator.stream(TRAINING_SEED, "train", limits=bench.limits), NUM_TRAINING)
    training = [problem for problem in training if problem.num_steps > step]
    latents = bench.latents(training)[:, :-1]
    recipients = bench.latents([pair.recipient for pair in pairs])[:, :-1]
    examples_at = [
        steering.StepLatents(latents[:, place], np.array([p.values[step - 1] for p in training]))
        for place in range(recipients.shape[1])
    ]
    endpoints = [(pair.recipient.values[step - 1], pair.donor.values[step - 1]) for pair in pairs]
    usable = np.array([{*values} <= examples_at[0].enough for values in endpoints])
    if usable.sum() < FEWEST_KNOWN:
        raise MeasureError(f"of {len(usable)} pairs {int(usable.sum())} are about values with enough examples; give a larger --n")
    start, end = np.array(endpoints)[usable].T
    width = recipients.shape[2]
    sae = bench.kept(
        Sae, train_topk_sae, latents.reshape(-1, width), features=4 * width, k=8, epochs=TOPK_EPOCHS, seed=SEED + bench.seed
    )
    vectors, patches = {}, []
    for place, examples in enumerate(examples_at):
        for kind, direction in steering.directions(examples, start, end, sae=sae, rng=rng).items():
            for strength in steering.STRENGTHS:
                name = f"{kind} x {strength:g} at {place}"
                vectors[name] = recipients.copy()
                vectors[name][usable, place] += np.float32(strength) * direction
                patches.append((kind, place, strength, Patch(name, (place,))))
    outcomes = bench.patched(NUM_FULL, [patch for *_, patch in patches], step=step, seed=SEED + bench.seed, vectors=vectors)
    valid = outcomes.known & usable
    if valid.sum() < FEWEST_KNOWN:
        raise MeasureError(
            f"{valid.sum()} known pairs are about values with enough examples, {FEWEST_KNOWN} are needed: give a larger --n"
        )
    follows = {cast("tuple[str, int, float]", tuple(key)): outcomes.follows[i, valid] for i, (*key, _) in enumerate(patches)}
    stays = {cast("tuple[str, int, float]", tuple(key)): outcomes.stays[i, valid] for i, (*key, _) in enumerate(patches)}
    return [steering.dose(kind, follows, stays) for kind in steering.KINDS]
