"""What a run says of its own length: from earlier durations, stretched by this run, and never invented."""

import json
import os
import pty
import subprocess
import sys

import pytest

from codi_bench.cli.train import training_steps
from codi_bench.suite import progress
from codi_bench.suite.progress import LiveLine, Schedule, duration, load_timings, save_timings


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package folder with its own timings."""
    (tmp_path / "packaged" / "_perf").mkdir(parents=True)
    (tmp_path / "packaged" / "_perf" / "timings.json").write_text('{"a": 10, "b": 20}')
    monkeypatch.setattr(progress, "package_folder", lambda name: tmp_path / "packaged")
    return tmp_path / "cache"


def test_durations_are_said_as_people_say_them():
    assert [duration(s) for s in (0.2, 40, 89, 100, 5000, 9000)] == ["1 s", "40 s", "89 s", "2 min", "83 min", "2 h 30 min"]


@pytest.mark.parametrize(
    ("known", "taken", "left", "says"),
    [
        ({"a": 10, "b": 20, "c": 40}, {}, 70, "3 to go, about 70 s"),
        ({"a": 10, "b": 20, "c": 40}, {"a": 10}, 60, "2 to go, about 60 s"),
        ({"a": 10, "b": 20, "c": 40}, {"a": 10, "b": 50}, 80, "1 to go, about 80 s"),  # twice as long as the last time
        ({"a": 10, "b": 20, "c": 40}, {"a": 10, "b": 50, "c": 80}, 0, ""),
        ({"a": 1, "b": 20, "c": 0}, {"a": 60}, 20, "2 to go, about 20 s"),  # a second is too little to compare by
        ({"a": 10, "b": 20, "c": 0}, {"a": 1000}, progress.SLOWEST * 20, "2 to go, about 60 s"),  # nor does one odd claim decide
        ({}, {}, 0, "3 to go, never timed before"),
        ({"a": 3}, {}, 3, "3 to go, at least 3 s: 2 of them never timed before"),
    ],
)
def test_time_left_is_that_of_what_is_to_come(known, taken, left, says):
    schedule = Schedule(["a", "b", "c"], known)
    schedule.taken |= taken
    assert schedule.left() == left and schedule.says() == says


def test_durations_of_this_machine_stand_over_the_packaged_ones(packaged):
    assert load_timings(packaged) == {"a": 10.0, "b": 20.0}
    save_timings(packaged, {"b": 7.123456, "c": 1.0})
    assert load_timings(packaged) == {"a": 10.0, "b": 7.12, "c": 1.0}
    assert json.loads((packaged / "timings.json").read_text()).keys() == {"b", "c"}  # the packaged ones stay the package's
    for text in ("not JSON", "[1]", '{"b": null}'):
        (packaged / "timings.json").write_text(text)
        assert load_timings(packaged) == {"a": 10.0, "b": 20.0}


def test_a_warm_run_goes_by_warm_durations_and_a_cold_one_by_cold_ones(packaged):
    (packaged.parent / "packaged" / "_perf" / "timings-warm.json").write_text('{"a": 1}')
    assert load_timings(packaged, warm=True) == {"a": 1.0, "b": 20.0} and not progress.stored_keys(packaged, ["a"])
    save_timings(packaged, {"a": 8.0, "b": 9.0})
    assert not progress.stored_keys(packaged, ["a"])  # timed, but nothing is stored any more
    (packaged / "store").mkdir()
    (packaged / "store" / "x.safetensors").touch()
    assert progress.stored_keys(packaged, ["a", "b"]) == {"a", "b"} and progress.stored_keys(packaged, ["a", "c"]) == {"a"}
    save_timings(packaged, {"b": 2.0}, warm=True)
    assert load_timings(packaged, warm=True) == {"a": 1.0, "b": 2.0} and load_timings(packaged) == {"a": 8.0, "b": 9.0}


def test_what_comes_behind_the_last_claim_counts_until_the_end():
    schedule = Schedule(["a"], {"a": 10}, tail=5)
    assert schedule.says() == "1 to go, about 15 s"
    schedule.taken["a"] = 10
    assert schedule.says() == ""


@pytest.mark.parametrize(("watched", "ci", "drawn"), [("1", "", True), ("1", "true", False), ("1", "0", True), ("0", "", False)])
def test_a_bar_is_drawn_on_a_terminal_and_never_in_ci(monkeypatch, capfd, watched, ci, drawn):
    monkeypatch.setenv("TTY_COMPATIBLE", watched)
    monkeypatch.setenv("CI", ci)
    with progress.progress("thinking", 10, done=2) as tell:
        tell(3)
        tell(0, "thinking again")
    captured = capfd.readouterr()
    assert ("thinking again" in captured.err and "5/10" in captured.err) == drawn == bool(captured.err) and not captured.out


def test_a_wish_for_colours_draws_no_bar_into_a_file(monkeypatch, capfd):
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    monkeypatch.setenv("CI", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress.progress("thinking", 10) as tell:
        tell(3)
    assert not capfd.readouterr().err


def test_a_training_says_how_much_there_is_to_do_and_how_long_it_takes_where_nobody_watches(capsys):
    with training_steps("mine") as tell:
        for done in range(5, 31):  # goes on from step 5
            tell(done, 30, "loss 1.250, 8 examples/s" if done > 5 else "")
    first, second, last = capsys.readouterr().err.splitlines()
    assert "25 of 30 steps" in first and "about 1 s left" in second and last == "training mine: loss 1.250, 8 examples/s"


def test_a_cache_that_cannot_be_written_loses_nothing(packaged):
    packaged.write_text("a file where the folder should be")
    save_timings(packaged, {"a": 1.0})
    assert packaged.read_text() == "a file where the folder should be"


def test_nothing_is_drawn_where_nobody_watches(monkeypatch):
    monkeypatch.setattr(os, "isatty", lambda _: False)
    line = LiveLine()
    line.show("text")
    line.hide()
    assert not line.watched


def test_the_packaged_durations_are_those_of_claims_that_there_are():
    from codi_bench.claims import CLAIMS
    from codi_bench.models.registry import EMBEDDED
    from codi_bench.store.files import package_folder

    cold, warm = (
        json.loads((package_folder("baselines") / "_perf" / file).read_text()) for file in (progress.COLD, progress.WARM)
    )
    pairs = {
        f"{claim.id} on {model}"
        for claim in CLAIMS.values()
        if claim.runs and not claim.models and claim.answers != "words"
        for model in EMBEDDED
    }
    assert cold.keys() == warm.keys() == pairs and all(warm[pair] <= cold[pair] for pair in pairs)
    assert (
        20 < sum(warm.values()) < sum(cold.values()) < 2000
    )  # seconds: of all suites; step values and SAE folds take 15 minutes


def test_on_a_terminal_a_run_names_what_it_measures_and_how_much_is_left(tmp_path):
    """The whole door: a run in a pseudo-terminal."""
    screen, end = pty.openpty()
    arguments = ["run", "--claim", "size", "--model", "gpt2-mini", "-p", "no:cacheprovider"]
    run = subprocess.Popen(
        [sys.executable, "-m", "codi_bench.cli", *arguments],
        cwd=tmp_path,
        stdout=end,
        stderr=end,
        env={**os.environ, "CI": "", "CODI_BENCH_CACHE": str(tmp_path / "cache"), "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(end)
    shown = b""
    while True:
        try:
            part = os.read(screen, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(screen)
    text = shown.decode(errors="replace")
    assert run.wait() == 0, text[-2000:]
    assert "codi-bench: 1 to measure (one claim on one model each), about" in text and "cold: everything is computed" in text
    assert "size on gpt2-mini; 1 to go, about" in text
    assert "1 passed" in text
    assert "size on gpt2-mini" in json.loads((tmp_path / "cache" / "timings.json").read_text())
