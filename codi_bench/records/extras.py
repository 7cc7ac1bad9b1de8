"""What lies beside the baselines of the claims and a report shows: the values of steps, and what noise gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import AliasPath, BaseModel, Field, TypeAdapter

from codi_bench.errors import BaselineError, one_line
from codi_bench.records.results import Count, Name, NoiseText, Real, StepValuesFile
from codi_bench.store.json_files import read_json

VALUES = "_values"  # what benchmarks/test_values.py found, one file a model
NOISE = ("_calibration", "noise-in-sample.json")
STEP_VALUES = TypeAdapter(StepValuesFile)
Contents = TypeVar("Contents")


class NoiseCase(BaseModel):
    """One kind of noise: what the probes read there, on the mean over draws."""

    reads: Real = Field(validation_alias=AliasPath("means", "reads"))
    draws: Count


class NoiseFile(BaseModel):
    """The recorded calibration, as far as it is told in a report."""

    cases: dict[Name, NoiseCase]


def step_values(baselines: Path, inputs: Mapping[str, Mapping[str, str]]) -> dict[str, StepValuesFile]:
    """By model, which step's value its thoughts tell, as benchmarks/test_values.py recorded it on these weights and problems.

    Raises BaselineError for a damaged file.
    """
    files = {name: _read(baselines / VALUES / f"{name}.json", STEP_VALUES) for name in inputs}
    return {name: values for name, values in files.items() if values and values.get("inputs") == inputs[name]}


def noise_figures(baselines: Path) -> NoiseText | None:
    """What the study's probes read on pure noise, in words, from the recorded calibration; None where there is none.

    Raises BaselineError for a damaged file.
    """
    file = _read(baselines.joinpath(*NOISE), TypeAdapter(NoiseFile))
    if not file or not file.cases:
        return None
    readings = ", ".join(f"{100 * case.reads:.1f} % ({name}; {case.draws} draws)" for name, case in file.cases.items())
    return {"text": f"On pure noise with labels that mean nothing the same protocol reads {readings}, mean over 18 cells."}


def _read(path: Path, schema: TypeAdapter[Contents]) -> Contents | None:
    """What the file holds, None if there is none."""
    try:
        return read_json(path, schema.validate_json, finite=True) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise BaselineError(f"{path}: {one_line(error)}; restore it with git") from error
