"""Read the arrays that users give to a measure: tensors of any kind, pandas, lists, arrays of objects.

Each function takes the name that its errors begin with, and raises MeasureError for text instead of numbers, lists of unequal
length or missing values. Rows count from 0. The caller checks shapes. Values keep their bits and their dtype.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from decimal import Decimal
from typing import Any

import numpy as np
import torch

from codi_bench.errors import MeasureError

NUMBER, TEXT = "numbers", "text"
ORDINARY = 30  # binary digits from 1: within them no square leaves the range of single precision
SINGLE = (1e-15, 1e15)  # and within these no sum of squares of vectors, where nothing may be scaled
MEND = "mend it, or leave that problem out everywhere"


# --- what was given --------------------------------------------------------------------------------------------------


def plain(name: str, values: Any, *, names: bool = False) -> np.ndarray:
    """Any array-like as an array; of objects if its elements are of several kinds. Tensors are detached and moved to the CPU.

    names: a tuple is an element, not a row.
    """
    if isinstance(values, torch.Tensor):
        return _from_tensor(name, values)
    if isinstance(values, np.ma.MaskedArray) and (mask := np.ma.getmaskarray(values)).any():
        raise MeasureError(f"{name}: {_place(mask)} is masked; {MEND}")
    if isinstance(values, bool | int | float | complex | np.generic):
        return np.asarray(values)
    if hasattr(values, "__array__") or isinstance(values, memoryview):
        array = np.asarray(values)
        if array.dtype != object or array.ndim != 1:
            return array
        values = array.tolist()
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise MeasureError(f"{name}: is of type {type(values).__name__}; give an array, a tensor or a list")
    items = list(values)
    if not any(_is_row(item, names) for item in items):
        return _column(items)
    rows = [plain(name, item) for item in items]
    for number, row in enumerate(rows):
        if row.shape != rows[0].shape:
            shapes = f"the shape {list(row.shape)}, row 0 has {list(rows[0].shape)}"
            raise MeasureError(f"{name}: row {number} has {shapes}; give rows of one shape")
    return np.stack(rows)


def _from_tensor(name: str, tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    try:
        if tensor.layout is not torch.strided:
            tensor = tensor.to_dense()
        if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
            tensor = tensor.float()  # numpy has no bfloat16 and no 8 bits
        return tensor.cpu().resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise MeasureError(
            f"{name}: a tensor of {tensor.dtype} on {tensor.device} has no numbers to read; give another tensor"
        ) from error


def _is_row(item: Any, names: bool) -> bool:
    return isinstance(item, list) or (isinstance(item, tuple) and not names) or getattr(item, "ndim", 0) > 0


def _column(items: list[Any]) -> np.ndarray:
    """A column with one element per row; of objects if families mix, for numpy would turn 1 and NaN into texts beside "1"."""
    items = [item.item() if isinstance(item, torch.Tensor | np.ndarray) and not missing(item) else item for item in items]
    if {family(item) for item in items} in ({NUMBER}, {TEXT}):
        return np.asarray(items)
    array = np.empty(len(items), object)
    for row, item in enumerate(items):
        array[row] = item
    return array


def family(item: Any) -> str:
    """The family of a value; an array may mix values of one family: numbers, text, or objects of one type."""
    if isinstance(item, bool | int | float | np.integer | np.floating | np.bool_):
        return NUMBER
    return TEXT if isinstance(item, str) else type(item).__name__


def missing(item: Any) -> bool:
    """Is it missing: None, NaN, NaT, pandas' NA, or masked by numpy?"""
    if item is None or type(item).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    return isinstance(item, float | np.generic | Decimal) and bool(item != item)


def _place(bad: np.ndarray) -> str:
    """The place of the first True, in words."""
    row, *rest = np.argwhere(bad)[0].tolist() or (0,)
    return f"row {row}" + (f", {'column' if len(rest) == 1 else 'cell'} {rest[0]}" if rest else "")


# --- numbers ---------------------------------------------------------------------------------------------------------


def real(name: str, values: Any) -> np.ndarray:
    """Numbers of any shape: floats of 16 to 64 bits, integers and booleans unchanged; others as float64, missing ones as NaN."""
    array = plain(name, values)
    if array.dtype == object:
        array = _from_objects(name, array)
    if array.dtype.kind not in "biuf":
        hint = " (bfloat16: give a tensor, or a safetensors file)" if array.dtype.kind == "V" else ""
        raise MeasureError(f"{name}: holds {array.dtype}; numbers are needed{hint}")
    if array.dtype.itemsize > 8 or not array.dtype.isnative:
        with np.errstate(over="ignore"):  # infinite then, which is refused
            array = array.astype(np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("="))
    return array


def _from_objects(name: str, array: np.ndarray) -> np.ndarray:
    values = np.empty(array.shape)
    for place, item in np.ndenumerate(array):
        if not missing(item) and not isinstance(item, numbers.Real | np.bool_ | Decimal):
            what = f"{str(item)!r:.40} ({type(item).__name__})"
            raise MeasureError(f"{name}: row {place[0] if place else 0} holds {what}; numbers are needed")
        try:
            values[place] = math.nan if missing(item) else float(item)
        except OverflowError:
            values[place] = math.inf
    return values


