"""Known answers, plain references, coverage and invariances of codi_bench.rules.intervals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, ncx2
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import cochrans_q

from benchmarks.calibration.outcomes import mean_difference
from codi_bench.errors import MeasureError
from codi_bench.rules.intervals import (
    accuracy_phi,
    auc_phi,
    cv_accuracy,
    cv_auc,
    fold_auc,
    heterogeneity,
    mover_difference,
)
from codi_bench.rules.stats import Estimate, Interval, bootstrap_mean, stream, wilson

NAN = float("nan")
scored = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30)
grids = st.tuples(st.integers(2, 12), st.integers(2, 6), st.integers(0, 2**32)).map(
    lambda size: np.random.default_rng(size[2]).random(size[:2]) < 0.6
)


def plain_delong(scores, labels):
    """Every pair compared; DeLong's two sample variances of the rows' and columns' means."""
    wins = np.array([[(a > b) + 0.5 * (a == b) for b in scores[~labels]] for a in scores[labels]])
    rows, columns = wins.mean(axis=1), wins.mean(axis=0)
    return wins.mean(), rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)


# Cross-validated accuracy


def test_accuracy_phi_of_draws_of_known_variance():
    draws = 0.5 + 0.1 * np.array([-1.0, 1.0] * 100)
    phi, q = accuracy_phi(draws, n=100)
    assert q == pytest.approx(0.5) and phi == pytest.approx(0.01 * 200 / 199 / 0.0025)
    quiet = np.full(200, 0.5)
    assert accuracy_phi(quiet, n=100) == (1.0, 0.5)
    # Averaged over cells, each at least 1.
    both, q = accuracy_phi(np.stack([draws, quiet + 0.2], axis=1), n=100)
    assert both == pytest.approx((phi + 1) / 2) and q == pytest.approx(0.6)
    assert accuracy_phi(np.ones((5, 2)), n=10) == (1.0, 1.0)


def test_binomial_draws_have_phi_one():
    draws = stream(0, "binomial").binomial(100, 0.5, (2000, 18)) / 100
    assert 1 <= accuracy_phi(draws, 100)[0] < 1.05


def test_llama_s_48_percent_has_36_to_60():
    estimate = cv_accuracy(0.48, 100, 1.5)
    assert (100 * estimate.low, 100 * estimate.high) == pytest.approx((36.4, 59.8), abs=0.05)
    assert cv_accuracy(0.48, 100, 1) == wilson(48, 100) and cv_accuracy(1.0, 77, 1.7).value == 1


# AUC


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_fold_auc_is_sklearn_s_and_its_variance_delong_s(decimals):
    rng = stream(1, "auc", str(decimals))
    labels = rng.random(120) < 0.4
    fold = rng.integers(0, 4, 120)
    scores = np.round(rng.standard_normal((3, 2, 120)) + labels, decimals)
    auc, variance = fold_auc(scores, labels, fold)
    assert auc.shape == variance.shape == (3, 2)
    for cell in np.ndindex(3, 2):
        parts = [plain_delong(scores[cell][fold == f], labels[fold == f]) for f in range(4)]
        sklearn = [roc_auc_score(labels[fold == f], scores[cell][fold == f]) for f in range(4)]
        assert auc[cell] == pytest.approx(np.mean(sklearn), abs=1e-12)
        assert auc[cell] == pytest.approx(np.mean([part[0] for part in parts]), abs=1e-12)
        assert variance[cell] == pytest.approx(sum(part[1] for part in parts) / 16, rel=1e-9)


def test_labels_may_differ_from_draw_to_draw_and_scores_may_be_float32():
    rng = stream(2, "draws")
    labels, fold = rng.random((5, 1, 60)) < 0.5, np.arange(60) % 3
    scores = rng.standard_normal((5, 4, 60)).astype(np.float32)
    auc, variance = fold_auc(scores, labels, fold)
    for draw in range(5):
        alone = fold_auc(scores[draw], labels[draw, 0].astype(int), fold)
        assert (auc[draw] == alone[0]).all() and variance[draw] == pytest.approx(alone[1])


