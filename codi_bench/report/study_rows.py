"""The five rows of the first study's summary, one by one: a picture and a sentence each, and what they rest on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from codi_bench.records.results import finite
from codi_bench.report.comparison import StudyWinner
from codi_bench.report.contents import Report
from codi_bench.report.lanes import Labelled, Picture, measured_value, picture
from codi_bench.report.table import REPORTED, SOUND, TableLine, number, shown_unit, sign_of

SOUNDLY = "under the sound protocol,"


@dataclass(frozen=True)
class RowSpec:
    """A row to be: whose winner, claim and metrics (as published, sound) it shows, and the parts of its sentence.

    axis: what its numbers are; does: what they do; nulls: what gives the null of each protocol; sound: the sound protocol in a
    sentence; released: what gives the null of a number from released files, if something else does.
    """

    title: str
    subject: str
    claim: str
    metrics: tuple[str, str]
    axis: str
    does: str
    nulls: tuple[str, str]
    sound: str = "held out,"
    released: str = ""


@dataclass(frozen=True)
class Terms:
    """What a number is called: its label in the picture, how a sentence about it opens, and what gives its null."""

    label: str
    opening: str
    null: str


ROWS = (
    RowSpec(
        "Task accuracy",
        "accuracy",
        "task-accuracy",
        ("accuracy", "accuracy"),
        axis="problems answered right, %",
        does="the share of right answers is",
        nulls=("", "always giving one answer"),
        sound=SOUNDLY,
    ),
    RowSpec(
        "Probes: do the thoughts tell right from wrong?",
        "probes",
        "probe-accuracy",
        ("mean", "mean"),
        axis="mean accuracy of the probes, %",
        does="probes are right on",
        nulls=("permuted labels",) * 2,
    ),
    RowSpec(
        "SAE features: do they predict errors?",
        "SAE errors",
        "sae-error-prediction",
        ("test_accuracy", "test_accuracy"),
        axis="answers told right from wrong, %",
        does="a classifier on SAE features is right on",
        nulls=("permuted labels",) * 2,
        released="a classifier that reads the question alone",
    ),
    RowSpec(
        "Ablation: what does one thought cost?",
        "robustness",
        "ablation",
        (r"drop_\d+", r"drop_\d+"),
        axis="largest drop of accuracy, points",
        does="the most costly thought costs",
        nulls=("", "no drop"),
        sound=SOUNDLY,
    ),
    RowSpec(
        "Distribution: is the information spread evenly?",
        "distribution",
        "spread",
        ("std", "tau"),
        axis="std of accuracy over the probed cells, points",
        does="probed cells differ by",
        nulls=("permuted labels", "equal cells"),
        sound="held out, and without sampling error,",
    ),
)


@dataclass(frozen=True)
class StudyRow:
    """A row that was measured.

    winner: who won in the study, and whether that holds here, where two models can tell; released: models whose numbers were
    computed from what others released.
    """

    spec: RowSpec
    picture: Picture
    sentence: str
    winner: StudyWinner | None
    released: Sequence[str]


def study_rows(report: Report) -> list[StudyRow]:
    """Those of which anything was measured."""
    winners = {winner.subject: winner for winner in report.study.winners} if report.study else {}
    rows = []
    for spec in ROWS:
        lines = {model: _lines(spec, table.lines) for model, table in report.tables.items()}
        drawing = picture(spec.axis, {model: _labelled(spec, each) for model, each in lines.items()})
        if drawing is not None:
            released = [model for model, each in lines.items() if any(map(_is_released, each.values()))]
            rows.append(StudyRow(spec, drawing, _sentence(spec, lines), winners.get(spec.subject), released))
    return rows


def _lines(spec: RowSpec, table: Sequence[TableLine]) -> dict[str, TableLine]:
    """By protocol the line of a model that the row shows; of several drops the largest, as published the largest printed too."""
    chosen: dict[str, TableLine] = {}
    for protocol, metric in zip((REPORTED, SOUND), spec.metrics, strict=True):
        lines = [
            line
            for line in table
            if line.groups[-1] == spec.claim
            and line["protocol"].text == protocol
            and re.fullmatch(metric, line["metric"].text.partition(",")[0])
        ]
        measured = [line for line in lines if measured_value(line) is not None]
        if measured:
            chosen[protocol] = replace(max(measured, key=lambda line: measured_value(line) or 0.0), printed=_largest(spec, lines))
    return chosen


def _largest(spec: RowSpec, lines: Sequence[TableLine]) -> dict:
    """What was printed, by model; of several metrics the largest, with where it was."""
    printed: dict[str, tuple] = {}
    for line in lines:
        for name, value in line.printed.items():
            size = finite(value.get("value")) or finite(value.get("high")) or 0.0
            if name not in printed or size > printed[name][0]:
                place = _place(spec, line) if finite(value.get("value")) is not None else ""
                printed[name] = size, f"{name}{place}", value
    return {name: value for _, name, value in printed.values()}


def _place(spec: RowSpec, line: TableLine) -> str:
    """Which latent, where the metric says it."""
    metric = line["metric"].text.partition(",")[0]
    return "" if metric in spec.metrics else f", latent {metric.removeprefix('drop_')}"


def _labelled(spec: RowSpec, lines: Mapping[str, TableLine]) -> list[Labelled]:
    terms = {protocol: _terms(spec, protocol, line) for protocol, line in lines.items()}
    return [Labelled(terms[protocol].label + _place(spec, line), terms[protocol].null, line) for protocol, line in lines.items()]


def _terms(spec: RowSpec, protocol: str, line: TableLine) -> Terms:
    """Only a run holds problems out; counts that others released have another sound protocol, and may have another null."""
    reported_null, sound_null = spec.nulls
    if protocol == REPORTED:
        return Terms("as published", "as published,", reported_null)
    if _is_released(line):
        return Terms("sound protocol", SOUNDLY, spec.released or sound_null)
    return Terms("sound protocol" if spec.sound == SOUNDLY else "held out", spec.sound, sound_null)


def _is_released(line: TableLine) -> bool:
    return line.row is not None and line.row.origin == "released"


def _sentence(spec: RowSpec, lines: Mapping[str, Mapping[str, TableLine]]) -> str:
    """What both protocols read, and what they read where there is nothing; models are named once, and numbers in their order."""
    groups: dict[Terms, dict[str, TableLine]] = {}
    for protocol in (REPORTED, SOUND):
        for model, each in lines.items():
            if protocol in each:
                groups.setdefault(_terms(spec, protocol, each[protocol]), {})[model] = each[protocol]
    parts: list[str] = []
    for terms, known in groups.items():
        is_named = not parts or len(known) < len(lines)
        values = {model: _text(line, "measured") for model, line in known.items()}
        nulls = {model: _text(line, "null") for model, line in known.items()}
        text = f"{terms.opening}{'' if parts else f' {spec.does}'} {_listed(values, named=is_named)}"
        if all(nulls.values()) and any(finite((line.row.null or {}).get("value")) for line in known.values() if line.row):
            text += f", against {_listed(nulls, named=False)} {'on' if terms.null.startswith('permuted') else 'for'} {terms.null}"
        parts.append(text)
    sentence = "; ".join(parts)
    return f"{sentence[:1].upper()}{sentence[1:]}."


def _text(line: TableLine, which: str) -> str:
    """A number without its interval, with its unit."""
    row = line.row
    value = finite((getattr(row, which) or {}).get("value")) if row else None
    unit = shown_unit(row) if row else ""
    return "" if value is None else number({"value": value}, unit, sign_of(unit))


def _listed(texts: Mapping[str, str], *, named: bool) -> str:
    items = [f"{text} ({model})" if named and model else text for model, text in texts.items()]
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))
