"""Where in layers and tokens the probe accuracy sits."""

import pytest


@pytest.mark.claims("spread")  # each claim of the family, on each model of the run
def test_spread(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
