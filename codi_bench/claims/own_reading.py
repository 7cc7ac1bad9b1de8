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
    p = across_claims([mcnemar_exact(full, each, "greater") for each in right[:-1]], NUM_CLAIMS)
    few = without_word("with all latents the model may answer less than 5 %: nothing could be lost")
    rows = []
    for k, each in enumerate(right):
        rate, loss = wilson(int(each.sum()), len(each)), newcombe_paired(full, each)
        last = k == len(right) - 1
        word = None if last else reading.enough_word(full, each, float(p[k]), tests=len(p))
        why = without_word("all latents: what the others are compared with") if last else {} if word else few
        rows.append(
            Measured(
                f"accuracy_{k}",
                rate.value,
                len(each),
                "fraction",
                rate.low,
                rate.high,
                outcomes=each,
                detail={"loss": ends(loss)} | why,
                null=None if last else Null(float(full.mean()), p=float(p[k])),
                verdict=word,
            )
        )
    return rows


def lens(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Hit rate of the value of each step at the cell that was best on other problems."""
    found = captured(bench)
    asked = [_hits(bench, found, step) for step in STEPS]
    p = across_claims([each.p for each in asked], NUM_CLAIMS)
    rows = []
    for step, each, corrected in zip(STEPS, asked, p):
        place = "bot" if each.place == 0 else each.place - 1
        rows.append(
            Measured(
                f"hit_step{step}",
                each.hit.value,
                len(each.hits),
                "fraction",
                each.hit.low,
                each.hit.high,
                cell={"layer": each.layer, "latent_pos": place},
                outcomes=each.hits,
                detail={"rate": each.rate.tolist(), "gain": ends(each.gain)},
                null=Null(each.shuffled.value, each.shuffled.low, each.shuffled.high, float(corrected)),
                verdict=reading.hit_word(each, float(corrected)),
            )
        )
    return rows


def _hits(bench: Bench, found: Captured, step: int) -> Hits:
    """The first problems that have the step choose the cell, the next ones are scored there."""
    having = [i for i, problem in enumerate(found.problems) if problem.num_steps > step]
    values = [found.problems[i].values[step - 1] for i in having]
    rows, other = reading.readable([found.problems[i] for i in having], values, seed=SEED + bench.seed)
    rows, other = rows[: NUM_CHOOSING + NUM_READ], other[: NUM_CHOOSING + NUM_READ]
    if len(rows) < 2 * FEWEST_READ:
        raise MeasureError(
            f"{len(rows)} problems have a step after step {step} whose value is not in the question; {2 * FEWEST_READ} are "
            "needed: give more of them"
        )
    words = [(f"{values[i]:g}", f"{values[j]:g}") for i, j in zip(rows, other)]
    problems = [found.problems[having[i]] for i in rows]
    ranks = bench.lens(problems, found.hidden_states[[having[i] for i in rows]], words)
    middle = min(NUM_CHOOSING, len(rows) // 2)
    cell = reading.choose_cell(ranks[:middle, ..., 0])
    return reading.hits(ranks[middle:, ..., 0], ranks[middle:, ..., 1], cell)
