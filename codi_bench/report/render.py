"""The report of a run: tables and sentences for the terminal (rich), and the files beside `results.json`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from codi_bench.records.results import BLOCKED, OK, Row
from codi_bench.report import sentences
from codi_bench.report.badge import BADGES
from codi_bench.report.comparison import study_table
from codi_bench.report.comparison_text import text_of, winners_text, words_by_source
from codi_bench.report.console import coloured, printed, terminal_console, text_console
from codi_bench.report.contents import Report, report_of
from codi_bench.report.export import csv_text, latex, markdown
from codi_bench.report.figures import figures, write_figures
from codi_bench.report.page import page
from codi_bench.report.table import (
    CAME_OUT_LEGEND,
    LEGEND,
    SOUND,
    SYMBOLS,
    WORDS_LEGEND,
    Table,
    TableLine,
    is_number,
    labels,
    nested,
)
from codi_bench.store.files import Inputs, check_folder, is_installed, write_text

SHOWN_RED, SHOWN_STOPPED = 12, 6  # of what drifted, and of what was stopped; all of them are in report.md, and in full
SHOWN_LENGTH = 250  # characters of why it drifted
COLOURS = {"✗": "red", "■": "magenta", "?": "yellow", "=": "green", "✓": "green", "≈": "magenta", "⊘": "red", "…": "yellow"}
COLOURS |= {"●": "green", "○": "red", "◐": "yellow"}
RECORD = (
    "codi-bench run --update-baselines{own}  # and the options of this run",
    "codi-bench baselines diff{own}",
    'codi-bench baselines accept{own} --reason "why they are right"',
)
PAGE = "report.html"
LONG = "report.txt"
OUTCOMES = {"does not hold": "red", "undecided": "yellow", "holds": "green"}
HEADS = {"measured": "measured\n[95 %]", "null": "null\n[95 %]", "regression": "rec."}
# how narrow a column can be made: from which step on an interval stands under its number; the last leaves out bands of nulls
BREAKS, WITHOUT_BANDS = {"null": 2, "measured": 3}, 4


@dataclass(frozen=True)
class TerminalColumn:
    """A column of a terminal table: head and cells, of one or more lines each, in rich's markup."""

    head: str
    cells: list[str]
    side: Literal["left", "right"]
    width: int


def check_report(folder: Path, mend: str, inputs: Inputs, *others: str) -> None:
    """Raises CodiBenchError where a report, and others beside it, cannot be written or would be written over what is read."""
    check_folder(folder, (*others, PAGE, *FILES, *BADGES), mend, inputs, own=("figures", "proposals"))


def render(rows: list[Row], environment: dict, folder: Path) -> str:
    """Write the report's files and figures beside the results, and give what a terminal shows of them."""
    report = report_of(rows, environment)
    drawings = figures(rows, environment)
    write_figures(drawings, folder)
    write_text(folder / PAGE, page(report, drawings))
    for name, write in (FILES | BADGES).items():
        write_text(folder / name, write(report))
    return _terminal(report, folder)


def terminal(rows: list[Row], environment: dict, folder: Path | None) -> str:
    """The study's table, what is red or stopped, and what to do next: at most 100 columns, fewer where the terminal has fewer.

    Colour only where somebody watches, and never alone. folder: where the report's files are; None: there are none.
    """
    return _terminal(report_of(rows, environment), folder)


def tables(rows: Sequence[Row], environment: dict) -> str:
    """Every number, a table a model, with what has to be said beside it: plain text of 100 columns."""
    return _tables(report_of(rows, environment))


def comparison(rows: Sequence[Row], environment: dict) -> str:
    """The study's table alone, as plain text of 100 columns; "" where nothing of the study is there."""
    study = study_table(rows, environment)
    return "\n".join([*text_of(study), "", *winners_text(study)]) if study else ""


