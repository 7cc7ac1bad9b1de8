"""A history as text and figures: numbers that moved in the terminal (rich) and in Markdown (tabulate), everything as CSV."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from codi_bench.records.move import VERDICT
from codi_bench.records.results import finite
from codi_bench.report.console import cell, grid, markdown_table, metric_text, printed, terminal_table, text_console
from codi_bench.report.figures import LETTERS, Figure, write_figures
from codi_bench.report.history import BLOCKS, DRIFTED, EARLIER, GONE, MOVED, STEADY, History, Point, ToleranceBand, Track
from codi_bench.report.plots import BAND, INK, MIDDLE, STYLES, picture
from codi_bench.report.runs import Run, shown_word
from codi_bench.report.table import Cell, Column, Table, TableLine, number
from codi_bench.store.files import write_text

FILES = ("history.md", "history.csv")
SHOWN, RECENT = 40, 3
FIGURES, PANELS = 10, 12  # at most, what moved first; more would not be looked at
SIGNS = {DRIFTED: "✗", EARLIER: "✗", BLOCKS: "■", VERDICT: "⇄", MOVED: "▲", GONE: "–", STEADY: "="}
COLOURS = {"✗ DRIFTED": "red", "■ blocked": "magenta", "⇄ verdict": "red", "▲ moved": "yellow", "– not in the last run": "dim"}
COLUMNS = (
    *(Column("metric"), Column("first", "right"), Column("last", "right"), Column("recorded ± tolerance", "right")),
    Column("what"),
)
HEADS = {"metric": "claim, metric", "first": "first", "last": "last"}
HEADS |= {"recorded ± tolerance": "recorded\n± tolerance", "what": "what"}
RULES = (
    "recorded ± tolerance: the record that runs of that environment were compared with, and how far a number may lie from it. "
    "(McNemar): answers are compared one by one; within the tolerance a number never DRIFTED, beyond it the exact test decides. "
    "A run with other weights, problems, options, protocol or n breaks the line and is not a move. Verdicts are followed "
    "separately from numbers."
)


FIELDS = (
    *("claim", "model", "metric", "protocol", "unit", "run", "date", "file", "status", "value", "low", "high", "n", "recorded"),
    *("tolerance", "regression", "validity", "fragile", "break", "reason", "weights", "problems"),
)


def write_history(found: History, folder: Path) -> list[Path]:
    """history.md, history.csv and figures/history-*.svg|png below a folder, each whole or not at all."""
    drawings = figures(found)
    page, table = (folder / name for name in FILES)
    write_text(page, markdown(found, drawings))
    write_text(table, csv_text(found))
    return [page, table, *write_figures(drawings, folder)]


def summary(found: History) -> str:
    """The number of runs, the first and the last, and the number of numbers by word."""
    first, last = found.runs[0].label, found.runs[-1].label
    runs = f"{len(found.runs)} runs, {first} to {last}" if len(found.runs) > 1 else f"1 run, {first}"
    counts = [f"{count} {word}" for word, count in found.counts.items()]
    never = [f"{found.never} never measured"] if found.never else []
    return f"{runs}; {len(found.tracks)} numbers: {', '.join(counts) or 'none'}{''.join(f'; {text}' for text in never)}"


def terminal(found: History, *, colour: bool = False) -> str:
    """The numbers that are not steady, as text of 100 columns, and counts of the rest."""
    console, tracks = text_console(colour=colour), moving(found)
    console.print(summary(found), style="bold", markup=False)
    for note in found.notes:
        console.print(f"! {note}", markup=False)
    if tracks:
        table = _table(tracks[:SHOWN], found)
        console.print(terminal_table(table, HEADS, COLOURS, wrap=("metric", "recorded ± tolerance", "what")))
    if len(tracks) > SHOWN:
        console.print(f"and {len(tracks) - SHOWN} more, in history.md")
    return printed(console)


def moving(found: History) -> list[Track]:
    """The numbers that are not steady; those that moved come first."""
    return sorted((track for track in found.tracks if track.word != STEADY), key=lambda track: track.rank)


def _table(tracks: Sequence[Track], found: History) -> Table:
    """A table: first and last measured value, the last band, and the events."""
    lines = []
    for track in tracks:
        texts = (_metric(track), *_numbers(track), track_sentence(track, found))
        cells = {column.head: Cell(text) for column, text in zip(COLUMNS, texts, strict=True)}
        lines.append(TableLine((track.key[1], track.key[0]), cells))
    return Table("history", COLUMNS, tuple(lines), ("model", "claim"))


def _metric(track: Track) -> str:
    return metric_text(*track.key[2:], track.unit, "all of it")


def _where(track: Track) -> str:
    return f"{track.key[1]}, {track.key[0]}, {_metric(track)}"


def _numbers(track: Track) -> tuple[str, str, str]:
    """First and last measured value, and the last band."""
    first, last = [_value(point, track) for point in track.measured[:1] + track.measured[-1:]] or ["", ""]
    bands = [point.band for point in track.measured if point.band]
    return first, last, band_text(bands[-1], track.unit) if bands else ""


def _value(point: Point, track: Track) -> str:
    return number({"value": point.value}, track.unit)


def band_text(band: ToleranceBand, unit: str) -> str:
    """A band such as 51.6 ± 0.5; a small tolerance keeps a significant digit."""
    width = number({"value": band.tolerance}, unit)
    if not float(re.sub(r"[^\d.].*", "", width) or 0):
        width = f"{band.tolerance * (100 if unit == 'fraction' else 1):.0g}"
    return f"{number({'value': band.recorded}, unit)} ± {width}{'' if band.decides else ' (McNemar)'}"


def track_sentence(track: Track, found: History) -> str:
    """The events of a number, one clause per kind, with the days of the latest."""
    parts = []

    def latest(texts: Sequence[tuple[str, int]]) -> str:
        told = [f"{text} ({found.runs[at].label})" for text, at in texts[-RECENT:]]
        return ", ".join(told) + (f", and {len(texts) - RECENT} times before" if len(texts) > RECENT else "")

    def steps(word: str, shown: Callable[[Point], str]) -> list[tuple[str, int]]:
        return [(f"{shown(move.old)} → {shown(move.new)}", move.new.at) for move in track.of_word(word) if move.old and move.new]

    if track.drifted:
        days = " to ".join(dict.fromkeys(found.runs[track.drifted[i].at].label for i in (0, -1)))
        end = "" if track.word == DRIFTED else ", not in the last"
        parts.append(f"{SIGNS[DRIFTED]} DRIFTED in {len(track.drifted)} of {len(track.points)} runs ({days}){end}")
    if track.word in (BLOCKS, GONE):
        parts.append(f"{SIGNS[track.word]} {track.word}: {track.points[-1].reason or 'not measured'}")
    if turns := steps(VERDICT, _verdict):
        parts.append(f"{SIGNS[VERDICT]} verdict {latest(turns)}")
    if moves := steps(MOVED, lambda point: _value(point, track)):
        parts.append(f"{SIGNS[MOVED]} moved {latest(moves)}")
    if track.breaks:
        parts.append(f"┆ {latest([(why, at) for at, why in track.breaks.items()])}")
    return "; ".join(parts) or f"{SIGNS[STEADY]} {STEADY}"


def _verdict(point: Point) -> str:
    assert point.row is not None
    return f"{shown_word(point.row.validity)}{'*' if point.row.detail['fragile'] else ''}"


def markdown(found: History, drawn: Sequence[Figure] = ()) -> str:
    """The moves and their days, the figures with text alternatives, the names of steady numbers, and the runs."""
    parts = ["# codi-bench: history", "", f"{summary(found)}.", "", *(f"- **{cell(note)}**" for note in found.notes)]
    tracks = moving(found)
    parts += [*[""] * bool(found.notes), markdown_table(_table(tracks, found)) if tracks else "Nothing moved.", ""]
    for figure in drawn:
        alt = re.sub(r"([\[\]])", r"\\\1", cell(figure.alt))
        parts += [f"![{alt}](figures/{figure.name}.svg)", "", cell(figure.caption), ""]
    steady = [track for track in found.tracks if track.word == STEADY]
    for model, group in groupby(steady, key=lambda track: track.key[1]):
        parts += [cell(f"Steady, {model}: {', '.join(f'{track.key[0]} {_metric(track)}' for track in group)}."), ""]
    runs = [[run.label, run.file, str(run.environment.get("device", ""))] for run in found.runs]
    return "\n".join([*parts, RULES, "", "## Runs", "", grid(runs, ["run", "file", "device"]), ""])


def csv_text(found: History) -> str:
    """One line for each number and run, in the units of results.json, with times in UTC; missing values are empty."""
    from pandas import DataFrame

    lines = [_csv_line(track, point, found.runs[point.at]) for track in found.tracks for point in track.points]
    return DataFrame(lines, columns=list(FIELDS), dtype=object).to_csv(index=False, lineterminator="\n")


def _csv_line(track: Track, point: Point, run: Run) -> list[object]:
    row, band, inputs = point.row, point.band, point.inputs or {}
    measured = (row.measured or {}) if row and point.is_measured else {}
    date = run.date.isoformat() if run.date else ""
    line: list[object] = [*track.key, track.unit, point.at + 1, date, run.file, row.status if row else ""]
    line += [*(finite(measured.get(end)) for end in ("value", "low", "high")), row.n if row else None]
    line += [band.recorded if band else None, band.tolerance if band else None]
    line += [row.regression, row.validity, int(row.detail["fragile"])] if row else ["UNCHECKED", None, 0]
    return [*line, track.breaks.get(point.at, ""), point.reason, inputs.get("weights"), inputs.get("problems")]


def figures(found: History) -> list[Figure]:
    """One figure per family of claims, at most ten, each with at most twelve numbers; those that moved come first."""
    families: dict[str, list[Track]] = {}
    for track in sorted((track for track in found.tracks if track.measured), key=lambda track: track.rank):
        families.setdefault(track.family, []).append(track)
    return [_figure(name, tracks, found) for name, tracks in list(families.items())[:FIGURES]]


def _figure(family: str, tracks: Sequence[Track], history: History) -> Figure:
    panels, movers = tracks[:PANELS], [track for track in tracks if track.word != STEADY]
    events = [f"{_where(track)}: {track_sentence(track, history)}" for track in movers[:2]]
    rest = [f"and {len(movers) - 2} more"] if len(movers) > 2 else []
    finding = ". ".join([*events, *rest]) or f"all {len(tracks)} numbers steady"
    title = f"{family}, {len(history.runs)} runs: {finding}."
    caption = f"{len(panels)} of {len(tracks)} numbers over the runs; those that moved come first. {RULES}"
    alt = " ".join([title, *(_panel_text(track, history) for track in panels)])
    name = "history-" + (re.sub(r"[^a-z0-9]+", "-", family.lower()).strip("-") or "other")
    lines = textwrap.wrap(title, LETTERS)
    height = 0.6 + 1.25 * -(-len(panels) // 2) + 0.145 * len(lines)
    pictures = picture(name, "\n".join(lines), height, lambda figure: _draw(figure, panels, history), alt)
    return Figure(name, title, caption, alt, *pictures)


def _panel_text(track: Track, history: History) -> str:
    """A summary of a panel for screen readers: nobody would listen to a hundred points."""
    values = [point.value for point in track.measured]
    first, last, band = _numbers(track)
    low, high = (number({"value": end}, track.unit) for end in (min(values), max(values)))
    within = f", recorded {band}" if band else ", nothing recorded"
    span = f"{len(values)} numbers from {first} to {last}, lowest {low}, highest {high}"
    return f"{_where(track)}: {span}{within}; {track_sentence(track, history)}."


def _draw(figure, tracks: Sequence[Track], history: History) -> None:
    """Small panels, two per row: a line that breaks where inputs changed, the band, and crosses where it DRIFTED."""
    rows, labels = -(-len(tracks) // 2), [run.label for run in history.runs]
    handles: dict[str, object] = {}
    ticks = sorted({0, (len(labels) - 1) // 2, len(labels) - 1}) if len(labels) < 40 else [0, len(labels) - 1]
    all_axes = figure.subplots(rows, 2, squeeze=False).flat
    for i, axes in enumerate(all_axes):
        if i >= len(tracks):
            axes.set_axis_off()
            continue
        _panel(axes, tracks[i])
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.set_xticks(ticks, [textwrap.shorten(labels[at], 16, placeholder="…") or f"run {at + 1}" for at in ticks])
        axes.tick_params(axis="x", labelbottom=i >= len(tracks) - 2)
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=3)


def _panel(axes, track: Track) -> None:
    scale, title = 100 if track.unit == "fraction" else 1, f"{track.key[1]}, {track.key[0]}: {_metric(track)}"
    axes.set_title(textwrap.fill(title, 50))
    axes.grid(axis="y")
    points = track.measured
    ends = [end for p in points for end in ((p.value,) if p.band is None else (p.value, *p.band.ends))]
    floor = {"fraction": 0.01, "auc": 0.01, "nats": 0.01, "points": 1}.get(track.unit, 0.05 * max(map(abs, ends)) or 1)
    room = max(0.15 * (max(ends) - min(ends)), floor)
    axes.set_ylim(scale * (min(ends) - room), scale * (max(ends) + room))
    axes.ticklabel_format(axis="y", useOffset=False)
    for (band, _), band_points in groupby([p for p in points if p.band], key=lambda p: (p.band, _segment(p, track))):
        at, (low, high) = [p.at for p in band_points], band.ends
        across = [at[0] - 0.5, at[-1] + 0.5]
        axes.fill_between(across, scale * low, scale * high, color=BAND, linewidth=0, label="recorded ± tolerance")
        axes.plot(across, [scale * band.recorded] * 2, color=MIDDLE, linewidth=2.5, label="recorded")
    for _, group in groupby(points, key=lambda p: _segment(p, track)):
        segment = list(group)
        style = {"color": STYLES[0][0], "marker": ".", "markersize": 3, "linewidth": 1}
        axes.plot([p.at for p in segment], [scale * p.value for p in segment], label="measured", **style)
    for run in track.breaks:
        axes.axvline(run - 0.5, color=INK, linestyle=":", linewidth=1, label="other weights, problems, options, protocol or n")
    marks = {
        "DRIFTED": ("X", STYLES[3][0], 6, track.drifted),
        "verdict changed": ("D", "none", 7, [move.new for move in track.of_word(VERDICT) if move.new]),
    }
    for label, (marker, face, size, events) in marks.items():
        if dots := [p for p in events if p.is_measured]:
            style = {"marker": marker, "markersize": size, "markerfacecolor": face, "markeredgecolor": INK, "linestyle": "none"}
            axes.plot([p.at for p in dots], [scale * p.value for p in dots], label=label, zorder=4, **style)


def _segment(point: Point, track: Track) -> int:
    """The number of breaks before or at a point."""
    return sum(at <= point.at for at in track.breaks)
