"""Where sources disagree: does the difference in protocol make the difference in numbers?"""

import pytest


@pytest.mark.claims("contradictions")
def test_contradictions(judged):
    judged.assert_holds()
