"""CODI (arXiv 2502.21074): how often its models answer rightly, on GSM8K and out of distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from codi_bench.claims import hits, runs
from codi_bench.claims.blocks import PAIRED, over_constant, rate, rates
from codi_bench.claims.claim import Bench, Measured, Protocols, Published, claim, measured, once
from codi_bench.claims.first_study import task
from codi_bench.models.conditions import CLEAN, IN_WORDS, PUBLISHED, Condition
from codi_bench.problems import Problem
from codi_bench.rules.stats import newcombe_paired
from codi_bench.rules.validity import order_verdict

SOURCE = "CODI, arXiv 2502.21074 v3"
NUM_ANSWERED = 1319  # problems, as many as GSM8K's test split has
ELSEWHERE = (
    "SVAMP (1000), GSM-Hard (1319) and MultiArith (600) whole; beside generated problems 400 behind a fact of no use, and 400 "
    "with a number beyond what their story has in training"
)
EVALUATION = "batches of 128 in their order, thoughts attend to paddings, greedy, numbers equal as floats"
LATENTS: dict[str, Any] = {"family": "latents", "n": NUM_ANSWERED}


def answered(bench: Bench, problems: list[Problem], condition: Condition) -> np.ndarray:
    """Right or wrong, as published (numbers agree as floats), bool [n]."""
    (right,) = bench.answers(problems, [condition]).right("published")
    return np.asarray(right)


@claim(
    "codi-acc-gsm8k",
    f"{SOURCE}, Figure 3",
    kind="value",
    protocol=f"{NUM_ANSWERED} problems, {EVALUATION}",
    sound="no padding attended to, first 1000 problems; against always giving the most frequent answer, exact McNemar",
    **LATENTS,
)
def accuracy(bench: Bench, published: Published) -> Protocols:
    """The model answers this share of the problems correctly."""
    yield [rate("accuracy", answered(bench, bench.problems.first(NUM_ANSWERED), PUBLISHED))]
    yield [task.over_constant(runs.captured(bench), published)]


@once
def elsewhere(bench: Bench) -> dict[str, list[Problem]]:
    """Problems out of distribution by the name of their set."""
    return {name.replace("-", "_"): problems for name, problems in bench.problems.elsewhere().items()}


@claim(
    "codi-ood",
    f"{SOURCE}, Table 1",
    kind="value",
    protocol=f"{ELSEWHERE}, in the order of their questions; the published evaluation, as for codi-acc-gsm8k",
    sound=f"each problem alone, against always giving the most frequent answer: {PAIRED}",
    **LATENTS,
)
def out_of_distribution(bench: Bench, published: Published) -> Protocols:
    """Out of distribution the model answers these shares correctly."""
    sets = {f"accuracy_{name}": problems for name, problems in elsewhere(bench).items()}
    yield rates({metric: answered(bench, problems, PUBLISHED) for metric, problems in sets.items()})
    alone = {metric: (answered(bench, problems, CLEAN), [p.answer for p in problems]) for metric, problems in sets.items()}
    yield over_constant(alone, published, task.ACCURACY_FLOOR, family="latents")


@claim(
    "codi-ood-beats-cot",
    f"{SOURCE}, Table 1",
    kind="order",
    protocol=f"{ELSEWHERE}; the published evaluation, less what the model's own teacher answers in words (there: another model)",
    sound="the same, each problem alone: does the interval of the difference, by Newcombe, lie above zero?",
    **LATENTS,
)
def beats_words(bench: Bench, published: Published) -> Protocols:
    """Out of distribution thoughts answer rightly more often than chains of thought in words."""

    def gains(condition: Condition, *, judged: bool) -> list[Measured]:
        rows = []
        for name, problems in elsewhere(bench).items():
            gain = newcombe_paired(answered(bench, problems, condition), answered(bench, problems, IN_WORDS))
            rows.append(measured(f"gain_{name}", gain, len(problems), verdict=order_verdict(gain) if judged else None))
        return rows

    yield gains(PUBLISHED, judged=False)
    yield gains(CLEAN, judged=True)


@claim(
    "codi-table3-decode",
    f"{SOURCE}, Table 3",
    kind="value",
    protocol=f"{hits.RIGHT}all results before the last, at any place (rule, n and the last step are not stated)",
    sound=hits.OTHERS,
    **hits.DECODED,
)
def table3(bench: Bench, published: Published) -> Protocols:
    """All intermediate results, one, two or three, are among the head's first five words for some thought."""
    yield hits.hit_rates(bench, hits.table)
    yield hits.hits_over_others(bench, hits.table, published)
