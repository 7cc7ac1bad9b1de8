"""Keep the result of a pure computation in the store: its arguments, by content, are the key, its result is arrays.

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
    """sha256 of arguments, positional and by name: numbers, texts, arrays, and lists and records of them.

    An object with an `identity`, such as a model, counts by that.
    Raises TypeError for anything else.
    """
    by_name = {name: _content(value) for name, value in settings.items()}
    return hashlib.sha256(json.dumps([_content(list(given)), by_name], sort_keys=True).encode()).hexdigest()


def pack(result) -> Arrays:
    """Turn an array, or a flat record of arrays, tensors and numbers, into arrays; fields that are None are left out."""
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
    """An argument in a form that JSON can hold; two are equal only if the arguments are."""
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
        raise TypeError(f"{type(value).__name__}: cannot be an argument of a stored computation, since it has no content to hash")
    return {
        "array": [
            str(array.dtype),
            list(array.shape),
            hashlib.sha256(array).hexdigest(),  # type: ignore[arg-type]  # a buffer, as numpy's types say from Python 3.12 on
        ]
    }
