"""Steering: a direction added to one thought, that leads from one value to another: how often does the answer follow?"""

from __future__ import annotations

from itertools import islice

import numpy as np

from codi_bench.audits import steering
from codi_bench.audits.patching import Patch
from codi_bench.audits.steering import Dose
from codi_bench.claims import runs
from codi_bench.claims.blocks import corrected
from codi_bench.claims.claim import SEED, Bench, Measured, Null, Protocols, Published, claim, ends, measured
from codi_bench.claims.open_questions import NO_ROWS, NUM_PAIRS, STEERED, STEPS, UNPUBLISHED
from codi_bench.errors import MeasureError
from codi_bench.measures.sae import Sae, train_topk_sae
from codi_bench.problems import Problem, generator
from codi_bench.rules.stats import stream

FAMILY = "edits"
NUM_TRAINING, TRAINING_SEED, FEWEST_KNOWN = 3000, 2, 20
TOPK_EPOCHS = 10
NAMES = {steering.MEAN: "mean", steering.PROBE: "probe", steering.SAE: "sae"}


@claim(
    "steering",
    STEERED,
    family=FAMILY,
    kind="exists",
    n=NUM_PAIRS,
    protocol=UNPUBLISHED,
    sound=(
        f"{NUM_PAIRS} pairs a step; directions from the recipient's value to the donor's, from {NUM_TRAINING} training problems: "
        "mean difference, probe weights, SAE features, all as long; place and strength chosen on half of the pairs; against a "
        "random direction there, exact McNemar, Holm over kinds and steps"
    ),
)
def steer(bench: Bench, published: Published) -> Protocols:
    """A direction added to one thought moves the answer to the value that was intended."""
    yield NO_ROWS
    by_metric = {f"follow_step{step}_{NAMES[dose.kind]}": dose for step in STEPS for dose in doses(bench, step)}
    p_values = corrected([dose.p for dose in by_metric.values()], FAMILY)
    yield [dose_row(metric, dose, p) for (metric, dose), p in zip(by_metric.items(), p_values, strict=True)]


def dose_row(metric: str, dose: Dose, p: float) -> Measured:
    """Follow rate of one kind of direction, at the place and strength that are best on the first half of the pairs."""
    detail = {
        "strength": dose.strength,
        "stay": ends(dose.stay),
        "neither": ends(dose.neither),
        "curve": {f"{strength:g}": rate for strength, rate in dose.curve.items()},
        "random_curve": {f"{strength:g}": rate for strength, rate in dose.random_curve.items()},
        "note": f"strength {dose.strength:g}; {100 * dose.neither.value:.0f} % neither",
    }
    cell, null = {"layer": None, "latent_pos": dose.place}, Null.at(dose.random, p)
    return measured(metric, dose.follow, dose.n, cell=cell, outcomes=dose.follows, detail=detail, null=null, verdict=dose.word(p))


def doses(bench: Bench, step: int) -> list[Dose]:
    """Every kind of direction at every place and strength, on the pairs whose two values are known from training problems."""
    rng, source = stream(SEED + bench.seed, "steer", str(step)), bench.problems
    pairs = source.pairs(NUM_PAIRS, step=step)
    drawn = islice(generator.stream(TRAINING_SEED, "train", limits=source.limits), NUM_TRAINING)
    training: list[Problem] = [problem for problem in drawn if problem.num_steps > step]
    latents = runs.latents(bench, training)[:, :-1]
    recipients = runs.latents(bench, [pair.recipient for pair in pairs])[:, :-1]
    values = np.array([p.values[step - 1] for p in training])
    examples = [steering.StepLatents(latents[:, place], values) for place in range(recipients.shape[1])]
    endpoints = [(pair.recipient.values[step - 1], pair.donor.values[step - 1]) for pair in pairs]
    usable = np.array([{*ends_of} <= examples[0].enough for ends_of in endpoints])
    if usable.sum() < FEWEST_KNOWN:
        raise MeasureError(f"of {len(usable)} pairs {int(usable.sum())} are about values with enough examples; give a larger --n")
    start, end = np.array(endpoints)[usable].T
    width, settings = recipients.shape[2], {"k": 8, "epochs": TOPK_EPOCHS, "seed": SEED + bench.seed}
    sae = bench.cached(Sae, train_topk_sae, latents.reshape(-1, width), features=4 * width, **settings)
    vectors, patches = dict[str, np.ndarray](), dict[tuple[str, int, float], Patch]()
    for place, known in enumerate(examples):
        for kind, direction in steering.directions(known, start, end, sae=sae, rng=rng).items():
            for strength in steering.STRENGTHS:
                name = f"{kind} x {strength:g} at {place}"
                vectors[name] = recipients.copy()
                vectors[name][usable, place] += np.float32(strength) * direction
                patches[kind, place, strength] = Patch(name, (place,))
    asked = list(patches.values())
    outcomes = runs.patched(bench, NUM_PAIRS, asked, step=step, seed=SEED + bench.seed, vectors=vectors)
    runs.check_patched(bench, outcomes, NUM_PAIRS, steps=[step])
    valid = outcomes.known & usable
    if valid.sum() < FEWEST_KNOWN:
        raise MeasureError(
            f"{valid.sum()} known pairs are about values with enough examples, {FEWEST_KNOWN} are needed: give a larger --n"
        )
    follows, stays = (dict(zip(patches, array[:, valid], strict=True)) for array in (outcomes.follows, outcomes.stays))
    return [steering.dose(kind, follows, stays) for kind in steering.KINDS]
