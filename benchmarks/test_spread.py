"""Where in layers and tokens the probe accuracy sits."""

import pytest


@pytest.mark.claims("spread")
def test_spread(judged):
    judged.assert_holds()
