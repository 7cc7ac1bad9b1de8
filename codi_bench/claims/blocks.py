"""Building blocks for the protocols of claims: rates, paired tests against a control, and bounds on what is lost.

Each block gives the rows of a claim. Corrected p values are for the budget of the claim's family (docs/verdicts.md, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codi_bench.audits.ablation import CLEAN, DROP_FLOOR
from codi_bench.audits.confidence import OverConfidence
from codi_bench.audits.reading import enough_word
from codi_bench.claims.claim import Measured, Null, Published, ends, measured, points, without_word
from codi_bench.claims.families import FAMILIES, budget_of
from codi_bench.errors import MeasureError
from codi_bench.rules.p_values import across_claims
from codi_bench.rules.stats import mcnemar_exact, newcombe_paired, rate_of
from codi_bench.rules.validity import Validity, half_effect, sound_verdict

Outcomes = Mapping[str, np.ndarray]  # right or wrong by metric, bool [n] each
NO_DROP = "no drop"
PAIRED = "exact McNemar, Holm in the claim times the claims of the family"


def corrected(p_values: Sequence[float], family: str) -> list[float]:
    """Holm over the tests of one claim, times the budget of its family."""
    return [float(p) for p in across_claims(p_values, budget_of(family))]


def rate(metric: str, right: np.ndarray, **more: Any) -> Measured:
    """The share of right answers, bool [n], with Wilson's interval."""
    return measured(metric, rate_of(right), len(right), outcomes=right, **more)


def rates(outcomes: Outcomes) -> list[Measured]:
    return [rate(metric, right) for metric, right in outcomes.items()]


def of_right(outcomes: Outcomes, metric: str) -> np.ndarray:
    """Outcomes of the problems that the clean run answers rightly; raises MeasureError if there are none."""
    if not outcomes[CLEAN].any():
        raise MeasureError("nothing to lose: no problem is answered rightly")
    return outcomes[metric][outcomes[CLEAN]]


def effect_over(published: Published, metric: str, nominal: float, floor: float) -> float:
    """Delta: half the published effect over its null, but at least the floor; the floor if nothing is published."""
    value = published.get(metric)
    return half_effect(None if value is None else value - nominal, floor)


def gains(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], control: str, *, family: str, delta: float | Mapping[str, float]
) -> list[Measured]:
    """Is the first of each pair right more often than its control, the second? Rows show the first; delta: least effect."""
    return _paired(pairs, control, family, delta, shown=0)


def losses(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], control: str, *, family: str, delta: float | Mapping[str, float]
) -> list[Measured]:
    """Like `gains`, but the first of each pair is the control, and rows show the second."""
    return _paired(pairs, control, family, delta, shown=1)


def _paired(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], control: str, family: str, delta: float | Mapping[str, float], shown: int
) -> list[Measured]:
    p_values = corrected([mcnemar_exact(first, second, "greater") for first, second in pairs.values()], family)
    rows = []
    for (metric, pair), p in zip(pairs.items(), p_values, strict=True):
        difference = newcombe_paired(*pair)
        least = delta if isinstance(delta, float) else delta[metric]
        word = sound_verdict(difference, delta=least, p={control: p}, marginal=control, n=len(pair[0]))
        null = Null(float(pair[1 - shown].mean()), p=p)
        detail = {("gain", "loss")[shown]: ends(difference)}
        rows.append(rate(metric, pair[shown], null=null, verdict=word, detail=detail))
    return rows


def drops(outcomes: Outcomes, published: Published, *, family: str) -> list[Measured]:
    """Is accuracy lost under each condition, compared with the clean run? Delta: half the published loss, at least 2 points.

    A claim that only says that something is lost has no published number and takes the floor.
    """
    reported = {metric: published.get(CLEAN, 0) - published.get(metric, 1) for metric in outcomes if metric != CLEAN}
    delta = {metric: half_effect(loss if loss > 0 else None, DROP_FLOOR) for metric, loss in reported.items()}
    return losses({metric: (outcomes[CLEAN], outcomes[metric]) for metric in reported}, NO_DROP, family=family, delta=delta)


def not_lost(full: np.ndarray, outcomes: Outcomes, *, family: str) -> list[Measured]:
    """Is surely less than 5 points lost against `full`, bool [n]?"""
    p_values = corrected([mcnemar_exact(full, right, "greater") for right in outcomes.values()], family)
    rows = []
    for (metric, right), p in zip(outcomes.items(), p_values, strict=True):
        word = enough_word(full, right, p, tests=len(outcomes))
        rows.append(rate(metric, right, null=Null(float(full.mean()), p=p), verdict=word))
    return rows


def confidence_rows(found: OverConfidence, p: float, n: int) -> list[Measured]:
    """AUC of the model's own confidence, and what a detector of its errors adds to it; p: corrected. No other word changes."""
    word = found.word(p, n=n)
    note = {} if word.word is Validity.SUPPORTED else {"note": "nothing shown beyond what the model's own confidence tells"}
    return [
        measured("auc_confidence", found.alone, n, detail=without_word("a control: what the model itself says")),
        points("gain_confidence", found.gain, n, detail=note, null=Null(0.0, p=found.p), verdict=word),
    ]


def one_more_test(family: str, p: float) -> float:
    """The p of a test in addition to those of a family, by Bonferroni, so that it changes no word of the family."""
    return min(1.0, (FAMILIES[family].tests + 1) * p)


def over_constant(
    sets: Mapping[str, tuple[np.ndarray, Sequence[str]]], published: Published, floor: float, *, family: str
) -> list[Measured]:
    """Are sets (right bool [n], gold answers) answered better than by always giving their most frequent answer?"""
    pairs = {name: (right, constant(golds)) for name, (right, golds) in sets.items()}
    delta = {name: effect_over(published, name, float(control.mean()), floor) for name, (_, control) in pairs.items()}
    return gains(pairs, "constant", family=family, delta=delta)


def constant(golds: Sequence[str]) -> np.ndarray:
    """Right or wrong where the most frequent answer is always given, bool [n]."""
    common = max(sorted(set(golds)), key=list(golds).count)
    return np.array([gold == common for gold in golds])
