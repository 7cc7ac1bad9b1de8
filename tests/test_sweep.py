"""A sweep with tasks that are made up: what is done once, what is chosen, what fails; and what is said of planted trends."""

import json
import math
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import sweep_tasks
from typer.testing import CliRunner

from codi_bench import claims
from codi_bench.claims import CLAIMS
from codi_bench.cli import app
from codi_bench.errors import CodiBenchError
from codi_bench.problems.generator import DIGITS, generate
from codi_bench.rules.stats import stream
from codi_bench.sweep import executors, training
from codi_bench.sweep import run as running
from codi_bench.sweep.executors import Ended, ProcessPool, RayCluster
from codi_bench.sweep.findings import follow, in_common
from codi_bench.sweep.members import HEADS, LAYERS, WIDTHS, members, recipe, snapshots
from codi_bench.sweep.results import SweepResults
from codi_bench.sweep.run import FINAL, MATCHED, Audited, Settings, couples, matched, sweep, target_accuracy
from codi_bench.training.recipes import Recipe

NEEDS_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="NO RAY here: pip install ray")
SIDES = ("killed", "whole")
SETTINGS = Settings(phases=(("teacher", 4), ("both", 8)), n=20)


class InTurn:
    """Tasks in this process, one after the other; `fails` names those that fail."""

    def __init__(self, fails=()):
        self.waiting, self.done, self.fails = [], [], fails

    def submit(self, task):
        self.waiting.append(task)

    def next_ended(self):
        task = self.waiting.pop(0)
        self.done.append(task.name)
        if any(name in task.name for name in self.fails):
            return Ended(task, error=ValueError("no luck"))
        return Ended(task, task.function(**task.arguments))

    def close(self):
        pass


@pytest.fixture
def tasks(monkeypatch):
    """A function that puts tasks which are made up in the place of a sweep's own."""

    def replaced(train):
        for name, task in (("train", train), ("choose", "choose"), ("audit", "audit"), ("compare", "compare")):
            monkeypatch.setattr(running, f"{name}_one", getattr(sweep_tasks, task))

    return replaced


@pytest.fixture
def made_up(tasks, monkeypatch):
    tasks("train")
    monkeypatch.setattr(running, "code_hash", lambda *roots: roots[0].__name__)  # that of functions of tests takes long


def test_finished_work_is_never_redone_and_other_settings_or_recipes_are_other_work(made_up, monkeypatch, tmp_path):
    def done(settings=SETTINGS, work="w"):
        """What a sweep finds, and the tasks that it did."""
        executor = InTurn()
        return sweep(f"file://{tmp_path}/out", members(), executor, settings, work=work), executor.done

    def kinds(tasks):
        return {name.partition("/")[0] for name in tasks}

    found, tasks = done()
    assert sum(name.startswith("trained/") for name in tasks) == 24 and not found.failed
    assert len(found.audited) == 48 and {each.which for each in found.audited} == {FINAL, MATCHED}
    assert len(list((tmp_path / "out" / "trained").iterdir())) == 24 and SweepResults(f"{tmp_path}/out").path("x").endswith(
        "/out/x"
    )
    assert done(work="elsewhere") == (found, []) == done(replace(SETTINGS, cpus=2, memory_gb=4))
    assert kinds(done(replace(SETTINGS, n=30))[1]) == {"audited", "compared"}
    longer = replace(SETTINGS, phases=(("teacher", 4), ("both", 16)))
    assert sum(name.startswith("trained/") for name in done(longer)[1]) == 24
    monkeypatch.setattr(running, "recipe", lambda member, phases: replace(recipe(member, phases), learning_rate=0.1))
    _, tasks = done()
    assert len(tasks) >= 24 + 24 + 24 and kinds(tasks) >= {"trained", "chosen", "audited"}
    with pytest.raises(CodiBenchError, match="give a smaller --n"):
        done(replace(SETTINGS, n=401))


