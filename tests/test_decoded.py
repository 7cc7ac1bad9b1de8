"""Decoded thoughts where the truth is known, the format of the released log, and what the suite makes of one."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_bench import FakeBench, measured, values

import codi_bench
from codi_bench.audits.decoding import all_begun, all_found, compared, first_is
from codi_bench.claims import CLAIMS, runs
from codi_bench.claims.claim import done
from codi_bench.cli.claims import listed
from codi_bench.errors import CodiBenchError, MeasureError, ProblemError, UnknownNameError
from codi_bench.problems import Problem
from codi_bench.rules.validity import Validity
from codi_bench.store.cache import Store
from codi_bench.store.files import package_folder
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.problem_source import ProblemSource
from codi_bench.suite.request import ModelRequest
from codi_bench.suite.suite import Suite
from codi_bench.thoughts.decoded import Decoded, decoded_latent, load_decoded, number

PLACES = 7
ENTRY = """Question{i}...
Mia has {a} apples and {b} pens. Each costs 2. How much is it?...
CoT=<<{a}+{b}={c}>> <<{c}*2={d}>>, Answer={d}.0
{latents}
Model Prediction: The answer is: {d}<|endoftext|>



"""


def written(count: int) -> str:
    """A log whose even places read the result of the first step, and whose odd ones read words."""
    entries = []
    for i in range(count):
        a, b = i + 3, 2 * i + 1
        lines = [
            f"decoded {j}th latent (top5): {[f' {a + b}', 'x', 'y', 'z', '>>'] if j % 2 == 0 else ['-', '.', 'in', 'at', 'is']}"
            for j in range(PLACES)
        ]
        entries.append(ENTRY.format(i=2 * i, a=a, b=b, c=a + b, d=2 * (a + b), latents="\n".join(lines)))
    return "".join(entries)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text(written(40), encoding="utf-8")
    return path


def test_the_released_format_is_read(log):
    found = load_decoded(log)
    assert len(found.problems) == 40 and found.asked == 1319 and found.numbers().shape == (40, PLACES, 5)
    first = found.problems[0]
    assert (first.question[:16], first.steps, first.values, first.answer) == (
        "Mia has 3 apples",
        ("<<3+1=4>>", "<<4*2=8>>"),
        (4.0, 8.0),
        "8",
    )
    assert first.group == "log:0" and found.problems[1].group == "log:2" and found.said[0] == "The answer is: 8"
    assert (found.numbers()[:, ::2, 0] == [[p.values[0]] * 4 for p in found.problems]).all()
    assert np.isnan(found.numbers()[:, 1::2]).all()


@pytest.mark.parametrize(
    ("word", "value"), [(" 12", 12), ("1.5", 1.5), (".5", 0.5), ("-3", None), ("12.", None), ("1,2", None), ("", None)]
)
def test_a_word_is_a_number_as_it_stands(word, value):
    assert number(word) == value if value is not None else np.isnan(number(word))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Question0...\n", "\n"), "line 2: no 'Question0...'|line 1: no 'Question0...'"),
        (("decoded 1th latent (top5)", "decoded 2th latent (top5)"), "line 5: latent 1 with its 5 words is expected here"),
        (("['-', '.', 'in', 'at', 'is']", "['-', '.', 'in', 'at']"), "line 5: latent 1 with its 5 words"),
        (("['-', '.', 'in', 'at', 'is']", "[open('x')]"), "line 5: not a list of words"),
        (("Model Prediction: ", "Said: "), "line 11: 'Model Prediction:' is expected here"),
        (("Answer=8.0", "Answer=none"), "line 3: no number"),
        (("Answer=8.0", "Answer=1e999"), "line 3: no number"),
        (("Answer=8.0", "Answer=1_0"), "line 3: no number"),
        (("decoded 1th", f"decoded {'1' * 5000}th"), "line 5: 'Model Prediction:' is expected here"),
        (("Question2...", "Question0..."), "a question number occurs twice"),
        (("Question2...", "Question1319..."), "question 1319 of 1319"),
        (("CoT=", "COT="), "line 1: no 'CoT=..., Answer=...' after this question"),
    ],
)
def test_another_format_is_refused_with_its_line(log, change, message):
    log.write_text(log.read_text().replace(*change, 1))
    with pytest.raises(ProblemError, match=message):
        load_decoded(log)


# Logs as they come


ENCODINGS = {
    "mark": ("utf-8-sig", "\n"),
    "utf-16": ("utf-16", "\n"),
    "utf-16 big": ("utf-16-be", "\n"),
    "carriage returns": ("utf-8", "\r\n"),
    "mark and carriage returns": ("utf-8-sig", "\r\n"),
}


@pytest.mark.parametrize(
    ("answer", "gold"), [("1234567.0", "1234567"), ("0.0000125", "0.0000125"), ("1e+16", "10000000000000000")]
)
def test_an_answer_keeps_all_its_digits(log, answer, gold):
    text = log.read_text(encoding="utf-8").replace("Answer=8.0", f"Answer={answer}", 1)
    log.write_text(text, encoding="utf-8")
    assert gold in [problem.answer for problem in load_decoded(log).problems]


@pytest.mark.parametrize(("encoding", "newline"), ENCODINGS.values(), ids=ENCODINGS)
def test_a_log_is_the_same_in_every_encoding(log, tmp_path, encoding, newline):
    text = written(40).replace("Mia has", "Mia’s friend has")
    log.write_text(text, encoding="utf-8")
    mark = "\ufeff" * (encoding == "utf-16-be")
    (tmp_path / "other.txt").write_text(mark + text, encoding=encoding, newline=newline)
    found = load_decoded(tmp_path / "other.txt")
    assert found == load_decoded(log) and found.problems[0].question.startswith("Mia’s friend has 3")


def attended(text: str, count: str = "top5") -> str:
    """As the released script writes with `test_attention`, of which the numbers must not be taken for thoughts."""
    lines = []
    for line in text.splitlines(keepends=True):
        if line.startswith("decoded "):
            lines.append(f"decoded {line.split()[1]} latent's attended tokens ({count}): ['99', ' 98', \"it's\", '\\n', 'z1']\n")
        if line.startswith("Model Prediction"):
            lines.append(f"decoded before answer token's attended tokens ({count}): [('z6', 0.31), ('77', 0.2)]\n")
        lines.append(line)
    return "".join(lines)


@pytest.mark.parametrize("count", ["top5", "top 10"])
def test_attended_tokens_are_no_thoughts(log, count):
    plain = load_decoded(log)
    log.write_text(attended(log.read_text(), count))
    assert log.read_text().count("attended") == 40 * (PLACES + 1) and load_decoded(log) == plain


def test_a_log_that_is_cut_off_is_refused_at_its_last_problem(log):
    whole = written(3).rstrip()
    for length in range(whole.index("Question4...") + 1, len(whole), 3):
        log.write_text(whole[:length])
        with pytest.raises(ProblemError, match=r"line \d+: .*\(the last problem: is the file cut off\?\)"):
            load_decoded(log)


def test_the_last_answer_may_lack_its_line_end_if_it_ended_by_itself(log):
    log.write_text(written(3).rstrip())
    assert load_decoded(log).said[-1] == "The answer is: 20"
    log.write_text(written(3).rstrip().removesuffix("<|endoftext|>"))
    with pytest.raises(ProblemError, match="line 39: the last answer ends differently"):
        load_decoded(log)


OTHERS = {  # what another model's log has, and what is said of it
    "llama": (lambda text: text.replace("<|endoftext|>", "<|eot_id|>"), "answers end in <|eot_id|>"),
    "llama-2": (
        lambda text: text.replace("<|endoftext|>", "</s>").replace("' ", "'▁"),
        "answers end in </s>, words that were not decoded",
    ),
    "byte pairs": (lambda text: text.replace("' ", "'Ġ"), "words that were not decoded"),
    "three latents": (
        lambda text: "".join(line for line in text.splitlines(keepends=True) if not re.match("decoded [456]", line)),
        "4 places instead of 7",
    ),
    "one latent": (
        lambda text: "".join(line for line in text.splitlines(keepends=True) if not re.match("decoded [2-6]", line)),
        "2 places instead of 7",
    ),
}


@pytest.mark.parametrize(("change", "sign"), OTHERS.values(), ids=OTHERS)
def test_a_log_of_another_model_is_named_as_such_in_every_row(log, change, sign):
    plain = load_decoded(log)
    log.write_text(change(log.read_text()), encoding="utf-8")
    found = load_decoded(log)
    places = found.numbers().shape[1]
    assert not plain.other_model and found.said == plain.said  # without what ends an answer
    np.testing.assert_array_equal(found.numbers(), plain.numbers()[:, :places])  # 'Ġ7' is the number 7
    rows = codi_bench.run(logs={"mine": log}, progress=False).rows
    assert {row.status for row in rows} <= {"ok", "blocked"} and any(row.measured for row in rows)
    assert all(row.reason.endswith(f"; the log is of another model than CODI-GPT-2: {sign}") for row in rows if row.measured)


def planted(results, words) -> FakeBench:
    """A bench whose rightly answered problems have these results of steps and read these words, [n][places][k]."""
    problems = tuple(
        Problem("", tuple(f"<<x={v:g}>>" for v in row), f"{row[-1]:g}", f"p{i}", values=tuple(row))
        for i, row in enumerate(results)
    )
    return FakeBench(decoded=Decoded(problems, words, tuple(p.answer for p in problems), 2 * len(problems)))


@pytest.fixture
def steps():
    """Two intermediate results a problem; the first stands first at place 0, the second at 2 and 4; the answer nowhere."""
    values = [(10 + i, 200 + i, 5000 + i) for i in range(120)]
    words = tuple(
        tuple((str({0: a, 2: b, 4: b}[j]), "-") if j in (0, 2, 4) else ("of", f"{a} {b}") for j in range(PLACES))
        for a, b, _ in values
    )
    return planted(values, words)


def test_planted_values_are_found_where_they_stand_and_nowhere_else(steps):
    rows = measured("log-slot-map", steps)[1]
    rates = {name: row.value for name, row in rows.items()}
    assert rates == {
        "of2_step1_at0": 1,
        "of2_step1_at2": 0,
        "of2_step2_at0": 0,
        "of2_step2_at2": 1,
        "of2_step2_at4": 1,
        "of2_step2_at6": 0,
    }
    for name, row in rows.items():
        assert row.verdict.word is (Validity.SUPPORTED if rates[name] else Validity.REFUTED) and row.null.value == 0
    table = measured("codi-table3-decode", steps)[1]
    assert {name: row.value for name, row in table.items()} == {"steps_2": 1}
    final = measured("log-final-answer", steps)[1]
    assert final["top5"].value == 0 and final["top5"].verdict.word is Validity.SUPPORTED  # hardly read, as claimed
    said = planted([(1, i) for i in range(120)], tuple(((str(i),),) * PLACES for i in range(120)))
    assert {row.verdict.word for row in measured("log-final-answer", said)[1].values()} == {Validity.REFUTED}
    assert values("log-parity", steps)["number_3"] == 0


def test_words_that_any_problem_would_have_are_no_hit():
    """Every state reads the same numbers, and every problem has one of them: found always, and so is another problem's."""
    values = [(i % 3, i % 3, 9.0) for i in range(120)]
    same = planted(values, ((("0", "1", "2"),) * PLACES,) * 120)
    (row,) = measured("codi-table3-decode", same)[1].values()
    assert (row.value, row.null.value, row.verdict.word) == (1, 1, Validity.REFUTED)
    (alternates,) = measured("log-parity", same)[1].values()
    assert alternates.value == 0 and alternates.verdict.word is Validity.REFUTED


