"""What happens to nightly jobs, through the whole door: no disk, cache or home, a clock that goes back, others at once."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.stress.door import TIMES, Door
from benchmarks.stress.kills import on_tiny
from codi_bench.cli import main
from codi_bench.rules.stats import stream
from codi_bench.store import cache as store

pytestmark = pytest.mark.usefixtures("plain_reports")
SIZE = ("--model", "gpt2-mini", "--claim", "size")


@pytest.fixture(scope="module", autouse=True)
def asked(tmp_path_factory):
    """Arguments that measure a tiny model in seconds."""
    return ("benchmarks", *on_tiny(tmp_path_factory.mktemp("tiny"), ("task-accuracy", "size")))


def shown(result) -> str:
    return result.stdout.str() + result.stderr.str()


def timeless(path: Path) -> bytes:
    return TIMES.sub(b"", path.read_bytes())


# The report


@pytest.fixture
def full(monkeypatch):
    """A function (name): the disk is full half-way through the file of that name."""
    whole = Path.write_text

    def on(name):
        def write_text(path, text, **how):
            if path.name.startswith(f".{name}."):
                whole(path, text[: len(text) // 2], **how)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return whole(path, text, **how)

        monkeypatch.setattr(Path, "write_text", write_text)

    return on


@pytest.mark.parametrize("name", ["results.json", "report.html", "report.csv"])
def test_a_disk_that_is_full_costs_the_report_and_not_the_table(run_benchmarks, pytester, full, name):
    report = pytester.path / "report"
    assert run_benchmarks(*SIZE).ret == 0
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    full(name)
    result = run_benchmarks(*SIZE)
    (line,) = [line for line in result.outlines if line.startswith("RED ")]
    assert result.ret == 1 and f"{name}: could not be written (No space left on device)" in line and "run again" in line
    assert "Parameters" in shown(result) and " passed" in shown(result) and "report.html; beside it" not in shown(result)
    assert "Traceback" not in shown(result) and "INTERNALERROR" not in shown(result)
    assert {path for path in report.rglob("*") if path.is_file()} == before.keys()  # nothing half-written
    assert all(timeless(path) == TIMES.sub(b"", held) for path, held in before.items())


def test_a_report_folder_that_goes_while_the_run_measures_is_said(run_benchmarks, pytester):
    pytester.makepyfile(
        meddling="""
        import pathlib, shutil
        def pytest_runtest_teardown():
            shutil.rmtree("report", ignore_errors=True)
            pathlib.Path("report").write_text("in the way")
        """
    )
    pytester.syspathinsert()
    result = run_benchmarks(*SIZE, "-p", "meddling")
    (line,) = [line for line in result.outlines if line.startswith("RED ")]
    assert result.ret == 1 and line.startswith("RED report") and "could not be written" in line
    assert "Parameters" in shown(result) and "INTERNALERROR" not in shown(result)


def test_proposals_that_cannot_be_written_are_said(run_benchmarks, pytester):
    pytester.path.joinpath("report").mkdir()
    pytester.path.joinpath("report", "proposals").write_text("in the way")
    result = run_benchmarks(*SIZE, "--update-baselines")
    (line,) = [line for line in result.outlines if line.startswith("RED ")]
    assert result.ret == 1 and "proposals" in line and "could not be written" in line


def test_a_report_folder_below_a_file_is_refused_before_anything_runs(run_benchmarks, pytester):
    pytester.path.joinpath("file").write_text("in the way")
    result = run_benchmarks(*SIZE, "--report", "file/report")
    assert result.ret == 2 and "results.json: cannot be written (Not a directory); give --report DIR" in shown(result)


@pytest.mark.parametrize("command", ["problems", "think"])
def test_a_command_on_a_full_disk_says_which_file_and_leaves_what_was_there(tmp_path, command):
    """A limit on the length of files, which the system enforces as it does a full disk."""
    out, asked = tmp_path / "out", tmp_path / "asked.jsonl"
    out.write_text("old")
    asked.write_text("".join(json.dumps({"question": f"What is {i} ?", "answer": "1"}) + "\n" for i in range(3)))
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); from codi_bench.cli import main; main()"
    words = {"problems": ["generated"], "think": ["--model", "gpt2-mini", "--problems", asked]}[command]
    # Python itself would leave half of a compiled module behind, for every process after it
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command_line = [sys.executable, "-c", limited, command, *words, "--out", out]
    done = subprocess.run(command_line, capture_output=True, text=True, env=environment)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("codi-bench: ")]
    assert done.returncode == 2 and str(out) in line and "File too large" in line and "Traceback" not in done.stderr
    assert out.read_text() == "old" and sorted(tmp_path.iterdir()) == [asked, out]


# The cache


@pytest.fixture
def measured(run_benchmarks, pytester, monkeypatch, asked):
    """A function (cache, …) → a run's results without their times, and its warnings."""

    def run(cache, *more):
        monkeypatch.setenv("CODI_BENCH_CACHE", str(cache))
        store._say_unstored.cache_clear()
        result = run_benchmarks(*asked, *more)
        assert result.ret == 0, shown(result)
        said = [line for line in result.outlines if line.startswith("warning: ")]
        return timeless(pytester.path / "report" / "results.json"), said

    return run


