"""The auditor audited, in short: few draws of every calibration under loose bars, auditors broken on purpose, and the records.

The full runs are in benchmarks/calibration; what they found is committed in baselines/_calibration and looked at here.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks.calibration import calibrate, grids, judges, planted
from benchmarks.calibration.cases import CALIBRATIONS, CHEAP
from benchmarks.calibration.engine import Bar, Calibration, Case, Rate, exact, rows_of, run, tally, within
from codi_bench.measures.grid import in_sample_null, in_sample_split, scores
from codi_bench.rules.p_values import permutation_p
from codi_bench.rules.stats import stream
from codi_bench.rules.validity import protocol_artefact


def words(case: str, name: str, draws: int) -> Counter:
    return Counter(row["word"] for row in draws_of(case, name, draws))


def draws_of(case: str, name: str, draws: int, **changes) -> list[dict]:
    """The first rows of a case, with settings changed; the shift is that of the record, for finding it takes longer than this."""
    found = next(one for one in CALIBRATIONS[name].cases if one.name == case)
    if "target" in found.settings:
        changes = {"shift": record_of(name)["cases"][case]["settings"]["shift"]} | changes
    return rows_of(name, case, found.draw, found.settings | changes, 0, draws)


def record_of(name: str) -> dict:
    """The committed record, run to its end: where it is not, `python -m benchmarks.calibration.calibrate` goes on with it."""
    path, calibration = calibrate.folder() / f"{name}.json", CALIBRATIONS[name]
    assert path.is_file(), f"{name} has no record; python -m benchmarks.calibration.calibrate {name}"
    record = json.loads(path.read_text())
    assert record["cases"].keys() == {case.name for case in calibration.cases}
    draws = min(case["draws"] for case in record["cases"].values())
    assert draws >= calibration.least, f"{name}: {draws} of {calibration.least} draws"
    return record


# Every calibration, in short


@pytest.mark.parametrize("case", [case.name for case in CALIBRATIONS["noise-in-sample"].cases])
def test_the_study_s_protocol_reads_noise_above_90_and_is_called_an_artefact(case):
    rows = draws_of(case, "noise-in-sample", 2)
    assert all(row["word"] == "ARTEFACT" and row["reads"] > 0.9 and row["null"] > 0.9 for row in rows)


@pytest.mark.parametrize("name, case", [("noise", "noise"), ("surface", "surface only"), ("leakage", "leaking groups")])
def test_where_nothing_is_there_nothing_is_supported(name, case):
    found = words(case, name, 10)
    assert found["SUPPORTED"] <= 1 and found.total() == 10  # broken auditors, below, say it of half of them and more
    if name == "surface":
        assert found["ARTEFACT"] >= 7  # the labels are read, and the surface explains it


def test_a_signal_is_supported_in_its_cell_and_has_the_auc_that_was_asked_for():
    rows = draws_of("one of 6 cells", "signal", 8)
    assert sum(row["word"] == "SUPPORTED" and row["named"] == 2 for row in rows) >= 7
    assert np.mean([row["auc"] for row in rows]) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("case", ["concentrated", "even"])
def test_concentrated_and_even_are_told_apart(case):
    assert words(case, "spread", 4)[case] >= 3


def test_critical_positions_are_found_and_not_made_up():
    assert words("the study's drops", "ablation", 30)["critical: 2, 3"] >= 26
    assert words("equal drops of 5 points", "ablation", 30)["no critical position"] >= 26
    for case in ("no drops", "equal drops of 10 points", "equal drops of 5 points"):
        assert sum(n for word, n in words(case, "ablation", 30).items() if word.startswith("critical")) <= 4


@pytest.mark.parametrize("name", [name for name in CALIBRATIONS if name.startswith("interval-")])
def test_intervals_of_fixed_outcomes_cover(name):
    for case, found in tally(CALIBRATIONS[name], 150).items():
        assert found["rates"]["covered"]["rate"] > 0.88, case


def test_intervals_of_cross_validated_scores_cover():
    """The target is the mean over all draws; here that of the committed run."""
    rows = draws_of("attained AUC 0.75", "intervals-cross-validated", 12)
    target = {"accuracy": 0.68, "AUC": 0.75}
    for what, value in target.items():
        assert sum(row[what][1] <= value <= row[what][2] for row in rows) >= 9, what


# Auditors broken on purpose are caught


def broken(case, name, draws=6, **changes) -> dict:
    rows = draws_of(case, name, draws, **changes)
    calibration = next(one for one in CALIBRATIONS[name].cases if one.name == case)
    return {rate.what: rate.as_dict() for rate in calibration.judge(rows, calibration.settings)}


def test_folds_that_divide_groups_are_caught():
    found = broken("leaking groups", "leakage", grouped=False)["SUPPORTED"]
    assert found["rate"] >= 0.5 and found["met"] is False


def test_an_audit_without_the_surface_is_caught(monkeypatch):
    def blind(activations, labels, *, surface, **how):
        return audit(activations, labels, surface=None, **how)

    audit = grids.audit_probes
    monkeypatch.setattr(grids, "audit_probes", blind)
    found = broken("surface only", "surface")["SUPPORTED"]
    assert found["rate"] >= 0.5 and found["met"] is False


def test_scores_of_the_training_set_are_caught(monkeypatch):
    """Held-out scores from probes that have seen the labels, against a null that has not."""
    from codi_bench.measures import grid as probe_grid

    honest = probe_grid.scores

    def leaky(cells, labels, splits, *, loose=False, **how):
        if loose or len(splits) == 1:
            return honest(cells, labels, splits, loose=loose, **how)
        return honest(cells, labels, [probe_grid.Split(np.arange(len(labels)), s.test, s.inner) for s in splits], **how)

    monkeypatch.setattr(probe_grid, "scores", leaky)
    found = broken("noise", "noise")["SUPPORTED"]
    assert found["rate"] > 0.8 and found["met"] is False


def test_a_study_without_a_null_is_caught():
    judge = judges.judge_in_sample([{"word": "no word", "reads": 0.95}] * 20, {})
    assert [rate.as_dict()["met"] for rate in judge] == [False, True]


# Permutations in stages


@pytest.mark.parametrize("index", range(4))
def test_stages_give_the_word_that_all_permutations_give(index):
    settings = {"n": 40, "cells": 2, "d": 60, "decay": 1.0, "folds": 5, "study_seed": 42, "permutations": 199}
    row = grids.in_sample(stream(index, "stages"), **settings)

    rng = stream(index, "stages")
    made = planted.noise(rng, n=40, cells=2, d=60, decay=1.0)
    seed, how = int(rng.integers(2**31)), {"folds": 5}
    columns = grids.in_sample_columns(made.labels, **how, seed=42, permutations=199, null_seed=seed)
    null = read_in_sample(made, columns)
    measured = null[0]
    whole = permutation_p(measured, null[1:])
    verdict = protocol_artefact(measured, null_mean=null[1:].mean(), nominal=0.5, p_null=whole, permutations=199)
    assert row["reads"] == measured and row["word"] == ("no word" if verdict is None else "ARTEFACT")
    assert row["fitted"] in (10, 40, 199) and (row["fitted"] == 199 or whole > 0.01)


def read_in_sample(made, columns) -> np.ndarray:
    whole = in_sample_split(made.labels, folds=5, seed=42)
    grid = [made.activations[:, cell] for cell in range(made.activations.shape[1])]
    found = scores(grid, columns, [whole], probe="logistic", loose=True, workers=1).score
    return ((found > 0) == columns[:, :, None]).mean((0, 2))


def test_the_permutations_are_those_of_the_study_s_null():
    made = planted.noise(stream(0, "null"), n=40, cells=2, d=60, decay=1.0)
    columns = grids.in_sample_columns(made.labels, folds=5, seed=7, permutations=5, null_seed=7)
    whole = in_sample_split(made.labels, folds=5, seed=7)
    grid = [made.activations[:, cell] for cell in range(2)]
    found = scores(grid, columns[:, 1:], [whole], probe="logistic", loose=True, workers=1).score
    wanted = in_sample_null(made.activations, made.labels, permutations=5, seed=7, workers=1)
    assert (((found > 0) == columns[:, 1:, None]).mean(0) == wanted).all()


# Bars, rates, and runs that go on


def test_rates_have_exact_intervals_and_bars_are_read_as_written():
    for hits, draws in ((0, 20), (3, 20), (20, 20), (61, 2000)):
        found = binomtest(hits, draws).proportion_ci(method="exact")
        assert exact(hits, draws) == pytest.approx((found.low, found.high), abs=1e-9)
    rarely, mostly = Bar(high=0.05, by_interval=True), Bar(low=0.9)
    assert Rate("a", 116, 2000, rarely).as_dict()["met"] and not Rate("a", 125, 2000, rarely).as_dict()["met"]
    assert Rate("a", 1800, 2000, mostly).as_dict()["met"] and not Rate("a", 1799, 2000, mostly).as_dict()["met"]
    assert str(rarely) == "at most 0.05, or its exact 95 % interval reaches there" and str(mostly) == "at least 0.9"
    assert within(0.93, 0.97, 0.01) == Bar(0.92, 0.98) and not Bar(0.92, 0.98).met(0.985, (0.97, 0.99))
    assert "bar" not in Rate("a", 1, 2).as_dict()


def coin(rng, *, p):
    return {"word": "head" if rng.random() < p else "tail"}


def toss(p=0.5, draws=100) -> Calibration:
    def judge(rows, settings):
        return [Rate("head", sum(row["word"] == "head" for row in rows), len(rows), Bar(0.3, 0.7))]

    return Calibration("toss", "a coin", (Case("coin", coin, {"p": p}, judge),), draws=draws, least=draws)


@pytest.fixture
def going(tmp_path):
    """Runs of a calibration in a folder, on threads."""

    def go(calibration, threads=2, **how):
        with ThreadPoolExecutor(threads) as pool:
            return run(calibration, pool=pool, out=tmp_path / "out", work=tmp_path / "work", **how)

    return go


def test_a_run_that_ended_early_goes_on_and_finds_the_same(going, tmp_path, monkeypatch):
    early = going(toss(), draws=40)
    assert early["cases"]["coin"]["draws"] == 40 and not early["met"]  # fewer than `least`
    drawn = []
    monkeypatch.setattr("benchmarks.calibration.engine.rows_of", lambda *job: drawn.append(job[-2:]) or rows_of(*job))
    record = going(toss())
    assert sorted(drawn) == [(40, 60), (60, 80), (80, 100)]
    assert record["cases"] == tally(toss(), 100) and record["met"]
    assert record["cases"]["coin"]["counts"].keys() == {"head", "tail"}
    assert json.loads((tmp_path / "out" / "toss.json").read_text()) == record
    assert {"name", "about", "date", "environment", "code", "least", "met", "cases"} == record.keys()


def test_neither_threads_nor_other_settings_mix_the_draws(going, tmp_path):
    assert going(toss(), threads=1)["cases"] == tally(toss(), 100)
    assert going(toss(p=0.99))["cases"]["coin"]["rates"]["head"]["met"] is False
    assert len(list((tmp_path / "work" / "toss").iterdir())) == 2


def test_a_run_out_of_time_says_how_many_draws_it_has(going):
    record = going(toss(), until=0.0)
    assert record["cases"] == {} and not record["met"]


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        calibrate.main(["noize"])
    assert "unknown: noize; there are noise-in-sample, noise" in capsys.readouterr().err


# The records


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_the_record_has_draws_enough_and_meets_its_bars(name):
    record = record_of(name)
    calibration = CALIBRATIONS[name]
    assert (record["name"], record["about"], record["met"]) == (name, calibration.about, True)
    assert list(record["cases"]) == [case.name for case in calibration.cases]
    for case in calibration.cases:
        found = record["cases"][case.name]
        assert found["draws"] >= calibration.least and sum(found["counts"].values()) == found["draws"]
        given = {name: value for name, value in case.settings.items() if value is not None}  # None: found out beforehand
        assert given.items() <= found["settings"].items()
        for what, rate in found["rates"].items():
            assert rate["draws"] == found["draws"] and rate["rate"] == rate["hits"] / rate["draws"]
            assert (rate["low"], rate["high"]) == pytest.approx(exact(rate["hits"], rate["draws"]), abs=1e-9)
            assert rate.get("met", True), f"{case.name}: {what}"


def test_no_record_is_of_an_unknown_calibration():
    assert {path.stem for path in calibrate.folder().glob("*.json")} <= CALIBRATIONS.keys()


def test_the_cheap_protocol_has_permutations_enough_for_its_alpha():
    assert CHEAP["permutations"] >= 39
