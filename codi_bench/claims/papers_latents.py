"""Latents left out, replaced and fed in another order: what published studies did to some or all of them, and to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from scipy.stats import pearsonr

from codi_bench.audits import reading
from codi_bench.audits.ablation import CLEAN, DROP_FLOOR, SELF, Effect, effect
from codi_bench.claims.claim import NORMAL, ZERO, Bench, Effects, Measured, Null
from codi_bench.claims.own_reading import NUM_READ
from codi_bench.claims.seed_sound import NUM_ABLATED, SEED, ends, without_word
from codi_bench.claims.seed_sound_ablation import conditions, sweep
from codi_bench.errors import MeasureError
from codi_bench.models.edits import Edit
from codi_bench.rules.stats import Estimate, mcnemar_exact, newcombe_paired, stream, wilson
from codi_bench.rules.validity import across_claims, half_effect, order_verdict, sound_verdict

NUM_CLAIMS = 29  # of the family, measured in a run or not
KINDS = ("zero", "mean", "noise")
PARITIES = "even", "odd"  # of latent positions
NO_DROP = "no drop"
CHANGED = 0.02  # of the answers, where thoughts that half precision rounds otherwise in another batch are fed again
Outcomes = Mapping[str, np.ndarray]


def nothing_more(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """What is measured soundly where no rule gives a word."""
    return []


def rate_of(metric: str, right: np.ndarray, **more) -> Measured:
    rate = wilson(int(right.sum()), len(right))
    return Measured(metric, rate.value, len(right), "fraction", rate.low, rate.high, outcomes=right, **more)


def rates(found: Outcomes) -> list[Measured]:
    return [rate_of(metric, right) for metric, right in found.items()]


def losses(found: Outcomes, reported: Mapping[str, float]) -> list[Measured]:
    """Is accuracy lost under each condition, against the clean run? Delta: half of the published loss, not below 2 points.

    A claim that something is lost at all gives nothing as reported, and has the floor.
    """
    clean = found[CLEAN]
    by_metric = {metric: right for metric, right in found.items() if metric != CLEAN}
    p = across_claims([mcnemar_exact(clean, right, "greater") for right in by_metric.values()], NUM_CLAIMS)
    rows = []
    for (metric, right), corrected in zip(by_metric.items(), p, strict=True):
        loss, reported_loss = newcombe_paired(clean, right), reported.get(CLEAN, 0) - reported.get(metric, 1)
        delta = half_effect(reported_loss if reported_loss > 0 else None, DROP_FLOOR)
        word = sound_verdict(loss, delta=delta, p={NO_DROP: float(corrected)}, marginal=NO_DROP, n=len(right))
        null = Null(float(clean.mean()), p=float(corrected))
        rows.append(rate_of(metric, right, null=null, verdict=word, detail={"loss": ends(loss)}))
    return rows


# Fewer latents


def truncation(bench: Bench) -> list[Measured]:
    """Accuracy after the first k latents."""
    return rates({f"accuracy_{k}": right for k, right in enumerate(bench.early(NUM_READ))})


def truncation_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is accuracy lost against all latents?"""
    *fewer, full = bench.early(NUM_READ)
    outcomes = {CLEAN: full} | {f"accuracy_{k}": right for k, right in enumerate(fewer)}
    return losses(outcomes, {**reported, CLEAN: reported.get(f"accuracy_{len(fewer)}", 0)})


def solved(bench: Bench) -> list[Measured]:
    """Share of problems that are answered rightly after some number of latents up to k: it can but grow with k."""
    return rates(
        {f"solved_{k}": cast(np.ndarray, bench.early(NUM_READ)[: k + 1].any(axis=0)) for k in range(bench.num_latents + 1)}
    )


def _by_steps(bench: Bench) -> dict[str, np.ndarray]:
    """Rows of problems with 1, 2, 3, and 4 or more steps."""
    steps = np.array([p.num_steps for p in bench.captured(NUM_READ, num_latents=bench.num_latents).problems])
    return {f"steps{k}": np.minimum(steps, 4) == k for k in (1, 2, 3, 4) if (np.minimum(steps, 4) == k).any()}


def truncation_by_steps(bench: Bench) -> list[Measured]:
    """The same by the number of steps."""
    right = bench.early(NUM_READ)
    return rates({f"{name}_{k}": outcomes[rows] for name, rows in _by_steps(bench).items() for k, outcomes in enumerate(right)})


