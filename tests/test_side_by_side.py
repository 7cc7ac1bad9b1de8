"""Runs side by side: every word is provoked by a planted difference, and no difference is called what it is not."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from codi_bench.cli import app, main
from codi_bench.errors import CodiBenchError
from codi_bench.records.baseline import pack_bits
from codi_bench.records.results import Row, write_results
from codi_bench.report.differences import LEGEND, SIGNS, differences, markdown, summary, terminal
from codi_bench.report.runs import run_of
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


def side_by_side(*rows, first=None, later=None):
    """The runs of the given rows, the first in another environment if told."""
    places = [first or environment(), *[later or environment()] * (len(rows) - 1)]
    return compare([run_of(f"{'abc'[i]}.json", places[i], each) for i, each in enumerate(rows)])


def compared(old, new, first=None, later=None):
    """The only move between two runs of the given rows."""
    ((move,),) = side_by_side(old, new, first=first, later=later).moves
    return move


def auc(x, low, high):
    return row("task-accuracy", "auc", value(x, low, high), unit="fraction", n=100)


# --- what moved ------------------------------------------------------------------------------------------------------


def test_identical_runs_are_all_the_same_and_nothing_is_listed():
    everything = [accuracy(), drop(0.7, RIGHT), row(), row(metric="width", measured=104), row(model="yours")]
    found = side_by_side(everything, everything)
    assert {move.word for move in found.moves[0]} == {"same"}
    assert not found.notes and not differences(found, 0).lines
    assert summary(found, 0) == "run 2 against run 1: 5 same"
    assert "Same, mine: task-accuracy accuracy (reported), ablation drop_2 (reported)" in markdown(found)


LOST = flipped(*range(40))
FAR = 0.8 - 0.68, 0.72 - 0.6  # from either number to the end that lies towards the other
MOVES = {  # old, new: word, difference, side of zero that its interval lies on, and what the reason says
    "one turned answer": (accuracy(), accuracy(flipped(3)), "noise", -1 / N, 0, "1 right → wrong, 0 wrong → right of 300"),
    "as many lost as gained": (accuracy(), accuracy(flipped(3, 250)), "noise", 0, 0, "1 right → wrong, 1 wrong"),
    "40 lost, though intervals overlap": (accuracy(), accuracy(LOST), "moved", -40 / N, -1, "McNemar"),
    "a drop grows where answers are lost": (drop(0.7, RIGHT), drop(0.7, LOST), "moved", 4000 / N, 1, "McNemar"),
    # no edited answer turned, and yet 20 points more are lost: the edited ones alone do not judge it
    "a drop from other answers": (drop(0.7, RIGHT), drop(0.9, RIGHT), "moved", 20, 1, "interval"),
    "no outcomes, near": (auc(0.6, 0.5, 0.72), auc(0.8, 0.6, 0.9), "noise", 0.2, 0, "contains 0"),
    "no outcomes, far": (auc(0.6, 0.5, 0.72), auc(0.8, 0.68, 0.9), "moved", 0.2, 1, "excludes 0"),
    "no outcomes, a loss": (auc(0.8, 0.68, 0.9), auc(0.6, 0.5, 0.72), "moved", -0.2, -1, "excludes 0"),
    "no interval": (row(measured=4), row(measured=5), "changed", 1, None, "no interval"),
    "rounding": (row(measured=4), row(measured=4 + 1e-7), "same", 1e-7, None, ""),
    "other units": (row(), row(unit="features"), "changed", None, None, "other units"),
}


@pytest.mark.parametrize("case", MOVES)
def test_a_planted_difference_gets_its_word_its_size_and_a_reason(case):
    old, new, word, difference, side, why = MOVES[case]
    move = compared([old], [new])
    assert move.word == word and why in move.why
    assert (move.difference or {}).get("value") == (difference if difference is None else pytest.approx(difference))
    if side is not None:
        low, high = move.difference["low"], move.difference["high"]
        assert (low > 0) - (high < 0) == side
    if case == "no outcomes, far":
        assert move.difference["low"] == pytest.approx(0.2 - np.hypot(*FAR))  # Zou & Donner


def test_the_level_is_shared_by_all_metrics_that_are_compared():
    old, new = accuracy(), accuracy(flipped(*range(10)))  # p = 0.002: below 0.005, above 0.005 / 3
    assert compared([old], [new]).word == "moved"
    more = [row(metric="width"), row(metric="layers")]
    assert [move.word for move in side_by_side([old, *more], [new, *more]).moves[0]] == ["noise", "same", "same"]


def test_what_is_of_other_problems_is_never_paired():
    other = accuracy(LOST, detail={"problems": "qqqq"})
    move = compared([accuracy()], [other], later=environment(problems="qqqqqqqqqqqq"))
    assert move.word == "noise" and "McNemar" not in move.why
    fewer = compared([accuracy()], [accuracy(RIGHT[:250])])
    assert fewer.also == {"n differs": "n 300 → 250"} and "McNemar" not in fewer.why
    # the test problems of error predictions hang on each answer
    old, new = (accuracy(right, "sae-error-prediction", "test_accuracy") for right in (RIGHT, LOST))
    assert "McNemar" not in compared([old], [new]).why


SAME_MACHINE = {"instructions": "AVX2", "torch": "2.13.0+cpu", "dtype": "float32", "devices": {"mine": "cpu float32"}}
OTHER_MACHINES = (
    *({"torch": "2.12.1"}, {"instructions": "AVX512"}, {"options": "--n 100"}, {"instructions": None}),
    *({"devices": {"mine": "cpu bfloat16"}}, {"device": "H100", "devices": {"mine": "cuda float32"}}),
)


@pytest.mark.parametrize("right", [flipped(3), flipped(3, 250)])
def test_in_the_same_environment_every_change_moved(right):
    known = environment(**SAME_MACHINE)
    for later, word in (
        (known, "moved"),
        (known | {"torch": "2.13.9"}, "moved"),
        *((known | o, "noise") for o in OTHER_MACHINES),
    ):
        move = compared([accuracy()], [accuracy(right)], known, later)
        assert move.word == word and ("no noise there" in move.why) == (word == "moved"), later
    assert compared([accuracy()], [accuracy()], known, known).word == "same"


# --- what else differs -----------------------------------------------------------------------------------------------

OTHER_WORDS = {**CLAIMS, "size": {**CLAIMS["size"], "protocol": "weighed"}}


@pytest.mark.parametrize(
    ("old", "new", "also"),
    [
        (
            accuracy(validity="SUPPORTED", detail={"fragile": True}),
            accuracy(validity="UNDERPOWERED"),
            {"verdict changed": "verdict ✓ SUPPORTED → … UNDERPOWERED, recorded fragile in run 1"},
        ),
        (accuracy(validity="REFUTED"), accuracy(), {"verdict changed": "verdict ⊘ REFUTED → no word"}),
        (row(), row(seeds={"split": 1}), {"seeds differ": ""}),
        (row(), row(cell={"layer": 3, "latent_pos": 2}), {"other cell": "none → L3 latent 2"}),
        (row(), row(reproduction="NOT REPRODUCED"), {"reproduction changed": "no word → NOT REPRODUCED"}),
    ],
)
def test_what_else_differs_stands_beside_a_number_that_is_the_same(old, new, also):
    move = compared([old], [new])
    assert (move.word, move.also, move.listed) == ("same", also, True)


def test_a_changed_verdict_is_shown_and_counted():
    found = side_by_side([accuracy(validity="SUPPORTED")], [accuracy(validity="REFUTED")])
    assert "1 verdict changed" in summary(found, 0) and "⇄ verdict changed" in terminal(found)
    assert "✓ SUPPORTED → ⊘ REFUTED" in terminal(found) and "✓ SUPPORTED → ⊘ REFUTED" in markdown(found)


def test_another_protocol_under_the_same_name_is_said():
    later = environment(claims=OTHER_WORDS)
    assert list(compared([row()], [row()], later=later).also) == ["protocol differs"]
    assert not compared([row(protocol="sound")], [row(protocol="sound")], later=later).also


BLOCKED = Row("size", "mine", "-", "reported", "blocked", reason="it broke")


@pytest.mark.parametrize(
    ("old", "new", "word", "why"),
    [
        ([row()], [BLOCKED], "gone", "in run 2 blocked: it broke"),
        ([row()], [], "gone", "in run 2 no such number in that file"),
        ([row()], [row(measured=float("nan"))], "gone", "in run 2 no such number in that file"),
        ([BLOCKED], [row()], "appeared", "in run 1 blocked: it broke"),
        ([BLOCKED], [BLOCKED], "unmeasured", ""),
    ],
)
def test_a_vanished_metric_is_as_loud_as_one_that_moved_and_says_why(old, new, word, why):
    move = compared(old, new)
    assert (move.word, move.why, move.listed) == (word, why, word != "unmeasured")


def test_a_blocked_claim_never_counts_as_the_same():
    assert summary(side_by_side([BLOCKED], [BLOCKED]), 0) == "run 2 against run 1: 1 measured in neither"
    now = compared([replace(BLOCKED, status="not-run", reason="no GPU")], [BLOCKED])
    assert now.also == {"status changed": "not-run: no GPU → blocked: it broke"}


def test_a_model_that_came_or_went_as_a_whole_is_one_line():
    mine = [row(), row(metric="width")]
    found = side_by_side([*mine, row(model="yours"), accuracy(model="yours")], mine)
    (line,) = differences(found, 0).lines
    assert (line.groups, line["metric"].text, line["what"].text) == (("yours", "all claims"), "all 2 numbers", "− gone")
    assert "2 gone, 2 same" in summary(found, 0)


def test_other_inputs_under_one_name_are_said_first():
    later = environment(weights="bbbbbbbbbbbb", problems="qqqqqqqqqqqq", options="--n 100")
    found = side_by_side([row()], [row()], later=later)
    told = (
        "options differ: run 1 none, run 2 --n 100",
        "not the same model (aaaaaaaa…, bbbbbbbb…): differences are between models",
    )
    for note, text in zip(found.notes, (*told, "differences are between problems"), strict=True):
        assert text in note and note in " ".join(terminal(found).split()) and note in markdown(found)
    assert terminal(found).index("not the same") < terminal(found).index("run 2 against run 1")


def test_an_older_file_that_lacks_everything_is_compared_and_said_to_lack_it():
    found = side_by_side([row()], [row(measured=5)], first={"date": None})
    assert len(found.notes) == 2 and all("not known" in note for note in found.notes)
    for text in (terminal(found), markdown(found)):
        assert "None" not in text and "nan" not in text and "a.json" in text


# --- several runs, and what is shown ---------------------------------------------------------------------------------


def test_three_runs_are_each_compared_with_the_first_and_one_is_no_comparison():
    found = side_by_side([accuracy()], [accuracy(flipped(1))], [accuracy(LOST)])
    assert [move.word for moves in found.moves for move in moves] == ["noise", "moved"]
    text = terminal(found)
    assert "run 2 against run 1: 1 noise" in text and "run 3 against run 1: 1 moved" in text
    assert all(f"{name}.json" in text for name in "abc") and "## run 3 against run 1" in markdown(found)
    with pytest.raises(CodiBenchError, match="at least two"):
        side_by_side([row()])


def test_every_word_has_a_sign_of_its_own_and_the_text_fits():
    assert set(NUMBER_WORDS) < set(SIGNS) and len(set(SIGNS.values())) == len(SIGNS)
    assert all(sign in LEGEND for sign in SIGNS.values())
    moved = accuracy(LOST, validity="REFUTED")
    text = terminal(compare([run_of("a" * 120, environment(), [accuracy()]), run_of("b.json", environment(), [moved])]))
    assert max(map(len, text.splitlines())) <= 100
    assert "▲ moved" in text and "-13.3 [" in text and "66.7 [36.7, 96.7]" in text


def test_a_change_too_small_for_its_digits_is_not_shown_as_none():
    found = side_by_side([row(measured=4, unit="features")], [row(measured=4.002, unit="features")])
    assert differences(found, 0).lines[0]["difference"].text == "+0.002"


def test_names_cannot_break_the_tables():
    name = "[red]a|b<i>"
    found = side_by_side([row(model=name)], [row(model=name, measured=5)])
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
    assert shown.exit_code == 0 and "Task accuracy" in shown.output
    assert (tmp_path / "c" / "report.md").exists() and not (tmp_path / "a" / "report.md").exists()


def refused(monkeypatch, capsys, *arguments):
    """What `codi-bench report` says in its one line of refusal."""
    monkeypatch.setattr(sys, "argv", ["codi-bench", "report", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1
    return error


def contents(*rows, **fields):
    return json.dumps({"schema": 1, "environment": environment(), "rows": [vars(each) | fields for each in rows]}).encode()


BROKEN = {
    "missing": None,
    "outcomes of another length": contents(accuracy(), n=3, measured=value(0.1)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_used_is_named_in_one_line_and_nothing_is_written(files, tmp_path, kind, monkeypatch, capsys):
    bad, short = tmp_path / "bad.json", tmp_path / "short.json"
    if BROKEN[kind] is not None:
        bad.write_bytes(BROKEN[kind])
    short.write_bytes(contents(accuracy(RIGHT[:3])))  # outcomes of another length: the other side must agree in all else
    error = refused(monkeypatch, capsys, str(short) if kind.startswith("outcomes") else files[0], str(bad))
    assert str(bad) in error and ("run `codi-bench run`" in error or "run the suite again" in error)
    assert not list(tmp_path.rglob("comparison.md"))


def test_a_folder_that_cannot_be_written_is_refused_first(files, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    assert "--out DIR" in refused(monkeypatch, capsys, *files, "--out", str(tmp_path / "file"))


def test_comparing_needs_neither_torch_nor_a_model(files):
    code = (
        "import sys; from codi_bench.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'transformers', 'codi_bench.claims', 'codi_bench.suite.suite'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, "report", *files], capture_output=True, text=True)
    assert done.returncode == 0 and "1 moved" in done.stdout, done.stderr
