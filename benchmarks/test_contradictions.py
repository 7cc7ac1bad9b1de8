"""Where sources disagree: does the difference in protocol make the difference in numbers?"""

import pytest


@pytest.mark.claims("contradictions")  # each claim of the family, on each model of the run
def test_contradictions(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
