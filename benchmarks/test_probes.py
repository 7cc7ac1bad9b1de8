"""Linear probes that read right from wrong in the thoughts, in sample as the study fitted them."""

import pytest


@pytest.mark.claims("probes")
def test_probes(judged):
    judged.assert_holds()
