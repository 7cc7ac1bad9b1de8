"""What lies beside the baselines of the claims and a report shows: the values of steps, and what noise gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, with_config
from typing_extensions import TypedDict

from codi_bench.errors import BaselineError, one_line
from codi_bench.records.results_schema import OPEN, Count, Name, NoiseText, Real, StepValuesFile
from codi_bench.store.json_files import read_json

VALUES = "_values"  # what benchmarks/test_values.py found, one file a model
NOISE = ("_calibration", "noise-in-sample.json")
STEP_VALUES = TypeAdapter(StepValuesFile)
MEND = "restore it with git"
Contents = TypeVar("Contents")


@with_config(OPEN)
class Reads(TypedDict):
    """What the probes of one case read, on the mean."""

    reads: Real


@with_config(OPEN)
class NoiseCase(TypedDict):
    """One kind of noise."""

    means: Reads
    draws: Count


@with_config(OPEN)
class NoiseFile(TypedDict):
    """The recorded calibration, as far as it is told in a report."""

    cases: dict[Name, NoiseCase]


def step_values(baselines: Path, inputs: Mapping[str, Mapping[str, str]]) -> dict[str, StepValuesFile]:
    """By model, which step's value its thoughts tell, as benchmarks/test_values.py recorded it on these weights and problems.

    Raises BaselineError for a damaged file.
    """
    recorded_values = {}
    for name, model_inputs in inputs.items():
        path = baselines / VALUES / f"{name}.json"
        values = _read(path, STEP_VALUES) if path.is_file() else StepValuesFile()
        if values and values.get("inputs") == model_inputs:
            recorded_values[name] = values
    return recorded_values


def noise_figures(baselines: Path) -> NoiseText | None:
    """What the study's probes read on pure noise, in words, from the recorded calibration; None where there is none.

    Raises BaselineError for a damaged file.
    """
    path = baselines.joinpath(*NOISE)
    if not path.is_file():
        return None
    cases = _read(path, TypeAdapter(NoiseFile))["cases"]
    parts = [f"{100 * case['means']['reads']:.1f} % ({name}; {case['draws']} draws)" for name, case in cases.items()]
    if not parts:
        return None
    readings = ", ".join(parts)
    return {"text": f"On pure noise with labels that mean nothing the same protocol reads {readings}, mean over 18 cells."}


def _read(path: Path, schema: TypeAdapter[Contents]) -> Contents:
    try:
        return read_json(path, schema.validate_json, finite=True)
    except (OSError, ValueError) as error:
        raise BaselineError(f"{path}: {one_line(error)}; {MEND}") from error
