"""Audit scores that predict errors: each alone, and what one adds to another. None was fitted to the problems it scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu

from codi_bench.audits.sae import LABELS, SURFACE
from codi_bench.errors import MeasureError
from codi_bench.measures.folds import inner_folds
from codi_bench.measures.surface import added_auc, conditional_draws, conditional_statistic, propensity
from codi_bench.rules.intervals import auc_of_labels, fold_auc
from codi_bench.rules.p_values import p_above, permutation_p
from codi_bench.rules.stats import Estimate

FEWEST = 20  # of each class
FOLDS = 5  # of the fits that combine a score with what it is held against


@dataclass(frozen=True, eq=False)
class Predictor:
    """AUC of one score for a right answer, what it adds to the surface, and raw p against each null.

    Labels permuted: Mann-Whitney. Drawn from the surface alone: how often a score follows such labels as far as the true ones.
    """

    auc: Estimate
    added: Estimate
    p: dict[str, float]


def check_classes(right: np.ndarray) -> None:
    """Raises MeasureError unless enough problems are answered rightly and enough wrongly."""
    if min(right.sum(), (~right).sum()) < FEWEST:
        raise MeasureError(
            f"{right.sum()} of {len(right)} problems are answered rightly: at least {FEWEST} right and {FEWEST} wrong are needed"
        )


def auc_of(score: np.ndarray, right: np.ndarray) -> Estimate:
    """AUC of a score [n] for right, bool [n], with DeLong's interval. Raises MeasureError where a class is too small."""
    check_classes(right)
    auc, variance = fold_auc(score, right, np.zeros(len(right), int))
    return auc_of_labels(auc, variance, right, 1.0)


def audit_scores(
    scores: Mapping[str, np.ndarray],
    right: np.ndarray,
    *,
    groups: Sequence[str],
    surface: np.ndarray,
    permutations: int,
    seed: int,
) -> dict[str, Predictor]:
    """Scores [n] by name for right, bool [n]; surface: a design [n, columns]. Raises MeasureError where a class is too small."""
    fold, p_right = folds_of(right, groups, seed=seed), propensity(surface, right)
    draws, one_fold = conditional_draws(p_right, groups=groups, draws=permutations, seed=seed), np.zeros(len(right), int)
    predictors = {}
    for name, score in scores.items():
        statistic, null = (conditional_statistic(labels, p_right, score, one_fold) for labels in (right, draws))
        p = {LABELS: float(mannwhitneyu(score[right], score[~right], alternative="greater").pvalue)}
        p[SURFACE] = float(permutation_p(statistic, null))
        predictors[name] = Predictor(auc_of(score, right), added_auc(score, right, surface, fold, phi=1.0)[0], p)
    return predictors


def gain_over(
    score: np.ndarray, other: np.ndarray, right: np.ndarray, *, groups: Sequence[str], seed: int
) -> tuple[Estimate, float]:
    """AUC that a score adds to another one, [n] each, both cross-fitted, and the one-sided p that it adds none."""
    gain, _ = added_auc(score, right, other[:, None], folds_of(right, groups, seed=seed), phi=1.0)
    return gain, p_above(gain)


def folds_of(right: np.ndarray, groups: Sequence[str], *, seed: int) -> np.ndarray:
    """The fold of every problem, int [n]; groups stay together."""
    fold = np.empty(len(right), int)
    for k, (_, rows) in enumerate(inner_folds(right, np.arange(len(right)), np.asarray(groups), folds=FOLDS, seed=seed)):
        fold[rows] = k
    return fold
