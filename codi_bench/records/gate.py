"""Known answers of a checkpoint, decoded again before its claims count: `_gate/<model>.json` below the baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from codi_bench.errors import BaselineError
from codi_bench.records.baseline import Strict, read_strict
from codi_bench.store.names import check_name


class PinnedAnswer(Strict):
    """The known answer to one problem."""

    right: bool
    number: str | None = Field(default=None, description="last number of the answer, empty where it has none")
    tokens: str | None = Field(default=None, pattern=r"^\d+( \d+)*$", description="ids up to and including eos")


class Elsewhere(Strict):
    """Somebody else's result with this checkpoint: how many of n answers were right, under which versions."""

    right: NonNegativeInt
    n: PositiveInt
    under: str
    source: str

    def __str__(self) -> str:
        return f"{100 * self.right / self.n:.2f} % under {self.under}"


class Gate(Strict):
    """Known answers to the first problems of a model's set; without any, nothing is decoded again."""

    schema_: Literal[1] = Field(alias="schema")
    model: str
    checkpoint: str = Field(description="hub repository, or where the weights are from")
    weights: str | None = Field(default=None, description="their fingerprint, where it is known")
    problems: str | None = Field(default=None, description="hash of these problems; without it the first of GSM8K's test split")
    num_latents: NonNegativeInt | None = Field(default=None, description="latents that were fed, by default all")
    scoring: Literal["study", "published"] = "study"
    padding: Literal["masked", "unmasked-padding"] = "masked"
    dtype: str = "float32"
    may_differ: NonNegativeInt = Field(default=0, description="answers that another machine may turn, said before the run")
    source: str = Field(default="", description="who decoded them")
    versions: str = Field(default="", description="under which versions")
    elsewhere: tuple[Elsewhere, ...] = ()
    answers: tuple[PinnedAnswer, ...] = ()

    @model_validator(mode="after")
    def _names_its_source(self) -> Gate:
        if self.answers and not self.source:
            raise ValueError("source: who decoded the answers is missing")
        return self


def gate_file(model: str) -> Path:
    """The gate file of a model, below a folder of baselines."""
    return Path("_gate", f"{check_name(model, 'model')}.json")


def load_gate(baselines: Path, model: str) -> Gate | None:
    """The gate of a model; None if nothing is recorded. Raises BaselineError for a damaged file or one of another model."""
    path = baselines / gate_file(model)
    if not path.is_file():
        return None
    gate = read_strict(path, Gate)
    if gate.model != model:
        raise BaselineError(f"{path}: model: is {gate.model!r}, but the file is named after {model!r}; correct one of them")
    return gate


def gate_text(gate: Gate) -> str:
    """The text of a file that `load_gate` reads, with one answer per line."""
    fields = gate.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
    answers = ",\n  ".join(json.dumps(answer, sort_keys=True) for answer in fields.pop("answers", ()))
    head = json.dumps(fields, indent=1, sort_keys=True).removesuffix("\n}")
    return f'{head},\n "answers": [\n  {answers}\n ]\n}}\n' if answers else f"{head}\n}}\n"
