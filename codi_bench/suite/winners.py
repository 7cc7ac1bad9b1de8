"""Two models on one claim: the difference of the claim's statistic, and which is better (docs/verdicts.md, section 6, Winner)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, cast

import numpy as np

from codi_bench.claims import CLAIMS, Claim
from codi_bench.claims.families import WINNER_TESTS
from codi_bench.errors import CodiBenchError
from codi_bench.records.baseline import SOUND, pack_bits, unpack_bits
from codi_bench.records.results import OK, Detail, Difference, Number, Row, Winner
from codi_bench.rules.counts import fisher
from codi_bench.rules.intervals import Ranked, auc_difference, mover_difference
from codi_bench.rules.reproduction import winner
from codi_bench.rules.stats import Estimate, holm, mcnemar_exact, newcombe_paired, stream, wilson

MCNEMAR = "exact McNemar on the same problems"
BOOTSTRAP = "bootstrap over the problems of both"
FISHER = "Fisher's exact test on counts, of other problems each"
INTERVALS = "limits from those of both, taken as independent; evenness has no better side"


def winners(rows: list[Row]) -> dict[str, Winner]:
    """For each compared claim and pair of models: the difference with its interval, and which is better, with the corrected p.

    Right or wrong on the same problems: McNemar; scores of an AUC: bootstrap; only counts: Fisher; a quantity without a better
    side: the difference of two intervals, no p and no winner. p is Holm-corrected over the WINNER_TESTS rows of a model pair; a
    missing p counts as 1, so a partial run can miss a winner but not invent one. Models with different problems get no entry.
    """
    results: dict[str, Winner] = {}
    claims = {claim.id: claim for claim in CLAIMS.values() if claim.compared}
    sound_rows = {
        (row.claim, row.model): row
        for row in rows
        if row.claim in claims and (row.metric, row.protocol, row.status) == (_compared(claims[row.claim], row), SOUND, OK)
    }
    for a, b in combinations(sorted({model for _, model in sound_rows}), 2):
        sides = [(_side(sound_rows, name, a, b), _side(sound_rows, name, b, a)) for name in claims]
        found = [comparison for one, two in sides if one and two and (comparison := _comparison(one, two))]
        tests = [(comparison, p) for comparison in found if (p := comparison["p"]) is not None]
        corrected = holm([*(p for _, p in tests), *[1.0] * (WINNER_TESTS - len(tests))])
        for (comparison, _), p in zip(tests, corrected, strict=False):
            side = winner(comparison["difference"]["value"], p)
            comparison |= {"p": float(p), "winner": {"a": a, "b": b}[side] if side else None}
        results |= {f"{comparison['claim']}: {a} / {b}": comparison for comparison in found}
    return results


def _side(rows: Mapping[tuple[str, str], Row], claim: str, model: str, other: str) -> Row | None:
    """The row of a model, or a row made from its count of right answers, if the other model's row has it."""
    own, known = rows.get((claim, model)), rows.get((claim, other))
    against = known.detail.get("against") if known else None
    if own or not (known and against and model in against):
        return own
    right, n = against[model]
    ends = wilson(right, n)
    number: Number = {"value": ends.value, "low": ends.low, "high": ends.high}
    return replace(known, model=model, n=n, measured=number, detail=Detail(counts=[right, n]))


def _compared(claim: Claim, row: Row) -> str | None:
    """The metric to compare: released files may have another one than a run."""
    return claim.on_files.compared if row.origin == "released" and claim.reading else claim.compared


def packed_scores(scores: Ranked) -> dict:
    """The ranks of scores as JSON, 0 the lowest: an AUC needs no more."""
    return {
        "rank": np.unique(scores.score, return_inverse=True)[1].tolist(),
        "labels": pack_bits(scores.labels),
        "fold": np.asarray(scores.fold).tolist(),
        "group": [str(name) for name in scores.group],
        "phi": float(scores.phi),
    }


def _comparison(one: Row, two: Row) -> Winner | None:
    """The difference one - two of one metric of two models, p not yet corrected; None if they had different problems."""
    if one.origin != two.origin or (one.detail.get("problems") != two.detail.get("problems") and not _counted(one, two)):
        return None
    try:
        difference, p, test = _difference(one, two)
    except CodiBenchError as error:  # too few problems of a class: that must not cost the rest of a report
        difference, p, test = Estimate(_estimate(one).value - _estimate(two).value, None, None), None, f"not tested: {error}"
    ends: Difference = {"value": difference.value, "low": difference.low, "high": difference.high}
    models, metric, unit = [one.model, two.model], one.metric, one.unit
    return Winner(claim=one.claim, metric=metric, unit=unit, models=models, winner=None, p=p, difference=ends, test=test)


def _difference(one: Row, two: Row) -> tuple[Estimate, float | None, str]:
    if "ranked" in one.detail:
        sides = _ranked(one), _ranked(two)
        return *auc_difference(*sides, rng=stream(0, "winner", one.claim, one.model, two.model)), BOOTSTRAP
    if "outcomes" in one.detail:
        outcomes = _bits(one.detail["outcomes"], one.n), _bits(two.detail["outcomes"], two.n)
        return newcombe_paired(*outcomes), mcnemar_exact(*outcomes), MCNEMAR
    if _counted(one, two):
        (right_a, n_a), (right_b, n_b) = one.detail["counts"], two.detail["counts"]
        return mover_difference(wilson(right_a, n_a), wilson(right_b, n_b)), fisher(right_a, n_a, right_b, n_b), FISHER
    return mover_difference(_estimate(one), _estimate(two)), None, INTERVALS


def _counted(one: Row, two: Row) -> bool:
    """Were only counts released for both?"""
    return "counts" in one.detail and "counts" in two.detail


def _ranked(row: Row) -> Ranked:
    """The ranks that packed_scores packed, from the row of an AUC."""
    ranks = cast(Mapping[str, Any], row.detail)["ranked"]
    rank = np.asarray(ranks["rank"], float)
    return Ranked(rank, _bits(ranks["labels"], len(rank)), np.asarray(ranks["fold"]), np.asarray(ranks["group"]), ranks["phi"])


def _estimate(row: Row) -> Estimate:
    assert row.measured is not None and row.measured["value"] is not None
    return Estimate(row.measured["value"], row.measured["low"], row.measured["high"])


def _bits(text: str | None, n: int | None) -> np.ndarray:
    bits = unpack_bits(text, n or 0)
    assert bits is not None
    return bits
