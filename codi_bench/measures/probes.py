"""Correctness probes as the first study ran them: one logistic regression per cell, scored on the samples that it was fitted to.

Source: GusSand/CoT_Exploration, `gpt2_linear_probes/scripts/run_probes_full.py` and `linear_probes/scripts/2_probe_trainer.py`.
"""

from __future__ import annotations

import inspect
import random
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from codi_bench.errors import MeasureError, arguments
from codi_bench.measures.arrays import in_range, real, truths
from codi_bench.measures.pipeline import checked_cells, two_classes

STUDY_CS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
STUDY_FOLDS = 5
STUDY_SEED = 42

# From 1.8 on the L2 penalty is asked for by `l1_ratios`, which older versions warn about; legacy attributes warn too.
_NEW_API = "use_legacy_attributes" in inspect.signature(LogisticRegressionCV).parameters
_L2_ONLY = {"l1_ratios": (0.0,), "use_legacy_attributes": False} if _NEW_API else {}


@dataclass(frozen=True, eq=False)
class InSampleProbes:
    """accuracy [cells], fractions; predictions [n, cells] in the dtype of the labels; chosen_C [cells]; correct bool [n, cells].

    Every column was fitted to the same n samples it predicts.
    """

    accuracy: np.ndarray
    predictions: np.ndarray
    chosen_C: np.ndarray
    correct: np.ndarray


@dataclass(frozen=True, eq=False)
class GridSummary:
    """Fractions over all cells: mean, population std, min, max. best: (layer index, position index) of the max."""

    mean: float
    std: float
    min: float
    max: float
    best: tuple[int, int]


def balanced_sample(correct: ArrayLike, *, per_class: int = 50, seed: int = STUDY_SEED, shuffle: bool = True) -> np.ndarray:
    """Indices int64 [2 * per_class] of a balanced sample, in the study's order.

    correct: bool [n]. One generator draws `random.sample` from the correct problems, then from the incorrect ones, then
    shuffles both together. The order matters, because the folds of `in_sample_probes` depend on it.
    shuffle=False: the order of the study's LLaMA script, which keeps all correct problems in front.
    Raises MeasureError if a class has fewer than per_class problems (the study then took fewer).
    """
    correct = truths("correct", correct)
    if correct.ndim != 1 or correct.dtype != bool:
        raise MeasureError(f"correct must be bool [n], got {correct.dtype} {list(correct.shape)}")
    per_class = arguments.whole("per_class", per_class, error=MeasureError)
    rng = random.Random(arguments.seed(seed, error=MeasureError))
    sample = []
    for name, members in (("correct", np.flatnonzero(correct)), ("incorrect", np.flatnonzero(~correct))):
        if len(members) < per_class:
            raise MeasureError(f"class '{name}' has {len(members)} problems, but a balanced sample needs {per_class}")
        sample += rng.sample(members.tolist(), per_class)
    if shuffle:
        rng.shuffle(sample)
    return np.array(sample, dtype=np.int64)


def in_sample_probes(activations: ArrayLike, labels: ArrayLike, *, seed: int = STUDY_SEED) -> InSampleProbes:
    """Probe accuracy under the study's protocol: a *training-set* accuracy, which is as high on noise.

    activations: [n, cells, d]; labels: [n], two classes. Per cell: StandardScaler on all n; LogisticRegressionCV, C from
    0.001 to 100 by 5-fold cross-validated accuracy (stratified, shuffled by the seed; ties go to the smallest C), max_iter
    1000; refitted on all n; accuracy on those same n.
    Raises MeasureError for shapes that do not fit, values that are not finite, other than two classes, or a class smaller
    than the number of folds.
    """
    activations, labels = checked_cells(activations, labels)
    seed = arguments.seed(seed, arguments.FOLD_SEED, error=MeasureError)
    classes, counts = two_classes(labels), np.unique(labels, return_counts=True)[1]
    if counts.min() < STUDY_FOLDS:
        name = classes[counts.argmin()]
        raise MeasureError(f"class '{name}' has {counts.min()} problems, but {STUDY_FOLDS} folds need at least {STUDY_FOLDS}")
    y = labels == classes[1]  # scikit-learn does not take labels of every type
    fits = [_fit_cell(activations[:, cell], y, seed) for cell in range(activations.shape[1])]
    predictions = classes[np.stack([prediction for prediction, _ in fits], axis=1).astype(int)]
    right = predictions == labels[:, None]
    return InSampleProbes(right.mean(axis=0), predictions, np.array([C for _, C in fits]), right)


def _fit_cell(x: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Predictions [n] for the samples of the fit, and the C that cross-validation chose. x: [n, d]."""
    # float64 before scaling: the study read its activations from JSON.
    x = StandardScaler().fit_transform(in_range(x.astype(np.float64)))
    probe = LogisticRegressionCV(
        Cs=STUDY_CS,
        cv=StratifiedKFold(STUDY_FOLDS, shuffle=True, random_state=seed),
        scoring="accuracy",
        max_iter=1000,
        **_L2_ONLY,
    )
    # One thread: how BLAS splits a sum over threads changes its last bits, lbfgs stops elsewhere, and predictions flip.
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        # max_iter belongs to the protocol: a fit that stops there is the study's number, and nothing the user can mend.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(x, labels)
    # C_ is [1] before 1.8 and a float without legacy attributes.
    return probe.predict(x), float(np.ravel(probe.C_)[0])


def grid_summary(accuracy: ArrayLike) -> GridSummary:
    """The numbers that the study printed of a grid. accuracy: fractions [layers, positions]; ties go to the first, layers first.

    Raises MeasureError for a grid that is empty, not two-dimensional or not finite.
    """
    grid = real("accuracy", accuracy).astype(np.float64)
    if grid.ndim != 2 or grid.size == 0 or not np.isfinite(grid).all():
        raise MeasureError(f"a grid needs finite accuracies [layers, positions], got shape {list(grid.shape)}")
    layer, position = np.unravel_index(grid.argmax(), grid.shape)
    return GridSummary(
        mean=float(grid.mean()),
        std=float(grid.std()),
        min=float(grid.min()),
        max=float(grid.max()),
        best=(int(layer), int(position)),
    )
