"""Transplants: the thoughts of a twin that differs in one number, and what the model itself says of that twin.

All of the thoughts, one, all but one, or one place off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codi_bench.audits import patching
from codi_bench.audits.patching import DONOR, FEWEST_PAIRS, RANDOM, SAME, PatchOutcomes
from codi_bench.audits.reading import enough_word
from codi_bench.claims.claim import OWN, Bench, Measured, Null
from codi_bench.claims.own_edits import NUM_PAIRS, STEPS, steered_row
from codi_bench.claims.papers_latents import NUM_CLAIMS, rate_of, rates
from codi_bench.claims.seed_sound import SEED, ends
from codi_bench.errors import MeasureError
from codi_bench.models.edits import NOISE, SELF, Patch
from codi_bench.problems.pairs import Pair
from codi_bench.rules.stats import mcnemar_exact, newcombe_paired
from codi_bench.rules.validity import across_claims, sound_verdict

Measure = Callable[[Bench], list[Measured]]
Sound = Callable[[Bench, Mapping[str, float]], list[Measured]]
SHIFTED = "one place off"
FLOOR = 0.05
NUM_TWINS = 600  # pairs a step, of which few have a twin that is answered wrongly


def _sets(count: int) -> dict[str, dict[str, tuple[int, ...]]]:
    """Places by claim and metric."""
    every = tuple(range(count))
    return {
        "pair": {"all": every} | {f"single_{k}": (k,) for k in every},
        "without": {f"without_{k}": tuple(j for j in every if j != k) for k in every if count > 1},
        "prefix": {f"prefix_{k}": every[: k + 1] for k in every},
    }


def transplanted(bench: Bench) -> PatchOutcomes:
    """Known pairs about both steps together under every transplant and its controls, checked."""

    def compute():
        count = bench.num_latents
        sets = dict.fromkeys(places for places_of in _sets(count).values() for places in places_of.values())
        patches = [Patch(SELF, tuple(range(count)))]
        patches += [Patch(source, places) for places in sets for source in (DONOR, SAME, RANDOM, NOISE)]
        shifts = [places for name, places in _sets(count)["pair"].items()]
        patches += [Patch(SHIFTED, places) for places in shifts]
        parts, groups = [], set()
        for step in STEPS:
            pairs = bench.pairs(NUM_PAIRS, step=step)
            vectors = {SHIFTED: bench.latents([pair.donor for pair in pairs])[:, 1:]}  # z_1..z_K where z_0..z_{K-1} belong
            outcomes = bench.patched(NUM_PAIRS, patches, step=step, seed=SEED + bench.seed, vectors=vectors)
            new = [pair.recipient.group not in groups for pair in pairs]  # a problem counts once
            groups |= {pair.recipient.group for pair in pairs}
            parts.append(replace(outcomes, known=outcomes.known & new))
        arrays = [
            np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in ("known", "follows", "stays", "changed")
        ]
        outcomes = PatchOutcomes(parts[0].patches, *arrays)
        patching.check_self(outcomes)
        return outcomes

    return bench.once("transplants", compute)


def both(sets: str) -> tuple[Measure, Sound]:
    """How a claim of follow rates is measured: as published, and against a donor with the same value, a random one, and noise."""

    def measure(bench: Bench) -> list[Measured]:
        return _follow(bench, DONOR, _sets(bench.num_latents)[sets])

    def soundly(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
        outcomes, places_of = transplanted(bench), _sets(bench.num_latents)[sets]
        follow_rates = patching.steered([(outcomes, places) for places in places_of.values()], claims=NUM_CLAIMS)
        return [steered_row(name, rate) for name, rate in zip(places_of, follow_rates, strict=True)]

    return measure, soundly


def _follow(bench: Bench, source: str, sets: Mapping[str, Sequence[int]]) -> list[Measured]:
    outcomes = transplanted(bench)
    return rates({name: outcomes.of(source, places)[0] for name, places in sets.items()})


pair, pair_sound = both("pair")
without, without_sound = both("without")
prefix, prefix_sound = both("prefix")


def off_by_one(bench: Bench) -> list[Measured]:
    """Follow rate where each of the twin's latents is fed one place too early."""
    return _follow(bench, SHIFTED, _sets(bench.num_latents)["pair"])


