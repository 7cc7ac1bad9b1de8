"""Do two models use the same features? Each result is compared with shuffled problems and with an untrained model.

Thoughts of both models are aligned by problem and position: a, b float32 [n, K, d]. Every test and interval counts problems,
except for the share of shared features, which counts features of one crosscoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import fisher_exact
from scipy.stats import t as student

from codi_bench.audits.confidence import OverConfidence, confidence_logit, over_confidence
from codi_bench.errors import MeasureError
from codi_bench.measures.crosscoder import SHARED, Crosscoder, cka, cka_of, match, standardised, train_crosscoder
from codi_bench.measures.folds import Split, inner_folds, permuted_labels
from codi_bench.measures.grid import Scored, scores
from codi_bench.measures.sae import Sae
from codi_bench.measures.surface import added_auc, conditional_draws, conditional_statistic, held_out, propensity
from codi_bench.rules.intervals import Ranked, auc_of_labels, auc_phi, fold_auc
from codi_bench.rules.p_values import check_permuted, permutation_p
from codi_bench.rules.stats import Estimate, stream, wilson
from codi_bench.rules.validity import Verdict, sound_verdict
from codi_bench.store.memo import uncached

SHARED_FLOOR, ALIGNED_FLOOR, AUC_FLOOR = 0.05, 0.05, 0.05
LABELS, SURFACE = "labels permuted", "surface"
OTHERS, UNTRAINED = "other problems", "untrained"
BLOCKS = 20


@dataclass(frozen=True, eq=False)
class Sharing:
    """One crosscoder: the numbers of active features that only the first model has, both have, and only the second has.

    explained: of each model's held-out thoughts. features [n, K, F], all problems; shared bool [F]: alive, and of both.
    """

    only_first: int
    both: int
    only_second: int
    explained: tuple[float, float]
    features: np.ndarray
    shared: np.ndarray

    @property
    def alive(self) -> int:
        return self.only_first + self.both + self.only_second

    @property
    def rate(self) -> Estimate:
        return wilson(self.both, self.alive)


def sharing(
    a: np.ndarray,
    b: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    *,
    seed: int,
    epochs: int,
    run: Callable[..., Any] = uncached,
) -> Sharing:
    """A crosscoder on the training problems, as many features as the narrower model has dimensions.

    More features would memorise single vectors, of both models at once: with the problems of one model shuffled, two thirds of
    400 features on 2900 aligned vectors looked shared, but only one in seven of 48.
    """
    width = min(a.shape[-1], b.shape[-1])
    crosscoder = run(
        Crosscoder,
        train_crosscoder,
        flat(a[train]),
        flat(b[train]),
        features=width,
        k=max(4, width // 16),
        epochs=epochs,
        seed=seed,
    )
    features, ratio = crosscoder.encode(a, b), crosscoder.ratio()
    alive = (features[test] > 0).any(axis=(0, 1))
    low, high = SHARED
    shared = alive & (ratio >= low) & (ratio <= high)
    only_first, both, only_second = (int(part.sum()) for part in (alive & (ratio < low), shared, alive & (ratio > high)))
    return Sharing(only_first, both, only_second, crosscoder.explained(flat(a[test]), flat(b[test])), features, shared)


def over(found: Sharing, control: Sharing) -> Estimate:
    """Share of shared features minus that of a control, with Newcombe's interval for two independent rates."""
    from statsmodels.stats.proportion import confint_proportions_2indep  # loads pandas

    low, high = confint_proportions_2indep(found.both, found.alive, control.both, control.alive, method="newcomb", compare="diff")
    return Estimate(found.rate.value - control.rate.value, float(low), float(high))


def shared_p(found: Sharing, controls: dict[str, Sharing]) -> dict[str, float]:
    """Fisher's exact p that no more features are shared than under each control."""
    tables = {name: [[row.both, row.alive - row.both] for row in (found, control)] for name, control in controls.items()}
    return {name: float(fisher_exact(table, alternative="greater").pvalue) for name, table in tables.items()}


def shared_word(found: Sharing, controls: dict[str, Sharing], p: dict[str, float]) -> Verdict:
    """Are more features shared than under each control, by 5 points or more? p: corrected; n counts features."""
    return sound_verdict(over(found, strictest(controls)), delta=SHARED_FLOOR, p=p, marginal=OTHERS, n=found.alive)


