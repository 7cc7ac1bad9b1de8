"""What a checkpoint answered is decoded again: the same passes; another token, number or right answer is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import edit_json, refusal

from codi_bench.errors import BaselineError
from codi_bench.models.loading import load
from codi_bench.problems import generate
from codi_bench.records.gate import Elsewhere, Gate, gate_file, gate_text, load_gate
from codi_bench.store.cache import Store
from codi_bench.store.files import package_folder
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.gate import answers_otherwise, differing, note_of, pinned
from codi_bench.suite.preflight import preflight
from codi_bench.suite.problem_source import ProblemSource

N = 8


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return ModelBench(load("gpt2-mini", device="cpu"), Store(tmp_path_factory.mktemp("store")), ProblemSource(n=40))


@pytest.fixture(scope="module")
def gate(bench):
    return pinned(bench, Gate(schema=1, model="gpt2-mini", checkpoint="the package", source="the test"), N)


def without(gate: Gate, *fields: str) -> Gate:
    """The gate of somebody who does not know these of the answers."""
    answers = [answer.model_copy(update=dict.fromkeys(fields)) for answer in gate.answers]
    return gate.model_copy(update={"answers": tuple(answers)})


def changed(gate: Gate, i: int, **facts: object) -> Gate:
    answers = [*gate.answers]
    answers[i] = answers[i].model_copy(update=facts)
    return gate.model_copy(update={"answers": tuple(answers)})


def test_a_file_is_read_as_it_was_written(gate, tmp_path):
    (tmp_path / "_gate").mkdir()
    path = tmp_path / gate_file("gpt2-mini")
    path.write_text(gate_text(gate))
    assert load_gate(tmp_path, "gpt2-mini") == gate and len(path.read_text().splitlines()) < N + 16
    assert load_gate(tmp_path, "gpt2") is None
    edit_json(path, answers=[{"right": True, "tokens": "1, 2"}])
    assert refusal(lambda: load_gate(tmp_path, "gpt2-mini"), BaselineError).startswith(f"{path}: answers.0.tokens: ")
    edit_json(path, answers=[{"right": 1}])
    assert "answers.0.right: " in refusal(lambda: load_gate(tmp_path, "gpt2-mini"), BaselineError)
    edit_json(path, answers=[{"right": True}], source=None)
    assert "who decoded the answers is missing" in refusal(lambda: load_gate(tmp_path, "gpt2-mini"), BaselineError)
    (tmp_path / gate_file("gpt2")).write_text(gate_text(gate))
    assert "'gpt2-mini', but the file is named after 'gpt2'" in refusal(lambda: load_gate(tmp_path, "gpt2"), BaselineError)


@pytest.mark.parametrize("unknown", [(), ("tokens",), ("tokens", "number")])
def test_the_same_answers_pass_however_little_is_known_of_them(bench, gate, unknown):
    known = without(gate, *unknown)
    assert answers_otherwise(bench, known) is None and preflight(bench, None, known) is None
    assert note_of(bench, known).startswith(f"{N} answers were decoded again and are as recorded (the test; this is torch ")


def test_one_token_one_number_or_one_right_answer_that_is_another_is_found(bench, gate):
    first = gate.answers[5]
    for known, how in (
        (changed(gate, 5, tokens="7 7"), f"{first.number} in other tokens"),
        (changed(without(gate, "tokens"), 5, number="-1"), f"-1 then and {first.number} now"),
        (changed(without(gate, "tokens", "number"), 5, right=not first.right), "answer then and "),
    ):
        fault = preflight(bench, None, known.model_copy(update={"versions": "torch 1"}))
        assert fault.startswith(f"preflight: gate: 1 of {N} answers are not those of the test: the first is problem 6, ")
        assert how in fault and "they were decoded under torch 1, this is torch " in fault
        allowed = known.model_copy(update={"may_differ": 1})
        assert answers_otherwise(bench, allowed) is None and "but for at most 1, as recorded" in note_of(bench, allowed)


def test_other_weights_answer_otherwise_and_the_message_says_what_others_measured(gate, tmp_path):
    model = load("gpt2-mini", device="cpu")
    with torch.no_grad():
        model.codi.projection.ln.weight.mul_(-1)
    model.codi.fingerprint = "damaged"
    elsewhere = Elsewhere(right=491, n=1319, under="a newer image", source="somebody")
    known = gate.model_copy(update={"elsewhere": (elsewhere,)})
    fault = answers_otherwise(ModelBench(model, Store(tmp_path)), known)
    assert "of the test, the weights are others: the first is problem" in fault
    assert "peft" in fault and fault.endswith("; others measured 37.23 % under a newer image")


def test_what_cannot_be_compared_passes_and_says_so(bench, gate):
    other = replace(bench, problems=ProblemSource(tuple(generate(60, seed=9))))
    wrong = changed(gate, 0, tokens="7 7")
    for own, known, why in (
        (bench, None, "nothing is recorded of what this checkpoint answers"),
        (bench, gate.model_copy(update={"answers": ()}), "nothing is recorded of what this checkpoint answers"),
        (other, wrong, "its answers are recorded for other problems"),
        (bench, wrong.model_copy(update={"problems": None}), "its answers are recorded for other problems"),  # no GSM8K
        (bench, wrong.model_copy(update={"dtype": "bfloat16"}), "recorded in bfloat16, and this is float32"),
    ):
        assert answers_otherwise(own, known) is None
        assert why in note_of(own, known) and "nothing was decoded again (this is torch" in note_of(own, known)


def test_a_run_of_few_problems_decodes_all_that_are_pinned(bench, gate):
    few = replace(bench, problems=ProblemSource(n=2))
    assert answers_otherwise(few, gate) is None
    assert "1 of 8" in answers_otherwise(few, changed(gate, 7, tokens="7 7"))


def test_nothing_of_two_equal_lists_differs(gate):
    assert differing(gate.answers, gate.answers) == []


@pytest.mark.parametrize("path", sorted(package_folder("baselines").glob("_gate/*.json")), ids=lambda path: path.stem)
def test_every_recorded_gate_is_what_it_is_written_as(path: Path):
    gate = load_gate(package_folder("baselines"), path.stem)
    assert gate is not None and gate_text(gate) == path.read_text(encoding="utf-8")
