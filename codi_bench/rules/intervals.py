"""Intervals of cross-validated scores, of their spread over cells and of differences: arrays in, numbers out.

Everything is a fraction; phi >= 1 is what cross-validation adds to a variance. Rules and measured coverage: docs/verdicts.md,
sections 5 and 6. Inputs of a wrong shape, with gaps or out of range raise MeasureError.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import chi2, ncx2, norm

from codi_bench.errors import MeasureError, arguments
from codi_bench.rules.stats import ROUNDING, Estimate, Interval, bits, numeric, wilson

# Sums of squares below this are rounding; one deviating outcome among 1e8 is above it.
NO_VARIANCE = 1e-20


@dataclass(frozen=True)
class Heterogeneity:
    """How far cells differ: Cochran-like Q with its chi-square p, variance v of one cell's mean, and tau.

    tau: population std of the cells' true means, a fraction, with interval; the estimate is 0 where Q <= cells - 1.
    """

    q: float
    p: float
    variance: float
    tau: Interval


@dataclass(frozen=True, eq=False)
class Ranked:
    """Held-out scores that an AUC is made of: score [n], labels bool [n], fold int [n], group [n], and the phi of that AUC."""

    score: np.ndarray
    labels: np.ndarray
    fold: np.ndarray
    group: np.ndarray
    phi: float = 1.0


def _finite(name: str, values: ArrayLike, low: float = -math.inf, high: float = math.inf) -> np.ndarray:
    array = numeric(name, values).astype(float)
    if not array.size or not np.isfinite(array).all() or (array < low).any() or (array > high).any():
        raise MeasureError(f"{name} must be finite numbers within [{low:g}, {high:g}]")
    return array


def _number(name: str, value: float | np.ndarray, least: float = 0.0, most: float = math.inf) -> float:
    value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    return arguments.number(name, value, least, most, error=MeasureError)


def _null(name: str, values: ArrayLike, **limits: float) -> np.ndarray:
    """Null draws [B, cells], B >= 2, from [B] or [B, cells]."""
    array = _finite(name, values, **limits)
    if array.ndim not in (1, 2) or len(array) < 2:
        raise MeasureError(f"{name} needs draws [B] or [B, cells] with B >= 2, not {list(array.shape)}")
    return array.reshape(len(array), -1)


def _inflation(draws: np.ndarray, variance: np.ndarray) -> float:
    """Mean over cells of max(1, variance over draws / variance [cells]); 1 for a cell that never varies."""
    null_variance = draws.var(axis=0, ddof=1)
    if ((variance <= 0) & (null_variance > NO_VARIANCE)).any():
        raise MeasureError("null draws vary although their binomial or DeLong variance is 0, so there is no phi")
    ratio = null_variance / np.where(variance > 0, variance, 1)
    return float(np.maximum(1, ratio).mean())


def accuracy_phi(null_accuracy: ArrayLike, n: float) -> tuple[float, float]:
    """(phi, q) of a cross-validated accuracy, from its permutations [B] or [B, cells]; n problems (groups).

    q = mean of the permuted accuracies; phi = max(1, their variance / (q(1-q)/n)) in each cell; both averaged over cells.
    """
    draws = _null("null accuracies", null_accuracy, low=0, high=1)
    n = _number("n", n, 1)
    q = draws.mean(axis=0)
    return _inflation(draws, q * (1 - q) / n), float(q.mean())


def cv_accuracy(accuracy: float, n: float, phi: float) -> Interval:
    """A cross-validated accuracy over n problems (groups) with Wilson's interval for n / phi problems."""
    effective = _number("n", n, 1) / _number("phi", phi, 1)
    return wilson(effective * _number("accuracy", accuracy, 0, 1), effective)


