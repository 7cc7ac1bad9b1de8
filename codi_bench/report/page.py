"""The page: one HTML file that needs nothing else, drawn from a report and its figures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

from codi_bench.records.results import NOT_RUN, OK, Row
from codi_bench.report.contents import Report
from codi_bench.report.lanes import Labelled, Picture, picture
from codi_bench.report.study_rows import study_rows
from codi_bench.report.table import (
    CAME_OUT,
    COUNTERPART_NAMES,
    PROTOCOLS,
    REPORTING,
    SYMBOLS,
    WORDS,
    Cell,
    TableLine,
    counterparts,
    in_capitals,
    in_order,
    number,
    outcome,
    shown_unit,
    word,
)

if TYPE_CHECKING:
    from jinja2 import Template

    from codi_bench.report.figures import Figure

SHOWN_AS_ROWS = ("headline", "spread")  # figures whose numbers the study's rows show
THEMED = {  # colours of a figure by the page's own, so that it is light or dark as the page is
    "#222222": "var(--ink)",
    "#e6e6e6": "var(--line)",
    "#dedede": "var(--band)",
    "#b4b4b4": "var(--middle)",
    "fill: #ffffff": "fill: var(--card)",
}
ANCHORS = (
    "study",
    "rows",
    "run",
    "summary",
    "takeaways",
    "figures",
    "numbers",
    "claims",
    "between",
    "unmeasured",
    "legend",
    "main",
)
UNTOLD = "not described in these results"
MEANINGS = {
    "SAME": "our own number is as recorded",
    "DRIFTED": "our own number, or its verdict, is not as recorded",
    "UNCHECKED": "nothing is recorded to compare with: no pass",
    "BLOCKED": "a control failed while measuring: no pass",
    "NOT RUN": "not measured (no weights, no GPU, or not asked for): no pass",
    "SUPPORTED": "the effect passes every required null, and its interval excludes 0, under the sound protocol",
    "ARTEFACT": "the protocol makes the number by itself, or a stricter null explains it",
    "REFUTED": "the interval excludes the smallest effect that counts",
    "UNDERPOWERED": "not decided at this n; where it can be computed, the n that would decide stands beside it",
    "REPRODUCED": "the published number comes out under the published protocol",
    "NOT REPRODUCED": "the published number does not come out under the published protocol",
    "INCONCLUSIVE": "too little is known of the published number, or too few problems, to tell",
}


def page(report: Report, drawn: Sequence[Figure] = ()) -> str:
    """The whole page as HTML.

    drawn: figures with name, title, caption, alt and svg; one whose name begins like a claim family stands there, the others in
    a section of their own. What an older results file does not hold is left out, or said to be missing.
    """
    environment = {"devices": {}, "inputs": {}} | {key: value for key, value in report.environment.items() if value is not None}
    families = _families(report, environment)
    rows = study_rows(report)
    drawn = [figure for figure in drawn if not (rows and figure.name in SHOWN_AS_ROWS)]
    for family in families:
        family["figures"] = [_figure(figure) for figure in drawn if _belongs(figure.name, family["name"])]
    claims = {claim["id"]: claim for family in families for claim in family["claims"]}
    for row in rows:
        claims[row.spec.claim]["row"] = f"row-{row.spec.claim}"
    placed_names = {figure["name"] for family in families for figure in family["figures"]}
    legend = {in_capitals(word): Cell(in_capitals(word), symbol) for word, symbol in (WORDS | CAME_OUT | SYMBOLS).items()}
    html = _template().render(
        report=report,
        environment=environment,
        versions={key: text for key, text in environment.items() if isinstance(text, str) and key != "date"},
        study=report.study,
        study_rows=[(row, claims[row.spec.claim]) for row in rows],
        reporting=REPORTING,
        signs={mark: Cell(word, mark) for word, mark in WORDS.items()},
        counts=[(legend[in_capitals(word)], count) for word, count in report.counts.items()],
        families=families,
        figures=[_figure(figure) for figure in drawn if figure.name not in placed_names],
        unmeasured=[*report.unmeasured, *_claims_without_rows(report)],
        legend=[(sign, MEANINGS[word]) for word, sign in legend.items()],
        beside={model: [COUNTERPART_NAMES[name] for name in counterparts(model)] for model in report.tables},
        protocols=PROTOCOLS,
    )
    return "".join(f"{line}\n" for line in map(str.strip, html.splitlines()) if line)  # the template's indents are a tenth of it


@cache
def _template() -> Template:
    """Compiled once, and not where no page is drawn."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("codi_bench.report")
    jinja = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    jinja.filters["slug"] = slug
    return jinja.get_template("page.html.jinja")


def slug(text: str) -> str:
    """Text as a part of an address or the name of a style."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def _claims(report: Report) -> list[str]:
    """The ids of all claims in the source's order; those that only rows know come last."""
    return list(dict.fromkeys([*in_order(report.environment.get("claims") or {}), *report.families]))


