"""Rows of the table, and `results.json`: the one file from which a report is drawn.

A file that these types can read can be drawn and compared. Fields may be absent, as in older files. An object that allows other
fields has more than a report reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from codi_bench.errors import CodiBenchError, one_line
from codi_bench.records.baseline import RELEASED, REPORTED, Cell, Environment, Word
from codi_bench.store.files import write_text
from codi_bench.store.json_files import read_json

SCHEMA = 1
OK, BLOCKED, NOT_RUN = "ok", "blocked", "not-run"  # type: Literal["ok"], Literal["blocked"], Literal["not-run"]
OWN_ERRORS = "SAE errors"  # of this family the scored problems depend on which ones the model itself gets right
LARGEST = 1e15  # what has more digits is no measurement, and axes could not be laid out for it
CLOSED, OPEN = ConfigDict(extra="forbid"), ConfigDict(extra="allow")


def _drawable(x: float) -> float:
    if not (abs(x) <= LARGEST or x != x):  # an int beyond the floats is compared, and cannot be asked whether it is NaN
        raise ValueError(f"a number is at most {LARGEST:g} in size, or NaN")
    return x


Name = Annotated[str, Field(min_length=1, max_length=200)]
Real = Annotated[int | float, AfterValidator(_drawable)]
Count = Annotated[int, Field(ge=0, le=int(LARGEST))]
Steps = Annotated[str, Field(pattern="^[0-9]{1,4}$")]
Ends = Annotated[list[Real | None], Field(max_length=3)]  # value, low, high
Grid = Annotated[list[Annotated[list[Real | None], Field(max_length=200)]], Field(max_length=200)]  # layers x places
Status = Literal["ok", "blocked", "not-run"]
Origin = Literal["run", "released"]  # was the model run, or is the number computed from what others released?
Reproduction = Literal["REPRODUCED", "NOT REPRODUCED", "INCONCLUSIVE"]
Regression = Literal["SAME", "DRIFTED", "UNCHECKED"]


@with_config(CLOSED)
class Number(TypedDict, total=False):
    """A number and its 95 % interval."""

    value: Real | None
    low: Real | None
    high: Real | None


class NullNumber(Number, total=False):
    """A null: the p of the measured number, and the quantiles of its draws, 0 to 100 % in steps of 5."""

    p: Real | None
    quantiles: list[Real]


@with_config(OPEN)
class Scores(TypedDict, total=False):
    """How well one set of features predicts, or what one replacement costs."""

    accuracy: Ends | None
    auc: Ends | None
    drop: Ends | None


@with_config(OPEN)
class StepCell(TypedDict, total=False):
    """How well a probe reads one step at one place."""

    accuracy: Number
    control: Real | None
    p: Real | None
    selectivity: Real | None


@with_config(OPEN)
class Step(TypedDict, total=False):
    """One step's value over the places."""

    step: int
    n: Count
    majority: Real | None
    by_template: Real | None
    cells: Annotated[list[StepCell], Field(max_length=1000)]


@with_config(CLOSED)
class Control(TypedDict):
    """A recorded number of a control without recurrence, and its word. model: the control."""

    model: Name
    number: Number
    word: Word | None


@with_config(OPEN)
class Detail(TypedDict, total=False):
    """Details of a row: reasons in words, and data for figures."""

    validity: str
    fragile: bool
    decide: Count | None
    no_validity: str
    no_interval: str
    reproduction: str
    note: str
    code: str
    formula: str
    replaced_by: str
    reference: str
    over: str | Ends  # what a gain is over, or the difference from it with its interval
    problems: str
    files: list[str]  # released ones that the number was computed from, where they were released
    unknown: str  # what these do not tell of how they were made
    unreleased: str  # what the claim needs, and nobody released
    control: Control  # what is recorded of the control without recurrence
    counts: list[Count]  # right, and of how many, where outcomes by problem were not released
    against: dict[Name, list[Count]]  # the counts of other models, of which no more is known
    outcomes: str | None
    critical: list[int]
    grid: Grid
    p_value_max_auc: Grid
    p_conditional: Grid
    layers: list[int]
    latent_pos: list[int | str]
    by_steps: dict[Steps, Ends]
    sets: dict[str, Scores]
    effects: dict[str, Scores]
    step_values: Step
    places: list[Cell]


@with_config(OPEN)
class ClaimText(TypedDict, total=False):
    """A claim in words."""

    position: int
    family: str | None
    kind: str | None
    sentence: str | None
    source: str | None
    protocol: str | None
    sound: str | None


@with_config(CLOSED)
class Difference(TypedDict):
    """The complete difference of two models."""

    value: Real
    low: Real | None
    high: Real | None


@with_config(CLOSED)
class Winner(TypedDict):
    """Two models on one claim, and which is better."""

    claim: str
    metric: str
    unit: str
    models: Annotated[list[str], Field(min_length=2, max_length=2)]
    winner: str | None
    p: Real | None
    difference: Difference
    test: str