def test_alternation_is_found(steps):
    results = [(i, i + 1) for i in range(120)]
    odd_words = tuple(tuple(("7",) if j % 2 == 0 else ("of",) for j in range(PLACES)) for _ in results)
    (row,) = measured("log-parity", planted(results, odd_words))[1].values()
    assert row.value == 1 and row.verdict.word is Validity.SUPPORTED


def test_too_few_problems_of_a_length_are_left_out_and_none_is_an_error():
    few = planted([(1, 2), *[(1, 2, 3)] * 19], ((("1",),) * PLACES,) * 20)
    with pytest.raises(MeasureError, match="fewer than 20 rightly answered problems"):
        values("codi-table3-decode", few)
    with pytest.raises(MeasureError, match="19 rightly answered problems have that many steps"):
        compared(np.ones((19, 19), bool), seed=0)


def test_nobody_is_compared_with_itself():
    for seed in range(20):
        found = compared(np.eye(25, dtype=bool), seed=seed)
        assert found.own.all() and not found.other.any() and found.mean == 0


def test_beginnings_of_numbers_and_places():
    assert all_begun([{"12", "x"}, {"5"}], [("1250",), ("51", "5")]).tolist() == [[True, False], [False, True]]
    numbers = np.array([[[1.0, np.nan]], [[2.0, 3.0]]])
    assert all_found(numbers, np.array([[1.0], [3.0]])).tolist() == [[True, False], [False, True]]
    assert first_is(numbers, 0, np.array([1.0, 3.0])).tolist() == [[True, False], [False, False]]


