"""Speed as a recorded number: the rule, the file and its change control on planted log-ratios; nothing here is timed."""

import math
import shutil

import pytest
from typer.testing import CliRunner

from codi_bench.cli import app
from codi_bench.errors import BaselineError
from codi_bench.records import speed as perf
from codi_bench.records.baseline import strict_text
from codi_bench.store.files import package_folder, write_text

HERE = perf.Machine(
    device="cpu", instructions="AVX512", torch="2.13", dtype="float32", processor="a processor", cores=2, threads=2
)
OTHER = HERE.model_copy(update={"cores": 16, "threads": 16})
NOISE = (-0.01, 0.0, 0.01)


def ratio(at=20.0, **fields):
    """A recorded ratio with a tolerance of a tenth of its logarithm."""
    return perf.pooled([[math.log(at) + each for each in NOISE]] * 2, "a job").model_copy(update={"tolerance": 0.1} | fields)


def speeds(**ratios):
    return perf.Speeds(schema=1).having(HERE, ratios)


def test_the_tolerance_is_four_spreads_between_processes_or_of_their_rounds():
    found = perf.pooled([[each - 0.01, each, each + 0.9] for each in (2.9, 3.0, 3.1)], "a job")  # medians, so 0.9 moves none
    assert found.ratio == pytest.approx(math.exp(3.0), rel=1e-3) and (found.runs, found.repeats) == (3, 3)
    assert found.spread_of_runs == pytest.approx(0.1)
    calm = perf.pooled([[each - 0.01, each, each + 0.01] for each in (2.9, 3.0, 3.1)], "a job")
    assert calm.tolerance == pytest.approx(0.4) and "3 processes (0.1)" in calm.why
    lucky = perf.pooled([NOISE] * 4, "a job")  # processes agree, rounds do not
    assert lucky.spread_of_runs == 0 and lucky.tolerance == pytest.approx(4 * 0.01 / 3**0.5, rel=1e-3)


WORDS = {
    "as recorded": (20.0, "a job", "SAME", "+0.00 noise units"),
    "slower, within": (20.0 * math.exp(-0.099), "a job", "SAME", "-0.99 noise units"),
    "slower, beyond": (20.0 * math.exp(-0.101), "a job", "DRIFTED", "20 → 18.08 times the reference, -1.01 noise units"),
    "faster, within": (20.0 * math.exp(0.099), "a job", "SAME", "+0.99 noise units"),
    "faster, beyond": (20.0 * math.exp(0.101), "a job", "SAME", "+1.01 noise units: faster than recorded, so record it again"),
    "no number": (math.nan, "a job", "DRIFTED", "20 → nan"),
    "other work": (20.0, "half a job", "UNCHECKED", "of other work: a job → half a job"),
    "no record": (20.0, "a job", "UNCHECKED", "not recorded for this machine"),
}


@pytest.mark.parametrize("what", WORDS)
def test_only_a_fall_beyond_the_tolerance_is_drift(what):
    measured, work, word, why = WORDS[what]
    found = perf.judge(None if what == "no record" else ratio(), measured, work)
    assert found.word == word and why in found.why and ("record it" in found.why) == (what == "faster, beyond")


@pytest.mark.parametrize("field", perf.Machine.model_fields)
def test_no_other_machine_is_compared_with(field):
    other = HERE.model_copy(update={field: 3 if field in ("cores", "threads") else "another"})
    held = speeds(one=ratio())
    assert held.of(HERE) == {"one": ratio()} and held.of(other) == {}


def test_a_record_of_a_device_or_benchmark_that_is_not_here_is_named():
    held = speeds(one=ratio()).having(HERE.model_copy(update={"device": "a GPU"}), {"full": ratio()})
    assert perf.not_run(held, {"cpu"}) == ["NOT RUN: speed of full: recorded on a GPU, which this machine does not have"]
    assert perf.not_run(held, {"cpu", "a GPU"}) == []
    (line,) = perf.orphans(held, {"one", "new"})  # whatever machine it is of
    assert "'full'" in line and "ratios.json" in line and perf.orphans(held, {"one", "full"}) == []


def test_a_damaged_file_is_one_error_that_names_file_and_field(tmp_path):
    text = strict_text(speeds(one=ratio()))
    write_text(tmp_path / perf.FILE, text)
    assert perf.load_speeds(tmp_path) == speeds(one=ratio())
    write_text(tmp_path / perf.FILE, text.replace('"ratio": 20.0', '"ratio": 0'))
    with pytest.raises(BaselineError, match=r"ratios.json: recorded.0.ratios.one.ratio: .*correct it"):
        perf.load_speeds(tmp_path)
    with pytest.raises(BaselineError, match="no such folder"):
        perf.load_speeds(tmp_path / "nowhere")


def baselines_command(folder, *arguments):
    given = ["--report", str(folder / "report"), "--baselines", str(folder / "baselines")]
    return CliRunner().invoke(app, ["baselines", *arguments, *given], catch_exceptions=False)


