"""Linear probes that read right from wrong in the thoughts, in sample as the study fitted them."""

import pytest


@pytest.mark.claims("probes")  # each claim of the family, on each model of the run
def test_probes(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
