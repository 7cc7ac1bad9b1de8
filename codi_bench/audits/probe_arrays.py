"""Read a user's activations and labels, from a file or as arrays, and check them before anything is computed.

Rows are counted from 0, as in the arrays themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from codi_bench.errors import InputError, MeasureError, arguments, one_line
from codi_bench.measures.arrays import NUMBER, check_finite, codes, family, plain, real
from codi_bench.measures.surface import PROBLEMS_PER_COLUMN, surface_design

NAMES = ("activations", "labels", "groups", "surface", "confidence")
SUFFIXES = (".npz", ".safetensors")


@dataclass(frozen=True, eq=False)
class ProbeArrays:
    """activations [n, cells, d]; labels bool [n]; groups int [n]; surface [n, p], a design; confidence [n, columns].

    num_groups: n if there are no groups.
    """

    activations: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    surface: np.ndarray | None
    confidence: np.ndarray | None
    num_groups: int


@contextmanager
def in_file(path: Path) -> Iterator[None]:
    """Make errors about the contents name the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_probes(path: str | Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz or .safetensors file, by name; nothing is unpickled.

    bfloat16 and 8 bits become float32. Raises InputError for another suffix, a file that cannot be read, and arrays that are
    missing or hold Python objects.
    """
    path = arguments.path("path", path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: has the suffix '{path.suffix}'; give an .npz or a .safetensors file")
    with in_file(path):
        arrays = _npz(path) if path.suffix == ".npz" else _safetensors(path)
        for name in NAMES[:2]:
            if name not in arrays:
                raise InputError(f"{name}: no such array; the file has {', '.join(sorted(arrays)) or 'none'}; save one as {name}")
    return arrays


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise InputError("has one array without a name; write it with np.savez(FILE, activations=..., labels=...)")
        with opened as file:
            arrays = {}
            for name in file.files:
                try:
                    arrays[name] = file[name]
                except ValueError as error:
                    raise InputError(f"{name}: cannot be read ({one_line(error)}); write it as an array of numbers") from error
            return arrays
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("no such file") from error
    except Exception as error:  # damaged archives raise errors of zipfile, zlib and numpy
        raise InputError(f"cannot be read ({one_line(error)}); write it with np.savez") from error


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: plain(name, file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  # it is no dict
    except FileNotFoundError as error:
        raise InputError("no such file") from error
    except (SafetensorError, OSError, KeyError, MeasureError) as error:  # KeyError: a dtype that it does not know
        raise InputError(f"cannot be read ({one_line(error)}); write it with safetensors.numpy.save_file") from error


# --- checks ----------------------------------------------------------------------------------------------------------


def checked_arrays(arrays: Mapping[str, ArrayLike | None], *, folds: int) -> ProbeArrays:
    """Check arrays by name and convert them for the auditor. Raises InputError, naming array and row, and what to do."""
    try:
        return _checked(arrays, folds)
    except MeasureError as error:  # of the readers that all measures have
        raise InputError(str(error)) from error


def _checked(arrays: Mapping[str, ArrayLike | None], folds: int) -> ProbeArrays:
    x = _numbers("activations", arrays["activations"])
    if x.ndim == 2:
        x = x[:, None]
    if x.ndim != 3 or 0 in x.shape:
        raise InputError(f"activations: has the shape {list(x.shape)}; give [n, cells, d] or [n, d]")
    check_finite("activations", x)
    n = len(x)
    labels = _labels(arrays["labels"], n)
    groups = None if arrays.get("groups") is None else _groups(arrays["groups"], n)
    num_groups = n if groups is None else int(groups.max()) + 1
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        count = len(rows) if groups is None else len(np.unique(groups[rows]))
        if count < folds:
            what = "problems" if groups is None else "groups"
            raise InputError(
                f"labels: {count} {what} have the label {label}, but {folds} folds need at least {folds}; give more of them"
            )
    columns = {name: _columns(name, arrays.get(name), n) for name in ("surface", "confidence")}
    design = None
    if (surface := columns["surface"]) is not None:
        if num_groups < PROBLEMS_PER_COLUMN:
            raise InputError(
                f"surface: {num_groups} problems (or groups) are too few to hold it fixed, {PROBLEMS_PER_COLUMN} are needed; "
                "give more, or leave surface out"
            )
        design = surface_design({str(k): column for k, column in enumerate(surface.T)}, {}, num_groups)
    return ProbeArrays(x, labels, groups, design, columns["confidence"], num_groups)


def _numbers(name: str, values: ArrayLike | None) -> np.ndarray:
    """Floats of 32 bits, or of 64 if the given numbers need them."""
    array = real(name, values)
    return array.astype(np.promote_types(array.dtype, np.float32))


def _rows(name: str, array: np.ndarray, n: int) -> None:
    if not array.ndim or len(array) != n:
        count = len(array) if array.ndim else "no"
        raise InputError(f"{name}: has {count} rows, but activations have {n}; give one per problem, in the same order")


def _labels(values: ArrayLike | None, n: int) -> np.ndarray:
    labels = plain("labels", values)
    _rows("labels", labels, n)
    if labels.ndim != 1:
        raise InputError(f"labels: has the shape {list(labels.shape)}; give [n]")
    right = np.array([family(value) == NUMBER and value in (0, 1) for value in labels.tolist()])
    if not right.all():
        row = int(np.flatnonzero(~right)[0])
        raise InputError(f"labels: row {row} is {labels[row]!s:.40}, neither 0 nor 1; write 1 for right and 0 for wrong")
    labels = labels.astype(bool)
    if labels.all() or not labels.any():
        raise InputError(f"labels: all {n} are {int(labels[0])}; a probe needs problems of both classes")
    return labels


def _groups(values: ArrayLike | None, n: int) -> np.ndarray:
    """The groups as numbers 0, 1, 2 ..., in sorted order if they can be sorted."""
    names = plain("groups", values, names=True)
    _rows("groups", names, n)
    if names.ndim != 1:
        raise InputError(f"groups: has the shape {list(names.shape)}; give [n], a name or a number for each problem")
    return codes("groups", names, n)


def _columns(name: str, values: ArrayLike | None, n: int) -> np.ndarray | None:
    """Numbers float64 [n, columns], of [n] or [n, columns]."""
    if values is None:
        return None
    array = _numbers(name, values).astype(np.float64)
    _rows(name, array, n)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.shape[1]:
        raise InputError(f"{name}: has the shape {list(array.shape)}; give [n] or [n, columns]")
    check_finite(name, array)
    return array