def check_finite(name: str, array: np.ndarray) -> None:
    """Raises MeasureError naming the first number that is NaN or infinite."""
    if not (finite := np.isfinite(array)).all():
        value = array[~finite].flat[0]
        raise MeasureError(f"{name}: {_place(~finite)} holds {value}; {MEND} (it is not finite)")


def truths(name: str, values: Any) -> np.ndarray:
    """Booleans as bool; anything else unchanged, for the caller to refuse."""
    array = plain(name, values)
    if array.dtype == object:
        lacking = np.vectorize(missing, otypes=[bool])(array)
        if lacking.any():
            raise MeasureError(f"{name}: {_place(lacking)} is missing; {MEND}")
        if all(isinstance(item, bool | np.bool_) for item in array.flat):
            array = array.astype(bool)
    return array


# --- labels and groups -----------------------------------------------------------------------------------------------


def classes(name: str, values: Any) -> np.ndarray:
    """Class labels unchanged: integers, booleans, text, or floats that are whole. Raises MeasureError for missing ones."""
    array, mend = plain(name, values), "classes are whole numbers, booleans or text"
    if array.dtype.kind in "OT":
        items = array.ravel().tolist()
        for row, item in enumerate(items):
            if missing(item):
                raise MeasureError(f"{name}: row {row} is missing; {MEND}")
        families = sorted({family(item) for item in items})
        if families not in ([], [NUMBER], [TEXT], ["bytes"]):
            raise MeasureError(f"{name}: holds {' and '.join(families)}; {mend}, of one kind")
        array = np.asarray(items).reshape(array.shape)
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.floor(array))
        if not whole.all():
            raise MeasureError(f"{name}: {_place(~whole)} is {array[~whole].flat[0]}; {mend}")
    elif array.dtype.kind not in "biuUS":
        raise MeasureError(f"{name}: holds {array.dtype}; {mend}")
    return array


def codes(name: str, values: Any, n: int, *, blank: bool = False) -> np.ndarray:
    """Names [n] (any dictionary keys) as numbers int [n]: 0, 1, … sorted, or in order of occurrence if of several kinds.

    1 and "1" are two names, 1 and 1.0 are one. Raises MeasureError for missing names, and for blank text unless blank is allowed.
    """
    array = plain(name, values, names=True)
    if array.shape != (n,):
        raise MeasureError(f"{name} need one name per problem, [{n}], not {list(array.shape)}")
    if array.dtype.kind in "biu":
        return np.unique(array, return_inverse=True)[1]
    items = list(array) if array.dtype.kind in "mM" else array.tolist()
    mend = MEND if blank else "give every problem its group, one without variants a name of its own"
    for row, item in enumerate(items):
        if missing(item) or (not blank and isinstance(item, str | bytes) and not item.strip()):
            raise MeasureError(f"{name}: row {row} is missing; {mend}")
        try:
            hash(item)
        except TypeError as error:
            raise MeasureError(f"{name}: row {row} is of type {type(item).__name__}; give text, numbers or tuples") from error
    distinct = list(dict.fromkeys(items))
    if len({family(item) for item in distinct}) == 1 and not isinstance(distinct[0], Set):  # subsets are no order
        with suppress(TypeError):
            distinct = sorted(distinct)
    number = {item: code for code, item in enumerate(distinct)}
    return np.array([number[item] for item in items])


# --- magnitudes ------------------------------------------------------------------------------------------------------


def exponents(x: np.ndarray, axis: int | None = 0) -> np.ndarray:
    """The exponent of two of the largest magnitude along an axis, kept with length 1; 0 for ordinary magnitudes."""
    largest = np.maximum(x.max(axis, keepdims=True).astype(np.float64), -x.min(axis, keepdims=True).astype(np.float64))
    exponent = np.frexp(largest)[1]
    return np.where(np.abs(exponent) <= ORDINARY, 0, exponent)


def in_range(x: np.ndarray, axis: int = 0) -> np.ndarray:
    """x, scaled along an axis by a power of two if large or small, so that no square overflows or underflows.

    The scaling is exact: standardised values have the bits that floats of unlimited range would give.
    """
    exponent = exponents(x, axis)
    if not exponent.any():
        return x
    return np.ldexp(x if x.dtype in (np.float32, np.float64) else x.astype(np.float64), -exponent)


def check_magnitude(name: str, x: np.ndarray | torch.Tensor, least: float, most: float) -> None:
    """Raises MeasureError where the largest magnitude of x is neither 0 nor within [least, most]."""
    largest = max(abs(float(x.max())), abs(float(x.min())))
    if largest and not least <= largest <= most:
        raise MeasureError(f"{name}: the largest magnitude is {largest:.3g}, outside of {least:.3g} to {most:.3g}; scale them")
