"""Published checkpoints through the suite: own columns, the hub's cache, and the preflight, each fault of which is planted.

There is no GPU here: `--device cpu` runs what `-m gpu` runs. The published checkpoint is gpt2-mini in the published layout.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from codi_bench.cli import app
from codi_bench.models.codi import Codi
from codi_bench.models.loading import load
from codi_bench.models.model import Model
from codi_bench.models.registry import REGISTRY
from codi_bench.plugin.options import gpu_asked
from codi_bench.problems import files, generate
from codi_bench.problems.files import is_gsm8k_test
from codi_bench.records.gate import gate_file, gate_text, load_gate
from codi_bench.store.cache import Store
from codi_bench.store.files import package_folder
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.preflight import CLOSE, preflight
from codi_bench.suite.problem_source import ProblemSource

pytestmark = pytest.mark.usefixtures("plain_reports")
N = 40


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(checkpoint, base): gpt2-mini as a published checkpoint without LoRA."""
    folder, mini = tmp_path_factory.mktemp("published"), REGISTRY["gpt2-mini"].folder
    codi = load("gpt2-mini", device="cpu").codi
    for name in ("base", "checkpoint"):
        (folder / name).mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(mini / name, folder / "base")
    config = json.loads((mini / "config.json").read_text())
    (folder / "base" / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] - 3}))
    tensors = {f"codi.{k}": v.clone() for k, v in codi.backbone.state_dict().items() if k != "lm_head.weight"}
    tensors |= {f"prj.{k}": v.clone() for k, v in codi.projection.state_dict().items()}
    save_file(tensors, folder / "checkpoint" / "model.safetensors")
    return folder / "checkpoint", folder / "base"


