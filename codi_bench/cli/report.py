"""`codi-bench report`: a results file drawn again, for the model's card and as a data set, or several compared."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codi_bench.errors import CodiBenchError
from codi_bench.store.files import Inputs, check_writable, write_text

if TYPE_CHECKING:
    from codi_bench.report.runs import Run

MEND = "give --out DIR"


def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="A results.json, or several to compare. Default: report/results.json."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write to. Default: the folder of the first file.")
    ] = None,
    model_card: Annotated[
        bool, typer.Option("--model-card", help="Write model-card-NAME.md too: evaluation results for the Hugging Face Hub.")
    ] = False,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Write the card of this model. Default: of every model. Repeatable.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="URL", help="Name this address in the card: where the report can be read.")
    ] = None,
    dataset: Annotated[bool, typer.Option("--dataset", help="Write dataset/ too, a folder for `datasets.load_dataset`.")] = False,
) -> None:
    """Draw the report again from a results file, or compare several: what moved, and is it more than noise?

    You need a results.json, which every run writes.
    """
    from codi_bench.report.runs import read_run

    files = results or [Path("report/results.json")]
    if (model or source) and not model_card:
        raise CodiBenchError(f"{'--model' if model else '--source'}: belongs to a model card; give --model-card too")
    if len(files) > 1 and (model_card or dataset):
        raise CodiBenchError("--model-card and --dataset are written from one results file; give one")
    if source is not None and not re.fullmatch(r"https?://\S+", source):
        raise CodiBenchError(f"--source {source}: is no address; give one that begins with https://")
    folder, inputs = out or files[0].parent, {str(path): path for path in files}
    runs = [read_run(path) for path in files]
    if len(runs) > 1:
        return _compare(runs, folder, inputs)
    from codi_bench.report.model_card import card_files

    cards = card_files([*runs[0].rows.values()], model or ()) if model_card else {}
    _draw(runs[0], folder, inputs, cards, source, dataset=dataset)


def _draw(run: Run, folder: Path, inputs: Inputs, cards: Mapping[str, str], source: str | None, *, dataset: bool) -> None:
    """The report, and beside it cards (files by model) and the dataset folder."""
    from codi_bench.report.dataset_folder import FILES, write_dataset
    from codi_bench.report.model_card import model_card
    from codi_bench.report.render import check_report, render

    check_report(folder, MEND, inputs, *cards.values(), *(FILES if dataset else ()))
    rows = [*run.rows.values()]
    print(render(rows, run.environment, folder), end="")
    for name, file in cards.items():
        write_text(folder / file, model_card(rows, run.environment, name, source=source))
        print(f"for the model card of {name}: {folder / file}")
    if dataset:
        print(f"for datasets.load_dataset: {write_dataset(rows, run.environment, folder)}")


def _compare(runs: list[Run], folder: Path, inputs: Inputs) -> None:
    from codi_bench.report.differences import markdown, terminal
    from codi_bench.report.side_by_side import compare

    check_writable(folder / "comparison.md", MEND, inputs)
    comparison = compare(runs)
    write_text(folder / "comparison.md", markdown(comparison))
    print(terminal(comparison, colour=sys.stdout.isatty()) + f"{folder / 'comparison.md'}")
