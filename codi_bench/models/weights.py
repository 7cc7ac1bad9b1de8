"""Read the weights of a published checkpoint as one state dict, from one file or shards, without training wrappers.

Shards come with the index that transformers writes. DistributedDataParallel puts `module.` before every key and torch.compile
`_orig_mod.`; training scripts save the state dict together with their optimizer. No code in a pickle is executed.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codi_bench.errors import CheckpointError, one_line
from codi_bench.models.hub import ANY_WEIGHTS, INDEXES, WEIGHT_FILES
from codi_bench.models.settings import ShardIndex, read_settings
from codi_bench.models.strict import enumeration, other_file, printable, read_safetensors

WRAPPERS = ("module.", "_orig_mod.")
NESTS = ("state_dict", "model_state_dict", "model")
DEEPEST = 3  # such dicts in each other


@dataclass(frozen=True)
class Weights:
    """The weights of a checkpoint by name. path: for errors; files: all files read; left_out: parts left out, in words."""

    path: Path
    files: tuple[Path, ...]
    contents: dict[str, Any]
    left_out: tuple[str, ...]


def weight_names(path: Path) -> list[str]:
    """The files with weights in a folder, the one that counts first; its own name for a file.

    Coconut's training names its files `checkpoint_<epoch>` (pickles of tensors). None of several such files counts.
    """
    if path.is_file():
        return [path.name]
    named = [name for name in ANY_WEIGHTS if (path / name).is_file()]
    return named or sorted(file.name for file in path.glob("checkpoint_*") if file.is_file())


def read_weights(checkpoint: Path) -> Weights:
    """The weights of a file, or of a folder.

    Of a folder: `model.safetensors` or `pytorch_model.bin`, else those that an index names, else the only `checkpoint_<epoch>`.
    Raises CheckpointError for files that are missing, damaged or contradict each other.
    """
    names, folder = weight_names(checkpoint), checkpoint.parent if checkpoint.is_file() else checkpoint
    if not names:
        raise CheckpointError(f"{folder}: no weights ({' or '.join(WEIGHT_FILES)} is missing); download the checkpoint again")
    if len(names) > 1 and names[0] not in ANY_WEIGHTS:
        raise CheckpointError(
            f"{folder}: has {len(names)} checkpoints, {enumeration(names)}; give one of these files in its place"
        )
    path = folder / names[0]
    contents: object
    shards, left_out = set[str](), list[str]()
    if path.name in INDEXES:
        contents, shards = _read_shards(path)
    else:
        contents, left_out = _unnested(_read_file(path), path)
    others = {other.name for pattern in INDEXES.values() for other in folder.glob(pattern)} | ({*names[1:]} & INDEXES.keys())
    if strays := others - shards - {path.name}:
        left_out.append(f"{enumeration(strays)} (not of {path.name}, which counts)")
    files = (path, *(folder / name for name in sorted(shards)))
    return Weights(path, files, _unwrapped(_named(contents, path), path), tuple(left_out))


def dense(contents: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The contents if all of them are weights. Raises CheckpointError, naming the first that is not."""
    for key, value in contents.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise _no_weight(key, value, path)
        if value.layout != torch.strided or value.device.type != "cpu":
            raise CheckpointError(f"{path}: {printable(key)} is not a plain dense tensor; save the state dict again")
    return {key: value.detach() for key, value in contents.items()}


def _no_weight(key: object, value: object, path: Path) -> CheckpointError:
    kind = f"a tensor of {str(value.dtype)[6:]}" if isinstance(value, Tensor) else type(value).__name__
    return CheckpointError(
        f"{path}: {printable(key)} is {kind}, but floating-point weights by name are expected; save only the state dict"
    )


def _named(contents: object, path: Path) -> dict[str, Any]:
    """The contents if they are a mapping of names."""
    if not isinstance(contents, dict) or not contents:
        kind = "nothing" if isinstance(contents, dict) else f"a {type(contents).__name__}"
        raise CheckpointError(f"{path}: holds {kind}, but weights by name are expected; save only the state dict")
    for key, value in contents.items():
        if not isinstance(key, str):
            raise _no_weight(key, value, path)
    return contents


