"""Draws by the thousand: each from a stream of its own, in chunks that are kept, so that a run that ends early goes on later."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import platformdirs
import torch
from scipy.stats import beta
from threadpoolctl import threadpool_limits

from benchmarks.calibration import planted
from codi_bench.audits import outcome_assessment, probe_assessment, probes
from codi_bench.measures import ablation, logistic, ridge, surface
from codi_bench.measures import grid as probe_grid
from codi_bench.rules import intervals, stats, validity
from codi_bench.rules.stats import stream
from codi_bench.store.code import code_hash
from codi_bench.store.files import write_text
from codi_bench.suite.environment import environment, versions

MEASURES = (ablation, logistic, probe_grid, ridge, surface)
AUDITOR = (*MEASURES, intervals, outcome_assessment, planted, probe_assessment, probes, stats, validity)
CHUNK = 20  # draws


@dataclass(frozen=True)
class Bar:
    """What a rate must be: low <= rate <= high, or no further from it than its exact 95 % interval reaches (by_interval).

    upper: what the upper end of that interval may be at most.
    """

    low: float = 0.0
    high: float = 1.0
    by_interval: bool = False
    upper: float = 1.0

    def met(self, rate: float, interval: tuple[float, float]) -> bool:
        low, high = interval if self.by_interval else (rate, rate)
        return low <= self.high and high >= self.low and interval[1] <= self.upper

    def __str__(self) -> str:
        bounds = [f"at least {self.low:g}"] * (self.low > 0) + [f"at most {self.high:g}"] * (self.high < 1)
        return (
            " and ".join(bounds)
            + (", or its exact 95 % interval reaches there" if self.by_interval else "")
            + (f", upper bound at most {self.upper:g}" if self.upper < 1 else "")
        )


def within(low: float, high: float, margin: float) -> Bar:
    """A range of docs/verdicts.md, section 5, that much wider either way."""
    return Bar(round(low - margin, 4), round(high + margin, 4))


@dataclass(frozen=True)
class Rate:
    """How many of the draws did it, and the bar for that; None: told for its own sake."""

    what: str
    hits: int
    draws: int
    bar: Bar | None = None

    def as_dict(self) -> dict:
        low, high = exact(self.hits, self.draws)
        judged = {} if self.bar is None else {"bar": str(self.bar), "met": self.bar.met(self.hits / self.draws, (low, high))}
        return {"hits": self.hits, "draws": self.draws, "rate": self.hits / self.draws, "low": low, "high": high, **judged}


@dataclass(frozen=True)
class Case:
    """One kind of data under one kind of audit.

    draw(rng, **settings): one row of a JSON table, its `word` what the auditor said. settings: all that the draws depend on
    besides their stream. judge(rows, settings): rates of what happened. means: columns whose mean is worth telling.
    """

    name: str
    draw: Callable[..., dict]
    settings: dict
    judge: Callable[[list[dict], dict], list[Rate]]
    means: tuple[str, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """draws: of each case; least: fewer prove nothing. prepare(settings): the settings completed, once, before the draws."""

    name: str
    about: str
    cases: tuple[Case, ...]
    draws: int
    least: int
    prepare: Callable[[dict], dict] = dict


def exact(hits: int, draws: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a rate."""
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, draws - hits + 1)) if hits else 0.0
    return low, float(beta.isf(tail, hits + 1, draws - hits)) if hits < draws else 1.0


# --- draws -----------------------------------------------------------------------------------------------------------


def rows_of(name: str, case: str, draw: Callable[..., dict], settings: dict, first: int, end: int) -> list[dict]:
    """Draws first..end - 1; what a draw is depends on names, settings and its index alone."""
    return [draw(stream(0, "calibration", name, case, str(index)), **settings) for index in range(first, end)]


def tally(calibration: Calibration, draws: int) -> dict[str, dict]:
    """All cases with few draws, here and now: what a run records of them, by name."""
    found = {}
    for case in calibration.cases:
        settings = calibration.prepare(case.settings)
        found[case.name] = recorded(case, settings, rows_of(calibration.name, case.name, case.draw, settings, 0, draws))
    return found


