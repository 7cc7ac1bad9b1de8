"""Runs side by side as text: only differences in the terminal (rich), everything in Markdown (tabulate)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from codi_bench.records.move import VERDICT, Move
from codi_bench.records.results import Number, Row
from codi_bench.report.console import cell, grid, markdown_table, metric_text, printed, terminal_table, text_console
from codi_bench.report.runs import Run
from codi_bench.report.side_by_side import APPEARED, CHANGED, GONE, MOVED, NOISE, SAME, STATUS, UNMEASURED, Comparison
from codi_bench.report.table import Cell, Column, Table, TableLine, measured_models, number, shown_unit

SIGNS = {MOVED: "▲", CHANGED: "Δ", APPEARED: "+", GONE: "−", NOISE: "~", SAME: "=", UNMEASURED: "–", VERDICT: "⇄"}
COLOURS = {
    "▲ moved": "red",
    "⇄ verdict changed": "red",
    "Δ changed": "yellow",
    "+ appeared": "cyan",
    "− gone": "magenta",
    "~ noise": "dim",
    "!": "yellow",
}
LEGEND = "   ".join(f"{sign} {word}" for word, sign in SIGNS.items())
RULES = (
    "Differences are the later run minus the first run. Right or wrong on the same problems: moved if the exact McNemar p is at "
    "most 0.005 / the number of metrics and the net change is above 0.5 % of n. Otherwise, with intervals on both sides: "
    "moved if the 95 % interval of the difference (MOVER, as if the runs were independent) excludes 0; these intervals are not "
    "corrected for their number. Changed: without intervals, noise cannot be judged. Same: equal within 1e-6, and no paired "
    "answer turned. A verdict is compared separately from its number."
)


def differences(found: Comparison, later: int) -> Table:
    """The differences of run `later` + 1 from the first; a model or claim that appeared or went as a whole is one line."""
    lines: list[TableLine] = []
    told = [move for move in found.moves[later] if move.word != UNMEASURED or move.also]
    for model, model_group in groupby(told, key=lambda move: move.key[1]):
        model_moves = list(model_group)
        if _whole(model_moves, (GONE, APPEARED)):
            lines.append(_line((model, "all claims"), model_moves, found, later))
            continue
        for claim, claim_group in groupby(model_moves, key=lambda move: move.key[0]):
            claim_moves = list(claim_group)
            parts = [claim_moves] if _whole(claim_moves, (GONE, APPEARED, STATUS)) else [[m] for m in claim_moves if m.listed]
            lines += [_line((model, claim), moves, found, later) for moves in parts]
    numbers = (Column(head, "right") for head in (found.runs[0].label, found.runs[later + 1].label, "difference"))
    columns = (Column("metric"), *numbers, Column("what"), Column("why", joint="; "))
    return Table(f"{found.runs[later + 1].label} against {found.runs[0].label}", columns, tuple(lines), ("model", "claim"))


def _whole(moves: Sequence[Move[Row]], words: Sequence[str]) -> bool:
    """Do several numbers all have the same one of these words?"""
    fates = {(move.word, *move.also) for move in moves}
    return len(moves) > 1 and len(fates) == 1 and next(iter(fates))[-1] in words


def _line(groups: tuple[str, ...], moves: Sequence[Move[Row]], found: Comparison, later: int) -> TableLine:
    """The line of one number, or of several with the same word."""
    move, labels = moves[0], (found.runs[0].label, found.runs[later + 1].label)
    # "same" or "measured in neither" is not shown beside another word
    words = [f"{SIGNS.get(word, '!')} {word}" for word in (move.word, *move.also) if word not in (SAME, UNMEASURED)]
    whys = dict.fromkeys(each.why for each in moves if each.word in (GONE, APPEARED))
    remarks = "; ".join(filter(None, [*whys, *dict.fromkeys(text for each in moves for text in each.also.values())]))
    why = "" if move.word in (GONE, APPEARED) else move.why
    cells = {"metric": Cell(f"all {len(moves)} numbers"), "what": Cell("\n".join(words)), "why": Cell(why, note=remarks)}
    if len(moves) == 1:
        unit = next((shown_unit(row) for row in (move.old, move.new) if row), "")
        cells["metric"] = Cell(metric_text(*move.key[2:], unit, "-"))
        cells |= {name: Cell(number(row.measured, unit)) for name, row in zip(labels, (move.old, move.new), strict=True) if row}
        cells["difference"] = Cell(_difference_text(move.difference, unit))
    return TableLine(groups, cells)


def summary(found: Comparison, later: int) -> str:
    """The number of numbers by word; those measured in neither run are counted separately."""
    counts = found.counts(later)
    unmeasured = counts.pop(UNMEASURED, 0)
    parts = [f"{count} {word}" for word, count in counts.items()] + [f"{unmeasured} measured in neither"] * bool(unmeasured)
    return f"{found.runs[later + 1].label} against {found.runs[0].label}: {', '.join(parts) or 'no numbers'}"


def facts(run: Run) -> dict[str, str]:
    """The header of a run; facts that an older file does not have are left out."""
    environment = run.environment
    devices = sorted(set((environment.get("devices") or {}).values())) or [environment.get("device") or ""]
    names = ("codi-bench", "torch", "transformers", "scikit-learn", "python")
    header = {
        "date": environment.get("date"),
        "devices": " and ".join(filter(None, [", ".join(devices), environment.get("instructions")])),
        "versions": ", ".join(f"{name} {environment[name]}" for name in names if environment.get(name)),
        "models": ", ".join(measured_models(list(run.rows.values()))) or "nothing was measured",
    }
    return {"file": run.file, **{name: str(text) for name, text in header.items() if text}}


def terminal(found: Comparison, *, colour: bool = False) -> str:
    """Only the differences, as text of 100 columns, and counts of the rest."""
    console = text_console(colour=colour)
    for run in found.runs:
        console.print(f"{run.label}: {'; '.join(facts(run).values())}", markup=False)
    for note in found.notes:
        console.print(f"! {note}", markup=False)
    for later in range(len(found.moves)):
        table = differences(found, later)
        heads = {column.head: f"{column.head}\n[95 %]" for column in table.columns[1:4]}
        console.print()
        if table.lines:
            console.print(terminal_table(table, {"metric": "claim, metric", **heads, "what": "what"}, COLOURS, wrap=list(heads)))
        for line in table.lines:
            if text := line["why"].note:
                console.print(f"- {', '.join(line.groups)}, {line['metric']}: {text}", markup=False)
        console.print(summary(found, later), style="bold", markup=False)
    console.print(LEGEND, style="dim")
    return printed(console)


def markdown(found: Comparison) -> str:
    """Everything: runs, notes, for each later run the differences and reasons, the same numbers, and the rules."""
    header = {run.label: facts(run) for run in found.runs}
    names = list(dict.fromkeys(name for fields in header.values() for name in fields))
    rows = [[label, *(fields.get(name, "") for name in names)] for label, fields in header.items()]
    parts = ["# codi-bench: runs side by side", "", grid(rows, ["run", *names]), ""]
    parts += [*(f"- **{cell(note)}**" for note in found.notes), *[""] * bool(found.notes)]
    for later, moves in enumerate(found.moves):
        table = differences(found, later)
        parts += [f"## {table.title}", "", f"{summary(found, later)}.", ""]
        parts += [markdown_table(table) if table.lines else "No number differs that both runs have.", ""]
        same = [move.key for move in moves if move.word == SAME and not move.listed]
        for model, keys in groupby(same, key=lambda key: key[1]):
            metrics = ", ".join(f"{claim} {metric} ({protocol})" for claim, _, metric, protocol in keys)
            parts += [cell(f"Same, {model}: {metrics}."), ""]
    return "\n".join([*parts, f"{LEGEND}. {RULES}", ""])


def _difference_text(difference: Number | None, unit: str) -> str:
    """A difference with its sign and interval: rates and drops in points; a small one keeps a significant digit."""
    if difference is None or (value := difference["value"]) is None:
        return ""
    scale, digits = (100 if unit == "fraction" else 1), {"auc": 3, "nats": 2, "count": 0}.get(unit, 1)

    def show(x: float) -> str:
        text = f"{scale * x:+.{digits}f}"
        return "0" if x == 0 else f"{scale * x:+.1g}" if float(text) == 0 else text

    low, high = difference.get("low"), difference.get("high")
    return show(value) + ("" if low is None or high is None else f" [{show(low)}, {show(high)}]")
