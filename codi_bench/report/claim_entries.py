"""Lines of a table with the rows behind them: outcomes as symbol and word, evidence in words, numbers beside their null."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from codi_bench.records.results import NOT_RUN, OK, Row
from codi_bench.records.results_schema import NullNumber, Number
from codi_bench.report.table import (
    CAME_OUT,
    COUNTERPART_NAMES,
    REPORTED,
    SOUND,
    SYMBOLS,
    UNITS,
    WORDS,
    TableLine,
    counterparts,
    number,
    shown_unit,
    table,
)

PROTOCOLS = {REPORTED: "as published", SOUND: "sound"}
WIDTH = 240  # of a strip, in its own units


@dataclass(frozen=True)
class Sign:
    """An outcome as symbol and word, so that neither colour nor symbol has to be known."""

    symbol: str
    word: str

    @property
    def kind(self) -> str:
        """The word as the name of a style."""
        return slug(self.word)


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


@dataclass(frozen=True)
class TableEntry:
    """One line of a table, the row behind it (None where the results hold none) and what the study printed, by its model."""

    line: TableLine
    row: Row | None
    printed: list[tuple[str, Number]]
    strip: Strip | None = None

    @property
    def protocol(self) -> str:
        return PROTOCOLS.get(self.line.protocol, self.line.protocol)

    @property
    def reproduction(self) -> Sign | None:
        word = self.row.reproduction if self.row else None
        return Sign(CAME_OUT.get(word, "•"), word) if word else None

    @property
    def validity(self) -> Sign | None:
        return verdict(self.row) if self.row else None

    @property
    def fragile(self) -> bool:
        return bool(self.row and self.validity and self.row.detail.get("fragile"))

    @property
    def regression(self) -> list[Sign]:
        return status(self.row) if self.row else [Sign(SYMBOLS[NOT_RUN], "not in these results")]

    @property
    def evidence(self) -> list[tuple[str, str]]:
        """What stands behind the numbers and words of a measured line: (heading, text)."""
        return _evidence(self.row, self.line.decide) if self.row and self.row.status == OK else []

    def study(self, name: str) -> list[tuple[str, str]]:
        """What the study printed on this line for one of its models (its name as people write it): text and place, or nothing."""
        return [text_and_place for model, text_and_place in self.line.study.items() if COUNTERPART_NAMES[model] == name]


def slug(text: str) -> str:
    """Text as a part of an address or the name of a style."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def in_capitals(outcome: str) -> str:
    """A status as it is shown beside the other words: NOT RUN."""
    return outcome.upper().replace("-", " ")


def verdict(row: Row) -> Sign | None:
    """The verdict of a measured row."""
    return Sign(WORDS.get(row.validity, "•"), row.validity) if row.validity and row.status == OK else None


def status(row: Row) -> list[Sign]:
    """A measured row's regression, else why there is no number; a blocked row that is also red says both."""
    if row.status == OK:
        return [Sign(SYMBOLS.get(row.regression, "•"), row.regression)]
    drift = [Sign(SYMBOLS["DRIFTED"], "DRIFTED")] if row.regression == "DRIFTED" else []
    return [Sign(SYMBOLS.get(row.status, "•"), in_capitals(row.status)), *drift]


def table_entries(rows: Sequence[Row], environment: dict, model: str) -> list[TableEntry]:
    """The lines of one model's table with their rows; both protocols of a metric share the axis of their strips."""
    published_models = counterparts(model)
    line_rows = {
        (row.model, line.claim, _without_unit(line.metric), line.protocol): row
        for row in rows
        if row.model in (model, *published_models)
        for line in table([row], environment, row.model)
    }
    plain_entries = []
    for line in table(rows, environment, model):
        metric = _without_unit(line.metric)
        row = line_rows.get((model, line.claim, metric, line.protocol)) or line_rows.get((model, line.claim, "-", line.protocol))
        study_rows = [(COUNTERPART_NAMES[name], line_rows.get((name, line.claim, metric, REPORTED))) for name in published_models]
        plain_entries.append(
            TableEntry(
                line, row, [(name, study_row.reported) for name, study_row in study_rows if study_row and study_row.reported]
            )
        )
    axes: dict[tuple[str, str], list[float]] = {}
    for entry in plain_entries:
        axes.setdefault((entry.line.claim, entry.line.metric), []).extend(_axis_numbers(entry))
    return [replace(entry, strip=_strip(entry, axes[entry.line.claim, entry.line.metric])) for entry in plain_entries]


def _without_unit(metric: str) -> str:
    """A line's metric without its unit, which a row that was not measured may not have."""
    for unit in UNITS.values():
        metric = metric.removesuffix(unit)
    return metric


