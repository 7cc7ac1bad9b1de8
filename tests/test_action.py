"""The GitHub action: inputs reach scripts through the environment alone, and the scripts, run as GitHub runs them, do as told."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FILE = ROOT / "action.yml"
TOOLS = [tool for tool in ("bash", "jq", "xargs", "iconv") if not shutil.which(tool)]
pytestmark = [
    pytest.mark.skipif(not FILE.is_file(), reason="NOT A CHECKOUT: the action does not travel with the package"),
    pytest.mark.skipif(bool(TOOLS), reason=f"NO {' '.join(TOOLS)}: the runner has them"),
]
ACTION = yaml.safe_load(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {"runs": {"steps": []}}
STEPS = {step.get("name") or step["uses"].partition("@")[0]: step for step in ACTION["runs"]["steps"]}
SCRIPTS = {name: step for name, step in STEPS.items() if "run" in step}
DEFAULTS = {name: str(one["default"]) for name, one in ACTION.get("inputs", {}).items()}
# answers as GitHub does: comments lie in a file, jq is asked what gh's own would be
GH = r"""#!/usr/bin/env bash
set -eu
last="${@: -1}"
echo "$*" >> "$STATE/calls"
[ ! -f "$STATE/forbidden" ] || { echo "HTTP 403" >&2; exit 1; }
case "$*" in
    "api user --jq .login") echo '{"message":"Resource not accessible by integration"}'; exit 1 ;;
    "api --paginate repos/me/mine/issues/7/comments --jq "*) jq "$last" "$STATE/comments" ;;
    "api --silent --method POST repos/me/mine/issues/7/comments -F body=@"*) cp "${last#body=@}" "$STATE/posted" ;;
    "api --silent --method PATCH repos/me/mine/issues/comments/"*" -F body=@"*) cp "${last#body=@}" "$STATE/patched" ;;
    *) echo "unknown: $*" >&2; exit 1 ;;
