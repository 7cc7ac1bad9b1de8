"""A null for probes that keeps everything the surface explains: does a probe read more than the question shows?

Labels are drawn anew from p, the probability of a right answer given the surface alone, and go through the whole pipeline of
`probe_grid`; the statistic is how far held-out scores follow what p leaves open, y - p. `added_auc` is the size of the same
thing. Source: docs/verdicts.md, section 6, Probes, null (b) and theta.

p stays that of the observed labels in every draw. These fulfil the equations of its fit, the drawn ones do not; so what a score
shares with the surface widens the null only, and the test is on the safe side: it rejects 1.5 % at 0.025 on surface-only data
(simulated: n = 120, 6 columns), where p fitted anew to each draw rejects 10.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from scipy.stats import norm, rankdata
from threadpoolctl import threadpool_limits

from codi_bench.errors import MeasureError, arguments
from codi_bench.measures.arrays import classes, codes, in_range, plain, real
from codi_bench.measures.folds import nested_splits
from codi_bench.measures.grid import Probe, checked, scores
from codi_bench.measures.nulls import check_drawn
from codi_bench.rules.intervals import fold_auc
from codi_bench.rules.p_values import permutation_p
from codi_bench.rules.stats import Estimate, Interval, stream

PROBLEMS_PER_COLUMN = 20
RARE = 5  # problems
KNOTS = (1 / 2, 1 / 4, 3 / 4, 1 / 8, 3 / 8, 5 / 8, 7 / 8)  # quantiles; whatever is cut off, an even spacing is left
DEPENDENT = 1e-6  # a column with less than this share of its norm outside the span of the others
CONVERGED = 1e-9  # log-likelihood that a fit may still gain
ITERATIONS = 100
REDRAWS = 200
TIE = 9  # decimals of a logit: equal rows of a product may differ in their last bits

Element = TypeVar("Element")


@dataclass(frozen=True, eq=False)
class ConditionalNull:
    """Null (b) of a grid of cells.

    statistic [cells], null [B, cells]; z [cells]: statistic less the null's mean, over its std; z_max [B]: the largest z of each
    draw. p_value [cells]: each cell alone; p_value_max [cells]: against z_max; p_value_any: the smallest of those. propensity
    [n]: probability of the second class given the surface.
    """

    statistic: np.ndarray
    null: np.ndarray
    z: np.ndarray
    z_max: np.ndarray
    p_value: np.ndarray
    p_value_max: np.ndarray
    p_value_any: float
    propensity: np.ndarray


def conditional_null(
    activations: ArrayLike,
    labels: ArrayLike,
    design: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    score: ArrayLike | None = None,
    fold: ArrayLike | None = None,
    null_score: ArrayLike | None = None,
    probe: Probe = "ridge",
    Cs: Sequence[float] | None = None,
    folds: int = 5,
    permutations: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    workers: int | None = None,
) -> ConditionalNull:
    """Do the probes of a grid follow the labels further than the surface explains?

    activations [n, cells, d]; labels [n] of two classes; design [n, p]: from `surface_design`, with any columns that the caller
    adds (the score at bot). groups, probe, Cs, folds, seed, device, workers: as in `probe_grid`. score [n, cells] and
    fold [n]: held_out_score and fold of the ProbeGrid of the same arguments, so that the observed probes are not fitted again;
    null_score [B, n, cells]: its further_score, of `conditional_draws` with the same arguments.
    The folds are those of the true labels in every draw; C is chosen anew in each.
    Raises MeasureError as probe_grid, propensity and conditional_draws do, and for a fold of another split.
    """
    x, y, _, groups = checked(activations, labels, groups)
    splits, own_fold = nested_splits(y, groups, folds=folds, seed=seed)
    if (score is None) != (fold is None) or (fold is not None and not np.array_equal(real("fold", fold), own_fold)):
        raise MeasureError("score and fold must both come from a probe_grid of the same labels, groups, folds and seed")
    score, null_score = (None if s is None else real(name, s) for name, s in (("score", score), ("null_score", null_score)))
    if score is not None and score.shape != x.shape[:2]:
        raise MeasureError(f"score needs the shape {list(x.shape[:2])}, not {list(score.shape)}")
    p = propensity(design, y)
    null_labels = conditional_draws(p, groups=groups, draws=permutations, seed=seed, smallest=folds)
    cells, fit = [x[:, cell] for cell in range(x.shape[1])], partial(scores, probe=probe, Cs=Cs, device=device, workers=workers)
    if score is None:
        score = fit(cells, y[:, None], splits).score[:, 0]
    if null_score is None:
        null_score = fit(cells, null_labels.T, splits, loose=True).score.transpose(1, 0, 2)
    elif null_score.shape != (permutations, *x.shape[:2]):
        raise MeasureError(f"null_score needs the shape {[permutations, *x.shape[:2]]}, not {list(null_score.shape)}")

    statistic = conditional_statistic(y, p, score.T, own_fold)
    # Cell by cell: in float64 all cells at once would be gigabytes.
    null = np.stack([conditional_statistic(null_labels, p, null_score[..., c], own_fold) for c in range(len(cells))], axis=1)
    mean, std = null.mean(0), null.std(0)
    scale = np.where(std > 0, std, 1)  # no spread: a cell without any score, 0 in all draws
    z, z_max = (statistic - mean) / scale, ((null - mean) / scale).max(1)
    p_max = permutation_p(z, np.broadcast_to(z_max[:, None], null.shape))
    return ConditionalNull(statistic, null, z, z_max, permutation_p(statistic, null), p_max, float(p_max.min()), p)


def conditional_statistic(labels: ArrayLike, p: ArrayLike, score: ArrayLike, fold: ArrayLike) -> np.ndarray:
    """sum of (y - p)(s - fold mean of s) / norm(s - fold mean of s), [...]; 0 where scores are constant within folds.

    labels: 0/1 [..., n]; p [n] or [..., n]; score [..., n]; fold [n]. Leading axes are broadcast.
    """
    s, fold = np.array(real("scores", score), np.float64), real("fold", fold)
    residual = real("labels", labels).astype(float) - real("p", p).astype(float)
    if not s.ndim or fold.shape != s.shape[-1:] or residual.shape[-1:] != fold.shape:
        raise MeasureError(
            f"the statistic needs scores [..., n], labels [..., n] and fold [n], not {s.shape}, {residual.shape}, {fold.shape}"
        )
    if not np.isfinite(s).all() or not np.isfinite(residual).all():
        raise MeasureError("the statistic needs finite labels, probabilities and scores")
    s = in_range(s, -1)
    total = np.linalg.norm(s, axis=-1)
    for name in np.unique(fold):
        rows = fold == name
        s[..., rows] -= s[..., rows].mean(axis=-1, keepdims=True)
    size = np.linalg.norm(s, axis=-1)
    varies = size > 1e-6 * total  # less is the rounding of scores kept in float32
    return np.where(varies, (residual * s).sum(axis=-1) / np.where(varies, size, 1), 0.0)


# --- the design ------------------------------------------------------------------------------------------------------


def surface_design(
    columns: Mapping[str, np.ndarray],
    categorical: Mapping[str, np.ndarray],
    n: int,
    *,
    priority: Sequence[Sequence[str]] | None = None,
) -> np.ndarray:
    """A flexible design float64 [rows, p] of the surface, p <= n/20, without intercept. It does not depend on labels.

    columns: numbers [rows] by name, each a line and hinges at its octiles: a linear spline, which for a variable of few values
    is as free as one-hot. categorical: values [rows] by name, one-hot against the most frequent. Categories of fewer than 5
    problems join a neighbour in sorted order; no knot has fewer than 5 problems on either side.
    n: number of groups (of problems where there are none). priority: kinds, each a sequence of names; default: every variable
    its own kind, categorical first. The first kind gets all its columns; the others then take turns, a column each, and so do
    the variables of a kind: with little room each has a line before any has a curve. Columns that are constant or depend on
    those before (with the intercept) are skipped. Columns have mean 0 and mean square 1.
    Raises MeasureError for n < 20, no variables, lengths that differ, gaps, or a priority that names other variables.
    """
    variables = {name: _one_hot(name, values) for name, values in categorical.items()}
    variables |= {name: _spline(name, values) for name, values in columns.items()}
    kinds = [(name,) for name in variables] if priority is None else list(priority)
    names = sorted(name for kind in kinds for name in kind)
    if not variables or len(variables) != len(columns) + len(categorical) or names != sorted(variables):
        raise MeasureError(f"priority names {', '.join(names)}; the variables are {', '.join(sorted(variables)) or 'none'}")
    rows = {len(values) for values in (*columns.values(), *categorical.values())}
    if len(rows) != 1 or not 0 < n <= max(rows):
        raise MeasureError(f"surface variables need one length and at least n = {n} rows, not {sorted(rows)}")
    room = int(n) // PROBLEMS_PER_COLUMN
    if not room:
        raise MeasureError(f"{n} problems (or groups) are too few for a surface design: at least {PROBLEMS_PER_COLUMN}")
    first_queue, *queues = [list(_turns([variables[name] for name in kind])) for kind in kinds]
    return _independent([*first_queue, *_turns(queues)], room, rows.pop())


def _turns(queues: Sequence[Sequence[Element]]) -> Iterator[Element]:
    """One of each, in order, until all are empty."""
    for turn in zip_longest(*queues):
        yield from (item for item in turn if item is not None)


def _one_hot(name: str, values: np.ndarray) -> list[np.ndarray]:
    """Indicators [rows] of all categories but the most frequent, by falling frequency."""
    values = plain(f"surface variable '{name}'", values, names=True)
    if values.ndim != 1 or not len(values):
        raise MeasureError(f"surface variable '{name}' needs categories [rows]")
    code = codes(f"surface variable '{name}'", values, len(values), blank=True)
    counts = np.bincount(code)
    while len(counts) > 1 and counts.min() < RARE:
        rare = int(counts.argmin())
        neighbours = [k for k in (rare - 1, rare + 1) if 0 <= k < len(counts)]
        code = np.where(code == rare, min(neighbours, key=lambda k: counts[k]), code)
        _, code, counts = np.unique(code, return_inverse=True, return_counts=True)
    return [(code == k).astype(float) for k in np.argsort(-counts, kind="stable")[1:]]


def _spline(name: str, values: np.ndarray) -> list[np.ndarray]:
    """The values themselves [rows] and hinges max(0, x - knot)."""
    x = real(f"surface variable '{name}'", values).astype(np.float64)
    if x.ndim != 1 or not x.size or not np.isfinite(x).all():
        raise MeasureError(f"surface variable '{name}' needs finite numbers [rows]")
    x = in_range(x)
    knots = dict.fromkeys(np.quantile(x, KNOTS, method="inverted_cdf").tolist())
    return [x, *(np.maximum(0, x - knot) for knot in knots if min((x < knot).sum(), (x > knot).sum()) >= RARE)]


def _independent(candidates: Sequence[np.ndarray], room: int, rows: int) -> np.ndarray:
    """The first `room` candidates that neither the intercept nor those before them span, standardised [rows, p]."""
    columns: list[np.ndarray]
    columns, basis = [], np.empty((rows, 0))
    for column in candidates:
        column = column - column.mean()
        size = np.linalg.norm(column)
        rest = column / (size or 1)
        for _ in range(2):  # twice is enough: the second pass removes what rounding left of the first
            rest = rest - basis @ (basis.T @ rest)
            rest = rest - rest.mean()
        if np.linalg.norm(rest) > DEPENDENT and len(columns) < room:
            columns.append(column * (math.sqrt(rows) / size))
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return np.column_stack(columns) if columns else np.empty((rows, 0))


# --- labels given the surface ----------------------------------------------------------------------------------------


def propensity(design: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Probability float64 [n] of the second class given the design [n, p]: an unpenalised logistic fit with intercept.

    Where the design separates some problems (a category that is always right) the likelihood has no maximum but a limit: p
    comes within 1e-6 of 0 or 1 there, the rest is what it would be without them. Such problems never change in a draw and add
    nothing to the statistic: the surface explains them. Columns may depend on each other; p stays the same.
    Raises MeasureError for other than two classes, gaps, or a design that separates all problems and leaves nothing to test.
    """
    x, y = _check(design, labels)
    with threadpool_limits(limits=1):
        p = expit(_logit(x, _fit(x, y)))
    if (np.abs(y - p) < 1e-6).all():
        raise MeasureError("the surface design predicts every label, so nothing is left to test")
    return p


