"""Pictures of panels of numbers: dots with intervals, bars, curves, heatmaps. Knows how to draw, not what it means.

Colours are Okabe-Ito and cividis; markers, hatches and grey levels differ as well, so that no colour has to be seen.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

from codi_bench.report.figure_data import Mark, Panel, Series, number_text

WIDTH, DPI = 7.0, 160  # inches, the text width of a page; 8 pt is the smallest letter
INK, BAND, MIDDLE = "#222222", "#DEDEDE", "#B4B4B4"
LETTERS = 104  # of 8 pt in that width
# colour, marker, hatch, dashes: by the place of a series in its panel
STYLES = (
    ("#0072B2", "o", "", "-"),
    ("#E69F00", "s", "////", "--"),
    ("#56B4E9", "^", "", "-."),
    ("#D55E00", "v", "xxxx", ":"),
    ("#F0E442", "P", "----", "--"),
    ("#000000", "D", "", "-"),
)
FONT = "'DejaVu Sans', Verdana, sans-serif"
PAIR = (  # what was published, real labels, permuted labels
    {"marker": "D", "color": INK, "markerfacecolor": "white"},
    {"marker": "o", "color": "#0072B2", "linewidth": 2},
    {"marker": "s", "color": "#8A8A8A", "markerfacecolor": "white", "markeredgecolor": INK, "linewidth": 4},
)
RC: dict[Any, object] = {  # Any: matplotlib types its keys as literals, other ones in every release
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "grid.color": "#E6E6E6",
    "hatch.linewidth": 0.5,
    "text.parse_math": False,  # a $ in a model's name is a dollar
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
}


def picture(name: str, title: str, height: float, draw: Callable, alt: str, size: float = 8.5) -> tuple[str, bytes]:
    """`draw(figure)` under a title as SVG to be inlined (ids begin with the name, no size of its own) and as PNG.

    size: of the title's letters, in points.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context({**RC, "svg.hashsalt": name}):
        figure = Figure((WIDTH, height), facecolor="white", layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06))
        figure.suptitle(title, x=0.01, ha="left", fontsize=size, fontweight="bold", color=INK)
        draw(figure)
        text, image = io.StringIO(), io.BytesIO()
        # straight to the canvas: savefig would draw everything once more for its layout
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # what was laid out for the one stands for the other
        figure.dpi = DPI
        FigureCanvasAgg(figure).print_png(image, metadata={"Software": None})
    return _inline(text.getvalue(), f"figure-{name}", alt), image.getvalue()


def _inline(svg: str, prefix: str, alt: str) -> str:
    """Without prolog, metadata and size, at two thirds of the length; ids and rules cannot meet another picture's in a page."""
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r'\sid="([^"]*)"', lambda match: f' id="{prefix}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"( ?font-family:)[^;\"]*;?", "", svg)
    svg = svg.replace("*{", f"#{prefix} *{{font-family: {FONT}; ", 1)
    svg = re.sub(r'\b(?:d|x|y|width|height|transform)="[^"]*"', _short, svg)
    svg = re.sub(r"\s*<g/>", "", svg)
    svg = re.sub(r">\s+<", ">\n<", svg)
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f'{head} id="{prefix}" role="img" aria-label="{escape(alt)}">{rest}'.rstrip()


def _short(attribute: re.Match) -> str:
    """Places to a hundredth of a point, and paths on one line."""
    text = re.sub(r"-?\d+\.\d+", lambda match: f"{round(float(match[0]), 2) + 0.0:g}", " ".join(attribute[0].split()))
    return re.sub(r" ?([A-Za-z]) ", r"\1", text) if text.startswith("d=") else text


def dots(figure, panels: Sequence[Panel], columns: int = 1) -> None:
    """A place a row, numbers along: intervals, null bands behind them, number and word at the right edge."""
    rows = -(-len(panels) // columns)
    ratios = [max(len(panel.places) for panel in panels[i * columns : (i + 1) * columns]) + 0.6 for i in range(rows)]
    # in columns the same is measured of several models
    all_axes = figure.subplots(rows, columns, squeeze=False, height_ratios=ratios, sharex="col" if columns > 1 else False).flat
    for i, (axes, panel) in enumerate(zip(all_axes, panels, strict=True)):
        axes.set(title=panel.title, xlabel=panel.axis, ylim=(len(panel.places) - 0.5, -0.5))
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelbottom=True)
        axes.set_yticks(range(len(panel.places)), panel.places if i % columns == 0 else [""] * len(panel.places))
        if panel.band:
            _band(axes, panel.band, (len(panel.places) - 1) / 2, len(panel.places))
        for label, value in panel.levels:
            axes.axvline(value, color=INK, linewidth=1, label=label)
        for j, series, places, marks in _points(panel):
            for at, mark in zip(places, marks, strict=True):
                if mark.band:
                    _band(axes, mark.band, at, 0.72)
                text = f"{mark.text or number_text(mark.value, panel.unit)}\N{NO-BREAK SPACE} {mark.word}"
                axes.text(1.02, at, text.rstrip(), transform=axes.get_yaxis_transform(), va="center")
            style = _marker(j, series.hollow) | {"markersize": 6, "capsize": 2.5}
            axes.errorbar([mark.value for mark in marks], places, xerr=_ends(marks), zorder=3, **style)
    _legend(figure)


