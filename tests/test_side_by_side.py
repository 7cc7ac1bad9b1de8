"""Runs side by side: every word is provoked by a planted difference, and no difference is called what it is not."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from codi_bench.cli import app
from codi_bench.errors import CodiBenchError
from codi_bench.records.baseline import pack_bits
from codi_bench.records.results import Row, write_results
from codi_bench.report.differences import LEGEND, SIGNS, lines, markdown, summary, terminal
from codi_bench.report.side_by_side import NUMBER_WORDS, compare

N = 300
RIGHT = np.arange(N) < 200  # 200 of 300 right
CLAIMS = {
    "task-accuracy": {"position": 0, "family": "task accuracy", "protocol": "in order", "sound": "in order, all latents"},
    "ablation": {"position": 1, "family": "ablation", "protocol": "zeroed", "sound": "resampled"},
    "sae-error-prediction": {"position": 2, "family": "SAE errors", "protocol": "a split", "sound": "a split by group"},
    "size": {"position": 3, "family": "size", "protocol": "counted", "sound": "counted"},
}


def environment(weights="aaaaaaaaaaaa", problems="pppppppppppp", **more):
    inputs = {model: {"weights": weights, "problems": problems} for model in ("mine", "yours")}
    return {"date": "2026-01-01", "codi-bench": "0.1.0", "device": "cpu", "inputs": inputs, "claims": CLAIMS, **more}


def value(x, low=None, high=None):
    return {"value": x, "low": low, "high": high}


def row(claim="size", metric="layers", measured=4, model="mine", protocol="reported", **more):
    held = {"unit": "count", "n": 1, "measured": measured if isinstance(measured, dict) else value(measured), **more}
    return Row(claim, model, metric, protocol, "ok", **held)


def accuracy(right=RIGHT, claim="task-accuracy", metric="accuracy", **more):
    """An accuracy that holds its outcomes; the interval is far too wide to decide anything."""
    rate = float(np.mean(right))
    detail = {"outcomes": pack_bits(right), "problems": "pppp", **more.pop("detail", {})}
    return row(claim, metric, value(rate, rate - 0.3, rate + 0.3), unit="fraction", n=len(right), detail=detail, **more)


def drop(without, under, **more):
    """The drop from `without` right answers to the outcomes `under` an edit, in points."""
    points = 100 * (without - float(np.mean(under)))
    return replace(accuracy(under, "ablation", "drop_2", **more), unit="points", measured=value(points, points - 5, points + 5))


def flipped(*which):
    right = RIGHT.copy()
    right[list(which)] ^= True
    return right


def compared(old, new, first=None, later=None):
    """The only change between two runs of the given rows."""
    found = compare([("a.json", first or environment(), old), ("b.json", later or environment(), new)])
    (entry,) = found.entries
    return entry.changes[0]


def everything():
    return [accuracy(), drop(0.7, RIGHT), row(), row(metric="width", measured=104), row(model="yours")]


# --- what moved ------------------------------------------------------------------------------------------------------


def test_identical_runs_are_all_the_same_and_nothing_is_listed():
    found = compare([("a.json", environment(), everything()), ("b.json", environment(), everything())])
    assert {entry.changes[0].word for entry in found.entries} == {"same"}
    assert not found.notes and not lines(found, 0)
    assert summary(found, 0) == "run 2 against run 1: 5 same"
    assert "Same, mine: task-accuracy accuracy (reported), ablation drop_2 (reported)" in markdown(found)


def test_one_turned_answer_is_noise_although_the_number_differs():
    change = compared([accuracy()], [accuracy(flipped(3))])
    assert change.word == "noise" and change.why.startswith("1 right → wrong, 0 wrong → right of 300")
    assert change.difference["value"] == pytest.approx(-1 / N) and change.difference["low"] < 0 < change.difference["high"]


def test_as_many_lost_as_gained_is_noise_not_the_same():
    change = compared([accuracy()], [accuracy(flipped(3, 250))])
    assert change.word == "noise" and change.difference["value"] == 0


def test_forty_lost_of_300_moved_although_the_intervals_of_both_overlap():
    change = compared([accuracy()], [accuracy(flipped(*range(40)))])
    assert change.word == "moved" and change.difference["high"] < 0
    assert change.difference["value"] == pytest.approx(-40 / N)


def test_the_level_is_shared_by_all_metrics_that_are_compared():
    old, new = accuracy(), accuracy(flipped(*range(10)))  # p = 0.002: below 0.005, above 0.005 / 3
    assert compared([old], [new]).word == "moved"
    more = [row(metric="width"), row(metric="layers")]
    found = compare([("a", environment(), [old, *more]), ("b", environment(), [new, *more])])
    assert [entry.changes[0].word for entry in found.entries] == ["noise", "same", "same"]


def test_a_drop_grows_where_answers_are_lost():
    change = compared([drop(0.7, RIGHT)], [drop(0.7, flipped(*range(40)))])
    assert change.word == "moved" and change.difference["value"] == pytest.approx(4000 / N) and change.difference["low"] > 0


def test_a_drop_whose_unedited_answers_moved_is_not_judged_by_the_edited_ones_alone():
    change = compared([drop(0.7, RIGHT)], [drop(0.9, RIGHT)])  # no edited answer turned, and yet 20 points more are lost
    assert change.word == "moved" and "interval" in change.why and change.difference["value"] == pytest.approx(20)


@pytest.mark.parametrize(("low", "word"), [(0.6, "noise"), (0.68, "moved")])
def test_without_outcomes_the_interval_of_the_difference_decides(low, word):
    old = row("task-accuracy", "auc", value(0.6, 0.5, 0.72), unit="fraction", n=100)
    new = row("task-accuracy", "auc", value(0.8, low, 0.9), unit="fraction", n=100)  # both overlap with the old interval
    change = compared([old], [new])
    reach = ((0.8 - low) ** 2 + (0.72 - 0.6) ** 2) ** 0.5  # Zou & Donner
    assert change.word == word and change.difference["low"] == pytest.approx(0.2 - reach)
    assert compared([new], [old]).word == word  # a loss as much as a gain


def test_without_an_interval_nothing_is_said_about_noise():
    change = compared([row(measured=4)], [row(measured=5)])
    assert (change.word, change.why) == ("changed", "no interval")
    assert compared([row(measured=4)], [row(measured=4 + 1e-7)]).word == "same"


def test_other_problems_are_never_paired():
    other = accuracy(flipped(*range(40)), detail={"problems": "qqqq"})
    change = compared([accuracy()], [other], later=environment(problems="qqqqqqqqqqqq"))
    assert change.word == "noise" and "McNemar" not in change.why
    fewer = compared([accuracy()], [accuracy(RIGHT[:250])])
    assert fewer.also == ("n differs",) and fewer.remarks == ("n 300 → 250",) and "McNemar" not in fewer.why


def test_error_predictions_are_never_paired_for_their_test_problems_hang_on_each_answer():
    old, new = (accuracy(right, "sae-error-prediction", "test_accuracy") for right in (RIGHT, flipped(*range(40))))
    assert "McNemar" not in compared([old], [new]).why


SAME_MACHINE = {"instructions": "AVX2", "torch": "2.13.0+cpu", "dtype": "float32", "devices": {"mine": "cpu float32"}}


@pytest.mark.parametrize("right", [flipped(3), flipped(3, 250)])
def test_in_the_same_environment_every_change_moved(right):
    known = environment(**SAME_MACHINE)
    change = compared([accuracy()], [accuracy(right)], known, known)
    assert change.word == "moved" and "no noise there" in change.why
    assert compared([accuracy()], [accuracy()], known, known).word == "same"
    for other in ({"torch": "2.12.1"}, {"instructions": "AVX512"}, {"options": "--n 100"}, {"devices": {"mine": "cuda float32"}}):
        assert compared([accuracy()], [accuracy(right)], known, known | other).word == "noise"
    assert compared([accuracy()], [accuracy(right)], known, known | {"torch": "2.13.9"}).word == "moved"


def test_other_options_are_said():
    found = compare([("a", environment(), [row()]), ("b", environment(options="--n 100"), [row()])])
    assert any("options differ: run 1 none, run 2 --n 100" in note for note in found.notes)


# --- what else differs -----------------------------------------------------------------------------------------------


def test_a_verdict_change_stands_beside_a_number_that_is_the_same():
    old = accuracy(validity="SUPPORTED", detail={"fragile": True})
    change = compared([old], [accuracy(validity="UNDERPOWERED")])
    assert (change.word, change.also) == ("same", ("verdict changed",))
    assert change.remarks == ("verdict ✓ SUPPORTED → … UNDERPOWERED, recorded fragile in run 1",)
    found = compare([("a", environment(), [old]), ("b", environment(), [accuracy(validity="REFUTED")])])
    assert "1 verdict changed" in summary(found, 0) and "⇄ verdict changed" in terminal(found)
    assert "✓ SUPPORTED → ⊘ REFUTED" in terminal(found) and "✓ SUPPORTED → ⊘ REFUTED" in markdown(found)


def test_a_lost_verdict_is_a_changed_one():
    assert compared([accuracy(validity="REFUTED")], [accuracy()]).remarks == ("verdict ⊘ REFUTED → no word",)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seeds": {"split": 1}}, "seeds differ"),
        ({"cell": {"layer": 3, "latent_pos": 2}}, "other cell"),
        ({"reproduction": "NOT REPRODUCED"}, "reproduction changed"),
    ],
)
def test_what_makes_two_numbers_less_comparable_is_said(change, word):
    assert compared([row()], [replace(row(), **change)]).also == (word,)


def test_another_protocol_under_the_same_name_is_said():
    changed = {**CLAIMS, "size": {**CLAIMS["size"], "protocol": "weighed"}}
    assert compared([row()], [row()], later=environment(claims=changed)).also == ("protocol differs",)
    assert not compared([row(protocol="sound")], [row(protocol="sound")], later=environment(claims=changed)).also


def test_a_vanished_metric_is_as_loud_as_one_that_moved_and_says_why():
    old, gone = row(), Row("size", "mine", "-", "reported", "blocked", reason="it broke")
    change = compared([old], [gone])
    assert (change.word, change.remarks) == ("gone", ("in run 2 blocked: it broke",))
    assert compared([old], []).remarks == ("in run 2 no such number in that file",)
    assert compared([gone], [old]).word == "appeared"
    assert compared([old], [row(measured=float("nan"))]).word == "gone"


def test_a_blocked_claim_never_counts_as_the_same():
    blocked = Row("size", "mine", "-", "reported", "blocked", reason="it broke")
    found = compare([("a", environment(), [blocked]), ("b", environment(), [blocked])])
    assert summary(found, 0) == "run 2 against run 1: 1 measured in neither"
    now = compared([replace(blocked, status="not-run", reason="no GPU")], [blocked])
    assert now.also == ("status changed",) and now.remarks == ("not-run: no GPU → blocked: it broke",)


def test_a_model_that_came_or_went_as_a_whole_is_one_line():
    mine = [row(), row(metric="width")]
    found = compare([("a", environment(), [*mine, row(model="yours"), accuracy(model="yours")]), ("b", environment(), mine)])
    (line,) = lines(found, 0)
    assert (line.model, line.claim, line.metric, line.words) == ("yours", "all claims", "all 2 numbers", ("gone",))
    assert "2 gone, 2 same" in summary(found, 0)


def test_other_weights_and_other_problems_under_one_name_are_said_first():
    later = environment(weights="bbbbbbbbbbbb", problems="qqqqqqqqqqqq")
    found = compare([("a", environment(), [row()]), ("b", later, [row()])])
    assert len(found.notes) == 2
    assert "not the same model (aaaaaaaa…, bbbbbbbb…): differences are between models" in found.notes[0]
    assert "differences are between problems" in found.notes[1]
    shown = " ".join(terminal(found).split())
    assert all(note in shown and note in markdown(found) for note in found.notes)
    assert shown.index("not the same model") < shown.index("run 2 against run 1")


def test_an_older_file_that_lacks_everything_is_compared_and_said_to_lack_it():
    found = compare([("old.json", {}, [row()]), ("b.json", environment(), [row(measured=5)])])
    assert len(found.notes) == 2 and all("not known" in note for note in found.notes)
    for text in (terminal(found), markdown(found)):
        assert "None" not in text and "nan" not in text and "old.json" in text


# --- several runs, and what is shown ---------------------------------------------------------------------------------


def test_three_runs_are_each_compared_with_the_first():
    right = [RIGHT, flipped(1), flipped(*range(40))]
    found = compare([(f"{i}.json", environment(), [accuracy(each)]) for i, each in enumerate(right)])
    assert [change.word for change in found.entries[0].changes] == ["noise", "moved"]
    text = terminal(found)
    assert "run 2 against run 1: 1 noise" in text and "run 3 against run 1: 1 moved" in text
    assert all(f"{i}.json" in text for i in range(3)) and "## run 3 against run 1" in markdown(found)


def test_one_run_is_no_comparison():
    with pytest.raises(CodiBenchError, match="at least two"):
        compare([("a.json", environment(), [row()])])


def test_every_word_has_a_sign_of_its_own_and_the_text_fits():
    assert set(NUMBER_WORDS) < set(SIGNS) and len(set(SIGNS.values())) == len(SIGNS)
    assert all(sign in LEGEND for sign in SIGNS.values())
    moved = accuracy(flipped(*range(40)), validity="REFUTED")
    found = compare([("a" * 120, environment(), [accuracy()]), ("b.json", environment(), [moved])])
    assert max(map(len, terminal(found).splitlines())) <= 100
    assert "▲ moved" in terminal(found) and "-13.3 [" in terminal(found) and "66.7 [36.7, 96.7]" in terminal(found)


def test_a_change_too_small_for_its_digits_is_not_shown_as_none():
    found = compare(
        [("a", environment(), [row(measured=4, unit="features")]), ("b", environment(), [row(measured=4.002, unit="features")])]
    )
    assert lines(found, 0)[0].difference == "+0.002"


def test_names_cannot_break_the_tables():
    name = "[red]a|b<i>"
    found = compare([("a", environment(), [row(model=name)]), ("b", environment(), [row(model=name, measured=5)])])
    assert name in terminal(found)
    line = next(line for line in markdown(found).splitlines() if "Δ changed" in line and line.startswith("|"))
    assert r"[red]a\|b&lt;i>" in line


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name / "results.json" for name in ("a", "b")]
    for path, right in zip(paths, (RIGHT, flipped(*range(40))), strict=True):
        write_results(path, environment(layers={}, winners={}), [accuracy(right), row()])
    return [str(path) for path in paths]


def test_the_command_writes_beside_the_first_or_where_it_is_told(files, tmp_path):
    shown = CliRunner().invoke(app, ["report", *files])
    assert shown.exit_code == 0 and "1 moved, 1 same" in shown.output
    assert "McNemar" in (tmp_path / "a" / "comparison.md").read_text()
    assert CliRunner().invoke(app, ["report", *files, "--out", str(tmp_path / "c")]).exit_code == 0
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["comparison.md"]


def test_one_file_is_drawn_as_ever(files, tmp_path):
    shown = CliRunner().invoke(app, ["report", files[0], "--out", str(tmp_path / "c")])
    assert shown.exit_code == 0 and "task-accuracy" in shown.output
    assert (tmp_path / "c" / "report.md").exists() and not (tmp_path / "a" / "report.md").exists()


BROKEN = {
    "missing": None,
    "not json": b"{",
    "not text": b"\xff\xfe\x00",
    "other json": b'{"rows": []}',
    "a list": b"[]",
    "another schema": b'{"schema": 99, "environment": {}, "rows": []}',
    "numbers of another kind": json.dumps(
        {"schema": 1, "environment": {}, "rows": [vars(row()) | {"measured": "four"}]}
    ).encode(),
    "outcomes of another length": json.dumps(
        {"schema": 1, "environment": {**environment()}, "rows": [vars(accuracy()) | {"n": 3, "measured": value(0.1)}]}
    ).encode(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_used_is_named_in_one_line_and_nothing_is_written(files, tmp_path, kind, monkeypatch, capsys):
    bad = tmp_path / "bad.json"
    if BROKEN[kind] is not None:
        bad.write_bytes(BROKEN[kind])
    first = files[0]
    if kind.startswith("outcomes"):  # the other side must agree in all else
        first = str(tmp_path / "short.json")
        Path(first).write_text(json.dumps({"schema": 1, "environment": environment(), "rows": [vars(accuracy(RIGHT[:3]))]}))
    monkeypatch.setattr(sys, "argv", ["codi-bench", "report", first, str(bad)])
    from codi_bench.cli import main

    with pytest.raises(SystemExit) as stopped:
        main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and str(bad) in error and error.count("\n") == 1
    assert any(mend in error for mend in ("run `pytest benchmarks`", "run the suite again"))
    assert not list(tmp_path.rglob("comparison.md"))


def test_a_folder_that_cannot_be_written_is_refused_first(files, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["codi-bench", "report", *files, "--out", str(tmp_path / "file")])
    from codi_bench.cli import main

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2 and "--out DIR" in capsys.readouterr().err


def test_comparing_needs_neither_torch_nor_a_model(files):
    code = (
        "import sys; from codi_bench.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'transformers', 'codi_bench.claims', 'codi_bench.suite.suite'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, "report", *files], capture_output=True, text=True)
    assert done.returncode == 0 and "1 moved" in done.stdout, done.stderr
