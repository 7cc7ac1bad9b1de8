"""Rules: numbers in, words out. They know no file, model or claim."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["wilson"]


def __getattr__(name: str) -> Any:
    """Load the public functions when they are first used: a report needs only rules that do without scipy."""
    if name in __all__:
        return getattr(import_module("codi_bench.rules.stats"), name)
    raise AttributeError(f"module 'codi_bench.rules' has no attribute '{name}'")
