"""`codi-bench audit probes` and `audit outcomes`: the auditor on anybody's file, without a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codi_bench.errors import CodiBenchError, arguments
from codi_bench.store.files import check_folder, check_writable, write_texts

if TYPE_CHECKING:
    from codi_bench.audits.public import OutcomeAssessment, ProbeAssessment

AsJson = Annotated[bool, typer.Option("--json", help="print JSON; codi_bench.audits.public says what the keys are")]
FigureFile = Annotated[Path | None, typer.Option("--figure", help="write the picture too: FILE.svg or FILE.png")]
ReportFolder = Annotated[
    Path | None, typer.Option("--report", help="write a folder too: audit.txt, audit.json, audit.svg, badge.svg, badge.json")
]
FILES = TEXT, JSON, PICTURE, SVG, ENDPOINT = ("audit.txt", "audit.json", "audit.svg", "badge.svg", "badge.json")
audit_app = typer.Typer(no_args_is_help=True, help="Audit numbers of your own: probes, or right and wrong answers.")


@audit_app.command()
def probes(
    file: Annotated[
        Path,
        typer.Argument(help=".npz or .safetensors: activations [n, cells, d], labels [n]; also groups, surface, confidence"),
    ],
    as_json: AsJson = False,
    figure: FigureFile = None,
    report: ReportFolder = None,
    permutations: Annotated[int, typer.Option(min=99, max=arguments.PERMUTATIONS, help="of the labels")] = 1000,
    probe: Annotated[str, typer.Option(help="ridge, or logistic as the first study had it (slow)")] = "ridge",
    folds: Annotated[int, typer.Option(min=2, max=arguments.COUNT)] = 5,
    seed: Annotated[int, typer.Option(min=0, max=arguments.FOLD_SEED)] = 0,
) -> None:
    """Do probes read the labels? As published, on permuted labels, held out; with the word and the n that decides."""
    from codi_bench.audits import public
    from codi_bench.audits.probe_arrays import NAMES, in_file
    from codi_bench.suite.progress import LiveLine

    _check_places(figure, report, file)
    arrays = public.read_probes(file)
    if unknown := sorted(set(arrays) - set(NAMES)):
        print(f"codi-bench: {file}: not read: {', '.join(unknown)}", file=sys.stderr)
    line = LiveLine()
    try:
        with in_file(file):
            known = {name: arrays[name] for name in NAMES if name in arrays}
            settings = {"permutations": permutations, "probe": probe, "folds": folds, "seed": seed}
            assessment = public.probes(**known, **settings, source=file.name, progress=line.show)  # type: ignore[arg-type]
    finally:
        line.hide()
    _show(assessment, as_json, figure, report)


@audit_app.command()
def outcomes(
    file: Annotated[Path, typer.Argument(help=".csv, .jsonl or .parquet: problem, condition, right; also model, group")],
    as_json: AsJson = False,
    figure: FigureFile = None,
    report: ReportFolder = None,
    clean: Annotated[str | None, typer.Option(help="the condition to compare with (default: clean or baseline)")] = None,
    constant: Annotated[float, typer.Option(help="share of problems that the best constant answer has right")] = 0.0,
) -> None:
    """What does each condition cost on the same problems, does one stand out, and which model is better?"""
    from codi_bench.audits import public
    from codi_bench.audits.probe_arrays import in_file

    _check_places(figure, report, file)
    rows = public.read_outcomes(file)
    with in_file(file):
        assessment = public.outcomes(rows, clean=clean, constant=constant, source=file.name)
    _show(assessment, as_json, figure, report)


def _check_places(figure: Path | None, report: Path | None, file: Path) -> None:
    if figure is not None:
        if figure.suffix not in (".svg", ".png"):
            raise CodiBenchError(f"--figure {figure}: has the suffix '{figure.suffix}'; give FILE.svg or FILE.png")
        check_writable(figure, "give --figure FILE, in a folder that can be written to", {"the audit": file})
    if report is not None:
        check_folder(report, FILES, "give --report DIR, where files can be written", {"the audit": file})


def _show(assessment: ProbeAssessment | OutcomeAssessment, as_json: bool, figure: Path | None, report: Path | None) -> None:
    print(_json(assessment) if as_json else assessment)
    if figure is not None:
        from codi_bench.report.figure_audit import write_figure

        write_figure(assessment, figure)
    if report is not None:
        _write_report(assessment, report)


def _json(assessment: ProbeAssessment | OutcomeAssessment) -> str:
    return json.dumps(assessment.as_dict(), indent=1, allow_nan=False)


def _write_report(assessment: ProbeAssessment | OutcomeAssessment, folder: Path) -> None:
    """The files of an audit's folder. Probes that are blocked have no picture, and an earlier one goes."""
    from codi_bench.report.badge import audit_badge
    from codi_bench.report.figure_audit import write_figure

    badge = audit_badge(assessment.as_dict())
    texts = {TEXT: f"{assessment}\n", JSON: f"{_json(assessment)}\n", SVG: badge.svg(), ENDPOINT: badge.json()}
    write_texts({folder / name: text for name, text in texts.items()})
    if assessment.status == "ok":
        write_figure(assessment, folder / PICTURE)
    else:
        (folder / PICTURE).unlink(missing_ok=True)
