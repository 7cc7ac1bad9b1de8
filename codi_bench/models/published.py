"""Load published checkpoints: a whole state dict, with the configuration and tokenizer of its base model.

CODI (github.com/zhenyi4/codi, `src/model.py`): `codi.base_model.model.<key>` with peft's LoRA beside frozen weights, or
`codi.<key>` after full fine-tuning; `prj.1`, `prj.3` and `prj.ln`, or no projection at all. The ids pad, bot, eot follow V.
Coconut (github.com/facebookresearch/coconut, `coconut.py`): `base_causallm.<key>` and the embedding once more; the ids
start-latent, end-latent, latent follow V; a newline ends the question; the hidden state itself is fed.
SIM-CoT (github.com/InternLM/SIM-CoT, `src/model.py` and `coconut.py` too) trains either of them with a second language model,
which decodes steps from thoughts and is not needed for answers. Parts of a checkpoint that the model does not need are left out,
and a log line lists them.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from codi_bench.errors import CheckpointError
from codi_bench.models.codi import COCONUT, CODI, Codi, Projection, Prompt
from codi_bench.models.settings import MERGES, VOCABULARIES
from codi_bench.models.strict import (
    build,
    check,
    embedding_names,
    fill,
    lora_shapes,
    merged,
    printable,
    read_words,
    without_memory,
)
from codi_bench.models.weights import dense, read_weights, weight_names

if TYPE_CHECKING:  # loaded with the first model
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

WORD_FILES = (*VOCABULARIES, MERGES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TRUNK = {"gpt2": "transformer.", "llama": "model."}  # how the keys of each architecture begin
LORA_MODULES = {
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
# The only keys that may differ: these buffers are no weights, and a tied head or embedding may be stored once (see `shared`)
IGNORED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
TRAINING_ONLY = ("decoder.", "pj_in.", "pj_out.", "expainable_llm.")  # of SIM-CoT, as they are spelled there


@dataclass(frozen=True)
class Layout:
    """The names of weights and ids in a source. prefix: of the backbone's keys. copies: further names of the input embedding.

    ids: offsets of pad, bot and eot from V. surplus: how many more ids may follow, which forks add and this protocol never
    uses. projects: may there be a projection? prompt: the format of its texts.
    """

    prefix: str
    copies: tuple[str, ...] = ()
    ids: tuple[int, int, int] = (0, 1, 2)
    surplus: int = 0
    projects: bool = True
    prompt: Prompt = CODI


LAYOUTS = (
    Layout("codi.base_model.model.", surplus=2),
    Layout("codi.", surplus=2),
    Layout("base_causallm.", copies=("embedding.weight",), ids=(2, 0, 1), projects=False, prompt=COCONUT),
)


def is_published(checkpoint: Path) -> bool:
    """Is this a published checkpoint: weights, whole or in shards, without the `codi.json` of our own folders?"""
    return not (checkpoint / "codi.json").exists() and bool(weight_names(checkpoint))


def load_published(
    checkpoint: Path,
    base: Path,
    *,
    num_latents: int,
    lora_alpha: float,
    device: str | torch.device,
    dtype: torch.dtype,
    name: str = "",
) -> Codi:
    """Load a published checkpoint strictly; LoRA is merged in fp32, W + alpha / r B A, before the weights become dtype.

    checkpoint: file of weights, or folder with `model.safetensors`, `pytorch_model.bin`, whole or in shards, or one
    `checkpoint_<epoch>`; no other file of it is read.
    base: folder with `config.json` and tokenizer of the language model it was trained over, whose own weights are not read.
    num_latents, lora_alpha: K and alpha of the training, which are not in the files; the rank r is read from every module.
    A log line lists the parts of the files that were left out.
    Raises CheckpointError with one line that names the file, the fault and what to do.
    """
    config, tokenizer = read_words(base)
    if config.model_type not in TRUNK:
        raise CheckpointError(f"{base / 'config.json'}: the base is {config.model_type}; known are {' and '.join(TRUNK)}")
    read = read_weights(checkpoint)
    path = read.path
    needed = {k: v for k, v in read.contents.items() if not k.endswith(IGNORED) and not k.startswith(TRAINING_ONLY)}
    tensors = dense(needed, path)
    layout = _layout(tensors, config.model_type, path, base)
    prefix = layout.prefix
    vocab_size, cut, rows_left_out = _vocabulary(tensors, layout, config, tokenizer, path, base)
    tensors |= cut

    config.vocab_size = vocab_size + 3
    with without_memory():
        backbone = build(config, base)
        projection = _projection(tensors, config.hidden_size) if layout.projects else nn.Identity()
    loras = _loras(tensors, backbone, prefix, config.model_type, path)
    embedding, head = (prefix + key for key in embedding_names(backbone))
    shapes = _expected_shapes(tensors, backbone, projection, prefix, loras)
    shapes |= dict.fromkeys(layout.copies, shapes[embedding])
    shared = (embedding, *((head,) if config.tie_word_embeddings else ()), *layout.copies)
    tensors = check(
        tensors,
        shapes,
        shared=shared,
        path=path,
        against=f"{base / 'config.json'} and the published layout",
        without_shared=_missing_rows(layout, vocab_size),
    )
    if left_out := [*read.left_out, *_training_parts(read.contents), *rows_left_out]:
        logging.getLogger(__name__).warning("%s: left out: %s", path, "; ".join(left_out))

    pad, bot, eot = (vocab_size + i for i in layout.ids)
    model = Codi(
        backbone,
        projection,
        tokenizer,
        vocab_size=vocab_size,
        num_latents=num_latents,
        name=name or checkpoint.name,
        extra_ids=(pad, bot, eot),
        prompt=layout.prompt,
    )
    # `fill` ties the head, and the copy of an embedding is no weight of its own
    weights = _weights({k: v for k, v in tensors.items() if k == embedding or k not in shared}, prefix, loras, lora_alpha)
    word_files = [base / name for name in ("config.json", *WORD_FILES) if (base / name).is_file()]
    model.fingerprint = _fingerprint([*read.files, *word_files], f"published 1 alpha {float(lora_alpha)}")
    return fill(model, weights, device=device, dtype=dtype, path=path)


def _layout(keys: Collection[str], base_type: str, path: Path, base: Path) -> Layout:
    """The layout by its prefix. Raises CheckpointError for a plain language model and for the other architecture."""
    layout = next((layout for layout in LAYOUTS if any(key.startswith(layout.prefix) for key in keys)), None)
    prefix = layout.prefix if layout else ""
    kinds = {kind for kind, trunk in TRUNK.items() if any(key.startswith(prefix + trunk) for key in keys)}
    if layout is None:
        if wrapper := next((m[1] for key in sorted(keys) if (m := re.match(r"(.+?\.)(codi|base_causallm)\.", key))), ""):
            raise CheckpointError(
                f"{path}: {printable(wrapper)} in front of the keys is an unknown wrapper; save the state dict without it"
            )
        begins = "no key begins with codi. or base_causallm."
        if kinds or any(key.startswith(("h.0.", "layers.0.")) for key in keys):
            raise CheckpointError(
                f"{path}: has weights of a plain language model, not of a CODI checkpoint ({begins}); give the CODI checkpoint "
                "here and this folder as --base"
            )
        raise CheckpointError(
            f"{path}: not a CODI checkpoint: {begins}, the first is {printable(min(keys, default='of training alone'))}"
        )
    if kinds and base_type not in kinds:
        raise CheckpointError(
            f"{path}: holds {' and '.join(sorted(kinds))} weights, the base is {base_type} ({base / 'config.json'}); give the "
            "base that the checkpoint was trained over"
        )
    return layout


def _training_parts(keys: Collection[str]) -> list[str]:
    """The parts among these keys that answers do not need, in words."""
    counts = {part: sum(key.startswith(part) for key in keys) for part in TRAINING_ONLY}
    return [f"{part}* ({count} keys, of training alone)" for part, count in counts.items() if count]


def _vocabulary(
    tensors: dict[str, Tensor],
    layout: Layout,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    base: Path,
) -> tuple[int, dict[str, Tensor], list[str]]:
    """V, on which configuration, tokenizer and embeddings (V + 3 rows) must agree, and the embeddings without surplus rows.

    Third, the rows that were left out, in words. Raises CheckpointError, by name for rows of pad, bot and eot that are missing.
    """
    names = ("transformer.wte.weight", "model.embed_tokens.weight", "lm_head.weight")
    tables = {name: tensors[name] for name in (*(layout.prefix + name for name in names), *layout.copies) if name in tensors}
    lengths = {name: len(table) for name, table in tables.items() if table.dim()}
    rows = [*lengths.values()]
    size = config.vocab_size
    whole, further = size + 3, range(size + 3, size + 3 + layout.surplus)
    if further and {*rows} == {further.stop} and len(tokenizer) == size:
        cut = {name: table[:whole] for name, table in tables.items()}
        return size, cut, [f"embedding rows {', '.join(map(str, further))} (of ids behind pad, bot and eot)"]
    if len(tokenizer) == size and (short := [(key, n) for key, n in lengths.items() if size <= n < whole]):
        key, n = short[0]
        raise CheckpointError(
            f"{path}: {key} has {n} rows ({size} words and 3 ids would be right); {_missing_rows(layout, size, n)}"
        )
    if len(tokenizer) != size or (rows and rows[0] != whole):
        clause = f" and the checkpoint has {rows[0]} rows ({size} words and 3 ids would be right)" if rows else ""
        raise CheckpointError(
            f"{path}: the vocabulary does not match {base}: its config.json says {size} words, the tokenizer has "
            f"{len(tokenizer)}{clause}; give the base that the checkpoint was trained over"
        )
    return size, {}, []


def _missing_rows(layout: Layout, size: int, rows: int = 0) -> str:
    """For an error: what a table of so many rows lacks behind the words of the base, and what to do.

    These rows are drawn when the table is enlarged, and LoRA does not train them, so no other file has them. A loader that is not
    strict keeps rows that it drew itself, in silence, and the model answers worse.
    """
    names = sorted(zip(layout.ids, ("pad", "bot", "eot"), strict=True))
    missing = ", ".join(f"{size + offset} ({name})" for offset, name in names if size + offset >= rows)
    return (
        f"its embedding rows {missing} are in no other file, and random ones would cost right answers: download the checkpoint "
        "again, or save the whole state dict after training"
    )


def _projection(tensors: dict[str, Tensor], width: int) -> nn.Module:
    """The projection that the `prj` keys describe; the strict comparison follows."""
    if not any(key.startswith("prj.") for key in tensors):
        return nn.Identity()
    inner = next((len(t) for t in (tensors.get("prj.1.weight"), tensors.get("prj.1.bias")) if t is not None and t.dim()), 1)
    return Projection(width, max(inner, 1), layer_norm=any(key.startswith("prj.ln.") for key in tensors))


def _loras(tensors: dict[str, Tensor], backbone: nn.Module, prefix: str, architecture: str, path: Path) -> dict[str, bool]:
    """Modules with LoRA, by their name in the file: is the weight [in, out] (transformers' Conv1D) and not [out, in]?

    Raises CheckpointError for a module that must not have LoRA.
    """
    targets = LORA_MODULES[architecture]
    modules = {prefix + name: module for name, module in backbone.named_modules() if name.endswith(targets)}
    lora_names = {m[1] for key in tensors if key.startswith(prefix) and (m := re.match(r"(.+?)\.(?:lora_|base_layer\.)", key))}
    forbidden_names = sorted(name for name in lora_names if not name.endswith(targets))
    if forbidden_names:
        rest = f" and {len(forbidden_names) - 1} more" if forbidden_names[1:] else ""
        raise CheckpointError(
            f"{path}: LoRA on {printable(forbidden_names[0])}{rest}; with this base only {', '.join(targets)} may have LoRA"
        )
    # another depth's modules are unexpected keys
    return {name: not isinstance(modules[name], nn.Linear) for name in sorted(lora_names & modules.keys())}


def _expected_shapes(
    tensors: dict[str, Tensor], backbone: nn.Module, projection: nn.Module, prefix: str, loras: dict[str, bool]
) -> dict[str, tuple[int, ...]]:
    """Every key that the file must have, with its shape; the rank of a LoRA is taken from the file."""
    shapes = {f"prj.{key}": tuple(value.shape) for key, value in projection.state_dict().items()}
    for key, value in backbone.state_dict().items():
        module, _, kind = (prefix + key).rpartition(".")
        shapes[f"{module}.base_layer.{kind}" if module in loras else prefix + key] = tuple(value.shape)
        if module in loras and kind == "weight":
            names = [f"{module}.lora_{ab}.default.weight" for ab in "AB"]
            a, b = map(tensors.get, names)
            rank = len(a) if a is not None and a.dim() else b.shape[-1] if b is not None and b.dim() else 1
            shapes |= dict(zip(names, lora_shapes(value.shape, max(rank, 1), transposed=loras[module])))
    return shapes


def _weights(tensors: dict[str, Tensor], prefix: str, loras: dict[str, bool], alpha: float) -> Iterator[tuple[str, Tensor]]:
    """Yield (name in `Codi`, weight) with LoRA merged, one after the other, so that only one is in fp32 at a time."""
    for key, value in tensors.items():
        if ".lora_" in key:
            continue
        module, separator, kind = key.rpartition(".base_layer.")
        if separator and kind == "weight":
            a, b = (tensors[f"{module}.lora_{ab}.default.weight"] for ab in "AB")
            value = merged(value, a, b, alpha, transposed=loras[module])
        name = f"{module}.{kind}" if separator else key
        yield f"projection.{name[4:]}" if name.startswith("prj.") else f"backbone.{name.removeprefix(prefix)}", value


def _fingerprint(files: list[Path], facts: str) -> str:
    """sha256 over facts, names and contents; the weights need not fit into memory."""
    digest = hashlib.sha256(facts.encode())
    for path in files:
        digest.update(f"\n{path.name}\n".encode())
        with open(path, "rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
