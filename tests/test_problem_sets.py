"""The public sets: each form read by one reader, from a file or from the hub's layout; broken rows named by file, row, field."""

from __future__ import annotations

import json
import sys

import pytest
from checkpoints import refusal
from hypothesis import given
from hypothesis import strategies as st

from codi_bench.errors import ProblemError, UnknownNameError
from codi_bench.problems import NAMES, files, load_problems, parse_number, read_problems
from codi_bench.problems.answers import plain
from codi_bench.problems.problem import STEP
from codi_bench.problems.readers import solve

# Invented rows in the forms of the originals

GSM8K = [
    {
        "question": "Ann has 1,200 beads and 3 boxes.  How many beads go in 2 boxes?\n",
        "answer": "A box holds 1,200 / 3 = <<1200/3=400>>400.\nTwo hold $<<400 * 2=800>>800.\n#### 1,800",
    },
    {"question": "Bo owes $.50 and 4. How much is left?", "answer": "Nothing to note.\n#### -4"},
    {"question": "What part?", "answer": "It is <<3/4=3/4>>3/4, then <<5>> and <<>>.\n#### 75"},
    {"question": "How odd?", "answer": "It is <<1+1=two>>2.\n#### 2"},
]
SVAMP = [
    {
        "ID": "chal-1",
        "Body": " Cups cost 76 dollars. There are 2 in a box ",
        "Question": "What do 3 boxes cost?",
        "Equation": "( 3.0 * ( 76.0 * 2.0 ) )",
        "Answer": 456.0,
        "Type": "Multiplication",
    },
    {
        "ID": "chal-2",
        "Body": "Cups cost 50 dollars. There are 8 in a box",
        "Question": "What does a cup cost?",
        "Equation": "50.0",
        "Answer": 50.0,
        "Type": "Common-Divison",
    },
]
GSM_HARD = [
    {
        "input": "Ann has 7,654,321 beads and 3 boxes. How many?",
        "code": f'def f():\n    """{GSM8K[0]["question"]}"""',
        "target": 2.5e-06,
    },
    {"input": " How much is left? ", "code": "def f(): pass", "target": -9867630.0},
]
MULTIARITH = [
    {"iIndex": i, "lEquations": [equation], "lSolutions": [answer], "sQuestion": f" Cy had {i} cats and 5 dogs. How many pets? "}
    for i, (equation, answer) in enumerate([("X=((32.0+42.0)-35.0)", 39.0), ("X=((7.0+5.0)/8.0)", 1.5)], start=3)
]
AUG = [
    {"question": "How many?", "cot": "<<14*9=126>> <<126-37=89>>", "answer": "89"},
    {"question": "How few?", "cot": "", "answer": "1,000"},
    {"question": "How many?", "cot": "Ann has 14 times 9. That is 126.", "answer": "126"},
]
FILES = {"gsm8k": GSM8K, "svamp": SVAMP, "gsm-hard": GSM_HARD, "multiarith": MULTIARITH}
LISTS = ("svamp", "multiarith")  # kept as one JSON list


def write(path, rows, *, as_list):
    text = json.dumps(rows, indent=4) if as_list else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def write_set(folder, name, rows=None):
    return write(folder / f"{name}.json", FILES[name] if rows is None else rows, as_list=name in LISTS)


# Files


@pytest.mark.parametrize("name", FILES)
def test_every_gold_answer_and_step_can_be_read(tmp_path, name):
    path = write_set(tmp_path, name)
    problems = load_problems(name, path=path)
    assert problems == read_problems(path) == read_problems(str(path)) and len(problems) == len(FILES[name])
    for problem in problems:
        assert parse_number(problem.answer) is not None and "e" not in problem.answer
        assert all(STEP.fullmatch(step) for step in problem.steps)
        assert len(problem.values) in (0, len(problem.steps))
    assert load_problems(name, path=path, n=1) == problems[:1]
    assert read_problems(write(tmp_path / "own", [json.loads(p.to_json()) for p in problems], as_list=False)) == problems


def test_gsm8k(tmp_path):
    annotated, bare, fraction, odd = load_problems("gsm8k", path=write_set(tmp_path, "gsm8k"))
    assert annotated.steps == ("<<1200/3=400>>", "<<400*2=800>>") and annotated.values == (400, 800)
    assert annotated.answer == "1800" and annotated.operands == (1200, 3, 2)  # what follows ####, not the last step
    assert (bare.steps, bare.values, bare.answer, bare.operands) == ((), (), "-4", (0.5, 4))
    assert (fraction.steps, fraction.values) == (("<<3/4=3/4>>",), (0.75,))
    assert (odd.steps, odd.values) == (("<<1+1=two>>",), ())