def _claims_without_rows(report: Report) -> list[str]:
    """Claims of which the results hold no row at all, a line a model."""
    rows = {(row.model, row.claim) for row in report.rows}
    absent = {model: [name for name in _claims(report) if (model, name) not in rows] for model in report.models}
    return [f"{SYMBOLS[NOT_RUN]} not in these results {model}: {', '.join(names)}" for model, names in absent.items() if names]


# --- claims ----------------------------------------------------------------------------------------------------------------


def _families(report: Report, environment: dict) -> list[dict]:
    """Claim families in the order of their first claim: name, anchor and claims."""
    lines: dict[str, dict[str, list[TableLine]]] = {name: {model: [] for model in report.tables} for name in report.families}
    for model, table in report.tables.items():
        for line in table.lines:
            lines[line.groups[-1]][model].append(line)
    rows: dict[str, list[Row]] = {name: [] for name in report.families}
    for row in report.rows:
        rows[row.claim].append(row)
    anchors = _anchors(_claims(report))
    families = []
    for i, (family, names) in enumerate(groupby(report.families, key=report.families.__getitem__), 1):
        claims = [{"id": name} | anchors[name] | _claim(name, environment, lines[name], rows[name]) for name in names]
        families.append({"name": family, "anchor": f"family-{i}", "claims": claims})
    return families


def _anchors(claims: Sequence[str]) -> dict[str, dict[str, str]]:
    """Where each claim stands: under its own id, which papers may cite, and under the number that older pages gave it."""
    anchors: dict[str, dict[str, str]] = {}
    taken = {*ANCHORS}
    for i, name in enumerate(claims, 1):
        numbered = f"claim-{i}-{slug(name)}"
        anchor = slug(name) if slug(name) not in taken else f"claim-{slug(name)}"
        anchors[name] = {"anchor": anchor if anchor not in taken else f"{numbered}-itself", "numbered": numbered}
        taken.add(anchors[name]["anchor"])
    return anchors


def _entry(line: TableLine) -> dict:
    """A line of the table as the page shows it."""
    metric, protocol = line["metric"].text, line["protocol"].text
    return {
        "cells": line,
        "metric": metric if metric != "-" else "all metrics",
        "protocol": PROTOCOLS.get(protocol, protocol),
        "regression": line["regression"] if line.row else Cell("not in these results", SYMBOLS[NOT_RUN]),
        "evidence": remarks(line.row, line["validity"].note) if line.row and line.row.status == OK else [],
    }


def remarks(row: Row, decide: str) -> list[tuple[str, str]]:
    """What stands behind the numbers and words of a measured row: (heading, text)."""
    detail, null = row.detail, row.detail.get("null")
    remarks = [
        ("verdict", detail.get("validity")),
        ("fragile", "draws of the null or rounding could change the word" * bool(row.validity and detail.get("fragile"))),
        ("what would decide", decide and f"{decide} problems"),
        ("no verdict", None if row.validity else detail.get("no_validity")),
        ("reproduction", detail.get("reproduction")),
        ("regression", row.reason),
        ("no interval", detail.get("no_interval")),
        ("null", null if isinstance(null, str) else None),
        ("replaced by", " of ".join(str(detail[key]) for key in ("replaced_by", "reference") if detail.get(key))),
        ("formula", detail.get("formula")),
        ("and without recurrence", _of_control(row)),
        ("note", detail.get("note")),
        ("code", detail.get("code")),
    ]
    return [(heading, str(text)) for heading, text in remarks if text]


def _of_control(row: Row) -> str:
    """What is recorded of the control without recurrence."""
    control = row.detail.get("control")
    if not control:
        return ""
    text = f"{number(control['number'], shown_unit(row))} on {control['model']}"
    return f"{text}, {word(control['word'])}" if control["word"] else text


def _claim(name: str, environment: dict, lines: dict[str, list[TableLine]], rows: Sequence[Row]) -> dict:
    """Everything that the page says about one claim; rows: its own."""
    description = (environment.get("claims") or {}).get(name) or {}
    text = {key: description.get(key) or UNTOLD for key in ("sentence", "source", "protocol", "sound")}
    reasons: dict[tuple[str, Cell, str], list[str]] = {}
    for row in rows:
        if row.status != OK:
            reason = row.reason or "no reason given"
            reasons.setdefault((row.model, outcome(row), reason), []).append(PROTOCOLS.get(row.protocol, row.protocol))
    models = [model for model in lines if model]
    by_protocol = [(model, protocol) for model in models for protocol in PROTOCOLS]
    return {
        "text": text,
        "marked": None if UNTOLD in (text["protocol"], text["sound"]) else differences(text["protocol"], text["sound"]),
        "numbers": {model: [_entry(line) for line in each] for model, each in lines.items()},
        "picture": _picture(lines),
        "row": None,
        "glance": [tally(row for row in rows if (row.model, row.protocol) == each) for each in by_protocol],
        "stopped": [(*reason, " and ".join(dict.fromkeys(protocols))) for reason, protocols in reasons.items()],
        "provenance": {model: provenance(name, model, environment, rows) for model in models},
    }


