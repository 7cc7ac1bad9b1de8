"""Our own model folders: Hugging Face configuration and tokenizer, `codi.json`, and one safetensors file.

Loading is strict: missing, unexpected or wrongly shaped keys are one error that lists them, and so are NaN weights.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from codi_bench.errors import CheckpointError
from codi_bench.files import file_hash, write_text, write_whole
from codi_bench.models.codi import Codi, Projection

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
    for local in ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "_attn_implementation"):
        config.pop(local, None)
    write_text(folder / "config.json", json.dumps(config, indent=1, sort_keys=True) + "\n")
    meta = {
        "format": 1,
        "num_latents": model.num_latents,
        "vocab_size": model.vocab_size,
        "projection_width": model.projection[1].out_features,
        "projection_layer_norm": hasattr(model.projection, "ln"),
    }
    write_text(folder / META, json.dumps(meta, indent=1, sort_keys=True) + "\n")


def load_folder(
    folder: Path, *, device: str | torch.device, dtype: torch.dtype, name: str = "", num_latents: int | None = None
) -> Codi:
    """Load a folder written by `save_folder`. Raises CheckpointError naming the file, what is wrong and the mend."""
    meta = read_meta(folder)
    absent = [name for name in ("config.json", *TOKENIZER_FILES) if not (folder / name).is_file()]
    if absent:  # without its files transformers makes up an empty tokenizer
        raise CheckpointError(f"{folder}: {' and '.join(absent)} missing; copy the whole folder again")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: configuration or tokenizer cannot be read ({_first_line(error)}); "
            "the folder needs config.json, tokenizer.json and tokenizer_config.json"
        ) from error
    backbone = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    projection = Projection(config.hidden_size, meta["projection_width"], layer_norm=meta["projection_layer_norm"])
    model = Codi(
        backbone,
        projection,
        tokenizer,
        vocab_size=meta["vocab_size"],
        name=name or folder.name,
        num_latents=meta["num_latents"] if num_latents is None else num_latents,
    )
    check_tokenizer(model, folder)
    _load_strictly(model, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    model.fingerprint = file_hash(*(folder / f for f in (WEIGHTS, "config.json", META, *TOKENIZER_FILES)))
    return model.to(device=device, dtype=dtype).eval()


def read_meta(folder: Path) -> dict:
    """`codi.json`, validated."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; give a registered model name or a folder with weights")
    path = folder / META
    if not path.is_file():
        raise CheckpointError(f"{folder}: no {META}, so this is not a model folder of codi-bench; see `codi-bench train`")
    try:
        meta = json.loads(path.read_text())
        fields = {"num_latents": int, "vocab_size": int, "projection_width": int, "projection_layer_norm": bool}
        for field, kind in fields.items():
            if not isinstance(meta[field], kind) or meta[field] < 0:
                raise CheckpointError(f"{path}: field '{field}' must be a {kind.__name__}, not {meta[field]!r}")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not readable or incomplete ({_first_line(error)}); save the model again") from error
    return meta


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, in fp32."""
    if not path.is_file():
        raise CheckpointError(f"{path.parent}: no weights ({path.name} is missing); copy the whole folder again")
    try:
        return {name: value.float() for name, value in load_file(path).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({_first_line(error)}); copy it again") from error


def check_tokenizer(model: Codi, folder: Path) -> None:
    """The tokenizer must speak exactly the vocabulary that the three extra ids follow."""
    size, rows = len(model.tokenizer), model.backbone.get_input_embeddings().num_embeddings
    if size != model.vocab_size or rows != model.vocab_size + 3:
        raise CheckpointError(
            f"{folder}: the tokenizer does not fit: it has {size} words, {META} says {model.vocab_size}, and the "
            f"embeddings have {rows} rows (vocabulary + 3); use the tokenizer the model was trained with"
        )
    if model.eos_id is None:
        raise CheckpointError(f"{folder}/tokenizer_config.json: field 'eos_token' is missing; answers could never end")


def _load_strictly(model: Codi, tensors: dict[str, torch.Tensor], path: Path) -> None:
    if model.backbone.config.tie_word_embeddings:
        names = {module: name for name, module in model.named_modules()}
        embedding, head = (
            names[m] + ".weight" for m in (model.backbone.get_input_embeddings(), model.backbone.get_output_embeddings())
        )
        if embedding in tensors:
            tensors.setdefault(head, tensors[embedding])  # a tied head is stored once, with the embedding
    expected = model.state_dict()
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    shapes = sorted(
        f"{k} {list(tensors[k].shape)} instead of {list(v.shape)}"
        for k, v in expected.items()
        if k in tensors and tensors[k].shape != v.shape
    )
    if missing or unexpected or shapes:
        found = [
            f"{what}: {', '.join(keys[:6])}{' …' if len(keys) > 6 else ''}"
            for what, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes))
            if keys
        ]
        raise CheckpointError(f"{path}: the weights do not fit config.json and {META}: {'; '.join(found)}")
    bad = sorted(k for k, v in tensors.items() if not torch.isfinite(v).all())
    if bad:
        raise CheckpointError(
            f"{path}: NaN or infinite weights in {', '.join(bad[:6])}; the file is damaged or training diverged"
        )
    model.load_state_dict(tensors)
    model.backbone.tie_weights()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
