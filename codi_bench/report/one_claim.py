"""One claim in full, as text: both protocols, every number with its null and the reason for its word, and the command."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from codi_bench.records.results import OK, Row
from codi_bench.report.console import printed, terminal_console
from codi_bench.report.page import provenance, remarks
from codi_bench.report.render import print_table, say
from codi_bench.report.sentences import blocked_or_not_run, winners
from codi_bench.report.table import PROTOCOLS, TableLine, results_table


def claim_text(rows: Sequence[Row], environment: dict, claim: str, models: Sequence[str]) -> str:
    """The rows of one claim on these models, as wide as the terminal; rows of other models give published numbers."""
    console = terminal_console()
    text = (environment.get("claims") or {}).get(claim) or {}
    say(console, f"{claim}: {text.get('sentence') or 'not described in these results'}", style="bold")
    for heading, key in (("source", "source"), ("as published", "protocol"), ("sound", "sound")):
        if text.get(key):
            say(console, f"{heading}: {text[key]}")
    claim_rows, this_claim = [row for row in rows if row.claim == claim], {**environment, "claims": {claim: text}}
    for model in models:
        model_rows = [row for row in claim_rows if row.model == model]
        table = results_table(claim_rows, this_claim, model)
        print_table(console, table)
        console.print()
        for sentence in blocked_or_not_run(model_rows):
            say(console, sentence)
        for line in table.lines:
            _say_why(console, line)
        source = provenance(claim, model, {"devices": {}, "inputs": {}, **environment}, model_rows)
        for heading, fact in source["facts"].items():
            say(console, f"{heading}: {fact}", style="dim")
        say(console, f"measure it again: {source['command']}")
    comparisons = {name: one for name, one in (environment.get("winners") or {}).items() if one["claim"] == claim}
    for sentence in winners({"winners": comparisons}):
        say(console, sentence)
    return printed(console)


def _say_why(console: Console, line: TableLine) -> None:
    """Print the words of one number and the reasons for them; nothing for a number that was not measured."""
    if line.row is None or line.row.status != OK:
        return
    words = " ".join(str(line[head]) for head in ("validity", "reproduction", "regression") if line[head].text)
    protocol = PROTOCOLS.get(line.row.protocol, line.row.protocol)
    say(console, f"{line['metric'].text}, {protocol}: {words}")
    null = ", ".join(filter(None, [line["null"].text, line["null"].note]))
    for heading, text in [("null", null)] * bool(null) + remarks(line.row, line["validity"].note):
        say(console, f"  {heading}: {text}")
