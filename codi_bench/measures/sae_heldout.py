"""The sound SAE protocol: everything is fitted on training groups only, and judged on problems of other groups.

Rules: docs/verdicts.md, section 6, SAE. The classifiers are not here; `feature_sets` gives what they are compared on.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from codi_bench.errors import MeasureError, arguments
from codi_bench.measures.arrays import SINGLE, check_finite, check_magnitude, codes, plain, real
from codi_bench.measures.arrays import classes as known
from codi_bench.measures.sae import QUALITY_CHUNK, Sae


@dataclass(frozen=True, eq=False)
class HeldoutQuality:
    """How much an SAE explains of held-out vectors, compared with a PCA with as many components as the SAE has active features.

    explained_variance: 1 - sum of squared errors / sum of squares around the *training* mean of each dimension.
    l0: active features a held-out vector; dead: share of features never active on the held-out vectors, dead_train: on the
    training vectors. A feature can be alive in training and dead here: held-out vectors are fewer.
    pca_explained_variance: the same of a PCA fitted on the training vectors, with pca_components = round(l0), at least 1, at
    most its rank. It describes a vector with as many numbers, so an SAE that explains no more has no merit as a description.
    squared_error, pca_squared_error, total: float64 [n], sums over the vectors of one held-out problem, so that
    1 - squared_error[rows].sum() / total[rows].sum() over resampled problems gives intervals.
    """

    explained_variance: float
    pca_explained_variance: float
    pca_components: int
    l0: float
    dead: float
    dead_train: float
    squared_error: np.ndarray
    pca_squared_error: np.ndarray
    total: np.ndarray


def grouped_split(groups: ArrayLike, labels: ArrayLike, *, test_share: float = 0.2, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for testing, int64 and sorted: whole groups, classes as evenly as groups allow.

    groups: [n], any values; labels: [n], any values. The test side is the first of round(1 / test_share) folds.
    Raises MeasureError for shapes that do not fit, a share outside (0, 0.5], fewer groups than folds, or a side without a class.
    """
    groups, labels = plain("groups", groups, names=True), known("labels", labels)
    if groups.ndim != 1 or groups.shape != labels.shape or len(groups) == 0:
        raise MeasureError(f"a split needs groups [n] and labels [n], got {list(groups.shape)} and {list(labels.shape)}")
    test_share = arguments.number("test_share", test_share, math.ulp(0), 0.5, error=MeasureError)
    seed = arguments.seed(seed, arguments.FOLD_SEED, error=MeasureError)
    folds = round(1 / test_share)
    group = codes("groups", groups, len(groups))
    num_groups = int(group.max()) + 1
    classes, label = np.unique(labels, return_inverse=True)
    if num_groups < folds:
        raise MeasureError(f"{num_groups} groups cannot be split into {folds} folds")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class smaller than the folds; whether a side lacks it is what counts
            train, test = next(splitter.split(label, label, group))
    except ValueError as error:
        raise MeasureError(f"{len(labels)} problems in {num_groups} groups cannot be split: {error}") from error
    for side, rows in (("training", train), ("test", test)):
        missing = np.setdiff1d(np.arange(len(classes)), label[rows])
        if len(missing):
            raise MeasureError(f"no group with class '{classes[missing[0]]}' is left for the {side} side")
    return np.sort(train), np.sort(test)


def pca_features(x_train: ArrayLike, x_all: ArrayLike, components: int) -> np.ndarray:
    """Coordinates float32 [m, components] of x_all [m, d] along the first principal axes of x_train [m_train, d].

    Axes and mean come from x_train alone. Never more components than x_train has rows or dimensions.
    Raises MeasureError for shapes that do not fit, values that are not finite, or no components.
    """
    x_train, x_all = _flat(x_train), _flat(x_all)
    if x_train.shape[1] != x_all.shape[1]:
        raise MeasureError(f"a PCA of vectors of width {x_train.shape[1]} does not fit vectors of width {x_all.shape[1]}")
    pca = _pca(x_train, components)
    with threadpool_limits(limits=1):
        return np.concatenate([pca.transform(chunk).astype(np.float32) for chunk in _chunks(x_all)])


