"""Thoughts of two models: are they the same features?"""

import pytest


@pytest.mark.claims("sharing")
def test_sharing(judged):
    judged.assert_holds()
