"""Text that report and comparisons share: a console of 100 columns, and one table of moves for the terminal and for Markdown."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable
from tabulate import tabulate

from codi_bench.report.table import REPORTED, UNITS, Cell, Table

WIDTH, NARROWEST = 100, 60  # columns: tables are not squeezed further


def text_console(*, colour: bool = False, width: int = WIDTH) -> Console:
    """A console that prints into memory, in a notebook too; `printed` gives what it holds."""
    system: Literal["standard"] | None = "standard" if colour else None
    plain: dict[str, Any] = {"force_jupyter": False, "highlight": False, "emoji": False}
    return Console(file=io.StringIO(), width=width, force_terminal=colour, color_system=system, **plain)


def terminal_console() -> Console:
    """The same as wide as the terminal is, at most 100 columns; colour only where somebody watches."""
    width = min(WIDTH, max(shutil.get_terminal_size((WIDTH, 24)).columns, NARROWEST))
    return text_console(colour=sys.stdout.isatty(), width=width)


def printed(console: Console) -> str:
    """All that was printed, without spaces at the ends of lines."""
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def terminal_table(table: Table, heads: Mapping[str, str], colours: Mapping[str, str], *, wrap: Sequence[str] = ()) -> RichTable:
    """The columns of heads, each under what stands there in the terminal; a name of a group is a line above its own.

    colours: by the word that has one; wrap: columns that may be broken between words.
    """
    drawn = RichTable(pad_edge=False, box=None, padding=(0, 1, 0, 0), header_style="bold")
    for column in table.columns:
        if column.head in heads:
            drawn.add_column(escape(heads[column.head]), justify=column.side, no_wrap=column.head not in wrap)
    above: tuple[str, ...] = ()
    for line in table.lines:
        for depth, name in enumerate(line.groups):
            if line.groups[: depth + 1] != above[: depth + 1]:
                drawn.add_row(f" {escape(name)}" if depth else f"[bold]{escape(name)}[/]")
        above = line.groups
        first, *others = (coloured(line[head].text, colours) for head in heads)
        drawn.add_row(" " * len(above) + first, *others)
    return drawn


def coloured(text: str, colours: Mapping[str, str]) -> str:
    """Text as rich's markup, in it the words that have a colour: whole ones, for a question mark may be a symbol too."""
    words = r"(?<!\S)(?:" + "|".join(map(re.escape, colours)) + r")(?!\S)"
    return re.sub(words, lambda found: f"[{colours[found[0]]}]{found[0]}[/]", escape(text)) if colours else escape(text)


def markdown_table(table: Table) -> str:
    """All columns, those of the groups first."""
    rows = [[*line.groups, *(_in_one_line(line[column.head], column.joint) for column in table.columns)] for line in table.lines]
    return grid(rows, [*table.group_heads, *(column.head for column in table.columns)])


def _in_one_line(cell: Cell, joint: str) -> str:
    return joint.join(filter(None, [str(cell).replace("\n", joint), cell.note]))


def grid(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """A table in GitHub's Markdown."""
    return tabulate([list(map(cell, row)) for row in rows], head, tablefmt="github", disable_numparse=True)


def cell(text: str) -> str:
    """Text that cannot break a Markdown table or become HTML."""
    return text.replace("|", r"\|").replace("\n", " ").replace("<", "&lt;")


def metric_text(metric: str, protocol: str, unit: str, whole: str) -> str:
    """accuracy, %, sound: a metric, its unit and the protocol if it is not the reported one; whole: what "-" is called."""
    return whole if metric == "-" else metric + UNITS.get(unit, "") + (f", {protocol}" if protocol != REPORTED else "")
