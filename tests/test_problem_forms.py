"""One meaning for one text: gold answers, identity, and the forms of a row are read alike wherever they stand."""

from __future__ import annotations

import csv
import io
import json
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from checkpoints import refusal
from hypothesis import given
from hypothesis import strategies as st

from codi_bench.cli.answers import answer_lines, right_counts
from codi_bench.errors import ProblemError
from codi_bench.problems import load_problems, problems_hash, read_problems, score
from codi_bench.problems.answers import parse_words, plain, read_gold
from codi_bench.thoughts.record import Answers

# Gold answers

GOLDS = {
    ".5": "0.5", "1e6": "1000000", "2.5e-3": "0.0025", "1E+2": "100", "-3": "-3",
    "\u22123": "-3", "\u2013 3": "-3", "\uff0d3": "-3",
    "1/2": "0.5", "-3/4": "-0.75", "1\u20444": "0.25", "0/7": "0", "1,234.50": "1234.5", "1,234,567": "1234567", "007": "7",
    "$5": "5", "-$1,000": "-1000", "$-5": "-5", "5%": "5", "12.5 %": "12.5", "18.": "18", "18.0": "18", "+7": "7", "-0": "0",
    "  42\n": "42",
}  # fmt: skip
REFUSED = (
    *("18 eggs on day 2", "18 eggs", "18!", "x=5", "12:30", "1 000", "12 34", "2-3", "1;2", "3 1/2", "(5)", "5$", "5%%", "$1/2"),
    *("1,23", "1,2345", "1/0", "1/2/3", "1/2%", "1.2.3", "--3", "+-3", "1_000", "0x10", "\u0663", "\u00bd", "1e", "e5", "$", "%"),
    *("-", ".", "1e400", "1e-400", "1e999999999", "9" * 400),
)  # fmt: skip


@pytest.mark.parametrize(("text", "number"), GOLDS.items())
def test_a_gold_answer_is_read_as_what_it_is(text, number):
    assert read_gold(text) == number


@pytest.mark.parametrize("text", [*REFUSED, "nan", "inf", "-Infinity", "none", "five", "", " "])
def test_what_is_more_or_less_than_a_number_is_refused(text):
    with pytest.raises(ValueError):
        read_gold(text)
    if text in REFUSED and any(sign.isdigit() for sign in text):
        with pytest.raises(ProblemError, match="is not a number; give the number alone"):
            score("12", text)


@pytest.mark.parametrize(
    "value",
    [True, np.True_, None, [5], {"a": 1}, b"5", 5j, float("nan"), float("inf"), Decimal("NaN"), Decimal("Infinity"), 10**400],
)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError):
        read_gold(value)


def test_numbers_of_any_type_are_read():
    numbers = (5, 5.0, np.int8(5), np.float32(5), np.float64(5), Decimal("5.00"), Fraction(10, 2))
    assert {read_gold(number) for number in numbers} == {"5"} and read_gold(1e-7) == "0.0000001" and read_gold(0.1) == "0.1"


def in_forms(question, text):
    """Files that say one question and one gold answer, each in another form."""
    row, table = {"question": question, "answer": text}, io.StringIO()
    csv.writer(table).writerows([row, row.values()])
    return {
        "own.jsonl": json.dumps(row),
        "own.json": json.dumps([row], indent=1),
        "own.csv": table.getvalue(),
        "coconut.json": json.dumps([row | {"steps": [""]}]),
        "aug.jsonl": json.dumps(row | {"cot": ""}),
        "aug.txt": f"{question}|| #### {text}",
        "gsm8k.jsonl": json.dumps(row | {"answer": f"So it is.\n#### {text}"}),
    }


@pytest.mark.parametrize(("text", "number"), [*GOLDS.items(), *((text, None) for text in REFUSED)])
def test_a_text_means_the_same_in_every_form(tmp_path, text, number):
    problems = []
    for name, content in in_forms("How many of 7?", text.strip("\n")).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        if number is None:
            message = refusal(lambda path=tmp_path / name: read_problems(path), ProblemError)
            assert message.startswith(str(tmp_path / name)) and "field 'answer' is" in message and "1" in message
        else:
            problems += read_problems(tmp_path / name)
    assert all(problem == problems[0] for problem in problems) and (not problems or problems[0].answer == number)


