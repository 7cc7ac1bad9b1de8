"""Latents left out, replaced, fed in another order or transplanted: what becomes of the answer?"""

import pytest


@pytest.mark.claims("latents")  # each claim of the family, on each model of the run
def test_latents(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
