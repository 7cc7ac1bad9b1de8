"""Tasks on a pool of processes and on a local Ray cluster: failures, lost workers, and what a task costs."""

import sys
from importlib.util import find_spec

import pytest
import sweep_tasks as tasks_module

from codi_bench.errors import CodiBenchError
from codi_bench.sweep.executors import RETRIES, LostWorkerError, ProcessPool, RayCluster, Task, run_all
from codi_bench.sweep.results import SweepResults

HAS_RAY = find_spec("ray") is not None


pytestmark = pytest.mark.usefixtures("workers_find_tests")


@pytest.fixture(
    scope="module",
    params=["processes", pytest.param("ray", marks=pytest.mark.skipif(not HAS_RAY, reason="NO RAY here: pip install ray"))],
)
def executor(request):
    made = ProcessPool(2) if request.param == "processes" else RayCluster("local", workers=2)
    yield made
    made.close()


def results(found):
    return {ended.task.name: ended.result["number"] if ended.result else str(ended.error) for ended in found}


def test_what_a_task_raises_ends_it_and_nothing_else(executor):
    given = [Task("bad", tasks_module.fail, {"number": 3}), Task("good", tasks_module.double, {"number": 5})]
    found = results(run_all(given, executor))
    assert found["good"] == 10 and "no luck with 3" in found["bad"]


def test_a_task_that_kills_every_worker_fails_in_the_end_and_costs_the_others_nothing(executor):
    given = [Task("deadly", tasks_module.die_slowly, {"number": 1})]
    given += [Task(f"t{i}", tasks_module.double, {"number": i}) for i in range(11)]
    found = {ended.task.name: ended for ended in run_all(given, executor)}
    assert isinstance(found.pop("deadly").error, LostWorkerError) and RETRIES == 3
    assert results(found.values()) == {f"t{i}": 2 * i for i in range(11)}
    assert results(run_all([Task("after", tasks_module.double, {"number": 4})], executor)) == {"after": 8}


def test_a_task_that_no_cluster_could_run_is_refused(executor):
    big = [Task("big", tasks_module.double, {"number": 1}, cpus=999)]
    if isinstance(executor, ProcessPool):  # which counts workers, not cores
        assert results(run_all(big, executor)) == {"big": 2}
        return
    with pytest.raises(CodiBenchError, match="asks for 999 cores .* ask for less"):
        list(run_all(big, executor))


def test_without_ray_the_mend_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CodiBenchError, match=r"pip install 'codi-bench\[ray\]'"):
        RayCluster("local")


@pytest.mark.parametrize("where", ("folder", "memory"))
def test_results_are_there_whole_under_their_key_or_not_at_all(where, tmp_path):
    found = SweepResults(str(tmp_path / "deep" / "out") if where == "folder" else "memory://sweep")
    assert found.read("models/a", "k1") is None
    found.write("models/a", "k1", {"x": 1.5})
    assert found.read("models/a", "k1") == {"x": 1.5} and found.read("models/a", "k2") is None
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "w.bin").write_bytes(b"\0\1")
    found.put_folder("weights/a", tmp_path / "made")
    assert (found.get_folder("weights/a", tmp_path / "back") / "w.bin").read_bytes() == b"\0\1"
    (tmp_path / "made" / "w.bin").write_bytes(b"\0\1")
    found.put("models/a.json", b"{")
    with pytest.raises(CodiBenchError, match=r"models/a.json: .*; remove it, and the sweep does that task again"):
        found.read("models/a", "k1")
    with pytest.raises(CodiBenchError, match="weights/b: the folder is missing"):
        found.get_folder("weights/b", tmp_path / "none")
    if where == "folder":
        assert not [path for path in (tmp_path / "deep").rglob("*") if path.is_file() and path.suffix not in (".json", ".bin")]


def test_a_place_that_is_none_is_refused():
    with pytest.raises(CodiBenchError, match="nowhere://x: cannot be written to"):
        SweepResults("nowhere://x").read("a", "k")


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CodiBenchError, match=r"--out .*file/out: cannot be written to \(.*\); give another"):
        SweepResults(str(tmp_path / "file" / "out")).check()
    SweepResults(str(tmp_path / "out")).check()
    assert not list((tmp_path / "out").iterdir())
