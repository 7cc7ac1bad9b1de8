"""One results file as a run that can be laid beside others: two of them, or a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from codi_bench.records.move import Key
from codi_bench.records.results import OK, Row, finite, of_model, read_results
from codi_bench.report.table import REPORTED, SOUND, in_order, metric_order, word


@dataclass(frozen=True)
class Run:
    """One results file: where it lies, its environment, its rows by key, and what to call it in text ("run 1", a day)."""

    file: str
    environment: dict
    rows: dict[Key, Row]
    label: str = ""

    @cached_property
    def date(self) -> datetime | None:
        """When it took place, in UTC; None where the file does not say."""
        try:
            date = datetime.fromisoformat(self.environment.get("date") or "")
        except ValueError:
            return None
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)

    def of_model(self, name: str, model: str) -> Any:
        """environment[name][model]; an empty dict where an older file does not have it."""
        return of_model(self.environment, name, model) or {}

    def row(self, key: Key) -> Row | None:
        """The row of that key; the row of a whole claim ("-") speaks for metrics that are not there."""
        claim, model, _, protocol = key
        whole_claim = [(claim, model, "-", name) for name in (protocol, REPORTED, SOUND)]
        return next((self.rows[candidate] for candidate in (key, *whole_claim) if candidate in self.rows), None)

    def measured(self, key: Key) -> Row | None:
        """The row of that key if it holds a finite number."""
        row = self.rows.get(key)
        return row if row and row.status == OK and finite((row.measured or {}).get("value")) is not None else None

    def protocol_text(self, row: Row) -> str | None:
        """The words of a row's protocol."""
        return self.of_model("claims", row.claim).get("sound" if row.protocol == SOUND else "protocol")


def read_run(path: Path) -> Run:
    """Raises CodiBenchError naming file and field if it is no results file."""
    return run_of(str(path), *read_results(path))


def run_of(file: str, environment: dict, rows: Sequence[Row]) -> Run:
    """A run as its file has it."""
    return Run(file, environment, {row.key: row for row in rows})


def shown_word(validity: str | None) -> str:
    """A verdict with its symbol; a number without one has no word."""
    return word(validity) if validity else "no word"


def keys_of(runs: Sequence[Run]) -> list[Key]:
    """The keys of all runs by model, claim and metric; without those that only stand for a claim whose numbers are there."""
    rows = {key: row for run in runs for key, row in run.rows.items()}
    claim_models = {key[:2] for key in rows if key[2] != "-"}
    claims = in_order({name: text for run in runs for name, text in (run.environment.get("claims") or {}).items()})
    positions = {name: i for i, name in enumerate(claims)}
    candidates = [row for key, row in rows.items() if key[2] != "-" or key[:2] not in claim_models]
    order = sorted(
        candidates, key=lambda r: (r.model, positions.get(r.claim, len(positions)), r.claim, metric_order(r), r.protocol)
    )
    return [row.key for row in order]
