"""Patching: another problem's thoughts, or keys and values, put in: how often does the answer follow?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from codi_bench.audits import patching
from codi_bench.audits.patching import PatchOutcomes, Steered
from codi_bench.claims.claim import Bench, Measured, Null
from codi_bench.claims.seed_sound import SEED, ends

STEPS = (1, 2)
NUM_PAIRS, NUM_FULL = 100, 300


def patched(bench: Bench, step: int) -> PatchOutcomes:
    """All pairs of a step under every patch, checked."""

    def compute():
        outcomes = bench.patched(NUM_PAIRS, patching.patches(bench.num_latents), step=step, seed=SEED + bench.seed)
        patching.check_self(outcomes)
        return outcomes

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
    tests = [(step, patched(bench, step), places) for step in STEPS for places in sets]
    follow_rates = patching.steered([(pairs, places) for _, pairs, places in tests], keys_only=keys_only)
    names = [f"follow_step{step}" + (f"_{places[0]}" if len(places) == 1 else "") for step, _, places in tests]
    return [steered_row(name, rate) for name, rate in zip(names, follow_rates, strict=True)]


def steered_row(metric: str, found: Steered, **detail) -> Measured:
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
            "controls_stay": found.controls_stay,
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
    end_sets = [every[:k] for k in range(1, count)] + [every[count - k :] for k in range(1, count)]
    outcomes = {}
    for step in STEPS:
        patches = patching.patches(count, full=True)
        outcomes[step] = bench.patched(NUM_FULL, patches, step=step, seed=SEED + bench.seed)
        patching.check_self(outcomes[step])
    cumulative = [
        (f"{'left' if places[0] == 0 else 'right'}_step{step}_{len(places)}", outcomes[step], places)
        for step in STEPS
        for places in end_sets
    ]
    best_tests, details = [], {}
    for step in STEPS:
        first, second = outcomes[step].halves()
        pairs = list(combinations(every, 2))
        best = max(pairs, key=lambda places: int(first.of(patching.DONOR, places)[0].sum()))
        rates = {",".join(map(str, places)): float(outcomes[step].of(patching.DONOR, places)[0].mean()) for places in pairs}
        best_tests.append((f"pair_step{step}", second, best))
        details[f"pair_step{step}"] = {"note": f"latents {best[0]} and {best[1]}", "pairs": rates}
    tests = [*cumulative, *best_tests]
    follow_rates = patching.steered([(pairs, places) for _, pairs, places in tests])
    return [steered_row(name, rate, **details.get(name, {})) for (name, *_), rate in zip(tests, follow_rates, strict=True)]
