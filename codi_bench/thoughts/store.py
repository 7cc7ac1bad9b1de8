"""A content-addressed store of arrays: what was captured once is not captured again.

The key says everything that the arrays depend on (weights, problems, protocol, dtype, code); its hash is the file name.
What is returned is always what the file holds, so a warm run sees exactly what a cold one saw.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from codi_bench.files import write_whole
from codi_bench.thoughts.mapped import map_file, write_filled
from codi_bench.thoughts.record import Answers

logger = logging.getLogger(__name__)


def default_folder() -> Path:
    """`$CODI_BENCH_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("CODI_BENCH_CACHE") or platformdirs.user_cache_dir("codi-bench")) / "store"


@dataclass(frozen=True)
class Store:
    """Arrays by key, one safetensors file an entry."""

    folder: Path

    def fetch(self, key: dict, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of that key, computed and written if they are not there; one process computes, others wait."""

        def write(path: Path, text: str) -> None:
            arrays = {name: np.ascontiguousarray(array) for name, array in compute().items()}
            save_file(arrays, path, metadata={"key": text})

        return self._fetch(key, write)

    def fetch_filled(
        self, key: dict, name: str, shape: tuple[int, ...], fill: Callable[[np.ndarray], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The same with one large array in half precision, which `fill` writes part by part into the file.

        fill: takes that array, gives the other arrays of the entry. Neither writing nor reading holds the large one in memory.
        """
        return self._fetch(key, lambda path, text: write_filled(path, name, shape, np.float16, fill, {"key": text}))

    def _fetch(self, key: dict, write: Callable[[Path, str], None]) -> dict[str, np.ndarray]:
        text = json.dumps(key, sort_keys=True)
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            held = _read(path, text)
            if held is None:
                write_whole(path, lambda temporary: write(temporary, text))
                held = _read(path, text)
        return held


def _read(path: Path, key: str) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("key") != key:
                raise SafetensorError("the entry belongs to another key")
        return map_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        logger.warning("%s is damaged (%s) and is computed again", path, error)
        return None


def pack_answers(answers: Answers) -> dict[str, np.ndarray]:
    """Ragged token ids and texts as flat arrays."""
    lengths = np.array([len(t) for t in answers.tokens], np.int32)
    texts = [t.encode() for t in answers.texts]
    return {
        "token_lengths": lengths,
        "tokens": np.array([i for t in answers.tokens for i in t], np.int32),
        "text_lengths": np.array([len(t) for t in texts], np.int32),
        "texts": np.frombuffer(b"".join(texts), np.uint8),
    }


def unpack_answers(arrays: dict[str, np.ndarray]) -> Answers:
    """The inverse of `pack_answers`."""
    tokens = np.split(arrays["tokens"], np.cumsum(arrays["token_lengths"]))[:-1]  # what follows the last length is empty
    texts = np.split(arrays["texts"], np.cumsum(arrays["text_lengths"]))[:-1]
    return Answers(tuple(tuple(t.tolist()) for t in tokens), tuple(t.tobytes().decode() for t in texts))
