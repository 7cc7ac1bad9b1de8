"""The doors that users come in by: each public name is called once, as a user would write it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import codi_bench
import codi_bench.measures
import codi_bench.problems
import codi_bench.rules
from codi_bench.cli import app
from codi_bench.rules.stats import stream

COMMANDS = (
    ("problems",),
    ("think",),
    ("answer",),
    ("train",),
    ("report",),
    ("models",),
    ("claims",),
    ("history",),
    ("losses",),
    ("sweep",),
    ("baselines", "diff"),
    ("baselines", "accept"),
    ("baselines", "calibrate"),
    ("baselines", "restamp"),
    ("cache", "ls"),
    ("cache", "gc"),
)
OPTIONS = (
    "--model",
    "--base",
    "--claim",
    "--problems",
    "--log",
    "--n",
    "--device",
    "--dtype",
    "--batch-size",
    "--permutations",
    "--report",
    "--baselines",
    "--update-baselines",
    "--num-latents",
    "--lora-alpha",
)


def test_load_and_run_take_what_they_took():
    assert {"base", "device", "dtype", "num_latents", "lora_alpha"} <= inspect.signature(codi_bench.load).parameters.keys()
    assert {"path", "n", "split", "seed"} <= inspect.signature(codi_bench.load_problems).parameters.keys()
    assert list(inspect.signature(codi_bench.run).parameters)[:2] == ["models", "claims"]


def test_the_probe_grid_is_a_function_of_measures():
    """A module of the same name shadowed it once, for whoever had imported the module first."""
    rng = stream(0, "doors")
    labels = np.arange(60) % 2
    activations = rng.normal(size=(60, 1, 4)) + labels[:, None, None]
    grid = codi_bench.measures.probe_grid(activations, labels, permutations=9, folds=3, Cs=(0.1,), seed=0)
    assert (
        grid.held_out_accuracy.shape == grid.p_value.shape == (1,)
        and grid.null_held_out.shape == (9, 1)
        and grid.held_out_auc[0] > 0.8
    )
    command = (
        "import codi_bench, codi_bench.measures; import codi_bench.measures.grid; assert callable(codi_bench.measures.probe_grid)"
    )
    subprocess.run([sys.executable, "-c", command], check=True)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_its_help(command):
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0 and "Usage" in done.output


def test_the_command_line_and_the_plugin_are_where_they_were(pytester):
    from importlib.metadata import entry_points

    assert not [plugin for plugin in entry_points(group="pytest11") if plugin.value.startswith("codi_bench")]
    (script,) = entry_points(group="console_scripts", name="codi-bench")
    assert script.value == "codi_bench.cli:main" and callable(script.load())
    said = pytester.runpytest_inprocess("-p", "codi_bench.plugin", "--help").stdout.str()
    assert all(option in said for option in OPTIONS)
    import codi_bench.plugin

    assert callable(codi_bench.plugin.suite_of) and Path(codi_bench.__file__).with_name("py.typed").is_file()


def test_the_package_says_what_it_has():
    assert callable(codi_bench.measures.load_sae) and round(codi_bench.rules.wilson(432, 1000).low, 3) == 0.402
    assert set(codi_bench.__all__) == {"audit", "load", "load_problems", "run"}
    assert callable(codi_bench.audit.probes) and callable(codi_bench.audit.outcomes)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        codi_bench.lode  # noqa: B018


def test_the_schema_of_baseline_files_is_what_lies_beside_them():
    from codi_bench.records.baseline import json_schema
    from codi_bench.store.files import package_folder

    assert json_schema() == (package_folder("baselines") / "schema.json").read_text(encoding="utf-8")
