"""Check the arguments that callers give to a model and convert them: lists of texts, conditions, arrays to fill."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codi_bench.errors import EditError, InputError, arguments
from codi_bench.models.answering import Pass
from codi_bench.models.codi import Codi
from codi_bench.models.conditions import (
    PADDINGS,
    Affine,
    AtCue,
    Condition,
    Discretised,
    Edited,
    Fed,
    KeysMoved,
    Patched,
    Shortened,
    check,
)
from codi_bench.models.edits import Edit, Reference


def settings(
    codi: Codi,
    num_latents: int | None,
    batch_size: int,
    max_new_tokens: int,
    padding: str,
    progress: Callable[[int], object] = lambda count: None,
    *,
    fewest: int = 0,
) -> Pass:
    """Settings of a pass; num_latents: None is K; fewest: least new tokens. Raises InputError; UnknownNameError for a padding."""
    return Pass(
        codi.num_latents if num_latents is None else arguments.whole("num_latents", num_latents, 0, arguments.LATENTS),
        arguments.whole("batch_size", batch_size),
        arguments.whole("max_new_tokens", max_new_tokens, fewest),
        arguments.choice("protocol", padding, PADDINGS),
        arguments.function("progress", progress),
    )


def questions_of(values: object, *, fewest: int = 0) -> list[str]:
    """A list of questions. Raises InputError for anything else, and for too few questions."""
    questions = arguments.texts("questions", values)
    if len(questions) < fewest:
        raise InputError("questions: the list is empty; give at least one")
    return questions


def beside(name: str, values: object, n: int) -> list[str]:
    """None, or one text for each question."""
    texts = arguments.texts(name, values)
    return texts and arguments.texts(name, texts, n, of="question")


def array_to_fill(name: str, array: object, shape: tuple[int, ...]) -> np.ndarray | None:
    """An array of floats of that shape, or None."""
    if array is None:
        return None
    values = arguments.instance(name, array, np.ndarray)
    if values.shape != shape or values.dtype.kind != "f" or not values.flags.writeable:
        raise InputError(f"{name} must be a writable array of floats {list(shape)}, got {values.dtype} {list(values.shape)}")
    return values


def states_of(states: object, shape: tuple[int | None, ...]) -> int:
    """The n of states [n, ...], n > 0, whose other dimensions are `sizes`; None allows any size above 0."""
    array = arguments.instance("states", states, np.ndarray)
    fits = array.dtype.kind == "f" and array.ndim == 1 + len(shape) and array.size
    if not fits or any(size not in (None, own) for size, own in zip(shape, array.shape[1:], strict=True)):
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"states must be floats [n, {sizes}], got {array.dtype} {list(array.shape)}")
    return len(array)


def words_of(values: object, n: int) -> list[list[str]]:
    """The words of n problems: equally many for each problem."""
    words = [arguments.texts(f"words[{i}]", w) for i, w in enumerate(arguments.entries("words", values, n, of="problem"))]
    return [arguments.texts(f"words[{i}]", row, len(words[0]), of="word of the first problem") for i, row in enumerate(words)]


def reference_of(reference: object, num_latents: int, width: int) -> Reference | None:
    """A reference with at least num_latents latents and the model's width; or None."""
    if reference is None:
        return None
    thoughts: Reference = arguments.instance("reference", reference, Reference)
    shape = np.shape(thoughts.latents)
    if len(shape) != 3 or not shape[0] or shape[1] <= num_latents or shape[2] != width:
        raise EditError(f"reference: its latents have the shape {list(shape)}; [m, {num_latents + 1}, {width}] is needed")
    return thoughts


def conditions_of(values: object, n: int, num_latents: int, width: int) -> list[Condition]:
    """A list of conditions that n questions can be answered under. Raises EditError, or InputError for other types."""
    conditions = arguments.entries("conditions", values)
    for i, condition in enumerate(conditions):
        _check_parts(condition, f"conditions[{i}]", width)
        check(condition, n, num_latents)
    return conditions


def edits_of(values: object) -> tuple[Edit, ...]:
    """Edits as a condition has them."""
    return tuple(arguments.instance(f"edits[{i}]", e, Edit) for i, e in enumerate(arguments.entries("edits", values)))


def _check_parts(condition: object, name: str, width: int) -> None:
    """Check the types of a condition's parts; ranges are checked later."""
    arguments.instance(name, condition, Condition, what="condition")
    if isinstance(condition, Edited):
        edits_of(condition.edits)
    elif isinstance(condition, Shortened):
        arguments.whole(f"{name}.latents", condition.latents, 0)
    elif isinstance(condition, Patched | Discretised):
        _check_places(condition.places, name)
    if isinstance(condition, Patched) and not isinstance(condition.source, str):
        arguments.texts(f"{name}.source", condition.source)
    if isinstance(condition, Fed):
        shape = np.shape(arguments.instance(f"{name}.latents", condition.latents, np.ndarray))
        if condition.latents.dtype.kind != "f" or len(shape) != 3 or shape[2] != width:
            raise EditError(f"{name}.latents must be floats [n, k, {width}], got {condition.latents.dtype} {list(shape)}")
        _check_finite(f"{name}.latents", condition.latents)
        _check_places(() if condition.places is None else condition.places, name)
    if isinstance(condition, KeysMoved):
        arguments.whole(f"{name}.place", condition.place, 0)
    if isinstance(condition, AtCue | KeysMoved) and condition.move is not None:
        move = arguments.instance(f"{name}.move", condition.move, Affine)
        _check_finite(f"{name}.move", move.matrix, move.offset)


def _check_finite(name: str, *arrays: np.ndarray) -> None:
    """What is not finite would make every answer run to the limit of tokens, and mean nothing."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise EditError(f"{name} must be finite; it holds NaN or infinity")


def _check_places(places: object, name: str) -> None:
    for place in arguments.entries(f"{name}.places", places):
        if isinstance(place, bool) or not isinstance(place, int | np.integer):
            raise EditError(f"{name}: a place must be a whole number, got {arguments.described(place)}")
