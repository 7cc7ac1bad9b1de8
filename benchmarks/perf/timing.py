"""Reading the clock around a job."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def timed(job: Callable, device: str) -> tuple[float, object]:
    """Seconds, and what the job gave; the device has finished at both readings of the clock."""
    if device != "cpu":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    found = job()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, found
