"""Safetensors files as memory-mapped arrays: filled batch by batch, read lazily, and sealed with a checksum.

Format: eight bytes with the length of a JSON header, the header (which may end in blanks), the arrays one after another. The
seal is `checksum` in the header's metadata: sha256 over every byte of the file, its own 64 digits read as zeros.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

try:
    import fcntl
except ImportError:  # Windows, where a file that is mapped cannot be deleted anyway
    fcntl = None  # type: ignore[assignment]  # a module or nothing: no type says so

NAMES = {
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
CODES = {np.dtype(dtype): code for code, dtype in NAMES.items()}
START = mmap.ALLOCATIONGRANULARITY  # room for the header, which is written last
CHECKSUM = re.compile(rb'"checksum":"([0-9a-f]{64})"')  # a key's own quotes are escaped and cannot look like this
BLANK = "0" * 64
LONGEST = 100_000_000  # bytes of a header, as safetensors has it
TICK = 100_000_000  # ns; file systems stamp changes by a coarser clock than this one


class UnusableError(ValueError):
    """A file that is damaged, cut short, or was never sealed."""


def write_arrays(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write a sealed file of arrays that fit into memory. Raises OSError if they do not fit on the disk."""
    path.write_bytes(save(arrays, {**metadata, "checksum": BLANK}))
    seal(path)


def write_filled(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype | type[np.generic],
    fill: Callable[[np.ndarray], dict[str, np.ndarray]],
    metadata: dict[str, str],
) -> None:
    """Let `fill` write one large array straight into the file; the arrays that it returns follow. The file is sealed.

    Raises OSError, before anything is filled, if the large one does not fit on the disk.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with open(path, "wb") as file:
        file.truncate(START + size)
        if hasattr(os, "posix_fallocate"):  # on a full disk, writing through a map into a file of holes kills the process
            os.posix_fallocate(file.fileno(), 0, START + size)
    large = np.memmap(path, dtype, "r+", START, shape)
    rest = fill(large)
    large.flush()
    del large
    header = {"__metadata__": {**metadata, "checksum": BLANK}, name: _entry(np.dtype(dtype), shape, 0, size)}
    with open(path, "r+b") as file:
        file.seek(0, 2)
        for key, array in rest.items():
            header[key] = _entry(array.dtype, array.shape, size, size + array.nbytes)
            size += array.nbytes
            file.write(np.ascontiguousarray(array).tobytes())
        text = json.dumps(header, separators=(",", ":")).encode()
        if len(text) > START - 8:
            raise ValueError(f"{path}: a header of {len(text)} bytes, more than {START - 8}")
        file.seek(0)
        file.write((START - 8).to_bytes(8, "little") + text.ljust(START - 8))
    seal(path)


def seal(path: Path) -> None:
    """Write the checksum into its place in the header."""
    with open(path, "r+b") as file:
        head = _head(file)
        digest = _digest(head, file)
        file.seek(cast("re.Match[bytes]", CHECKSUM.search(head)).start(1))
        file.write(digest)


def read_sealed(path: Path, verified: dict[Path, tuple]) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the arrays of a sealed file, memory-mapped and read-only. The file is `in_use` while one of them exists.

    verified: the checks made before, by path; the whole file is read again only if it has changed since.
    Raises UnusableError if a byte differs from what was written, and FileNotFoundError and other OSErrors as `open` does.
    """
    with open(path, "rb") as file:
        if fcntl:
            with suppress(OSError):  # a file system without locks, or the file is being removed: what is open stays readable
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # goes with the last map, which keeps a copy of this handle
        stat = os.fstat(file.fileno())
        stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        old_enough = time.time_ns() - stat.st_ctime_ns > TICK  # else another change could carry the same stamp
        head = _head(file)
        if verified.get(path) != stamp:
            checksum = CHECKSUM.search(head)
            if checksum is None:
                raise UnusableError("it has no checksum: it is damaged, or an older version wrote it")
            if checksum[1] != _digest(head, file):
                raise UnusableError("its checksum does not match")
            if old_enough:
                verified[path] = stamp
        try:
            header = json.loads(head[8:])
            metadata = header.pop("__metadata__")
            return metadata, {name: _map(file, len(head), entry) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # sealed, but not by this version
            raise UnusableError(f"its header has something unknown: {error}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, without checking the checksum. Raises UnusableError or OSError."""
    try:
        with safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise UnusableError("its header cannot be read") from error


def in_use(path: Path) -> bool:
    """Do arrays of that file exist in some process? False if the system cannot tell; they then outlive the file's removal."""
    if not fcntl:
        return False
    with open(path, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def _head(file: BinaryIO) -> bytes:
    """The first eight bytes and the header."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or 8 + length > min(os.fstat(file.fileno()).st_size, LONGEST):
        raise UnusableError("its header is cut short")
    return start + file.read(length)


def _digest(head: bytes, file: BinaryIO) -> bytes:
    """The checksum, in hexadecimal, of a head and of what follows it in the file."""
    digest = hashlib.sha256(CHECKSUM.sub(f'"checksum":"{BLANK}"'.encode(), head, count=1))
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest().encode()


def _map(file: BinaryIO, start: int, entry: dict) -> np.ndarray:
    dtype, shape = NAMES[entry["dtype"]], tuple(entry["shape"])
    if not np.prod(shape):
        return np.empty(shape, dtype)  # nothing cannot be mapped
    return np.memmap(file, dtype, "r", start + entry["data_offsets"][0], shape)


def _entry(dtype: np.dtype, shape: tuple[int, ...], start: int, end: int) -> dict:
    return {"dtype": CODES[np.dtype(dtype)], "shape": list(shape), "data_offsets": [start, end]}