def _fold_delong(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUC and its DeLong variance over the last axis, both [...]; NaN where a class is missing.

    DeLong's structural components from midranks, in n log n (Sun & Xu 2014). A class of one member has no variance of its own
    and gets the largest that a component in [0, 1] of that mean can have, AUC (1 - AUC).
    """
    order = np.argsort(scores, axis=-1)
    ranked, positive = np.take_along_axis(scores, order, -1), np.take_along_axis(positive, order, -1)
    below = np.cumsum(~positive, axis=-1, dtype=np.int32)  # negatives up to and including each place [..., n]
    places = np.arange(scores.shape[-1], dtype=np.int32)
    ties = ranked[..., 1:] == ranked[..., :-1]
    if ties.any():
        edge = np.ones((*ties.shape[:-1], 1), bool)
        first = np.maximum.accumulate(np.where(np.concatenate([edge, ~ties], -1), places, 0), axis=-1)
        end = np.where(np.concatenate([~ties, edge], -1), places, places[-1])
        last = np.minimum.accumulate(end[..., ::-1], axis=-1)[..., ::-1]
        upto = np.take_along_axis(below, last, -1)
        before = np.take_along_axis(below, first, -1) - ~np.take_along_axis(positive, first, -1)
        midrank: np.ndarray = (first + last + 1) / 2
    else:
        upto, before, midrank = below, below - ~positive, places + 0.5
    wins = (upto + before) / 2  # negatives below, ties half
    negatives = below[..., -1:].astype(float)
    positives = scores.shape[-1] - negatives
    with np.errstate(divide="ignore", invalid="ignore"):
        component = np.where(positive, wins / negatives, 1 - (midrank - wins) / positives)
        auc = np.where(positive, wins, 0).sum(axis=-1, keepdims=True) / (negatives * positives)
        squares = (component - auc) ** 2
        variance: np.ndarray | float = 0.0
        for mask, size in ((positive, positives), (~positive, negatives)):
            within = np.where(mask, squares, 0).sum(axis=-1, keepdims=True) / (size * (size - 1))
            variance = variance + np.where(size == 1, auc * (1 - auc), within)
    assert isinstance(variance, np.ndarray)
    return auc[..., 0], variance[..., 0]


def fold_auc(scores: ArrayLike, labels: ArrayLike, fold: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Mean over folds of the AUC within each fold, ties counting half, and the DeLong variance of that mean; both [...].

    scores: [..., n], float32 or float64; labels: 0/1 [..., n], broadcast to scores; fold: int [n]. A fold with one class only
    is left out of that row's mean; NaN where none is left. Scores of different folds are never compared. The variance is that
    of fixed scores: what fitting on overlapping folds adds is phi's part.
    Source: DeLong et al. 1988, Biometrics 44:837; Sun & Xu 2014, IEEE Signal Process. Lett. 21:1389.
    """
    scores, labels, fold = numeric("scores", scores), numeric("labels", labels), numeric("fold", fold)
    n = scores.shape[-1] if scores.ndim else 0
    if not n or fold.shape != (n,) or labels.shape[-1:] != (n,):
        raise MeasureError(
            f"AUC needs scores [..., n], labels [..., n] and fold [n], not {scores.shape}, {labels.shape}, {fold.shape}"
        )
    if not np.isfinite(scores).all() or not ((labels == 0) | (labels == 1)).all():
        raise MeasureError("AUC needs finite scores and labels that are 0 or 1")
    try:
        labels = np.broadcast_to(labels.astype(bool), scores.shape)
    except ValueError as error:
        raise MeasureError(f"labels {list(labels.shape)} do not match scores {list(scores.shape)}") from error
    mean, variance, folds = (np.zeros(scores.shape[:-1]) for _ in range(3))
    for name in np.unique(fold):
        rows = fold == name
        auc, delong = _fold_delong(scores[..., rows], labels[..., rows])
        valid = np.isfinite(auc)
        mean, variance, folds = mean + np.where(valid, auc, 0), variance + np.where(valid, delong, 0), folds + valid
    with np.errstate(divide="ignore", invalid="ignore"):
        return mean / folds, variance / folds**2


def auc_phi(null_auc: ArrayLike, null_variance: ArrayLike) -> float:
    """phi_A = max(1, variance of the permuted AUCs / mean of their DeLong variances), averaged over cells; [B] or [B, cells]."""
    draws, within = _null("null AUCs", null_auc, low=0, high=1), _null("null variances", null_variance, low=0)
    if draws.shape != within.shape:
        raise MeasureError(f"null AUCs {list(draws.shape)} need as many variances, not {list(within.shape)}")
    return _inflation(draws, within.mean(axis=0))


def cv_auc(auc: float, variance: float, phi: float, *, smaller_class: int | None = None, level: float = 0.95) -> Estimate:
    """A cross-validated AUC with its interval: DeLong SE x sqrt(phi), on the logit scale and back.

    DeLong sees no error at 0 or 1, nor where all scores are tied. There, and within half a problem (0.5 / m) of 0 or 1, the
    AUC is moved inwards to that distance and the variance is a(1-a)/m, the largest that an AUC a can have (Birnbaum & Klose
    1957); m = smaller_class, the number of problems in the smaller class. Without m such an AUC has no interval. The value
    itself is never moved.
    """
    auc, variance, phi = _number("AUC", auc, 0, 1), _number("variance", variance), _number("phi", phi, 1)
    level = arguments.level(level, error=MeasureError)
    inward = 0.0 if smaller_class is None else 0.5 / _number("smaller_class", smaller_class, 1)
    centre = min(max(auc, inward), 1 - inward)
    if variance == 0 or centre != auc or not 0 < auc < 1:
        if smaller_class is None:
            return Estimate(auc, None, None)
        variance = max(variance, centre * (1 - centre) / smaller_class)
    reach = norm.ppf((1 + level) / 2) * math.sqrt(phi * variance) / (centre * (1 - centre))
    low, high = expit(logit(centre) - reach), expit(logit(centre) + reach)
    return Interval(auc, float(min(low, auc)), float(max(high, auc)))


def auc_of_labels(auc: float | np.ndarray, variance: float | np.ndarray, labels: np.ndarray, phi: float) -> Estimate:
    """`cv_auc` of the scores of labels, bool [n], of whose smaller class it takes the number of problems."""
    labels = bits(labels)
    smaller = int(min(labels.sum(), (~labels).sum()))
    return cv_auc(_number("AUC", auc), _number("variance", variance), phi, smaller_class=smaller)


def _noncentrality(q: float, df: int, probability: float) -> float:
    """lambda at which the noncentral chi-square has this probability below q; 0 where even the central one has less."""
    if chi2.cdf(q, df) <= probability:
        return 0.0
    return float(brentq(lambda value: ncx2.cdf(q, df, value) - probability, 1e-12, q + 10 * math.sqrt(q) + 50))


def heterogeneity(correct: ArrayLike, phi: float = 1.0, *, level: float = 0.95) -> Heterogeneity:
    """Do cells differ by more than sampling error? correct: [n, cells], right/wrong or numbers; every cell has the same problems.

    v = phi x double-centred residual variance, (n-1)(cells-1) degrees of freedom, / n; Q = sum (a_c - mean)^2 / v against
    chi-square with cells - 1 degrees of freedom; tau from the noncentral one, lambda = cells tau^2 / v: estimate from
    max(0, Q - (cells - 1)), interval by inversion. Where the residuals are 0, the residual variance is 1/(n cells), that of one
    single outcome out of place, so that every number stays finite.
    Source: docs/verdicts.md, section 6, Spread; Cochran 1950, Biometrika 37:256, with the residuals freed of the cells' means.
    """
    outcomes, phi, level = _finite("outcomes", correct), _number("phi", phi, 1), arguments.level(level, error=MeasureError)
    if outcomes.ndim != 2 or min(outcomes.shape) < 2:
        raise MeasureError(f"heterogeneity needs outcomes [n, cells] of at least 2 x 2, not {list(outcomes.shape)}")
    n, cells = outcomes.shape
    means = outcomes.mean(axis=0)
    residuals = outcomes - means - outcomes.mean(axis=1, keepdims=True) + outcomes.mean()
    residual = float((residuals**2).sum() / ((n - 1) * (cells - 1)))
    v = phi * (residual if residual > NO_VARIANCE else 1 / (n * cells)) / n
    q = float(((means - means.mean()) ** 2).sum() / v)

    def tau(noncentrality: float) -> float:
        return math.sqrt(v * noncentrality / cells)

    low, high = (tau(_noncentrality(q, cells - 1, side)) for side in ((1 + level) / 2, (1 - level) / 2))
    return Heterogeneity(q, float(chi2.sf(q, cells - 1)), v, Interval(tau(max(0.0, q - (cells - 1))), low, high))


def mover_difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b of two independent estimates, its limits from theirs; no interval where one of them has none.

    Source: Zou & Donner 2008, Stat. Med. 27:1693 (MOVER); with Wilson's limits it is Newcombe 1998, Stat. Med. 17:873, method 10.
    """
    for name, side in (("a", a), ("b", b)):
        arguments.instance(name, side, Estimate, error=MeasureError)
    difference = a.value - b.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Estimate(difference, None, None)
    low = difference - math.hypot(a.value - a.low, b.high - b.value)
    return Interval(difference, low, difference + math.hypot(a.high - a.value, b.value - b.low))


def auc_difference(a: Ranked, b: Ranked, *, rng: np.random.Generator, draws: int = 2000) -> tuple[Interval, float]:
    """AUC of a minus that of b with its interval and two-sided p; each has labels of its own, their groups may be shared.

    Bootstrap over the groups of both, drawn jointly, the deviations of each AUC x sqrt(its phi) (docs/verdicts.md, section 6).
    p = (1 + #{|deviation| >= |difference|}) / (draws + 1). Draws in which no fold has both classes are left out; raises
    MeasureError where these are more than one in a hundred.
    """
    for name, ranked in (("a", a), ("b", b)):
        arguments.instance(name, ranked, Ranked, error=MeasureError)
    draws = arguments.whole("draws", draws, error=MeasureError)
    arguments.instance("rng", rng, np.random.Generator, error=MeasureError)
    names, member = np.unique(np.concatenate([np.asarray(a.group, str), np.asarray(b.group, str)]), return_inverse=True)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    sides = []
    for side, group in ((a, member[: len(a.score)]), (b, member[len(a.score) :])):
        value = float(fold_auc(side.score, side.labels, side.fold)[0])
        sides.append((value, (_weighted_fold_auc(side, counts[:, group]) - value) * math.sqrt(side.phi)))
    (auc_a, moves_a), (auc_b, moves_b) = sides
    difference, moves = auc_a - auc_b, moves_a - moves_b
    finite = np.isfinite(moves)
    if finite.mean() < 0.99:
        raise MeasureError("too few problems of a class for a bootstrap of their AUC")
    moves = moves[finite]
    low, high = np.quantile(moves, [0.025, 0.975])
    p = (1 + (np.abs(moves) >= abs(difference) - ROUNDING).sum()) / (len(moves) + 1)
    return Interval(difference, float(difference + low), float(difference + high)), float(p)


def _weighted_fold_auc(side: Ranked, weights: np.ndarray) -> np.ndarray:
    """Mean over folds of the AUC [draws] with problems counted weights [draws, n] times; folds without a class are left out."""
    total, folds = np.zeros(len(weights)), np.zeros(len(weights))
    for name in np.unique(side.fold):
        rows = np.flatnonzero(side.fold == name)
        rows = rows[np.argsort(side.score[rows], kind="stable")]
        starts = np.unique(side.score[rows], return_index=True)[1]  # where each run of equal scores begins
        positive, negative = (
            np.add.reduceat(weights[:, rows] * members[rows], starts, axis=1) for members in (side.labels, ~side.labels)
        )
        pairs = positive.sum(1) * negative.sum(1)
        wins = (positive * (negative.cumsum(1) - negative / 2)).sum(1)
        total += np.where(pairs > 0, wins / np.maximum(pairs, 1), 0)
        folds += pairs > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / folds
