"""The page: one HTML file that needs nothing else, drawn from rows, environment and figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from functools import cache
from math import isfinite

from codi_bench.records.results import NOT_RUN, OK, Row
from codi_bench.report.audit import says
from codi_bench.report.claim_entries import PROTOCOLS, WIDTH, Entry, Sign, entries, in_capitals, slug, status, tally
from codi_bench.report.table import (
    BESIDE,
    CAME_OUT,
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


def page(rows: Sequence[Row], environment: dict, drawn: Sequence = ()) -> str:
    """The whole page as HTML.

    drawn: figures with name, title, caption, alt and svg; one whose name begins like a claim family stands there, the others in
    a section of their own. What an older results file does not hold is left out, or said to be missing.
    """
    rows = [_finite(row) for row in rows]
    environment = _complete(environment, rows)
    models = measured_models(rows)
    numbers = {model: entries(rows, environment, model) for model in models or [""]}
    families = _families(environment, numbers, rows)
    for family in families:
        family["figures"] = [_figure(each) for each in drawn if _belongs(each.name, family["name"])]
    placed = {each["name"] for family in families for each in family["figures"]}
    said = takeaways(rows, environment)
    legend = {in_capitals(word): Sign(symbol, in_capitals(word)) for word, symbol in (WORDS | CAME_OUT | SYMBOLS).items()}
    return _template().render(
        environment=environment,
        versions={key: text for key, text in environment.items() if isinstance(text, str) and key != "date"},
        models=models,
        sentences=says(rows, environment, listed=False),
        takeaways={group: [(each, _named(each, said)) for each in said if each.group == group] for group in GROUPS},
        counts=[(legend[in_capitals(word)], count) for word, count in counts(rows).items()],
        numbers=numbers,
        families=families,
        anchors={claim["id"]: claim["anchor"] for family in families for claim in family["claims"]},
        figures=[_figure(each) for each in drawn if each.name not in placed],
        winners=winners(environment),
        notes=notes(rows),
        reproductions=reproductions(rows),
        drifted=drifted(rows),
        unmeasured=[*blocked_or_not_run(rows), *_absent(rows, environment)],
        legend=[(sign, MEANINGS[word]) for word, sign in legend.items()],
        beside={model: [BESIDE[name] for name in counterparts(model)] for model in numbers},
        protocols=PROTOCOLS,
        WIDTH=WIDTH,
    )


@cache
def _template():
    """Compiled once, and not where no page is drawn."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("codi_bench.report")
    jinja = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return jinja.get_template("page.html.jinja")


def _named(takeaway: Takeaway, said: Sequence[Takeaway]) -> str:
    """The models of a takeaway; in part: other numbers of that model stand in another group."""
    elsewhere = {model for each in said if each.claim == takeaway.claim and each.group != takeaway.group for model in each.models}
    return ", ".join(f"{model} (in part)" if model in elsewhere else model for model in sorted(takeaway.models))


# --- what a results file holds, completed ----------------------------------------------------------------------------------


def _complete(environment: dict, rows: Sequence[Row]) -> dict:
    """The environment with every key that is read here; claims that only the rows know stand last."""
    known = environment.get("claims") or {}
    names = sorted(known, key=lambda name: known[name].get("position", len(known)))
    claims = {}
    for name in dict.fromkeys([*names, *sorted({row.claim for row in rows})]):
        told = {key: text for key, text in known.get(name, {}).items() if text is not None}
        missing = {"family": "other claims", "sentence": UNTOLD, "source": UNTOLD, "protocol": UNTOLD, "sound": UNTOLD}
        claims[name] = missing | told | {"position": len(claims)}
    given = {key: value for key, value in environment.items() if value is not None}
    return {"date": "", "devices": {}, "inputs": {}, "layers": {}, "winners": {}} | given | {"claims": claims}


def _finite(row: Row) -> Row:
    """The row without what is no number in its numbers, and with all of their fields."""

    def clean(value: dict | None) -> dict | None:
        if value is None:
            return None
        kept = {key: x for key, x in value.items() if isinstance(x, (int, float)) and isfinite(x)}
        draws = [x for x in value.get("quantiles") or [] if isfinite(x)]
        return {"value": None, "low": None, "high": None} | kept | {"quantiles": draws if len(draws) == 21 else []}

    numbers = {name: clean(value) for name, value in (("reported", row.reported), ("measured", row.measured), ("null", row.null))}
    return replace(row, **numbers, reason=row.reason or ("" if row.status == OK else "no reason given"))


