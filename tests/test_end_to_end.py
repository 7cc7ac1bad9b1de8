"""The main job on the embedded pair, as a user starts it: cold, then warm and in another order."""

import json
import os
import subprocess
import sys

import pytest

FILES = ("ablation", "probes", "sae", "size", "spread", "task_accuracy")


def run(folder, cache, *files):
    """`pytest benchmarks` in a process of its own; its results."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *files, "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "CODI_BENCH_CACHE": str(cache)},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout, json.loads((folder / "report" / "results.json").read_text())["rows"]


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cold")
    return run(folder, folder / "cache", "benchmarks"), folder / "cache"


def test_every_claim_of_the_study_stands_for_both_embedded_models(cold):
    (shown, rows), _ = cold
    measured = [r for r in rows if r["status"] == "ok"]
    by_model = {model: {r["claim"] for r in measured if r["model"] == model} for model in ("gpt2-mini", "llama-mini")}
    assert len(by_model["gpt2-mini"]) == 14 and by_model["gpt2-mini"] == by_model["llama-mini"]
    assert {r["regression"] for r in measured} == {"SAME"}
    assert all(r["reproduction"] is None for r in rows if r["model"].endswith("-mini"))
    assert "28 passed" in shown


def test_a_warm_run_in_another_order_measures_the_same_bytes(cold, tmp_path):
    (_, first), cache = cold
    _, again = run(tmp_path, cache, *(f"benchmarks/test_{name}.py" for name in reversed(FILES)))
    assert [json.dumps(r["measured"]) for r in first] == [json.dumps(r["measured"]) for r in again]
    assert [r["detail"] for r in first] == [r["detail"] for r in again]