def strictest(controls: dict[str, Sharing]) -> Sharing:
    """The control that shares most."""
    return max(controls.values(), key=lambda control: control.rate.value)


@dataclass(frozen=True, eq=False)
class Aligned:
    """A similarity of two models' thoughts with its 95 % interval over problems, its controls, and p against each.

    gain: over the higher control, with its interval. null [permutations]: with the problems of one model shuffled.
    """

    value: Estimate
    gain: Estimate
    untrained: float
    null: np.ndarray
    p: dict[str, float]
    n: int


def aligned_cka(a: np.ndarray, b: np.ndarray, untrained: np.ndarray, *, permutations: int, seed: int) -> Aligned:
    """Linear CKA over all problems, since nothing is fitted."""
    rng = stream(seed, "cka")
    orders = (flat_rows(rng.permutation(len(b)), b) for _ in range(permutations))
    null = cka_of(flat(a), flat(b), orders)
    return _aligned(
        lambda rows: cka(flat(a[rows]), flat(b[rows])), lambda rows: cka(flat(a[rows]), flat(untrained[rows])), null, len(a)
    )


def aligned_features(
    one: Sae, other: Sae, fresh: Sae, thoughts: Sequence[np.ndarray], train: np.ndarray, test: np.ndarray, **numbers: int
) -> Aligned:
    """Mean correlation of the features of two SAEs, matched on the training problems; numbers: permutations and seed.

    thoughts: of the first, the second and the untrained model, whose SAEs are one, other and fresh.
    """
    a, b, c = thoughts
    products, control_products = (matched_products(one, sae, a, x, train, test) for sae, x in ((other, b), (fresh, c)))
    rng, n = stream(numbers["seed"], "matched"), len(test)
    null = np.array([products[np.arange(n), rng.permutation(n)].mean() for _ in range(numbers["permutations"])])
    return _aligned(lambda rows: products[rows, rows].mean(), lambda rows: control_products[rows, rows].mean(), null, n)


