"""Rows of results as the comparison table: one line a claim and metric, one column a model."""

from __future__ import annotations

from dataclasses import dataclass

from codi_bench.results import BLOCKED, NOT_RUN, OK, Row

SYMBOLS = {"SAME": "=", "DRIFTED": "✗", "UNCHECKED": "?", BLOCKED: "■", NOT_RUN: "–"}
LEGEND = "= as recorded   ✗ drifted   ? nothing recorded   ■ blocked   – not run"
UNITS = {"fraction": ", %", "points": ", points"}
REPORTING = {"gpt2": "GPT-2", "llama-3.2-1b": "LLaMA-1B"}  # the models that the first study is about


@dataclass(frozen=True)
class Line:
    """One line: claim, metric, number of problems, reported figures, one cell a measured model, and the winner."""

    claim: str
    metric: str
    n: str
    reported: dict[str, str]
    measured: dict[str, str]
    winner: str


def table(rows: list[Row], environment: dict) -> tuple[list[str], list[Line]]:
    """The measured models in column order, and the lines in the order of the claims."""
    models = sorted(
        {row.model for row in rows if row.status != NOT_RUN and row.model not in REPORTING}
        | {row.model for row in rows if row.status == OK}
    )
    lines = []
    for claim in in_order(environment["claims"]):
        mine = [row for row in rows if row.claim == claim]
        # a claim without any number on a model: its status stands on every line
        stopped = {row.model: row for row in mine if row.metric == "-"}
        named = [row for row in sorted(mine, key=_metric_order) if row.metric != "-"]
        for metric in dict.fromkeys(_label(row, environment) for row in named) or ["-"]:
            same = {row.model: row for row in mine if _label(row, environment) == metric}
            measured = {
                model: cell(same.get(model) or stopped[model]) if model in same or model in stopped else "" for model in models
            }
            reported = {
                name: number(row.reported, row.unit, row.cell) for name in REPORTING if (row := same.get(name)) and row.reported
            }
            unit = next((row.unit for row in same.values() if row.unit), "")
            count = "/".join(dict.fromkeys(str(row.n) for name, row in same.items() if name in models and row.n and row.n > 1))
            lines.append(Line(claim, metric + UNITS.get(unit, ""), count, reported, measured, _winner(claim, environment)))
    return models, lines


def in_order(claims: dict[str, dict]) -> list[str]:
    """The ids of the claims as their source tells them (JSON objects have no order of their own)."""
    return sorted(claims, key=lambda name: claims[name]["position"])


def cell(row: Row) -> str:
    """A measured number with its interval and the symbol of its regression, or the symbol of its status."""
    if row.status != OK:
        return SYMBOLS[row.status]
    return f"{number(row.measured, row.unit, row.cell)} {SYMBOLS[row.regression]}"


def number(value: dict | None, unit: str, where: dict | None = None) -> str:
    """A number as people read it: rates in percent, differences in points, a range where only that was printed."""
    if value is None:
        return ""

    def show(x: float) -> str:
        if unit == "count":
            return f"{x / 1e9:.3g} B" if x >= 1e9 else f"{x / 1e6:.3g} M" if x >= 1e5 else f"{x:.0f}"
        return f"{100 * x if unit == 'fraction' else x:.1f}"

    low, high = value["low"], value["high"]
    if value["value"] is None:
        return f"{show(low)}–{show(high)}"
    text = show(value["value"]) + (f" [{show(low)}, {show(high)}]" if None not in (low, high) else "")
    return text + (f" {_cell(where)}" if where and where.get("layer") is not None and where.get("latent_pos") is not None else "")


def notes(rows: list[Row]) -> list[str]:
    """What has to be said beside a number."""
    return [f"note, {row.claim} on {row.model}: {row.metric}: {row.detail['note']}" for row in rows if row.detail.get("note")]


def reproductions(rows: list[Row]) -> list[str]:
    """For each of the source's own models, which published numbers came out and which did not."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row.reproduction:
            found.setdefault(row.model, {}).setdefault(row.reproduction, []).append(f"{row.claim} {row.metric}")
    return [
        f"reproduction, {model}: " + "; ".join(f"{word}: {', '.join(what)}" for word, what in sorted(words.items()))
        for model, words in found.items()
    ]


def blocked_or_not_run(rows: list[Row]) -> list[str]:
    """One line a reason, with what it stopped: nothing that was not measured may be forgotten."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.status != OK:
            reasons.setdefault((row.status, row.model, row.reason), []).append(row.claim)
    lines = []
    for (status, model, reason), claims in reasons.items():
        count = len(set(claims))
        lines.append(f"{SYMBOLS[status]} {status} {model}: {count} claim{'s' if count > 1 else ''}: {reason}")
    return lines


def counts(rows: list[Row]) -> dict[str, int]:
    """How many rows came out how; not-run, blocked and unchecked apart from everything else."""
    found = {"same": 0, "drifted": 0, "unchecked": 0, "blocked": 0, "not-run": 0}
    for row in rows:
        found[row.regression.lower() if row.status == OK or row.regression == "DRIFTED" else row.status] += 1
    return found


def _label(row: Row, environment: dict) -> str:
    """The metric's name; `mean_L<l>` of models with other depths share a line by the rank of the layer among the probed ones."""
    if not row.metric.startswith("mean_L"):
        return row.metric
    layers = environment["layers"][row.model]
    if int(row.metric[6:]) not in layers:  # reported for the registered model, while another lies under its name
        return row.metric
    return f"mean, layer {layers.index(int(row.metric[6:])) + 1}/{len(layers)}"


def _metric_order(row: Row) -> tuple:
    order = ("accuracy", "mean", "std", "min", "max", "test_accuracy", "train_accuracy", "gap", "drop_bot")
    return (
        order.index(row.metric) if row.metric in order else len(order),
        row.metric.startswith("mean_L") and int(row.metric[6:]),
        row.metric,
    )


def _cell(where: dict) -> str:
    place = where["latent_pos"]
    return f"@ L{where['layer']} {'bot' if place == 'bot' else f'latent {place}'}"


def _winner(claim: str, environment: dict) -> str:
    """Who is better on the same problems, with p; with more than two models one entry a pair."""
    pairs = [found for found in environment.get("winners", {}).values() if found["claim"] == claim]
    among = [f" of {', '.join(found['models'])}" if len(pairs) > 1 else "" for found in pairs]
    return "; ".join(f"{found['winner'] or 'none'}{text} (p = {found['p']:.2g})" for found, text in zip(pairs, among))