def test_diff_counts_in_noise_units_and_accept_writes_only_what_is_proposed(tmp_path):
    write_text(tmp_path / "baselines" / perf.FILE, strict_text(speeds(one=ratio(), two=ratio()).having(OTHER, {"one": ratio()})))
    proposed = speeds(one=ratio(20 * math.exp(-0.2), tolerance=0.3), new=ratio())
    write_text(tmp_path / "report" / "proposals" / perf.FILE, strict_text(proposed))
    said = " ".join(baselines_command(tmp_path, "diff").output.split())
    assert "DRIFTED: speed of one: 20 → 16.37 times the reference, -2.00 noise units; tolerance 0.1 → 0.3" in said
    assert "UNCHECKED: speed of new: nothing → 20 times the reference" in said and "speed of two" not in said
    assert baselines_command(tmp_path, "accept", "--reason", "a slower job does more now").exit_code == 0
    held = perf.load_speeds(tmp_path / "baselines")
    assert held.of(OTHER) == {"one": ratio()} and held.of(HERE)["two"] == ratio() and len(held.recorded) == 2
    one = held.of(HERE)["one"]
    assert (one.tolerance, one.reason) == (0.3, "a slower job does more now") and one.date > "2026" and "new" in held.of(HERE)


# Through pytest: benchmarks/perf with a planted benchmark in place of the real ones.

PLANTED = """
import os, pytest
pytestmark = pytest.mark.perf

@pytest.mark.parametrize("job", os.environ["PLANTED_JOBS"].split())
def test_planted(speed, job):
    speed.log_ratios = [float(os.environ["PLANTED"]) + each for each in (-0.01, 0.0, 0.01)]
    speed.assert_holds(work="a job")
"""


@pytest.fixture
def planted(pytester, monkeypatch):
    """Run benchmarks/perf where each of some jobs is found to be so many times faster than its reference."""
    folder = pytester.path / "benchmarks" / "perf"
    folder.mkdir(parents=True)
    (pytester.path / "baselines").mkdir()
    for name in ("__init__.py", "conftest.py", "timing.py", "test_recorded_ratios.py"):
        shutil.copy(package_folder("benchmarks") / "perf" / name, folder)
    (folder / "test_planted_speed.py").write_text(PLANTED)
    monkeypatch.setattr(perf, "RUNS", 2)
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)  # pytest-benchmark measures nothing in a worker, and these tests run in some

    def run(times, *arguments, jobs="one two", folder="benchmarks/perf"):
        monkeypatch.setenv("PLANTED", str(math.log(times)))
        monkeypatch.setenv("PLANTED_JOBS", jobs)
        return pytester.runpytest_inprocess(
            "-p", "codi_bench.plugin", folder, "-m", "perf", "--baselines", "baselines", *arguments
        )

    return run


def test_a_ratio_is_unchecked_then_proposed_then_same_then_drifted(planted, pytester):
    unchecked = planted(20)
    unchecked.assert_outcomes(skipped=2, passed=1)
    unchecked.stdout.fnmatch_lines(["UNCHECKED: speed of test_planted[[]one]: nothing → 20 times the reference; not recorded *"])
    planted(20, "--strict").assert_outcomes(failed=2, passed=1)

    proposed = planted(20, "--update-baselines")
    proposed.assert_outcomes(failed=2, passed=1)
    proposed.stdout.fnmatch_lines(["*speed: run 1 of 2 took * s", "*proposed, not accepted*"])
    assert not (pytester.path / "baselines" / perf.FILE).exists()
    assert baselines_command(pytester.path, "accept", "--reason", "a first planted record").exit_code == 0
    (held,) = perf.load_speeds(pytester.path / "baselines").recorded
    assert {(each.ratio, each.runs) for each in held.ratios.values()} == {(20, 2)} and len(held.ratios) == 2

    planted(19.9).assert_outcomes(passed=3)
    faster = planted(21)
    faster.assert_outcomes(passed=3)
    faster.stdout.fnmatch_lines(["SAME: speed of test_planted[[]one]: *faster than recorded, so record it again"])
    slower = planted(19)
    slower.assert_outcomes(failed=2, passed=1)
    slower.stdout.fnmatch_lines(["DRIFTED: speed of test_planted[[]two]: 20 → 19 times the reference, -2.22 noise units"])

    gone = planted(20, jobs="one three")  # two is no more, three is new
    gone.assert_outcomes(passed=1, skipped=1, failed=1)
    gone.stdout.fnmatch_lines(["*no benchmark 'test_planted[[]two]' any more*"])
    part = planted(20, "-k", "one", jobs="one three")  # says nothing of the rest
    part.assert_outcomes(passed=1, deselected=2)
    planted(20, folder="benchmarks/perf/test_recorded_ratios.py").assert_outcomes(skipped=1)


def test_a_damaged_record_is_red_before_anything_is_measured(planted, pytester):
    write_text(pytester.path / "baselines" / perf.FILE, "{}]")
    found = planted(20)
    found.assert_outcomes(errors=3)
    found.stdout.fnmatch_lines(["*ratios.json: the file: *correct it by hand*"])


def test_what_nothing_times_is_unchecked(planted):
    found = planted(20, "--benchmark-disable")
    found.assert_outcomes(skipped=2, passed=1)
    found.stdout.fnmatch_lines(["UNCHECKED: speed of test_planted[[]one]: pytest-benchmark is disabled*"])


def test_a_process_that_gives_no_ratio_is_named_and_nothing_is_proposed(planted, pytester, monkeypatch):
    path = pytester.path / "benchmarks" / "perf" / "test_planted_speed.py"
    path.write_text(
        PLANTED.replace("    speed.log", "    assert 'run-1' not in str(speed.config.invocation_params.args)\n    speed.log")
    )
    found = planted(20, "--update-baselines", jobs="one")
    found.assert_outcomes(failed=1, passed=1)
    found.stdout.fnmatch_lines(["*no ratio from process 1; see *output.txt"])
    assert "assert 'run-1' not in" in (pytester.path / "report" / "perf" / "run-1" / "output.txt").read_text()
    assert not (pytester.path / "report" / "proposals").exists()