def _unnested(contents: object, path: Path) -> tuple[object, list[str]]:
    """The state dict in the file of a training script, and in words the other things in that file."""
    others = list[object]()
    for _ in range(DEEPEST):
        nests = [name for name in NESTS if isinstance(contents, dict) and isinstance(contents.get(name), dict)]
        if not nests:
            break
        assert isinstance(contents, dict)
        beside = [key for key in contents if key != nests[0]]
        if weights := [key for key in beside if key in nests or isinstance(contents[key], Tensor)]:
            raise CheckpointError(
                f"{path}: holds weights twice, in {nests[0]} and in {printable(weights[0])}; save only the state dict"
            )
        others += beside
        contents = contents[nests[0]]
    return contents, [f"{enumeration(map(printable, others))} (beside the state dict)"] if others else []


def _unwrapped(contents: dict[str, Any], path: Path) -> dict[str, Any]:
    """The contents without the prefix that a wrapper puts before every key."""
    while wrapper := next((wrapper for wrapper in WRAPPERS if any(key.startswith(wrapper) for key in contents)), ""):
        if bare := sorted(key for key in contents if not key.startswith(wrapper)):
            raise CheckpointError(
                f"{path}: {wrapper} is in front of {len(contents) - len(bare)} of {len(contents)} keys, and not before "
                f"{printable(bare[0])}; save the state dict of the model alone, without its wrapper"
            )
        contents = {key.removeprefix(wrapper): value for key, value in contents.items()}
    return contents


def _read_shards(index: Path) -> tuple[dict[str, Any], set[str]]:
    """All tensors that an index names, and their files; index and files must agree exactly."""
    shard_of, folder = read_settings(index, ShardIndex)["weight_map"], index.parent
    shards, suffix = set(shard_of.values()), Path(index.name.removesuffix(".index.json")).suffix
    if odd := {name for name in shards if re.search(r"[/\\\0:]", name) or not name.endswith(suffix)}:
        raise CheckpointError(f"{index}: {enumeration(odd)} is no {suffix} file of this folder; download the checkpoint again")
    if missing := {name for name in shards if not (folder / name).is_file()}:
        raise CheckpointError(
            f"{index}: {len(missing)} of {len(shards)} shards missing: {enumeration(missing)}; download the checkpoint again"
        )
    contents = dict[str, Any]()
    for shard in sorted(shards):
        tensors = _named(_read_file(folder / shard), folder / shard)
        expected = {name for name, place in shard_of.items() if place == shard}
        for fault, keys in (("lacks", expected - tensors.keys()), ("holds too", tensors.keys() - expected)):
            if keys:
                raise CheckpointError(
                    f"{folder / shard}: {fault} {enumeration(keys)}, by {index.name}; download index and shards again"
                )
        contents |= tensors
    return contents, shards


def _read_file(path: Path) -> object:
    return read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)


def read_pickle(path: Path) -> object:
    """Read a file of `torch.save` with the reader that builds only tensors and plain containers."""
    try:
        with open(path, "rb") as file:
            head = file.read(4)
        is_zip = zipfile.is_zipfile(path)  # files from before PyTorch 1.6 are bare pickles and cannot be mapped
        fault = other_file(path)
        if not fault and not is_zip:
            fault = "its end is missing" if head == b"PK\x03\x04" else "" if head[:1] == b"\x80" else "neither a zip nor a pickle"
        if not fault:
            with warnings.catch_warnings(action="ignore"):  # what is wrong is said below, in one line
                return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # UnpicklingError, but damaged files raise almost anything
        if match := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise CheckpointError(
                f"{path}: a pickle of more than tensors ({match[1]}), which was not executed; save only the state dict, "
                "best as model.safetensors"
            ) from error
        unpickling = isinstance(error, pickle.UnpicklingError)  # torch would advise to load it all the same
        fault = "a damaged pickle or one of more than tensors, nothing executed" if unpickling else one_line(error)
    raise CheckpointError(f"{path}: not a complete PyTorch file of tensors ({fault}); download it again")
