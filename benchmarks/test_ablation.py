"""Accuracy without one token, under the study's carry-over quirk."""

import pytest


@pytest.mark.claims("ablation")  # each claim of the family, on each model of the run
def test_ablation(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
