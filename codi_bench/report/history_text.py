"""A history as text and pictures: what moved in the terminal (rich) and in Markdown (tabulate), all of it as CSV and figures."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from codi_bench.report.console import cell, grid, metric_text, printed, text_console
from codi_bench.report.figures import LETTERS, Figure, write_figures
from codi_bench.report.history import BLOCKS, DRIFTED, EARLIER, GONE, MOVED, STEADY, VERDICT, History, Point, ToleranceBand, Track
from codi_bench.report.plots import BAND, INK, MIDDLE, STYLES, picture
from codi_bench.report.table import WORDS, number
from codi_bench.store.files import write_text

SHOWN, RECENT = 40, 3
FIGURES, PANELS = 10, 12  # at most, what moved first; more would not be looked at
SIGNS = {DRIFTED: "✗", EARLIER: "✗", BLOCKS: "■", VERDICT: "⇄", MOVED: "▲", GONE: "–", STEADY: "="}
COLOURS = {DRIFTED: "bold red", EARLIER: "red", BLOCKS: "magenta", VERDICT: "red", MOVED: "yellow", GONE: "dim"}
RULES = (
    "recorded ± tolerance: what a run of that environment was compared with, and how far a number may lie from it; (McNemar): "
    "answers are compared one by one: below it never DRIFTED, beyond it where the exact test says so. Runs of other weights, "
    "problems, options, protocol or n are a break in the line, not a move. Verdicts and numbers are followed apart."
)
FIELDS = (
    *("claim", "model", "metric", "protocol", "unit", "run", "date", "file", "status", "value", "low", "high", "n", "recorded"),
    *("tolerance", "regression", "validity", "fragile", "break", "reason", "weights", "problems"),
)


def write_history(found: History, folder: Path) -> list[Path]:
    """history.md, history.csv and figures/history-*.svg|png below a folder, each whole or not at all."""
    drawings = figures(found)
    write_text(folder / "history.md", markdown(found, drawings))
    write_text(folder / "history.csv", csv_text(found))
    return [folder / "history.md", folder / "history.csv", *write_figures(drawings, folder)]


def summary(found: History) -> str:
    """How many runs, from when to when, and how many numbers got which word."""
    first, last = found.nights[0].label, found.nights[-1].label
    runs = f"{len(found.nights)} runs, {first} to {last}" if len(found.nights) > 1 else f"1 run, {first}"
    counts = [f"{count} {word}" for word, count in found.counts.items()]
    never = [f"{found.never} never measured"] if found.never else []
    return f"{runs}; {len(found.tracks)} numbers: {', '.join(counts) or 'none'}{''.join(f'; {text}' for text in never)}"


def terminal(found: History, *, colour: bool = False) -> str:
    """What is not steady, as text of 100 columns, and counts of the rest."""
    console = text_console(colour=colour)
    console.print(summary(found), style="bold", markup=False)
    for note in found.notes:
        console.print(f"! {note}", markup=False)
    tracks = moving(found)
    if tracks:
        console.print(_table(tracks[:SHOWN], found))
    if len(tracks) > SHOWN:
        console.print(f"and {len(tracks) - SHOWN} more, in history.md")
    return printed(console)


def moving(found: History) -> list[Track]:
    """The numbers that are not steady, what moved first."""
    return sorted((track for track in found.tracks if track.word != STEADY), key=lambda track: track.rank)


def _table(tracks: Sequence[Track], history: History) -> Table:
    table = Table(pad_edge=False, box=None, padding=(0, 1, 0, 0), header_style="bold")
    for head in ("claim, metric", "first", "last", "recorded\n± tolerance", "what"):
        table.add_column(
            head, justify="left" if head in ("claim, metric", "what") else "right", no_wrap=head in ("first", "last")
        )
    for track in tracks:
        claim, model, _, _ = track.key
        style = COLOURS.get(track.word, "")
        text = escape(track_sentence(track, history))
        name = f"{escape(model)} {escape(claim)}\n  {escape(_metric(track))}"
        table.add_row(name, *map(escape, _numbers(track)), f"[{style}]{text}[/]" if style else text)
    return table


def _metric(track: Track) -> str:
    _, _, metric, protocol = track.key
    return metric_text(metric, protocol, track.unit, "all of it")


def _numbers(track: Track) -> tuple[str, str, str]:
    """First and last measured value, and the last band."""
    ends = [track.measured[0], track.measured[-1]] if track.measured else []
    first, last = [number({"value": point.value}, track.unit) for point in ends] or ["", ""]
    bands = [point.band for point in track.measured if point.band]
    return first, last, band_text(bands[-1], track.unit) if bands else ""


def band_text(band: ToleranceBand, unit: str) -> str:
    """51.6 ± 0.5; a tolerance that the digits do not show keeps one of its own."""
    width = number({"value": band.tolerance}, unit)
    if not float(re.sub(r"[^\d.].*", "", width) or 0):
        width = f"{band.tolerance * (100 if unit == 'fraction' else 1):.0g}"
    return f"{number({'value': band.recorded}, unit)} ± {width}{'' if band.decides else ' (McNemar)'}"


def track_sentence(track: Track, found: History) -> str:
    """What happened to a number, as one sentence a kind of event, the latest events of each with their days."""
    parts = []
    if track.drifted:
        days = _days(track.drifted, found)
        end = "" if track.word == DRIFTED else ", not in the last"
        parts.append(f"{SIGNS[DRIFTED]} DRIFTED in {len(track.drifted)} of {len(track.points)} runs ({days}){end}")
    if track.word in (BLOCKS, GONE):
        last = track.points[-1]
        parts.append(f"{SIGNS[track.word]} {track.word}: {last.why or 'not measured'}")
    if track.turns:
        turns = [f"{_word(old)} → {_word(new)} ({found.nights[new.at].label})" for old, new in track.turns]
        parts.append(f"{SIGNS[VERDICT]} verdict {_latest(turns)}")
    if track.moves:
        steps = [
            (*(number({"value": p.value}, track.unit) for p in pair), found.nights[pair[1].at].label) for pair in track.moves
        ]
        moves = [f"{old} → {new} ({label})" for old, new, label in steps]
        parts.append(f"{SIGNS[MOVED]} moved {_latest(moves)}")
    if track.breaks:
        parts.append(f"┆ {_latest([f'{point.broken} ({found.nights[point.at].label})' for point in track.breaks])}")
    return "; ".join(parts) or f"{SIGNS[STEADY]} {STEADY}"


def _days(points: Sequence[Point], history: History) -> str:
    labels = [history.nights[point.at].label for point in points]
    return labels[0] if len(labels) == 1 else f"{labels[0]} to {labels[-1]}"


def _latest(texts: Sequence[str]) -> str:
    earlier = f", and {len(texts) - RECENT} times before" if len(texts) > RECENT else ""
    return ", ".join(texts[-RECENT:]) + earlier


def _word(point: Point) -> str:
    text = f"{WORDS.get(point.validity, '')} {point.validity}".strip() if point.validity else "no word"
    return f"{text}*" if point.fragile else text


def markdown(found: History, drawn: Sequence[Figure] = ()) -> str:
    """What moved and when, the figures with their text alternatives, what is steady by name, and the runs."""
    parts = ["# codi-bench: history", "", f"{summary(found)}.", "", *(f"- **{cell(note)}**" for note in found.notes)]
    parts += [""] * bool(found.notes)
    rows = [
        [*map(cell, (track.key[1], track.key[0], _metric(track), *_numbers(track), track_sentence(track, found)))]
        for track in moving(found)
    ]
    head = ["model", "claim", "metric", "first", "last", "recorded ± tolerance", "what"]
    parts += [grid(rows, head) if rows else "Nothing moved.", ""]
    for figure in drawn:
        alt = re.sub(r"([\[\]])", r"\\\1", cell(figure.alt))
        parts += [f"![{alt}](figures/{figure.name}.svg)", "", cell(figure.caption), ""]
    steady = [track for track in found.tracks if track.word == STEADY]
    for model, tracks in groupby(steady, key=lambda track: track.key[1]):
        parts += [cell(f"Steady, {model}: {', '.join(f'{track.key[0]} {_metric(track)}' for track in tracks)}."), ""]
    runs = [
        [cell(str(text)) for text in (night.label, night.file, night.environment.get("device", ""))] for night in found.nights
    ]
    return "\n".join([*parts, RULES, "", "## Runs", "", grid(runs, ["run", "file", "device"]), ""])


def csv_text(found: History) -> str:
    """A line a number and run, in the units of results.json, times in UTC; empty where there is nothing."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(FIELDS)
    for track in found.tracks:
        for point in track.points:
            night, band = found.nights[point.at], point.band
            date = night.date.isoformat() if night.date else ""
            cells = [
                *track.key,
                track.unit,
                point.at + 1,
                date,
                night.file,
                point.status,
                point.value,
                point.low,
                point.high,
                point.n,
            ]
            cells += [band.recorded if band else None, band.tolerance if band else None, point.regression, point.validity]
            cells += [int(point.fragile), point.broken, point.why, point.inputs.get("weights"), point.inputs.get("problems")]
            table.writerow(cells)
    return out.getvalue()


