"""Options that several commands share, and the table that lists are shown in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from codi_bench.errors import arguments

Device = Annotated[str, typer.Option(help="cpu, cuda or auto")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto (float32)")]
BatchSize = Annotated[
    int,
    typer.Option(min=1, max=arguments.COUNT, help="problems a batch; results do not depend on it, except under unmasked-padding"),
]
Seed = Annotated[int, typer.Option(min=0, max=arguments.SEED)]
ModelName = Annotated[
    str, typer.Option("--model", help="a registered model, a folder (ours, or a published checkpoint), or a name on the hub")
]
Base = Annotated[
    str | None,
    typer.Option(help="the language model under a published checkpoint: a folder or a hub name (config and tokenizer)"),
]
Protocol = Annotated[
    str,
    typer.Option(help="masked, or unmasked-padding: the published evaluation, whose batches attend to their paddings"),
]
NumLatents = Annotated[
    int | None, typer.Option(min=0, max=arguments.LATENTS, help="K, where the checkpoint does not say it (or to think less)")
]
LoraAlpha = Annotated[float | None, typer.Option(help="alpha of a published checkpoint's LoRA (default 32)")]
Out = Annotated[Path, typer.Option(help="file to write")]
ProblemFile = Annotated[Path, typer.Option("--problems", help="JSON lines with question and answer")]


def print_list(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """A list on the terminal, one line an entry."""
    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
