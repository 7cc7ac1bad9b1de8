"""The first study's question "can editing one thought steer the answer?", answered by experiment. Nothing was published on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from codi_bench.audits import patching, reading, steering
from codi_bench.audits.patching import Patched, Steered
from codi_bench.audits.reading import Hits, other_rows
from codi_bench.audits.steering import Dose
from codi_bench.claims.claim import Bench, Captured, Claim, Measured, Null
from codi_bench.claims.seed_sound import SEED, TOPK_EPOCHS, captured, ends, without_word
from codi_bench.errors import MeasureError
from codi_bench.measures.sae import Sae, train_topk_sae
from codi_bench.models.edits import Patch
from codi_bench.problems import generate
from codi_bench.stats import holm, mcnemar_exact, newcombe_paired, stream, wilson

SOURCE = "GPT-2 vs LLaMA CODI: Comparative Analysis, 2025-10-24, left open: can editing one thought steer the answer?"
UNPUBLISHED = "nothing was published"
STEPS = (1, 2)
NUM_PAIRS, NUM_FULL = 100, 300
NUM_TRAINING, TRAINING_SEED = 3000, 2
NUM_READ, NUM_CHOOSING, FEWEST_READ = 300, 200, 20
PATCHING = (
    f"{NUM_PAIRS} generated pairs a step that differ in one number, which that step alone uses; of them those whose two problems "
    "are answered rightly; {what}; the rate at which the answer becomes the donor's, over the highest rate of the controls: a "
    "donor with the same value there, a problem of like length{noise}; exact McNemar against each, {corrected}"
)


def unpublished(bench: Bench) -> list[Measured]:
    """What a claim measures whose source printed no number."""
    return []


def patched(bench: Bench, step: int) -> Patched:
    """All pairs of a step under every patch, checked."""

    def compute():
        found = bench.patched(NUM_PAIRS, patching.patches(bench.num_latents), step=step, seed=SEED + bench.seed)
        patching.check_self(found)
        return found

    return bench.once(f"patched {step}", compute)


def patch_latent(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Follow rate of each latent position and step."""
    return _rows(bench, [(k,) for k in range(bench.num_latents)])


