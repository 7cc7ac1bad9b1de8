"""Linear probes over a grid of cells under a sound protocol: nested cross-validation, and a null through the whole pipeline.

Outer folds hold out whole groups; scaling is fitted to the rest; C is chosen by inner folds inside the rest; the null repeats all
of that on permuted labels. What it computes is what scikit-learn's StandardScaler and RidgeClassifier (alpha = 1 / C) would, fold
by fold, or its LogisticRegressionCV; the kernels `ridge` and `logistic` make it affordable. Permutations stay within outer folds
and move whole groups (docs/verdicts.md, section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from codi_bench.errors import MeasureError, arguments
from codi_bench.measures import logistic, ridge
from codi_bench.measures.arrays import codes, in_range, plain
from codi_bench.measures.design import Design
from codi_bench.measures.folds import Split, check_movable, in_sample_split, nested_splits, permuted_labels
from codi_bench.measures.nulls import check_drawn
from codi_bench.measures.pipeline import (
    check_place,
    checked_cells,
    choices,
    in_threads,
    penalties,
    precision,
    two_classes,
)
from codi_bench.rules.intervals import fold_auc
from codi_bench.rules.p_values import max_p, permutation_p
from codi_bench.rules.stats import holm

Probe = Literal["ridge", "logistic"]
KERNELS = {"ridge": ridge, "logistic": logistic}
RANKED = 50  # columns of scores that a thread ranks at a time
TOGETHER = 200  # columns of labels that a thread takes, where they share nothing: one cell with many nulls keeps all cores busy
WIDE = 256  # dimensions from which on the designs, which know no labels, are most of the work: observed and null share them


@dataclass(frozen=True, eq=False)
class Scored:
    """score [n, columns, cells] float32: decision values of the test rows of the splits, NaN elsewhere.

    chosen [splits, columns, cells]: C; inner [splits, columns, cells]: mean accuracy of the inner folds at that C.
    """

    score: np.ndarray
    chosen: np.ndarray
    inner: np.ndarray

    def split(self, columns: int) -> tuple[Scored, Scored]:
        """The first columns, and the others."""
        arrays = (self.score, self.chosen, self.inner)
        return Scored(*(array[:, :columns] for array in arrays)), Scored(*(array[:, columns:] for array in arrays))


@dataclass(frozen=True, eq=False)
class ProbeGrid:
    """Probes of every cell ("position"); shapes in brackets, accuracies and AUCs are fractions.

    in_sample_accuracy [positions]: fitted to all problems and scored on them, as the first study did; chosen_C [positions]: what
    cross-validation chose there. held_out_*: by outer folds; held_out_prediction in the dtype of the labels, held_out_score
    decision values [n, positions]; held_out_auc: mean over outer folds, auc_variance its DeLong variance. fold [n]: outer fold.
    fold_C, fold_inner [folds, positions]: chosen C and its accuracy in the inner folds. null_*: the same under null labels
    [permutations, positions]; null_score [permutations, n, positions]. p_value, p_value_auc [positions]: (1 + #{null >=
    observed}) / (B + 1); p_value_max, p_value_max_auc [positions]: against the largest cell of each permutation; p_value_any,
    p_value_any_auc: the smallest of those, so that of the best cell; p_value_holm [positions]. further_score [B, n, positions]:
    held out, under further_labels.
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
    further_score: np.ndarray | None = None


def shares_designs(shape: Sequence[int], probe: str) -> bool:
    """For activations of that shape [n, positions, d], do the designs take most of the time? Then one pass fits all labels."""
    return probe == "ridge" and WIDE <= shape[2] <= shape[0]