def _terminal(report: Report, folder: Path | None) -> str:
    console = terminal_console()
    width = console.width
    lines = text_of(report.study, width) if report.study else words_by_source(report.rows, report.environment, width)
    for i, line in enumerate(lines):
        console.print(coloured(line, COLOURS), style="bold" if i < 2 else "dim" if line.startswith("─") else None)
    for line in winners_text(report.study, width) if report.study else []:
        console.print(coloured(line, OUTCOMES))
    console.print()
    for text in _ending(report, folder):
        say(console, text)
    return printed(console)


def _tables(report: Report) -> str:
    console = text_console()
    _print_report(console, report)
    return printed(console)


FILES = {"report.md": markdown, LONG: _tables, "report.csv": csv_text, "report.tex": latex}


def _print_report(console: Console, report: Report) -> None:
    rows = report.rows
    say(console, f"Claims measured on: {', '.join(report.models) or 'nothing'}")
    if any(row.protocol == SOUND for row in rows):
        say(console, "A metric's own line: as its source measured it; 'sound': under the sound protocol.", style="dim")
    for table in report.tables.values():
        print_table(console, table)
    console.print()
    legends = [f"rec.: {LEGEND}"] + [CAME_OUT_LEGEND] * any(row.reproduction for row in rows)
    for text in legends + [WORDS_LEGEND] * any(row.validity for row in rows):
        console.print(text, style="dim", markup=False)
    for text in (*report.winners, *report.notes, *report.reproductions, *report.unmeasured):
        say(console, text)
    if report.audit:
        console.print("\nWhat the audit says", style="bold")
        for text in report.audit:
            say(console, f"- {text}")


# --- tables ----------------------------------------------------------------------------------------------------------


def print_table(console: Console, table: Table) -> None:
    """A grid for each widest group (a family), all with the same columns, under its name."""
    lines = nested(table.lines)
    columns = _columns(table, lines, console.width)
    width = sum(column.width for column in columns) + len(columns) - 1
    console.print()
    console.print(_grid(columns, [[escape(column.head) for column in columns]], style="bold"))
    for family, indices in groupby(range(len(lines)), key=lambda i: lines[i].groups[0]):
        console.print(f"── {family} {'─' * max(3, width - len(family) - 4)}", style="bold", markup=False)
        console.print(_grid(columns, [[column.cells[i] for column in columns] for i in indices]))


def _grid(columns: Sequence[TerminalColumn], body: Sequence[Sequence[str]], style: str | None = None) -> RichTable:
    grid = RichTable(pad_edge=False, box=None, padding=(0, 1, 0, 0), show_header=False)
    for column in columns:
        grid.add_column(justify=column.side, width=column.width, overflow="fold")
    for cells in body:
        grid.add_row(*cells, style=style)
    return grid


def _columns(table: Table, lines: list[TableLine], available: int) -> list[TerminalColumn]:
    """The columns that have anything, narrowed step by step until they fit: names and intervals are broken, no number is cut."""
    for step in range(WITHOUT_BANDS + 1):
        columns = _columns_at(step, table, lines)
        excess = sum(column.width for column in columns) + len(columns) - 1 - available
        if excess <= 0:
            return columns
    return [replace(columns[0], width=max(columns[0].width - excess, 12)), *columns[1:]]


def _columns_at(step: int, table: Table, lines: list[TableLine]) -> list[TerminalColumn]:
    """Step 1 writes 'sound' under names, then BREAKS."""
    names = labels(lines, max(len(line["metric"].text) for line in lines) if step else None)
    markup = [escape(text) if line.cells else f"[bold]{escape(text)}[/]" for text, line in zip(names, lines, strict=True)]
    columns = [_column(f"{table.title}\nclaim, metric", names, markup, "left")]
    for column in table.columns[2:]:
        name = column.head
        texts = [_cell(step, name, line) for line in lines]
        if any(texts):  # an older run has neither nulls nor words
            head = HEADS.get(name, name.replace(" reported", "\nreported"))
            head = "null" if name == "null" and step >= WITHOUT_BANDS else head
            marked = [coloured(text, COLOURS) if column.side == "left" else escape(text) for text in texts]
            columns.append(_column(head, texts, marked, column.side))
    return columns