def _evidence(row: Row, decide: str) -> list[tuple[str, str]]:
    detail, null = row.detail, row.detail.get("null")
    replacement = " of ".join(str(detail[key]) for key in ("replaced_by", "reference") if detail.get(key))
    fragility = "draws of the null or rounding could change the word" if row.validity and detail.get("fragile") else ""
    remarks = [
        ("verdict", detail.get("validity")),
        ("fragile", fragility),
        ("what would decide", decide and f"{decide} problems"),
        ("no verdict", None if row.validity else detail.get("no_validity")),
        ("reproduction", detail.get("reproduction")),
        ("regression", row.reason),
        ("no interval", detail.get("no_interval")),
        ("null", null if isinstance(null, str) else None),
        ("replaced by", replacement),
        ("formula", detail.get("formula")),
        ("note", detail.get("note")),
        ("code", detail.get("code")),
    ]
    return [(heading, str(text)) for heading, text in remarks if text]


# --- strips --------------------------------------------------------------------------------------------------------------


def _axis_numbers(entry: TableEntry) -> list[float]:
    """Every number that a strip has to have room for."""
    row = entry.row
    if row is None or not row.measured:
        return []
    null: NullNumber = row.null or {}
    numbers = [row.measured, null, *(value for _, value in entry.printed)]
    ends = [x for value in numbers for x in (value.get("value"), value.get("low"), value.get("high")) if x is not None]
    return [*ends, *(null.get("quantiles") or [])]


def _strip(entry: TableEntry, axis: list[float]) -> Strip | None:
    """None where there is nothing to stand beside the number, and for counts, whose models differ by orders of magnitude."""
    row = entry.row
    if row is None or row.measured is None:
        return None
    estimate, point = row.measured, row.measured.get("value")
    if point is None or row.unit == "count" or not (row.null or entry.printed or estimate.get("low") is not None):
        return None
    margin = 0.06 * (max(axis) - min(axis)) or 0.5 * abs(axis[0]) or 0.5
    low, high = min(axis) - margin, max(axis) + margin
    if min(axis) >= 0:
        low = max(low, 0.0)
    if row.unit == "fraction" and max(axis) <= 1:
        high = min(high, 1.0)

    def at(x: float) -> float:
        return round(6 + (WIDTH - 12) * (x - low) / (high - low), 1)  # markers at the ends keep their halves

    def bar(left: float, right: float) -> tuple[float, float]:
        return at(left), round(at(right) - at(left), 1)

    def ends(value: Number) -> tuple[float, float] | None:
        left, right = value.get("low"), value.get("high")
        return None if left is None or right is None else (left, right)

    def span(value: Number) -> tuple[float, float] | None:
        middle = value.get("value")
        return ends(value) if middle is None else (middle, middle)

    null: NullNumber = row.null or {}
    mean, interval = null.get("value"), ends(estimate)
    quantiles = null.get("quantiles") or []
    bands = [(quantiles[0], quantiles[20]), (quantiles[1], quantiles[19]), (quantiles[5], quantiles[15])] if quantiles else []
    study_spans = [span(value) for _, value in entry.printed]
    return Strip(
        low=_number(row, {"value": low}),
        high=_number(row, {"value": high}),
        boxes=[bar(*pair) for pair in bands or filter(None, [ends(null)])],
        mean=None if mean is None else at(mean),
        measured=at(point),
        interval=bar(*interval) if interval else None,
        printed=[bar(*pair) for pair in study_spans if pair],
        text=_in_words(entry, row, quantiles),
    )


def _in_words(entry: TableEntry, row: Row, quantiles: Sequence[float]) -> str:
    line = entry.line
    parts = [f"measured {line.measured}"]
    if line.null:
        parts.append(f"null {line.null}{f', p = {line.p}' if line.p else ''}")
    if quantiles:
        half = _number(row, {"low": quantiles[5], "high": quantiles[15]})
        parts.append(
            f"half of the null's draws lie in {half}, all in {_number(row, {'low': quantiles[0], 'high': quantiles[20]})}"
        )
    parts += [f"published for {name} {_number(row, value)}" for name, value in entry.printed]
    return f"{line.metric}, {entry.protocol}: {'; '.join(parts)}."


def _number(row: Row, value: Number) -> str:
    return number(value, shown_unit(row))


def tally(rows: Iterable[Row]) -> list[tuple[Sign, int]]:
    """How often each word, lack of a word, or reason for no number stands on some rows, verdicts first."""
    counts: dict[Sign, int] = {}
    for row in rows:
        sign = (verdict(row) or Sign("·", "no verdict")) if row.status == OK else status(row)[0]
        counts[sign] = counts.get(sign, 0) + 1
    return sorted(counts.items(), key=lambda item: [*WORDS, item[0].word].index(item[0].word))
