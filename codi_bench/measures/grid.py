"""Linear probes over a grid of cells under a sound protocol: nested cross-validation, and a null through the whole pipeline.

Outer folds hold out whole groups; scaling is fitted to the rest; C is chosen by inner folds inside the rest; the null repeats all
of that on permuted labels. What it computes is what scikit-learn's StandardScaler + LogisticRegressionCV would, fold by fold;
`logistic` makes it affordable. Permutations stay within outer folds and move whole groups (docs/verdicts.md, section 6).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from torch import Tensor

from codi_bench.errors import MeasureError
from codi_bench.measures.logistic import LOOSE, TIGHT, Design, Weights, decide, design, fit
from codi_bench.rules.intervals import fold_auc
from codi_bench.rules.stats import holm
from codi_bench.rules.validity import permutation_p

CS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
AT_ONCE = 100_000  # numbers an elementwise operation works on
TOGETHER = 200  # columns of labels that a thread of the CPU takes: a single cell with several nulls should use more than one core


@dataclass(frozen=True, eq=False)
class Split:
    """Row indices: train and test, and the (fit, score) pairs of the inner folds that choose C, all inside train."""

    train: np.ndarray
    test: np.ndarray
    inner: tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclass(frozen=True, eq=False)
class Scored:
    """score [n, columns, cells] float32: decision values of the test rows of the splits, NaN elsewhere.

    chosen [splits, columns, cells]: C; inner [splits, columns, cells]: mean accuracy of the inner folds at that C.
    """

    score: np.ndarray
    chosen: np.ndarray
    inner: np.ndarray


@dataclass(frozen=True, eq=False)
class ProbeGrid:
    """Probes of every cell ("position"); shapes in brackets, accuracies and AUCs are fractions.

    in_sample_accuracy [positions]: fitted to all problems and scored on them, as the first study did; chosen_C [positions]: what
    cross-validation chose there. held_out_*: by outer folds; held_out_prediction in the dtype of the labels, held_out_score
    decision values [n, positions]; held_out_auc: mean over outer folds, auc_variance its DeLong variance. fold [n]: outer fold.
    fold_C, fold_inner [folds, positions]: chosen C and its accuracy in the inner folds. null_*: the same under null labels
    [permutations, positions]; null_score [permutations, n, positions]. p_value, p_value_auc [positions]: (1 + #{null >=
    observed}) / (B + 1); p_value_max, p_value_max_auc [positions]: against the largest cell of each permutation; p_value_any,
    p_value_any_auc: the smallest of those, so that of the best cell; p_value_holm [positions].
    """

    in_sample_accuracy: np.ndarray | None
    chosen_C: np.ndarray | None
    held_out_accuracy: np.ndarray
    held_out_balanced_accuracy: np.ndarray
    held_out_prediction: np.ndarray
    held_out_score: np.ndarray
    held_out_auc: np.ndarray
    auc_variance: np.ndarray
    fold: np.ndarray
    fold_C: np.ndarray
    fold_inner: np.ndarray
    null_in_sample: np.ndarray | None
    null_held_out: np.ndarray
    null_auc: np.ndarray
    null_auc_variance: np.ndarray
    null_score: np.ndarray
    p_value: np.ndarray
    p_value_max: np.ndarray
    p_value_holm: np.ndarray
    p_value_any: float
    p_value_auc: np.ndarray
    p_value_max_auc: np.ndarray
    p_value_any_auc: float


def probe_grid(
    activations: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    Cs: Sequence[float] = CS,
    folds: int = 5,
    permutations: int = 1000,
    seed: int = 0,
    null_labels: ArrayLike | None = None,
    in_sample: bool = True,
    in_sample_null: bool = False,
    device: str = "cpu",
    workers: int | None = None,
) -> ProbeGrid:
    """L2 logistic probes of every cell, held out and in sample, with their null.

    activations [n, positions, d]; labels [n] of two classes; groups [n]: variants of one problem, never divided. null_labels
    [permutations, n]: label draws to be used instead of permutations (a conditional null). in_sample: False leaves those two
    out (None); in_sample_null: also refit the in-sample probes to every permutation (a fifth more work). workers: threads on the
    CPU, one a core by default; they change no result.
    Raises MeasureError for shapes that do not fit, values that are not finite, or classes too small for the folds.
    """
    x, y, classes = checked(activations, labels, groups)
    splits, fold = nested_splits(y, groups, folds=folds, seed=seed)
    in_sample_folds = in_sample_split(y, groups, folds=folds, seed=seed)
    if null_labels is None:
        null = permuted_labels(y, fold, groups, permutations=permutations, seed=seed)
    else:
        null = binary(null_labels, classes, len(y))
    cells = [x[:, cell] for cell in range(x.shape[1])]
    run = partial(scores, cells, Cs=Cs, device=device, workers=workers)

    outer_scores, in_sample_scores = (
        run(y[:, None], splits),
        cast(Scored, run(y[:, None], [in_sample_folds]) if in_sample else None),  # read with in_sample alone
    )
    null_scores = run(null.T, splits, loose=True).score.transpose(1, 0, 2)  # [B, n, cells]
    prediction = outer_scores.score[:, 0] > 0
    right = prediction == y[:, None]
    accuracy, null_accuracy = right.mean(0), ((null_scores > 0) == null[:, :, None]).mean(1)
    (auc, variance), (null_auc, null_variance) = (
        _auc(outer_scores.score.transpose(1, 0, 2), y[None], fold),
        _auc(null_scores, null, fold),
    )
    in_sample_nulls = None
    if in_sample_null:
        in_sample_nulls = ((run(null.T, [in_sample_folds], loose=True).score > 0) == null.T[:, :, None]).mean(0)
    p = permutation_p(accuracy, null_accuracy)
    p_max, p_max_auc = (
        permutation_p(a, np.broadcast_to(b.max(1, keepdims=True), b.shape))
        for a, b in ((accuracy, null_accuracy), (auc[0], null_auc))
    )
    return ProbeGrid(
        in_sample_accuracy=((in_sample_scores.score[:, 0] > 0) == y[:, None]).mean(0) if in_sample else None,
        chosen_C=in_sample_scores.chosen[0, 0] if in_sample else None,
        held_out_accuracy=accuracy,
        held_out_balanced_accuracy=(right[y].mean(0) + right[~y].mean(0)) / 2,
        held_out_prediction=classes[prediction.astype(int)],
        held_out_score=outer_scores.score[:, 0],
        held_out_auc=auc[0],
        auc_variance=variance[0],
        fold=fold,
        fold_C=outer_scores.chosen[:, 0],
        fold_inner=outer_scores.inner[:, 0],
        null_in_sample=in_sample_nulls,
        null_held_out=null_accuracy,
        null_auc=null_auc,
        null_auc_variance=null_variance,
        null_score=null_scores,
        p_value=p,
        p_value_max=p_max,
        p_value_holm=holm(p),
        p_value_any=float(p_max.min()),
        p_value_auc=permutation_p(auc[0], null_auc),
        p_value_max_auc=p_max_auc,
        p_value_any_auc=float(p_max_auc.min()),
    )


def in_sample_null(
    activations: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    permutations: int,
    seed: int,
    Cs: Sequence[float] = CS,
    folds: int = 5,
    workers: int | None = None,
) -> np.ndarray:
    """In-sample accuracies [permutations, positions] of the study's probes refitted to permuted labels.

    Labels move within the study's cross-validation folds, so that the folds are as stratified as the study's were.
    """
    x, y, _ = checked(activations, labels, groups)
    split = in_sample_split(y, groups, folds=folds, seed=seed)
    fold = np.empty(len(y), int)
    for k, (_, test) in enumerate(split.inner):
        fold[test] = k
    null = permuted_labels(y, fold, groups, permutations=permutations, seed=seed)
    null_scores = scores([x[:, cell] for cell in range(x.shape[1])], null.T, [split], Cs=Cs, loose=True, workers=workers)
    return ((null_scores.score > 0) == null.T[:, :, None]).mean(0)


# --- folds and labels ------------------------------------------------------------------------------------------------


def nested_splits(y: np.ndarray, groups: ArrayLike | None = None, *, folds: int, seed: int) -> tuple[list[Split], np.ndarray]:
    """Outer splits with their inner folds, and the outer fold of every problem [n]. y bool [n]."""
    splits, fold = [], np.empty(len(y), int)
    for k, (train, test) in enumerate(_folds(y, groups, folds, seed)):
        splits.append(Split(train, test, inner_folds(y, train, groups, folds=folds, seed=seed)))
        fold[test] = k
    return splits, fold


def inner_folds(
    y: np.ndarray, train: np.ndarray, groups: ArrayLike | None = None, *, folds: int, seed: int
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """(fit, score) row indices of the folds inside the rows `train`."""
    inner_groups = None if groups is None else np.asarray(groups)[train]
    return tuple((train[a], train[b]) for a, b in _folds(y[train], inner_groups, folds, seed))


def in_sample_split(y: np.ndarray, groups: ArrayLike | None = None, *, folds: int, seed: int) -> Split:
    """Everything is train and test; folds choose C."""
    rows = np.arange(len(y))
    return Split(rows, rows, tuple(_folds(y, groups, folds, seed)))


def _folds(y: np.ndarray, groups: ArrayLike | None, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    if folds < 2:
        raise MeasureError(f"cross-validation needs at least two folds, not {folds}")
    has_variants = groups is not None and len(np.unique(groups)) < len(cast(np.ndarray, groups))
    units = (
        len(np.unique(np.asarray(groups)[y])) if has_variants else y.sum(),
        len(np.unique(np.asarray(groups)[~y])) if has_variants else (~y).sum(),
    )
    if min(units) < folds:
        raise MeasureError(f"a class has {min(units)} problems (or groups), {folds} folds need {folds}")
    splitter = StratifiedGroupKFold if has_variants else StratifiedKFold
    return list(splitter(folds, shuffle=True, random_state=seed).split(np.zeros(len(y)), y, groups if has_variants else None))


def permuted_labels(
    y: np.ndarray, fold: np.ndarray, groups: ArrayLike | None = None, *, permutations: int, seed: int
) -> np.ndarray:
    """Label draws bool [permutations, n]: whole groups exchange their labels with groups of the same size and outer fold."""
    if permutations < 1:
        raise MeasureError(f"a permutation null needs at least one permutation, not {permutations}")
    rng = np.random.Generator(np.random.PCG64(seed))
    _, group_of = np.unique(np.arange(len(y)) if groups is None else np.asarray(groups), return_inverse=True)
    order = np.lexsort((fold, group_of))
    starts = np.flatnonzero(np.r_[True, np.diff(group_of[order]) != 0])
    members = np.split(order, starts[1:])
    strata: dict[tuple[int, int], list[np.ndarray]] = {}
    for group in members:
        strata.setdefault((int(fold[group[0]]), len(group)), []).append(group)
    blocks = [np.stack(strata[key]) for key in sorted(strata)]  # [groups, size] each
    draws = np.tile(y, (permutations, 1))
    for draw in draws:
        for block in blocks:
            draw[block] = y[block[rng.permutation(len(block))]]
    return draws


def checked(
    activations: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations [n, positions, d], labels as bool [n] (True: the second class), and the two classes."""
    x, labels = np.asarray(activations), np.asarray(labels)
    if x.ndim != 3 or 0 in x.shape or labels.shape != x.shape[:1]:
        raise MeasureError(
            f"probes need activations [n, positions, d] and labels [n], got {list(x.shape)} and {list(labels.shape)}"
        )
    classes = np.unique(labels)
    if len(classes) != 2:
        raise MeasureError(f"a probe needs two classes, the labels have {len(classes)}: {classes[:5].tolist()}")
    if groups is not None and np.shape(groups) != labels.shape:
        raise MeasureError(f"groups: {len(labels)} problems need as many names, not {list(np.shape(groups))}")
    if not np.isfinite(x).all():
        raise MeasureError("activations contain values that are not finite")
    return x, labels == classes[1], classes


