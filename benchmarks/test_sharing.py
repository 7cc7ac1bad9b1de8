"""Thoughts of two models: are they the same features?"""

import pytest


@pytest.mark.claims("sharing")  # each claim of the family, on each model of the run
def test_sharing(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
