"""Coconut on logic problems: tiny checkpoints in the published layout, taught to answer in words, against a plain reading.

The reference shares no code with ours: it reads the file, runs every pass over the whole sequence anew, decodes greedily until
eos and cuts the whole text at the last `#`, as `coconut.py` and `run.py` of github.com/facebookresearch/coconut do.
"""

from __future__ import annotations

import json
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from checkpoints import V, base_without_weights, in_hub_cache, refusal
from fake_bench import FakeBench, measured, words
from huggingface_hub import constants
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from codi_bench.claims import CLAIMS
from codi_bench.claims.coconut_words import guess
from codi_bench.errors import CheckpointError, MeasureError
from codi_bench.models.conditions import Shortened
from codi_bench.models.loading import load
from codi_bench.models.registry import EMBEDDED, REGISTRY
from codi_bench.problems import Problem, load_problems
from codi_bench.records.baseline import load_baseline
from codi_bench.store.cache import Store
from codi_bench.store.files import package_folder
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import measure_claim
from codi_bench.suite.problem_source import ProblemSource
from codi_bench.suite.suite import Suite

K, NEW = 6, 24
START, END, LATENT = V, V + 1, V + 2
KINDS = ("bompus", "lorpus", "terpus", "zumpus")
FORMS = ("prosqa", "prontoqa")


def logic(form):
    """Rows of Coconut's JSON: who is a kind of kinds? Every second answer stands first in its question, or is True."""
    rows = []
    for i, (a, b, c) in enumerate(permutations(KINDS, 3)):
        steps, row = [f"Alex is a {a}.", f"Every {a} is a {b}."], {"edges": [[0, 1], [1, 2]], "root": 0, "target": 2}
        if form == "prosqa":
            first, second = (b, c) if i % 2 else (c, b)
            row |= {"question": f"Every {a} is a {b}. Alex is a {a}. Is Alex a {first} or {second}?", "answer": f"Alex is a {b}."}
        else:
            question = f"Every {a} is a {b}. Alex is a {a}. True or false: Alex is a {b if i % 2 else c}."
            row = {"question": question, "answer": "True" if i % 2 else "False"}
        rows.append(row | {"steps": steps})
    return rows


def taught(base, rows, steps=300, enough=0.2):
    """A language model that was taught the answers of these rows behind K thoughts, all of which are fed back."""
    tokenizer, config = AutoTokenizer.from_pretrained(base), AutoConfig.from_pretrained(base)
    config.vocab_size, config.attn_pdrop, config.embd_pdrop, config.resid_pdrop = V + 3, 0.0, 0.0, 0.0
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float()
    texts = [(row["question"] + "\n", "### " + row["answer"]) for row in rows]
    ids = torch.tensor([[*tokenizer(q)["input_ids"], START, *[LATENT] * K, END, *tokenizer(a)["input_ids"], 0] for q, a in texts])
    first, optimizer = ids[0].tolist().index(START) + 1, torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        embeds = model.transformer.wte(ids)
        for place in range(first, first + K):
            thought = model.transformer(inputs_embeds=embeds[:, :place]).last_hidden_state[:, -1:]
            embeds = torch.cat([embeds[:, :place], thought, embeds[:, place + 1 :]], dim=1)
        logits = model(inputs_embeds=embeds).logits[:, first + K : -1]
        optimizer.zero_grad()
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, first + K + 1 :].flatten(), reduction="none")
        loss.mean().backward()
        optimizer.step()
        if loss.max() < enough:
            break
    return model.eval()


@pytest.fixture(scope="module", params=FORMS)
def tiny(request, tmp_path_factory):
    """A checkpoint as Coconut's training saves it, its base, and a file of problems, of which the first six were taught."""
    folder, threads = tmp_path_factory.mktemp(request.param), torch.get_num_threads()
    base = base_without_weights("gpt2", folder / "base", n_layer=2)
    lengths = [len(AutoTokenizer.from_pretrained(base)(row["question"])["input_ids"]) for row in logic(request.param)]
    rows = [row for row, length in zip(logic(request.param), lengths) if length == max(lengths, key=lengths.count)][:6]
    torch.set_num_threads(1)  # a few rows are faster so
    model = taught(base, rows)
    torch.set_num_threads(threads)
    weights = {f"base_causallm.{key}": value for key, value in model.state_dict().items()}
    (folder / "training").mkdir()
    torch.save(weights | {"embedding.weight": model.transformer.wte.weight.detach()}, folder / "training" / "checkpoint_40")
    path = folder / f"{request.param}_test.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return SimpleNamespace(form=request.param, base=base, folder=folder / "training", path=path, rows=rows)


def loaded(tiny):
    return load(tiny.folder, base=tiny.base, name=f"coconut-gpt2-{tiny.form}", device="cpu")


