"""Sparse autoencoders on the thoughts, and error prediction from their features."""

import pytest


@pytest.mark.claims("SAE errors")
def test_sae(judged):
    judged.assert_holds()
