"""Which files of our benchmarks are collected; of anybody else's pytest decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from codi_bench.plugin.options import EXTRA, named
from codi_bench.store.files import package_folder

BENCHMARKS = package_folder("benchmarks")


class BenchmarkFile(pytest.Module):
    """A file of benchmarks: its tests are the functions test_…, whatever python_functions and python_classes are."""

    def funcnamefilter(self, name: str) -> bool:
        return name.startswith("test_")

    def classnamefilter(self, name: str) -> bool:
        return False


def pytest_ignore_collect(collection_path: Path, config) -> bool | None:
    """A folder that neither `-m` nor a path asks for is not even imported, which takes seconds.

    Of a path that is given pytest does not ask.
    """
    is_extra = collection_path.name in EXTRA and collection_path.parent == BENCHMARKS
    return True if is_extra and collection_path.name not in named(config.option.markexpr or "") else None


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent):
    """Our benchmarks are the files test_*.py, whatever python_files is."""
    collectors = yield
    if not file_path.is_relative_to(BENCHMARKS):
        return collectors
    others = [collector for collector in collectors if not isinstance(collector, pytest.Module)]
    return [*others, BenchmarkFile.from_parent(parent, path=file_path)] if file_path.match("test_*.py") else others
