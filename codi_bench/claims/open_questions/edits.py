"""Patching: another problem's thoughts, or keys and values, put in: how often does the answer follow?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from codi_bench.audits import patching
from codi_bench.audits.patching import DONOR, PatchOutcomes, Steered
from codi_bench.claims import runs
from codi_bench.claims.claim import SEED, Bench, Measured, Null, Protocols, Published, claim, ends, measured, once
from codi_bench.claims.families import budget_of
from codi_bench.claims.open_questions import NO_ROWS, NUM_PAIRS, STEERED, STEPS, UNPUBLISHED

FAMILY = "edits"
PATCHING = (
    f"{NUM_PAIRS} generated pairs a step that differ in one number, which that step alone uses; of them those whose two problems "
    "are answered rightly; {what}; the rate at which the answer becomes the donor's, over the highest rate of the controls: a "
    "donor with the same value there, a problem of like length{noise}; exact McNemar against each, {corrected}"
)
PLACES = "Holm over both steps and all positions"
EDITS: dict[str, Any] = {"family": FAMILY, "kind": "exists", "protocol": UNPUBLISHED}
Test = tuple[str, PatchOutcomes, Sequence[int]]  # metric, pairs, places


@once
def patched(bench: Bench, step: int) -> PatchOutcomes:
    """All pairs of a step under every patch, checked."""
    patches = patching.patches(bench.model.num_latents)
    outcomes = runs.patched(bench, NUM_PAIRS, patches, step=step, seed=SEED + bench.seed)
    runs.check_patched(bench, outcomes, NUM_PAIRS, steps=[step])
    return outcomes


def each_place(bench: Bench) -> list[Test]:
    count = bench.model.num_latents
    return [(f"follow_step{step}_{k}", patched(bench, step), (k,)) for step in STEPS for k in range(count)]


def follow_rates(
    tests: Sequence[Test], *, family: str = FAMILY, keys_only: bool = False, detail: dict[str, dict[str, Any]] | None = None
) -> list[Measured]:
    """A row a test, over its controls: steps and sets of places are corrected together."""
    budget = budget_of(family)
    found = patching.steered([(pairs, places) for _, pairs, places in tests], keys_only=keys_only, budget=budget)
    return [steered_row(name, rate, **(detail or {}).get(name, {})) for (name, *_), rate in zip(tests, found, strict=True)]


def steered_row(metric: str, found: Steered, **detail: Any) -> Measured:
    places = found.patch.places
    strictest = max(found.controls.values(), key=lambda rate: rate.value)
    detail |= {
        "stay": ends(found.stay),
        "neither": ends(found.neither),
        "controls": {name: ends(rate) for name, rate in found.controls.items()},
        "controls_stay": found.controls_stay,
        "p": found.p,
    }
    return measured(
        metric,
        found.follow,
        len(found.follows),
        cell={"layer": None, "latent_pos": places[0]} if len(places) == 1 else None,
        outcomes=found.follows,
        detail=detail,
        null=Null.at(strictest, max(found.p.values())),
        verdict=patching.steered_word(found),
    )


@claim(
    "patch-latent",
    STEERED,
    n=NUM_PAIRS,
    sound=PATCHING.format(what="one latent is the donor's", noise=", a random vector of equal norm", corrected=PLACES),
    **EDITS,
)
def patch_latent(bench: Bench, published: Published) -> Protocols:
    """Putting another problem's latent at one position turns the answer into the one that its value would give."""
    yield NO_ROWS
    yield follow_rates(each_place(bench))


@claim(
    "patch-keys",
    STEERED,
    n=NUM_PAIRS,
    sound=PATCHING.format(what="keys and values of one latent position are the donor's", noise="", corrected=PLACES),
    **EDITS,
)
def patch_keys(bench: Bench, published: Published) -> Protocols:
    """Another problem's keys and values at one latent position turn the answer; the thought itself stays unchanged."""
    yield NO_ROWS
    yield follow_rates(each_place(bench), keys_only=True)


@claim(
    "patch-all",
    STEERED,
    n=NUM_PAIRS,
    sound=PATCHING.format(
        what="all latents are the donor's", noise=", random vectors of equal norm", corrected="Holm over both steps"
    ),
    **EDITS,
)
def patch_all(bench: Bench, published: Published) -> Protocols:
    """Feeding all of another problem's latents turns the answer: what thoughts carry is enough."""
    yield NO_ROWS
    every = tuple(range(bench.model.num_latents))
    yield follow_rates(
        [(f"follow_step{step}" + ("_0" if len(every) == 1 else ""), patched(bench, step), every) for step in STEPS]
    )


@claim(
    "patch-sets",
    STEERED,
    n=NUM_PAIRS,
    sound=PATCHING.format(
        what="the first or last k latents are the donor's, or two, chosen on half of the pairs",
        noise=", random vectors of equal norm",
        corrected="Holm over steps and sets",
    ),
    **EDITS,
)
def patch_sets(bench: Bench, published: Published) -> Protocols:
    """Another problem's latents at the first k, the last k or two positions turn the answer."""
    yield NO_ROWS
    count = bench.model.num_latents
    every, patches = tuple(range(count)), patching.patches(count, full=True)
    ends_of = {f"left_step{{}}_{k}": every[:k] for k in range(1, count)}
    ends_of |= {f"right_step{{}}_{k}": every[count - k :] for k in range(1, count)}
    outcomes = {step: runs.patched(bench, NUM_PAIRS, patches, step=step, seed=SEED + bench.seed) for step in STEPS}
    for step, found in outcomes.items():
        runs.check_patched(bench, found, NUM_PAIRS, steps=[step])
    tests: list[Test] = [(name.format(step), outcomes[step], part) for step in STEPS for name, part in ends_of.items()]
    detail = {}
    for step, found in outcomes.items():
        first, second = found.halves()  # two positions are chosen on the first half of the pairs, and counted on the other
        pairs = list(combinations(every, 2))
        best = max(pairs, key=lambda places: int(first.of(DONOR, places)[0].sum()))
        rates = {",".join(map(str, places)): float(found.of(DONOR, places)[0].mean()) for places in pairs}
        detail[f"pair_step{step}"] = {"note": f"latents {best[0]} and {best[1]}", "pairs": rates}
        tests.append((f"pair_step{step}", second, best))
    yield follow_rates(tests, detail=detail)
