"""Every validity word is provoked in the order of the rules, with the examples of docs/verdicts.md; families are whole."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_bench.errors import MeasureError
from codi_bench.rules.intervals import cv_accuracy
from codi_bench.rules.p_values import check_permutations, check_permuted, holm_p, holm_permutations, permutation_p
from codi_bench.rules.stats import Estimate, stream
from codi_bench.rules.validity import (
    ALPHA,
    Validity,
    Verdict,
    half_effect,
    none_stands_out,
    order_verdict,
    passes,
    protocol_artefact,
    sound_verdict,
    spread_word,
)

SUPPORTED, ARTEFACT, REFUTED, UNDERPOWERED = Validity
NAN = float("nan")
numbers = st.floats(-1, 1)


def judge(low, high, marginal=0.001, surface=0.001, **details):
    value = 0.0 if None in (low, high) else (low + high) / 2
    rule = {"delta": 0.10, "p": {"labels": marginal, "surface": surface}, "marginal": "labels", "n": 100} | details
    return sound_verdict(Estimate(value, low, high), **rule)


def test_words_read_as_printed_in_the_table():
    assert [str(word) for word in Validity] == ["SUPPORTED", "ARTEFACT", "REFUTED", "UNDERPOWERED"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Verdict(SUPPORTED, "why").why = "other"


# Permutations and families


def test_permutation_p_counts_itself_and_ties():
    assert permutation_p(3, [1, 2, 3, 4]) == 3 / 5 and permutation_p(5, [1, 2, 3, 4]) == 1 / 5 and permutation_p(0, [1]) == 1
    assert isinstance(permutation_p(3, [1, 2]), float)
    cells = permutation_p(np.array([2.5, 0.0]), np.array([[1, 1], [2, 2], [3, 3]]))
    assert cells.tolist() == [2 / 4, 4 / 4]
    # A tie that is one only up to the order of a sum.
    assert permutation_p(0.1 + 0.2 + 0.3, [0.3 + 0.2 + 0.1]) == 1
    for observed, null in ((1, []), (1, NAN), (NAN, [1]), ([1, 2], [[1], [2]]), (1, [1, NAN])):
        with pytest.raises(MeasureError):
            permutation_p(observed, null)


def test_holm_needs_40_m_minus_1_permutations():
    assert [holm_permutations(m) for m in (1, 5, 25)] == [39, 199, 999]
    check_permutations(199, 5)
    check_permutations(1000, 25)
    with pytest.raises(MeasureError, match="198 permutations .*5 tests: at least 199"):
        check_permutations(198, 5)
    assert passes(0.1 * 0.75 / 3) and ALPHA < 0.1 * 0.75 / 3 and not passes(0.02501)
    for m in range(1, 41):
        smallest = permutation_p(1, np.zeros(holm_permutations(m)))
        assert passes(holm_p({"best": smallest} | {str(i): 1.0 for i in range(m - 1)}, m)["best"])
        assert not passes(m * permutation_p(1, np.zeros(holm_permutations(m) - 1)))


def test_a_partial_family_is_refused():
    family = {"2": 0.0004, "3": 0.0004, "1": 0.016, "4": 0.016, "5": 0.016, "0": 0.03}
    corrected = holm_p(family, 6)
    assert list(corrected) == list(family)
    assert corrected["2"] == pytest.approx(0.0024) and corrected["1"] == pytest.approx(0.064)
    assert not passes(corrected["1"])  # docs/verdicts.md, section 6: 7 of 100 is not shown
    for part in (dict(list(family.items())[:5]), family | {"bot": 0.5}, {}):
        with pytest.raises(MeasureError, match="family has 6 tests"):
            holm_p(part, 6)
    with pytest.raises(MeasureError):
        holm_p({"a": NAN}, 1)


# The five rules


@pytest.mark.parametrize(
    "low, high, marginal, surface, word",
    [
        (-0.05, 0.05, 0.001, 0.5, ARTEFACT),  # before REFUTED, whose rule holds too
        (-0.05, 0.05, 0.5, 0.5, REFUTED),
        (-0.05, 0.05, 0.5, 0.001, REFUTED),
        (0.01, 0.05, 0.001, 0.001, REFUTED),  # real, but too small; before SUPPORTED
        (0.01, 0.25, 0.001, 0.001, SUPPORTED),
        (0.01, 0.25, 0.001, 0.5, UNDERPOWERED),  # neither an artefact nor free of the surface
        (0.01, 0.25, 0.5, 0.001, UNDERPOWERED),
        (-0.01, 0.25, 0.001, 0.001, UNDERPOWERED),
        (0.00, 0.25, 0.001, 0.001, UNDERPOWERED),
        (-0.05, 0.10, 0.5, 0.5, UNDERPOWERED),  # U = Delta is not below it
        (0.01, 0.25, 0.025, 0.025, SUPPORTED),
        (0.01, 0.25, 0.025, 0.0251, UNDERPOWERED),
    ],
)
def test_the_first_rule_that_matches_gives_the_word(low, high, marginal, surface, word):
    assert judge(low, high, marginal, surface).word is word


def test_a_failing_control_blocks_before_any_rule():
    with pytest.raises(MeasureError, match="self-replacement changes 3 answers; permuted labels score 60 %"):
        judge(0.01, 0.25, controls=["self-replacement changes 3 answers", "permuted labels score 60 %"])


def test_llama_s_own_cross_validated_accuracy_refutes_97_61():
    """docs/verdicts.md, section 6: 48 % has 36-60 with n/1.5; Delta = 23.8 points, U = 10."""
    found = cv_accuracy(0.48, 100, 1.5)
    theta = Estimate(found.value - 0.5, found.low - 0.5, found.high - 0.5)
    delta = half_effect(0.9761 - 0.5, 0.10)
    assert delta == pytest.approx(0.238, abs=5e-4) and theta.high == pytest.approx(0.10, abs=0.003)
    verdict = sound_verdict(theta, delta=delta, p={"labels": 0.6}, marginal="labels", n=100, permutations=1000)
    assert verdict.word is REFUTED and verdict.decide is None and not verdict.fragile
    assert verdict.why == "effect -2.0 points, [-13.6, +9.8], Delta +23.8, p = 0.6 (labels), n = 100"


def test_underpowered_names_the_n_that_would_decide():
    """SE 0.05 of an interval 0.196 wide: 100 ((1.96 + 1.2816) 0.05 / 0.10)^2 = 262.7."""
    verdict = judge(-0.048, 0.148, 0.3, 0.3)
    assert verdict.word is UNDERPOWERED and verdict.decide == 263 and "at least 263 problems would decide" in verdict.why
    assert judge(-0.048, 0.148, 0.3, 0.3, z=2.99).decide == math.ceil(100 * ((2.99 + 1.2816) * 0.5) ** 2)
    assert judge(-0.048, 0.148, 0.3, 0.3, n=200).decide == 526
    # The observed effect does not go in.
    assert judge(-0.018, 0.178, 0.3, 0.3).decide == 263
    # Precise but between 0 and Delta: more problems need not decide.
    near = judge(0.09, 0.11, 0.3, 0.3)
    assert near.word is UNDERPOWERED and near.decide is None and "the effect lies near a bound" in near.why


def test_a_missing_end_matches_no_rule_and_is_said():
    neither = judge(None, None)
    assert neither.word is UNDERPOWERED and neither.decide is None and "no valid interval" in neither.why
    assert judge(None, 0.05).word is REFUTED and judge(None, 0.05, surface=0.5).word is ARTEFACT
    assert judge(0.01, None).word is SUPPORTED and judge(-0.01, None).word is UNDERPOWERED
    half = judge(None, 0.25)
    assert half.word is UNDERPOWERED and half.decide is None and "no valid bound at the missing end" in half.why


def test_other_units_are_not_points():
    assert "effect +0.130 AUC, [+0.010, +0.250], Delta +0.100" in judge(0.01, 0.25, unit="AUC").why


def test_fragile_is_what_two_monte_carlo_errors_could_change():
    """At B = 999 and p = 0.03 the error is 0.0054."""
    near = {"permutations": 999}
    assert judge(0.01, 0.25, 0.001, 0.03, **near).fragile and judge(0.01, 0.25, 0.02, 0.001, **near).fragile
    assert not judge(0.01, 0.25, 0.001, 0.03).fragile  # an exact p
    assert not judge(0.01, 0.25, 0.001, 0.04, **near).fragile
    assert not judge(0.01, 0.25, 0.5, 0.03, **near).fragile  # the other null decides alone
    assert not judge(-0.2, -0.1, 0.5, 0.03, **near).fragile  # REFUTED whatever the surface says
    assert judge(-0.05, 0.05, 0.03, 0.5, **near).fragile  # REFUTED, or an ARTEFACT


def test_fragile_is_a_bound_at_its_threshold():
    assert judge(5e-7, 0.25).fragile and judge(-5e-7, 0.25).fragile and not judge(2e-6, 0.25).fragile
    assert judge(0.01, 0.1 - 5e-7).fragile and judge(0.01, 0.1 + 5e-7).fragile and not judge(0.01, 0.1 + 2e-6).fragile
    assert not judge(5e-7, 0.25, 0.5, 0.5).fragile  # L decides nothing there
    assert not judge(None, None).fragile


@given(numbers, numbers, st.floats(0, 1), st.floats(0, 1), st.floats(1e-3, 1), st.integers(1, 5000))
def test_words_follow_their_definitions(a, b, marginal, surface, delta, n):
    low, high = sorted((a, b))
    verdict = judge(low, high, marginal, surface, delta=delta, n=n)
    assert "\n" not in verdict.why
    assert (verdict.word in (ARTEFACT, REFUTED)) == (high < delta)
    if verdict.word is SUPPORTED:
        assert low > 0 and max(marginal, surface) <= ALPHA + 1e-9
    if verdict.word is ARTEFACT:
        assert marginal <= ALPHA + 1e-9 < surface + 1e-9
    assert verdict.decide is None or (verdict.word is UNDERPOWERED and verdict.decide > n)
    swapped = sound_verdict(
        Estimate((low + high) / 2, low, high), delta=delta, p={"surface": surface, "labels": marginal}, marginal="labels", n=n
    )
    assert (swapped.word, swapped.fragile, swapped.decide) == (verdict.word, verdict.fragile, verdict.decide)


# Reported rows, none and even, order


def test_a_published_number_that_its_protocol_makes_is_an_artefact():
    """docs/verdicts.md, section 6: 92.06 in-sample; label noise gives 94.8 at width 768."""
    verdict = protocol_artefact(0.9206, null_mean=0.948, nominal=0.5, p_null=0.95)
    assert verdict.word is ARTEFACT and not verdict.fragile and "+42.1" in verdict.why and "+44.8" in verdict.why
    assert protocol_artefact(0.9761, null_mean=0.987, nominal=0.5, p_null=0.8).word is ARTEFACT


@pytest.mark.parametrize(
    "measured, null_mean, p_null",
    [
        (0.92, 0.75, 0.01),  # p_null at 0.01
        (0.92, 0.70, 0.5),  # less than half of it
        (0.60, 0.50, 0.2),  # unbiased but small
        (0.50, 0.50, 0.6),  # nothing to be explained
        (0.40, 0.50, 0.9),
    ],
)
def test_other_reported_rows_have_the_word_of_the_sound_one(measured, null_mean, p_null):
    assert protocol_artefact(measured, null_mean=null_mean, nominal=0.5, p_null=p_null) is None


def test_a_row_without_a_null_has_the_word_of_the_sound_one():
    assert protocol_artefact(0.432, null_mean=None, nominal=None, p_null=None) is None
    with pytest.raises(MeasureError):
        protocol_artefact(NAN, null_mean=0.5, nominal=0.5, p_null=0.5)
    with pytest.raises(MeasureError):
        protocol_artefact(0.9, null_mean=0.5, nominal=0.5, p_null=50)


def test_an_artefact_at_its_edges_is_fragile():
    assert protocol_artefact(0.92, null_mean=0.71, nominal=0.5, p_null=0.5).fragile
    rule = {"null_mean": 0.9, "nominal": 0.5, "p_null": 0.015}
    assert (
        protocol_artefact(0.92, permutations=199, **rule).fragile
        and not protocol_artefact(0.92, permutations=99999, **rule).fragile
    )


def test_none_stands_out_needs_every_bound_below_the_margin():
    rule = {"margin": 0.05, "n": 600}
    assert none_stands_out([0.01, 0.049], deviates=False, **rule).word is SUPPORTED
    assert none_stands_out([0.01, 0.05], deviates=True, **rule).word is REFUTED
    open_end = none_stands_out([0.01, 0.06], deviates=False, se=0.03, **rule)
    assert open_end.word is UNDERPOWERED and open_end.decide == math.ceil(600 * ((1.959964 + 1.2816) * 0.6) ** 2)
    assert f"at least {open_end.decide} problems would decide" in open_end.why
    assert none_stands_out(0.06, deviates=False, **rule).decide is None
    assert none_stands_out([0.05 - 5e-7], deviates=False, **rule).fragile
    for bounds in ([], [NAN, 0.01], [None, 0.01]):
        with pytest.raises(MeasureError):
            none_stands_out(bounds, deviates=False, **rule)


@pytest.mark.parametrize(
    "low, high, word",
    [
        (0.01, 0.2, SUPPORTED),
        (-0.2, -0.01, REFUTED),
        (-0.034, 0.145, UNDERPOWERED),
        (0.0, 0.2, UNDERPOWERED),
        (-0.2, 0.0, UNDERPOWERED),
        (None, None, UNDERPOWERED),
    ],
)
def test_order_is_read_from_the_interval(low, high, word):
    verdict = order_verdict(Estimate(0.0, low, high))
    assert verdict.word is word and verdict.decide is None and verdict.fragile == (0.0 in (low, high))


def test_delta_of_a_value_is_half_of_it_or_the_floor():
    assert half_effect(0.4761, 0.10) == pytest.approx(0.23805)
    assert half_effect(0.06, 0.10) == half_effect(None, 0.10) == half_effect(-0.3, 0.10) == 0.10


# Spread


def cells(rates, n=400):
    return stream(0, "spread").random((n, len(rates))) < np.array(rates)


def test_spread_is_concentrated_in_a_cell_that_stands_out():
    grid, p = cells([0.8] + [0.5] * 11), [0.001] + [0.5] * 11
    rule = {"phi": 1.5, "q": 0.5, "top_corrected_p": 0.001, "top_contrast_p": 0.001}
    found = spread_word(grid, cell_p=p, **rule)
    assert found.word == "concentrated" and "1 of 12 cells pass" in found.why and "\n" not in found.why
    assert spread_word(grid, cell_p=[0.001] * 6 + [0.5] * 6, **rule).word == "concentrated"
    assert spread_word(grid, cell_p=[0.001] * 7 + [0.5] * 5, **rule).word == "mixed"
    assert spread_word(grid, cell_p=p, **rule | {"top_corrected_p": 0.03}).word == "mixed"
    assert spread_word(grid, cell_p=p, **rule | {"top_contrast_p": 0.03}).word == "mixed"
    assert spread_word(grid, cell_p=p, **rule | {"phi": 100}).word == "mixed"  # Q finds nothing any more


def test_spread_is_even_where_all_cells_pass_and_tau_is_small():
    grid = cells([0.75] * 12)
    rule = {"phi": 1.5, "q": 0.5, "top_corrected_p": 0.001, "top_contrast_p": 0.5}
    assert spread_word(grid, cell_p=[0.001] * 12, **rule).word == "even"
    assert spread_word(grid, cell_p=[0.001] * 11 + [0.03], **rule).word == "mixed"
    assert spread_word(grid, cell_p=[0.001] * 12, **rule | {"q": np.full(12, 0.74)}).word == "mixed"  # tau against half a point
    wide = cells([0.9] * 6 + [0.6] * 6)
    assert spread_word(wide, cell_p=[0.001] * 12, **rule).word == "mixed"


def test_a_spread_that_monte_carlo_error_could_change_is_fragile():
    grid, rule = cells([0.75] * 12), {"phi": 1.5, "q": 0.5, "top_corrected_p": 0.001, "top_contrast_p": 0.5}
    firm, near = [0.005] * 12, [0.005] * 11 + [0.03]
    assert not spread_word(grid, cell_p=firm, permutations=199, **rule).others
    assert spread_word(grid, cell_p=near, permutations=199, **rule).others  # one draw fewer would have been even
    assert not spread_word(grid, cell_p=near, permutations=None, **rule).others
    alone = {"phi": 1.5, "q": 0.5, "top_corrected_p": 0.03, "top_contrast_p": 0.001, "cell_p": [0.03] + [0.5] * 11}
    assert spread_word(cells([0.8] + [0.5] * 11), permutations=199, **alone).others


def test_a_spread_says_how_many_problems_would_decide():
    """At that many, tau of equal cells stays below half the mean effect; where tau's interval is on one side, none is named."""
    rule = {"phi": 1.5, "q": 0.5, "top_corrected_p": 0.001, "top_contrast_p": 0.5, "cell_p": [0.001] * 11 + [0.5]}
    assert spread_word(cells([0.55] * 12, 60), **rule).decide > 60
    assert spread_word(cells([0.7] * 12, 400), **rule).decide is None  # tau is small: one cell that fails alone is in the way
    assert spread_word(cells([0.95] * 6 + [0.5] * 6, 400), **rule).decide is None  # tau is large
    assert spread_word(cells([0.4] * 12), **rule).decide is None  # no effect


