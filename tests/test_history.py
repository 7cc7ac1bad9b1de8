"""History: planted drifts, verdict changes and breaks are found where they are, and nothing else is called a move."""

import csv
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from codi_bench.cli import app, main
from codi_bench.errors import CodiBenchError
from codi_bench.records.baseline import Baseline, Environment, Record, Recorded, Tolerance, save_baseline
from codi_bench.records.move import VERDICT
from codi_bench.records.results import Row, write_results
from codi_bench.report import history_text
from codi_bench.report.history import BLOCKS, DRIFTED, EARLIER, GONE, MOVED, STEADY, read_history
from codi_bench.report.history_text import csv_text, figures, markdown, moving, terminal, track_sentence

START = datetime(2026, 1, 1, 3, tzinfo=UTC)
CLAIMS = {
    "task-accuracy": {"position": 0, "family": "task accuracy", "protocol": "in order", "sound": "in order, all latents"},
    "spread": {"position": 1, "family": "spread", "protocol": "in-sample", "sound": "held out"},
}
KEY = {"device": "cpu", "instructions": "AVX2", "torch": "2.13.0+cpu", "dtype": "float32"}
MINE = {"weights": "w" * 8, "problems": "p" * 8}


def row(value=0.6, claim="task-accuracy", metric="accuracy", protocol="sound", **more):
    measured = None if value is None else {"value": value, "low": value - 0.1, "high": value + 0.1}
    words = {} if value is None or value != value else {"validity": "SUPPORTED", "regression": "SAME"}  # no number, no word
    held = {"unit": "fraction", "n": 1000, "measured": measured, **words, **more}
    return Row(claim, "mine", metric, protocol, held.pop("status", "ok"), **held)


def night(folder, day, *rows, **environment):
    """A results file of that day, in a folder of its own."""
    path = folder / f"{day:03d}" / "results.json"
    date = (START + timedelta(days=day)).isoformat()
    held = {"date": date, "claims": CLAIMS, "inputs": {"mine": MINE}, "devices": {"mine": "cpu float32"}, **KEY, **environment}
    write_results(path, {name: text for name, text in held.items() if text is not None}, list(rows))
    return path


def recorded(folder, value=0.6, kind="value", device=0.02, **environment):
    """A baseline of the accuracy in that folder, recorded in KEY's environment unless told."""
    where = Environment(**{**KEY, "torch": "2.13", **environment})
    metrics = {"sound accuracy": Recorded(value=value, unit="fraction", n=1000)}
    words = {"protocols": {"sound": "in order"}, "seeds": {}, "code": "c", "date": "2026-01-01", "reason": "looked at"}
    record = Record(environment=where, metrics=metrics, **MINE, **words)
    tolerance = {"sound accuracy": Tolerance(kind=kind, deterministic=1e-6, device=device, why="measured")}
    held = {"schema": 1, "model": "mine", "claim": "task-accuracy", "recorded": [record], "tolerance": tolerance}
    save_baseline(folder / "baselines", Baseline(**held))


def read(folder, *paths):
    return read_history(paths or [folder], folder / "baselines")


def only(found):
    (track,) = found.tracks
    return track


def test_runs_are_ordered_by_date_and_those_without_one_come_first_and_are_named(tmp_path):
    late, early = night(tmp_path / "a", 9, row(0.7)), night(tmp_path / "b", 2, row(0.6))
    undated, odd = night(tmp_path / "c", 5, row(0.5), date=None), night(tmp_path / "d", 1, row(0.55), date="yesterday")
    found = read(tmp_path, late, undated, early, odd, late)
    assert [point.value for point in only(found).points] == [0.5, 0.55, 0.6, 0.7]
    assert [each.label for each in found.runs] == [str(undated), str(odd), "2026-01-03", "2026-01-10"]
    assert [note for note in found.notes if "no date in" in note and str(undated) in note and str(odd) in note]


