"""The table in the terminal (rich) and in Markdown (tabulate)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tabulate import tabulate

from codi_bench.files import write_text
from codi_bench.report.table import LEGEND, REPORTING, blocked_or_not_run, counts, in_order, notes, reproductions, table
from codi_bench.results import Row

WIDTH = 100


def render(rows: list[Row], environment: dict, folder: Path) -> str:
    """Write `report.md` beside the results and give the same table as text for a terminal."""
    write_text(folder / "report.md", markdown(rows, environment))
    return terminal(rows, environment, folder)


def terminal(rows: list[Row], environment: dict, folder: Path) -> str:
    """The table as text of 100 columns (more for a wider terminal or a third model); colour only where somebody watches."""
    models, lines = table(rows, environment)
    width = max(WIDTH, 52 + 24 * len(models), shutil.get_terminal_size((WIDTH, 24)).columns)
    console = Console(width=width, force_terminal=sys.stdout.isatty(), color_system="auto" if sys.stdout.isatty() else None)
    with console.capture() as captured:
        shown = Table(
            title="Reported by the first study, and measured here under its own protocol",
            pad_edge=False,
            box=None,
            padding=(0, 1, 0, 0),
        )
        shown.add_column("claim, metric", no_wrap=True)
        shown.add_column("n", justify="right")
        for name in REPORTING.values():
            shown.add_column(f"{name}\nreported", justify="right", max_width=9)
        for model in models:
            shown.add_column(f"{model}\nmeasured [95 %]", justify="right", no_wrap=True)
        previous = ""
        for line in lines:
            if line.claim != previous:
                shown.add_row(f"[bold]{line.claim}[/]")
            shown.add_row(
                f"  {line.metric}",
                line.n,
                *(escape(line.reported.get(name, "")) for name in REPORTING),
                *(_coloured(line.measured[model]) for model in models),
            )
            previous = line.claim
        console.print(shown)
        console.print(LEGEND, style="dim")
        for claim, winner in dict.fromkeys((line.claim, line.winner) for line in lines if line.winner):
            console.print(f"winner, {claim}: {winner}, exact McNemar on the same problems", markup=False)
        for text in (*notes(rows), *reproductions(rows), *blocked_or_not_run(rows)):
            console.print(text, markup=False)
        found = counts(rows)
        console.print(
            ", ".join(f"{count} {word}" for word, count in found.items())
            + f"; {folder / 'report.md'}, {folder / 'results.json'}",
            markup=False,
        )
    return captured.get()


def markdown(rows: list[Row], environment: dict) -> str:
    """The table, the protocols in words, and everything that was not measured, for a paper, an issue or a README."""
    models, lines = table(rows, environment)
    head = [
        "claim",
        "metric",
        "n",
        *(f"{name} reported" for name in REPORTING.values()),
        *(f"{m} measured" for m in models),
        "winner",
    ]
    body, previous = [], ""
    for line in lines:
        first = line.claim != previous
        body.append(
            [
                line.claim if first else "",
                line.metric,
                line.n,
                *(line.reported.get(name, "") for name in REPORTING),
                *(line.measured[m] for m in models),
                line.winner if first else "",
            ]
        )
        previous = line.claim
    parts = [
        "# codi-bench: claims of the first study",
        "",
        tabulate(body, head, tablefmt="github", disable_numparse=True),
        "",
        f"{LEGEND}. Intervals are 95 %; quantities without an honest interval have none. Measured under the `reported` "
        "protocol: what the "
        "source did, quirks included. A reproduction is judged only for the source's own models; the embedded pair are others.",
        "",
        *(f"- {text}" for text in notes(rows)),
        "",
    ]
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
    parts.append("")
    drifted = [f"- {row.claim} on {row.model}: {row.reason}" for row in rows if row.regression == "DRIFTED"]
    parts += [
        "## Drifted",
        "",
        *(drifted or ["nothing"]),
        "",
        "## Not measured",
        "",
        *(f"- {text}" for text in blocked_or_not_run(rows)),
        "",
    ]
    versions = {k: v for k, v in environment.items() if isinstance(v, str)}
    parts += ["## Environment", "", ", ".join(f"{k} {v}" for k, v in versions.items()), ""]
    return "\n".join(parts)


def _coloured(text: str) -> str:
    colours = {"✗": "red", "■": "magenta", "?": "yellow", "=": "green"}
    return f"{escape(text[:-1])}[{colours[text[-1]]}]{text[-1]}[/]" if text and text[-1] in colours else escape(text)
