"""codi-bench: claims about continuous-thought language models as executable tests."""

from __future__ import annotations

from importlib import import_module

__version__ = "0.2.0"
__all__ = ["audit", "load", "load_problems", "run"]

DOORS = {"load": "codi_bench.models.loading", "load_problems": "codi_bench.problems", "run": "codi_bench.suite.notebook"}


def __getattr__(name: str):
    """The public doors, loaded when first used: the pytest plugin imports this package in every run of pytest."""
    if name == "audit":  # a door with rooms of its own: codi_bench.audit.probes, codi_bench.audit.outcomes
        return import_module("codi_bench.audits.public")
    if name in DOORS:
        return getattr(import_module(DOORS[name]), name)
    raise AttributeError(f"module 'codi_bench' has no attribute '{name}'")