def truncation_by_steps_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Does accuracy of problems with three steps or more fall from no latents to two, before it rises?"""
    by_steps, right = _by_steps(bench), bench.early(NUM_READ)
    long = np.any([rows for name, rows in by_steps.items() if name in ("steps3", "steps4")], axis=0)
    if len(right) < 3 or not np.any(long):
        raise MeasureError("a dip at two latents needs two of them and problems with three steps: give more problems")
    before, after = right[0][long], right[2][long]
    dip = newcombe_paired(before, after)
    p = float(across_claims([mcnemar_exact(before, after, "greater")], NUM_CLAIMS)[0])
    word = sound_verdict(dip, delta=DROP_FLOOR, p={NO_DROP: p}, marginal=NO_DROP, n=int(long.sum()))
    null = Null(0.0, p=p)
    return [Measured("dip", dip.value, int(long.sum()), "fraction", dip.low, dip.high, null=null, verdict=word)]


# Other values


def _effects(bench: Bench, edits: Mapping[str, Sequence[Edit]]) -> Effects:
    """What the named conditions do; the own values must change nothing."""
    effects = bench.effects(
        NUM_ABLATED, list(edits.values()), num_latents=bench.num_latents, scoring="study", seed=SEED + bench.seed
    )
    names = list(edits)
    if SELF in edits and (effects.right[names.index(SELF)] != effects.right[names.index(CLEAN)]).any():
        raise MeasureError("a control fails: replacing every latent by itself changes an answer")
    return effects


def replaced(bench: Bench) -> dict[str, np.ndarray]:
    """All latents replaced, the first ones by zeros, and the last two by noise: right bool [n] by name."""

    def compute():
        edits = {CLEAN: [], SELF: [Edit("all", "self")]} | {kind: [Edit("all", kind)] for kind in KINDS}
        edits |= {f"first_{i}": [Edit(k, "zero") for k in range(i)] for i in range(1, bench.num_latents)}
        parities = {name: range(bench.num_latents)[start::2] for start, name in enumerate(PARITIES)}
        edits |= {name: [Edit(k, "zero") for k in places] for name, places in parities.items() if places}
        edits["last_two"] = [Edit(k, "noise") for k in range(max(0, bench.num_latents - 2), bench.num_latents)]
        return dict(zip(edits, _effects(bench, edits).right, strict=True))

    return bench.once("all latents replaced", compute)


def _with_clean(outcomes: Outcomes, names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: outcomes[name] for name in (CLEAN, *names)}


def ablate_all(bench: Bench) -> list[Measured]:
    """Accuracy with all latents replaced, by each kind of value."""
    return rates(_with_clean(replaced(bench), KINDS))


def ablate_all_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is accuracy lost, and do zeros leave more of it than noise, and noise more than means?"""
    outcomes = replaced(bench)
    rows = losses(_with_clean(outcomes, KINDS), reported)
    for better, worse in (("zero", "noise"), ("noise", "mean")):
        gain = newcombe_paired(outcomes[better], outcomes[worse])
        name = f"{better}_over_{worse}"
        rows.append(
            Measured(name, gain.value, len(outcomes[CLEAN]), "fraction", gain.low, gain.high, verdict=order_verdict(gain))
        )
    return rows


def _single_ablations(bench: Bench) -> dict[str, np.ndarray]:
    ablations = sweep(bench)
    outcomes = {f"{kind}_{k}": ablations.rows(f"{k}={kind}")[0][0] for kind in KINDS for k in range(bench.num_latents)}
    return {CLEAN: ablations.rows(CLEAN)[0][0], **outcomes}


def ablate_one(bench: Bench) -> list[Measured]:
    """Accuracy with one latent replaced, by each kind of value."""
    return rates(_single_ablations(bench))


def ablate_one_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is accuracy lost?"""
    return losses(_single_ablations(bench), reported)


def last_two(bench: Bench) -> list[Measured]:
    """Accuracy with noise in the last two latents."""
    return rates(_with_clean(replaced(bench), ["last_two"]))


def last_two_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is surely less than 5 points lost?"""
    outcomes = replaced(bench)
    p = float(across_claims([mcnemar_exact(outcomes[CLEAN], outcomes["last_two"], "greater")], NUM_CLAIMS)[0])
    word = reading.enough_word(outcomes[CLEAN], outcomes["last_two"], p, tests=1)
    why = {} if word else without_word("without noise less than 5 % may be right: nothing could be lost")
    null = Null(float(outcomes[CLEAN].mean()), p=p)
    return [rate_of("last_two", outcomes["last_two"], null=null, verdict=word, detail=why)]


