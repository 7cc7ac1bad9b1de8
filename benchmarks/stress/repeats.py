"""Runs of `pytest benchmarks` in random order, over batch sizes, threads and workers: is every number the same each time?"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from codi_bench.records.baseline import load_baseline, record_key
from codi_bench.records.tolerance import DETERMINISTIC
from codi_bench.rules.stats import stream
from codi_bench.store.arrays import read_metadata
from codi_bench.store.cache import entries
from codi_bench.store.files import package_folder

from .door import Door
from .records import kept

EMPTY, THOUGHTS, FULL = "empty", "thoughts anew", "full"
THINKING = ("think", "effects", "answer")  # what an entry of the store says it is, where a model was asked
KEY = ("claim", "model", "protocol", "metric")
OUTCOMES = ("detail", "outcomes")  # which problems were right, packed


@dataclass(frozen=True)
class Setting:
    """What must change nothing. cache: EMPTY, or that of the run before with so many threads, without its THOUGHTS or FULL."""

    batch_size: int
    threads: int
    workers: int = 0
    cache: str = THOUGHTS

    def __str__(self) -> str:
        parallel = f", -n {self.workers}" if self.workers else ""
        return f"batch size {self.batch_size}, threads {self.threads}{parallel}, cache: {self.cache}"


SETTINGS = (
    *(Setting(64, threads, cache=EMPTY) for threads in (2, 1)),
    *(Setting(batch_size, threads) for batch_size in (16, 1) for threads in (2, 1)),
    *(Setting(64, threads) for threads in (2, 1, 2)),
    Setting(64, 2, cache=FULL),
    Setting(64, 1, workers=4),
)


@dataclass(frozen=True)
class Compared:
    """Two runs: rows of both, how many of them are equal to the last bit, and what may not be.

    largest, largest_beside: difference of a number, and of one in `detail`.
    """

    rows: int
    identical: int
    largest: float
    largest_beside: float
    faults: list[str]


def repeats(work: Path, settings: Sequence[Setting] = SETTINGS, arguments: Sequence[str] = ()) -> dict:
    """One run a setting, each in an order of its own and compared with the first. arguments: beside the tests' names."""
    names = kept(work / "names.json", lambda: {"names": collected(work, arguments)})["names"]
    first, runs = None, []
    for index, setting in enumerate(settings):
        cache = (
            work / f"cache-{setting.threads}"
        )  # probes and SAEs are kept by what they are given: other thoughts, other entries
        door = Door(work / f"run-{index}", _arguments(names, index, setting, arguments), setting.threads, cache)
        step = kept(work / f"{index}.json", partial(_run, door, setting.cache))
        first = first or door.rows()
        compared = compare(first, door.rows())
        faults = [f"{setting}: {fault}" for fault in (*step["faults"], *compared.faults)]
        runs.append({"setting": str(setting), **step, **asdict(compared), "faults": faults})
    return {
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        **{f"runs, cache {cache}": sum(setting.cache == cache for setting in settings) for cache in (EMPTY, THOUGHTS, FULL)},
        "tests": len(names),
        "rows": max(run["rows"] for run in runs),
        "identical": min(run["identical"] for run in runs),
        **{name: max(run[name] for run in runs) for name in ("largest", "largest_beside")},
        "runs": runs,
        "faults": [fault for run in runs for fault in run["faults"]],
    }


def collected(work: Path, arguments: Sequence[str]) -> list[str]:
    """The names of the tests of a run, as arguments from any folder."""
    work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "codi_bench.cli", "run", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    said = subprocess.run(command, cwd=work, capture_output=True, text=True, check=True).stdout
    return [f"benchmarks/{line.rpartition('benchmarks/')[2]}" for line in said.splitlines() if "::" in line]


def _arguments(names: Sequence[str], index: int, setting: Setting, arguments: Sequence[str]) -> tuple[str, ...]:
    order = stream(0, "stress", "repeats", str(index)).permutation(len(names))
    parallel = ("-n", str(setting.workers)) if setting.workers else ()
    return (*(names[i] for i in order), "--batch-size", str(setting.batch_size), *parallel, *arguments)


def _run(door: Door, cache: str) -> dict:
    if cache == EMPTY:
        shutil.rmtree(door.cache, ignore_errors=True)
    for entry in entries(door.cache / "store") if cache == THOUGHTS else ():
        if json.loads(read_metadata(entry.path)["key"])["what"] in THINKING:
            entry.path.unlink()
    found = door.run()
    faults = [] if found["exit"] == 0 else [f"exit {found['exit']}: see {door.folder / 'said.txt'}"]
    return {"exit": found["exit"], "faults": faults}


def compare(first: Sequence[dict], second: Sequence[dict]) -> Compared:
    """Rows of two results files: words equal, numbers within the stored deterministic tolerance, and none that one side lacks.

    Numbers of `detail` have no tolerance: what they differ by is told. Texts there and `reason` repeat numbers.
    """
    one, other = ({tuple(row[name] for name in KEY): row for row in rows} for rows in (first, second))
    faults = [f"{' '.join(key)}: only one run has it" for key in sorted(one.keys() ^ other.keys())]
    both, moved, moved_beside = sorted(one.keys() & other.keys()), [0.0], [0.0]
    for key in both:
        a, b, tolerance = dict(_leaves(one[key])), dict(_leaves(other[key])), _tolerance(*key)
        faults += [f"{' '.join(key)}: only one run has {'.'.join(path)}" for path in sorted(a.keys() ^ b.keys())]
        for path in a.keys() & b.keys():
            where = f"{' '.join(key)}: {'.'.join(path)} was {a[path]} and is {b[path]}"
            if a[path] == b[path] or path[0] == "reason":
                continue
            if not all(isinstance(each, int | float) for each in (a[path], b[path])):
                faults += [where] * (path[0] != "detail" or path == OUTCOMES)
            elif path[0] == "detail":
                moved_beside.append(abs(a[path] - b[path]))
            else:
                moved.append(abs(a[path] - b[path]))
                faults += [where] * (path[0] not in ("measured", "null") or not moved[-1] <= tolerance)
    identical = sum(one[key] == other[key] for key in both)
    return Compared(len(both), identical, max(moved), max(moved_beside), faults)


def _leaves(value, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every text, number and null of a row, and where it stands."""
    if isinstance(value, dict | list):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(each, (*path, str(name)))
    else:
        yield path, value


def _tolerance(claim: str, model: str, protocol: str, metric: str) -> float:
    """The stored deterministic tolerance; rounding where nothing is recorded."""
    stored = load_baseline(package_folder("baselines"), model, claim).tolerance.get(record_key(protocol, metric))
    return stored.deterministic if stored else DETERMINISTIC
