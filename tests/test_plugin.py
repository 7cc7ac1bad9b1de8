"""The plugin as a user meets it: colours, counts, exit statuses; every kind of damage to a baseline is provoked."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codi_bench.claims import CLAIMS
from codi_bench.cli import app
from codi_bench.models.registry import CONTROLS, REGISTRY
from codi_bench.records.baseline import load_baseline, save_baseline
from codi_bench.store.files import package_folder
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import claim_code
from codi_bench.suite.environment import environment

pytestmark = pytest.mark.usefixtures("plain_reports")
MODEL = "gpt2-mini"


@pytest.fixture
def baselines(tmp_path):
    """A copy of the package's baselines that a test may damage, with one record a file: the one that is compared with here."""
    folder = Path(shutil.copytree(package_folder("baselines"), tmp_path / "baselines"))
    for path in folder.glob(f"{MODEL}/*.json"):
        held = load_baseline(folder, MODEL, path.stem)
        record, _ = held.nearest(environment("cpu", "float32"))
        save_baseline(folder, held.model_copy(update={"recorded": [record]}))
    return folder


@pytest.fixture
def suite(run_benchmarks, baselines):
    """`pytest benchmarks` from an empty folder on one embedded model, with the copied baselines."""

    def run(*args, model=("--model", MODEL)):
        return run_benchmarks("--baselines", baselines, *model, *args)

    return run


def damage(baselines, claim, change):
    path = baselines / MODEL / f"{claim}.json"
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


def recorded(held):
    return held["recorded"][0]


def test_recorded_numbers_come_out_again_and_the_table_is_written(suite, pytester):
    result = suite("--claim", "size", "--claim", "ablation")
    assert result.ret == 0
    result.assert_outcomes(passed=2)
    results = json.loads((pytester.path / "report" / "results.json").read_text())
    rows = {(r["claim"], r["model"], r["metric"]): r for r in results["rows"]}
    assert results["schema"] == 1 and rows["size", MODEL, "layers"]["measured"]["value"] == 4
    assert rows["ablation", MODEL, "drop_bot"]["regression"] == "SAME"
    assert {(claim, model) for claim, model, _ in rows} == {("size", MODEL), ("ablation", MODEL)}
    (printed,) = [n for n in results["environment"]["published"] if (n["model"], n["metric"]) == ("gpt2", "drop_2")]
    assert printed["reported"]["value"] == 20
    assert "| ablation" in (pytester.path / "report" / "report.md").read_text()
    result.stdout.fnmatch_lines(["*largest @ latent *20 @ 2*"])


CHANGES = {
    "value": lambda h: recorded(h)["metrics"]["sound drop_all"].update(value=5.0),
    "outcome": lambda h: recorded(h)["metrics"]["drop_0"].update(outcomes="A" * 18 + "=="),
    "cell": lambda h: recorded(h)["metrics"]["drop_0"].update(cell={"layer": None, "latent_pos": 3}),
    "verdict": lambda h: recorded(h)["metrics"]["drop_0"].update(verdict="REFUTED"),
    "seed": lambda h: recorded(h).update(seeds={"fold": 1}),
    "metric deleted": lambda h: recorded(h)["metrics"].pop("drop_1"),
    "tolerance deleted": lambda h: h["tolerance"]["metrics"].pop("drop_1"),
    "all records deleted": lambda h: h.update(recorded=[]),
    "schema broken": lambda h: h.update(recorded="yes"),
    "published in another unit": lambda h: h.update(reported={"drop_0": PUBLISHED | {"unit": "count"}}),
}
PUBLISHED = {"case": "other-list", "value": 7, "unit": "points", "protocol": "p", "source": "s", "place": "t"}


@pytest.mark.parametrize("what", CHANGES)
def test_a_damaged_baseline_reddens_its_own_test_and_no_other(what, suite, baselines):
    here = environment("cpu", "float32").model_dump()
    if what == "cell" and recorded(json.loads((baselines / MODEL / "ablation.json").read_text()))["environment"] != here:
        pytest.skip("NOT THIS ENVIRONMENT: a cell may be another elsewhere")
    damage(baselines, "ablation", CHANGES[what])
    result = suite("--claim", "size", "--claim", "ablation")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"FAILED *{MODEL}-ablation*"])
    if what in ("value", "cell", "verdict", "seed"):
        line = next(line for line in result.outlines if line.startswith("E ") and f"ablation on {MODEL}: " in line)
        assert "stored" in line and ("measured" in line or "now" in line) and "tolerance" in line
    if what == "published in another unit":
        said = " ".join("".join(result.outlines).split())
        assert "ablation.json: reported.drop_0.unit: is count, and points are measured" in said
    assert "Traceback" not in result.stdout.str()


def other_code(held, value=None, *, metric="drop_1", without="codi_bench.measures.ablation"):
    """As if a module had been another when the number was recorded; value: of a metric, recorded then."""
    record = recorded(held)
    digest, *modules = record["code"].split()
    now = claim_code(CLAIMS["ablation"], ModelBench).modules[without][:6]
    assert now in modules
    record["code"] = " ".join(["0" * len(digest), *(each for each in modules if each != now)])
    if value is not None:
        record["metrics"][metric]["value"] += value


