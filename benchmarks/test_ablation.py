"""Accuracy without one token, under the study's carry-over quirk."""

import pytest


@pytest.mark.claims("ablation")
def test_ablation(judged):
    judged.assert_holds()
