"""The audit in sentences. Each follows from the rows by a rule."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from codi_bench.records.results import OK, Number, Row
from codi_bench.report.table import REPORTED, REPORTING, SOUND, WORDS, in_order, measured_models, metric_order, number, p_clause

HEADLINE = ("probe-accuracy", "mean")
ALPHA = 0.025  # of one family, docs/verdicts.md, section 3


def says(rows: Sequence[Row], environment: dict) -> list[str]:
    """Sentences on the study's headline numbers, then on each model's probes and words; last, what chance alone would give."""
    headline_rows = {
        (row.model, row.protocol): row for row in rows if row.claim == HEADLINE[0] and row.metric in (HEADLINE[1], "-")
    }
    sentences = []
    for model in measured_models(rows):
        sentences += probes(model, headline_rows.get((model, REPORTED)), headline_rows.get((model, SOUND)))
        sentences += words(model, [row for row in rows if row.model == model], environment)
    sentences = headline(headline_rows, environment, others=bool(sentences)) + sentences
    families = environment.get("families")
    if families and any(row.validity for row in rows):
        count = sum(row.validity == "SUPPORTED" for row in rows if row.protocol == SOUND)
        expected = f"{ALPHA} × {families} families = {ALPHA * families:.2g}"
        sentences.append(f"By chance {expected} false SUPPORTED are expected; the sound numbers have {count} SUPPORTED.")
    return sentences


def headline(rows: dict[tuple[str, str], Row], environment: dict, *, others: bool) -> list[str]:
    """The headline numbers of the study, their protocol, its result on noise, and whether the numbers were measured here."""
    by_model = {model: row for model in REPORTING if (row := rows.get((model, REPORTED))) and row.reported}
    noise = (environment.get("noise") or {}).get("text") or ""
    if not by_model:
        return [noise] if noise else []
    numbers = [f"{_study_percent(row.reported)} ({REPORTING[model]})" for model, row in by_model.items()]
    absent = [REPORTING[model] for model, row in by_model.items() if row.status != OK]
    protocol = (environment.get("claims") or {}).get(HEADLINE[0], {}).get("protocol")
    sentences = [
        f"The study's headline numbers, mean probe accuracy: {' and '.join(numbers)}.",
        f"Its protocol: {protocol}." if protocol else "",
        noise,
        f"Not measured in this run, and so without a word: {' and '.join(absent)}." if absent else "",
        "The next sentences are about the other models that they name." if absent and others else "",
    ]
    return [" ".join(filter(None, sentences))]


def probes(model: str, reported: Row | None, sound: Row | None) -> list[str]:
    """One model's probes: under the study's protocol, with true and with permuted labels, then held out."""
    parts = []
    if reported is not None and reported.status == OK:
        grid = reported.detail.get("grid")
        text = (
            f"probes read {_percent(reported.measured)} as the study measured (mean over "
            f"{f'{sum(map(len, grid))} ' if grid else ''}cells, fitted and scored on the same {reported.n} problems)"
        )
        if reported.null:
            text += f"; with permuted labels they read {_percent(reported.null)}{_p(reported)}"
        if reported.validity == "ARTEFACT" and not _repeats(reported, sound):
            text += f": {_word(reported)}, the protocol makes the number itself"
        parts.append(text)
    if sound is not None and sound.status == OK:
        null_text = f", with permuted labels {_percent(sound.null)}{_p(sound)}" if sound.null else ""
        who = "Held out, they" if parts else "held out, probes"
        parts.append(f"{who} read {_percent(sound.measured)} (n = {sound.n}){null_text}: {_word(sound)}")
    elif parts:
        parts.append(f"Held out: {f'{sound.status}, {sound.reason}' if sound else 'not in these results'}")
    return [f"{model}: {'. '.join(parts)}."] if parts else []


def words(model: str, rows: Sequence[Row], environment: dict) -> list[str]:
    """The claims of one model by word, under the study's protocol (ARTEFACT by its own null) and under the sound one.

    Metrics are named if those of a claim got different words, or only some of them got one.
    """
    verdict_rows, lists = list(own_words(rows, environment)), []
    protocols = (REPORTED, ("ARTEFACT",), "as published, "), (SOUND, WORDS, "under the sound protocol, ")
    for protocol, outcomes, opening in protocols:
        for word in outcomes:
            other_claims = {row.claim for row in rows if row.protocol == protocol and row.validity != word}
            metrics = _metrics(
                (row for row in verdict_rows if (row.protocol, row.validity, row.status) == (protocol, word, OK)), other_claims
            )
            if metrics:
                lists.append(f"{opening}{word}: {metrics}")
                opening = ""
    return [f"{model}, {'; '.join(lists)}."] if lists else []


def evidence(rows: Sequence[Row], environment: dict) -> list[tuple[str, str]]:
    """For every word: claim, metric, protocol and word, and the reason."""
    return [
        (f"{row.claim}, {row.metric}, {row.protocol}: **{_word(row)}**", row.detail.get("validity", ""))
        for row in own_words(rows, environment)
    ]


def own_words(rows: Sequence[Row], environment: dict) -> list[Row]:
    """Rows with a word, in the order of the claims; without reported rows that only repeat the word of the sound row."""
    sound_rows = {row.key[:3]: row for row in rows if row.protocol == SOUND}
    verdict_rows = [row for row in rows if row.validity and not _repeats(row, sound_rows.get(row.key[:3]))]
    position = {name: i for i, name in enumerate(in_order(environment.get("claims") or {}))}
    return sorted(verdict_rows, key=lambda row: (position.get(row.claim, len(position)), metric_order(row), row.protocol))


def _repeats(row: Row, sound_row: Row | None) -> bool:
    """Does a reported row only repeat the sound row's word? An ARTEFACT by the study's own null has its own reason."""
    if row.protocol == SOUND or sound_row is None or sound_row.validity != row.validity:
        return False
    return row.detail.get("validity") in (None, sound_row.detail.get("validity"))


def without_word(rows: Sequence[Row]) -> list[str]:
    """Measured numbers without a word, one line per reason."""
    reasons: dict[str, list[Row]] = {}
    for row in rows:
        if row.status == OK and not row.validity and row.detail.get("no_validity"):
            reasons.setdefault(row.detail["no_validity"], []).append(row)
    return [f"{_metrics(group)}: {reason}" for reason, group in reasons.items()]


def _metrics(rows: Iterable[Row], in_full: Collection[str] | None = None) -> str:
    """Claims with their metrics in parentheses; in_full: only these claims need them."""
    by_claim: dict[str, list[str]] = {}
    for row in rows:
        by_claim.setdefault(row.claim, []).append(row.metric)
    return ", ".join(
        f"{claim} ({', '.join(dict.fromkeys(metrics))})" if in_full is None or claim in in_full else claim
        for claim, metrics in by_claim.items()
    )


def _word(row: Row) -> str:
    if not row.validity:
        return f"no word ({row.detail['no_validity']})" if row.detail.get("no_validity") else "no word"
    decide = row.detail.get("decide")
    remarks = [f"at least {decide} problems would decide"] * bool(decide) + ["fragile"] * bool(row.detail.get("fragile"))
    return row.validity + (f" ({', '.join(remarks)})" if remarks else "")


def _percent(value: Number | None) -> str:
    return number(value, "fraction", " %")


def _study_percent(value: Number | None) -> str:
    """A percentage with the digits that the study printed."""
    point = (value or {}).get("value")
    return f"{100 * point:.2f} %" if point is not None else _percent(value)


def _p(row: Row) -> str:
    p = p_clause((row.null or {}).get("p"))
    return f" ({p})" if p else ""
