"""Compare a detector of errors with the model's own confidence: the AUC of the confidence, and what the detector adds to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codi_bench.measures.surface import added_auc, held_out, standardised
from codi_bench.rules.intervals import auc_of_labels, fold_auc
from codi_bench.rules.p_values import p_above
from codi_bench.rules.stats import Estimate
from codi_bench.rules.validity import Verdict, sound_verdict

GAIN_FLOOR = 0.03
CONFIDENCE = "confidence"


@dataclass(frozen=True)
class OverConfidence:
    """alone: AUC of the confidence; gain: AUC that a detector adds to it; p: one-sided, that it adds nothing."""

    alone: Estimate
    gain: Estimate
    p: float

    def word(self, p: float, *, n: int) -> Verdict:
        """Does the detector add at least 3 points of AUC to the model's own confidence in its answer? p: corrected."""
        return sound_verdict(self.gain, delta=GAIN_FLOOR, p={CONFIDENCE: p}, marginal=CONFIDENCE, n=n)


def confidence_logit(confidence: np.ndarray, right: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Logit [n] of being right from the confidence [n, columns] alone; each fold by a logistic fit to the other folds."""
    return held_out(standardised(confidence.astype(float), np.zeros(len(right))), right, fold)


def over_confidence(
    score: np.ndarray, right: np.ndarray, logit: np.ndarray, *, fold: np.ndarray, ranked: np.ndarray, phi: float
) -> OverConfidence:
    """What a detector adds to the confidence. score, logit [n]: held-out, of the detector and of the confidence; right bool [n].

    fold [n]: over which both are combined by a cross-fitted logistic; ranked [n]: within which problems are ranked. phi: by which
    the detector's cross-validation inflates the variance; a fit of two columns does not.
    """
    gain, _ = added_auc(score, right, logit[:, None], fold, phi=phi)
    auc, variance = fold_auc(logit, right, ranked)
    return OverConfidence(auc_of_labels(auc, variance, right, 1.0), gain, p_above(gain))
