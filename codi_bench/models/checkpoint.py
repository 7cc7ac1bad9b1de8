"""Our own model folders: Hugging Face configuration and tokenizer, `codi.json`, and one safetensors file.

Loading is strict: one error lists all keys that are missing, unexpected or wrongly shaped, or all weights with NaN.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from torch import nn

from codi_bench.errors import CheckpointError
from codi_bench.models.codi import COCONUT, CODI, Codi, Pauses, Projection
from codi_bench.models.settings import FOLDER_META, FolderMeta, read_settings
from codi_bench.models.strict import build, check, embedding_names, fill, is_tied, read_safetensors, read_words, without_memory
from codi_bench.store.files import file_hash, write_text, write_whole

WEIGHTS = "model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def save_folder(model: Codi, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write weights (rounded to dtype), configuration and `codi.json`. The caller writes the tokenizer files.

    A tied head is written once, with the embedding.
    """
    head = f"backbone.{embedding_names(model.backbone)[1]}" if is_tied(model.backbone) else ""
    tensors = {name: value.detach().to(dtype).contiguous() for name, value in model.state_dict().items() if name != head}
    write_whole(folder / WEIGHTS, lambda path: save_file(tensors, path))
    config = model.backbone.config.to_dict()
    for field in ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "_attn_implementation"):
        config.pop(field, None)
    write_text(folder / "config.json", json.dumps(config, indent=1, sort_keys=True) + "\n")
    first = cast(nn.Linear, model.projection[1]) if isinstance(model.projection, Projection) else None
    pauses = model.projection if isinstance(model.projection, Pauses) else None
    ids = (model.pad_id, model.bot_id, model.eot_id)
    meta = FolderMeta(
        num_latents=len(pauses.vectors) if pauses else model.num_latents,
        vocab_size=model.vocab_size,
        projection_width=first.out_features if first else 0,
        projection_layer_norm=hasattr(model.projection, "ln"),
        pauses=True if pauses else None,
        extra_ids=None if ids == tuple(model.vocab_size + i for i in range(3)) else ids,
        prompt=None if model.prompt == CODI else "coconut",
    )
    fields = {name: value for name, value in meta.model_dump().items() if value is not None}
    write_text(folder / FOLDER_META, json.dumps(fields, indent=1, sort_keys=True) + "\n")


def _below(folder: Path) -> str:
    """What to give instead of a folder without weights: those below it that have some."""
    folders = sorted({path.parent for pattern in ("*/*", "*/*/*") for path in folder.glob(pattern)})
    weights = [each for each in folders if (each / "model.safetensors").is_file() or (each / "pytorch_model.bin").is_file()]
    below = [str(each) for each in weights if (each / FOLDER_META).is_file() or not (each / "config.json").is_file()]
    return f"the folder with the weights itself, such as {' or '.join(below[:3])}" if below else "the folder that holds them"


def _projection(meta: FolderMeta, width: int) -> nn.Module:
    if meta.pauses:
        return Pauses(meta.num_latents, width)
    if meta.projection_width:
        return Projection(width, meta.projection_width, layer_norm=meta.projection_layer_norm)
    return nn.Identity()


def load_folder(
    folder: Path, *, device: str | torch.device, dtype: torch.dtype, name: str = "", num_latents: int | None = None
) -> Codi:
    """Load a folder written by `save_folder`. Raises CheckpointError, naming the file, the fault and what to do."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; give the name of a registered model or a folder with weights")
    if not (folder / FOLDER_META).is_file():
        raise CheckpointError(
            f"{folder}: holds no weights (no {FOLDER_META}, as `codi-bench train` writes it, and neither model.safetensors nor "
            f"pytorch_model.bin, as in a published checkpoint); give {_below(folder)}"
        )
    meta = read_settings(folder / FOLDER_META, FolderMeta)
    config, tokenizer = read_words(folder, *TOKENIZER_FILES)
    with without_memory():
        backbone = build(config, folder)
        projection = _projection(meta, config.hidden_size)
    words, rows = len(tokenizer), backbone.get_input_embeddings().num_embeddings
    if words != meta.vocab_size or rows != meta.vocab_size + 3:
        raise CheckpointError(
            f"{folder}: the tokenizer does not match: it has {words} words, {FOLDER_META} says {meta.vocab_size}, and the "
            f"embeddings have {rows} rows (vocabulary + 3); use the tokenizer the model was trained with"
        )
    model = Codi(
        backbone,
        projection,
        tokenizer,
        vocab_size=meta.vocab_size,
        name=name or folder.name,
        num_latents=meta.num_latents if num_latents is None else num_latents,
        extra_ids=meta.extra_ids,
        prompt=COCONUT if meta.prompt == "coconut" else CODI,
    )
    embedding, head = (f"backbone.{name}" for name in embedding_names(backbone))
    tied = config.tie_word_embeddings
    tensors = check(
        read_safetensors(folder / WEIGHTS),
        {name: value.shape for name, value in model.state_dict().items()},
        shared=(embedding, head) if tied else (),
        path=folder / WEIGHTS,
        against=f"config.json and {FOLDER_META}",
    )
    weights = ((name, value) for name, value in tensors.items() if not (tied and name == head))
    model.fingerprint = file_hash(*(folder / f for f in (WEIGHTS, "config.json", FOLDER_META, *TOKENIZER_FILES)))
    return fill(model, weights, device=device, dtype=dtype, path=folder / WEIGHTS)
