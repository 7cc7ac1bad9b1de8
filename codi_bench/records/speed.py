"""Speed as a recorded number: how many times faster a job is than its reference, timed alternately in the same run.

Such a ratio depends on the machine, so a record is valid on one machine only. Its noise is measured:
`--update-baselines` measures every ratio in RUNS processes, and their spread sets the tolerance.

Only a fall is DRIFTED. A rise breaks nothing, and a red test that needs no repair teaches people to ignore red. A rise is
reported, since otherwise the gain could be lost again unnoticed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from codi_bench.errors import BaselineError
from codi_bench.records.baseline import Environment, Strict, read_strict
from codi_bench.rules.reproduction import Outcome, Regression, regression_value

FILE = Path("_perf", "ratios.json")  # below a folder of baselines
SPREADS = 4  # of the log-ratio between runs, in a tolerance (docs/verdicts.md, section 4)
PROPOSE = "run `pytest benchmarks/perf -m perf --update-baselines`"
RUNS = 10  # ten runs say the spread well enough: by chance a normal log-ratio falls 4 of them in 0.2 % of nights


class Machine(Environment):
    """The machine: what a ratio may depend on besides the two implementations."""

    processor: str
    cores: int = Field(ge=1)
    threads: int = Field(ge=1, description="of PyTorch")


class Ratio(Strict):
    """An accepted ratio. The spreads are standard deviations of its logarithm, so they are relative."""

    ratio: float = Field(gt=0, allow_inf_nan=False)
    work: str = Field(description="what is timed on both sides: other work has another ratio")
    runs: int = Field(ge=2)
    repeats: int = Field(ge=2, description="in each run")
    spread_of_repeats: float = Field(ge=0, allow_inf_nan=False)
    spread_of_runs: float = Field(ge=0, allow_inf_nan=False)
    tolerance: float = Field(ge=0, allow_inf_nan=False, description="how far the logarithm may fall")
    why: str = Field(description="that tolerance")
    date: str
    reason: str


class Ratios(Strict):
    """The ratios of one machine, by the name of their benchmark."""

    machine: Machine
    ratios: dict[str, Ratio]


class Speeds(Strict):
    """The file of ratios: one entry per machine."""

    format: Literal[1] = Field(1, alias="schema")
    recorded: list[Ratios] = Field(default_factory=list)

    def of(self, machine: Machine) -> dict[str, Ratio]:
        """The records of exactly this machine, by benchmark."""
        return {name: ratio for entry in self.recorded if entry.machine == machine for name, ratio in entry.ratios.items()}

    def having(self, machine: Machine, ratios: dict[str, Ratio]) -> Speeds:
        """A copy with these ratios of a machine; its other ratios and other machines are unchanged."""
        rest = [entry for entry in self.recorded if entry.machine != machine]
        own = Ratios(machine=machine, ratios=self.of(machine) | ratios)
        return Speeds(schema=1, recorded=sorted([*rest, own], key=lambda entry: str(entry.machine)))


def load_speeds(baselines: Path) -> Speeds:
    """The recorded ratios of a baselines folder, none if it has no file. Raises BaselineError, naming file and field."""
    if not baselines.is_dir():
        raise BaselineError(f"{baselines}: no such folder; give --baselines DIR")
    return read_strict(baselines / FILE, Speeds) if (baselines / FILE).is_file() else Speeds(schema=1)


def of_run(log_ratios: Sequence[float]) -> float:
    """The log-ratio of one run: the median of its rounds, so that one disturbed round does not move it."""
    return float(np.median(log_ratios))


def pooled(runs: Sequence[Sequence[float]], work: str) -> Ratio:
    """The ratio of several runs, each the log-ratios of its rounds, with the spread of both and the tolerance that follows.

    The spread between runs includes that of the rounds. With few runs it may be too small by chance, so the larger of it and the
    spread that the rounds alone would give counts.
    """
    within = math.sqrt(np.mean([np.var(rounds, ddof=1) for rounds in runs]))
    between = float(np.std([of_run(rounds) for rounds in runs], ddof=1))
    repeats = min(map(len, runs))
    expected = within / math.sqrt(repeats)
    spread = max(between, expected)
    why = (
        f"{SPREADS} x {spread:.2g}, the larger of the spread between {len(runs)} processes ({between:.2g}) and that which "
        f"{repeats} rounds a process alone would make ({expected:.2g})"
    )
    return Ratio(
        ratio=_short(math.exp(np.mean([of_run(rounds) for rounds in runs]))),
        work=work,
        runs=len(runs),
        repeats=repeats,
        spread_of_repeats=_short(within),
        spread_of_runs=_short(between),
        tolerance=_short(SPREADS * spread),
        why=why,
        date="",
        reason="",
    )


def judge(held: Ratio | None, ratio: float, work: str) -> Outcome:
    """Compare a ratio with its record: DRIFTED if it fell by more than the tolerance; a rise that large is reported."""
    change = f"{'nothing' if held is None else f'{held.ratio:.4g}'} → {ratio:.4g} times the reference"
    if held is None:
        return Outcome(Regression.UNCHECKED, f"{change}; not recorded for this machine")
    if held.work != work:
        return Outcome(Regression.UNCHECKED, f"{change}, of other work: {held.work} → {work}")
    old, new = math.log(held.ratio), math.log(ratio)
    units = f"{(new - old) / held.tolerance:+.2f} noise units" if held.tolerance else "nothing may move"
    why = f"{change}, {units}"
    word = regression_value(old, new, held.tolerance).word
    if word == Regression.DRIFTED and new > old:
        return Outcome(Regression.SAME, f"{why}: faster than recorded, so record it again")
    return Outcome(word, why)


def orphans(held: Speeds, names: Collection[str]) -> list[str]:
    """Recorded ratios of benchmarks that no longer exist."""
    missing = sorted({name for entry in held.recorded for name in entry.ratios} - set(names))
    return [f"{FILE}: there is no benchmark '{name}' any more; remove or rename its entries" for name in missing]


def not_run(held: Speeds, devices: Collection[str]) -> list[str]:
    """Lines about records of devices that are not among these."""
    return [
        f"NOT RUN: speed of {name}: recorded on {entry.machine.device}, which this machine does not have"
        for entry in held.recorded
        if entry.machine.device not in devices
        for name in entry.ratios
    ]


def accept(held: Speeds, proposed: Speeds, *, date: str, reason: str) -> Speeds:
    """The records with the proposed ratios, each of which replaces the one of its machine and name."""
    for entry in proposed.recorded:
        ratios = {name: ratio.model_copy(update={"date": date, "reason": reason}) for name, ratio in entry.ratios.items()}
        held = held.having(entry.machine, ratios)
    return held


def changes(held: Speeds, proposed: Speeds) -> list[str]:
    """Old → new of each proposed ratio, in units of the recorded tolerance, and of the tolerance."""
    pairs = [(name, held.of(entry.machine).get(name), new) for entry in proposed.recorded for name, new in entry.ratios.items()]
    return [
        f"{speed_line(name, judge(old, new.ratio, new.work))}; tolerance {old.tolerance if old else 'none'} → {new.tolerance}"
        for name, old, new in pairs
    ]


def speed_line(name: str, found: Outcome) -> str:
    """One line of a benchmark."""
    return f"{found.word}: speed of {name}: {found.why}"


def _short(value: float) -> float:
    """Four digits: much finer than the noise of a time, and readable in a diff."""
    return float(f"{value:.4g}")