def recorded(case: Case, settings: dict, rows: list[dict]) -> dict:
    """Settings, words and rates of a case."""
    return {
        "settings": settings,
        "draws": len(rows),
        "counts": dict(sorted(Counter(row["word"] for row in rows).items(), key=lambda pair: -pair[1])),
        "rates": {rate.what: rate.as_dict() for rate in case.judge(rows, settings)},
        "means": {key: float(np.mean([row[key] for row in rows])) for key in case.means},
    }


def run(calibration: Calibration, *, pool, out: Path, work: Path, draws: int | None = None, until: float = np.inf) -> dict:
    """All cases, and the record `out/<name>.json`; after the time `until` no chunk is begun, and the record has fewer draws.

    Chunks are kept in `work` under a hash of settings and code, and never drawn twice. pool: see `processes`.
    """
    draws, start, cases = draws or calibration.draws, time.time(), {}
    for case in calibration.cases:
        settings, rows = calibration.prepare(case.settings), []
        for chunk in _chunks(pool, calibration.name, case, settings, work, draws, until):
            rows += chunk
            _say(calibration.name, case, rows, draws, start)
        if rows:
            cases[case.name] = recorded(case, settings, rows)
    record = record_of(calibration, cases)
    write_text(out / f"{calibration.name}.json", json.dumps(record, indent=1) + "\n")
    return record


def record_of(calibration: Calibration, cases: dict[str, dict]) -> dict:
    """What is committed of a calibration; `met`: every case has draws enough and meets its bars."""
    complete = cases.keys() == {case.name for case in calibration.cases}
    enough = complete and all(case["draws"] >= calibration.least for case in cases.values())
    return {
        "name": calibration.name,
        "about": calibration.about,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "environment": environment("cpu", "float32").model_dump() | versions() | {"threads": "1"},  # of each process
        "code": code_hash(*AUDITOR),
        "least": calibration.least,
        "met": enough and all(rate.get("met", True) for case in cases.values() for rate in case["rates"].values()),
        "cases": cases,
    }


def work_folder() -> Path:
    """Where chunks are kept: in the user's cache folder, or in $CODI_BENCH_CACHE."""
    return Path(os.environ.get("CODI_BENCH_CACHE") or platformdirs.user_cache_dir("codi-bench")) / "calibration"


def processes(number: int = 2) -> ProcessPoolExecutor:
    """Where draws are made, on one thread each; how many there are changes no result."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when a process starts
    return ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), initializer=_start)


def _chunks(pool, name: str, case: Case, settings: dict, work: Path, draws: int, until: float) -> Iterator[list[dict]]:
    key = json.dumps([settings, code_hash(*AUDITOR, sys.modules[case.draw.__module__])], sort_keys=True)
    folder = work / name / f"{case.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    ranges = [(first, min(first + CHUNK, draws)) for first in range(0, draws, CHUNK)]
    missing = []
    for first, end in ranges:
        part = _part(folder, first, end)
        if part.is_file():
            yield json.loads(part.read_text())
        else:
            missing.append((first, end))
    waiting, jobs = {}, iter(missing)
    while True:
        while len(waiting) < 4 and time.time() < until and (job := next(jobs, None)):
            waiting[pool.submit(rows_of, name, case.name, case.draw, settings, *job)] = job
        if not waiting:
            return
        for done in wait(waiting, return_when=FIRST_COMPLETED).done:
            part, rows = _part(folder, *waiting.pop(done)), done.result()
            write_text(part, json.dumps(rows) + "\n")
            yield rows


def _part(folder: Path, first: int, end: int) -> Path:
    return folder / f"{first:06d}-{end:06d}.json"


def _start() -> None:
    torch.set_num_threads(1)
    threadpool_limits(limits=1)


def _say(name: str, case: Case, rows: Sequence[dict], draws: int, start: float) -> None:
    words = ", ".join(f"{word} {count}" for word, count in Counter(row["word"] for row in rows).most_common(4))
    print(f"{name}, {case.name}: {len(rows)} of {draws} draws, {time.time() - start:.0f} s; {words}", file=sys.stderr, flush=True)
