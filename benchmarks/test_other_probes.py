"""Which operation comes first, and which value: what other studies read from thoughts by probes."""

import pytest


@pytest.mark.claims("other probes")  # each claim of the family, on each model of the run
def test_other_probes(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
