"""The controls of edited runs: planted dead hooks and models that can do nothing."""

import numpy as np
import pytest

from codi_bench.errors import MeasureError
from codi_bench.rules.controls import check_alive, check_room

CLEAN = np.array(["3", "5", "8", "8"])


def test_an_edit_that_changes_nothing_anywhere_is_dead():
    with pytest.raises(MeasureError, match=r"^dead edit: none of 2 conditions \(zero, noise\) changes anything on 4 problems"):
        check_alive(CLEAN, {"zero": CLEAN, "noise": CLEAN[:2]})


def test_one_answer_of_one_condition_is_enough():
    changed = CLEAN.copy()
    changed[3] = "9"
    check_alive(CLEAN, {"zero": CLEAN, "noise": changed})


def test_answers_without_a_number_are_equal_to_each_other():
    numbers = np.array([1.0, np.nan])
    with pytest.raises(MeasureError, match="dead edit"):
        check_alive(numbers, {"zero": numbers.copy()})
    check_alive(numbers, {"zero": np.array([1.0, 2.0])})


@pytest.mark.parametrize(("moved", "dead"), [(0.0, True), (1e-7, True), (1e-5, False)])
def test_a_log_probability_that_moves_shows_that_the_hook_works(moved, dead):
    before = np.array([-1.0, -2.0, -3.0, -4.0])
    after = {"zero": before + np.array([0, moved, 0, 0])}
    if dead:
        with pytest.raises(MeasureError, match="dead edit"):
            check_alive(CLEAN, {"zero": CLEAN}, (before, after))
    else:
        check_alive(CLEAN, {"zero": CLEAN}, (before, after))


def test_a_run_without_a_condition_shows_nothing():
    with pytest.raises(MeasureError, match="dead edit: no condition"):
        check_alive(CLEAN, {})


@pytest.mark.parametrize(("right", "constant", "blocked"), [(3, 0.0, True), (60, 0.0, False), (60, 0.5, True), (0, 0.0, True)])
def test_what_is_hardly_right_has_nothing_to_lose(right, constant, blocked):
    answers = np.arange(100) < right
    if blocked:
        with pytest.raises(MeasureError, match=f"^nothing to lose: {right}.0 % of 100 problems"):
            check_room(answers, constant)
    else:
        check_room(answers, constant)


def test_the_reason_says_what_there_is_nothing_of():
    with pytest.raises(MeasureError, match="^nothing to find: "):
        check_room(np.zeros(50, bool), what="to find")
