"""Coconut's published checkpoint: its layout loads as `coconut-gpt2`, and thinks as a plain reading of Coconut's loop does."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import V, base_without_weights, in_hub_cache, published_outputs, refusal, wide_backbone
from huggingface_hub import constants
from torch import nn
from transformers import AutoTokenizer

from codi_bench.audits.patching import Patch
from codi_bench.claims import CLAIMS
from codi_bench.claims.runs import condition_of
from codi_bench.errors import CheckpointError
from codi_bench.models import answering
from codi_bench.models.checkpoint import save_folder
from codi_bench.models.codi import COCONUT, CODI
from codi_bench.models.conditions import CLEAN
from codi_bench.models.edits import Edit
from codi_bench.models.loading import load
from codi_bench.models.objective import encode_examples
from codi_bench.models.registry import REGISTRY
from codi_bench.problems import Problem
from codi_bench.store.cache import Store
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.preflight import preflight
from codi_bench.suite.problem_source import ProblemSource

NAME, FILE = "coconut-gpt2", "checkpoint_33"
K, LAYERS, WIDTH, NEW = 6, 4, 32, 8
START, END, LATENT = V, V + 1, V + 2  # as the training appends them to the tokenizer
QUESTIONS = published_outputs("gpt2")["questions"][:4]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Configuration and tokenizer of a GPT-2 of four layers."""
    return base_without_weights("gpt2", tmp_path_factory.mktemp("coconut") / "base", n_layer=LAYERS)


@pytest.fixture(scope="module")
def backbone(base):
    return wide_backbone(base, 0)


def state_dict(backbone):
    """As the wrapper is saved: the language model, and its embedding once more."""
    tensors = {f"base_causallm.{key}": value for key, value in backbone.state_dict().items()}
    return tensors | {"embedding.weight": backbone.transformer.wte.weight.detach()}


@pytest.fixture
def checkpoint(backbone, tmp_path, monkeypatch):
    """A folder with the one file that there is; saved from a GPU, as the published one was."""
    (tmp_path / "checkpoint").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(state_dict(backbone), tmp_path / "checkpoint" / FILE)
    return tmp_path / "checkpoint"


@pytest.fixture
def model(checkpoint, base):
    return load(checkpoint, base=base, name=NAME, device="cpu")


@torch.no_grad()
def plain_coconut(backbone, base, question):
    """(latents [K + 1, d], answer ids): every pass over the whole sequence anew, a latent is the state before its place."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = tokenizer(question + "\n")["input_ids"]
    embedding = backbone.get_input_embeddings()
    embeds = embedding(torch.tensor([*ids, START, *[LATENT] * K, END]))[None].clone()

    def states():
        return backbone.transformer(inputs_embeds=embeds).last_hidden_state[0]

    first = len(ids) + 1
    for place in range(first, first + K):
        embeds[0, place] = states()[place - 1]
    latents, answer = states()[first - 1 : first + K], []
    while len(answer) < NEW and tokenizer.eos_token_id not in answer:
        logits = backbone.lm_head(states()[-1])
        logits[END] = -torch.inf  # here end-latent is never generated; Coconut is never trained to
        answer.append(int(logits.argmax()))
        embeds = torch.cat([embeds, embedding(torch.tensor([[answer[-1]]]))], dim=1)
    return latents, tuple(answer)


def test_latents_and_answers_are_those_of_coconut(model, backbone, base):
    assert isinstance(model.codi.projection, nn.Identity) and model.num_latents == K
    assert {parameter.dtype for parameter in model.codi.parameters()} == {torch.float32}
    assert model.codi.num_parameters == sum(parameter.numel() for parameter in backbone.parameters())
    found = model.think(QUESTIONS, max_new_tokens=NEW)
    for i, question in enumerate(QUESTIONS):
        latents, answer = plain_coconut(backbone, base, question)
        torch.testing.assert_close(torch.tensor(found.latents[i]), latents, atol=1e-4, rtol=1e-4)
        assert found.answers.tokens[i] == answer
    assert len(set(found.answers.tokens)) > 1  # an answer depends on its question


@pytest.mark.parametrize("question", ["Mia has 7  apples .", " Mia has 7 apples . ", "Mia   has\n7 apples .\t"])
def test_questions_are_thought_about_as_they_are_written(model, backbone, base, question):
    latents = plain_coconut(backbone, base, question)[0]
    thoughts = model.think([question])
    torch.testing.assert_close(torch.from_numpy(thoughts.latents[0]), latents, atol=1e-4, rtol=1e-4)
    tidy = model.think([" ".join(question.split())])
    assert not np.allclose(thoughts.latents, tidy.latents, atol=1e-4)


def test_the_gold_sentence_is_that_of_its_training(model):
    """`dataset.py` of Coconut: "### " + answer; CODI's is "The answer is: N"."""
    (example,) = encode_examples(model.codi, [Problem("Mia has 7 apples .", (), "18", "")])
    assert example.answer == [*model.codi.tokenizer("### 18", add_special_tokens=False)["input_ids"], model.codi.eos_id]
    assert example.question == model.codi.tokenizer("Mia has 7 apples .\n")["input_ids"]
    model.codi.prompt = CODI
    (example,) = encode_examples(model.codi, [Problem("Mia has 7  apples . ", (), "18", "")])
    assert example.answer[:-1] == model.codi.tokenizer("The answer is: 18", add_special_tokens=False)["input_ids"]
    assert answering.tokenise(model.codi, ["Mia has 7  apples . "]) == answering.tokenise(model.codi, ["Mia has 7 apples ."])


