"""The workflows of .github: what they call exists, what they keep is what a night writes, and nothing is quietly green."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from codi_bench.cli import app
from codi_bench.plugin.options import STUDY, SUITES
from codi_bench.records.results import Row, write_results
from codi_bench.report.render import render

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".github" / "workflows"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.yml"))}
NIGHT = "report/nights/by-hand"
# What a job may do beside reading, and the actions that are not GitHub's own.
RIGHTS = {
    ("release", "publish"): {"id-token": "write"},
    ("release", "announce"): {"contents": "write"},
    ("docs", "publish"): {"pages": "write", "id-token": "write"},
}
OTHERS = {"pypa/gh-action-pypi-publish@release/v1"}
# minute, hour, day, month, weekday
CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="NOT A CHECKOUT: the workflows do not travel with the package")


def workflow(name):
    """A parsed workflow; YAML 1.1 reads the key `on` as true."""
    held = yaml.safe_load(FILES[name].read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in held.items()}


def job(name):
    (held,) = workflow(name)["jobs"].values()
    return held


def commands(name):
    """What all jobs of a workflow run, with each environment of a matrix in its place."""
    jobs = workflow(name)["jobs"].values()
    return [text for each in jobs for step in each["steps"] if "run" in step for text in _filled(step["run"], each)]


def _filled(text, job):
    rows = job.get("strategy", {}).get("matrix", {}).get("include", [])
    return [text.replace("${{ matrix.environment }}", row["environment"]) for row in rows] or [text]


def tox(environment):
    """The commands of a tox environment as words, {env:NAME:default} replaced by its default and {posargs} by nothing."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini", encoding="utf-8")
    text = parser[f"testenv:{environment}"]["commands"].replace("\\\n", " ").replace("{posargs}", "")
    text = re.sub(r"\{env:\w+:([^}]*)\}", r"\1", text)
    return [shlex.split(line) for line in text.strip().splitlines()], parser[f"testenv:{environment}"]


def option(words, name):
    return words[words.index(name) + 1]


def test_the_three_workflows_are_there():
    assert set(FILES) >= {"tests", "nightly", "calibration"}


@pytest.mark.parametrize("name", FILES)
def test_what_a_workflow_calls_exists(name):
    called = " \n".join(commands(name))
    environments = re.findall(r"tox(?: run| r)? -e (\S+)", called)
    for each in environments:
        assert tox(each)[0], each
    scripts = re.findall(r"(?:^|\s)(\.ci/\S+)", called)
    for each in scripts:
        assert os.access(ROOT / each, os.X_OK), each
    assert environments or scripts, "a workflow does what anybody can do"


@pytest.mark.parametrize("name", FILES)
def test_a_workflow_has_a_limit_few_rights_no_secret_and_pinned_actions(name):
    held, text = workflow(name), FILES[name].read_text(encoding="utf-8")
    assert held["permissions"] == {"contents": "read"} and held["concurrency"]["group"]
    assert "secrets." not in text and "GITHUB_TOKEN" not in text
    for title, each in held["jobs"].items():
        assert 0 < each["timeout-minutes"] < 24 * 60 and each.get("permissions") == RIGHTS.get((name, title))
        for step in each["steps"]:
            assert "continue-on-error" not in step, step
            assert ("uses" in step) != ("run" in step), step
            if "uses" in step:
                assert step["uses"] in OTHERS or re.fullmatch(r"actions/[\w/-]+@v\d+", step["uses"]), step


def test_the_night_has_what_a_push_leaves_out():
    called = " ".join(commands("nightly"))
    assert all(name in called for name in {*SUITES} - {STUDY}) and "-m nightly" in called
    assert tox("report")[0] == [["python", "-m", "pytest", "benchmarks"]]  # the study


@pytest.mark.parametrize("name", ["nightly", "calibration", "stress", "compatibility"])
def test_the_schedule_is_one_that_cron_reads(name):
    (schedule,) = workflow(name)["on"]["schedule"]
    fields = schedule["cron"].split()
    assert len(fields) == 5
    for field, (low, high) in zip(fields, CRON, strict=True):
        assert field == "*" or low <= int(field) <= high, field
    weekly = name not in ("nightly", "compatibility")
    assert (fields[4] != "*") == weekly and fields[2:4] == ["*", "*"]


def test_the_tests_run_on_every_push_and_pull_request():
    assert set(workflow("tests")["on"]) == {"push", "pull_request"}
    assert ".ci/run" in commands("tests")


