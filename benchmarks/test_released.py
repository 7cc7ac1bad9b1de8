"""What others released of their models' answers, problem by problem: measured on the files, without a model."""

import pytest


@pytest.mark.claims("released answers")  # each claim of the family, on each model that a file at hand tells of
def test_released(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
