"""What the head reads in thoughts: values of steps, on models and on released logs."""

import pytest


@pytest.mark.claims("decoding")
def test_decoding(judged):
    judged.assert_holds()
