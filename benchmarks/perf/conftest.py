"""The fixture `speed`: times a job and its reference in turn, and compares their ratio with what is recorded for this machine.

With `--update-baselines` the same run is done RUNS - 1 times more, each in a process of its own, and what all found is proposed.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from codi_bench.errors import CodiBenchError
from codi_bench.plugin.options import given, strict
from codi_bench.records import speed as perf
from codi_bench.records.baseline import strict_text
from codi_bench.rules.reproduction import Outcome, Regression
from codi_bench.store.files import package_folder, write_text
from codi_bench.suite.environment import available, environment

from .timing import timed

HERE = Path(__file__).parent
RATIOS = Path("perf", "ratios.json")  # below the report: log-ratios of each round, by benchmark


@dataclass
class Run:
    """One run: all benchmarks that there are, whether asked for or not, what other processes measured, and what this one did."""

    benchmarks: set[str]
    whole: bool  # was every file of this folder collected?
    others: list[dict[str, list[float]]] = field(default_factory=list)
    measured: dict[str, list[float]] = field(default_factory=dict)
    proposed: perf.Speeds = field(default_factory=lambda: perf.Speeds(schema=1))
    lines: list[str] = field(default_factory=list)


RUN = pytest.StashKey[Run]()


def pytest_addoption(parser):
    """Of a run on this folder alone: pytest asks only the files that are named for options."""
    group = parser.getgroup("codi-bench perf")
    group.addoption("--perf-runs", type=int, metavar="N", help=f"processes that --update-baselines measures in ({perf.RUNS})")
    group.addoption("--tiny", action="store_true", help="full-size shapes of a few thousand weights, to try the commands")


def runs_of(config) -> int:
    """The processes that a proposed ratio is pooled from; their spread needs two."""
    return max(2, config.getoption("perf_runs", None) or perf.RUNS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Before -k and -m leave any out."""
    here = [item for item in items if item.path.parent == HERE]
    whole = {item.path for item in here} == set(HERE.glob("test_*.py")) and not any("::" in each for each in config.args)
    config.stash[RUN] = Run({item.name for item in here if "speed" in item.fixturenames}, whole)


def pytest_collection_finish(session):
    """Under `--update-baselines`: the same run in other processes first."""
    config = session.config
    timed = any("speed" in item.fixturenames for item in session.items if item.path.parent == HERE)
    if not timed or not given(config).update_baselines or config.option.collectonly or hasattr(config, "workerinput"):
        return
    report, terminal = Path(given(config).report), config.pluginmanager.getplugin("terminalreporter")
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > os.cpu_count() / 2:
        terminal.write_line(f"speed: the machine is busy (load {load:.1f}): what is measured now may not hold on a quiet one")
    arguments = [str(each) for each in config.invocation_params.args if each != "--update-baselines"]
    for k in range(1, runs_of(config)):
        folder, start = (report / "perf" / f"run-{k}").absolute(), time.perf_counter()
        (folder / RATIOS).unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", *arguments, "--report", str(folder)]
        done = subprocess.run(command, cwd=config.invocation_params.dir, capture_output=True, text=True, check=False)
        write_text(folder / "output.txt", done.stdout + done.stderr)
        config.stash[RUN].others.append(json.loads((folder / RATIOS).read_text()) if (folder / RATIOS).is_file() else {})
        terminal.write_line(f"speed: run {k} of {runs_of(config)} took {time.perf_counter() - start:.0f} s")


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash[RUN].lines if RUN in config.stash else ():
        terminalreporter.write_line(line)


