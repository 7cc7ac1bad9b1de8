"""The main job on the embedded pair, as a user starts it: cold, then in another order with the thoughts of gpt2-mini anew.

Whole runs are nightly. On every push one claim of llama-mini is compared with its record here, and one of gpt2-mini in
test_plugin.py; a tiny model goes the same ways, cold and warm, damaged, killed and in any order, in test_faults.py and
test_stress.py.
"""

import json
import os
import subprocess
import sys

import pytest

from codi_bench.claims import CLAIMS
from codi_bench.store.arrays import read_metadata
from codi_bench.store.cache import entries

FILES = ("ablation", "probes", "sae", "size", "spread", "task_accuracy")
ANEW = ("answers", "train_topk_sae")


def run(folder, cache, *files):
    """`codi-bench run` in a process of its own; what it shows, and its results."""
    done = subprocess.run(
        [sys.executable, "-m", "codi_bench.cli", "run", *files, "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "CODI_BENCH_CACHE": str(cache)},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout, json.loads((folder / "report" / "results.json").read_text())


def test_a_claim_of_llama_mini_comes_out_as_recorded(tmp_path):
    _, results = run(tmp_path, tmp_path / "cache", "benchmarks", "--claim", "task-accuracy", "--model", "llama-mini")
    measured = [row for row in results["rows"] if row["status"] == "ok"]
    assert [(row["model"], row["regression"]) for row in measured] == [("llama-mini", "SAME")] * 2


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cold")
    return run(folder, folder / "cache"), folder / "cache"


@pytest.mark.nightly
def test_every_claim_of_the_study_stands_on_both_models(cold):
    (shown, results), _ = cold
    rows = results["rows"]
    measured = [r for r in rows if r["status"] == "ok"]
    by_model = {model: {r["claim"] for r in measured if r["model"] == model} for model in ("gpt2-mini", "llama-mini")}
    study = {claim.id for claim in CLAIMS.values() if claim.suite == "study"}
    assert by_model["gpt2-mini"] == by_model["llama-mini"] == study and len(rows) == len(measured)
    assert {r["regression"] for r in measured} == {"SAME"}
    assert all(r["reproduction"] is None for r in rows if r["model"].endswith("-mini"))
    assert f"{2 * len(study)} passed" in shown


@pytest.mark.nightly
def test_what_is_stored_and_what_is_computed_anew_are_the_same_bytes(cold, tmp_path):
    """gpt2-mini alone, in another order: it thinks and answers anew; all else is found in the store, by what it is made of."""
    (_, first), cache = cold
    stored = {entry.path: json.loads(read_metadata(entry.path)["key"]) for entry in entries(cache / "store")}
    assert {"answers", "train_relu_sae", "train_topk_sae", "probe_grid"} <= {key["what"] for key in stored.values()}
    own = first["environment"]["inputs"]["gpt2-mini"]["weights"]
    gone = [path for path, key in stored.items() if key["weights"] == own and key["what"] in ANEW]
    written = {path: path.stat().st_mtime_ns for path in stored.keys() - set(gone)}
    assert len(gone) >= 4 and len(written) > 10
    for path in gone:
        path.unlink()
    _, again = run(tmp_path, cache, *(f"benchmarks/test_{name}.py" for name in reversed(FILES)), "--model", "gpt2-mini")
    assert all(path.exists() for path in gone) and {path: path.stat().st_mtime_ns for path in written} == written
    before, after = ([r for r in found["rows"] if r["model"] == "gpt2-mini"] for found in (first, again))
    assert sum(r["status"] == "ok" for r in before) > 50
    for name in ("claim", "metric", "protocol", "measured", "null", "detail"):
        assert [json.dumps(r[name]) for r in before] == [json.dumps(r[name]) for r in after]