def test_scores_of_different_folds_are_never_compared():
    fold, labels = np.repeat([0, 1], 4), np.tile([0, 0, 1, 1], 2)
    scores = np.array([1, 2, 3, 4, 101, 102, 103, 104])
    assert fold_auc(scores, labels, fold)[0] == 1
    assert fold_auc(scores, labels, np.zeros(8, int))[0] == 0.75


def test_a_fold_of_one_class_is_left_out_and_without_folds_there_is_no_auc():
    scores, fold = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), np.array([0, 0, 0, 0, 1, 1])
    mixed = fold_auc(scores, np.array([0, 1, 0, 1, 1, 1]), fold)
    assert mixed == fold_auc(scores[:4], np.array([0, 1, 0, 1]), fold[:4]) and mixed[0] == 0.75
    assert np.isnan(fold_auc(scores, np.ones(6), fold)).all()
    # One positive, three negatives: AUC 2/3; its own component gets AUC (1 - AUC), the negatives' have 1/3 / 3.
    auc, variance = fold_auc(np.array([1, 2, 3, 4]), np.array([0, 0, 1, 0]), np.zeros(4, int))
    assert auc == pytest.approx(2 / 3) and variance == pytest.approx(2 / 9 + 1 / 9)
    assert fold_auc(np.zeros(10), np.arange(10) % 2, np.zeros(10, int)) == (0.5, 0)


@given(scored, st.randoms(use_true_random=False))
def test_auc_is_blind_to_the_order_of_problems_and_turns_around_with_the_labels(rows, random):
    def measure(rows):
        scores, labels = (np.array(column) for column in zip(*rows, strict=True))
        return fold_auc(scores, labels, np.zeros(len(rows), int)), fold_auc(scores, ~labels, np.zeros(len(rows), int))

    (auc, variance), (back, same) = measure(rows)
    if len({label for _, label in rows}) == 1:
        assert np.isnan(auc) and np.isnan(back)
        return
    assert auc == pytest.approx(1 - back) and variance == pytest.approx(same) and 0 <= auc <= 1 and variance >= 0
    assert measure(random.sample(rows, len(rows)))[0] == pytest.approx((auc, variance))


def test_auc_phi_is_the_ratio_of_variances():
    draws = 0.5 + 0.1 * np.array([-1.0, 1.0] * 100)
    spread = 0.01 * 200 / 199
    assert auc_phi(draws, np.full(200, 0.005)) == pytest.approx(spread / 0.005)
    assert auc_phi(draws, np.full(200, 0.02)) == 1
    two = auc_phi(np.stack([draws, draws], 1), np.stack([np.full(200, 0.005), np.full(200, 0.02)], 1))
    assert two == pytest.approx((spread / 0.005 + 1) / 2)
    # Permuted labels, fixed scores, one fold: DeLong's variance is right, and phi is 1.
    rng = stream(3, "phi")
    labels = rng.permuted(np.tile(np.arange(200) % 2, (400, 1)), axis=1)
    assert auc_phi(*fold_auc(np.broadcast_to(rng.standard_normal(200), (400, 200)), labels, np.zeros(200, int))) < 1.2


def test_cv_auc_is_the_logit_interval():
    estimate = cv_auc(0.75, 0.0016, 1.0)
    reach = 1.959964 * 0.04 / (0.75 * 0.25)
    assert estimate.low == pytest.approx(1 / (1 + math.exp(reach) / 3), abs=1e-6)
    assert estimate.high == pytest.approx(1 / (1 + math.exp(-reach) / 3), abs=1e-6)
    wide = cv_auc(0.75, 0.0004, 4.0)
    assert (wide.low, wide.high) == pytest.approx((estimate.low, estimate.high))


@pytest.mark.parametrize("auc", [0.0, 0.5, 1.0])
def test_an_auc_without_delong_error_needs_the_smaller_class(auc):
    assert cv_auc(auc, 0.0, 1.5) == Estimate(auc, None, None)
    few, many = cv_auc(auc, 0.0, 1.5, smaller_class=10), cv_auc(auc, 0.0, 1.5, smaller_class=1000)
    assert few.value == many.value == auc
    assert 0 <= few.low <= many.low <= auc <= many.high <= few.high <= 1 and few.high - few.low > many.high - many.low > 0


