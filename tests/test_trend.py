"""Trends over sizes: against ordinary least squares, planted ones found and flat ones not, at the rates that are stated."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from codi_bench.errors import MeasureError
from codi_bench.measures.trend import detectable, trend
from codi_bench.rules.stats import stream

SIZES = np.array([30_000, 100_000, 300_000, 1_000_000])
MODELS = np.repeat(SIZES, 3)
ONE, TWO = ["gpt2"] * 12, ["gpt2"] * 12 + ["llama"] * 12
BOTH = np.tile(MODELS, 2)


def planted(rng, sizes, change, levels=0.0):
    x = (np.log(sizes) - np.log(sizes).min()) / np.ptp(np.log(sizes))
    return change * x + levels + rng.standard_normal(len(sizes))


def test_slope_and_interval_are_those_of_least_squares_with_a_level_an_architecture():
    y = planted(stream(0), BOTH, 3.0, np.repeat([0.0, 5.0], 12))
    found = trend(BOTH, y, TWO)
    x = np.log(BOTH)
    fit = sm.OLS(y, np.column_stack([x, np.arange(24) < 12, np.arange(24) >= 12]).astype(float)).fit()
    span = np.ptp(x)
    assert found.change.value == pytest.approx(fit.params[0] * span)
    assert (found.change.low, found.change.high) == pytest.approx(tuple(fit.conf_int()[0] * span))
    np.testing.assert_allclose(found.fitted, fit.fittedvalues)
    assert found.seed_std == pytest.approx(np.sqrt(fit.mse_resid)) and found.n == 24


def test_what_can_be_found_is_what_the_rules_state():
    even = np.exp(np.arange(5))
    assert detectable(np.repeat(even[:4], 3), ONE) == pytest.approx(2.8, abs=0.05)
    assert detectable(np.repeat(even, 3), ["gpt2"] * 15) == pytest.approx(2.6, abs=0.05)
    assert detectable(np.tile(np.repeat(even[:4], 3), 2), TWO) == pytest.approx(1.9, abs=0.05)


@pytest.mark.parametrize(("sizes", "names"), [(MODELS, ONE), (BOTH, TWO)])
def test_a_planted_trend_is_found_and_a_flat_one_is_not(sizes, names):
    """At the stated change 90 % are found, of flat ones 5 %; 300 draws each, bounds at three standard errors."""
    least, draws = detectable(sizes, names), 300
    found = {
        change: np.mean(
            [
                trend(sizes, planted(stream(i, str(change)), sizes, change), names, permutations=199, seed=i).p <= 0.05
                for i in range(draws)
            ]
        )
        for change in (0.0, least)
    }
    assert found[0.0] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    assert found[least] >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / draws)


def test_an_interval_covers():
    inside = [
        (each := trend(BOTH, planted(stream(i, "cover"), BOTH, 1.0), TWO, permutations=1, seed=i)).change.low
        <= 1
        <= each.change.high
        for i in range(400)
    ]
    assert 0.92 <= np.mean(inside) <= 0.98


@pytest.mark.parametrize(
    ("sizes", "values", "names", "message"),
    [
        ([1, 2], [1.0], ["a", "a"], "one size, value and architecture"),
        ([1, -2, 3], [1, 2, 3], ["a"] * 3, "above 0"),
        ([1, 2, 3], [1, np.nan, 3], ["a"] * 3, "finite"),
        ([1, 2, 3, 3], [1, 2, 3, 4], ["a", "a", "b", "b"], "b has one"),
        ([1, 2], [1, 2], ["a", "a"], "noise between seeds"),
    ],
)
def test_what_says_nothing_is_refused(sizes, values, names, message):
    with pytest.raises(MeasureError, match=message):
        trend(sizes, values, names)
