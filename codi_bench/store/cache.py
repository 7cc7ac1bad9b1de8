"""A store of arrays, addressed by content, so that nothing is computed twice.

The key lists everything that the arrays depend on (weights, problems, protocol, dtype, code); its hash is the file name.
The store always returns what the file holds, so a warm run gets exactly the arrays of a cold one. A file that is damaged, has
another key or an older format is never used: its arrays are computed again, with a warning. If nothing can be stored, everything
is computed anew each time.

Each entry has a lock, an empty file that stays. With it processes agree on who computes, and its time is that of the last use.
When the folder outgrows its bound, the least recently used entries are removed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import platformdirs

from codi_bench.errors import CodiBenchError
from codi_bench.store.arrays import UnusableError, in_use, read_sealed, write_arrays, write_filled
from codi_bench.store.files import locked, touch, write_whole
from codi_bench.thoughts.record import Answers

logger = logging.getLogger(__name__)
GB = 1e9
DEFAULT_GB = 20.0
Arrays = dict[str, np.ndarray]


def default_folder() -> Path:
    """`$CODI_BENCH_CACHE`, or the user's cache folder; for a user without a home folder, a path that cannot be created."""
    try:
        folder = Path(os.environ.get("CODI_BENCH_CACHE") or platformdirs.user_cache_dir("codi-bench")).expanduser()
    except RuntimeError:  # else a folder called "~" would be made in the current one
        folder = Path(os.devnull) / "codi-bench"
    return folder / "store"


def default_bound() -> float:
    """Bytes that the store may hold: `$CODI_BENCH_CACHE_MAX_GB` or 20 GB. Raises CodiBenchError unless it is a number >= 0."""
    text = os.environ.get("CODI_BENCH_CACHE_MAX_GB") or str(DEFAULT_GB)
    with suppress(ValueError):
        if float(text) >= 0:  # not nan
            return float(text) * GB
    raise CodiBenchError(f"CODI_BENCH_CACHE_MAX_GB: '{text}' is not a size; give a number of gigabytes such as 20, or inf")


@dataclass(frozen=True)
class Store:
    """Arrays by key, in one safetensors file per entry.

    bound: bytes; after a write the least recently used entries are removed, but none in use, so a large run may exceed the bound.
    """

    folder: Path
    bound: float = field(default_factory=default_bound)
    verified: dict[Path, tuple] = field(default_factory=dict, repr=False, compare=False)

    def fetch(self, key: dict, compute: Callable[[], Arrays]) -> Arrays:
        """The arrays of that key, read-only. If they are missing, one process computes and writes them, and others wait."""
        build = functools.cache(lambda: {name: np.ascontiguousarray(array) for name, array in compute().items()})
        return self._fetch(key, lambda path, metadata: write_arrays(path, build(), metadata), build)

    def fetch_filled(self, key: dict, name: str, shape: tuple[int, ...], fill: Callable[[np.ndarray], Arrays]) -> Arrays:
        """Like `fetch`, with one large array in half precision, which `fill` writes part by part into the file.

        fill: takes that array (all zeros) and returns the other arrays of the entry. The large array is never whole in memory,
        unless it cannot be stored; then it may be filled a second time, from the start.
        """

        def build() -> Arrays:
            large = np.zeros(shape, np.float16)
            return {name: large, **fill(large)}

        return self._fetch(key, lambda path, metadata: write_filled(path, name, shape, np.float16, fill, metadata), build)

    def _fetch(self, key: dict, write: Callable[[Path, dict[str, str]], None], build: Callable[[], Arrays]) -> Arrays:
        text = json.dumps(key, sort_keys=True)
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"
        arrays = self._read(path, text)  # a file is put in place whole: reading it needs no lock, nor a folder to write to
        if arrays is None:
            with ExitStack() as stack:
                try:
                    stack.enter_context(locked(_lock(path)))
                except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
                    self._read(path, text, say=True)
                    return self._unstored(error, build)
                arrays = self._read(path, text, say=True)
                if arrays is None:
                    arrays = self._write(path, text, write, build)
            evict(self.folder, self.bound, keep=path)
        _touch(path)
        return arrays

    def _write(self, path: Path, key: str, write: Callable[[Path, dict[str, str]], None], build: Callable[[], Arrays]) -> Arrays:
        try:
            for remnant in self.folder.glob(f".{path.name}.*"):  # by a process that was killed: whoever writes this has the lock
                remnant.unlink(missing_ok=True)
            write_whole(path, lambda temporary: write(temporary, {"key": key}))
        except OSError as error:
            return self._unstored(error, build)
        _touch(path)
        arrays = self._read(path, key, say=True)
        return _frozen(build()) if arrays is None else arrays

    def _unstored(self, error: Exception, build: Callable[[], Arrays]) -> Arrays:
        arrays = _frozen(build())  # an error of the computation itself is raised here, before anything is said of the folder
        _say_unstored(self.folder, getattr(error, "strerror", None) or str(error))
        return arrays

    def _read(self, path: Path, key: str, *, say: bool = False) -> Arrays | None:
        try:
            metadata, arrays = read_sealed(path, self.verified)
            if metadata.get("key") != key:
                raise UnusableError("it belongs to another key")
            return arrays
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (UnusableError, OSError) as error:
            if say:
                logger.warning("%s cannot be used (%s) and is computed again", path, error)
            return None


