"""What a run was asked for, a model each, and what came of one pair of model and claim."""

from __future__ import annotations

from dataclasses import dataclass

from codi_bench.claims import Claim
from codi_bench.models.registry import REGISTRY, ModelEntry
from codi_bench.records.baseline import Record
from codi_bench.records.results import Row
from codi_bench.thoughts.decoded import LOGS


@dataclass(frozen=True)
class ModelRequest:
    """A model of this run: its name, and where it lies if the user said so (a folder or a hub name, with its base).

    log: what lies there is a released log, on which claims are measured that need no more.
    """

    name: str
    path: str | None = None
    base: str | None = None
    log: bool = False

    @property
    def known(self) -> bool:
        """Is it a registered model or log, and no user's own?"""
        return self.registered is not None or (self.log and self.name in LOGS)

    def takes(self, wanted: Claim) -> bool:
        """Can that claim be measured on it at all?"""
        return wanted.on_logs or not self.log

    @property
    def registered(self) -> ModelEntry | None:
        return REGISTRY.get(self.name)

    @property
    def for_gpus(self) -> bool:
        """A published checkpoint or an adapter that nobody gave a folder for: measured under `-m gpu` alone."""
        return self.path is None and self.registered is not None and not self.registered.embedded


@dataclass(frozen=True)
class PairOutcome:
    """One measured pair. word: ok, red, blocked, unchecked or not-run; lines: why it is red."""

    rows: list[Row]
    word: str
    lines: list[str]
    proposal: Record | None = None
