"""The page: one HTML file that needs nothing else, drawn from rows, environment and figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, cast

from codi_bench.records.results import NOT_RUN, OK, Row
from codi_bench.records.results_schema import NullNumber, Number
from codi_bench.report.audit import says
from codi_bench.report.claim_entries import PROTOCOLS, WIDTH, Sign, TableEntry, in_capitals, slug, status, table_entries, tally
from codi_bench.report.table import (
    CAME_OUT,
    COUNTERPART_NAMES,
    SYMBOLS,
    WORDS,
    blocked_or_not_run,
    by_family,
    counterparts,
    counts,
    drifted,
    in_order,
    measured_models,
    notes,
    reproductions,
    winners,
)
from codi_bench.report.takeaways import GROUPS, Takeaway, takeaways

if TYPE_CHECKING:
    from jinja2 import Template

    from codi_bench.report.figures import Figure

UNTOLD = "not described in these results"
MEANINGS = {
    "SAME": "our own number is as recorded",
    "DRIFTED": "our own number, or its verdict, is not as recorded",
    "UNCHECKED": "nothing is recorded to compare with: no pass",
    "BLOCKED": "a precondition failed while measuring: no pass",
    "NOT RUN": "not measured (no weights, no GPU, or not asked for): no pass",
    "SUPPORTED": "above every required null and more than the margin asks, under the sound protocol",
    "ARTEFACT": "the number comes out of a null too: the protocol or a confound makes it",
    "REFUTED": "the effect is smaller than the smallest that would count",
    "UNDERPOWERED": "not decided at this n; the n that would decide stands beside it",
    "REPRODUCED": "the published number comes out under the published protocol",
    "NOT REPRODUCED": "the published number does not come out under the published protocol",
    "INCONCLUSIVE": "too little is known of the published number, or too few problems, to tell",
}


def page(rows: Sequence[Row], environment: dict, drawn: Sequence[Figure] = ()) -> str:
    """The whole page as HTML.

    drawn: figures with name, title, caption, alt and svg; one whose name begins like a claim family stands there, the others in
    a section of their own. What an older results file does not hold is left out, or said to be missing.
    """
    rows = [_finite(row) for row in rows]
    environment = _complete(environment, rows)
    models = measured_models(rows)
    numbers = {model: table_entries(rows, environment, model) for model in models or [""]}
    families = _families(environment, numbers, rows)
    for family in families:
        family["figures"] = [_figure(figure) for figure in drawn if _belongs(figure.name, family["name"])]
    placed_names = {figure["name"] for family in families for figure in family["figures"]}
    all_takeaways = takeaways(rows, environment)
    legend = {in_capitals(word): Sign(symbol, in_capitals(word)) for word, symbol in (WORDS | CAME_OUT | SYMBOLS).items()}
    return _template().render(
        environment=environment,
        versions={key: text for key, text in environment.items() if isinstance(text, str) and key != "date"},
        models=models,
        sentences=says(rows, environment, listed=False),
        takeaways={
            group: [(takeaway, _models_of(takeaway, all_takeaways)) for takeaway in all_takeaways if takeaway.group == group]
            for group in GROUPS
        },
        counts=[(legend[in_capitals(word)], count) for word, count in counts(rows).items()],
        numbers=numbers,
        families=families,
        anchors={claim["id"]: claim["anchor"] for family in families for claim in family["claims"]},
        figures=[_figure(figure) for figure in drawn if figure.name not in placed_names],
        winners=winners(environment),
        notes=notes(rows),
        reproductions=reproductions(rows),
        drifted=drifted(rows),
        unmeasured=[*blocked_or_not_run(rows), *_claims_without_rows(rows, environment)],
        legend=[(sign, MEANINGS[word]) for word, sign in legend.items()],
        beside={model: [COUNTERPART_NAMES[name] for name in counterparts(model)] for model in numbers},
        protocols=PROTOCOLS,
        WIDTH=WIDTH,
    )


@cache
def _template() -> Template:
    """Compiled once, and not where no page is drawn."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("codi_bench.report")
    jinja = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return jinja.get_template("page.html.jinja")


def _models_of(takeaway: Takeaway, all_takeaways: Sequence[Takeaway]) -> str:
    """The models of a takeaway; in part: other numbers of that model stand in another group."""
    partial_models = {
        model
        for other in all_takeaways
        if other.claim == takeaway.claim and other.group != takeaway.group
        for model in other.models
    }
    return ", ".join(f"{model} (in part)" if model in partial_models else model for model in sorted(takeaway.models))


# --- what a results file holds, completed ----------------------------------------------------------------------------------


