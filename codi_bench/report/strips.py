"""Strips of the page: each number beside its null, its interval and what was published, on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codi_bench.records.results import Number, Row, finite
from codi_bench.report.table import REPORTED, SOUND, TableLine, number, shown_unit

PROTOCOLS = {REPORTED: "as published", SOUND: "sound"}
WIDTH = 240  # of a strip, in its own units


@dataclass(frozen=True)
class Strip:
    """A number beside its null on one axis. Places run from 0 to WIDTH; bars are (place, width).

    boxes: all, the middle 90 % and the middle half of the null's draws, or their 95 % band where only that is known. printed:
    what was published, a number or a range. text: the same in words.
    """

    low: str
    high: str
    boxes: list[tuple[float, float]]
    mean: float | None
    measured: float
    interval: tuple[float, float] | None
    printed: list[tuple[float, float]]
    text: str


def strips(lines: Sequence[TableLine]) -> list[Strip | None]:
    """The strips of a table's lines; both protocols of a metric share their axis."""
    axes: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        axes.setdefault((line.groups[-1], line["metric"].text), []).extend(_axis_numbers(line))
    return [_strip(line, axes[line.groups[-1], line["metric"].text]) for line in lines]


def _axis_numbers(line: TableLine) -> list[float]:
    """Every number that a strip has to have room for."""
    row = line.row
    if row is None or not row.measured:
        return []
    numbers: list[Number] = [row.measured, row.null or {}, *line.printed.values()]
    ends = [finite(value.get(end)) for value in numbers for end in ("value", "low", "high")]
    return [*(x for x in ends if x is not None), *_quantiles(row)]


def _quantiles(row: Row) -> list[float]:
    """The draws of the null, from 0 to 100 % in steps of 5, if all are there."""
    draws = [x for x in (row.null or {}).get("quantiles") or [] if finite(x) is not None]
    return draws if len(draws) == 21 else []


def _ends(value: Number) -> tuple[float, float] | None:
    low, high = finite(value.get("low")), finite(value.get("high"))
    return None if low is None or high is None else (low, high)


def _strip(line: TableLine, axis: list[float]) -> Strip | None:
    """None where there is nothing to stand beside the number, and for counts, whose models differ by orders of magnitude."""
    row = line.row
    if row is None or row.measured is None:
        return None
    point, null, interval = finite(row.measured.get("value")), row.null or {}, _ends(row.measured)
    nothing_beside = not (row.null or line.printed or finite(row.measured.get("low")) is not None)
    if point is None or row.unit == "count" or nothing_beside:
        return None
    margin = 0.06 * (max(axis) - min(axis)) or 0.5 * abs(axis[0]) or 0.5
    low, high = min(axis) - margin, max(axis) + margin
    if min(axis) >= 0:
        low = max(low, 0.0)
    if row.unit == "fraction" and max(axis) <= 1:
        high = min(high, 1.0)

    def at(x: float) -> float:
        return round(6 + (WIDTH - 12) * (x - low) / (high - low), 1)  # markers at the ends keep their halves

    def bar(ends: tuple[float, float]) -> tuple[float, float]:
        return at(ends[0]), round(at(ends[1]) - at(ends[0]), 1)

    mean, draws = finite(null.get("value")), _quantiles(row)
    bands = [(draws[0], draws[20]), (draws[1], draws[19]), (draws[5], draws[15])] if draws else [_ends(null)]
    points = [(value, finite(value.get("value"))) for value in line.printed.values()]
    spans = [_ends(value) if x is None else (x, x) for value, x in points]
    return Strip(
        low=_text(row, {"value": low}),
        high=_text(row, {"value": high}),
        boxes=[bar(band) for band in bands if band],
        mean=None if mean is None else at(mean),
        measured=at(point),
        interval=bar(interval) if interval else None,
        printed=[bar(span) for span in spans if span],
        text=_in_words(line, row, draws),
    )


def _in_words(line: TableLine, row: Row, draws: Sequence[float]) -> str:
    parts, null = [f"measured {line['measured'].text}"], line["null"]
    if null.text:
        parts.append(", ".join(filter(None, [f"null {null.text}", null.note])))
    if draws:
        half = _text(row, {"low": draws[5], "high": draws[15]})
        parts.append(f"half of the null's draws lie in {half}, all in {_text(row, {'low': draws[0], 'high': draws[20]})}")
    parts += [f"published for {name} {_text(row, value)}" for name, value in line.printed.items()]
    protocol = line["protocol"].text
    return f"{line['metric'].text}, {PROTOCOLS.get(protocol, protocol)}: {'; '.join(parts)}."


def _text(row: Row, value: Number) -> str:
    return number(value, shown_unit(row))
