"""The report of a run: tables and sentences for the terminal (rich), and the files beside `results.json`."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from codi_bench.records.results import BLOCKED, NOT_RUN, OK, Row
from codi_bench.report.audit import says
from codi_bench.report.export import csv_text, latex, markdown, plain_text
from codi_bench.report.figures import figures, write_figures
from codi_bench.report.page import page
from codi_bench.report.table import (
    CAME_OUT_LEGEND,
    COUNTERPART_NAMES,
    LEGEND,
    REPORTED,
    SOUND,
    SYMBOLS,
    WORDS_LEGEND,
    TableLine,
    blocked_or_not_run,
    counterparts,
    counts,
    drifted,
    measured_models,
    notes,
    reproductions,
    table,
    winners,
    winners_among,
)
from codi_bench.store.files import write_text

WIDTH = 100
SHOWN_RED = 12  # lines of what drifted; all of them are in report.md
COLOURS = {"✗": "red", "■": "magenta", "?": "yellow", "=": "green", "✓": "green", "≈": "magenta", "⊘": "red", "…": "yellow"}
COLOURS |= {"●": "green", "○": "red", "◐": "yellow"}
RECORD = (
    "pytest benchmarks --update-baselines",
    "codi-bench baselines diff",
    'codi-bench baselines accept --reason "why they are right"',
)
PAGE = "report.html"
FILES = {
    "report.md": markdown,
    "report.txt": plain_text,
    "report.csv": csv_text,
    "report.tex": latex,
}  # each (rows, environment) -> str


@dataclass(frozen=True)
class Column:
    """A column of a terminal table: head and cells, of one or more lines each, in rich's markup; side: left or right."""

    head: str
    cells: list[str]
    side: Literal["left", "right"]
    width: int


def render(rows: list[Row], environment: dict, folder: Path) -> str:
    """Write the report's files and figures beside the results, and give the same tables as text for a terminal."""
    drawings = figures(rows, environment)
    write_figures(drawings, folder)
    write_text(folder / PAGE, page(rows, environment, drawings))
    for name, write in FILES.items():
        write_text(folder / name, write(rows, environment))
    return terminal(rows, environment, folder)


def terminal(rows: list[Row], environment: dict, folder: Path | None) -> str:
    """The tables as text of 100 columns, and what to do next; colour only where somebody watches, and never alone.

    folder: where the report's files are; None: there are none.
    """
    is_terminal = sys.stdout.isatty()
    console = Console(
        width=WIDTH, force_terminal=is_terminal, color_system="auto" if is_terminal else None, highlight=False, emoji=False
    )
    with console.capture() as capture:
        _print_report(console, rows, environment)
        console.print()
        for text in _ending(rows, folder):
            _say(console, text)
    return _strip_lines(capture.get())


def tables(rows: list[Row], environment: dict) -> str:
    """The tables alone, with what has to be said beside them, as plain text of 100 columns."""
    console = Console(width=WIDTH, color_system=None, highlight=False, emoji=False, force_terminal=False, force_jupyter=False)
    with console.capture() as capture:
        _print_report(console, rows, environment)
    return _strip_lines(capture.get())


