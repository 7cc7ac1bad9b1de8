"""Options that several commands share, what completes them, and the table that lists are shown in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from codi_bench.cli import complete
from codi_bench.errors import InputError, arguments


def within(least: int, most: int = arguments.COUNT) -> Callable[[Any], Any]:
    """A check of an option's whole number, or of each of several; the limits are in the error and not in the help."""

    def check(value: Any) -> Any:
        for number in value if isinstance(value, list) else [value]:
            try:
                if number is not None:
                    arguments.whole("it", number, least, most)
            except InputError as error:
                raise typer.BadParameter(str(error)) from error
        return value

    return check


Device = Annotated[
    str, typer.Option(metavar="DEVICE", help="Where to compute: cpu, cuda, cuda:N, or auto (cuda if there is one, else cpu).")
]
Dtype = Annotated[str, typer.Option(metavar="TYPE", help="Number format: float32, bfloat16, float16, or auto (float32).")]
BatchSize = Annotated[
    int,
    typer.Option(
        metavar="N",
        callback=within(1),
        help="Problems per batch. It changes speed and memory only, except under `--protocol unmasked-padding`.",
    ),
]
Seed = Annotated[
    int, typer.Option(metavar="N", callback=within(0, arguments.SEED), help="Seed of everything that is drawn at random.")
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        autocompletion=complete.models,
        help="The model: a registered name (`codi-bench models` lists them), a folder with a checkpoint, or a name on the hub.",
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="BASE",
        help="The language model under a published checkpoint: a folder or a hub name. Its config and tokenizer are read.",
    ),
]
Protocol = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="masked, or unmasked-padding: the published evaluation, where problems attend to the padding of their batch.",
    ),
]
NumLatents = Annotated[
    int | None,
    typer.Option(
        metavar="K",
        callback=within(0, arguments.LATENTS),
        help="Number of latent thoughts. Give it if the checkpoint does not hold it, or to think less.",
    ),
]
LoraAlpha = Annotated[float | None, typer.Option(metavar="ALPHA", help="Alpha of a published checkpoint's LoRA. Default: 32.")]
ProblemFile = Annotated[
    Path,
    typer.Option(
        "--problems", metavar="FILE", help="File of problems: JSON lines with `question` and `answer`, or another known form."
    ),
]
Baselines = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of baseline files. Default: the package's own.")]


def print_list(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """A list on the terminal, one line an entry."""
    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
