"""A lab journal on CODI-GPT-2 (github.com/GusSand/CoT_Exploration): what thoughts are needed for and what they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import pearsonr

from codi_bench.audits.ablation import CLEAN, DROP_FLOOR, Effect, check_controls, effect
from codi_bench.claims import hits, operations
from codi_bench.claims.ablations import NUM_ABLATED, PARITIES, every_kind, replaced
from codi_bench.claims.blocks import NO_DROP, PAIRED, corrected, drops, of_right, rate, rates
from codi_bench.claims.branches import Branches, branches
from codi_bench.claims.claim import (
    NOTHING_MORE,
    SEED,
    Bench,
    Null,
    Protocols,
    Published,
    claim,
    measured,
    once,
    points,
    without_word,
)
from codi_bench.claims.operations import FAMILY, NUM_OPERATIONS, STORIES, operation_cells
from codi_bench.models.conditions import Discretised
from codi_bench.rules.stats import newcombe_paired
from codi_bench.rules.validity import half_effect, sound_verdict
from codi_bench.thoughts.decoded import Decoded

SOURCE = "lab journal, github.com/GusSand/CoT_Exploration"
LOSS = f"loss against the clean run; {PAIRED}"
LATENTS: dict[str, Any] = {"family": "latents", "n": NUM_ABLATED}


@claim(
    "gs-necessity",
    SOURCE,
    kind="value",
    protocol=f"share of right answers, first {NUM_ABLATED} problems",
    sound="nothing more: see cap-ablate-all",
    answers="either",
    **LATENTS,
)
def necessity(bench: Bench, published: Published) -> Protocols:
    """With zeros for all latents right answers become wrong."""
    yield [rate("lost", ~of_right(replaced(bench), "zero"))]
    replaced(bench).checked()
    yield NOTHING_MORE


@claim(
    "gs-cumulative",
    SOURCE,
    kind="value",
    protocol=f"share of right answers, first {NUM_ABLATED} problems; zeros for the first i latents",
    sound="nothing more: it grows by construction, whatever a latent holds",
    answers="either",
    **LATENTS,
)
def cumulative(bench: Bench, published: Published) -> Protocols:
    """The more of the first latents are zero, the more right answers become wrong."""
    yield [rate(f"lost_{i}", ~of_right(replaced(bench), f"first_{i}")) for i in range(1, bench.model.num_latents)]
    replaced(bench).checked()
    yield NOTHING_MORE


@claim(
    "gs-number-positions",
    SOURCE,
    kind="value",
    protocol=f"zeros for the latents at even positions, which the head reads numbers in, and at odd ones, {NUM_ABLATED} problems",
    sound=LOSS,
    **LATENTS,
)
def number_positions(bench: Bench, published: Published) -> Protocols:
    """Zeros at the positions where numbers are read, or at the others, cost this much accuracy."""
    outcomes = replaced(bench).chosen(PARITIES)
    clean, zeroed = outcomes[CLEAN], {name: outcomes[name] for name in PARITIES if name in outcomes}
    yield [points(f"drop_{name}", newcombe_paired(clean, right), len(clean)) for name, right in zeroed.items()]
    accuracies = {name: 1 - published[f"drop_{name}"] / 100 for name in PARITIES if f"drop_{name}" in published}
    yield drops(outcomes.checked(), {CLEAN: 1.0, **accuracies}, family="latents")


@claim(
    "gs-resample",
    SOURCE,
    kind="value",
    protocol=f"one latent of another problem (there: at one layer), mean over donors, {NUM_ABLATED} problems",
    sound=(
        "loss against the clean run, mean over donors; exact McNemar of the first donor, Holm in the claim times the claims of "
        "the family"
    ),
    answers="either",
    **LATENTS,
)
def resampled(bench: Bench, published: Published) -> Protocols:
    """Another problem's latent costs this much, and at other positions than a zero."""
    effects, n = by_kind(bench, "resample"), len(every_kind(bench).right[0])
    values, zeros = ([each.drop.value for each in kind] for kind in (effects, by_kind(bench, "zero")))
    rows = [points(f"drop_{k}", each.drop, n) for k, each in enumerate(effects)]
    if len(set(values)) > 1 and len(set(zeros)) > 1:
        why = without_word("a correlation of a few positions has no valid interval")
        rows.append(measured("r", float(pearsonr(values, zeros).statistic), len(values), detail=why))
    yield rows
    check_controls(every_kind(bench))
    sound = []
    for k, (each, p) in enumerate(zip(effects, corrected([each.p for each in effects], "latents"), strict=True)):
        delta = half_effect(published.get(f"drop_{k}", 0) / 100 or None, DROP_FLOOR)
        word = sound_verdict(each.drop, delta=delta, p={NO_DROP: p}, marginal=NO_DROP, n=n)
        sound.append(points(f"drop_{k}", each.drop, n, null=Null(0.0, p=p), verdict=word))
    yield sound


