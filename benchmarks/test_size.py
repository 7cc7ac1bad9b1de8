"""Parameters, layers, width."""

import pytest


@pytest.mark.claims("size")
def test_size(judged):
    judged.assert_holds()