def test_other_code_without_a_moved_number_is_green_and_told(suite, baselines, pytester):
    damage(baselines, "ablation", other_code)
    result = suite("--claim", "size", "--claim", "ablation")
    result.assert_outcomes(passed=2)
    assert any("1 record made by other code" in line for line in result.outlines)
    rows = json.loads((pytester.path / "report" / "results.json").read_text())["rows"]
    told = {row["detail"].get("code", "")[:25] for row in rows if row["claim"] == "ablation" and row["status"] == "ok"}
    assert told == {"recorded under other code"}
    assert not any("code" in row["detail"] for row in rows if row["claim"] == "size")


def test_a_number_that_moved_is_red_and_names_the_code_that_changed(suite, baselines):
    def change(held):
        held["tolerance"]["metrics"]["sound drop_all"].update(deterministic=0.5, device=0.5)
        other_code(held, 1.0, metric="sound drop_all")  # by two tolerances

    damage(baselines, "ablation", change)
    result = suite("--claim", "size", "--claim", "ablation")
    result.assert_outcomes(passed=1, failed=1)
    line = next(line for line in result.outlines if line.startswith("E ") and f"ablation on {MODEL}: " in line)
    assert "sound drop_all" in line and "tolerance 0.5" in line and "the code differs too: codi_bench.measures.ablation" in line
    moved = recorded(json.loads((baselines / MODEL / "ablation.json").read_text()))["metrics"]["sound drop_all"]["value"]
    cells = ["ablation", MODEL, "sound", "drop_all", f"{moved:.6g}", f"{moved - 1:.6g}", "0.5"]
    assert ["E", *cells] in [line.split() for line in result.outlines]


def test_restamp_writes_the_code_of_what_was_just_measured_the_same_and_nothing_else(suite, baselines, pytester):
    here = {"environment": environment("cpu", "float32").model_dump()}
    texts = {}
    for claim, without in (("ablation", "codi_bench.measures.ablation"), ("size", "codi_bench.models.loop")):
        damage(baselines, claim, lambda h: recorded(h).update(here))
        texts[claim] = save_baseline(baselines, load_baseline(baselines, MODEL, claim)).read_text()
        damage(baselines, claim, partial(other_code, without=without))
    damage(baselines, "size", lambda h: h["tolerance"]["metrics"].pop("layers"))  # red, so its record keeps its code
    left = (baselines / MODEL / "size.json").read_text()
    suite("--claim", "size", "--claim", "ablation")
    arguments = ["baselines", "restamp", "--report", str(pytester.path / "report"), "--baselines", str(baselines)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and "size on gpt2-mini: some numbers did not come out the same" in done.stderr
    assert (baselines / MODEL / "size.json").read_text() == left
    assert (baselines / MODEL / "ablation.json").read_text() == texts["ablation"]
    suite("--claim", "ablation")
    assert "nothing to restamp" in CliRunner().invoke(app, arguments).output


def test_restamp_leaves_records_of_other_environments(suite, baselines, pytester):
    damage(baselines, "ablation", lambda h: [other_code(h), recorded(h)["environment"].update(torch="1.0")])
    left = (baselines / MODEL / "ablation.json").read_text()
    suite("--claim", "ablation")
    arguments = ["baselines", "restamp", "--report", str(pytester.path / "report"), "--baselines", str(baselines)]
    assert "nothing is recorded in the run's environment" in CliRunner().invoke(app, arguments).stderr
    assert (baselines / MODEL / "ablation.json").read_text() == left


def test_a_moved_value_within_its_tolerance_stays_green(suite, baselines):
    def change(held):
        held["tolerance"]["metrics"]["layers"].update(deterministic=1.5, device=1.5)
        recorded(held)["metrics"]["layers"]["value"] += 1

    damage(baselines, "size", change)
    suite("--claim", "size").assert_outcomes(passed=1)


def test_a_baseline_without_a_claim_is_red(suite, baselines):
    (baselines / MODEL / "forgotten.json").write_text("{}")
    result = suite("--claim", "size")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["RED*forgotten.json*no registered claim*"])


