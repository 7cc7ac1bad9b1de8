"""Thoughts of other problems put in: does the answer follow?"""

import pytest


@pytest.mark.claims("edits")  # each claim of the family, on each model of the run
def test_edits(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
