"""What a task of a sweep costs beside its work: a thousand trivial ones, against the bare pool of the standard library."""

import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import pytest

from codi_bench.sweep.executors import ProcessPool, RayCluster, Task, run_all

pytestmark = pytest.mark.perf
TASKS, WORKERS = 1000, 2
EACH = 0.02  # seconds a task may cost
NEEDS_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="NO RAY here: pip install ray")


@pytest.mark.parametrize("cluster", [False, pytest.param(True, marks=NEEDS_RAY)], ids=["processes", "ray"])
def test_a_task_costs_little(cluster, speed, monkeypatch):
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", here)  # workers find the task where this process does
    monkeypatch.setattr(sys, "path", [here, *sys.path])
    import trivial

    executor = RayCluster("local", workers=WORKERS) if cluster else ProcessPool(WORKERS)
    bare = ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"))
    tasks = [Task(f"t{i}", trivial.double, {"number": i}) for i in range(TASKS)]
    try:
        found, wanted = speed.rounds(
            lambda: sorted(ended.result["number"] for ended in run_all(tasks, executor)),
            lambda: sorted(each["number"] for each in bare.map(trivial.double, range(TASKS))),
        )
    finally:
        executor.close()
        bare.shutdown()
    assert found == wanted
    each = min(speed.seconds) / TASKS
    print(f"\n{type(executor).__name__}: {1000 * each:.2f} ms a task")
    assert each <= EACH
    speed.assert_holds(work=f"{TASKS} tasks on {WORKERS} workers")
