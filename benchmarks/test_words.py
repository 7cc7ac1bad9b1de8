"""Problems whose answers are words: how many are right, and what of the thoughts they need?"""

import pytest


@pytest.mark.claims("word answers")  # each claim of the family, on each model of the run
def test_words(suite, model, claim, table):
    numbers = table.add(suite.measure(model, claim))
    assert numbers.measured == numbers.recorded
