"""The tables in the terminal (rich) and in Markdown (tabulate)."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tabulate import tabulate

from codi_bench.files import write_text
from codi_bench.report.audit import evidence, says, without_word
from codi_bench.report.table import (
    LEGEND,
    REPORTED,
    REPORTING,
    SOUND,
    WORDS_LEGEND,
    Line,
    blocked_or_not_run,
    counterparts,
    counts,
    drifted,
    in_order,
    measured_models,
    notes,
    reproductions,
    table,
    winners,
)
from codi_bench.results import Row

WIDTH = 100
COLOURS = {"✗": "red", "■": "magenta", "?": "yellow", "=": "green", "✓": "green", "≈": "magenta", "⊘": "red", "…": "yellow"}


def render(rows: list[Row], environment: dict, folder: Path) -> str:
    """Write `report.md` beside the results and give the same tables as text for a terminal."""
    write_text(folder / "report.md", markdown(rows, environment))
    return terminal(rows, environment, folder)


def terminal(rows: list[Row], environment: dict, folder: Path) -> str:
    """The tables as text of 100 columns; colour only where somebody watches, and never alone."""
    watched = sys.stdout.isatty()
    console = Console(width=WIDTH, force_terminal=watched, color_system="auto" if watched else None, highlight=False)
    models = measured_models(rows)
    with console.capture() as captured:
        console.print(f"Claims of the first study, measured on: {', '.join(models) or 'nothing'}", markup=False)
        if any(row.protocol == SOUND for row in rows):
            console.print("A metric's own line: as the study measured it. 'soundly': under the sound protocol.", style="dim")
        for model in models or [""]:
            console.print()
            console.print(_terminal_table(model, table(rows, environment, model)))
        console.print(LEGEND, style="dim")
        if any(row.validity for row in rows):
            console.print(WORDS_LEGEND, style="dim")
        for text in (*winners(environment), *notes(rows), *reproductions(rows), *blocked_or_not_run(rows)):
            console.print(text, markup=False)
        if said := says(rows, environment):
            console.print("\nWhat the audit says", style="bold")
            for text in said:
                console.print(f"- {text}", markup=False)
            console.print()
        found = counts(rows)
        console.print(
            ", ".join(f"{count} {word}" for word, count in found.items())
            + f"; {folder / 'report.md'}, {folder / 'results.json'}",
            markup=False,
        )
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def markdown(rows: list[Row], environment: dict) -> str:
    """The tables, what the audit says, evidence, protocols in words, and everything that was not measured."""
    parts = ["# codi-bench: claims of the first study", ""]
    for model in measured_models(rows) or [""]:
        parts += [f"## {model or 'Nothing was measured'}", "", _markdown_table(model, table(rows, environment, model)), ""]
    legend = " ".join(f"{LEGEND}. {WORDS_LEGEND}.".split()) if any(row.validity for row in rows) else f"{LEGEND}."
    parts += [
        f"{legend} Intervals and bands of nulls are 95 %; quantities without an honest interval have none. The `reported` "
        "protocol is what the source did, quirks included; `sound` is what it should have been. A reproduction is judged only "
        "for the source's own models; the embedded pair are others.",
        "",
        *_list([*winners(environment), *notes(rows)]),
    ]
    if said := says(rows, environment):
        parts += ["## What the audit says", "", *_list(said)]
    if any(row.validity for row in rows):
        parts += ["## Evidence", ""]
        for model in measured_models(rows):
            mine = [row for row in rows if row.model == model]
            lines = [f"{what}: {why}" if why else what for what, why in evidence(mine, environment)]
            if lines := [*lines, *(f"no word: {text}" for text in without_word(mine))]:
                parts += [f"### {model}", "", *_list(lines)]
    reproduced = [row for row in rows if row.reproduction]
    if reproduced:
        parts += [
            "## Reproduction",
            "",
            tabulate(
                [[r.claim, r.model, r.metric, r.reproduction, r.detail.get("reproduction", "")] for r in reproduced],
                ["claim", "model", "metric", "outcome", "why"],
                tablefmt="github",
            ),
            "",
        ]
    parts += ["## Protocols", ""]
    for name in in_order(environment["claims"]):
        text = environment["claims"][name]
        parts.append(f"- **{name}** ({text['family']}): {text['sentence']} *{text['protocol']}* ({text['source']})")
        if text.get("sound"):
            parts.append(f"  - soundly: *{text['sound']}*")
    parts += ["", "## Drifted", "", *_list(drifted(rows) or ["nothing"])]
    parts += ["## Not measured", "", *_list(blocked_or_not_run(rows))]
    versions = {k: v for k, v in environment.items() if isinstance(v, str)}
    parts += ["## Environment", "", ", ".join(f"{k} {v}" for k, v in versions.items()), ""]
    return "\n".join(parts)


def _terminal_table(model: str, lines: list[Line]) -> Table:
    shown = Table(pad_edge=False, box=None, padding=(0, 1, 0, 0), header_style="bold")
    shown.add_column(f"{escape(model)}\nclaim, metric", no_wrap=True)
    for name in counterparts(model):
        shown.add_column(f"{REPORTING[name]}\nreported", justify="right")
    band = len(counterparts(model)) == 1  # beside two of the study's models there is no room for it; report.md has it
    columns = {
        "measured\n[95 %]": [_lines(escape(line.measured), _coloured(line.mark), escape(line.place)) for line in lines],
        "null\n[95 %]" if band else "null": [escape(line.null if band else line.null.partition(" [")[0]) for line in lines],
        "n": [line.n for line in lines],
        "verdict": [_lines(_coloured(line.word), "", line.decide) for line in lines],
    }
    columns = {head: cells for head, cells in columns.items() if any(cells)}  # an older run has neither nulls nor words
    for head in columns:  # a number may be wrapped at its interval, never cut
        shown.add_column(head, justify="left" if head == "verdict" else "right", no_wrap=head in ("n", "verdict"))
    claim = metric = ""
    for i, line in enumerate(lines):
        if line.claim != claim:
            shown.add_row(f"[bold]{line.claim}[/]")
            metric = ""
        label = f"  {line.metric}"
        if line.protocol != REPORTED:
            how = "soundly" if line.protocol == SOUND else line.protocol
            label = f"    {how}" if line.metric == metric else f"{label}, {how}"
        study = [_lines(escape(text), "", escape(place)) for text, place in _study(line, model)]
        shown.add_row(label, *study, *(cells[i] for cells in columns.values()))
        claim, metric = line.claim, line.metric
    return shown


def _markdown_table(model: str, lines: list[Line]) -> str:
    beside = [f"{REPORTING[name]} reported" for name in counterparts(model)]
    body, claim = [], ""
    for line in lines:
        study = [" @ ".join(filter(None, pair)) for pair in _study(line, model)]
        measured = " ".join(filter(None, [line.measured, line.place and f"@ {line.place}", line.mark]))
        null = line.null + (f", p = {line.p}" if line.p else "")
        verdict = ", ".join(filter(None, [line.word.replace("*", r"\*"), line.decide]))
        body.append(
            [line.claim if line.claim != claim else "", line.metric, line.protocol, *study, measured, null, line.n, verdict]
        )
        claim = line.claim
    head = ["claim", "metric", "protocol", *beside, "measured", "null", "n", "verdict"]
    return tabulate(body, head, tablefmt="github", disable_numparse=True)


def _study(line: Line, model: str) -> list[tuple[str, str]]:
    return [line.study.get(name, ("", "")) for name in counterparts(model)]


def _lines(text: str, mark: str, below: str) -> str:
    """A cell: number and mark, and under them where it was found or what would decide."""
    return "\n".join(filter(None, [" ".join(filter(None, [text, mark])), below]))


def _list(texts: list[str]) -> list[str]:
    return [*(f"- {text}" for text in texts), ""]


def _coloured(text: str) -> str:
    """A mark or word, coloured by its symbols."""
    return " ".join(f"[{COLOURS[part]}]{part}[/]" if part in COLOURS else escape(part) for part in text.split(" "))
