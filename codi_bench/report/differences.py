"""Runs side by side as text: only what differs in the terminal (rich), all of it in Markdown (tabulate)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.markup import escape
from rich.table import Table

from codi_bench.report.console import cell, grid, metric_text, printed, text_console
from codi_bench.report.side_by_side import (
    APPEARED,
    CHANGED,
    GONE,
    MOVED,
    NOISE,
    SAME,
    STATUS,
    UNMEASURED,
    VERDICT,
    Change,
    Comparison,
    NumberInRuns,
    ResultsRun,
)
from codi_bench.report.table import measured_models, number

SIGNS = {MOVED: "▲", CHANGED: "Δ", APPEARED: "+", GONE: "−", NOISE: "~", SAME: "=", UNMEASURED: "–", VERDICT: "⇄"}
COLOURS = {MOVED: "red", CHANGED: "yellow", APPEARED: "cyan", GONE: "magenta", NOISE: "dim", VERDICT: "red"}
LEGEND = "   ".join(f"{sign} {word}" for word, sign in SIGNS.items())
RULES = (
    "Differences are later run minus first run. Right or wrong on the same problems: moved if the exact McNemar p is at most "
    "0.005 / the number of metrics compared and the net change is above 0.5 % of n. Otherwise, with intervals on both sides: "
    "moved if the 95 % interval of the difference (MOVER, the two taken as independent) excludes 0; each such interval stands "
    "alone, not corrected for their number. Changed: no interval, so nothing is said about noise. Same: equal within 1e-6, and "
    "no answer turned where they are paired. A verdict is compared apart from its number."
)


@dataclass(frozen=True)
class DifferenceLine:
    """One difference as text: where (model, claim, metric), first and later value, the difference, words, and why."""

    model: str
    claim: str
    metric: str
    values: tuple[str, str]
    difference: str
    words: tuple[str, ...]
    why: str
    remarks: tuple[str, ...]


def lines(found: Comparison, later: int) -> list[DifferenceLine]:
    """What differs in the later-th run after the first; a model or claim that came or went as a whole is one line."""
    listing = []
    pairs = [(entry, entry.changes[later]) for entry in found.entries]
    pairs = [(entry, change) for entry, change in pairs if change.word != UNMEASURED or change.also]
    for model, model_group in groupby(pairs, key=lambda pair: pair[0].key[1]):
        model_pairs = list(model_group)
        if whole := _whole(model_pairs, model, "all claims", (GONE, APPEARED)):
            listing.append(whole)
            continue
        for claim, claim_group in groupby(model_pairs, key=lambda pair: pair[0].key[0]):
            claim_pairs = list(claim_group)
            whole = _whole(claim_pairs, model, claim, (GONE, APPEARED, STATUS))
            listing += [whole] if whole else [_line(*pair, later) for pair in claim_pairs if pair[1].differs]
    return listing


def _whole(
    pairs: Sequence[tuple[NumberInRuns, Change]], model: str, claim: str, whole_words: Sequence[str]
) -> DifferenceLine | None:
    words = {(change.word, *change.also) for _, change in pairs}
    if len(pairs) < 2 or len(words) > 1 or next(iter(words))[-1] not in whole_words:
        return None
    why = tuple(dict.fromkeys(text for _, change in pairs for text in change.remarks))
    return DifferenceLine(model, claim, f"all {len(pairs)} numbers", ("", ""), "", words.pop(), "", why)


def _line(entry: NumberInRuns, change: Change, later: int) -> DifferenceLine:
    claim, model, metric, protocol = entry.key
    values = number(entry.values[0], entry.unit), number(entry.values[later + 1], entry.unit)
    name = metric_text(metric, protocol, entry.unit, "-")
    words = (change.word, *change.also)
    return DifferenceLine(
        model, claim, name, values, _difference_text(change.difference, entry.unit), words, change.why, change.remarks
    )


def summary(found: Comparison, later: int) -> str:
    """How many numbers got which word; what was measured in neither run is counted apart from what is the same."""
    counts = {word: count for word, count in found.counts(later).items() if count}
    unmeasured = counts.pop(UNMEASURED, 0)
    parts = [f"{count} {word}" for word, count in counts.items()] + [f"{unmeasured} measured in neither"] * bool(unmeasured)
    return f"{found.runs[later + 1].label} against {found.runs[0].label}: {', '.join(parts) or 'no numbers'}"


def facts(run: ResultsRun) -> dict[str, str]:
    """What a header says of a run; what an older file does not say is left out."""
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
    """Only what differs, as text of 100 columns, and counts of the rest."""
    console = text_console(colour=colour)
    for run in found.runs:
        console.print(f"{run.label}: {'; '.join(facts(run).values())}", markup=False)
    for note in found.notes:
        console.print(f"! {note}", markup=False)
    for later, run in enumerate(found.runs[1:]):
        console.print()
        differences = lines(found, later)
        if differences:
            console.print(_table(differences, found.runs[0].label, run.label))
        for line in differences:
            if line.remarks:
                console.print(f"- {line.model}, {line.claim}, {line.metric}: {'; '.join(line.remarks)}", markup=False)
        console.print(summary(found, later), style="bold", markup=False)
    console.print(LEGEND, style="dim")
    return printed(console)


def _table(differences: Sequence[DifferenceLine], first: str, later: str) -> Table:
    table = Table(pad_edge=False, box=None, padding=(0, 1, 0, 0), header_style="bold")
    for head in ("claim, metric", f"{first}\n[95 %]", f"{later}\n[95 %]", "difference\n[95 %]"):
        left = head == "claim, metric"
        table.add_column(escape(head), justify="left" if left else "right", no_wrap=left)
    table.add_column("what", no_wrap=True)
    for model, model_lines in groupby(differences, key=lambda line: line.model):
        table.add_row(f"[bold]{escape(model)}[/]")
        for claim, claim_lines in groupby(model_lines, key=lambda line: line.claim):
            table.add_row(f" {escape(claim)}")
            for line in claim_lines:
                words = "\n".join(
                    f"[{COLOURS.get(word, 'yellow')}]{escape(_signed_word(word))}[/]" for word in _difference_words(line)
                )
                table.add_row(f"  {escape(line.metric)}", *map(escape, line.values), escape(line.difference), words)
    return table


def markdown(found: Comparison) -> str:
    """All of it: runs, notes, for each later run what differs and why, what is the same, and the rules."""
    parts = ["# codi-bench: runs side by side", ""]
    header = {run.label: facts(run) for run in found.runs}
    names = list(dict.fromkeys(name for fields in header.values() for name in fields))
    rows = [[label, *(cell(fields.get(name, "")) for name in names)] for label, fields in header.items()]
    parts += [grid(rows, ["run", *names]), "", *(f"- **{cell(note)}**" for note in found.notes), *[""] * bool(found.notes)]
    for later, run in enumerate(found.runs[1:]):
        parts += [f"## {run.label} against {found.runs[0].label}", "", f"{summary(found, later)}.", ""]
        rows = [
            [
                *map(cell, (line.model, line.claim, line.metric, *line.values, line.difference)),
                ", ".join(map(_signed_word, _difference_words(line))),
                cell("; ".join(filter(None, [line.why, *line.remarks]))),
            ]
            for line in lines(found, later)
        ]
        head = ["model", "claim", "metric", found.runs[0].label, run.label, "difference", "what", "why"]
        parts += [grid(rows, head) if rows else "No number that both have differs.", ""]
        same = [entry.key for entry in found.entries if entry.changes[later].word == SAME and not entry.changes[later].differs]
        for model, keys in groupby(same, key=lambda key: key[1]):
            metrics = ", ".join(f"{claim} {metric} ({protocol})" for claim, _, metric, protocol in keys)
            parts += [cell(f"Same, {model}: {metrics}."), ""]
    return "\n".join([*parts, f"{LEGEND}. {RULES}", ""])


def _difference_words(line: DifferenceLine) -> list[str]:
    """The words of a line that differs; that its number is the same, or nowhere, goes without saying beside another word."""
    return [word for word in line.words if word not in (SAME, UNMEASURED)]


def _signed_word(word: str) -> str:
    return f"{SIGNS.get(word, '!')} {word}"


def _difference_text(difference: dict[str, float] | None, unit: str) -> str:
    """A difference with its sign and interval: rates and drops in points; one too small for its digits keeps one of its own."""
    if difference is None:
        return ""
    scale, digits = (100 if unit == "fraction" else 1), {"auc": 3, "nats": 2, "count": 0}.get(unit, 1)

    def show(x: float) -> str:
        text = f"{scale * x:+.{digits}f}"
        return "0" if x == 0 else f"{scale * x:+.1g}" if float(text) == 0 else text

    low, high = difference.get("low"), difference.get("high")
    return show(difference["value"]) + ("" if low is None or high is None else f" [{show(low)}, {show(high)}]")
