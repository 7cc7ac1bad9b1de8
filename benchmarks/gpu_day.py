"""Everything that waits for a GPU, in one go: blocks with a limit of their own, each a file with its result; run it again to go on.

    tox -e gpu-day                                                      on a machine with a GPU
    tox -e gpu-day -- --problems gsm8k=test.jsonl --train train.jsonl   with GSM8K's files, since such machines have no network
    tox -e gpu-day -- --tiny --device cpu                               the same commands on tiny shapes, in a minute

A block that has its result from this code on this device is not measured again. One that fails or runs out of time is recorded with
its reason, and the next one goes on. Nothing is accepted: what is measured lies in DIR/proposals (docs/nightly.md).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table

from codi_bench.report.console import printed, terminal_console
from codi_bench.store.files import file_hash, open_log, package_folder, write_text

ROOT = package_folder("benchmarks").parent
PYTHON = (sys.executable, "-m")
CODI_BENCH, PARTS = (*PYTHON, "codi_bench.cli"), (*PYTHON, "benchmarks.gpu_parts")
MINUTES, SLICES = 9.5, 12  # a block may take, and a training may take of such pieces
H100_CLASS = re.compile(r"\b(H100|H200|GH200|B100|B200|GB200)\b")  # what the bars are set for
DONE, FAILED, LATE, MISSING = "done", "failed", "out of time", "not run"
# The curriculum of the adapter: sets of `codi-bench problems` with their sizes, easy ones first; GSM8K's own file comes last.
PHASES = (("generated", 20_000), ("gsm-symbolic", 40_000))
TINY_PHASES = (("generated", 24),)
ADAPTER = "smollm2-135m"


@dataclass(frozen=True)
class Bar:
    """A figure and what it must reach on an H100-class GPU: at least (sign 1) or at most (sign -1)."""

    figure: str
    least: float
    sign: int = 1

    def word(self, figures: dict[str, float], device: str, tiny: bool) -> str:
        """`met` and `short` are said of measurements on such a GPU at full size alone."""
        if tiny or not H100_CLASS.search(device):
            return "not judged"
        if self.figure not in figures:
            return "not measured"
        return "met" if self.sign * figures[self.figure] >= self.sign * self.least else "short"

    def __str__(self) -> str:
        return f"{self.figure} {'≥' if self.sign > 0 else '≤'} {self.least:g}"


@dataclass(frozen=True)
class Block:
    """Commands that run one after the other, and what is read of the files that they leave in the block's folder.

    codes: exit statuses that are no failure (a run that proposes numbers ends with 1). slices: how often it may be stopped and
    started again, where its commands go on where they were. read: a folder and the seconds of each command → figures.
    """

    name: str
    commands: Sequence[Sequence[str]]
    read: Callable[[Path, list[float]], dict[str, float | str]]
    bars: Sequence[Bar] = ()
    codes: tuple[int, ...] = (0,)
    slices: int = 1


@dataclass(frozen=True)
class Result:
    """What one block gave. identity: of code, device and options; another one is no result of this day."""

    block: str
    state: str
    identity: str
    environment: dict[str, str]
    reason: str = ""
    seconds: float = 0.0
    figures: dict[str, float | str] = field(default_factory=dict)
    bars: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Day:
    """Where results go, what was asked for, and the environment that every result names."""

    out: Path
    tiny: bool
    limit: float
    environment: dict[str, str]
    identity: str

    def result(self, block: Block) -> Result:
        """The result of a block of this code, device and options; one without, or with a damaged file, is not run."""
        try:
            result = Result(**json.loads((self.out / "results" / f"{block.name}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            result = None
        if result is None or result.identity != self.identity:
            return Result(block.name, MISSING, self.identity, self.environment)
        return result

    def measure(self, block: Block) -> Result:
        """Run a block and write its result, whatever comes of it."""
        folder, start, seconds = self.out / block.name, time.monotonic(), []
        if block.slices == 1:
            shutil.rmtree(folder, ignore_errors=True)  # thoughts that are cached would take no time
        folder.mkdir(parents=True, exist_ok=True)
        state, reason, figures = DONE, "", {}
        for command in block.commands:
            for _ in range(block.slices):
                left = self.limit if block.slices > 1 else self.limit - (time.monotonic() - start)
                began = time.monotonic()
                code = run(command, folder, left)
                if code is not None:
                    break
            seconds.append(time.monotonic() - began)
            if code is None:
                state, reason = LATE, f"{command[2:4]} was stopped after {self.limit:.3g} s"
            elif code not in block.codes:
                state, reason = FAILED, f"status {code}: {last_line(folder / 'log.txt')}"
            if state != DONE:
                break
        if state == DONE:
            try:
                figures = block.read(folder, seconds)
            except (OSError, LookupError, ValueError, TypeError) as error:
                state, reason = FAILED, f"no figures: {type(error).__name__} {error}"
        device = self.environment["device"]
        bars = {str(bar): bar.word(figures, device, self.tiny) if state == DONE else "not measured" for bar in block.bars}
        taken = time.monotonic() - start
        result = Result(block.name, state, self.identity, self.environment, reason, taken, figures, bars)
        write_text(self.out / "results" / f"{block.name}.json", json.dumps(asdict(result), indent=1) + "\n")
        return result


def run(command: Sequence[str], folder: Path, limit: float) -> int | None:
    """The exit status of a command, or None if it was stopped, with every process that it had started, at the limit in seconds."""
    cache, offline = {"CODI_BENCH_CACHE": str(folder / "cache")}, {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        print("$", *command, file=log, flush=True)
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **cache, **offline}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(max(limit, 0.0))
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if re.search(r"\w", line)), "")[:200]


# What is read of a block's folder


def facts(folder: Path, _seconds: list[float]) -> dict[str, float | str]:
    text = (folder / "log.txt").read_text(encoding="utf-8")
    findings = json.JSONDecoder().raw_decode(text[text.index("\n{") + 1 :])[0]["findings"]
    devices = {finding["name"]: finding["text"] for finding in findings if finding["part"] == "devices"}
    return devices | {"broken": ", ".join(finding["name"] for finding in findings if finding["state"] == "broken") or "nothing"}


def rows(folder: Path, seconds: list[float]) -> dict[str, float | str]:
    """How many numbers of a run have which word, and how long its last command took."""
    table = json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"]
    words = [row["regression"] or row["status"] if row["status"] == "ok" else row["status"] for row in table]
    return {"seconds": round(seconds[-1], 2)} | {word: words.count(word) for word in sorted({*words})}


def shape(folder: Path, _seconds: list[float]) -> dict[str, float | str]:
    (path,) = (folder / "perf").glob("full-size-*.json")
    return json.loads(path.read_text(encoding="utf-8"))["figures"]


def probes(folder: Path, _seconds: list[float]) -> dict[str, float | str]:
    return json.loads((folder / "probes.json").read_text(encoding="utf-8"))


def training(folder: Path, _seconds: list[float]) -> dict[str, float | str]:
    lines = (folder / "work" / "loss.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(lines[-1])


def proposals(folder: Path, _seconds: list[float]) -> dict[str, float | str]:
    return {"proposals": len([*folder.parent.glob("proposals/*/*.json")])}


# The blocks, in order


def blocks(options: argparse.Namespace, out: Path) -> list[Block]:
    device, tiny = options.device, ["--tiny"] * options.tiny
    study = (*CODI_BENCH, "run", "-m", "study", "--device", device)
    small = ("--claim", "size", "--claim", "task-accuracy", "--n", "20") if options.tiny else ()

    def of(name: str) -> tuple[str, ...]:
        return "--report", str(out / name)

    def passed(model: str) -> list[str]:
        """What was given for a model."""
        bases = [value for value in options.base if value.startswith(f"{model}=")]
        values = {"--base": bases, "--problems": options.problems}
        return [word for flag in values for value in values[flag] for word in (flag, value)]

    def at_full_size(name: str, mini: str, minutes: float) -> Block:
        """The study on the given checkpoint of that name, or on an embedded model in its size."""
        given = [value for value in options.model if value.startswith(f"{name}=")]
        block, folder = f"study-{name}", out / f"study-{name}" / f"{name}-size"
        if given:
            commands = [(*study, "--model", given[0], *passed(name), "--n", "1000", *of(block))]
        else:
            many = small or ("--n", "1000", "--batch-size", "256")
            make = (*PARTS, "enlarge", mini, str(folder), *tiny)
            commands = [make, (*study, "--model", f"{name}-size={folder}", *many, *of(block))]
        return Block(block, commands, rows, [Bar("seconds", 60 * minutes, -1)], codes=(0, 1))

    def full_size(name: str, bars: Sequence[Bar]) -> Block:
        """Ratios and seconds of the full-size benchmark, and its ratio as a proposal."""
        block = f"shape-{name}"
        select = ("benchmarks/perf/test_full_size.py", "-m", "perf", "-k", f"{name}]", "--device", device, "--update-baselines")
        command = (*CODI_BENCH, "run", *select, "--perf-runs", "2" if options.tiny else "3", *tiny, *passed(name))
        return Block(block, [(*command, *of(block))], shape, bars, codes=(0, 1))

    pair = (*study, *(word for name in ("gpt2-mini", "llama-mini") for word in ("--model", name)), *small)
    return [
        Block("facts", [(*CODI_BENCH, "doctor", "--json")], facts, codes=(0, 1)),
        Block("pair", [(*pair, "--update-baselines", *of("pair"))], rows, codes=(0, 1)),
        full_size("gpt2", [Bar("seconds", 10, -1), Bar("ratio", 100)]),
        full_size("llama-3.2-1b", [Bar("seconds", 30, -1)]),
        at_full_size("gpt2", "gpt2-mini", 1),
        at_full_size("llama-3.2-1b", "llama-mini", 3),
        Block("probes", [(*PARTS, "probes", str(out / "probes"), "--device", device, *tiny)], probes),
        *adapter(options, out),
        Block("records", [(*PARTS, "gather", str(out)), (*CODI_BENCH, "baselines", "diff", "--report", str(out))], proposals),
    ]


def adapter(options: argparse.Namespace, out: Path) -> list[Block]:
    """Train the adapter over SmolLM2, unless it is there already."""
    from codi_bench.models.registry import REGISTRY

    if ADAPTER in REGISTRY and not options.tiny:
        return []
    folder = out / "training"
    phases = [(name, str(n), folder / f"{name}.jsonl") for name, n in (TINY_PHASES if options.tiny else PHASES)]
    commands = [
        (*CODI_BENCH, "problems", name, "--n", n, "--split", "train", "--out", str(file)) for name, n, file in phases
    ]
    files = [file for *_, file in phases] + [Path(file).absolute() for file in options.train]
    train = (*CODI_BENCH, "train", ADAPTER, "--format", "adapter", "--device", options.device)
    if options.tiny:
        commands.append((*PARTS, "base", str(folder / "base")))
        train = (*train, "--base", str(folder / "base"), "--steps", "2", "--batch-size", "2", "--accumulate", "1")
    where = ("--work", str(folder / "work"), "--out", str(folder / "adapter"))
    commands += [(*train, *(word for file in files for word in ("--problems", str(file))), *where)]
    return [Block("training", commands, training, slices=SLICES)]


# The day


def environment(device: str) -> dict[str, str]:
    """Device, versions, instructions and driver."""
    import torch

    from codi_bench.suite import environment as here

    found = here.environment(device, "float32").model_dump() | here.versions() | {"cuda": str(torch.version.cuda)}
    driver = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which(driver[0]):
        found["driver"] = subprocess.run(driver, capture_output=True, text=True, check=False).stdout.strip()
    files = sorted(path for name in ("codi_bench", "benchmarks") for path in (ROOT / name).rglob("*.py"))
    return {name: str(value) for name, value in found.items()} | {"code": file_hash(*files)}


def summary(blocks: Sequence[Block], day: Day) -> str:
    """One screen: block, state, minutes, key figures, bars."""
    table = Table("block", "state", "seconds", "figures", "bar", box=None, pad_edge=False)
    for block in blocks:
        result = day.result(block)
        figures = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.figures.items()]
        bars = "\n".join(f"{bar}: {word}" for bar, word in result.bars.items())
        table.add_row(block.name, result.state, f"{result.seconds:.0f}", result.reason or ", ".join(figures[:6]), bars)
    console = terminal_console()
    console.print(table)
    return printed(console)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gpu_day", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", help="where to measure: cuda, cuda:N, or cpu to try the commands")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes and few problems: nothing is judged")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for all results (default: report/gpu-day, or -tiny)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"limit of a block (default: {MINUTES:g})")
    parser.add_argument("--only", action="append", default=[], metavar="BLOCK", help="only this block; repeatable")
    for name, what in (("model", "checkpoint"), ("base", "its base"), ("problems", "problem set")):
        parser.add_argument(f"--{name}", action="append", default=[], metavar="NAME=PATH", help=f"{what}, as of codi-bench run")
    parser.add_argument("--train", action="append", default=[], metavar="FILE", help="problems to train on last: GSM8K's train split")
    options = parser.parse_args(arguments)
    out = (options.out or Path("report", "gpu-day-tiny" if options.tiny else "gpu-day")).absolute()
    day_blocks, here = blocks(options, out), environment(options.device)
    given = {name: value for name, value in vars(options).items() if name in ("tiny", "model", "base", "problems", "train")}
    day = Day(out, options.tiny, 60 * options.minutes, here, json.dumps({"environment": here, **given}, sort_keys=True))
    if wrong := {*options.only} - {block.name for block in day_blocks}:
        parser.error(f"no block {', '.join(sorted(wrong))}: use {', '.join(block.name for block in day_blocks)}")
    for block in day_blocks:
        if day.result(block).state != DONE and (not options.only or block.name in options.only):
            result = day.measure(block)
            print(f"{block.name}: {result.state} in {result.seconds:.0f} s {result.reason}", file=sys.stderr)
    print(summary(day_blocks, day), end="")
    return 0 if all(day.result(block).state == DONE for block in day_blocks) else 1


if __name__ == "__main__":
    sys.exit(main())
