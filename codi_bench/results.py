"""Rows of the table, and `results.json`: the one file that a report is drawn from."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import ValidationError

from codi_bench.baselines import Environment
from codi_bench.errors import CodiBenchError
from codi_bench.files import write_text

SCHEMA = 1
OK, BLOCKED, NOT_RUN = "ok", "blocked", "not-run"


@dataclass(frozen=True)
class Row:
    """One metric of one claim on one model under one protocol. Numbers are {"value", "low", "high"} or None.

    status: ok, blocked (a precondition failed while measuring) or not-run; the last two carry a reason.
    """

    claim: str
    model: str
    metric: str
    protocol: str
    status: str
    unit: str = ""
    n: int | None = None
    reported: dict | None = None
    measured: dict | None = None
    recorded: dict | None = None
    null: dict | None = None
    cell: dict | None = None
    seeds: dict = field(default_factory=dict)
    reproduction: str | None = None
    validity: str | None = None
    regression: str = "UNCHECKED"
    reason: str = ""
    detail: dict = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.claim, self.model, self.metric, self.protocol


def finite(x) -> float | None:
    """A finite number, or None: results may hold null or NaN where nothing was measured."""
    return float(x) if isinstance(x, int | float) and math.isfinite(x) else None


def write_results(path: Path, environment: dict, rows: list[Row]) -> None:
    """Write rows in a fixed order, so that the order of tests never shows."""
    ordered = [asdict(row) for row in sorted(rows, key=lambda row: row.key)]
    write_text(path, json.dumps({"schema": SCHEMA, "environment": environment, "rows": ordered}, indent=1, sort_keys=True) + "\n")


def read_results(path: Path) -> tuple[dict, list[Row]]:
    """Environment and rows. Raises CodiBenchError naming the file if it is not a results file of this schema."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["schema"] != SCHEMA:
            raise CodiBenchError(f"{path}: field schema is {held['schema']}, this version reads {SCHEMA}; run the suite again")
        return held["environment"], [Row(**row) for row in held["rows"]]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CodiBenchError(f"{path}: not a results file ({error}); run `pytest benchmarks` to make one") from error


def of_model(environment: dict, name: str, model: str):
    """environment[name][model] of a results file, None where an older or odd one does not have it."""
    held = environment.get(name)
    return held.get(model) if isinstance(held, dict) else None


def environment_of(told: dict, model: str) -> Environment | None:
    """The key that a model's numbers of that run are recorded under; None where the file does not say."""
    device, _, dtype = str(of_model(told, "devices", model) or "").partition(" ")
    try:
        return Environment(
            device="cpu" if device == "cpu" else told.get("device"),
            instructions=told.get("instructions"),
            torch=".".join(str(told.get("torch") or "").split("+")[0].split(".")[:2]),
            dtype=dtype or told.get("dtype"),
        )
    except ValidationError:
        return None
