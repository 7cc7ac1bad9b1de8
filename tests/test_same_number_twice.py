"""What is asked for twice: refused before anything is measured, or measured once; no file of results holds a number twice."""

from __future__ import annotations

import json
import shutil
from itertools import product

import pytest
from rows import row

import codi_bench
from codi_bench.errors import CodiBenchError
from codi_bench.models.registry import REGISTRY
from codi_bench.records.baseline import load_baseline, record_key
from codi_bench.records.results import read_results, write_results
from codi_bench.store.files import file_hash, package_folder
from codi_bench.suite.notebook import Result
from codi_bench.suite.released_bench import KNOWN, released_in
from codi_bench.suite.request import given_problems, model_requests, released_logs
from codi_bench.sweep.members import FAMILIES, members
from codi_bench.thoughts.released import ReleasedFile, Repository

pytestmark = pytest.mark.usefixtures("plain_reports")
GPT, LLAMA = (str(REGISTRY[name].folder) for name in ("gpt2-mini", "llama-mini"))
SIZE = ("--model", "gpt2-mini", "--claim", "size")
RECORDED = sorted(load_baseline(package_folder("baselines"), "gpt2-mini", "size").recorded[0].metrics)
TWICE = {
    "two folders": ([f"mine={GPT}", f"mine={LLAMA}"], "--model mine=.*llama-mini: mine is .*gpt2-mini already"),
    "of the package and of a folder": (["gpt2-mini", f"gpt2-mini={LLAMA}"], "--model gpt2-mini and gpt2-mini=.*leave one out"),
    "the other way round": ([f"gpt2-mini={LLAMA}", "llama-mini", "gpt2-mini"], "gpt2-mini and gpt2-mini="),
    "by its old name": ([f"gpt2={GPT}", "codi-gpt2"], "--model gpt2 and gpt2=.*leave one out"),
    "capitals": ([f"mine={GPT}", f"Mine={LLAMA}"], "Mine: differs from mine only in capitals"),
    "capitals of a known one": ([f"GPT2-mini={GPT}"], "GPT2-mini: differs from gpt2-mini only in capitals"),
}
REPEATS = {  # as pytest-repeat and pytest-rerunfailures do it
    "parameters": """
        import pytest

        @pytest.fixture
        def __pytest_repeat_step_number(request): return request.param

        @pytest.hookimpl(trylast=True)
        def pytest_generate_tests(metafunc):
            metafunc.fixturenames.append("__pytest_repeat_step_number")
            metafunc.parametrize("__pytest_repeat_step_number", range(2), indirect=True)
        """,
    "protocol": """
        import pytest
        from _pytest.runner import runtestprotocol

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_protocol(item, nextitem):
            for last in (False, True):
                for report in runtestprotocol(item, nextitem=nextitem, log=False):
                    report.outcome = report.outcome if last or report.when != "call" else "rerun"
                    item.ihook.pytest_runtest_logreport(report=report)
            return True
        """,
}


def numbers_of(folder):
    """The metrics of a run's results, which `codi-bench report` reads: each is there once and as recorded."""
    _, rows = read_results(folder / "report" / "results.json")
    assert {(row.claim, row.model, row.regression) for row in rows if row.status == "ok"} == {("size", "gpt2-mini", "SAME")}
    return sorted(record_key(row.protocol, row.metric) for row in rows)


@pytest.mark.parametrize(("models", "words"), TWICE.values(), ids=TWICE.keys())
def test_a_name_that_stands_for_two_models_is_refused(models, words):
    with pytest.raises(CodiBenchError, match=words):
        codi_bench.run(models, "size", progress=False)


def test_half_on_the_command_line_and_half_in_settings_is_refused_too(run_benchmarks, monkeypatch, pytester):
    monkeypatch.setenv("PYTEST_ADDOPTS", f"--model mine={GPT}")
    result = run_benchmarks("--model", f"mine={LLAMA}", "--claim", "size")
    assert result.ret == 2 and "mine is" in result.stdout.str() and not (pytester.path / "report").exists()