def matched_products(one: Sae, other: Sae, a: np.ndarray, b: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Mean product of matched standardised features of held-out problem i of one and j of the other, float64 [n_test, n_test].

    Its diagonal's mean is their mean correlation.
    """
    f, g = (standardised(sae.encode(flat(x)), flat_rows(train, x)) for sae, x in ((one, a), (other, b)))
    f, g = (x[:, x[flat_rows(train, a)].any(axis=0)] for x in (f, g))  # a feature that is never active there matches nothing
    if not f.shape[1] or not g.shape[1]:
        raise MeasureError("an autoencoder has no feature that is ever active, so there is nothing to match")
    left, right = match(f[flat_rows(train, a)], g[flat_rows(train, b)])
    x, y = f[flat_rows(test, a)][:, left], g[flat_rows(test, b)][:, right]
    return np.asarray(x.reshape(len(test), -1) @ y.reshape(len(test), -1).T / (a.shape[1] * len(left)))


def flat(x: np.ndarray) -> np.ndarray:
    """Vectors [n K, d] of thoughts [n, K, d]."""
    return x.reshape(-1, x.shape[-1])


def flat_rows(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The row indices of the vectors of some problems among those of all."""
    return np.asarray((rows[:, None] * x.shape[1] + np.arange(x.shape[1])).ravel())


def _aligned(value: Callable[[np.ndarray], float], control: Callable[[np.ndarray], float], null: np.ndarray, n: int) -> Aligned:
    """An alignment, with intervals by a jackknife over BLOCKS blocks of problems (Efron and Stein 1981).

    value, control: functions of the problems `rows`. A bootstrap would repeat problems, and repeats are more alike.
    """
    rows, null_mean = np.arange(n), float(null.mean())
    blocks = np.array_split(rows, BLOCKS)
    replicates = np.array([[f(np.setdiff1d(rows, block)) for f in (value, control)] for block in blocks])
    estimate, untrained = float(value(rows)), float(control(rows))
    gains = replicates[:, 0] - np.maximum(replicates[:, 1], null_mean)
    error = _jackknife(replicates[:, 0] - replicates[:, 1])
    p_untrained = float(student.sf((estimate - untrained) / error, BLOCKS - 1)) if error else float(estimate <= untrained)
    return Aligned(
        _around(estimate, _jackknife(replicates[:, 0])),
        _around(estimate - max(untrained, null_mean), _jackknife(gains)),
        untrained,
        null,
        {OTHERS: permutation_p(estimate, null), UNTRAINED: p_untrained},
        n,
    )


def _jackknife(replicates: np.ndarray) -> float:
    """Standard error of a number from its values without each block."""
    return float(np.sqrt((len(replicates) - 1) * np.mean((replicates - replicates.mean()) ** 2)))


def _around(value: float, error: float) -> Estimate:
    reach = float(student.ppf(0.975, BLOCKS - 1)) * error
    return Estimate(value, value - reach, value + reach)


def aligned_word(found: Aligned, p: dict[str, float]) -> Verdict:
    """Are two models more alike than under each control, by 5 points or more? p: corrected."""
    return sound_verdict(found.gain, delta=ALIGNED_FLOOR, p=p, marginal=OTHERS, n=found.n, permutations=len(found.null))


@dataclass(frozen=True, eq=False)
class Across:
    """Errors of one model predicted by a classifier of the other model's errors, on problems that it has not seen.

    own: its AUC for the errors that it was fitted to. added: the AUC that it adds to the surface; over_confidence: to the
    confidence of the model whose errors are predicted. null_auc: permuted labels.
    """

    auc: Estimate
    own: Estimate
    added: Estimate
    over_confidence: OverConfidence
    p: dict[str, float]
    null_auc: np.ndarray
    ranked: Ranked


def across(
    features: np.ndarray,
    theirs: np.ndarray,
    own: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    *,
    groups: ArrayLike,
    surface: np.ndarray,
    confidence: np.ndarray,
    permutations: int,
    seed: int,
    run: Callable[..., Any] = uncached,
) -> Across:
    """features [n, F]; theirs, own: right bool [n] of the model whose errors are learned, and of the one whose are predicted.

    confidence [n, columns]: of the latter in its own answers. The classifier is fitted to the training problems, as the features
    were, and of each held-out group the first problem is scored. Nulls: own labels permuted, and drawn given the surface; the
    scores do not depend on own labels, so nothing is fitted again. Raises MeasureError where a side would miss a class.
    """
    if not features.shape[1]:
        raise MeasureError("no feature is shared, so there is nothing to predict errors from")
    groups, side = np.asarray(groups), np.zeros(len(own), int)
    side[test] = 1
    test = test[np.unique(groups[test], return_index=True)[1]]
    split = Split(train, test, inner_folds(theirs, train, groups, folds=5, seed=seed))
    score = run(Scored, scores, [features], theirs[:, None], [split]).score[test, 0, 0].astype(np.float64)
    truth, one_fold = own[test], np.zeros(len(test), int)
    label_draws = permuted_labels(truth, one_fold, permutations=permutations, seed=seed)
    null, null_variance = fold_auc(np.broadcast_to(score, label_draws.shape), label_draws, one_fold)
    check_permuted(null)
    phi = auc_phi(null, null_variance)
    p_right = propensity(surface, own)
    surface_draws = conditional_draws(p_right, groups=groups, draws=permutations, seed=seed)[:, test]
    statistic, null_statistic = (
        conditional_statistic(labels, p_right[test], score, one_fold) for labels in (truth, surface_draws)
    )
    # Fitted to training problems: the held-out ones are too few for its columns.
    surface_logit = held_out(surface, own, side)[test, None]
    own_logit = confidence_logit(confidence, own, side)[test]
    fold = np.empty(len(test), int)
    for k, (_, part) in enumerate(inner_folds(truth, np.arange(len(test)), folds=5, seed=seed)):
        fold[part] = k
    auc, variance = fold_auc(score, truth, one_fold)
    return Across(
        auc_of_labels(auc, variance, truth, phi),
        auc_of_labels(*fold_auc(score, theirs[test], one_fold), theirs[test], phi),
        added_auc(score, truth, surface_logit, fold, phi=phi)[0],
        over_confidence(score, truth, own_logit, fold=fold, ranked=one_fold, phi=phi),
        {LABELS: permutation_p(float(auc), null), SURFACE: permutation_p(float(statistic), null_statistic)},
        null,
        Ranked(score, truth, one_fold, groups[test], phi),
    )


def across_word(found: Across, p: dict[str, float]) -> Verdict:
    """Do features that two models share predict one model's errors from the other's, beyond the surface? p: corrected."""
    n = len(found.ranked.labels)
    return sound_verdict(found.added, delta=AUC_FLOOR, p=p, marginal=LABELS, n=n, permutations=len(found.null_auc))
