"""The control without recurrence: constants are fed, nothing is passed on, and every place says what it is a control of."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import rows as built
import torch
import torch.nn.functional as F
from checkpoints import edit_json, killed_at, same_weights
from rows import row, value
from safetensors.torch import load_file, save_file

from codi_bench.cli.control_page import without_recurrence
from codi_bench.errors import CheckpointError, MissingWeightsError
from codi_bench.models import registry
from codi_bench.models.checkpoint import save_folder
from codi_bench.models.codi import Pauses
from codi_bench.models.conditions import CLEAN, Edited
from codi_bench.models.edits import Edit
from codi_bench.models.loading import load
from codi_bench.models.objective import codi_losses, encode_examples
from codi_bench.models.registry import CONTROLS, EMBEDDED, REGISTRY
from codi_bench.problems import generate
from codi_bench.records.as_rows import recorded_rows, with_controls
from codi_bench.report.comparison import study_table
from codi_bench.report.page import remarks
from codi_bench.store.files import package_folder
from codi_bench.suite import engine
from codi_bench.suite.request import PairOutcome
from codi_bench.suite.suite import Suite
from codi_bench.training import train as training
from codi_bench.training.recipes import RECIPES

PROBLEMS = generate(8, seed=3)
QUESTIONS = [p.question for p in PROBLEMS]
K = 6


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def folder(request, tiny_folders, tmp_path_factory):
    """A tiny model whose thoughts are constants; each is its own, and none is zero."""
    target = tmp_path_factory.mktemp("pause") / request.param
    shutil.copytree(tiny_folders[request.param], target)
    model = load(target, device="cpu").codi
    model.projection = Pauses(K, model.width)
    save_folder(model, target, dtype=torch.float32)
    return target


@pytest.fixture
def model(folder):
    return load(folder, device="cpu")


# What is fed


def test_the_same_vectors_are_fed_whatever_the_question(model):
    thoughts = model.think(QUESTIONS)
    constants = model.codi.projection.vectors.detach().numpy()
    assert np.array_equal(thoughts.latents[:, :K], np.broadcast_to(constants, (len(QUESTIONS), K, model.width)))
    assert len({constant.tobytes() for constant in constants}) == K
    assert not np.array_equal(thoughts.hidden_states[0, 1:], thoughts.hidden_states[1, 1:])  # each place reads the question


def test_places_beyond_the_last_repeat_it(model):
    latents = model.think(QUESTIONS[:1], num_latents=K + 2).latents[0]
    assert np.array_equal(latents[K], latents[K - 1]) and np.array_equal(latents[K + 1], latents[K - 1])
    assert not np.array_equal(latents[K - 1], latents[K - 2])


def test_fresh_weights_are_fresh_constants_too(model):
    untrained, again = model.untrained(1).codi.projection.vectors, model.untrained(1).codi.projection.vectors
    assert torch.equal(untrained, again) and not torch.equal(untrained, model.codi.projection.vectors)


def test_its_answers_are_those_of_a_plain_pass_over_the_constants(model):
    """Question, bot, constants and eot in one pass without a cache, then one token after another."""
    codi, answers = model.codi, model.answer(QUESTIONS[:3], max_new_tokens=6).texts
    table = codi.backbone.get_input_embeddings().weight
    for question, answer in zip(QUESTIONS[:3], answers, strict=True):
        ids = codi.tokenizer(codi.prompt.question(question))["input_ids"]
        fed, written = torch.cat([table[[*ids, codi.bot_id]], codi.projection.vectors, table[[codi.eot_id]]]), []
        for _ in range(6):
            state = codi.backbone.base_model(inputs_embeds=fed[None]).last_hidden_state[0, -1]
            written.append(int(codi.answer_ids(codi.answer_logits(state))))
            fed = torch.cat([fed, table[written[-1:]]])
        written = written[: written.index(codi.eos_id)] if codi.eos_id in written else written
        assert codi.tokenizer.decode(written) == answer


@pytest.mark.parametrize(("kind", "moves"), [("mean", False), ("self", False), ("zero", True), ("noise", True)])
def test_only_what_is_no_constant_moves_a_state(model, kind, moves):
    """A mean of constants is the constant: an edit by it is the edit that changes nothing."""
    reference = model.reference(QUESTIONS, [p.answer for p in PROBLEMS], [p.group for p in PROBLEMS])
    golds, probabilities = [p.answer for p in PROBLEMS], np.empty((2, len(QUESTIONS)))
    conditions = [CLEAN, Edited((Edit("all", kind),))]
    model.answers(QUESTIONS, conditions, reference=reference, golds=golds, log_probabilities=probabilities, max_new_tokens=1)
    assert (np.abs(probabilities[0] - probabilities[1]).max() > 1e-4) == moves


# Its folder


def test_a_folder_holds_the_constants_and_says_so(folder, model):
    meta = json.loads((folder / "codi.json").read_text())
    assert meta["pauses"] is True and meta["projection_width"] == 0
    assert torch.equal(load_file(folder / "model.safetensors")["projection.vectors"], model.codi.projection.vectors)
    again = load(folder, device="cpu", num_latents=2)
    assert again.num_latents == 2 and len(again.codi.projection.vectors) == K


@pytest.mark.parametrize("damage", ["missing", "too few", "projection", "no places"])
def test_what_does_not_fit_is_refused(folder, tmp_path, damage):
    broken = shutil.copytree(folder, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    if damage in ("missing", "too few"):
        constants = tensors.pop("projection.vectors")
        save_file(
            tensors | ({"projection.vectors": constants[:5].clone()} if damage == "too few" else {}), broken / "model.safetensors"
        )
    else:
        edit_json(broken / "codi.json", **({"projection_width": 64} if damage == "projection" else {"num_latents": 0}))
    with pytest.raises(CheckpointError, match="projection.vectors" if damage in ("missing", "too few") else "codi.json.*pauses"):
        load(broken, device="cpu")


# Training


def test_the_loss_is_that_of_a_plain_reading(model):
    codi = model.codi
    examples = encode_examples(codi, PROBLEMS)
    table, losses = codi.backbone.get_input_embeddings().weight, []
    for e in examples:
        fed = torch.cat([table[[*e.question, codi.bot_id]], codi.projection.vectors, table[[codi.eot_id, *e.answer]]])
        logits = codi.backbone(inputs_embeds=fed[None], use_cache=False).logits[0]
        start = len(e.question) + 1 + K  # where eot stands, from which the first word is read
        losses.append(F.cross_entropy(logits[start:-1], torch.tensor(e.answer), reduction="none"))
    torch.testing.assert_close(codi_losses(codi, examples).student, torch.cat(losses).mean(), rtol=1e-5, atol=1e-6)


def test_the_constants_learn_start_at_the_scale_of_embeddings_and_resume_to_the_bit(tiny_recipe, tmp_path, monkeypatch):
    recipe = replace(tiny_recipe("gpt2"), recurrent=False, phases=(("teacher", 1), ("both", 3)))
    scale = {}

    def after(step, model):
        if step == 1:  # what the student starts with is set before its first step
            scale["embeddings"] = model.backbone.get_input_embeddings().weight[: model.vocab_size].square().mean().sqrt().item()
        if step == 2:
            scale["constants"] = model.projection.vectors.detach().clone()

    whole = training.train(recipe, tmp_path / "whole", after=after)
    assert scale["constants"].square().mean().sqrt().item() == pytest.approx(scale["embeddings"], rel=0.1)
    assert not torch.equal(scale["constants"], whole.model.projection.vectors)
    killed_at(3, lambda: training.train(recipe, tmp_path / "killed", save_every=1), monkeypatch)
    assert same_weights(training.train(recipe, tmp_path / "killed").model, whole.model)


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_control_differs_from_its_model_in_nothing_but_the_constants(name):
    own, control = RECIPES[name], RECIPES[CONTROLS[name]]
    assert replace(control, name=own.name, recurrent=True, notes=own.notes) == own and not control.recurrent
    model = load(CONTROLS[name], device="cpu").codi
    assert isinstance(model.projection, Pauses) and model.projection.vectors.shape == (K, model.width)
    configs = [load(each, device="cpu").codi.backbone.config.to_dict() | {"_name_or_path": ""} for each in (name, CONTROLS[name])]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("name", EMBEDDED)
def test_its_card_sets_it_beside_its_model(name):
    control = REGISTRY[CONTROLS[name]]
    figures = json.loads((control.folder / "training.json").read_text())
    by_steps = figures["beside"]["by_steps"]
    assert figures["beside"]["model"] == name and by_steps.keys() == {"1", "2", "3", "4", "5", "all"}
    for counts in by_steps.values():
        gain = counts["n"] if "n" in counts else counts["model"]["n"] * (counts["model"]["value"] - counts["control"]["value"])
        assert round(gain) == counts["only_model"] - counts["only_control"]
    assert "## Beside its model" in (control.folder / "README.md").read_text()
    size = sum(path.stat().st_size for path in control.folder.iterdir())
    assert size < 6 * 2**20


# Where it is measured and shown


def test_it_is_measured_when_it_is_named_alone():
    assert not {*CONTROLS.values()} & {*EMBEDDED} and {*CONTROLS} == {*EMBEDDED}
    assert all(REGISTRY[control].partner == CONTROLS[REGISTRY[name].partner] for name, control in CONTROLS.items())


def test_an_installed_package_says_where_the_weights_are(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "PACKAGE", tmp_path)
    with pytest.raises(MissingWeightsError, match="gpt2-mini-pause is not in the wheel; install from a clone"):
        load("gpt2-mini-pause")


def test_a_run_without_the_weights_says_not_run(run_benchmarks, monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "PACKAGE", tmp_path)
    result = run_benchmarks("--model", "gpt2-mini-pause", "--claim", "size", "--report", tmp_path / "report")
    rows = json.loads((tmp_path / "report" / "results.json").read_text())["rows"]
    assert result.ret == 0 and {r["status"] for r in rows if r["model"] == "gpt2-mini-pause"} == {"not-run"}


def test_a_measured_row_gets_what_is_recorded_of_the_control_and_no_other_row_does():
    folder = package_folder("baselines")
    accuracy = row("task-accuracy", "gpt2-mini", "accuracy", "sound", measured=value(0.6))
    (shown,) = with_controls(folder, [accuracy])
    recorded = json.loads((folder / "gpt2-mini-pause" / "task-accuracy.json").read_text())["recorded"][0]["metrics"]
    assert shown.detail["control"]["number"]["value"] == recorded["sound accuracy"]["value"]
    assert shown.detail["control"]["model"] == "gpt2-mini-pause"
    for other in (
        replace(accuracy, model="gpt2-mini-pause"),  # has none itself
        replace(accuracy, model="mine"),
        replace(accuracy, metric="nobody-recorded"),
        replace(accuracy, status="blocked"),
        row("size", "gpt2-mini", "parameters", unit="count", measured=value(5e5)),  # a fact
    ):
        assert with_controls(folder, [other]) == [other]


@pytest.mark.parametrize(
    ("options", "has_line"),
    [
        ({}, True),
        ({"models": ["gpt2-mini=FOLDER"]}, False),  # a user's own weights under that name
        ({"n": 20}, False),
        ({"permutations": 199}, False),
        ({"problems": ["generated=FILE"]}, False),
    ],
)
def test_only_what_is_measured_as_the_control_was_gets_its_line(options, has_line, tiny_folders, tmp_path, monkeypatch):
    (tmp_path / "problems.jsonl").write_text("".join(p.to_json() + "\n" for p in PROBLEMS))
    places = {"FOLDER": str(tiny_folders["gpt2"]), "FILE": str(tmp_path / "problems.jsonl")}
    for name in ("models", "problems"):
        for place, path in places.items():
            options = options | {name: [text.replace(place, path) for text in options.get(name, [])]}
    for name in ("gpt2-mini", "gpt2-mini-pause"):  # the control's record has the pair's numbers
        record = tmp_path / "baselines" / name / "task-accuracy.json"
        record.parent.mkdir(parents=True)
        shutil.copy(package_folder("baselines") / "gpt2-mini" / "task-accuracy.json", record)
        edit_json(record, model=name)
    asked = {"models": options.pop("models") or ["gpt2-mini"], "claims": ["task-accuracy"], "report": tmp_path / "report"}
    suite = Suite(**asked, **options, baselines=tmp_path / "baselines")
    accuracy = row("task-accuracy", "gpt2-mini", "accuracy", "sound", measured=value(0.6))
    monkeypatch.setattr(engine, "measure_claim", lambda *_, **__: PairOutcome([accuracy], "ok", []))
    monkeypatch.setattr(suite, "_checked", lambda _: ("ok", ""))
    outcome = suite.measure(suite.asked_models[0], suite.asked_claims[0])
    assert ["control" in each.detail for each in outcome.rows] == [has_line]


def control_of(number, word):
    return {"control": {"model": "gpt2-mini-pause", "number": value(number), "word": word}}


def test_the_study_table_has_a_line_for_it_where_there_is_one():
    accuracy = row("task-accuracy", "gpt2-mini", "accuracy", "sound", measured=value(0.6), validity="SUPPORTED")
    families = built.environment({"task-accuracy": "x"})
    names = [line.name for line in study_table([accuracy], families).lines]
    assert names == ["Task accuracy, %"]
    table = study_table([replace(accuracy, detail=control_of(0.444, "REFUTED"))], families)
    assert [line.name for line in table.lines] == ["Task accuracy, %", "  without recurrence"]
    assert str(table.lines[1].measured["gpt2-mini"]) == "⊘ 44.4"  # its own word, not the model's


@pytest.mark.parametrize(
    ("word", "text"), [("SUPPORTED", "44.4 on gpt2-mini-pause, ✓ SUPPORTED"), (None, "44.4 on gpt2-mini-pause")]
)
def test_a_claim_in_full_says_what_it_gives(word, text):
    measured = row(
        "task-accuracy", "gpt2-mini", "accuracy", "sound", measured=value(0.6), unit="fraction", detail=control_of(0.444, word)
    )
    assert ("and without recurrence", text) in remarks(measured, "")
    assert "and without recurrence" not in dict(remarks(replace(measured, detail={}), ""))


def test_the_page_counts_what_holds_without_recurrence():
    rows = [
        row(
            "probe-best",
            "gpt2-mini",
            metric,
            "sound",
            measured=value(0.8),
            validity=mine,
            detail=control_of(0.7, its) if its else {},
        )
        for metric, mine, its in (
            ("a", "SUPPORTED", "SUPPORTED"),
            ("b", "SUPPORTED", "REFUTED"),
            ("c", "SUPPORTED", "ARTEFACT"),
            ("d", "SUPPORTED", "UNDERPOWERED"),
            ("e", "SUPPORTED", None),
            ("f", "REFUTED", "SUPPORTED"),  # nothing of the pair's that could hold
        )
    ]
    text = without_recurrence(rows)
    assert "Of 5 numbers that are SUPPORTED on the pair, 1 are SUPPORTED on the control as well, 2 are" in text
    line = next(line for line in text.splitlines() if line.startswith("| `probe-best`"))
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["`probe-best`", "gpt2-mini", "5", "1", "2", "1", "1"]


def test_every_claim_that_credits_the_thoughts_has_the_line_or_says_that_it_was_not_judged():
    _, rows = recorded_rows(package_folder("baselines"))
    by_model = {name: {r.claim for r in rows if r.model == name and r.detail.get("control")} for name in CONTROLS}
    for claims in by_model.values():
        assert {"task-accuracy", "probe-best", "lens", "patch-all", "step-values"} <= claims
