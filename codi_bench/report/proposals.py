"""What `codi-bench baselines diff` prints: proposals against the records, in 100 columns; changes.py decides all of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from rich.markup import escape
from rich.table import Table

from codi_bench.records.baseline import Record, Recorded
from codi_bench.records.changes import Changes, Move
from codi_bench.report.console import printed, text_console

COLOURS = {"DRIFTED": "red", "SAME": "green", "UNCHECKED": "yellow"}
LEGEND = (
    "Noise units: the difference over the tolerance, in the same environment that of a deterministic computation, in another one "
    "the device tolerance; exact: nothing may move; by flips: right then wrong (b) and wrong then right (g) of the same problems "
    "decide, by McNemar. DRIFTED: the suite would be red on this number; a changed input (!) makes it red by itself."
)


def terminal(found: Sequence[Changes], also: Sequence[str] = (), *, everything: bool = False, colour: bool = False) -> str:
    """Proposals by model and claim: inputs that changed, numbers that changed (everything: all of them), and counts of the rest.

    also: lines about what is proposed beside claims.
    """
    console = text_console(colour=colour)
    for text in dict.fromkeys(_environment_text(proposal.proposed) for proposal in found):
        console.print(f"proposed: {text}", markup=False)
    for model, group in groupby(found, key=lambda proposal: proposal.model):
        proposals = list(group)
        sections = [(proposal, moves) for proposal in proposals if (moves := proposal.moves if everything else proposal.listed)]
        inputs = _inputs(proposals)
        if sections or inputs:
            console.print(f"\n[bold]{escape(model)}[/]")
        for text in inputs:
            console.print(f" ! {text}", markup=False)
        for proposal, moves in sections:
            console.print(f"[bold] {escape(proposal.claim)}[/], {escape(_reference_text(proposal))}")
            console.print(_table(proposal, moves))
    for text in also:
        console.print(text, markup=False)
    console.print(f"\n{summary(found)}", style="bold", markup=False)
    if everything or any(proposal.held and proposal.listed for proposal in found):
        console.print(LEGEND, style="dim", markup=False)
    return printed(console)


def summary(found: Sequence[Changes]) -> str:
    """How many numbers got which word, how many verdicts change, and how many are as recorded."""
    moves = [move for proposal in found for move in proposal.moves]
    listed_count = sum(move.listed for move in moves)
    words = Counter(_word(move) for move in moves if move.listed)
    verdicts, inputs = sum(len(proposal.verdicts) for proposal in found), sum(bool(proposal.inputs) for proposal in found)
    text = f"{len(moves)} numbers of {len(found)} claims: {len(moves) - listed_count} as recorded"
    text += "".join(f", {count} {'moved and SAME' if word == 'SAME' else word}" for word, count in words.items())
    return f"{text}; changed verdicts: {verdicts}; claims with changed inputs: {inputs}"


def _inputs(proposals: Sequence[Changes]) -> list[str]:
    """Each changed input of a model once, with the claims that it stands under."""
    claims_of_input: dict[str, list[str]] = {}
    for proposal in proposals:
        for text in proposal.inputs:
            claims_of_input.setdefault(text, []).append(proposal.claim)
    return [
        f"{'all claims' if len(claims) == len(proposals) > 1 else ', '.join(claims)}: {text}"
        for text, claims in claims_of_input.items()
    ]


def _table(proposal: Changes, moves: Sequence[Move]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("   metric", max_width=28)
    for head in ("recorded", "proposed", "difference", "noise units"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("what")
    for move in moves:
        word = _word(move)
        lines = [f"[{COLOURS.get(word.split()[0], 'cyan')}]{escape(word)}[/]", *map(escape, _remarks(move))]
        cells = (f"   {move.metric}", _value(move.old), _value(move.new), _with_sign(move.difference), _units(move, proposal))
        table.add_row(*map(escape, cells), "\n".join(lines))
    return table


def _word(move: Move) -> str:
    if move.old is None:
        return "new" if move.word == "UNCHECKED" else f"{move.word} (appeared)"
    return f"{move.word} (vanished)" if move.new is None else move.word


def _remarks(move: Move) -> list[str]:
    flips, remarks = move.flips, []
    if move.verdict:
        remarks.append(f"verdict {move.verdict}")
    if flips and flips.lost + flips.gained:
        remarks.append(f"flips b {flips.lost}, g {flips.gained} of {flips.n}, p = {flips.p:.2g}")
    remarks += move.also
    if move.word == "DRIFTED" and not remarks and move.difference == 0:
        remarks.append(move.why)
    return remarks


def _reference_text(proposal: Changes) -> str:
    if proposal.held is None:
        return "nothing is recorded yet"
    if proposal.same:
        return f"against the record of this environment ({proposal.held.date})"
    return f"against the nearest record: {_environment_text(proposal.held)} ({proposal.held.date})"


def _environment_text(record: Record) -> str:
    environment = record.environment
    return f"{environment.device}, {environment.instructions}, torch {environment.torch}, {environment.dtype}"


def _value(number: Recorded | None) -> str:
    """Six digits; a count in full."""
    return "–" if number is None else f"{number.value:.{15 if number.value.is_integer() else 6}g}"


def _with_sign(difference: float | None) -> str:
    return "" if difference is None else "0" if difference == 0 else f"{difference:+.4g}"


def _units(move: Move, proposal: Changes) -> str:
    if proposal.held is None or move.difference is None:
        return ""
    if move.units is None:
        return "by flips" if move.flips else "exact"
    return "NaN" if math.isnan(move.units) else f"{move.units:+.3g}" if move.units else "0"
