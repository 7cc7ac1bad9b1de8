"""Our own model folders: Hugging Face configuration and tokenizer, `codi.json`, and one safetensors file.

Loading is strict: missing, unexpected or wrongly shaped keys are one error that lists them, and so are NaN weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import nn

from codi_bench.errors import CheckpointError, one_line
from codi_bench.models.codi import Codi, Projection
from codi_bench.models.strict import build, check, embedding_names, fill, read_safetensors, read_words, without_memory
from codi_bench.store.files import file_hash, write_text, write_whole

WEIGHTS, META = "model.safetensors", "codi.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def save_folder(model: Codi, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write weights (rounded to dtype), configuration and `codi.json`; the tokenizer files are written by whoever makes them.

    A tied head is written once, with the embedding.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tied = model.backbone.get_output_embeddings().weight is model.backbone.get_input_embeddings().weight
    head = {name for name, module in model.named_modules() if module is model.backbone.get_output_embeddings()}
    tensors = {
        name: value.detach().to(dtype).contiguous()
        for name, value in model.state_dict().items()
        if not (tied and name.rsplit(".", 1)[0] in head)
    }
    write_whole(folder / WEIGHTS, lambda path: save_file(tensors, path))
    config = model.backbone.config.to_dict()
    for field in ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "_attn_implementation"):
        config.pop(field, None)
    write_text(folder / "config.json", json.dumps(config, indent=1, sort_keys=True) + "\n")
    identity = isinstance(model.projection, nn.Identity)
    meta: dict[str, object] = {
        "format": 1,
        "num_latents": model.num_latents,
        "vocab_size": model.vocab_size,
        "projection_width": 0 if identity else cast(Projection, model.projection)[1].out_features,
        "projection_layer_norm": hasattr(model.projection, "ln"),
    }
    ids = [model.pad_id, model.bot_id, model.eot_id]
    if ids != [model.vocab_size + i for i in range(3)]:
        meta["extra_ids"] = ids
    if model.question_suffix:
        meta["question_suffix"] = model.question_suffix
    write_text(folder / META, json.dumps(meta, indent=1, sort_keys=True) + "\n")


def load_folder(
    folder: Path, *, device: str | torch.device, dtype: torch.dtype, name: str = "", num_latents: int | None = None
) -> Codi:
    """Load a folder written by `save_folder`. Raises CheckpointError naming the file, what is wrong and the mend."""
    meta = read_meta(folder)
    missing_files = [name for name in ("config.json", *TOKENIZER_FILES) if not (folder / name).is_file()]
    if missing_files:  # without its files transformers makes up an empty tokenizer
        raise CheckpointError(f"{folder}: {' and '.join(missing_files)} missing; copy the whole folder again")
    config, tokenizer = read_words(folder, "config.json, tokenizer.json and tokenizer_config.json")
    with without_memory():
        backbone = build(config, folder)
        projection = (
            Projection(config.hidden_size, meta["projection_width"], layer_norm=meta["projection_layer_norm"])
            if meta["projection_width"]
            else nn.Identity()
        )
    model = Codi(
        backbone,
        projection,
        tokenizer,
        vocab_size=meta["vocab_size"],
        name=name or folder.name,
        num_latents=meta["num_latents"] if num_latents is None else num_latents,
        extra_ids=tuple(meta["extra_ids"]) if "extra_ids" in meta else None,
        question_suffix=meta.get("question_suffix", ""),
    )
    check_tokenizer(model, folder)
    embedding, head = (f"backbone.{name}" for name in embedding_names(backbone))
    tied = config.tie_word_embeddings
    tensors = check(
        read_tensors(folder / WEIGHTS),
        {name: value.shape for name, value in model.state_dict().items()},
        shared=(embedding, head) if tied else (),
        path=folder / WEIGHTS,
        against=f"config.json and {META}",
    )
    weights = ((name, value) for name, value in tensors.items() if not (tied and name == head))
    model.fingerprint = file_hash(*(folder / f for f in (WEIGHTS, "config.json", META, *TOKENIZER_FILES)))
    return fill(model, weights, device=device, dtype=dtype, path=folder / WEIGHTS)


def read_meta(folder: Path) -> dict[str, Any]:
    """`codi.json`, validated."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; give a registered model name or a folder with weights")
    path = folder / META
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: no {META}, so this is not a model folder of codi-bench (see `codi-bench train`), and neither "
            "model.safetensors nor pytorch_model.bin, so it is no published checkpoint"
        )
    try:
        meta = json.loads(path.read_text())
        fields = {"num_latents": int, "vocab_size": int, "projection_width": int, "projection_layer_norm": bool}
        for field, kind in fields.items():
            if not isinstance(meta[field], kind) or meta[field] < 0:
                raise CheckpointError(f"{path}: field '{field}' must be a {kind.__name__}, not {meta[field]!r}")
        extra_ids = [meta["vocab_size"] + i for i in range(3)]
        if sorted(meta.get("extra_ids", extra_ids)) != extra_ids:
            raise CheckpointError(f"{path}: field 'extra_ids' must be {extra_ids} in some order, not {meta['extra_ids']!r}")
        if not isinstance(meta.get("question_suffix", ""), str):
            raise CheckpointError(f"{path}: field 'question_suffix' must be a str, not {meta['question_suffix']!r}")
        if meta["projection_layer_norm"] and not meta["projection_width"]:
            raise CheckpointError(f"{path}: field 'projection_width' is 0 (no projection), but projection_layer_norm is true")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not readable or incomplete ({one_line(error)}); save the model again") from error
    return meta


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, as they are on disk. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path.parent}: no weights ({path.name} is missing); copy the whole folder again")
    return read_safetensors(path)


def check_tokenizer(model: Codi, folder: Path) -> None:
    """The tokenizer must speak exactly the vocabulary that the three extra ids follow."""
    size, rows = len(model.tokenizer), model.backbone.get_input_embeddings().num_embeddings
    if size != model.vocab_size or rows != model.vocab_size + 3:
        raise CheckpointError(
            f"{folder}: the tokenizer does not fit: it has {size} words, {META} says {model.vocab_size}, and the "
            f"embeddings have {rows} rows (vocabulary + 3); use the tokenizer the model was trained with"
        )