def _column(head: str, texts: list[str], markup: list[str], side: Literal["left", "right"]) -> TerminalColumn:
    width = max(len(part) for text in (head, *texts) for part in text.split("\n"))
    return TerminalColumn(head, markup, side, width)


def _cell(step: int, head: str, line: TableLine) -> str:
    """A number or word, and under it where it was found or what would decide; a regression is its mark, a null has no p here."""
    cell = line[head]
    if head == "regression":
        return cell.mark
    text = str(cell).replace("NOT ", "NOT\n")
    if head == "null" and step >= WITHOUT_BANDS:
        return text.partition(" [")[0]
    text = text.replace(" [", "\n[") if step >= BREAKS.get(head, step + 1) else text
    return text if head == "null" else "\n".join(filter(None, [text, cell.note]))


def say(console: Console, text: str, style: str | None = None) -> None:
    """A sentence, broken between words, its further lines indented; a number stays with its sign."""
    sentence = re.sub(r" (?=%|points)|(?<=\b[pn]) = ", lambda match: match[0].replace(" ", "\xa0"), text)
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    paragraph = textwrap.fill(sentence, console.width, subsequent_indent=indent, break_on_hyphens=False).replace("\xa0", " ")
    console.print(paragraph, style=style, markup=False)


# --- the end ---------------------------------------------------------------------------------------------------------


def _ending(report: Report, folder: Path | None) -> list[str]:
    """What is red or was stopped and why, the counts, what can be done about each that is no pass, and where to read on."""
    drifts = [
        textwrap.shorten(f"{SYMBOLS['DRIFTED']} DRIFTED {text}", SHOWN_LENGTH, placeholder=" ...") for text in report.drifted
    ]
    texts = [*_first(drifts, SHOWN_RED, folder), *_first(report.unmeasured, SHOWN_STOPPED, folder)]
    texts += [counted(report.counts, report.environment), *sentences.other_code(report.rows), *next_steps(report.rows)]
    claim = next((row.claim for row in report.rows if row.status == OK and row.validity), None)
    shown = [f"one claim in full: codi-bench show {claim}"] if claim else []
    return [*texts, *shown, *([f"every number, with figures and evidence: {folder / PAGE}, {folder / LONG}"] if folder else [])]


def _first(texts: Sequence[str], limit: int, folder: Path | None) -> list[str]:
    """The first of them, and where the others are; all, where nothing could be written."""
    if folder is None or len(texts) <= limit:
        return list(texts)
    return [*texts[:limit], f"{texts[0][0]} and {len(texts) - limit} more in {folder / 'report.md'}"]


def counted(counts: Mapping[str, int], environment: dict) -> str:
    """How many numbers came out how, and how long the run took."""
    seconds = environment.get("seconds")
    words = {"same": "as recorded", "not-run": "not run"}
    text = ", ".join(f"{count} {words.get(word, word)}" for word, count in counts.items())
    return f"numbers: {text}" + (f"; {seconds:.0f} s" if is_number(seconds) else "")


def next_steps(rows: Sequence[Row]) -> list[str]:
    """What a maintainer can do, for each outcome that is no pass; commands on lines of their own."""
    any_drift = any(row.regression == "DRIFTED" for row in rows)
    any_unchecked = any(row.status == OK and row.regression == "UNCHECKED" for row in rows)
    steps = {
        "BLOCKED: mend what the reason says and run those claims again; until then nothing is said about them": any(
            row.status == BLOCKED for row in rows
        ),
        "DRIFTED: find what moved the numbers; only if the new ones are right, record them": any_drift,
        "UNCHECKED: nothing is recorded to check these numbers against; look at them, then record them": any_unchecked,
    }
    texts = [f"next, {text}" for text, applies in steps.items() if applies]
    own = " --baselines FOLDER" if is_installed() else ""  # one of your own: the package's is replaced with it
    return texts + [f"    {command.format(own=own)}" for command in RECORD] * (any_drift or any_unchecked)
