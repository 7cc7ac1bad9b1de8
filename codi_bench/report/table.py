"""Rows of results as comparison tables: one a model, one line a metric and protocol, what the study printed beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from codi_bench.records.results import BLOCKED, NOT_RUN, OK, Row
from codi_bench.records.results_schema import Number, Winner

SYMBOLS = {"SAME": "=", "DRIFTED": "✗", "UNCHECKED": "?", BLOCKED: "■", NOT_RUN: "–"}
LEGEND = "= as recorded   ✗ drifted   ? nothing recorded   ■ blocked   – not run"
WORDS = {"SUPPORTED": "✓", "ARTEFACT": "≈", "REFUTED": "⊘", "UNDERPOWERED": "…"}
WORDS_LEGEND = (
    "✓ SUPPORTED   ≈ ARTEFACT (a null makes the number)   ⊘ REFUTED   … UNDERPOWERED (n would decide)\n"
    "* fragile: draws of the null or rounding could change the word   no word: a fact or no honest test"
)
CAME_OUT = {"REPRODUCED": "●", "NOT REPRODUCED": "○", "INCONCLUSIVE": "◐"}
CAME_OUT_LEGEND = "does the published number come out?   ● REPRODUCED   ○ NOT REPRODUCED   ◐ INCONCLUSIVE"
UNITS = {"fraction": ", %", "points": ", points", "nats": ", nats"}
REPORTING = {"gpt2": "GPT-2", "llama-3.2-1b": "LLaMA-1B"}  # the models that the first study is about
COUNTERPART_NAMES = REPORTING | {"coconut-gpt2": "Coconut"}  # and one whose published numbers stand beside itself alone
REPORTED, SOUND = "reported", "sound"
ORDER = ("accuracy", "mean", "std", "tau", "min", "max", "test_accuracy", "auc", "gain", "train_accuracy", "gap", "drop_bot")


@dataclass(frozen=True)
class TableLine:
    """One metric of one claim under one protocol on one model, as text; "" where there is nothing.

    study: what the source printed, by the study's model, and its place. mark: of the regression, or of the status. place: the
    cell that a number belongs to. word: the verdict, with its symbol; decide: the n that would decide. family: of the claim.
    reproduction: its word with its symbol. regression: the mark with its word.
    """

    claim: str
    metric: str
    protocol: str
    study: dict[str, tuple[str, str]]
    n: str = ""
    measured: str = ""
    place: str = ""
    mark: str = ""
    null: str = ""
    p: str = ""
    word: str = ""
    decide: str = ""
    family: str = ""
    reproduction: str = ""
    regression: str = ""


def measured_models(rows: Sequence[Row]) -> list[str]:
    """The models that get a table: everything measured, and the user's and embedded models that were blocked."""
    models = {row.model for row in rows if row.status != NOT_RUN and row.model not in COUNTERPART_NAMES}
    return sorted(models | {row.model for row in rows if row.status == OK})


def counterparts(model: str) -> list[str]:
    """The published models to show beside a model: itself, or the study's that share the first part of its name, else both."""
    if model in COUNTERPART_NAMES:
        return [model]
    return [name for name in REPORTING if model.split("-")[0] == name.split("-")[0]] or list(REPORTING)


def table(rows: Sequence[Row], environment: dict, model: str) -> list[TableLine]:
    """The lines of one model, family after family of claims; of no model (""), what the study printed."""
    published_models, lines = counterparts(model), []
    protocols = list(dict.fromkeys([REPORTED, *(row.protocol for row in rows if row.model == model)]))
    for claim, family in by_family(rows, environment):
        claim_rows = [row for row in rows if row.claim == claim and row.model == model]
        study_rows = [row for row in rows if row.claim == claim and row.model in published_models and row.protocol == REPORTED]
        # a claim without any number under a protocol: its status stands on every line
        status_rows = {row.protocol: row for row in claim_rows if row.metric == "-"}
        metric_rows = sorted((row for row in [*claim_rows, *study_rows] if row.metric != "-"), key=metric_order)
        for label in dict.fromkeys(_label(row, environment) for row in metric_rows) or ["-"]:
            by_protocol = {row.protocol: row for row in claim_rows if _label(row, environment) == label}
            by_model = {row.model: row for row in study_rows if _label(row, environment) == label}
            unit = next((shown_unit(row) for row in [*by_protocol.values(), *by_model.values()] if row.unit), "")
            study = {name: (number(row.reported, unit), place(row)) for name, row in by_model.items() if row.reported}
            for protocol in protocols:
                row = by_protocol.get(protocol) or status_rows.get(protocol)
                study_texts = study if protocol == REPORTED else {}
                if row or study_texts:
                    lines.append(_line(claim, label + UNITS.get(unit, ""), protocol, study_texts, row, family))
    return lines


