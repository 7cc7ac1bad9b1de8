"""SIM-CoT (arXiv 2509.20317): how much better its models answer than those that they are trained from.

How often they answer rightly is `codi-acc-gsm8k` and `codi-ood`, for Coconut `cap-batch-effect`.
"""

from __future__ import annotations

from dataclasses import replace

from codi_bench.claims.claim import Bench, Measured, Protocols, Published, claim, points
from codi_bench.claims.codi_paper import ELSEWHERE, EVALUATION, LATENTS, NUM_ANSWERED, answered, elsewhere
from codi_bench.models.conditions import CLEAN, PUBLISHED, Condition
from codi_bench.rules.stats import newcombe_paired
from codi_bench.rules.validity import order_verdict

SOURCE = "SIM-CoT, arXiv 2509.20317"


@claim(
    "simcot-gain",
    f"{SOURCE}, Tables 1 and 2; headline: its README",
    kind="order",
    protocol=(
        f"{NUM_ANSWERED} problems of GSM8K, and {ELSEWHERE}; {EVALUATION}. Less what the published model without SIM-CoT answers "
        "(there: trained again by its authors). The README prints another gain on GSM8K than the tables: headline"
    ),
    sound="the same, each problem alone: does the interval of the difference, by Newcombe, lie above zero?",
    models=("sim-cot-gpt2", "sim-cot-llama-1b", "sim-cot-coconut"),
    with_partner=True,
    **LATENTS,
)
def gain(bench: Bench, published: Published) -> Protocols:
    """Training beside a decoder that reads steps from the thoughts makes a model answer more problems rightly."""
    sets = {"gsm8k": bench.problems.first(NUM_ANSWERED), **elsewhere(bench)}

    def gains(condition: Condition, *, judged: bool) -> list[Measured]:
        rows = []
        for name, problems in sets.items():
            gain = newcombe_paired(answered(bench, problems, condition), answered(bench.partner, problems, condition))
            rows.append(points(f"gain_{name}", gain, len(problems), verdict=order_verdict(gain) if judged else None))
        return rows

    rows = gains(PUBLISHED, judged=False)
    yield [*rows, replace(rows[0], metric="headline")]
    yield gains(CLEAN, judged=True)