def conditional_draws(p: ArrayLike, *, groups: ArrayLike | None = None, draws: int, seed: int, smallest: int = 5) -> np.ndarray:
    """Label draws bool [draws, n], y* ~ Bernoulli(p).

    groups [n]: members share one uniform number, so that each keeps its p and a group's labels agree as far as their p allow.
    No dependence can be stronger, so what groups have in common beyond the surface widens the null at least as much as it
    widens the observed statistic; labels that agree less than that make the test safer, not sharper.
    A draw with a class of fewer than `smallest` problems (or groups) is drawn again.
    Raises MeasureError for p outside 0..1, no draws, a p that hardly ever gives both classes, or draws that hardly differ.
    """
    p = real("p", p).astype(np.float64)
    draws = arguments.whole("draws", draws, 1, arguments.PERMUTATIONS, error=MeasureError)
    smallest = arguments.whole("smallest", smallest, 0, error=MeasureError)
    if p.ndim != 1 or not p.size or not ((p >= 0) & (p <= 1)).all():
        raise MeasureError("label draws need p [n] within 0..1")
    member = np.arange(len(p)) if groups is None else codes("groups", groups, len(p))
    rng, units = stream(seed, "labels given the surface"), int(member.max()) + 1
    labels, redraws = np.empty((draws, len(p)), bool), np.arange(draws)
    for _ in range(REDRAWS):
        labels[redraws] = rng.random((len(redraws), units))[:, member] < p
        redraws = np.array([k for k in redraws if _smaller_class(labels[k], member) < smallest], int)
        if not redraws.size:
            check_drawn(labels)
            return labels
    raise MeasureError(f"labels drawn given the surface hardly ever have {smallest} problems (or groups) in both classes")


