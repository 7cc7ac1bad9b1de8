"""Key takeaways, by rule from the verdicts: what holds, what does not, and what cannot be said yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codi_bench.records.results import BLOCKED, OK, Row
from codi_bench.report.audit import own_words
from codi_bench.report.table import REPORTED, REPORTING, SOUND, by_family, measured_models, number, place, shown_unit, stopped

HOLDS, FALLS, OPEN = "What holds", "What is an artefact or refuted", "What cannot be said yet"
GROUPS = {  # which rows speak in which group: protocol and word, and how the word is said
    HOLDS: {(SOUND, "SUPPORTED"): "SUPPORTED"},
    FALLS: {
        (REPORTED, "ARTEFACT"): "ARTEFACT, the reported protocol makes the number itself",
        (SOUND, "ARTEFACT"): "ARTEFACT under the sound protocol, above its marginal null but not above a stricter one",
        (SOUND, "REFUTED"): "REFUTED",
    },
    OPEN: {(SOUND, "UNDERPOWERED"): "UNDERPOWERED"},
}
MARGINAL = ("value", "exists")  # kinds of claims whose effect has a smallest size that counts; of others the evidence is told
TOO_SMALL = "REFUTED, the interval of the effect lies below the smallest that counts"
SIGNS = {"fraction": " %", "points": " points", "nats": " nats"}
NAMED = 3  # claims that one reason stopped are named up to this many
FLAGS = {"DRIFTED": "DRIFTED from our record", "UNCHECKED": "nothing recorded to check it against"}


@dataclass(frozen=True)
class Takeaway:
    """What one claim's rows say in one group: HOLDS, FALLS or OPEN. claim: "" where it is about all that a reason stopped."""

    group: str
    claim: str
    models: tuple[str, ...]
    text: str


def takeaways(rows: Sequence[Row], environment: dict) -> list[Takeaway]:
    """At most one a group and claim, in the order of groups and claims; what was not measured, and why, comes last."""
    said = [row for row in own_words(rows, environment) if row.status == OK]
    claims = environment.get("claims") or {}
    found = []
    for group, given in GROUPS.items():
        for claim, _ in by_family(rows, environment):
            mine = [row for row in said if row.claim == claim and (row.protocol, row.validity) in given]
            if mine:
                known = claims.get(claim, {})
                statements = [
                    _statement(those, TOO_SMALL if how == "REFUTED" and known.get("kind") in MARGINAL else how, known.get("kind"))
                    for word, how in given.items()
                    if (those := [row for row in mine if (row.protocol, row.validity) == word])
                ]
                sentence = [f"“{known['sentence']}”"] if known.get("sentence") else []
                models = tuple(dict.fromkeys(row.model for row in mine))
                found.append(Takeaway(group, claim, models, " ".join([*sentence, *statements])))
    return found + _unsaid(rows)


def lines(rows: Sequence[Row], environment: dict) -> list[str]:
    """The takeaways as Markdown, three lists under a heading; an empty one says so."""
    found = takeaways(rows, environment)
    absent = [name for model, name in REPORTING.items() if model not in measured_models(rows)]
    about = (
        "Each sentence is about the models that it names, under the sound protocol unless it says otherwise; words belong to "
        "numbers, so a claim may stand in more than one list. "
        "`fragile`: draws of the null or rounding could change the word."
    )
    if absent:
        verb = "were" if len(absent) > 1 else "was"
        about += f" {' and '.join(absent)}, which the study is about, {verb} not measured: nothing is said about them here."
    parts = ["## Key takeaways", "", about, ""]
    for group in GROUPS:
        texts = [f"**{each.claim}**: {each.text}" if each.claim else each.text for each in found if each.group == group]
        parts += [f"### {group}", "", *(f"- {text}" for text in texts or ["Nothing, in these results."]), ""]
    return parts


def _statement(rows: Sequence[Row], how: str, kind: str | None) -> str:
    """One word, and the numbers of each model that got it."""
    by_model = {model: [row for row in rows if row.model == model] for model in sorted({row.model for row in rows})}
    return f"{how}: {'. '.join(f'{model}: {_numbers(mine, kind)}' for model, mine in by_model.items())}."


def _numbers(rows: Sequence[Row], kind: str | None) -> str:
    """Metrics with number, interval and null, or with the evidence; n, and the n that would decide, once where they agree.

    Whether a place stands out, or cells are even, no number tells beside its null: there the evidence is told.
    """
    told = [row.protocol == SOUND and kind not in (None, *MARGINAL) and row.validity != "UNDERPOWERED" for row in rows]
    sizes = {row.n for row in rows if row.n and row.n > 1}
    texts = []
    for row, tell in zip(rows, told, strict=True):
        unit = shown_unit(row)
        evidence = row.detail.get("validity", "") if tell else ""
        null = number(row.null, unit)
        beside = [evidence] if evidence else [f"null {null}"] if null else []
        beside += [f"n = {row.n}"] if len(sizes) > 1 and row.n and not evidence else []
        beside += ["fragile"] if row.detail.get("fragile") else []
        beside += [FLAGS[row.regression]] if row.regression in FLAGS else []
        where = f" at {place(row)}" if place(row) else ""
        value = number(row.measured, unit, SIGNS.get(unit, ""))
        texts.append(f"{row.metric} {value}{where}" + (f" ({'; '.join(beside)})" if beside else ""))
    shared = f"; n = {sizes.pop()}" if len(sizes) == 1 and f"n = {min(sizes)}" not in " ".join(texts) else ""
    return ", ".join(texts) + shared + _decide(rows)


def _decide(rows: Sequence[Row]) -> str:
    """How many problems it would take, where the verdicts know."""
    needed = {row.metric: row.detail["decide"] for row in rows if row.validity == "UNDERPOWERED" and row.detail.get("decide")}
    if not needed:
        return ""
    low, high = min(needed.values()), max(needed.values())
    which = "" if len(needed) == len(rows) else f" {', '.join(needed)}"
    count = f"{low} problems" if low == high else f"{low} to {high} problems, by metric,"
    return f"; at least {count} would decide{which}"


def _unsaid(rows: Sequence[Row]) -> list[Takeaway]:
    """What no word was given to because it was not measured, or not soundly."""
    measured = list(dict.fromkeys(row.model for row in rows if row.status == OK))
    found = []
    if not measured:
        found.append(Takeaway(OPEN, "", (), "Nothing was measured: of no claim is it said whether it holds."))
    for model in measured:
        if not any(row.validity for row in rows if row.model == model and row.status == OK):
            text = f"{model}: measured, but no number has a verdict: of no claim is it said whether it holds."
            found.append(Takeaway(OPEN, "", (model,), text))
    for status, model, claims, soundly, reason in stopped(rows):
        what = f"{', '.join(claims) if len(claims) <= NAMED else f'{len(claims)} claims'}{', soundly' * soundly}"
        how = "blocked" if status == BLOCKED else "not run"
        found.append(Takeaway(OPEN, "", (model,), f"{model}: {what}: {how}{f', {reason}' if reason else ''}."))
    return found
