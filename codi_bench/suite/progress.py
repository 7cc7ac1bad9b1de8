"""Progress of a run: what is being measured, and about how long the rest takes.

Durations of the last run on this machine are in the cache folder; before the first run, those that come with the package are
used (baselines/_perf/timings.json, two CPU cores). They are estimates for people, never measured values.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from codi_bench.report.streams import copy_of_stderr
from codi_bench.store.files import package_folder, write_text
from codi_bench.store.json_files import read_json

FASTEST, SLOWEST = 0.3, 3.0  # how far the first claims of a run may stretch the estimate of the rest
FILE = "timings.json"
PACKAGED = ("_perf", FILE)
TIMINGS = TypeAdapter(dict[str, Annotated[float, Field(ge=0, le=1e7)]])  # seconds; more is no run


def load_timings(cache: Path) -> dict[str, float]:
    """Seconds by "claim on model": those of this machine, or else those of the package."""
    return _read(package_folder("baselines").joinpath(*PACKAGED)) | _read(cache / FILE)


def save_timings(cache: Path, measured: dict[str, float]) -> None:
    """Save the durations of this run with those of earlier ones. It does not matter if the cache cannot be written."""
    with suppress(OSError):
        timings = {key: round(value, 2) for key, value in (_read(cache / FILE) | measured).items()}
        write_text(cache / FILE, json.dumps(timings, indent=1, sort_keys=True) + "\n")


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
    """The claims of a run in order, how long each should take, and how long the finished ones took."""

    def __init__(self, keys: Sequence[str], known: dict[str, float]):
        self.keys, self.known = list(keys), known
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
        return stretch * sum(self.known.get(key, 0.0) for key in self.keys if key not in self.taken)

    def says(self, what: str = "to go") -> str:
        """The remaining work in words, "" at the end."""
        count = len(self.keys) - len(self.taken)
        time = f"about {duration(self.left())}" if self.unknown < count else ""
        never = f"{self.unknown} of them never timed" if self.unknown and count else ""
        return ", ".join(filter(None, [f"{count} {what}" if count else "", time if count else "", never]))


class LiveLine:
    """One line on the terminal about what is being measured; nothing without a terminal.

    pytest captures file descriptor 2 while a test runs, so the line is written to a copy made before.
    """

    def __init__(self):
        self.console, self.status = None, None
        with suppress(OSError):
            if os.isatty(2):
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
