"""Progress: what is being done, and about how long the rest takes: of a run by earlier durations, of other work by its own pace.

Durations of this machine's runs are kept in the cache folder; before there are any, those that come with the package
(baselines/_perf/, two CPU cores) stand in. Cold ones compute everything, warm ones read what an earlier run has stored. They are
estimates for people, never measured values. Lines that change are drawn on a terminal alone, and never in CI.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.status import Status

from codi_bench.report.streams import copy_of_stderr
from codi_bench.store.files import package_folder, write_text
from codi_bench.store.json_files import read_json

FASTEST, SLOWEST = 0.3, 3.0  # how far the first claims of a run may stretch the estimate of the rest
COLD, WARM = "timings.json", "timings-warm.json"
REPORT_SECONDS = 5.0  # to draw the report, behind the last claim
TIMINGS = TypeAdapter(dict[str, Annotated[float, Field(ge=0, le=1e7)]])  # seconds; more is no run


def stored_keys(cache: Path, keys: Sequence[str]) -> set[str]:
    """Those that earlier runs on this machine measured; none if what they stored is gone."""
    if next((cache / "store").glob("*.safetensors"), None) is None:
        return set()
    timed = _read(cache / COLD) | _read(cache / WARM)
    return {key for key in keys if key in timed}


def expected_seconds(cache: Path, keys: Sequence[str]) -> tuple[dict[str, float], set[str]]:
    """Seconds of these claims on models, and which of them an earlier run on this machine has stored."""
    stored = stored_keys(cache, keys)
    warm = load_timings(cache, warm=True)
    return load_timings(cache) | {key: warm[key] for key in stored}, stored


def load_timings(cache: Path, *, warm: bool = False) -> dict[str, float]:
    """Seconds by "claim on model": those of this machine, and where it has none those of the package.

    warm: where what is computed is read from the cache; of what was never timed so, the cold time stands.
    """
    packaged = package_folder("baselines") / "_perf"
    cold = _read(packaged / COLD) | _read(cache / COLD)
    return cold | _read(packaged / WARM) | _read(cache / WARM) if warm else cold


def save_timings(cache: Path, measured: dict[str, float], *, warm: bool = False) -> None:
    """Save the durations of this run with those of earlier ones. It does not matter if the cache cannot be written."""
    path = cache / (WARM if warm else COLD)
    with suppress(OSError):
        timings = {key: round(value, 2) for key, value in (_read(path) | measured).items()}
        write_text(path, json.dumps(timings, indent=1, sort_keys=True) + "\n")


def _read(path: Path) -> dict[str, float]:
    """Read the durations of a file; {} if it cannot be read."""
    with suppress(OSError, ValueError):
        return read_json(path, TIMINGS.validate_json)
    return {}


def duration(seconds: float) -> str:
    """A duration in words: 40 s, 3 min, 1 h 20 min."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Schedule:
    """The claims of a run in order, how long each should take, and how long the finished ones took.

    tail: seconds for what comes behind the last claim.
    """

    def __init__(self, keys: Sequence[str], known: dict[str, float], tail: float = 0.0):
        self.keys, self.known, self.tail = list(keys), known, tail
        self.taken: dict[str, float] = {}

    @property
    def unknown(self) -> int:
        """The number of remaining claims that were never timed."""
        return sum(key not in self.known for key in self.keys if key not in self.taken)

    def left(self) -> float:
        """Seconds for the remaining claims that were timed before, scaled by the speed of this run."""
        expected = sum(self.known[key] for key in self.taken if key in self.known)
        actual = sum(seconds for key, seconds in self.taken.items() if key in self.known)
        stretch = min(SLOWEST, max(FASTEST, actual / expected)) if expected > 5 else 1.0
        return stretch * sum(self.known.get(key, 0.0) for key in self.keys if key not in self.taken) + self.tail

    def says(self, what: str = "to go") -> str:
        """The remaining work in words, "" at the end."""
        count = len(self.keys) - len(self.taken)
        if not count:
            return ""
        if self.unknown == count:
            return f"{count} {what}, never timed before"
        time = duration(self.left())
        return f"{count} {what}, " + (
            f"at least {time}: {self.unknown} of them never timed before" if self.unknown else f"about {time}"
        )


def in_ci() -> bool:
    """Is this a job of continuous integration, whose log keeps every line?"""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


@contextmanager
def progress(
    text: str, total: int | None = None, *, done: int = 0, left: bool = True, visible: bool = True
) -> Iterator[Callable[..., None]]:
    """A bar on the error stream with the time left, where somebody watches; it is gone when the work is done.

    total: of steps, of which some may be done; None where nothing counts them, which shows the time taken alone. left: False
    where steps are too unlike to tell the time left by their number. Gives tell(steps=1, text=None): called with how many more
    are done, and with what is being done now.
    """
    # FORCE_COLOR is a wish for colours, also in files, and not for lines that are drawn over
    is_terminal = None if "TTY_COMPATIBLE" in os.environ else sys.stderr is not None and sys.stderr.isatty()
    console = Console(stderr=True, force_terminal=is_terminal)
    interactive = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
    time = (TimeRemainingColumn(), TextColumn("left")) if left and total else (TimeElapsedColumn(),)
    columns = (TextColumn("{task.description}", markup=False), *((BarColumn(), MofNCompleteColumn()) if total else ()), *time)
    with Progress(*columns, console=console, transient=True, disable=not (visible and interactive) or in_ci()) as bar:
        task = bar.add_task(text, total=total, completed=done)

        def tell(steps: int = 1, text: str | None = None) -> None:
            bar.update(task, advance=steps, description=text)

        yield tell


class LiveLine:
    """One line on the terminal about what is being measured; nothing without a terminal.

    pytest captures file descriptor 2 while a test runs, so the line is written to a copy made before.
    """

    def __init__(self):
        self.console, self.status = None, None
        with suppress(OSError):
            if os.isatty(2) and not in_ci():
                self.console = Console(file=copy_of_stderr(), force_terminal=True)

    @property
    def watched(self) -> bool:
        return self.console is not None

    def show(self, text: str) -> None:
        if self.console is not None:
            self.hide()
            self.status = Status(escape(text), console=self.console, spinner="line")
            self.status.start()

    def hide(self) -> None:
        if self.status is not None:
            self.status.stop()
            self.status = None