def test_weights_of_another_seed_are_red(suite, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(REGISTRY[MODEL].folder, tmp_path / "other"))
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    moved = {k: (v.float() + 0.01 * torch.randn(v.shape, generator=generator)).half() for k, v in weights.items()}
    save_file(moved, folder / "model.safetensors")
    result = suite("--claim", "size", model=("--model", f"{MODEL}={folder}"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*size on {MODEL}: weights: stored *, now *"])


def test_update_baselines_proposes_prints_old_and_new_and_never_passes(suite, baselines, pytester):
    damage(baselines, "size", lambda h: recorded(h)["metrics"]["layers"].update(value=5))
    before = (baselines / MODEL / "size.json").read_text()
    result = suite("--claim", "size", "--update-baselines")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*layers: 5 → 4*"])
    assert (baselines / MODEL / "size.json").read_text() == before
    report = str(pytester.path / "report")
    shown = CliRunner().invoke(app, ["baselines", "diff", "--report", report, "--baselines", str(baselines)])
    assert shown.exit_code == 0 and "layers 5 4 -1 " in " ".join(shown.output.split()) and "DRIFTED" in shown.output
    why = "a test counts layers"
    CliRunner().invoke(app, ["baselines", "accept", "--reason", why, "--report", report, "--baselines", str(baselines)])
    held = load_baseline(baselines, MODEL, "size")
    (record,) = (each for each in held.recorded if each.environment == environment("cpu", "float32"))
    assert record.reason == why and record.metrics["layers"].value == 4
    suite("--claim", "size").assert_outcomes(passed=1)


def test_gpu_claims_are_not_run_here_and_say_why(run_benchmarks):
    result = run_benchmarks("-m", "gpu", "--claim", "size")
    assert result.ret == 0
    assert f"{len(REGISTRY) - len(CONTROLS)} not run" in result.outlines[-1] and "passed" not in result.outlines[-1]
    said = " ".join(result.stdout.str().split())
    give = "or give --model gpt2=FOLDER --base gpt2=FOLDER; `--device cpu` measures on the CPU"
    give = f"this machine has no GPU; on one with a GPU, download zen-E/CODI-gpt2 and gpt2, {give}"
    assert give in said
    assert "not-run gpt2-mini: 1 claim: this machine has no GPU; `codi-bench run` measures on the CPU" in said


def test_strict_makes_not_run_red(run_benchmarks):
    result = run_benchmarks("-m", "gpu", "--claim", "size", "--strict")
    assert result.ret == 1 and "NOT RUN" in result.stdout.str()


def test_a_smaller_n_is_unchecked_never_passed(suite):
    result = suite("--claim", "task-accuracy", "--n", "20")
    assert "1 unchecked" in result.outlines[-1] and "passed" not in result.outlines[-1]


def test_a_claim_that_cannot_be_measured_is_blocked_and_the_rest_goes_on(suite, tmp_path):
    problems = tmp_path / "wrong.jsonl"
    problems.write_text("".join(json.dumps({"question": f"What is {i} ?", "answer": "-7"}) + "\n" for i in range(1000)))
    result = suite("--claim", "probe-accuracy", "--claim", "size", "--problems", f"generated={problems}", "--n", "1000")
    assert "1 blocked" in result.outlines[-1] and "1 unchecked" in result.outlines[-1]
    assert any("blocked gpt2-mini" in line and "class" in line for line in result.outlines)


BAD = {
    "unknown model": (["--model", "gpt2-mini", "--model", "lama-mini"], "did you mean 'llama-mini'?"),
    "unknown claim": (["--claim", "probe-acuracy"], "did you mean 'probe-accuracy'?"),
    "folder missing": (["--model", "mine=nowhere"], "nowhere: no such folder"),
    "model twice": (["--model", f"mine={REGISTRY[MODEL].folder}", "--model", "mine=other"], "mine=other: mine is"),
    "model without path": (["--model", "mine="], "write NAME=PATH"),
    "problem set": (["--problems", "generatd=x.jsonl"], "did you mean 'generated'?"),
    "problem file missing": (["--problems", "generated=x.jsonl"], "x.jsonl: cannot be read"),
    "baselines": (["--baselines", "nowhere"], "nowhere: no such folder"),
    "n": (["--n", "0"], "--n must be a whole number, at least 1, got 0"),
    "dtype": (["--model", f"mine={REGISTRY[MODEL].folder}", "--dtype", "float8"], "unknown dtype 'float8'"),
    "report": (["--report", "/proc/report"], "results.json: cannot be written"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_end_the_run_before_it_starts(what, run_benchmarks):
    args, message = BAD[what]
    result = run_benchmarks(*args)
    text = result.stdout.str() + result.stderr.str()
    assert result.ret == 2 and message in text and "Traceback" not in text


@pytest.mark.parametrize("file", ["_calibration/noise-in-sample.json"])
def test_what_lies_beside_the_baselines_is_looked_at_before_anything_runs(suite, baselines, file):
    (baselines / file).write_text('{"cases": [], "steps": {}}')
    result = suite("--claim", "size")
    text = result.stdout.str() + result.stderr.str()
    assert result.ret == 2 and f"codi-bench: {baselines / file}: " in text and "restore it with git" in text
    assert "Traceback" not in text


def test_a_broken_problem_line_is_named(run_benchmarks, pytester):
    pytester.path.joinpath("p.jsonl").write_text('{"question": "a", "answer": "1"}\n{"question": \n')
    result = run_benchmarks("--problems", "generated=p.jsonl")
    assert result.ret == 2 and "p.jsonl, line 2: not JSON" in result.stdout.str() + result.stderr.str()
