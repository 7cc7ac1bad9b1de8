"""Parameters, layers, width."""

import pytest


@pytest.mark.claims("size")  # each claim of the family, on each model of the run
def test_size(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
