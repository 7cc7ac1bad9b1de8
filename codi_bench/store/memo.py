"""A pure computation as an entry of the store: what it was given, by content, and what it gave, as arrays.

A call is named by the bytes of all its arguments, so that nothing upstream of them can be forgotten: whatever changes a vector
that an SAE is trained on (weights, problems, a layer, a split, the code that picks it) changes the name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import get_args, get_type_hints

import numpy as np
import torch

from codi_bench.store.cache import Arrays


def uncached(kind: type, function, /, *arguments, **settings):
    """`function(*given, **settings)`: what stands in for a bench's `cached` where nothing is stored."""
    return function(*arguments, **settings)


def digest(given: Sequence, settings: Mapping) -> str:
    """sha256 of arguments, by position and by name: numbers, texts, arrays, and lists and records of them.

    What has an `identity`, such as a model, is named by that.
    Raises TypeError for anything else.
    """
    by_name = {name: _content(value) for name, value in settings.items()}
    return hashlib.sha256(json.dumps([_content(list(given)), by_name], sort_keys=True).encode()).hexdigest()


def pack(result) -> Arrays:
    """An array, or a flat record of arrays, tensors and numbers, as arrays; what is None is left out."""
    values = {field.name: getattr(result, field.name) for field in fields(result)} if is_dataclass(result) else {"array": result}
    return {name: np.asarray(value) for name, value in values.items() if value is not None}


def unpack(kind: type, arrays: Arrays):
    """The inverse. kind: np.ndarray or the record's class. Arrays are read-only as those of a file are; tensors are copies."""
    if kind is np.ndarray:
        return np.asarray(arrays["array"])
    hints = get_type_hints(kind)
    return kind(**{field.name: _as(hints[field.name], arrays.get(field.name)) for field in fields(kind)})


def _as(hint, array: np.ndarray | None):
    if array is None:
        return None
    kinds = {hint, *get_args(hint)}  # `X | None` is X where there is something
    if torch.Tensor in kinds:
        return torch.from_numpy(np.array(array))
    return np.asarray(array) if np.ndarray in kinds else array.item()


def _content(value):
    """What JSON can hold of an argument, equal only where the argument is."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_content(item) for item in value]
    if hasattr(value, "identity"):
        return {type(value).__name__: _content(value.identity)}
    if is_dataclass(value):
        return {type(value).__name__: [_content(getattr(value, field.name)) for field in fields(value)]}
    array = np.asarray(value, order="C")
    if array.dtype.hasobject:
        raise TypeError(f"{type(value).__name__}: a computation is kept by what it is given, and this has no content to go by")
    return {
        "array": [
            str(array.dtype),
            list(array.shape),
            hashlib.sha256(array).hexdigest(),  # type: ignore[arg-type]  # a buffer, as numpy's types say from Python 3.12 on
        ]
    }
