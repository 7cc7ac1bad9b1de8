"""Simulated nights, in short: few draws under loose bars, rules broken on purpose, and what the docs print of the record.

The full run is `python -m benchmarks.calibration.calibrate nights`.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.calibration import calibrate, nights
from benchmarks.calibration.cases import NIGHTS
from benchmarks.calibration.engine import rows_of
from codi_bench.claims import CLAIMS
from codi_bench.records import changes
from codi_bench.records.baseline import load_baseline
from codi_bench.rules import reproduction as verdicts
from codi_bench.rules.stats import stream
from codi_bench.store.files import package_folder
from codi_bench.suite import engine
from codi_bench.suite.suite import Suite

DOCS = Path(__file__).parent.parent / "docs" / "baselines.md"
CASES = {case.name: case for case in NIGHTS.cases}


@pytest.fixture
def asked_anew():
    """What whole rules said of some counts is not what broken ones say."""
    nights.by_counts.cache_clear()
    yield
    nights.by_counts.cache_clear()


def rates(name: str, draws: int, **changes) -> dict[str, dict]:
    """Rates of the first draws of a case, with settings changed."""
    case = CASES[name]
    settings = nights.with_suite(case.settings) | changes
    rows = rows_of("nights", name, case.draw, settings, 0, draws)
    return {rate.what: rate.as_dict() for rate in case.judge(rows, settings)}


# Every case, in short


def test_a_night_on_which_nothing_changed_seldom_raises_an_alarm():
    found = rates("nothing changed, churn 0.5%", 50)
    assert found["alarm"]["rate"] <= 0.1


@pytest.mark.parametrize(
    ("case", "draws", "least"),
    [
        *((f"loss of 5 points, n = 1000, churn {churn}", 40, 0.9) for churn in ("0.0%", "0.5%", "1.0%")),
        *(
            (f"drop of {points} points doubled, n = 300, churn {churn}", 60, 0.8)
            for points, churn in ((10, "0.0%"), (11, "0.5%"))
        ),
        *((f"same environment, {flips}", 100, 1) for flips in ("one flip", "two flips that cancel")),
    ],
)
def test_what_moved_is_seen(case, draws, least):
    found = rates(case, draws)
    assert all(rate["rate"] >= least for rate in found.values()) and found


def test_the_same_environment_again_is_no_alarm():
    for metric in nights.suite():
        assert not nights.drifted(metric, nights.measured(metric, bits=metric.bits), same=True, family=1613), metric


@pytest.mark.parametrize("model", nights.PAIR)
def test_ablations_derived_anew_without_churn_have_the_recorded_values_and_verdicts(model):
    """Otherwise what churn does to the verdicts would say nothing."""
    mine = {(m.claim, m.key): m for m in nights.suite() if m.model == model}
    again = nights.ablations(mine, {key: m.bits for key, m in mine.items() if m.bits is not None})
    assert len(again) > 10
    for key, (value, verdict) in again.items():
        assert value == pytest.approx(mine[key].held.value) and verdict.word == mine[key].held.verdict, key


def test_a_whole_night_without_churn_and_noise_is_quiet(monkeypatch):
    monkeypatch.setattr(nights, "spread_elsewhere", lambda *_, **__: 0.0)
    found = rates("a whole night, nothing changed, churn as measured", 2, churn=0.0)
    assert not any(rate["hits"] for rate in found.values())


def test_a_whole_night_seldom_raises_an_alarm():
    assert rates("a whole night, nothing changed, churn as measured", 40)["alarm"]["rate"] <= 0.1


def test_the_rule_alone_says_what_the_suite_says():
    settings = {"n": 1000, "rate": 0.43, "churn": 0.02, "loss": 0.04, "sizes": [20, 200]}
    through, alone = ([draw(stream(i), **settings)["seen"] for i in range(60)] for draw in (nights.lost, nights.tested))
    assert through == alone and len({tuple(seen) for seen in alone}) > 1


# What is drawn


def test_flips_are_as_many_as_they_should_be():
    bits, rng = np.arange(10000) < 4300, stream(0, "flips")
    after = nights.elsewhere(rng, bits, churn=0.02, loss=0.05)
    assert (bits & ~after).sum() == pytest.approx(700, abs=100) and (~bits & after).sum() == pytest.approx(200, abs=60)
    assert (nights.elsewhere(rng, bits, churn=0.0) == bits).all()
    for only in (np.ones(100, bool), np.zeros(100, bool)):
        assert nights.elsewhere(rng, only, churn=0.01).shape == (100,)


def test_the_suite_counts_metrics_as_the_simulation_does():
    """M of a row is the number of metrics recorded in the whole suite, whatever a run measures of it."""
    size = {case.settings["sizes"][0] for case in CASES.values() if len(case.settings.get("sizes", ())) == 1}
    recorded = Suite(models=["gpt2-mini"], claims=["size"]).recorded
    assert size == {recorded} and recorded > len(nights.suite())
    model, claim = "gpt2-mini", CLAIMS["task-accuracy"]
    baseline = load_baseline(package_folder("baselines"), model, claim.id)
    metric = next(m for m in nights.suite() if (m.model, m.claim, m.key) == (model, claim.id, "accuracy"))
    bench = SimpleNamespace(model=SimpleNamespace(name=model), problems=SimpleNamespace(hash="", on_gsm8k=False))
    asked = nights.measured(metric, bits=metric.bits)
    standard = engine.Standard(baseline, baseline.newest("cpu"), total=recorded)
    row = engine._row(bench, claim, "accuracy", asked, standard)
    assert f"drifted at p <= {verdicts.DRIFT_LEVEL / recorded:.3g} and" in row.reason and row.regression == "SAME"


# Rules broken on purpose are caught


def test_an_uncorrected_level_is_caught(monkeypatch, asked_anew):
    """0.05 for every metric by itself, instead of 0.005/M."""
    monkeypatch.setattr(verdicts, "DRIFT_LEVEL", 0.05)
    whole = verdicts.regression_count
    monkeypatch.setattr(changes, "regression_count", lambda *bits, family_size, **how: whole(*bits, family_size=1, **how))
    found = rates("nothing changed, churn 1.0%", 24)
    assert found["alarm"]["rate"] >= 0.2 and not found["alarm"]["met"]


def by_p_alone(recorded, measured, *, same_environment, family_size):
    drifted = verdicts.mcnemar_exact(recorded, measured) <= verdicts.DRIFT_LEVEL / family_size
    return verdicts.Outcome(verdicts.Regression.DRIFTED if drifted else verdicts.Regression.SAME, "")


def test_a_rule_without_the_half_per_cent_is_caught(monkeypatch):
    """At 10000 problems a loss of 0.3 points has a tiny p and must not be red."""
    small, name = {"n": 10000, "loss": 0.003}, "loss of 5 points, n = 1000, churn 0.0%"
    assert all(rate["rate"] <= 0.1 for rate in rates(name, 10, **small).values())
    monkeypatch.setattr(changes, "regression_count", by_p_alone)
    assert all(rate["rate"] >= 0.9 for rate in rates(name, 10, **small).values())


def test_a_rule_that_sleeps_is_caught(monkeypatch):
    """A level a million times stricter."""
    monkeypatch.setattr(verdicts, "DRIFT_LEVEL", 5e-9)
    found = rates("loss of 5 points, n = 1000, churn 1.0%", 40)
    assert not any(rate["met"] for rate in found.values())


def test_floats_compared_at_two_spreads_are_caught(monkeypatch):
    monkeypatch.setattr(nights, "SPREADS", 2)
    assert rates("nothing changed, churn 0.5%", 12)["alarm by floats"]["rate"] >= 0.5


def test_a_comparison_of_totals_misses_flips_that_cancel(monkeypatch):
    def totals(recorded, measured, **_):
        moved = int(recorded.sum()) != int(measured.sum())
        return verdicts.Outcome(verdicts.Regression.DRIFTED if moved else verdicts.Regression.SAME, "")

    monkeypatch.setattr(changes, "regression_count", totals)
    assert not rates("same environment, two flips that cancel", 20)["seen"]["met"]
    assert rates("same environment, one flip", 20)["seen"]["met"]


# The record, and what the docs print of it


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads((calibrate.folder() / "nights.json").read_text())


def test_the_record_is_of_the_suite_as_it_is_recorded_today(record):
    """Where metrics were recorded or went, `python -m benchmarks.calibration.calibrate nights` draws anew."""
    now = nights.with_suite({})
    for name, found in record["cases"].items():
        assert {key: found["settings"][key] for key in ("metrics", "measured", "with outcomes", "floats")} == {
            key: now[key] for key in ("metrics", "measured", "with outcomes", "floats")
        }, name


def test_the_rule_costs_what_was_published(record):
    """docs/verdicts.md, section 4, to 3 points: how flips are drawn is not written there."""
    for name, found in record["cases"].items():
        if published := found["settings"].get("published"):
            for rate, wanted in zip(found["rates"].values(), published, strict=True):
                assert rate["rate"] == pytest.approx(wanted, abs=0.03), name


def lines_of(record: dict) -> list[str]:
    """The tables of the docs, a line a rate."""
    lines = []
    for name, found in record["cases"].items():
        published = found["settings"].get("published", [None] * len(found["rates"]))
        for (what, rate), wanted in zip(found["rates"].items(), published, strict=True):
            bar = f"{rate['bar']}: {'met' if rate['met'] else 'MISSED'}" if "bar" in rate else "-"
            last = bar if wanted is None else f"{100 * wanted:g} %"
            ends = f"{100 * rate['rate']:.2f} % ({100 * rate['low']:.2f}-{100 * rate['high']:.2f})"
            lines.append(f"| {name} | {what} | {found['draws']} | {ends} | {last} |")
    return lines


def test_the_docs_print_the_record(record):
    printed = [line for line in DOCS.read_text().splitlines() if line.startswith("| ") and line.partition(" | ")[0][2:] in CASES]
    assert printed == lines_of(record)
    assert f"At least {min(found['draws'] for found in record['cases'].values())} nights of each kind" in DOCS.read_text()
