"""Measure claims on released files instead of running a model, and what such a measurement may ask."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol

from codi_bench.claims.claim import CLAIMS, Claim, Function, Reading
from codi_bench.models.registry import PUBLISHED
from codi_bench.thoughts.released import ReleasedFile


class ReleasedBench(Protocol):
    """One model as known from released files: a claim can only read these files."""

    @property
    def model(self) -> Named: ...

    @property
    def seed(self) -> int: ...

    @property
    def permutations(self) -> int: ...

    @property
    def memo(self) -> dict[Any, Any]: ...

    def read(self, file: ReleasedFile) -> Any:
        """Read a file with its adapter, once per run. Raises ProblemError if the file was not given."""


class Named(Protocol):
    @property
    def name(self) -> str: ...


def on_released(
    id: str, files: Mapping[str, tuple[ReleasedFile, ...]], *, protocol: str, sound: str, **more: Any
) -> Callable[[Function], Function]:
    """Register the decorated function as how that claim, which models are run for, is measured on released files.

    The other arguments are as in `Reading`. Raises ValueError if the claim already has one.
    """

    def register(function: Function) -> Function:
        if CLAIMS[id].reading is not None:
            raise ValueError(f"claim '{id}': it is measured on released files already")
        CLAIMS[id] = replace(CLAIMS[id], reading=Reading(files, protocol, sound, function, **more))
        return function

    return register


def not_released(what: str, *ids: str) -> None:
    """Note for some claims what they would need that nobody released."""
    CLAIMS.update({id: replace(CLAIMS[id], unreleased=what) for id in ids})


def released_models() -> list[str]:
    """The models that released files are about, in the order of the claims."""
    return list(dict.fromkeys(name for claim in CLAIMS.values() if claim.reading for name in claim.reading.files))


def missing(claim: Claim, model: str, at_hand: Collection[ReleasedFile], why: str) -> str:
    """Why a claim is not run (why: no GPU or weights, or ""), and which released files it could use instead."""
    if files := claim.files(model):
        needed = ", ".join(file.where for file in files if file not in at_hand)
        return f"{why}; or {needed}, given with --released" if why else f"needs {needed}: give it with --released"
    return f"{why}; nobody released {claim.unreleased}" if claim.unreleased and model in PUBLISHED else why
