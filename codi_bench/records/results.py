"""Rows of the table, and `results.json`: the one file that a report is drawn from."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from codi_bench.errors import CodiBenchError, one_line
from codi_bench.records import baseline as baselines
from codi_bench.records.baseline import Cell, Word
from codi_bench.records.results_schema import (
    CLOSED,
    Count,
    Detail,
    Name,
    NullNumber,
    Number,
    Regression,
    Reproduction,
    RunEnvironment,
    Status,
)
from codi_bench.store.files import write_text
from codi_bench.store.json_files import read_json

SCHEMA = 1
OK, BLOCKED, NOT_RUN = "ok", "blocked", "not-run"  # type: Literal["ok"], Literal["blocked"], Literal["not-run"]
OWN_ERRORS = "SAE errors"  # of this family the scored problems depend on which ones the model itself gets right


@dataclass(frozen=True)
class Row:
    """One metric of one claim on one model under one protocol. Numbers are {"value", "low", "high"} or None.

    status: ok, blocked (a precondition failed while measuring) or not-run; the last two carry a reason.
    """

    __pydantic_config__ = CLOSED

    claim: Name
    model: Name
    metric: Name
    protocol: Name
    status: Status
    unit: str = ""
    n: Count | None = None
    reported: Number | None = None
    measured: Number | None = None
    recorded: Number | None = None
    null: NullNumber | None = None
    cell: Cell | None = None
    seeds: dict[str, int] = field(default_factory=dict)
    reproduction: Reproduction | None = None
    validity: Word | None = None
    regression: Regression = "UNCHECKED"
    reason: str = ""
    detail: Detail = field(default_factory=Detail)

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.claim, self.model, self.metric, self.protocol


@with_config(CLOSED)
class ResultsFile(TypedDict):
    """The whole file."""

    schema: Literal[1]
    environment: RunEnvironment
    rows: list[Row]


def finite(x: object) -> float | None:
    """A finite number, or None: results may hold null or NaN where nothing was measured."""
    return float(x) if isinstance(x, int | float) and math.isfinite(x) else None


def write_results(path: Path, environment: dict[str, Any], rows: list[Row]) -> None:
    """Write rows in a fixed order, so that the order of tests never shows."""
    ordered = [asdict(row) for row in sorted(rows, key=lambda row: row.key)]
    write_text(path, json.dumps({"schema": SCHEMA, "environment": environment, "rows": ordered}, indent=1, sort_keys=True) + "\n")


def read_results(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """Environment and rows. Raises CodiBenchError naming file and field if it is not a results file of this schema."""
    try:
        contents = read_json(path, _schema().validate_json)
        _check_words(contents["rows"])
    except (OSError, ValueError) as error:
        raise CodiBenchError(f"{path}: not a results file ({one_line(error)}); run `pytest benchmarks` to make one") from error
    return cast(dict[str, Any], contents["environment"]), contents["rows"]


@cache
def _schema() -> TypeAdapter[ResultsFile]:
    """Made once, and not where nothing is read."""
    return TypeAdapter(ResultsFile)


def _check_words(rows: list[Row]) -> None:
    """Every number is there once, and what was not measured has no word that a report could count. Raises ValueError."""
    positions: dict[tuple[str, str, str, str], int] = {}
    for i, row in enumerate(rows):
        if row.key in positions:
            raise ValueError(f"rows.{i}: is about the same number as rows.{positions[row.key]}")
        positions[row.key] = i
        words = [row.validity, row.reproduction, *["SAME"] * (row.regression == "SAME")]
        number = finite((row.measured or {}).get("value")) if row.status == OK else None
        if number is None and any(words):
            raise ValueError(f"rows.{i}: is {next(filter(None, words))}, with status {row.status} and no measured number")


def of_model(environment: dict[str, Any], name: str, model: str) -> Any:
    """environment[name][model] of a results file, None where an older or odd one does not have it."""
    by_model = environment.get(name)
    return by_model.get(model) if isinstance(by_model, dict) else None


def environment_of(told: dict[str, Any], model: str) -> baselines.Environment | None:
    """The key that a model's numbers of that run are recorded under; None where the file does not say."""
    device, _, dtype = str(of_model(told, "devices", model) or "").partition(" ")
    try:
        return baselines.Environment.model_validate(
            {
                "device": "cpu" if device == "cpu" else told.get("device"),
                "instructions": told.get("instructions"),
                "torch": ".".join(str(told.get("torch") or "").split("+")[0].split(".")[:2]),
                "dtype": dtype or told.get("dtype"),
            }
        )
    except ValidationError:
        return None
