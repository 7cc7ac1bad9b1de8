"""A sweep as a figure: numbers against log parameters, a style an architecture, a panel a number, a row a kind of checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codi_bench.store.files import write_whole
from codi_bench.sweep.findings import Followed
from codi_bench.sweep.run import FINAL, MATCHED

STYLES = {  # colour, marker and line: both can be told apart in greyscale
    "gpt2": ("#0b4f66", "o", "-"),
    "llama": ("#e0803c", "s", "--"),
}
TITLES = {FINAL: "end of training", MATCHED: "matched accuracy"}
SCALE = {"fraction": 100.0, "points": 1.0}


def draw(found: Sequence[Followed], path: Path) -> Path:
    """Write the figure as SVG or PNG, by the name's end: every model a dot, and means over seeds with 95 % intervals."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    names = list(dict.fromkeys(number.name for number in found))
    figure = Figure(figsize=(3.2 * len(names), 5.6), layout="constrained")
    axes = figure.subplots(2, len(names), squeeze=False, sharex=True)
    for number in found:
        row, column = list(TITLES).index(number.which), names.index(number.name)
        axis, scale = axes[row][column], SCALE[number.unit]
        for architecture, (colour, marker, line) in STYLES.items():
            points = [(size, scale * value) for f, size, value in number.points if f == architecture]
            if not points:
                continue
            axis.scatter(*zip(*points, strict=True), s=14, color=colour, marker=marker, alpha=0.5, linewidths=0)
            means = [mean for mean in number.means if mean.family == architecture]
            sizes, values = [mean.parameters for mean in means], [scale * mean.value for mean in means]
            reach = [scale * (mean.high - mean.value) if mean.high is not None else 0 for mean in means]
            style = {"color": colour, "marker": marker, "linestyle": line, "linewidth": 1.2, "capsize": 3}
            axis.errorbar(sizes, values, yerr=reach, label=architecture, **style)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.xaxis.set_major_formatter(lambda size, _: f"{size / 1e6:g}M" if size >= 1e6 else f"{size / 1e3:g}k")
        axis.xaxis.set_minor_formatter(NullFormatter())
        unit = "%" if number.unit == "fraction" else "points"
        axis.set_title(f"{number.name}, {unit}\n{trend_line(number)}", fontsize=8)
        if column == 0:
            axis.set_ylabel(TITLES[number.which])
        if row == 1:
            axis.set_xlabel("parameters of the backbone")
    if axes[0][0].get_legend_handles_labels()[0]:
        axes[0][0].legend(frameon=False, fontsize=8)
    kind = path.suffix[1:]
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sweep"}):  # text as text, and the same bytes again
        write_whole(path, lambda draft: figure.savefig(draft, format=kind, metadata={"Date": None} if kind == "svg" else None))
    return path


def trend_line(each: Followed) -> str:
    """One line: the change from the smallest to the largest size, with interval and p; or why there is no trend."""
    if each.trend is None:
        return f"no trend: {each.why}"
    scale, estimate = SCALE[each.unit], each.trend.change
    change, low, high = (scale * value for value in (estimate.value, estimate.low, estimate.high))
    missing = f"; {each.why}" if each.why else ""
    return f"change {change:+.1f} [{low:.1f}, {high:.1f}], p = {each.p:.2g}{missing}"