def test_one_place_however_it_is_written_is_one_model(tmp_path, monkeypatch):
    (tmp_path / "A").mkdir()
    (tmp_path / "B").symlink_to("A")
    monkeypatch.chdir(tmp_path)
    texts = [f"mine={place}" for place in ("A", "./A/", str(tmp_path / "A"), "B", "B/../A")]
    assert [request.name for request in model_requests(texts, [], [], ())] == ["mine"]
    assert [request.base for request in model_requests(texts, ["mine=A", "mine=./A"], [], ())] == ["A"]
    with pytest.raises(CodiBenchError, match="--base mine=C: mine is A already"):
        model_requests(texts, ["mine=A", "mine=C"], [], ())
    assert [request.name for request in model_requests(["a=A", "b=A"], [], [], ())] == ["a", "b"]  # two names: two columns


def test_files_that_are_given_twice(tmp_path, monkeypatch):
    (tmp_path / "p.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    (tmp_path / "log.txt").write_text("a log\n")
    shutil.copy(tmp_path / "log.txt", tmp_path / "copy.txt")
    monkeypatch.chdir(tmp_path)
    assert len(given_problems(["gsm8k=p.jsonl", "gsm8k=./p.jsonl"])["gsm8k"]) == 1
    with pytest.raises(CodiBenchError, match="gsm8k is p.jsonl already"):
        given_problems(["gsm8k=p.jsonl", "gsm8k=log.txt"])
    assert released_logs(["mine=log.txt", "mine=./log.txt"]) == ([], ["mine=log.txt"])
    with pytest.raises(CodiBenchError, match="mine is log.txt already"):
        released_logs(["mine=log.txt", "mine=copy.txt"])
    with pytest.raises(CodiBenchError, match="Log: differs from log only in capitals"):
        model_requests([], [], ["log=log.txt", "Log=log.txt"], ())


def test_a_released_file_and_its_copies_are_one(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("released")
    shutil.copy(tmp_path / "a", tmp_path / "b")
    sha256 = file_hash(tmp_path / "a")
    file = ReleasedFile("x", sha256, Repository("o/r"), "x", str)
    monkeypatch.setitem(KNOWN, sha256, file)
    assert [*released_in([tmp_path / "a", tmp_path / "b", tmp_path, tmp_path / "a"])] == [file]


@pytest.mark.parametrize("repeats", REPEATS.values(), ids=REPEATS.keys())
def test_tests_that_are_run_twice_give_a_number_once(repeats, run_benchmarks, pytester):
    pytester.makepyfile(repeats=repeats)
    pytester.syspathinsert()
    assert run_benchmarks("-p", "repeats", *SIZE).ret == 0
    assert numbers_of(pytester.path) == RECORDED


@pytest.mark.parametrize(
    "arguments",
    [
        ["benchmarks", "benchmarks/test_size.py"],
        ["benchmarks/test_size.py", "benchmarks/test_size.py", "--keep-duplicates"],
        ["benchmarks/test_size.py::test_size[gpt2-mini-size]"] * 2,
        ["benchmarks/test_size.py", *SIZE],
    ],
    ids=["folder and file", "file twice", "test twice", "options twice"],
)
def test_what_is_named_twice_is_there_once(arguments, run_benchmarks, pytester):
    assert run_benchmarks(*arguments, *SIZE).ret == 0
    assert numbers_of(pytester.path) == RECORDED


def test_a_test_of_others_that_gives_numbers_again(run_benchmarks, pytester):
    """Another test of the same claim and model, and one that gives each row twice."""
    pytester.makepyfile(
        test_theirs="""
        from dataclasses import replace
        import pytest

        @pytest.mark.claims("size")
        def test_again(suite, model, claim, table):
            outcome = suite.measure(model, claim)
            table.add(replace(outcome, rows=outcome.rows * 2))
        """
    )
    assert run_benchmarks("benchmarks/test_size.py", "test_theirs.py", *SIZE).ret == 0
    assert numbers_of(pytester.path) == RECORDED


def test_no_number_is_written_twice(tmp_path):
    rows = [row(metric="mean"), row(metric="best"), row(metric="mean", n=7)]
    for write in (lambda: write_results(tmp_path / "results.json", {}, rows), lambda: Result(tuple(rows), {}).save(tmp_path)):
        with pytest.raises(CodiBenchError, match=r"rows.2: is the same number as rows.0"):
            write()
    assert not [*tmp_path.iterdir()]
    write_results(tmp_path / "results.json", {}, rows[:2])
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 2


def test_a_sweep_has_each_member_once():
    once = [(family, width, seed) for width, seed, family in product((24, 40), (1, 0), FAMILIES)]
    twice = members(FAMILIES * 2, (40, 24, 24), (1, 0, 1))
    assert [(member.family, member.width, member.seed) for member in twice] == once
