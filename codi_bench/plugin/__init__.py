"""The pytest plugin: options, one test a (model, claim), and the table after the run.

It is idle unless a collected test carries the marker `claims`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codi_bench.plugin.items import (
    pytest_assertrepr_compare,
    pytest_collection_modifyitems,
    pytest_generate_tests,
    pytest_report_teststatus,
    pytest_runtest_makereport,
    suite,
    table,
)
from codi_bench.plugin.options import GATED, pytest_addoption, suite_of
from codi_bench.plugin.reporter import Reporter
from codi_bench.store.files import package_folder

__all__ = [
    "pytest_addoption",
    "pytest_assertrepr_compare",
    "pytest_cmdline_main",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_report_teststatus",
    "pytest_runtest_makereport",
    "suite",
    "suite_of",
    "table",
]


def pytest_configure(config):
    config.addinivalue_line("markers", "claims(family): benchmarks of a claim family, one test a model and claim")
    for name in GATED:
        config.addinivalue_line("markers", f"{name}: deselected unless -m names it")
    if hasattr(config, "workerinput"):  # under xdist the controller alone writes the report
        from codi_bench.plugin.xdist import Collector

        config.pluginmanager.register(Collector(), "codi-bench-collector")
        return
    reporter = Reporter(config)
    config.pluginmanager.register(reporter, "codi-bench-reporter")
    if getattr(config.option, "dist", "no") != "no":
        from codi_bench.plugin.xdist import Dealer

        config.pluginmanager.register(Dealer(reporter.expect), "codi-bench-dealer")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """`pytest benchmarks` works from any folder: without such a folder here, the packaged one is meant."""
    if not Path("benchmarks").exists() and package_folder("benchmarks").is_dir():
        config.args[:] = [
            re.sub(r"^benchmarks(?=$|/|::)", lambda _: str(package_folder("benchmarks")), arg) for arg in config.args
        ]