def test_two_runs_of_one_day_are_told_apart_and_zones_do_not_change_the_order(tmp_path):
    zone = "2026-01-01T04:30:00+02:00"  # 02:30 in UTC: before the other one
    found = read(tmp_path, night(tmp_path / "a", 0, row(0.7)), night(tmp_path / "b", 0, row(0.6), date=zone))
    assert [each.label for each in found.runs] == ["2026-01-01 02:30", "2026-01-01 03:00"]
    assert only(found).points[0].value == 0.6


@pytest.mark.parametrize(
    ("rows", "word", "text"),
    [
        ([row(), row(), row()], STEADY, "steady"),
        ([row(), row(), row(0.5, regression="DRIFTED")], DRIFTED, "DRIFTED in 1 of 3 runs (2026-01-03)"),
        ([row(), row(0.5, regression="DRIFTED"), row()], EARLIER, "(2026-01-02), not in the last"),
        ([row(), row(), row(None, status="blocked", reason="no weights")], BLOCKS, "blocked in the last run: no weights"),
        ([row(), row(validity="REFUTED"), row(validity="REFUTED")], VERDICT, "✓ SUPPORTED → ⊘ REFUTED (2026-01-02)"),
        ([row(), row(), row(0.61)], MOVED, "moved 60.0 → 61.0 (2026-01-03)"),
        ([row(), row(), row(None, status="not-run", reason="not selected")], GONE, "not in the last run: not selected"),
        ([row(), row(float("nan")), row()], STEADY, "steady"),
    ],
)
def test_a_planted_event_gets_its_word_and_its_day(tmp_path, rows, word, text):
    for day, each in enumerate(rows):
        night(tmp_path, day, each)
    found = read(tmp_path)
    assert only(found).word == word and text in track_sentence(only(found), found)
    assert found.counts == {word: 1}


def test_a_vanished_number_is_told_and_the_row_of_its_whole_claim_speaks_for_it(tmp_path):
    night(tmp_path, 0, row())
    night(tmp_path, 1, Row("task-accuracy", "mine", "-", "reported", "blocked", regression="DRIFTED", reason="weights damaged"))
    found = read(tmp_path)
    assert only(found).key[2] == "accuracy" and only(found).word == DRIFTED
    night(tmp_path, 2, row(metric="other"))
    assert {track.key[2]: track.word for track in read(tmp_path).tracks} == {"accuracy": DRIFTED, "other": EARLIER}


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"inputs": {"mine": {**MINE, "weights": "x"}}}, "other weights"),
        ({"inputs": {"mine": {**MINE, "problems": "x"}}}, "other problems"),
        ({"inputs": None}, "other weights, problems"),
        ({"options": "--n 50"}, "other options"),
        ({"claims": {**CLAIMS, "task-accuracy": {**CLAIMS["task-accuracy"], "sound": "changed"}}}, "other protocol"),
    ],
)
def test_other_inputs_break_the_line_and_are_no_move_and_no_change_of_verdict(tmp_path, changed, cause):
    night(tmp_path, 0, row())
    night(tmp_path, 1, row(None, status="not-run", reason="not selected"), **changed)  # does not hide the break
    night(tmp_path, 2, row(0.3, validity="REFUTED"), **changed)
    night(tmp_path, 3, row(0.3, validity="REFUTED"), **changed)
    found = read(tmp_path)
    assert (only(found).word, only(found).of_word(MOVED), only(found).of_word(VERDICT)) == (STEADY, [], [])
    assert only(found).breaks == {2: cause}
    assert any(f"mine: {cause} from 2026-01-03 on (1 numbers)" in note for note in found.notes)


