"""One claim in full, from the last report or else from what is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codi_bench.cli import complete
from codi_bench.cli.options import Baselines
from codi_bench.errors import CodiBenchError, UnknownNameError


def show(
    claim: Annotated[
        str,
        typer.Argument(metavar="CLAIM", autocompletion=complete.claims, help="The claim's id. `codi-bench claims` lists them."),
    ],
    model: Annotated[str | None, typer.Option(metavar="MODEL", autocompletion=complete.models, help="Only this model.")] = None,
    report: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the report to read.")] = Path("report"),
    baselines: Baselines = None,
) -> None:
    """Print one claim in full: both protocols, the null, every number, why it has its word, and how to measure it again.

    The numbers are those of the last report; where it does not hold the claim, the recorded ones.
    """
    from codi_bench.records.results import OK, read_results
    from codi_bench.report.one_claim import claim_text
    from codi_bench.store.files import package_folder

    path = report / "results.json"
    source, (environment, rows) = str(path), read_results(path) if path.is_file() else ({}, [])
    if not any(row.claim == claim and row.status == OK and model in (None, row.model) for row in rows):
        from codi_bench.claims import CLAIMS
        from codi_bench.records.as_rows import recorded_rows

        if claim not in CLAIMS:
            raise UnknownNameError("claim", claim, {*CLAIMS, *(row.claim for row in rows)})
        folder = baselines or package_folder("baselines")
        source, (environment, rows) = f"the records in {folder}", recorded_rows(folder)
    models = sorted({row.model for row in rows if row.claim == claim and row.status == OK})
    if model and model not in models:
        from codi_bench.models.registry import REGISTRY

        if model not in {*REGISTRY, *(row.model for row in rows)}:
            raise UnknownNameError("model", model, models)
        raise CodiBenchError(
            f"{claim}: nothing is measured or recorded for {model}; run `codi-bench run --claim {claim} --model {model}`"
        )
    print(f"{claim_text(rows, environment, claim, [model] if model else models)}from {source}")
