"""Names that become paths: one rule at every door, and nothing that is written under a name leaves its folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

import codi_bench
from codi_bench.cli import app
from codi_bench.errors import CodiBenchError
from codi_bench.models.loading import load
from codi_bench.models.registry import REGISTRY
from codi_bench.records.baseline import Baseline, load_baseline, metrics_recorded, path_of, save_baseline
from codi_bench.records.gate import gate_file
from codi_bench.store.names import check_name
from codi_bench.suite.request import model_requests
from codi_bench.sweep.members import Member
from codi_bench.sweep.results import SweepResults

MINI = str(REGISTRY["gpt2-mini"].folder)
GOOD = ("mine", "gpt2-mini", "llama-3.2-1b", "7", "A_b.c-", "x" * 100, "console", "a..b", "com10")
BAD = {
    "a folder up": "../../evil",
    "a folder below": "a/b",
    "this folder": ".",
    "the one above": "..",
    "absolute": "/tmp/x",
    "of Windows": "a\\b",
    "a drive": "c:x",
    "hidden": ".git",
    "an option": "-x",
    "ours": "_gate",
    "dot at the end": "mine.",
    "blank": "my model",
    "end of line": "mine\n",
    "two lines": "a\nb",
    "nothing to see": "a\x00b",
    "half a sign": "a\udc80",
    "letter of others": "ü",
    "digit of others": "a٣",
    "device": "NUL",
    "device with an end": "com1.json",
    "long": "x" * 101,
    "nothing": "",
}
bad_names = pytest.mark.parametrize("name", BAD.values(), ids=BAD.keys())


def refusal(function, *arguments, **more) -> str:
    with pytest.raises(CodiBenchError) as caught:
        function(*arguments, **more)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize("name", GOOD)
def test_a_name_is_what_it_was(name):
    assert check_name(name, "model") == name
    assert [request.name for request in model_requests([f"{name}={MINI}"], [], [], ())] == [name]


@bad_names
def test_every_door_refuses_what_is_no_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reasons = {"": "NAME=PATH", "NUL": "a device", "com1.json": "a device", "a\udc80": "half a character"}
    assert reasons.get(name, "use at most") in refusal(model_requests, [f"{name}={MINI}"], [], [], ())
    refusal(model_requests, [f"mine={MINI}"], [f"{name}={MINI}"], [], ())
    refusal(model_requests, [], [], [f"{name}=log.txt"], ())
    assert "models" in refusal(codi_bench.run, {name: MINI}, "size")
    assert "name" in refusal(load, MINI, name=name, device="cpu")
    refusal(path_of, tmp_path, name, "size")
    refusal(path_of, tmp_path, "mine", name)
    refusal(save_baseline, tmp_path, Baseline(schema=1, model=name, claim="size"))
    refusal(load_baseline, tmp_path, name, "size")
    refusal(gate_file, name)
    refusal(Member, name, 24, 0)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", [5, None, b"mine", Path("mine"), ["mine"]])
def test_what_is_no_text_is_no_name(name):
    assert "must be text, got " in refusal(check_name, name, "name")
    if name is not None:
        assert "must be text" in refusal(load, MINI, name=name)
    assert "must be text" in refusal(codi_bench.run, dict([(tuple(name) if isinstance(name, list) else name, MINI)]))


@given(st.text(max_size=8) | st.text("./\\-_aN:~ \n", max_size=6) | st.from_regex(r"\A[A-Za-z0-9._-]{1,102}\Z"))
@example("../x")
@example("a" * 100)
def test_a_text_is_refused_in_one_line_or_stays_in_its_folder(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("names") / "in"
    try:
        check_name(name, "model")
    except CodiBenchError as error:
        assert str(error).isprintable()
        refusal(path_of, folder, name, "size")
        refusal(gate_file, name)
        return
    path = save_baseline(folder, Baseline(schema=1, model=name, claim=name))
    assert path == folder / name / f"{name}.json" and path.resolve().parent.parent == folder.resolve()
    assert [*folder.parent.iterdir()] == [folder] and [*folder.iterdir()] == [path.parent] and [*path.parent.iterdir()] == [path]
    assert load_baseline(folder, name, name).model == name and (folder / gate_file(name)).parent == folder / "_gate"


def test_a_run_writes_nothing_for_what_is_no_name(run_benchmarks, pytester):
    result = run_benchmarks("--model", f"../../evil={MINI}", "--claim", "size", "--update-baselines", "--report", "r/sub")
    assert result.ret == 2 and "--model '../../evil': use at most" in result.stdout.str()
    assert not [*pytester.path.rglob("*.json")] and not (pytester.path / "r").exists()


@bad_names
def test_commands_refuse_what_is_no_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").mkdir()
    for command in (["train", "--base", MINI, "--", name], ["baselines", "gate", "--baselines", "b", "--", f"{name}={MINI}"]):
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, CodiBenchError), done.output
    assert [*tmp_path.rglob("*")] == [tmp_path / "b"]


def test_a_folder_may_be_called_as_it_is(tiny_folders, tmp_path, monkeypatch):
    """Only what is to be a path is checked: the last part of a folder is what a model is called, nothing more."""
    folder = tmp_path / "folder with blanks" / "ü -x"
    shutil.copytree(tiny_folders["gpt2"], folder)
    assert load(folder, device="cpu").codi.name == "ü -x"
    monkeypatch.chdir(folder)
    assert load(".", device="cpu").codi.name == "ü -x" == load("../ü -x", device="cpu").codi.name
    assert load(folder, name="mine", device="cpu").codi.name == "mine"


def test_a_folder_of_baselines_that_is_called_otherwise_counts_for_nothing(tmp_path):
    shutil.copytree(Path(codi_bench.__file__).parents[1] / "baselines" / "gpt2-mini", tmp_path / "gpt2-mini")
    count = metrics_recorded(tmp_path)
    shutil.copytree(tmp_path / "gpt2-mini", tmp_path / "my model")
    assert metrics_recorded(tmp_path) == count > 1


def test_files_of_a_sweep_stay_in_their_folder(tmp_path):
    place, out = SweepResults(str(tmp_path / "place")), tmp_path / "a" / "out"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "codi.json").write_text("{}")
    place.put_folder("weights/9", tmp_path / "source")
    assert (place.get_folder("weights/9", out) / "codi.json").read_text() == "{}"
    (tmp_path / "place" / "weights" / "9.json").write_text(json.dumps({"files": ["../codi.json"]}))
    assert "'../codi.json'" in refusal(place.get_folder, "weights/9", out)
    assert not (tmp_path / "a" / "codi.json").exists()


def test_a_member_of_a_sweep_has_a_known_size_and_a_whole_seed():
    assert Member("gpt2", 24, 3).name == "gpt2-w24-s3"
    for wrong in (("../gpt2", 24, 0), ("gpt2", 25, 0), ("gpt2", [24], 0), ("gpt2", 24, "/0"), ("gpt2", 24, 0.5)):
        refusal(Member, *wrong)


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_a_run_that_is_refused_leaves_its_folder_as_it_was(tmp_path, workers):
    command = [sys.executable, "-m", "codi_bench.cli", "run", "--model", f"../evil={MINI}", "--claim", "size", *workers]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout.count("use at most") == 1
    assert not [*tmp_path.iterdir()]  # no report, and nothing that pytest and its plugins remember
