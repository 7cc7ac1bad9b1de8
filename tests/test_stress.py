"""Kills and repeated runs, in short: the drivers of benchmarks/stress on small work, their eyes, and the committed records.

The full run is `pytest benchmarks/stress -m stress`.
"""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damage import at_place

from benchmarks.stress import kills, repeats, writer
from benchmarks.stress.door import RESULTS, Door
from benchmarks.stress.kills import on_tiny, store_kills, tiny_kills
from benchmarks.stress.records import LEAST, folder, lines, met, write_record
from benchmarks.stress.repeats import SETTINGS, Setting, compare
from benchmarks.stress.tiny import write_tiny
from codi_bench.claims import CLAIMS
from codi_bench.claims.claim import STUDY
from codi_bench.models.loading import load
from codi_bench.problems import generate, parse_number
from codi_bench.records.baseline import Baseline
from codi_bench.store.arrays import read_sealed, seal, write_arrays
from codi_bench.store.cache import Store, entries
from codi_bench.store.files import write_text
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import measure_claim
from codi_bench.suite.problem_source import ProblemSource

DOCS = Path(__file__).parent.parent / "docs" / "baselines.md"
CHEAP = ("task-accuracy", "size")


# Kills


def test_a_killed_writer_leaves_nothing_or_good_entries(tmp_path):
    found = store_kills(tmp_path, 4)
    assert found["kills"] == 4 and found["entries read back"] and not found["faults"]


def test_a_run_killed_while_files_are_written_ends_with_the_same_results(tmp_path):
    found = tiny_kills(tmp_path, 1, ("an entry", "results.json"), CHEAP)
    assert not found["faults"] and found["resumed to the end with identical results"] == 1
    assert found["kills"] == 2
    steps = {path.name: path.read_text() for path in tmp_path.rglob("*.json") if path.parent.name == "tiny"}
    assert tiny_kills(tmp_path, 1, ("an entry", "results.json"), CHEAP) == found  # kept, not done again
    assert {path.name: path.read_text() for path in tmp_path.rglob("*.json") if path.parent.name == "tiny"} == steps


# What the drivers must see


def test_an_entry_that_is_not_what_it_must_be_is_seen(tmp_path):
    for number in (1, 3):
        writer.fetch(Store(tmp_path, writer.BOUND), number)
    assert kills._read_back(tmp_path) == (2, [])
    first, second = (entry.path for entry in entries(tmp_path))
    first.write_bytes(first.read_bytes()[:-1])
    other = Store(tmp_path / "other")
    other.fetch(writer.key(3), lambda: {"large": writer.wanted(5)[:50], "number": np.array([3])})
    second.write_bytes(entries(other.folder)[0].path.read_bytes())
    count, (cut, wrong) = kills._read_back(tmp_path)
    assert count == 2 and first.name in cut and f"{second.name} is read as good and is not" == wrong


@pytest.fixture
def door(tmp_path):
    """A run that left results, a page, and two entries."""
    for name in (RESULTS, "report/report.html"):
        write_text(tmp_path / "run" / name, f"{name} of 2026-01-01T00:00:00+00:00")
    for k in range(2):
        Store(tmp_path / "run" / "cache" / "store").fetch({"k": k}, lambda: {"a": np.arange(5), "b": np.zeros((2, 3))})
    return Door(tmp_path / "run", ())


@pytest.mark.parametrize("name", [RESULTS, "report/report.html"])
def test_a_file_that_is_cut_is_seen_and_one_of_another_date_is_not(door, name):
    wanted = {"files": door.files(), "exit": 0}
    path = door.folder / name
    whole = path.read_text()
    assert len(wanted["files"]) == 4 and not kills._damaged(door, wanted)
    path.write_text(whole.replace("2026-01-01", "2027-02-02"))
    assert not kills._damaged(door, wanted)
    path.write_text(whole[:-1])
    assert kills._damaged(door, wanted) == [f"{path} is damaged"]
    path.unlink()
    assert not kills._damaged(door, wanted)  # not there yet
    (door.folder / "report" / ".results.json.half").write_text(whole[:5])
    assert not kills._damaged(door, wanted) and door.halves("results.json") and not door.halves("an entry")


