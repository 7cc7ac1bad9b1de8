"""codi-bench: claims about continuous-thought language models as executable tests."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["load", "load_problems"]


def __getattr__(name: str):
    """The public doors, loaded when first used: the pytest plugin imports this package in every run of pytest."""
    if name == "load":
        from codi_bench.models.model import load

        return load
    if name == "load_problems":
        from codi_bench.problems import load_problems

        return load_problems
    raise AttributeError(f"module 'codi_bench' has no attribute '{name}'")
