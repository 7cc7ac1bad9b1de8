"""Run a block in processes of its own under a limit, and write what came of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from codi_bench.store.files import package_folder, write_text

ROOT = package_folder("benchmarks").parent
H100_CLASS = re.compile(r"\b(H100|H200|GH200|B100|B200|GB200)\b")  # the devices that bars are set for
DONE, FAILED, LATE, NOT_RUN = "done", "failed", "out of time", "not run"
MET, SHORT, NOT_JUDGED, NOT_MEASURED = "met", "short", "not judged", "not measured"
Figures = dict[str, float | str]


@dataclass(frozen=True)
class Bar:
    """A figure and what it must reach on an H100-class GPU: at least (sign 1) or at most (sign -1)."""

    figure: str
    limit: float
    sign: int = 1

    def word(self, figures: Mapping[str, float | str], device: str, *, tiny: bool) -> str:
        """`met` or `short`, which only a measurement at full size on such a GPU is."""
        if tiny or not H100_CLASS.search(device):
            return NOT_JUDGED
        if self.figure not in figures:
            return NOT_MEASURED
        return MET if self.sign * float(figures[self.figure]) >= self.sign * self.limit else SHORT

    def __str__(self) -> str:
        return f"{self.figure} {'≥' if self.sign > 0 else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Block:
    """Commands that run one after the other, and what is read of the files that they leave in the block's folder.

    read: the folder and the seconds of each command → figures. codes: exit statuses that are no failure (a run that proposes
    numbers ends with 1). slices: how often a command may be stopped at the limit and started again, where it goes on from there.
    cleared: what of its folder is removed first, all by default. after: blocks whose files it reads; after one of them it is
    measured again.
    """

    name: str
    commands: Sequence[Sequence[str]]
    read: Callable[[Path, Sequence[float]], Figures]
    bars: Sequence[Bar] = ()
    codes: tuple[int, ...] = (0,)
    slices: int = 1
    cleared: str = "."
    after: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """What came of a block. environment: device, versions and code; with another one, or other options, it is measured anew."""

    block: str
    state: str
    environment: dict[str, str]
    options: dict[str, object]
    reason: str = ""
    seconds: float = 0.0
    figures: Figures = field(default_factory=dict)
    bars: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Day:
    """Where results go, the seconds that a block may take, and the environment and options that every result names."""

    out: Path
    limit: float
    environment: dict[str, str]
    options: dict[str, object]

    def result(self, block: Block) -> Result:
        """The result of a block: `not run` where its file is missing, damaged, or of other code, options, device or files."""
        file = self._file(block.name)
        try:
            result = Result(**json.loads(file.read_text(encoding="utf-8")))
            others = [other for other in map(self._file, block.after) if other.is_file()]
            is_newest = all(other.stat().st_mtime_ns <= file.stat().st_mtime_ns for other in others)
            if (result.environment, result.options) == (self.environment, self.options) and is_newest:
                return result
        except (OSError, ValueError, TypeError):
            pass
        return Result(block.name, NOT_RUN, self.environment, self.options)

    def measure(self, block: Block) -> Result:
        """Run a block and write its result, whatever comes of it."""
        folder, start = self.out / block.name, time.monotonic()
        shutil.rmtree(folder / block.cleared, ignore_errors=True)  # thoughts that are cached would take no time
        folder.mkdir(parents=True, exist_ok=True)
        figures: Figures = {}
        state, reason, seconds = self._run(block, folder)
        if state == DONE:
            try:
                figures = block.read(folder, seconds)
            except (OSError, LookupError, ValueError, TypeError) as error:
                state, reason = FAILED, f"no figures: {type(error).__name__} {error}"
        device, tiny = self.environment["device"], bool(self.options.get("tiny"))
        bars = {str(bar): bar.word(figures, device, tiny=tiny) if state == DONE else NOT_MEASURED for bar in block.bars}
        taken = round(time.monotonic() - start, 2)
        result = Result(block.name, state, self.environment, self.options, reason, taken, figures, bars)
        write_text(self._file(block.name), json.dumps(asdict(result), indent=1) + "\n")
        return result

    def _run(self, block: Block, folder: Path) -> tuple[str, str, list[float]]:
        """State, reason and the seconds of each command. The limit is of all commands together, or of each slice."""
        start, seconds = time.monotonic(), []
        for command in block.commands:
            for _ in range(block.slices):
                began = time.monotonic()
                code = run(command, folder, self.limit if block.slices > 1 else self.limit - (began - start))
                if code is not None:
                    break
            seconds.append(time.monotonic() - began)
            if code is None:
                times, mend = (f", {block.slices} times", "run it again") if block.slices > 1 else ("", "give more --minutes")
                stopped = f"{' '.join(command[2:4])} was stopped at the limit of {self.limit:.3g} s{times}"
                return LATE, f"{stopped}; {mend}", seconds
            if code not in block.codes:
                return FAILED, f"status {code}: {_last_line(folder / 'log.txt')}", seconds
        return DONE, "", seconds

    def _file(self, name: str) -> Path:
        return self.out / "results" / f"{name}.json"


def run(command: Sequence[str], folder: Path, limit: float) -> int | None:
    """The exit status of a command, or None if it was stopped at the limit in seconds, with every process that it had started.

    It runs and logs in the folder, has its cache there and uses no network.
    """
    own = {"CODI_BENCH_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    own["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        print("$", *command, file=log, flush=True)
        streams = {"stdout": log, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=folder, env=os.environ | own, start_new_session=True, **streams)
        try:
            return process.wait(max(limit, 0.0))
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if re.search(r"\w", line)), "")[:200]
