"""Rows of results as comparison tables: one a model, one line a metric and protocol, what the study printed beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codi_bench.results import BLOCKED, NOT_RUN, OK, Row

SYMBOLS = {"SAME": "=", "DRIFTED": "✗", "UNCHECKED": "?", BLOCKED: "■", NOT_RUN: "–"}
LEGEND = "= as recorded   ✗ drifted   ? nothing recorded   ■ blocked   – not run"
WORDS = {"SUPPORTED": "✓", "ARTEFACT": "≈", "REFUTED": "⊘", "UNDERPOWERED": "…"}
WORDS_LEGEND = (
    "✓ SUPPORTED   ≈ ARTEFACT (a null makes the number)   ⊘ REFUTED   … UNDERPOWERED (n would decide)\n"
    "* fragile: draws of the null or rounding could change the word   no word: a fact or no honest test"
)
UNITS = {"fraction": ", %", "points": ", points", "nats": ", nats"}
REPORTING = {"gpt2": "GPT-2", "llama-3.2-1b": "LLaMA-1B"}  # the models that the first study is about
REPORTED, SOUND = "reported", "sound"
ORDER = ("accuracy", "mean", "std", "tau", "min", "max", "test_accuracy", "auc", "gain", "train_accuracy", "gap", "drop_bot")


@dataclass(frozen=True)
class Line:
    """One metric of one claim under one protocol on one model, as text; "" where there is nothing.

    study: what the source printed, by the study's model, and its place. mark: of the regression, or of the status. place: the
    cell that a number belongs to. word: the verdict, with its symbol; decide: the n that would decide.
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


def measured_models(rows: Sequence[Row]) -> list[str]:
    """The models that get a table: everything measured, and the user's and embedded models that were blocked."""
    tried = {row.model for row in rows if row.status != NOT_RUN and row.model not in REPORTING}
    return sorted(tried | {row.model for row in rows if row.status == OK})


def counterparts(model: str) -> list[str]:
    """The study's models to show beside a model: itself, or those that share the first part of its name, else both."""
    return [name for name in REPORTING if model.split("-")[0] == name.split("-")[0]] or list(REPORTING)


def table(rows: Sequence[Row], environment: dict, model: str) -> list[Line]:
    """The lines of one model in the order of the claims; of no model (""), what the study printed."""
    beside, lines = counterparts(model), []
    protocols = list(dict.fromkeys([REPORTED, *(row.protocol for row in rows if row.model == model)]))
    for claim in in_order(environment["claims"]):
        mine = [row for row in rows if row.claim == claim and row.model == model]
        printed = [row for row in rows if row.claim == claim and row.model in beside and row.protocol == REPORTED]
        # a claim without any number under a protocol: its status stands on every line
        stopped = {row.protocol: row for row in mine if row.metric == "-"}
        named = sorted((row for row in [*mine, *printed] if row.metric != "-"), key=metric_order)
        for label in dict.fromkeys(_label(row, environment) for row in named) or ["-"]:
            same = {row.protocol: row for row in mine if _label(row, environment) == label}
            by_name = {row.model: row for row in printed if _label(row, environment) == label}
            unit = next((_unit(row) for row in [*same.values(), *by_name.values()] if row.unit), "")
            study = {name: (number(row.reported, unit), place(row)) for name, row in by_name.items() if row.reported}
            for protocol in protocols:
                row = same.get(protocol) or stopped.get(protocol)
                shown = study if protocol == REPORTED else {}
                if row or shown:
                    lines.append(_line(claim, label + UNITS.get(unit, ""), protocol, shown, row))
    return lines


def _line(claim: str, metric: str, protocol: str, study: dict, row: Row | None) -> Line:
    if row is None or row.status != OK:
        return Line(claim, metric, protocol, study, mark=mark(row) if row else "")
    decide = row.detail.get("decide") if protocol != REPORTED else None  # what decides is more problems, soundly
    return Line(
        claim,
        metric,
        protocol,
        study,
        n=str(row.n) if row.n and row.n > 1 else "",
        measured=number(row.measured, _unit(row)),
        place=place(row),
        mark=mark(row),
        null=number(row.null, _unit(row)),
        p=f"{row.null['p']:.2g}" if row.null and row.null.get("p") is not None else "",
        word=f"{word(row.validity)}{'*' if row.detail.get('fragile') else ''}" if row.validity else "",
        decide=f"n ≥ {decide}" if decide else "",
    )


def in_order(claims: dict[str, dict]) -> list[str]:
    """The ids of the claims as their source tells them (JSON objects have no order of their own)."""
    return sorted(claims, key=lambda name: claims[name]["position"])


def mark(row: Row) -> str:
    """The symbol of a row's regression, or of its status; a blocked row that is also red has both."""
    if row.status == OK:
        return SYMBOLS[row.regression]
    return SYMBOLS[row.status] + (f" {SYMBOLS['DRIFTED']}" if row.regression == "DRIFTED" else "")


