"""Tasks that workers of the tests run; they are found by their module and name."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path

import numpy as np


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


def die_slowly(number: int) -> dict:
    """Kills its own process, every time."""
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)


# A sweep that is made up: larger models are better, and better with more steps; tau falls with the size


def train(location: str, family: str, width: int, seed: int, phases: list, dtype: str, weights: str, work: str) -> dict:
    return {"parameters": width**2}


def train_or_die(location: str, family: str, width: int, seed: int, phases: list, dtype: str, weights: str, work: str) -> dict:
    """That of seed 1 kills its own process the first time."""
    if seed == 1:
        die_once(str(Path(work).parent / f"{family}-w{width}-s{seed}"), seed)
    return {"parameters": width**2}


def choose(location: str, weights: str, steps: list[int]) -> dict:
    width, _ = width_and_seed(weights)
    return {"choosing": {str(s): width / 104 * s / max(steps) for s in steps}}


def audit(location: str, weights: str, n: int, permutations: int) -> dict:
    width, seed = width_and_seed(weights)
    steps = int(weights.rpartition("/")[2])
    noise = np.random.default_rng([width, seed, steps, "llama" in weights]).standard_normal()
    tau = row("spread", "tau", 20 - 3 * math.log(width) + 0.3 * noise)
    return {"rows": [tau, row("task-accuracy", "accuracy", 0.5), row("probe-best", "auc", 0.7)], "steps": steps}


def compare(location: str, first: str, second: str, n: int, permutations: int) -> dict:
    alike = first.partition("-")[0] == second.partition("-")[0]
    return {"rows": [row("alignment", "cka", 0.8 if alike else 0.3) | {"null": 0.1}]}


def row(claim: str, metric: str, value: float) -> dict:
    return {"claim": claim, "metric": metric, "protocol": "sound", "measured": {"value": value}}


def width_and_seed(weights: str) -> tuple[int, int]:
    """Of weights/FAMILY-wWIDTH-sSEED-DIGEST."""
    _, width, seed, _ = weights.split("-")
    return int(width[1:]), int(seed[1:])
