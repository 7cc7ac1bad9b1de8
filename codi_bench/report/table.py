"""The table: one value that terminal, Markdown, LaTeX, page and notebook are written from, and how it is made of a run's rows.

One table a model, one line a metric and protocol, what the study printed beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, TypeGuard

from codi_bench.records.results import BLOCKED, NOT_RUN, OK, Number, Row, finite

SYMBOLS = {"SAME": "=", "DRIFTED": "✗", "UNCHECKED": "?", BLOCKED: "■", NOT_RUN: "–"}
LEGEND = "= as recorded   ✗ drifted   ? nothing recorded   ■ blocked   – not run"
WORDS = {"SUPPORTED": "✓", "ARTEFACT": "≈", "REFUTED": "⊘", "UNDERPOWERED": "…"}
WORDS_LEGEND = (
    "✓ SUPPORTED   ≈ ARTEFACT (a null makes the number)   ⊘ REFUTED   … UNDERPOWERED (n would decide)\n"
    "* fragile: draws of the null or rounding could change the word   no word: a fact or no valid test"
)
CAME_OUT = {"REPRODUCED": "●", "NOT REPRODUCED": "○", "INCONCLUSIVE": "◐"}
CAME_OUT_LEGEND = "does the published number come out?   ● REPRODUCED   ○ NOT REPRODUCED   ◐ INCONCLUSIVE"
UNITS = {"fraction": ", %", "points": ", points", "nats": ", nats"}
REPORTING = {"gpt2": "GPT-2", "llama-3.2-1b": "LLaMA-1B"}  # the models that the first study is about
SIM_COT = ("sim-cot-gpt2", "sim-cot-llama-1b", "sim-cot-llama-3b", "sim-cot-llama-8b", "sim-cot-coconut")
COUNTERPART_NAMES = REPORTING | {"coconut-gpt2": "Coconut"} | dict.fromkeys(SIM_COT, "SIM-CoT")  # the others stand alone
REPORTED, SOUND = "reported", "sound"
PROTOCOLS = {REPORTED: "as published", SOUND: "sound"}  # as people read them
ORDER = ("accuracy", "mean", "std", "tau", "min", "max", "test_accuracy", "auc", "gain", "train_accuracy", "gap", "drop_bot")


@dataclass(frozen=True)
class Cell:
    """A number or a word; mark: the symbol before it; note: a place, a p or an n that stands under or behind it."""

    text: str = ""
    mark: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.mark} {self.text}".strip()


@dataclass(frozen=True)
class Column:
    """A column by its head. joint: what separates a cell from its note where both stand on one line."""

    head: str
    side: Literal["left", "right"] = "left"
    joint: str = ", "


@dataclass(frozen=True)
class TableLine:
    """Cells by the head of their column, an empty one where there is none. groups: the names it stands under, the widest first.

    row: the result behind the line, if there is one. printed: what the study printed, by the name of its model.
    """

    groups: tuple[str, ...]
    cells: Mapping[str, Cell]
    row: Row | None = None
    printed: Mapping[str, Number] = field(default_factory=dict)

    def __getitem__(self, head: str) -> Cell:
        return self.cells.get(head, Cell())


@dataclass(frozen=True)
class Table:
    """Lines in the order of their groups. group_heads: what these are."""

    title: str
    columns: tuple[Column, ...]
    lines: tuple[TableLine, ...]
    group_heads: tuple[str, ...] = ()


def results_table(rows: Sequence[Row], environment: dict, model: str) -> Table:
    """One model's table, family after family of claims; of no model (""), what the study printed."""
    published_models, lines = counterparts(model), []
    protocols = list(dict.fromkeys([REPORTED, *(row.protocol for row in rows if row.model == model)]))
    by_claim: dict[str, list[Row]] = {}
    for row in rows:
        by_claim.setdefault(row.claim, []).append(row)
    for claim, family in by_family(rows, environment):
        claim_rows = [row for row in by_claim.get(claim, ()) if row.model == model]
        study_rows = [row for row in by_claim.get(claim, ()) if row.model in published_models and row.protocol == REPORTED]
        # a claim without any number under a protocol: its status stands on every line
        status_rows = {row.protocol: row for row in claim_rows if row.metric == "-"}
        metric_rows = sorted((row for row in [*claim_rows, *study_rows] if row.metric != "-"), key=metric_order)
        for label in dict.fromkeys(_label(row, environment) for row in metric_rows) or ["-"]:
            by_protocol = {row.protocol: row for row in claim_rows if _label(row, environment) == label}
            by_model = {row.model: row for row in study_rows if row.reported and _label(row, environment) == label}
            unit = next((shown_unit(row) for row in [*by_protocol.values(), *by_model.values()] if row.unit), "")
            printed = {COUNTERPART_NAMES[name]: by_model[name].reported or {} for name in published_models if name in by_model}
            study = {
                f"{COUNTERPART_NAMES[name]} reported": Cell(number(row.reported, unit), note=place(row))
                for name, row in by_model.items()
            }
            for protocol in protocols:
                result = by_protocol.get(protocol) or status_rows.get(protocol)
                study_cells = study if protocol == REPORTED else {}
                if result or study_cells:
                    names = {"metric": Cell(label + UNITS.get(unit, "")), "protocol": Cell(protocol)}
                    cells = names | study_cells | (_cells(result) if result else {})
                    lines.append(TableLine((family, claim), cells, result, printed))
    numbers = [*(f"{COUNTERPART_NAMES[name]} reported" for name in published_models), "measured"]
    columns = [Column("metric"), Column("protocol"), *(Column(head, "right", " @ ") for head in numbers)]
    columns += [Column("null", "right"), Column("n", "right"), *map(Column, ("reproduction", "validity", "regression"))]
    return Table(model, tuple(columns), tuple(lines), ("family", "claim"))