def test_svamp(tmp_path):
    first, second = load_problems("svamp", path=write_set(tmp_path, "svamp"))
    assert first.question == "Cups cost 76 dollars. There are 2 in a box What do 3 boxes cost?"
    assert first.steps == ("<<76*2=152>>", "<<3*152=456>>") and first.values == (152, 456) and first.operators == "**"
    assert (first.answer, first.template, first.operands) == ("456", "Multiplication", (76, 2, 3))
    assert (second.steps, second.answer, second.template) == ((), "50", "Common-Division")
    assert first.group == second.group  # the same story with other numbers


def test_gsm_hard_shares_its_groups_with_gsm8k(tmp_path):
    original = load_problems("gsm8k", path=write_set(tmp_path, "gsm8k"))
    first, second = load_problems("gsm-hard", path=write_set(tmp_path, "gsm-hard"))
    assert first.group == original[0].group and second.group not in {p.group for p in original}
    assert (first.answer, second.answer, second.question) == ("0.0000025", "-9867630", "How much is left?")
    assert parse_number(first.answer) == 2.5e-06
    copied = [{"instruction": row["input"], "response": str(row["target"])} for row in GSM_HARD]  # as CODI's test.py reads it
    copies = load_problems("gsm-hard", path=write_set(tmp_path, "gsm-hard", copied))
    assert [(p.question, p.answer, p.steps) for p in copies] == [(p.question, p.answer, ()) for p in (first, second)]


def test_multiarith(tmp_path):
    first, second = load_problems("multiarith", path=write_set(tmp_path, "multiarith"))
    assert first.steps == ("<<32+42=74>>", "<<74-35=39>>") and first.answer == "39" and first.operands == (3, 5)
    assert second.steps == ("<<7+5=12>>", "<<12/8=1.5>>") and second.answer == "1.5" and second.values == (12, 1.5)
    assert first.group == second.group and first.question.startswith("Cy had 3 cats")


def test_training_files_with_chains(tmp_path):
    path = write(tmp_path / "aug.jsonl", AUG, as_list=False)
    chained, bare, worded = load_problems("gsm8k", path=path)
    assert (chained.steps, chained.values, chained.answer) == (("<<14*9=126>>", "<<126-37=89>>"), (126, 89), "89")
    assert (bare.steps, bare.answer) == ((), "1000") and (worded.steps, worded.answer) == ((), "126")
    text = tmp_path / "aug.txt"
    text.write_text("How many?||<<14*9=126>> <<126-37=89>> #### 89\n\nHow few?||#### 1,000\n", encoding="utf-8")
    assert read_problems(text) == [chained, bare]


