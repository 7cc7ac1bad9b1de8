"""Transplants: the thoughts of a twin that differs in one number, all of them, one, all but one, or one place off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from codi_bench.audits import patching
from codi_bench.audits.patching import DONOR, RANDOM, SAME, Patched
from codi_bench.claims.claim import Bench, Measured, Null
from codi_bench.claims.own_edits import NUM_PAIRS, STEPS, steered_row
from codi_bench.claims.papers_latents import NUM_CLAIMS
from codi_bench.claims.seed_sound import SEED, ends
from codi_bench.models.edits import NOISE, SELF, Patch
from codi_bench.stats import mcnemar_exact, newcombe_paired, wilson
from codi_bench.validity import across_claims, sound

SHIFTED = "one place off"
FLOOR = 0.05


def _sets(count: int) -> dict[str, dict[str, tuple[int, ...]]]:
    """Places by claim and metric."""
    every = tuple(range(count))
    return {
        "pair": {"all": every} | {f"single_{k}": (k,) for k in every},
        "without": {f"without_{k}": tuple(j for j in every if j != k) for k in every if count > 1},
        "prefix": {f"prefix_{k}": every[: k + 1] for k in every},
    }


def transplanted(bench: Bench) -> Patched:
    """Known pairs about both steps together under every transplant and its controls, checked."""

    def compute():
        count = bench.num_latents
        sets = dict.fromkeys(places for each in _sets(count).values() for places in each.values())
        patches = [Patch(SELF, tuple(range(count)))]
        patches += [Patch(source, places) for places in sets for source in (DONOR, SAME, RANDOM, NOISE)]
        shifted = [places for name, places in _sets(count)["pair"].items()]
        patches += [Patch(SHIFTED, places) for places in shifted]
        parts, groups = [], set()
        for step in STEPS:
            pairs = bench.pairs(NUM_PAIRS, step=step)
            vectors = {SHIFTED: bench.latents([pair.donor for pair in pairs])[:, 1:]}  # z_1..z_K where z_0..z_{K-1} belong
            found = bench.patched(NUM_PAIRS, patches, step=step, seed=SEED + bench.seed, vectors=vectors)
            new = [pair.recipient.group not in groups for pair in pairs]  # a problem counts once
            groups |= {pair.recipient.group for pair in pairs}
            parts.append(replace(found, known=found.known & new))
        joined = [np.concatenate([getattr(p, name) for p in parts], axis=-1) for name in ("known", "follows", "stays", "changed")]
        found = Patched(parts[0].patches, *joined)
        patching.check_self(found)
        return found

    return bench.once("transplants", compute)


def _follow(bench: Bench, source: str, sets: Mapping[str, Sequence[int]]) -> list[Measured]:
    found, rows = transplanted(bench), []
    for name, places in sets.items():
        follows, _ = found.of(source, places)
        rate = wilson(int(follows.sum()), len(follows))
        rows.append(Measured(name, rate.value, len(follows), "fraction", rate.low, rate.high, outcomes=follows))
    return rows


def _soundly(bench: Bench, sets: Mapping[str, Sequence[int]]) -> list[Measured]:
    """The same against a donor with the same value, a random one, and a random vector."""
    found = transplanted(bench)
    steps = patching.steered([(found, places) for places in sets.values()], claims=NUM_CLAIMS)
    return [steered_row(name, each) for name, each in zip(sets, steps, strict=True)]


def pair(bench: Bench) -> list[Measured]:
    """Follow rate with all of the twin's latents, and with one."""
    return _follow(bench, DONOR, _sets(bench.num_latents)["pair"])


def pair_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same against controls."""
    return _soundly(bench, _sets(bench.num_latents)["pair"])


def without(bench: Bench) -> list[Measured]:
    """Follow rate with all of the twin's latents but one."""
    return _follow(bench, DONOR, _sets(bench.num_latents)["without"])


def without_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same against controls."""
    return _soundly(bench, _sets(bench.num_latents)["without"])


def prefix(bench: Bench) -> list[Measured]:
    """Follow rate with the twin's first latents."""
    return _follow(bench, DONOR, _sets(bench.num_latents)["prefix"])


def prefix_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same against controls."""
    return _soundly(bench, _sets(bench.num_latents)["prefix"])


def off_by_one(bench: Bench) -> list[Measured]:
    """Follow rate where each of the twin's latents is fed one place too early."""
    return _follow(bench, SHIFTED, _sets(bench.num_latents)["pair"])


def off_by_one_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is less followed than at the right places?"""
    found, sets = transplanted(bench), _sets(bench.num_latents)["pair"]
    both = {name: (found.of(DONOR, places)[0], found.of(SHIFTED, places)[0]) for name, places in sets.items()}
    p = across_claims([mcnemar_exact(own, off, "greater") for own, off in both.values()], NUM_CLAIMS)
    rows, control = [], "the right places"
    for (name, (own, off)), corrected in zip(both.items(), p, strict=True):
        rate, loss = wilson(int(off.sum()), len(off)), newcombe_paired(own, off)
        word = sound(loss, delta=FLOOR, p={control: float(corrected)}, marginal=control, n=len(off))
        null = Null(float(own.mean()), p=float(corrected))
        detail = {"loss": ends(loss)}
        rows.append(
            Measured(
                name, rate.value, len(off), "fraction", rate.low, rate.high, outcomes=off, detail=detail, null=null, verdict=word
            )
        )
    return rows