def test_the_band_is_that_of_the_environment_and_of_what_was_recorded_then(tmp_path):
    night(tmp_path / "unrecorded", 0, row(recorded={"value": 0.6}))
    assert only(read(tmp_path, tmp_path / "unrecorded")).points[0].band is None  # without a baseline
    recorded(tmp_path)
    then = {"value": 0.55, "low": None, "high": None}  # recorded anew since
    night(tmp_path, 0, row(recorded=then))
    night(tmp_path, 1, row(recorded={**then, "value": 0.6}))
    night(tmp_path, 2, row(recorded={**then, "value": 0.6}), device="A100", devices={"mine": "cuda:0 float32"})
    night(tmp_path, 3, row(regression="UNCHECKED"))
    night(tmp_path, 4, row(regression="UNCHECKED", recorded={**then, "value": 0.6}), options="--n 50")
    night(tmp_path, 5, row(recorded={**then, "value": 0.6}), instructions=None)
    bands = [point.band for point in only(read(tmp_path, *sorted(tmp_path.glob("00*")))).points]
    found = [band and (band.recorded, band.tolerance) for band in bands]
    assert found == [(0.55, 0.02), (0.6, 1e-6), (0.6, 0.02), (0.6, 1e-6), None, None]


def test_outcomes_in_another_environment_have_the_band_inside_which_they_never_drift(tmp_path):
    recorded(tmp_path, kind="outcomes", device=0)
    night(tmp_path, 0, row(recorded={"value": 0.6}), torch="2.14.0")
    band = only(read(tmp_path)).points[0].band
    assert (band.tolerance, band.decides) == (0.005, False)
    assert history_text.band_text(band, "fraction") == "60.0 ± 0.5 (McNemar)"


def test_a_step_within_the_tolerance_is_no_move(tmp_path):
    recorded(tmp_path)
    for day, value in enumerate((0.6, 0.61, 0.595)):
        night(tmp_path, day, row(value, recorded={"value": 0.6}), torch="2.14.0")
    assert only(read(tmp_path)).word == STEADY
    night(tmp_path, 3, row(0.63, recorded={"value": 0.6}), torch="2.14.0")
    assert only(read(tmp_path)).word == MOVED


def test_what_moved_comes_first_and_the_rest_is_counted(tmp_path):
    for day in range(4):
        drift = {"regression": "DRIFTED"} if day == 3 else {}
        night(tmp_path, day, row(), row(0.5 + 0.1 * (day > 1), metric="b"), row(0.9 - 0.2 * (day == 3), metric="c", **drift))
    found = read(tmp_path)
    assert [track.key[2] for track in moving(found)] == ["c", "b"]
    text = terminal(found)
    assert "3 numbers: 1 DRIFTED, 1 moved, 1 steady" in text
    assert text.index("c, %, sound") < text.index("b, %, sound") and "accuracy, %" not in text
    assert "Steady, mine: task-accuracy accuracy, %, sound." in markdown(found)
    assert max(map(len, text.splitlines())) <= 100


def test_the_csv_has_a_line_for_every_number_and_run_with_its_band(tmp_path):
    recorded(tmp_path)
    night(tmp_path, 0, row(recorded={"value": 0.6}), row(None, metric="b", status="blocked", reason="a, b"))
    night(tmp_path, 1, row(0.4, regression="DRIFTED", recorded={"value": 0.6}), row(metric="b"))
    lines = list(csv.DictReader(csv_text(read(tmp_path)).splitlines()))
    assert [(line["metric"], line["run"], line["value"], line["tolerance"], line["regression"]) for line in lines] == [
        ("accuracy", "1", "0.6", "1e-06", "SAME"),
        ("accuracy", "2", "0.4", "1e-06", "DRIFTED"),
        ("b", "1", "", "", "UNCHECKED"),
        ("b", "2", "0.6", "", "SAME"),
    ]
    assert lines[2]["reason"] == "a, b" and lines[0]["date"] == "2026-01-01T03:00:00+00:00"