@with_config(CLOSED)
class PublishedNumber(TypedDict):
    """What a source printed about one of its own models."""

    claim: Name
    model: Name
    metric: Name
    unit: str
    n: Count | None
    reported: Number
    cell: Cell | None


@with_config(OPEN)
class NoiseText(TypedDict):
    """The study's probes on pure noise, in words."""

    text: str


@with_config(OPEN)
class RunEnvironment(TypedDict, total=False):
    """The environment of a run: machine, inputs, and everything its report shows besides the rows."""

    date: str | None
    device: str | None
    instructions: str | None
    torch: str | None
    dtype: str | None
    options: str | None
    families: Count | None
    noise: NoiseText | None
    devices: dict[str, str] | None
    inputs: dict[str, dict[str, str]] | None
    problem_sets: dict[str, str] | None  # generated, gsm8k or file, by model
    layers: dict[str, list[int]] | None
    claims: dict[Name, ClaimText] | None
    winners: dict[str, Winner] | None
    published: list[PublishedNumber] | None  # about the claims of the rows
    seconds: Real | None  # that the run took
    speed: dict[str, Real] | None  # problems a second, by model
    beside: dict[str, str] | None  # the published model that a model stands beside


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
    origin: Origin = "run"

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.claim, self.model, self.metric, self.protocol


@with_config(CLOSED)
class ResultsFile(TypedDict):
    """The whole file."""

    schema: Literal[1]
    environment: RunEnvironment
    rows: list[Row]


def published_rows(environment: dict[str, Any], rows: Iterable[Row]) -> list[Row]:
    """Published numbers about the claims of some rows, as rows that were not run, except for those that are among the rows."""
    keys, claims = {row.key for row in rows}, {row.claim for row in rows}
    published = [
        Row(protocol=REPORTED, status=NOT_RUN, reason="published: not asked for", **number)
        for number in environment.get("published") or ()
        if number["claim"] in claims
    ]
    return [row for row in published if row.key not in keys]


def finite(x: object) -> float | None:
    """A finite number, or None: results may have null or NaN if nothing was measured."""
    return float(x) if isinstance(x, int | float) and math.isfinite(x) else None


def write_results(path: Path, environment: dict[str, Any], rows: list[Row]) -> None:
    """Write rows in a fixed order, so that the order of tests never shows. Raises CodiBenchError for two rows of one number."""
    _check_once(rows)
    ordered = [asdict(row) for row in sorted(rows, key=lambda row: row.key)]
    write_text(path, json.dumps({"schema": SCHEMA, "environment": environment, "rows": ordered}, indent=1, sort_keys=True) + "\n")


def read_results(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """Environment and rows. Raises CodiBenchError naming file and field if it is not a results file of this schema."""
    try:
        contents = read_json(path, _schema().validate_json)
        _check_once(contents["rows"])
        _check_words(contents["rows"])
    except (OSError, ValueError) as error:
        raise CodiBenchError(f"{path}: not a results file ({one_line(error)}); run `codi-bench run` to make one") from error
    return cast(dict[str, Any], contents["environment"]), contents["rows"]


@cache
def _schema() -> TypeAdapter[ResultsFile]:
    """Made once, and not where nothing is read."""
    return TypeAdapter(ResultsFile)


def _check_once(rows: list[Row]) -> None:
    """Check that every number occurs once. Raises CodiBenchError."""
    positions: dict[tuple[str, str, str, str], int] = {}
    for i, row in enumerate(rows):
        if (first := positions.setdefault(row.key, i)) != i:
            raise CodiBenchError(f"rows.{i}: is the same number as rows.{first}; remove one of them")


def _check_words(rows: list[Row]) -> None:
    """Check that rows without a measurement have no word that a report could count. Raises ValueError."""
    for i, row in enumerate(rows):
        words = [row.validity, row.reproduction, *["SAME"] * (row.regression == "SAME")]
        number = finite((row.measured or {}).get("value")) if row.status == OK else None
        if number is None and any(words):
            raise ValueError(f"rows.{i}: is {next(filter(None, words))}, with status {row.status} and no measured number")


def of_model(environment: dict[str, Any], name: str, model: str) -> Any:
    """environment[name][model] of a results file; None if an older file does not have it."""
    by_model = environment.get(name)
    return by_model.get(model) if isinstance(by_model, dict) else None


def environment_of(facts: dict[str, Any], model: str) -> Environment | None:
    """The environment under which a model's numbers of that run are recorded; None if the file does not say."""
    device, _, dtype = str(of_model(facts, "devices", model) or "").partition(" ")
    try:
        return Environment.model_validate(
            {
                "device": device if device in ("cpu", RELEASED) else facts.get("device"),
                "instructions": facts.get("instructions"),
                "torch": ".".join(str(facts.get("torch") or "").split("+")[0].split(".")[:2]),
                "dtype": dtype or facts.get("dtype"),
            }
        )
    except ValidationError:
        return None
