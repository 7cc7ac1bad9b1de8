"""The same rows as files: Markdown, CSV, LaTeX (booktabs) and plain text."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence

from tabulate import tabulate

from codi_bench.records.results import Row
from codi_bench.records.results_schema import Number
from codi_bench.report import takeaways
from codi_bench.report.audit import evidence, says, without_word
from codi_bench.report.table import (
    CAME_OUT,
    CAME_OUT_LEGEND,
    COUNTERPART_NAMES,
    LEGEND,
    REPORTED,
    SOUND,
    SYMBOLS,
    WORDS,
    WORDS_LEGEND,
    TableLine,
    blocked_or_not_run,
    by_family,
    counterparts,
    drifted,
    in_order,
    is_number,
    measured_models,
    metric_order,
    notes,
    table,
    winners,
    winners_among,
)

COLUMNS = (
    *("claim", "family", "model", "metric", "protocol", "status", "unit", "n"),
    *("reported", "reported_low", "reported_high", "measured", "measured_low", "measured_high"),
    *(
        "null",
        "null_low",
        "null_high",
        "null_p",
        "recorded",
        "layer",
        "latent_pos",
        "reproduction",
        "validity",
        "fragile",
        "decide",
        "regression",
        "reason",
    ),
)


# --- Markdown --------------------------------------------------------------------------------------------------------


def markdown(rows: list[Row], environment: dict) -> str:
    """Takeaways, tables, what the audit says, evidence, protocols in words, and everything that was not measured."""
    parts = ["# codi-bench: claims of the first study", "", *takeaways.lines(rows, environment)]
    for model in measured_models(rows) or [""]:
        body, head = cells(model, table(rows, environment, model))
        grid = tabulate([[text.replace("*", r"\*") for text in line] for line in body], head, "github", disable_numparse=True)
        parts += [f"## {model or 'Nothing was measured'}", "", grid, ""]
    legends = [f"{LEGEND}."] + [f"{CAME_OUT_LEGEND}."] * any(row.reproduction for row in rows)
    legends += [f"{WORDS_LEGEND}."] * any(row.validity for row in rows)
    parts += [
        " ".join(" ".join(legends).split()),
        "",
        "Intervals and bands of nulls are 95 %; quantities without an honest interval have none. The `reported` protocol is what "
        "the source did, quirks included; `sound` is what it should have been. A reproduction is judged only for the source's "
        "own models; the embedded pair are others.",
        "",
        *_list([*winners(environment), *notes(rows)]),
    ]
    if sentences := says(rows, environment, listed=False):
        parts += ["## What the audit says", "", *_list(sentences)]
    parts += [*_evidence(rows, environment), *_reproductions(rows), *_protocols(environment)]
    parts += ["", "## Drifted", "", *_list(drifted(rows) or ["nothing"])]
    parts += ["## Not measured", "", *_list(blocked_or_not_run(rows) or ["nothing"])]
    versions = {key: text for key, text in environment.items() if isinstance(text, str)}
    parts += ["## Environment", "", ", ".join(f"{key} {text}" for key, text in versions.items()), ""]
    return "\n".join(parts)


def cells(model: str, lines: list[TableLine]) -> tuple[list[list[str]], list[str]]:
    """Body and head of one model's table, one line a metric and protocol; reproduction only where something has one."""
    columns: dict[str, list[str]] = {
        "family": _once([line.family for line in lines]),
        "claim": _once([line.claim for line in lines]),
        "metric": [line.metric for line in lines],
        "protocol": [line.protocol for line in lines],
    }
    for name in counterparts(model):
        columns[f"{COUNTERPART_NAMES[name]} reported"] = [" @ ".join(filter(None, line.study.get(name, ()))) for line in lines]
    columns |= {
        "measured": [" @ ".join(filter(None, [line.measured, line.place])) for line in lines],
        "null": [line.null + (f", p = {line.p}" if line.p else "") for line in lines],
        "n": [line.n for line in lines],
        "reproduction": [line.reproduction for line in lines],
        "validity": [", ".join(filter(None, [line.word, line.decide])) for line in lines],
        "regression": [line.regression for line in lines],
    }
    if not any(columns["reproduction"]):
        del columns["reproduction"]
    return [list(line) for line in zip(*columns.values(), strict=True)], list(columns)


def _once(names: list[str]) -> list[str]:
    """A name where it begins."""
    return ["" if i and names[i - 1] == name else name for i, name in enumerate(names)]


def _evidence(rows: Sequence[Row], environment: dict) -> list[str]:
    if not any(row.validity for row in rows):
        return []
    parts = ["## Evidence", ""]
    for model in measured_models(rows):
        model_rows = [row for row in rows if row.model == model]
        lines = [f"{heading}: {reason}" if reason else heading for heading, reason in evidence(model_rows, environment)]
        if lines := [*lines, *(f"no word: {text}" for text in without_word(model_rows))]:
            parts += [f"### {model}", "", *_list(lines)]
    return parts