def patch_keys(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same where only what later inputs attend to is another."""
    return _rows(bench, [(k,) for k in range(bench.num_latents)], keys_only=True)


def patch_all(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Follow rate of each step where all latents are the donor's."""
    return _rows(bench, [tuple(range(bench.num_latents))])


def _rows(bench: Bench, sets: Sequence[tuple[int, ...]], *, keys_only: bool = False) -> list[Measured]:
    """A row a step and set of places, tested together."""
    asked = [(step, patched(bench, step), places) for step in STEPS for places in sets]
    found = patching.steered([(pairs, places) for _, pairs, places in asked], keys_only=keys_only)
    names = [f"follow_step{step}" + (f"_{places[0]}" if len(places) == 1 else "") for step, _, places in asked]
    return [_row(name, each) for name, each in zip(names, found, strict=True)]


def _row(metric: str, found: Steered, **detail) -> Measured:
    places = found.patch.places
    strictest = max(found.controls.values(), key=lambda rate: rate.value)
    return Measured(
        metric,
        found.follow.value,
        len(found.follows),
        "fraction",
        found.follow.low,
        found.follow.high,
        cell={"layer": None, "latent_pos": places[0]} if len(places) == 1 else None,
        outcomes=found.follows,
        detail={
            "stay": ends(found.stay),
            "neither": ends(found.neither),
            "controls": {name: ends(rate) for name, rate in found.controls.items()},
            "p": found.p,
            **detail,
        },
        null=Null(strictest.value, strictest.low, strictest.high, max(found.p.values())),
        verdict=patching.steered_word(found),
    )


def patch_sets(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Follow rate of the first k and of the last k positions, and of the pair that is best on the first half of the pairs."""
    count = bench.num_latents
    every = tuple(range(count))
    ends_of = [every[:k] for k in range(1, count)] + [every[count - k :] for k in range(1, count)]
    found, rows = {}, []
    for step in STEPS:
        asked = patching.patches(count, full=True)
        found[step] = bench.patched(NUM_FULL, asked, step=step, seed=SEED + bench.seed)
        patching.check_self(found[step])
    tests = [(step, places) for step in STEPS for places in ends_of]
    for (step, places), each in zip(tests, patching.steered([(found[step], places) for step, places in tests]), strict=True):
        side, number = ("left", len(places)) if places[0] == 0 else ("right", len(places))
        rows.append(_row(f"{side}_step{step}_{number}", each))
    for step in STEPS:
        first, second = found[step].halves()
        pairs = list(combinations(every, 2))
        best = max(pairs, key=lambda places: int(first.of(patching.DONOR, places)[0].sum()))
        (each,) = patching.steered([(second, best)])
        rates = {",".join(map(str, places)): float(found[step].of(patching.DONOR, places)[0].mean()) for places in pairs}
        rows.append(_row(f"pair_step{step}", each, note=f"latents {best[0]} and {best[1]}", pairs=rates))
    return rows


def steer(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Follow rate of each kind of direction, at the place and strength that are best on the first half of the pairs."""
    doses = [(step, each) for step in STEPS for each in _doses(bench, step)]
    p = holm([each.p for _, each in doses])
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
    pairs, training = bench.pairs(NUM_FULL, step=step), generate(NUM_TRAINING, seed=TRAINING_SEED, split="train")
    training = [problem for problem in training if problem.num_steps > step]
    latents = bench.latents(training)[:, :-1]
    own = bench.latents([pair.recipient for pair in pairs])[:, :-1]
    known = [steering.Known(latents[:, place], np.array([p.values[step - 1] for p in training])) for place in range(own.shape[1])]
    ends_of = [(pair.recipient.values[step - 1], pair.donor.values[step - 1]) for pair in pairs]
    kept = np.array([{*both} <= known[0].enough for both in ends_of])
    if kept.sum() < FEWEST_READ:
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
    follows = {tuple(key): found.follows[i, counted] for i, (*key, _) in enumerate(patches)}
    stays = {tuple(key): found.stays[i, counted] for i, (*key, _) in enumerate(patches)}
    return [steering.dose(kind, follows, stays) for kind in steering.KINDS]


def early_answer(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Accuracy after the first k latents, and whether they are enough."""
    right = bench.early(NUM_READ)
    full = right[-1]
    p = holm([mcnemar_exact(full, each, "greater") for each in right[:-1]])
    rows = []
    for k, each in enumerate(right):
        rate, loss = wilson(int(each.sum()), len(each)), newcombe_paired(full, each)
        last = k == len(right) - 1
        rows.append(
            Measured(
                f"accuracy_{k}",
                rate.value,
                len(each),
                "fraction",
                rate.low,
                rate.high,
                outcomes=each,
                detail={"loss": ends(loss)} | (without_word("all latents: what the others are compared with") if last else {}),
                null=None if last else Null(float(full.mean()), p=float(p[k])),
                verdict=None if last else reading.enough_word(full, each, float(p[k])),
            )
        )
    return rows


def lens(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Hit rate of the value of each step at the cell that was best on other problems."""
    found = captured(bench)
    asked = [_hits(bench, found, step) for step in STEPS]
    p = holm([each.p for each in asked])
    rows = []
    for step, each, corrected in zip(STEPS, asked, p):
        place = "bot" if each.place == 0 else each.place - 1
        rows.append(
            Measured(
                f"hit_step{step}",
                each.hit.value,
                len(each.hits),
                "fraction",
                each.hit.low,
                each.hit.high,
                cell={"layer": each.layer, "latent_pos": place},
                outcomes=each.hits,
                detail={"rate": each.rate.tolist(), "gain": ends(each.gain)},
                null=Null(each.shuffled.value, each.shuffled.low, each.shuffled.high, float(corrected)),
                verdict=reading.hit_word(each, float(corrected)),
            )
        )
    return rows


def _hits(bench: Bench, found: Captured, step: int) -> Hits:
    """The first problems that have the step choose the cell, the next ones are scored there."""
    rows = [i for i, problem in enumerate(found.problems) if problem.num_steps > step][: NUM_CHOOSING + NUM_READ]
    if len(rows) < 2 * FEWEST_READ:
        raise MeasureError(
            f"{len(rows)} problems have a step after step {step}; {2 * FEWEST_READ} are needed: give more problems"
        )
    problems = [found.problems[i] for i in rows]
    values = [problem.values[step - 1] for problem in problems]
    other = other_rows(values, seed=SEED + bench.seed)
    words = [(f"{values[i]:g}", f"{values[j]:g}") for i, j in enumerate(other)]
    ranks = bench.lens(problems, found.hidden_states[rows], words)
    middle = min(NUM_CHOOSING, len(rows) // 2)
    cell = reading.choose_cell(ranks[:middle, ..., 0])
    return reading.hits(ranks[middle:, ..., 0], ranks[middle:, ..., 1], cell)


CLAIMS = (
    Claim(
        "patch-latent",
        "edits",
        "exists",
        "Putting another problem's latent at one position turns the answer into the one that its value would give.",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        PATCHING.format(
            what="one latent is the donor's",
            noise=", a random vector of equal norm",
            corrected="Holm over both steps and all positions",
        ),
        patch_latent,
    ),
    Claim(
        "patch-keys",
        "edits",
        "exists",
        "Another problem's keys and values at one latent position turn the answer; the thought itself goes on as it was.",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        PATCHING.format(
            what="keys and values of one latent position are the donor's",
            noise="",
            corrected="Holm over both steps and all positions",
        ),
        patch_keys,
    ),
    Claim(
        "patch-all",
        "edits",
        "exists",
        "Putting all of another problem's latents in turns the answer: what thoughts carry is enough.",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        PATCHING.format(
            what="all latents are the donor's", noise=", random vectors of equal norm", corrected="Holm over both steps"
        ),
        patch_all,
    ),
    Claim(
        "early-answer",
        "edits",
        "none",
        "The answer is settled before the last latent: after k latents it is as often right.",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        f"{NUM_READ} problems; eot is fed after the first k latents; loss against all latents, exact McNemar, Holm over k; "
        "enough where the loss is surely below 5 points",
        early_answer,
    ),
    Claim(
        "lens",
        "edits",
        "exists",
        "The head reads intermediate values in the states of the thoughts (logit lens).",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        f"the value of a step is the first of all ids, final norm before the head; cell of place and layer (the projected "
        f"thought too) chosen on {NUM_CHOOSING} problems and scored on {NUM_READ} others; against another problem's value there, "
        "exact McNemar, Holm over the steps",
        lens,
    ),
    Claim(
        "patch-sets",
        "edits",
        "exists",
        "Another problem's latents at the first k, the last k or two positions turn the answer.",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        PATCHING.replace(str(NUM_PAIRS), str(NUM_FULL), 1).format(
            what="the first or last k latents are the donor's, or two, chosen on half of the pairs",
            noise=", random vectors of equal norm",
            corrected="Holm over steps and sets",
        ),
        patch_sets,
        slow=True,
    ),
    Claim(
        "steering",
        "edits",
        "exists",
        "A direction added to one thought moves the answer to the value that was intended.",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        f"{NUM_FULL} pairs a step; directions from the recipient's value to the donor's, from {NUM_TRAINING} training problems: "
        "mean difference, probe weights, SAE features, all as long; place and strength chosen on half of the pairs; against a "
        "random direction there, exact McNemar, Holm over kinds and steps",
        steer,
        slow=True,
    ),
)
