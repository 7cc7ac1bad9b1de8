"""Reading: how many thoughts an answer needs, and which values the head reads in their states."""

from __future__ import annotations

import numpy as np

from codi_bench.audits import reading
from codi_bench.audits.reading import Hits
from codi_bench.claims import runs
from codi_bench.claims.blocks import corrected, not_lost, rate
from codi_bench.claims.claim import SEED, Bench, Measured, Null, Protocols, Published, claim, ends, measured, without_word
from codi_bench.claims.families import FAMILIES
from codi_bench.claims.open_questions import NO_ROWS, STEERED, STEPS, UNPUBLISHED
from codi_bench.claims.runs import Captured
from codi_bench.errors import MeasureError
from codi_bench.rules.stats import newcombe_paired

NUM_READ, NUM_CHOOSING, FEWEST_READ = FAMILIES["decoding"].n, 200, 20


@claim(
    "early-answer",
    STEERED,
    family="edits",
    kind="none",
    n=NUM_READ,
    protocol=UNPUBLISHED,
    sound=(
        f"{NUM_READ} problems; eot is fed after the first k latents; loss against all latents, exact McNemar, Holm over k; "
        "enough where the loss is surely below 5 points"
    ),
    answers="either",
)
def early_answer(bench: Bench, published: Published) -> Protocols:
    """The answer is settled before the last latent: after k latents it is as often right."""
    yield NO_ROWS
    *fewer, full = runs.shortened(bench, NUM_READ).checked().values()
    rows = not_lost(full, {f"accuracy_{k}": right for k, right in enumerate(fewer)}, family="edits")
    for row, right in zip(rows, fewer, strict=True):
        row.detail["loss"] = ends(newcombe_paired(full, right))
    why = without_word("all latents: what the others are compared with")
    last = rate(f"accuracy_{len(fewer)}", full, detail={"loss": ends(newcombe_paired(full, full))} | why)
    yield [*rows, last]


@claim(
    "lens",
    STEERED,
    family="edits",
    kind="exists",
    n=NUM_CHOOSING + NUM_READ,
    protocol=UNPUBLISHED,
    sound=(
        f"the value of a step is the first of all ids, final norm before the head; cell of place and layer (the projected "
        f"thought too) chosen on {NUM_CHOOSING} problems and scored on {NUM_READ} others; against another problem's value there, "
        "exact McNemar, Holm over the steps"
    ),
)
def lens(bench: Bench, published: Published) -> Protocols:
    """The head reads intermediate values in the states of the thoughts (logit lens)."""
    yield NO_ROWS
    best_cells = [hits(bench, runs.captured(bench), step) for step in STEPS]
    p_values = corrected([best.p for best in best_cells], "edits")
    yield [hit_row(f"hit_step{step}", best, p) for step, best, p in zip(STEPS, best_cells, p_values, strict=True)]


def hit_row(metric: str, best: Hits, p: float) -> Measured:
    """Hit rate of the value of a step at the cell that was best on other problems."""
    return measured(
        metric,
        best.hit,
        len(best.hits),
        cell={"layer": best.layer, "latent_pos": "bot" if best.place == 0 else best.place - 1},
        outcomes=best.hits,
        detail={"rate": best.rate.tolist(), "gain": ends(best.gain)},
        null=Null.at(best.shuffled, p),
        verdict=reading.hit_word(best, p),
    )


def hits(bench: Bench, capture: Captured, step: int) -> Hits:
    """The first problems that have the step choose the cell, the next ones are scored there."""
    indices = [i for i, problem in enumerate(capture.problems) if problem.num_steps > step]
    values = [capture.problems[i].values[step - 1] for i in indices]
    rows, control = reading.readable([capture.problems[i] for i in indices], values, seed=SEED + bench.seed)
    rows, control = rows[: NUM_CHOOSING + NUM_READ], control[: NUM_CHOOSING + NUM_READ]
    if len(rows) < 2 * FEWEST_READ:
        raise MeasureError(
            f"{len(rows)} problems have a step after step {step} whose value is not in the question; {2 * FEWEST_READ} are "
            "needed: give more of them"
        )
    words = [(f"{values[i]:g}", f"{values[j]:g}") for i, j in zip(rows, control)]
    states = capture.hidden_states[[indices[i] for i in rows]]
    ranks = bench.cached(np.ndarray, type(bench.model).lens_ranks, bench.model, states, words)
    middle = min(NUM_CHOOSING, len(rows) // 2)
    cell = reading.choose_cell(ranks[:middle, ..., 0])
    return reading.hits(ranks[middle:, ..., 0], ranks[middle:, ..., 1], cell)
