"""Share of problems answered correctly."""

import pytest


@pytest.mark.claims("task accuracy")  # each claim of the family, on each model of the run
def test_task_accuracy(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
