"""Key takeaways, by rule from the verdicts: what holds, what does not, and what cannot be said yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codi_bench.records.results import BLOCKED, OK, Row
from codi_bench.report.audit import own_words
from codi_bench.report.sentences import stopped
from codi_bench.report.table import REPORTED, REPORTING, SOUND, by_family, number, place, shown_unit

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
    verdict_rows = [row for row in own_words(rows, environment) if row.status == OK]
    claims, all_takeaways = environment.get("claims") or {}, []
    for group, phrases in GROUPS.items():
        for claim, _ in by_family(rows, environment):
            kind, sentence = (claims.get(claim, {}).get(name) for name in ("kind", "sentence"))
            parts, models = [f"“{sentence}”"] if sentence else [], dict[str, None]()
            for word, phrase in phrases.items():
                word_rows = [row for row in verdict_rows if row.claim == claim and (row.protocol, row.validity) == word]
                if word_rows:
                    parts.append(_statement(word_rows, TOO_SMALL if phrase == "REFUTED" and kind in MARGINAL else phrase, kind))
                    models |= dict.fromkeys(row.model for row in word_rows)
            if models:
                all_takeaways.append(Takeaway(group, claim, tuple(models), " ".join(parts)))
    return all_takeaways + _open_questions(rows)


def lines(all_takeaways: Sequence[Takeaway], models: Sequence[str]) -> list[str]:
    """The takeaways as Markdown, three lists under a heading; an empty one says so. models: those that were measured."""
    names = [name for model, name in REPORTING.items() if model not in models]
    introduction = (
        "Each sentence is about the models that it names, under the sound protocol unless it says otherwise; words belong to "
        "numbers, so a claim may stand in more than one list. "
        "`fragile`: draws of the null or rounding could change the word."
    )
    if names:
        introduction += f" Of the study's models these were not measured, and nothing is said about them: {' and '.join(names)}."
    parts = ["## Key takeaways", "", introduction, ""]
    for group in GROUPS:
        group_takeaways = [takeaway for takeaway in all_takeaways if takeaway.group == group]
        texts = [f"**{each.claim}**: {each.text}" if each.claim else each.text for each in group_takeaways]
        parts += [f"### {group}", "", *(f"- {text}" for text in texts or ["Nothing, in these results."]), ""]
    return parts


def _statement(rows: Sequence[Row], phrase: str, kind: str | None) -> str:
    """One word, and the numbers of each model that got it."""
    by_model = {model: [row for row in rows if row.model == model] for model in sorted({row.model for row in rows})}
    return f"{phrase}: {'. '.join(f'{model}: {_numbers(model_rows, kind)}' for model, model_rows in by_model.items())}."


def _numbers(rows: Sequence[Row], kind: str | None) -> str:
    """Metrics with number, interval and null, or with the evidence; n, and the n that would decide, once where they agree.

    Whether a place stands out, or cells are even, no number tells beside its null: there the evidence is told.
    """
    evidence_flags = [row.protocol == SOUND and kind not in (None, *MARGINAL) and row.validity != "UNDERPOWERED" for row in rows]
    sizes = {row.n for row in rows if row.n and row.n > 1}
    texts = []
    for row, flag in zip(rows, evidence_flags, strict=True):
        unit = shown_unit(row)
        evidence = row.detail.get("validity", "") if flag else ""
        null = number(row.null, unit)
        remarks = [evidence] if evidence else [f"null {null}"] if null else []
        remarks += [f"n = {row.n}"] if len(sizes) > 1 and row.n and not evidence else []
        remarks += ["fragile"] if row.detail.get("fragile") else []
        remarks += [FLAGS[row.regression]] if row.regression in FLAGS else []
        position = f" at {place(row)}" if place(row) else ""
        value = number(row.measured, unit, SIGNS.get(unit, ""))
        texts.append(f"{row.metric} {value}{position}" + (f" ({'; '.join(remarks)})" if remarks else ""))
    size = f"; n = {sizes.pop()}" if len(sizes) == 1 and f"n = {min(sizes)}" not in " ".join(texts) else ""
    return ", ".join(texts) + size + _decide(rows)


def _decide(rows: Sequence[Row]) -> str:
    """How many problems it would take, where the verdicts know."""
    sizes = {row.metric: size for row in rows if row.validity == "UNDERPOWERED" and (size := row.detail.get("decide"))}
    if not sizes:
        return ""
    low, high = min(sizes.values()), max(sizes.values())
    metrics = "" if len(sizes) == len(rows) else f" {', '.join(sizes)}"
    count = f"{low} problems" if low == high else f"{low} to {high} problems, by metric,"
    return f"; at least {count} would decide{metrics}"


def _open_questions(rows: Sequence[Row]) -> list[Takeaway]:
    """What no word was given to because it was not measured, or not soundly."""
    models = list(dict.fromkeys(row.model for row in rows if row.status == OK))
    questions = []
    if not models:
        questions.append(Takeaway(OPEN, "", (), "Nothing was measured: of no claim is it said whether it holds."))
    for model in models:
        if not any(row.validity for row in rows if row.model == model and row.status == OK):
            text = f"{model}: measured, but no number has a verdict: of no claim is it said whether it holds."
            questions.append(Takeaway(OPEN, "", (model,), text))
    for status, model, claims, sound_only, reason in stopped(rows):
        subject = f"{', '.join(claims) if len(claims) <= NAMED else f'{len(claims)} claims'}{', soundly' * sound_only}"
        outcome = "blocked" if status == BLOCKED else "not run"
        questions.append(Takeaway(OPEN, "", (model,), f"{model}: {subject}: {outcome}{f', {reason}' if reason else ''}."))
    return questions