@pytest.mark.parametrize("change", ["cut", "another number", "another shape", "another order of the header"])
def test_an_entry_that_is_cut_or_another_is_seen(door, change):
    wanted = {"files": door.files()}
    path = entries(door.folder / "cache" / "store")[0].path
    metadata, arrays = read_sealed(path, {})
    data = path.read_bytes()
    if change == "cut":
        path.write_bytes(data[:-1])
    elif change == "another order of the header":  # safetensors writes its metadata in any order
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        turned = {"__metadata__": dict(reversed(header.pop("__metadata__").items())), **header}
        path.write_bytes(data[:8] + json.dumps(turned, separators=(",", ":")).encode().ljust(end - 8) + data[end:])
        seal(path)
    else:
        other = arrays["b"] + 1 if change == "another number" else arrays["b"].reshape(3, 2)
        write_arrays(path, {"a": np.array(arrays["a"]), "b": np.array(other)}, metadata)
    same = change == "another order of the header"
    assert path.read_bytes() != data and kills._damaged(door, wanted) == ([] if same else [f"{path} is damaged"])


def test_results_from_before_may_stand_after_a_kill_and_not_at_the_end(door, monkeypatch):
    wanted = {"files": door.files(), "exit": 0}
    (door.folder / RESULTS).write_text(kills.OLD)
    assert not kills._damaged(door, wanted)
    monkeypatch.setattr(Door, "run", lambda door: {"exit": 1})
    said = [f"{door.folder}: exit 1 after kills", f"{door.folder / RESULTS} is another after kills"]
    assert kills._end(door, wanted)["faults"] == said


# Repeated runs


def test_order_batch_size_and_threads_change_no_number(tmp_path):
    found = repeats.repeats(tmp_path, (Setting(64, 2), Setting(1, 1)), on_tiny(tmp_path, CHEAP))
    assert not found["faults"] and found["tests"] == 2 and found["identical"] == found["rows"] == 8


@pytest.fixture(scope="module")
def half_right(tmp_path_factory):
    """A tiny model, and 170 problems of which it answers about half rightly: what it says itself is taken for right there."""
    model = load(write_tiny("gpt2", tmp_path_factory.mktemp("half") / "tiny"), device="cpu")
    problems = generate(170, seed=3)
    texts = model.answer([problem.question for problem in problems], num_latents=5, max_new_tokens=2).texts
    numbers = {i: number for i, text in enumerate(texts) if (number := parse_number(text)) is not None}
    return model, tuple(replace(p, answer=str(int(numbers[i]))) if i in numbers else p for i, p in enumerate(problems))


def test_neither_batch_size_nor_order_change_a_byte_of_the_study(half_right, tmp_path):
    """Of 120 problems; the others give means and donors."""
    model, problems = half_right
    study = [claim.id for claim in CLAIMS.values() if claim.suite == STUDY]

    def measured(names, batch_size):
        store, source = Store(tmp_path / str(batch_size)), ProblemSource(problems, 120)
        bench = ModelBench(model, store, source, batch_size, max_new_tokens=2, permutations=199)
        outcomes = [measure_claim(bench, CLAIMS[name], Baseline(schema=1, model="tiny", claim=name)) for name in names]
        blocked = {line.partition(":")[0] for outcome in outcomes for line in outcome.lines}
        assert blocked == {"nothing to lose"}  # one constant answer is right more often than this model
        return {row.key: json.dumps([row.measured, row.null, row.validity, row.cell]) for out in outcomes for row in out.rows}

    first = measured(study, 64)
    assert len(first) > 60
    assert measured(study[::-1], 7) == first
    assert measured(study[5:] + study[:5], 1) == first


