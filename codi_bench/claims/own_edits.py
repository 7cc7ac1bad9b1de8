"""The first study's question "can editing one thought steer the answer?", answered by experiment. Nothing was published on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codi_bench.audits import patching, reading
from codi_bench.audits.patching import Patched, Steered
from codi_bench.audits.reading import Hits, other_rows
from codi_bench.claims.claim import Bench, Captured, Claim, Measured, Null
from codi_bench.claims.seed_sound import SEED, captured, ends, without_word
from codi_bench.errors import MeasureError
from codi_bench.stats import holm, mcnemar_exact, newcombe_paired, wilson

SOURCE = "GPT-2 vs LLaMA CODI: Comparative Analysis, 2025-10-24, left open: can editing one thought steer the answer?"
UNPUBLISHED = "nothing was published"
STEPS = (1, 2)
NUM_PAIRS = 100
NUM_READ, NUM_CHOOSING, FEWEST_READ = 300, 200, 20
PATCHING = (
    f"{NUM_PAIRS} generated pairs a step that differ in one number, which that step alone uses; of them those whose two problems "
    "are answered rightly; {what}; the rate at which the answer becomes the donor's, over the highest rate of the controls: a "
    "donor with the same value there, a problem of like length{noise}; exact McNemar against each, {corrected}"
)


def unpublished(bench: Bench) -> list[Measured]:
    """What a claim measures whose source printed no number."""
    return []


def patched(bench: Bench, step: int) -> Patched:
    """All pairs of a step under every patch, checked."""

    def compute():
        found = bench.patched(NUM_PAIRS, patching.patches(bench.num_latents), step=step, seed=SEED + bench.seed)
        patching.check_self(found)
        return found

    return bench.once(f"patched {step}", compute)


def patch_latent(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Follow rate of each latent position and step."""
    return _rows(bench, [(k,) for k in range(bench.num_latents)])


def patch_keys(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same where only what later inputs attend to is another."""
    return _rows(bench, [(k,) for k in range(bench.num_latents)], keys_only=True)


def patch_all(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Follow rate of each step where all latents are the donor's."""
    return _rows(bench, [tuple(range(bench.num_latents))])


def _rows(bench: Bench, sets: Sequence[tuple[int, ...]], *, keys_only: bool = False) -> list[Measured]:
    """A row a step and set of places, tested together."""
    asked = [(step, patched(bench, step), places) for step in STEPS for places in sets]
    found = patching.steered([(pairs, places) for _, pairs, places in asked], keys_only=keys_only)
    return [_row(step, places, each) for (step, _, places), each in zip(asked, found, strict=True)]


def _row(step: int, places: tuple[int, ...], found: Steered) -> Measured:
    one = places[0] if len(places) == 1 else None
    strictest = max(found.controls.values(), key=lambda rate: rate.value)
    return Measured(
        f"follow_step{step}" if one is None else f"follow_step{step}_{one}",
        found.follow.value,
        len(found.follows),
        "fraction",
        found.follow.low,
        found.follow.high,
        cell=None if one is None else {"layer": None, "latent_pos": one},
        outcomes=found.follows,
        detail={
            "stay": ends(found.stay),
            "neither": ends(found.neither),
            "controls": {name: ends(rate) for name, rate in found.controls.items()},
            "p": found.p,
        },
        null=Null(strictest.value, strictest.low, strictest.high, max(found.p.values())),
        verdict=patching.steered_word(found),
    )


def early_answer(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Accuracy after the first k latents, and whether they are enough."""
    right = bench.early(NUM_READ)
    full = right[-1]
    p = holm([mcnemar_exact(full, each, "greater") for each in right[:-1]])
    rows = []
    for k, each in enumerate(right):
        rate, loss = wilson(int(each.sum()), len(each)), newcombe_paired(full, each)
        last = k == len(right) - 1
        rows.append(
            Measured(
                f"accuracy_{k}",
                rate.value,
                len(each),
                "fraction",
                rate.low,
                rate.high,
                outcomes=each,
                detail={"loss": ends(loss)} | (without_word("all latents: what the others are compared with") if last else {}),
                null=None if last else Null(float(full.mean()), p=float(p[k])),
                verdict=None if last else reading.enough_word(full, each, float(p[k])),
            )
        )
    return rows


def lens(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Hit rate of the value of each step at the cell that was best on other problems."""
    found = captured(bench)
    asked = [_hits(bench, found, step) for step in STEPS]
    p = holm([each.p for each in asked])
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
    rows = [i for i, problem in enumerate(found.problems) if problem.num_steps > step][: NUM_CHOOSING + NUM_READ]
    if len(rows) < 2 * FEWEST_READ:
        raise MeasureError(
            f"{len(rows)} problems have a step after step {step}; {2 * FEWEST_READ} are needed: give more problems"
        )
    problems = [found.problems[i] for i in rows]
    values = [problem.values[step - 1] for problem in problems]
    other = other_rows(values, seed=SEED + bench.seed)
    words = [(f"{values[i]:g}", f"{values[j]:g}") for i, j in enumerate(other)]
    ranks = bench.lens(problems, found.hidden_states[rows], words)
    middle = min(NUM_CHOOSING, len(rows) // 2)
    cell = reading.choose_cell(ranks[:middle, ..., 0])
    return reading.hits(ranks[middle:, ..., 0], ranks[middle:, ..., 1], cell)


CLAIMS = (
    Claim(
        "patch-latent",
        "edits",
        "exists",
        "Putting another problem's latent at one position turns the answer into the one that its value would give.",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        PATCHING.format(
            what="one latent is the donor's",
            noise=", a random vector of equal norm",
            corrected="Holm over both steps and all positions",
        ),
        patch_latent,
    ),
    Claim(
        "patch-keys",
        "edits",
        "exists",
        "Another problem's keys and values at one latent position turn the answer; the thought itself goes on as it was.",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        PATCHING.format(
            what="keys and values of one latent position are the donor's",
            noise="",
            corrected="Holm over both steps and all positions",
        ),
        patch_keys,
    ),
    Claim(
        "patch-all",
        "edits",
        "exists",
        "Putting all of another problem's latents in turns the answer: what thoughts carry is enough.",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        PATCHING.format(
            what="all latents are the donor's", noise=", random vectors of equal norm", corrected="Holm over both steps"
        ),
        patch_all,
    ),
    Claim(
        "early-answer",
        "edits",
        "none",
        "The answer is settled before the last latent: after k latents it is as often right.",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        f"{NUM_READ} problems; eot is fed after the first k latents; loss against all latents, exact McNemar, Holm over k; "
        "enough where the loss is surely below 5 points",
        early_answer,
    ),
    Claim(
        "lens",
        "edits",
        "exists",
        "The head reads intermediate values in the states of the thoughts (logit lens).",
        SOURCE,
        UNPUBLISHED,
        unpublished,
        f"the value of a step is the first of all ids, final norm before the head; cell of place and layer (the projected "
        f"thought too) chosen on {NUM_CHOOSING} problems and scored on {NUM_READ} others; against another problem's value there, "
        "exact McNemar, Holm over the steps",
        lens,
    ),
)
