"""The first study: how often answers are right, and how large the models are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from codi_bench.claims import runs
from codi_bench.claims.blocks import constant, effect_over, rate
from codi_bench.claims.claim import Bench, Measured, Null, Protocols, Published, claim, ends
from codi_bench.claims.first_study import NUM_PROBLEMS, SAME, SOURCE, captured, counts
from codi_bench.claims.runs import Captured
from codi_bench.problems import score
from codi_bench.rules.stats import mcnemar_exact, newcombe_paired, wilson
from codi_bench.rules.validity import sound_verdict

ACCURACY_FLOOR = 0.05
PROTOCOL = "bot-first, so bot and five latents; greedy, at most 256 tokens; right if the integer part of the last number agrees"


@claim(
    "task-accuracy",
    f"{SOURCE}, summary table",
    family="task accuracy",
    kind="value",
    n=NUM_PROBLEMS,
    protocol=PROTOCOL,
    sound=f"all latents, {runs.NUM_PROBLEMS} problems in order; against always giving the most frequent answer, exact McNemar",
    compared="accuracy",
    answers="either",
)
def task_accuracy(bench: Bench, published: Published) -> Protocols:
    """The model answers this share of the problems correctly."""
    capture = captured(bench, NUM_PROBLEMS)
    yield [rate("accuracy", capture.right, detail=published_scoring(capture))]
    yield [over_constant(runs.captured(bench), published)]


def over_constant(capture: Captured, published: Published) -> Measured:
    """The share right of problems that were thought about, with that by number of steps."""
    golds = [p.answer for p in capture.problems]
    return share_over_constant("accuracy", capture.right, golds, published, by_steps=by_steps(capture))


def share_over_constant(metric: str, right: np.ndarray, golds: Sequence[str], published: Published, **detail: Any) -> Measured:
    """The share right, bool [n], against always giving the most frequent of the gold answers: a family of one test."""
    control = constant(golds)
    delta = effect_over(published, metric, float(control.mean()), ACCURACY_FLOOR)
    p = mcnemar_exact(right, control, "greater")
    word = sound_verdict(newcombe_paired(right, control), delta=delta, p={"constant": p}, marginal="constant", n=len(right))
    detail = {"null": f"always answering {golds[int(control.argmax())]}", **detail}
    return rate(metric, right, detail=detail, null=Null(float(control.mean()), p=p), verdict=word)


def published_scoring(capture: Captured) -> dict[str, str]:
    """A note where the published scoring (numbers equal as floats) gives another share than the study's."""
    texts = zip(capture.answers.texts, capture.problems)
    share = np.mean([score(text, problem.answer, "published") for text, problem in texts])
    note = f"{100 * share:.1f} % by the published scoring (equal as floats)"
    return {} if share == capture.right.sum() / len(capture.right) else {"note": note}


def by_steps(capture: Captured) -> dict[str, list[float | None]]:
    """Accuracy with its interval by number of steps."""
    steps = np.array([p.num_steps for p in capture.problems])
    return {str(k): ends(wilson(capture.right[steps == k].sum(), int((steps == k).sum()))) for k in np.unique(steps).tolist()}


@claim(
    "size", f"{SOURCE}, §4", family="size", kind="fact", n=1, protocol="counted, the backbone alone", sound=SAME, answers="either"
)
def size(bench: Bench, published: Published) -> Protocols:
    """LLaMA has about eight times the parameters."""
    model = bench.model
    yield from counts({"parameters": model.num_parameters, "layers": model.num_layers, "width": model.width})