def _smaller_class(y: np.ndarray, member: np.ndarray) -> int:
    """Problems (groups) of the smaller class; a group with both labels counts in both, as it does where folds are made."""
    return min(len(np.unique(member[y])), len(np.unique(member[~y])))


def _check(design: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """design float64 [n, p] and labels bool [n] (True: the second class)."""
    x, labels = real("design", design).astype(np.float64), classes("labels", labels)
    if x.ndim != 2 or not len(x) or labels.shape != x.shape[:1]:
        raise MeasureError(f"a surface fit needs a design [n, p] and labels [n], got {list(x.shape)} and {list(labels.shape)}")
    two = np.unique(labels)
    if len(two) != 2 or not np.isfinite(x).all():
        raise MeasureError(f"a surface fit needs a finite design and two classes, the labels have {len(two)}")
    return in_range(x) if x.size else x, labels == two[1]


def _fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights [1 + p], intercept first, of the unpenalised logistic fit to x [n, p] and y [n]; the shortest if not unique.

    Newton with step halving in an orthonormal basis of the columns' span, where dependent columns do no harm. Each step is a
    weighted least-squares problem, not a solution with the Hessian: where problems are separated that would lose all digits.
    """
    columns = np.column_stack([np.ones(len(x)), x])
    scale = np.linalg.norm(columns, axis=0)
    scale[scale == 0] = 1
    basis, values, axes = np.linalg.svd(columns / scale, full_matrices=False)
    basis, values, axes = (part[..., : (values > 1e-10 * values[0]).sum()] for part in (basis, values, axes.T))
    sign, weights = np.where(y, 1.0, -1.0), np.zeros(len(values))

    def loss(point: np.ndarray) -> float:
        return np.logaddexp(0, -sign * (basis @ point)).sum()

    for _ in range(ITERATIONS):
        p_wrong = expit(-sign * (basis @ weights))  # probability of the other class: y - p without cancellation
        root = np.sqrt(np.maximum(p_wrong * (1 - p_wrong), np.finfo(float).tiny))
        step = np.linalg.lstsq(basis * root[:, None], sign * p_wrong / root, rcond=1e-12)[0]
        if (sign * p_wrong) @ (basis @ step) < CONVERGED:
            return axes @ ((weights + step) / values) / scale
        current_loss, length = loss(weights), 1.0
        while length > 1e-6 and loss(weights + length * step) > current_loss + CONVERGED:
            length /= 2
        weights = weights + length * step
    raise MeasureError(f"the surface fit did not converge in {ITERATIONS} iterations")


def _logit(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.round(weights[0] + x @ weights[1:], TIE)


# --- how much a score adds -------------------------------------------------------------------------------------------


def added_auc(score: ArrayLike, labels: ArrayLike, design: ArrayLike, fold: ArrayLike, *, phi: float) -> tuple[Estimate, float]:
    """The AUC that held-out scores [n] add to the surface: (theta with 95 % interval, AUC of the surface alone).

    theta: AUC of a logistic fit on (surface logit, score) minus AUC of the surface logit, means over folds of the AUCs within
    folds. Both fits are cross-fitted over fold [n]; the second sees held-out surface logits, standardised scores of each fold
    (C, and with it the scale, differs between folds), and labels of the other folds. Surface logits beyond half a problem are
    cut off there, so that a separated category does not drown the scores.
    The interval is DeLong's for two AUCs of the same problems, variance x phi (intervals.auc_phi); ends None where no pair of
    problems changes its order, for then DeLong sees no error. A fold with one class is left out.
    Raises MeasureError for shapes that do not fit, gaps, phi < 1, or fewer than two folds with both classes.
    """
    x, y = _check(design, labels)
    s, fold = real("scores", score).astype(np.float64), real("fold", fold)
    if s.shape != y.shape or fold.shape != y.shape or not np.isfinite(s).all():
        raise MeasureError(f"added AUC needs finite scores [n] and fold [n], not {s.shape} and {fold.shape}")
    phi = arguments.number("phi", phi, 1, error=MeasureError)
    if sum(len(np.unique(y[fold == name])) == 2 for name in np.unique(fold)) < 2:
        raise MeasureError("added AUC needs at least two folds with both classes")
    with threadpool_limits(limits=1):
        limit = math.log(2 * len(y) - 1)
        surface_logit = held_out(x, y, fold).clip(-limit, limit)
        joint_logit = held_out(np.column_stack([surface_logit, standardised(s, fold)]), y, fold)
    auc = float(fold_auc(surface_logit, y, fold)[0])
    theta, variance = _paired_auc(joint_logit, surface_logit, y, fold)
    if variance == 0:
        return Estimate(theta, None, None), auc
    reach = float(norm.ppf(0.975)) * math.sqrt(phi * variance)
    return Interval(theta, max(-1.0, theta - reach), min(1.0, theta + reach)), auc


def held_out(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Logits [n] of the rows of each fold by a fit to all others; x [n, p], y bool [n]."""
    logits = np.empty(len(y))
    for name in np.unique(fold):
        rows = fold == name
        if y[~rows].all() or not y[~rows].any():
            raise MeasureError(f"without fold {name} only one class is left to fit")
        logits[rows] = _logit(x[rows], _fit(x[~rows], y[~rows]))
    return logits


def standardised(s: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Scores [n] or [n, cells] of models fitted fold by fold, on one scale: mean 0 and std 1 in each fold, 0 where constant."""
    s = in_range(s)
    z = np.empty_like(s)
    for name in np.unique(fold):
        part = s[fold == name]
        std = part.std(axis=0)
        varies = std > 1e-6 * np.abs(part).max(axis=0)
        z[fold == name] = np.where(varies, (part - part.mean(axis=0)) / np.where(varies, std, 1), 0)
    return z


def _paired_auc(a: np.ndarray, b: np.ndarray, y: np.ndarray, fold: np.ndarray) -> tuple[float, float]:
    """Mean over folds of AUC(a) - AUC(b), and DeLong's variance of it.

    A class of one member has no variance of its own: it gets the largest for components in [-1, 1] of that mean.
    Source: DeLong et al. 1988, Biometrics 44:837.
    """
    estimates = []
    for name in np.unique(fold):
        rows = fold == name
        if len(np.unique(y[rows])) < 2:
            continue
        parts = [
            share_a - share_b
            for share_a, share_b in zip(_components(a[rows], y[rows]), _components(b[rows], y[rows]), strict=True)
        ]
        theta = parts[0].mean()
        estimates.append((theta, sum(part.var(ddof=1) / len(part) if len(part) > 1 else 1 - theta**2 for part in parts)))
    theta, variance = np.array(estimates).T
    return float(theta.mean()), float(variance.sum() / len(estimates) ** 2)


def _components(score: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of negatives that each positive beats, and of positives that beat each negative; ties half."""
    rank = rankdata(score)
    positives, negatives = rank[y] - rankdata(score[y]), rank[~y] - rankdata(score[~y])
    return positives / (~y).sum(), 1 - negatives / y.sum()