@torch.no_grad()
def plain_reading(tiny, question, num_latents=K):
    """(states [bot and latents, L + 1, d], text with the question, what counts as the answer)."""
    tokenizer, config = AutoTokenizer.from_pretrained(tiny.base), AutoConfig.from_pretrained(tiny.base)
    config.vocab_size = V + 3
    model = AutoModelForCausalLM.from_config(config).eval()
    weights = torch.load(tiny.folder / "checkpoint_40", weights_only=True)
    model.load_state_dict({key[14:]: value for key, value in weights.items() if key.startswith("base_causallm.")})
    head = [*tokenizer(question + "\n")["input_ids"], START]
    embeds = weights["embedding.weight"][torch.tensor([*head, *[LATENT] * num_latents, END])][None].clone()
    for place in range(len(head), len(head) + num_latents):
        embeds[0, place] = model(inputs_embeds=embeds, output_hidden_states=True).hidden_states[-1][0, place - 1]
    states = torch.stack(model(inputs_embeds=embeds, output_hidden_states=True).hidden_states)[:, 0]
    written = list(head)
    while True:
        word = int(model(inputs_embeds=embeds).logits[0, -1].argmax())
        if word == tokenizer.eos_token_id or len(written) - len(head) == NEW:
            break
        written.append(word)
        embeds = torch.cat([embeds, weights["embedding.weight"][word][None, None]], dim=1)
    text = tokenizer.decode([word for word in written if word < V])
    return states[:, len(head) - 1 : len(head) + num_latents].transpose(0, 1), text, text.split("#")[-1].replace(",", "").strip()


