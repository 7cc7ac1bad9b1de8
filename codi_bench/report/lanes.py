"""Pictures of the page: what was published, the number under both protocols, and the null of each, on one axis.

Each stands in a lane of its own with its name before it and its number behind it, so that there is no legend to be matched.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from codi_bench.records.results import OK, Number, finite
from codi_bench.report.table import Cell, TableLine, number, shown_unit

PUBLISHED, MEASURED, NULL = "published", "measured", "null"  # kinds of lanes, and the names of their styles
EDGE = 3.0  # percent of the width that stay free on both sides, for half a mark
TICKS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Labelled:
    """A line of the table with the label of its number and of its null, unless its row names that itself."""

    label: str
    null: str
    line: TableLine


@dataclass(frozen=True)
class Lane:
    """One number of a picture: its name, itself as text, the mark and bar in percent of the width, and its word.

    at: None where only a range was published. span: (place, width) of the 95 % interval, the range or the null's 95 % band.
    """

    kind: str
    label: str
    text: str
    at: float | None = None
    span: tuple[float, float] | None = None
    sign: Cell | None = None


@dataclass(frozen=True)
class Picture:
    """Lanes by model on one axis. title: what the numbers are; ticks: (place in percent, text); text: all of it in words."""

    title: str
    lanes: Mapping[str, Sequence[Lane]]
    ticks: Sequence[tuple[float, str]]
    text: str


def picture(title: str, lines: Mapping[str, Sequence[Labelled]]) -> Picture | None:
    """The picture of some lines of the table, each with its label, by model; None where nothing was measured.

    Counts have none: those of two models differ by magnitudes.
    """
    measured = {model: [each for each in labelled if measured_value(each.line) is not None] for model, labelled in lines.items()}
    rows = [each.line.row for labelled in measured.values() for each in labelled if each.line.row]
    if not rows or any(row.unit == "count" for row in rows):
        return None
    drafts = {model: _lanes(labelled) for model, labelled in measured.items() if labelled}
    unit = shown_unit(rows[0])
    axis = _axis([x for lanes in drafts.values() for _, value in lanes for x in _numbers(value)], unit)
    lanes = {model: [_placed(lane, value, axis) for lane, value in draft] for model, draft in drafts.items()}
    ticks = [(_at(x, axis), number({"value": x}, unit).removesuffix(".0")) for x in _ticks(*axis)]
    texts = [f"{model}: {'; '.join(map(_in_words, each))}" for model, each in lanes.items()]
    return Picture(title, lanes, ticks, f"{title}. {'. '.join(texts)}.")


def measured_value(line: TableLine) -> float | None:
    """The measured number of a line, if there is one; a row that is blocked or was not run has none that counts."""
    return finite((line.row.measured or {}).get("value")) if line.row and line.row.status == OK else None


def _lanes(labelled: Sequence[Labelled]) -> list[tuple[Lane, Number]]:
    """The lanes of a model without places, each with its number: what was published, then each number before its null."""
    lanes: list[tuple[Lane, Number]] = []
    published = {name: (value, each.line.row) for each in labelled for name, value in each.line.printed.items()}
    for name, (value, row) in published.items():
        if row and _numbers(value):
            lanes.append((Lane(PUBLISHED, f"published, {name}", _printed(value, shown_unit(row))), value))
    for each in labelled:
        line, row = each.line, each.line.row
        if row is None or row.measured is None:
            continue
        place = f" @ {line['measured'].note}" if line["measured"].note else ""
        sign = line["validity"] if line["validity"].text else None
        lanes.append((Lane(MEASURED, each.label, line["measured"].text + place, sign=sign), row.measured))
        if row.null and finite(row.null.get("value")) is not None:
            own = row.detail.get("null")
            lanes.append((Lane(NULL, own if isinstance(own, str) else each.null or "null", line["null"].text), row.null))
    return lanes


def _printed(value: Number, unit: str) -> str:
    """A range is not printed more precisely than it was."""
    return re.sub(r"\.0(?=–|$)", "", number(value, unit)) if finite(value.get("value")) is None else number(value, unit)


def _numbers(value: Number) -> list[float]:
    ends = [finite(value.get(end)) for end in ("value", "low", "high")]
    return [x for x in ends if x is not None]


def _placed(lane: Lane, value: Number, axis: tuple[float, float]) -> Lane:
    point, low, high = (finite(value.get(end)) for end in ("value", "low", "high"))
    span = None if low is None or high is None else (_at(low, axis), round(_at(high, axis) - _at(low, axis), 1))
    return replace(lane, at=None if point is None else _at(point, axis), span=span)


def _in_words(lane: Lane) -> str:
    return f"{lane.label} {lane.text}" + (f" {lane.sign.text}" if lane.sign else "")


# --- the axis --------------------------------------------------------------------------------------------------------------


def _axis(numbers: Sequence[float], unit: str) -> tuple[float, float]:
    """From a little below the lowest number to a little above the highest; rates end at 0 and 100 %."""
    margin = 0.06 * (max(numbers) - min(numbers)) or 0.5 * abs(numbers[0]) or 0.5
    low, high = min(numbers) - margin, max(numbers) + margin
    if min(numbers) >= 0:
        low = max(low, 0.0)
    if unit in ("fraction", "auc") and max(numbers) <= 1:
        high = min(high, 1.0)
    return low, high


def _at(x: float, axis: tuple[float, float]) -> float:
    low, high = axis
    return round(EDGE + (100 - 2 * EDGE) * (x - low) / (high - low), 1)


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers of an axis."""
    rough = (high - low) / 4
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(each * magnitude for each in TICKS if each * magnitude >= rough * 0.999)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
