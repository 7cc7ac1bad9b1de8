"""Text that report and comparisons share: a console of 100 columns for the terminal, tables and cells for Markdown."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

from rich.console import Console
from tabulate import tabulate

from codi_bench.report.table import REPORTED, SOUND, UNITS

WIDTH = 100


def text_console(*, colour: bool = False, width: int = WIDTH) -> Console:
    """A console that prints into memory, in a notebook too; `printed` gives what it holds."""
    system: Literal["standard"] | None = "standard" if colour else None
    plain: dict[str, Any] = {"force_jupyter": False, "highlight": False, "emoji": False}
    return Console(file=io.StringIO(), width=width, force_terminal=colour, color_system=system, **plain)


def printed(console: Console) -> str:
    """All that was printed, without spaces at the ends of lines."""
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def grid(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """A table in GitHub's Markdown, its cells as they stand."""
    return tabulate(rows, head, tablefmt="github", disable_numparse=True)


def cell(text: str) -> str:
    """Text that cannot break a Markdown table or become HTML."""
    return text.replace("|", r"\|").replace("\n", " ").replace("<", "&lt;")


def metric_text(metric: str, protocol: str, unit: str, whole: str) -> str:
    """accuracy, %, soundly: a metric, its unit and the protocol if it is not the reported one; whole: what "-" is called."""
    protocol_text = "" if protocol == REPORTED else ", soundly" if protocol == SOUND else f", {protocol}"
    return whole if metric == "-" else metric + UNITS.get(unit, "") + protocol_text
