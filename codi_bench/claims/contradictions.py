"""Where sources disagree: their protocols side by side on one model, and whether these differences make the numbers differ.

SUPPORTED: they do; REFUTED: not by half of what was published. Two contradictions are claims of their own: `cap-batch-effect`
(paddings) and `cap-off-by-one` (the index).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from codi_bench.audits.ablation import CLEAN, DROP_FLOOR, KINDS, Sweep, check_controls
from codi_bench.audits.decoding import FEWEST
from codi_bench.claims import codi_paper, hits, lab_journal, lab_notebook, released_log, runs, scratchpad
from codi_bench.claims.ablations import NUM_ABLATED, every_kind, rearranged, replaced
from codi_bench.claims.blocks import PAIRED, gains, rates
from codi_bench.claims.claim import SEED, Bench, Measured, Protocols, Published, claim, measured, without_word
from codi_bench.claims.open_questions.reading import NUM_READ
from codi_bench.errors import MeasureError
from codi_bench.rules.stats import Estimate, bootstrap_mean, stream
from codi_bench.rules.validity import half_effect, order_verdict

FAMILY = "contradictions"
OTHER = "the other protocol"
NO_LATENTS = "none"
CONTRADICTION: dict[str, Any] = {"family": FAMILY}


def differences(outcomes: Mapping[str, np.ndarray], pairs: Mapping[str, tuple[str, str]], published: Published) -> list[Measured]:
    """By how much the first protocol of each pair gives more than the second, on the same problems.

    Delta: half of the published difference, not below 2 points.
    """
    reported = {name: published.get(a, 0) - published.get(b, 0) for name, (a, b) in pairs.items()}
    delta = {name: half_effect(gain if gain > 0 else None, DROP_FLOOR) for name, gain in reported.items()}
    return gains({name: (outcomes[a], outcomes[b]) for name, (a, b) in pairs.items()}, OTHER, family=FAMILY, delta=delta)


@claim(
    "contra-table3",
    f"{codi_paper.SOURCE}, Table 3 (97.1 / 83.9 / 75.0 %), against its {released_log.SOURCE} (90.7 / 78.0 / 54.6 %)",
    kind="value",
    n=runs.NUM_PROBLEMS,
    protocol=(
        f"{hits.RIGHT}all results before the last among the first five words at any place: equal numbers, and words that a "
        "result begins with"
    ),
    sound=f"the looser rule against the stricter, on the same problems: {PAIRED}",
    files=hits.LOG,
    **CONTRADICTION,
)
def table3(bench: Bench, published: Published) -> Protocols:
    """The rule for matching words with results explains why a paper finds more of them than its log."""
    strict, loose, outcomes = hits.strict(bench.decoded), hits.readings(bench.decoded), dict[str, np.ndarray]()
    for m in (1, 2, 3):
        if len(strict.get(f"top5_{m}", ())) >= FEWEST:
            outcomes |= {f"equal_{m}": np.diag(strict[f"top5_{m}"]), f"prefix_{m}": np.diag(loose[f"prefix_{m}"])}
    if not outcomes:
        raise MeasureError(f"fewer than {FEWEST} rightly answered problems have an intermediate result: give more problems")
    yield rates(outcomes)
    pairs = {f"prefix_{m}": (f"prefix_{m}", f"equal_{m}") for m in (1, 2, 3) if f"equal_{m}" in outcomes}
    yield differences(outcomes, pairs, published)


@claim(
    "contra-none",
    f"{lab_notebook.SOURCE} (eot at once, zeros, means), against {scratchpad.SOURCE} (zeros) and {lab_journal.SOURCE} (zeros: "
    "nothing left)",
    kind="value",
    n=NUM_READ,
    protocol=f"eot behind bot, zeros for all latents, means for all latents, {NUM_READ} problems",
    sound=f"each against each of lower figures, on the same problems: {PAIRED}",
    answers="either",
    **CONTRADICTION,
)
def without_thoughts(bench: Bench, published: Published) -> Protocols:
    """The meaning of "no thoughts" explains why accuracy without them is 24, 23 or 11 %."""
    fewer, others = runs.shortened(bench, NUM_READ), replaced(bench)
    outcomes = {NO_LATENTS: fewer["0"], **{kind: others[kind] for kind in ("zero", "mean")}}
    yield rates(outcomes)
    _ = fewer.checked(), others.checked()
    yield differences(outcomes, {f"{a}_over_{b}": (a, b) for a, b in combinations(outcomes, 2)}, published)


@claim(
    "contra-most-important",
    f"{lab_notebook.SOURCE} (zeros: position 4; means and noise: 0), against {lab_journal.SOURCE} (5) and the first study "
    "(1 and 2)",
    kind="value",
    n=NUM_ABLATED,
    protocol=(
        f"the position whose replacement costs most, by means, zeros, noise and another problem's latent, {NUM_ABLATED} problems"
    ),
    sound=(
        "each two replacements: their positions chosen on the first half of the problems; on the other half, how much more each "
        "costs at its own than at the other's: is the simultaneous bootstrap interval of the weaker above zero?"
    ),
    answers="either",
    **CONTRADICTION,
)
def most_important(bench: Bench, published: Published) -> Protocols:
    """What a latent is replaced by decides which latent matters most."""
    ablations, pairs = every_kind(bench), list(combinations(KINDS, 2))
    n = len(ablations.right[0])
    yield [measured(kind, float(worst(ablations, kind, slice(None))), n, "count") for kind in KINDS]
    check_controls(ablations)
    yield [compared(bench, ablations, *pair, num_pairs=len(pairs)) for pair in pairs]


def compared(bench: Bench, ablations: Sweep, first: str, second: str, *, num_pairs: int) -> Measured:
    """Does each of two replacements cost more at a position of its own than at the other's? The weaker of the two counts.

    The word is by the interval that holds for all pairs together (Bonferroni). No word where both choose one position.
    """
    n, metric = len(ablations.right[0]), f"{first}_or_{second}"
    places = [worst(ablations, kind, slice(None, n // 2)) for kind in (first, second)]
    detail = {"positions": places}
    if places[0] == places[1]:
        return measured(metric, 0.0, n - n // 2, detail=without_word(f"both cost most at latent {places[0]}") | detail)
    own, rival = places
    costs = [
        (loss(ablations, kind, place) - loss(ablations, kind, other))[n // 2 :]
        for kind, place, other in ((first, own, rival), (second, rival, own))
    ]
    weaker = min(costs, key=lambda cost: cost.mean())

    def at(level: float) -> Estimate:
        return bootstrap_mean(weaker, rng=stream(SEED + bench.seed, "most important", first, second), level=level)

    return measured(metric, at(0.95), len(weaker), detail=detail, verdict=order_verdict(at(1 - 0.05 / num_pairs)))


def worst(ablations: Sweep, kind: str, rows: slice) -> int:
    """The latent position whose replacement costs most."""
    count = sum(name.endswith(f"={kind}") and name[0].isdigit() for name in dict.fromkeys(ablations.names))
    return int(np.argmax([loss(ablations, kind, place)[rows].mean() for place in range(count)]))


def loss(ablations: Sweep, kind: str, place: int) -> np.ndarray:
    """What replacing one latent costs on each problem, [n]: -1 to 1, the mean of its draws."""
    return np.asarray(ablations.rows(CLEAN)[0][0] - ablations.rows(f"{place}={kind}")[0].mean(axis=0))


@claim(
    "contra-order",
    f"{scratchpad.SOURCE} (reversed 36.3 %, in order 41.7 %), against a strict reading of the slots in the {released_log.SOURCE}",
    kind="order",
    n=NUM_READ,
    protocol=f"the own thoughts in order, reversed, and none (eot behind bot), {NUM_READ} problems",
    sound="what reversed thoughts give over none, less what order gives over reversed: is the bootstrap interval above zero?",
    answers="either",
    **CONTRADICTION,
)
def order_or_content(bench: Bench, published: Published) -> Protocols:
    """Thoughts matter by their content more than by their order."""
    fed, fewer = rearranged(bench), runs.shortened(bench, NUM_READ)
    outcomes = {CLEAN: fed[CLEAN], "reversed": fed["reversed"], NO_LATENTS: fewer["0"]}
    yield rates(outcomes)
    _ = fed.checked(), fewer.checked()
    clean, reverse, none = (right.astype(float) for right in outcomes.values())
    gain = bootstrap_mean((reverse - none) - (clean - reverse), rng=stream(SEED + bench.seed, "order or content"))
    yield [measured("content_over_order", gain, len(clean), verdict=order_verdict(gain))]