esac
"""


def test_every_input_is_used_and_every_used_one_is_there():
    text = FILE.read_text(encoding="utf-8")
    assert set(re.findall(r"\binputs\.([\w-]+)", text)) == set(ACTION["inputs"])
    for name, step in re.findall(r"\bsteps\.([\w-]+)\.outputs\.([\w-]+)", text):
        assert name in {one.get("id") for one in ACTION["runs"]["steps"]}, (name, step)
    assert all(one["description"] for one in [*ACTION["inputs"].values(), *ACTION["outputs"].values()])


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_expression_stands_in_a_script(name):
    step = SCRIPTS[name]
    assert "${{" not in step["run"] and step["shell"] == "bash"
    own = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", step["run"]))
    given = {"GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ACTION_PATH", "RUNNER_TEMP", "RUNNER_OS"}
    assert own <= given | set(step["env"]) and set(step["env"]) - own <= {"GH_TOKEN", "PIP_EXTRA_INDEX_URL"}


def test_what_the_install_needs_lies_in_the_checkout():
    assert "$GITHUB_ACTION_PATH/constraints.txt" in SCRIPTS["Install codi-bench"]["run"]
    assert (ROOT / "constraints.txt").is_file() and (ROOT / "pyproject.toml").is_file()
    for step in STEPS.values():
        assert "run" in step or re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])


def test_windows_is_refused_before_anything_is_installed(job, monkeypatch):
    monkeypatch.setenv("RUNNER_OS", "Windows")
    job.outputs["python"] = {"python-path": "no-such-python"}
    done = job.step("Install codi-bench")
    assert done.returncode == 1 and done.stdout.startswith("::error") and "Linux" in done.stdout and not done.stderr


def test_the_docs_have_every_input_and_output_and_their_examples_are_workflows():
    text = (ROOT / "docs" / "workflows.md").read_text(encoding="utf-8").split("## On a pull request")[1].split("\n## ")[0]
    first_cells = re.findall(r"^\| `([\w-]+)` \|", text, flags=re.M)
    assert first_cells == [*ACTION["inputs"], *ACTION["outputs"]]
    whole, part = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.S))
    (claims,) = whole["jobs"].values()
    steps = [step for step in [*claims["steps"], *part] if "codi-bench@" in step.get("uses", "")]
    assert len(steps) == 2 and all(set(step["with"]) <= set(ACTION["inputs"]) for step in steps)
    assert whole["permissions"] == {"contents": "read", "pull-requests": "write"} and whole[True] == "pull_request"


class Job:
    """A job of one runner: inputs, what the steps put out, and the comments of pull request 7."""

    def __init__(self, folder: Path):
        self.temp, self.state, self.work = (folder / name for name in ("temp", "state", "work"))
        for each in (self.temp, self.state, self.work):
            each.mkdir()
        (self.state / "gh").write_text(GH)
        (self.state / "codi-bench").write_text(f'#!/usr/bin/env bash\nexec {sys.executable} -m codi_bench.cli "$@"\n')
        for name in ("gh", "codi-bench"):
            (self.state / name).chmod(0o755)
        (self.state / "comments").write_text("[]")
        self.outputs = {"install": {"codi-bench": str(self.state / "codi-bench")}}

    def value(self, text, inputs):
        """An expression of the action, as GitHub evaluates it."""
        known = {"github.repository": "me/mine", "github.event.pull_request.number": "7", "inputs.github-token": "token"}
        for name in re.findall(r"\$\{\{ (.+?) \}\}", text):
            parts = name.split(".")
            value = known.get(name) or (inputs[parts[1]] if parts[0] == "inputs" else self.outputs[parts[1]][parts[3]])
            text = text.replace(f"${{{{ {name} }}}}", value)
        return text

    def step(self, name, **inputs):
        """Run a step's script as GitHub runs it."""
        step, given = SCRIPTS[name], DEFAULTS | {key.replace("_", "-"): value for key, value in inputs.items()}
        output = self.temp / "output"
        output.write_text("")
        env = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "PYTEST_"))}
        env |= {"PATH": f"{self.state}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "STATE": str(self.state)}
        env |= {"RUNNER_TEMP": str(self.temp), "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(self.temp / "summary")}
        env |= {key: self.value(text, given) for key, text in step["env"].items()}
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
        done = subprocess.run(command, cwd=self.work, env=env, capture_output=True, text=True, encoding="utf-8")
        self.outputs[step.get("id", name)] = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return done

    @property
    def measured(self):
        return self.outputs["measure"]

    @property
    def summary(self):
        return (self.temp / "summary").read_text(encoding="utf-8")

    def comment(self):
        self.step("Table in the job summary", title=self.title)
        return self.step("Comment on the pull request")

    title = "codi-bench"

    def ran(self, words, status=0, table="the table\n"):
        """What the step before has left, without measuring."""
        report = self.temp / "report"
        report.mkdir(exist_ok=True)
        (report / "table.txt").write_text(table, encoding="utf-8")
        self.outputs["measure"] = {"words": words, "status": str(status), "report": str(report)}


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


def outcomes(path):
    lines = [
        f"{i},{name},{int(i < right)}" for name, right in {"clean": 90, "zero 0": 30, "zero 1": 90}.items() for i in range(100)
    ]
    path.write_text("\n".join(["problem,condition,right", *lines]), encoding="utf-8")


def test_an_outcomes_file_is_audited(job):
    file = job.work / "my outcomes;touch hacked.csv"
    outcomes(file)
    done = job.step("Measure or audit", audit=file.name, arguments="--clean 'clean' --constant 0.1")
    assert done.returncode == 0, done.stderr
    assert job.measured["status"] == "0" and job.measured["words"] == "1 supported · 1 underpowered"
    assert {*os.listdir(job.measured["report"])} >= {"table.txt", "audit.json", "audit.svg", "badge.svg"}
    assert os.listdir(job.work) == [file.name]
    assert job.comment().returncode == 0
    assert "zero 0" in job.summary and "**1 supported · 1 underpowered**" in job.summary


def test_a_model_is_measured(job, tiny_folders):
    done = job.step("Measure or audit", model=f"\n  mine={tiny_folders['gpt2']}  \n", arguments="--claim 'size'")
    assert done.returncode == 0, done.stderr
    assert job.measured["status"] == "0" and job.measured["words"] == "no verdicts"
    results = json.loads((Path(job.measured["report"]) / "results.json").read_text())
    assert {(row["model"], row["claim"]) for row in results["rows"]} == {("mine", "size")}
    assert (Path(job.measured["report"]) / "junit.xml").is_file()
    job.step("Table in the job summary")
    assert "mine" in job.summary and job.measured["report"] not in job.summary


def test_inputs_run_no_commands(job):
    (job.state / "codi-bench").write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@" > "$STATE/arguments"\nexit 4\n')
    odd = "$(touch hacked)`touch hacked`;touch hacked"
    done = job.step(
        "Measure or audit", model=f"a={odd}\nb=* x", base=odd, problems=odd, arguments=f"-m 'a or b' {odd}\n* '' \"c d\""
    )
    assert done.returncode == 0 and not [*job.work.iterdir()]
    assert job.measured["status"] == "4" and job.measured["words"] == "nothing measured"
    given = (job.state / "arguments").read_text().splitlines()
    report = job.measured["report"]
    words = ["-m", "a or b", *odd.split(), "*", "c d", f"--model=a={odd}", "--model=b=* x", f"--base={odd}", f"--problems={odd}"]
    assert given == ["run", *words, f"--report={report}", f"--junitxml={report}/junit.xml"]


def test_one_comment_is_written_and_then_updated(job):
    job.ran("1 supported", table="a ``` fence\n")
    assert job.comment().returncode == 0
    posted = (job.state / "posted").read_text(encoding="utf-8")
    assert posted == job.summary and "a ''' fence" in posted
    comments = [
        {"id": 1, "user": {"login": "somebody"}, "body": posted},
        {"id": 2, "user": {"login": "github-actions[bot]"}, "body": posted.replace("codi-bench -->", "codi-bench 2 -->")},
        {"id": 3, "user": {"login": "github-actions[bot]"}, "body": posted},
    ]
    (job.state / "comments").write_text(json.dumps(comments))
    job.ran("1 drifted · 1 supported")
    job.comment()
    assert "**1 drifted · 1 supported**" in (job.state / "patched").read_text(encoding="utf-8")
    calls = (job.state / "calls").read_text().splitlines()
    assert sum("POST" in call for call in calls) == 1 and calls[-1].startswith(
        "api --silent --method PATCH repos/me/mine/issues/comments/3 "
    )


def test_without_the_permission_there_is_a_warning(job):
    (job.state / "forbidden").touch()
    job.ran("1 supported")
    done = job.comment()
    assert done.returncode == 0 and done.stdout.startswith("::warning") and "pull-requests: write" in done.stdout


@pytest.mark.parametrize("before", range(3))
def test_a_long_table_and_an_odd_title_fit(job, before):
    job.ran("1 supported", table="a" * before + "× wide\n" * 20_000)  # also cut within a character
    job.title = "A\n--> <b>$(id)/…:*"
    assert job.comment().returncode == 0
    text = (job.state / "posted").read_text(encoding="utf-8")
    assert len(text.encode()) < 65_000 and text.startswith("<!-- codi-bench: A- bid -->\n## A- bid\n")
    assert job.outputs["text"]["title"] == "A- bid"


def test_what_stopped_the_run_is_said_and_no_old_table_stays(job):
    job.ran("nothing measured", status=2)
    (Path(job.measured["report"]) / "table.txt").unlink()
    assert job.comment().returncode == 0 and "exit status 2" in (job.state / "posted").read_text(encoding="utf-8")
    assert job.step("Outcome", fail_on="").returncode == 1


@pytest.mark.parametrize(
    ("words", "status", "fail_on", "fails"),
    [
        ("1 drifted · 3 supported", 1, "red", True),
        ("1 drifted · 3 supported", 1, "", False),
        ("1 drifted · 3 supported", 1, "drifted", True),
        ("3 supported · 2 artefact", 0, "red", False),
        ("3 supported · 2 artefact", 0, "red, artefact", True),
        ("1 blocked · 2 not run", 0, "red refuted not-run", True),
        ("1 blocked", 0, "not-run artefact", False),
        ("nothing measured", 4, "", True),
        ("3 supported", 0, "*", True),
    ],
)
def test_the_job_fails_on_what_was_asked_for(job, words, status, fail_on, fails):
    job.ran(words, status)
    done = job.step("Outcome", fail_on=fail_on)
    assert (done.returncode != 0) == fails and ("::error" in done.stdout) == fails