def necessity(bench: Bench) -> list[Measured]:
    """Share of right answers that are wrong with zeros for all latents."""
    outcomes = replaced(bench)
    return [rate_of("lost", ~_of_right(outcomes, "zero"))]


def _of_right(outcomes: Outcomes, name: str) -> np.ndarray:
    clean = outcomes[CLEAN]
    if not clean.any():
        raise MeasureError("no problem is answered rightly: nothing could be lost")
    return outcomes[name][clean]


def cumulative(bench: Bench) -> list[Measured]:
    """Share of right answers that are wrong with zeros for the first latents: it can but grow with their number."""
    outcomes = replaced(bench)
    return [rate_of(f"lost_{i}", ~_of_right(outcomes, f"first_{i}")) for i in range(1, bench.num_latents)]


def flips(bench: Bench) -> list[Measured]:
    """Share of problems whose predicted number changes when a latent is zero; 1 is the first."""
    names, edits = conditions(bench.num_latents)
    effects = bench.effects(NUM_ABLATED, edits, num_latents=bench.num_latents, scoring="study", seed=SEED + bench.seed)
    answers = {name: effects.said[i] for i, name in reversed(list(enumerate(names)))}
    changes = {
        name: ~((numbers == answers[CLEAN]) | (np.isnan(numbers) & np.isnan(answers[CLEAN]))) for name, numbers in answers.items()
    }
    if changes[SELF].any():
        raise MeasureError("a control fails: replacing every latent by itself changes an answer")
    return rates({f"flip_{k + 1}": changes[f"{k}=zero"] for k in range(bench.num_latents)})


def number_places(bench: Bench) -> list[Measured]:
    """Points of accuracy lost with zeros at even positions, where numbers are read, and at odd ones."""
    outcomes = replaced(bench)
    return [
        _points(f"drop_{name}", newcombe_paired(outcomes[CLEAN], outcomes[name]), outcomes)
        for name in PARITIES
        if name in outcomes
    ]


def number_places_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is accuracy lost?"""
    outcomes = replaced(bench)
    accuracies = {name: 1 - reported[f"drop_{name}"] / 100 for name in PARITIES if f"drop_{name}" in reported}
    return losses(_with_clean(outcomes, [name for name in PARITIES if name in outcomes]), {CLEAN: 1.0, **accuracies})


def _points(metric: str, value: Estimate, outcomes: Outcomes, **more) -> Measured:
    low, high = (None if end is None else 100 * end for end in (value.low, value.high))
    return Measured(metric, 100 * value.value, len(outcomes[CLEAN]), "points", low, high, **more)


def resampled(bench: Bench) -> list[Measured]:
    """Points of accuracy lost where one latent is another problem's, and how these losses go with those of zeros (Pearson)."""
    resamplings, zeros = _resamplings(bench), [effect(sweep(bench), f"{k}=zero").drop.value for k in range(bench.num_latents)]
    rows = [_points(f"drop_{k}", resampling.drop, {CLEAN: sweep(bench).right[0]}) for k, resampling in enumerate(resamplings)]
    values = [resampling.drop.value for resampling in resamplings]
    if len(set(values)) < 2 or len(set(zeros)) < 2:
        return rows
    why = without_word("a correlation of a few positions has no honest interval")
    return [*rows, Measured("r", float(pearsonr(values, zeros).statistic), len(values), "fraction", detail=why)]


def resampled_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is accuracy lost? The interval is of the mean over donors, p of the first donor."""
    resamplings, clean = _resamplings(bench), {CLEAN: sweep(bench).right[0]}
    p = across_claims([resampling.p for resampling in resamplings], NUM_CLAIMS)
    rows = []
    for k, (resampling, corrected) in enumerate(zip(resamplings, p, strict=True)):
        delta = half_effect(reported.get(f"drop_{k}", 0) / 100 or None, DROP_FLOOR)
        word = sound_verdict(resampling.drop, delta=delta, p={NO_DROP: float(corrected)}, marginal=NO_DROP, n=len(clean[CLEAN]))
        rows.append(_points(f"drop_{k}", resampling.drop, clean, null=Null(0.0, p=float(corrected)), verdict=word))
    return rows


def _resamplings(bench: Bench) -> list[Effect]:
    return [effect(sweep(bench), f"{k}=resample", seed=SEED + bench.seed) for k in range(bench.num_latents)]


def discretised(bench: Bench) -> list[Measured]:
    """Accuracy where latents are the projected embedding of the word that the head reads there: at odd positions, and at all."""
    return rates(_discretisations(bench))


def discretised_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is accuracy lost?"""
    return losses(_discretisations(bench), reported)


