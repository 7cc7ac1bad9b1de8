"""The pytest plugin: options, one test a (model, claim), and the table after the run.

The root conftest.py of a checkout loads it, and `codi-bench run`; installing the package does not. It is idle unless tests of our
benchmarks are collected. PYTEST_DONT_REWRITE: it has no assertions, and `codi-bench run` has imported it already.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest

from codi_bench.plugin.collection import pytest_collect_file, pytest_ignore_collect
from codi_bench.plugin.items import (
    pytest_assertrepr_compare,
    pytest_collection_modifyitems,
    pytest_generate_tests,
    pytest_report_collectionfinish,
    pytest_report_teststatus,
    pytest_runtest_makereport,
    suite,
    table,
)
from codi_bench.plugin.options import EXTRA, SUITES, add_options, suite_of
from codi_bench.plugin.reporter import Reporter
from codi_bench.report.streams import make_tolerant

__all__ = [
    "pytest_addoption",
    "pytest_assertrepr_compare",
    "pytest_collect_file",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_ignore_collect",
    "pytest_load_initial_conftests",
    "pytest_report_collectionfinish",
    "pytest_report_teststatus",
    "pytest_runtest_makereport",
    "suite",
    "suite_of",
    "table",
]


def pytest_addoption(parser, pluginmanager):
    pytest.register_assert_rewrite("benchmarks", "codi_bench.benchmarks")  # python_files may name others
    if any(Path(getattr(plugin, "__file__", None) or "").name == "conftest.py" for plugin in pluginmanager.get_plugins()):
        add_options(parser)  # a conftest.py loads us, behind the plugins of others; with `-p` we come before them, so see below


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config, parser, args):
    """Register our options behind those of all other plugins, and read the command line again, as pytest itself does then."""
    add_options(parser)
    early_config.known_args_namespace = parser.parse_known_args(args, namespace=copy.copy(early_config.option))


def pytest_configure(config):
    config.addinivalue_line("markers", "claims(family): benchmarks of a claim family, one test a model and claim")
    config.addinivalue_line("markers", "gpu: every registered model, on cuda")
    for name in SUITES:
        config.addinivalue_line("markers", f"{name}: claims of this suite; without -m the study is measured")
    for name in EXTRA:
        config.addinivalue_line("markers", f"{name}: deselected unless -m names it, or you name the test")
    if hasattr(config, "workerinput"):  # under xdist the controller alone writes the report
        from codi_bench.plugin.xdist import Collector

        config.pluginmanager.register(Collector(), "codi-bench-collector")
        return
    make_tolerant(sys.stdout, sys.stderr)  # else pytest writes the whole table in one line, with escapes, where a sign is lacking
    reporter = Reporter(config)
    config.pluginmanager.register(reporter, "codi-bench-reporter")
    if getattr(config.option, "dist", "no") != "no":
        from codi_bench.plugin.xdist import Dealer, check_names

        check_names(config)
        config.pluginmanager.register(Dealer(reporter.expect), "codi-bench-dealer")
