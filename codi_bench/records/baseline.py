"""Baseline files, one per (model, claim): reported numbers, our recorded numbers, and how far a number may move.

Three parts that are never merged: `reported` (the only home of a published number), `recorded` (one entry an environment)
and `tolerance` (with the reason for each number). Files are validated, keys sorted, written whole.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from codi_bench.errors import BaselineError, CodiBenchError, one_line
from codi_bench.records.blocks import Block, block_schema, part_text
from codi_bench.store.files import write_text
from codi_bench.store.json_files import read_json
from codi_bench.store.names import check_name

Cell = dict[Literal["layer", "latent_pos"], int | str | None]
INPUTS = ("protocols", "seeds", "weights", "partner", "problems")  # what a number is a number of
Unit = Literal["fraction", "points", "features", "count"]
Word = Literal["SUPPORTED", "ARTEFACT", "REFUTED", "UNDERPOWERED"]
LARGEST = {"fraction": 1, "points": 100}  # by unit, what a published number can be
ROUNDING = 1e-6


class Strict(BaseModel):
    """A schema that refuses unknown fields: a typo must not look like a missing value."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Reported(Strict):
    """A published number: value or range, how exactly it was printed, on how many problems, and where it stands."""

    case: Literal["same-list", "other-list", "stated-range", "fact", "order"] = Field(description="rule of the reproduction")
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: Unit
    n: int | None = Field(None, ge=1)
    printed_unit: float = Field(0.0, ge=0, description="one unit of the last printed digit")
    cell: Cell | None = None
    protocol: str
    source: str
    place: str
    note: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Reported:
        """Check that the rule of reproduction has the numbers that it needs."""
        if self.case == "stated-range":
            if self.low is None or self.high is None or self.low > self.high:
                raise ValueError("a stated range needs low and high, in this order")
        elif self.value is None:
            raise ValueError(f"the case {self.case} needs a value")
        largest = LARGEST.get(self.unit)
        if largest and any(abs(x) > largest for x in (self.value, self.low, self.high) if x is not None):
            raise ValueError(f"a number in the unit {self.unit} is at most {largest}")
        return self


