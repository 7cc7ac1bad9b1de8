"""A tiny seeded CODI model of either family, in a folder like any user's, and a tiny backbone to train one over."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig

from codi_bench.models.checkpoint import save_folder
from codi_bench.models.codi import Codi, Projection
from codi_bench.problems import vocabulary
from codi_bench.training.recipes import Recipe
from codi_bench.training.tokenizer import write_tokenizer

FAMILIES = ("gpt2", "llama")
ENDING = 3.0  # added to the logit of eos, where the highest of all others is about 3


def tiny_recipe(family: str, **changes) -> Recipe:
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


def write_tiny(family: str, folder: Path, *, brief: bool = False) -> Path:
    """Write an untrained model: width 32, 4 layers, 2 heads, K = 6; the seed is the family's place in FAMILIES.

    brief: of GPT-2, its answers end after a few tokens; others go on to the limit.
    """
    write_tokenizer(vocabulary(), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    recipe = tiny_recipe(family)
    torch.manual_seed(FAMILIES.index(family))
    backbone = AutoModelForCausalLM.from_config(recipe.config(len(tokenizer)))
    if brief:
        eos = backbone.get_output_embeddings().weight[tokenizer.eos_token_id].detach()
        backbone.transformer.ln_f.bias.data += ENDING * eos / eos.square().sum()
    projection = Projection(recipe.width, recipe.inner)
    save_folder(Codi(backbone, projection, tokenizer, vocab_size=len(tokenizer), num_latents=recipe.num_latents), folder)
    return folder


def write_base(family: str, folder: Path, **changes) -> Path:
    """Write a random backbone in the form of a pretrained one: width 32, two layers. Llama's head is not its embedding."""
    write_tokenizer(vocabulary(), folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 128}
    if family == "llama":
        sizes |= {"intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    words = len(AutoTokenizer.from_pretrained(folder, local_files_only=True))
    shared = {"vocab_size": words, "bos_token_id": 1, "eos_token_id": 1, "tie_word_embeddings": family == "gpt2"}
    config = {"gpt2": GPT2Config, "llama": LlamaConfig}[family](**{**sizes, **shared, "initializer_range": 0.2, **changes})
    torch.manual_seed(len(family))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
