"""Edits: replace the input at one place of the loop, and recompute what follows.

So a drop is a total effect, through every later latent as well. The direct effect of a place is an edit there with `kept` at
every later latent position, which feeds what the clean run fed.

A place is `bot` or a latent position 0..K-1; `all` stands for every latent position. Means, donors and noise never come
from the problems being scored but from a `Reference` of other problems.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from codi_bench.errors import EditError
from codi_bench.rules.stats import stream

BOT = "bot"
KEEP = "kept"  # a kind, and among replacements the mark of what only the loop can fill in
KINDS = ("zero", "mean", "resample", "noise", "self", KEEP)
DRAWN = ("resample", "noise")

SELF, NOISE = "self", "noise"  # sources that need no other run: the own values, and a random vector of their norm


@dataclass(frozen=True, eq=False)
class Directions:
    """Unit vectors [n, d], fed with the norm of the inputs that they replace."""

    vectors: np.ndarray


Replacement = np.ndarray | Directions | str | None  # values to feed [n, d], KEEP, or None: the model's own input


@dataclass(frozen=True)
class Edit:
    """Replace the input at `place` (a latent position, `bot` or `all`) by what `kind` says."""

    place: int | str
    kind: str

    def __str__(self) -> str:
        return f"{self.place}={self.kind}"


@dataclass(frozen=True)
class Reference:
    """Where means and donors come from: latents [m, K + 1, d] of other problems, their answers and groups [m]."""

    latents: np.ndarray
    answers: tuple[str, ...]
    groups: tuple[str, ...]


def parse_edit(text: str, num_latents: int) -> Edit:
    """Read `WHERE=KIND` of the command line. Raises EditError for an unknown place or kind, and for identities."""
    place_text, _, kind = text.partition("=")
    place: int | str = int(place_text) if place_text.isdecimal() else place_text
    check_edit(Edit(place, kind), num_latents)
    return Edit(place, kind)


def check_edit(edit: Edit, num_latents: int) -> None:
    """Raises EditError for an edit that is unknown, outside the loop or an identity."""
    if edit.kind not in KINDS:
        raise EditError(f"edit '{edit}': unknown kind '{edit.kind}', use one of {', '.join(KINDS)}")
    if edit.place not in (BOT, "all") and not (isinstance(edit.place, int) and 0 <= edit.place < num_latents):
        raise EditError(f"edit '{edit}': unknown place, use a latent position 0..{num_latents - 1}, 'bot' or 'all'")
    if edit.place == BOT and edit.kind in ("mean", "resample"):
        raise EditError(
            f"edit '{edit}': the bot input is the same in every problem, so this is an identity; use 0..{num_latents - 1}"
        )


def needs_reference(edits: Iterable[Edit]) -> bool:
    """Do any of these edits take values from reference problems?"""
    return any(edit.kind in ("mean", "resample") for edit in edits)


def direct(edit: Edit, num_latents: int) -> list[Edit]:
    """The condition of an edit's direct effect: every later latent position is fed what the clean run fed.

    Raises EditError for an edit of `all`, after which no latent is left to keep.
    """
    if edit.place == "all":
        raise EditError(f"edit '{edit}' has no direct effect: no latent position is left unedited; name one place")
    return [edit, *(Edit(k, KEEP) for k in range(0 if edit.place == BOT else cast(int, edit.place) + 1, num_latents))]


def draws(conditions: Sequence[Iterable[Edit]], seed: int) -> list[np.random.Generator]:
    """The random stream of each condition, which does not depend on the other conditions.

    If a condition occurs again, it gets another draw. The stream depends on the edits that draw, so a total and a direct effect
    have the same donors and noise.
    """
    texts = [tuple(map(str, edits)) for edits in conditions]
    random_edits = [[str(edit) for edit in edits if edit.kind in DRAWN] for edits in conditions]
    return [stream(seed, "edit", str(texts[:c].count(text)), *random_edits[c]) for c, text in enumerate(texts)]


def replacements(
    edits: Iterable[Edit],
    *,
    num_latents: int,
    width: int,
    n: int,
    reference: Reference | None,
    answers: Sequence[str],
    groups: Sequence[str],
    rng: np.random.Generator,
) -> dict[int | str, Replacement]:
    """The inputs to feed at each edited place for n problems.

    Donors are of another group and have another answer. All draws are made here, for all problems at once, so batches cannot
    change them. Raises EditError if a reference is missing or too small, or two edits name one place.
    """
    values: dict[int | str, Replacement] = {}
    for edit in edits:
        check_edit(edit, num_latents)
        for place in range(num_latents) if edit.place == "all" else (edit.place,):
            if place in values:
                raise EditError(f"edit '{edit}': place {place} is edited twice")
            if edit.kind in ("mean", "resample") and reference is None:
                raise EditError(f"edit '{edit}' needs reference problems: give --reference FILE (or reference=)")
            if edit.kind == "zero":
                values[place] = np.zeros((n, width), np.float32)
            elif edit.kind == "mean":
                assert reference is not None and isinstance(place, int)
                mean = reference.latents[:, place].astype(np.float64).mean(0).astype(np.float32)
                values[place] = np.broadcast_to(mean, (n, width))
            elif edit.kind == "resample":
                assert reference is not None and isinstance(place, int)
                values[place] = reference.latents[_donors(reference, answers, groups, rng), place]
            elif edit.kind == "noise":
                direction = rng.standard_normal((n, width)).astype(np.float32)
                values[place] = Directions(direction / np.linalg.norm(direction, axis=1, keepdims=True))
            else:  # bot has one input, its own and the clean run's
                values[place] = KEEP if edit.kind == KEEP and place != BOT else None
    return values


def _donors(reference: Reference, answers: Sequence[str], groups: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    donor_answers, donor_groups = np.array(reference.answers), np.array(reference.groups)
    donors = []
    for answer, group in zip(answers, groups, strict=True):
        candidates = np.flatnonzero((donor_answers != answer) & (donor_groups != group))
        if candidates.size == 0:
            raise EditError("resample: no reference problem has another group and another answer; give more reference problems")
        donors.append(candidates[rng.integers(candidates.size)])
    return np.array(donors)
