"""What fuzzing found, by name: each file is refused in one line that says where, and the doors end with it.

What the one reader of JSON refuses is proved on baseline files; of other files what is their own, and that they are read by it.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest
from damage import at_place

from codi_bench.cli import main
from codi_bench.errors import CodiBenchError
from codi_bench.models.loading import load
from codi_bench.records.baseline import load_baseline
from codi_bench.records.results import Row, write_results
from codi_bench.store.files import package_folder

DEEP, LONG = "[" * 5000 + "]" * 5000, "9" * 400
MODEL = "gpt2-mini"


def changed(path: Path, *place, to, twice: bool = False) -> None:
    """Write a file anew with another thing at one place, given as JSON text; twice: beside the one that is there."""
    held = json.loads(path.read_text())
    *where, key = place
    at_place(held, where)[key + " again" if twice else key] = "<to>"
    path.write_text(json.dumps(held).replace('"<to>"', to).replace(f'"{key} again"', f'"{key}"'))


# --- baseline files --------------------------------------------------------------------------------------------------

ACCURACY = ("recorded", 0, "metrics", "accuracy")
REPORTED = {"case": "other-list", "value": 0.4, "unit": "fraction", "protocol": "p", "source": "s", "place": "t"}


def reported(**more) -> tuple[tuple[str], str]:
    return ("reported",), json.dumps({"accuracy": REPORTED | more})


BASELINES = {
    "nested without end": (("recorded",), DEEP, "recursion limit"),
    "a tolerance that passes everything": (("tolerance", "deterministic"), "Infinity", "Infinity is not a finite number"),
    "a number that overflows": (("tolerance", "device"), "1e400", "1e400 is not a finite number"),
    "a number of 400 digits": ((*ACCURACY, "decide"), LONG, "is not a finite number"),
    "not a number": ((*ACCURACY, "low"), "NaN", "NaN is not a finite number"),
    "a truth for a number": ((*ACCURACY, "high"), "true", "accuracy.high: Input should be a valid number"),
    "text for a number": ((*ACCURACY, "value"), '"0.516"', "accuracy.value: Input should be a valid number"),
    "a word that is no verdict": ((*ACCURACY, "verdict"), '"FINE"', "accuracy.verdict: Input should be"),
    "outcomes that are no bits": ((*ACCURACY, "outcomes"), '"bits"', "holds 24 bits, but n is 1000"),
    "outcomes of another number": ((*ACCURACY, "value"), "0.517", "accuracy: Value error, value is 0.517, but"),
    "a field twice": (("recorded", 0, "weights"), '"w"', "'weights': occurs twice"),
    "half a character": (("recorded", 0, "reason"), '"\\ud800"', "the file: Invalid JSON"),
    "a name that breaks lines": (("recorded", 0, "a\nb"), "0", "recorded.0.a b: Extra inputs"),
    "another claim that breaks lines": (("claim",), '"a\\nb"', r"say 'gpt2-mini' and 'a\nb'"),
    "a published range without ends": (*reported(case="stated-range"), "a stated range needs low and high"),
    "a published range upside down": (*reported(case="stated-range", low=0.5, high=0.4), "a stated range needs low and high"),
    "nothing published": (*reported(value=None), "the case other-list needs a value"),
    "percent for a fraction": (*reported(value=43.7), "a number in the unit fraction is at most 1"),
}


@pytest.fixture
def baselines(tmp_path):
    """A copy of the package's baselines that a test may damage."""
    return Path(shutil.copytree(package_folder("baselines"), tmp_path / "baselines"))


@pytest.mark.parametrize("what", BASELINES)
def test_a_baseline_file_is_refused_by_its_field(baselines, what):
    place, to, message = BASELINES[what]
    path = baselines / MODEL / "task-accuracy.json"
    changed(path, *place, to=to, twice="twice" in what)
    with pytest.raises(CodiBenchError) as caught:
        load_baseline(baselines, MODEL, "task-accuracy")
    said = str(caught.value)
    assert said.startswith(f"{path}: ") and message in said and len(said.splitlines()) == 1