def test_an_auc_within_half_a_problem_of_one_is_moved_inwards():
    """0.5 / 50 = 0.01: 0.995 is read as 0.99 with the variance 0.99 x 0.01 / 50."""
    estimate, reach = cv_auc(0.995, 1e-9, 1.0, smaller_class=50), 1.959964 / math.sqrt(0.99 * 0.01 * 50)
    assert estimate.value == 0.995 and estimate.low == pytest.approx(1 / (1 + math.exp(reach) / 99), abs=1e-6)
    assert cv_auc(0.98, 1e-4, 1.0, smaller_class=50) == cv_auc(0.98, 1e-4, 1.0)


@given(st.floats(0, 1), st.floats(0, 0.25), st.floats(1, 5), st.integers(1, 500))
def test_cv_auc_contains_the_value_inside_zero_and_one(auc, variance, phi, smaller):
    estimate = cv_auc(auc, variance, phi, smaller_class=smaller)
    assert 0 <= estimate.low <= auc == estimate.value <= estimate.high <= 1


# Spread over cells


def test_heterogeneity_by_hand():
    """Two cells, four problems: differences 1, 1, 0, 0; residual variance 1/6, v = 1/24, Q = 0.125 x 24 = 3."""
    found = heterogeneity([[1, 0], [1, 0], [1, 1], [0, 0]])
    assert found.variance == pytest.approx(1 / 24) and found.q == pytest.approx(3) and found.p == pytest.approx(chi2.sf(3, 1))
    assert found.tau.value == pytest.approx(math.sqrt((3 - 1) / 24 / 2))
    twice = heterogeneity([[1, 0], [1, 0], [1, 1], [0, 0]], phi=2)
    assert twice.variance == pytest.approx(1 / 12) and twice.q == pytest.approx(1.5)


def test_tau_s_ends_are_where_the_noncentral_chi_square_has_its_tails():
    rng = stream(5, "ends")
    found = heterogeneity(rng.random((200, 6)) < np.linspace(0.4, 0.8, 6))
    for end, probability in ((found.tau.low, 0.975), (found.tau.high, 0.025)):
        assert ncx2.cdf(found.q, 5, 6 * end**2 / found.variance) == pytest.approx(probability, abs=1e-6)


def test_q_is_nearly_cochran_s_where_cells_are_equal():
    outcomes = stream(6, "cochran").random((500, 8)) < 0.6
    assert heterogeneity(outcomes).q == pytest.approx(cochrans_q(outcomes.astype(int)).statistic, rel=0.02)


def test_numbers_stay_finite_without_any_variance():
    """One outcome out of place: v = 1 / (n x cells) / n."""
    same = heterogeneity(np.ones((10, 4)))
    assert (same.q, same.p, same.tau) == (0, 1, Interval(0, 0, 0)) and same.variance == pytest.approx(1 / 400)
    split = heterogeneity(np.tile([1.0, 0.0], (1000, 1)), phi=1.5)
    assert all(map(math.isfinite, (split.q, split.p, split.variance, split.tau.high)))
    assert split.p < 1e-12 and split.tau.low < 0.5 and split.tau.value == pytest.approx(0.5, abs=1e-3)


@given(grids, st.floats(1, 3), st.randoms(use_true_random=False))
def test_heterogeneity_is_blind_to_order_and_shrinks_with_phi(grid, phi, random):
    found, wide = heterogeneity(grid), heterogeneity(grid, phi)
    assert 0 <= found.tau.low <= found.tau.value <= found.tau.high and 0 <= found.p <= 1
    assert wide.q <= found.q + 1e-9 and wide.p >= found.p - 1e-9
    rows, columns = (random.sample(range(size), size) for size in grid.shape)
    other = heterogeneity(grid[rows][:, columns])
    assert other.q == pytest.approx(found.q) and other.tau.high == pytest.approx(found.tau.high, abs=1e-6)


# Differences


def test_mean_difference_is_paired_and_widens_with_phi():
    rng = stream(8, "difference")
    hard = rng.random((300, 1))
    a, b = hard + 0.01 * rng.standard_normal((300, 6)), hard - 0.1 + 0.01 * rng.standard_normal((300, 4))
    estimate = mean_difference(a, b, rng=stream(9))
    assert estimate.value == pytest.approx(a.mean() - b.mean()) and estimate.high - estimate.low < 0.01
    plain = bootstrap_mean(a.mean(axis=1) - b.mean(axis=1), rng=stream(9))
    assert estimate == plain
    wide = mean_difference(a, b, rng=stream(9), phi=4.0)
    assert wide.high - wide.low == pytest.approx(2 * (estimate.high - estimate.low))
    groups = np.arange(300) // 10
    assert mean_difference(a, b, rng=stream(9), groups=groups) == bootstrap_mean(
        a.mean(axis=1) - b.mean(axis=1), rng=stream(9), groups=groups
    )