def _absent(rows: Sequence[Row], environment: dict) -> list[str]:
    """Claims of which the results hold no row at all, a line a model."""
    lines = []
    for model in measured_models(rows):
        held = {row.claim for row in rows if row.model == model}
        if missing := [name for name in in_order(environment["claims"]) if name not in held]:
            lines.append(f"{SYMBOLS[NOT_RUN]} not in these results {model}: {', '.join(missing)}")
    return lines


# --- claims ----------------------------------------------------------------------------------------------------------------


def _families(environment: dict, numbers: dict[str, list[Entry]], rows: Sequence[Row]) -> list[dict]:
    """Claim families in the order of their first claim: name, anchor and claims."""
    found: dict[str, list[dict]] = {}
    for name, family in by_family(rows, environment):
        mine = [row for row in rows if row.claim == name]
        found.setdefault(family, []).append(_claim(name, environment["claims"][name], environment, numbers, mine))
    return [{"name": name, "anchor": f"family-{i}", "claims": claims} for i, (name, claims) in enumerate(found.items(), 1)]


def _claim(name: str, text: dict, environment: dict, numbers: dict[str, list[Entry]], rows: Sequence[Row]) -> dict:
    """Everything that the page says about one claim; rows: its own."""
    reasons: dict[tuple, list[str]] = {}
    for row in rows:
        if row.status != OK:
            protocols = reasons.setdefault((row.model, tuple(status(row)), row.reason), [])
            protocols += [row.protocol] * (row.protocol not in protocols)
    models = [model for model in numbers if model]
    return {
        "id": name,
        "anchor": f"claim-{text['position'] + 1}-{slug(name)}",
        "text": text,
        "marked": None if UNTOLD in (text["protocol"], text["sound"]) else differences(text["protocol"], text["sound"]),
        "numbers": {model: [entry for entry in numbers[model] if entry.line.claim == name] for model in numbers},
        "glance": {
            model: [tally(row for row in rows if (row.model, row.protocol) == (model, protocol)) for protocol in PROTOCOLS]
            for model in models
        },
        "stopped": [(*what, " and ".join(PROTOCOLS.get(each, each) for each in how)) for what, how in reasons.items()],
        "provenance": {model: _provenance(name, model, environment, rows) for model in models},
    }


def _provenance(claim: str, model: str, environment: dict, rows: Sequence[Row]) -> dict:
    """Where one model's numbers of a claim come from, and the command that measures them again."""
    device = environment["devices"].get(model) or environment.get("device") or ""
    seeds = dict(pair for row in rows if row.model == model for pair in (row.seeds or {}).items())
    inputs = environment["inputs"].get(model) or {}
    told = {f"sha256 of the {what}": inputs[what] for what in ("weights", "problems") if inputs.get(what)}
    told |= {"device": device} if device else {}
    told |= {"seeds": ", ".join(f"{what} {seed}" for what, seed in sorted(seeds.items()))} if seeds else {}
    gpu = "" if device.startswith("cpu") or not device else " -m gpu"
    options = environment.get("options", "")
    return {"told": told, "command": f"pytest benchmarks{gpu} --claim {claim} --model {model} {options}".rstrip()}


def differences(before: str, after: str) -> tuple[list[tuple[bool, str]], list[tuple[bool, str]]]:
    """Both texts in pieces, (does the other text lack it, piece). A lone short word in common is a coincidence."""
    texts = [re.findall(r"(?:\w+|[^\w\s])\s*", text) for text in (before, after)]
    words = [[token.strip() for token in tokens] for tokens in texts]
    common = [
        block
        for block in SequenceMatcher(None, *words, autojunk=False).get_matching_blocks()
        if sum(word.isalnum() for word in words[0][block.a : block.a + block.size]) > 1
        or any(len(word) > 4 for word in words[0][block.a : block.a + block.size])
    ]
    pieces = []
    for tokens, starts in zip(texts, ([block.a for block in common], [block.b for block in common])):
        found, end = [], 0
        for start, block in zip([*starts, len(tokens)], [*(block.size for block in common), 0]):
            found += [(True, "".join(tokens[end:start])), (False, "".join(tokens[start : start + block]))]
            end = start + block
        pieces.append([(changed, text) for changed, text in found if text])
    return pieces[0], pieces[1]


# --- figures ---------------------------------------------------------------------------------------------------------------


def _belongs(figure: str, family: str) -> bool:
    """Does a figure's name begin like the family's (`probes-cells`, `sae`)?"""
    return slug(figure).startswith(slug(family).split("-")[0].removesuffix("s"))


def _figure(drawn) -> dict:
    """A figure ready to be put into the page: without the prologue that a file begins with."""
    svg = drawn.svg[max(drawn.svg.find("<svg"), 0) :]
    title = drawn.title.rstrip(".")
    return {"name": drawn.name, "title": title, "caption": drawn.caption, "alt": drawn.alt, "svg": svg}