def test_states_thoughts_and_answers_are_those_of_the_plain_reading(tiny):
    model, problems = loaded(tiny), load_problems(tiny.form, path=tiny.path)
    thoughts = model.think([p.question for p in problems], max_new_tokens=NEW)
    fewer = model.answers([p.question for p in problems], [Shortened(2)], max_new_tokens=NEW)[0]
    source = ProblemSource(tuple(problems))
    assert model.num_latents == K and source.first(6)[0].steps == tuple(tiny.rows[0]["steps"])
    for i, problem in enumerate(problems):
        states, text, answer = plain_reading(tiny, problem.question)
        torch.testing.assert_close(torch.tensor(np.array(thoughts.hidden_states[i])), states, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(torch.tensor(thoughts.latents[i]), states[:, -1], atol=1e-4, rtol=1e-4)
        assert text == problem.question + "\n" + thoughts.answers.texts[i] and answer == problem.answer  # it was taught
        assert plain_reading(tiny, problem.question, 2)[1] == problem.question + "\n" + fewer.texts[i]


def test_claims_about_words_are_measured_and_those_about_numbers_refused(tiny, tmp_path):
    bench = ModelBench(loaded(tiny), Store(tmp_path / "s"), ProblemSource(tuple(load_problems(tiny.form, path=tiny.path))))

    def outcome(claim, bench=bench):
        return measure_claim(bench, CLAIMS[claim], load_baseline(tmp_path, bench.model.name, claim), compare=False)

    (accuracy, *_) = outcome("coconut-acc").rows
    assert accuracy.measured["value"] == 1.0 and accuracy.n == 6
    truncated = {row.metric: row.measured["value"] for row in outcome("coconut-fewer").rows if row.measured}
    assert truncated.keys() == {f"accuracy_{k}" for k in range(K + 1)} and truncated[f"accuracy_{K}"] == 1.0
    for claim in ("codi-ood", "lens", "probe-accuracy", "patch-latent", "step-values", "log-parity", "dyn-flip"):
        refused = outcome(claim)
        assert refused.word == "blocked" and "about numbers" in refused.lines[0] and not any(row.measured for row in refused.rows)
    numbers = ModelBench(bench.model, Store(tmp_path / "s"), ProblemSource(n=4))
    assert "about answers in words" in outcome("coconut-acc", numbers).lines[0]


def test_problems_with_numbers_are_those_that_were_recorded():
    for model in EMBEDDED:
        records = load_baseline(package_folder("baselines"), model, "task-accuracy").recorded
        assert {record.problems for record in records} == {ProblemSource().hash}


# What the claims say of planted answers


def problems_of(count):
    rows = logic("prosqa") * (count // 24 + 1)
    return [Problem(row["question"], tuple(row["steps"]), row["answer"], f"g{i}") for i, row in enumerate(rows[:count])]


def fake(**right):
    source = problems_of(200)
    names = {name.replace("_", " "): value for name, value in right.items()}
    return FakeBench(names, problems=source, sets={"sample": lambda n, edited=False: source})


def test_a_guess_takes_the_better_of_two_places():
    problems = problems_of(24)
    assert guess(problems).mean() == 0.5
    firsts = [p for p in problems if "Alex a " + p.answer.split()[-1].rstrip(".") in p.question.rpartition(". ")[2]]
    assert 0 < len(firsts) == guess(firsts).sum() and guess([*firsts, *problems]).sum() == 24
    answers = [Problem(f"True or false: {i}.", (), "True" if i < 7 else "False", "") for i in range(10)]
    assert guess(answers).sum() == 7


def test_accuracy_is_judged_against_a_guess():
    nearly, coin = np.arange(200) < 194, np.arange(200) % 2 > 0
    reported, sound = measured("coconut-acc", fake(**{"": nearly}))
    assert reported["accuracy"].value == 0.97 and sound["accuracy"].null.value == 0.5
    assert words("coconut-acc", fake(**{"": nearly}))["accuracy"].name == "SUPPORTED"
    assert words("coconut-acc", fake(**{"": coin}))["accuracy"].name != "SUPPORTED"


def test_thoughts_that_nothing_is_lost_without():
    full, one_less, half = np.arange(200) < 194, np.arange(200) < 193, np.arange(200) < 100
    kept = {f"after_{k}": full for k in range(1, K + 1)}
    found = words("coconut-fewer", fake(**kept, after_0=one_less))
    assert {word.name for word in found.values()} == {"SUPPORTED"} and len(found) == K
    assert words("coconut-fewer", fake(**kept, after_0=half))["accuracy_0"].name == "REFUTED"
    with pytest.raises(MeasureError, match="nothing to lose"):
        words("coconut-fewer", fake(**{name: half for name in kept}, after_0=one_less))


def test_what_replaced_thoughts_cost():
    full, half, names = np.arange(200) < 194, np.arange(200) < 100, ("clean", "zero", "mean", "noise", "transplant", "reversed")
    other = {"0,1,2,3,4,5=another run": np.roll(full, 1), "fed 5 4 3 2 1 0": full}
    source = problems_of(200)
    bench = FakeBench({"": full, "all=zero": half, **other}, problems=source, sets={"sample": lambda n, edited=False: source})
    bench.given |= {name: full for name in ("all=self", "all=mean", "all=noise")}
    reported, sound = measured("coconut-replaced", bench)
    assert tuple(reported) == names and reported["zero"].value == 0.5 and {*sound} == {*names[1:]}
    assert [sound[name].verdict.word.name for name in names[1:]] == ["REFUTED", *["SUPPORTED"] * 4]
    bench.given["all=self"], bench.memo = half, {}
    with pytest.raises(MeasureError, match="a control fails"):
        measured("coconut-replaced", bench)
    bench.given |= {"all=self": full, "all=zero": full}
    bench.memo = {}
    with pytest.raises(MeasureError, match="dead edit"):
        measured("coconut-replaced", bench)


# Files and names


def test_the_file_itself_or_the_only_one_in_a_folder(tiny, tmp_path):
    by_file = load(tiny.folder / "checkpoint_40", base=tiny.base, name="mine", num_latents=K, lora_alpha=32, device="cpu")
    assert by_file.fingerprint == loaded(tiny).fingerprint
    for name in ("checkpoint_5", "checkpoint_40"):
        (tmp_path / name).write_bytes((tiny.folder / "checkpoint_40").read_bytes())
    said = refusal(lambda: load(tmp_path, base=tiny.base, device="cpu"), CheckpointError)
    assert said.startswith(str(tmp_path)) and "checkpoint_40" in said and "give one of these files" in said
    known = load(tmp_path, base=tiny.base, name="coconut-gpt2-prosqa-dilgren", device="cpu")  # whose file is known
    assert known.fingerprint == by_file.fingerprint


@pytest.mark.parametrize("name", ["coconut-gpt2-prosqa", "coconut-gpt2-prosqa-dilgren", "coconut-gpt2-prontoqa"])
def test_the_registered_file_is_taken_from_the_hub_cache(tiny, tmp_path, monkeypatch, name):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    entry, made = REGISTRY[name], tmp_path / "made"
    (made / entry.weights).parent.mkdir(parents=True)
    (made / entry.weights).write_bytes((tiny.folder / "checkpoint_40").read_bytes())
    said = refusal(lambda: load(name, device="cpu"), CheckpointError)
    assert f"hf download {entry.hub} {entry.weights}" in said and f"--model {name}=FOLDER" in said
    in_hub_cache(tmp_path / "hub", entry.hub, made)
    in_hub_cache(tmp_path / "hub", entry.base, tiny.base)
    model = load(name, device="cpu")
    assert (model.name, model.num_latents, type(model.codi.projection).__name__) == (name, K, "Identity")
    assert load(made, base=tiny.base, name=name, device="cpu").fingerprint == model.fingerprint


def test_a_suite_takes_claims_by_the_kind_of_answers(tiny):
    given = {"models": [f"mine={tiny.folder}"], "bases": [f"mine={tiny.base}"], "device": "cpu", "num_latents": K}
    suite = Suite(**given, problems=[f"{tiny.form}={tiny.path}"])
    assert suite.takes(suite.asked_models[0], CLAIMS["coconut-acc"])
    plain = Suite(**given)
    assert not plain.takes(plain.asked_models[0], CLAIMS["coconut-acc"])
    named = Suite(**given, claims=["coconut-acc"])
    assert named.takes(named.asked_models[0], CLAIMS["coconut-acc"])
    (registered,) = Suite(models=[f"coconut-gpt2-{tiny.form}"]).asked_models
    assert registered.problem_set({}) == tiny.form