@pytest.mark.parametrize("name", FILES)
def test_marks_blank_lines_and_line_ends_do_not_matter(tmp_path, name):
    plain_file = write_set(tmp_path, name)
    for as_list in (True, False):
        other = write(tmp_path / "other", FILES[name], as_list=as_list)
        other.write_bytes(b"\xef\xbb\xbf\r\n \r\n" + other.read_bytes().replace(b"\n", b"\r\n\r\n"))
        assert read_problems(other) == read_problems(plain_file)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gsm8k", {"question": ""}, "'question' is missing or empty"),
        ("gsm8k", {"answer": "It is 5."}, "'answer' is 'It is 5.', which is not a number"),
        ("gsm8k", {"answer": "It is.\n#### five"}, "'answer' is 'five', which is not a number"),
        ("svamp", {"Body": None}, "'Body' is missing or empty"),
        ("svamp", {"Question": 5}, "'Question' is missing or empty"),
        ("svamp", {"question_concat": " "}, "'question_concat' is missing or empty"),
        ("svamp", {"Answer": None}, "'Answer' is None, which is not a number"),
        ("svamp", {"Answer": [5]}, "'Answer' is [5], which is not a number"),
        (
            "svamp",
            {"Equation": "( 5.0 / 0.0 )"},
            "'Equation' is '( 5.0 / 0.0 )', which cannot be computed (float division by zero)",
        ),
        ("svamp", {"Equation": "( 5.0 - "}, "'Equation' is '( 5.0 - ', which cannot be computed"),
        ("svamp", {"Equation": 5}, "'Equation' is 5, which cannot be computed"),
        ("gsm-hard", {"input": None}, "'input' is missing or empty"),
        ("gsm-hard", {"target": float("nan")}, "'target' is nan, which is not a number"),
        ("gsm-hard", {"target": True}, "'target' is True, which is not a number"),
        ("multiarith", {"sQuestion": ""}, "'sQuestion' is missing or empty"),
        ("multiarith", {"lSolutions": []}, "'lSolutions' must be a list with one entry, not []"),
        ("multiarith", {"lEquations": "X=5"}, "'lEquations' must be a list with one entry, not 'X=5'"),
        ("multiarith", {"lEquations": ["X=open('f')"]}, "which cannot be computed (only finite numbers"),
    ],
)
def test_a_broken_row_is_named_with_its_field(tmp_path, name, change, message):
    rows = [FILES[name][0], {**FILES[name][1], **change}]
    path = write_set(tmp_path, name, rows)
    said = refusal(lambda: load_problems(name, path=path), ProblemError)
    assert said.startswith(f"{path}, {'row' if name in LISTS else 'line'} 2: field '") and message in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"question": "a", "answer": 5},\n 7]', ", row 2: not an object"),
        ('[{"question": "a",\n "answer": }]', ": begins like a JSON list, but is not valid JSON (Expecting value: line 2"),
        ("[" * 100_000, ": begins like a JSON list, but is not valid JSON"),
        ("[]", ": holds no problems"),
        ('{"question": "a", "cot": "<<2+3=5>>"}', ", line 1: field 'answer' is missing"),
        (
            "How many?||<<2+3=5>> #### 5\nHow few?||<<2+3=5>> 5",
            ", line 2: field 'answer' is '<<2+3=5>> 5', which is not a number",
        ),
        ("How many?\nHow few?", ", line 1: not JSON (Expecting value)"),
    ],
)
def test_a_broken_file(tmp_path, text, message):
    path = tmp_path / "broken"
    path.write_text(text, encoding="utf-8")
    assert refusal(lambda: read_problems(path), ProblemError).startswith(f"{path}{message}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other", FILES)
def test_a_file_of_another_set_is_refused(tmp_path, name, other):
    path = write_set(tmp_path, other)
    if name != other:
        said = refusal(lambda: load_problems(name, path=path), ProblemError)
        assert said == f"{path}: has the fields of the set {other}, not of {name}; give it as {other}={path}"


def test_our_own_form_is_taken_for_any_set(tmp_path):
    path = write(tmp_path / "own.jsonl", [{"question": "a", "answer": 3}, {"question": "b", "answer": 4}], as_list=False)
    assert [p.answer for p in load_problems("multiarith", path=path)] == ["3", "4"]
    with pytest.raises(ProblemError, match="own.jsonl: has 2 problems, but 3 were asked for"):
        load_problems("multiarith", path=path, n=3)


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown problem set 'gsm-hrad': did you mean 'gsm-hard'"):
        load_problems("gsm-hrad")


# Numbers and steps


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**20), 10**20))
def test_plain_numbers_are_read_back_exactly(number):
    text = plain(number)
    assert parse_number(text) == float(number) and set(text) <= set("-.0123456789") and not text.endswith(".")


literals = st.integers(0, 10**6).map(str) | st.floats(0, 10**6).map(repr)
nested = st.recursive(
    literals,
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"( {t[0]} {t[1]} {t[2]} )") | inner.map("-{}".format)
    ),
    max_leaves=12,
)


@given(nested)
def test_equations_are_solved_as_python_does(equation):
    try:
        expected = eval(equation)
        finite = abs(float(expected)) < float("inf")
    except (ZeroDivisionError, OverflowError):
        finite = False
    try:
        steps, values = solve(equation)
    except ValueError:
        assert not finite or "e" in equation  # Python itself may pass through an infinity and come back
        return
    assert len(steps) == len(values) == sum(equation.count(f" {sign} ") for sign in "+-*/")
    assert all(STEP.fullmatch(step) for step in steps)
    if steps and not equation.startswith("-"):
        assert values[-1] == expected


@pytest.mark.parametrize(
    ("equation", "steps"),
    [
        ("( 76.0 - 25.0 )", ("<<76-25=51>>",)),
        ("8 - 2 - 3", ("<<8-2=6>>", "<<6-3=3>>")),
        ("2 * (1 + 2)", ("<<1+2=3>>", "<<2*3=6>>")),
        ("3 - (2 - 4)", ("<<2-4=-2>>", "<<3--2=5>>")),
        ("1 / 3", ("<<1/3=0.3333333333>>",)),
        ("0.1 + 0.2", ("<<0.1+0.2=0.3>>",)),
        ("1e7 * 1e7", ("<<10000000*10000000=100000000000000>>",)),
        ("42.0", ()),
    ],
)
def test_steps_follow_the_order_of_evaluation(equation, steps):
    assert solve(equation)[0] == steps