def test_a_pull_request_builds_the_site_and_main_alone_publishes_it():
    jobs = workflow("docs")["jobs"]
    assert set(workflow("docs")["on"]) == {"push", "pull_request"} and jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["if"] == "github.ref == 'refs/heads/main'" and "if" not in jobs["build"]
    assert tox("docs")[0] == [["mkdocs", "build", "--strict"]]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert {name for names in re.findall(r"-e ([\w,]+)", script) for name in names.split(",")} == {
        "lint",
        "docs",
        "symbolic",
        "test",
    }


def test_a_night_is_strict_on_a_gpu_and_thinks_anew():
    (measure, history), section = tox("nightly")
    assert measure[:4] == ["python", "-m", "pytest", "benchmarks"]
    assert "--strict" in measure and option(measure, "-m") != measure[3]
    assert measure[measure.index("benchmarks") + 1 :][:2] == ["-m", "gpu"]
    assert option(measure, "--report") == NIGHT and option(measure, "--junitxml") == f"{NIGHT}/junit.xml"
    assert history[:3] == ["codi-bench", "history", "report/nights"]
    assert not any(words[0].startswith("-") for words in (measure, history)), "a dash before a command hides its failure"
    assert section["ignore_errors"] == "true", "the history of a red night is drawn too"
    assert "CODI_BENCH_CACHE = {env_tmp_dir}" in section["set_env"]
    assert "self-hosted" in job("nightly")["runs-on"] and "gpu" in job("nightly")["runs-on"]
    assert not {"push", "pull_request"} & set(workflow("nightly")["on"]), "nobody else's code runs on our machine"


def test_the_calibration_selects_its_marker_and_keeps_what_it_writes():
    ((words,), _), paths = tox("calibration"), kept("calibration")
    assert words[3:6] == ["benchmarks/calibration", "-m", "calibration"]
    assert option(words, "--junitxml") in paths and "baselines/_calibration" in paths


def kept(name):
    """The paths of all artefacts of a workflow, for the night `by-hand`; every one is kept of a red run too."""
    steps = [step for step in job(name)["steps"] if "upload-artifact" in step.get("uses", "")]
    assert all(step["if"] == "always()" and step["with"]["if-no-files-found"] == "error" for step in steps)
    names = [step["with"]["name"] for step in steps]
    assert len(set(names)) == len(names)
    text = "\n".join(step["with"]["path"] for step in steps)
    return text.replace("${{ env.CODI_BENCH_NIGHT }}", "by-hand").split()


@pytest.fixture
def night(tmp_path, monkeypatch):
    """What a night with one number that DRIFTED leaves in its folder: written by what writes it, asked as tox asks it."""
    monkeypatch.chdir(tmp_path)
    (measure, history), _ = tox("nightly")
    folder = Path(option(measure, "--report"))
    reason = "metric 'sound accuracy': stored 0.6, measured 0.5, tolerance 1e-06"
    held = {"unit": "fraction", "n": 300, "measured": {"value": 0.5, "low": 0.4, "high": 0.6}, "reason": reason}
    by_steps = {"1": [0.6, 0.5, 0.7], "2": [0.4, 0.3, 0.5]}
    rows = [
        Row("task-accuracy", "gpt2-mini", "accuracy", "sound", "ok", **held, regression="DRIFTED", detail={"by_steps": by_steps})
    ]
    environment = {"date": "2026-01-01T03:00:00+00:00", "device": "cpu", "claims": {}}
    write_results(folder / "results.json", environment, rows)
    render(rows, environment, folder)
    Path(option(measure, "--junitxml")).write_text("<testsuites/>")
    ended = CliRunner().invoke(app, history[1:])
    assert ended.exit_code == 0, ended.output
    return folder


def test_the_artefacts_of_a_night_are_files_that_it_writes(night):
    paths = kept("nightly")
    assert [path for path in paths if not Path(path).exists()] == []
    ends = {Path(path).name for path in paths}
    assert ends >= {"results.json", "junit.xml", "report.html", "figures", "history"}


def test_earlier_nights_are_those_that_the_history_searches():
    (_, history), _ = tox("nightly")
    paths = [step["with"]["path"] for step in job("nightly")["steps"] if "actions/cache" in step.get("uses", "")]
    assert paths == [f"{history[2]}/*/results.json"] * 2


def summary(folder):
    """What the step Summary writes, run as GitHub runs it."""
    (step,) = [step for step in job("nightly")["steps"] if step.get("name") == "Summary"]
    assert step["if"] == "always()"
    target = folder / "summary.md"
    environment = {"PATH": os.environ["PATH"], "CODI_BENCH_NIGHT": "by-hand", "GITHUB_STEP_SUMMARY": str(target)}
    subprocess.run(["bash", "-e", "-c", step["run"]], cwd=folder, env=environment, check=True)
    return target.read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("bash"), reason="NO BASH: the runner has one")
