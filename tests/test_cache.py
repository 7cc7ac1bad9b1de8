"""Several processes share a store, some of them killed; what is stored is bounded, shown and cleared."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from codi_bench import cli
from codi_bench.errors import CodiBenchError
from codi_bench.store import arrays as mapped
from codi_bench.store import cache as store
from codi_bench.store.arrays import in_use
from codi_bench.store.cache import Store, default_bound, entries, evict

KEY = {"what": "think", "weights": "0123456789abcdef"}


def numbers(kept, n=3, size=1000):
    """Entries {"k": 0}, {"k": 1}, … of `size` float64, used in that order and no longer."""
    for k in range(n):
        kept.fetch({"k": k}, lambda: {"a": np.zeros(size)})


def left(folder):
    """The k of each entry, least recently used first."""
    paths = {store.hashlib.sha256(f'{{"k": {k}}}'.encode()).hexdigest(): k for k in range(20)}
    return [paths[entry.path.stem] for entry in entries(folder)]


def python(code, *given):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, given)], stdout=subprocess.PIPE, text=True, bufsize=1
    )


# Several at once; killed ones are in test_stress.py

WORKER = """
    import os, sys, time
    import numpy as np
    from pathlib import Path
    from codi_bench.store.cache import Store
    log, folder = Path(sys.argv[2]), Path(sys.argv[1])
    def fill(large, k):
        with open(log, "a") as file:
            file.write(f"{k}\\n")
        time.sleep(0.05)
        large[:] = k
        return {"pid": np.array([os.getpid()])}
    seen = []
    for k in range(6):
        held = Store(folder).fetch_filled({"k": k}, "a", (64, 512), lambda large: fill(large, k))
        assert (held["a"] == k).all()
        seen.append(int(held["pid"][0]))
    print(*seen)
"""


def test_four_processes_compute_each_entry_once(tmp_path):
    workers = [python(WORKER, tmp_path / "store", tmp_path / "log") for _ in range(4)]
    said = {worker.communicate(timeout=60)[0] for worker in workers}
    assert [worker.returncode for worker in workers] == [0] * 4 and len(said) == 1  # all read what one of them wrote
    assert sorted((tmp_path / "log").read_text().split()) == list("012345")


def test_threads_compute_each_entry_once(tmp_path):
    kept, calls, seen = Store(tmp_path), [], []

    def compute():
        calls.append(1)
        time.sleep(0.05)
        return {"a": np.ones(3)}

    threads = [threading.Thread(target=lambda: seen.append(kept.fetch(KEY, compute)["a"][0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(calls) == 1 and seen == [1] * 8


def test_what_a_killed_writer_left_is_cleared_unless_somebody_writes(tmp_path):
    numbers(Store(tmp_path), n=2)
    first, second = (entry.path for entry in entries(tmp_path))
    dead, living = (path.with_name(f".{path.name}.abc") for path in (first, second))
    for path in (dead, living):
        path.write_bytes(b"half")
    with FileLock(second.with_suffix(".lock")):
        assert [entry.path for entry in evict(tmp_path, np.inf)] == [dead]
    assert living.exists() and first.exists() and second.exists()


# Bounds


def test_the_least_recently_used_go_first(tmp_path, monkeypatch):
    kept = Store(tmp_path)
    numbers(kept, n=5)
    kept.fetch({"k": 0}, dict)  # read: used last
    assert left(tmp_path) == [1, 2, 3, 4, 0]
    size = entries(tmp_path)[0].size
    assert len(evict(tmp_path, 3 * size)) == 2 and left(tmp_path) == [3, 4, 0]
    assert evict(tmp_path, 3 * size) == []
    Store(tmp_path, 2 * size).fetch({"k": 7}, lambda: {"a": np.zeros(1000)})  # the bound holds by itself
    assert left(tmp_path) == [0, 7]
    for k, locks in ((8, mapped.fcntl), (9, None)):  # without locks, as on Windows, use cannot be seen
        monkeypatch.setattr(mapped, "fcntl", locks)
        Store(tmp_path, 0).fetch({"k": k}, lambda: {"a": np.zeros(1000)})
        assert left(tmp_path) == [k]  # what was just written stays


def test_what_is_locked_or_in_use_stays(tmp_path):
    kept = Store(tmp_path)
    numbers(kept, n=3)
    paths = [entry.path for entry in entries(tmp_path)]
    held = kept.fetch({"k": 1}, dict)["a"][10:20]  # a part keeps the whole
    assert in_use(paths[1]) and not in_use(paths[0])
    with FileLock(paths[2].with_suffix(".lock")):
        assert [entry.path for entry in evict(tmp_path, 0)] == [paths[0]]
    assert sorted(left(tmp_path)) == [1, 2] and (held == 0).all()
    del held
    assert len(evict(tmp_path, 0)) == 2


def test_a_clock_that_goes_back_breaks_no_order(tmp_path, monkeypatch):
    now, day = time.time_ns(), 86400 * 10**9
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: now + day)
        numbers(Store(tmp_path), n=2)
    kept = Store(tmp_path)
    kept.fetch({"k": 2}, lambda: {"a": np.zeros(1000)})
    kept.fetch({"k": 0}, dict)
    assert left(tmp_path) == [1, 2, 0] and all(entry.age == 0 for entry in entries(tmp_path))
    assert evict(tmp_path, np.inf, older=1) == []
    Store(tmp_path, 2 * entries(tmp_path)[0].size).fetch({"k": 3}, lambda: {"a": np.zeros(1000)})
    assert left(tmp_path) == [0, 3]


BOUNDS = [(None, 20e9), ("", 20e9), ("1.5", 1.5e9), ("0", 0.0), ("inf", np.inf)]


@pytest.mark.parametrize(("given", "bound"), BOUNDS + [(text, None) for text in ("much", "-1", "nan", "1 GB")])
def test_the_bound_can_be_chosen_and_one_that_is_none_is_refused(monkeypatch, given, bound):
    monkeypatch.delenv("CODI_BENCH_CACHE_MAX_GB", raising=False)
    if given is not None:
        monkeypatch.setenv("CODI_BENCH_CACHE_MAX_GB", given)
    if bound is None:
        with pytest.raises(CodiBenchError, match="CODI_BENCH_CACHE_MAX_GB.*number of gigabytes"):
            Store(Path("nowhere"))
    else:
        assert default_bound() == Store(Path("nowhere")).bound == bound


# The commands


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A function (*arguments) → what `codi-bench cache` prints; its folder is tmp_path/store."""
    monkeypatch.setenv("CODI_BENCH_CACHE", str(tmp_path))

    def run(*arguments, exit_code=0):
        result = CliRunner().invoke(cli.app, ["cache", *arguments])
        assert result.exit_code == exit_code, result.output
        return result.output

    return run


