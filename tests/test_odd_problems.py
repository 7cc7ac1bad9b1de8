"""Generated problems out of distribution, and which sets stand beside GSM8K."""

from __future__ import annotations

import json

import pytest

from codi_bench.errors import CodiBenchError, MeasureError
from codi_bench.problems import generate, load_problems
from codi_bench.problems.generator import split_of, vocabulary
from codi_bench.problems.out_of_distribution import distracted, renumbered
from codi_bench.problems.pairs import PROGRAMS
from codi_bench.suite.problem_source import ProblemSource
from codi_bench.suite.suite import Suite


def test_a_distraction_names_somebody_and_something_else_and_changes_no_answer():
    plain, odd = generate(50, seed=3, split="test"), distracted(50, seed=3)
    for before, after in zip(plain, odd, strict=True):
        fact, question = after.question.split(". ", 1)
        assert question == before.question and (after.answer, after.steps, after.group) == (
            before.answer,
            before.steps,
            before.group,
        )
        person, has, number, thing = fact.split(" ")
        assert has == "has" and person not in question and thing not in question
        assert {person, number, thing} <= set(vocabulary())
    assert odd == distracted(50, seed=3) != distracted(50, seed=4)


def test_other_numbers_are_beyond_their_story_s_range_and_the_chain_holds():
    found = renumbered(120, seed=0)
    assert len({p.group for p in found}) == 120 and {p.num_steps for p in found} >= {1, 2, 3}
    for problem in found:
        ranges = PROGRAMS[problem.template].ranges.values()
        assert any(not low <= number <= high for number, (low, high) in zip(problem.operands, ranges, strict=True))
        assert split_of(problem.template, problem.operands) == "test" and max(*problem.operands, *problem.values) <= 99
    assert found == renumbered(120, seed=0) != renumbered(120, seed=1)


@pytest.fixture
def files(tmp_path):
    """A function (name) -> a file in the form of that public set, with two problems."""

    def write(name: str) -> str:
        rows = {
            "gsm8k": {"question": "A has 1. B has 2. Both?", "answer": "<<1+2=3>>\n#### 3"},
            "svamp": {
                "Body": "A has 1.",
                "Question": "B has 2. Both?",
                "Answer": 3.0,
                "Equation": "( 1.0 + 2.0 )",
                "ID": "c-1",
                "Type": "Addition",
            },
            "gsm-hard": {"input": "A has 1. B has 2. Both?", "code": "def solution():\n    return 3", "target": 3.0},
        }[name]
        path = tmp_path / f"{name}.jsonl"
        path.write_text((json.dumps(rows) + "\n") * 2)
        return f"{name}={path}"

    return write


def test_sets_given_beside_gsm8k_are_out_of_distribution_and_beside_others_one_is_asked_for(files, tmp_path, tiny_folders):
    mine = f"mine={tiny_folders['gpt2']}"
    suite = Suite(models=[mine], problems=[files("gsm8k"), files("svamp")], report=tmp_path / "report")
    (asked,) = suite.asked_models
    bench = suite._model_bench(asked)
    assert [p.question for p in bench.problems.given] == ["A has 1. B has 2. Both?"] * 2 and set(bench.problems.others) == {
        "svamp"
    }
    with pytest.raises(CodiBenchError, match="svamp and gsm-hard are given, but mine is measured on one set; give one"):
        Suite(models=[mine], problems=[files("svamp"), files("gsm-hard")], report=tmp_path / "report")


def test_what_is_elsewhere_depends_on_the_problems(monkeypatch):
    made = ProblemSource(n=7).elsewhere()
    assert {name: len(each) for name, each in made.items()} == {"distracted": 7, "renumbered": 7}
    given = tuple(generate(5, seed=9))
    with pytest.raises(MeasureError, match="exist only for GSM8K"):
        ProblemSource(given).elsewhere()
    beside = ProblemSource(given, others={"svamp": given[:2]})
    monkeypatch.setattr("codi_bench.suite.problem_source.is_gsm8k_test", lambda problems: True)
    monkeypatch.setattr(
        "codi_bench.suite.problem_source.load_problems", lambda name: list(given) if name == "gsm-hard" else load_problems(n=3)
    )
    assert {name: len(each) for name, each in beside.elsewhere().items()} == {"svamp": 2, "gsm-hard": 5, "multiarith": 3}
