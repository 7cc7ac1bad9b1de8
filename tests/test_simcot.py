"""SIM-CoT's published checkpoints: tiny ones, saved as its code saves them, think and answer as a plain reading of its code does.

Layout and loops were read off `CODI/src/model.py`, `CODI/test.py` and `Coconut/coconut.py` of github.com/InternLM/SIM-CoT.
"""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkpoints import FAMILIES, V, base_without_weights, in_hub_cache, published_outputs, refusal, wide_backbone
from fake_bench import values, words
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache

from codi_bench.claims import CLAIMS
from codi_bench.claims.claim import done
from codi_bench.claims.codi_paper import elsewhere
from codi_bench.errors import CheckpointError
from codi_bench.models.conditions import MASKED, UNMASKED
from codi_bench.models.hub import ONLY_SHARD
from codi_bench.models.loading import load
from codi_bench.models.registry import REGISTRY
from codi_bench.models.state import cache_argument
from codi_bench.problems import Problem, parse_number
from codi_bench.rules.validity import Validity
from codi_bench.suite.suite import Suite

PAD, BOT, EOT = V, V + 1, V + 2
START, END, LATENT = V, V + 1, V + 2  # Coconut's
K, NEW, RANK, ALPHA, PROJECTED = 6, 8, 4, 32, 40
NAMES = {"gpt2": "sim-cot-gpt2", "llama": "sim-cot-llama-3b"}
COCONUT, COCONUT_K = "sim-cot-coconut", 10
TARGETS = {
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"],
}
TABLE = {"gpt2": "transformer.wte.weight", "llama": "model.embed_tokens.weight"}
PEFT = "codi.base_model.model."


class Steps(nn.Module):
    """As training has it: LoRA over the enlarged language model, the projection, and what reads steps from the thoughts."""

    def __init__(self, family, base):
        from peft import LoraConfig, get_peft_model

        super().__init__()
        torch.manual_seed(3)
        lora = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules=TARGETS[family])
        self.codi = get_peft_model(wide_backbone(base, 0), lora)
        config = AutoConfig.from_pretrained(base)
        width = config.hidden_size
        self.decoder = AutoModelForCausalLM.from_config(config)  # of the base's own words
        if family == "llama":  # a decoder of another width
            self.pj_in, self.pj_out = nn.Linear(width, width // 2), nn.Module()
            self.pj_out.U, self.pj_out.V = nn.Parameter(torch.randn(V, 2)), nn.Parameter(torch.randn(2, V + 3))
        self.prj = nn.Sequential(nn.Dropout(0.0), nn.Linear(width, PROJECTED), nn.GELU(), nn.Linear(PROJECTED, width))
        self.prj.add_module("ln", nn.LayerNorm(width))
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if ".lora_" in name or name.startswith("prj."):
                    parameter.normal_(std=0.1)
        self.eval()


@torch.no_grad()
def plain_simcot(model, base, questions):
    """A batch as `test.py` evaluates it: hidden states [n, 1 + K, L + 1, d], latents [n, K + 1, d], ids and texts.

    The mask goes no further than the question, so that everything behind it reads the paddings.
    """
    tokenizer, cache = AutoTokenizer.from_pretrained(base), DynamicCache()
    given = {cache_argument(type(model.codi.get_base_model())): cache}

    def feed(embeds, **more):
        return model.codi(inputs_embeds=embeds, use_cache=True, output_hidden_states=True, **given, **more)

    embedding = model.codi.get_input_embeddings()
    rows = [tokenizer(question.strip().replace("  ", " "))["input_ids"] + [BOT] for question in questions]
    length = max(map(len, rows))
    ids = torch.tensor([[PAD] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0.0] * (length - len(row)) + [1.0] * len(row) for row in rows])
    # as transformers 4.52 makes it of that mask on a CPU: what a padding reads is finite, and thoughts read it
    bias = (1 - mask[:, None, None] * torch.ones(length, length).tril()) * torch.finfo(torch.float32).min
    run = feed(embedding(ids), attention_mask=bias)
    states, latents = [], []
    for k in range(K + 1):
        states.append(torch.stack([layer[:, -1] for layer in run.hidden_states], 1))
        latents.append(model.prj(run.hidden_states[-1][:, -1:]))
        if k < K:
            run = feed(latents[-1])
    token, answers = torch.full((len(rows),), EOT), [[] for _ in rows]
    for _ in range(NEW):
        token = feed(embedding(token)[:, None]).logits[:, -1, : V + 2].argmax(-1)  # every id but eot
        for answer, one in zip(answers, token.tolist(), strict=True):
            if tokenizer.eos_token_id not in answer:
                answer.append(one)
    texts = [tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]
    return torch.stack(states, 1), torch.cat(latents, 1), answers, texts