def test_a_folder_from_before_there_was_a_prompt_is_coconuts(model, base, tmp_path):
    folder = Path(shutil.copytree(base, tmp_path / "ours"))
    save_folder(model.codi, folder, dtype=torch.float32)
    meta = json.loads((folder / "codi.json").read_text())
    assert meta.pop("prompt") == "coconut" and load(folder, device="cpu").codi.prompt == COCONUT
    (folder / "codi.json").write_text(json.dumps(meta | {"question_suffix": "\n"}))
    assert load(folder, device="cpu").codi.prompt == COCONUT
    (folder / "codi.json").write_text(json.dumps(meta))
    assert load(folder, device="cpu").codi.prompt == CODI


def test_own_latents_put_back_change_nothing_and_others_do(model):
    every = tuple(range(K))
    patches = [Patch("own", every), Patch("self", (2,)), Patch("own", (1,), keys_only=True), Patch("other", every)]
    sources = {"own": QUESTIONS, "other": QUESTIONS[::-1]}
    conditions = [CLEAN, *(condition_of(patch, sources, {}) for patch in patches)]
    clean, *same, other = model.answers(QUESTIONS, conditions, max_new_tokens=NEW)
    assert all(answers == clean for answers in same) and other != clean
    assert model.answer(QUESTIONS, edits=[Edit("all", "kept")], max_new_tokens=NEW) == clean


def test_the_registered_name_is_found_in_the_hub_cache(checkpoint, base, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for repository, folder in ((REGISTRY[NAME].hub, checkpoint), (REGISTRY[NAME].base, base)):
        in_hub_cache(tmp_path / "hub", repository, folder)
    fingerprint = load(checkpoint, base=base, num_latents=K, lora_alpha=32, device="cpu").fingerprint
    for asked in (NAME, REGISTRY[NAME].hub):
        found = load(asked, device="cpu")
        assert (found.name, found.num_latents, found.fingerprint) == (NAME, K, fingerprint)
        assert isinstance(found.codi.projection, nn.Identity)


def test_a_damaged_file_is_one_clear_line(checkpoint, base):
    """By what is its own: another name of the file, a second embedding. All else is the published layouts' (test_published)."""
    path = checkpoint / FILE
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    for content, message in (
        ({**tensors, "embedding.weight": torch.ones(V + 3, WIDTH)}, "base_causallm.transformer.wte.weight and embedding.weight"),
        ({**tensors, "prj.1.bias": torch.ones(5)}, "unexpected: prj.1.bias"),
        ({k: v[:V] if len(v) == V + 3 else v for k, v in tensors.items()}, "420 rows (420 words and 3 ids"),
        ({"model": Path("a")}, "was not executed"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ):
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        said = refusal(lambda: load(checkpoint, base=base, name=NAME, device="cpu"), CheckpointError)
        assert said.startswith(f"{path}: ") and message in said


def test_claims_run_on_it_and_untrained_weights_are_a_control(model, tmp_path):
    bench = ModelBench(model, Store(tmp_path / "store"), ProblemSource(n=12), max_new_tokens=NEW)
    assert [found.metric for found in CLAIMS["cap-truncation"].reported(bench)] == [f"accuracy_{k}" for k in range(K + 1)]
    assert {found.metric for found in CLAIMS["cap-ablate-all"].reported(bench)} == {"clean", "zero", "mean", "noise"}
    fresh = model.untrained()
    assert fresh.fingerprint != model.fingerprint
    assert not torch.allclose(*(torch.tensor(each.think(QUESTIONS[:1]).latents) for each in (model, fresh)))


def test_codi_under_its_name_is_blocked_and_the_other_way(model, base, tmp_path, monkeypatch):
    """Both lie over GPT-2 and have one shape."""
    for name in ("gpt2", NAME):
        shape = {"num_layers": LAYERS, "width": WIDTH, "layers": (1, 2, 3), "sae_layers": (1, 2, 3)}
        monkeypatch.setitem(REGISTRY, name, replace(REGISTRY[name], **shape))

    def said(codi, name):
        known = replace(model, codi=codi, entry=REGISTRY[name])
        return preflight(ModelBench(known, Store(tmp_path / "store"), ProblemSource(n=16)), None)

    assert said(model.codi, NAME) is None
    assert "without a projection, is not zen-E/CODI-gpt2" in said(model.codi, "gpt2")
    model.codi.projection = nn.Linear(WIDTH, WIDTH)
    assert "with a projection, is not connordilgren/gpt2-gsm8k-coconut" in said(model.codi, NAME)
