"""Load a model by its registered name, from a folder, or from the hub."""

from __future__ import annotations

import logging
import math
import os
import re
from pathlib import Path
from typing import Any

import torch

from codi_bench.errors import CheckpointError, MissingWeightsError, arguments
from codi_bench.models import adapter, hub
from codi_bench.models.checkpoint import load_folder
from codi_bench.models.model import Model
from codi_bench.models.published import is_published, load_published
from codi_bench.models.registry import PUBLISHED, REGISTRY, ModelEntry, entry, entry_for
from codi_bench.store.names import check_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve(device: str, dtype: str) -> tuple[str, str]:
    """Resolve `auto`: cuda if available, and float32."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return device, "float32" if dtype == "auto" else dtype


def check_device(device: str, dtype: str) -> None:
    """Raises CheckpointError unless both are known and this machine has the device."""
    if dtype not in DTYPES:
        raise CheckpointError(f"unknown dtype '{dtype}': use one of {', '.join(DTYPES)}")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise CheckpointError(f"unknown device '{device}': use cpu, cuda, cuda:N or auto")
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"device '{device}' is not available to PyTorch on this machine; use --device cpu")


def load(
    name_or_path: str | Path,
    *,
    base: str | Path | None = None,
    name: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    num_latents: int | None = None,
    lora_alpha: float | None = None,
) -> Model:
    """Load a registered model by name, a folder (ours, or a checkpoint as published, or its file), or `org/name` on the hub.

    base: folder or hub name of the language model under a published checkpoint; registered models need none. name: what to
    call a folder (default: its own name). device: `auto` is cuda if available; dtype: `auto` is float32. num_latents (K)
    and lora_alpha: training settings that published files lack; default: the registered ones, else 6 and 32.
    Raises CheckpointError or UnknownNameError with one line that says what to do, and CodiBenchError for an invalid name.
    """
    for argument, value in (("device", device), ("dtype", dtype)):
        arguments.text(argument, value, error=CheckpointError)
    for argument, place in (("name_or_path", name_or_path), *((("base", base),) if base is not None else ())):
        arguments.path(argument, place, error=CheckpointError)
    if name is not None:
        check_name(name, "name")
    device, dtype = resolve(device, dtype)
    check_device(device, dtype)
    if num_latents is not None:
        num_latents = arguments.whole("num_latents", num_latents, 0, arguments.LATENTS, error=CheckpointError)
    if lora_alpha is not None:
        lora_alpha = arguments.number("lora_alpha", lora_alpha, math.ulp(0), error=CheckpointError)
    folder, named_entry = _find(name_or_path)
    model_entry = named_entry or REGISTRY.get(name or "")
    model_name = name or (named_entry.name if named_entry else os.path.basename(os.path.abspath(name_or_path)))  # of `.` too
    if model_entry is not None and model_entry.weights and (folder / model_entry.weights).is_file():
        folder = folder / model_entry.weights
    if is_published(folder):
        base_path = _find_base(folder, base, model_name, model_entry)
        codi = load_published(
            folder,
            base_path,
            device=device,
            dtype=DTYPES[dtype],
            name=model_name,
            **_settings(model_name, model_entry, num_latents, lora_alpha),
        )
    elif (folder / adapter.META).is_file():
        codi = adapter.load_adapter(folder, base, device=device, dtype=DTYPES[dtype], name=model_name, num_latents=num_latents)
    elif (folder / "codi.json").is_file() and not (base is None and lora_alpha is None):
        raise CheckpointError(
            f"{folder}: a model folder of codi-bench needs no base and has no LoRA; leave out --base and --lora-alpha"
        )
    else:
        codi = load_folder(folder, device=device, dtype=DTYPES[dtype], name=model_name, num_latents=num_latents)
    codi.backbone.config.return_dict = True  # how results are handed over is no property of a model
    architecture = "gpt2" if codi.backbone.config.model_type == "gpt2" else "llama"
    # another model under a known name has an entry of its own
    if model_entry is None or not model_entry.has_shape(architecture, codi.num_layers, codi.width):
        model_entry = entry_for(model_entry.name if model_entry else model_name, architecture, codi.num_layers)
    return Model(codi, model_entry, device, dtype)


def _find(name_or_path: str | Path) -> tuple[Path, ModelEntry | None]:
    """The folder of a model, downloaded if needed, and its entry if its registered or hub name was given."""
    text = name_or_path if isinstance(name_or_path, str) else ""
    named_entry = REGISTRY.get(text)
    if named_entry is None and (Path(name_or_path).is_dir() or Path(name_or_path).is_file()):
        return Path(name_or_path), None
    named_entry = named_entry or next((candidate for candidate in REGISTRY.values() if text and candidate.hub == text), None)
    if named_entry is not None and not named_entry.hub:
        if named_entry.control_of and not named_entry.folder.is_dir():
            mend = "install from a clone of the repository, with `pip install -e .`"
            raise MissingWeightsError(f"{named_entry.folder}: {text} is not in the wheel; {mend}")
        return named_entry.folder, named_entry
    if named_entry is not None or hub.is_repository(text):
        repository = named_entry.hub if named_entry else text
        assert repository is not None
        mend, names = (_mend(named_entry), named_entry.weights) if named_entry else ("", "")
        one_of = (names,) if names else hub.ANY_WEIGHTS
        return hub.fetch(repository, patterns=hub.BESIDE_WEIGHTS, one_of=one_of, mend=mend), named_entry
    if not text or "/" in text or text.startswith("."):
        raise CheckpointError(f"{name_or_path}: no such folder; give the name of a registered model or a folder with weights")
    entry(text)  # raises, naming the nearest model
    raise AssertionError("an entry is on the hub or in a folder")


def _find_base(folder: Path, base: str | Path | None, model_name: str, model_entry: ModelEntry | None) -> Path:
    """The folder of the language model under a published checkpoint."""
    if base is not None:
        return hub.locate(base, patterns=hub.BASE_FILES)
    if model_entry is None or model_entry.base is None:
        raise CheckpointError(
            f"{folder}: no codi.json, so this is not a model folder of codi-bench; a published checkpoint needs the language "
            f"model it was trained over: give --base FOLDER or its hub name (to `codi-bench run`: --base {model_name}=FOLDER)"
        )
    return hub.fetch(model_entry.base, patterns=hub.BASE_FILES, mend=_mend(model_entry))


def _mend(model_entry: ModelEntry) -> str:
    return (
        f"run `{model_entry.download}` and `hf download {model_entry.base}` where there is a network, or give --model "
        f"{model_entry.name}=FOLDER --base {model_entry.name}=FOLDER"
    )


def _settings(
    model_name: str, model_entry: ModelEntry | None, num_latents: int | None, lora_alpha: float | None
) -> dict[str, Any]:
    """K and alpha of a published checkpoint; logs a line if they are assumed."""
    source = model_entry if model_entry and model_entry.hub else REGISTRY[PUBLISHED[0]]
    if source is not model_entry and None in (num_latents, lora_alpha):
        flags = {"--num-latents": (num_latents, source.num_latents), "--lora-alpha": (lora_alpha, source.lora_alpha)}
        assumptions = [f"{flag} {default}" for flag, (value, default) in flags.items() if value is None]
        logging.getLogger(__name__).warning(
            "%s: the checkpoint does not say how it was trained; assuming %s, as published", model_name, " and ".join(assumptions)
        )
    return {
        "num_latents": source.num_latents if num_latents is None else num_latents,
        "lora_alpha": source.lora_alpha if lora_alpha is None else lora_alpha,
    }
