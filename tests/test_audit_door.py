"""The public auditor on planted answers, and on every input that it must refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.calibration import planted
from benchmarks.calibration.cases import CALIBRATIONS
from benchmarks.calibration.engine import rows_of
from codi_bench.audits.assessment_text import LINES, WIDTH
from codi_bench.audits.public import outcomes, probes, read_outcomes, read_probes
from codi_bench.cli import app
from codi_bench.errors import CodiBenchError, InputError
from codi_bench.rules.stats import mcnemar_exact, newcombe_paired, stream, wilson

QUICK = {"permutations": 99, "folds": 3, "workers": 1}


def command(*arguments) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def fits_a_terminal(text: str) -> bool:
    lines = text.splitlines()
    return len(lines) <= LINES and max(map(len, lines)) <= WIDTH


# Planted answers: probes


@pytest.mark.parametrize("case", CALIBRATIONS["audit-probes"].cases, ids=lambda case: case.name)
def test_probes_get_the_word_that_was_planted(case):
    shift = {"shift": 1.0625} if "target" in case.settings else {}  # as in baselines/_calibration/signal.json
    rows = rows_of("audit-probes", case.name, case.draw, case.settings | shift, 0, 6)
    supported = sum(row["word"] == "SUPPORTED" for row in rows)
    if shift:
        assert supported >= 5 and sum(row["cell"] == 2 for row in rows) >= 5
    else:
        assert supported <= 1
    if case.name.startswith("noise,"):
        assert all(row["artefact_mean"] and row["artefact_best"] and row["reads"] > 0.95 for row in rows)


def test_what_the_surface_explains_is_an_artefact_and_without_the_surface_difficulty_is_not_excluded():
    made = planted.surface_only(stream(0, "door"), n=400, cells=2, d=16)
    blind = probes(made.activations, made.labels, **QUICK)
    seeing = probes(made.activations, made.labels, surface=made.surface, **QUICK)
    assert blind.word == "SUPPORTED" and "difficulty is not excluded" in blind.sentence
    assert seeing.held_out.verdict.word == "ARTEFACT" and "not excluded" not in seeing.sentence
    assert seeing.held_out.surface_auc > 0.65 and seeing.held_out.p["surface"] > 0.025


def test_probes_that_read_the_confidence_add_nothing_to_it_and_others_do():
    rng = np.random.default_rng(0)
    labels, own = rng.permutation(400) < 200, rng.standard_normal((400, 2))
    x = rng.standard_normal((400, 8))
    x[:, 0] += 2 * labels
    copied = probes(x, labels, confidence=x[:, 0], **QUICK)
    apart = probes(x, labels, confidence=own[:, 0] + labels, **QUICK)
    assert copied.confidence.verdict.word == "REFUTED" and copied.word == "SUPPORTED"
    assert apart.confidence.verdict.word == "SUPPORTED" and apart.confidence.gain.low > 0.03
    assert 0.7 < apart.confidence.auc.value < 0.8 < copied.confidence.auc.value  # Phi(1 / sqrt 2) = 0.76, Phi(2 / sqrt 2) = 0.92


def test_rows_that_are_copied_into_groups_change_no_n_and_no_word():
    made = planted.noise(stream(1, "door"), n=60, cells=1, d=8)
    copies = probes(
        np.repeat(made.activations, 4, 0), np.repeat(made.labels, 4), groups=np.repeat([f"g{i}" for i in range(60)], 4), **QUICK
    )
    assert (copies.n, copies.rows) == (60, 240) and copies.word != "SUPPORTED" and "60 groups" in str(copies)


def test_a_control_that_fails_blocks_and_says_so():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    blocked = probes(rng.standard_normal((60, 4)), labels, surface=labels + 0.0, **QUICK)
    assert (blocked.status, blocked.word, blocked.as_dict()["held_out"]) == ("blocked", None, None)
    assert "BLOCKED" in str(blocked) and "nothing is left to test" in blocked.reason


# Planted answers: outcomes


@pytest.mark.parametrize("case", CALIBRATIONS["audit-outcomes"].cases, ids=lambda case: case.name)
def test_outcomes_get_the_word_that_was_planted(case):
    rows = rows_of("audit-outcomes", case.name, case.draw, case.settings, 0, 30)
    for rate in case.judge(rows, case.settings):
        share = rate.hits / rate.draws
        assert share <= 0.15 if rate.bar.high < 1 else share >= 0.75, rate.what


def table(variants: int = 1, **conditions) -> list[dict]:
    """Rows of right and wrong [n] by condition; each problem a group of so many rows that agree."""
    return [
        {"problem": f"{i}.{k}", "group": i, "condition": name, "right": int(value)}
        for name, right in conditions.items()
        for i, value in enumerate(right)
        for k in range(variants)
    ]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=40), st.integers(1, 3))
def test_without_variants_drops_are_newcombe_s_and_mcnemar_s_and_copies_change_nothing(pairs, variants):
    clean, edited = np.array(pairs).T
    (model,) = outcomes(table(variants, clean=clean, edited=edited)).models
    row, expected, rate = model.conditions[1], newcombe_paired(clean, edited), wilson(edited.sum(), len(edited))
    assert (model.n, model.problems) == (len(clean), len(clean) * variants)
    assert [row.drop.value, row.drop.low, row.drop.high] == pytest.approx([expected.value, expected.low, expected.high])
    assert [row.accuracy.low, row.accuracy.high] == pytest.approx([rate.low, rate.high])
    assert row.p == mcnemar_exact(clean, edited, "greater")


def test_a_dead_table_is_blocked_and_the_same_with_one_answer_changed_is_not():
    right = np.arange(100) % 2 == 0
    rows = table(clean=right, steer_1=right, steer_2=right, steer_3=right)
    dead = outcomes(rows)
    assert dead.status == "blocked" and dead.reason.startswith("dead edit:") and "BLOCKED" in str(dead)
    assert all(row.verdict is None for row in dead.models[0].conditions)
    rows[150]["right"] = 1 - rows[150]["right"]
    alive = outcomes(rows)
    assert alive.status == "ok" and all(row.verdict for row in alive.models[0].conditions[1:])


def test_where_there_is_nothing_to_lose_nothing_is_said():
    clean, edited = np.arange(100) < 3, np.arange(100) < 1
    assert outcomes(table(clean=clean, edited=edited)).reason.startswith("nothing to lose:")
    right = np.arange(100) < 60
    assert outcomes(table(clean=right, edited=~right)).status == "ok"
    assert outcomes(table(clean=right, edited=~right), constant=0.55).status == "blocked"


def test_of_many_conditions_and_models_the_largest_are_shown():
    rng = np.random.default_rng(0)
    drops = {f"a condition with a name that is far too long {i}": rng.random(50) < 0.5 - 0.01 * i for i in range(30)}
    rows = table(clean=rng.random(50) < 0.6, **drops)
    assert fits_a_terminal(str(outcomes(rows))) and "see --json" in str(outcomes(rows))
    several = outcomes([{**row, "model": f"m{i}"} for i in range(9) for row in rows])
    assert fits_a_terminal(str(several)) and len(several.pairs) == 36


def test_every_form_of_a_table_gives_the_same(tmp_path):
    import pandas

    rng = np.random.default_rng(0)
    rows = table(baseline=rng.random(40) < 0.7, edited=rng.random(40) < 0.5)
    frame, expected = pandas.DataFrame(rows), outcomes(rows).as_dict()["models"]
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.assign(right=frame.right.astype(bool)).to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({**row, "right": bool(row["right"])}) + "\n" for row in rows))
    (tmp_path / "true.csv").write_text((tmp_path / "t.csv").read_text().replace(",1\n", ",True\n").replace(",0\n", ",false\n"))
    for form in (frame, frame.to_dict("list"), *(read_outcomes(path) for path in sorted(tmp_path.iterdir()))):
        assert outcomes(form).as_dict()["models"] == expected


def test_every_form_of_an_array_file_is_read(tmp_path):
    import torch
    from safetensors.torch import save_file

    x, y = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fnuz):
        path = tmp_path / "a.safetensors"
        save_file({"activations": x.to(dtype), "labels": y.bool()}, path)
        assert probes(**read_probes(path), **QUICK).cells == 1
    np.savez(tmp_path / "a.npz", activations=x.half().numpy()[:, None], labels=y.numpy().astype(float))
    assert probes(**read_probes(tmp_path / "a.npz"), **QUICK).ones == 20


# What is refused


def arrays(**changes) -> dict:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 2, 3)).astype(np.float32)
    return {"activations": x, "labels": np.arange(40) % 2, **changes}


def put(array, index, value) -> np.ndarray:
    array = np.array(array)
    array[index] = value
    return array


GROUPS = np.array([f"g{i // 2}" for i in range(40)])
BAD_ARRAYS = {
    "a label that is neither": ({"labels": put(np.arange(40) % 2, 7, 2)}, "labels: row 7 is 2, neither 0 nor 1; write"),
    "a missing label": ({"labels": put(np.arange(40) % 2.0, 7, np.nan)}, "labels: row 7 is nan"),
    "labels in words": ({"labels": np.array(["yes", "no"] * 20)}, "labels: row 0 is yes"),
    "NaN": ({"activations": put(arrays()["activations"], (5, 1, 2), np.nan)}, "activations: row 5, cell 1 holds nan; mend it"),
    "infinity": ({"activations": put(arrays()["activations"], (5, 0, 0), np.inf)}, "activations: row 5, cell 0 holds inf"),
    "one class": ({"labels": np.ones(40)}, "labels: all 40 are 1; a probe needs"),
    "a small class": ({"labels": np.arange(40) < 2}, "labels: 2 problems have the label 1, 5 folds need 5"),
    "classes of few groups": ({"groups": np.arange(40) % 4}, "labels: 2 groups have the label 0, 5 folds"),
    "a missing group": ({"groups": put(GROUPS, 9, "")}, "groups: row 9 is missing; give every problem its group"),
    "NaN in groups": ({"groups": put(np.arange(40.0), 9, np.nan)}, "groups: row 9 is missing"),
    "groups that are short": ({"groups": GROUPS[:39]}, "groups: has 39 rows, activations have 40"),
    "labels that are short": ({"labels": np.arange(39) % 2}, "labels: has 39 rows"),
    "a shape": ({"activations": np.zeros((40, 2, 3, 1))}, r"activations: has the shape \[40, 2, 3, 1\]; give \[n, cells, d\]"),
    "labels in columns": ({"labels": np.zeros((40, 2))}, r"labels: has the shape \[40, 2\]"),
    "text": ({"activations": np.full((40, 2), "x")}, "activations: holds <U1; numbers are needed"),
    "a gap in surface": ({"surface": put(np.ones((40, 2)), (3, 1), np.nan)}, "surface: row 3, column 1 holds nan"),
    "a gap in confidence": ({"confidence": put(np.ones(40), 3, np.inf)}, "confidence: row 3, column 0 holds inf"),
    "few problems for a surface": (
        {"activations": np.ones((12, 2)), "labels": np.arange(12) % 2, "surface": np.ones(12)},
        "surface: 12 problems",
    ),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_named(name, tmp_path):
    changes, message = BAD_ARRAYS[name]
    np.savez(tmp_path / "bad.npz", **arrays(**changes))
    refused(message, "probes", tmp_path / "bad.npz")


def refused(message: str, *arguments) -> None:
    """One line that names the file, which the command line ends with, at exit status 2."""
    with pytest.raises(CodiBenchError, match=message) as caught:
        CliRunner().invoke(app, ["audit", *map(str, arguments)], catch_exceptions=False)
    assert "\n" not in str(caught.value) and str(arguments[1]) in str(caught.value)


def test_a_python_list_with_a_missing_group_is_refused():
    with pytest.raises(InputError, match="groups: row 4 is missing"):
        probes(**arrays(groups=["a", "b", "c", "d", None] * 8))
    with pytest.raises(InputError, match="permutations must be a whole number, at least 99, got 20"):
        probes(**arrays(), permutations=20)


def test_files_that_are_no_arrays_are_named(tmp_path):
    np.savez(tmp_path / "pickled.npz", **arrays(groups=np.array(["a", 1] * 20, object)))
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    np.savez(tmp_path / "other.npz", acts=np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK no zip")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    messages = {
        "pickled.npz": "groups: cannot be read .* write it as an array of numbers",
        "one.npz": "holds one array without a name",
        "other.npz": "activations: no such array, there are acts",
        "broken.npz": "cannot be read",
        "broken.safetensors": "cannot be read",
        "missing.npz": "no such file",
        "missing.safetensors": "no such file",
        "a.pkl": "suffix '.pkl'; give an .npz",
    }
    for name, message in messages.items():
        refused(message, "probes", tmp_path / name)


HEAD = "problem,condition,right\n"
GOOD = HEAD + "1,clean,1\n1,zero,0\n2,clean,0\n2,zero,1\n"
BAD_TABLES = {
    "a missing cell": (GOOD.replace("2,clean,0", "2,clean,"), "line 4: right is missing; fill"),
    "a missing name": (GOOD.replace("2,clean,0", ",clean,0"), "line 4: problem is missing"),
    "a row that is short": (GOOD.replace("2,clean,0", "2,clean"), "line 4: has 2 cells, the head has 3"),
    "a duplicate": (GOOD + "1,zero,0\n", "line 6: problem 1, condition zero is there twice, first in line 3"),
    "an outcome that is neither": (GOOD.replace("2,clean,0", "2,clean,2"), "line 4: right is '2', neither 0 nor 1; write"),
    "a problem without a condition": (HEAD + "1,clean,1\n1,zero,0\n2,clean,0\n", "problem 2: has no row for the condition zero"),
    "no clean condition": (GOOD.replace("clean", "plain"), r"none is called clean or baseline .*\(plain, zero\); give --clean"),
    "two clean conditions": (GOOD.replace("zero", "baseline"), "two are called clean or baseline"),
    "no such column": (GOOD.replace("right", "correct"), "right: no such column, there are problem, condition, correct"),
    "a column twice": (GOOD.replace("condition", "right"), "line 1: the columns problem, right, right are not all different"),
    "no rows": (HEAD, "holds no rows"),
    "nothing": ("", "holds no rows"),
    "two groups of a problem": ("problem,condition,right,group\n1,clean,1,a\n1,zero,1,b\n", "line 3: group of problem 1 is b"),
    "a missing group": ("problem,condition,right,group\n1,clean,1,a\n1,zero,1,\n", "line 3: group is missing"),
    "a duplicate of a model": (
        "problem,condition,right,model\n1,clean,1,a\n1,clean,1,b\n1,clean,0,b\n",
        "line 4: problem 1, condition clean, model b is there twice",
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_tables_that_do_not_fit_are_named(name, tmp_path):
    text, message = BAD_TABLES[name]
    (tmp_path / "bad.csv").write_text(text)
    refused(message, "outcomes", tmp_path / "bad.csv")


def test_other_tables_that_do_not_fit_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"problem": 1, "condition": "clean", "right": true}\n{"problem": 2,\n')
    (tmp_path / "b.jsonl").write_text(
        '{"problem": 1, "condition": "clean", "right": true}\n{"problem": 2, "condition": "clean"}\n'
    )
    (tmp_path / "c.csv").write_bytes(b"problem,condition,right\n\xff,clean,1\n")
    (tmp_path / "d.parquet").write_bytes(b"nothing")
    (tmp_path / "e.csv").write_text(GOOD)
    refused("line 2: is not JSON", "outcomes", tmp_path / "a.jsonl")
    refused("line 2: right is missing", "outcomes", tmp_path / "b.jsonl")
    refused("cannot be read", "outcomes", tmp_path / "c.csv")
    refused("cannot be read", "outcomes", tmp_path / "d.parquet")
    refused("no such file", "outcomes", tmp_path / "f.csv")
    refused("suffix '.xlsx'", "outcomes", tmp_path / "f.xlsx")
    refused(r"'raw' is none of the conditions \(clean, zero\)", "outcomes", tmp_path / "e.csv", "--clean", "raw")
    refused(
        "--figure .*: ends in '.txt'; give a file that ends in .svg or .png",
        "outcomes",
        tmp_path / "e.csv",
        "--figure",
        tmp_path / "e.csv.txt",
    )


def test_bad_input_ends_with_one_line_and_status_2(tmp_path, capsys, monkeypatch):
    from codi_bench.cli import main

    (tmp_path / "bad.csv").write_text(BAD_TABLES["a duplicate"][0])
    monkeypatch.setattr("sys.argv", ["codi-bench", "audit", "outcomes", str(tmp_path / "bad.csv")])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "bad.csv: line 6" in said.err


# The command


def test_json_and_figure_hold_what_is_printed(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays(ids=np.arange(40)))
    (tmp_path / "a.csv").write_text(GOOD)
    for kind, file, options in (("probes", "a.npz", ["--permutations", "99"]), ("outcomes", "a.csv", [])):
        figure = tmp_path / f"{kind}.svg"
        said = json.loads(command(kind, tmp_path / file, *options, "--json", "--figure", figure))
        text = command(kind, tmp_path / file, *options)
        assert (said["schema"], said["kind"], said["status"], said["source"]) == (1, kind, "ok", file)
        assert " ".join(said["sentence"].split()) in " ".join(text.split()) and fits_a_terminal(text)
        svg = figure.read_text()
        assert svg.startswith("<svg") and said["sentence"].split()[0] in svg