# Live states


@torch.inference_mode()
def test_words_of_a_model_are_those_its_head_ranks_first(tiny, tmp_path):
    bench = ModelBench(tiny, Store(tmp_path), ProblemSource(n=80), max_new_tokens=8)
    found = runs.captured(bench)
    found = replace(found, right=np.ones(len(found.right), bool))  # this one has learnt nothing
    bench = replace(bench, memo=done({runs.captured: found}))
    decoded = bench.decoded
    assert decoded.asked == len(decoded.problems) == 80 and decoded.problems[3] == found.problems[3]
    states = np.array(found.hidden_states[:, :, -1], np.float32)
    for i, j in ((0, 0), (7, 3), (79, 6)):
        logits = tiny.codi.logits(torch.from_numpy(states[i, j])[None]).float()[0]
        words = [tiny.codi.tokenizer.decode([k]) if k < tiny.codi.vocab_size else "" for k in logits.argsort(descending=True)[:5]]
        assert list(decoded.words[i][j]) == words
    word = decoded.words[7][3][0]
    ranks = tiny.lens_ranks(found.hidden_states[7:8], [(word,)])
    assert ranks[0, 3, -2, 0] == 0 or word == ""


# The suite


def test_a_log_takes_the_claims_that_need_no_more(log, tmp_path):
    found = codi_bench.run(logs={"mine": log}, progress=False)
    assert {row.model for row in found.rows} == {"mine"}
    assert {row.claim for row in found.rows} == {
        name for name, claim in CLAIMS.items() if (decoded_latent,) == claim.files("gpt2")
    }
    assert {row.regression for row in found.rows if row.status == "ok"} == {"UNCHECKED"}