def by_kind(bench: Bench, kind: str) -> list[Effect]:
    """What one kind of replacement does at each latent position."""
    return [effect(every_kind(bench), f"{k}={kind}", seed=SEED + bench.seed) for k in range(bench.model.num_latents)]


@once
def discretised(bench: Bench) -> Branches:
    """Right or wrong as published with words at no position, at odd ones, and at all."""
    every = tuple(range(bench.model.num_latents))
    places = {name: part for name, part in {CLEAN: (), "odd": every[1::2], "all": every}.items() if part or name == CLEAN}
    asked = [Discretised(part) for part in places.values()]
    return branches([*places], bench.answers(bench.problems.first(NUM_ABLATED), asked), scoring="published")


@claim(
    "gs-discretise",
    SOURCE,
    kind="value",
    protocol=(
        f"latents that are the projected embedding of the head's first word, at odd positions and at all, {NUM_ABLATED} problems"
    ),
    sound=LOSS,
    answers="either",
    **LATENTS,
)
def discretise(bench: Bench, published: Published) -> Protocols:
    """With words in place of thoughts accuracy falls."""
    yield rates(discretised(bench))
    yield drops(discretised(bench).checked(), published, family="latents")


@claim(
    "gs-operation-class",
    SOURCE,
    family=FAMILY,
    kind="value",
    n=NUM_OPERATIONS,
    protocol=(
        f"plus, minus or times; logistic regression, {NUM_OPERATIONS} problems, 480 to train; the first probed layer at "
        "latent positions 1 and 4, and all layers and positions together"
    ),
    sound=f"ridge classifier, {STORIES}; the best cell of each draw, times the claims of the family",
)
def operation_class(bench: Bench, published: Published) -> Protocols:
    """A probe tells which of three operations comes first."""
    at = {f"at_{place}": (place, 0) for place in (1, 4) if place < bench.model.num_latents}
    cells = operation_cells(bench, "+-*", bench.model.layers, {**at, "all": None})
    yield operations.on_one_split(bench, cells, operations.logistic, share=0.2)
    yield operations.on_other_stories(bench, cells, operations.least_squares, published, chance=1 / 3)


@claim(
    "gs-decode-numeric",
    SOURCE,
    kind="value",
    protocol=f"{hits.RIGHT}is the first word a number? (there: all problems)",
    sound="nothing more: judged by log-parity",
    **hits.DECODED,
)
def decode_numeric(bench: Bench, published: Published) -> Protocols:
    """The first word at a place is a number this often."""
    yield hits.number_rates(bench.decoded)
    yield NOTHING_MORE


@claim(
    "gs-table3",
    SOURCE,
    kind="value",
    protocol=f"{hits.RIGHT}by the number of steps, all of them counted",
    sound=hits.OTHERS,
    **hits.DECODED,
)
def table3(bench: Bench, published: Published) -> Protocols:
    """The results of all steps, the last too, are the first word at some place, or among the first five at an even one."""
    yield hits.hit_rates(bench, all_results)
    yield hits.hits_over_others(bench, all_results, published)


def all_results(decoded: Decoded) -> dict[str, np.ndarray]:
    tests = {f"top1_{m}": hits.with_final(decoded, m, first=1) for m in (1, 2, 3)}
    even = {f"even_top5_{m}": hits.with_final(decoded, m, first=5, places=slice(0, None, 2)) for m in (1, 2, 3)}
    return tests | even
