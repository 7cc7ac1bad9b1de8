"""Tiny seeded CODI models of both families, written and loaded like any user's folder."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings
from transformers import AutoModelForCausalLM, AutoTokenizer

from codi_bench.models.checkpoint import save_folder
from codi_bench.models.codi import Codi, Projection
from codi_bench.models.model import load
from codi_bench.models.recipes import Recipe
from codi_bench.models.tokenizer import write_tokenizer
from codi_bench.problems import vocabulary

FAMILIES = ("gpt2", "llama")

torch.set_num_threads(1)
# the machine may be busy: time is no property of the package here
settings.register_profile("codi-bench", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("codi-bench")


def _recipe(family, **changes):
    """Weights are drawn wide, so that questions get different answers; wider still, and rounding would grow to chaos."""
    fields = {
        "name": f"tiny-{family}",
        "family": family,
        "width": 32,
        "layers": 4,
        "heads": 2,
        "inner": 64,
        "phases": (("teacher", 4), ("both", 4), ("teacher", 2), ("both", 2)),
        "horizon": 12,
        "cooldown": 3,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "distill_factor": 5.0,
        "train_problems": 800,
        "warmup": 2,
        "initializer_range": {"gpt2": 0.2, "llama": 0.1}[family],
    }
    return Recipe(**{**fields, **changes})


@pytest.fixture(scope="session")
def tiny_recipe():
    """A function (family, **changes) → Recipe of a model that trains in a second."""
    return _recipe


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory):
    """family → a folder with a seeded CODI model: width 32, 4 layers, 2 heads, K = 6."""
    folders = {}
    for seed, family in enumerate(FAMILIES):
        folder = tmp_path_factory.mktemp("models") / f"tiny-{family}"
        write_tokenizer(vocabulary(), folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        recipe = _recipe(family)
        torch.manual_seed(seed)
        backbone = AutoModelForCausalLM.from_config(recipe.config(len(tokenizer)))
        save_folder(
            Codi(
                backbone,
                Projection(recipe.width, recipe.inner),
                tokenizer,
                vocab_size=len(tokenizer),
                num_latents=recipe.num_latents,
            ),
            folder,
        )
        folders[family] = folder
    return folders


@pytest.fixture(scope="session", params=FAMILIES)
def tiny(request, tiny_folders):
    """A loaded tiny model, one family after the other."""
    return load(tiny_folders[request.param], device="cpu")