def test_widest_models_are_compared_across_seeds_and_across_architectures(made_up, tmp_path):
    chosen = couples(members())
    assert len(chosen) == 3 + 3 + 3 and {m.width for pair in chosen for m in pair} == {max(WIDTHS)}
    assert all((one.family == other.family) != (one.seed == other.seed) for one, other in chosen)
    (line,) = in_common(sweep(str(tmp_path), members(), InTurn(), SETTINGS, work="w").compared)
    assert line == (
        "CKA: one architecture, other seeds 0.80 (0.80 to 0.80, 6 pairs, null 0.10); "
        "two architectures 0.30 (0.30 to 0.30, 3 pairs, null 0.10)"
    )


def test_a_sweep_that_stopped_goes_on(made_up, tmp_path):
    class Stops(InTurn):
        def next_ended(self):
            if len(self.done) == 5:
                raise KeyboardInterrupt
            return super().next_ended()

    with pytest.raises(KeyboardInterrupt):
        sweep(str(tmp_path), members(), Stops(), SETTINGS, work="w")
    rest = InTurn()
    found = sweep(str(tmp_path), members(), rest, SETTINGS, work="w")
    assert sum(name.startswith("trained/") for name in rest.done) == 24 - 5 and len(found.audited) == 48


def test_what_fails_is_named_and_tried_again_the_next_time(made_up, tmp_path):
    found = sweep(str(tmp_path), members(), InTurn(fails=("gpt2-w24-s1",)), SETTINGS, work="w")
    assert found.failed == {"trained/gpt2-w24-s1": "ValueError: no luck"} and len(found.audited) == 46
    again = InTurn()
    assert len(sweep(str(tmp_path), members(), again, SETTINGS, work="w").audited) == 48
    assert "trained/gpt2-w24-s1" in again.done and "trained/gpt2-w24-s0" not in again.done


def test_checkpoints_are_matched_at_what_all_reach(made_up, tmp_path):
    choosing = [{"5": 0.2, "6": 0.5, "7": 0.4}, {"5": 0.55, "6": 0.8, "7": 0.9}]
    assert target_accuracy(choosing) == 0.5 and [matched(each, 0.5) for each in choosing] == [6, 5]
    with pytest.raises(CodiBenchError, match="nothing was trained"):
        target_accuracy([])
    found = sweep(str(tmp_path), members(), InTurn(), SETTINGS, work="w")
    assert found.target == pytest.approx(24 / 104)
    steps = {each.member.width: each.steps for each in found.audited if each.which == MATCHED}
    assert steps[24] == 12 and steps[104] <= steps[64] <= steps[40] < 12
    assert {each.steps for each in found.audited if each.which == FINAL} == {12}


def test_members_are_all_sizes_seeds_and_architectures_by_one_recipe():
    every = members()
    assert len(every) == 24 and len({m.name for m in every}) == 24 and len(WIDTHS) >= 4
    recipes = [recipe(member) for member in every]
    same = {name for name in Recipe.__dataclass_fields__ if len({repr(getattr(r, name)) for r in recipes}) == 1}
    assert set(Recipe.__dataclass_fields__) - same == {"name", "family", "width", "heads", "inner"}
    assert all(width % HEADS[width] == 0 for width in WIDTHS) and LAYERS >= 4
    assert recipes[0].limits == DIGITS and recipes[0].student_starts < min(snapshots()) <= max(snapshots()) == recipes[0].steps
    for wrong in ({"families": ["gpt3"]}, {"widths": [25]}):
        with pytest.raises(CodiBenchError):
            members(**wrong)


def test_problems_of_a_sweep_have_digits_and_up_to_three_steps():
    found = generate(300, limits=DIGITS)
    assert {p.num_steps for p in found} == {1, 2, 3} and max(v for p in found for v in p.values + p.operands) <= 9
    train = {p.group for p in generate(1000, limits=DIGITS, split="train")}
    assert not train & {p.group for p in found}


@pytest.mark.parametrize("cluster", [False, pytest.param(True, marks=NEEDS_RAY)], ids=["processes", "ray"])
def test_a_sweep_survives_killed_workers_and_ends_as_one_in_which_none_was(cluster, workers_find_tests, tasks, tmp_path):
    tasks("train_or_die")
    few = [member for member in members() if member.width == min(WIDTHS)]
    executor = RayCluster("local", workers=2) if cluster else ProcessPool(2)
    try:
        (tmp_path / "work").mkdir()
        found = sweep(str(tmp_path / "killed"), few, executor, SETTINGS, work=str(tmp_path / "work"))
    finally:
        executor.close()
    assert len(list((tmp_path / "work").iterdir())) == 2 and not found.failed  # two workers were killed
    undisturbed = sweep(str(tmp_path / "whole"), few, InTurn(), SETTINGS, work=str(tmp_path / "work"))
    assert found == undisturbed and len(found.audited) == 12
    files = [
        {path.relative_to(tmp_path / side): path.read_bytes() for path in (tmp_path / side).rglob("*.json")} for side in SIDES
    ]
    assert files[0] == files[1] and len(files[0]) >= 6 + 6


