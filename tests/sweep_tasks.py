"""Tasks that workers of the tests run; they are found by their module and name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def double(number: int) -> dict:
    return {"number": 2 * number}


def fail(number: int) -> dict:
    raise ValueError(f"no luck with {number}")


def die_once(marker: str, number: int) -> dict:
    """Kills its own process the first time."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"number": number}


def train_or_die(location: str, family: str, width: int, seed: int, phases: list, dtype: str, weights: str, work: str) -> dict:
    """A made-up training; that of seed 1 kills its own process the first time."""
    marker = Path(work).parent / f"{family}-w{width}-s{seed}"
    if seed == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"parameters": width**2}


def choose(location: str, weights: str, steps: list[int]) -> dict:
    """Made-up accuracies."""
    return {"choosing": {str(done): done / (100 + len(weights) % 7) for done in steps}}


def die_slowly(number: int) -> dict:
    """Kills its own process, every time."""
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)


def audit(location: str, weights: str, n: int, permutations: int) -> dict:
    """A made-up audit: a number that hangs on what was asked."""
    row = {"claim": "spread", "metric": "tau", "protocol": "sound", "measured": {"value": sum(map(ord, weights)) % 17}}
    return {"rows": [row]}


def compare(location: str, first: str, second: str, n: int, permutations: int) -> dict:
    return {"rows": []}
