"""What the head reads in thoughts: values of steps, on models and on released logs."""

import pytest


@pytest.mark.claims("decoding")  # each claim of the family, on each model of the run
def test_decoding(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