def _cells(row: Row) -> dict[str, Cell]:
    """What a row says: its numbers and words if it was measured, else why not."""
    cells = {"regression": outcome(row)}
    if row.status != OK:
        return cells | ({"measured": Cell(number(row.recorded, shown_unit(row)), note="recorded")} if row.recorded else {})
    unit = shown_unit(row)
    decide = row.detail.get("decide") if row.protocol != REPORTED else None  # more problems decide the sound protocol alone
    p = p_clause((row.null or {}).get("p"))
    cells |= {"measured": Cell(number(row.measured, unit), note=place(row)), "null": Cell(number(row.null, unit), note=p)}
    cells |= {"n": Cell(str(row.n))} if row.n and row.n > 1 else {}
    if row.reproduction:
        cells["reproduction"] = Cell(row.reproduction, CAME_OUT[row.reproduction])
    note = f"n ≥ {decide}" if decide else ""
    validity = f"{row.validity}{'*' if row.detail.get('fragile') else ''}" if row.validity else ""
    return cells | {"validity": Cell(validity, WORDS[row.validity] if row.validity else "", note)}


def outcome(row: Row) -> Cell:
    """The regression of a row, or its status; a blocked row that is also red has both: `■ ✗ BLOCKED, DRIFTED`."""
    if row.status == OK:
        return Cell(row.regression, SYMBOLS[row.regression])
    red = row.regression == "DRIFTED"
    return Cell(in_capitals(row.status) + ", DRIFTED" * red, SYMBOLS[row.status] + f" {SYMBOLS['DRIFTED']}" * red)


def in_capitals(status: str) -> str:
    """A status as it is shown beside the other words: NOT RUN."""
    return status.upper().replace("-", " ")


# --- models, claims and metrics in order -----------------------------------------------------------------------------


