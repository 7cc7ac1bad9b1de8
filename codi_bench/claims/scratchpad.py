"""Scratchpad Thinking, NeurIPS 2025 MI workshop: the thoughts of a clean run fed again, in another order or in part."""

from __future__ import annotations

from typing import Any

from codi_bench.audits.ablation import DROP_FLOOR
from codi_bench.claims.ablations import NUM_ABLATED, rearranged
from codi_bench.claims.blocks import PAIRED, drops, losses, of_right, over_constant, rate, rates
from codi_bench.claims.claim import NOTHING_MORE, Bench, Protocols, Published, claim
from codi_bench.models.conditions import CLEAN

SOURCE = "Scratchpad Thinking, NeurIPS 2025 MI workshop, github.com/sayam-goyal/Scratchpad-Thinking"
LOSS = f"loss against the clean run; {PAIRED}"
CONSTANT = f"against always giving the most frequent answer: {PAIRED}"
NUM_ANSWERED, ACCURACY_FLOOR = 1319, 0.05
LATENTS: dict[str, Any] = {"family": "latents", "n": NUM_ABLATED, "answers": "either"}


@claim(
    "scratch-baseline",
    SOURCE,
    family="latents",
    kind="value",
    n=NUM_ANSWERED,
    protocol=f"{NUM_ANSWERED} problems, each alone, greedy, numbers equal as floats",
    sound=CONSTANT,
    answers="either",
)
def baseline(bench: Bench, published: Published) -> Protocols:
    """Each problem alone, the model answers this share correctly."""
    problems = bench.problems.first(NUM_ANSWERED)
    right = bench.answers(problems, [CLEAN]).right("published")[0]
    yield [rate("accuracy", right)]
    yield over_constant({"accuracy": (right, [p.answer for p in problems])}, published, ACCURACY_FLOOR, family="latents")


@claim(
    "scratch-order",
    SOURCE,
    kind="exists",
    protocol=f"the own thoughts of a clean run, permuted once for all and reversed, {NUM_ABLATED} problems",
    sound=LOSS,
    **LATENTS,
)
def order(bench: Bench, published: Published) -> Protocols:
    """The thoughts are needed in their order."""
    outcomes = rearranged(bench).chosen(("permuted", "reversed"))
    yield rates(outcomes)
    yield drops(outcomes.checked(), {}, family="latents")


@claim(
    "scratch-subset",
    SOURCE,
    kind="exists",
    protocol=f"the own thoughts of a clean run, some alone, {NUM_ABLATED} problems",
    sound=LOSS,
    **LATENTS,
)
def subset(bench: Bench, published: Published) -> Protocols:
    """With half of the thoughts accuracy falls."""
    outcomes = rearranged(bench).chosen(("first_half", "last_half", "even", "odd"))
    yield rates(outcomes)
    yield drops(outcomes.checked(), {}, family="latents")


@claim(
    "scratch-single",
    SOURCE,
    kind="exists",
    protocol=f"one thought of a clean run, fed once, {NUM_ABLATED} problems",
    sound=f"loss against a zero vector; {PAIRED}",
    **LATENTS,
)
def single(bench: Bench, published: Published) -> Protocols:
    """One thought alone leaves less than a zero vector does."""
    outcomes = rearranged(bench)
    zero, alone = outcomes["zero_single"], {f"single_{k}": outcomes[f"single_{k}"] for k in range(bench.model.num_latents)}
    yield rates({**alone, "zero": zero})
    outcomes.checked()
    against = {name: (zero, right) for name, right in alone.items()}
    yield losses(against, "zero vectors", family="latents", delta=DROP_FLOOR)


@claim(
    "scratch-repeat",
    SOURCE,
    kind="exists",
    protocol=f"one thought of a clean run, fed at every position, {NUM_ABLATED} problems",
    sound=f"loss against zero vectors; {PAIRED}",
    **LATENTS,
)
def repeat(bench: Bench, published: Published) -> Protocols:
    """One thought, fed at every position, leaves less than zero vectors do."""
    outcomes = rearranged(bench)
    zero, alone = outcomes["zero_repeat"], {f"repeat_{k}": outcomes[f"repeat_{k}"] for k in range(bench.model.num_latents)}
    yield rates({**alone, "zero": zero, "normal": outcomes["normal_repeat"]})
    outcomes.checked()
    against = {name: (zero, right) for name, right in alone.items()}
    yield losses(against, "zero vectors", family="latents", delta=DROP_FLOOR)


@claim(
    "scratch-retention",
    SOURCE,
    kind="value",
    protocol=f"half of the thoughts, or one zero vector, first {NUM_ABLATED} problems",
    sound="nothing more: see scratch-subset and scratch-single",
    **LATENTS,
)
def retention(bench: Bench, published: Published) -> Protocols:
    """This share of the right answers stays right."""
    outcomes = rearranged(bench)
    yield rates({name: of_right(outcomes, name) for name in ("first_half", "last_half", "zero_single")})
    outcomes.checked()
    yield NOTHING_MORE