def test_another_file_under_the_name_of_a_released_log_is_refused(log, tmp_path):
    with pytest.raises(ProblemError, match="sha256 is .* give the file as it was released, or this one another name"):
        Suite(models=["codi-gpt2"], logs=[f"codi-gpt2={log}"], report=tmp_path)


def test_a_log_is_counted_on_the_cpu_whatever_the_models_run_on(log, tmp_path):
    suite = Suite(models=["mine"], logs=[f"mine={log}"], gpu=True, report=tmp_path)
    assert suite.measure(suite.asked_models[0], CLAIMS["log-count"]).word == "unchecked"


def test_a_log_of_ones_own_has_nothing_to_be_checked_against_under_strict(log):
    assert ModelRequest("sim-cot-gpt2").known and not ModelRequest("mine", str(log), log=True).known


def test_claims_are_listed_with_their_verdicts():
    rows = listed(CLAIMS.values(), package_folder("baselines"), model="gpt2-mini", verdict="ARTEFACT")
    assert {"probe-accuracy", "probe-range"} <= {row[0] for row in rows} and all("ARTEFACT" in row[-1] for row in rows)
    assert {row[1] for row in listed(CLAIMS.values(), package_folder("baselines"), family="decoding")} == {"decoding"}
    assert {row[0] for row in listed(CLAIMS.values(), package_folder("baselines"), source="scratchpad")} == {
        name for name in CLAIMS if name.startswith("scratch-") or name in ("contra-none", "contra-order")
    }
    assert not listed(CLAIMS.values(), package_folder("baselines"), family="decoding", verdict="ARTEFACT", model="llama-3.2-1b")
    with pytest.raises(UnknownNameError, match="unknown model 'gtp2'"):
        listed(CLAIMS.values(), package_folder("baselines"), model="gtp2")


def test_a_log_and_a_model_of_one_name_are_refused(log, tmp_path):
    with pytest.raises(CodiBenchError, match="--model codi-gpt2=…: a released model has that name"):
        Suite(models=["codi-gpt2=/nowhere"], report=tmp_path)
    with pytest.raises(CodiBenchError, match="--log gpt2-mini=…: a model has that name"):
        Suite(logs=[f"gpt2-mini={log}"], report=tmp_path)


RELEASED = os.environ.get("CODI_BENCH_LOG")


@pytest.mark.skipif(not RELEASED, reason="CODI_BENCH_LOG names no released decoded_latent.txt")
def test_the_released_log_gives_the_recorded_figures():
    found = codi_bench.run(logs={"codi-gpt2": Path(RELEASED)}, progress=False)
    assert {row.status for row in found.rows} == {"ok"} and {row.regression for row in found.rows} == {"SAME"}
