"""The training loss against a plain one, and runs that end the same whether or not they were interrupted."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F
from checkpoints import FAMILIES, killed_at, same_weights
from safetensors.torch import load_file

from codi_bench.errors import CheckpointError, UnknownNameError
from codi_bench.models.codi import Projection, start_as_identity
from codi_bench.models.loading import load
from codi_bench.models.objective import codi_losses, encode_examples, teacher_loss
from codi_bench.problems import generate
from codi_bench.training import train as training
from codi_bench.training.recipes import RECIPES, recipe

BATCH = generate(6, seed=8, split="train")


@pytest.fixture
def codi(request, tiny_folders):
    return load(tiny_folders[getattr(request, "param", "gpt2")], device="cpu").codi.train()


BOTH = pytest.mark.parametrize("codi", ["gpt2", "llama"], indirect=True)


def plain_losses(codi, examples, *, detach=True):
    """One example at a time, without cache or padding: student CE, teacher CE (each per token), distillation."""
    table, cue = codi.backbone.get_input_embeddings().weight, len(codi.tokenizer(codi.prompt.cue)["input_ids"])

    def run(embeds):
        return codi.backbone(inputs_embeds=embeds[None], output_hidden_states=True, use_cache=False)

    def word_losses(logits, ids):
        return F.cross_entropy(logits, torch.tensor(ids), reduction="none")

    student_ce, teacher_ce, pairs = [], [], []
    for e in examples:
        words = e.thought + e.answer
        teacher = run(table[e.question + words])
        teacher_ce.append(word_losses(teacher.logits[0, len(e.question) - 1 : -1], words))
        fed = torch.cat([table[e.question], table[codi.bot_id][None]])
        for _ in range(codi.num_latents):
            fed = torch.cat([fed, codi.projection(run(fed).hidden_states[-1][0, -1])[None]])
        start = len(fed)
        student = run(torch.cat([fed, table[[codi.eot_id, *e.answer]]]))
        student_ce.append(word_losses(student.logits[0, start:-1], e.answer))
        at = len(e.question) + len(e.thought) + cue - 1
        pairs.append([(s[0, start + cue], t[0, at]) for s, t in zip(student.hidden_states, teacher.hidden_states)])
    distill = []
    for layer in zip(*pairs):
        s, t = map(torch.stack, zip(*layer))
        t = t.detach() if detach else t
        distill.append(F.smooth_l1_loss(s, t) / t.std())
    return torch.cat(student_ce).mean(), torch.cat(teacher_ce).mean(), torch.stack(distill).mean()


def gradients(codi, loss):
    found = torch.autograd.grad(loss, list(codi.parameters()), retain_graph=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def parts(losses):
    return losses.student, losses.teacher, losses.distill


# The loss


def test_examples_have_the_published_shape(codi):
    for problem, example in zip(BATCH, encode_examples(codi, BATCH), strict=True):

        def words(ids):
            return "".join(codi.tokenizer.convert_ids_to_tokens(ids))

        assert words(example.question) == problem.question.replace(" ", "")
        assert words(example.thought) == "".join(problem.steps[:-1])
        assert words(example.answer) == f"Theansweris:{problem.answer}<eos>"


@BOTH
def test_losses_and_gradients_are_those_of_the_plain_loop(codi):
    examples = encode_examples(codi, BATCH)
    for found, wanted in zip(parts(codi_losses(codi, examples)), plain_losses(codi, examples), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gradients(codi, found), gradients(codi, wanted), atol=1e-4, rtol=1e-3)


@BOTH
def test_no_gradient_of_the_distillation_reaches_the_teacher(codi):
    examples = encode_examples(codi, BATCH)
    found = gradients(codi, codi_losses(codi, examples).distill)
    through = gradients(codi, plain_losses(codi, examples, detach=False)[2])
    assert (found - gradients(codi, plain_losses(codi, examples)[2])).norm() < 1e-3 * found.norm()
    assert (found - through).norm() > 0.1 * found.norm()  # a gradient into the teacher would show


@BOTH
def test_losses_weigh_every_token_alike_whatever_the_padding(codi):
    with torch.no_grad():
        examples = encode_examples(codi, BATCH)
        whole, single = codi_losses(codi, examples), [codi_losses(codi, [e]) for e in examples]
        answers, words = ([float(len(e.answer)) for e in examples], [float(len(e.thought + e.answer)) for e in examples])
        assert len({len(e.question) for e in examples}) > 1 and len(set(words)) > 1  # there is padding on both sides
        for found, each, count in (
            (whole.student, [s.student for s in single], answers),
            (whole.teacher, [s.teacher for s in single], words),
        ):
            torch.testing.assert_close(found, (torch.stack(each) * torch.tensor(count)).sum() / sum(count), atol=1e-5, rtol=1e-5)
        for found, twice in zip(parts(whole), parts(codi_losses(codi, examples[::-1])), strict=True):
            torch.testing.assert_close(found, twice, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(teacher_loss(codi, examples), whole.teacher)


def test_the_total_is_weighted(codi):
    with torch.no_grad():
        losses = codi_losses(codi, encode_examples(codi, BATCH[:2]))
    assert losses.total(distill_factor=3, teacher_factor=0.5) == losses.student + 3 * losses.distill + 0.5 * losses.teacher


# Batches and schedule


def test_batches_are_a_function_of_seed_and_step(codi):
    examples = encode_examples(codi, generate(300, seed=1, split="train"))
    steps = [training.batch_indices(examples, 8, 0, step) for step in range(2 * training.POOL)]
    assert steps == [training.batch_indices(examples, 8, 0, step) for step in range(2 * training.POOL)]
    for start in (0, training.POOL):
        pool = [i for batch in steps[start : start + training.POOL] for i in batch]
        assert len(set(pool)) == len(pool) == 8 * training.POOL
    assert steps != [training.batch_indices(examples, 8, 1, step) for step in range(2 * training.POOL)]


def test_the_learning_rate_rises_and_falls(tiny_recipe):
    shape = {"phases": (("both", 100),), "warmup": 10, "learning_rate": 1.0, "horizon": 100}
    cosine, run = tiny_recipe("gpt2", **shape, cooldown=0), tiny_recipe("gpt2", **shape, cooldown=20)
    assert training.learning_rate(cosine, 99) == pytest.approx(0.05, abs=0.001)
    rates = [training.learning_rate(run, step) for step in range(100)]
    assert rates[:81] == [training.learning_rate(cosine, step) for step in range(81)]
    assert rates[0] < 0.11 and max(rates) > 0.95 and rates[-1] == pytest.approx(training.learning_rate(cosine, 99) / 20)
    top = rates.index(max(rates))
    assert 8 <= top <= 10 and rates == sorted(rates[:top]) + sorted(rates[top:], reverse=True)


# Runs


@pytest.fixture(scope="module")
def whole(tiny_recipe, tmp_path_factory):
    """family → an uninterrupted run."""
    return {
        family: training.train(tiny_recipe(family), tmp_path_factory.mktemp("whole"), save_every=4)
        for family in ("gpt2", "llama")
    }


@pytest.mark.parametrize(("family", "at", "left"), [("gpt2", 2, 0), ("gpt2", 4, 4), ("gpt2", 10, 8), ("llama", 7, 4)])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(tiny_recipe, whole, tmp_path, monkeypatch, family, at, left):
    killed_at(at, lambda: training.train(tiny_recipe(family), tmp_path, save_every=4), monkeypatch)
    assert training.steps_done(tmp_path) == left
    steps = []
    step = training._step
    monkeypatch.setattr(training, "_step", lambda *args: steps.append(args[-1]) or step(*args))
    again = training.train(tiny_recipe(family), tmp_path, save_every=4)
    assert steps == list(range(left, 12))  # it went on, it did not start over
    assert same_weights(again.model, whole[family].model)
    assert training.steps_done(tmp_path) == 12
    finished = training.train(tiny_recipe(family), tmp_path, save_every=4)
    assert len(steps) == 12 - left and same_weights(finished.model, again.model)


def test_a_slow_run_keeps_every_step_and_ends_with_the_same_losses(tiny_recipe, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    killed_at(7, lambda: training.train(tiny_recipe("gpt2"), tmp_path), monkeypatch)
    assert training.steps_done(tmp_path) == 7
    again = training.train(tiny_recipe("gpt2"), tmp_path)
    without = [{k: v for k, v in line.items() if k != "seconds"} for line in again.log]
    assert without == [{k: v for k, v in line.items() if k != "seconds"} for line in whole["gpt2"].log] != []


def test_a_killed_run_in_half_precision(tiny_recipe, tmp_path, monkeypatch):
    options = {"dtype": torch.bfloat16, "save_every": 4}
    first = training.train(tiny_recipe("gpt2"), tmp_path / "a", **options)
    killed_at(9, lambda: training.train(tiny_recipe("gpt2"), tmp_path / "b", **options), monkeypatch)
    again = training.train(tiny_recipe("gpt2"), tmp_path / "b", **options)
    assert same_weights(first.model, again.model)
    assert {p.dtype for p in again.model.parameters()} == {torch.float32}  # the optimised weights are never rounded
    assert any(not torch.equal(p, p.bfloat16().float()) for p in again.model.parameters())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny_recipe, whole, tmp_path):
    torch.manual_seed(99)
    again = training.train(tiny_recipe("llama"), tmp_path / "again", save_every=100)
    assert same_weights(again.model, whole["llama"].model) and again.problems_hash == whole["llama"].problems_hash
    other = training.train(tiny_recipe("llama"), tmp_path / "other", seed=1)
    assert not same_weights(other.model, whole["llama"].model) and other.problems_hash != whole["llama"].problems_hash


def test_a_work_folder_of_another_run_is_refused(tiny_recipe, tmp_path):
    mine = tiny_recipe("gpt2", phases=(("both", 1),))
    first = training.train(mine, tmp_path)
    with pytest.raises(
        CheckpointError, match=r"belongs to another run \(seed, problems differ\); give an empty folder as --work"
    ):
        training.train(mine, tmp_path, seed=1)
    with pytest.raises(CheckpointError, match=r"belongs to another run \(recipe differ\)"):
        training.train(dataclasses.replace(mine, learning_rate=1e-4), tmp_path)
    again = training.train(dataclasses.replace(mine, notes=("a remark is no other run",)), tmp_path)
    assert same_weights(again.model, first.model)


@FAMILIES
def test_the_losses_fall(tiny_recipe, tmp_path, family):
    run = training.train(tiny_recipe(family, phases=(("both", 30),), horizon=30, initializer_range=0.05), tmp_path, log_every=5)
    assert [line["step"] for line in run.log] == list(range(5, 31, 5)) and run.steps == 30
    first, last = run.log[0], run.log[-1]
    assert last["student"] < first["student"] - 0.5 and last["teacher"] < first["teacher"] - 0.5
    assert [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()] == run.log


def test_the_student_learns_in_its_phases_alone(tiny_recipe, tmp_path):
    recipe = tiny_recipe("gpt2", phases=(("teacher", 2), ("both", 2), ("teacher", 1), ("both", 1)))
    run = training.train(recipe, tmp_path, log_every=1)
    alone, both = {"teacher"}, {"student", "teacher", "distill"}
    assert [set(line) - {"step", "seconds"} for line in run.log] == [alone, alone, both, both, alone, both]
    assert recipe.steps == 6 and recipe.student_starts == 2


def test_the_student_starts_as_a_soft_teacher(codi):
    examples = encode_examples(codi, BATCH)
    training._start_student(codi, examples)
    table, x = codi.backbone.get_input_embeddings().weight, torch.randn(5, 32)
    scale = table[: codi.vocab_size].square().mean().sqrt()
    torch.testing.assert_close(codi.projection(x), scale * F.layer_norm(x, (32,)), atol=1e-4, rtol=1e-4)
    words = codi.tokenizer.convert_tokens_to_ids(["?", ">>"])
    assert torch.equal(table[[codi.bot_id, codi.eot_id]], table[words])
    with pytest.raises(ValueError, match="an identity needs the inner width 64, not 24"):
        start_as_identity(Projection(32, 24), 1.0)


def test_an_exported_run_is_a_model_folder(whole, tmp_path):
    training.export(whole["gpt2"], tmp_path / "m")
    codi = load(tmp_path / "m", device="cpu").codi
    for (name, value), trained in zip(codi.named_parameters(), whole["gpt2"].model.parameters(), strict=True):
        assert torch.equal(value, trained.half().float()), name
    assert {v.dtype for v in load_file(tmp_path / "m" / "model.safetensors").values()} == {torch.float16}


def test_recipes_by_name():
    names = ("gpt2-mini", "llama-mini", "gpt2-mini-pause", "llama-mini-pause")
    assert {recipe(name) for name in names} == set(RECIPES.values())
    with pytest.raises(UnknownNameError, match="unknown recipe 'gpt-mini': did you mean 'gpt2-mini'"):
        recipe("gpt-mini")
