"""Share of problems answered correctly."""

import pytest


@pytest.mark.claims("task accuracy")
def test_task_accuracy(judged):
    judged.assert_holds()
