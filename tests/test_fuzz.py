"""Fuzzing of every file that people and machines hand in: only our own errors, in one line that names it, and never a pass."""

from __future__ import annotations

import copy
import csv
import json
import math
from dataclasses import asdict

import pytest
from damage import LAWFUL, at_place, cases, changed_often, damaged, places, read, scalars, text_of
from hypothesis import assume, given
from hypothesis import strategies as st
from test_figures import ALL, ROWS

from codi_bench.records.baseline import load_baseline, pack_bits, unpack_bits
from codi_bench.records.changes import changes
from codi_bench.records.extras import NOISE, noise_figures
from codi_bench.records.proposals import read_proposals
from codi_bench.records.results import OK, Row, finite, read_results
from codi_bench.report import figures, history_text, plots
from codi_bench.report.differences import markdown, terminal
from codi_bench.report.history import read_history
from codi_bench.report.proposals import terminal as proposed
from codi_bench.report.render import render
from codi_bench.report.runs import read_run
from codi_bench.report.side_by_side import compare
from codi_bench.store.files import package_folder
from codi_bench.suite import progress

MODEL, CLAIM, DROPS = "gpt2-mini", "sae-error-prediction", "ablation"
HELD = {  # baselines with outcomes, values, nulls, cells and words, and a published number
    claim: json.loads((package_folder("baselines") / MODEL / f"{claim}.json").read_text())
    | {"reported": json.loads((package_folder("baselines") / "gpt2" / f"{claim}.json").read_text())["reported"]}
    for claim in (CLAIM, DROPS)
}
TOLD = {"low", "high", "null", "decide", "fragile"}  # of a record: judged by no rule, and shown by `baselines diff`
NOT_COMPARED = ("environment", "date", "reason", "code")
ROUNDING = 2e-6  # twice the deterministic tolerance


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all cases: each writes its own file anew."""
    return tmp_path_factory.mktemp("fuzz")


# --- baseline files --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def baseline(folder):
    """A function (claim, data) → the baseline that these bytes are, None if they are refused."""
    (folder / "baselines" / MODEL).mkdir(parents=True)

    def load(claim, data):
        path = folder / "baselines" / MODEL / f"{claim}.json"
        path.write_bytes(data)
        return read(lambda: load_baseline(folder / "baselines", MODEL, claim), path)

    return load


def red(before, now) -> list[str]:
    """Why a record measured now is not as recorded, by the one rule of the suite and of `baselines diff`."""
    found = changes(before, now)
    if found.held is None:
        return ["nothing is recorded"]
    return [*found.inputs, *(f"{move.name}: {move.why}" for move in found.moves if move.word != "SAME")]


@cases(250)
@given(damaged(HELD[CLAIM]))
def test_a_damaged_baseline_is_refused_or_makes_red_whatever_it_changed(baseline, data):
    now, found = baseline(CLAIM, text_of(HELD[CLAIM])).recorded[0], baseline(CLAIM, data)
    if found is None or red(found, now):
        return
    held, same = found.nearest(now.environment)
    for field in ("protocols", "seeds", "weights", "problems"):
        assert getattr(held, field) == getattr(now, field)
    assert held.metrics.keys() == now.metrics.keys() and found.tolerance.keys() <= held.metrics.keys()
    for name, old in held.metrics.items():
        new, tolerance = now.metrics[name], found.tolerance[name]
        assert (old.n, old.unit) == (new.n, new.unit) and (old.verdict == new.verdict or old.fragile)
        if same:
            assert old.cell == new.cell and (None in (old.outcomes, new.outcomes) or bits_of(old) == bits_of(new))
        if same or tolerance.kind == "value":
            allowed = tolerance.deterministic if same else tolerance.device
            assert math.isfinite(allowed) and abs(old.value - new.value) <= allowed


def bits_of(number) -> list[bool]:
    return unpack_bits(number.outcomes, number.n).tolist()


@pytest.mark.parametrize(("claim", "device"), [(CLAIM, "cpu"), (DROPS, "another")])
@cases(250)
@given(st.data())
def test_no_single_recorded_thing_can_be_changed_unseen(baseline, claim, device, data):
    """Refused, or red, or, where no rule judges it (an interval, a null), listed by `baselines diff`.

    On another device a cell may move, and a float by its tolerance; a number that has outcomes may not.
    """
    held, sound = copy.deepcopy(HELD[claim]), baseline(claim, text_of(HELD[claim]))
    now = sound.recorded[0].model_copy(
        update={"environment": sound.recorded[0].environment.model_copy(update={"device": device})}
    )
    compared = [each for each in places(held["recorded"][0])[1:] if each[0] not in NOT_COMPARED]
    *where, key = ("recorded", 0, *data.draw(st.sampled_from(compared)))
    old = at_place(held, where)[key]
    new = data.draw(scalars | (st.floats(-20, 20) if isinstance(old, int | float) else st.text(max_size=8)))
    if isinstance(old, int | float) and isinstance(new, int | float):
        tolerance = sound.tolerance.get(where[3] if key == "value" else "")
        allowed = max(ROUNDING, getattr(tolerance, "deterministic" if device == "cpu" else "device", 0))
        assume(not old - allowed <= new <= old + allowed)
    at_place(held, where)[key] = new
    found = baseline(claim, text_of(held))
    if found is not None and found != sound and not red(found, now):
        (listed,) = changes(found, now).listed
        told = {
            *TOLD,
            *(["verdict"] if at_place(held, where).get("fragile") is True else []),
            *(["cell"] if device != "cpu" else []),
        }
        assert listed.name == where[3] and {*where[4:], key} & told


# --- results files ---------------------------------------------------------------------------------------------------

CLAIMS = {"probe-accuracy": "value", "spread": "even", CLAIM: "exists", "ablation": "location", "task-accuracy": "value"}
WINNER = {"claim": "task-accuracy", "metric": "accuracy", "unit": "fraction", "models": ["a", "b"], "winner": "a", "p": 0.01}
RESULTS = {
    "schema": 1,
    "environment": {
        **{"date": "2026-01-02T03:04:05+00:00", "device": "cpu", "instructions": "AVX2", "torch": "2.13.0", "dtype": "float32"},
        **{"options": "--n 9", "families": 3, "noise": {"text": "noise reads"}, "devices": {"mini": "cpu float32"}},
        "inputs": {"mini": {"weights": "w" * 8, "problems": "p" * 8}},
        "layers": {"mini": [4, 8], "gpt2": [4, 8, 11]},
        "claims": {
            name: {"position": i, "family": name, "kind": kind, "sentence": "so", "source": "§", "protocol": "a", "sound": "b"}
            for i, (name, kind) in enumerate(CLAIMS.items())
        },
        "winners": {"a / b": {**WINNER, "difference": {"value": 0.1, "low": 0.0, "high": None}, "test": "McNemar"}},
    },
    "rows": [
        asdict(row)
        for row in (
            *ROWS,
            Row("ablation", "mini", "drop_5", "sound", "blocked", reason="why", regression="DRIFTED", recorded={"value": 1.0}),
            Row("size", "mini", "-", "reported", "not-run", reason="not asked"),
            Row(
                *("probe-by-layer", "mini", "mean_L8", "reported", OK, "fraction", 100),
                **{"measured": {"value": 0.5}, "recorded": {"value": 0.5}, "regression": "SAME", "seeds": {"fold": 0}},
                cell={"layer": 8, "latent_pos": 2},
            ),
            Row(
                *("task-accuracy", "gpt2", "accuracy", "reported", OK, "fraction", 16, {"value": 0.4}, {"value": 0.5}),
                **{"reproduction": "INCONCLUSIVE", "regression": "DRIFTED", "validity": "REFUTED", "reason": "moved"},
                detail={"outcomes": pack_bits([True, False] * 8), "problems": "p", "decide": 300, "fragile": True},
            ),
        )
    ],
}
RESULTS = json.loads(json.dumps(RESULTS))


@pytest.fixture(scope="module")
def runs(folder):
    """The path of the file that a case writes, and a sound one beside it."""
    paths = folder / "runs" / "a.json", folder / "runs" / "b.json"
    paths[0].parent.mkdir()
    paths[1].write_bytes(text_of(RESULTS))
    assert read_results(paths[1])[1]
    return paths


def undrawn(patch):
    """Figures are planned and told, and not drawn: that takes seconds, and has its own test."""
    for module in (plots, history_text):
        patch.setattr(module, "picture", lambda *_: ("<svg></svg>", b""))


@cases(150)
@given(damaged(RESULTS))
def test_a_damaged_results_file_is_refused_or_drawn_compared_and_followed(runs, data):
    path, other = runs
    path.write_bytes(data)
    found = read(lambda: read_results(path), path)
    if found is None:
        return
    with pytest.MonkeyPatch.context() as patch:
        undrawn(patch)
        render(found[1], found[0], path.parent / "report")
        for pair in ((path, other), (other, path)):
            both = read(lambda pair=pair: compare([read_run(each) for each in pair]), path)
            assert both is None or (terminal(both) and markdown(both))
        followed = read_history([other, path], package_folder("baselines"))
        assert history_text.terminal(followed) and history_text.write_history(followed, path.parent / "history")
    with open(path.parent / "report" / "report.csv", encoding="utf-8", newline="") as written:
        for line in csv.DictReader(written):
            if line["status"] != OK or finite(float(line["measured"] or "nan")) is None:
                assert line["regression"] != "SAME" and not line["validity"] and not line["reproduction"]


@cases(25)
@given(changed_often(RESULTS, kinds=LAWFUL), st.sampled_from(ALL))
def test_what_is_read_can_be_drawn(runs, held, name):
    path, _ = runs
    path.write_bytes(text_of(held))
    found = read(lambda: read_results(path), path)
    for drawn in figures.figures(*reversed(found), only=(name,)) if found else ():
        assert drawn.svg.startswith("<svg") and drawn.png


# --- proposals and what lies beside the baselines --------------------------------------------------------------------

NOISE_FILE = {"cases": {"width 768": {"means": {"reads": 0.948}, "draws": 400}}}


@pytest.fixture(scope="module")
def suite(folder):
    """Folders of a run and of baselines: what was proposed and what lies beside is written there by each case."""
    files = {
        "baseline": folder / "held" / MODEL / f"{CLAIM}.json",
        "proposal": folder / "run" / "proposals" / MODEL / f"{CLAIM}.json",
        "noise": (folder / "held").joinpath(*NOISE),
        "timings": folder / "cache" / progress.COLD,
    }
    for path in files.values():
        path.parent.mkdir(parents=True)
    files["baseline"].write_bytes(text_of(HELD[CLAIM]))
    return files


@cases(250)
@given(damaged(HELD[CLAIM]["recorded"][0]))
def test_a_damaged_proposal_is_refused_or_shown(suite, data):
    files = suite
    files["proposal"].write_bytes(data)
    found = read(lambda: read_proposals(files["proposal"].parents[2], files["baseline"].parents[1]), files["proposal"])
    if found is not None:
        assert proposed([each.changes for each in found[0]], everything=True)


@cases(150)
@given(damaged(NOISE_FILE))
def test_damaged_noise_is_refused_or_told(suite, data):
    suite["noise"].write_bytes(data)
    found = read(lambda: noise_figures(suite["baseline"].parents[1]), suite["noise"])
    assert found is None or found["text"].encode().startswith(b"On pure noise")


@cases(150)
@given(damaged({"size on gpt2-mini": 1.5, "spread on mine": 20}))
def test_damaged_timings_count_as_none(suite, data):
    suite["timings"].write_bytes(data)
    known = progress.load_timings(suite["timings"].parent)
    assert progress.Schedule(list(known), known).says().startswith(f"{len(known)} to go")
    progress.save_timings(suite["timings"].parent, {"size on gpt2-mini": 2.0})
