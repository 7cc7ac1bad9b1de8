"""Thoughts of other problems put in: does the answer follow?"""

import pytest


@pytest.mark.claims("edits")
def test_edits(judged):
    judged.assert_holds()
