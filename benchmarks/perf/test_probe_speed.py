"""The grid of ridge probes against logistic ones and against scikit-learn: nested folds, every penalty, 1000 permutations.

Either reference would take minutes to hours: it is timed on a part of the same job in the same run, before each of ROUNDS rounds
of the grid, and scaled. Asserted are ratios and memory; seconds are printed.

    pytest benchmarks/perf -m perf -k probe_speed -s          two minutes
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from codi_bench.measures import ridge
from codi_bench.measures.grid import nested_splits, permuted_labels, probe_grid
from codi_bench.rules.stats import stream

from ..calibration.planted import noise

pytestmark = pytest.mark.perf
FOLDS, PERMUTATIONS, ROUNDS = 5, 1000, 3
SAMPLE = 20  # nested fits of scikit-learn that are timed
OVER_LOGISTIC, OVER_SCIKIT_LEARN, MEMORY = 15, 3000, 2e9  # what the grid must gain, and the bytes that the process may take


def reset_peak() -> None:
    """Forget what earlier tests of this process took at most; where the system cannot, they count as well."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Highest memory of this process since `reset_peak`, its libraries included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def test_ridge_beats_logistic(speed):
    """Both on one thread: a part of the cells fills threads less well than all of them, which would count against the part."""
    n, cells, d = 400, 21, 104
    made = noise(stream(0, "perf"), n=n, cells=cells, d=d, decay=1.0)

    def grid(probe, activations=made.activations):
        return probe_grid(activations, made.labels, probe=probe, folds=FOLDS, permutations=PERMUTATIONS, workers=1)

    found, part = speed.rounds(
        lambda: grid("ridge"),
        lambda: grid("logistic", made.activations[:, :1]),
        share=1 / cells,
        rounds=ROUNDS,
        warmup=0,
    )
    work = f"{cells} cells, n = {n}, d = {d}, {PERMUTATIONS} permutations, logistic probes on 1 of {cells} cells and scaled"
    print(f"\n{work}\nridge in {min(speed.seconds):.1f} s on one thread, {speed.ratio:.0f} times as fast as logistic")
    assert found.null_auc.shape == (PERMUTATIONS, cells) and part.null_auc.shape == (PERMUTATIONS, 1)
    assert speed.ratio >= OVER_LOGISTIC
    speed.assert_holds(work=work)


def scikit_learn(x, y, split) -> np.ndarray:
    """Predictions of the test rows, as a user of scikit-learn would get them with these inner folds."""
    inner = [tuple(np.searchsorted(split.train, rows) for rows in pair) for pair in split.inner]
    scaler = StandardScaler().fit(x[split.train])
    # of equals the first wins: the largest alpha
    search = GridSearchCV(RidgeClassifier(), {"alpha": [1 / C for C in ridge.CS]}, cv=inner)
    search.fit(scaler.transform(x[split.train]), y[split.train])
    return search.predict(scaler.transform(x[split.test]))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_ridge_beats_scikit_learn(speed):
    n, cells, d = 100, 18, 768
    made = noise(stream(0, "perf"), n=n, cells=cells, d=d, decay=1.0)
    x, y = made.activations.astype(np.float64), made.labels
    splits, fold = nested_splits(y, folds=FOLDS, seed=0)
    null = permuted_labels(y, fold, permutations=PERMUTATIONS, seed=0)
    rng, peaks = stream(0, "sample"), []
    sample = [(rng.integers(cells), rng.integers(PERMUTATIONS), splits[rng.integers(FOLDS)]) for _ in range(SAMPLE)]

    def grid():
        reset_peak()
        found = probe_grid(made.activations, y, folds=FOLDS, permutations=PERMUTATIONS, seed=0)
        peaks.append(peak_bytes())
        return found

    def one_by_one():
        with threadpool_limits(1):
            return [scikit_learn(x[:, cell], null[draw], split) for cell, draw, split in sample]

    fits = cells * FOLDS * (PERMUTATIONS + 1)  # of the whole pipeline; 26 regressions each
    found, said = speed.rounds(grid, one_by_one, share=SAMPLE / fits, rounds=ROUNDS, warmup=0)
    memory = max(peaks)
    work = (
        f"{cells} cells, n = {n}, d = {d}, {PERMUTATIONS} permutations, scikit-learn on {SAMPLE} of {fits} nested fits and scaled"
    )
    speed.benchmark.extra_info.update(peak_bytes=memory, cores=os.cpu_count())
    print(
        f"\n{work}\n{26 * fits / 1e6:.2f} million fits in {min(speed.seconds):.1f} s on {os.cpu_count()} cores, peak "
        f"{memory / 1e9:.2f} GB, {speed.ratio:.0f} times scikit-learn on one thread"
    )
    for predicted, (cell, draw, split) in zip(said, sample):
        np.testing.assert_array_equal(predicted, found.null_score[draw, split.test, cell] > 0)
    assert memory <= MEMORY
    assert speed.ratio >= OVER_SCIKIT_LEARN
    speed.assert_holds(work=work)
