"""Counts without outcomes: p against those of all outcomes that give the counts."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import fisher_exact

from codi_bench.errors import MeasureError
from codi_bench.rules.counts import (
    cochran_largest,
    contrast_range,
    difference_range,
    fisher,
    mcnemar_range,
    paired_verdict,
    stratified_difference,
    tables,
)
from codi_bench.rules.stats import mcnemar_exact, newcombe_paired
from codi_bench.rules.validity import Validity


def outcomes(before, after, n):
    """Every pair of outcomes on n problems with these counts, bool [n] each."""
    lists = [np.array(bits, bool) for bits in product([0, 1], repeat=n)]
    return [(a, b) for a in lists if a.sum() == before for b in lists if b.sum() == after]


@pytest.mark.parametrize("counts", [(4, 2, 6), (2, 4, 6), (3, 3, 5), (5, 0, 5), (0, 0, 4), (4, 4, 4)])
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_the_range_is_that_of_all_outcomes_with_these_counts(counts, alternative):
    p = [mcnemar_exact(a, b, alternative) for a, b in outcomes(*counts)]
    assert mcnemar_range(*counts, alternative) == pytest.approx((min(p), max(p)))


@pytest.mark.parametrize("counts", [(4, 2, 6), (2, 4, 6), (5, 0, 5)])
def test_the_interval_holds_that_of_every_table(counts):
    intervals = [newcombe_paired(a, b) for a, b in outcomes(*counts)]
    found = difference_range(*counts)
    assert (found.low, found.high) == pytest.approx((min(i.low for i in intervals), max(i.high for i in intervals)))
    assert found.value == pytest.approx((counts[0] - counts[1]) / counts[2])


def test_tables_have_the_counts_as_margins():
    both, lost, gained, neither = tables(42, 22, 100).T
    assert (both + lost == 42).all() and (both + gained == 22).all() and (both + lost + gained + neither == 100).all()
    assert (lost[0], gained[0]) == (20, 0) and (lost[-1], gained[-1]) == (42, 22)


def test_a_drop_that_no_table_undoes_and_one_that_some_do():
    """20 of 100 lost: at least 42 against 22, one-sided p 0.0084; 6 lost: from 6 against 0 to 42 against 36."""
    assert mcnemar_range(42, 22, 100, "greater") == pytest.approx((0.5**20, 0.0084), abs=1e-4)
    least, largest = mcnemar_range(42, 36, 100, "greater")
    assert least == pytest.approx(0.5**6) and largest > 0.25
    assert paired_verdict(42, 22, 100, delta=0.02, p=0.0084).word is Validity.SUPPORTED
    assert paired_verdict(42, 36, 100, delta=0.02, p=largest).word is Validity.UNDERPOWERED


def test_a_loss_that_is_none_in_any_table_is_refuted_and_one_that_is_in_some_is_not():
    assert paired_verdict(500, 500, 1000, delta=0.07, p=1.0).word is Validity.REFUTED
    close = difference_range(500, 500, 1000).high
    assert paired_verdict(500, 500, 1000, delta=close - 0.001, p=1.0).word is Validity.UNDERPOWERED


def test_fisher_is_scipys():
    assert fisher(151, 200, 128, 183) == pytest.approx(fisher_exact([[151, 49], [128, 55]]).pvalue)
    assert fisher(151, 200, 128, 183) == pytest.approx(0.25, abs=0.03)
    assert fisher(9, 10, 1, 10, "greater") < 0.001 < 0.99 < fisher(9, 10, 1, 10, "less")


@pytest.mark.parametrize("counts", [(11, 5, 10), (5, -1, 10), (0, 0, 0), (2.5, 1, 10)])
def test_counts_that_are_none_are_named(counts):
    with pytest.raises(MeasureError, match="finite number|whole numbers"):
        mcnemar_range(*counts)


def test_an_unknown_alternative_is_named():
    with pytest.raises(MeasureError, match="unknown alternative 'more'"):
        fisher(1, 2, 1, 2, "more")


def test_the_reason_names_the_range():
    assert "over all 37 tables" in paired_verdict(42, 36, 100, delta=0.02, p=0.3).why


def joint(counts, n):
    """Every table bool [positions, n] with these counts, but for the order of problems."""
    first = np.arange(n) < counts[0]
    choices = [[np.array(bits, bool) for bits in product([0, 1], repeat=n) if sum(bits) == count] for count in counts[1:]]
    return [np.array([first, *rest]) for rest in product(*choices)]


@pytest.mark.parametrize("counts", [(2, 1, 3), (4, 4, 1), (3, 3, 3), (0, 2, 5)])
def test_the_error_of_a_contrast_is_the_largest_of_all_joint_tables(counts):
    for position in range(3):
        contrasts = [table[position] - np.delete(table, position, axis=0).mean(0) for table in joint(counts, 5)]
        value, error = contrast_range(counts, position, 5)
        assert value == pytest.approx(contrasts[0].mean())
        assert error == pytest.approx(max(each.std(ddof=1) for each in contrasts) / np.sqrt(5))


@pytest.mark.parametrize("counts", [(2, 1, 3), (4, 4, 1), (0, 2, 4)])
def test_cochrans_p_is_the_largest_of_all_joint_tables(counts):
    from statsmodels.stats.contingency_tables import cochrans_q

    p = [cochrans_q(table.T.astype(int)).pvalue for table in joint(counts, 5)]
    assert cochran_largest(counts, 5) == pytest.approx(max(p))
    assert cochran_largest((3, 3, 3), 5) == 1.0


def test_strata_take_away_what_their_sizes_alone_make():
    """In each stratum the rates are equal, and one side has more of the easy ones."""
    easy, hard = ((72, 80), (9, 10)), ((2, 10), (16, 80))
    found = stratified_difference(*zip(easy, hard))
    assert found.value == pytest.approx(0) and found.low < 0 < found.high
    assert (72 + 2) / 90 - (9 + 16) / 90 > 0.5


def test_a_stratified_difference_of_one_stratum_is_that_of_its_rates_and_its_interval_covers():
    assert stratified_difference([(30, 50), (3, 3)], [(20, 50), (0, 0)]).value == pytest.approx(0.2)
    rng, p, n = np.random.default_rng(0), np.array([0.8, 0.3]), np.array([40, 60])
    draws = [[(x, m) for x, m in zip(rng.binomial(n, q), n)] for q in [p + 0.1, p] * 400]
    intervals = [stratified_difference(a, b) for a, b in zip(draws[::2], draws[1::2])]
    assert 0.92 < np.mean([i.low <= 0.1 <= i.high for i in intervals]) < 0.98
    with pytest.raises(MeasureError, match="no stratum has problems on both sides"):
        stratified_difference([(1, 2)], [(0, 0)])