def test_permuted_labels_that_are_told_block_the_row():
    rng = stream(0, "permuted")
    chance = rng.normal(0.5, 0.05, (199, 4))
    check_permuted(chance)
    check_permuted(chance - 0.1)  # below chance is what too small folds give, and lends no claim anything
    with pytest.raises(MeasureError, match="permuted labels have a mean AUC of 0.5[45]"):
        check_permuted(chance + 0.05)
    with pytest.raises(MeasureError, match="a control fails"):
        check_permuted(chance[:, 0] + 0.05)


@pytest.mark.parametrize(
    "call",
    [
        lambda: judge(NAN, 0.1),
        lambda: judge(0.2, 0.1),
        lambda: judge(0.1, 0.2, NAN),
        lambda: judge(0.1, 0.2, 1.5),
        lambda: judge(0.1, 0.2, delta=0),
        lambda: judge(0.1, 0.2, delta=NAN),
        lambda: judge(0.1, 0.2, n=0),
        lambda: judge(0.1, 0.2, p={}),
        lambda: judge(0.1, 0.2, p={"surface": 0.1}),
        lambda: none_stands_out([0.1], margin=0, deviates=False, n=10),
        lambda: none_stands_out([0.1], margin=0.1, deviates=False, n=10, se=NAN),
        lambda: order_verdict(Estimate(NAN, 0.1, 0.2)),
        lambda: order_verdict(Estimate(0.1, 0.2, 0.1)),
        lambda: half_effect(0.5, 0),
        lambda: half_effect(NAN, 0.1),
        lambda: holm_permutations(0),
        lambda: spread_word(cells([0.5] * 3), phi=1, cell_p=[0.1] * 2, top_corrected_p=0.1, top_contrast_p=0.1, q=0.5),
        lambda: spread_word(cells([0.5] * 3), phi=1, cell_p=[NAN] * 3, top_corrected_p=0.1, top_contrast_p=0.1, q=0.5),
        lambda: spread_word(cells([0.5] * 3), phi=1, cell_p=[0.1] * 3, top_corrected_p=0.1, top_contrast_p=0.1, q=50),
        lambda: spread_word(cells([0.5] * 3), phi=1, cell_p=[0.1] * 3, top_corrected_p=NAN, top_contrast_p=0.1, q=0.5),
    ],
)
def test_numbers_that_decide_nothing_are_refused(call):
    with pytest.raises(MeasureError):
        call()
