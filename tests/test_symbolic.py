"""gsm-symbolic: every answer is what its steps give, splits never meet, and a pair differs in one number and in the answer."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from checkpoints import refusal
from typer.testing import CliRunner

from codi_bench.cli import app
from codi_bench.errors import CodiBenchError, MissingProblemsError, ProblemError
from codi_bench.problems import symbolic, symbolic_pairs
from codi_bench.problems.problem import Problem
from codi_bench.problems.sources import GROUPS, GSM8K_ROWS, mixture, sets_of, source_of
from codi_bench.problems.worked import evaluate, read_worked, step_value
from codi_bench.report.sentences import related_sets
from codi_bench.suite.request import given_problems

# `tox -e symbolic` has the library; it brings many others, so `tox -e test` does without
LIBRARY = pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="needs reasoning-gym: tox -e symbolic")

# Steps from prose


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("90 onions / 10 onions/minute = 9 minutes", ["<<90/10=9>>"]),
        ("They cost £8 + $1,100.50 = €1,108.50.", ["<<8+1100.50=1108.50>>"]),
        ("2 times 13 equals 26, so 26 minus 6 equals 20", ["<<2*13=26>>", "<<26-6=20>>"]),
        ("spend 222 minutes because 2 x 111 = 222", ["<<2*111=222>>"]),
        ("has 73 + 36 + 22 + T = 131 + T = 219 toys", ["<<73+36+22=131>>"]),
        ("Thus, T = 219 - 131 = 88 balls", ["<<219-131=88>>"]),
        ("the perimeter is 2(13+8) = 42, and half * 44 = 22", ["<<2*(13+8)=42>>", "<<1/2*44=22>>"]),
        ("10÷1/2=20 minutes", ["<<10/(1/2)=20>>"]),
        ("18 x 0.6666666666666666 = 12.0 liters", ["<<18*2/3=12>>"]),
        ("8 / 10 = 80.0%", ["<<8/10*100=80>>"]),
        ("83 spools / 332 spools * 100% = 25%", ["<<83/332*100=25>>"]),
        ("80% - 25% = 55%", ["<<80-25=55>>"]),
        ("$270 * 20% = $54", ["<<270*20/100=54>>"]),
        ("99 years - 100 years = -1 years", ["<<99-100=-1>>"]),
        ("he receives 48=48 emails", []),
    ],
)
def test_an_equation_in_prose_is_a_step(text, steps):
    assert list(read_worked(text).steps) == steps


def test_a_wrong_step_is_refused():
    assert step_value("<<7+5=12>>") == 12 and step_value("<<13/52=1/4>>") == Fraction(1, 4)
    for text in ("78 / 12 = 6 pans", "0.66*80 = 52 students", "10 - 3 = 7.5"):
        assert "is wrong" in refusal(partial(read_worked, text), ProblemError)
    for expression in ("2**3", "x+1", "1/0", "("):
        assert expression in refusal(partial(evaluate, expression), ProblemError)


def test_numbers_in_words_are_stated_and_those_of_equations_are_not():
    assert read_worked("There are 9 sides, so 9 / 10 = 90%. He gets 48=48 mails.").stated == {9}


# Generators


def apples(wrong=0.0, hidden=False, word=False):
    """A generator with a known chain. wrong: share of draws with a wrong step; hidden: a number comes from nowhere."""

    def generator(rng):
        bags, each, lost = rng.randint(2, 9), rng.choice([5, 6, 7]), rng.randint(1, 3)
        name = rng.sample(["Mia", "Omar", "Lena"], 1)[0]
        total = bags * each + (1 if wrong and rng.uniform(0, 1) < wrong else 0)
        left = total - lost
        told = "a few" if hidden else lost
        return {
            "question": f"{name} has {bags} bags with {each} apples each and loses {told}. How many are left?",
            "answer": str(left),
            "metadata": {"answer_cot": f"{bags} * {each} = {total} apples\n{total} - {lost} = {left}\n#### {left}"},
        }

    return generator


def test_a_broken_generator_is_left_out_and_named():
    generators = {"right": apples(), "seldom": apples(0.01), "broken": apples(0.4), "hidden": apples(hidden=True)}
    judged = symbolic.judged(generators)
    assert sorted(judged.usable) == ["right", "seldom"]
    assert "of 50 draws" in judged.left_out["broken"] and "is wrong" in judged.left_out["broken"]
    assert "no source" in judged.left_out["hidden"]


def test_a_broken_draw_of_a_usable_generator_is_no_problem():
    rng = random.Random(0)
    drawn = [symbolic.draw_problem("a", apples(0.5), rng, split) for split in ("train", "test") for _ in range(100)]
    problems = [problem for problem in drawn if problem is not None]
    assert 30 < len(problems) < 70  # half of the draws of a split hold, and a split has one or four in five
    for problem in problems:
        symbolic.check(problem)


@pytest.mark.parametrize(
    ("steps", "answer", "word"),
    [
        (("<<2*3=6>>",), "7", "answer is 7"),
        ((), "7", "no step"),
        (("<<2-9=-7>>",), "-7", "negative"),
        (("<<2*3=7>>",), "7", "wrong"),
    ],
)
def test_a_problem_whose_steps_do_not_hold_is_refused(steps, answer, word):
    symbolic.check(Problem("How many?", ("<<2+5=7>>",), "7", "g"))
    assert word in refusal(lambda: symbolic.check(Problem("How many?", steps, answer, "g")), ProblemError)


@LIBRARY
def test_the_hundred_generators():
    known = symbolic.generators()
    assert len(known.usable) + len(known.left_out) == 100 and len(known.usable) >= 80
    assert not known.usable.keys() & known.left_out.keys() and all(known.left_out.values())
    page = (
        (Path(__file__).parents[1] / "docs" / "problem-sets.md").read_text(encoding="utf-8").split("### Generators left out")[1]
    )
    named = re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE)))
    assert sorted(known.left_out) == sorted(f"gsm-symbolic-{number}" for number in named)
    assert known.names(True) and not {*known.names(True)} & {*known.names(False)}
    assert sorted(known.names(True) + known.names(False)) == sorted(known.names(None))


# Problems


@LIBRARY
def test_every_answer_is_what_its_steps_give_and_the_splits_never_meet():
    test, train = symbolic.generate(300, seed=1), symbolic.generate(600, seed=1, split="train")
    for problem in test + train:
        symbolic.check(problem)
        assert [float(step_value(step)) for step in problem.steps] == [*map(float, problem.values)]
        assert all(problem.operands) and problem.group in symbolic.generators().usable
    assert not {problem.question for problem in test} & {problem.question for problem in train}
    assert not {*map(symbolic.content, test)} & {*map(symbolic.content, train)}
    assert len({*map(symbolic.content, test)}) == 300 and len({problem.group for problem in test}) > 40
    assert test == symbolic.generate(300, seed=1) != symbolic.generate(300, seed=2)


@LIBRARY
def test_generators_can_be_held_out():
    test, train = symbolic.generate(60, held_out=True), symbolic.generate(60, split="train", held_out=False)
    assert not {problem.group for problem in test} & {problem.group for problem in train}


@LIBRARY
def test_steps_choose_problems():
    assert {problem.num_steps for problem in symbolic.generate(40, steps=[3])} == {3}
    assert {problem.num_steps for problem in symbolic.generate(40, steps=[2, 4])} == {2, 4}


@LIBRARY
def test_the_same_seed_gives_the_same_text_in_another_process():
    program = "from codi_bench.problems import symbolic; print(*(p.to_json() for p in symbolic.generate(15, seed=4)), sep='\\n')"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONIOENCODING": "utf-8"}
    text = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True).stdout.decode()
    assert text.splitlines() == [problem.to_json() for problem in symbolic.generate(15, seed=4)]


@LIBRARY
def test_a_run_has_references_of_other_generators():
    problems = given_problems(["gsm-symbolic"])["gsm-symbolic"]
    assert len(problems) == 1000
    assert not {problem.group for problem in problems[:800]} & {problem.group for problem in problems[800:]}


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic", None)
    assert "pip install 'codi-bench[symbolic]'" in refusal(symbolic.generators.__wrapped__, MissingProblemsError)


# Pairs


@LIBRARY
def test_a_pair_differs_in_one_number_and_in_the_answer():
    pairs = symbolic_pairs.pairs(40, seed=3)
    assert len({pair.recipient.group for pair in pairs}) > 20
    for pair in pairs:
        assert not symbolic_pairs.fault_of_pair(pair)
        assert sum(a != b for a, b in zip(pair.recipient.operands, pair.donor.operands, strict=True)) == 1
        assert pair.counterfactual == pair.donor.answer != pair.recipient.answer
        assert pair.recipient.values[: pair.step - 1] == pair.donor.values[: pair.step - 1]
        for problem in (pair.recipient, pair.donor):
            symbolic.check(problem)


def test_the_generator_itself_answers_the_changed_question():
    rng, answers = random.Random(5), set()
    made = [symbolic_pairs.pair_of("a", apples(), rng, "train") for _ in range(40)]
    for pair in filter(None, made):
        bags, each, lost = pair.donor.operands
        assert float(pair.counterfactual) == bags * each - lost
        answers.add(pair.step)
    assert answers == {1, 2}


@LIBRARY
def test_no_pair_has_an_unchanged_answer_or_other_words():
    pair = symbolic_pairs.pairs(1)[0]
    donor = pair.donor
    for other, word in (
        (replace(donor, answer=pair.recipient.answer), "both answers"),
        (replace(donor, question=f"Well: {donor.question}"), "words"),
        (pair.recipient, "0 numbers"),
        (replace(donor, steps=donor.steps[:-1]), "steps"),
    ):
        assert word in symbolic_pairs.fault_of_pair(replace(pair, donor=other))


def test_a_generator_that_draws_otherwise_after_a_change_makes_no_pair():
    def moody(rng):
        draw = apples()(rng)
        return draw if "2 bags" in draw["question"] else apples()(rng)

    draws = symbolic_pairs.Draws(random.Random(0))
    moody(draws)
    other = 3 if draws.values[0] == 2 else 2
    replay = draws.replayed(0, other)
    try:
        moody(replay)
        ended = replay.used_up
    except symbolic_pairs.OtherDrawsError:
        ended = False
    assert not ended


@LIBRARY
def test_the_command_writes_both_problems_of_each_pair(tmp_path):
    out = tmp_path / "pairs.jsonl"
    options = ["--n", "2", "--pairs", "--by-generator", "--steps", "2", "--out", str(out)]
    CliRunner().invoke(app, ["problems", "gsm-symbolic", *options], catch_exceptions=False)
    one, other, *rest = map(json.loads, out.read_text().splitlines())
    assert len(rest) == 2 and one["group"] == other["group"] and one["answer"] != other["answer"]
    assert symbolic.is_held_out(one["group"]) and one["num_steps"] == 2
    for option in (["--pairs"], ["--steps", "2"], ["--by-generator"]):
        error = CliRunner().invoke(app, ["problems", "generated", *option]).exception
        assert isinstance(error, CodiBenchError) and option[0] in str(error)


# Sources


def test_the_hundred_sources_are_a_hundred_rows():
    assert len({*GSM8K_ROWS}) == len({*GROUPS}) == 100 and all(0 <= row < 1319 for row in GSM8K_ROWS)
    assert source_of("gsm-symbolic-0") == GSM8K_ROWS[0] == 989


def test_both_sets_in_one_measurement_are_said():
    symbolic_problem = Problem("q", (), "1", "gsm-symbolic-3")
    source, other = Problem("q", (), "1", f"gsm8k-{GROUPS[5]}01234567"), Problem("q", (), "1", "gsm8k-0000000001234567")
    assert sets_of([symbolic_problem, source, other]) == {"gsm-symbolic", "gsm8k"}
    assert "independent" in mixture(sets_of([symbolic_problem, source]))
    assert "independent" in "".join(related_sets({"problem_sets": {"mine": "gsm-symbolic", "gpt2": "gsm8k"}}))
    assert "independent" in "".join(related_sets({"problem_sets": {"mine": "gsm-symbolic and gsm8k"}}))
    assert related_sets({"problem_sets": {"mine": "gsm-symbolic", "gpt2-mini": "generated"}}) == related_sets({}) == []
    assert mixture(sets_of([symbolic_problem, other])) == mixture(sets_of([source, other])) == ""
