"""Runs in which latents are replaced: one place by every kind, several places at a time, or the own thoughts in another order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codi_bench.audits import ablation as ablating
from codi_bench.audits.ablation import CLEAN, SELF, Sweep
from codi_bench.claims import runs
from codi_bench.claims.blocks import constant
from codi_bench.claims.branches import Branches, branches, failure_of
from codi_bench.claims.claim import SEED, Bench, Outcomes, once
from codi_bench.claims.families import FAMILIES
from codi_bench.errors import MeasureError
from codi_bench.models.conditions import Edited, Fed
from codi_bench.models.edits import BOT, Edit, direct
from codi_bench.problems import Problem
from codi_bench.rules.stats import stream

NUM_ABLATED = FAMILIES["latents"].n  # problems, under every kind of replacement
NUM_CONTROLS, NUM_BESIDE = 400, 200  # of the first ones: what checks or explains the main replacements need not decide
KINDS = ("zero", "mean", "noise")
PARITIES = "even", "odd"  # of latent positions
ZERO, NORMAL = "zero", "normal"  # what may be fed in the place of a thought
CHANGED = 0.02  # of the answers, where thoughts that half precision rounds otherwise in another batch are fed again


@once
def sweep(bench: Bench) -> Sweep:
    """Every place replaced, by the main kind on as many problems as decide, beside it on the first ones; checked."""
    problems, count = bench.problems.sample(FAMILIES["ablation"].n, edited=True), bench.model.num_latents
    parts = [(len(problems), main_conditions(count)), (NUM_CONTROLS, controls(count)), (NUM_BESIDE, other_kinds(count))]
    ablations = swept(bench, [(problems[:n], conditions) for n, conditions in parts])
    ablating.check_controls(ablations)  # the sound protocol alone asks for them
    return ablations


@once
def every_kind(bench: Bench) -> Sweep:
    """Every place replaced in every way on the same problems; `check_controls` is for the sound protocol."""
    count = bench.model.num_latents
    conditions = main_conditions(count) + controls(count) + other_kinds(count)
    return swept(bench, [(bench.problems.first(NUM_ABLATED), conditions)])


def swept(bench: Bench, parts: Sequence[tuple[Sequence[Problem], Sequence[tuple[str, list[Edit]]]]]) -> Sweep:
    """Named conditions on the problems of each part."""
    runs = [edited(bench, [edits for _, edits in conditions], problems) for problems, conditions in parts]
    return Sweep(
        tuple(name for _, conditions in parts for name, _ in conditions),
        [right for run in runs for right in run.right()],
        [row for run in runs if run.log_probability is not None for row in run.log_probability],
        runs[0].reference,
        float(constant([problem.answer for problem in runs[0].problems]).mean()),
    )


def edited(bench: Bench, edits: Sequence[Sequence[Edit]], problems: Sequence[Problem] | None = None) -> Outcomes:
    """Problems (by default the first ones) under sets of edits, none of them for the clean run."""
    asked = [Edited(tuple(each)) for each in edits]
    return bench.answers(problems or bench.problems.first(NUM_ABLATED), asked, log_probability=True, seed=SEED + bench.seed)


def main_conditions(num_latents: int) -> list[tuple[str, list[Edit]]]:
    """The clean run, each latent replaced by the main kind, and bot by zeros: it is its own mean."""
    main = ablating.MAIN
    named: list[tuple[str, list[Edit]]] = [(CLEAN, []), (f"{BOT}=zero", [Edit(BOT, "zero")])]
    return named + [(f"{place}={main}", [Edit(place, main)]) for place in range(num_latents)]


def controls(num_latents: int) -> list[tuple[str, list[Edit]]]:
    """All latents replaced by themselves and by the main kind, and its direct effects."""
    main = ablating.MAIN
    direct_effects = [(f"{place}={main} direct", direct(Edit(place, main), num_latents)) for place in range(num_latents)]
    return [(SELF, [Edit("all", "self")]), (ablating.ALL, [Edit("all", main)]), *direct_effects]


def other_kinds(num_latents: int) -> list[tuple[str, list[Edit]]]:
    """Each place replaced by every other kind; another problem's latent by several draws, another problem's bot is itself."""
    kinds = [
        kind for kind in ablating.KINDS if kind != ablating.MAIN for _ in range(ablating.DONORS if kind == "resample" else 1)
    ]
    named = [(f"{BOT}=noise", [Edit(BOT, "noise")])]
    return named + [(f"{place}={kind}", [Edit(place, kind)]) for place in range(num_latents) for kind in kinds]


@once
def replaced(bench: Bench) -> Branches:
    """All latents replaced, the first ones by zeros, every other one, and the last two by noise."""
    count = bench.model.num_latents
    edits: dict[str, list[Edit]] = {CLEAN: [], SELF: [Edit("all", "self")]} | {kind: [Edit("all", kind)] for kind in KINDS}
    edits |= {f"first_{i}": [Edit(k, "zero") for k in range(i)] for i in range(1, count)}
    edits |= {
        name: zeros for name, start in zip(PARITIES, (0, 1)) if (zeros := [Edit(k, "zero") for k in range(start, count, 2)])
    }
    edits["last_two"] = [Edit(k, "noise") for k in range(max(0, count - 2), count)]
    right = branches([*edits], edited(bench, list(edits.values())), same=[SELF])
    if (right[SELF] != right[CLEAN]).any():
        return Branches(right, MeasureError("a control fails: replacing every latent by itself changes an answer"))
    return right


def by_place(bench: Bench) -> Branches:
    """One latent replaced, by kind and position, and the clean run."""
    ablations, count = every_kind(bench), bench.model.num_latents
    outcomes = {f"{kind}_{k}": ablations.rows(f"{k}={kind}")[0][0] for kind in KINDS for k in range(count)}
    right = {CLEAN: ablations.rows(CLEAN)[0][0], **outcomes}
    return Branches(right, failure_of(ablating.check_controls, ablations))


@once
def rearranged(bench: Bench) -> Branches:
    """The own thoughts fed in other arrangements."""
    count, rng = bench.model.num_latents, stream(SEED + bench.seed, "another order")
    if count < 2:
        raise MeasureError(f"another order needs two latents, {bench.model.name} has {count}")
    every = tuple(range(count))
    permutation = next(shuffle for shuffle in iter(lambda: tuple(rng.permutation(count).tolist()), None) if shuffle != every)
    arrangements: dict[str, tuple[int | str, ...]] = {CLEAN: every, "permuted": permutation, "reversed": every[::-1]}
    arrangements |= {"first_half": every[: count // 2], "last_half": every[count // 2 :], "even": every[::2], "odd": every[1::2]}
    arrangements |= {"zero_single": (ZERO,), "zero_repeat": (ZERO,) * count, "normal_repeat": (NORMAL,) * count}
    arrangements |= {f"single_{k}": (k,) for k in every} | {f"repeat_{k}": (k,) * count for k in every}
    problems = bench.problems.first(NUM_ABLATED)
    thoughts = runs.latents(bench, problems)
    fed = [Fed(arrange(thoughts, arrangement, seed=SEED + bench.seed)) for arrangement in arrangements.values()]
    outcomes = branches([*arrangements], bench.answers(problems, fed, seed=SEED + bench.seed))
    right = runs.captured(bench, NUM_ABLATED).right
    num_changed = int((outcomes[CLEAN] != right).sum())
    if num_changed > CHANGED * len(right):
        why = f"a control fails: the own thoughts, fed again in their order, change {num_changed} of {len(right)} answers"
        return Branches(outcomes, MeasureError(why))
    return outcomes


def arrange(latents: np.ndarray, arrangement: Sequence[int | str], *, seed: int) -> np.ndarray:
    """What is fed one after the other, before eot: the latent of a position, ZERO, or NORMAL (N(0, 1)); float32 [n, k, d]."""
    shape = latents[:, 0].shape
    draws = iter(stream(seed, "refed", *map(str, arrangement)).standard_normal((len(arrangement), *shape)))

    def vector(place: int | str) -> np.ndarray:
        if place == ZERO:
            return np.zeros_like(latents[:, 0])
        return next(draws).astype(np.float32) if isinstance(place, str) else latents[:, place]

    return np.stack([vector(place) for place in arrangement], axis=1)
