"""Recorded files besides the baselines of claims: the study's probes on noise, and which of the embedded pair is better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import AliasPath, BaseModel, Field, TypeAdapter

from codi_bench.errors import BaselineError, one_line
from codi_bench.records.results import Count, Name, NoiseText, Real, Winner, read_results
from codi_bench.store.json_files import read_json

T = TypeVar("T")
NOISE = ("_calibration", "noise-in-sample.json")
WINNERS = Path("_winners")  # records of one model each cannot tell: that takes both models' scores


class NoiseCase(BaseModel):
    """One kind of noise, and what the probes read on it (mean over draws)."""

    reads: Real = Field(validation_alias=AliasPath("means", "reads"))
    draws: Count


class NoiseFile(BaseModel):
    """The part of the recorded calibration that a report shows."""

    cases: dict[Name, NoiseCase]


def noise_figures(baselines: Path) -> NoiseText | None:
    """What the study's probes read on pure noise, in words, from the recorded calibration; None without one.

    Raises BaselineError for a damaged file.
    """
    file = _read(baselines.joinpath(*NOISE), NoiseFile)
    if file is None or not file.cases:
        return None
    readings = ", ".join(f"{100 * case.reads:.1f} % ({name}; {case.draws} draws)" for name, case in file.cases.items())
    return {"text": f"On pure noise with labels that mean nothing the same protocol reads {readings}, mean over 18 cells."}


def winners_of(report: Path) -> dict[Path, str]:
    """The files to record about which model is better, with their texts.

    For the embedded pair, from a run that compared it by every test; for the study's models, from one with all released files.
    """
    from codi_bench.claims import CLAIMS  # a report needs no claims
    from codi_bench.claims.families import WINNER_TESTS
    from codi_bench.models.registry import EMBEDDED, REGISTRY

    path = report / "results.json"
    winners = read_results(path)[0].get("winners") or {} if path.is_file() else {}
    on_files = sum(claim.compared is not None and claim.reading is not None for claim in CLAIMS.values())
    pairs = {"embedded": ({*EMBEDDED}, WINNER_TESTS), "released": ({REGISTRY[name].beside for name in EMBEDDED}, on_files)}
    texts = {}
    for name, (models, tests) in pairs.items():
        pair = {key: each for key, each in sorted(winners.items()) if {*each["models"]} == models}
        if pair and sum(each["p"] is not None for each in pair.values()) == tests:
            texts[WINNERS / f"{name}.json"] = json.dumps(pair, indent=1) + "\n"
    return texts


def recorded_winners(baselines: Path) -> dict[str, Winner]:
    """The recorded comparisons of models. Raises BaselineError for a damaged file."""
    recorded: dict[str, Winner] = {}
    for path in sorted((baselines / WINNERS).glob("*.json")):
        recorded |= _read(path, dict[Name, Winner]) or {}
    return recorded


def _read(path: Path, kind: type[T]) -> T | None:
    """The contents of a file; None if it does not exist."""
    try:
        return read_json(path, TypeAdapter(kind).validate_json, finite=True) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise BaselineError(f"{path}: {one_line(error)}; restore it with git") from error
