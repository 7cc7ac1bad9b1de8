"""The contents of baseline files as rows, to draw tables and figures without a measurement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from codi_bench.claims import CLAIMS, in_words
from codi_bench.claims.claim import FACT
from codi_bench.models.registry import CONTROLS, EMBEDDED, PUBLISHED, REGISTRY
from codi_bench.records.baseline import RELEASED, Baseline, Record, Reported, load_baseline, of_record_key, record_key
from codi_bench.records.extras import noise_figures, recorded_winners
from codi_bench.records.results import NOT_RUN, OK, Detail, NullNumber, Number, PublishedNumber, Row
from codi_bench.thoughts.released import MODELS

REASON = "not measured: the published checkpoints are not in this package"


def recorded_rows(baselines: Path, *, device: str = "cpu", released: bool = True) -> tuple[dict[str, Any], list[Row]]:
    """(environment, rows) of the recorded and reported numbers.

    For the embedded models, the latest records on that device; released: for others, numbers computed from released files.

    A recorded number takes the place of a measured one, so it is always as recorded: these rows show the files, not that a run
    agreed with them. Details (grids, draws) are not recorded. Raises BaselineError for a damaged file.
    """
    rows: list[Row] = []
    newest: dict[str, Record] = {}
    devices = {**dict.fromkeys((*PUBLISHED, *MODELS) if released else (), RELEASED), **dict.fromkeys(EMBEDDED, device)}
    for model, where in devices.items():
        for claim in CLAIMS.values():
            baseline = load_baseline(baselines, model, claim.id)
            if record := baseline.newest(where):
                newest[model] = max(record, newest.get(model, record), key=lambda candidate: candidate.date)
                rows += with_controls(baselines, _rows(baseline, record))
    keys = {row.key for row in rows}
    published = [
        Row(protocol="reported", status=NOT_RUN, reason=REASON, **number, detail=_open(number["claim"]) if released else {})
        for number in published_numbers(baselines, CLAIMS)
    ]
    rows += [row for row in published if row.key not in keys]
    inputs = {model: {"weights": record.weights, "problems": record.problems} for model, record in newest.items()}
    environment = {
        "claims": in_words(CLAIMS),
        "layers": {name: list(entry.layers) for name, entry in REGISTRY.items()},
        "inputs": inputs,
        "beside": {name: entry.beside for name, entry in REGISTRY.items() if entry.beside},
        "noise": noise_figures(baselines),
        "winners": recorded_winners(baselines),
        "date": max((record.date for record in newest.values()), default=""),
    }
    return environment, rows


def with_controls(baselines: Path, rows: list[Row]) -> list[Row]:
    """The rows of one claim on one model; a measured one gets what is recorded of the model's control without recurrence.

    Claims that say what a model is (`fact`) get none. Raises BaselineError for a damaged file.
    """
    control = CONTROLS.get(rows[0].model) if rows else None
    claim = CLAIMS.get(rows[0].claim) if rows else None
    if control is None or claim is None or claim.kind == FACT:
        return rows
    record = load_baseline(baselines, control, claim.id).newest("cpu")
    return [_with_control(row, control, record) for row in rows] if record else rows


def _with_control(row: Row, control: str, record: Record) -> Row:
    entry = record.metrics.get(record_key(row.protocol, row.metric))
    if entry is None or row.status != OK:
        return row
    number: Number = {"value": entry.value, "low": entry.low, "high": entry.high}
    return replace(row, detail={**row.detail, "control": {"model": control, "number": number, "word": entry.verdict}})


def published_numbers(baselines: Path, claims: Iterable[str]) -> list[PublishedNumber]:
    """The printed numbers about these claims and the published models. Raises BaselineError for a damaged file."""
    return [
        PublishedNumber(
            claim=claim,
            model=model,
            metric=metric,
            unit=entry.unit,
            n=entry.n,
            reported=_printed(entry) or {},
            cell=entry.cell,
        )
        for model in (*PUBLISHED, *MODELS)
        for claim in claims
        for metric, entry in load_baseline(baselines, model, claim).reported.items()
    ]


def _open(claim: str) -> Detail:
    """The files that the claim needs and nobody released."""
    return {"unreleased": CLAIMS[claim].unreleased} if CLAIMS[claim].unreleased else {}


def _printed(entry: Reported | None) -> Number | None:
    return {"value": entry.value, "low": entry.low, "high": entry.high} if entry else None


def _rows(baseline: Baseline, record: Record) -> list[Row]:
    rows = []
    for key, entry in record.metrics.items():
        protocol, metric = of_record_key(key)
        number: Number = {"value": entry.value, "low": entry.low, "high": entry.high}
        detail: Detail = {"fragile": entry.fragile, "decide": entry.decide, "problems": record.problems}
        if record.files:
            detail["files"] = list(record.files)
        if entry.outcomes:
            detail["outcomes"] = entry.outcomes
        rows.append(
            Row(
                baseline.claim,
                baseline.model,
                metric,
                protocol,
                OK,
                entry.unit,
                entry.n,
                reported=_printed(baseline.reported.get(key)),
                measured=number,
                recorded=number,
                null=None if entry.null is None else cast(NullNumber, entry.null.model_dump()),
                cell=entry.cell,
                seeds=record.seeds,
                validity=entry.verdict,
                regression="SAME",
                detail=detail,
                origin="released" if record.files else "run",
            )
        )
    return rows
