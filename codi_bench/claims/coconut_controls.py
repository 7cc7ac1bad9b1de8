"""A Coconut against controls that were trained like it with pause tokens, and edits of its thoughts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from codi_bench.audits.ablation import DROP_FLOOR
from codi_bench.audits.reading import ENOUGH_MARGIN
from codi_bench.claims.blocks import corrected, rate, rates
from codi_bench.claims.claim import Measured, Null, Protocols, Published, claim, measured, points, without_word
from codi_bench.claims.coconut_latents import TWO
from codi_bench.claims.comparisons import Pairs, above
from codi_bench.claims.on_files import ReleasedBench
from codi_bench.claims.released_study import FAMILY, RELEASED
from codi_bench.errors import MeasureError
from codi_bench.rules.controls import check_alive, check_room
from codi_bench.rules.counts import difference_range, mcnemar_range, paired_verdict
from codi_bench.rules.stats import Z95, wilson
from codi_bench.rules.validity import half_effect, none_stands_out, passes
from codi_bench.thoughts.research_pipeline import (
    COCONUT,
    PAUSE,
    PERMUTATIONS,
    SETS,
    RightBySet,
    SpoiltThoughts,
    multipass_answers,
    prosqa_answers,
    spoilt_thoughts,
    thought_counts,
    unmatched_transplants,
)
from codi_bench.thoughts.rizvi_coconut import hops, prosqa_unaided

MODEL = "coconut-gpt2-prosqa"
SOURCE = "The Curriculum Is the Mechanism, github.com/bmarti44/research-pipeline, recomputed"
SIMULTANEOUS = "the interval of the paired difference that holds for all five sets together"
CONTROLS: dict[str, Any] = RELEASED | {
    "kind": "order",
    "n": 500,
    "sound": SIMULTANEOUS,
    "files": {MODEL: (prosqa_answers, multipass_answers)},
}
EVERY = "ProsQA's 500 test problems, and 1000 each with seven and eight hops, as other graphs and as dense ones; one seed a model"


# Against pause tokens


@claim("rel-coconut-over-pause", SOURCE, protocol=f"{EVERY}; the control answers in one pass", **CONTROLS)
def over_pause(bench: ReleasedBench, published: Published) -> Protocols:
    """Thoughts that are fed back answer more problems than pause tokens in their place."""
    answers = bench.read(prosqa_answers)
    yield from compared(answers[COCONUT], answers[PAUSE], "pause")


@claim("rel-coconut-over-passes", SOURCE, protocol=f"{EVERY}; the control makes as many passes", **CONTROLS)
def over_passes(bench: ReleasedBench, published: Published) -> Protocols:
    """Thoughts that are fed back answer more problems than pause tokens in as many passes."""
    yield from compared(bench.read(prosqa_answers)[COCONUT], bench.read(multipass_answers), "multipass")


@claim(
    "rel-coconut-passes",
    SOURCE,
    protocol=f"{EVERY}; both controls: one pass for each pause token against one for all",
    **CONTROLS,
)
def passes_help(bench: ReleasedBench, published: Published) -> Protocols:
    """A pass for each pause token answers more problems than one pass for all."""
    yield from compared(bench.read(multipass_answers), bench.read(prosqa_answers)[PAUSE], "pause")


def compared(first: RightBySet, second: RightBySet, control: str) -> Protocols:
    """Both accuracies by set; then that of the first, with the word on being above the control."""
    pairs: Pairs = {name: (first[name], second[name]) for name in SETS}
    others = {f"{control}_{name}": second[name] for name in SETS}
    yield rates(first) + rates(others)
    why = without_word("a control")
    yield above(pairs) + [rate(metric, right, detail=why) for metric, right in others.items()]


# Thoughts spoilt, put in another order, or taken from other problems


@claim(
    "rel-coconut-corruption",
    SOURCE,
    kind="exists",
    n=500,
    protocol=(
        "points lost from the clean accuracy with noise in the first k + 1 thoughts (forward_k), the last (reverse_k), or in "
        "thought k (single_k); a problem has three to six thoughts, and one that has none there counts as wrong among all 500. "
        "Null: the clean answers counted in the same way"
    ),
    sound=(
        "points lost by the problems that have so many thoughts, from their own clean accuracy: McNemar over all tables that the "
        "counts allow, Holm in the claim times the claims of the family. How many thoughts a problem has is its number of steps, "
        "from its text in another repository; both agree on how many problems have each"
    ),
    files={MODEL: (prosqa_answers, spoilt_thoughts, thought_counts, prosqa_unaided)},
    **RELEASED,
)
def corruption(bench: ReleasedBench, published: Published) -> Protocols:
    """Noise in the thoughts makes accuracy collapse from the fourth thought on."""
    spoilt, right, steps = bench.read(spoilt_thoughts), bench.read(prosqa_answers)[COCONUT]["prosqa"], thoughts_of(bench)
    n, conditions = spoilt.n, dict[str, tuple[int, int, int]]()  # clean and spoilt right, of problems
    for (kind, k), after in spoilt.noise.items():
        conditions[f"{kind}_{k}"] = int(right[steps > k].sum()), after, int((steps > k).sum())
    rows = []
    for metric, (before, after, some) in conditions.items():
        null = Null(100 * (spoilt.clean - before) / n, p=mcnemar_range(before, after, some, "greater")[0])
        rows.append(points(metric, difference_range(spoilt.clean, after, n), n, null=null, nominal=0.0))
    yield rows
    check_noise(spoilt)
    check_room(right, TWO)
    p_values = corrected([mcnemar_range(*counts, "greater")[1] for counts in conditions.values()], FAMILY)
    yield [lost(metric, *conditions[metric], published, p) for metric, p in zip(conditions, p_values, strict=True)]


def lost(metric: str, before: int, after: int, n: int, published: Published, p: float) -> Measured:
    """Points lost, with the bounds of all tables; p: the largest, corrected."""
    loss = published.get(metric, 0.0) / 100
    word = paired_verdict(before, after, n, delta=half_effect(loss if loss > 0 else None, DROP_FLOOR), p=p)
    note = {"note": f"{before} of {n} right before, {after} after"}
    return points(metric, difference_range(before, after, n), n, null=Null(0.0, p=p), verdict=word, detail=note)


def thoughts_of(bench: ReleasedBench) -> np.ndarray:
    """Number of thoughts of each of ProsQA's test problems, int [n].

    Raises MeasureError where texts and labels disagree on how many problems have each.
    """
    problems, counts = bench.read(prosqa_unaided), bench.read(thought_counts)
    steps = np.array([hops(*pair) for pair in zip(problems.questions, problems.golds, strict=True)])
    found = tuple(int((steps > k).sum()) for k in range(len(counts)))
    if found != counts:
        raise MeasureError(
            f"{found} problems have each thought by their texts, but {counts} by their labels: they are not the same problems"
        )
    return steps


def check_noise(spoilt: SpoiltThoughts) -> None:
    """Raises MeasureError where noise that every problem was given changes no count: the edit may not reach the model at all."""
    everywhere = {f"{kind}_{k}": count for (kind, k), count in spoilt.noise.items() if k < 3}  # as many thoughts each has
    check_alive(counted(spoilt.clean, spoilt.n), {name: counted(right, spoilt.n) for name, right in everywhere.items()})


def counted(right: int, n: int) -> np.ndarray:
    """Outcomes of such a count, bool [n], in an order that makes the fewest of them differ from those of another."""
    return np.arange(n) < right


@claim(
    "rel-coconut-order",
    SOURCE,
    kind="none",
    n=500,
    protocol=f"{PERMUTATIONS} other orders of the thoughts of each of 500 problems, taken for 5000 trials; neighbours exchanged",
    sound=(
        "of problems, for the orders of one are not independent: surely less than 5 points change. Controls: noise in the same "
        "thoughts changes some answer; the clean run must be better than one of the two answers that a question names"
    ),
    files={MODEL: (spoilt_thoughts,)},
    **RELEASED,
)
def order(bench: ReleasedBench, published: Published) -> Protocols:
    """No other order of the thoughts changes an answer."""
    spoilt: SpoiltThoughts = bench.read(spoilt_thoughts)
    n, trials = spoilt.n, spoilt.n * PERMUTATIONS
    yield [measured("flipped", wilson(spoilt.trials, trials), trials), measured("swapped", wilson(spoilt.swapped, n), n)]
    check_noise(spoilt)
    check_room(counted(spoilt.clean, n), TWO)
    yield [unchanged("flipped", spoilt.flipped, n), unchanged("swapped", spoilt.swapped, n)]


def unchanged(metric: str, changed: int, n: int) -> Measured:
    """Does the answer to surely less than 5 % of problems change? Two such shares are bounded together."""
    share, bound = wilson(changed, n), wilson(changed, n, level=1 - 0.1 / 2).high
    se = (share.high - share.low) / (2 * Z95)
    word = none_stands_out([bound], margin=ENOUGH_MARGIN, deviates=share.low > ENOUGH_MARGIN, n=n, se=se)
    return measured(metric, share, n, verdict=word)


@claim(
    "rel-coconut-transplant",
    SOURCE,
    kind="none",
    n=200,
    protocol="200 problems with the thoughts of another one of as many steps (matched), or of any other (unmatched)",
    sound=(
        "surely less than 5 points lost, over all tables that the counts allow. Matched: from the clean answers to the same 200, "
        "which follow from the order of the problems and their numbers of steps; unmatched: which 200 they were was not "
        "released, so from whatever clean count they may have. Controls as for the order of thoughts"
    ),
    files={MODEL: (prosqa_answers, spoilt_thoughts, unmatched_transplants, thought_counts, prosqa_unaided)},
    **RELEASED,
)
def transplant(bench: ReleasedBench, published: Published) -> Protocols:
    """Another problem's thoughts do as well as its own."""
    spoilt, right = bench.read(spoilt_thoughts), bench.read(prosqa_answers)[COCONUT]["prosqa"]
    given: dict[str, tuple[int, int]] = {"matched": spoilt.transplanted, "unmatched": bench.read(unmatched_transplants)}
    yield [measured(metric, wilson(*counts), counts[1]) for metric, counts in given.items()]
    check_noise(spoilt)
    check_room(right, TWO)
    own = right[recipients(thoughts_of(bench), given["matched"][1])]
    wrong, n = int((~right).sum()), given["unmatched"][1]
    before = {"matched": [int(own.sum())], "unmatched": [*range(max(0, n - wrong), min(n, int(right.sum())) + 1)]}
    largest = [max(mcnemar_range(clean, after, n, "greater")[1] for clean in before[name]) for name, (after, n) in given.items()]
    p_values = corrected(largest, FAMILY)
    yield [as_well(name, before[name], *counts, p) for (name, counts), p in zip(given.items(), p_values, strict=True)]


