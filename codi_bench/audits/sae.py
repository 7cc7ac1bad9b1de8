"""Audit of SAE features: do they predict errors, and better than the states that they were made from?

SAE, PCA, scaler and classifier see the training groups only (docs/verdicts.md, section 6).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike

from codi_bench.audits.confidence import GAIN_FLOOR, OverConfidence, confidence_logit, over_confidence
from codi_bench.measures.folds import Split, inner_folds, permuted_labels
from codi_bench.measures.grid import Scored, scores
from codi_bench.measures.pipeline import use_threads
from codi_bench.measures.sae import Sae
from codi_bench.measures.sae_heldout import HeldoutQuality, feature_sets, grouped_split, null_precisions, quality
from codi_bench.measures.surface import added_auc, conditional_draws, conditional_statistic, held_out, propensity
from codi_bench.rules.intervals import Ranked, auc_of_labels, auc_phi, fold_auc
from codi_bench.rules.p_values import check_permuted, permutation_p
from codi_bench.rules.stats import Estimate, mcnemar_exact, newcombe_paired, stream, wilson
from codi_bench.rules.validity import Verdict, sound_verdict
from codi_bench.store.memo import uncached

CS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # features of all vectors of a problem are many thousands, and penalties grow with them
AUC_FLOOR, RATE_FLOOR = 0.05, 0.05
TEST_SHARE = 0.5  # problems cost less than what is learned from them: what is held out decides
LABELS, SURFACE = "labels permuted", "surface"


@dataclass(frozen=True, eq=False)
class FeatureScore:
    """One feature set on the held-out problems: right bool [n_test], accuracy and AUC with intervals."""

    right: np.ndarray
    accuracy: Estimate
    auc: Estimate


@dataclass(frozen=True, eq=False)
class SaeAudit:
    """Error prediction from the features of one SAE (and of a TopK one) on held-out groups, compared with raw, PCA and surface.

    n: held-out groups; fitted: training problems; train_accuracy: on those. ranked: what the features say of each held-out
    problem. sets: by name, "sae" first. p: raw permutation p
    against each null: of the AUC, and of the precisions (labels permuted). null_*: of the accuracy, AUC and precisions
    [permutations]. added: AUC that the features add to the surface; over_confidence: to what the model's own confidence tells.
    called, precision: (incorrect, correct).
    """

    n: int
    fitted: int
    permutations: int
    ranked: Ranked
    sets: dict[str, FeatureScore]
    train_accuracy: float
    null_accuracy: np.ndarray
    null_auc: np.ndarray
    p_auc: dict[str, float]
    added: Estimate
    over_confidence: OverConfidence
    best_other: str
    gain: Estimate
    gain_p: float
    precision: tuple[Estimate | None, Estimate | None]
    null_precision: tuple[np.ndarray, np.ndarray]
    p_precision: tuple[float, float]
    quality: HeldoutQuality
    topk_quality: HeldoutQuality


def audit_errors(
    states: np.ndarray,
    right: np.ndarray,
    *,
    groups: ArrayLike,
    surface: np.ndarray,
    confidence: np.ndarray,
    train_sae: Callable[[np.ndarray], Sae],
    train_topk: Callable[[np.ndarray], Sae],
    permutations: int,
    seed: int = 0,
    run: Callable[..., Any] = uncached,
    meanwhile: Callable[[], object] = lambda: None,
) -> SaeAudit:
    """states float32 [n, vectors, d], right bool [n], groups [n], surface [n, columns]; the trainers take vectors [m, d].

    confidence [n, columns]: of the model in its own answers. One grouped split into halves, and of each held-out group
    its first problem. run: how the classifiers' long computations are called, as by `bench.cached`. meanwhile: other work, done
    while both autoencoders are trained.
    Raises MeasureError if a side would have only one class.
    """
    groups = np.asarray(groups)
    train, test = grouped_split(groups, right, test_share=TEST_SHARE, seed=seed)
    side = np.zeros(len(right), int)
    side[test] = 1  # all of the held-out groups: labels may not cross over
    test = test[np.unique(groups[test], return_index=True)[1]]  # one problem a group: tests and intervals count groups
    vectors = states[train].reshape(-1, states.shape[-1])
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(2, initializer=use_threads, initargs=(threads,)) as pool:  # small ones take one core each
        trained = [pool.submit(train, vectors) for train in (train_sae, train_topk)]
        meanwhile()
        sae, topk = (future.result() for future in trained)
    features = feature_sets(states, train, sae=sae, surface=surface)
    features["topk"] = topk.encode(states).reshape(len(states), -1)
    split = Split(train, np.arange(len(right)), inner_folds(right, train, groups, folds=5, seed=seed))
    label_draws = permuted_labels(right, side, groups, permutations=permutations, seed=seed)
    p_right = propensity(surface, right)
    surface_draws = conditional_draws(p_right, groups=groups, draws=permutations, seed=seed)
    fit = partial(run, Scored, scores, splits=[split], Cs=CS, loose=True)
    own, *others = features.values()
    own_scores = fit([own], np.concatenate([right[None], label_draws, surface_draws]).T).score[:, :, 0]  # [n, 1 + draws]
    all_scores = np.column_stack([own_scores[:, 0], fit(others, right[:, None]).score[:, 0]])  # [n, sets], training problems too
    test_scores, null = all_scores[test], own_scores[test, 1:].T
    truth, one_fold = right[test], np.zeros(len(test), int)  # one fold: all held-out problems are ranked together
    null_labels = label_draws[:, test]
    null_auc, null_variance = fold_auc(null[:permutations], null_labels, one_fold)
    phi = auc_phi(null_auc, null_variance)
    check_permuted(null_auc)

    auc, variance = fold_auc(test_scores.T, truth, one_fold)
    sets = {
        name: FeatureScore(
            hit := (test_scores[:, i] > 0) == truth,
            wilson(hit.sum(), len(hit)),
            auc_of_labels(auc[i], variance[i], truth, phi),
        )
        for i, name in enumerate(features)
    }
    statistic = conditional_statistic(truth, p_right[test], test_scores[:, 0], one_fold)
    null_statistic = conditional_statistic(surface_draws[:, test], p_right[test], null[permutations:], one_fold)
    inner = inner_folds(right, test, groups, folds=5, seed=seed)
    fold = np.empty(len(right), int)
    for k, (_, part) in enumerate(inner):
        fold[part] = k
    # The design has a column for each twenty of all problems; held-out ones alone are too few to fit it, so training ones do.
    surface_logit = held_out(surface, right, side)[test, None]
    added, _ = added_auc(test_scores[:, 0], truth, surface_logit, fold[test], phi=phi)
    own_logit = confidence_logit(confidence, right, side)[test]
    rival = max(("raw", "pca"), key=lambda name: sets[name].accuracy.value)
    calls = test_scores[:, 0] > 0
    precision, null_precision = _precisions(calls, truth), null_precisions(null[:permutations] > 0, null_labels)
    return SaeAudit(
        n=len(test),
        fitted=len(train),
        permutations=permutations,
        ranked=Ranked(test_scores[:, 0], truth, one_fold, groups[test], phi),
        sets=sets,
        train_accuracy=float(((all_scores[train, 0] > 0) == right[train]).mean()),
        null_accuracy=((null[:permutations] > 0) == null_labels).mean(1),
        null_auc=null_auc,
        p_auc={LABELS: permutation_p(float(auc[0]), null_auc), SURFACE: permutation_p(float(statistic), null_statistic)},
        added=added,
        over_confidence=over_confidence(test_scores[:, 0], truth, own_logit, fold=fold[test], ranked=one_fold, phi=phi),
        best_other=rival,
        gain=newcombe_paired(sets["sae"].right, sets[rival].right),
        gain_p=mcnemar_exact(sets["sae"].right, sets[rival].right, "greater"),
        precision=precision,
        null_precision=null_precision,
        p_precision=cast(
            tuple[float, float],
            tuple(
                1.0 if estimate is None else permutation_p(estimate.value, draws)
                for estimate, draws in zip(precision, null_precision, strict=True)
            ),
        ),
        quality=quality(sae, states[train], states[test]),
        topk_quality=quality(topk, states[train], states[test]),
    )


def explained_over_pca(found: HeldoutQuality, *, seed: int = 0, draws: int = 2000) -> Estimate:
    """Explained variance minus that of a PCA with as many numbers per vector; bootstrap over held-out problems."""
    rng, n = stream(seed, "explained variance"), len(found.total)
    picks = rng.integers(n, size=(draws, n))
    gains = (found.pca_squared_error[picks].sum(1) - found.squared_error[picks].sum(1)) / found.total[picks].sum(1)
    low, high = np.quantile(gains, [0.025, 0.975])
    value = found.explained_variance - found.pca_explained_variance
    return Estimate(value, float(min(low, value)), float(max(high, value)))


def exists_word(audit: SaeAudit, p: dict[str, float]) -> Verdict:
    """Do the features predict errors at all? p: corrected, of both nulls."""
    return sound_verdict(audit.added, delta=AUC_FLOOR, p=p, marginal=LABELS, n=audit.n, permutations=audit.permutations)


def gain_word(audit: SaeAudit, p: float) -> Verdict:
    """Do they predict better than raw activations or their PCA, whichever is better?"""
    return sound_verdict(audit.gain, delta=GAIN_FLOOR, p={audit.best_other: p}, marginal=audit.best_other, n=audit.n)


def precision_word(audit: SaeAudit, which: int, p: float, *, delta: float = RATE_FLOOR) -> Verdict:
    """Is a call of that class right more often than with permuted labels?"""
    estimate, base = audit.precision[which], float(np.nanmean(audit.null_precision[which]))
    assert estimate is not None and estimate.low is not None and estimate.high is not None
    theta = Estimate(estimate.value - base, estimate.low - base, estimate.high - base)
    return sound_verdict(theta, delta=delta, p={LABELS: p}, marginal=LABELS, n=audit.n, permutations=audit.permutations)


def _precisions(calls: np.ndarray, truth: np.ndarray) -> tuple[Estimate | None, Estimate | None]:
    """The share of right calls among problems called incorrect (correct); None if none is called so."""
    classes = ((~calls, ~truth), (calls, truth))
    return cast(
        tuple[Estimate | None, Estimate | None],
        tuple(wilson((call & member).sum(), call.sum()) if call.any() else None for call, member in classes),
    )