def pairs(figure, panels: Sequence[Panel]) -> None:
    """Panels side by side, on one scale: at each place a line a series that has a mark there in any, named once at the left."""
    lines = [
        (place, j)
        for place in range(len(panels[0].places))
        for j in range(len(panels[0].series))
        if any(panel.series[j].marks[place] for panel in panels)
    ]
    single = {place for place, _ in lines if [each for each, _ in lines].count(place) == 1}
    heights, y = {}, 0.0
    for i, (place, j) in enumerate(lines):
        # a place with several lines has a line of its own for its name
        y += 1.0 if i and (place in single or lines[i - 1][0] == place) else 1.9 if i or place not in single else 0.0
        heights[place, j] = y
    all_axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False).flat
    for axes, panel in zip(all_axes, panels, strict=True):
        axes.set(title=panel.title, xlabel=panel.axis, ylim=(y + 0.75, -0.85))
        axes.grid(axis="x")
        axes.margins(x=0.1)
        axes.tick_params(axis="y", length=0)
        names = [panel.places[place] if place in single else panel.series[j].label for place, j in lines]
        axes.set_yticks([heights[line] for line in lines], names)
        for place, j in lines:
            mark, at = panel.series[j].marks[place], heights[place, j]
            if mark is None:
                continue
            style = PAIR[j % len(PAIR)]
            axes.errorbar([mark.value], [at], xerr=_ends([mark]), zorder=3, markersize=6.5, linestyle="none", **style)
            axes.annotate(f"{mark.value:.1f}", (mark.value, at), (0, 6), textcoords="offset points", ha="center", weight="bold")
    for place in range(len(panels[0].places)):
        if place not in single and (tops := [height for (each, _), height in heights.items() if each == place]):
            transform = all_axes[0].get_yaxis_transform()
            all_axes[0].text(
                -0.02, min(tops) - 0.9, panels[0].places[place], transform=transform, ha="right", va="center", weight="bold"
            )


def bars(figure, panels: Sequence[Panel]) -> None:
    """One panel below the other: bars of every series side by side at each place, hollow series as markers after them."""
    for i, (axes, panel) in enumerate(_upright(figure, panels, 1)):
        axes.set_xlabel(panel.across if i == len(panels) - 1 else "")
        axes.axhline(0, color=INK, linewidth=0.8)
        width = 0.86 / len(panel.series)
        for j, series, places, marks in _points(panel, width):
            values, ends = [mark.value for mark in marks], _ends(marks)
            if series.hollow:
                style = _marker(j, hollow=True) | {"markersize": 5, "capsize": 2, "elinewidth": 1}
                axes.errorbar(places, values, yerr=ends, label=series.label, zorder=3, **style)
            else:
                colour, _, hatch, _ = STYLES[j % len(STYLES)]
                box = {"color": colour, "hatch": hatch, "edgecolor": INK, "linewidth": 0.6, "label": series.label}
                axes.bar(places, values, width, yerr=ends, error_kw={"elinewidth": 0.9, "ecolor": INK, "capsize": 1.5}, **box)
    _legend(figure)


def curves(figure, panels: Sequence[Panel], columns: int = 1) -> None:
    """Series along their places, with intervals; levels as horizontal lines."""
    for i, (axes, panel) in enumerate(_upright(figure, panels, columns)):
        if panel.empty:
            axes.text(0.5, 0.5, panel.empty, transform=axes.transAxes, ha="center", va="center")
            axes.set_axis_off()
            continue
        axes.set_ylabel("" if i % columns else panel.axis)
        for level, (label, value) in enumerate(panel.levels):
            axes.axhline(value, color=INK, linestyle=(":", "-.")[level % 2], linewidth=1.2, label=label)
        for j, series, places, marks in _points(panel, 0.1):
            style = _marker(j, series.hollow) | {"markersize": 4.5, "capsize": 2, "linestyle": STYLES[j % len(STYLES)][3]}
            values = [mark.value for mark in marks]
            axes.errorbar(places, values, yerr=_ends(marks), label=series.label, linewidth=1.2, zorder=3, **style)
            for x, mark in zip(places, marks, strict=True):
                if mark.word:
                    top = mark.value if mark.high is None else mark.high
                    axes.annotate(mark.word, (x, top), (0, 3), textcoords="offset points", ha="center")
        axes.margins(y=0.16 if any(mark and mark.word for series in panel.series for mark in series.marks) else 0.05)
    figure.axes[0].set_ylim(bottom=0)  # rates, on one scale
    _legend(figure)