def recipients(steps: np.ndarray, pairs: int) -> list[int]:
    """The problems that were given thoughts of one of as many steps.

    Each second one; numbers of steps in the order in which they appear, as the script makes its pairs.
    """
    by_steps = (np.flatnonzero(steps == each) for each in dict.fromkeys(steps.tolist()))
    return [int(row) for rows in by_steps for row in rows[1::2]][:pairs]


def as_well(metric: str, before: Sequence[int], after: int, n: int, p: float) -> Measured:
    """Are surely less than 5 points lost from each clean count that is possible?

    p: the largest, corrected. Two such losses are bounded together.
    """
    bound = max(difference_range(clean, after, n, level=1 - 0.1 / 2).high for clean in before)
    losses = [difference_range(clean, after, n) for clean in before]
    se = max(loss.high - loss.low for loss in losses) / (2 * Z95)
    deviates = passes(p) and min(loss.low for loss in losses) > 0
    word = none_stands_out([bound], margin=ENOUGH_MARGIN, deviates=deviates, n=n, se=se)
    clean = f"{before[0]}" if len(before) == 1 else f"{before[0]} to {before[-1]}"
    null, note = Null(before[-1] / n, p=p), {"note": f"{clean} of {n} right with their own thoughts"}
    return measured(metric, wilson(after, n), n, null=null, verdict=word, detail=note)
