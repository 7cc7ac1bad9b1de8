"""How claims that models are run for are measured on released files, and what such a measurement may ask."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol

from codi_bench.claims.claim import CLAIMS, Claim, Function, Reading
from codi_bench.models.registry import PUBLISHED
from codi_bench.thoughts.released import ReleasedFile


class ReleasedBench(Protocol):
    """One model as released files tell of it: nothing can be asked of it but what they hold."""

    @property
    def model(self) -> Named: ...

    @property
    def seed(self) -> int: ...

    @property
    def permutations(self) -> int: ...

    @property
    def memo(self) -> dict[Any, Any]: ...

    def read(self, file: ReleasedFile) -> Any:
        """What its adapter makes of a file, once a run. Raises ProblemError where the file is not at hand."""


class Named(Protocol):
    @property
    def name(self) -> str: ...


def on_released(
    id: str, files: Mapping[str, tuple[ReleasedFile, ...]], *, protocol: str, sound: str, **more: Any
) -> Callable[[Function], Function]:
    """Register the decorated function as how that claim, which models are run for, is measured on released files.

    All else as in `Reading`. Raises ValueError for a second way.
    """

    def register(function: Function) -> Function:
        if CLAIMS[id].reading is not None:
            raise ValueError(f"claim '{id}': it is measured on released files already")
        CLAIMS[id] = replace(CLAIMS[id], reading=Reading(files, protocol, sound, function, **more))
        return function

    return register


def not_released(what: str, *ids: str) -> None:
    """Say of claims what nobody released that they would need."""
    CLAIMS.update({id: replace(CLAIMS[id], unreleased=what) for id in ids})


def released_models() -> list[str]:
    """Of which models released files tell something, in the order of the claims."""
    return list(dict.fromkeys(name for claim in CLAIMS.values() if claim.reading for name in claim.reading.files))


def missing(claim: Claim, model: str, at_hand: Collection[ReleasedFile], why: str) -> str:
    """Why a claim is not run (why: for lack of a GPU or weights, or ""), and which released files would do."""
    if files := claim.files(model):
        needed = ", ".join(file.where for file in files if file not in at_hand)
        return f"{why}; or {needed}, given with --released" if why else f"needs {needed}: give it with --released"
    return f"{why}; nobody released {claim.unreleased}" if claim.unreleased and model in PUBLISHED else why
