"""The environment of numbers: device, instruction set, versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import torch

from codi_bench.records.baseline import Environment


def available(device: str) -> bool:
    """Is that device available? `auto` always is."""
    return not device.startswith("cuda") or torch.cuda.is_available()


def own_gpu(device: str, worker: int) -> str:
    """The device of one of several workers: with `cuda` (or `auto`) they take the GPUs in turn; a given index is kept."""
    count = torch.cuda.device_count()
    return f"cuda:{worker % count}" if device in ("cuda", "auto") and count > 1 else device


def environment(device: str, dtype: str) -> Environment:
    """The key under which numbers are recorded."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return Environment(
        device=name,
        instructions=torch.backends.cpu.get_cpu_capability(),
        torch=".".join(torch.__version__.split(".")[:2]),
        dtype=dtype,
    )


def versions() -> dict[str, str]:
    """Versions and other facts for readers of the results."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in ("transformers", "scikit-learn")},
        "platform": platform.platform(),
        "threads": str(torch.get_num_threads()),
        "cores": str(os.cpu_count()),
    }