finite = st.integers(-(10**15), 10**15) | st.floats(-1e15, 1e15).filter(lambda x: x == 0 or abs(x) > 1e-300)
SIGNS = "-\u2212\u2013\ufe63\uff0d"


@given(finite, st.sampled_from(SIGNS), st.sampled_from(("", "$")), st.sampled_from(("", "%", " %")), st.booleans(), st.booleans())
def test_a_number_in_any_accepted_form_reads_back(number, minus, before, behind, commas, exponent):
    digits = plain(abs(number))
    if exponent:
        digits = repr(float(abs(number))) if "e" in repr(float(abs(number))) else f"{digits}e0"
    elif commas:
        whole, dot, rest = digits.partition(".")
        digits = f"{int(whole):,}{dot}{rest}"
    text = f"{minus if number < 0 else ''}{before}{digits}{behind}"
    assert float(read_gold(text)) == float(number) and score(plain(number), text)


@given(st.integers(-999, 999), st.integers(1, 999))
def test_fractions_read_back(above, below):
    assert math.isclose(float(read_gold(f"{above}/{below}")), above / below)


# Identity

QUESTIONS = (
    "Ann has 2 and 3 beads. Both?",
    'A "big, red" box of 7? ',
    "Bo has  4.\nThen 5.\u2028Sum?",
    "Ann has 20 and 30 beads. Both?",
)


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, ["question", "answer"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


WRITERS = (lines, json.dumps, lambda rows: json.dumps(rows, indent=2, ensure_ascii=False), table)
ENDS = ("\n", "\r\n", "\r")


@given(
    st.lists(st.sampled_from(QUESTIONS) | st.text("ab 12?,\"'\n", min_size=1).filter(str.strip), min_size=1, max_size=5),
    st.sampled_from(WRITERS), st.sampled_from(ENDS), st.sampled_from(("p.jsonl", "sub/deeper/q.csv", "x")), st.booleans(),
)  # fmt: skip
def test_one_hash_whatever_path_format_and_line_ends(tmp_path_factory, questions, writer, end, name, mark):
    rows = [{"question": question, "answer": i} for i, question in enumerate(questions)]
    folder = tmp_path_factory.mktemp("p")
    (folder / "plain.jsonl").write_text(lines(rows), encoding="utf-8")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = writer(rows)
    ended = text.replace("\r\n", "\n").replace("\n", end)
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + ended.encode())
    assert problems_hash(read_problems(path)) == problems_hash(read_problems(folder / "plain.jsonl"))


def test_the_same_question_twice_is_one_group_and_a_group_that_is_named_counts(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [{"question": question, "answer": 5} for question in (QUESTIONS[0], QUESTIONS[1], QUESTIONS[0], QUESTIONS[3])]
    path.write_text(lines(rows), encoding="utf-8")
    first, second, again, renumbered = (problem.group for problem in read_problems(path))
    assert first == again == renumbered != second
    named = [{"group": group} for group in ("a", 3, 3.0, "3.0", None, " ", float("nan"), 0)]
    path.write_text(lines([rows[0] | name for name in named]), encoding="utf-8")
    assert [p.group for p in read_problems(path)] == ["a", "3", "3", "3", first, first, first, "0"]
    for group in ([1], {"a": 1}, True):
        path.write_text(lines([rows[0] | {"group": group}]), encoding="utf-8")
        assert "line 1: field 'group' is" in refusal(lambda: read_problems(path), ProblemError)


# The forms of a row

STORY = {"question": "Ann has 2.  Bo has 3 more. Both? ", "answer": "She has <<2+3=5>>5, both <<2+5=7>>7.\n#### 7"}


def test_coconuts_json_its_text_and_gsm8ks_own_file_are_the_same_problems(tmp_path):
    question, steps = STORY["question"], ["<<2+3=5>>", "<<2+5=7>>"]
    files = {
        "test.json": json.dumps([{"question": question, "steps": steps, "answer": "7"}]),
        "test.txt": f"{question}||{' '.join(steps)} #### 7\n",
        "own.jsonl": json.dumps(STORY),
        "table.csv": f'question,steps,answer\n"{question}","{steps}",7\n',
        "chain.csv": f'question,steps,answer\n"{question}",{" ".join(steps)},7.0\n',
    }
    problems = []
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        problems += load_problems("gsm8k", path=tmp_path / name)
    assert all(problem == problems[0] for problem in problems)
    assert (problems[0].question, problems[0].steps, problems[0].values) == (question, tuple(steps), (5, 7))
    assert problems[0].operands == (2, 3) and problems[0].group.startswith("gsm8k-")


@pytest.mark.parametrize("steps", [[], [""], ["", " "], None, ["Ann has 2, so 5."], "Ann has 2.", ["<<5>>"]])
def test_rows_without_steps(tmp_path, steps):
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"question": "What of 3?", "steps": steps, "answer": "26"}]), encoding="utf-8")
    assert [(p.steps, p.values, p.operands, p.answer) for p in read_problems(path)] == [((), (), (3,), "26")]


