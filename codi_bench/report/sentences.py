"""The sentences and counts below the tables: winners, notes, reproductions, numbers that moved, models that were not measured."""

from __future__ import annotations

from collections.abc import Sequence

from codi_bench.problems.sources import mixture
from codi_bench.records.results import OK, Row, Winner
from codi_bench.report.table import SOUND, SYMBOLS, is_number, p_clause


def notes(rows: Sequence[Row]) -> list[str]:
    """The notes on numbers, and the number of records that other code made."""
    return other_code(rows) + [
        f"note, {row.claim} on {row.model}: {row.metric}{_sound(row)}: {row.detail['note']}"
        for row in rows
        if "note" in row.detail
    ]


def decoded_again(environment: dict) -> list[str]:
    """For each checkpoint, which answers were decoded again before its claims counted, or why none were."""
    return [f"preflight, {model}: {note}" for model, note in (environment.get("gate") or {}).items()]


def related_sets(environment: dict) -> list[str]:
    """That problem sets of this run were made from one another, if they were."""
    sets = {name for names in (environment.get("problem_sets") or {}).values() for name in names.split(" and ")}
    return [f"problem sets: {text}" for text in [mixture(sets)] if text]


def other_code(rows: Sequence[Row]) -> list[str]:
    """The number of records that other code made, if there are any."""
    pairs = {(row.claim, row.model) for row in rows if "code" in row.detail}
    count = f"{len(pairs)} record{'s' * (len(pairs) > 1)} made by other code; a test is red only if a number moved"
    return [count] * bool(pairs)


def winners(environment: dict) -> list[str]:
    """How two models differ and which is better, with p; with more than two models, one entry for each pair."""
    comparisons = list((environment.get("winners") or {}).values())
    lines = []
    for claim in dict.fromkeys(comparison["claim"] for comparison in comparisons):
        pairs = [comparison for comparison in comparisons if comparison["claim"] == claim]
        lines.append(f"winner, {claim} {pairs[0]['metric']}: {'; '.join(map(_pair, pairs))}; {pairs[0]['test']}")
    return lines


def _pair(comparison: Winner) -> str:
    return f"{comparison['winner'] or 'none'} ({_difference(comparison)})"


def _difference(comparison: Winner) -> str:
    """By how much two models differ, with p: an AUC in its own unit, everything else in points."""
    difference = comparison["difference"]
    value, low, high = difference["value"], difference["low"], difference["high"]
    scale, digits, unit = (
        (1, 3, "") if comparison["metric"] == "auc" else (1 if comparison["unit"] == "points" else 100, 1, " points")
    )
    band = f" [{scale * low:+.{digits}f}, {scale * high:+.{digits}f}]" if is_number(low) and is_number(high) else ""
    p = p_clause(comparison.get("p"))
    return f"{' - '.join(comparison['models'])} = {scale * value:+.{digits}f}{band}{unit}{f', {p}' if p else ''}"


def reproductions(rows: Sequence[Row]) -> list[str]:
    """For each of the source's own models, which published numbers were reproduced and which were not."""
    by_model: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row.reproduction:
            by_model.setdefault(row.model, {}).setdefault(row.reproduction, []).append(f"{row.claim} {row.metric}")
    return [
        f"reproduction, {model}: " + "; ".join(f"{word}: {', '.join(metrics)}" for word, metrics in sorted(words.items()))
        for model, words in by_model.items()
    ]


def blocked_or_not_run(rows: Sequence[Row]) -> list[str]:
    """One line per reason, with the claims that were not measured because of it."""
    return [
        f"{SYMBOLS[status]} {status} {model}: {len(claims)} claim{'s' * (len(claims) > 1)}{' (sound protocol)' * sound_alone}"
        + (f": {reason}" if reason else "")
        for status, model, claims, sound_alone, reason in stopped(rows)
    ]


def stopped(rows: Sequence[Row]) -> list[tuple[str, str, list[str], bool, str]]:
    """Status, model, claims, whether only the sound protocol was stopped, and the reason; one entry per reason."""
    reasons: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.status != OK:
            reasons.setdefault((row.status, row.model, row.reason), []).append(row)
    return [
        (status, model, list(dict.fromkeys(row.claim for row in group)), all(row.protocol == SOUND for row in group), reason)
        for (status, model, reason), group in reasons.items()
    ]


def drifted(rows: Sequence[Row]) -> list[str]:
    """The rows that are red, and why; each line once."""
    lines = [f"{row.claim} on {row.model}{_sound(row)}: {row.reason}" for row in rows if row.regression == "DRIFTED"]
    return list(dict.fromkeys(lines))


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """The number of rows by outcome; not-run, blocked and unchecked rows are counted separately."""
    tally = {"same": 0, "drifted": 0, "unchecked": 0, "blocked": 0, "not-run": 0}
    for row in rows:
        tally[row.regression.lower() if row.status == OK or row.regression == "DRIFTED" else row.status] += 1
    return tally


def _sound(row: Row) -> str:
    return ", sound" if row.protocol == SOUND else ""
