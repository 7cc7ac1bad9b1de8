"""What lies beside the baselines of the claims and a report shows: what noise gives."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasPath, BaseModel, Field, TypeAdapter

from codi_bench.errors import BaselineError, one_line
from codi_bench.records.results import Count, Name, NoiseText, Real
from codi_bench.store.json_files import read_json

NOISE = ("_calibration", "noise-in-sample.json")


class NoiseCase(BaseModel):
    """One kind of noise: what the probes read there, on the mean over draws."""

    reads: Real = Field(validation_alias=AliasPath("means", "reads"))
    draws: Count


class NoiseFile(BaseModel):
    """The recorded calibration, as far as it is told in a report."""

    cases: dict[Name, NoiseCase]


def noise_figures(baselines: Path) -> NoiseText | None:
    """What the study's probes read on pure noise, in words, from the recorded calibration; None where there is none.

    Raises BaselineError for a damaged file.
    """
    path = baselines.joinpath(*NOISE)
    try:
        file = read_json(path, TypeAdapter(NoiseFile).validate_json, finite=True) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise BaselineError(f"{path}: {one_line(error)}; restore it with git") from error
    if file is None or not file.cases:
        return None
    readings = ", ".join(f"{100 * case.reads:.1f} % ({name}; {case.draws} draws)" for name, case in file.cases.items())
    return {"text": f"On pure noise with labels that mean nothing the same protocol reads {readings}, mean over 18 cells."}