class Speed:
    """The ratio of one benchmark: reference and job take turns, so that a slow phase of the machine meets both."""

    def __init__(self, name: str, benchmark, config, recorded: perf.Speeds):
        self.name, self.benchmark, self.config, self.recorded = name, benchmark, config, recorded
        self.seconds: list[float] = []
        self.log_ratios: list[float] = []

    def rounds(self, job, reference, *, share=1.0, rounds=5, warmup=1, beside: Callable = lambda: None, device="cpu"):
        """What job and reference gave in the last round. share: of the job, what the reference does; beside: run before each."""
        jobs, references = [], []

        def setup():
            beside()
            references.append(timed(reference, device))

        self.benchmark.pedantic(lambda: jobs.append(timed(job, device)), setup=setup, rounds=rounds, warmup_rounds=warmup)
        self.seconds = [seconds for seconds, _ in jobs[warmup:]]
        slow = [seconds / share for seconds, _ in references[warmup:]]
        self.log_ratios = [math.log(one / other) for one, other in zip(slow, self.seconds)]
        self.benchmark.extra_info.update(ratio=self.ratio, log_ratios=self.log_ratios, threads=torch.get_num_threads())
        return jobs[-1][1], references[-1][1]

    @property
    def ratio(self) -> float:
        return math.exp(perf.of_run(self.log_ratios))

    def assert_holds(self, *, work: str, device: str = "cpu", dtype: str = "float32"):
        """Fails where the ratio fell, or is merely proposed; UNCHECKED, a skip, where nothing is recorded for this machine."""
        run, report, here = self.config.stash[RUN], Path(given(self.config).report), self.machine(device, dtype)
        run.measured[self.name] = self.log_ratios
        write_text(report / RATIOS, json.dumps(run.measured, indent=1, sort_keys=True) + "\n")
        held = self.recorded.of(here).get(self.name)
        if given(self.config).update_baselines:
            ratio = perf.pooled([self.log_ratios, *self.elsewhere()], work)
            run.proposed = run.proposed.having(here, {self.name: ratio})
            write_text(report / "proposals" / perf.FILE, strict_text(run.proposed))
            line = perf.speed_line(self.name, perf.judge(held, ratio.ratio, work))
            pytest.fail(f"{line}: proposed, not accepted: `codi-bench baselines diff`, then `accept`", pytrace=False)
        self.judged(perf.judge(held, self.ratio, work))

    def judged(self, found: Outcome):
        """DRIFTED fails, UNCHECKED skips and under --strict fails; the line is shown when the run ends."""
        line = perf.speed_line(self.name, found)
        self.config.stash[RUN].lines.append(line)
        if found.word == Regression.DRIFTED or (found.word == Regression.UNCHECKED and strict(self.config)):
            pytest.fail(line, pytrace=False)
        if found.word == Regression.UNCHECKED:
            pytest.skip(line)

    def machine(self, device: str, dtype: str) -> perf.Machine:
        """This machine, as the key of a ratio."""
        around = environment(device, dtype).model_dump()
        processor = self.config.hook.pytest_benchmark_generate_machine_info(config=self.config)["cpu"]
        name = processor.get("brand_raw", platform.machine())
        return perf.Machine(**around, processor=name, cores=os.cpu_count(), threads=torch.get_num_threads())

    def elsewhere(self) -> list[list[float]]:
        """What the other processes measured of this benchmark."""
        others = self.config.stash[RUN].others
        missing = [str(k) for k, other in enumerate(others, 1) if self.name not in other]
        if missing:
            where = Path(given(self.config).report) / "perf" / f"run-{missing[0]}" / "output.txt"
            pytest.fail(f"{self.name}: no ratio from process {', '.join(missing)}; see {where}", pytrace=False)
        return [other[self.name] for other in others]


@pytest.fixture(scope="session")
def recorded(request) -> perf.Speeds:
    """What is recorded of all machines; a damaged file is red here, before anything is timed."""
    config = request.config
    try:
        held = perf.load_speeds(Path(given(config).baselines or package_folder("baselines")))
    except CodiBenchError as error:
        pytest.fail(str(error), pytrace=False)
    here = {environment(device, "float32").device for device in ("cpu", "cuda") if available(device)}
    config.stash[RUN].lines += perf.not_run(held, here)
    return held


@pytest.fixture
def every_benchmark(request) -> set[str]:
    """The names of all benchmarks, whether asked for or not; known only where all files of this folder were collected."""
    run = request.config.stash[RUN]
    return run.benchmarks if run.whole else pytest.skip("only part of benchmarks/perf was collected")


@pytest.fixture
def speed(request, benchmark, recorded) -> Speed:
    """The ratio of this benchmark. Workers side by side, and a disabled pytest-benchmark, time nothing: UNCHECKED."""
    found = Speed(request.node.name, benchmark, request.config, recorded)
    if benchmark.disabled:
        found.judged(Outcome(Regression.UNCHECKED, "pytest-benchmark is disabled, as it is under -n"))
    return found