def _line(claim: str, metric: str, protocol: str, study: dict[str, tuple[str, str]], row: Row | None, family: str) -> TableLine:
    if row is None:
        return TableLine(claim, metric, protocol, study, family=family)
    status = {"mark": mark(row), "regression": outcome(row)}
    if row.status != OK:
        return TableLine(claim, metric, protocol, study, family=family, **status)
    decide = row.detail.get("decide") if protocol != REPORTED else None  # what decides is more problems, soundly
    return TableLine(
        claim,
        metric,
        protocol,
        study,
        n=str(row.n) if row.n and row.n > 1 else "",
        measured=number(row.measured, shown_unit(row)),
        place=place(row),
        null=number(row.null, shown_unit(row)),
        p=f"{row.null['p']:.2g}" if row.null and is_number(row.null.get("p")) else "",
        word=f"{word(row.validity)}{'*' if row.detail.get('fragile') else ''}" if row.validity else "",
        decide=f"n ≥ {decide}" if decide else "",
        family=family,
        reproduction=f"{CAME_OUT[row.reproduction]} {row.reproduction}" if row.reproduction else "",
        **status,
    )


def by_family(rows: Sequence[Row], environment: dict) -> list[tuple[str, str]]:
    """Claims with their families, a family at a time, in the source's order; claims that only rows know come last."""
    claims = environment.get("claims") or {}
    names = list(dict.fromkeys([*in_order(claims), *(row.claim for row in rows)]))
    families = {name: claims.get(name, {}).get("family") or "other claims" for name in names}
    order = list(dict.fromkeys(families.values()))
    return sorted(families.items(), key=lambda item: order.index(item[1]))


def in_order(claims: dict[str, dict]) -> list[str]:
    """The ids of the claims as their source tells them (JSON objects have no order of their own)."""
    return sorted(claims, key=lambda name: claims[name].get("position", 0))


def mark(row: Row) -> str:
    """The symbol of a row's regression, or of its status; a blocked row that is also red has both."""
    if row.status == OK:
        return SYMBOLS[row.regression]
    return SYMBOLS[row.status] + (f" {SYMBOLS['DRIFTED']}" if row.regression == "DRIFTED" else "")


def outcome(row: Row) -> str:
    """The mark with its word: `= SAME`, `■ BLOCKED`, `■ ✗ BLOCKED, DRIFTED`."""
    if row.status == OK:
        return f"{mark(row)} {row.regression}"
    suffix = ", DRIFTED" if row.regression == "DRIFTED" else ""
    return f"{mark(row)} {row.status.upper().replace('-', ' ')}{suffix}"


def is_number(x: float | None) -> TypeGuard[float]:
    """Is it a number? NaN is none: nothing that is not a number is printed as one."""
    return x is not None and not math.isnan(x)


def word(validity: str) -> str:
    """A verdict with its symbol, so that neither colour nor symbol has to be known."""
    return f"{WORDS[validity]} {validity}"


def number(value: Number | Mapping[str, float | None] | None, unit: str, sign: str = "") -> str:
    """A number as people read it: rates in percent, differences in points, a range where only that was printed.

    sign: what to write behind the number, before its interval (" %" in a sentence).
    """
    if value is None:
        return ""

    def show(x: float) -> str:
        if unit == "count":
            return f"{x / 1e9:.3g} B" if x >= 1e9 else f"{x / 1e6:.3g} M" if x >= 1e5 else f"{x:.0f}"
        if unit in ("auc", "nats"):
            return f"{x:.2f}"
        return f"{round(100 * x if unit == 'fraction' else x, 1) + 0.0:.1f}"  # never -0.0

    point, low, high = value.get("value"), value.get("low"), value.get("high")
    ends = (show(low), show(high)) if is_number(low) and is_number(high) else None
    if not is_number(point):
        return f"{ends[0]}–{ends[1]}{sign}" if ends else ""
    return show(point) + sign + (f" [{ends[0]}, {ends[1]}]" if ends else "")


def place(row: Row) -> str:
    """Where a number was found, unless its metric says so already (drop_2, mean_L8)."""
    cell = row.cell or {}
    layer, latent_pos = cell.get("layer"), cell.get("latent_pos")
    if latent_pos is None or row.metric.endswith(f"_{latent_pos}"):
        return ""
    position = "bot" if latent_pos == "bot" else f"latent {latent_pos}"
    return position if layer is None else f"L{layer} {position}"


def notes(rows: Sequence[Row]) -> list[str]:
    """What has to be said beside a number; of records that other code made, how many there are."""
    pairs = {(row.claim, row.model) for row in rows if "code" in row.detail}
    count = f"{len(pairs)} record{'s' * (len(pairs) > 1)} made by other code: what counts is whether numbers moved"
    return [count] * bool(pairs) + [
        f"note, {row.claim} on {row.model}: {row.metric}{_soundly(row)}: {row.detail['note']}"
        for row in rows
        if "note" in row.detail
    ]