def _strip_lines(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _print_report(console: Console, rows: list[Row], environment: dict) -> None:
    models = measured_models(rows)
    _say(console, f"Claims measured on: {', '.join(models) or 'nothing'}")
    if any(row.protocol == SOUND for row in rows):
        _say(console, "A metric's own line: as the study measured it. 'soundly': under the sound protocol.", style="dim")
    for model in models or [""]:
        _print_table(console, model, table(rows, environment, model), environment)
    console.print()
    for text in _legends(rows):
        console.print(text, style="dim", markup=False)
    for text in (*winners(environment), *notes(rows), *reproductions(rows), *blocked_or_not_run(rows)):
        _say(console, text)
    if sentences := says(rows, environment):
        console.print("\nWhat the audit says", style="bold")
        for text in sentences:
            _say(console, f"- {text}")


def _print_table(console: Console, model: str, lines: list[TableLine], environment: dict) -> None:
    """One model: a table a family of claims, all with the same columns, under the family's name and its winners."""
    lines = _with_claim_lines(lines)
    columns = _columns(model, lines)
    width = sum(column.width for column in columns) + len(columns) - 1
    console.print()
    console.print(_grid(columns, [[escape(column.head) for column in columns]], style="bold"))
    for family, group in groupby(range(len(lines)), key=lambda i: lines[i].family):
        indices = list(group)
        console.print(f"── {family} {'─' * max(3, width - len(family) - 4)}", style="bold", markup=False)
        for text in winners_among(environment, list(dict.fromkeys(lines[i].claim for i in indices)), model):
            _say(console, text, style="dim")
        console.print(_grid(columns, [[column.cells[i] for column in columns] for i in indices]))


def _with_claim_lines(lines: list[TableLine]) -> list[TableLine]:
    """With a line of its own for each claim, before its metrics."""
    all_lines = []
    for claim, group in groupby(lines, key=lambda line: line.claim):
        claim_lines = list(group)
        all_lines += [TableLine(claim, "", "", {}, family=claim_lines[0].family), *claim_lines]
    return all_lines


def _grid(columns: Sequence[Column], body: Sequence[Sequence[str]], style: str | None = None) -> Table:
    grid = Table(pad_edge=False, box=None, padding=(0, 1, 0, 0), show_header=False)
    for column in columns:
        grid.add_column(justify=column.side, width=column.width, overflow="fold")
    for cells in body:
        grid.add_row(*cells, style=style)
    return grid


def _columns(model: str, lines: list[TableLine]) -> list[Column]:
    """The columns that have anything, narrowed step by step until they fit: names and intervals are broken, no number is cut."""
    for step in range(5):
        columns = _columns_at(step, model, lines)
        excess = sum(column.width for column in columns) + len(columns) - 1 - WIDTH
        if excess <= 0:
            return columns
    return [replace(columns[0], width=max(columns[0].width - excess, 12)), *columns[1:]]


def _columns_at(step: int, model: str, lines: list[TableLine]) -> list[Column]:
    """Step 1 writes 'soundly' under names, 2 a null's band under it, 3 intervals under numbers; 4 leaves bands to report.md."""

    def stack(text: str, first_step: int) -> str:
        return text.replace(" [", "\n[") if step >= first_step else text

    texts = {f"{model}\nclaim, metric": _labels(lines, broken=step >= 1)}
    for name in counterparts(model):
        texts[f"{COUNTERPART_NAMES[name]}\nreported"] = [_lines(*line.study.get(name, ("", ""))) for line in lines]
    null = [line.null.partition(" [")[0] if step >= 4 else stack(line.null, 2) for line in lines]
    texts |= {
        "measured\n[95 %]": [_lines(stack(line.measured, 3), line.place) for line in lines],
        "null\n" if step >= 4 else "null\n[95 %]": null,
        "n\n": [line.n for line in lines],
        "reproduction\n": [line.reproduction.replace("NOT ", "NOT\n") for line in lines],
        "validity\n": [_lines(line.word, line.decide) for line in lines],
        "rec.\n": [line.mark for line in lines],
    }
    columns = []
    for i, (head, cells) in enumerate(texts.items()):
        if i == 0 or any(cells):  # an older run has neither nulls nor words
            is_word = head in ("reproduction\n", "validity\n", "rec.\n")
            markup = [(_colour if is_word else escape)(text) for text in cells]
            if i == 0:
                markup = [text if line.metric else f"[bold]{text}[/]" for text, line in zip(markup, lines, strict=True)]
            width = max(len(part) for text in (head, *cells) for part in text.split("\n"))
            columns.append(Column(head.rstrip("\n"), markup, "left" if is_word or i == 0 else "right", width))
    return columns


def _labels(lines: list[TableLine], *, broken: bool) -> list[str]:
    """A claim's name, and under it its metrics; broken: of what exists soundly alone, the long ones say so under their names."""
    width = max(len(line.metric) for line in lines) if broken else WIDTH
    labels, metric = [], ""
    for line in lines:
        label = f"  {line.metric}" if line.metric else line.claim
        if line.protocol not in ("", REPORTED):
            protocol = "soundly" if line.protocol == SOUND else line.protocol
            gap = " " if len(f"{line.metric}, {protocol}") <= width else "\n    "
            label = f"    {protocol}" if line.metric == metric else f"{label},{gap}{protocol}"
        labels.append(label)
        metric = line.metric
    return labels


def _legends(rows: Sequence[Row]) -> list[str]:
    legends = [f"rec.: {LEGEND}"]
    legends += [CAME_OUT_LEGEND] if any(row.reproduction for row in rows) else []
    return legends + ([WORDS_LEGEND] if any(row.validity for row in rows) else [])


def _ending(rows: Sequence[Row], folder: Path | None) -> list[str]:
    """What is red and why, the counts, what can be done about each that is no pass, and where the files are."""
    drifts = drifted(rows)
    limit = len(drifts) if folder is None else SHOWN_RED
    texts = [f"{SYMBOLS['DRIFTED']} DRIFTED {text}" for text in drifts[:limit]]
    if folder is not None and len(drifts) > limit:
        texts.append(f"{SYMBOLS['DRIFTED']} and {len(drifts) - limit} more in {folder / 'report.md'}")
    texts.append(", ".join(f"{count} {word}" for word, count in counts(rows).items()))
    if folder is None:
        return [*texts, *next_steps(rows)]
    files = [*FILES, "figures/", *(["results.json"] if (folder / "results.json").exists() else [])]
    return [*texts, *next_steps(rows), f"the page, with figures and evidence: {folder / PAGE}; beside it {', '.join(files)}"]


def next_steps(rows: Sequence[Row]) -> list[str]:
    """What a maintainer can do, for each outcome that is no pass; commands on lines of their own."""
    any_drift = any(row.regression == "DRIFTED" for row in rows)
    any_unchecked = any(row.status == OK and row.regression == "UNCHECKED" for row in rows)
    reasons = {row.reason for row in rows if row.status == NOT_RUN}
    gpu_reasons = {reason for reason in reasons if reason.startswith("no GPU")}
    steps = {
        "BLOCKED: mend what the reason says and run those claims again; until then nothing is said about them": any(
            row.status == BLOCKED for row in rows
        ),
        "NOT RUN for want of a GPU: nothing is to be done on this machine": gpu_reasons,
        "NOT RUN: see the reasons above; what was not run counts as nothing": reasons - gpu_reasons,
        "DRIFTED: find what moved the numbers; only if the new ones are right, record them": any_drift,
        "UNCHECKED: nothing is recorded to check these numbers against; look at them, then record them": any_unchecked,
    }
    texts = [f"next, {text}" for text, applies in steps.items() if applies]
    return texts + [f"    {command}" for command in RECORD] * (any_drift or any_unchecked) or ["next: nothing is to be done"]


def _lines(text: str, addition: str) -> str:
    """A cell: a number or word, and under it where it was found or what would decide."""
    return "\n".join(filter(None, [text, addition]))


def _colour(text: str) -> str:
    """A mark or word, coloured by its symbols."""
    return re.sub("|".join(map(re.escape, COLOURS)), lambda match: f"[{COLOURS[match[0]]}]{match[0]}[/]", escape(text))


def _say(console: Console, text: str, style: str | None = None) -> None:
    """A sentence, broken between words, its further lines indented; a number stays with its sign."""
    sentence = re.sub(r" (?=%|points)|(?<=\b[pn]) = ", lambda match: match[0].replace(" ", "\xa0"), text)
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    paragraph = textwrap.fill(sentence, WIDTH, subsequent_indent=indent, break_on_hyphens=False).replace("\xa0", " ")
    console.print(paragraph, style=style, markup=False)
