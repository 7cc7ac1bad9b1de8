"""Which operation comes first, and which value: what other studies read from thoughts by probes."""

import pytest


@pytest.mark.claims("other probes")
def test_other_probes(judged):
    judged.assert_holds()