def _complete(environment: dict, rows: Sequence[Row]) -> dict:
    """The environment with every key that is read here; claims that only the rows know stand last."""
    descriptions = environment.get("claims") or {}
    names = sorted(descriptions, key=lambda name: descriptions[name].get("position", len(descriptions)))
    claims: dict[str, dict] = {}
    for name in dict.fromkeys([*names, *sorted({row.claim for row in rows})]):
        description = {key: text for key, text in descriptions.get(name, {}).items() if text is not None}
        defaults = {"family": "other claims", "sentence": UNTOLD, "source": UNTOLD, "protocol": UNTOLD, "sound": UNTOLD}
        claims[name] = defaults | description | {"position": len(claims)}
    facts = {key: value for key, value in environment.items() if value is not None}
    return {"date": "", "devices": {}, "inputs": {}, "layers": {}, "winners": {}} | facts | {"claims": claims}


def _finite(row: Row) -> Row:
    """The row without what is no number in its numbers, and with all of their fields."""

    def clean(value: Number | None) -> NullNumber | None:
        if value is None:
            return None
        ends = {key: x for key, x in value.items() if isinstance(x, (int, float)) and isfinite(x)}
        quantiles = [x for x in cast(NullNumber, value).get("quantiles") or [] if isfinite(x)]
        complete = {"value": None, "low": None, "high": None} | ends | {"quantiles": quantiles if len(quantiles) == 21 else []}
        return cast(NullNumber, complete)

    reason = row.reason or ("" if row.status == OK else "no reason given")
    return replace(row, reported=clean(row.reported), measured=clean(row.measured), null=clean(row.null), reason=reason)


def _claims_without_rows(rows: Sequence[Row], environment: dict) -> list[str]:
    """Claims of which the results hold no row at all, a line a model."""
    lines = []
    for model in measured_models(rows):
        claims = {row.claim for row in rows if row.model == model}
        if names := [name for name in in_order(environment["claims"]) if name not in claims]:
            lines.append(f"{SYMBOLS[NOT_RUN]} not in these results {model}: {', '.join(names)}")
    return lines


# --- claims ----------------------------------------------------------------------------------------------------------------


def _families(environment: dict, numbers: dict[str, list[TableEntry]], rows: Sequence[Row]) -> list[dict]:
    """Claim families in the order of their first claim: name, anchor and claims."""
    claims_by_family: dict[str, list[dict]] = {}
    for name, family in by_family(rows, environment):
        claim_rows = [row for row in rows if row.claim == name]
        claims_by_family.setdefault(family, []).append(
            _claim(name, environment["claims"][name], environment, numbers, claim_rows)
        )
    return [
        {"name": name, "anchor": f"family-{i}", "claims": claims} for i, (name, claims) in enumerate(claims_by_family.items(), 1)
    ]


def _claim(name: str, description: dict, environment: dict, numbers: dict[str, list[TableEntry]], rows: Sequence[Row]) -> dict:
    """Everything that the page says about one claim; rows: its own."""
    reasons: dict[tuple[str, tuple[Sign, ...], str], list[str]] = {}
    for row in rows:
        if row.status != OK:
            protocols = reasons.setdefault((row.model, tuple(status(row)), row.reason), [])
            protocols += [row.protocol] * (row.protocol not in protocols)
    models = [model for model in numbers if model]
    return {
        "id": name,
        "anchor": f"claim-{description['position'] + 1}-{slug(name)}",
        "text": description,
        "marked": None
        if UNTOLD in (description["protocol"], description["sound"])
        else differences(description["protocol"], description["sound"]),
        "numbers": {model: [entry for entry in numbers[model] if entry.line.claim == name] for model in numbers},
        "glance": {
            model: [tally(row for row in rows if (row.model, row.protocol) == (model, protocol)) for protocol in PROTOCOLS]
            for model in models
        },
        "stopped": [
            (*reason, " and ".join(PROTOCOLS.get(protocol, protocol) for protocol in protocols))
            for reason, protocols in reasons.items()
        ],
        "provenance": {model: _provenance(name, model, environment, rows) for model in models},
    }


def _provenance(claim: str, model: str, environment: dict, rows: Sequence[Row]) -> dict:
    """Where one model's numbers of a claim come from, and the command that measures them again."""
    device = environment["devices"].get(model) or environment.get("device") or ""
    seeds = dict(pair for row in rows if row.model == model for pair in (row.seeds or {}).items())
    inputs = environment["inputs"].get(model) or {}
    facts = {f"sha256 of the {name}": inputs[name] for name in ("weights", "problems") if inputs.get(name)}
    facts |= {"device": device} if device else {}
    facts |= {"seeds": ", ".join(f"{name} {seed}" for name, seed in sorted(seeds.items()))} if seeds else {}
    gpu = "" if device.startswith("cpu") or not device else " -m gpu"
    options = environment.get("options", "")
    return {"told": facts, "command": f"pytest benchmarks{gpu} --claim {claim} --model {model} {options}".rstrip()}


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
    title = figure.title.rstrip(".")
    return {"name": figure.name, "title": title, "caption": figure.caption, "alt": figure.alt, "svg": svg}
