"""Which positions matter and which stand out: the seed study's drops, planted effects and outcomes without variance."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from statsmodels.stats.contingency_tables import cochrans_q

from codi_bench.errors import MeasureError
from codi_bench.measures.ablation import PositionEffects, position_effects
from codi_bench.rules.stats import holm, mcnemar_exact, newcombe_paired, stream

SEED_DROPS = (6, 7, 18, 20, 7, 7)
outcomes = st.tuples(st.integers(3, 25), st.integers(2, 6), st.integers(0, 2**32)).map(
    lambda size: np.random.default_rng(size[2]).random((size[1] + 1, size[0])) < 0.6
)


def study(drops, n=100, right=43, name="study"):
    """clean [n] with `right` right answers; each position loses exactly its drop among them, at random, and gains nothing."""
    rng, clean = stream(0, name), np.arange(n) < right
    ablated = np.tile(clean, (len(drops), 1))
    for row, drop in zip(ablated, drops, strict=True):
        row[rng.choice(right, drop, replace=False)] = False
    return clean, ablated


def test_the_seed_s_drops_have_contrasts_8_6_and_11():
    found = position_effects(*study(SEED_DROPS))
    assert [round(100 * drop.value) for drop in found.drops] == list(SEED_DROPS)
    assert (found.contrasts[2].value, found.contrasts[3].value) == pytest.approx((0.086, 0.110))
    assert sum(c.value for c in found.contrasts) == pytest.approx(0)
    # 7 of 100 without gains: p = 1/128 one-sided, Holm 4/128 after the two larger: not shown.
    assert found.drop_p[1] == pytest.approx(4 / 128) and found.matters == (False, False, True, True, False, False)
    assert found.drops[3] == newcombe_paired(*(rows if rows.ndim == 1 else rows[3] for rows in study(SEED_DROPS)))


def test_at_300_problems_the_seed_s_critical_set_is_found():
    found = position_effects(*study([3 * drop for drop in SEED_DROPS], n=300, right=129))
    assert found.critical == (2, 3) and not found.none_critical and found.q_p < 0.001
    assert all(c.low > 0 and p <= 0.025 for c, p in ((found.contrasts[t], found.contrast_p[t]) for t in (2, 3)))


def test_numbers_are_those_of_the_plain_tests():
    rng = stream(1, "plain")
    clean, ablated = rng.random(80) < 0.6, rng.random((4, 80)) < np.array([[0.6], [0.5], [0.3], [0.5]])
    found = position_effects(clean, ablated)
    drop = clean.astype(float) - ablated
    each = [drop[t] - np.delete(drop, t, axis=0).mean(axis=0) for t in range(4)]
    plain = [ttest_1samp(c, 0, alternative="greater") for c in each]
    assert found.contrast_p == pytest.approx(tuple(holm([test.pvalue for test in plain])))
    assert [c.low for c in found.contrasts] == pytest.approx([ttest_1samp(c, 0).confidence_interval(0.95).low for c in each])
    assert found.upper == pytest.approx(
        [ttest_1samp(c, 0, alternative="less").confidence_interval(1 - 0.05 / 4).high for c in each]
    )
    assert found.drop_p == pytest.approx(tuple(holm([mcnemar_exact(clean, row, "greater") for row in ablated])))
    cochran = cochrans_q(ablated.T.astype(int))
    assert (found.q, found.q_p) == pytest.approx((cochran.statistic, cochran.pvalue))


def test_a_gain_never_matters():
    clean, ablated = study([30, 30], n=100, right=60)
    found = position_effects(~clean, ~ablated)
    assert found.drops[0].value == pytest.approx(-0.3) and found.drop_p == (1, 1) and found.matters == (False, False)


def test_a_position_without_a_drop_is_not_critical_where_the_others_gain():
    """The contrast of position 0 is 20 points, its drop none."""
    clean = np.arange(300) < 120
    ablated = np.stack([clean, np.arange(300) < 180, np.arange(300) < 180])
    found = position_effects(clean, ablated)
    assert found.contrasts[0].value == pytest.approx(0.2) and found.contrasts[0].low > 0.1 and found.q_p < 0.001
    assert not found.matters[0] and found.critical == ()


def test_a_contrast_alone_is_not_critical_where_q_finds_no_difference():
    found = position_effects(*study([16] * 5 + [28], n=100, right=60))
    assert found.contrast_p[5] <= 0.025 and found.contrasts[5].low > 0 and found.matters[5] and found.q_p > 0.05
    assert found.critical == ()


def test_a_drop_that_matters_is_not_critical_where_all_are_alike():
    """True drops of 5 points at n = 2000: no position stands out, and the bounds say so."""
    found = position_effects(*study([100] * 6, n=2000, right=860))
    assert all(found.matters) and found.critical == () and found.none_critical


def test_too_few_problems_give_neither_word():
    found = position_effects(*study([3, 2, 3, 4, 3, 5], n=60, right=26))
    assert found.critical == () and not found.none_critical and max(found.upper) > 0.05


def test_a_contrast_too_small_to_count_is_not_critical():
    """8 against 5 points at n = 5000: surely more, surely less than 5 points more."""
    clean, ablated = study([400, 250, 250, 250], n=5000, right=2500)
    found = position_effects(clean, ablated)
    assert found.contrast_p[0] <= 0.025 and found.contrasts[0].low > 0 and found.q_p <= 0.05 and found.matters[0]
    assert found.critical == () and found.none_critical
    assert position_effects(clean, ablated, margin=0.02).critical == (0,)


def test_a_drop_below_the_floor_does_not_matter():
    """1 point at n = 5000 is surely a drop and surely below 2."""
    clean, ablated = study([50, 50], n=5000, right=2500)
    assert position_effects(clean, ablated).matters == (False, False)
    assert position_effects(clean, ablated, floor=0.005).matters == (True, True)


@pytest.mark.parametrize("n, none_critical", [(100, True), (20, False)])
def test_outcomes_that_agree_everywhere_have_the_error_of_one_problem(n, none_critical):
    clean = np.arange(n) % 2 == 0
    found = position_effects(clean, np.tile(clean, (6, 1)))
    assert (found.q, found.q_p) == (0, 1) and found.critical == () and found.none_critical is none_critical
    assert set(found.contrast_p) == set(found.drop_p) == {1} and min(found.upper) > 2 / n


def test_one_position_that_takes_everything_is_critical_with_finite_numbers():
    clean = np.ones(100, bool)
    found = position_effects(clean, np.array([clean, ~clean, clean]))
    assert found.critical == (1,) and found.contrasts[1].value == 1 and found.contrasts[0].value == -0.5
    flat = [*found.drop_p, *found.contrast_p, *found.upper, found.q, found.q_p, *(c.high for c in found.contrasts)]
    assert all(map(math.isfinite, flat)) and found.contrast_p[1] < 1e-12


@given(outcomes, st.randoms(use_true_random=False))
def test_order_of_problems_and_names_of_positions_change_nothing(rows, random):
    clean, ablated = rows[0], rows[1:]
    found = position_effects(clean, ablated)
    assert isinstance(found, PositionEffects)
    for drop, contrast, bound in zip(found.drops, found.contrasts, found.upper, strict=True):
        assert drop.low <= drop.value <= drop.high and contrast.low <= contrast.value <= min(contrast.high, bound)
    assert (np.array(found.drop_p) >= [mcnemar_exact(clean, row, "greater") for row in ablated]).all()
    problems, positions = random.sample(range(len(clean)), len(clean)), random.sample(range(len(ablated)), len(ablated))
    other = position_effects(clean[problems], ablated[positions][:, problems])
    assert other.drops == tuple(found.drops[t] for t in positions)
    assert other.upper == pytest.approx([found.upper[t] for t in positions])
    assert {positions[t] for t in other.critical} == set(found.critical) and other.none_critical == found.none_critical


@pytest.mark.parametrize(
    "clean, ablated, details",
    [
        ([True, False], [[True, False]], {}),
        ([True], [[True], [False]], {}),
        ([True, False], [[True, False, True]] * 2, {}),
        ([1, 0], [[1, 0], [0, 0]], {}),
        ([], [[], []], {}),
        ([True, False], [[True, False]] * 2, {"margin": 0}),
        ([True, False], [[True, False]] * 2, {"floor": -0.1}),
        ([True, False], [[True, False]] * 2, {"floor": float("nan")}),
    ],
)
def test_what_cannot_be_compared_is_refused(clean, ablated, details):
    with pytest.raises(MeasureError):
        position_effects(np.array(clean), np.array(ablated), **details)
