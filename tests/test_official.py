"""The numbers of the published code (transformers 4.52.4, peft 0.15.2, float32, CPU), through the doors that users have."""

import json

import checkpoints
import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from codi_bench import load
from codi_bench.cli import app
from codi_bench.errors import CodiBenchError
from codi_bench.models.conditions import MASKED, UNMASKED
from codi_bench.models.edits import Edit
from codi_bench.problems import generate, parse_number

ARRAYS = ("hidden_states", "latents", "first_logits")


class Official:
    """A tiny published checkpoint with what the published code computes from it."""

    def __init__(self, family):
        self.checkpoint, self.base = checkpoints.official(family)
        self.said = checkpoints.published_outputs(family)
        self.arrays = load_file(self.base.parent / "expected.safetensors")

    def expected(self, which, name):
        if which == "batched":
            return self.arrays[f"batched.{name}"]
        return np.stack([self.arrays[f"single.{i}.{name}"] for i in range(len(self.said["questions"]))])


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def official(request):
    return Official(request.param)


@pytest.fixture(scope="module")
def model(official):
    return load(official.checkpoint, base=official.base, device="cpu", num_latents=6, lora_alpha=32)


CASES = [(MASKED, 1, "single"), (MASKED, 12, "single"), (MASKED, 5, "single"), (UNMASKED, 12, "batched"), (UNMASKED, 1, "single")]


@pytest.mark.parametrize(("protocol", "size", "which"), CASES)
def test_thoughts_and_answers_are_those_of_the_published_code(official, model, protocol, size, which):
    new = official.said["max_new_tokens"]
    found = model.think(official.said["questions"], batch_size=size, protocol=protocol, max_new_tokens=new)
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(found, name), official.expected(which, name), atol=1e-4, rtol=0)
    assert [list(tokens) for tokens in found.answers.tokens] == official.said[which]


def test_unmasked_padding_depends_on_the_batch_and_its_order(official, model):
    questions, new = official.said["questions"], official.said["max_new_tokens"]

    def answers(questions, size):
        return model.answer(questions, batch_size=size, protocol=UNMASKED, max_new_tokens=new).tokens

    assert answers(questions, 5) != answers(questions, 12)
    # batches are cut in the given order, as the published evaluation does
    assert answers(questions, 5)[:5] == answers(questions[:5], 5)
    assert sum(a != b for a, b in zip(official.said["single"], official.said["batched"])) >= 8  # what a default must not do


def test_an_edit_of_bot_is_refused_where_paddings_have_read_it(official, model):
    with pytest.raises(ValueError, match="bot cannot be edited under unmasked-padding"):
        model.answer(official.said["questions"], edits=[Edit("bot", "zero")], protocol=UNMASKED)


@pytest.mark.parametrize(("protocol", "size", "which"), [(MASKED, 1, "single"), (UNMASKED, 12, "batched")])
def test_the_same_through_the_command_line(official, tmp_path, protocol, size, which):
    problems, thoughts, answers = (tmp_path / name for name in ("p.jsonl", "t.safetensors", "a.jsonl"))
    problems.write_text("".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in official.said["questions"]))
    common = ["--model", official.checkpoint, "--base", official.base, "--problems", problems, "--protocol", protocol]
    common += ["--batch-size", size, "--num-latents", 6, "--lora-alpha", 32, "--device", "cpu"]
    new = ["--max-new-tokens", official.said["max_new_tokens"]]
    for args in (["think", *common, "--out", thoughts], ["answer", *common, "--out", answers, *new]):
        result = CliRunner().invoke(app, list(map(str, args)))
        assert result.exit_code == 0, result.output
    found = load_file(thoughts)
    assert found.keys() == set(ARRAYS)
    for name in ARRAYS:
        np.testing.assert_allclose(found[name], official.expected(which, name), atol=1e-4, rtol=0)
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["tokens"] for line in lines] == official.said[which]
    assert lines[0].keys() == {"tokens", "text", "answer", "correct"}


def test_answers_say_both_scorings_where_they_differ(tmp_path):
    questions = [p.question for p in generate(20)]
    numbers = [parse_number(text) for text in load("gpt2-mini", device="cpu").answer(questions, max_new_tokens=16).texts]
    which = next(i for i, number in enumerate(numbers) if number is not None)
    problems, answers = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    problems.write_text(json.dumps({"question": questions[which], "answer": f"{numbers[which] + 0.5}"}) + "\n")
    args = ["answer", "--model", "gpt2-mini", "--problems", problems, "--out", answers, "--max-new-tokens", 16, "--device", "cpu"]
    result = CliRunner().invoke(app, list(map(str, args)))
    (line,) = [json.loads(text) for text in answers.read_text().splitlines()]
    assert line["correct"] is False and line["correct_study"] is True
    assert "0 of 1 right by the published scoring; 1 of 1 right by the study scoring" in result.output


@pytest.mark.parametrize("command", [["think"], ["answer"]])
@pytest.mark.parametrize("out", ["folder", "file/below"])
def test_an_output_that_cannot_be_written_is_said_before_anything_runs(tmp_path, monkeypatch, command, out):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    problems = tmp_path / "p.jsonl"
    problems.write_text('{"question": "Mia has 7 apples .", "answer": "7"}\n')
    monkeypatch.setattr("codi_bench.models.loading.load", lambda *args, **kwargs: pytest.fail("loaded already"))
    args = [*command, "--model", "gpt2-mini", "--problems", problems, "--out", tmp_path / out]
    result = CliRunner().invoke(app, list(map(str, args)))
    assert isinstance(result.exception, CodiBenchError) and "cannot be written" in str(result.exception)