def winners(environment: dict) -> list[str]:
    """How two models differ and who is better, with p; with more than two models one entry a pair."""
    comparisons = list((environment.get("winners") or {}).values())
    lines = []
    for claim in dict.fromkeys(comparison["claim"] for comparison in comparisons):
        pairs = [comparison for comparison in comparisons if comparison["claim"] == claim]
        lines.append(f"winner, {claim} {pairs[0]['metric']}: {'; '.join(map(_pair, pairs))}; {pairs[0]['test']}")
    return lines


def winners_among(environment: dict, claims: Sequence[str], model: str) -> list[str]:
    """The same in short, a line a pair: what concerns one model and some claims; its interval only where there is no p."""
    return [
        f"winner by {comparison['metric']} ({comparison['claim']}): {comparison['winner'] or 'none'}, "
        + _difference(comparison, interval=not is_number(comparison.get("p")))
        for comparison in (environment.get("winners") or {}).values()
        if comparison["claim"] in claims and model in comparison["models"]
    ]


def _pair(comparison: Winner) -> str:
    return f"{comparison['winner'] or 'none'} ({_difference(comparison)})"


def _difference(comparison: Winner, *, interval: bool = True) -> str:
    """By how much two models differ, with p: an AUC in its own unit, all else in points."""
    difference = comparison["difference"]
    value, low, high = difference["value"], difference["low"], difference["high"]
    scale, digits, unit = (
        (1, 3, "") if comparison["metric"] == "auc" else (1 if comparison["unit"] == "points" else 100, 1, " points")
    )
    band = f" [{scale * low:+.{digits}f}, {scale * high:+.{digits}f}]" if interval and is_number(low) and is_number(high) else ""
    p = f", p = {comparison['p']:.2g}" if is_number(comparison.get("p")) else ""
    return f"{' - '.join(comparison['models'])} = {scale * value:+.{digits}f}{band}{unit}{p}"


def reproductions(rows: Sequence[Row]) -> list[str]:
    """For each of the source's own models, which published numbers came out and which did not."""
    by_model: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row.reproduction:
            by_model.setdefault(row.model, {}).setdefault(row.reproduction, []).append(f"{row.claim} {row.metric}")
    return [
        f"reproduction, {model}: " + "; ".join(f"{word}: {', '.join(metrics)}" for word, metrics in sorted(words.items()))
        for model, words in by_model.items()
    ]


def blocked_or_not_run(rows: Sequence[Row]) -> list[str]:
    """One line a reason, with what it stopped: nothing that was not measured may be forgotten."""
    return [
        f"{SYMBOLS[status]} {status} {model}: {len(claims)} claim{'s' * (len(claims) > 1)}{', soundly' * soundly}"
        + (f": {reason}" if reason else "")
        for status, model, claims, soundly, reason in stopped(rows)
    ]


def stopped(rows: Sequence[Row]) -> list[tuple[str, str, list[str], bool, str]]:
    """Status, model, claims, whether only the sound protocol was stopped, and why: once a reason."""
    reasons: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.status != OK:
            reasons.setdefault((row.status, row.model, row.reason), []).append(row)
    return [
        (status, model, list(dict.fromkeys(row.claim for row in group)), all(row.protocol == SOUND for row in group), reason)
        for (status, model, reason), group in reasons.items()
    ]


def drifted(rows: Sequence[Row]) -> list[str]:
    """What is red, and why, once a reason."""
    lines = [f"{row.claim} on {row.model}{_soundly(row)}: {row.reason}" for row in rows if row.regression == "DRIFTED"]
    return list(dict.fromkeys(lines))


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many rows came out how; not-run, blocked and unchecked apart from everything else."""
    tally = {"same": 0, "drifted": 0, "unchecked": 0, "blocked": 0, "not-run": 0}
    for row in rows:
        tally[row.regression.lower() if row.status == OK or row.regression == "DRIFTED" else row.status] += 1
    return tally


def _soundly(row: Row) -> str:
    return ", soundly" if row.protocol == SOUND else ""


def shown_unit(row: Row) -> str:
    """An AUC is no share of problems: it is not shown in percent."""
    return "auc" if row.metric == "auc" or row.metric.endswith("_auc") else row.unit


def _label(row: Row, environment: dict) -> str:
    """The metric's name; `mean_L<l>` of models with other depths share a line by the rank of the layer among the probed ones."""
    if not row.metric.startswith("mean_L"):
        return row.metric
    layers = (environment.get("layers") or {}).get(row.model, [])
    if (
        not row.metric[6:].isdecimal() or int(row.metric[6:]) not in layers
    ):  # reported for the registered model, while another lies under its name
        return row.metric
    return f"mean, layer {layers.index(int(row.metric[6:])) + 1}/{len(layers)}"


def metric_order(row: Row) -> tuple[int, int, str]:
    """Where a metric stands within its claim: the known ones first, layers by depth."""
    return (
        ORDER.index(row.metric) if row.metric in ORDER else len(ORDER),
        int(row.metric[6:]) if row.metric.startswith("mean_L") and row.metric[6:].isdecimal() else 0,
        row.metric,
    )