def heatmaps(figure, panels: Sequence[Panel], note: str) -> None:
    """Two panels a row on one colour scale, a series a line of cells, every cell with its number; note: about their words."""
    numbers = [mark.value for panel in panels for series in panel.series for mark in series.marks if mark]
    low, high = min(numbers) // 5 * 5, max(-(-max(numbers) // 5) * 5, min(numbers) // 5 * 5 + 5)
    all_axes = figure.subplots(-(-len(panels) // 2), 2, squeeze=False)
    for i, (axes, panel) in enumerate(zip(all_axes.flat, panels, strict=True)):
        axes.set_title(textwrap.fill(panel.title, 42))
        if not panel.series:
            axes.set_axis_off()
            continue
        cells = [[mark.value if mark else float("nan") for mark in series.marks] for series in panel.series]
        image = axes.imshow(cells, cmap="cividis", vmin=low, vmax=high, aspect="auto")
        axes.set_xticks(range(len(panel.places)), panel.places)
        axes.set_yticks(range(len(panel.series)), [series.label.removeprefix("layer ") for series in panel.series])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(ylabel="layer" if i % 2 == 0 else "", xlabel="latent position" if i >= len(panels) - 2 else "")
        for y, series in enumerate(panel.series):
            for x, mark in enumerate(series.marks):
                colour = "white" if mark and mark.value < low + 0.48 * (high - low) else "black"
                axes.text(x, y, f"{mark.value:.1f}" if mark else "–", ha="center", va="center", color=colour)
                axes.text(x + 0.47, y - 0.46, mark.word if mark else "", ha="right", va="top", color=colour)
    figure.colorbar(image, ax=all_axes, label="accuracy, %", shrink=0.8, aspect=30, pad=0.02).outline.set_visible(False)
    figure.supxlabel(note, fontsize=8, x=0.01, ha="left")


def _upright(figure, panels: Sequence[Panel], columns: int) -> Iterator[tuple[Any, Panel]]:
    """Axes with places along and numbers up, one scale for all."""
    all_axes = figure.subplots(-(-len(panels) // columns), columns, sharey=True, squeeze=False).flat
    for axes, panel in zip(all_axes, panels, strict=True):
        axes.set_title(panel.title)
        if not panel.empty:
            axes.set(ylabel=panel.axis, xlabel=panel.across, xlim=(-0.55, len(panel.places) - 0.45))
            axes.set_xticks(range(len(panel.places)), panel.places)
            axes.tick_params(axis="x", length=0)
            axes.grid(axis="y")
        yield axes, panel


def _points(panel: Panel, width: float = 0) -> Iterator[tuple[int, Series, list[float], list[Mark]]]:
    """Number, series, places and marks of each series that has any; side by side in slots of that width."""
    for j, series in enumerate(panel.series):
        shift = width * (j - (len(panel.series) - 1) / 2)
        points = [(at + shift, mark) for at, mark in enumerate(series.marks) if mark]
        if points:
            yield j, series, [at for at, _ in points], [mark for _, mark in points]


def _marker(j: int, hollow: bool) -> dict:
    """What a point of the j-th series looks like; hollow ones are white in ink."""
    colour, marker, _, _ = STYLES[j % len(STYLES)]
    face = {"color": INK, "marker": "D", "markerfacecolor": "white"} if hollow else {"color": colour, "marker": marker}
    return {**face, "markeredgecolor": INK, "linestyle": "none"}


def _band(axes, band: Mark, y: float, height: float) -> None:
    """A null behind its number: the band, darker where the middle half of the draws lie, and its mean."""
    bottom, top = y - height / 2, y + height / 2
    box = {"facecolor": BAND, "edgecolor": MIDDLE, "linewidth": 0.6, "zorder": 1, "label": "permuted labels: 95 % of the draws"}
    assert band.low is not None and band.high is not None  # else it is no band
    axes.broken_barh([(band.low, band.high - band.low)], (bottom, height), **box)
    if band.middle:
        box = {"facecolor": MIDDLE, "zorder": 1.5, "label": "their middle half"}
        axes.broken_barh([(band.middle[0], band.middle[1] - band.middle[0])], (bottom, height), **box)
    axes.vlines(band.value, bottom, top, color=INK, linestyle="--", linewidth=1.1, zorder=2, label="their mean")


def _ends(marks: Sequence[Mark]) -> list | None:
    """Lengths of the error bars [2, marks], NaN where a mark has no interval; None where none has."""
    if all(None in (mark.low, mark.high) for mark in marks):
        return None
    nothing = (float("nan"), float("nan"))
    pairs = [nothing if m.low is None or m.high is None else (max(m.value - m.low, 0), max(m.high - m.value, 0)) for m in marks]
    return [list(side) for side in zip(*pairs, strict=True)]


def _legend(figure) -> None:
    """One entry a label, below everything."""
    handles: dict[str, object] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        ncols = max(1, LETTERS // (max(map(len, handles)) + 8))
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower left", ncols=ncols, handlelength=2.2, columnspacing=1.5
        )