def word(validity: str) -> str:
    """A verdict with its symbol, so that neither colour nor symbol has to be known."""
    return f"{WORDS[validity]} {validity}"


def number(value: dict | None, unit: str, sign: str = "") -> str:
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

    low, high = value.get("low"), value.get("high")
    if value.get("value") is None:
        return f"{show(low)}–{show(high)}{sign}" if None not in (low, high) else ""
    return show(value["value"]) + sign + (f" [{show(low)}, {show(high)}]" if None not in (low, high) else "")


def place(row: Row) -> str:
    """Where a number was found, unless its metric says so already (drop_2, mean_L8)."""
    where = row.cell or {}
    layer, latent = where.get("layer"), where.get("latent_pos")
    if latent is None or row.metric.endswith(f"_{latent}"):
        return ""
    named = "bot" if latent == "bot" else f"latent {latent}"
    return named if layer is None else f"L{layer} {named}"


def notes(rows: Sequence[Row]) -> list[str]:
    """What has to be said beside a number."""
    return [
        f"note, {row.claim} on {row.model}: {row.metric}{_soundly(row)}: {row.detail['note']}"
        for row in rows
        if "note" in row.detail
    ]


def winners(environment: dict) -> list[str]:
    """How two models differ and who is better, with p; with more than two models one entry a pair."""
    found = list(environment.get("winners", {}).values())
    lines = []
    for claim in dict.fromkeys(each["claim"] for each in found):
        pairs = [each for each in found if each["claim"] == claim]
        lines.append(f"winner, {claim} {pairs[0]['metric']}: {'; '.join(map(_pair, pairs))}; {pairs[0]['test']}")
    return lines


def _pair(each: dict) -> str:
    """Who is better, and by how much: an AUC in its own unit, all else in points."""
    value, low, high = (each["difference"][key] for key in ("value", "low", "high"))
    scale, digits, unit = (1, 3, "") if each["metric"] == "auc" else (1 if each["unit"] == "points" else 100, 1, " points")
    interval = "" if low is None else f" [{scale * low:+.{digits}f}, {scale * high:+.{digits}f}]"
    p = "" if each["p"] is None else f", p = {each['p']:.2g}"
    return f"{each['winner'] or 'none'} ({' - '.join(each['models'])} = {scale * value:+.{digits}f}{interval}{unit}{p})"


def reproductions(rows: Sequence[Row]) -> list[str]:
    """For each of the source's own models, which published numbers came out and which did not."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row.reproduction:
            found.setdefault(row.model, {}).setdefault(row.reproduction, []).append(f"{row.claim} {row.metric}")
    return [
        f"reproduction, {model}: " + "; ".join(f"{word}: {', '.join(what)}" for word, what in sorted(words.items()))
        for model, words in found.items()
    ]


def blocked_or_not_run(rows: Sequence[Row]) -> list[str]:
    """One line a reason, with what it stopped: nothing that was not measured may be forgotten."""
    reasons: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.status != OK:
            reasons.setdefault((row.status, row.model, row.reason), []).append(row)
    lines = []
    for (status, model, reason), stopped in reasons.items():
        count = len({row.claim for row in stopped})
        only = ", soundly" if all(row.protocol == SOUND for row in stopped) else ""
        lines.append(f"{SYMBOLS[status]} {status} {model}: {count} claim{'s' if count > 1 else ''}{only}: {reason}")
    return lines


def drifted(rows: Sequence[Row]) -> list[str]:
    """What is red, and why."""
    return [f"{row.claim} on {row.model}{_soundly(row)}: {row.reason}" for row in rows if row.regression == "DRIFTED"]


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many rows came out how; not-run, blocked and unchecked apart from everything else."""
    found = {"same": 0, "drifted": 0, "unchecked": 0, "blocked": 0, "not-run": 0}
    for row in rows:
        found[row.regression.lower() if row.status == OK or row.regression == "DRIFTED" else row.status] += 1
    return found


def _soundly(row: Row) -> str:
    return ", soundly" if row.protocol == SOUND else ""


def _unit(row: Row) -> str:
    """An AUC is no share of problems: it is not shown in percent."""
    return "auc" if row.metric == "auc" or row.metric.endswith("_auc") else row.unit


def _label(row: Row, environment: dict) -> str:
    """The metric's name; `mean_L<l>` of models with other depths share a line by the rank of the layer among the probed ones."""
    if not row.metric.startswith("mean_L"):
        return row.metric
    layers = environment["layers"].get(row.model, [])
    if int(row.metric[6:]) not in layers:  # reported for the registered model, while another lies under its name
        return row.metric
    return f"mean, layer {layers.index(int(row.metric[6:])) + 1}/{len(layers)}"


def metric_order(row: Row) -> tuple:
    """Where a metric stands within its claim: the known ones first, layers by depth."""
    return (
        ORDER.index(row.metric) if row.metric in ORDER else len(ORDER),
        row.metric.startswith("mean_L") and int(row.metric[6:]),
        row.metric,
    )