ROWS = {
    "gsm8k": STORY,
    "own": {
        "question": "Ann has 2 and 3. Both?",
        "steps": ["<<2+3=5>>"],
        "answer": "5",
        "template": "t",
        "operands": [3],
        "values": [5],
    },
    "aug": {"question": "Ann has 2 and 3. Both?", "cot": "<<2+3=5>>", "answer": "5"},
    "multiarith": {"question": "Ann has 2 and 3. Both?", "final_ans": "5"},
    "gsm-hard": {"input": "Ann has 2 and 3. Both?", "target": 5.0},
    "svamp": {"Body": "Ann has 2 and 3.", "Question": "Both?", "Answer": 5.0},
}
MORE = {"id": 3, "num_steps": 1, "input": "prompt", "target": 9, "instruction": "Answer!", "response": "It is 9.", "level": None}
MORE |= {"Body": None, "Question": None, "final_ans": None, "sQuestion": "other?", "lSolutions": [9]}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("column", MORE)
def test_a_column_more_does_not_switch_the_form(tmp_path, name, column):
    path, more = tmp_path / "p.jsonl", tmp_path / "more.jsonl"
    path.write_text(lines([ROWS[name]]), encoding="utf-8")
    more.write_text(lines([{column: MORE[column]} | ROWS[name]]), encoding="utf-8")
    assert read_problems(more) == read_problems(path)


@pytest.mark.parametrize("name", ["gsm8k", "own", "aug"])
@pytest.mark.parametrize("columns", [{"final_ans": "9"}, {"Body": "b", "Question": "c?"}, {"sQuestion": "d", "lSolutions": [9]}])
def test_the_fields_of_another_set_beside_question_and_answer_change_nothing(tmp_path, name, columns):
    path = tmp_path / "p.jsonl"
    path.write_text(lines([ROWS[name], columns | ROWS[name]]), encoding="utf-8")
    first, second = read_problems(path)
    assert first == second


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_rows_of_several_forms_in_one_frame_are_what_they_are_alone(tmp_path, nothing):
    path, rows = tmp_path / "p.jsonl", list(ROWS.values())
    columns = {column: nothing for row in rows for column in row}
    path.write_text(lines(rows), encoding="utf-8")
    alone = read_problems(path)
    path.write_text(lines(columns | row for row in rows), encoding="utf-8")
    assert read_problems(path) == alone


