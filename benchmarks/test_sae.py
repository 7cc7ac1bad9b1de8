"""Sparse autoencoders on the thoughts, and error prediction from their features."""

import pytest


@pytest.mark.claims("SAE errors")  # each claim of the family, on each model of the run
def test_sae(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