def off_by_one_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is less followed than at the right places?"""
    outcomes, sets = transplanted(bench), _sets(bench.num_latents)["pair"]
    pairs = {name: (outcomes.of(DONOR, places)[0], outcomes.of(SHIFTED, places)[0]) for name, places in sets.items()}
    p = across_claims([mcnemar_exact(in_place, shifted, "greater") for in_place, shifted in pairs.values()], NUM_CLAIMS)
    rows, control = [], "the right places"
    for (name, (in_place, shifted)), corrected in zip(pairs.items(), p, strict=True):
        loss = newcombe_paired(in_place, shifted)
        word = sound_verdict(loss, delta=FLOOR, p={control: float(corrected)}, marginal=control, n=len(shifted))
        null = Null(float(in_place.mean()), p=float(corrected))
        rows.append(rate_of(name, shifted, null=null, verdict=word, detail={"loss": ends(loss)}))
    return rows


def same_value(bench: Bench) -> list[Measured]:
    """Share of answers that stay right with the thoughts of a problem that has the same value, all of them or one."""
    return rates(_stays(bench))


def same_value_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is surely less than 5 points lost?"""
    stays = _stays(bench)
    right = np.ones(len(next(iter(stays.values()))), bool)  # known pairs are answered rightly
    p = across_claims([mcnemar_exact(right, outcomes, "greater") for outcomes in stays.values()], NUM_CLAIMS)
    rows = []
    for (name, outcomes), corrected in zip(stays.items(), p, strict=True):
        word = enough_word(right, outcomes, float(corrected), tests=len(stays))
        rows.append(rate_of(name, outcomes, null=Null(1.0, p=float(corrected)), verdict=word))
    return rows


def _stays(bench: Bench) -> dict[str, np.ndarray]:
    return {name: transplanted(bench).of(SAME, places)[1] for name, places in _sets(bench.num_latents)["pair"].items()}


# What the model itself says of a twin


@dataclass(frozen=True, eq=False)
class Twins:
    """Pairs of both steps, every recipient once, and the numbers that are said, float64 [n].

    Of the recipient, of the donor, and of the recipient with all of the donor's thoughts.
    """

    pairs: tuple[Pair, ...]
    recipient: np.ndarray
    donor: np.ndarray
    fed: np.ndarray

    def gold(self, side: str) -> np.ndarray:
        """The right number of the `recipient` or of the `donor`, [n]."""
        return np.array([float(getattr(pair, side).answer) for pair in self.pairs])

    @property
    def solved(self) -> np.ndarray:
        """Is the recipient answered rightly? bool [n]."""
        return self.recipient == self.gold("recipient")


def _twins(bench: Bench) -> Twins:
    def compute():
        pair_of = {pair.recipient.group: pair for step in reversed(STEPS) for pair in bench.pairs(NUM_TWINS, step=step)}
        pairs = tuple(pair_of.values())
        donors = [pair.donor for pair in pairs]
        numbers = bench.said([pair.recipient for pair in pairs], {DONOR: bench.latents(donors)[:, :-1]})
        return Twins(pairs, numbers[OWN], bench.said(donors, {})[OWN], numbers[DONOR])

    return bench.once("what is said of twins", compute)


def wrong_twin(bench: Bench) -> list[Measured]:
    """With the thoughts of a twin that is answered wrongly: how often its wrong answer follows, and how often the right one."""
    return rates(_wrong(bench))


def wrong_twin_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Does the twin's own wrong answer follow more often than its right one?"""
    outcomes = _wrong(bench)
    wrong, gold = outcomes["wrong"], outcomes["gold"]
    gain, p = newcombe_paired(wrong, gold), float(across_claims([mcnemar_exact(wrong, gold, "greater")], NUM_CLAIMS)[0])
    word = sound_verdict(gain, delta=FLOOR, p={"its right answer": p}, marginal="its right answer", n=len(wrong))
    return [rate_of("wrong", wrong, null=Null(float(gold.mean()), p=p), verdict=word, detail={"gain": ends(gain)})]


def _wrong(bench: Bench) -> dict[str, np.ndarray]:
    twins = _twins(bench)
    gold = twins.gold("donor")
    usable = twins.solved & ~np.isnan(twins.donor) & (twins.donor != gold) & (twins.donor != twins.gold("recipient"))
    if usable.sum() < FEWEST_PAIRS:
        raise MeasureError(
            f"{usable.sum()} of {len(usable)} pairs have a twin with a wrong answer of its own; {FEWEST_PAIRS} are needed: give "
            "a larger --n, or a model that solves fewer"
        )
    return {"wrong": (twins.fed == twins.donor)[usable], "gold": (twins.fed == gold)[usable]}


def response_rate(bench: Bench) -> list[Measured]:
    """Of the problems that are solved, the share whose twin is solved too, over all and by the number of steps."""
    twins = _twins(bench)
    twin_solved, steps = twins.donor == twins.gold("donor"), np.array([pair.recipient.num_steps for pair in twins.pairs])
    longest = np.minimum(steps, 5)  # 5 and more together, as the source has them
    rows_of = {"all": twins.solved} | {f"steps_{k}": twins.solved & (longest == k) for k in (2, 3, 4, 5)}
    return rates({name: twin_solved[rows] for name, rows in rows_of.items() if rows.any()})
