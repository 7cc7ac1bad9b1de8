"""Rules: numbers in, words out. No file, no model, no claim."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["wilson"]


def __getattr__(name: str) -> Any:
    """The public door, loaded when it is first used: a report needs rules that need no scipy."""
    if name in __all__:
        return getattr(import_module("codi_bench.rules.stats"), name)
    raise AttributeError(f"module 'codi_bench.rules' has no attribute '{name}'")
