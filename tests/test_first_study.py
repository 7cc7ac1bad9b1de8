"""Which published sentence a model is judged by: that of the model it stands beside; a user's own model by both."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from codi_bench.audits.ablation import Sweep
from codi_bench.claims import CLAIMS
from codi_bench.claims.ablations import controls, main_conditions, sweep
from codi_bench.claims.claim import done
from codi_bench.claims.first_study import GPT2, LLAMA, script
from codi_bench.claims.first_study.ablation import without_token
from codi_bench.claims.first_study.probes import spread_verdict
from codi_bench.models.registry import REGISTRY, entry_for
from codi_bench.rules.validity import SpreadWord, Validity

P = {"even": 0.5, "concentrated": 0.001}  # of Cochran's Q
SUPPORTED, REFUTED = Validity.SUPPORTED, Validity.REFUTED


def critical_at(place: int, beside: str, architecture: str) -> SimpleNamespace:
    """A bench on which one latent costs a third of the answers, and no other costs any."""
    names = tuple(name for name, _ in main_conditions(6) + controls(6))
    clean = np.arange(300) % 10 > 1
    right = np.array([clean & (np.arange(300) % 3 > 0) if name.startswith(f"{place}=") else clean for name in names])
    entry = SimpleNamespace(beside=beside, architecture=architecture)
    runs = {sweep: Sweep(names, right, np.zeros(right.shape)), without_token: (clean[:100], right[:6, :100])}
    return SimpleNamespace(model=SimpleNamespace(num_latents=6, entry=entry), seed=0, permutations=199, memo=done(runs))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("beside", "words"),
    [
        (GPT2, {"range": SUPPORTED}),
        (LLAMA, {"range": REFUTED}),
        ("", {f"range_as_{GPT2}": SUPPORTED, f"range_as_{LLAMA}": REFUTED}),
    ],
)
def test_the_architecture_decides_no_sentence(beside, words, architecture):
    _, sound = CLAIMS["ablation-critical"].function(critical_at(2, beside, architecture), {})
    assert {row.metric: row.verdict.word for row in sound} == words
    assert {row.cell["latent_pos"] for row in sound} == {2}


def test_spread_is_claimed_to_be_concentrated_for_one_and_even_for_the_other():
    even = SpreadWord("even", "", frozenset(), None)
    assert spread_verdict(GPT2, even, 0.5).word is REFUTED and spread_verdict(LLAMA, even, 0.5).word is SUPPORTED
    concentrated = SpreadWord("concentrated", "", frozenset(), None)
    assert (
        spread_verdict(GPT2, concentrated, 0.001).word is SUPPORTED and spread_verdict(LLAMA, concentrated, 0.001).word is REFUTED
    )


def test_every_registered_model_stands_beside_a_published_one_and_an_own_one_beside_none():
    assert {name: entry.beside for name, entry in REGISTRY.items()} == {
        "gpt2-mini": GPT2,
        "llama-mini": LLAMA,
        "gpt2": GPT2,
        "llama-3.2-1b": LLAMA,
        "coconut-gpt2": GPT2,
        "coconut-gpt2-prosqa": GPT2,
        "coconut-gpt2-prosqa-dilgren": GPT2,
        "coconut-gpt2-prontoqa": GPT2,
        "gpt2-mini-pause": GPT2,
        "llama-mini-pause": LLAMA,
        "sim-cot-gpt2": GPT2,
        "sim-cot-llama-1b": LLAMA,
        "sim-cot-llama-3b": LLAMA,
        "sim-cot-llama-8b": LLAMA,
        "sim-cot-coconut": GPT2,
    }
    own = entry_for("mine", "llama", 16)
    assert own.beside == "" and script(SimpleNamespace(model=SimpleNamespace(entry=own))) == GPT2
