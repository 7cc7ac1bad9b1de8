"""Files that others released with what their models answered, problem by problem: recognised by content, wherever they lie.

None of them is in this project; numbers that were computed from them are, with the sha256 of the file. The adapters, which say
what a file holds, are in the modules of this room, one a repository.
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
    """A file by its content. read: its adapter. unknown: what it does not tell of how its numbers were made."""

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
    """A text of others: UTF-16 where a mark says so, else UTF-8 with or without one; all lines end alike.

    Raises OSError, UnicodeDecodeError.
    """
    with open(path, "rb") as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return path.read_text(encoding="utf-16" if marked else "utf-8-sig")


def altered_copy(path: Path) -> str:
    """What a file is a copy of but for its mark, encoding or line ends, in words for an error; "" for another file."""
    try:
        sha256 = hashlib.sha256(read_text(path).encode()).hexdigest()
    except (OSError, UnicodeError):
        return ""
    return f"{path} is {RELEASED[sha256].where} with another encoding or other line ends; " if sha256 in RELEASED else ""


def read_json(path: Path) -> Any:
    """A released JSON file; its adapter knows what is in it."""
    return json.loads(path.read_text(encoding="utf-8"))


def first_rows(groups: Sequence[str]) -> np.ndarray:
    """Rows [distinct groups] in which each group stands first, rising: what stands there twice counts once."""
    return np.sort(np.unique(groups, return_index=True)[1])


def released(
    repository: Repository, path: str, sha256: str, *, unknown: str = UNKNOWN
) -> Callable[[Callable[[Path], Any]], ReleasedFile]:
    """Register the decorated function as the adapter of that file, which it then stands for.

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
    "sim-cot-gpt2": "internlm/SIM_COT-GPT2-CODI",
    "coconut-gpt2-prosqa": "Coconut on GPT-2, trained on ProsQA: prosqa-coconut of bmarti44/coconut-curriculum-checkpoints",
    "coconut-gpt2-prosqa-rizvi": "Coconut on GPT-2, trained on ProsQA by michaelrizvi/coconut, checkpoint_50",
    "coconut-gpt2-prontoqa-rizvi": "Coconut on GPT-2, trained on ProntoQA by michaelrizvi/coconut, checkpoint_50",
    "coconut-smollm2-135m-prosqa-rizvi": "Coconut on SmolLM2-135M, trained on ProsQA by michaelrizvi/coconut",
    "coconut-gpt2-prosqa-liang": "Coconut on GPT-2, trained on ProsQA by valerieliang/coconut-cot, checkpoint_48",
}
ALIASES = {"codi-gpt2": "gpt2"}  # as the released log was called here