def test_a_table_has_quoted_heads_and_cells_without_a_value(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('"","question","answer","group"\n"0","Of 1, 2?","5","nan"\n"1","b 7?","NaN",""\n', encoding="utf-8")
    first, second = read_problems(path, unanswered=True)
    assert (first.question, first.answer, second.answer) == ("Of 1, 2?", "5", "")
    assert first.group != second.group and "nan" not in (first.group, second.group)


def test_a_count_of_steps_and_a_group_leave_gsm8k_and_its_chains_what_they_are(tmp_path):
    for name in ("gsm8k", "aug"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(lines([ROWS[name], ROWS[name] | {"steps": 2, "group": "g"}]), encoding="utf-8")
        first, second = read_problems(path)
        assert first.steps and (first.steps, first.values, first.answer) == (second.steps, second.values, second.answer)
        assert second.group == "g"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question;answer\na;1,234\n", ": no column is named question, the first is 'question;answer'"),
        ("question\tanswer\na\t5\n", ": no column is named question"),
        ("question,answer\na,5,6\n", ", row 1: has 3 cells, but the header has 2"),
        ("question,answer\nb,4\na\n", ", row 2: has 1 cells, but the header has 2"),
        ("question,answer,answer\na,5,6\n", ": has two columns named answer"),
        ('question,answer\n"a,5\n', ", line 2: not comma-separated values"),
        ('question,steps,answer\na,"[5",6\n', ", row 1: field 'steps' is '[5', which is not a list"),
        ("question,answer\na,\n", ", row 1: field 'answer' is missing"),
    ],
)
def test_a_broken_table_is_one_line(tmp_path, text, message):
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    assert refusal(lambda: read_problems(path), ProblemError).startswith(f"{path}{message}")


# Answers in words, and none

PROSQA = {
    "question": "Every gorpus is a bompus. Alex is a gorpus. Is Alex a bompus or lorpus?",
    "steps": ["Alex is a gorpus.", "Every gorpus is a bompus."],
    "answer": "Alex is a bompus.",
    "edges": [[0, 1]],
    "root": 0,
    "target": 1,
    "neg_target": 2,
    "idx_to_symbol": ["Alex", "bompus", "lorpus"],
}
PRONTOQA = {
    "question": "Zumpuses are fast. Each fast is wet. Stella is a zumpus. True or false: Stella is not wet.",
    "steps": ["Stella is a zumpus. Zumpuses are fast.", "Stella is wet."],
    "answer": "False",
}


def test_problems_with_answers_in_words_keep_their_sentences(tmp_path):
    for name, row in (("prosqa", PROSQA), ("prontoqa", PRONTOQA)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps([row, {key: row[key] for key in ("question", "answer")}]), encoding="utf-8")
        problem, bare = load_problems(name, path=path)
        assert (problem.answer, problem.steps, problem.num_steps) == (row["answer"], tuple(row["steps"]), 2)
        assert (problem.values, bare.steps, bare.question) == ((), (), row["question"])
        (tmp_path / "own.jsonl").write_text(problem.to_json(), encoding="utf-8")
        assert read_problems(tmp_path / "own.jsonl") == [problem]  # what is written is read again


def as_coconut_counts(text, gold, question):
    """`run.py` of Coconut, read anew: the whole text is decoded, the question too, and cut at the last #."""
    whole = question + "\n" + text
    return whole[whole.rfind("#") + 1 :].replace(",", "").strip() == gold.replace(",", "").strip()


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("### Alex is a bompus.", True),
        ("###   Alex is a bompus. \n", True),
        ("#Alex, is a bompus.", True),
        ("### Alex is a lorpus. ### Alex is a bompus.", True),
        ("### Alex is a bompus. ### Alex is a lorpus.", False),
        ("### Alex is a bompus", False),  # the full stop counts
        ("### alex is a bompus.", False),  # and capitals
        ("### Alex  is a bompus.", False),  # and blanks inside
        ("Alex is a bompus.", False),  # no #: the question is part of what is compared
        ("### not Alex is a bompus.", False),
        ("### 5", False),
        ("", False),
    ],
)
def test_answers_in_words_are_counted_as_coconut_counts_them(text, right):
    assert as_coconut_counts(text, PROSQA["answer"], PROSQA["question"]) is right
    assert score(text, PROSQA["answer"]) is score(text, PROSQA["answer"], "study") is right


