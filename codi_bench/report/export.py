"""The report as files: Markdown, CSV, LaTeX (booktabs), and a table as HTML. Each says what the report holds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from html import escape
from typing import Any

from tabulate import LATEX_ESCAPE_RULES, tabulate

from codi_bench.records.results import OK, Row, finite
from codi_bench.report.audit import evidence, without_word
from codi_bench.report.comparison import StudyTable
from codi_bench.report.comparison_text import LEGEND as STUDY_LEGEND
from codi_bench.report.comparison_text import winners_text
from codi_bench.report.contents import Report
from codi_bench.report.table import (
    CAME_OUT_LEGEND,
    LEGEND,
    REPORTING,
    WORDS_LEGEND,
    Cell,
    Column,
    Table,
    in_order,
    labels,
    metric_order,
    nested,
)

COLUMNS = (
    *("claim", "family", "model", "metric", "protocol", "status", "unit", "n"),
    *("reported", "reported_low", "reported_high", "measured", "measured_low", "measured_high"),
    *("null", "null_low", "null_high", "null_p", "recorded", "layer", "latent_pos"),
    *("reproduction", "validity", "fragile", "decide", "regression", "reason"),
)


def cells(table: Table) -> tuple[list[list[str]], list[str]]:
    """Body and head as text: groups where they begin, notes behind their cells, without reproductions where there are none."""
    is_judged = any(line["reproduction"].text for line in table.lines)
    columns = [column for column in table.columns if is_judged or column.head != "reproduction"]
    body, groups = [], tuple("" for _ in table.group_heads)
    for line in table.lines:
        names = [name if name != previous else "" for name, previous in zip(line.groups, groups, strict=True)]
        body.append([*names, *(_on_one_line(line[column.head], column) for column in columns)])
        groups = line.groups
    return body, [*table.group_heads, *(column.head for column in columns)]


def _on_one_line(cell: Cell, column: Column) -> str:
    return column.joint.join(filter(None, [str(cell), cell.note]))


# --- Markdown --------------------------------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """The study's table, what the audit says, every number, evidence, protocols in words, and what was not measured."""
    rows, environment = report.rows, report.environment
    parts = ["# codi-bench: claims about continuous-thought models, measured", ""]
    parts += _study(report.study) if report.study else []
    parts += ["## Key takeaways", "", *_list(report.audit or ["Nothing, in these results."])]
    for model, table in report.tables.items():
        parts += [f"## {model or 'Nothing was measured'}", "", _grid(*cells(table)), ""]
    legends = [LEGEND] + [CAME_OUT_LEGEND] * bool(report.reproductions)
    legends += [WORDS_LEGEND] * any(row.validity for row in rows)
    parts += [
        " ".join(" ".join(f"{legend}." for legend in legends).split()),
        "",
        "Intervals and bands of nulls are 95 %; quantities without a valid interval have none. The `reported` protocol is what "
        "the source did, quirks included; `sound` is what it should have been. A reproduction is judged only for the source's "
        "own models; the embedded pair are others.",
        "",
        *_list([*report.winners, *report.notes]),
    ]
    parts += [*_evidence(report), *_reproductions(rows), *_protocols(environment)]
    parts += ["", "## Drifted", "", *_list(report.drifted or ["nothing"])]
    parts += ["## Not measured", "", *_list(report.unmeasured or ["nothing"])]
    versions = {key: text for key, text in environment.items() if isinstance(text, str)}
    parts += ["## Environment", "", ", ".join(f"{key} {text}" for key, text in versions.items()), ""]
    return "\n".join(parts)