def measured_models(rows: Sequence[Row]) -> list[str]:
    """The models that get a table: everything measured, and the user's and embedded models that were blocked."""
    models = {row.model for row in rows if row.status != NOT_RUN and row.model not in COUNTERPART_NAMES}
    return sorted(models | {row.model for row in rows if row.status == OK})


def counterparts(model: str) -> list[str]:
    """The published models to show beside a model: itself, or the study's that share the first part of its name, else both."""
    if model in COUNTERPART_NAMES:
        return [model]
    return [name for name in REPORTING if model.split("-")[0] == name.split("-")[0]] or list(REPORTING)


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


def shown_unit(row: Row) -> str:
    """An AUC is no share of problems: it is not shown in percent."""
    return "auc" if row.metric == "auc" or row.metric.endswith("_auc") else row.unit


def _label(row: Row, environment: dict) -> str:
    """The metric's name; `mean_L<l>` of models with other depths share a line by the rank of the layer among the probed ones."""
    layer, layers = _layer(row.metric), (environment.get("layers") or {}).get(row.model, [])
    if layer not in layers:  # or reported for the registered model, while another lies under its name
        return row.metric
    return f"mean, layer {layers.index(layer) + 1}/{len(layers)}"


def _layer(metric: str) -> int | None:
    """Of `mean_L<l>`."""
    number = metric.removeprefix("mean_L")
    return int(number) if number != metric and number.isdecimal() else None


def metric_order(row: Row) -> tuple[int, int, str]:
    """Where a metric stands within its claim: the known ones first, layers by depth."""
    return (ORDER.index(row.metric) if row.metric in ORDER else len(ORDER), _layer(row.metric) or 0, row.metric)


def nested(lines: Sequence[TableLine]) -> list[TableLine]:
    """The lines of a table, those of each claim under one of its own, which has no cells."""
    nested_lines: list[TableLine] = []
    for groups, group in groupby(lines, key=lambda line: line.groups):
        nested_lines += [TableLine(groups, {}), *group]
    return nested_lines


def labels(lines: Sequence[TableLine], width: int | None = None) -> list[str]:
    """A claim's name, and indented under it its metrics: as its source measured it a metric has its name alone.

    width: a metric of the sound protocol alone says so under its name where that is wider.
    """
    texts, previous = [], ""
    for line in lines:
        metric, protocol = line["metric"].text, line["protocol"].text
        label = f"  {metric}" if metric else line.groups[-1]
        if protocol not in ("", REPORTED):
            name = protocol
            gap = "\n    " if width is not None and len(f"{metric}, {name}") > width else " "
            label = f"    {name}" if metric == previous else f"{label},{gap}{name}"
        texts.append(label)
        previous = metric
    return texts


# --- numbers as text -------------------------------------------------------------------------------------------------


def is_number(x: float | None) -> TypeGuard[float]:
    """Is it a number? NaN is none: nothing that is not a number is printed as one."""
    return finite(x) is not None


def word(validity: str | None) -> str:
    """A verdict with its symbol, so that neither colour nor symbol has to be known; "" for a number without one."""
    return f"{WORDS[validity]} {validity}" if validity else ""


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


def sign_of(unit: str) -> str:
    """What stands behind a number of that unit in a sentence: " %", " points", " nats" or nothing."""
    return UNITS.get(unit, "").removeprefix(",")


def p_clause(p: float | None) -> str:
    """p = 0.016; "" if there is none. A p of an exact test may be smaller than any float, and is never 0."""
    return "" if not is_number(p) else f"p = {p:.2g}" if p else "p < 1e-300"


def place(row: Row) -> str:
    """Where a number was found, unless its metric says so already (drop_2, mean_L8)."""
    cell = row.cell or {}
    layer, latent_pos = cell.get("layer"), cell.get("latent_pos")
    if latent_pos is None or row.metric.endswith(f"_{latent_pos}"):
        return ""
    position = "bot" if latent_pos == "bot" else f"latent {latent_pos}"
    return position if layer is None else f"L{layer} {position}"
