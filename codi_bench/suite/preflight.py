"""Checks before a number of a published checkpoint counts: it is this checkpoint, and batches change nothing."""

from __future__ import annotations

import numpy as np

from codi_bench.claims import CLAIMS
from codi_bench.errors import CodiBenchError, one_line
from codi_bench.models.registry import REGISTRY
from codi_bench.records.baseline import Reported
from codi_bench.records.gate import Gate
from codi_bench.rules.stats import wilson
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.gate import answers_otherwise, circumstances

NUM_PROBLEMS, NEW_TOKENS = 16, 32
# Largest relative distance of a hidden state alone from the same one in a batch. float32 differs by rounding; half precision
# rounds every addition to 8 or 11 bits, and its greedy answers may differ.
CLOSE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}


def preflight(bench: ModelBench, accuracy: Reported | None, gate: Gate | None = None) -> str | None:
    """Why no number of this model counts, or None if all checks pass.

    accuracy: its reported task accuracy; None for a user's own model, about which nothing was published. gate: its known answers,
    which are decoded again.
    """
    try:
        if fault := _not_this_checkpoint(bench) or _batches_matter(bench):
            return fault
        if fault := answers_otherwise(bench, gate) or (_off(bench, accuracy, gate) if accuracy else None):
            return f"preflight: {fault}"
        return None
    except (CodiBenchError, RuntimeError) as error:
        return f"preflight: {one_line(error)}"


def _not_this_checkpoint(bench: ModelBench) -> str | None:
    known, inner = REGISTRY.get(bench.model.name), bench.model.codi
    projects = any(True for _ in inner.projection.parameters())  # CODI and Coconut over one base have one shape
    if known is None or (bench.model.entry == known and projects == known.projects):
        return None
    shape = f"{inner.num_layers} layers and width {inner.width}"
    if projects != known.projects:
        shape += f", {'with' if projects else 'without'} a projection,"
    return f"preflight: a {bench.model.entry.architecture} model of {shape} is not {known.hub or known.name}"


def _batches_matter(bench: ModelBench) -> str | None:
    """Do sixteen problems (or a smaller file), alone and together, differ in states, or in float32 in answers? Says how."""
    questions = [p.question for p in bench.problems.sample(NUM_PROBLEMS)[:NUM_PROBLEMS]]
    alone, together = (bench.model.think(questions, batch_size=size, max_new_tokens=NEW_TOKENS) for size in (1, NUM_PROBLEMS))
    assert alone.hidden_states is not None and together.hidden_states is not None
    distance = np.linalg.norm(alone.hidden_states - together.hidden_states, axis=-1)
    largest = float((distance / np.linalg.norm(alone.hidden_states, axis=-1)).max())
    if not largest <= CLOSE[bench.model.dtype]:  # NaN is not close
        return f"preflight: hidden states in a batch of {NUM_PROBLEMS} differ by {largest:.2g} of their norm from those alone"
    if bench.model.dtype == "float32" and alone.answers != together.answers:
        return f"preflight: an answer in a batch of {NUM_PROBLEMS} differs from the one alone"
    return None


def _off(bench: ModelBench, reported: Reported, gate: Gate | None) -> str | None:
    """Is the task accuracy outside the 95 % interval of the reported one, or the range that was stated?"""
    if reported.value is None:
        low, high = reported.low, reported.high
    else:
        assert reported.n is not None  # a rate is of so many problems
        interval = wilson(round(reported.value * reported.n), reported.n)
        low, high = interval.low, interval.high
    assert low is not None and high is not None
    (measured,) = CLAIMS["task-accuracy"].reported(bench)
    least, most = measured.value, measured.value
    if bench.problems.n is not None:  # fewer problems than reported: what they allow counts
        assert measured.low is not None and measured.high is not None
        least, most = measured.low, measured.high
    if least > high or most < low:
        return (
            f"task accuracy {100 * measured.value:.1f} % of {measured.n} is outside "
            f"{100 * low:.1f}-{100 * high:.1f} %, the interval of the reported one: wrong weights, problems or harness; "
            f"{circumstances(gate)}"
        )
    return None