CONTRADICTIONS = {
    "size": (lambda held: held["recorded"].append(held["recorded"][0]), "recorded.1 has the same environment as an earlier"),
    "ablation": (
        lambda held: held["recorded"][0]["metrics"]["drop_0"].update(value=-1.0),
        "recorded.0: Value error, metrics.drop_1: value and outcomes are not those of a drop",
    ),
}


@pytest.mark.parametrize("claim", CONTRADICTIONS)
def test_of_two_that_contradict_each_other_neither_is_chosen(baselines, claim):
    damage, message = CONTRADICTIONS[claim]
    path = baselines / MODEL / f"{claim}.json"
    held = json.loads(path.read_text())
    held["recorded"] = held["recorded"][:1]
    damage(held)
    path.write_text(json.dumps(held))
    with pytest.raises(CodiBenchError, match=message):
        load_baseline(baselines, MODEL, claim)


# --- results files ---------------------------------------------------------------------------------------------------

RESULTS = {
    "a number without end": (("rows", 0, "measured", "value"), "1e400", "rows.0.measured.value"),
    "a word that is no verdict": (("rows", 0, "validity"), '"FINE"', "rows.0.validity: Input should be 'SUPPORTED'"),
    "a grid that is none": (("rows", 0, "detail", "grid"), "[0.5]", "rows.0.detail.grid.0: Input should be a valid array"),
    "a pass without a number": (("rows", 0, "measured"), "null", "rows.0: is SAME, with status ok and no measured number"),
    "a pass that is not a number": (("rows", 0, "measured", "value"), "NaN", "rows.0: is SAME, with status ok and no measured"),
    "a blocked pass": (("rows", 0, "status"), '"blocked"', "rows.0: is SAME, with status blocked and no measured number"),
    "one number twice": (("rows", 1, "metric"), '"layers"', "rows.1: is the same number as rows.0"),
    "claims that are none": (("environment", "claims"), '{"size": 3}', "environment.claims.size: Input should be an object"),
    "a winner without a difference": (("environment", "winners"), '{"a": {}}', "environment.winners.a.claim: Field required"),
}


@pytest.fixture
def results(tmp_path):
    given = {"unit": "count", "n": 1, "measured": {"value": 4}, "recorded": {"value": 4}, "regression": "SAME"}
    rows = [Row("size", MODEL, metric, "reported", "ok", **given) for metric in ("layers", "width")]
    write_results(tmp_path / "results.json", {"device": "cpu"}, rows)
    return tmp_path / "results.json"


def command(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    """A command as a user runs it: exit status, what it prints and what it complains about."""
    monkeypatch.setattr(sys, "argv", ["codi-bench", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr()
    return stopped.value.code or 0, said.out, said.err


@pytest.mark.parametrize("what", RESULTS)
def test_a_results_file_is_refused_by_its_field(results, what, monkeypatch, capsys):
    place, to, message = RESULTS[what]
    changed(results, *place, to=to)
    for arguments in (("report", results), ("report", results, results), ("history", results)):
        status, out, err = command(monkeypatch, capsys, *arguments)
        assert (status, out) == (2, "") and message in err and err.startswith(f"codi-bench: {results}: not a results file (")
        assert len(err.splitlines()) == 1 and [path.name for path in results.parent.iterdir()] == [results.name]


# --- problem files ---------------------------------------------------------------------------------------------------


# --- checkpoints: tests/test_checkpoint.py ---------------------------------------------------------------------------


def test_how_a_library_hands_results_over_is_no_property_of_a_model(tiny_folders, tmp_path):
    folder = Path(shutil.copytree(tiny_folders["gpt2"], tmp_path / "mine"))
    changed(folder / "config.json", "return_dict", to="false")
    question = ["Mia has 7 apples ."]
    answers = [load(each, device="cpu").answer(question, max_new_tokens=4).tokens for each in (folder, tiny_folders["gpt2"])]
    assert answers[0] == answers[1]
