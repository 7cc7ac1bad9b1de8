"""`pytest -n`: the results of a run alone, work that is shared done once, and other suites left as xdist has them.

gpt2-mini on its first 160 problems, which just have fifty wrong answers for the study's probes, through every claim.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import codi_bench.suite.suite
from codi_bench.claims import CLAIMS
from codi_bench.claims.runs import captured
from codi_bench.models import loading as models
from codi_bench.models.registry import REGISTRY
from codi_bench.plugin.options import crowded
from codi_bench.store.cache import entries
from codi_bench.suite.environment import environment
from codi_bench.suite.facts import facts_of
from codi_bench.suite.suite import Suite

pytestmark = pytest.mark.usefixtures("plain_reports")
MODEL = "gpt2-mini"
# what takes seconds; probes and sweeps are shared as thoughts and autoencoders are
FAMILIES = ("task accuracy", "SAE errors", "size", "decoding", "latents")
ASKED = {name: claim for name, claim in CLAIMS.items() if claim.suite == "study" and claim.family in FAMILIES}
ASKED |= {"log-parity": CLAIMS["log-parity"]}
GIVEN = ("--model", MODEL, "--n", "160", *(word for name in ASKED for word in ("--claim", name)))
SPY = """
import os
from codi_bench.report import plots, render
from codi_bench.suite.suite import Suite
from codi_bench.store.cache import Store

plots.picture, render.page = lambda *_: ("<svg></svg>", b""), lambda *_: "<html></html>\\n"  # as plain_reports has it

def said(*words):
    with open(os.environ["SPY_LOG"], "a") as file:
        file.write(" ".join([os.environ.get("PYTEST_XDIST_WORKER", "alone"), *words]) + "\\n")

def write(self, path, key, *how, real=Store._write):
    said("computed", path.stem)
    return real(self, path, key, *how)

def measure(self, asked, wanted, real=Suite.measure):
    said("measured", wanted.id)
    if wanted.id == os.environ.get("SPY_KILLS"):
        os._exit(9)
    return real(self, asked, wanted)