def probe_grid(
    activations: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    probe: Probe = "ridge",
    Cs: Sequence[float] | None = None,
    folds: int = 5,
    permutations: int = 1000,
    seed: int = 0,
    null_labels: ArrayLike | None = None,
    further_labels: ArrayLike | None = None,
    in_sample: bool = True,
    in_sample_null: bool = False,
    device: str = "cpu",
    workers: int | None = None,
) -> ProbeGrid:
    """L2-penalised linear probes of every cell, held out and in sample, with their null.

    activations [n, positions, d]; labels [n] of two classes; groups [n]: variants of one problem, never divided. probe: "ridge"
    on +1 and -1, or "logistic"; Cs: penalties tried (ridge: 1 / alpha), rising, the kernel's own by default. null_labels
    [permutations, n]: label draws to be used instead of permutations (a conditional null); further_labels [B, n]: others, whose
    scores alone are wanted, at little cost where `shares_designs`. in_sample: False leaves the in-sample
    fields None; in_sample_null: also refit them to every permutation (a fifth more work). workers: threads on the CPU, one
    per core by default; they change no result.
    Raises MeasureError for arrays that do not match or are not finite, classes too small for the folds, or a null with too few
    distinct draws for any p to reach 0.025 (groups that differ in size within their fold, labels that differ in few groups).
    """
    arguments.choice("probe", probe, KERNELS, error=MeasureError)
    x, y, classes, groups = checked(activations, labels, groups)
    try:
        splits, fold = nested_splits(y, groups, folds=folds, seed=seed)
    except MeasureError:
        if groups is not None and null_labels is None:
            check_movable(y, groups)  # says more of one group, or of a label in few of them, than that these are too few
        raise
    in_sample_folds = in_sample_split(y, groups, folds=folds, seed=seed)
    if null_labels is None:
        null = permuted_labels(y, fold, groups, permutations=permutations, seed=seed)
    else:
        null = binary(null_labels, classes, len(y))
        check_drawn(null, y)
    further = null[:0] if further_labels is None else binary(further_labels, classes, len(y))
    draws = np.concatenate([null, further])
    cells = [x[:, cell] for cell in range(x.shape[1])]
    run = partial(scores, cells, probe=probe, Cs=Cs, device=device, workers=workers)

    def observed_and(labels: np.ndarray, over: Sequence[Split]) -> tuple[Scored, Scored]:
        if shares_designs(x.shape, probe):
            return run(np.column_stack([y, labels.T]), over, loose=True, exact=1).split(1)
        return run(y[:, None], over), run(labels.T, over, loose=True)

    outer_scores, outer_draws = observed_and(draws, splits)
    in_sample_scores = in_sample_null_scores = None
    if in_sample_null:
        in_sample_scores, in_sample_null_scores = observed_and(null, [in_sample_folds])
    elif in_sample:
        in_sample_scores = run(y[:, None], [in_sample_folds])
    null_scores, further_scores = (part.score.transpose(1, 0, 2) for part in outer_draws.split(len(null)))  # [B, n, cells]
    prediction = outer_scores.score[:, 0] > 0
    right = prediction == y[:, None]
    accuracy, null_accuracy = right.mean(0), ((null_scores > 0) == null[:, :, None]).mean(1)
    auc, variance = (column[0] for column in _auc(outer_scores.score.transpose(1, 0, 2), y[None], fold))
    null_auc, null_variance = _auc(null_scores, null, fold)
    p, p_max, p_max_auc = permutation_p(accuracy, null_accuracy), max_p(accuracy, null_accuracy), max_p(auc, null_auc)
    return ProbeGrid(
        in_sample_accuracy=_accuracy(in_sample_scores, y[:, None])[0] if in_sample_scores else None,
        chosen_C=in_sample_scores.chosen[0, 0] if in_sample_scores else None,
        held_out_accuracy=accuracy,
        held_out_balanced_accuracy=(right[y].mean(0) + right[~y].mean(0)) / 2,
        held_out_prediction=classes[prediction.astype(int)],
        held_out_score=outer_scores.score[:, 0],
        held_out_auc=auc,
        auc_variance=variance,
        fold=fold,
        fold_C=outer_scores.chosen[:, 0],
        fold_inner=outer_scores.inner[:, 0],
        null_in_sample=_accuracy(in_sample_null_scores, null.T) if in_sample_null_scores else None,
        null_held_out=null_accuracy,
        null_auc=null_auc,
        null_auc_variance=null_variance,
        null_score=null_scores,
        p_value=p,
        p_value_max=p_max,
        p_value_holm=holm(p),
        p_value_any=float(p_max.min()),
        p_value_auc=permutation_p(auc, null_auc),
        p_value_max_auc=p_max_auc,
        p_value_any_auc=float(p_max_auc.min()),
        further_score=None if further_labels is None else further_scores,
    )


def in_sample_null(
    activations: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    permutations: int,
    seed: int,
    folds: int = 5,
    workers: int | None = None,
) -> np.ndarray:
    """In-sample accuracies [permutations, positions] of the study's logistic probes refitted to permuted labels.

    Labels move within the study's cross-validation folds, so that the folds are as stratified as the study's were.
    """
    x, y, _, groups = checked(activations, labels, groups)
    split = in_sample_split(y, groups, folds=folds, seed=seed)
    fold = np.empty(len(y), int)
    for k, (_, test) in enumerate(split.inner):
        fold[test] = k
    null = permuted_labels(y, fold, groups, permutations=permutations, seed=seed)
    cells = [x[:, cell] for cell in range(x.shape[1])]
    null_scores = scores(cells, null.T, [split], probe="logistic", loose=True, workers=workers)
    return _accuracy(null_scores, null.T)


# --- labels ----------------------------------------------------------------------------------------------------------


