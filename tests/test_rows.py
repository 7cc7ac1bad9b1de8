"""Trained embedding rows, phases and batches by length: what learns, what is written, and runs that were killed."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from checkpoints import FAMILIES, edit_json, killed_at, same_weights
from safetensors.torch import load_file, save_file

from benchmarks.stress.tiny import write_base
from codi_bench.errors import CheckpointError, InputError
from codi_bench.models.backbone import read_backbone
from codi_bench.models.loading import load
from codi_bench.models.objective import codi_losses, encode_examples
from codi_bench.problems import generate
from codi_bench.training import lora
from codi_bench.training import train as training
from codi_bench.training.recipes import LORA_RECIPES, lora_recipe
from codi_bench.training.rows import RowCodi

pytest.importorskip("peft")

SETS = [generate(40, seed=3, split="train"), generate(30, seed=4, split="train")]
QUESTIONS = [p.question for p in generate(12, seed=5)]


def small(base, family, **changes):
    """The recipe of smollm2-135m over a tiny backbone, two phases."""
    settings = {"rank": 8, "inner": 48, "steps": (4, 3), "batch_size": 4, "accumulate": 2, "learning_rate": 2e-2}
    ours = dataclasses.replace(LORA_RECIPES["smollm2-135m"], name=f"tiny-{family}", family=family, base=str(base))
    return lora.with_changes(ours, **{**settings, "dtype": "float32", "answer_shift": 0, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """family → a finished run; GPT-2's head is its embedding, Llama's is not."""
    runs = {}
    for family in ("gpt2", "llama"):
        folder = tmp_path_factory.mktemp(family)
        recipe = small(write_base(family, folder / "base"), family)
        runs[family] = lora.finetune(recipe, SETS, folder / "work", save_every=2, log_every=1)
    return runs


@pytest.fixture
def codi(request, tiny_folders):
    return load(tiny_folders[request.param], device="cpu").codi.train().requires_grad_(True)


def tables(codi):
    return [module.weight for module in (codi.backbone.get_input_embeddings(), codi.backbone.get_output_embeddings())]


# Rows


@pytest.mark.parametrize("codi", ["gpt2", "llama"], indirect=True)
def test_rows_learn_as_they_would_in_a_table_that_learns_whole(codi):
    examples = encode_examples(codi, SETS[0][:6])
    rows = RowCodi(copy.deepcopy(codi).requires_grad_(False))
    rows.embedding_rows.requires_grad_(True)
    losses = []
    for model in (codi, rows):
        losses.append(codi_losses(model, examples).total())
        losses[-1].backward()
    torch.testing.assert_close(losses[1], losses[0])
    ids = [codi.eos_id, codi.pad_id, codi.bot_id, codi.eot_id]
    wanted = tables(codi)[0].grad[ids]
    assert wanted[[0, 2, 3]].norm(dim=1).min() > 1e-3
    torch.testing.assert_close(rows.embedding_rows.grad, wanted, atol=1e-6, rtol=1e-4)


@FAMILIES
def test_four_rows_change_and_no_others(trained, family):
    done = trained[family]
    fresh, codi = lora.new_model(done.recipe, done.base), done.run.model
    for before, after in zip(tables(fresh), tables(codi)):
        changed = (before != after).any(1).nonzero().flatten().tolist()
        assert changed == [codi.eos_id, codi.pad_id, codi.bot_id, codi.eot_id]
    rows = done.trained_parameters - sum(p.numel() for p in codi.parameters() if p.requires_grad)
    assert rows == {"gpt2": 4 * 32, "llama": 2 * 4 * 32}[family]


@pytest.mark.parametrize("rows", [False, True])
def test_an_answer_ends_only_if_its_end_is_unlike_another_word(tmp_path, rows):
    """Planted: the end is the twin of a word that is in no answer. Whatever LoRA learns, both are equally likely."""
    base = write_base("llama", tmp_path / "base", tie_word_embeddings=True)
    backbone = read_backbone(base)
    table = backbone.get_input_embeddings().weight.data
    table[1] = table[0]
    backbone.save_pretrained(base)
    recipe = small(base, "llama", rows=rows, steps=(12,), rank=16)
    codi = lora.finetune(recipe, SETS[:1], tmp_path / "work").run.model
    words = torch.tensor([[*e.question, *e.thought, *e.answer] for e in encode_examples(codi, SETS[0][:1])])
    with torch.no_grad():
        states = codi.backbone.base_model(inputs_embeds=codi.embed(words)).last_hidden_state
        twin, end = codi.logits(states[0, -2])[:2]  # before the end
    assert codi.eos_id == 1 and (end - twin > 0.3 if rows else end == twin)


# What is written


@FAMILIES
def test_three_formats_answer_alike_with_trained_rows(trained, family, tmp_path):
    done = trained[family]
    codi, recipe = done.run.model, done.recipe
    own = load(lora.export_own(codi, done.base, tmp_path / "own", dtype=torch.float32), device="cpu")
    folder = lora.export_published(codi, tmp_path / "published")
    published = load(folder, base=done.base, device="cpu", num_latents=6, lora_alpha=32)
    small_folder = lora.export_adapter(codi, recipe, done.base_hash, tmp_path / "adapter")
    adapter = load(small_folder, device="cpu")
    for mine, theirs, rounded in zip(tables(codi), tables(published.codi), tables(adapter.codi)):
        assert torch.equal(mine, theirs)
        torch.testing.assert_close(rounded, mine, atol=2e-3, rtol=2e-3)
    assert published.answer(QUESTIONS, max_new_tokens=8).tokens == own.answer(QUESTIONS, max_new_tokens=8).tokens
    wanted = own.think(QUESTIONS).latents
    for model, limit in ((published, 1e-4), (adapter, 0.05)):
        assert abs(model.think(QUESTIONS).latents - wanted).max() < limit * abs(wanted).max()


def test_an_adapter_says_whether_it_has_the_row_of_eos(trained, tmp_path):
    done = trained["llama"]
    folder = lora.export_adapter(done.run.model, done.recipe, done.base_hash, tmp_path)
    tensors = load_file(folder / "adapter.safetensors")
    assert tensors["eos.embedding"].shape == tensors["eos.head"].shape == (1, 32)
    edit_json(folder / "adapter.json", eos_row=None)  # an adapter of before
    with pytest.raises(CheckpointError, match="unexpected: eos.embedding, eos.head"):
        load(folder)
    save_file({name: value for name, value in tensors.items() if not name.startswith("eos.")}, folder / "adapter.safetensors")
    assert load(folder, device="cpu").codi.num_latents == 6
    edit_json(folder / "adapter.json", eos_row=True)
    with pytest.raises(CheckpointError, match="missing: eos.embedding, eos.head"):
        load(folder)


# Phases and batches


@pytest.mark.parametrize(("family", "step"), [("gpt2", 3), ("llama", 6)])  # the second phase begins with step 4
def test_a_killed_run_ends_the_same_in_either_phase(trained, family, step, tmp_path, monkeypatch):
    done = trained[family]
    killed_at(step, lambda: lora.finetune(done.recipe, SETS, tmp_path, save_every=2, log_every=1), monkeypatch)
    torch.manual_seed(99)  # another process
    again = lora.finetune(done.recipe, SETS, tmp_path, save_every=2, log_every=1)
    assert same_weights(again.run.model, done.run.model)
    assert [{**line, "seconds": 0} for line in again.run.log] == [{**line, "seconds": 0} for line in done.run.log]


def steps_of(recipe, sets, work, monkeypatch):
    """The examples of every step of a run, in their batches, as (question, answer); nothing is trained."""
    steps = []
    monkeypatch.setattr(training, "_step", lambda job, worker, parts, step: steps.append(parts) or {"student": 0.0})
    lora.finetune(recipe, sets, work)
    return steps


def test_phases_follow_each_other_and_batches_are_of_like_length(tmp_path, monkeypatch):
    base = write_base("gpt2", tmp_path / "base")
    runs = {
        by_length: steps_of(small(base, "gpt2", by_length=by_length), SETS, tmp_path / str(by_length), monkeypatch)
        for by_length in (False, True)
    }
    codi = lora.new_model(small(base, "gpt2"), base)
    first, second = ([str(e) for e in encode_examples(codi, problems)] for problems in SETS)
    for plain, grouped in zip(runs[False], runs[True], strict=True):
        examples, lengths = [], []
        for parts in (plain, grouped):
            examples.append(sorted(str(e) for part in parts for e in part))
            lengths.append([len(e.question) + len(e.thought) + len(e.answer) for part in parts for e in part])
        assert examples[0] == examples[1] and len(grouped) == 2 and lengths[1] == sorted(lengths[0])
    seen = [{str(e) for parts in steps for part in parts for e in part} for steps in (runs[True][:4], runs[True][4:])]
    assert len(runs[True]) == 7 and seen[0] <= set(first) and seen[1] <= set(second)


def test_batches_by_length_have_the_losses_of_others(trained):
    """Each token's loss is its own, whatever it is batched with."""
    codi, totals = trained["llama"].run.model, []
    examples = encode_examples(codi, SETS[0])
    for batches in ([examples[i : i + 4] for i in range(0, 40, 4)], [sorted(examples, key=lambda e: len(e.question))]):
        with torch.no_grad():
            losses = [(codi_losses(codi, batch), batch) for batch in batches]
        totals.append(
            [
                sum(float(part.student) * sum(len(e.answer) for e in batch) for part, batch in losses),
                sum(float(part.teacher) * sum(len(e.thought) + len(e.answer) for e in batch) for part, batch in losses),
            ]
        )
    assert totals[0] == pytest.approx(totals[1], rel=1e-5) and min(totals[0]) > 1


def test_steps_are_of_as_many_phases_as_there_are_problem_sets(trained, tmp_path):
    recipe = trained["gpt2"].recipe
    assert [phase.steps for phase in trained["gpt2"].phases] == [4, 3]
    assert [phase.examples for phase in trained["gpt2"].phases] == [40, 30]
    with pytest.raises(InputError, match="steps are given for 2 phases, but problems for 1"):
        lora.finetune(recipe, SETS[:1], tmp_path)
    epochs = dataclasses.replace(recipe, steps=(), epochs=1)
    brief = lora.finetune(epochs, [SETS[0][:9], SETS[1][:8]], tmp_path)
    assert [phase.steps for phase in brief.phases] == [2, 1] and brief.run.steps == 3


def test_published_recipes_train_no_rows():
    assert not lora_recipe("mine", "gpt2").rows and not lora_recipe("mine", "llama").rows and LORA_RECIPES["smollm2-135m"].rows
