"""Find a model: a folder, or a repository of the Hugging Face hub through its local cache.

The hub library is imported only when it is needed; it reads HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and tokens itself. Every
failure is one CheckpointError that says what to run or which folder to give.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from codi_bench.errors import CheckpointError, MissingWeightsError, one_line
from codi_bench.models.packaged import PACKAGED, packaged_folder

BASE_FILES = ("config.json", "tokenizer.json", "tokenizer*", "vocab*", "merges*", "special_tokens*", "added_tokens*")
# The first that a repository has, as the published code prefers
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# Where weights lie in several files: the index that says which tensor is where, and the files' names
INDEXES = {"model.safetensors.index.json": "model-*.safetensors", "pytorch_model.bin.index.json": "pytorch_model-*.bin"}
ONLY_SHARD = "model-00001-of-00001.safetensors"  # of SIM_COT-GPT2-CODI: the whole by its name, so it needs no index
ANY_WEIGHTS = (*WEIGHT_FILES, *INDEXES, ONLY_SHARD)  # the first of these counts
BESIDE_WEIGHTS = ("codi.json*", "config.json*", "tokenizer*.json", "*.index.json")


def is_repository(name: object) -> bool:
    """Could this be `org/name` on the hub? Bare words are names of our own registry."""
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def locate(name_or_path: str | Path, *, patterns: Sequence[str], mend: str = "") -> Path:
    """The folder of that path if it exists, otherwise the snapshot of the hub repository of that name (`gpt2`, `org/name`).

    patterns: files to download; those without a `*` must exist. mend: what the user can do, for the errors.
    A bare name may also name a backbone that a package ships. Raises CheckpointError.
    """
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    if name_or_path in PACKAGED:
        return packaged_folder(name_or_path)
    if Path(name_or_path).exists():
        raise CheckpointError(f"{name_or_path}: is a file; give the folder with {_words(patterns)}, or a name on the hub")
    if not (is_repository(name_or_path) or (isinstance(name_or_path, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*", name_or_path))):
        raise CheckpointError(f"{name_or_path}: no such folder; give a folder with {_words(patterns)}, or a name on the hub")
    assert isinstance(name_or_path, str)
    return fetch(name_or_path, patterns=patterns, mend=mend)


def fetch(repository: str, *, patterns: Sequence[str], one_of: Sequence[str] = (), mend: str = "") -> Path:
    """Fetch a local snapshot of a hub repository: the files of `patterns`, and the first of `one_of` that it has.

    With an index, its shards are fetched too.

    Raises MissingWeightsError if it is not cached while offline, unreachable, gated or unknown, or lacks a file.
    """
    from huggingface_hub import constants

    mend = mend or f"run `hf download {repository}` where there is a network, or give a folder in its place"
    for weight_file in one_of or ("",):
        shards = [INDEXES[weight_file]] if weight_file in INDEXES else []
        files = [*patterns, weight_file, *shards] if weight_file else list(patterns)
        folder = _snapshot(repository, files, mend)
        if all((folder / file).is_file() for file in files if "*" not in file):
            return folder
    location = (
        "in the local cache, and HF_HUB_OFFLINE forbids the network"
        if constants.HF_HUB_OFFLINE
        else "in the repository (or in the local cache, if there is no network)"
    )
    whole_files = _words([file for file in one_of if file not in INDEXES], " or ")
    raise MissingWeightsError(f"{repository}: {_words(patterns) or whole_files} not found {location}; {mend}")


def _snapshot(repository: str, patterns: list[str], mend: str) -> Path:
    from huggingface_hub import constants, errors, snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:  # requests, httpx and xet each have their own
        partial_path = getattr(error, "snapshot_path", None)  # IncompleteSnapshotError: what is needed may still be there
        if partial_path is not None:
            return Path(partial_path)
        if isinstance(error, errors.GatedRepoError):  # a kind of RepositoryNotFoundError: first
            page = f"https://huggingface.co/{repository}"
            reason = f"gated: accept its licence on {page} and log in (`hf auth login`, or a token in HF_TOKEN)"
            mend = f"then {mend}"
        elif isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)):
            reason = "no such folder and no such repository on the hub (or a private one)"
        elif constants.HF_HUB_OFFLINE:
            reason = "not in the local cache, and HF_HUB_OFFLINE forbids the network"
        elif isinstance(error, errors.LocalEntryNotFoundError):
            reason = "not in the local cache, and the hub cannot be reached"
        else:
            reason = f"cannot be downloaded ({one_line(error)})"
        raise MissingWeightsError(f"{repository}: {reason}; {mend}") from error


def _words(files: Sequence[str], separator: str = " and ") -> str:
    return separator.join(file for file in files if "*" not in file)