def _reproductions(rows: Sequence[Row]) -> list[str]:
    body = [
        [row.claim, row.model, row.metric, row.reproduction, row.detail.get("reproduction", "")]
        for row in rows
        if row.reproduction
    ]
    grid = tabulate(body, ["claim", "model", "metric", "outcome", "why"], tablefmt="github", disable_numparse=True)
    return ["## Reproduction", "", grid, ""] if body else []


def _protocols(environment: dict) -> list[str]:
    claims = environment.get("claims") or {}
    parts = ["## Protocols", ""]
    for name in in_order(claims):
        claim = claims[name]
        pieces = [f"({claim['family']})" if claim.get("family") else "", claim.get("sentence", "")]
        pieces += [
            f"*{claim['protocol']}*" if claim.get("protocol") else "",
            f"({claim['source']})" if claim.get("source") else "",
        ]
        parts.append(f"- **{name}**: {' '.join(filter(None, pieces))}")
        if claim.get("sound"):
            parts.append(f"  - soundly: *{claim['sound']}*")
    return parts


def _list(texts: list[str]) -> list[str]:
    return [*(f"- {text}" for text in texts), ""]


# --- CSV, plain text -------------------------------------------------------------------------------------------------


def csv_text(rows: Sequence[Row], environment: dict) -> str:
    """Every row, one a (model, claim, metric, protocol), in the rows' own units and with all their digits; "" where nothing is.

    Fractions stay fractions. fragile: yes or no where there is a verdict.
    """
    families = dict(by_family(rows, environment))
    position = {claim: i for i, claim in enumerate(families)}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(rows, key=lambda row: (row.model, position[row.claim], metric_order(row), row.protocol)):
        cell = row.cell or {}
        places = ["" if place is None else str(place) for place in (cell.get("layer"), cell.get("latent_pos"))]
        fragile = ("yes" if row.detail.get("fragile") else "no") if row.validity else ""
        facts = [row.claim, families[row.claim], row.model, row.metric, row.protocol, row.status, row.unit]
        words = [row.reproduction or "", row.validity or "", fragile, _text(row.detail.get("decide"))]
        writer.writerow(
            [
                *facts,
                _text(row.n),
                *_numbers(row.reported),
                *_numbers(row.measured),
                *_numbers(row.null),
                _text((row.null or {}).get("p")),
                _text((row.recorded or {}).get("value")),
                *places,
                *words,
                row.regression,
                " ".join(row.reason.split()),
            ]
        )
    return buffer.getvalue()


def plain_text(rows: Sequence[Row], environment: dict) -> str:
    """The tables alone, as text without colours or lines, as wide as they are."""
    parts = []
    for model in measured_models(rows) or [""]:
        body, head = cells(model, table(rows, environment, model))
        parts += [model or "nothing was measured", "", tabulate(body, head, tablefmt="plain", disable_numparse=True), ""]
    return "\n".join(parts)


def _numbers(value: Number | None) -> list[str]:
    """A number and the ends of its interval."""
    value = value or {}
    return [_text(x) for x in (value.get("value"), value.get("low"), value.get("high"))]


def _text(x: float | None) -> str:
    return repr(x) if is_number(x) else ""


# --- LaTeX -----------------------------------------------------------------------------------------------------------

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
SPECIAL |= {">": r"\textgreater{}", "|": r"\textbar{}", '"': "''"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}
SIGNS = "".join({**SYMBOLS, **WORDS, **CAME_OUT}.values()) + " "  # each stands before its word
SPECIAL |= {"≥": "at least", "–": "--", "—": "---", "−": "-", "“": "``", "”": "''", "‘": "`", "’": "'", "…": "...", "×": "x"}
LINES = 44  # of one table: what a page holds
HEAD = """\\begin{{table}}[p]
\\centering\\scriptsize\\setlength{{\\tabcolsep}}{{3pt}}
\\caption{{{caption}}}
\\label{{{label}}}
\\begin{{tabular}}{{{sides}}}
\\toprule
{head} \\\\"""
CAPTION = (
    "Claims measured on {model}. A metric's own line: as the study measured it; soundly: under the sound "
    "protocol. Brackets: 95 % intervals and bands. decides: the least n that would decide. *: fragile."
)


