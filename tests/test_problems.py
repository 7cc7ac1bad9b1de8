"""Generated problems are what they say, splits never meet, and problem files are read whole or refused by line."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from checkpoints import refusal
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from codi_bench.errors import ProblemError
from codi_bench.problems import generate, generator, load_problems, parse_number, problems_hash, read_problems, score, split_of
from codi_bench.problems.problem import STEP, Problem
from codi_bench.problems.templates import TEMPLATES

seeds = st.integers(0, 2**31)
splits = st.sampled_from(["train", "test"])
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
OPERATE = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__truediv__}


def numbers(text):
    return [int(n) for n in re.findall(r"\d+", text)]


# Generated problems


@given(seeds, splits)
def test_the_steps_lead_from_the_question_to_the_answer(seed, split):
    for problem in generate(25, seed=seed, split=split):
        known = set(problem.operands)
        assert Counter(numbers(problem.question)) == Counter(problem.operands)
        for step, value in zip(problem.steps, problem.values, strict=True):
            left, operator, right, result = re.fullmatch(r"<<(\d+)([-+*/])(\d+)=(\d+)>>", step).groups()
            assert {int(left), int(right)} <= known
            assert OPERATE[operator](int(left), int(right)) == int(result) == value
            known.add(value)
        assert problem.answer == str(problem.values[-1])
        assert all(isinstance(v, int) and 0 <= v <= 99 for v in known)
        assert problem.num_steps == len(problem.steps) and problem.operators == "".join(
            re.findall(r"[-+*/]", " ".join(problem.steps))
        )


def test_every_word_and_number_is_one_known_token(tiny_folders):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folders["gpt2"], local_files_only=True)
    assert [len(tokenizer(str(n))["input_ids"]) for n in range(100)] == [1] * 100
    assert len({tokenizer(str(n))["input_ids"][0] for n in range(100)}) == 100
    for problem in generate(300, seed=5, split="train"):
        text = f"{problem.question} {' '.join(problem.steps)} The answer is: {problem.answer}"
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        tokens = tokenizer.convert_ids_to_tokens(ids)
        assert [int(t) for t in tokens if t.isdecimal()] == numbers(text)
        assert "".join(tokens) == text.replace(" ", "")


def test_train_and_test_never_share_a_content():
    contents = {"train": set(), "test": set()}
    for seed in range(40):
        for split, seen in contents.items():
            found = {(p.template, p.operands) for p in generate(60, seed=seed, split=split)}
            assert {split_of(*content) for content in found} == {split}
            seen |= found
    assert not contents["train"] & contents["test"]
    assert min(map(len, contents.values())) > 1000


@given(seeds, splits)
def test_a_seed_decides_everything(seed, split):
    assert generate(12, seed=seed, split=split) == generate(20, seed=seed, split=split)[:12]
    assert generate(12, seed=seed, split=split) != generate(12, seed=seed + 1, split=split)


def test_variants_tell_one_content_anew():
    problems = generate(300, seed=1, variants=3)
    triples = [problems[i : i + 3] for i in range(0, 300, 3)]
    for triple in triples:
        assert len({(p.group, p.template, p.operands, p.steps, p.answer) for p in triple}) == 1
        assert len({tuple(sorted(numbers(p.question))) for p in triple}) == 1
    assert sum(len({p.question for p in triple}) > 1 for triple in triples) > 70  # a fixed story without names has one telling
    assert len({triple[0].group for triple in triples}) == 100
    assert len(generate(10, seed=1, variants=3)) == 10


def test_generate_never_repeats_a_group():
    for split in ("train", "test"):
        assert len({p.group for p in generate(1500, seed=2, split=split)}) == 1500


def test_numbers_are_not_always_met_in_the_order_of_use():
    programs = {
        t.name: list(dict.fromkeys(name for _, *pair in t.program for name in pair if name in t.ranges)) for t in TEMPLATES
    }
    order = {t.name: list(t.ranges) for t in TEMPLATES}
    met = Counter()
    for problem in generate(600, seed=4):
        if len(set(problem.operands)) == len(problem.operands) > 1:
            value = dict(zip(order[problem.template], problem.operands))
            met[numbers(problem.question) == [value[name] for name in programs[problem.template]]] += 1
    assert min(met[True], met[False]) > 60


def test_the_stories_are_varied():
    problems = generate(1500, seed=0)
    assert len({p.template for p in problems}) == len(TEMPLATES) >= 15
    assert {p.num_steps for p in problems} == {1, 2, 3, 4, 5}
    assert set("".join(p.operators for p in problems)) == set("+-*/")


def test_asking_for_more_contents_than_there_are_is_an_error(monkeypatch):
    boxes = next(t for t in TEMPLATES if t.name == "boxes")
    monkeypatch.setattr(generator, "BY_STEPS", {key: [boxes] for key in generator.STEP_WEIGHTS})
    contents = sum(split_of("boxes", (a, b)) == "test" for a in range(2, 10) for b in range(2, 10))
    assert len(generate(contents)) == contents
    with pytest.raises(ProblemError, match=f"fewer than {contents + 1} different test problems"):
        generate(contents + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "at least 1"),
        ({"n": 3, "variants": 0}, "at least 1"),
        ({"n": 3, "split": "dev"}, "unknown split 'dev'.*train or test"),
    ],
)
def test_generate_refuses_what_it_cannot_give(options, message):
    with pytest.raises(ProblemError, match=message):
        generate(**options)


# Answers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is: 1,234,567", 1234567),
        ("-5", -5),
        ("12.5", 12.5),
        ("$3.50.", 3.5),
        ("12.", 12),
        ("3 of 4 are -2", -2),
        ("7 apples", 7),
        ("", None),
        ("none", None),
        ("-", None),
        ("1 2", 2),
    ],
)
def test_the_last_number_is_the_answer(text, number):
    assert parse_number(text) == number


@given(st.integers(-(10**12), 10**12), st.text(alphabet="abc :$\n"))
def test_numbers_are_read_with_and_without_commas(number, around):
    assert parse_number(f"{around} {number:,} {around}") == parse_number(f"7{around} {number}") == number


@pytest.mark.parametrize(
    ("prediction", "gold", "published", "study"),
    [
        ("12.5", "12", False, True),
        ("12.0", "12", True, True),
        ("1,200", "1200", True, True),
        ("11", "12", False, False),
        ("-0.5", "0.5", False, True),
        ("no", "12", False, False),
        ("12", "no", False, False),
        ("9" * 400, "12", False, False),
        # Real answers, checked by hand.
        ("The answer is: 1,234.", "1234", True, True),  # the full stop belongs to the number, the comma is removed
        ("-5.0", "-5", True, True),  # equal as floats
        ("3.7", "3", False, True),  # the study compares integer parts
        ("-3.7", "-3", False, True),  # int() cuts towards zero, it does not floor
        ("no number", "3", False, False),
        ("12 apples and 7 pears", "12", False, False),  # the last number counts, here 7
        ("$18", "18", True, True),
        ("18.", "18", True, True),
        ("1e3", "1000", False, False),  # no exponents: read as 1, then 3
        ("1e3", "3", True, True),
        ("\u00bd", "0.5", False, False),  # one half as one character is no digit
        ("1/2", "0.5", False, False),  # a fraction is its denominator, 2
        ("10-15", "15", False, False),  # the hyphen of a range is read as a sign
        ("\u22125", "-5", False, False),  # the typographic minus is not
        ("0.0000020107", "0.0000020107", True, True),  # how GSM-Hard's 2.0107e-06 is written
    ],
)
def test_published_and_study_scoring(prediction, gold, published, study):
    assert score(prediction, gold) is published
    assert score(prediction, gold, "study") is study


def test_unknown_scoring_is_an_error():
    with pytest.raises(ProblemError, match="unknown scoring 'strict'"):
        score("1", "1", "strict")


# Files


def write(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def test_written_problems_are_read_as_they_were(tmp_path):
    problems = generate(200, seed=9, split="train", variants=2)
    path = write(tmp_path / "p.jsonl", *(p.to_json() for p in problems))
    assert read_problems(path) == problems
    assert load_problems("any", path=path, n=7) == problems[:7]
    assert problems_hash(read_problems(path)) == problems_hash(problems) != problems_hash(problems[::-1])


@given(words, st.integers(), words, st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_any_question_survives_a_file(tmp_path_factory, question, answer, group, operands):
    question = question.replace("\r\n", "\n").replace("\r", "\n")  # lines end in one way
    problem = Problem(question, ("<<1+1=2>>",), str(answer), group, operands=tuple(operands))
    assert read_problems(write(tmp_path_factory.mktemp("p") / "p.jsonl", problem.to_json())) == [problem]


def test_fields_that_are_missing_and_a_small_answer(tmp_path):
    path = write(
        tmp_path / "p.jsonl",
        {"question": "a", "answer": 3},
        "",
        {"question": "b", "answer": "1,000", "group": 0},
        {"question": "c", "answer": 1e-07},
    )
    first, second, third = read_problems(path)
    assert third.answer == "0.0000001"  # not read as its exponent
    assert (first.answer, first.steps, second.answer, second.group) == ("3", (), "1000", "0")


DIGITS = "9" * 400  # without end as a float
FINITE = "must be a list of finite numbers"
BAD_LINES = (
    ('{"question": "a", "answer": ', "not JSON"),
    ("[1, 2]", "not an object"),
    ("7", "not an object"),
    ({"question": None}, "'question' is missing or empty"),
    ({"question": " "}, "'question' is missing or empty"),
    ({"question": 5}, "'question' is missing or empty"),
    ({"question": "\ud800 apples"}, "contains a lone surrogate"),
    ({"group": "\ud800"}, "contains a lone surrogate"),
    ({"answer": ""}, "'answer' is missing"),
    ({"answer": "five"}, "'answer' is 'five', which is not a number"),
    ({"answer": DIGITS}, "which is not a number (too large)"),
    ({"answer": None}, "'answer' is missing"),
    ({"answer": [1]}, "'answer' is [1], which is not a number"),
    ({"answer": float("nan")}, "'answer' is missing"),
    ({"steps": ["1+1=2"]}, "'steps' is ['1+1=2']; annotate each step"),
    ({"steps": [2]}, "'steps' must be a list"),
    ({"steps": 2}, "'steps' must be a list"),
    ({"operands": 5}, f"'operands' {FINITE}"),
    ({"operands": [float("inf")]}, f"'operands' {FINITE}"),
    ({"values": ["5"]}, f"'values' {FINITE}"),
    ({"values": [int(DIGITS)]}, f"'values' {FINITE}"),
    ({"values": [True]}, f"'values' {FINITE}"),
)


@pytest.mark.parametrize(("row", "message"), BAD_LINES)
def test_a_bad_line_is_named_with_its_number(tmp_path, row, message):
    good = {"question": "How many?", "answer": "5"}
    path = write(tmp_path / "p.jsonl", good, "", row if isinstance(row, str) else good | row, good)
    said = refusal(lambda: read_problems(path), ProblemError)
    assert said.startswith(f"{path}, line 3: ") and message in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no problems"),
        (b"\n \n", "holds no problems"),
        (b"\xff\xfe", "cannot be read as text"),
        (None, "cannot be read as text"),
    ],
)
def test_a_file_without_problems(tmp_path, content, message):
    path = tmp_path / "p.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProblemError, match=message) as caught:
        read_problems(path)
    assert str(path) in str(caught.value)


def test_a_set_by_name_is_the_generator():
    assert load_problems("generated", n=5, split="train", seed=3) == generate(5, seed=3, split="train")
    assert STEP.fullmatch(load_problems(n=1)[0].steps[0])
