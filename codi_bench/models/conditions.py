"""Conditions: everything that may be done to a model while it answers, as one type, for `Model.answers`.

Conditions are values: two with equal content are the same condition, and the store keys answers by that content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codi_bench.errors import EditError, arguments
from codi_bench.models.edits import NOISE, SELF, Edit, check_edit

MASKED, UNMASKED = "masked", "unmasked-padding"
PADDINGS = (MASKED, UNMASKED)


@dataclass(frozen=True)
class Edited:
    """Replace the inputs at some places and recompute the rest; without edits this is the clean run.

    padding: `masked`, where batches make no difference, or `unmasked-padding` as in the published evaluation, where thoughts
    attend to the paddings of their batch, so that batch size and order change results.
    """

    edits: tuple[Edit, ...] = ()
    padding: str = MASKED


@dataclass(frozen=True, eq=False)
class Patched:
    """Take latents at some places from another run, or (keys_only) only keys and values of one place.

    source: n questions, one for each answered question, whose runs are the source; SELF is the question's own run, NOISE means
    random vectors of the replaced norm.
    """

    source: tuple[str, ...] | str
    places: tuple[int, ...]
    keys_only: bool = False

    def __str__(self) -> str:
        source = self.source if isinstance(self.source, str) else "another run"
        return f"{','.join(map(str, self.places))}={source}{' keys and values' if self.keys_only else ''}"


@dataclass(frozen=True, eq=False)
class Fed:
    """Feed given vectors as thoughts: latents float32 [n, k, d], in order; k may differ from K.

    places: where they replace the model's own thoughts; None: everywhere.
    """

    latents: np.ndarray
    places: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return f"{','.join(map(str, fed_places(self)))}=vectors"


@dataclass(frozen=True)
class Shortened:
    """Ask for the answer after the first `latents` thoughts; nothing else changes."""

    latents: int


@dataclass(frozen=True)
class Discretised:
    """At some places, feed the projected embedding of the word that the head reads in the thought, instead of the thought."""

    places: tuple[int, ...]


@dataclass(frozen=True)
class InWords:
    """Without thoughts: the teacher's chain of thought in words, and its answer."""


@dataclass(frozen=True, eq=False)
class Affine:
    """The map x → x matrix + offset: float32 [d, d] and [d]; with leading dimensions, one map for each of several vectors."""

    matrix: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True, eq=False)
class AtCue:
    """Ask for the answer by the cue, the words that every answer begins with, and continue after it.

    move: changes `final_normed` at the last token of the cue, from which only the first token of the number is read; None: no
    change.
    """

    move: Affine | None = None


@dataclass(frozen=True, eq=False)
class KeysMoved:
    """Change keys and values of one latent position after its thought was fed unchanged; what follows is recomputed.

    move: a map for each block's keys and values in each head, [blocks, 2, heads, d_head, d_head] and without the last dimension.
    """

    place: int
    move: Affine

    def __str__(self) -> str:
        return f"{self.place}=keys and values moved"


Condition = Edited | Patched | Fed | Shortened | Discretised | InWords | AtCue | KeysMoved
CLEAN, IN_WORDS, PUBLISHED = Edited(), InWords(), Edited(padding=UNMASKED)


def fed_places(condition: Patched | Fed | KeysMoved) -> tuple[int, ...]:
    """The latent positions at which the input, or keys and values, are replaced."""
    if isinstance(condition, KeysMoved):
        return (condition.place,)
    return (
        tuple(range(condition.latents.shape[1]))
        if isinstance(condition, Fed) and condition.places is None
        else condition.places or ()
    )


def latents_of(condition: Patched | Fed | KeysMoved, num_latents: int) -> int:
    """How many thoughts a run under that condition has."""
    return condition.latents.shape[1] if isinstance(condition, Fed) else num_latents


def check_patched(condition: Patched | Fed | KeysMoved, n: int, num_latents: int) -> None:
    """Raises EditError for places outside the thoughts, an unknown source, or keys and values of more than one place.

    Raises ValueError unless source or vectors are of n problems.
    """
    places = fed_places(condition)
    if not places or len(set(places)) != len(places):
        raise EditError(f"patch '{condition}' needs different latent positions")
    if not all(0 <= place < num_latents for place in places):
        raise EditError(f"patch '{condition}': use latent positions 0..{num_latents - 1}")
    if isinstance(condition, KeysMoved):
        return
    if isinstance(condition, Fed):
        if len(condition.latents) != n:
            raise ValueError(f"patch '{condition}' has vectors for {len(condition.latents)} problems, not {n}")
        return
    if isinstance(condition.source, str) and condition.source not in (SELF, NOISE):
        raise EditError(f"patch '{condition}': unknown source '{condition.source}', give questions, '{SELF}' or '{NOISE}'")
    if condition.keys_only and (len(places) != 1 or condition.source == NOISE):
        raise EditError(f"patch '{condition}': keys and values need exactly one place, and a source that is a run")
    if not isinstance(condition.source, str) and len(condition.source) != n:
        raise ValueError(f"every source needs one question for each of the {n} recipients")


def check(condition: Condition, n: int, num_latents: int) -> None:
    """Raises EditError or ValueError for a condition that n problems cannot be answered under, with so many latents."""
    if isinstance(condition, Patched | Fed | KeysMoved):
        check_patched(condition, n, latents_of(condition, num_latents))
    elif isinstance(condition, Edited):
        arguments.choice("protocol", condition.padding, PADDINGS)
        for edit in condition.edits:
            check_edit(edit, num_latents)
    elif isinstance(condition, Shortened) and not 0 <= condition.latents <= num_latents:
        raise EditError(f"an answer may come after 0 to {num_latents} latents, not {condition.latents}")
    elif isinstance(condition, Discretised) and not all(0 <= place < num_latents for place in condition.places):
        raise EditError(f"latent positions go from 0 to {num_latents - 1}, not {sorted(condition.places)}")


def edits_of(conditions: Sequence[Condition]) -> list[tuple[Edit, ...]]:
    """The edits of every condition, () where it has none."""
    return [condition.edits if isinstance(condition, Edited) else () for condition in conditions]
