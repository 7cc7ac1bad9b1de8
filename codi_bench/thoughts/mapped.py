"""Safetensors files as arrays mapped into memory: filled batch by batch, read without loading what nobody looks at.

Format: eight bytes with the length of a JSON header, the header (which may end in blanks), the arrays one after another.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np

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


def write_filled(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    fill: Callable[[np.ndarray], dict[str, np.ndarray]],
    metadata: dict[str, str],
) -> None:
    """Let `fill` write one large array straight into the file; the arrays that it gives back go behind it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with open(path, "wb") as file:
        file.truncate(START + size)
    large = np.memmap(path, dtype, "r+", START, shape)
    rest = fill(large)
    large.flush()
    del large
    header = {"__metadata__": metadata, name: _entry(np.dtype(dtype), shape, 0, size)}
    with open(path, "r+b") as file:
        file.seek(0, 2)
        for other, array in rest.items():
            header[other] = _entry(array.dtype, array.shape, size, size + array.nbytes)
            size += array.nbytes
            file.write(np.ascontiguousarray(array).tobytes())
        text = json.dumps(header).encode()
        if len(text) > START - 8:
            raise ValueError(f"{path}: a header of {len(text)} bytes, more than {START - 8}")
        file.seek(0)
        file.write((START - 8).to_bytes(8, "little") + text.ljust(START - 8))


def map_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, mapped and read-only. Checks nothing: `safetensors.safe_open` does that."""
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start - 8))
    return {
        name: np.memmap(path, NAMES[entry["dtype"]], "r", start + entry["data_offsets"][0], tuple(entry["shape"]))
        if np.prod(entry["shape"])
        else np.empty(entry["shape"], NAMES[entry["dtype"]])  # nothing cannot be mapped
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _entry(dtype: np.dtype, shape: tuple[int, ...], start: int, end: int) -> dict:
    return {"dtype": CODES[np.dtype(dtype)], "shape": list(shape), "data_offsets": [start, end]}