def test_ls_says_what_how_large_and_how_old(tmp_path, cache):
    assert "0 entries" in cache("ls") and not (tmp_path / "store").exists()
    Store(tmp_path / "store").fetch(KEY, lambda: {"a": np.zeros(250_000)})
    foreign = tmp_path / "store" / "foreign.safetensors"
    foreign.write_bytes(b"nothing of ours")
    os.utime(foreign, (time.time() - 3 * 86400 - 60,) * 2)
    first, second = cache("ls").splitlines()[1:3]
    assert "foreign" in first and "--" in first and "3 d ago" in first
    assert "think weights 01234567" in second and "2.000 MB" in second and " s ago" in second
    assert cache("ls").splitlines()[-1].endswith("store: 2 entries, 2.000 MB of at most 20 GB")


def test_gc_drops_by_age_then_by_size_and_says_what_went(tmp_path, cache):
    folder = tmp_path / "store"
    numbers(Store(folder), n=4, size=250_000)  # 2 MB each
    oldest = entries(folder)[0].path
    os.utime(oldest.with_suffix(".lock"), (time.time() - 10 * 86400,) * 2)
    assert "0 removed" in cache("gc") and "0 removed" in cache("gc", "--older-than", "11")
    said = cache("gc", "--older-than", "9.5")
    assert f"removed {oldest.stem[:12]}" in said and "used 10 d ago" in said and left(folder) == [1, 2, 3]
    said = cache("gc", "--max-gb", "0.005")
    assert "1 removed, 2.000 MB freed; 2 left, 4.000 MB" in said and left(folder) == [2, 3]
    held = Store(folder).fetch({"k": 2}, dict)
    assert "the rest is in use" in cache("gc", "--max-gb", "0") and left(folder) == [2] and held["a"].sum() == 0


@pytest.mark.parametrize("arguments", [["--max-gb", "-1"], ["--older-than", "-1"], ["--max-gb", "much"]])
def test_gc_refuses_what_is_no_bound(cache, arguments):
    assert arguments[0] in cache("gc", *arguments, exit_code=2)
