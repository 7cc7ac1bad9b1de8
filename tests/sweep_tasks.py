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


def die(number: int) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)


def note(log: str, name: str, seconds: float = 0) -> dict:
    with open(log, "a") as file:
        file.write(f"{name}\n")
    time.sleep(seconds)
    return {"name": name}
