"""The text of `codi-bench baselines diff`: proposals compared with the records, in 100 columns; changes.py decides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from rich.markup import escape

from codi_bench.records.baseline import Record, Recorded
from codi_bench.records.changes import Changes
from codi_bench.records.move import Move
from codi_bench.report.console import printed, terminal_table, text_console
from codi_bench.report.table import Cell, Column, Table, TableLine

COLOURS = {"DRIFTED": "red", "SAME": "green", "UNCHECKED": "yellow", "new": "cyan"}
LEGEND = (
    "Noise units: the difference divided by the tolerance (deterministic in the same environment, the device tolerance in "
    "another). exact: any change counts. by flips: McNemar decides, on the problems that turned from right to wrong (b) and from "
    "wrong to right (g). DRIFTED: this number would make the suite red. !: a changed input, which makes it red by itself."
)
NUMBERS = ("recorded", "proposed", "difference", "noise units")
COLUMNS = (Column("metric"), *(Column(head, "right") for head in NUMBERS), Column("what"))


def terminal(found: Sequence[Changes], also: Sequence[str] = (), *, everything: bool = False, colour: bool = False) -> str:
    """Proposals by model and claim: inputs that changed, numbers that changed (everything: all of them), and counts of the rest.

    also: lines about proposals that belong to no claim.
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
            table = Table(proposal.claim, COLUMNS, tuple(_line(move, proposal) for move in moves))
            heads = {column.head: column.head for column in COLUMNS}
            console.print(terminal_table(table, {**heads, "metric": "   metric"}, COLOURS, wrap=("metric", "what")))
    for text in also:
        console.print(text, markup=False)
    console.print(f"\n{summary(found)}", style="bold", markup=False)
    if everything or any(proposal.held and proposal.listed for proposal in found):
        console.print(LEGEND, style="dim", markup=False)
    return printed(console)


def summary(found: Sequence[Changes]) -> str:
    """The number of numbers by word, of verdicts that change, and of numbers that are as recorded."""
    total, listed = sum(len(proposal.moves) for proposal in found), [move for proposal in found for move in proposal.listed]
    words = Counter(_word(move) for move in listed)
    verdicts, inputs = sum(len(proposal.verdicts) for proposal in found), sum(bool(proposal.inputs) for proposal in found)
    text = f"{total} numbers of {len(found)} claims: {total - len(listed)} as recorded"
    text += "".join(f", {count} {'moved and SAME' if word == 'SAME' else word}" for word, count in words.items())
    return f"{text}; changed verdicts: {verdicts}; claims with changed inputs: {inputs}"


def _inputs(proposals: Sequence[Changes]) -> list[str]:
    """Each changed input of a model once, with its claims."""
    claims_of_input: dict[str, list[str]] = {}
    for proposal in proposals:
        for text in proposal.inputs:
            claims_of_input.setdefault(text, []).append(proposal.claim)
    return [
        f"{'all claims' if len(claims) == len(proposals) > 1 else ', '.join(claims)}: {text}"
        for text, claims in claims_of_input.items()
    ]


def _line(move: Move[Recorded], proposal: Changes) -> TableLine:
    difference = None if move.difference is None else move.difference["value"]
    remarks = list(move.also.values())
    if move.word == "DRIFTED" and not remarks and difference == 0:
        remarks.append(move.why)
    units = ""
    if proposal.held and difference is not None:
        by_tolerance = (
            "" if move.units is None else "NaN" if math.isnan(move.units) else f"{move.units:+.3g}" if move.units else "0"
        )
        units = by_tolerance or ("by flips" if move.flips else "exact")
    with_sign = "" if difference is None else f"{difference:+.4g}" if difference else "0"
    texts = (f"   {move.name}", _value(move.old), _value(move.new), with_sign, units, "\n".join([_word(move), *remarks]))
    return TableLine((), {column.head: Cell(text) for column, text in zip(COLUMNS, texts, strict=True)})


def _word(move: Move[Recorded]) -> str:
    if move.old is None:
        return "new" if move.word == "UNCHECKED" else f"{move.word} (appeared)"
    return f"{move.word} (vanished)" if move.new is None else move.word


def _reference_text(proposal: Changes) -> str:
    if proposal.held is None:
        return "nothing is recorded yet"
    if proposal.same:
        return f"against the record of this environment ({proposal.held.date})"
    return f"against the nearest record: {_environment_text(proposal.held)} ({proposal.held.date})"


def _environment_text(record: Record) -> str:
    return "{device}, {instructions}, torch {torch}, {dtype}".format(**record.environment.model_dump())


def _value(number: Recorded | None) -> str:
    """A value with six digits, a count in full."""
    return "–" if number is None else f"{number.value:.{15 if number.value.is_integer() else 6}g}"