def test_a_small_sweep_runs_whole_by_the_command(monkeypatch, tmp_path):
    """Training, audits and comparisons themselves, of models too small and problems too few to say anything."""
    small = [replace(recipe(member, SETTINGS.phases), train_problems=400) for member in members()[:2]]
    monkeypatch.setattr(training, "recipe", lambda member, phases: next(r for r in small if r.family == member.family))
    monkeypatch.setattr(executors, "ProcessPool", lambda workers: InTurn())
    monkeypatch.setattr(training, "NUM_CHOOSING", 8)
    monkeypatch.setattr(training, "NUM_SCORED", 16)
    few = {name: CLAIMS[name] for name in ("size", "shared-features")}  # a model like this talks without end
    monkeypatch.setattr(claims, "CLAIMS", few)
    folders = [part for name in ("out", "work", "report") for part in (f"--{name}", str(tmp_path / name))]
    arguments = ["sweep", *folders, "--n", "16", "--width", "24", "--seed", "0", "--teacher-steps", "4", "--student-steps", "1"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    said = done.output
    assert "no trend can be tested" in said and "trained: 2 of 2" in said and "compared: 1 of 1" in said
    held = json.loads((tmp_path / "report" / "sweep.json").read_text())
    assert len(held["audited"]) == 4 and held["failed"] == {} and (tmp_path / "report" / "sweep.svg").is_file()
    rows = held["audited"][0]["result"]["rows"]
    assert {row["claim"] for row in rows} == {"size"}
    assert {row["claim"] for row in held["compared"][0]["result"]["rows"]} == {"shared-features"}
    assert {"all", "1"} <= set(held["audited"][0]["result"]["accuracy"])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json")}
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json")} == before


def planted(tau, seed=0):
    """24 members whose tau is a function of log parameters, with noise of 1 between seeds; no other number moves."""
    rng, found = stream(seed, "planted sweep"), []
    for member in members():
        size = 12 * LAYERS * member.width**2
        value = tau(math.log(size)) + rng.standard_normal()
        numbers = ("spread", "tau", value), ("task-accuracy", "accuracy", rng.standard_normal())
        rows = [sweep_tasks.row(*number) for number in numbers]
        found += [Audited(member, which, 1, size, 0.5, {"rows": rows}) for which in (FINAL, MATCHED)]
    return found


def test_a_planted_trend_is_found_with_its_size_and_a_flat_one_is_not():
    sizes = [math.log(12 * LAYERS * width**2) for width in WIDTHS]
    span, said = max(sizes) - min(sizes), []
    for seed in range(40):
        found = {
            each.name: each for each in follow(planted(lambda x: -4 * x / span, seed), permutations=199) if each.which == FINAL
        }
        trend = found["spread (tau)"].trend
        said.append((trend.p <= 0.05, trend.change.low <= -4 <= trend.change.high, found["accuracy"].trend.p <= 0.05))
    told, inside, false = np.mean(said, axis=0)
    assert told == 1 and inside >= 0.85 and false <= 0.15
    assert found["spread (tau)"].trend.detectable == pytest.approx(1.9, abs=0.2)
    assert {(m.family, m.seeds) for m in found["spread (tau)"].means} == {("gpt2", 3), ("llama", 3)}


def test_a_number_that_few_checkpoints_have_is_said_to_be_missing():
    few = [each for each in planted(lambda x: 0.0) if each.member.width == 24]
    found = {each.name: each for each in follow(few, permutations=19)}
    assert found["spread (tau)"].trend is None and "one" in found["spread (tau)"].why
    assert found["best probe (AUC)"].points == () and found["best probe (AUC)"].trend is None