def test_words_behind_the_cue():
    assert score("The answer is: Alex is a bompus.", "Alex is a bompus.")  # as CODI is trained to begin
    assert parse_words("a # b ### Yes, it is") == "Yes it is" and not score("", "") and not score("5", "")
    assert not score("", ",") and not score("a #", "#")
    with pytest.raises(ProblemError, match="prosqa: cannot be downloaded; give its file .*--problems prosqa=FILE"):
        load_problems("prosqa")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"steps": ["Alex is a gorpus.", 3]}, ("row 2", "'steps'", "sentences")),
        ({"steps": {"0": "Alex is a gorpus."}}, ("row 2", "'steps'", "sentences")),
        ({"steps": ["Alex is a gorpus.", " "]}, ("row 2", "'steps'", "sentences")),
        ({"answer": "Alex is a rompus."}, ("row 2", "'answer'", "'Alex is a rompus.'", "words of the question")),
        ({"answer": ["False"]}, ("row 2", "'answer'", "give")),
        ({"answer": "12"}, ("row 2", "'answer'", "'12'", "row 1", "files of their own")),
        ({"answer": None}, ("row 2", "'answer'", "missing")),
        ({"question": 7}, ("row 2", "'question'", "missing or empty")),
    ],
)
def test_a_damaged_row_names_file_row_and_field(tmp_path, change, parts):
    path = tmp_path / "prosqa.json"
    path.write_text(json.dumps([PROSQA, PROSQA | change]), encoding="utf-8")
    said = refusal(lambda: load_problems("prosqa", path=path), ProblemError)
    assert said.startswith(str(path)) and all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("row", "name", "right_name"), [(PROSQA, "gsm8k", "prosqa"), ({"question": "2 and 2?", "answer": "4"}, "prosqa", "gsm8k")]
)
def test_numbers_and_words_do_not_pass_for_each_other(tmp_path, row, name, right_name):
    path = tmp_path / "p.json"
    path.write_text(json.dumps([row]), encoding="utf-8")
    assert refusal(lambda: load_problems(name, path=path), ProblemError).endswith(f"give it as {right_name}={path}")


@pytest.mark.parametrize("answer", ["eighteen", "Alex is a wumpus.", "7 gorpuses", "N/A"])
def test_words_that_the_question_does_not_offer_are_refused(tmp_path, answer):
    path = tmp_path / "p.json"
    path.write_text(json.dumps([PROSQA, PROSQA | {"answer": answer}]), encoding="utf-8")
    assert f"row 2: field 'answer' is {answer!r}, which is not a number" in refusal(lambda: read_problems(path), ProblemError)


def test_numbers_and_words_are_not_mixed(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"question": "a", "answer": 5}, {"question": "b?"}, PROSQA]), encoding="utf-8")
    message = refusal(lambda: read_problems(path, unanswered=True), ProblemError)
    assert message.startswith(f"{path}, row 3: field 'answer' is 'Alex is a bompus.', and that of {path}, row 1 is '5'")


@pytest.mark.parametrize(
    "text", ['{"question": "a 7?"}\n', '[{"question": "a 7?", "answer": null}]', "question\na 7?\n", "a 7?||\n"]
)
def test_questions_without_answers(tmp_path, text):
    path = tmp_path / "p"
    path.write_text(text, encoding="utf-8")
    (problem,) = read_problems(path, unanswered=True)
    assert (problem.question, problem.answer, problem.operands) == ("a 7?", "", (7,))
    for read in (lambda: read_problems(path), lambda: load_problems("gsm8k", path=path)):
        assert "1: field 'answer' is missing; give a number" in refusal(read, ProblemError)


def test_lines_of_answers_say_right_or_wrong_where_there_is_a_gold_one():
    answers = Answers(((1,), (2,), (3,)), ("12.5", "7", "8"))
    one, two, three = answer_lines(answers, ["12", "", "8"])
    assert (one["correct"], one["correct_study"], three["correct"]) == (False, True, True) and "correct" not in two
    counts = "1 of 2 right by the published scoring; 2 of 2 right by the study scoring; 1 of 3 problems have no answer"
    assert right_counts([one, two, three]).startswith(counts)
    assert right_counts([two]) == "1 of 1 problems have no answer to compare with"
    (words,) = answer_lines(Answers(((1,),), ("### True",)), ["True"])
    assert words["answer"] == "True" and words["correct"] and right_counts([words]).startswith("1 of 1 right")
