"""Tiny seeded CODI models of both families, written and loaded like any user's folder."""

import os
import sys
from pathlib import Path

import pytest
import torch
from _pytest.pytester import SysModulesSnapshot
from hypothesis import HealthCheck, settings

from benchmarks.stress import tiny as tiny_models
from benchmarks.stress.tiny import FAMILIES, write_tiny
from codi_bench.models import answering
from codi_bench.models.loading import load
from codi_bench.plugin.run import command_line

torch.set_num_threads(1)
# the machine may be busy: time is no property of the package here
settings.register_profile("codi-bench", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("codi-bench")


LONGEST = ("test_gpu_day.py", "test_parallel.py", "test_stress.py", "test_faults.py", "test_plugin.py", "test_docs.py")


def pytest_configure(config):
    config.addinivalue_line("markers", "nightly: whole runs of the real pair, of minutes each; deselected unless -m names it")


def pytest_collection_modifyitems(config, items):
    """What is nightly is left to the night. The longest files come first: the other worker would wait for them at the end."""
    if "nightly" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("nightly")])
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def one_store(tmp_path_factory):
    """What tests think and train is kept for this run alone, shared by its workers; who needs an empty store names one."""
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODI_BENCH_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(scope="module")
def plain_reports():
    """Runs in this process draw no figures and no page, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("codi_bench.report.plots.picture", lambda *_: ("<svg></svg>", b""))
        patch.setattr("codi_bench.report.render.page", lambda *_: "<html></html>\n")
        yield


@pytest.fixture(autouse=True)
def libraries_stay(monkeypatch):
    """pytester forgets what a run of its own imported first; torch and pyarrow register things once a process, so they stay."""
    forget = SysModulesSnapshot.restore

    def restore(snapshot):
        libraries = {name: module for name, module in sys.modules.items() if _is_library(module)}
        forget(snapshot)
        sys.modules.update(libraries)

    monkeypatch.setattr(SysModulesSnapshot, "restore", restore)


def _is_library(module) -> bool:
    file = Path(getattr(module, "__file__", None) or "/")
    return "site-packages" in file.parts or "codi_bench" in file.parts


@pytest.fixture
def run_benchmarks(pytester):
    """A function (*arguments): `codi-bench run` with them, in this process and an empty folder."""
    return lambda *arguments: pytester.runpytest_inprocess(*command_line([*map(str, arguments)]))


@pytest.fixture
def padded(monkeypatch):
    """Batches of several lengths, as on a GPU and for wide models: padding must change nothing, up to rounding."""
    monkeypatch.setattr(answering, "_alone", lambda model: False)


@pytest.fixture(scope="session")
def tiny_recipe():
    """A function (family, **changes) → Recipe of a model that trains in a second."""
    return tiny_models.tiny_recipe


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory):
    """family → a folder with a seeded CODI model: width 32, 4 layers, 2 heads, K = 6."""
    folder = tmp_path_factory.mktemp("models")
    return {family: write_tiny(family, folder / f"tiny-{family}") for family in FAMILIES}


@pytest.fixture(scope="session", params=FAMILIES)
def tiny(request, tiny_folders):
    """A loaded tiny model, one family after the other."""
    return load(tiny_folders[request.param], device="cpu")


@pytest.fixture(scope="module")
def workers_find_tests():
    """Processes that this one starts find modules of the tests where it does."""
    with pytest.MonkeyPatch.context() as patch:
        here = str(Path(__file__).parent)
        patch.setenv("PYTHONPATH", here)
        patch.setattr(sys, "path", [here, *sys.path])
        yield
