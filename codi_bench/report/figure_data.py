"""What a figure shows: numbers with their intervals, nulls and words, made from rows, and all of it again as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from codi_bench.records.results import OK, Number, Row, finite
from codi_bench.report.table import REPORTED, REPORTING, number, word


@dataclass(frozen=True)
class Mark:
    """One number in the unit of its panel, its 95 % interval or band, its null, and what to write beside it.

    middle: of a null, the half of its draws around the median, where known. word: a verdict, a place or a star. text: the number
    as it was printed, where its digits matter.
    """

    value: float
    low: float | None = None
    high: float | None = None
    band: Mark | None = None
    word: str = ""
    text: str = ""
    middle: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """One mark a place of its panel, None where nothing was measured. hollow: not of the protocol that the others are of."""

    label: str
    marks: Sequence[Mark | None]
    hollow: bool = False


@dataclass(frozen=True)
class Panel:
    """Places with one or more series, in " %", " points" or, as an AUC, in "".

    axis: what the numbers are; across: what the places are. band, levels: references over all places; empty: why there is nothing
    to draw.
    """

    title: str
    axis: str
    places: Sequence[str]
    series: Sequence[Series]
    unit: str = " %"
    across: str = ""
    band: Mark | None = None
    levels: Sequence[tuple[str, float]] = ()
    empty: str = ""


@dataclass(frozen=True)
class FigurePlan:
    """A figure to be drawn by draw(figure, panels): a finding a model (none: no data), panels, the height in inches.

    headline: what stands over the picture in place of the findings.
    """

    name: str
    findings: list[str]
    caption: str
    panels: list[Panel]
    draw: Callable
    height: float
    headline: str = ""

    @property
    def title(self) -> str:
        """Headline and findings as sentences."""
        return ". ".join([self.headline] * bool(self.headline) + self.findings) + "."

    @property
    def alt(self) -> str:
        """The title, and every number that is drawn."""
        return " ".join([self.title, *map(described, self.panels)])


def scaled(x, scale: float) -> float | None:
    """A known number in the unit of a panel."""
    return None if finite(x) is None else scale * x


def number_text(value: float, unit: str) -> str:
    """A number of a panel as text: an AUC with two digits, percent and points with one."""
    return f"{value:.2f}" if unit == "" else f"{round(value, 1) + 0.0:.1f}{unit}"  # never -0.0


def mark_of(row: Row, word: str = "") -> Mark:
    """The measured number of a row, in percent or points, with its interval and null."""
    scale = 100 if row.unit == "fraction" else 1
    mark = interval([(row.measured or {}).get(end) for end in ("value", "low", "high")], scale, word)
    assert mark is not None
    return replace(mark, band=band_of(row, scale))


def interval(ends: Sequence | None, scale: float, word: str = "") -> Mark | None:
    """A mark of [value, low, high], None where there is no value."""
    value, low, high = ([scaled(x, scale) for x in ends or ()] + [None] * 3)[:3]
    return None if value is None else Mark(value, low, high, word=word)


def band_of(row: Row, scale: float) -> Mark | None:
    """The null of a row that has a band."""
    null = row.null or {}
    band = interval([null.get(end) for end in ("value", "low", "high")], scale)
    if band is None or band.low is None or band.high is None:
        return None
    draws = [scaled(x, scale) for x in null.get("quantiles") or ()]  # 0 to 100 % in steps of 5
    lower, upper = (draws[5], draws[15]) if len(draws) == 21 else (None, None)
    return band if lower is None or upper is None else replace(band, middle=(lower, upper))


def percent(value: Number | None) -> str:
    """A rate without its interval, as in the tables."""
    return number({"value": (value or {}).get("value")}, "fraction", " %")


def verdict(row: Row, symbol: bool = False) -> str:
    """The word of a row, and whether it is fragile; with its symbol beside a mark."""
    if not row.validity:
        return "no word"
    return (word(row.validity) if symbol else row.validity) + (" (fragile)" if row.detail.get("fragile") else "")


def against(how: str, row: Row | None, measured: Mapping) -> str:
    """A rate beside what permuted labels give, and its word: or that it was not measured."""
    if row is None or row.key not in measured:
        return f"{how} {'not measured' if row is None or row.status == OK else row.status}"
    null = f", permuted labels {percent(row.null)}" if percent(row.null) else ""
    return f"{how} {percent(row.measured)}{null}: {verdict(row)}"


def published(rows: Sequence[Row], claim: str, metric: str, unit: str) -> dict[str, Mark]:
    """What the study printed as one number, with its digits, by the model that it is about."""
    by_key, marks = {row.key: row for row in rows}, {}
    for model, name in REPORTING.items():
        row = by_key.get((claim, model, metric, REPORTED))
        value = scaled((row.reported or {}).get("value"), 100 if unit == " %" else 1) if row else None
        if row and value is not None:
            note = "" if row.status == OK else "not measured here"
            marks[f"{name}, published"] = Mark(value, word=note, text=f"{value:.2f}{unit}")
    return marks


def one_each(points: Sequence[tuple[str, int, Mark]], hollow: bool = False) -> tuple[list[str], list[Series]]:
    """Places and series of (place, number of its series, mark): one mark a place; hollow: those of the first series."""
    count = 1 + max((j for _, j, _ in points), default=-1)
    series = [Series("", [mark if i == j else None for _, i, mark in points], hollow and j == 0) for j in range(count)]
    return [place for place, _, _ in points], series


def described(panel: Panel) -> str:
    """Every number of a panel as text."""
    texts = [f"{place}: {text}" for at, place in enumerate(panel.places) if (text := _at_place(panel, at))]
    texts += [f"{label} {number_text(value, panel.unit)}" for label, value in panel.levels]
    texts += [f"permuted labels {_band(panel.band, panel.unit)}"] if panel.band else []
    texts += [panel.empty] if panel.empty else []
    head = ", ".join(filter(None, [panel.title, panel.axis]))
    return " ".join(f"{head}{': ' if texts else ''}{'; '.join(texts)}.".split())


def _at_place(panel: Panel, at: int) -> str:
    """The numbers at one place, each under its series where more than one could stand there."""
    marks = [(series.label, mark) for series in panel.series if (mark := series.marks[at])]
    return ", ".join(f"{label} {_number(mark, panel.unit)}".strip() for label, mark in marks)


def _number(mark: Mark, unit: str) -> str:
    text = mark.text or number_text(mark.value, unit)
    if mark.low is not None and mark.high is not None:
        text += f" [{number_text(mark.low, unit).removesuffix(unit)}, {number_text(mark.high, unit).removesuffix(unit)}]"
    text += f" (permuted labels {_band(mark.band, unit)})" if mark.band else ""
    return f"{text} {mark.word}".rstrip()


def _band(band: Mark, unit: str) -> str:
    low, high = (number_text(end, unit) for end in (band.low, band.high) if end is not None)
    return f"{number_text(band.value, unit)}, 95 % of the draws {low} to {high}"