def figures(found: History) -> list[Figure]:
    """One figure a family of claims, at most ten, each with at most twelve numbers: what moved first."""
    families: dict[str, list[Track]] = {}
    for track in sorted((track for track in found.tracks if track.measured), key=lambda track: track.rank):
        families.setdefault(track.family, []).append(track)
    return [_figure(name, tracks, found) for name, tracks in list(families.items())[:FIGURES]]


def _figure(family: str, tracks: Sequence[Track], history: History) -> Figure:
    panels, movers = tracks[:PANELS], [track for track in tracks if track.word != STEADY]
    events = [f"{track.key[1]}, {track.key[0]}, {_metric(track)}: {track_sentence(track, history)}" for track in movers[:2]]
    rest = [f"and {len(movers) - 2} more"] if len(movers) > 2 else []
    finding = ". ".join([*events, *rest]) or f"all {len(tracks)} numbers steady"
    title = f"{family}, {len(history.nights)} runs: {finding}."
    caption = f"{len(panels)} of {len(tracks)} numbers over the runs, what moved first. {RULES}"
    alt = " ".join([title, *(_panel_text(track, history) for track in panels)])
    name = "history-" + (re.sub(r"[^a-z0-9]+", "-", family.lower()).strip("-") or "other")
    lines = textwrap.wrap(title, LETTERS)
    height = 0.6 + 1.25 * -(-len(panels) // 2) + 0.145 * len(lines)
    pictures = picture(name, "\n".join(lines), height, lambda figure: _draw(figure, panels, history), alt)
    return Figure(name, title, caption, alt, *pictures)


def _panel_text(track: Track, history: History) -> str:
    """The numbers of a panel as text: a hundred points would not be listened to."""
    values = [point.number for point in track.measured]
    first, last, band = _numbers(track)
    low, high = (number({"value": end}, track.unit) for end in (min(values), max(values)))
    within = f", recorded {band}" if band else ", nothing recorded"
    where = f"{track.key[1]}, {track.key[0]}, {_metric(track)}"
    span = f"{len(values)} numbers from {first} to {last}, lowest {low}, highest {high}"
    return f"{where}: {span}{within}; {track_sentence(track, history)}."


def _draw(figure, tracks: Sequence[Track], history: History) -> None:
    """Small panels, two a row: the line broken where the inputs changed, the band behind it, crosses where it DRIFTED."""
    rows, labels = -(-len(tracks) // 2), [night.label for night in history.nights]
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
    ends = [end for p in points for end in ((p.number,) if p.band is None else (p.number, *_edges(p.band)))]
    floor = {"fraction": 0.01, "auc": 0.01, "nats": 0.01, "points": 1}.get(track.unit, 0.05 * max(map(abs, ends)) or 1)
    room = max(0.15 * (max(ends) - min(ends)), floor)
    axes.set_ylim(scale * (min(ends) - room), scale * (max(ends) + room))
    axes.ticklabel_format(axis="y", useOffset=False)
    for (band, _), band_points in groupby([p for p in points if p.band], key=lambda p: (p.band, _segment(p, track))):
        at, (low, high) = [p.at for p in band_points], _edges(band)
        across = [at[0] - 0.5, at[-1] + 0.5]
        axes.fill_between(across, scale * low, scale * high, color=BAND, linewidth=0, label="recorded ± tolerance")
        axes.plot(across, [scale * band.recorded] * 2, color=MIDDLE, linewidth=2.5, label="recorded")
    for _, group in groupby(points, key=lambda p: _segment(p, track)):
        segment = list(group)
        style = {"color": STYLES[0][0], "marker": ".", "markersize": 3, "linewidth": 1}
        axes.plot([p.at for p in segment], [scale * p.number for p in segment], label="measured", **style)
    for point in track.breaks:
        axes.axvline(
            point.at - 0.5, color=INK, linestyle=":", linewidth=1, label="other weights, problems, options, protocol or n"
        )
    marks = {
        "DRIFTED": ("X", STYLES[3][0], 6, track.drifted),
        "verdict changed": ("D", "none", 7, [new for _, new in track.turns]),
    }
    for label, (marker, face, size, events) in marks.items():
        dots = [p for p in events if p.value is not None]
        if dots:
            style = {"marker": marker, "markersize": size, "markerfacecolor": face, "markeredgecolor": INK, "linestyle": "none"}
            axes.plot([p.at for p in dots], [scale * p.number for p in dots], label=label, zorder=4, **style)


def _segment(point: Point, track: Track) -> int:
    """How many breaks lie before or at a point."""
    return sum(break_point.at <= point.at for break_point in track.breaks)


def _edges(band: ToleranceBand) -> tuple[float, float]:
    return band.recorded - band.tolerance, band.recorded + band.tolerance