def test_figures_one_a_family_with_its_numbers_in_words_and_no_more_than_can_be_looked_at(tmp_path):
    many = [row(metric=f"m{i:02d}", claim="spread") for i in range(20)]
    for day in range(3):
        night(tmp_path, day, row(0.6 - 0.2 * (day == 2), regression="DRIFTED" if day == 2 else "SAME"), *many)
    first, second = figures(read(tmp_path))
    assert (first.name, second.name) == ("history-task-accuracy", "history-spread")
    assert "DRIFTED in 1 of 3 runs (2026-01-03)" in first.title and "from 60.0 to 40.0" in first.alt
    assert "all 20 numbers steady" in second.title and "12 of 20 numbers" in second.caption
    assert second.alt.count("recorded") == 12 and 'role="img"' in second.svg and second.png.startswith(b"\x89PNG")


def test_the_command_writes_table_csv_and_figures(tmp_path):
    night(tmp_path / "nights", 0, row())
    night(tmp_path / "nights", 1, row(0.4, regression="DRIFTED"))
    out = CliRunner().invoke(app, ["history", str(tmp_path / "nights"), "--out", str(tmp_path / "out")])
    assert out.exit_code == 0, out.output
    assert "1 DRIFTED" in out.output and "2 runs, 2026-01-01 to 2026-01-02" in out.output
    # whole: nothing begun is left beside them
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    drawn = {f"figures/history-task-accuracy.{kind}" for kind in ("svg", "png")}
    assert written == {"history.md", "history.csv"} | drawn
    assert "](figures/history-task-accuracy.svg)" in (tmp_path / "out" / "history.md").read_text(encoding="utf-8")


def test_an_odd_environment_is_refused_by_its_field_and_a_folder_that_holds_one_is_read_without_it(tmp_path):
    bad, _ = night(tmp_path, 0, row(), devices="cpu"), night(tmp_path, 1, row())
    with pytest.raises(CodiBenchError, match=r"results.json: not a results file \(environment\.devices"):
        read(tmp_path, bad)
    found = read(tmp_path)
    assert len(found.runs) == 1 and found.notes[0].startswith(f"left out: {bad}")
    assert f"! left out: {bad}" in terminal(found).replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bad/results.json", "not a results file"),
        ("bad", "none of 1 files"),
        ("empty", "no results.json in or below"),
        ("absent.json", "not a results file"),
    ],
)
def test_what_was_named_and_cannot_be_read_is_refused(tmp_path, name, told):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "results.json").write_text('{"schema": 1, "rows": [')
    with pytest.raises(CodiBenchError, match=told):
        read(tmp_path, *[night(tmp_path / "good", 0, row())] * (name != "bad" and name != "empty"), tmp_path / name)


def test_the_command_ends_with_one_line_for_what_a_user_can_cause(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    path = night(tmp_path, 0, row())
    absent, file = str(tmp_path / "absent.json"), str(tmp_path / "file")
    for arguments in ([absent], [str(path), "--out", file], [str(path), "--baselines", absent]):
        monkeypatch.setattr(sys, "argv", ["codi-bench", "history", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        text = capsys.readouterr().err
        assert ended.value.code == 2 and len(text.splitlines()) == 1 and text.startswith("codi-bench: "), text


def test_no_torch_is_needed(tmp_path):
    night(tmp_path, 0, row())
    code = (
        "import sys; from pathlib import Path; from codi_bench.report.history import read_history; "
        "from codi_bench.report.history_text import write_history; "
        f"folder = Path({str(tmp_path)!r}); write_history(read_history([folder], folder), folder / 'out'); "
        "print([name for name in ('torch', 'transformers', 'scipy') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stderr


@pytest.mark.parametrize("name", ["my model", "../mine", "2026-01-02T03:04"])
def test_runs_from_before_names_were_checked_can_be_followed(tmp_path, name):
    for day, value in enumerate((0.6, 0.7)):
        night(tmp_path, day, replace(row(value), model=name), devices={name: "cpu float32"}, inputs={name: MINE})
    assert [point.row.measured["value"] for point in only(read(tmp_path)).points] == [0.6, 0.7]