def test_results_are_the_same_whatever_the_cache_holds_and_what_is_wrong_is_said(measured, tmp_path):
    cold, said = measured(tmp_path / "cache")
    assert not said and measured(tmp_path / "cache") == (cold, [])
    entry = min(tmp_path.glob("cache/store/*.safetensors"))
    data = bytearray(entry.read_bytes())
    data[int(stream(0, "faults", "flip").integers(len(data)))] ^= 1
    entry.write_bytes(data)
    again, (line,) = measured(tmp_path / "cache")
    assert again == cold and f"{entry} cannot be used" in line and "computed again" in line
    assert measured(tmp_path / "cache") == (cold, [])
    (tmp_path / "file").write_text("in the way")
    without, (line,) = measured(tmp_path / "file")
    assert without == cold and "results cannot be stored there (Not a directory)" in line and "CODI_BENCH_CACHE" in line


def test_a_worker_s_warnings_are_shown_too(measured, tmp_path):
    (tmp_path / "file").write_text("in the way")
    _, (line,) = measured(tmp_path / "file", "-n", "1")
    assert "cannot be stored there" in line


# The clock


def test_a_clock_that_goes_back_changes_nothing_but_the_date(measured, pytester, monkeypatch, tmp_path):
    cold, _ = measured(tmp_path / "first")
    now, day = time.time, 86400
    pytester.makepyfile(
        backwards="""
        import time
        past = time.time() - 86400
        def pytest_runtest_logreport(report):
            time.time, time.time_ns = lambda: past, lambda: int(past * 1e9)
        """
    )
    pytester.syspathinsert()
    monkeypatch.setattr(time, "time", now)  # put back afterwards what the run changes
    monkeypatch.setattr(time, "time_ns", time.time_ns)
    assert measured(tmp_path / "second", "-p", "backwards") == (cold, [])
    assert now() - time.time() > day - 600
    assert measured(tmp_path / "first") == (cold, [])  # entries from the future
    assert all(entry.age >= 0 for entry in store.entries(tmp_path / "first" / "store"))


def test_a_night_with_an_earlier_date_stands_before_the_others(run_benchmarks, pytester, monkeypatch, capsys):
    """A history goes by the dates that the files say, whatever order they were written in."""
    for name, year in (("a", 2026), ("b", 2025)):
        run_benchmarks(*SIZE, "--report", f"nights/{name}")
        path = pytester.path / "nights" / name / "results.json"
        held = json.loads(path.read_text())
        held["environment"]["date"] = f"{year}-01-01T00:00:00+00:00"
        path.write_text(json.dumps(held))
    monkeypatch.setattr(sys, "argv", ["codi-bench", "history", "nights"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().out
    assert not ended.value.code and said.index("2025-01-01") < said.index("2026-01-01")


# No home


HOMELESS = """
import os, pwd, sys
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "HF_HOME", "CODI_BENCH_CACHE"):
    os.environ.pop(name, None)
from codi_bench.plugin.run import run
sys.exit(run(sys.argv[1:]))
"""


def test_a_user_without_a_home_gets_a_report_and_is_told_that_nothing_is_kept(asked, tmp_path):
    command = [sys.executable, "-c", HOMELESS, *asked, "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.stdout.count("cannot be stored there") == 1 and (tmp_path / "report" / "results.json").is_file()
    assert not (tmp_path / "~").exists()


# Others at the same time


COUNTING = """
import os
from codi_bench.store.cache import Store
whole = Store._write
def counted(*args, **kwargs):
    with open(os.environ["COMPUTED"], "a") as file:
        file.write("once\\n")
    return whole(*args, **kwargs)
Store._write = counted
"""


def test_two_runs_on_one_cache_compute_each_capture_once(asked, tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(COUNTING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setenv("COMPUTED", str(tmp_path / "computed"))
    doors = [Door(tmp_path / f"run-{i}", (*asked, "-p", "counting"), 1, tmp_path / "cache") for i in range(2)]
    with doors[0].open() as one, doors[1].open() as other:
        assert [process.wait(300) for process in (one, other)] == [0, 0], (tmp_path / "run-0" / "said.txt").read_text()
    held = store.entries(tmp_path / "cache" / "store")
    assert held and (tmp_path / "computed").read_text().split() == ["once"] * len(held)
    assert len({timeless(door.folder / "report" / "results.json") for door in doors}) == 1
    assert all("warning: " not in (door.folder / "said.txt").read_text() for door in doors)
