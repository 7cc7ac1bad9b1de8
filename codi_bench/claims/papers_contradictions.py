"""Where sources disagree: their protocols side by side on one model, and whether these differences make the numbers differ.

SUPPORTED: they do; REFUTED: not by half of what was published. Two contradictions are claims of their own: `cap-batch-effect`
(paddings) and `cap-off-by-one` (the index).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from codi_bench.audits.ablation import CLEAN, DROP_FLOOR, KINDS, Sweep
from codi_bench.audits.decoding import FEWEST
from codi_bench.claims import papers_decoding as decoding
from codi_bench.claims import papers_latents as latents
from codi_bench.claims.claim import Bench, Measured, Null
from codi_bench.claims.own_reading import NUM_READ
from codi_bench.claims.papers_latents import rate_of, rates
from codi_bench.claims.seed_sound import SEED, ends, without_word
from codi_bench.claims.seed_sound_ablation import sweep
from codi_bench.errors import MeasureError
from codi_bench.rules.stats import Estimate, bootstrap_mean, mcnemar_exact, newcombe_paired, stream
from codi_bench.rules.validity import across_claims, half_effect, order_verdict, sound_verdict

NUM_CLAIMS = 4  # of the family, measured in a run or not
OTHER = "the other protocol"
NONE = "none"

# What a table's rule of counting does


def table(bench: Bench) -> list[Measured]:
    """Intermediate results among the first five words, as equal numbers, and as words that a result begins with."""
    return rates(_table(bench))


def table_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Does the looser rule find more?"""
    outcomes = _table(bench)
    pairs = {f"prefix_{m}": (f"prefix_{m}", f"equal_{m}") for m in (1, 2, 3) if f"equal_{m}" in outcomes}
    return _differences(outcomes, pairs, reported)


def _table(bench: Bench) -> dict[str, np.ndarray]:
    strict, loose = decoding.strict_tests(bench, bench.decoded), decoding.reading_tests(bench, bench.decoded)
    outcomes: dict[str, np.ndarray] = {}
    for m in (1, 2, 3):
        if len(strict.get(f"top5_{m}", ())) >= FEWEST:
            outcomes |= {f"equal_{m}": np.diag(strict[f"top5_{m}"]), f"prefix_{m}": np.diag(loose[f"prefix_{m}"])}
    if not outcomes:
        raise MeasureError(f"fewer than {FEWEST} rightly answered problems have an intermediate result: give more problems")
    return outcomes


# What "without thoughts" means


def without_thoughts(bench: Bench) -> list[Measured]:
    """Accuracy with no latents at all, and with zeros or means in the place of all of them."""
    return rates(_without(bench))


def without_thoughts_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Do the three differ, in the order of the published ones?"""
    pairs = {f"{a}_over_{b}": (a, b) for a, b in combinations((NONE, "zero", "mean"), 2)}
    return _differences(_without(bench), pairs, reported)


def _without(bench: Bench) -> dict[str, np.ndarray]:
    replacements = latents.replaced(bench)
    return {NONE: bench.early(NUM_READ)[0], "zero": replacements["zero"], "mean": replacements["mean"]}


def _differences(
    outcomes: Mapping[str, np.ndarray], pairs: Mapping[str, tuple[str, str]], reported: Mapping[str, float]
) -> list[Measured]:
    """By how much the first protocol of each pair gives more than the second, on the same problems.

    Delta: half of the published difference, not below 2 points.
    """
    p = across_claims([mcnemar_exact(outcomes[a], outcomes[b], "greater") for a, b in pairs.values()], NUM_CLAIMS)
    rows = []
    for (name, (a, b)), corrected in zip(pairs.items(), p, strict=True):
        gain, reported_gain = newcombe_paired(outcomes[a], outcomes[b]), reported.get(a, 0) - reported.get(b, 0)
        delta = half_effect(reported_gain if reported_gain > 0 else None, DROP_FLOOR)
        word = sound_verdict(gain, delta=delta, p={OTHER: float(corrected)}, marginal=OTHER, n=len(outcomes[a]))
        null = Null(float(outcomes[b].mean()), p=float(corrected))
        rows.append(rate_of(name, outcomes[a], null=null, verdict=word, detail={"gain": ends(gain)}))
    return rows


# Which latent matters most


def most_important(bench: Bench) -> list[Measured]:
    """The latent position whose replacement costs most, by what is put there."""
    ablations = sweep(bench)
    return [Measured(kind, float(_worst(ablations, kind, slice(None))), len(ablations.right[0]), "count") for kind in KINDS]


def most_important_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Does each of two replacements cost more at a position of its own than at the other's? The weaker of the two counts.

    Positions are chosen on the first half of the problems, and costs counted on the other; the word is by the interval that holds
    for all pairs of replacements together (Bonferroni). No word where both choose one position.
    """
    ablations, pairs = sweep(bench), list(combinations(KINDS, 2))
    n = len(ablations.right[0])
    first_half, second_half = slice(None, n // 2), slice(n // 2, None)

    def comparison(first: str, second: str) -> Measured:
        first_place, second_place = _worst(ablations, first, first_half), _worst(ablations, second, first_half)
        if first_place == second_place:
            why = {**without_word(f"both cost most at latent {first_place}"), "positions": [first_place, second_place]}
            return Measured(f"{first}_or_{second}", 0.0, n - n // 2, "fraction", detail=why)
        costs = [
            (_loss(ablations, kind, place) - _loss(ablations, kind, rival))[second_half]
            for kind, place, rival in ((first, first_place, second_place), (second, second_place, first_place))
        ]
        weaker = min(costs, key=lambda cost: cost.mean())

        def at(level: float) -> Estimate:
            return bootstrap_mean(weaker, rng=stream(SEED + bench.seed, "most important", first, second), level=level)

        gain, word = at(0.95), order_verdict(at(1 - 0.05 / len(pairs)))
        detail = {"positions": [first_place, second_place]}
        return Measured(
            f"{first}_or_{second}", gain.value, len(weaker), "fraction", gain.low, gain.high, detail=detail, verdict=word
        )

    return [comparison(first, second) for first, second in pairs]


def _worst(ablations: Sweep, kind: str, rows: slice) -> int:
    count = sum(name.endswith(f"={kind}") and name[0].isdigit() for name in dict.fromkeys(ablations.names))
    return int(np.argmax([_loss(ablations, kind, place)[rows].mean() for place in range(count)]))


def _loss(ablations: Sweep, kind: str, place: int) -> np.ndarray:
    """What replacing one latent costs on each problem, [n]: -1 to 1, the mean of its draws."""
    return ablations.rows(CLEAN)[0][0] - ablations.rows(f"{place}={kind}")[0].mean(axis=0)


# Order against content


def order_or_content(bench: Bench) -> list[Measured]:
    """Accuracy with the own thoughts, with the same ones in reverse, and with none."""
    return rates(_arrangements(bench))


def order_or_content_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Is more owed to having the thoughts at all than to having them in their order?"""
    clean, reverse, none = (outcomes.astype(float) for outcomes in _arrangements(bench).values())
    gain = bootstrap_mean((reverse - none) - (clean - reverse), rng=stream(SEED + bench.seed, "order or content"))
    return [Measured("content_over_order", gain.value, len(clean), "fraction", gain.low, gain.high, verdict=order_verdict(gain))]


def _arrangements(bench: Bench) -> dict[str, np.ndarray]:
    outcomes = latents.refed(bench)
    return {CLEAN: outcomes[CLEAN], "reversed": outcomes["reversed"], NONE: bench.early(NUM_READ)[0]}
