"""`codi-bench audit probes` and `audit outcomes`: the auditor on anybody's file, without a model."""

from __future__ import annotations

import json
import sys
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codi_bench.cli.help import group, shown
from codi_bench.cli.options import within
from codi_bench.errors import CodiBenchError, arguments
from codi_bench.store.files import check_writable

if TYPE_CHECKING:
    from codi_bench.audits.public import OutcomeAssessment, ProbeAssessment

SECONDS = {"ridge": 1e-8, "logistic": 2e-7}  # of a probe, by problem, dimension, cell and permutation
SAID = 10  # seconds from which it is said how long an audit takes
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON and no text. The keys are explained in `codi_bench.audits.public`.")
]
FigureFile = Annotated[
    Path | None, typer.Option("--figure", metavar="FILE", help="Draw the result too, into this .svg or .png file.")
]
audit_app = group(
    "Audit numbers of your own, without a model: probes on activations, or right and wrong answers.",
    "codi-bench audit probes activations.npz",
    "codi-bench audit outcomes answers.csv",
)


@audit_app.command(
    **shown(
        "codi-bench audit probes activations.npz",
        "codi-bench audit probes activations.npz --figure audit.svg --json",
    )
)
def probes(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .npz or .safetensors file with the arrays `activations` (n x cells x d) and `labels` (n, 0 or 1); if you "
            "have them, also `groups`, `surface` and `confidence`.",
        ),
    ],
    as_json: AsJson = False,
    figure: FigureFile = None,
    permutations: Annotated[
        int,
        typer.Option(
            metavar="N",
            callback=within(99, arguments.PERMUTATIONS),
            help="Label permutations of the null distribution, 99 or more. More take longer and tell smaller p-values apart.",
        ),
    ] = 1000,
    probe: Annotated[
        str, typer.Option(metavar="KIND", help="ridge, or logistic as in the first study, which is many times slower.")
    ] = "ridge",
    folds: Annotated[int, typer.Option(metavar="N", callback=within(2), help="Parts of the cross-validation, 2 or more.")] = 5,
    seed: Annotated[
        int, typer.Option(metavar="N", callback=within(0, arguments.FOLD_SEED), help="Seed of folds and permutations.")
    ] = 0,
) -> None:
    """Check whether probes can read labels off activations: as published, on permuted labels, and held out.

    You get one of the four words, the numbers behind it, and how many problems would decide an open case.
    """
    from codi_bench.audits import public
    from codi_bench.audits.probe_arrays import NAMES, in_file
    from codi_bench.suite.progress import duration, progress

    _check_figure(figure, file)
    arrays = public.read_probes(file)
    if unknown := sorted(set(arrays) - set(NAMES)):
        print(f"codi-bench: {file}: has arrays that are not used: {', '.join(unknown)}", file=sys.stderr)
    longest = _longest(arrays.get("activations"), permutations, probe, "surface" in arrays)
    if longest > SAID and not as_json:
        print(f"codi-bench: this takes at most about {duration(longest)}", file=sys.stderr)
    with in_file(file), progress("reading") as tell:
        known: dict[str, Any] = {name: arrays[name] for name in NAMES if name in arrays}
        settings: dict[str, Any] = {"permutations": permutations, "probe": probe, "folds": folds, "seed": seed}
        assessment = public.probes(
            **known,
            **settings,
            source=file.name,
            progress=lambda text: tell(0, text),
        )
    _show(assessment, as_json, figure)


@audit_app.command(
    **shown("codi-bench audit outcomes answers.csv", "codi-bench audit outcomes answers.csv --clean unedited --json")
)
def outcomes(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .csv, .jsonl or .parquet table with the columns `problem`, `condition` and `right` (0 or 1); if you have "
            "them, also `model` and `group`.",
        ),
    ],
    as_json: AsJson = False,
    figure: FigureFile = None,
    clean: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The condition to compare the others with. Default: `clean` or `baseline`."),
    ] = None,
    constant: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of problems, 0 to 1, that the best answer without any thought gets right."),
    ] = 0.0,
) -> None:
    """Check what each condition costs on the same problems, whether one stands out, and which model is better.

    You need one row for each problem and condition.
    """
    from codi_bench.audits import public
    from codi_bench.audits.probe_arrays import in_file

    _check_figure(figure, file)
    rows = public.read_outcomes(file)
    with in_file(file):
        assessment = public.outcomes(rows, clean=clean, constant=constant, source=file.name)
    _show(assessment, as_json, figure)


def _longest(activations: Any, permutations: int, probe: str, surface: bool) -> float:
    """Seconds that an audit takes at most on two cores; 0 where its arrays cannot be audited, which is said later."""
    if not 2 <= getattr(activations, "ndim", 0) <= 3:
        return 0.0
    n, *cells, width = activations.shape
    return SECONDS.get(probe, 0.0) * n * min(n, width) * prod(cells) * permutations * (2 if surface else 1)


def _check_figure(figure: Path | None, file: Path) -> None:
    if figure is None:
        return
    if figure.suffix not in (".svg", ".png"):
        raise CodiBenchError(f"--figure {figure}: ends in '{figure.suffix}'; give a file that ends in .svg or .png")
    check_writable(figure, "give --figure FILE, in a folder that can be written to", {"the audit": file})


def _show(assessment: ProbeAssessment | OutcomeAssessment, as_json: bool, figure: Path | None) -> None:
    if as_json:
        print(json.dumps(assessment.as_dict(), indent=1, allow_nan=False))
    else:
        print(assessment)
    if figure is not None:
        from codi_bench.report.figure_audit import write_figure

        write_figure(assessment, figure)
