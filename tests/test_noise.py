"""What is measured of noise, and the tolerances that follow: planted moves, planted flips, and runs of a claim that is quick."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from codi_bench.audits.ablation import Sweep
from codi_bench.claims import CLAIMS
from codi_bench.claims.ablations import controls, main_conditions, sweep
from codi_bench.claims.claim import done
from codi_bench.claims.first_study.ablation import without_token
from codi_bench.cli import app
from codi_bench.errors import CodiBenchError
from codi_bench.records import tolerance as noise
from codi_bench.records.baseline import (
    Baseline,
    Environment,
    Noise,
    Record,
    Recorded,
    Tolerance,
    load_baseline,
    pack_bits,
    save_baseline,
)
from codi_bench.records.results import OK, Row
from codi_bench.records.tolerance import NoiseMove, carry_over, change, noise_move, noise_of, tolerance_of, words_of
from codi_bench.rules.stats import stream
from codi_bench.suite import calibration
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import accept, judge, word_of
from codi_bench.suite.suite import Suite

HERE = Environment(device="cpu", instructions="AVX2", torch="2.13", dtype="float32")
PLAIN = Recorded(value=0.5, unit="fraction", n=400, verdict="SUPPORTED")
BITS = np.arange(100) < 60
COUNTED = Recorded(value=0.6, unit="fraction", n=100, outcomes=pack_bits(BITS))


def away(name, *differences, word="SUPPORTED"):
    return [NoiseMove(name, f"{name} {i}", difference, word=word) for i, difference in enumerate(differences)]


# Pure rules


@pytest.mark.parametrize(
    ("fields", "versions", "component", "words"),
    [
        ({"device": "H100", "torch": "2.14"}, [], "device", "H100, torch 2.14"),
        ({"dtype": "bfloat16", "instructions": "AVX512"}, [], "dtype", "AVX512, bfloat16"),
        ({"torch": "2.14"}, [], "library", "torch 2.14"),
        ({"instructions": "AVX512"}, ["transformers 5.23.0"], "library", "AVX512, transformers 5.23.0"),
        ({"instructions": "AVX512"}, [], "instructions", "AVX512"),
        ({}, [], "batch", "again"),
    ],
)
def test_a_component_is_the_widest_difference(fields, versions, component, words):
    assert change(HERE, HERE.model_copy(update=fields), versions) == (component, words)


def test_a_tolerance_is_four_spreads_of_what_differs_elsewhere():
    moves = {"instructions": (3.0, -4.0), "library": (4.0,), "seed": (10, 12, 14), "dtype": (9,), "sampling": (5, 9)}
    spread = noise_of([move for name, differences in moves.items() for move in away(name, *differences)])
    assert spread["instructions"].spread == pytest.approx(np.sqrt(12.5)) and spread["instructions"].runs == 2
    assert spread["seed"].spread == pytest.approx(2.0)  # of draws, however far from the recorded number their mean lies
    assert spread["dtype"].spread == 9 and spread["instructions"].of == "instructions 0, instructions 1"
    held = PLAIN.model_copy(update={"unit": "points"})
    found = tolerance_of(held, spread)
    assert found.device == pytest.approx(4 * np.sqrt(12.5 + 16)) and found.deterministic == 1e-6
    assert "4 times the spread of 5.3" in found.why and "instructions 0" in found.why
    assert tolerance_of(PLAIN, noise_of(away("turned", 0.1))).device == pytest.approx(0.4)


def test_as_many_answers_turn_as_in_nearly_every_night():
    found = tolerance_of(PLAIN, noise_of([*away("turned", 0.1), *away("instructions", 0.3)]), turning=5)
    assert found.device == pytest.approx(4 * np.sqrt(0.3**2 + 5 * 0.1**2)) and ", 5 times" in found.why
    assert [noise.turning(share, 1000) for share in (0, 1e-6, 0.001)] == [1, 1, 5]
    nights = np.random.default_rng(0).binomial(1000, 0.001, 20_000)
    assert (nights > noise.turning(0.001, 1000)).mean() < 0.002


@pytest.mark.parametrize(
    ("unit", "value", "least"), [("fraction", 0.5, 1 / 400), ("points", 20, 0.25), ("features", 500, 0.5), ("count", 12, 0)]
)
def test_no_tolerance_is_below_what_one_problem_moves_and_counts_are_exact(unit, value, least):
    held = Recorded(value=value, unit=unit, n=400)
    assert tolerance_of(held, noise_of(away("instructions", 1e-9 if least else 3.0))).device == pytest.approx(least)
    assert ("a count is exact" if unit == "count" else "nothing was measured elsewhere") in tolerance_of(held, {}).why


def test_outcomes_are_judged_by_themselves_and_on_the_same_problems():
    bits = pack_bits(np.arange(100) < 61)
    row = Row("c", "m", "accuracy", "reported", OK, n=100, measured={"value": 0.61}, detail={"outcomes": bits})
    found = tolerance_of(COUNTED, noise_of([noise_move(COUNTED, row, "device", "H100")]))
    assert (found.kind, found.device) == ("outcomes", 0) and "1 of 100 outcomes turned" in found.why
    with pytest.raises(CodiBenchError, match="m c accuracy: field n is 90 in the run .H100. and 100"):
        noise_move(COUNTED, replace(row, n=90), "device", "H100")


def test_words_are_those_of_other_environments_and_of_turned_answers():
    words = {"instructions": "REFUTED", "turned": "UNDERPOWERED", "dtype": "ARTEFACT", "seed": "ARTEFACT", "device": "SUPPORTED"}
    moves = [move for name, word in words.items() for move in away(name, 0.0, word=word)]
    assert words_of(PLAIN, moves) == {"REFUTED", "UNDERPOWERED"}
    assert tolerance_of(PLAIN, noise_of(moves), words_of(PLAIN, moves)).words == ("REFUTED", "UNDERPOWERED")


def test_the_share_that_turns_has_an_exact_bound():
    def flips(**fields):
        return Noise(spread=0, of="", **fields)

    still = [(COUNTED, {"device": flips(runs=3, flips=0)}), (PLAIN, {"device": flips(runs=9)})]
    assert noise.churn(still) == (0, 300, pytest.approx(1 - 0.025 ** (1 / 300)))
    turned, again, share = noise.churn([(COUNTED, {"library": flips(runs=1, flips=7)})])
    assert (turned, again) == (7, 100) and 0.13 < share < 0.15
    assert noise.churn([(COUNTED, {"dtype": flips(runs=1, flips=7)})]) == (0, 0, 1.0)


def test_words_and_kind_are_of_the_number_they_were_measured_around():
    tolerance = Tolerance(kind="value", deterministic=0, device=1, why="a test", words=("REFUTED",))
    assert carry_over(tolerance, PLAIN, PLAIN.model_copy(update={"decide": 7})).words == ("REFUTED",)
    for new in (PLAIN.model_copy(update={"value": 0.6}), PLAIN.model_copy(update={"verdict": "REFUTED"})):
        assert carry_over(tolerance, PLAIN, new).words == () and carry_over(tolerance, None, new).device == 1
    for old, new in ((COUNTED, PLAIN), (PLAIN, COUNTED), (COUNTED, COUNTED)):
        assert carry_over(tolerance_of(old, {}), old, new) == tolerance_of(new, {})


# Planted flips under the ablations


def planted(drops, n=300):
    """A plan whose one model has these drops, in fractions, at its latents."""
    rng, clean = stream(0, "planted"), np.arange(n) < 0.7 * n
    names = tuple(name for name, _ in main_conditions(len(drops)) + controls(len(drops)))
    right = np.tile(clean, (len(names), 1))
    for i, name in enumerate(names):
        place = name.split("=")[0]
        if place.isdigit():
            lost = rng.permutation(np.flatnonzero(clean))[: round(drops[int(place)] * n)]
            right[i, lost] = False
    model = SimpleNamespace(entry=SimpleNamespace(beside="gpt2"), layers=(1,), num_latents=len(drops), device="cpu", name="m")
    study = clean[:100], right[: len(drops), :100]
    memo = done({sweep: Sweep(names, right, np.zeros(right.shape)), without_token: study})
    bench = ModelBench(model, store=None, memo=memo)
    records, baselines = {}, {}
    for claim in (CLAIMS["ablation"], CLAIMS["ablation-critical"]):
        judged = judge(*claim.function(bench, {}), bench.permutations)
        numbers = {key: Recorded(value=m.value, unit=m.unit, n=m.n, verdict=word_of(m)) for key, m in judged.items()}
        baselines["m", claim.id] = Baseline(schema=1, model="m", claim=claim.id)
        records["m", claim.id] = Record(
            environment=HERE, protocols={}, seeds={}, weights="", problems="", code="", date="", reason="", metrics=numbers
        )
    return calibration.CalibrationPlan(None, {"m": bench}, baselines, records, None)


def test_turned_outcomes_change_words_near_their_threshold_and_no_others():
    plan = planted([0.25, 0.0, 0.03, 0.0, 0.0, 0.0])
    moves = calibration.ablations_turned(plan, "m", share=0.003, draws=15)
    words = {key[2]: words_of(plan.numbers[key], found) for key, found in moves.items()}
    assert plan.numbers["m", "ablation", "sound drop_0"].verdict == "SUPPORTED" and words["sound drop_0"] == set()
    assert words["sound drop_2"] and words["drop_2"] == words["sound drop_2"]
    spread = {key[2]: noise_of(found)["turned"].spread for key, found in moves.items()}
    assert 0.2 < spread["sound range"] < 2  # points; one problem of 300 is a third of one
    for found in calibration.calibrated(plan, moves):
        assert found.tolerance.keys() == plan.records["m", found.claim].metrics.keys()


def test_nothing_turns_at_a_share_of_none_and_a_few_outcomes_do_where_nothing_was_measured():
    plan = planted([0.2, 0, 0, 0, 0, 0])
    moves = calibration.ablations_turned(plan, "m", share=0.0, draws=2)
    assert {each.difference for found in moves.values() for each in found} == {0.0} and moves.keys() == plan.numbers.keys()
    assert calibration.share_turned(plan, {}) == (0, 0, calibration.FEWEST_TURNED)


# A claim that is measured in a second, recorded and calibrated for real


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Baselines with the size of gpt2-mini, as recorded here."""
    monkeypatch.setenv("CODI_BENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "baselines"
    folder.mkdir()
    suite = Suite(models=["gpt2-mini"], claims=["size"], baselines=folder)
    found = suite.measure(suite.asked_models[0], CLAIMS["size"])
    save_baseline(folder, accept(load_baseline(folder, "gpt2-mini", "size"), found.proposal, "a test"))
    return folder


def calibrate(folder, *more):
    asked = ["baselines", "calibrate", "--baselines", str(folder), "--model", "gpt2-mini", "--claim", "size", *more]
    return CliRunner().invoke(app, asked)


def test_runs_and_draws_are_measured_once_and_written_as_tolerances(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "VARIATIONS", calibration.VARIATIONS[:1])
    before = load_baseline(recorded, "gpt2-mini", "size")
    work = ("--work", str(tmp_path / "work"), "--seeds", "2", "--turns", "1", "--redraws", "1")
    first = calibrate(recorded, *work)
    assert first.exit_code == 0, first.output
    after = load_baseline(recorded, "gpt2-mini", "size")
    assert after.recorded == before.recorded
    held = after.tolerance["layers"]
    assert {name: each.runs for name, each in held.noise.items()} == {"batch": 1, "seed": 2, "turned": 1, "sampling": 1}
    assert held.noise["batch"].of == "batch size 1" and held.device == 0 and held.why.endswith("a count is exact everywhere")
    # what is in the work folder is not measured again
    monkeypatch.setattr(calibration.subprocess, "run", None)
    (results,) = (tmp_path / "work").glob("*/batch-size-1/results.json")
    told = json.loads(results.read_text())
    for row in told["rows"]:
        if (row["model"], row["metric"], row["protocol"]) == ("gpt2-mini", "layers", "reported"):
            row["measured"]["value"] += 1
    results.write_text(json.dumps(told))
    again = calibrate(recorded, *work)
    assert again.exit_code == 1 and "gpt2-mini size layers: batch size 1 moved it by 1" in again.output


def test_results_from_elsewhere_count_as_what_differs_there(recorded, tmp_path):
    from codi_bench.suite.notebook import run

    run("gpt2-mini", claims=["size"], baselines=recorded, progress=False).save(tmp_path / "night")
    path = tmp_path / "night" / "results.json"
    told = json.loads(path.read_text())
    told["environment"]["torch"] = "2.99"
    path.write_text(json.dumps(told))
    none = ("--no-runs", "--seeds", "0", "--turns", "0", "--redraws", "0")
    assert calibrate(recorded, str(path), *none).exit_code == 0
    assert load_baseline(recorded, "gpt2-mini", "size").tolerance["width"].noise["library"].of == "torch 2.99"
    told["environment"]["inputs"]["gpt2-mini"]["weights"] = "others"
    path.write_text(json.dumps(told))
    with pytest.raises(CodiBenchError, match="field inputs: gpt2-mini has other weights or problems in that file"):
        raise calibrate(recorded, str(path), *none).exception


@pytest.mark.parametrize("what", ["weights", "environment"])
def test_a_record_that_would_be_another_today_is_not_calibrated(recorded, what):
    baseline = load_baseline(recorded, "gpt2-mini", "size")
    other = {"weights": "c" * 64} if what == "weights" else {"environment": HERE.model_copy(update={"device": "H100"})}
    save_baseline(recorded, baseline.model_copy(update={"recorded": [baseline.recorded[0].model_copy(update=other)]}))
    said = str(calibrate(recorded, "--no-runs").exception)
    assert said.startswith("gpt2-mini size: ") and "--update-baselines" in said
    assert ("field weights" in said) == (what == "weights")