def quality(sae: Sae, train_vectors: np.ndarray, test_vectors: np.ndarray) -> HeldoutQuality:
    """How well and how sparsely an SAE describes vectors of held-out problems; sums in float64.

    train_vectors, test_vectors: float32 [problems, vectors, d], or [problems, d].
    Raises MeasureError for shapes that do not fit, values that are not finite, or held-out vectors that all are that mean.
    """
    train, test = _flat(train_vectors), _flat(test_vectors)
    for name, x in (("training", train), ("held-out", test)):
        if x.shape[1] != sae.encoder_weight.shape[1]:
            raise MeasureError(f"{name} vectors have width {x.shape[1]}, the autoencoder {sae.encoder_weight.shape[1]}")
    _, alive_train = _activity(sae, train)
    l0, alive = _activity(sae, test)
    components = max(1, round(l0))
    pca = _pca(train, components)
    mean = train.mean(axis=0, dtype=np.float64)  # [d]

    sae_errors, pca_errors, totals = [], [], []
    with threadpool_limits(limits=1):
        for chunk in _chunks(test):
            deviation = chunk - mean
            sae_errors.append(np.square(sae.decode(sae.encode(chunk)).astype(np.float64) - chunk).sum(axis=1))
            pca_errors.append(np.square(deviation - deviation @ pca.components_.T @ pca.components_).sum(axis=1))
            totals.append(np.square(deviation).sum(axis=1))
    problems = len(test_vectors)
    sae_errors, pca_errors, totals = (
        np.concatenate(sums).reshape(problems, -1).sum(axis=1) for sums in (sae_errors, pca_errors, totals)
    )
    if totals.sum() == 0.0:
        raise MeasureError("explained variance needs vectors that differ, all held-out ones equal the training mean")
    return HeldoutQuality(
        explained_variance=float(1 - sae_errors.sum() / totals.sum()),
        pca_explained_variance=float(1 - pca_errors.sum() / totals.sum()),
        pca_components=len(pca.components_),
        l0=l0,
        dead=float(1 - alive.mean()),
        dead_train=float(1 - alive_train.mean()),
        squared_error=sae_errors,
        pca_squared_error=pca_errors,
        total=totals,
    )


def feature_sets(states: ArrayLike, train: np.ndarray, *, sae: Sae, surface: ArrayLike) -> dict[str, np.ndarray]:
    """The feature sets for error prediction, float32 [n, width] each: "sae", "raw", "pca" and "surface".

    states: float32 [n, vectors, d]; train: int [n_train], the rows that anything may be fitted on (the SAE was, here the PCA
    is); surface: [n, s], passed through. All but "surface" are concatenated over the vectors of a problem.
    "pca" is one PCA of all training vectors, applied to each vector as the SAE is, with F components, the SAE's width. Where
    F >= d that would be "raw" in other axes; there it has round(l0) components, at least 1 and below d, l0 counted on training
    vectors: as many numbers a vector as the SAE has active features.
    Raises MeasureError for shapes that do not fit or values that are not finite.
    """
    states, surface = _single("states", states), _single("surface", surface)
    if states.ndim != 3 or surface.ndim != 2 or len(surface) != len(states):
        raise MeasureError(f"features need states [n, vectors, d] and surface [n, s], got {states.shape} and {surface.shape}")
    n, _, d = states.shape
    if d != sae.encoder_weight.shape[1]:
        raise MeasureError(f"states have width {d}, the autoencoder {sae.encoder_weight.shape[1]}")
    vectors, width = _flat(states[train]), len(sae.encoder_bias)
    if width >= d:
        width = max(1, min(round(_activity(sae, vectors)[0]), d - 1))
    return {
        "sae": sae.encode(states).reshape(n, -1),
        "raw": states.reshape(n, -1),
        "pca": pca_features(vectors, states, width).reshape(n, -1),
        "surface": surface,
    }


def null_precisions(said: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of right calls among problems [draws, n] called incorrect (correct), for every draw; of all if none is called so."""
    precisions = []
    for calls, truth in ((~said, ~known), (said, known)):
        count = calls.sum(1)
        precisions.append(np.where(count > 0, (calls & truth).sum(1) / np.maximum(count, 1), truth.mean(1)))
    return tuple(precisions)


def _activity(sae: Sae, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean number of active features a vector of x [m, d], and which features are ever active, bool [F]."""
    num_active, alive = 0, np.zeros(len(sae.encoder_bias), dtype=bool)
    for chunk in _chunks(x):
        features = sae.encode(chunk) > 0
        num_active += int(features.sum())
        alive |= features.any(axis=0)
    return num_active / len(x), alive


def _pca(x: np.ndarray, components: int) -> PCA:
    """A PCA of x [m, d] in float64, the exact solver always: the one scikit-learn picks for wide x draws random numbers."""
    components = arguments.whole("components", components, error=MeasureError)
    m, d = x.shape
    solver = "covariance_eigh" if m > d else "full"
    # One thread: how BLAS splits a sum over threads changes its last bits. Errors: a constant x has 0 / 0 explained variance.
    with threadpool_limits(limits=1), np.errstate(invalid="ignore"):
        return PCA(min(components, m, d), svd_solver=solver).fit(x.astype(np.float64))


def _flat(x: ArrayLike) -> np.ndarray:
    """x [..., d] as float32 [m, d], checked."""
    x = _single("vectors", x, SINGLE[0])
    if x.ndim < 2 or 0 in x.shape:
        raise MeasureError(f"vectors are [problems, vectors, d] or [problems, d], got {list(x.shape)}")
    return x.reshape(-1, x.shape[-1])


def _single(name: str, values: ArrayLike, least: float = 0.0) -> np.ndarray:
    """Float32, checked as `as_tensor` does."""
    x = real(name, values)
    check_finite(name, x)
    if x.size:
        check_magnitude(name, x, least, SINGLE[1])
    return np.asarray(x, np.float32)


def _chunks(x: np.ndarray) -> Iterator[np.ndarray]:
    return (x[start : start + QUALITY_CHUNK] for start in range(0, len(x), QUALITY_CHUNK))
