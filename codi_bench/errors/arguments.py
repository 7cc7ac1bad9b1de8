"""Checks of single arguments. Each returns the value, or raises an error that names the argument and the type it got.

A whole number is an int of Python or numpy; True, 2.0 and "3" are refused. The options of the command line have the same limits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Rational, Real
from pathlib import Path
from typing import Any, TypeVar, cast

from codi_bench.errors import CodiBenchError, InputError, UnknownNameError

Kind = TypeVar("Kind")
Error = type[CodiBenchError]

COUNT = 2**31 - 1  # most problems, tokens, steps … that are asked for at once
LATENTS = 1024  # most thoughts, also of a model folder
PERMUTATIONS = 10**6  # beyond which draws of a null fill any memory
SEED = 2**63 - 1  # torch's largest
FOLD_SEED = 2**32 - 1  # scikit-learn's, which deals folds


def described(value: object) -> str:
    """A value and its type, in one line."""
    name = type(value).__name__
    if value is None or not isinstance(value, int | Real | str | bytes):
        return "None" if value is None else f"a value of type {name}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**30 else f"a number of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, str | bytes) else str(value)
    return f"{text if len(text) <= 40 else text[:40] + '…'} ({name})"


def whole(name: str, value: object, least: int = 1, most: int = COUNT, *, error: Error = InputError) -> int:
    """A whole number within [least, most]."""
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    count = int(cast("int", value)) if is_whole else least - 1
    if not least <= count <= most:
        limit = f"at most {most}" if count > most else f"at least {least}"
        raise error(f"{name} must be a whole number, {limit}, got {described(value)}")
    return count


def seed(value: object, most: int = SEED, *, name: str = "seed", error: Error = InputError) -> int:
    """A seed; most: FOLD_SEED where it also deals folds."""
    return whole(name, value, 0, most, error=error)


def number(name: str, value: object, least: float = -math.inf, most: float = math.inf, *, error: Error = InputError) -> float:
    """A finite number within [least, most]; math.ulp(0) for one above 0."""
    real = _real(value)
    if not math.isfinite(real) or not least <= real <= most:
        low = "" if least == -math.inf else ", above 0" if least == math.ulp(0) else f", at least {least:g}"
        high = "" if most == math.inf else f", at most {most:g}"
        raise error(f"{name} must be a finite number{low}{high}, got {described(value)}")
    return real


def _real(value: object) -> float:
    """A whole or floating number as a float, NaN for anything else; beyond the range of floats it is infinite."""
    is_number = isinstance(value, Integral) or (isinstance(value, Real) and not isinstance(value, Rational))
    try:
        return float(cast("float", value)) if is_number and not isinstance(value, bool) else math.nan
    except OverflowError:
        return math.inf


def level(value: object, *, error: Error = InputError) -> float:
    """A level of confidence, a fraction."""
    if not 0 < (fraction := _real(value)) < 1:
        raise error(f"level must be a fraction between 0 and 1, such as 0.95, got {described(value)}")
    return fraction


def text(name: str, value: object, *, error: Error = InputError) -> str:
    """A text that can be written as UTF-8."""
    if not isinstance(value, str):
        raise error(f"{name} must be text, got {described(value)}")
    if not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
        raise error(f"{name} contains a lone surrogate (half a character), which UTF-8 cannot write; remove it")
    return str.__str__(value)  # of numpy's own kind, or an Enum's, too


def choice(name: str, value: object, known: Iterable[str], *, error: Error | None = None) -> str:
    """One of the known names; raises UnknownNameError with the nearest one, or the error with all of them."""
    known = list(known)
    if (word := text(name, value, error=error or InputError)) in known:
        return word
    if error is None:
        raise UnknownNameError(name, word, known)
    raise error(f"unknown {name} {word[:40]!r}: use {', '.join(known[:-1])} or {known[-1]}")


def path(name: str, value: object, *, error: Error = InputError) -> Path:
    """A path that a file or folder can have."""
    place = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    try:
        parts = os.fsencode(place).split(b"/") if isinstance(place, str) else [b"\0"]
    except UnicodeEncodeError:  # half a character
        parts = [b"\0"]
    if any(len(part) > 255 or b"\0" in part for part in parts) or sum(map(len, parts)) > 4000:
        raise error(f"{name} must be a path, got {described(value)}")
    return Path(cast("str", place))


def function(name: str, value: Callable[..., Kind], *, error: Error = InputError) -> Callable[..., Kind]:
    if not callable(value):
        raise error(f"{name} must be a function, got {described(value)}")
    return value


def instance(name: str, value: object, kind: Any, *, what: str = "", error: Error = InputError) -> Any:
    """A value of a class, or of one of several; what: their name."""
    if not isinstance(value, kind):
        raise error(f"{name} must be a {what or kind.__name__}, got {described(value)}")
    return value


def entries(name: str, values: object, length: int | None = None, *, of: str = "", error: Error = InputError) -> list[Any]:
    """The entries of a list, tuple, column, array [n] or generator, as a list. length: how many there must be, one for each `of`.

    Refuses a single text or mapping, a set (it has no order) and a table (it does not say which column is meant).
    """
    dimensions = getattr(values, "ndim", 1)
    if values is None or isinstance(values, str | bytes | bytearray | Mapping | set | frozenset) or dimensions != 1:
        raise error(f"{name} must be a list, or one column or array [n], got {described(values)}")
    try:
        result = list(values)  # type: ignore[call-overload]  # what is not to be iterated over says so
    except TypeError as reason:
        raise error(f"{name} must be a list, or one column or array [n], got {described(values)}") from reason
    if length is not None and len(result) != length:
        raise error(f"{name} must have {length} entries, one for each {of}, got {len(result)}")
    return result


def texts(name: str, values: object, length: int | None = None, *, of: str = "", error: Error = InputError) -> list[str]:
    """A list of texts, checked as `entries` does. The error names the index of an entry that is not a text."""
    return [text(f"{name}[{i}]", entry, error=error) for i, entry in enumerate(entries(name, values, length, of=of, error=error))]
