"""Every recorded ratio has a benchmark that checks it: one that was renamed or removed leaves a record that nothing looks at."""

import pytest

from codi_bench.records import speed as perf

pytestmark = pytest.mark.perf


def test_every_recorded_ratio_has_its_benchmark(recorded, every_benchmark):
    gone = perf.orphans(recorded, every_benchmark)
    assert not gone, "; ".join(gone)
