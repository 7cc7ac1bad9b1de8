"""Read JSON files strictly by a schema, since somebody may have edited, merged or damaged them; faults are one line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

Parsed = TypeVar("Parsed")


def read_json(path: Path, validate: Callable[..., Parsed], *, finite: bool = False) -> Parsed:
    """Read a file with the `validate_json` of a pydantic schema: no text is read as a number, no number as true or false.

    finite: refuse NaN, infinities and numbers that overflow to one, in any field. A field that occurs twice is always refused,
    since readers disagree on which one counts. Raises ValueError, naming field and fault, and OSError.
    """
    data = path.read_bytes()
    try:
        value = validate(data, strict=True)
    except ValidationError as error:
        raise ValueError(_fault(error)) from error
    numbers: dict[str, Any] = dict.fromkeys(("parse_float", "parse_int", "parse_constant"), _check_finite) if finite else {}
    # only now: the parser of the schema has seen that this is UTF-8, without half characters, and not nested without end
    json.loads(data.decode(), object_pairs_hook=_check_unique, **numbers)
    return value


def _fault(error: ValidationError) -> str:
    """`field.of.field: what is wrong`, of the first fault; names that come from a file cannot break the line."""
    detail = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in detail["loc"])[:200] or "the file"
    return "".join(sign if sign.isprintable() else " " for sign in f"{field}: {detail['msg']}")


def _check_unique(pairs: list[tuple[str, object]]) -> None:
    """Check that no field of an object occurs twice."""
    names = [name for name, _ in pairs]
    duplicate = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if duplicate is not None:
        raise ValueError(f"{duplicate[:200]!r}: occurs twice in one object; remove one of them")


def _check_finite(number: str) -> None:
    if not math.isfinite(float(number)):
        raise ValueError(f"the file: {number[:20]} is not a finite number")