def last_number(text):
    numbers = re.findall(r"-?\d+\.?\d*", text.replace(",", ""))
    return float(numbers[-1]) if numbers else None


def saved(tensors, folder, family):
    """GPT-2 as the only shard, LLaMA in two with their index; a tied table is there once, since safetensors has no ties."""
    folder.mkdir(exist_ok=True)
    names = [ONLY_SHARD] if family == "gpt2" else ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    place = {key: names[i % len(names)] for i, key in enumerate(sorted(tensors))}
    for name in names:
        save_file({key: tensors[key].clone() for key in tensors if place[key] == name}, folder / name)
    if len(names) > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
    (folder / "config.json").write_bytes(b"")  # all of theirs are empty
    return folder


class Tiny:
    """A tiny checkpoint of a family, with the model that it was saved of."""

    def __init__(self, family, folder):
        self.family, self.base = family, base_without_weights(family, folder / "base")
        self.plain = Steps(family, self.base)
        tied = (f"{PEFT}lm_head.weight", "decoder.lm_head.weight")
        self.tensors = {key: value for key, value in self.plain.state_dict().items() if key not in tied}
        self.checkpoint = saved(self.tensors, folder / "checkpoint", family)

    def load(self, checkpoint=None):
        return load(checkpoint or self.checkpoint, base=self.base, name=NAMES[self.family], device="cpu")


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def tiny(request, tmp_path_factory):
    return Tiny(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def model(tiny):
    return tiny.load()


@pytest.mark.parametrize(("protocol", "size"), [(UNMASKED, 6), (UNMASKED, 4), (MASKED, 6)])
def test_thoughts_and_answers_are_those_of_its_evaluation(tiny, model, protocol, size):
    questions = published_outputs(tiny.family)["questions"][:6]
    thoughts = model.think(questions, batch_size=size, protocol=protocol, max_new_tokens=NEW)
    alone = 1 if protocol == MASKED else size  # where paddings are masked, a question is as if it were alone
    batches = [plain_simcot(tiny.plain, tiny.base, questions[i : i + alone]) for i in range(0, len(questions), alone)]
    states, latents, ids, texts = (list(part) for part in zip(*batches, strict=True))
    np.testing.assert_allclose(thoughts.hidden_states, torch.cat(states), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(thoughts.latents, torch.cat(latents), atol=1e-4, rtol=0)
    assert [list(tokens) for tokens in thoughts.answers.tokens] == sum(ids, [])
    assert [parse_number(text) for text in thoughts.answers.texts] == [last_number(text) for text in sum(texts, [])]
    assert len(set(thoughts.answers.tokens)) > 1  # an answer depends on its question


def test_what_reads_the_steps_is_left_out_and_listed(tiny, caplog):
    tiny.load()
    said = caplog.text
    counts = {part: sum(key.startswith(part) for key in tiny.tensors) for part in ("decoder.", "pj_in.", "pj_out.")}
    assert counts["decoder."] > 20 and (counts["pj_in."], counts["pj_out."]) == ((2, 2) if tiny.family == "llama" else (0, 0))
    assert all((f"{part}* ({count} keys" in said) == bool(count) for part, count in counts.items())
    assert said.count("left out") == 1


def test_a_decoder_in_part_or_damaged_changes_nothing(tiny, model, tmp_path):
    tensors = {key: value for key, value in tiny.tensors.items() if not re.match(r"decoder\..*\.[ab-z]+_?1\.|pj_in", key)}
    tensors |= {"decoder.lm_head.weight": torch.full((2, 2), float("nan"))}
    other = tiny.load(saved(tensors, tmp_path / "part", tiny.family))
    assert all(torch.equal(*pair) for pair in zip(model.codi.parameters(), other.codi.parameters(), strict=True))


def without(*keys):
    return lambda tensors, table: {key: value for key, value in tensors.items() if key not in keys}


def rows(count):
    return lambda tensors, table: {**tensors, table: tensors[table][:count]}


DAMAGED = {
    "no second layer of the projection": (without("prj.3.weight"), "missing: prj.3.weight"),
    "no norm of the projection": (without("prj.ln.weight", "prj.ln.bias"), ""),
    "no special rows": (
        rows(V),
        "has 420 rows (420 words and 3 ids would be right); its embedding rows 420 (pad), 421 (bot), 422 (e",
    ),
    "no bot and no eot": (rows(V + 1), "rows 421 (bot), 422 (eot) are in no other file"),
    "no eot": (rows(V + 2), "rows 422 (eot) are in no other file"),
    "no table": (
        lambda t, table: without(table)(t, table),
        "its embedding rows 420 (pad), 421 (bot), 422 (eot) are in no other file",
    ),
    "fewer words": (rows(V - 1), "the vocabulary does not match"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGED.values(), ids=DAMAGED)
def test_what_answers_need_is_refused_by_name(tiny, tmp_path, damage, message):
    folder = saved(damage(tiny.tensors, PEFT + TABLE[tiny.family]), tmp_path / "damaged", tiny.family)
    if not message:  # a projection without a norm is one of theirs too (prj_no_ln)
        assert not hasattr(tiny.load(folder).codi.projection, "ln")
        return
    said = refusal(lambda: tiny.load(folder), CheckpointError)
    assert message in said and str(folder) in said
    assert ("download the checkpoint again" in said) == ("in no other file" in said)


@FAMILIES
def test_the_published_names_are_found_in_the_hub_cache(family, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    tiny, entry = Tiny(family, tmp_path), REGISTRY[NAMES[family]]
    in_hub_cache(tmp_path / "hub", entry.hub, tiny.checkpoint)
    in_hub_cache(tmp_path / "hub", entry.base, tiny.base)
    found = load(NAMES[family], device="cpu")
    assert (found.name, found.num_latents, found.fingerprint) == (NAMES[family], K, tiny.load().fingerprint)


# Coconut under SIM-CoT


@torch.no_grad()
def plain_coconut(backbone, base, question):
    """(latents [K + 1, d], answer ids): every pass over the whole sequence anew, a latent is the state before its place."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = tokenizer(question + "\n")["input_ids"] + [START]
    embedding = backbone.get_input_embeddings()
    embeds, latents, answer = embedding(torch.tensor([ids])), [], []

    def state():
        return backbone.transformer(inputs_embeds=embeds).last_hidden_state[:, -1:]

    for _ in range(COCONUT_K):
        latents.append(state())
        embeds = torch.cat([embeds, latents[-1]], 1)
    latents.append(state())
    token = END
    while len(answer) < NEW and tokenizer.eos_token_id not in answer:
        embeds = torch.cat([embeds, embedding(torch.tensor([[token]]))], 1)
        logits = backbone.lm_head(state())[0, 0]
        logits[END] = -torch.inf  # never generated here, and never trained to be there
        token = int(logits.argmax())
        answer.append(token)
    return torch.cat(latents, 1)[0], tuple(answer)


def test_coconut_thinks_ten_times_and_its_decoder_is_left_out(tmp_path, caplog):
    base = base_without_weights("gpt2", tmp_path / "base")
    backbone, decoder = wide_backbone(base, 1), AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    tensors = {f"base_causallm.{key}": value for key, value in backbone.state_dict().items()}
    tensors |= {f"expainable_llm.{key}": value for key, value in decoder.state_dict().items()}
    (tmp_path / "checkpoint").mkdir()
    torch.save({**tensors, "embedding.weight": backbone.transformer.wte.weight}, tmp_path / "checkpoint" / "checkpoint_28")
    model = load(tmp_path / "checkpoint", base=base, name=COCONUT, device="cpu")
    assert f"expainable_llm.* ({len(decoder.state_dict())} keys" in caplog.text and model.num_latents == COCONUT_K
    questions = published_outputs("gpt2")["questions"][:3]
    thoughts = model.think(questions, max_new_tokens=NEW)
    for i, question in enumerate(questions):
        latents, answer = plain_coconut(backbone, base, question)
        torch.testing.assert_close(torch.tensor(thoughts.latents[i]), latents, atol=1e-4, rtol=1e-4)
        assert thoughts.answers.tokens[i] == answer


# What was published


def answering(right, partner=None):
    """A bench whose answers to GSM8K are right or wrong as given, and to nothing else anything."""
    problems = [Problem(str(i), (), "1", str(i)) for i in range(len(right))]
    return SimpleNamespace(
        problems=SimpleNamespace(first=lambda n: problems),
        answers=lambda problems, conditions: SimpleNamespace(right=lambda scoring: np.array([right])),
        partner=partner,
        memo=done({elsewhere: {}}),
    )


@pytest.mark.parametrize(
    ("better", "worse", "gain", "word"), [(90, 10, 8.0, "SUPPORTED"), (45, 39, 0.6, "UNDERPOWERED"), (10, 90, -8.0, "REFUTED")]
)
def test_the_gain_is_that_of_the_same_problems(better, worse, gain, word):
    index = np.arange(1000)
    bench = answering(index < 400 + better, answering((index < 400) | (index >= 1000 - worse)))
    assert values("simcot-gain", bench) == pytest.approx({"gain_gsm8k": gain, "headline": gain})
    assert words("simcot-gain", bench) == {"gain_gsm8k": Validity[word]}


def test_the_gain_is_claimed_of_models_with_a_published_one_without_it(tmp_path):
    claim, suite = CLAIMS["simcot-gain"], Suite(models=[*REGISTRY], report=tmp_path)
    takers = {model.name for model in suite.asked_models if suite.takes(model, claim)}
    assert takers == {"sim-cot-gpt2", "sim-cot-llama-1b", COCONUT}
    assert {REGISTRY[name].partner for name in takers} == {"gpt2", "llama-3.2-1b", "coconut-gpt2"}


@pytest.mark.parametrize(
    ("name", "claim", "printed"),
    [
        ("sim-cot-gpt2", "codi-acc-gsm8k", {"accuracy": 0.426}),
        ("sim-cot-llama-8b", "codi-acc-gsm8k", {"accuracy": 0.641}),
        ("sim-cot-gpt2", "simcot-gain", {"gain_gsm8k": 0.6, "gain_svamp": 0.9, "headline": None}),
    ],
)
def test_without_a_gpu_its_numbers_are_not_run_and_say_what_to_do(tmp_path, monkeypatch, name, claim, printed):
    monkeypatch.setattr("codi_bench.suite.suite.available", lambda device: device == "cpu")
    suite = Suite(models=[name], claims=[claim], report=tmp_path)
    outcome = suite.measure(suite.asked_models[0], CLAIMS[claim])
    assert outcome.word == "not-run" and f"download {REGISTRY[name].hub}" in outcome.lines[0]
    assert f"--model {name}=FOLDER --base {name}=FOLDER" in outcome.lines[0]
    assert {row.metric: row.reported["value"] for row in outcome.rows} == printed
    assert all(row.measured is None and row.validity is None and row.reproduction is None for row in outcome.rows)
