"""Files that others released with the answers of their models, problem by problem. They are recognised by content, not by path.

None of them is in this project; it has numbers computed from them, with the sha256 of the file. The adapters, which read a file,
are in the modules of this room, one module for each repository.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

UNKNOWN = "hash of the checkpoint, dtype and batch size"  # what most releases leave out


@dataclass(frozen=True)
class Repository:
    """Where a file was released. name: `owner/name` on github.com; commit: of the copy whose sha256 is known, "" if unknown."""

    name: str
    commit: str = ""


@dataclass(frozen=True)
class ReleasedFile:
    """A released file, known by its content. read: its adapter. unknown: what the file does not say about how it was made."""

    name: str
    sha256: str
    repository: Repository
    path: str
    read: Callable[[Path], Any] = field(repr=False)
    unknown: str = UNKNOWN

    @property
    def where(self) -> str:
        commit = f" at {self.repository.commit}" if self.repository.commit else ""
        return f"{self.path} of github.com/{self.repository.name}{commit}"


RELEASED: dict[str, ReleasedFile] = {}  # by sha256


def read_text(path: Path) -> str:
    """Read a text that others wrote: UTF-16 if it has that byte order mark, else UTF-8. Line ends become the same.

    Raises OSError, UnicodeDecodeError.
    """
    with open(path, "rb") as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return path.read_text(encoding="utf-16" if marked else "utf-8-sig")


def altered_copy(path: Path) -> str:
    """For an error: which released file this is a copy of, if only encoding or line ends differ; else ""."""
    try:
        sha256 = hashlib.sha256(read_text(path).encode()).hexdigest()
    except (OSError, UnicodeError):
        return ""
    return f"{path} is {RELEASED[sha256].where} with a different encoding or different line ends; " if sha256 in RELEASED else ""


def read_json(path: Path) -> Any:
    """Read a released JSON file; its adapter knows the fields."""
    return json.loads(path.read_text(encoding="utf-8"))


def first_rows(groups: Sequence[str]) -> np.ndarray:
    """Rows [distinct groups] of the first occurrence of each group, ascending: a problem that occurs twice counts once."""
    return np.sort(np.unique(groups, return_index=True)[1])


def released(
    repository: Repository, path: str, sha256: str, *, unknown: str = UNKNOWN
) -> Callable[[Callable[[Path], Any]], ReleasedFile]:
    """Register the decorated function as the adapter of that file; afterwards the function's name means the file.

    Raises ValueError for a second one.
    """

    def register(read: Callable[[Path], Any]) -> ReleasedFile:
        if sha256 in RELEASED:
            raise ValueError(f"released file '{read.__name__}': {RELEASED[sha256].name} has that sha256 already")
        file = RELEASED[sha256] = ReleasedFile(read.__name__, sha256, repository, path, read, unknown)
        return file

    return register


# Models of which nothing but released outcomes is measured here, and what they are; the others have their entry in the registry.
MODELS: dict[str, str] = {
    "coconut-gpt2-prosqa-rizvi": "Coconut on GPT-2, trained on ProsQA by michaelrizvi/coconut, checkpoint_50",
    "coconut-gpt2-prontoqa-rizvi": "Coconut on GPT-2, trained on ProntoQA by michaelrizvi/coconut, checkpoint_50",
    "coconut-smollm2-135m-prosqa-rizvi": "Coconut on SmolLM2-135M, trained on ProsQA by michaelrizvi/coconut",
    "coconut-gpt2-prosqa-liang": "Coconut on GPT-2, trained on ProsQA by valerieliang/coconut-cot, checkpoint_48",
}
ALIASES = {"codi-gpt2": "gpt2"}  # as the released log was called here
