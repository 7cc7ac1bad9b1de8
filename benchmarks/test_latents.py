"""Latents left out, replaced, fed in another order or transplanted: what becomes of the answer?"""

import pytest


@pytest.mark.claims("latents")
def test_latents(judged):
    judged.assert_holds()