Store._write, Suite.measure = write, measure
"""


@dataclass(frozen=True)
class Run:
    """What a run shows, its folder, and what its processes did: (worker, what, of which) in order."""

    code: int
    shown: str
    folder: Path
    log: list[tuple[str, ...]]

    @property
    def results(self) -> dict:
        return json.loads((self.folder / "report" / "results.json").read_text())

    @property
    def proposals(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in (self.folder / "report" / "proposals").rglob("*.json")}

    def what(self, word: str) -> list[tuple[str, str]]:
        return [(worker, which) for worker, did, which in self.log if did == word]


def run(folder, cache, *args, plugin=SPY, **env) -> Run:
    """`pytest benchmarks` in a process of its own, on one thread as the tests of this process are."""
    (folder / "spy.py").write_text(plugin)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {"CODI_BENCH_CACHE": str(cache), "SPY_LOG": str(folder / "log"), "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **env}
    done = subprocess.run(
        [sys.executable, "-m", "codi_bench.cli", "run", "-p", "spy", "-p", "no:cacheprovider", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | env,
    )
    log = [tuple(line.split()) for line in (folder / "log").read_text().splitlines()]
    return Run(done.returncode, done.stdout + done.stderr, folder, log)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cache):
    return run(tmp_path_factory.mktemp("alone"), cache, *GIVEN, "--update-baselines")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    return run(folder, folder / "cache", *GIVEN, "--update-baselines", "-n", "2", "-v")


def rows(results) -> dict[tuple, dict]:
    return {(row["claim"], row["model"], row["metric"], row["protocol"]): row for row in results["rows"]}


# Several workers


def test_two_workers_find_what_one_process_finds(alone, shared):
    assert alone.code == shared.code == 1, shared.shown[-3000:]  # proposed, which never passes
    first, second = alone.results, shared.results
    assert {row["claim"] for row in first["rows"] if row["status"] == "ok"} == set(ASKED)
    assert first["rows"] == second["rows"]
    timeless = dict.fromkeys(("date", "seconds", "speed"))
    assert first["environment"] | timeless == second["environment"] | timeless
    assert alone.proposals == shared.proposals and len(shared.proposals) == len(ASKED)


def test_what_workers_share_is_computed_once(alone, shared):
    computed = Counter(which for _, which in shared.what("computed"))
    assert set(computed.values()) == {1} and set(computed) == {which for _, which in alone.what("computed")}
    assert set(computed) == {entry.path.stem for entry in entries(shared.folder / "cache" / "store")}


def test_claims_of_one_family_go_to_one_worker(shared):
    workers = defaultdict(set)
    for worker, claim in shared.what("measured"):
        workers[CLAIMS[claim].family].add(worker)
    assert {len(each) for each in workers.values()} == {1} and len(set.union(*workers.values())) == 2
    assert f"{len(ASKED)} to measure (one claim on one model each)" in shared.shown and "; 2 workers share it" in shared.shown
    assert "scheduling tests via ByFamily" in shared.shown and "@codi-bench" not in shared.shown


def test_what_a_worker_dies_of_is_said_and_not_tried_again(alone, cache, tmp_path):
    """Those of its family come after it, in another worker; those of the others are measured beside it."""
    asked = [name for name, claim in ASKED.items() if claim.family in ("SAE errors", "latents", "size")]
    given = ("--model", MODEL, "--n", "160", *(word for name in asked for word in ("--claim", name)))
    found = run(tmp_path, cache, *given, "-n", "2", SPY_KILLS="sae-train-accuracy")
    tried = Counter(claim for _, claim in found.what("measured"))
    assert found.code == 1 and tried == Counter(asked), found.shown[-3000:]
    after, killed = rows(found.results), ("sae-train-accuracy", MODEL)
    assert all(after[key] == row for key, row in rows(alone.results).items() if key[0] in asked and key[:2] != killed)
    dead = [row for key, row in after.items() if key[:2] == killed]
    assert dead and all(row["reason"].startswith("crashed while it was measured") for row in dead)
    assert f"crashed while running 'benchmarks/test_sae.py::test_sae[{MODEL}-sae-train-accuracy]'" in found.shown


def test_another_way_to_deal_that_was_asked_for_is_left(cache, run_benchmarks, monkeypatch):
    monkeypatch.setenv("CODI_BENCH_CACHE", str(cache))
    given = ("--model", MODEL, "--n", "160", "--claim", "size", "--claim", "task-accuracy")
    found = run_benchmarks(*given, "-n", "1", "--dist", "loadfile", "-v")
    assert found.ret == 0 and "scheduling tests via LoadFileScheduling" in found.stdout.str()
    assert "codi-bench: 2 to measure" in found.stdout.str()


def test_what_workers_refuse_is_said_once_and_nobody_takes_their_place(run_benchmarks):
    found = run_benchmarks("--model", "../x=nowhere", "-n", "1")
    assert found.ret == 2 and found.stdout.str().count("--model '../x': a name has letters") == 1
    assert "crashed" not in found.stdout.str()


def test_other_suites_are_dealt_as_xdist_has_it(pytester):
    pytester.makepyfile(test_other="import pytest\n@pytest.mark.parametrize('size', range(6))\ndef test_it(size): pass\n")
    pytester.makeconftest(
        "import sys\n"
        "def pytest_terminal_summary(): print('loaded', sorted({'torch', 'codi_bench.suite.suite'} & sys.modules.keys()))"
    )
    result = pytester.runpytest_subprocess("-n", "2", "-v")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["*scheduling tests via LoadScheduling*", "*loaded []*"])
    assert not re.search("codi-bench: |workers share", result.stdout.str())


# A part of a run


@pytest.fixture
def part(run_benchmarks, pytester, cache, monkeypatch):
    """A function (*arguments) → the rows that a run in this process measured."""
    monkeypatch.setenv("CODI_BENCH_CACHE", str(cache))

    def go(*args):
        run_benchmarks("--n", "160", *args)
        return measured(json.loads((pytester.path / "report" / "results.json").read_text()))

    return go


def measured(results, *claims) -> dict[tuple, dict]:
    """The measured rows of a run, of some claims alone if told."""
    return {key: row for key, row in rows(results).items() if row["status"] == "ok" and (not claims or key[0] in claims)}


@pytest.mark.parametrize(
    ("args", "selected"),
    [
        (["--claim", "sae-quality", "--claim", "log-parity"], ["sae-quality", "log-parity"]),
        (["-k", "sae and not width"], [name for name in ASKED if name.startswith("sae-") and name != "sae-width"]),
    ],
)
def test_a_part_of_a_run_has_the_rows_of_the_whole_and_no_others(alone, part, args, selected):
    assert part("--model", MODEL, *args) == measured(alone.results, *selected)


def test_what_failed_last_is_measured_again_and_nothing_else(alone, part):
    part("--model", MODEL, "-k", "sae-width or task-accuracy", "--update-baselines")  # proposed, so failed
    assert part("--model", MODEL, "--lf") == measured(alone.results, "sae-width", "task-accuracy")


def test_another_model_beside_it_changes_no_row(alone, part):
    both = part("--claim", "size")
    assert {model for _, model, *_ in both} == {"gpt2-mini", "llama-mini"}
    assert {key: row for key, row in both.items() if key[1] == MODEL} == measured(alone.results, "size")


# One worker a GPU (there is none here: PyTorch is told that there are some, and the model stays on the CPU)


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """A function (count) that makes PyTorch see so many, and gives the list of devices that models are loaded to."""
    monkeypatch.setenv("CODI_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(codi_bench.suite.suite, "preflight", lambda *_: None)
    asked = []

    def load(where, *, device, **how):
        asked.append(device)
        return replace(models.load(where, device="cpu", **how), device=device)

    def see(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H100")
        monkeypatch.setattr(codi_bench.suite.suite, "load", load)
        return asked

    return see


@pytest.mark.parametrize(
    ("count", "worker", "given", "device"),
    [
        (2, 0, {"gpu": True}, "cuda:0"),
        (2, 1, {"gpu": True}, "cuda:1"),
        (2, 3, {"gpu": True}, "cuda:1"),
        (4, 2, {"device": "cuda"}, "cuda:2"),
        (4, 2, {"device": "cuda:1"}, "cuda:1"),
        (4, 2, {"device": "cpu"}, "cpu"),
        (4, 2, {}, "cpu"),  # where the embedded pair is recorded
        (4, 2, {"models": [f"mine={REGISTRY[MODEL].folder}"]}, "cuda:2"),
        (4, None, {"models": [f"mine={REGISTRY[MODEL].folder}"]}, "auto"),
        (4, None, {"gpu": True}, "cuda"),
        (1, 3, {"gpu": True}, "cuda"),
    ],
)
def test_each_worker_has_its_own_gpu_unless_one_was_named(gpus, count, worker, given, device):
    asked = gpus(count)
    suite = Suite(**{"models": [MODEL], **given}, worker=worker)
    assert suite.bench_of(suite.asked_models[-1].name)[0] is not None and asked == [device]


def test_workers_on_equal_gpus_share_what_is_stored_and_say_the_same_of_it(gpus, tmp_path):
    gpus(2)
    suites = [Suite(models=[MODEL], gpu=True, worker=worker) for worker in range(2)]
    benches = [suite.bench_of(MODEL)[0] for suite in suites]
    assert [bench.model.device for bench in benches] == ["cuda:0", "cuda:1"]
    for bench in benches:
        captured(bench, 3, 1)
        bench.cached(np.ndarray, np.sort, np.arange(3.0), axis=0)
    assert len(entries(tmp_path / "store")) == 2
    first, second = (facts_of(suite, MODEL) | {"speed": None} for suite in suites)
    assert first == second and first["device"] == "cuda float32"
    assert environment(benches[0].model.device, "float32") == environment(benches[1].model.device, "float32")


GPUS = """
import torch
import codi_bench.suite.suite as suite
from dataclasses import replace

