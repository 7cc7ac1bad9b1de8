"""The first study: GPT-2 against LLaMA-3.2-1B CODI on GSM8K (2025-10-24): what it claimed, as it measured and as it should have.

Figures live in `baselines/`, never here. The document counts `bot-first`: its "token 0" is the bot step and tokens 1..5 are
latents 0..4; a sixth latent was never fed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from codi_bench.claims import runs
from codi_bench.claims.claim import Bench, Protocols, measured, without_word
from codi_bench.claims.runs import Captured
from codi_bench.models.edits import BOT

SOURCE = "GPT-2 vs LLaMA CODI: Comparative Analysis, 2025-10-24"
GPT2, LLAMA = "gpt2", "llama-3.2-1b"  # the two models of the study, whose sentences differ
NO_INTERVAL = "extremes and spreads over cells have no valid interval"
NO_BOUND = "an extreme over cells has no valid interval; its null band is printed"
SAME = "the same count"
FACT = without_word("a fact has no null")


NUM_PROBLEMS = 1000  # that its own protocols took


def places(bench: Bench) -> tuple[int | str, ...]:
    """The study's tokens in our words: bot, then the latent positions that it fed (one fewer than K)."""
    return (BOT, *range(bench.model.num_latents - 1))


def captured(bench: Bench, n: int, variants: int = 1) -> Captured:
    """Problems thought about with one latent fewer than K, as the study did."""
    return runs.captured(bench, n, bench.model.num_latents - 1, variants)


def logistic_permutations(bench: Bench) -> int:
    """Label draws of the nulls of logistic probes, whose fits are dear: 199 place p = 0.01 and the null's mean well enough."""
    return min(bench.permutations, 199)


def by_sentence(bench: Bench, metric: str) -> dict[str, str]:
    """The published models by whose sentence this one is judged, with the metric of each: two for a user's own model."""
    judged_by = [bench.model.entry.beside] if bench.model.entry.beside else [GPT2, LLAMA]
    return {name: metric if len(judged_by) == 1 else f"{metric}_as_{name}" for name in judged_by}


def script(bench: Bench) -> str:
    """Whose script the reported protocol follows: that of the model it stands beside, else GPT-2's."""
    return bench.model.entry.beside or GPT2


def counts(facts: Mapping[str, float]) -> Protocols:
    """What is counted, which is the same under every protocol."""
    rows = [measured(metric, value, 1, "count") for metric, value in facts.items()]
    yield rows
    yield [replace(row, detail=FACT) for row in rows]