@pytest.mark.parametrize(
    "first, second, limits",
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((151, 200), (128, 183), (-0.034, 0.145)),
    ],
)
def test_mover_gives_newcombe_s_table(first, second, limits):
    """Newcombe 1998, Stat. Med. 17:873, Table II, method 10; the last is the SAE example of docs/verdicts.md, section 6."""
    estimate = mover_difference(wilson(*first), wilson(*second))
    assert (estimate.low, estimate.high) == pytest.approx(limits, abs=1e-4 if first[0] != 151 else 1e-3)


ends = st.tuples(*[st.floats(-1, 1)] * 3).map(sorted).map(lambda three: Estimate(three[1], three[0], three[2]))


@given(ends, ends)
def test_mover_contains_the_difference_and_turns_around(a, b):
    there, back = mover_difference(a, b), mover_difference(b, a)
    assert there.low <= there.value <= there.high
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert mover_difference(a, Estimate(0.0, 0.0, 0.0)).low == pytest.approx(a.low)


def test_mover_has_no_interval_where_one_side_has_none():
    assert mover_difference(Estimate(0.5, 0.4, 0.6), Estimate(0.25, None, None)) == Estimate(0.25, None, None)


@pytest.mark.parametrize(
    "call",
    [
        lambda: accuracy_phi([0.5], 100),
        lambda: accuracy_phi([0.5, NAN], 100),
        lambda: accuracy_phi([50, 51], 100),
        lambda: accuracy_phi(np.ones((2, 2, 2)), 100),
        lambda: accuracy_phi([0.5, 0.6], 0),
        lambda: cv_accuracy(48, 100, 1.5),
        lambda: cv_accuracy(0.48, 100, 0.5),
        lambda: cv_accuracy(0.48, 100, 0),
        lambda: cv_accuracy(0.48, 2, 3),
        lambda: fold_auc(np.ones(4), np.ones(3), np.ones(4)),
        lambda: fold_auc(np.ones(4), np.ones(4), np.ones(3)),
        lambda: fold_auc(np.ones((2, 4)), np.ones((3, 4)), np.ones(4)),
        lambda: fold_auc(np.ones(4), np.array([0, 1, 2, 1]), np.ones(4)),
        lambda: fold_auc(np.array([0, NAN]), np.array([0, 1]), np.ones(2)),
        lambda: fold_auc(np.array([]), np.array([]), np.array([])),
        lambda: auc_phi([0.5, 0.6], [0.1]),
        lambda: auc_phi([0.5, 0.6], [0.1, 0.1, 0.1]),
        lambda: auc_phi([0.5, 0.6], [0.0, 0.0]),
        lambda: auc_phi([0.5, NAN], [0.1, 0.1]),
        lambda: cv_auc(1.1, 0.1, 1.0),
        lambda: cv_auc(0.7, -0.1, 1.0),
        lambda: cv_auc(NAN, 0.1, 1.0),
        lambda: cv_auc(0.7, 0.1, 0.9),
        lambda: cv_auc(1.0, 0.0, 1.0, smaller_class=0),
        lambda: heterogeneity([1, 0, 1]),
        lambda: heterogeneity([[1, 0]]),
        lambda: heterogeneity([[1], [0]]),
        lambda: heterogeneity([[1, NAN], [0, 1]]),
        lambda: heterogeneity([[1, 0], [0, 1]], phi=0.0),
        lambda: mean_difference([1, 0], [1, 0, 1], rng=stream(0)),
        lambda: mean_difference([1, NAN], [1, 0], rng=stream(0)),
        lambda: mean_difference([1, 0], [0, 0], rng=stream(0), phi=0.5),
        lambda: mean_difference([], [], rng=stream(0)),
    ],
)
def test_what_has_no_interval_is_refused(call):
    with pytest.raises(MeasureError):
        call()
