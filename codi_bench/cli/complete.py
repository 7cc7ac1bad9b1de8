"""What the shell completes: names of models, claims, problem sets and suites. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Iterable


def models(incomplete: str) -> list[str]:
    from codi_bench.models.registry import REGISTRY

    return _matching(REGISTRY, incomplete)


def claims(incomplete: str) -> list[str]:
    """Ids of the claims, read off the names of the package's baseline files: the claims themselves load torch."""
    from codi_bench.store.files import package_folder

    files = package_folder("baselines").glob("[!_]*/*.json")
    return _matching(sorted({file.stem for file in files}), incomplete)


def problem_sets(incomplete: str) -> list[str]:
    from codi_bench.problems.files import NAMES

    return _matching(NAMES, incomplete)


def suites(incomplete: str) -> list[str]:
    from codi_bench.plugin.options import MARKERS

    return _matching(MARKERS, incomplete)


def verdicts(incomplete: str) -> list[str]:
    from codi_bench.rules.validity import Validity

    return _matching(Validity, incomplete)


def _matching(names: Iterable[str], start: str) -> list[str]:
    return [str(name) for name in names if name.startswith(start)]