torch.cuda.device_count, torch.cuda.is_available = lambda: 2, lambda: True
torch.cuda.get_device_name = lambda device=None: "NVIDIA H100"

def load(where, *, device, real=suite.load, **how):
    said("loaded", device)
    return replace(real(where, device="cpu", **how), device=device)

suite.load = load
"""


def test_workers_of_a_run_take_the_gpus_in_turn(tmp_path):
    given = ["-m", "gpu", "--model", MODEL, "--n", "20", "--claim", "size", "--claim", "task-accuracy", "-n", "2"]
    found = run(tmp_path, tmp_path, *given, plugin=SPY + GPUS)
    assert found.code == 0 and set(found.what("loaded")) == {("gw0", "cuda:0"), ("gw1", "cuda:1")}, found.shown[-3000:]
    assert found.results["environment"]["devices"] == {MODEL: "cuda float32"}


@pytest.mark.parametrize(
    ("workers", "count", "markexpr", "options", "said"),
    [
        (3, 2, "gpu", {}, "3 workers share 2 GPUs; with -n 2 each has its own"),
        (2, 1, "", {"device": "cuda"}, "2 workers share 1 GPU; with -n 1 each has its own"),
        (2, 1, "", {"models": ["mine=folder"]}, "2 workers share 1 GPU; with -n 1 each has its own"),
        (2, 2, "gpu", {}, ""),
        (2, 1, "", {"device": "cuda:0"}, ""),  # as the user wishes
        (2, 1, "gpu", {"device": "cpu"}, ""),
        (2, 1, "", {}, ""),
        (2, 0, "gpu", {}, ""),
    ],
)
def test_too_many_workers_for_the_gpus_are_told_so(gpus, workers, count, markexpr, options, said):
    gpus(count)
    assert crowded(SimpleNamespace(**{"models": [], "device": "auto"} | options), markexpr, workers) == said