@pytest.mark.parametrize(
    "equation", ["", "x + 1", "2 ** 3", "True + 1", "1j + 1", "1e308 * 10", "(" * 500, "1 +" * 5000 + " 1", "a()"]
)
def test_what_is_no_arithmetic_is_refused(equation):
    with pytest.raises(ValueError):
        solve(equation)


# The hub: `datasets` itself, on folders in the hub's layout

ROWS_ON_HUB = {
    "gsm8k": {"main/test": GSM8K, "main/train": GSM8K[:1], "socratic/test": [{"question": "a", "answer": "#### 1"}]},
    "svamp": {
        "data/train": [
            {**SVAMP[0], "Answer": "456", "question_concat": "Cups cost 76 dollars. There are 2 in a box What do 3 boxes cost?"}
        ],
        "data/test": [{**SVAMP[1], "Answer": "50.0", "question_concat": f"{SVAMP[1]['Body']} {SVAMP[1]['Question']}"}],
    },
    "gsm-hard": {"data/train": GSM_HARD},
    "multiarith": {f"data/{part}": [{"question": m["sQuestion"], "final_ans": str(m["lSolutions"][0])}] for part, m in
                   zip(("train", "test"), MULTIARITH)},
}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """`datasets` offline, with folders of Parquet files in place of the four repositories."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, parts in ROWS_ON_HUB.items():
        folder = tmp_path / "hub" / name
        configs = {}
        for part, rows in parts.items():
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_list(rows).to_parquet(folder / f"{part}-00000-of-00001.parquet")
            configs.setdefault(part.split("/")[0].replace("data", "default"), []).append(part)
        lines = ["---", "configs:"]
        for config, found in configs.items():
            lines += [f"- config_name: {config}", "  data_files:"]
            lines += [line for part in found for line in (f"  - split: {part.split('/')[1]}", f"    path: {part}-*")]
        (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
        monkeypatch.setitem(files.HUBS, name, files.Hub(str(folder), files.HUBS[name].splits, files.HUBS[name].config))
    return tmp_path / "hub"


@pytest.mark.parametrize("name", FILES)
def test_the_hub_gives_what_the_file_gives(hub, tmp_path, name):
    from_hub, from_file = load_problems(name), load_problems(name, path=write_set(tmp_path, name))
    if name == "multiarith":  # no equations on the hub
        assert [(p.question, p.answer, p.group, p.operands) for p in from_hub] == [
            (p.question, p.answer, p.group, p.operands) for p in from_file
        ]
        assert not any(p.steps for p in from_hub)
    else:
        assert from_hub == from_file
    assert load_problems(name, n=1) == from_hub[:1]
    with pytest.raises(ProblemError, match=rf"{name} \(test\): has {len(from_hub)} problems, but 9 were asked for"):
        load_problems(name, n=9)


def test_splits_on_the_hub(hub):
    assert load_problems("gsm8k", split="train") == load_problems("gsm8k")[:1]
    with pytest.raises(ProblemError, match="gsm8k has no split 'dev': it has 'test' and 'train'"):
        load_problems("gsm8k", split="dev")
    for name in ("svamp", "gsm-hard", "multiarith"):
        with pytest.raises(ProblemError, match=f"{name} has no split 'train': it has 'test'"):
            load_problems(name, split="train")


def test_a_broken_row_on_the_hub(hub):
    import datasets

    broken = [{"question": "a", "final_ans": "1"}, {"question": "b", "final_ans": "two"}]
    datasets.Dataset.from_list(broken).to_parquet(hub / "multiarith/data/test-00000-of-00001.parquet")
    with pytest.raises(ProblemError, match="multiarith, split test, row 2: field 'final_ans' is 'two', which is not a number"):
        load_problems("multiarith")


def test_a_hub_out_of_reach_is_one_line_with_the_mend(hub, monkeypatch):
    monkeypatch.setitem(files.HUBS, "svamp", files.Hub("codi-bench-tests/no-such-set", {"test": ("train",)}))
    message = refusal(lambda: load_problems("svamp"), ProblemError)
    assert message.startswith("svamp: codi-bench-tests/no-such-set cannot be loaded from the hub (")
    assert "); give its file with --problems svamp=FILE (or --path FILE" in message


def test_without_datasets_the_mend_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ProblemError, match=r"needs the library `datasets`: run `pip install datasets`, or give"):
        load_problems("gsm8k")