def test_the_settings_are_those_that_must_hold():
    anew = [setting for setting in SETTINGS if setting.cache != "full"]
    assert len(anew) >= 10 and {(s.batch_size, s.threads) for s in anew} == {(b, t) for b in (1, 16, 64) for t in (1, 2)}
    assert 4 in {setting.workers for setting in anew}


ROW = {"claim": "size", "model": "gpt2-mini", "metric": "layers", "protocol": "reported", "status": "ok", "validity": "SUPPORTED"}
ROW |= {"cell": {"layer": 2, "latent_pos": None}, "measured": {"value": 4.0, "low": None, "high": None}, "null": None}
ROW |= {"reason": "as it was", "detail": {"outcomes": "AA==", "grid": [1.0, 2.0], "validity": "p = 0.01"}}


def changed(*path, to) -> dict:
    row = copy.deepcopy(ROW)
    at_place(row, path[:-1])[path[-1]] = to
    return row


@pytest.mark.parametrize(
    ("place", "to", "said"),
    [
        ("validity", "REFUTED", "validity was SUPPORTED and is REFUTED"),
        ("status", "blocked", "status was ok"),
        ("cell layer", 3, "cell.layer was 2 and is 3"),
        ("measured value", 4.1, "measured.value was 4.0 and is 4.1"),
        ("measured value", float("nan"), "measured.value"),
        ("measured", None, "only one run has measured.value"),
        ("null", {"value": 1.0}, "only one run has null.value"),
        ("detail outcomes", "AQ==", "detail.outcomes"),
        ("detail grid", [1.0], "only one run has detail.grid.1"),
        ("metric", "width", "only one run has it"),
    ],
)
def test_a_row_that_differs_is_seen(place, to, said):
    found = compare([ROW], [changed(*place.split(), to=to)])
    assert any(said in fault for fault in found.faults) and found.identical == 0


def test_what_may_differ_is_told():
    width, moved = changed("metric", to="width"), changed("measured", "value", to=4 + 1e-9)
    found = compare([ROW, width], [width, moved])
    assert not found.faults and (found.rows, found.identical) == (2, 1) and found.largest == pytest.approx(1e-9)
    for row in (changed("reason", to="now"), changed("detail", "validity", to="p = 0.02")):
        assert not compare([ROW], [row]).faults
    assert compare([ROW], [changed("detail", "grid", to=[1.0, 2.5])]) == repeats.Compared(1, 0, 0.0, 0.5, [])


# The records, and what the docs print of them

PART = {"seconds": 1.0, "kills": 99, "while a file was written": 99, "faults": []} | LEAST["repeats"]["embedded pair"]


def test_too_few_kills_or_any_fault_meet_no_bar(tmp_path):
    whole = {part: PART for part in LEAST["kills"]}
    assert met("kills", whole) and not met("kills", {**whole, "store": {**PART, "kills": 19}})
    assert not met("kills", {**whole, "tiny model": {**PART, "while a file was written": 9}})
    assert not met("kills", {**whole, "store": {**PART, "faults": ["damaged"]}}) and not met("kills", {"store": PART})
    assert sum(least["kills"] for least in LEAST["kills"].values()) >= 50
    record = write_record(tmp_path, "repeats", {"embedded pair": PART})
    assert record["met"] and json.loads((tmp_path / "repeats.json").read_text()) == record


@pytest.mark.parametrize("name", LEAST)
def test_the_committed_record_meets_its_bars_and_the_docs_print_it(name):
    path = folder() / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"NO RECORD of {name} yet: tox -e stress goes on with it")
    record = json.loads(path.read_text())
    assert record["met"] is met(name, record["parts"]) is True and record["least"] == LEAST[name]
    printed = DOCS.read_text().splitlines()
    assert [line for line in lines(record) if line not in printed] == []
    assert {path.stem for path in folder().glob("*.json")} <= LEAST.keys()