@pytest.fixture
def given(published, gsm8k):
    """A function (name) → the arguments that give the published weights to a model of that name."""
    checkpoint, base = published
    problems = ["--problems", f"gsm8k={gsm8k}"]
    return lambda name: ["--model", f"{name}={checkpoint}", "--base", f"{name}={base}", *problems]


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory):
    """The generated test problems in GSM8K's own format."""
    path = tmp_path_factory.mktemp("problems") / "test.jsonl"
    rows = [{"question": p.question, "answer": "\n".join([*p.steps, f"#### {p.answer}"])} for p in generate(1000)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One store for the runs of this file: what was captured once is not captured again."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(run_benchmarks, pytester, monkeypatch, cache):
    monkeypatch.setenv("CODI_BENCH_CACHE", str(cache))

    def run(*args):
        result = run_benchmarks(*args)
        path = pytester.path / "report" / "results.json"
        rows = json.loads(path.read_text())["rows"] if path.is_file() else []
        return result, {(row["claim"], row["model"], row["metric"]): row for row in reversed(rows)}  # reported before sound

    return run


@pytest.fixture
def as_gpt2(monkeypatch, tmp_path):
    """The registered gpt2 has the shape of gpt2-mini, and a baseline folder whose reported accuracy a test may set."""
    monkeypatch.setitem(
        REGISTRY, "gpt2", replace(REGISTRY["gpt2"], layers=(1, 2, 3), sae_layers=(1, 2, 3), num_layers=4, width=104)
    )
    folder = Path(shutil.copytree(package_folder("baselines"), tmp_path / "baselines"))
    gate = load_gate(folder, "gpt2").model_copy(update={"answers": ()})  # those of CODI-GPT-2 are no made-up model's
    (folder / gate_file("gpt2")).write_text(gate_text(gate))

    def reported(value):
        path = folder / "gpt2" / "task-accuracy.json"
        held = json.loads(path.read_text())
        held["reported"]["metrics"]["accuracy"]["value"] = value
        path.write_text(json.dumps(held))
        return folder

    return reported


def test_an_own_checkpoint_is_one_more_column(run, given):
    result, rows = run(
        *given("mine"), "--model", "gpt2-mini", *["--device", "cpu", "--claim", "task-accuracy", "--claim", "size", "--n"], N
    )
    mine, embedded = rows["task-accuracy", "mine", "accuracy"], rows["task-accuracy", "gpt2-mini", "accuracy"]
    assert mine["measured"] == embedded["measured"] and mine["detail"]["outcomes"] == embedded["detail"]["outcomes"]
    assert mine["reported"] is None and mine["reproduction"] is None and mine["regression"] == "UNCHECKED"
    assert rows["size", "mine", "layers"]["measured"]["value"] == 4
    result.stdout.fnmatch_lines(["*gpt2-mini*mine*"])
    assert result.ret == 0 and "passed" not in result.outlines[-1]  # --n is unchecked for all


def test_an_own_checkpoint_has_nothing_to_be_red_against(run, given):
    for strict in ([], ["--strict"]):
        result, _rows = run(*given("mine"), "--model", "gpt2-mini", "--claim", "size", "--device", "cpu", *strict)
        assert result.ret == 0 and "1 passed" in result.outlines[-1] and "1 unchecked" in result.outlines[-1]
    # in a GPU run it is there too
    result, _ = run(*given("mine"), "-m", "gpu", "--device", "cpu", "--claim", "size", "--model", "gpt2")
    assert "1 unchecked" in result.outlines[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_given_weights_without_a_gpu_are_not_run_either(run, given):
    for name in ("mine", "gpt2"):
        result, rows = run(*given(name), "-m", "gpu", "--claim", "size")
        row = rows.get(("size", name, "layers")) or rows["size", name, "-"]
        assert result.ret == 0 and row["status"] == "not-run" and "this machine has no GPU" in row["reason"]


def test_what_goes_wrong_on_a_device_is_a_row(run, monkeypatch):
    def full(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore lines.")

    monkeypatch.setattr(Model, "answers", full)
    monkeypatch.setattr(Store, "fetch_filled", lambda self, key, name, shape, fill: fill(None))
    result, rows = run("--model", "gpt2-mini", "--claim", "task-accuracy", "--claim", "size")
    row = rows["task-accuracy", "gpt2-mini", "accuracy"]
    assert row["status"] == "blocked" and row["reason"] == "CUDA out of memory."
    assert "1 passed" in result.outlines[-1] and "1 blocked" in result.outlines[-1]


def test_a_published_model_is_measured_against_what_was_reported(run, as_gpt2, given):
    options = ("--device", "cpu", "-m", "gpu", "--baselines", as_gpt2(0.516), "--claim", "task-accuracy", "--claim", "size")
    result, rows = run(*given("gpt2"), *options)
    row = rows["task-accuracy", "gpt2", "accuracy"]
    assert row["status"] == "ok" and row["reproduction"] == "REPRODUCED" and row["regression"] == "UNCHECKED"
    assert "other list" in row["detail"]["reproduction"]  # the generated problems are not the ones it was reported on
    backbone = load("gpt2-mini", device="cpu").codi.backbone
    assert rows["size", "gpt2", "parameters"]["measured"]["value"] == sum(p.numel() for p in backbone.parameters())
    assert rows["size", "gpt2", "parameters"]["reproduction"] == "NOT REPRODUCED"  # 0.6 M are not 124 M
    assert "size on gpt2: parameters: NOT REPRODUCED, fact: measured" in " ".join(result.stdout.str().split())
    assert result.ret == 1 and "1 failed" in result.outlines[-1]  # nothing is recorded: a number that does not come out is red


def test_wrong_accuracy_blocks_everything(run, as_gpt2, given):
    options = ("--device", "cpu", "-m", "gpu", "--baselines", as_gpt2(0.9), "--claim", "task-accuracy", "--claim", "size")
    result, rows = run(*given("gpt2"), *options, "--model", "llama-3.2-1b")
    found = [row for key, row in rows.items() if key[1] == "gpt2" and key[0] in ("task-accuracy", "size")]
    assert {row["status"] for row in found} == {"blocked"} and "2 blocked" in result.outlines[-1]
    assert all("preflight: task accuracy 51.6 % of 1000 is outside 88.0-91.7 %" in row["reason"] for row in found)
    assert all(row["measured"] is None and row["reproduction"] is None for row in found)
    assert rows["task-accuracy", "gpt2", "accuracy"]["reported"]["value"] == 0.9  # the published number stays in the table
    assert run(*given("gpt2"), *options, "--strict")[0].ret == 1


def test_another_model_under_a_published_name_is_blocked(run, given):
    _, rows = run(*given("gpt2"), "--device", "cpu", "-m", "gpu", "--claim", "size", "--model", "gpt2-mini")
    assert "a gpt2 model of 4 layers and width 104 is not zen-E/CODI-gpt2" in rows["size", "gpt2", "layers"]["reason"]


def test_published_weights_are_found_in_the_hub_cache(run, as_gpt2, published, gsm8k, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    options = ("-m", "gpu", "--device", "cpu", "--model", "gpt2", "--claim", "task-accuracy", "--baselines", as_gpt2(0.516))
    result, rows = run(*options, "--problems", f"gsm8k={gsm8k}")
    assert rows["task-accuracy", "gpt2", "accuracy"]["status"] == "not-run" and result.ret == 0
    reason = rows["task-accuracy", "gpt2", "accuracy"]["reason"]
    assert "hf download zen-E/CODI-gpt2" in reason and "--model gpt2=FOLDER --base gpt2=FOLDER" in reason

    for repository, folder in zip(("models--zen-E--CODI-gpt2", "models--gpt2"), published):
        snapshot = tmp_path / "hub" / repository / "snapshots" / (40 * "a")
        shutil.copytree(folder, snapshot)
        (tmp_path / "hub" / repository / "refs").mkdir()
        (tmp_path / "hub" / repository / "refs" / "main").write_text(40 * "a")
    _, rows = run(*options, "--problems", f"gsm8k={gsm8k}")
    assert rows["task-accuracy", "gpt2", "accuracy"]["reproduction"] == "REPRODUCED"

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    _, rows = run(*options)  # the weights are there, the problems are not
    reason = rows["task-accuracy", "gpt2", "accuracy"]["reason"]
    assert rows["task-accuracy", "gpt2", "accuracy"]["status"] == "not-run" and "--problems gsm8k=FILE" in reason


BAD = {
    "base without model": (["--base", "mine=somewhere"], "--base mine=somewhere: there is no such model in this run"),
    "published checkpoint without base": (["--model", "mine={checkpoint}"], "--base mine=FOLDER"),
    "set of no model": (["--problems", "svamp={problems}"], "no model of this run is measured on svamp"),
    "two sets": (
        ["--model", "mine={checkpoint}", "--problems", "svamp={problems}", "--problems", "multiarith={problems}"],
        "svamp and multiarith are given, but mine is measured on one set",
    ),
    "base missing": (["--model", "mine={checkpoint}", "--base", "mine=no/where/at/all"], "no/where/at/all: no such folder"),
    "alpha": (
        ["--model", "mine={checkpoint}", "--base", "mine={base}", "--lora-alpha", "-1"],
        "-alpha must be a finite number",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_end_the_run_before_it_starts(what, run, published, tmp_path):
    args, message = BAD[what]
    checkpoint, base = published
    problems = tmp_path / "own.jsonl"
    problems.write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    result, _ = run(*(arg.format(checkpoint=checkpoint, base=base, problems=problems) for arg in args))
    text = result.stdout.str() + result.stderr.str()
    assert result.ret == 2 and message in text and "Traceback" not in text


ASKED = ("gpu", "gpu or study", "gpu and study", "gpu and questions and not perf")
NOT_ASKED = ("study or not study", "study", "not gpu", "", "perf", "not (gpu or study)")


@pytest.mark.parametrize("expression", ASKED + NOT_ASKED)
def test_a_gpu_run_is_one_that_asks_for_it(expression):
    assert gpu_asked(expression) is (expression in ASKED)


# What a checkpoint is known to answer is decoded again


@pytest.fixture
def written(pytester):
    """What the last run's report says, on one line."""
    return lambda: " ".join((pytester.path / "report" / "report.txt").read_text().split())


def test_an_own_checkpoint_is_pinned_and_what_answers_otherwise_is_blocked(run, written, published, gsm8k, as_gpt2):
    folder, (checkpoint, base) = as_gpt2(0.516), published
    given = ["--problems", f"gsm8k={gsm8k}", "--device", "cpu", "--baselines", folder]
    command = ["baselines", "gate", f"mine={checkpoint}", "--base", base, *given, "--n", 12, "--source", "this test"]

    def pin(*more):
        return CliRunner().invoke(app, [*map(str, (*command, *more))])

    assert pin().exit_code == 0
    path = folder / "_gate" / "mine.json"
    first = path.read_text()
    measured = ["--model", f"mine={checkpoint}", "--base", f"mine={base}", *given, "--claim", "size", "--n", N]
    _, rows = run(*measured)
    assert rows["size", "mine", "layers"]["status"] == "ok"
    assert "preflight, mine: 12 answers were decoded again and are as recorded (this test; this is torch " in written()

    path.write_text(first.replace('"tokens": "', '"tokens": "9 ', 1))
    _, rows = run(*measured)
    row = rows.get(("size", "mine", "layers")) or rows["size", "mine", "-"]
    assert row["status"] == "blocked" and row["measured"] is None
    assert row["reason"].startswith("preflight: gate: 1 of 12 answers are not those of this test: the first is problem 1, ")
    refused = pin()
    assert refused.exit_code != 0 and "give --answers-changed" in str(refused.exception)
    assert pin("--answers-changed").exit_code == 0 and path.read_text() == first


def test_a_checkpoint_of_which_nothing_is_recorded_says_so_beside_its_numbers(run, written, as_gpt2, given):
    options = ("--device", "cpu", "-m", "gpu", "--baselines", as_gpt2(0.516), "--claim", "size")
    _, rows = run(*given("gpt2"), *options)
    assert rows["size", "gpt2", "layers"]["status"] == "ok"
    assert "preflight, gpt2: nothing is recorded of what this checkpoint answers: nothing was decoded again" in written()
    assert "others measured 43.67 % under transformers 4.52.4 and peft 0.15.2; 37.23 % under a newer image" in written()


# The preflight finds what is planted


@pytest.fixture
def bench(tmp_path):
    return ModelBench(load("gpt2-mini", device="cpu"), Store(tmp_path), ProblemSource(n=N))


def unmasked(bench, monkeypatch):
    pad = Codi.pad
    monkeypatch.setattr(Codi, "pad", lambda self, sequences: (pad(self, sequences)[0], torch.ones_like(pad(self, sequences)[1])))


def unmasked_and_lenient(bench, monkeypatch):
    unmasked(bench, monkeypatch)
    monkeypatch.setitem(CLOSE, "float32", 1e9)


def deeper(bench, monkeypatch):
    return replace(bench, model=replace(bench.model, entry=replace(bench.model.entry, num_layers=24)), memo={})


def not_finite(bench, monkeypatch):
    with torch.no_grad():
        bench.model.codi.projection.ln.bias.fill_(float("nan"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unmasked, "hidden states in a batch of 16 differ"),
        (unmasked_and_lenient, "an answer in a batch of 16 differs"),
        (deeper, "width 104 is not gpt2-mini"),
        (not_finite, "not finite"),
    ],
)
def test_a_sound_model_passes_and_a_damaged_one_is_found(bench, padded, monkeypatch, damage, message):
    assert preflight(bench, None) is None
    assert message in preflight(damage(bench, monkeypatch) or bench, None)


def test_a_file_of_few_problems_is_taken_whole(bench):
    assert preflight(replace(bench, problems=ProblemSource(tuple(generate(3)))), None) is None


def test_the_published_list_is_known_by_its_hash(monkeypatch):
    problems = generate(1000)
    assert not is_gsm8k_test(problems) and not is_gsm8k_test([])
    text = "\n".join(" ".join(p.question.split()) for p in problems)
    monkeypatch.setattr(files, "GSM8K_TEST", hashlib.sha256(text.encode()).hexdigest())
    assert (
        is_gsm8k_test([*problems, *generate(3, seed=1)]) and not is_gsm8k_test(problems[::-1]) and not is_gsm8k_test(problems[1:])
    )
