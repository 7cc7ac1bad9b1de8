"""What may be done to a model while it answers: one type for all of it, so that there is one way to ask (`Model.answers`).

Conditions are values. Two that are equal in content are the same condition, and the store knows an answer by that content.
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
    """Inputs replaced at some places, the rest recomputed; without edits the clean run.

    padding: `masked`, where batches make no difference, or `unmasked-padding` as in the published evaluation, where thoughts
    attend to the paddings of their batch, so that batch size and order show.
    """

    edits: tuple[Edit, ...] = ()
    padding: str = MASKED


@dataclass(frozen=True, eq=False)
class Patched:
    """Latents at some places from another run, or (keys_only) keys and values alone of one place.

    source: n questions, one for each that is answered, from whose runs is taken; SELF is the own run, and NOISE random vectors
    of the norm that they replace.
    """

    source: tuple[str, ...] | str
    places: tuple[int, ...]
    keys_only: bool = False

    def __str__(self) -> str:
        source = self.source if isinstance(self.source, str) else "another run"
        return f"{','.join(map(str, self.places))}={source}{' keys and values' if self.keys_only else ''}"


@dataclass(frozen=True, eq=False)
class Fed:
    """Vectors fed as thoughts: latents float32 [n, k, d], one after the other, so that a model may be given more or fewer than K.

    places: where they replace the own thoughts; None: everywhere.
    """

    latents: np.ndarray
    places: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return f"{','.join(map(str, fed_places(self)))}=vectors"


@dataclass(frozen=True)
class Shortened:
    """The answer is asked for behind the first `latents` thoughts; nothing else changes."""

    latents: int


@dataclass(frozen=True)
class Discretised:
    """At some places not the thought is fed but the projected embedding of the word that the head reads in it."""

    places: tuple[int, ...]


@dataclass(frozen=True)
class InWords:
    """No thoughts: the teacher's chain in words, and its answer."""


@dataclass(frozen=True, eq=False)
class Affine:
    """x → x matrix + offset: float32 [d, d] and [d], or with dimensions before them one such map for each of many vectors."""

    matrix: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True, eq=False)
class AtCue:
    """The answer is asked for by the words that every answer begins with, and goes on behind them.

    move: of `final_normed` at the last of these words, from which the first token of the number is read and nothing else; None
    moves nothing.
    """

    move: Affine | None = None


@dataclass(frozen=True, eq=False)
class KeysMoved:
    """Keys and values of one latent position moved once they are there: its thought is fed as it was, what follows is recomputed.

    move: of each block's keys and values in each of their heads, [blocks, 2, heads, d_head, d_head] and without the last one.
    """

    place: int
    move: Affine

    def __str__(self) -> str:
        return f"{self.place}=keys and values moved"


Condition = Edited | Patched | Fed | Shortened | Discretised | InWords | AtCue | KeysMoved
CLEAN, IN_WORDS, PUBLISHED = Edited(), InWords(), Edited(padding=UNMASKED)


def fed_places(condition: Patched | Fed | KeysMoved) -> tuple[int, ...]:
    """The latent positions at which something else is fed, or stands."""
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
    """Raises EditError for places outside the thoughts, an unknown source, or keys and values but of one place of a run.

    Raises ValueError for a source, or vectors, of other than n problems.
    """
    places = fed_places(condition)
    if not places or len(set(places)) != len(places):
        raise EditError(f"patch '{condition}' needs different latent positions")
    if not all(0 <= place < num_latents for place in places):
        raise EditError(f"patch '{condition}': there are the latent positions 0..{num_latents - 1}")
    if isinstance(condition, KeysMoved):
        return
    if isinstance(condition, Fed):
        if len(condition.latents) != n:
            raise ValueError(f"patch '{condition}' has vectors for {len(condition.latents)} problems, not {n}")
        return
    if isinstance(condition.source, str) and condition.source not in (SELF, NOISE):
        raise EditError(f"patch '{condition}': no source '{condition.source}', give questions, '{SELF}' or '{NOISE}'")
    if condition.keys_only and (len(places) != 1 or condition.source == NOISE):
        raise EditError(f"patch '{condition}': keys and values are those of one place of a run")
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
        raise EditError(f"an answer may come behind 0 to {num_latents} latents, not {condition.latents}")
    elif isinstance(condition, Discretised) and not all(0 <= place < num_latents for place in condition.places):
        raise EditError(f"latent positions go from 0 to {num_latents - 1}, not {sorted(condition.places)}")


def edits_of(conditions: Sequence[Condition]) -> list[tuple[Edit, ...]]:
    """The edits of every condition, () where it has none."""
    return [condition.edits if isinstance(condition, Edited) else () for condition in conditions]
