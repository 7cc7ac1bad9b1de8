"""The auditor for anybody: planted answers through the command and through Python, and one line for each kind of bad input."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import codi_bench
from benchmarks.calibration import planted
from codi_bench.cli import app
from codi_bench.errors import InputError
from codi_bench.rules.stats import stream
from codi_bench.store.files import package_folder

FEW = {"permutations": 199}


def command(*arguments):
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    return result, result.exception


def noise(n=80, cells=4, d=200):
    made = planted.noise(stream(1, "audit door"), n=n, cells=cells, d=d, decay=1.0)
    return {"activations": made.activations, "labels": made.labels.astype(int)}


def signal(n=300, cells=3, d=12, shift=1.4):
    made = planted.signal(stream(2, "audit door"), n=n, cells=cells, d=d, shift=shift, where=1)
    return {"activations": made.activations, "labels": made.labels.astype(int)}


@pytest.fixture
def written(tmp_path):
    """Arrays as a file of that name."""

    def write(arrays, name="probes.npz"):
        path = tmp_path / name
        if path.suffix == ".npz":
            np.savez(path, **arrays)
        else:
            save_file({key: torch.as_tensor(value) for key, value in arrays.items()}, path)
        return path

    return write


def table(path, rows, columns=("problem", "condition", "right")):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def outcomes(n=200, lost=0.3):
    """Clean: all right but each fifth; `mean` loses a share of all problems; `self` changes two answers, one each way."""
    rows = []
    for i in range(n):
        clean = i % 5 != 0
        rows += [(i, "clean", int(clean)), (i, "mean", int(clean and i >= lost * n)), (i, "self", int(clean ^ (i in (1, 5))))]
    return rows


# Planted answers


def test_noise_in_sample_is_an_artefact_and_held_out_it_is_not_supported(written):
    result, _ = command("probes", written(noise()), "--permutations", 199, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["word"] == "ARTEFACT" and found["published"]["best"]["value"] > 0.9
    assert found["held_out"]["verdict"]["word"] != "SUPPORTED" and found["decide"] > 80
    assert "difficulty is not excluded" in found["sentence"]


def test_a_planted_signal_is_supported_in_its_cell_and_fits_on_a_screen(written):
    result, _ = command("probes", written(signal()), "--permutations", 199)
    assert result.exit_code == 0 and "SUPPORTED: On held-out problems the probes tell the labels apart" in result.stdout
    assert "best at cell 1" in result.stdout
    lines = result.stdout.splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 100


def test_what_the_surface_explains_is_no_signal():
    made = planted.surface_only(stream(3, "audit door"), n=300, cells=3, d=8)
    found = codi_bench.audit.probes(made.activations, made.labels, surface=made.surface, **FEW)
    assert found.word == "ARTEFACT" and "the surface explains it" in found.sentence
    without = codi_bench.audit.probes(made.activations, made.labels, **FEW)
    assert without.word == "SUPPORTED" and "No surface was given" in without.sentence


def test_a_probe_that_reads_no_more_than_confidence_is_said_to_add_nothing():
    arrays = signal()
    score = arrays["activations"][:, 1]
    direction = score[arrays["labels"] == 1].mean(0) - score[arrays["labels"] == 0].mean(0)
    found = codi_bench.audit.probes(**arrays, confidence=score @ direction, **FEW)
    assert (
        found.confidence.verdict.word != "SUPPORTED"
        and "not shown to tell more than the model's own confidence" in found.sentence
    )
    blind = codi_bench.audit.probes(**arrays, confidence=stream(4, "audit door").random(300), **FEW)
    assert blind.confidence.verdict.word == "SUPPORTED" and blind.confidence.gain.value > 0.15


def test_groups_are_the_unit_and_half_precision_and_one_cell_are_read(written):
    arrays = signal()
    arrays = {"activations": arrays["activations"][:, 1].astype(np.float16), "labels": arrays["labels"]}
    arrays["groups"] = np.arange(300) // 2
    result, _ = command("probes", written(arrays, "probes.safetensors"), "--permutations", 99, "--json")
    found = json.loads(result.stdout)
    assert (found["n"], found["rows"], found["cells"]) == (150, 300, 1)


def test_a_planted_drop_is_found_and_one_without_effect_beside_it_is_a_result(tmp_path):
    result, _ = command("outcomes", table(tmp_path / "a.csv", outcomes()), "--json")
    (model,) = json.loads(result.stdout)["models"]
    rows = {row["condition"]: row for row in model["conditions"]}
    assert rows["clean"]["accuracy"]["value"] == 0.8 and model["reason"] == ""
    assert rows["mean"]["drop"]["value"] == pytest.approx(0.24) and rows["mean"]["verdict"]["word"] == "SUPPORTED"
    assert rows["self"]["drop"]["value"] == 0 and rows["self"]["verdict"]["word"] != "SUPPORTED"


def test_a_table_in_which_nothing_moves_is_blocked_and_with_one_answer_changed_it_is_not(tmp_path):
    rows = [(i, condition, int(i % 3 > 0)) for i in range(90) for condition in ("clean", "steer 1", "steer 2")]
    result, _ = command("outcomes", table(tmp_path / "dead.csv", rows))
    assert result.exit_code == 0 and "dead edit: none of 2 conditions" in result.stdout and "SUPPORTED" not in result.stdout
    rows[4] = (rows[4][0], rows[4][1], 1 - rows[4][2])
    result, _ = command("outcomes", table(tmp_path / "alive.csv", rows))
    assert "dead edit" not in result.stdout


def test_a_model_that_can_do_nothing_has_nothing_to_lose(tmp_path):
    rows = [(i, condition, int(i < 3 - (condition == "zero"))) for i in range(100) for condition in ("clean", "zero")]
    result, _ = command("outcomes", table(tmp_path / "weak.csv", rows))
    assert "nothing to lose: 3.0 % of 100 problems" in result.stdout


def test_the_better_of_two_models_is_found_on_the_problems_that_they_share():
    rows = [{"problem": i, "condition": "clean", "right": i % 2 == 0, "model": "a"} for i in range(200)]
    rows += [{"problem": i, "condition": "clean", "right": i % 4 > 0, "model": "b"} for i in range(40, 240)]
    (pair,) = codi_bench.audit.outcomes(rows).pairs
    assert (pair.n, pair.winner) == (160, "b") and pair.difference.value == pytest.approx(-0.25)


def test_variants_of_a_problem_do_not_multiply_what_is_known():
    rows = [
        {"problem": f"{g}.{v}", "condition": c, "right": not (c == "zero" and g < 6), "group": g}
        for g in range(40)
        for v in range(5)
        for c in ("clean", "zero")
    ]
    (model,) = codi_bench.audit.outcomes(rows).models
    assert (model.n, model.problems) == (40, 200) and model.conditions[1].p == pytest.approx(0.5**6)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_figures_are_written_whole(written, tmp_path, suffix):
    picture = tmp_path / f"picture.{suffix}"
    assert command("probes", written(noise()), "--permutations", 99, "--figure", picture)[0].exit_code == 0
    assert picture.stat().st_size > 2000
    assert command("outcomes", table(tmp_path / "a.csv", outcomes()), "--figure", picture)[0].exit_code == 0


def test_jsonl_is_the_same_table_as_csv(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(outcomes(), columns=["problem", "condition", "right"])
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    results = [
        command("outcomes", table(tmp_path / "a.csv", outcomes()), "--json"),
        command("outcomes", tmp_path / "a.jsonl", "--json"),
    ]
    assert len({json.dumps(json.loads(result.stdout)["models"]) for result, _ in results}) == 1


# Bad input: one line with file, array or column, row and mend

ROW = [(0, "clean", 1), (0, "zero", 0), (1, "clean", 0), (1, "zero", 1)]
BAD_TABLES = {
    "a missing cell": ([*ROW, (2, "", 1)], "line 6: condition is missing"),
    "a duplicate": ([*ROW, (1, "zero", 0)], "twice"),
    "a word for right": ([*ROW, (2, "clean", "yes?"), (2, "zero", 0)], "neither 0 nor 1"),
    "a problem that lacks a condition": ([*ROW, (2, "clean", 1)], "zero"),
    "no clean condition": ([(0, "zero", 1), (0, "mean", 0)], "--clean"),
}


@pytest.mark.parametrize(("rows", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_bad_table_is_one_line(tmp_path, rows, message):
    result, error = command("outcomes", table(tmp_path / "bad.csv", rows))
    assert result.exit_code != 0 and isinstance(error, InputError)
    assert str(error).startswith(f"{tmp_path / 'bad.csv'}: ") and message in str(error) and "\n" not in str(error), error


def with_value(name, place, value, dtype=None):
    arrays = {**noise(), "groups": np.arange(80).astype(object).astype(str), "surface": np.zeros((80, 1))}
    array = np.array(arrays[name], dtype or arrays[name].dtype)
    array[place] = value
    return arrays | {name: array}


BAD_ARRAYS = {
    "NaN": (with_value("activations", (3, 1, 2), np.nan), "activations: row 3"),
    "infinity": (with_value("activations", (4, 0, 0), np.inf), "activations: row 4"),
    "a label": (with_value("labels", 7, 2), "labels: row 7 is 2, neither 0 nor 1"),
    "one class": (noise() | {"labels": np.ones(80, int)}, "labels: all 80 are 1"),
    "no labels": ({"activations": noise()["activations"]}, "labels: no such array"),
    "fewer labels": (noise() | {"labels": noise()["labels"][:-1]}, "labels: has 79 rows, activations have 80"),
    "a missing group": (with_value("groups", 5, ""), "groups: row 5"),
    "a surface without a number": (with_value("surface", (6, 0), np.nan), "surface: row 6"),
    "four axes": (noise() | {"activations": np.zeros((80, 2, 3, 4), np.float32)}, "activations: has the shape [80, 2, 3, 4]"),
    "objects": (noise() | {"groups": np.array([{}] * 80, object)}, "groups: cannot be read"),
}


@pytest.mark.parametrize(("arrays", "message"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays_are_one_line(written, arrays, message):
    path = written(arrays)
    result, error = command("probes", path)
    assert result.exit_code != 0 and isinstance(error, InputError)
    assert str(error).startswith(f"{path}: ") and message in str(error) and "\n" not in str(error), error


def test_files_that_cannot_be_read_are_named(tmp_path):
    for name, text in (("a.csv", ""), ("a.npz", "no archive"), ("a.txt", "x")):
        (tmp_path / name).write_text(text)
        kind = "outcomes" if name == "a.csv" else "probes"
        assert str(command(kind, tmp_path / name)[1]).startswith(f"{tmp_path / name}: ")
    assert "no such file" in str(command("outcomes", tmp_path / "nowhere.csv")[1])


# The worked examples

PAGE = Path(__file__).parent.parent / "docs" / "audit.md"


def test_the_page_shows_what_the_commands_print_today(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = re.split(r"^(```python\n.*?^```\n|    \$ codi-bench [^\n]*\n(?:    [^\n]*\n)+)", PAGE.read_text(), flags=re.S | re.M)
    examples = [part for part in parts if part.startswith(("```python", "    $ "))]
    assert len(examples) == 6
    for example in examples:
        if example.startswith("```"):
            exec(example.removeprefix("```python\n").removesuffix("```\n"), {})
            continue
        line, _, shown = example.partition("\n")
        result = CliRunner().invoke(app, line.removeprefix("    $ codi-bench ").split())
        assert [row.strip() for row in result.stdout.splitlines()] == [row.strip() for row in shown.splitlines()]


def test_the_page_says_how_often_the_auditor_is_wrong():
    cases = json.loads((package_folder("baselines") / "_calibration" / "audit.json").read_text())["cases"]
    rates = [rate["rate"] for case in cases.values() for rate in case["rates"].values()]
    assert rates == [0.0025, 0.99, 1.0, 0.0075, 0.9], "where this fails, mend the last paragraph of the page"