def _study(table: StudyTable) -> list[str]:
    """All models of the study's table, and whether its winners hold."""
    names = [f"{name}, published" for name in REPORTING.values()]
    heads = ["", *names, *table.models, *["winner, p"] * (len(table.models) > 1)]
    body = []
    for line in table.lines:
        cells = [line.measured.get(model, Cell()) for model in table.models]
        texts = [" ".join(filter(None, [cell.text, cell.note, cell.mark])) for cell in cells]
        name = line.name.replace("  ", "&emsp;")
        body.append([name, *(line.published.get(model, "") for model in REPORTING), *texts, f"{line.winner} {line.p}".rstrip()])
    winners = winners_text(table)
    parts = [
        "## The study, measured",
        "",
        f"{table.basis.capitalize()}.",
        "",
        _grid([line[: len(heads)] for line in body], heads),
    ]
    return [*parts, "", ". ".join(STUDY_LEGEND) + ".", "", *winners[:1], "", *_list([text.strip() for text in winners[1:]])]


def _grid(body: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """A table of Markdown: no text ends its cell, or makes another one bold."""
    escaped_body = [[re.sub(r"([*|])", r"\\\1", text) for text in line] for line in body]
    return tabulate(escaped_body, head, "github", disable_numparse=True)


def _evidence(report: Report) -> list[str]:
    if not any(row.validity for row in report.rows):
        return []
    parts = ["## Evidence", ""]
    for model in report.models:
        rows = [row for row in report.rows if row.model == model]
        texts = [f"{heading}: {reason}" if reason else heading for heading, reason in evidence(rows, report.environment)]
        if texts := [*texts, *(f"no word: {text}" for text in without_word(rows))]:
            parts += [f"### {model}", "", *_list(texts)]
    return parts


def _reproductions(rows: Sequence[Row]) -> list[str]:
    body = [
        [row.claim, row.model, row.metric, row.reproduction, row.detail.get("reproduction", "")]
        for row in rows
        if row.reproduction
    ]
    return ["## Reproduction", "", _grid(body, ["claim", "model", "metric", "outcome", "why"]), ""] if body else []


def _protocols(environment: dict) -> list[str]:
    claims = environment.get("claims") or {}
    parts = ["## Protocols", ""]
    for name in in_order(claims):
        claim = claims[name]
        forms = {"family": "({})", "sentence": "{}", "protocol": "*{}*", "source": "({})"}
        parts.append(f"- **{name}**: {' '.join(form.format(claim[key]) for key, form in forms.items() if claim.get(key))}")
        parts += [f"  - sound: *{claim['sound']}*"] if claim.get("sound") else []
    return parts


def _list(texts: Sequence[str]) -> list[str]:
    return [*(f"- {text}" for text in texts), ""]


# --- HTML, CSV -------------------------------------------------------------------------------------------


def html(table: Table) -> str:
    """A table for a notebook: nothing from elsewhere, every text escaped."""
    body, head = cells(table)
    text = tabulate(body, head, "html", disable_numparse=True, colalign=["left"] * len(head) if body else None)
    caption = f'<caption style="text-align:left"><b>{escape(table.title)}</b></caption>'
    return str(text).replace("<table>", f"<table>{caption}", 1)


def csv_text(report: Report) -> str:
    """Every row, one a (model, claim, metric, protocol), in the rows' own units and with all their digits; "" where nothing is.

    Fractions stay fractions. fragile: yes or no where there is a verdict.
    """
    from pandas import DataFrame

    position = {claim: i for i, claim in enumerate(report.families)}
    rows = sorted(report.rows, key=lambda row: (row.model, position[row.claim], metric_order(row), row.protocol))
    records = []
    for row in rows:
        record = flat(row) | {"family": report.families[row.claim], "reason": " ".join(row.reason.split())}
        records.append(record | {"fragile": ("yes" if record["fragile"] else "no") if row.validity else ""})
    return DataFrame(records, columns=list(COLUMNS), dtype=object).to_csv(index=False, lineterminator="\n")


def flat(row: Row) -> dict[str, Any]:
    """A row without anything in it that has parts: numbers with their ends, p, cell and words, None where there is none.

    Of a row that is blocked or was not run only what was published and what is recorded counts.
    """
    record = {name: getattr(row, name) for name in ("claim", "model", "metric", "protocol", "status", "unit", "n")}
    for name in ("measured", "reported", "recorded", "null"):
        value = (getattr(row, name) or {}) if row.status == OK or name in ("reported", "recorded") else {}
        for end in ("", "_low", "_high"):
            x = value.get(end[1:] or "value")
            record[name + end] = x if finite(x) is not None else None
    cell = row.cell or {}
    latent = cell.get("latent_pos")
    record |= {"null_p": finite((row.null or {}).get("p")) if row.status == OK else None, "layer": cell.get("layer")}
    record |= {"latent_pos": None if latent is None else str(latent), "decide": row.detail.get("decide")}
    words = {name: getattr(row, name) for name in ("validity", "reproduction", "regression")}
    return record | words | {"fragile": bool(row.detail.get("fragile")), "reason": row.reason}


# --- LaTeX -----------------------------------------------------------------------------------------------------------

# what tabulate leaves as it is, and pdflatex would not print
SIGNS = {"≥": "at least", "–": "--", "—": "---", "−": "-", "“": "``", "”": "''", "‘": "`", "’": "'", "…": "...", "×": "x"}
SIGNS |= {'"': "''"}
INDENT = "\x01"  # stands for a command until tabulate has escaped the text around it
CAPTION = (
    "Claims measured on {model}. A metric's own line: as its source measured it; sound: under the sound "
    "protocol. Brackets: 95 % intervals and bands. n at least: what would decide. *: fragile."
)


def latex(report: Report) -> str:
    """One table a model that goes on where a page ends; for pdflatex with booktabs and longtable, in ASCII."""
    parts = [r"% needs \usepackage{booktabs,longtable}; the tables are wide: small margins or a page of their own"]
    parts.append(r"{\scriptsize\setlength{\tabcolsep}{3pt}")
    for model, table in report.tables.items():
        caption = escaped(CAPTION.format(model=model or "nothing"))
        label = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "none"
        title = rf"\caption{{{caption}}}\label{{tab:claims-{label}}}\\"
        opening, *lines, closing = _latex_grid(table).splitlines()
        lines.insert(lines.index(r"\midrule") + 1, r"\endhead")  # said again on every page
        parts += [opening.replace("tabular", "longtable"), title, *lines, closing.replace("tabular", "longtable"), ""]
    return "\n".join([*parts, *(rf"{escaped(text)}\par" for text in report.winners), "}", ""])


def _latex_grid(table: Table) -> str:
    """The columns that hold anything, under a line for each claim with its family."""
    columns = [column for column in table.columns[2:] if any(line[column.head].text for line in table.lines)]
    lines, body = nested(table.lines), []
    for line, label in zip(lines, labels(lines), strict=True):
        depth = (len(label) - len(label.lstrip())) // 2
        name = INDENT * depth + label.lstrip() if line.cells else ": ".join(line.groups)
        cells = (line[column.head] for column in columns)
        body.append([name, *(column.joint.join(filter(None, [cell.text, cell.note])) for column, cell in zip(columns, cells))])
    body = [[_ascii(text) for text in line] for line in body]
    sides = ["left", *(column.side for column in columns)]
    heads = ["claim, metric", *(column.head for column in columns)]
    text = tabulate(body, heads, "latex_booktabs", disable_numparse=True, colalign=sides if body else None)
    return "\n".join(" ".join(line.split()) for line in text.replace("|", r"\textbar{}").splitlines()).replace(INDENT, r"\quad ")


def escaped(text: str) -> str:
    """Text for LaTeX in ASCII: special characters escaped, letters without their accents, any other sign as "?"."""
    rules = LATEX_ESCAPE_RULES | {"|": r"\textbar{}"}
    return "".join(rules.get(sign, sign) for sign in _ascii(text))


def _ascii(text: str) -> str:
    letters = "".join(unicodedata.normalize("NFKD", sign) if sign.isalpha() else sign for sign in text)
    signs = (sign for sign in letters if not unicodedata.combining(sign))
    return re.sub(rf"[^\x20-\x7e{INDENT}]", "?", "".join(SIGNS.get(sign, sign) for sign in signs))
