"""Audit of probes: do they read anything (two nulls), how accurately, in which cell best, and how evenly over cells?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from scipy.stats import t as student

from codi_bench.audits.confidence import OverConfidence, confidence_logit, over_confidence
from codi_bench.measures.grid import Probe, ProbeGrid, probe_grid, shares_designs
from codi_bench.measures.surface import ConditionalNull, added_auc, conditional_draws, conditional_null, propensity, standardised
from codi_bench.rules.intervals import (
    Heterogeneity,
    Ranked,
    accuracy_phi,
    auc_of_labels,
    auc_phi,
    cv_accuracy,
    fold_auc,
    heterogeneity,
)
from codi_bench.rules.p_values import check_permuted
from codi_bench.rules.stats import Estimate, bootstrap_mean, stream
from codi_bench.rules.validity import ALPHA, SpreadWord, Verdict, passes, sound_verdict, spread_word
from codi_bench.store.memo import uncached

AUC_FLOOR = 0.10
# Accuracy at which normal classes of equal variance and size have an AUC 0.10 over chance: Phi(d'/2), d' = sqrt(2) Phi^-1(0.60).
ACCURACY_FLOOR = float(norm.cdf(norm.ppf(0.5 + AUC_FLOOR) / np.sqrt(2))) - 0.5
BOT_PERMUTATIONS = 199  # one test, which no budget corrects
LABELS, SURFACE, BOT = "labels permuted", "surface", "surface and bot"


@dataclass(frozen=True, eq=False)
class ProbeAudit:
    """A grid of probes with its nulls and intervals; accuracies and AUCs are fractions, n counts groups.

    conditional: the null given the surface, None without one; beyond_bot: given the surface and what probes at bot read, over the
    other cells; None if the cells at bot are not named. correct bool [n, cells]: held out. phi, q: of the permuted accuracies;
    phi_auc of the AUCs. mean: held-out accuracy over all cells. best: the cell with the highest AUC. best_accuracy, best_auc,
    ranked: of the cell chosen inside the outer folds by its inner folds, so that choosing costs nothing. added: AUC that
    it adds to the surface (over the null's mean where there is no surface); over_confidence: to the model's own confidence.
    """

    grid: ProbeGrid
    conditional: ConditionalNull | None
    beyond_bot: ConditionalNull | None
    correct: np.ndarray
    n: int
    permutations: int
    phi: float
    q: float
    phi_auc: float
    mean: Estimate
    best: int
    best_accuracy: Estimate
    best_auc: Estimate
    added: Estimate
    surface_auc: float | None
    ranked: Ranked
    over_confidence: OverConfidence | None = None

    @property
    def p(self) -> dict[str, float]:
        """The corrected p of the best cell for every required null."""
        p_values = {LABELS: self.grid.p_value_any_auc}
        return p_values if self.conditional is None else {**p_values, SURFACE: self.conditional.p_value_any}


def audit_probes(
    activations: np.ndarray,
    labels: ArrayLike,
    *,
    surface: np.ndarray | None = None,
    groups: ArrayLike | None = None,
    bot: ArrayLike | None = None,
    confidence: np.ndarray | None = None,
    permutations: int,
    seed: int = 0,
    probe: Probe = "ridge",
    Cs: Sequence[float] | None = None,
    folds: int = 5,
    device: str = "cpu",
    workers: int | None = None,
    run: Callable[..., Any] = uncached,
) -> ProbeAudit:
    """Audit probes of activations [n, cells, d] for labels bool [n] with null (a), and (b) if there is a surface [n, columns].

    bot: the cells at bot, int [layers]; their scores join the surface in a second conditional null over the other cells.
    confidence [n, columns]: of the model in its own answers, where labels are its errors. run: how a long computation is called,
    as by `bench.cached`.
    Raises MeasureError as `probe_grid` does.
    """
    labels = np.asarray(labels, bool)
    settings = {"groups": groups, "probe": probe, "Cs": Cs, "folds": folds, "permutations": permutations, "seed": seed}
    settings |= {"device": device, "workers": workers}
    further = {}
    if surface is not None and shares_designs(np.shape(activations), probe):  # both nulls in one pass
        p_right = propensity(surface, labels)
        further["further_labels"] = conditional_draws(p_right, groups=groups, draws=permutations, seed=seed, smallest=folds)
    grid = run(ProbeGrid, probe_grid, activations, labels, in_sample=False, **settings, **further)
    n = len(labels) if groups is None else len(np.unique(groups))
    correct = grid.held_out_prediction == labels[:, None]
    phi, q = accuracy_phi(grid.null_held_out, n)
    phi_auc = auc_phi(grid.null_auc, grid.null_auc_variance)
    check_permuted(grid.null_auc)
    best_cells = grid.fold_inner.argmax(1)  # for each outer fold the cell that its training problems prefer
    best_score = grid.held_out_score[np.arange(len(labels)), best_cells[grid.fold]]
    auc, variance = fold_auc(best_score, labels, grid.fold)
    best_auc = auc_of_labels(auc, variance, labels, phi_auc)
    conditional = beyond_null = surface_auc = None
    added = _shift(best_auc, float(grid.null_auc.mean()))
    if surface is not None:
        nulls = partial(run, ConditionalNull, conditional_null, fold=grid.fold, **settings)
        null_score = {"null_score": grid.further_score} if further else {}
        conditional = nulls(activations, labels, surface, score=grid.held_out_score, **null_score)
        if bot is not None:
            thought_cells = np.setdiff1d(np.arange(correct.shape[1]), bot)
            wider_surface = np.column_stack([surface, standardised(grid.held_out_score[:, bot], grid.fold)])
            score, draws = grid.held_out_score[:, thought_cells], min(permutations, BOT_PERMUTATIONS)
            beyond_null = nulls(activations[:, thought_cells], labels, wider_surface, score=score, permutations=draws)
        added, surface_auc = added_auc(best_score, labels, surface, grid.fold, phi=phi_auc)
    beyond_confidence = None
    if confidence is not None:
        logit = confidence_logit(confidence, labels, grid.fold)
        beyond_confidence = over_confidence(best_score, labels, logit, fold=grid.fold, ranked=grid.fold, phi=phi_auc)
    return ProbeAudit(
        grid=grid,
        conditional=conditional,
        beyond_bot=beyond_null,
        correct=correct,
        n=n,
        permutations=permutations,
        phi=phi,
        q=q,
        phi_auc=phi_auc,
        mean=bootstrap_mean(correct, rng=stream(seed, "mean over cells"), groups=groups, phi=phi),
        best=int(grid.held_out_auc.argmax()),
        best_accuracy=cv_accuracy(float(((best_score > 0) == labels).mean()), n, phi),
        best_auc=best_auc,
        added=added,
        surface_auc=surface_auc,
        ranked=Ranked(best_score, labels, grid.fold, np.arange(len(labels)) if groups is None else np.asarray(groups), phi_auc),
        over_confidence=beyond_confidence,
    )


def accuracy_word(
    audit: ProbeAudit,
    accuracy: Estimate,
    *,
    delta: float = ACCURACY_FLOOR,
    cells: int = 1,
    p: Mapping[str, float] | None = None,
) -> Verdict:
    """The word of a `value` claim: accuracy over the mean of the permuted ones; cells: how many it is the best of.

    p: of every null, for a part of the grid. Where the surface explains the accuracy, the effect is the AUC that the best cell
    adds to it: no n makes the accuracy itself small.
    """
    p = audit.p if p is None else p
    if passes(p.get(SURFACE, 0.0)):
        return _word(audit, _shift(accuracy, audit.q), delta, cells, p)
    verdict = _word(audit, audit.added, AUC_FLOOR, cells, p)
    return replace(verdict, why=f"AUC added to the surface, which explains the accuracy: {verdict.why}")


def exists_word(audit: ProbeAudit, *, delta: float = AUC_FLOOR) -> Verdict:
    """The word of an `exists` or `location` claim: the AUC that the best cell adds to the surface."""
    return _word(audit, audit.added, delta, audit.correct.shape[1], audit.p)


def _word(audit: ProbeAudit, theta: Estimate, delta: float, cells: int, p: Mapping[str, float]) -> Verdict:
    z = float(norm.isf(ALPHA / cells))
    return sound_verdict(theta, delta=delta, p=p, marginal=LABELS, n=audit.n, z=z, permutations=audit.permutations)


def spread_of(audit: ProbeAudit) -> tuple[Heterogeneity, SpreadWord]:
    """How much cells differ beyond sampling error, and the word for it."""
    top = audit.correct[:, audit.best].astype(float)
    rest = np.delete(audit.correct, audit.best, axis=1).mean(1)
    contrast, n = top - rest, audit.n
    error = max(float(np.sqrt(audit.phi) * contrast.std(ddof=1) / np.sqrt(n)), 1 / n)
    word = spread_word(
        audit.correct,
        phi=audit.phi,
        cell_p=audit.grid.p_value_auc,
        top_corrected_p=float(audit.grid.p_value_max_auc[audit.best]),
        top_contrast_p=float(student.sf(contrast.mean() / error, n - 1)),
        q=audit.q,
        permutations=audit.permutations,
    )
    return heterogeneity(audit.correct, audit.phi), word


def _shift(value: Estimate, offset: float) -> Estimate:
    return Estimate(
        value.value - offset,
        None if value.low is None else value.low - offset,
        None if value.high is None else value.high - offset,
    )
