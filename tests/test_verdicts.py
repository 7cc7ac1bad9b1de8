"""Every outcome word is provoked, with the examples of docs/verdicts.md; the rules are symmetric and monotone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from codi_bench.errors import MeasureError, UnknownNameError
from codi_bench.rules.reproduction import (
    Regression,
    Reproduction,
    equivalence_margin,
    fact,
    other_list,
    regression_count,
    regression_value,
    regression_verdict,
    reproduce,
    reproduce_order,
    same_list,
    stated_range,
    winner,
)
from codi_bench.rules.stats import Estimate, stream, wilson

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = Reproduction
SAME, DRIFTED, UNCHECKED = Regression
NAN = float("nan")

quick = settings(max_examples=60, deadline=None, derandomize=True)
rates = st.floats(0, 1)
outcome_pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def pair(both, lost, gained, neither):
    before = np.repeat([True, True, False, False], [both, lost, gained, neither])
    after = np.repeat([True, False, True, False], [both, lost, gained, neither])
    return before, after


def test_words_read_as_printed_in_the_table():
    assert [str(word) for word in Reproduction] == ["REPRODUCED", "NOT REPRODUCED", "INCONCLUSIVE"]
    assert [str(word) for word in Regression] == ["SAME", "DRIFTED", "UNCHECKED"]


# Reproduction


@pytest.mark.parametrize(
    "measured, word", [(0.419, NOT_REPRODUCED), (0.4367, REPRODUCED), (0.4265, REPRODUCED), (0.4264, NOT_REPRODUCED)]
)
def test_same_list_decides_43_7_of_1319(measured, word):
    outcome = same_list(measured, 0.437, n=1319, printed_unit=0.001)
    assert outcome.word is word and "allowed 1.05" in outcome.why


def test_same_list_allows_two_problems_on_a_short_list_and_half_a_printed_digit():
    assert same_list(0.18, 0.20, n=100, printed_unit=0.001).word is REPRODUCED
    assert same_list(0.17, 0.20, n=100, printed_unit=0.001).word is NOT_REPRODUCED
    assert same_list(0.425, 0.44, n=200, printed_unit=0.01).word is REPRODUCED
    assert same_list(0.425, 0.44, n=200, printed_unit=0.001).word is NOT_REPRODUCED


@quick
@given(rates, rates, st.integers(1, 5000), st.floats(0, 0.1), st.floats(0, 0.1))
def test_same_list_is_symmetric_never_inconclusive_and_monotone_in_the_printed_digit(a, b, n, finer, more):
    word = same_list(a, b, n=n, printed_unit=finer).word
    assert word is same_list(b, a, n=n, printed_unit=finer).word is not INCONCLUSIVE
    if word is REPRODUCED:
        assert same_list(a, b, n=n, printed_unit=finer + more).word is REPRODUCED


@pytest.mark.parametrize("n, margin", [(100, 0.169), (183, 0.128), (200, 0.124), (1000, 0.068), (1319, 0.063)])
def test_other_list_has_90_percent_power_at_the_margins_of_the_verdicts_page(n, margin):
    s = math.sqrt(0.43 * 0.57 * (1 / 1319 + 1 / n))
    reach = margin - norm.ppf(0.95) * s
    assert 2 * norm.cdf(reach / s) - 1 == pytest.approx(0.9, abs=0.005)
    sizes = {"s_measured": math.sqrt(0.43 * 0.57 / 1319), "n_reported": n, "margin": margin}
    assert other_list(0.43 + 0.999 * reach, 0.43, **sizes).word is REPRODUCED
    assert other_list(0.43 + 1.001 * reach, 0.43, **sizes).word is INCONCLUSIVE
    beyond = margin + norm.ppf(0.975) * s
    assert other_list(0.43 - 0.999 * beyond, 0.43, **sizes).word is INCONCLUSIVE
    assert other_list(0.43 - 1.001 * beyond, 0.43, **sizes).word is NOT_REPRODUCED


def test_a_number_from_100_unknown_problems_can_only_be_inconclusive_or_not_reproduced():
    words = {other_list(k / 1319, 0.43, margin=0.05, n_measured=1319, n_reported=100).word for k in range(1320)}
    assert words == {INCONCLUSIVE, NOT_REPRODUCED}
    assert other_list(0.43, 0.43, margin=0.05, n_measured=1319, n_reported=1319).word is REPRODUCED
    assert same_list(0.43, 0.43, n=100, printed_unit=0.01).word is REPRODUCED


def test_other_list_without_spread_or_n_is_inconclusive():
    assert other_list(0.43, 0.43, margin=0.05, n_measured=1319).word is INCONCLUSIVE
    assert "reported number has neither" in other_list(0.43, 0.9, margin=0.05, n_measured=1319).why
    assert "measured number has neither" in other_list(0.43, 0.43, margin=0.05, n_reported=1319).why


def test_a_known_spread_stands_over_n():
    sizes = {"margin": 0.05, "n_measured": 100, "n_reported": 100}
    assert other_list(0.92, 0.92, **sizes).word is INCONCLUSIVE
    assert other_list(0.92, 0.92, s_measured=0.016, s_reported=0.016, **sizes).word is REPRODUCED


def test_ten_right_of_ten_still_have_an_error():
    assert other_list(1.0, 1.0, margin=0.05, n_measured=10, n_reported=10).word is INCONCLUSIVE
    assert other_list(0.0, 0.0, margin=0.05, n_measured=1, n_reported=1).word is INCONCLUSIVE


def test_margin_of_a_drop_is_half_of_it_and_a_vacuous_margin_never_reproduces():
    assert equivalence_margin(0.437) == 0.05
    assert equivalence_margin(0.06, drop=True) == pytest.approx(0.03) and equivalence_margin(-0.2, drop=True) == 0.05
    sizes = {"margin": 0.05, "n_measured": 5000, "n_reported": 5000}
    assert other_list(0.53, 0.53, **sizes).word is REPRODUCED
    assert other_list(0.53, 0.53, effect=0.05, **sizes).word is REPRODUCED
    vacuous = other_list(0.53, 0.53, effect=0.03, **sizes)
    assert vacuous.word is INCONCLUSIVE and "vacuous" in vacuous.why
    assert other_list(0.73, 0.53, effect=0.03, **sizes).word is NOT_REPRODUCED


@quick
@given(rates, rates, st.integers(1, 3000), st.integers(1, 3000), st.floats(0, 0.2), st.floats(0, 0.2))
def test_other_list_is_symmetric_and_monotone_in_the_margin(a, b, n, m, margin, more):
    word = other_list(a, b, margin=margin, n_measured=n, n_reported=m).word
    assert word is other_list(b, a, margin=margin, n_measured=m, n_reported=n).word
    wider = other_list(a, b, margin=margin + more, n_measured=n, n_reported=m).word
    ladder = [NOT_REPRODUCED, INCONCLUSIVE, REPRODUCED]
    assert ladder.index(wider) >= ladder.index(word)


def test_llama_is_inside_its_stated_range():
    assert stated_range(wilson(733, 1319), low=0.5, high=0.6).word is REPRODUCED
    assert stated_range(wilson(56, 100), low=0.5, high=0.6).word is INCONCLUSIVE
    assert stated_range(wilson(570, 1319), low=0.5, high=0.6).word is NOT_REPRODUCED
    assert stated_range(wilson(900, 1319), low=0.5, high=0.6).word is NOT_REPRODUCED
    assert stated_range(Estimate(0.55, None, None), low=0.5, high=0.6).word is INCONCLUSIVE
    with pytest.raises(MeasureError, match="stated range 0.6 to 0.5"):
        stated_range(wilson(56, 100), low=0.6, high=0.5)


def test_facts_are_equal_or_not():
    assert fact(768, 768).word is REPRODUCED and fact(12, 16).word is NOT_REPRODUCED
    assert fact("gpt2", "gpt2").word is REPRODUCED
    assert fact(124_439_808, 124_000_000).word is NOT_REPRODUCED
    assert fact(124_439_808, 124_000_000, printed_unit=1e6).word is REPRODUCED
    assert fact(124_739_808, 124_000_000, printed_unit=1e6).word is NOT_REPRODUCED


@pytest.mark.parametrize(
    "low, high, word",
    [
        (0.01, 0.2, REPRODUCED),
        (-0.2, -0.01, NOT_REPRODUCED),
        (-0.034, 0.145, INCONCLUSIVE),
        (0.0, 0.2, INCONCLUSIVE),
        (-0.2, 0.0, INCONCLUSIVE),
        (None, None, INCONCLUSIVE),
    ],
)
def test_order_is_read_from_the_interval_of_the_difference(low, high, word):
    assert reproduce_order(Estimate(0.0, low, high)).word is word


def test_the_dispatcher_finds_each_rule_and_names_the_nearest():
    assert reproduce("same-list", 0.419, 0.437, n=1319, printed_unit=0.001).word is NOT_REPRODUCED
    assert reproduce("other-list", 0.43, 0.43, margin=0.05).word is INCONCLUSIVE
    assert reproduce("stated-range", wilson(733, 1319), low=0.5, high=0.6).word is REPRODUCED
    assert reproduce("fact", 12, 12).word is REPRODUCED
    assert reproduce("order", Estimate(0.1, 0.05, 0.15)).word is REPRODUCED
    with pytest.raises(UnknownNameError, match="did you mean 'same-list'"):
        reproduce("same_list", 0.4, 0.4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: same_list(NAN, 0.437, n=1319, printed_unit=0.001),
        lambda: same_list(0.437, 0.437, n=0, printed_unit=0.001),
        lambda: same_list(0.437, 0.437, n=10, printed_unit=-0.001),
        lambda: other_list(0.43, NAN, margin=0.05),
        lambda: other_list(0.43, 0.43, margin=NAN),
        lambda: other_list(43.0, 43.0, margin=0.05, n_measured=1319, n_reported=1319),
        lambda: other_list(0.43, 0.43, margin=0.05, s_measured=-1.0, n_reported=5),
        lambda: other_list(0.43, 0.43, margin=0.05, n_measured=9, n_reported=0),
        lambda: other_list(0.43, 0.43, margin=0.05, n_measured=9, n_reported=9, effect=NAN),
        lambda: stated_range(Estimate(NAN, 0.1, 0.2), low=0, high=1),
        lambda: reproduce_order(Estimate(0.1, NAN, 0.2)),
        lambda: fact(None, None),
        lambda: fact(NAN, 12),
        lambda: equivalence_margin(NAN, drop=True),
        lambda: regression_value(1.0, 1.0, NAN),
        lambda: regression_value(1.0, 1.0, -1e-9),
        lambda: regression_value(1.0, 1.0, math.inf),
        lambda: regression_count([1, 0], [1, 0, 1], same_environment=True, family_size=1),
        lambda: regression_count([1, 0], [1, 0], same_environment=True, family_size=0),
        lambda: winner(NAN, 0.01),
        lambda: winner(0.1, NAN),
    ],
)
def test_numbers_that_decide_nothing_are_refused(call):
    with pytest.raises(MeasureError):
        call()


# Regression


def test_one_flip_in_the_same_environment_is_drift_and_in_another_is_not():
    bits = pair(500, 1, 0, 499)
    here, there = (regression_count(*bits, same_environment=same, family_size=20) for same in (True, False))
    assert here.word is DRIFTED and there.word is SAME
    assert "b = 1 right then wrong, g = 0 wrong then right, of 1000, p = 1" in here.why
    equal = regression_count(bits[0], bits[0], same_environment=True, family_size=20)
    assert equal.word is SAME and "p = 1" in equal.why
    assert regression_count(None, bits[1], same_environment=True, family_size=20).word is UNCHECKED


def test_another_environment_drifts_only_with_both_the_p_value_and_the_net_change():
    def word(cells, family_size):
        return regression_count(*pair(*cells), same_environment=False, family_size=family_size).word

    assert word((450, 60, 10, 480), 20) is DRIFTED
    assert word((450, 60, 60, 430), 20) is SAME
    # 9 lost, none gained: p = 0.0039 stands alone, not in a family of 20.
    assert word((500, 9, 0, 491), 1) is DRIFTED and word((500, 9, 0, 491), 20) is SAME
    # The same nine in 1800 are exactly 0.5 %, which is not above it.
    assert word((900, 9, 0, 891), 1) is SAME and word((900, 9, 0, 890), 1) is DRIFTED


@quick
@given(outcome_pairs, st.booleans(), st.integers(1, 50), st.randoms(use_true_random=False))
def test_regression_is_symmetric_in_time_and_blind_to_the_order_of_problems(pairs, same_environment, family_size, random):
    rule = {"same_environment": same_environment, "family_size": family_size}
    recorded, measured = zip(*pairs, strict=True)
    outcome = regression_count(recorded, measured, **rule)
    assert outcome.word is regression_count(measured, recorded, **rule).word
    assert outcome == regression_count(*zip(*random.sample(pairs, len(pairs)), strict=True), **rule)
    if outcome.word is SAME:
        assert regression_count(recorded, measured, same_environment=same_environment, family_size=family_size + 1).word is SAME


@pytest.mark.parametrize("loss, least, most", [(0.05, 0.98, 1.0), (0.0, 0.0, 0.005)])
def test_a_loss_of_five_points_is_found_and_mere_churn_is_not(loss, least, most):
    """docs/verdicts.md, section 4: n = 1000, churn 1 % each way, M = 20: 99.7 % detected; false alarms at most 0.5 %."""
    rng, found = stream(0, "regression power", str(loss)), 0
    for _ in range(400):
        counts = rng.multinomial(1000, [0.43 - loss, 0.01 + loss, 0.01, 0.55])
        outcome = regression_count(*pair(*counts), same_environment=False, family_size=20)
        found += outcome.word is DRIFTED
    assert least <= found / 400 <= most


def test_regression_value_words():
    assert regression_value(0.437, 0.4371, 1e-3).word is SAME
    assert regression_value(0.437, 0.439, 1e-3).word is DRIFTED
    assert regression_value(0.5, 0.75, 0.25).word is SAME
    for recorded, measured in [(NAN, 0.4), (0.4, NAN), (NAN, NAN), (None, 0.4), (0.4, None), (None, NAN), (math.inf, 0.4)]:
        assert regression_value(recorded, measured, 1.0).word is DRIFTED
    assert regression_value(math.inf, math.inf, 0.0).word is SAME
    assert regression_value(None, None, 1.0).word is UNCHECKED


numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True)


@quick
@given(numbers, numbers, st.floats(0, 1e6), st.floats(0, 1e6))
def test_regression_value_is_symmetric_and_monotone_in_the_tolerance(a, b, tolerance, more):
    word = regression_value(a, b, tolerance).word
    assert word is regression_value(b, a, tolerance).word
    if word is SAME:
        assert regression_value(a, b, tolerance + more).word is SAME


def test_a_changed_verdict_drifts_unless_it_was_fragile():
    assert regression_verdict("SUPPORTED", "SUPPORTED").word is SAME
    assert regression_verdict("SUPPORTED", "REFUTED").word is DRIFTED
    assert regression_verdict("SUPPORTED", None).word is DRIFTED
    fragile = regression_verdict("SUPPORTED", "UNDERPOWERED", fragile=True)
    assert fragile.word is SAME and "SUPPORTED became UNDERPOWERED" in fragile.why
    assert regression_verdict(None, None).word is UNCHECKED


# Winner


def test_winner_needs_the_corrected_p():
    assert winner(0.1, 0.05) == "a" and winner(-0.1, 0.05) == "b"
    assert winner(0.1, 0.0501) is None and winner(0.0, 0.01) is None