def _picture(lines: dict[str, list[TableLine]]) -> Picture | None:
    """Of the metric with most to show: both protocols, what was published, nulls; of none with a lone number."""
    pictures = []
    for metric in dict.fromkeys(line["metric"].text for each in lines.values() for line in each):
        labelled = {
            model: [
                Labelled(PROTOCOLS.get(protocol, protocol), "", line)
                for line in each
                if line["metric"].text == metric and (protocol := line["protocol"].text)
            ]
            for model, each in lines.items()
        }
        drawn = picture(metric, labelled)
        if drawn and max(map(len, drawn.lanes.values())) > 1:
            pictures.append(drawn)
    return max(pictures, key=lambda drawn: max(map(len, drawn.lanes.values())), default=None)


def tally(rows: Iterable[Row]) -> list[tuple[Cell, int]]:
    """How often each word, lack of a word, or reason for no number stands on some rows, verdicts first."""
    signs: Counter[Cell] = Counter()
    for row in rows:
        verdict = Cell(row.validity, WORDS[row.validity]) if row.validity else Cell("no verdict", "·")
        status = outcome(row)
        signs[verdict if row.status == OK else Cell(status.text.split(", ")[0], status.mark.split()[0])] += 1
    return sorted(signs.items(), key=lambda item: [*WORDS, item[0].text].index(item[0].text))


def provenance(claim: str, model: str, environment: dict, rows: Sequence[Row]) -> dict:
    """Where one model's numbers of a claim come from, and the command that measures them again."""
    device = environment["devices"].get(model) or environment.get("device") or ""
    seeds = dict(pair for row in rows if row.model == model for pair in (row.seeds or {}).items())
    theirs = [row.detail for row in rows if row.model == model and row.origin == "released"]
    inputs = {} if theirs else environment["inputs"].get(model) or {}
    facts = {f"sha256 of the {name}": inputs.get(name) for name in ("weights", "problems")}
    facts["released in"] = "; ".join(dict.fromkeys(file for detail in theirs for file in detail.get("files") or ()))
    facts["not told there"] = "; ".join(dict.fromkeys(filter(None, (detail.get("unknown") for detail in theirs))))
    facts |= {"device": "" if theirs else device, "seeds": ", ".join(f"{name} {seed}" for name, seed in sorted(seeds.items()))}
    where = " --released FOLDER" if theirs else "" if device.startswith("cpu") or not device else " -m gpu"
    command = f"codi-bench run{where} --claim {claim} --model {model} {environment.get('options', '')}".rstrip()
    return {"facts": {name: fact for name, fact in facts.items() if fact}, "command": command}


def differences(before: str, after: str) -> tuple[list[tuple[bool, str]], list[tuple[bool, str]]]:
    """Both texts in pieces, (does the other text lack it, piece). A lone short word in common is a coincidence."""
    texts = [re.findall(r"(?:\w+|[^\w\s])\s*", text) for text in (before, after)]
    words = [[token.strip() for token in tokens] for tokens in texts]
    blocks = [
        block
        for block in SequenceMatcher(None, words[0], words[1], autojunk=False).get_matching_blocks()
        if sum(word.isalnum() for word in words[0][block.a : block.a + block.size]) > 1
        or any(len(word) > 4 for word in words[0][block.a : block.a + block.size])
    ]
    pieces = []
    for tokens, starts in zip(texts, ([block.a for block in blocks], [block.b for block in blocks])):
        parts, end = [], 0
        for start, size in zip([*starts, len(tokens)], [*(block.size for block in blocks), 0]):
            parts += [(True, "".join(tokens[end:start])), (False, "".join(tokens[start : start + size]))]
            end = start + size
        pieces.append([(differs, text) for differs, text in parts if text])
    return pieces[0], pieces[1]


# --- figures ---------------------------------------------------------------------------------------------------------------


def _belongs(figure: str, family: str) -> bool:
    """Does a figure's name begin like the family's (`probes-cells`, `sae`)?"""
    return slug(figure).startswith(slug(family).split("-")[0].removesuffix("s"))


def _figure(figure: Figure) -> dict[str, str]:
    """A figure ready to be put into the page: without the prologue that a file begins with."""
    svg = figure.svg[max(figure.svg.find("<svg"), 0) :]
    for colour, themed in THEMED.items():
        svg = svg.replace(colour, themed)
    title = figure.title.rstrip(".")
    return {"name": figure.name, "title": title, "caption": figure.caption, "alt": figure.alt, "svg": svg}