def _discretisations(bench: Bench) -> dict[str, np.ndarray]:
    every = tuple(range(bench.num_latents))
    places_of = {CLEAN: (), "odd": every[1::2], "all": every}
    return {name: bench.discretised(NUM_ABLATED, places) for name, places in places_of.items() if places or name == CLEAN}


# Another order


def refed(bench: Bench) -> dict[str, np.ndarray]:
    """The own thoughts fed in other arrangements: right bool [n] by name."""

    def compute():
        count, rng = bench.num_latents, stream(SEED + bench.seed, "another order")
        if count < 2:
            raise MeasureError(f"another order needs two latents, {bench.name} has {count}")
        every = tuple(range(count))
        permutation = next(shuffle for shuffle in iter(lambda: tuple(rng.permutation(count).tolist()), None) if shuffle != every)
        arrangements = {CLEAN: every, "permuted": permutation, "reversed": every[::-1]}
        arrangements |= {
            "first_half": every[: count // 2],
            "last_half": every[count // 2 :],
            "even": every[::2],
            "odd": every[1::2],
        }
        arrangements |= {"zero_single": (ZERO,), "zero_repeat": (ZERO,) * count, "normal_repeat": (NORMAL,) * count}
        arrangements |= {f"single_{k}": (k,) for k in every} | {f"repeat_{k}": (k,) * count for k in every}
        outcomes = dict(
            zip(arrangements, bench.refed(NUM_ABLATED, list(arrangements.values()), seed=SEED + bench.seed), strict=True)
        )
        right = bench.captured(NUM_ABLATED, num_latents=count).right
        num_changed = int((outcomes[CLEAN] != right).sum())
        if num_changed > CHANGED * len(right):
            raise MeasureError(
                f"a control fails: the own thoughts, fed again in their order, change {num_changed} of {len(right)} answers"
            )
        return outcomes

    return bench.once("thoughts in another order", compute)


ORDERS, SUBSETS = ("permuted", "reversed"), ("first_half", "last_half", "even", "odd")


def reordered(bench: Bench) -> list[Measured]:
    """Accuracy with the own thoughts in another order."""
    return rates(_with_clean(refed(bench), ORDERS))


def reordered_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is accuracy lost?"""
    return losses(_with_clean(refed(bench), ORDERS), {})


def subset(bench: Bench) -> list[Measured]:
    """Accuracy with some of the own thoughts alone."""
    return rates(_with_clean(refed(bench), SUBSETS))


def subset_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is accuracy lost?"""
    return losses(_with_clean(refed(bench), SUBSETS), {})


def _thoughts(bench: Bench, kind: str) -> dict[str, np.ndarray]:
    return {f"{kind}_{k}": refed(bench)[f"{kind}_{k}"] for k in range(bench.num_latents)}


def single(bench: Bench) -> list[Measured]:
    """Accuracy with one of the own thoughts, fed once, and with a zero vector in its place."""
    return rates(_thoughts(bench, "single") | {"zero": refed(bench)["zero_single"]})


def repeat(bench: Bench) -> list[Measured]:
    """Accuracy with one of the own thoughts fed again and again, with zero vectors, and with normal ones."""
    outcomes = refed(bench)
    return rates(_thoughts(bench, "repeat") | {"zero": outcomes["zero_repeat"], "normal": outcomes["normal_repeat"]})


def single_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Does one thought leave less than a zero vector does?"""
    return _below_zero(_thoughts(bench, "single"), refed(bench)["zero_single"])


def repeat_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Does one thought, again and again, leave less than zero vectors do?"""
    return _below_zero(_thoughts(bench, "repeat"), refed(bench)["zero_repeat"])


def _below_zero(outcomes: Outcomes, zero: np.ndarray) -> list[Measured]:
    p = across_claims([mcnemar_exact(zero, right, "greater") for right in outcomes.values()], NUM_CLAIMS)
    rows, control = [], "zero vectors"
    for (metric, right), corrected in zip(outcomes.items(), p, strict=True):
        loss = newcombe_paired(zero, right)
        word = sound_verdict(loss, delta=DROP_FLOOR, p={control: float(corrected)}, marginal=control, n=len(right))
        null = Null(float(zero.mean()), p=float(corrected))
        rows.append(rate_of(metric, right, null=null, verdict=word, detail={"loss": ends(loss)}))
    return rows


def retention(bench: Bench) -> list[Measured]:
    """Share of right answers that stay right with half of the thoughts, or a zero vector alone."""
    outcomes = refed(bench)
    return rates({name: _of_right(outcomes, name) for name in ("first_half", "last_half", "zero_single")})