def checked(
    activations: ArrayLike, labels: ArrayLike, groups: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Activations [n, positions, d], labels as bool [n] (True: the second class), the two classes, and groups as numbers [n]."""
    x, labels = checked_cells(activations, labels)
    classes = two_classes(labels)
    return x, labels == classes[1], classes, None if groups is None else codes("groups", groups, len(x))


def binary(draws: ArrayLike, classes: np.ndarray, n: int) -> np.ndarray:
    """Label draws as bool [draws, n]; raises MeasureError for another shape or class."""
    draws = plain("null_labels", draws)
    if draws.ndim != 2 or draws.shape[1] != n or not len(draws) or not np.isin(draws, classes).all():
        raise MeasureError(f"null_labels need the shape [permutations, {n}] and the classes {classes.tolist()}")
    return draws == classes[1]


# --- the pipeline ----------------------------------------------------------------------------------------------------


def scores(
    cells: Sequence[np.ndarray],
    labels: np.ndarray,
    splits: Sequence[Split],
    *,
    probe: Probe = "ridge",
    Cs: Sequence[float] | None = None,
    loose: bool = False,
    exact: int = 0,
    scale: bool = True,
    device: str = "cpu",
    workers: int | None = None,
) -> Scored:
    """The pipeline for every cell ([n, d], widths may differ) and every column of labels bool [n, columns].

    loose: float32, and of logistic probes a tolerance that moves fewer than a prediction in a thousand, for nulls; exact: so many
    columns of ridge probes, the first ones, are not loose all the same. scale: to mean 0 and std 1 of the training rows. A split
    without inner folds takes the only C.
    Raises MeasureError for another probe, or Cs that are not positive and rising.
    """
    arguments.choice("probe", probe, KERNELS, error=MeasureError)
    Cs = penalties(KERNELS[probe].CS if Cs is None else Cs)
    check_place(device, workers)
    signs = torch.as_tensor(np.where(labels, 1.0, -1.0), device=device)
    task = partial(_cell, splits=splits, probe=probe, Cs=Cs, loose=loose, exact=exact, scale=scale)
    if device != "cpu":
        results = [task(cell, signs) for cell in cells]
    else:
        # what ridge computes without the labels is most of its work, and is done once
        parts = signs.split(TOGETHER, dim=1) if probe == "logistic" else (signs,)
        pieces = iter(in_threads(task, [(cell, part) for cell in cells for part in parts], workers))
        results = [tuple(np.concatenate(piece, axis=1) for piece in zip(*(next(pieces) for _ in parts))) for _ in cells]
    return Scored(*(np.stack(arrays, axis=-1) for arrays in zip(*results, strict=True)))


@torch.inference_mode()
def _cell(
    cell: np.ndarray,
    signs: Tensor,
    *,
    splits: Sequence[Split],
    probe: Probe,
    Cs: tuple[float, ...],
    loose: bool,
    exact: int,
    scale: bool,
) -> tuple[np.ndarray, ...]:
    kernel = KERNELS[probe]
    # Of many features the products take the memory and the time, and ridge penalties lie far above what single precision rounds.
    single = loose and not exact and probe == "ridge" and cell.shape[1] > len(cell)
    # A copy always: torch takes neither strides that run backwards nor, without a warning, arrays that may not be written.
    x = torch.as_tensor(np.array(in_range(cell) if scale else cell, np.float32 if single else np.float64), device=signs.device)
    # columns of one precision each; the design is as precise as the first of them needs it
    blocks = [signs[:, :exact], signs[:, exact:].to(precision(loose))] if exact else [signs.to(precision(loose))]
    grids = [torch.tensor(Cs, dtype=labels.dtype, device=signs.device) for labels in blocks]
    ends = np.cumsum([labels.shape[1] for labels in blocks])

    def right(of: Design, fit_rows: Tensor, score_rows: Tensor) -> Tensor:
        shares = []
        for labels, grid in zip(blocks, grids, strict=True):
            hits = (kernel.path(of.to(labels.dtype), labels[fit_rows], grid) > 0) == (labels[score_rows] > 0)
            shares.append(hits.sum(1) / hits.new_full((), hits.shape[1], dtype=torch.float64))
        return torch.cat(shares, 1)

    score, chosen, inner = np.full(signs.shape, np.nan, np.float32), [], []
    shape, dtype = (len(Cs), signs.shape[1]), blocks[0].dtype
    for split, of, best, accuracy in choices(x, splits, right, columns=shape, dtype=dtype, scale=scale):
        chosen.append(np.array(Cs)[best.cpu().numpy()])
        inner.append(accuracy.cpu().numpy())
        train = torch.as_tensor(split.train, device=x.device)
        for labels, grid, end in zip(blocks, grids, ends, strict=True):
            columns = slice(end - labels.shape[1], end)
            decisions = kernel.decide(of.to(labels.dtype), labels[train], grid[best[columns]])
            score[split.test, columns] = decisions.float().cpu().numpy()
    return score, np.stack(chosen), np.stack(inner)


def _auc(score: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUCs and their variances [columns, cells] of scores [columns, n, cells] for labels [columns, n], within folds."""
    blocks = [slice(start, start + RANKED) for start in range(0, len(score), RANKED)]
    parts = in_threads(fold_auc, [(score[rows].transpose(0, 2, 1), labels[rows, None, :], fold) for rows in blocks], None)
    auc, variance = (np.concatenate(each) for each in zip(*parts, strict=True))
    return auc, variance


def _accuracy(result: Scored, labels: np.ndarray) -> np.ndarray:
    """Accuracies [columns, cells] on labels [n, columns]."""
    return ((result.score > 0) == labels[:, :, None]).mean(0)
