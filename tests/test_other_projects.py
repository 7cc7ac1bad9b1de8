"""codi-bench beside other people's tests, plugins, settings and terminals; and which of our tests a run is asked for."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import pytest

from codi_bench.claims import CLAIMS
from codi_bench.models.registry import EMBEDDED
from codi_bench.plugin.options import EXTRA, SUITES
from codi_bench.store.files import package_folder

pytestmark = pytest.mark.usefixtures("plain_reports")
FOLDER = package_folder("benchmarks")
FILES = sorted(path.name for path in FOLDER.glob("test_*.py"))
SIZE = ("--model", "gpt2-mini", "--claim", "size")
THEIRS = """
import pytest

@pytest.mark.parametrize("claim", ["theirs"])
@pytest.mark.parametrize("model", ["theirs"])
@pytest.mark.claims("size")
def test_claims(model, claim): pass

@pytest.mark.claims(role="admin")
def test_keyword(): pass

@pytest.mark.claims
def test_bare(): pass
"""


def collected(run, *arguments):
    """The names of the tests that such a run would measure."""
    lines = run(*arguments, "--collect-only", "-q").outlines
    return {line.partition("::")[2] for line in lines if "::" in line}


def of_suites(*suites, models=EMBEDDED):
    """The names of the tests that models with numbers get: no claim about words, and none about other models."""
    claims = [claim for claim in CLAIMS.values() if claim.runs and claim.suite in suites]
    claims = [claim for claim in claims if claim.answers != "words" and not claim.models]
    return {f"[{model}-{claim.id}]" for model, claim in product(models, claims)}


# Other people's tests


def test_tests_of_others_run_whatever_they_are_marked_as(run_benchmarks, pytester):
    marked = "".join(f"\n@pytest.mark.{name}\ndef test_{name}(): pass\n" for name in ("slow", "gpu", *SUITES, *EXTRA))
    pytester.makepyfile(test_theirs=THEIRS + marked)
    result = run_benchmarks("test_theirs.py", *SIZE)
    result.assert_outcomes(passed=3 + 2 + len(SUITES) + len(EXTRA) + 1)


def test_a_project_beside_the_installed_package_is_as_it_was(pytester):
    """Its options and markers are its own, its warnings are errors, and neither torch nor codi-bench is loaded."""
    flags = ["--model", "--claim", "--device", "--dtype", "--n", "--report", "--base", "--log", "--problems", "--batch-size"]
    pytester.makeconftest(f"def pytest_addoption(parser):\n    for flag in {flags}:\n        parser.addoption(flag)\n")
    pytester.makeini("[pytest]\nfilterwarnings = error\nmarkers =\n    slow\n    claims\n")
    pytester.makepyfile(
        """
        import sys, pytest

        @pytest.mark.slow
        @pytest.mark.claims(role=1)
        def test_theirs(): assert not {*sys.modules} & {"torch", "codi_bench"}
        """
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:playwright", "--device", "none"]
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


# Other people's settings and plugins


@pytest.mark.parametrize(
    "settings",
    [
        ["--import-mode=importlib"],
        ["-o", "python_files=check_*.py", "-o", "python_functions=check", "-o", "python_classes=Check"],
        ["-o", "python_files=*.py", "-o", "python_functions=*", "-o", "python_classes=*"],
        ["-W", "error", "-o", "filterwarnings=error", "-o", "xfail_strict=true", "--strict-markers", "--doctest-modules"],
    ],
    ids=["importlib", "names of others", "any name", "warnings as errors"],
)
def test_settings_of_others_change_nothing(settings, run_benchmarks):
    result = run_benchmarks(*SIZE, *settings, "--update-baselines")
    result.assert_outcomes(failed=1, deselected=len(FILES) - 1)  # one place holder a file, and no file of another name
    result.stdout.fnmatch_lines(["E *measured numbers differ from the recorded ones*"])  # so asserts of ours were rewritten


def test_an_option_of_another_plugin_is_read_where_it_is(run_benchmarks, pytester):
    pytester.makepyfile(playwrong="def pytest_addoption(parser):\n    parser.addoption('--device', default=None)\n")
    pytester.syspathinsert()
    run_benchmarks("-p", "playwrong", *SIZE).assert_outcomes(passed=1, deselected=len(FILES) - 1)
    assert "unknown device 'abacus'" in run_benchmarks("-p", "playwrong", *SIZE, "--device", "abacus").stdout.str()


# What a run is asked for


@pytest.mark.parametrize(
    ("expression", "suites"),
    [("", ["study"]), *((name, [name]) for name in SUITES), ("study or literature", ["study", "literature"])],
)
def test_a_run_measures_the_suites_that_it_is_asked_for(expression, suites, run_benchmarks):
    tests = collected(run_benchmarks, "-m", expression)
    assert {name[name.index("[") :] for name in tests} == of_suites(*suites)


def test_naming_models_and_claims_measures_those_and_no_others(run_benchmarks):
    tests = collected(run_benchmarks, "--model", "llama-mini")
    assert {name[name.index("[") :] for name in tests} == of_suites("study", models=["llama-mini"])
    assert collected(run_benchmarks, "--model", "llama-mini", "--claim", "alignment", "--claim", "alignment") == {
        "test_sharing[llama-mini-alignment]"
    }


def test_a_test_runs_by_its_name_whatever_its_suite(run_benchmarks):
    name = "test_sharing[gpt2-mini-alignment]"
    assert collected(run_benchmarks, f"benchmarks/test_sharing.py::{name}") == {name}
    assert collected(run_benchmarks, f"benchmarks/test_sharing.py::{name}", "--model", "llama-mini") == {name}
    assert len(collected(run_benchmarks, "benchmarks/test_sharing.py::test_sharing")) > 2


def test_a_file_of_another_suite_says_what_to_give(run_benchmarks):
    result = run_benchmarks("benchmarks/test_sharing.py")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["codi-bench: none of these benchmarks is in the study; give -m questions"])


def test_a_published_model_named_by_its_test_is_not_run_and_says_why_once(run_benchmarks, monkeypatch):
    monkeypatch.setattr("codi_bench.suite.suite.available", lambda device: device == "cpu")
    tests = [
        f"benchmarks/test_{family}.py::test_{family}[gpt2-{claim}]"
        for family, claim in (("size", "size"), ("latents", "scratch-single"))
    ]
    result = run_benchmarks(*tests)
    assert result.ret == 0 and "2 not run" in result.outlines[-1] and "passed" not in result.outlines[-1]
    assert len([line for line in result.outlines if "not-run gpt2: 2 claims: this machine has no GPU" in line]) == 1


def test_speed_and_calibration_are_collected_where_they_are_asked_for_alone(run_benchmarks):
    run_benchmarks(*SIZE).assert_outcomes(passed=1, deselected=len(FILES) - 1)  # nothing of them is even imported
    assert "test_every_recorded_ratio_has_its_benchmark" in collected(run_benchmarks, "-m", "perf")
    name = "test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been"
    assert collected(run_benchmarks, f"benchmarks/stress/test_stress.py::{name}") == {name}
    result = run_benchmarks("benchmarks/stress")
    result.stdout.fnmatch_lines(["codi-bench: none of these benchmarks is in the study; give -m stress"])
