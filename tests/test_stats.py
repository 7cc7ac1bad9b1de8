"""Known answers, exact coverage and invariances of codi_bench.rules.stats."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.multitest import multipletests

from codi_bench.errors import CodiBenchError, MeasureError
from codi_bench.rules.stats import (
    bits,
    bootstrap_mean,
    holm,
    mcnemar_exact,
    newcombe_paired,
    paired_counts,
    stream,
    wilson,
)

quick = settings(max_examples=60, deadline=None, derandomize=True)
outcome_pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=12)

# Newcombe 1998, Stat. Med. 17:2635, Table III, method 10: cells (both, lost, gained, neither) and limits.
NEWCOMBE_TABLE_III = {
    (36, 12, 2, 0): (0.0569, 0.3404),
    (20, 12, 2, 16): (0.0562, 0.3292),
    (18, 12, 2, 18): (0.0562, 0.3290),
    (36, 14, 0, 0): (0.1528, 0.4167),
    (35, 14, 0, 1): (0.1461, 0.4175),
    (18, 14, 0, 18): (0.1441, 0.3963),
    (2, 97, 1, 0): (0.8721, 0.9854),
    (1, 97, 1, 1): (0.8736, 0.9850),
    (0, 29, 1, 0): (0.6666, 0.9882),
    (2, 98, 0, 0): (0.9178, 0.9945),
    (1, 98, 0, 1): (0.9171, 0.9916),
    (0, 30, 0, 0): (0.8395, 1.0),
    (54, 0, 0, 0): (-0.0664, 0.0664),
    (53, 0, 0, 1): (-0.0729, 0.0729),
    (30, 0, 0, 24): (-0.0358, 0.0358),
    (27, 0, 0, 27): (-0.0351, 0.0351),
}
# Three more: Altman et al. 2000, Statistics with Confidence, p. 52; Fagerland et al. 2014 (Bentur); R contingencytables (Cavo).
OTHERS = {
    (14, 5, 0, 22): (0.011, 0.226),
    (1, 1, 7, 12): (-0.507, -0.026),
    (59, 6, 16, 80): (-0.1186, -0.0046),
}


def pair(both, lost, gained, neither):
    before = np.repeat([True, True, False, False], [both, lost, gained, neither])
    after = np.repeat([True, False, True, False], [both, lost, gained, neither])
    return before, after


@pytest.mark.parametrize(
    "successes, n, limits",
    [
        (432, 1000, (40.2, 46.3)),
        (151, 200, (69.1, 80.9)),
        (128, 183, (63.0, 76.1)),
        (42, 100, (32.8, 51.8)),
        (733, 1319, (52.9, 58.3)),
        (48 / 1.5, 100 / 1.5, (36.4, 59.8)),
    ],
)
def test_wilson_gives_the_intervals_of_the_verdicts_page(successes, n, limits):
    """Within one unit of rounding: the page rounds 62.948 of 128/183 and 58.234 of 733/1319 up, from printed rates."""
    estimate = wilson(successes, n)
    assert (100 * estimate.low, 100 * estimate.high) == pytest.approx(limits, abs=0.07)


def test_wilson_ends_are_exact_at_none_and_all():
    assert wilson(0, 7).low == 0 and wilson(7, 7).high == 1
    assert wilson(0, 7).high == pytest.approx(1 - wilson(7, 7).low)


@pytest.mark.parametrize("successes, n", [(0, 0), (-1, 5), (6, 5), (1, float("nan")), (float("nan"), 5), (0, 0.5)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(MeasureError):
        wilson(successes, n)
    assert issubclass(MeasureError, CodiBenchError)


@quick
@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_contains_the_rate_and_widens_with_the_level(count, level):
    inner, outer = wilson(*count, level=level), wilson(*count, level=0.9995)
    assert 0 <= outer.low <= inner.low <= inner.value <= inner.high <= outer.high <= 1


@pytest.mark.parametrize("n", [100, 200, 1000])
def test_wilson_coverage_is_exactly_what_the_verdicts_page_promises(n):
    k = np.arange(n + 1)
    estimates = [wilson(int(i), n) for i in k]
    low, high = np.array([e.low for e in estimates]), np.array([e.high for e in estimates])

    def coverage(p):
        return binom.pmf(k, n, p)[(low <= p) & (p <= high)].sum()

    covered = [coverage(p) for p in np.linspace(0.02, 0.98, 97)]
    assert min(covered) >= 0.925 and max(covered) <= 0.975 and np.mean(covered) == pytest.approx(0.95, abs=0.002)
    if n == 100:
        assert round(coverage(0.99), 2) == 0.92


@pytest.mark.parametrize("cells, limits", (NEWCOMBE_TABLE_III | OTHERS).items())
def test_newcombe_gives_the_published_limits(cells, limits):
    estimate = newcombe_paired(*pair(*cells))
    # One row of the paper, (1, 97, 1, 1), prints 0.8736 where the formula gives 0.87367.
    assert (estimate.low, estimate.high) == pytest.approx(limits, abs=1e-4 if cells in NEWCOMBE_TABLE_III else 5e-4)
    assert estimate.value == (cells[1] - cells[2]) / sum(cells)


@quick
@given(outcome_pairs)
def test_newcombe_contains_the_drop_and_turns_around_with_the_pair(pairs):
    before, after = (np.array(side) for side in zip(*pairs, strict=True))
    there, back = newcombe_paired(before, after), newcombe_paired(after, before)
    assert -1 <= there.low <= there.value <= there.high <= 1
    assert there.high > there.low
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_mcnemar_known_answers():
    assert mcnemar_exact(*pair(20, 12, 2, 16)) == pytest.approx(0.0129, abs=5e-5)  # Armitage and Berry 1994, p. 127
    assert round(mcnemar_exact(*pair(36, 7, 0, 57)), 3) == 0.016  # docs/verdicts.md: 7 of 100 without gains
    assert mcnemar_exact(*pair(23, 25, 5, 47)) <= 0.0004  # and 20 net with 5 gains
    assert mcnemar_exact(*pair(3, 0, 0, 3)) == 1.0
    assert mcnemar_exact(*pair(0, 3, 0, 0), alternative="greater") == pytest.approx(1 / 8)
    assert mcnemar_exact(*pair(0, 3, 0, 0), alternative="less") == 1.0
    with pytest.raises(MeasureError, match="two-sided"):
        mcnemar_exact([1, 0], [0, 1], alternative="both")


@quick
@given(outcome_pairs, st.randoms(use_true_random=False))
def test_the_order_of_problems_changes_nothing(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    (before, after), (other_before, other_after) = zip(*pairs, strict=True), zip(*shuffled, strict=True)
    assert newcombe_paired(before, after) == newcombe_paired(other_before, other_after)
    assert mcnemar_exact(before, after) == mcnemar_exact(other_before, other_after)
    if len(pairs) > 1:
        drawn = [bootstrap_mean(np.array(rows, float), rng=stream(0, "order"), draws=50) for rows in (pairs, shuffled)]
        assert drawn[0].low == pytest.approx(drawn[1].low) and drawn[0].high == pytest.approx(drawn[1].high)


@pytest.mark.parametrize("bad", [[], [[0, 1]], [0, 2], [0.0, float("nan")], ["yes"], [None]])
def test_outcomes_are_bits_or_refused(bad):
    with pytest.raises(MeasureError):
        bits(bad)


def test_pairs_need_the_same_problems():
    with pytest.raises(MeasureError, match="3 before, 2 after"):
        paired_counts([1, 0, 1], [1, 0])


def test_holm_known_answer():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.016, 1, 1, 1]).min() == pytest.approx(0.064)  # docs/verdicts.md: Holm 0.06: not shown
    for bad in ([], [0.1, float("nan")], [1.1], 0.5):
        with pytest.raises(MeasureError):
            holm(bad)


@quick
@given(probabilities)
def test_holm_keeps_the_order_and_never_helps(p_values):
    adjusted, p_values = holm(p_values), np.array(p_values)
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= p_values).all() and (adjusted <= np.minimum(1, len(p_values) * p_values) + 1e-15).all()


def test_holm_is_that_of_statsmodels_to_the_last_bit():
    """One call, ties included: theirs takes a tenth of a second."""
    p_values = [*np.round(stream(0, "holm").random(20), 1), *stream(1, "holm").random(20)]
    assert (holm(p_values) == multipletests(p_values, method="holm")[1]).all()


def test_bootstrap_mean_is_the_mean_with_the_error_of_the_mean():
    outcomes = stream(1, "bootstrap").random((400, 6)) < 0.7
    estimate = bootstrap_mean(outcomes, rng=stream(2, "bootstrap"))
    error = outcomes.mean(axis=1).std() / 20
    assert estimate.value == pytest.approx(outcomes.mean())
    assert estimate.low == pytest.approx(estimate.value - 1.96 * error, abs=0.003)
    assert estimate.high == pytest.approx(estimate.value + 1.96 * error, abs=0.003)
    wide = bootstrap_mean(outcomes, rng=stream(2, "bootstrap"), phi=4)
    assert wide.high - wide.low == pytest.approx(2 * (estimate.high - estimate.low))


def test_bootstrap_draws_groups_whole():
    """Ten copies of each problem carry no more information than one, and only groups tell."""
    outcomes = stream(3, "groups").random(50) < 0.5
    copies, groups = np.repeat(outcomes, 10), np.repeat([f"g{i}" for i in range(50)], 10)
    once = bootstrap_mean(outcomes, rng=stream(4, "groups"))
    grouped = bootstrap_mean(copies, rng=stream(4, "groups"), groups=groups)
    blind = bootstrap_mean(copies, rng=stream(4, "groups"))
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))
    assert blind.high - blind.low < 0.5 * (grouped.high - grouped.low)


@pytest.mark.parametrize(
    "outcomes, groups",
    [
        ([], None),
        ([[1, float("nan")], [0, 1]], None),
        ([1], None),
        ([1, 0], ["a", "a"]),
        ([1, 0], ["a"]),
        (np.ones((2, 2, 2)), None),
    ],
)
def test_bootstrap_refuses_what_it_cannot_resample(outcomes, groups):
    with pytest.raises(MeasureError):
        bootstrap_mean(outcomes, rng=stream(0), groups=groups)


def test_streams_depend_on_their_names_alone():
    first = stream(0, "size", "gpt2-mini").random(3)
    stream(7).random(100)
    assert (first == stream(np.int64(0), "size", "gpt2-mini").random(3)).all()
    others = [stream(1, "size", "gpt2-mini"), stream(0, "sizegpt2-mini"), stream(0, "gpt2-mini", "size")]
    assert len({first[0], *(other.random() for other in others)}) == 4


def test_streams_never_change_between_versions():
    digest = hashlib.sha256(stream(0, "pinned").bytes(64)).hexdigest()
    assert digest[:16] == "99de5535e95deafc"