@functools.cache
def _say_unstored(folder: Path, why: str) -> None:
    """Warn once per process, however many entries are concerned."""
    logger.warning(
        "%s: results cannot be stored there (%s) and are computed anew each time; make room or set CODI_BENCH_CACHE to a "
        "folder that can be written to",
        folder,
        why,
    )


def _frozen(arrays: Arrays) -> Arrays:
    for array in arrays.values():
        array.flags.writeable = False  # as those of a file are
    return arrays


# What the folder holds, and for how long


@dataclass(frozen=True)
class StoredEntry:
    """A file of the store, its bytes, and when it was last used (seconds since 1970)."""

    path: Path
    size: int
    used: float

    @property
    def age(self) -> float:
        """Seconds since the last use; 0 if the clock was set back since."""
        return max(0.0, time.time() - self.used)


def entries(folder: Path) -> list[StoredEntry]:
    """The entries of the store, least recently used first."""
    listing = []
    for path in folder.glob("*.safetensors"):
        with suppress(OSError):  # gone meanwhile
            last_use = (_lock(path) if _lock(path).exists() else path).stat().st_mtime
            listing.append(StoredEntry(path, path.stat().st_size, last_use))
    return sorted(listing, key=lambda entry: (entry.used, entry.path.name))


def evict(folder: Path, bound: float, *, older: float = math.inf, keep: Path | None = None) -> list[StoredEntry]:
    """Remove entries not used for `older` seconds, then the least recently used until the rest fits into `bound` bytes.

    Never removes `keep`, nor an entry that is locked or in use. Also removes half-written files of killed processes. Returns the
    removed entries.
    """
    removals = []
    for remnant in folder.glob(".*.safetensors.*"):
        with suppress(OSError):
            stat = remnant.stat()
            if _remove(remnant, folder / remnant.name[1:].rpartition(".")[0]):
                removals.append(StoredEntry(remnant, stat.st_size, stat.st_mtime))
    listing = entries(folder)
    total = sum(entry.size for entry in listing)
    for entry in listing:
        if (total > bound or entry.age > older) and entry.path != keep and _remove(entry.path, entry.path):
            total -= entry.size
            removals.append(entry)
    return removals


def _remove(file: Path, path: Path) -> bool:
    """Remove a file of that entry, unless a process is computing the entry or using the file."""
    with suppress(OSError), locked(_lock(path)).acquire(timeout=0):  # filelock's Timeout is an OSError
        if not in_use(file):
            file.unlink()
            return True
    return False


def _touch(path: Path) -> None:
    """Mark an entry as the most recently used, whatever the clock says."""
    clock = path.parent / ".clock"
    with suppress(OSError):  # a folder that cannot be written to cannot evict either
        last = clock.stat().st_mtime_ns if clock.exists() else 0
        stamp = max(time.time_ns(), last + 1000)
        for file in (clock, _lock(path)):
            touch(file)
            try:
                os.utime(file, ns=(stamp, stamp))
            except PermissionError:  # somebody else's, in a shared cache: now is all that it may be set to
                os.utime(file)


def _lock(path: Path) -> Path:
    return path.with_suffix(".lock")


def pack_answers(answers: Answers) -> Arrays:
    """Ragged token ids and texts as flat arrays."""
    texts = [t.encode() for t in answers.texts]
    return {
        "token_lengths": np.array([len(t) for t in answers.tokens], np.int32),
        "tokens": np.array([i for t in answers.tokens for i in t], np.int32),
        "text_lengths": np.array([len(t) for t in texts], np.int32),
        "texts": np.frombuffer(b"".join(texts), np.uint8),
    }


def unpack_answers(arrays: Arrays) -> Answers:
    """The inverse of `pack_answers`."""
    tokens = np.split(arrays["tokens"], np.cumsum(arrays["token_lengths"]))[:-1]  # what follows the last length is empty
    texts = np.split(arrays["texts"], np.cumsum(arrays["text_lengths"]))[:-1]
    return Answers(tuple(tuple(t.tolist()) for t in tokens), tuple(t.tobytes().decode() for t in texts))
