"""Nested folds that never divide a group, and labels permuted within them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from codi_bench.errors import MeasureError, arguments
from codi_bench.measures.arrays import codes
from codi_bench.measures.nulls import arrangements, check_ways

Pairs = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Split:
    """Row indices: train and test, and the (fit, score) pairs of the inner folds that choose C, all inside train."""

    train: np.ndarray
    test: np.ndarray
    inner: tuple[tuple[np.ndarray, np.ndarray], ...]


def nested_splits(
    y: np.ndarray, groups: ArrayLike | None = None, *, folds: int, seed: int, rare: bool = False
) -> tuple[list[Split], np.ndarray]:
    """Outer splits with their inner folds, and the outer fold of every problem [n].

    y [n]: bool, or any classes with `rare`: a class may then have fewer problems (or groups) than folds, and be absent from a
    training set. Raises MeasureError for fewer than two folds, and for too few problems of a class, or too few groups.
    """
    splits, fold = [], np.empty(len(y), int)
    for k, (train, test) in enumerate(_folds(y, groups, folds, seed, rare)):
        splits.append(Split(train, test, inner_folds(y, train, groups, folds=folds, seed=seed, rare=rare)))
        fold[test] = k
    return splits, fold


def inner_folds(
    y: np.ndarray, train: np.ndarray, groups: ArrayLike | None = None, *, folds: int, seed: int, rare: bool = False
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """(fit, score) row indices of the folds inside the rows `train`."""
    inner_groups = None if groups is None else codes("groups", groups, len(y))[train]
    return tuple((train[a], train[b]) for a, b in _folds(y[train], inner_groups, folds, seed, rare))


def in_sample_split(y: np.ndarray, groups: ArrayLike | None = None, *, folds: int, seed: int) -> Split:
    """A split with every row in both train and test; inner folds choose C."""
    rows = np.arange(len(y))
    return Split(rows, rows, tuple(_folds(y, groups, folds, seed)))


def _folds(y: np.ndarray, groups: ArrayLike | None, folds: int, seed: int, rare: bool = False) -> Pairs:
    folds = arguments.whole("folds", folds, 2, error=MeasureError)
    seed = arguments.seed(seed, arguments.FOLD_SEED, error=MeasureError)
    names = np.arange(len(y)) if groups is None else codes("groups", groups, len(y))
    has_variants = len(np.unique(names)) < len(names)
    if not rare and (fewest := min(len(np.unique(names[y == label])) for label in (False, True))) < folds:
        raise MeasureError(f"a class has {fewest} problems (or groups), but {folds} folds need at least {folds}")
    splitter = StratifiedGroupKFold if has_variants else StratifiedKFold
    with warnings.catch_warnings():
        # Whole groups cannot always be dealt evenly; a class that a training set lacks is then one the probe does not know.
        warnings.filterwarnings("ignore", message="The least populated class")
        pairs = list(splitter(folds, shuffle=True, random_state=seed).split(np.zeros(len(y)), y, names if has_variants else None))
    if rare and not all(len(train) and len(test) for train, test in pairs):
        raise MeasureError(f"{len(np.unique(names))} groups cannot be dealt into {folds} folds")
    return pairs


def permuted_labels(
    y: np.ndarray, fold: np.ndarray, groups: ArrayLike | None = None, *, permutations: int, seed: int
) -> np.ndarray:
    """Label draws [permutations, n]: whole groups exchange their labels with groups of the same size and outer fold.

    Raises MeasureError if that leaves too few distinct draws for any p to reach alpha (`nulls.check_ways`).
    """
    permutations = arguments.whole("permutations", permutations, 1, arguments.PERMUTATIONS, error=MeasureError)
    rng = np.random.Generator(np.random.PCG64(arguments.seed(seed, error=MeasureError)))
    blocks = _exchangeable(fold, groups)
    check_ways(arrangements(y, blocks))
    draws = np.tile(y, (permutations, 1))
    for draw in draws:
        for block in blocks:
            draw[block] = y[block[rng.permutation(len(block))]]
    return draws


def check_movable(y: np.ndarray, groups: ArrayLike | None) -> None:
    """The check of `permuted_labels` if no folds could be made: it assumes a single fold, which allows most draws."""
    check_ways(arrangements(y, _exchangeable(np.zeros(len(y), int), groups)))


def _exchangeable(fold: np.ndarray, groups: ArrayLike | None) -> list[np.ndarray]:
    """Row indices [groups, size] of the groups of each fold and size."""
    group_of = np.arange(len(fold)) if groups is None else codes("groups", groups, len(fold))
    order = np.lexsort((fold, group_of))
    starts = np.flatnonzero(np.r_[True, np.diff(group_of[order]) != 0])
    strata: dict[tuple[int, int], list[np.ndarray]] = {}
    for group in np.split(order, starts[1:]):
        strata.setdefault((int(fold[group[0]]), len(group)), []).append(group)
    return [np.stack(strata[key]) for key in sorted(strata)]