class Band(Strict):
    """A null: its mean, the 95 % band of its draws, and the p of the measured number."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


class Recorded(Strict):
    """One measured number that was looked at and accepted, with the null beside it.

    verdict: the word of its validity; fragile: chance or rounding could change it; decide: the n that would decide. outcomes:
    packed right/wrong bits, base64, where the number is an accuracy.
    """

    value: float
    low: float | None = None
    high: float | None = None
    unit: Unit
    n: int = Field(ge=1)
    cell: Cell | None = None
    null: Band | None = None
    verdict: Word | None = None
    fragile: bool = False
    decide: int | None = None
    outcomes: str | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Recorded:
        """Check that outcomes are n bits, and that a share of right answers is their mean: either can decide a comparison."""
        bits = unpack_bits(self.outcomes, self.n)
        if bits is not None and self.unit == "fraction" and not abs(self.value - bits.mean()) <= ROUNDING:
            raise ValueError(f"value is {self.value}, but field outcomes has {bits.sum()} right of {self.n}")
        return self


class Environment(Strict):
    """What a number may depend on besides its inputs."""

    device: str = Field(description="cpu, the name of the GPU, or `released`: the model was not run here")
    instructions: str = Field(description="CPU instruction set that PyTorch uses")
    torch: str = Field(description="major.minor")
    dtype: str


class Record(Strict):
    """Everything recorded for one environment. metrics: by name, those of the sound protocol as `sound <name>`.

    partner: weights of the model that this one is compared with, where the claim takes two. files: the released files that it was
    computed from, sha256 by place; these stand for weights and problems.
    """

    environment: Environment
    protocols: dict[Literal["reported", "sound"], str]
    seeds: dict[str, int]
    weights: str
    partner: str | None = None
    files: dict[str, str] | None = None
    problems: str
    code: str  # `Code.text` of what measured it, which is told where a number moved and judges nothing
    date: str
    reason: str
    metrics: dict[str, Recorded]

    def changed_inputs(self, other: Record) -> list[str]:
        """The inputs that differ. All must be equal before numbers are compared."""
        return [name for name in INPUTS if getattr(self, name) != getattr(other, name)]

    @model_validator(mode="after")
    def _drops_are_from_one_accuracy(self) -> Record:
        """Check that drops with outcomes are taken from one accuracy without an edit, common to a protocol and n."""
        clean: dict[tuple[str, int], float] = {}
        for key, number in self.metrics.items():
            if number.unit == "points" and (bits := unpack_bits(number.outcomes, number.n)) is not None:
                accuracy = number.value + 100 * float(bits.mean())
                if abs(clean.setdefault((of_record_key(key)[0], number.n), accuracy) - accuracy) > 100 * ROUNDING:
                    raise ValueError(f"metrics.{key}: value and outcomes are not those of a drop from the accuracy of the others")
        return self


# What may be another when a number is measured again. sampling: problems and seeds; seed: folds, SAE, draws; turned: the answer
# to one problem; batch: its size, and the threads.
Component = Literal["sampling", "seed", "turned", "batch", "instructions", "library", "device", "dtype"]


class Noise(Strict):
    """How far a number moved where one thing alone was another: root mean square over runs, in the number's own unit.

    of: what that thing was changed to; runs: how often. flips: outcomes that turned, of runs x n, where there are outcomes.
    """

    spread: float = Field(ge=0)
    runs: int = Field(ge=1)
    of: str
    flips: int | None = Field(None, ge=0)


def _as_tuple(words: object) -> object:
    """Turn a list into a tuple: blocks are validated as strict Python values."""
    return tuple(words) if isinstance(words, list) else words


class Tolerance(Strict):
    """How far a number may move: in the same environment, and in another. kind `outcomes`: problem by problem (McNemar).

    words: what its verdict may become in another environment, since noise as measured makes these words too. noise: what was
    measured, by component.
    """

    kind: Literal["outcomes", "value"]
    deterministic: float = Field(ge=0)
    device: float = Field(ge=0)
    why: str
    words: Annotated[tuple[Word, ...], BeforeValidator(_as_tuple)] = ()
    noise: dict[Component, Noise] = {}


class Baseline(Strict):
    """One baseline file."""

    format: Literal[1] = Field(1, alias="schema")
    model: str
    claim: str
    reported: Annotated[dict[str, Reported], Block()] = {}
    recorded: list[Record] = []
    tolerance: Annotated[dict[str, Tolerance], Block()] = {}

    @model_validator(mode="after")
    def _has_one_record_an_environment(self) -> Baseline:
        """Check that an environment has one record: a second one would never be used."""
        for i, record in enumerate(self.recorded):
            if any(other.environment == record.environment for other in self.recorded[:i]):
                raise ValueError(f"recorded.{i} has the same environment as an earlier one")
        return self

    def nearest(self, environment: Environment, now: Record | None = None) -> tuple[Record | None, bool]:
        """The record of this environment and True, or else the record that has most in common with it and False.

        now: the present measurement: records with the same weights, problems, protocols and seeds come first. Superseded records
        come last: they have the numbers of older code, until somebody records them again. Numbers from released files and numbers
        from a run of a model are never compared.
        """
        candidates = self.of_origin(released=environment.device == RELEASED)
        if not candidates:
            return None, False

        def worth(record: Record) -> tuple[bool, bool, int]:
            same_inputs = now is not None and not record.changed_inputs(now)
            shared = sum(getattr(record.environment, k) == v for k, v in environment.model_dump().items())
            return same_inputs, not self.superseded(record), shared

        closest = max(candidates, key=worth)
        return closest, closest.environment == environment

    def of_origin(self, *, released: bool) -> list[Record]:
        """The records computed from released files, or those from runs of a model."""
        return [record for record in self.recorded if (record.environment.device == RELEASED) == released]

    def superseded(self, record: Record) -> bool:
        """Was another environment recorded later, by other code?"""
        return any(other.date > record.date and other.code != record.code for other in self.recorded)

    def newest(self, device: str) -> Record | None:
        """The latest record on a device: records of other machines with that device may be of older code."""
        return max((r for r in self.recorded if r.environment.device == device), key=lambda r: r.date, default=None)


BLOCKS = ("reported", "tolerance")
FILES = "[!_]*/*.json"  # of claims: what lies beside them begins with an underscore
RELEASED = "released"  # the device of numbers that were computed from what others released
REPORTED, SOUND = "reported", "sound"  # type: Literal["reported"], Literal["sound"]


def record_key(protocol: str, metric: str) -> str:
    """The name of a metric in `recorded` and `tolerance`."""
    return metric if protocol == REPORTED else f"{protocol} {metric}"


def of_record_key(key: str) -> tuple[str, str]:
    """(protocol, metric) of such a name."""
    protocol, separator, metric = key.partition(" ")
    return (protocol, metric) if separator else (REPORTED, key)


def path_of(folder: Path, model: str, claim: str) -> Path:
    """`<folder>/<model>/<claim>.json`. Raises CodiBenchError for an invalid name, so no path leaves the folder."""
    return folder / check_name(model, "model") / f"{check_name(claim, 'claim')}.json"


Contents = TypeVar("Contents", bound=Strict)


def read_strict(path: Path, kind: type[Contents], mend: str = "correct it by hand or restore it with git") -> Contents:
    """Read a file by its schema. Raises BaselineError, naming file and field, and what to do."""
    try:
        return read_json(path, kind.model_validate_json, finite=True)
    except (OSError, ValueError) as error:
        raise BaselineError(f"{path}: {one_line(error)}; {mend}") from error


def strict_text(contents: Strict) -> str:
    """The text of a file that `read_strict` reads: sorted keys, no fields that are None, entries written as blocks."""
    fields = contents.model_dump(by_alias=True, exclude_none=True)
    blocks = BLOCKS if isinstance(contents, Baseline) else ()
    parts = [part_text(name, fields[name], 1, block=name in blocks) for name in sorted(fields)]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def load_baseline(folder: Path, model: str, claim: str) -> Baseline:
    """The baseline of (model, claim), empty if there is no file.

    Raises BaselineError, naming file and field, if it breaks the schema or is about another model or claim.
    """
    path = path_of(folder, model, claim)
    if not path.is_file():
        return Baseline(schema=1, model=model, claim=claim)
    baseline = read_strict(path, Baseline)
    if (baseline.model, baseline.claim) != (model, claim):
        raise BaselineError(
            f"{path}: fields model and claim say {baseline.model!r} and {baseline.claim!r}; rename the file or correct the fields"
        )
    return baseline


def save_baseline(folder: Path, baseline: Baseline) -> Path:
    """Write a baseline with sorted keys, whole or not at all."""
    path = path_of(folder, baseline.model, baseline.claim)
    write_text(path, strict_text(baseline))
    return path


def json_schema() -> str:
    """The JSON Schema of a baseline file, as `baselines/schema.json` holds it."""
    return json.dumps(block_schema(Baseline.model_json_schema(by_alias=True), BLOCKS), indent=1, sort_keys=True) + "\n"


def metrics_recorded(folder: Path, *, without: Collection[str] = ()) -> int:
    """M of docs/verdicts.md, section 4: metrics recorded below a folder, of each file those of its largest record; at least 1.

    A night is one test of all, however many a run measures. A damaged file counts as empty. without: models of no night.
    """
    total = 0
    for path in (path for path in folder.glob(FILES) if path.parent.name not in without):
        with suppress(CodiBenchError):  # damaged, or in a folder that no model can be called as
            total += max((len(r.metrics) for r in load_baseline(folder, path.parent.name, path.stem).recorded), default=0)
    return max(1, total)


def orphans(folder: Path, claims: Collection[str], models: Collection[str]) -> list[str]:
    """Files below `folder` that belong to no registered (model, claim), so no run would ever check them."""
    return [
        f"{path}: no registered claim '{path.stem}' for model '{path.parent.name}'; remove or rename the file"
        for path in sorted(folder.glob(FILES))
        if path.stem not in claims or path.parent.name not in models
    ]


def pack_bits(outcomes: np.ndarray | None) -> str | None:
    """Right/wrong bits as base64 text."""
    return None if outcomes is None else base64.b64encode(np.packbits(np.asarray(outcomes, bool)).tobytes()).decode()


def unpack_bits(text: str | None, n: int) -> np.ndarray | None:
    """The inverse of `pack_bits`. Raises BaselineError unless the text has n bits."""
    if text is None:
        return None
    try:
        packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except ValueError as error:
        raise BaselineError(f"field outcomes is not base64 ({error})") from error
    if len(packed) != -(-n // 8):
        raise BaselineError(f"field outcomes holds {8 * len(packed)} bits, but n is {n}")
    return np.unpackbits(packed, count=n).astype(bool)
