"""What lies beside the baselines of the claims and a report shows: the values of steps, and what noise gives."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from codi_bench.errors import BaselineError, one_line
from codi_bench.records.results_schema import OPEN, Count, Name, Real, StepValues
from codi_bench.store.json_files import read_json

VALUES = "_values"  # what benchmarks/test_values.py found, one file a model
NOISE = ("_calibration", "noise-in-sample.json")
STEP_VALUES = TypeAdapter(StepValues)
MEND = "restore it with git"


class Reads(TypedDict):
    """What the probes of one case read, on the mean."""

    __pydantic_config__ = OPEN
    reads: Real


class NoiseCase(TypedDict):
    """One kind of noise."""

    __pydantic_config__ = OPEN
    means: Reads
    draws: Count


class NoiseFile(TypedDict):
    """The recorded calibration, as far as it is told in a report."""

    __pydantic_config__ = OPEN
    cases: dict[Name, NoiseCase]


def step_values(baselines: Path, inputs: dict[str, dict]) -> dict[str, dict]:
    """By model, which step's value its thoughts tell, as benchmarks/test_values.py recorded it on these weights and problems.

    Raises BaselineError for a damaged file.
    """
    found = {}
    for name, mine in inputs.items():
        path = baselines / VALUES / f"{name}.json"
        held = _read(path, STEP_VALUES) if path.is_file() else {}
        if held and held.get("inputs") == mine:
            found[name] = held
    return found


def noise_figures(baselines: Path) -> dict | None:
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
    read = ", ".join(parts)
    return {"text": f"On pure noise with labels that mean nothing the same protocol reads {read}, mean over 18 cells."}


def _read(path: Path, schema: TypeAdapter) -> dict:
    try:
        return read_json(path, schema.validate_json, finite=True)
    except (OSError, ValueError) as error:
        raise BaselineError(f"{path}: {one_line(error)}; {MEND}") from error
