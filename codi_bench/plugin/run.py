"""`codi-bench run`: pytest on the benchmarks of the package, from any folder and whatever that folder configures."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from codi_bench.store.files import package_folder


def run(arguments: Sequence[str]) -> int:
    """Run pytest; gives its exit status."""
    stored = Path(".benchmarks").absolute()
    is_there = stored.exists()
    try:
        return int(pytest.main(command_line(arguments)))
    finally:
        if not is_there:
            with suppress(OSError):  # pytest-benchmark makes this folder whether or not anything is saved there
                stored.rmdir()


def command_line(arguments: Sequence[str]) -> list[str]:
    """The command line of pytest for these arguments: the packaged benchmarks, or those of them that are given by name.

    No configuration and no conftest.py of the folder that one stands in, or of one above the package, is read; only what pytest
    remembers of the last run (`--lf`) and the report are written where one stands.
    """
    folder = package_folder("benchmarks")
    own = [re.sub(r"^benchmarks(?=$|/|::)", lambda _: str(folder), argument) for argument in arguments]
    names_some = any(Path(argument.partition("::")[0]).resolve().is_relative_to(folder) for argument in own)
    return [
        *("-c", os.devnull, "--rootdir", str(folder.parent), "--confcutdir", str(folder)),
        *("-o", f"cache_dir={Path('.pytest_cache').absolute()}", "-p", "codi_bench.plugin"),
        *([] if names_some else [str(folder)]),
        *own,
    ]
