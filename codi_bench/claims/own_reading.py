"""Reading: how many thoughts an answer needs, and which values the head reads in their states."""

from __future__ import annotations

from collections.abc import Mapping

from codi_bench.audits import reading
from codi_bench.audits.patching import NUM_CLAIMS
from codi_bench.audits.reading import Hits
from codi_bench.claims.claim import Bench, Captured, Measured, Null
from codi_bench.claims.own_edits import STEPS
from codi_bench.claims.seed_sound import SEED, captured, ends, without_word
from codi_bench.errors import MeasureError
from codi_bench.rules.stats import mcnemar_exact, newcombe_paired, wilson
from codi_bench.rules.validity import across_claims

NUM_READ, NUM_CHOOSING, FEWEST_READ = 300, 200, 20


def early_answer(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Accuracy after the first k latents, and whether they are enough."""
    right = bench.early(NUM_READ)
    full = right[-1]
    p = across_claims([mcnemar_exact(full, outcomes, "greater") for outcomes in right[:-1]], NUM_CLAIMS)
    few = without_word("with all latents the model may answer less than 5 %: nothing could be lost")
    rows = []
    for k, outcomes in enumerate(right):
        rate, loss = wilson(int(outcomes.sum()), len(outcomes)), newcombe_paired(full, outcomes)
        last = k == len(right) - 1
        word = None if last else reading.enough_word(full, outcomes, float(p[k]), tests=len(p))
        why = without_word("all latents: what the others are compared with") if last else {} if word else few
        rows.append(
            Measured(
                f"accuracy_{k}",
                rate.value,
                len(outcomes),
                "fraction",
                rate.low,
                rate.high,
                outcomes=outcomes,
                detail={"loss": ends(loss)} | why,
                null=None if last else Null(float(full.mean()), p=float(p[k])),
                verdict=word,
            )
        )
    return rows


def lens(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Hit rate of the value of each step at the cell that was best on other problems."""
    capture = captured(bench)
    best_cells = [_hits(bench, capture, step) for step in STEPS]
    p = across_claims([best.p for best in best_cells], NUM_CLAIMS)
    rows = []
    for step, best, corrected in zip(STEPS, best_cells, p):
        place = "bot" if best.place == 0 else best.place - 1
        rows.append(
            Measured(
                f"hit_step{step}",
                best.hit.value,
                len(best.hits),
                "fraction",
                best.hit.low,
                best.hit.high,
                cell={"layer": best.layer, "latent_pos": place},
                outcomes=best.hits,
                detail={"rate": best.rate.tolist(), "gain": ends(best.gain)},
                null=Null(best.shuffled.value, best.shuffled.low, best.shuffled.high, float(corrected)),
                verdict=reading.hit_word(best, float(corrected)),
            )
        )
    return rows


def _hits(bench: Bench, capture: Captured, step: int) -> Hits:
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
    problems = [capture.problems[indices[i]] for i in rows]
    ranks = bench.lens(problems, capture.hidden_states[[indices[i] for i in rows]], words)
    middle = min(NUM_CHOOSING, len(rows) // 2)
    cell = reading.choose_cell(ranks[:middle, ..., 0])
    return reading.hits(ranks[middle:, ..., 0], ranks[middle:, ..., 1], cell)
