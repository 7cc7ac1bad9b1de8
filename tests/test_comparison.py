"""Two models on one claim: planted differences are found, equal models are not told apart, and nothing missing makes a winner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from codi_bench.claims import CLAIMS
from codi_bench.claims.families import WINNER_TESTS
from codi_bench.errors import MeasureError
from codi_bench.records.baseline import pack_bits
from codi_bench.records.results import Row
from codi_bench.rules.intervals import Ranked, _weighted_fold_auc, auc_difference
from codi_bench.rules.stats import mcnemar_exact, stream
from codi_bench.suite.winners import BOOTSTRAP, INTERVALS, MCNEMAR, packed_scores, winners


def ranked(rng, shift, n=300, phi=1.0, ties=False):
    labels = rng.random(n) < 0.4
    score = rng.normal(size=n) + shift * labels
    return Ranked(np.round(score) if ties else score, labels, np.arange(n) % 5, np.arange(n).astype(str), phi)


def row(claim, model, metric, measured, **detail):
    value, low, high = measured
    numbers = {"value": value, "low": low, "high": high}
    return Row(claim, model, metric, "sound", "ok", unit="fraction", n=300, measured=numbers, detail=detail)


def accuracy(model, right, problems="list"):
    return row("task-accuracy", model, "accuracy", (right.mean(), 0.0, 1.0), outcomes=pack_bits(right), problems=problems)


def auc(claim, model, side):
    return row(claim, model, "auc", (0.5, 0.4, 0.6), ranked=packed_scores(side), problems="list")


# --- the difference of two AUCs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_a_draw_s_auc_is_that_of_the_repeated_problems(ties):
    side = ranked(stream(0, "weights"), 1.0, n=100, ties=ties)
    weights = stream(0, "counts").integers(0, 3, (4, 100))
    for found, count in zip(_weighted_fold_auc(side, weights), weights, strict=True):
        rows = np.repeat(np.arange(100), count)
        parts = [rows[side.fold[rows] == fold] for fold in range(5)]
        assert found == pytest.approx(np.mean([roc_auc_score(side.labels[part], side.score[part]) for part in parts]))


def test_two_models_of_equal_auc_are_told_apart_as_seldom_as_the_level_says():
    rejected, covered = 0, 0
    for draw in range(120):
        rng = stream(draw, "equal")
        difference, p = auc_difference(ranked(rng, 0.9), ranked(rng, 0.9), rng=rng, draws=300)
        rejected, covered = rejected + (p <= 0.05), covered + (difference.low <= 0 <= difference.high)
    assert rejected <= 14 and covered >= 106  # 6 and 114 expected


def test_a_planted_difference_is_found_and_turns_around_with_the_pair():
    rng = stream(0, "planted")
    good, poor = ranked(rng, 2.0), ranked(rng, 0.5)
    there, p = auc_difference(good, poor, rng=stream(1, "boot"))
    back, same_p = auc_difference(poor, good, rng=stream(1, "boot"))
    assert there.low > 0.1 and p == same_p == 1 / 2001
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


def test_phi_widens_and_a_model_is_no_better_than_itself():
    rng = stream(0, "phi")
    good, poor = ranked(rng, 1.2), ranked(rng, 0.8)
    narrow, wide = (
        auc_difference(replace(good, phi=phi), replace(poor, phi=phi), rng=stream(1, "boot"))[0] for phi in (1.0, 4.0)
    )
    assert wide.high - wide.low == pytest.approx(2 * (narrow.high - narrow.low))
    assert auc_difference(good, good, rng=stream(1, "boot")) == (type(wide)(0.0, 0.0, 0.0), 1.0)


def test_too_few_of_a_class_is_refused():
    few = Ranked(np.arange(4.0), np.array([1, 0, 0, 0], bool), np.zeros(4, int), np.arange(4).astype(str))
    with pytest.raises(MeasureError, match="too few problems"):
        auc_difference(few, few, rng=stream(0, "few"))


# --- winners ---------------------------------------------------------------------------------------------------------


def test_the_registry_compares_what_a_pair_is_corrected_for():
    compared = {claim.id: claim.compared for claim in CLAIMS.values() if claim.compared}
    assert compared.pop("spread") == "tau"
    assert len(compared) == WINNER_TESTS


def test_each_claim_is_compared_by_its_own_test_and_corrected_together():
    rng = stream(0, "winners")
    a = rng.random(300) < 0.6
    b = np.where(rng.random(300) < 0.25, False, a)
    good, poor = ranked(rng, 2.0), ranked(rng, 0.4)
    rows = [
        accuracy("a", a),
        accuracy("b", b),
        row("spread", "a", "tau", (3.0, 1.0, 6.0)),
        row("spread", "b", "tau", (1.0, 0.0, 3.0)),
    ]
    rows += [auc("probe-best", "a", good), auc("probe-best", "b", poor)]
    rows += [auc("sae-error-prediction", "a", poor), auc("sae-error-prediction", "b", poor)]
    found = {each["claim"]: each for each in winners(rows).values()}
    assert {claim: (each["test"], each["winner"]) for claim, each in found.items()} == {
        "task-accuracy": (MCNEMAR, "a"),
        "probe-best": (BOOTSTRAP, "a"),
        "sae-error-prediction": (BOOTSTRAP, None),
        "spread": (INTERVALS, None),
    }
    assert found["task-accuracy"]["p"] == pytest.approx(3 * mcnemar_exact(a, b))  # the smallest of three
    assert found["probe-best"]["p"] == pytest.approx(2 / 2001)  # the second of three
    assert found["spread"]["p"] is None and found["spread"]["difference"]["low"] < 2 < found["spread"]["difference"]["high"]


def test_a_comparison_that_cannot_be_tested_costs_the_others_nothing():
    one_class = Ranked(np.arange(300.0), np.arange(300) == 0, np.zeros(300, int), np.arange(300).astype(str))
    right = stream(0, "few").random(300) < 0.6
    rows = [accuracy("a", right), accuracy("b", ~right), auc("probe-best", "a", one_class), auc("probe-best", "b", one_class)]
    found = winners(rows)
    assert found["probe-best: a / b"]["p"] is None and "too few problems of a class" in found["probe-best: a / b"]["test"]
    assert found["task-accuracy: a / b"]["p"] is not None


def test_a_partial_run_may_miss_a_winner_and_never_invents_one():
    rng = stream(0, "partial")
    a = rng.random(300) < 0.6
    b = np.where(rng.random(300) < 0.08, False, a)
    alone = winners([accuracy("a", a), accuracy("b", b)])["task-accuracy: a / b"]
    assert alone["p"] == pytest.approx(min(1, WINNER_TESTS * mcnemar_exact(a, b)))


RIGHT = accuracy("b", np.ones(300, bool))


@pytest.mark.parametrize(
    "other",
    [
        None,
        accuracy("b", np.ones(300, bool), problems="others"),
        replace(RIGHT, metric="published_scoring"),
        replace(RIGHT, protocol="reported"),
    ],
)
def test_other_problems_one_model_or_other_metrics_are_not_compared(other):
    assert winners([accuracy("a", np.ones(300, bool)), *filter(None, [other])]) == {}


def test_spreads_over_other_problems_are_not_compared():
    assert winners([row("spread", name, "tau", (3.0, 1.0, 6.0), problems=name) for name in ("a", "b")]) == {}