def latex(rows: Sequence[Row], environment: dict) -> str:
    """One table a model, continued where a page ends; for pdflatex with booktabs, in ASCII."""
    parts = ["% needs \\usepackage{booktabs}; the tables are wide: small margins or a page of their own"]
    for model in measured_models(rows) or [""]:
        lines = table(rows, environment, model)
        columns = {head: texts for head, texts in _latex_columns(model, lines).items() if any(texts)}
        blocks = []  # one a claim: its lines are kept together
        for claim in dict.fromkeys(line.claim for line in lines):
            indices = [i for i, line in enumerate(lines) if line.claim == claim]
            first_line = lines[indices[0]]
            block = [_across(r"\textit", claim, columns), *(_latex_row(i, lines[i], columns) for i in indices)]
            if indices[0] == 0 or lines[indices[0] - 1].family != first_line.family:
                family_claims = dict.fromkeys(line.claim for line in lines if line.family == first_line.family)
                winner_lines = [
                    _across(r"\quad", text, columns) for text in winners_among(environment, list(family_claims), model)
                ]
                block = [r"\midrule", _across(r"\textbf", first_line.family, columns), *winner_lines, *block]
            blocks.append(block)
        all_same = all(line.mark in ("=", "") for line in lines) and any(line.mark for line in lines)
        caption = CAPTION.format(model=model or "nothing") + (" Every number is as recorded." if all_same else "")
        for i, page in enumerate(_pages(blocks)):
            parts.append(_latex_table(f"{caption}{' (Continued.)' if i else ''}", f"{_slug(model)}-{i + 1}", columns, page))
    return "\n".join(parts)


def _latex_columns(model: str, lines: Sequence[TableLine]) -> dict[str, list[str]]:
    """Texts by head; a column without any is left out, regression too where every number is as recorded."""
    any_drift = any(line.mark not in ("=", "") for line in lines)
    columns = {"metric": [_latex_label(i, lines) for i in range(len(lines))]}
    columns |= {
        f"{COUNTERPART_NAMES[name]} reported": [line.study.get(name, ("",))[0] for line in lines] for name in counterparts(model)
    }
    return columns | {
        "measured": [line.measured for line in lines],
        "null": [line.null for line in lines],
        "p": [line.p for line in lines],
        "n": [line.n for line in lines],
        "reproduction": [line.reproduction.lstrip(SIGNS) for line in lines],
        "validity": [line.word.lstrip(SIGNS) for line in lines],
        "decides": [line.decide.lstrip("n ≥") for line in lines],
        "regression": [line.regression.lstrip(SIGNS) if any_drift else "" for line in lines],
    }


def _latex_label(i: int, lines: Sequence[TableLine]) -> str:
    line, previous = lines[i], lines[i - 1] if i else None
    if line.protocol == REPORTED:
        return line.metric
    protocol = "soundly" if line.protocol == SOUND else line.protocol
    return (
        protocol if previous and (previous.claim, previous.metric) == (line.claim, line.metric) else f"{line.metric}, {protocol}"
    )


def _latex_row(i: int, line: TableLine, columns: dict[str, list[str]]) -> str:
    """A line of the table, and under it where its numbers were found."""
    row = r"\quad " + " & ".join(escaped(texts[i]) for texts in columns.values()) + r" \\"
    places = {f"{COUNTERPART_NAMES[name]} reported": place for name, (_, place) in line.study.items()} | {"measured": line.place}
    if any(places.values()):
        row += "\n" + " & ".join(escaped(places.get(head, "")) for head in columns) + r" \\"
    return row


def _across(command: str, text: str, columns: dict[str, list[str]]) -> str:
    argument = f" {escaped(text)}" if command == r"\quad" else f"{{{escaped(text)}}}"
    return rf"\multicolumn{{{len(columns)}}}{{l}}{{{command}{argument}}} \\"


def _pages(blocks: list[list[str]]) -> list[list[str]]:
    """Lines of tables: as many whole claims as a page holds."""
    pages: list[list[str]] = []
    for block in blocks:
        if not pages or len(pages[-1]) + len(block) > LINES:
            pages.append([])
        pages[-1] += block
    return pages


def _latex_table(caption: str, label: str, columns: dict[str, list[str]], page: list[str]) -> str:
    sides = "".join("l" if head in ("metric", "reproduction", "validity", "regression") else "r" for head in columns)
    head = HEAD.format(caption=escaped(caption), label=f"tab:claims-{label}", sides=sides, head=" & ".join(map(escaped, columns)))
    rule = [] if page[0] == r"\midrule" else [r"\midrule"]
    return "\n".join([head, *rule, *page, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """Text for LaTeX in ASCII: special characters escaped, letters without their accents, any other sign as "?"."""
    letters = "".join(unicodedata.normalize("NFKD", sign) if sign.isalpha() else sign for sign in text)
    signs = (sign for sign in letters if not unicodedata.combining(sign))
    return re.sub(r"[^\x20-\x7e]", "?", "".join(SPECIAL.get(sign, sign) for sign in signs))


def _slug(model: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "none"
