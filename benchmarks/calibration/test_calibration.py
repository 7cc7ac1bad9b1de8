"""How often each verdict is wrong, at full size: pytest benchmarks/calibration -m calibration.

What comes out is written to baselines/_calibration, where tests/test_auditor.py looks for it.
"""

import pytest

from .calibrate import folder, lines
from .cases import CALIBRATIONS
from .engine import processes, run, work_folder

pytestmark = pytest.mark.calibration


@pytest.fixture(scope="module")
def pool():
    with processes() as pool:
        yield pool


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_verdicts_are_as_often_wrong_as_they_may_be(name, pool):
    record = run(CALIBRATIONS[name], pool=pool, out=folder(), work=work_folder())
    assert record["met"], "\n".join(lines(record))
