"""Steering: add a direction to a thought and see whether the answer moves to the intended value.

A direction leads from the recipient's value at a step to the donor's. It comes from other problems: the difference of mean
thoughts, the weights of a probe, or the difference of SAE features. All have the length of the mean difference, and so has the
random direction that each is compared with, so a strength means the same for all. Place and strength are chosen on the first
half of the pairs, and rates are counted on the other half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from codi_bench.errors import MeasureError
from codi_bench.measures.sae import Sae
from codi_bench.rules.stats import Estimate, mcnemar_exact, newcombe_paired, rate_of
from codi_bench.rules.validity import Verdict, sound_verdict

MEAN, PROBE, SAE, RANDOM = "mean difference", "probe", "SAE features", "random"
KINDS = (MEAN, PROBE, SAE)
STRENGTHS = (0.5, 1.0, 2.0, 4.0)
FEWEST = 4  # examples of a value, below which nothing is known of it
NUM_FEATURES = 8  # of an SAE, those that differ most
PROBE_C = 0.01
FLOOR = 0.05


@dataclass(frozen=True, eq=False)
class StepLatents:
    """Data of other problems at one place: latents float32 [m, d] and the value of the step in each, [m]."""

    latents: np.ndarray
    values: np.ndarray

    @property
    def enough(self) -> set[float]:
        """The values with at least FEWEST examples."""
        values, counts = np.unique(self.values, return_counts=True)
        return set(values[counts >= FEWEST].tolist())


def directions(
    known: StepLatents, start: Sequence[float], end: Sequence[float], *, sae: Sae | None, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """By kind float32 [n, d]: from the value `start` to the value `end` of each of n recipients, as long as the mean difference.

    Raises MeasureError for a value with too few examples.
    """
    missing = ({*start} | {*end}) - known.enough
    if missing:
        raise MeasureError(f"value {min(missing):g} has fewer than {FEWEST} examples: leave out its pairs")
    classes = np.array(sorted(known.enough))
    index = {value: i for i, value in enumerate(classes.tolist())}
    first, last = ([index[value] for value in values] for values in (start, end))
    means = np.stack([known.latents[known.values == value].mean(axis=0) for value in classes])
    vectors = {MEAN: means[last] - means[first]}
    length = np.linalg.norm(vectors[MEAN], axis=1, keepdims=True)
    weights = _probe_weights(known, classes)
    vectors[PROBE] = weights[last] - weights[first]
    if sae is not None:
        features = np.stack([sae.encode(known.latents[known.values == value]).mean(axis=0) for value in classes])
        difference = features[last] - features[first]  # [n, F]
        threshold = np.sort(np.abs(difference), axis=1)[:, -min(NUM_FEATURES, difference.shape[1]), None]
        vectors[SAE] = np.where(np.abs(difference) >= threshold, difference, 0) @ sae.decoder_weight.cpu().numpy().T
    vectors[RANDOM] = rng.standard_normal(vectors[MEAN].shape)
    return {kind: (length * _unit(vector)).astype(np.float32) for kind, vector in vectors.items()}


def _probe_weights(known: StepLatents, classes: np.ndarray) -> np.ndarray:
    """Weights [classes, d] of a softmax probe of the value, in the units of the latents."""
    rows = np.isin(known.values, classes)
    scaler = StandardScaler().fit(known.latents[rows])
    probe = LogisticRegression(C=PROBE_C, max_iter=200).fit(scaler.transform(known.latents[rows]), known.values[rows])
    weights = probe.coef_ if len(classes) > 2 else np.concatenate([-probe.coef_, probe.coef_])
    return np.asarray(weights / scaler.scale_)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norm > 0, norm, 1)


@dataclass(frozen=True)
class Dose:
    """One kind of direction: place and strength chosen on half of the pairs, rates on the other half.

    random: the rate under a random direction there. curve, random_curve: follow rate by strength at that place, over all pairs.
    follows: bool [n], of the other half.
    """

    kind: str
    place: int
    strength: float
    follow: Estimate
    stay: Estimate
    neither: Estimate
    random: Estimate
    over: Estimate
    p: float
    n: int
    curve: dict[float, float]
    random_curve: dict[float, float]
    follows: np.ndarray

    def word(self, p: float) -> Verdict:
        """Does the answer move to the intended value more often than under a random direction, by 5 points? p: corrected."""
        return sound_verdict(self.over, delta=FLOOR, p={"random direction": p}, marginal="random direction", n=self.n)


def dose(
    kind: str, follows: Mapping[tuple[str, int, float], np.ndarray], stays: Mapping[tuple[str, int, float], np.ndarray]
) -> Dose:
    """follows, stays: bool [pairs] by (kind, place, strength). p: exact McNemar against the random direction, one-sided."""
    keys = [key for key in follows if key[0] == kind]
    n = len(next(iter(follows.values())))
    half = n // 2
    if half < 1:
        raise MeasureError("place and strength are chosen on half of the pairs: at least two are needed")
    best = max(keys, key=lambda key: int(follows[key][:half].sum()))
    _, place, strength = best
    follow, stay, random = follows[best][half:], stays[best][half:], follows[RANDOM, place, strength][half:]
    curve, random_curve = (
        {s: float(follows[name, place, s].mean()) for _, p, s in keys if p == place} for name in (kind, RANDOM)
    )
    return Dose(
        kind,
        place,
        strength,
        rate_of(follow),
        rate_of(stay),
        rate_of(~(follow | stay)),
        rate_of(random),
        newcombe_paired(follow, random),
        mcnemar_exact(follow, random, "greater"),
        len(follow),
        curve,
        random_curve,
        follow,
    )
