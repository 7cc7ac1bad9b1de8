"""Ridge probes with many classes for the intermediate value that a thought encodes, under the protocol of `probe_grid`.

A class is predicted as scikit-learn's RidgeClassifier does: one against the rest for each, and the largest decision value wins.

Outer folds hold out whole groups; scaling is fitted to the rest; C is chosen by inner folds inside the rest; the null repeats all
of that on permuted values, which stay within outer folds and move by whole groups (docs/verdicts.md, section 6).

A probe of many classes on a few hundred problems may know the problems rather than the value. The control task (Hewitt & Liang
2019, arXiv 1909.03368) gives every word type a random label that only memory can tell; the accuracy above that control is the
probe's selectivity. The type of a thought is here a surface key that the caller names, such as template and operands: every
distinct key gets a value drawn from the empirical distribution of values, and the same pipeline, on the same folds, learns it.
A key that recurs on both sides of a fold can be looked up; one that does not cannot, and then the control is at chance and
selectivity is the gain over chance. So a control by group alone says nothing of memory: groups are never divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from codi_bench.errors import MeasureError, arguments
from codi_bench.measures import ridge
from codi_bench.measures.arrays import check_finite, codes, in_range, real
from codi_bench.measures.design import Design
from codi_bench.measures.folds import Split, nested_splits, permuted_labels
from codi_bench.measures.pipeline import check_place, checked_cells, choices, in_threads, penalties, precision
from codi_bench.rules.intervals import accuracy_phi, cv_accuracy
from codi_bench.rules.p_values import max_p, permutation_p
from codi_bench.rules.stats import Interval

MIN_PROBLEMS = 40
CONTROL_DRAWS = 5  # assignments of random values that a control accuracy is the mean of: one alone is as noisy as a null draw


@dataclass(frozen=True, eq=False)
class ValueProbes:
    """Probes of every position; shapes in brackets, n counts the problems kept, accuracies are fractions.

    kept bool [problems given]; n, groups: how many problems and groups were kept; classes [k]: the values, rising; majority: the
    share of the most frequent one. prediction [n, positions] in the dtype of the values; fold [n]: outer fold; fold_C [folds,
    positions]. accuracy: held out, one estimate a position, Wilson for groups / phi. null [permutations, positions]; phi, chance:
    what the null says of the variance and the mean of an accuracy. p_value [positions]: (1 + #{null >= observed}) / (B + 1);
    p_value_max [positions]: against the best position of each permutation; p_value_any: the smallest of those.
    control [draws, positions]: held-out accuracies of the control task; selectivity [positions]: accuracy less their mean. Both
    None without control.
    """

    kept: np.ndarray
    n: int
    groups: int
    classes: np.ndarray
    majority: float
    prediction: np.ndarray
    fold: np.ndarray
    fold_C: np.ndarray
    accuracy: tuple[Interval, ...]
    null: np.ndarray
    phi: float
    chance: float
    p_value: np.ndarray
    p_value_max: np.ndarray
    p_value_any: float
    control: np.ndarray | None
    selectivity: np.ndarray | None


def value_probes(
    activations: ArrayLike,
    values: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    Cs: Sequence[float] = ridge.CS,
    folds: int = 5,
    min_count: int | None = None,
    permutations: int = 199,
    seed: int,
    workers: int | None = None,
    control: bool = True,
    control_key: ArrayLike | None = None,
) -> ValueProbes:
    """Held-out ridge probes of a value at every position, with their null and control task.

    activations [problems, positions, d]; values [problems], numbers; groups [problems]: variants of one problem, never divided.
    Problems are kept whose value occurs in at least min_count groups (default 2 x folds; without groups every problem is one).
    control_key [problems]: surface type of a problem, by default its group. workers: threads, one a core by default; they change
    no result.
    Raises MeasureError for shapes that do not match, numbers that are not finite, invalid settings, or fewer than two
    values or 40 problems kept.
    """
    x, values, group, key = _check(activations, values, groups, control_key)
    _check_settings(folds, min_count, permutations)
    Cs, seed = penalties(Cs), arguments.seed(seed, arguments.FOLD_SEED, error=MeasureError)
    check_place("cpu", workers)
    selection = _frequent(values, group, 2 * folds if min_count is None else min_count)
    x, group, key = x[selection], group[selection], key[selection]
    classes, y = np.unique(values[selection], return_inverse=True)
    splits, fold = nested_splits(y, group, folds=folds, seed=seed, rare=True)
    null_labels = permuted_labels(y, fold, group, permutations=permutations, seed=seed)
    control_labels = control_values(y, key, draws=CONTROL_DRAWS if control else 0, seed=seed)

    run = partial(
        _predictions,
        [x[:, cell] for cell in range(x.shape[1])],
        classes=len(classes),
        splits=splits,
        Cs=tuple(Cs),
        workers=workers,
    )
    prediction, best_C = run(y[:, None])
    random_labels = np.concatenate([null_labels, control_labels]).T
    # [permutations + draws, positions]
    random_accuracy = (run(random_labels, loose=True)[0] == random_labels[:, :, None]).mean(0)
    null, control_accuracy = random_accuracy[:permutations], random_accuracy[permutations:]
    accuracy = (prediction[:, 0] == y[:, None]).mean(0)
    units = len(np.unique(group))
    phi, chance = accuracy_phi(null, units)
    p_max = max_p(accuracy, null)
    return ValueProbes(
        kept=selection,
        n=len(y),
        groups=units,
        classes=classes,
        majority=float(np.bincount(y).max() / len(y)),
        prediction=classes[prediction[:, 0]],
        fold=fold,
        fold_C=best_C[:, 0],
        accuracy=tuple(cv_accuracy(float(a), units, phi) for a in accuracy),
        null=null,
        phi=phi,
        chance=chance,
        p_value=permutation_p(accuracy, null),
        p_value_max=p_max,
        p_value_any=float(p_max.min()),
        control=control_accuracy if control else None,
        selectivity=accuracy - control_accuracy.mean(0) if control else None,
    )


# --- what is asked for -----------------------------------------------------------------------------------------------


def _check(
    activations: ArrayLike, values: ArrayLike, groups: ArrayLike | None, keys: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Activations [problems, positions, d], values [problems], and groups and control keys as numbers [problems]."""
    x, values = checked_cells(activations, values, "values", real)
    check_finite("values", values)
    if values.dtype == bool:
        raise MeasureError("values: holds bool; numbers are needed")
    groups = np.arange(len(x)) if groups is None else codes("groups", groups, len(x))
    return x, values, groups, groups if keys is None else codes("control_key", keys, len(x), blank=True)


def _check_settings(folds: int, min_count: int | None, permutations: int) -> None:
    arguments.whole("folds", folds, 2, error=MeasureError)
    arguments.whole("permutations", permutations, 2, arguments.PERMUTATIONS, error=MeasureError)  # an interval needs a variance
    if min_count is not None and arguments.whole("min_count", min_count, 0, error=MeasureError) < folds + 2:
        # An outer fold takes at most two of folds + 2, and leaves one for each inner fold.
        raise MeasureError(f"min_count = {min_count}: {folds} folds inside {folds} folds need {folds + 2} of a value")


def _frequent(values: np.ndarray, groups: np.ndarray, min_count: int) -> np.ndarray:
    """The problems to keep, bool [problems]: those whose value occurs in at least min_count groups."""
    pairs = np.unique(np.stack([np.unique(values, return_inverse=True)[1], groups], axis=1), axis=0)
    occurrences = np.bincount(pairs[:, 0])
    selection = (occurrences >= min_count)[np.unique(values, return_inverse=True)[1]]
    num_values = len(np.unique(values[selection]))
    if num_values < 2 or selection.sum() < MIN_PROBLEMS:
        minimum = f"at least 2 values and {MIN_PROBLEMS} problems are needed"
        raise MeasureError(f"{num_values} values occur in {min_count} groups or more, in {selection.sum()} problems: {minimum}")
    return selection


def control_values(y: np.ndarray, keys: np.ndarray, *, draws: int, seed: int) -> np.ndarray:
    """Control labels [draws, n]: every distinct key gets the value of a problem drawn at random."""
    rng = np.random.Generator(np.random.PCG64([seed, 1]))  # another stream than the permutations'
    _, member = np.unique(keys, return_inverse=True)
    return y[rng.integers(len(y), size=(draws, member.max() + 1))][:, member]


# --- the pipeline ----------------------------------------------------------------------------------------------------


def _predictions(
    cells: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    classes: int,
    splits: Sequence[Split],
    Cs: tuple[float, ...],
    workers: int | None,
    loose: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The pipeline for every cell [n, d] and column of labels int [n, columns].

    Returns held-out predictions [n, columns, cells] and the chosen C [splits, columns, cells].

    loose: float32, for what is drawn at random.
    """
    task = partial(_cell, labels=torch.as_tensor(labels), classes=classes, splits=splits, Cs=Cs, loose=loose)
    prediction, best_C = zip(*in_threads(task, [(cell,) for cell in cells], workers), strict=True)
    return np.stack(prediction, axis=-1), np.stack(best_C, axis=-1)


@torch.inference_mode()
def _cell(
    cell: np.ndarray, *, labels: Tensor, classes: int, splits: Sequence[Split], Cs: tuple[float, ...], loose: bool
) -> tuple[np.ndarray, np.ndarray]:
    dtype = precision(loose)
    x, grid = torch.as_tensor(np.array(in_range(cell), np.float64)), torch.tensor(Cs, dtype=dtype)

    def signs(rows: Tensor) -> Tensor:
        """[rows, classes x columns], by class."""
        picked = labels[rows]
        return torch.cat([torch.where(picked == name, 1.0, -1.0).to(dtype) for name in range(classes)], dim=1)

    def right(of: Design, fit_rows: Tensor, score_rows: Tensor) -> Tensor:
        decisions = ridge.path(of, signs(fit_rows), grid).unflatten(2, (classes, -1))  # [Cs, m, classes, columns]
        return (decisions.argmax(2) == labels[score_rows]).double().mean(1)

    prediction, chosen = torch.empty_like(labels), []
    for split, of, best, _ in choices(x, splits, right, columns=(len(Cs), labels.shape[1]), dtype=dtype):
        chosen.append(np.array(Cs)[best.numpy()])
        decisions = ridge.decide(of, signs(torch.as_tensor(split.train)), grid[best].repeat(classes))
        prediction[torch.as_tensor(split.test)] = decisions.unflatten(1, (classes, -1)).argmax(1)
    return prediction.numpy(), np.stack(chosen)