def binary(draws: ArrayLike, classes: np.ndarray, n: int) -> np.ndarray:
    """Label draws as bool [draws, n]; raises MeasureError for another shape or class."""
    draws = np.asarray(draws)
    if draws.ndim != 2 or draws.shape[1] != n or not len(draws) or not np.isin(draws, classes).all():
        raise MeasureError(f"null_labels need the shape [permutations, {n}] and the classes {classes.tolist()}")
    return draws == classes[1]


# --- the pipeline ----------------------------------------------------------------------------------------------------


def scores(
    cells: Sequence[np.ndarray],
    labels: np.ndarray,
    splits: Sequence[Split],
    *,
    Cs: Sequence[float] = CS,
    loose: bool = False,
    scale: bool = True,
    device: str = "cpu",
    workers: int | None = None,
) -> Scored:
    """The pipeline for every cell ([n, d], widths may differ) and every column of labels bool [n, columns].

    loose: float32 and a tolerance that moves fewer than a prediction in a thousand, for nulls. scale: to mean 0 and std 1 of
    the training rows. A split without inner folds takes the only C.
    """
    if not len(Cs) or not np.isfinite(Cs).all() or min(Cs) <= 0 or (np.diff(Cs) <= 0).any():
        raise MeasureError(f"Cs must be positive and rising, got {list(Cs)}")
    signs = torch.as_tensor(np.where(labels, 1.0, -1.0), device=device)
    task = partial(_cell, splits=splits, Cs=tuple(Cs), loose=loose, scale=scale)
    results: Sequence[Sequence[np.ndarray]]
    if device != "cpu":
        results = [task(cell, signs) for cell in cells]
    else:
        threads, parts = torch.get_num_threads(), signs.split(TOGETHER, dim=1)
        # One thread a cell: how a sum is split over threads would change its last bits.
        with ThreadPoolExecutor(workers or os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            tasks = [[pool.submit(task, cell, part) for part in parts] for cell in cells]
            results = [
                [np.concatenate(pieces, axis=1) for pieces in zip(*(future.result() for future in cell))] for cell in tasks
            ]
        torch.set_num_threads(threads)
    return Scored(*(np.stack(parts, axis=-1) for parts in zip(*results, strict=True)))


@torch.inference_mode()
def _cell(
    x: np.ndarray | Tensor, signs: Tensor, *, splits: Sequence[Split], Cs: tuple[float, ...], loose: bool, scale: bool
) -> tuple[np.ndarray, ...]:
    dtype, tolerance = (torch.float32, LOOSE) if loose else (torch.float64, TIGHT)
    x = torch.as_tensor(np.asarray(x, np.float64), device=signs.device)
    grid, labels = torch.tensor(Cs, dtype=dtype, device=signs.device), signs.to(dtype)
    fit_rows: np.ndarray | Tensor
    score_rows: np.ndarray | Tensor
    score, choices, inner = np.full(signs.shape, np.nan, np.float32), [], []
    for split in splits:
        train, test = (torch.as_tensor(index, device=x.device) for index in (split.train, split.test))
        features = _standardised(x, train) if scale else x - x[train].mean(0)
        gram = features @ features.T if x.shape[1] > len(train) else None
        votes = torch.zeros(len(Cs), labels.shape[1], dtype=torch.float64, device=x.device)
        for fit_rows, score_rows in split.inner:
            fit_rows, score_rows = (torch.as_tensor(index, device=x.device) for index in (fit_rows, score_rows))
            decisions = _path(design(features, gram, fit_rows, score_rows).to(dtype), labels[fit_rows], grid, tolerance)
            # Summed fold by fold as scikit-learn does: its ties are ties here.
            votes += ((decisions > 0) == (labels[score_rows] > 0)).double().mean(1)
        best = votes.argmax(0)  # the first of equals: the smallest C
        choices.append(np.array(Cs)[best.cpu().numpy()])
        inner.append((votes.amax(0) / max(1, len(split.inner))).cpu().numpy())
        fold_design = design(features, gram, train, test).to(dtype)
        score[split.test] = (
            decide(fold_design, fit(fold_design, labels[train], grid[best], tolerance=tolerance)).float().cpu().numpy()
        )
    return score, np.stack(choices), np.stack(inner)


def _path(fold_design: Design, signs: Tensor, grid: Tensor, tolerance: float) -> Tensor:
    """Decision values [Cs, m, columns] of the test rows at every C.

    From the smallest C on, each starting from the one before; small problems at once, where calling the operations costs more.
    """
    weights: Weights | None
    n, columns = signs.shape
    if n * columns * len(grid) <= AT_ONCE:
        weights = fit(fold_design, signs.repeat_interleave(len(grid), 1), grid.repeat(columns), tolerance=tolerance)
        return decide(fold_design, weights).view(-1, columns, len(grid)).permute(2, 0, 1)
    decisions, weights = [], None
    for C in grid:
        weights = fit(fold_design, signs, C.expand(columns), start=weights, tolerance=tolerance)
        decisions.append(decide(fold_design, weights))
    return torch.stack(decisions)


def _standardised(x: Tensor, train: Tensor) -> Tensor:
    """x scaled as scikit-learn's StandardScaler fitted to the rows `train` would; a constant feature becomes 0."""
    sample, eps = x[train], torch.finfo(x.dtype).eps
    mean, variance = sample.mean(0), sample.var(0, unbiased=False)
    constant = variance <= len(sample) * eps * variance + (len(sample) * mean * eps) ** 2
    return (x - mean) / torch.where(constant, 1.0, variance.sqrt())


def _auc(score: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUC and its DeLong variance [draws, cells] of scores [draws, n, cells] and labels [draws, n]."""
    return fold_auc(score.transpose(0, 2, 1), labels[:, None, :], fold)