def test_the_summary_has_what_drifted_first_then_takeaways_and_table(night, tmp_path):
    text = summary(tmp_path)
    assert text.startswith("## Drifted\n") and "## Not measured" not in text
    places = [text.index(part) for part in ("stored 0.6, measured 0.5", "## Key takeaways", "## gpt2-mini", "| accuracy, %")]
    assert places == sorted(places)
    long = night / "report.md"
    long.write_text(long.read_text(encoding="utf-8").replace("## gpt2-mini", "long\n" * 400_000), encoding="utf-8")
    (tmp_path / "summary.md").unlink()
    assert len(summary(tmp_path).encode()) < 2**20


@pytest.mark.skipif(not shutil.which("bash"), reason="NO BASH: the runner has one")
def test_a_night_that_wrote_no_report_says_so(tmp_path):
    assert "No report" in summary(tmp_path)


# The release


def release(title):
    return workflow("release")["jobs"][title]


def run_step(title, name, folder, tag):
    """The exit status of a step of the release of that tag, run in a folder as GitHub runs it."""
    (step,) = [step for step in release(title)["steps"] if step.get("name") == name]
    environment = {"PATH": os.environ["PATH"], "GITHUB_REF_NAME": tag}
    return subprocess.run(["bash", "-e", "-c", step["run"]], cwd=folder, env=environment, capture_output=True).returncode


def test_what_is_published_is_built_once_and_tested_before():
    jobs = workflow("release")["jobs"]
    assert {title: each.get("needs") for title, each in jobs.items()} == {
        "build": None,
        "test": "build",
        "publish": "test",
        "announce": "publish",
    }
    assert sum("-m build" in text for text in commands("release")) == 1
    for title in ("test", "publish"):
        (files,) = [step["with"] for step in jobs[title]["steps"] if "download-artifact" in step.get("uses", "")]
        assert files == {"name": "dist", "path": "dist"}
    assert release("test")["env"]["CODI_BENCH_DIST"] == "dist"
    assert any("twine check --strict dist/*" in step.get("run", "") for step in release("build")["steps"])


def test_pypi_trusts_the_workflow_and_no_password():
    assert release("publish")["environment"] == "pypi"
    last = release("publish")["steps"][-1]
    assert last["uses"].startswith("pypa/gh-action-pypi-publish") and last["with"] == {"attestations": True}
    assert workflow("release")["on"] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}


def test_a_tag_that_is_not_the_version_publishes_nothing(tmp_path):
    (tmp_path / "dist").mkdir()
    for name in ("codi_bench-0.2.0.tar.gz", "codi_bench-0.2.0-py3-none-any.whl"):
        (tmp_path / "dist" / name).touch()
    assert run_step("build", "The tag is the version", tmp_path, "v0.2.0") == 0
    assert run_step("build", "The tag is the version", tmp_path, "v0.2.1") != 0


def test_the_notes_of_a_release_are_its_section_of_the_changelog(tmp_path):
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-11-29\n\n### Added\n\n- a\n\n## [0.1.0]\n\n- b\n"
    )
    assert run_step("build", "Notes", tmp_path, "v0.2.0") == 0
    assert (tmp_path / "notes.md").read_text().split() == ["###", "Added", "-", "a"]
    assert run_step("build", "Notes", tmp_path, "v0.3.0") != 0, "a version without notes is not published"


def test_the_tag_of_the_action_follows_the_release(tmp_path):
    def git(*words, folder):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout

    git("init", "-q", "--bare", "origin", folder=tmp_path)
    git("clone", "-q", "origin", "clone", folder=tmp_path)
    for version in ("v0.1.0", "v0.2.0"):
        git("commit", "-q", "--allow-empty", "-m", version, folder=tmp_path / "clone")
        git("tag", version, folder=tmp_path / "clone")
        name = "Workflows that use the action at v0 get this version"
        assert run_step("announce", name, tmp_path / "clone", version) == 0
        assert git("log", "-1", "--format=%s", "v0", folder=tmp_path / "origin").strip() == version


# Both ends of the version ranges


def test_every_python_and_both_ends_of_the_ranges_are_tried_every_night():
    rows = {row["environment"]: row["python"] for row in job("compatibility")["strategy"]["matrix"]["include"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [name.rpartition(" ")[2] for name in project["classifiers"] if re.search(r":: 3\.\d", name)]
    assert sorted(rows.values()) == named and rows["oldest"] == named[0] and rows["newest"] == named[-1]
    assert tox("oldest")[1]["uv_resolution"] == "lowest-direct"
    assert all("constraints" not in tox(name)[1]["deps"] for name in ("oldest", "newest"))
