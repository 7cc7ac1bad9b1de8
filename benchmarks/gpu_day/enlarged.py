"""An embedded model in the size of a published one, with the same answers: for the time that a whole study takes.

Random weights would not do: most sound rows of a model that knows nothing are blocked, and what is blocked takes no time. Here
every coordinate of the residual stream stands `times` over, which neither norm notices, and maps that read it take the mean of
its copies. The small model's blocks lie evenly among others, whose attention writes nothing and whose MLP writes small numbers
that have no mean over the copies: nobody reads them, but hidden states have full rank, as probes would meet them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from codi_bench import load
from codi_bench.models.checkpoint import save_folder
from codi_bench.models.codi import Codi, Projection
from codi_bench.problems import vocabulary
from codi_bench.training.tokenizer import write_tokenizer

# By the end of a weight's name, the axis on which it reads or writes the residual stream; vectors are written, but for INNER.
READS = {"c_attn.weight": 0, "c_fc.weight": 0, "q_proj.weight": 1, "k_proj.weight": 1, "v_proj.weight": 1}
READS |= {"gate_proj.weight": 1, "up_proj.weight": 1, "1.weight": 1}
WRITES = {"wte.weight": 1, "wpe.weight": 1, "embed_tokens.weight": 1, "c_proj.weight": 1, "o_proj.weight": 0}
WRITES |= {"down_proj.weight": 0, "3.weight": 0}  # 1 and 3 are the maps of the projection
INNER = ("c_attn.bias", "c_fc.bias", "1.bias")
SMALL = 0.003  # size of a random MLP's writes beside an embedding's: they move no answer, and float16 keeps them


@dataclass(frozen=True)
class Larger:
    """The size of a published model: `times` the width of an embedded one, so many layers, MLP inputs and words."""

    times: int
    layers: int
    inner: int
    words: int


SIZES = {
    "gpt2-mini": Larger(times=8, layers=12, inner=8 * 416, words=50257),  # 141 M parameters, GPT-2 has 124 M
    "llama-mini": Larger(times=10, layers=16, inner=8192, words=128256),  # 1.30 B, LLaMA-3.2-1B has 1.24 B
}
TINY = {name: Larger(times=2, layers=8, inner=2 * 528, words=400) for name in SIZES}


@torch.no_grad()
def enlarge(name: str, size: Larger, folder: Path) -> Path:
    """Write the embedded model of that name in that size as a folder of its own, in float16."""
    small = load(name, device="cpu").codi
    words = vocabulary()
    write_tokenizer([*words, *(f"unused{i}" for i in range(small.vocab_size, size.words))], folder)
    old = small.backbone.config
    heads = size.times * old.num_attention_heads
    wide = size.times * old.hidden_size
    if old.model_type == "gpt2":
        sizes = {"n_embd": wide, "n_layer": size.layers, "n_head": heads, "n_inner": size.inner}
    else:
        sizes = {"hidden_size": wide, "num_hidden_layers": size.layers, "intermediate_size": size.inner}
        sizes |= {"num_attention_heads": heads, "num_key_value_heads": heads}
    config = type(old).from_dict({**old.to_dict(), **sizes, "vocab_size": size.words + 3})
    torch.manual_seed(0)
    backbone = AutoModelForCausalLM.from_config(config)
    codi = Codi(backbone, Projection(wide, wide), small.tokenizer, vocab_size=size.words, num_latents=small.num_latents)
    layers = {i: (i + 1) * size.layers // small.num_layers - 1 for i in range(small.num_layers)}
    tensors, targets = small.state_dict(), codi.state_dict()
    for layer in {*range(size.layers)} - {*layers.values()}:
        block = {key: value for key, value in targets.items() if re.search(rf"\.(h|layers)\.{layer}\.", key)}
        _silence(block, size.times, SMALL * float(small.backbone.get_input_embeddings().weight.std()))
    for key, value in tensors.items():
        place = re.sub(r"\b(h|layers)\.(\d+)", lambda block: f"{block[1]}.{layers[int(block[2])]}", key)
        _put(targets[place], value, _end(key), size)
    save_folder(codi, folder)
    return folder


def _end(key: str) -> str:
    return ".".join(key.split(".")[-2:])


def _silence(block: dict[str, Tensor], times: int, scale: float) -> None:
    """Let a random block write nothing from attention, and from its MLP numbers of that scale without a mean over the copies."""
    for key, value in block.items():
        if key.endswith(("attn.c_proj.weight", "o_proj.weight")):
            value.zero_()
        elif key.endswith(("mlp.c_proj.weight", "down_proj.weight")):
            axis = WRITES[_end(key)]
            copies = value.unflatten(axis, (times, -1))
            copies.sub_(copies.mean(axis, keepdim=True))
            value.mul_(scale / (value.std() * value.shape[1 - axis] ** 0.5))


def _put(target: Tensor, value: Tensor, end: str, size: Larger) -> None:
    """Write a weight of the small model to where it belongs in the large one, whose other inner units and heads are off."""
    if end == "lm_head.weight":
        return  # it is the embedding
    if end in ("wte.weight", "embed_tokens.weight"):  # pad, bot and eot stand last; unused words are as likely as the unknown one
        value = torch.cat([value[:-3], value[:1].expand(len(target) - len(value), -1), value[-3:]])
    writes = 0 if value.ndim == 1 and end not in INNER else WRITES.get(end)
    if writes is not None:
        value = torch.cat([value] * size.times, writes)
    if end in READS:
        value = torch.cat([value] * size.times, READS[end])
    # The head, which is the embedding, sums over the copies of the last state, and so does the projection: that is made smaller.
    if (end in READS and end != "1.weight") or end in ("ln_f.weight", "ln_f.bias", "norm.weight"):
        value = value / size.times
    if end.startswith("c_attn"):  # queries, keys and values, each of all heads
        target, value = target.unflatten(-1, (3, -1)), value.unflatten(-1, (3, -1))
    target.zero_()
    target[tuple(slice(length) for length in value.shape)] = value
