"""Probes of other studies: which operation comes first, and values by regression, each beside what it is to be held against.

A story tells its operation, so the sound protocol trains on some stories and tests on others; its null gives whole stories the
operations of others. Problems without a story (GSM8K) are stories of their own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy.stats import pearsonr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from codi_bench.audits.decoding import FEWEST
from codi_bench.claims.claim import Bench, Measured, Null
from codi_bench.claims.papers_latents import rate_of
from codi_bench.claims.seed_sound import NUM_PROBLEMS, SEED, effect_over, ends, without_word
from codi_bench.errors import MeasureError
from codi_bench.rules.intervals import accuracy_phi
from codi_bench.rules.stats import Estimate, bootstrap_mean, mcnemar_exact, newcombe_paired, stream
from codi_bench.rules.validity import ALPHA, Verdict, across_claims, permutation_p, sound_verdict

NUM_CLAIMS = 3  # of the family, measured in a run or not
NUM_OPERATIONS = 600  # problems: 480 to train, 120 to test, as published
FOLDS = 5
GAIN_FLOOR = 0.10
PERMUTED = "stories permuted"
VALUE_FLOOR = 0.05

# The first operation


@dataclass(frozen=True, eq=False)
class Operations:
    """Problems with one of the operations first: states float32 [n, latents, layers, d], label int [n], story [n]."""

    states: np.ndarray
    label: np.ndarray
    story: np.ndarray


def _operations(bench: Bench, signs: str, layers: tuple[int, ...]) -> Operations:
    capture = bench.captured(NUM_PROBLEMS, num_latents=bench.num_latents)
    rows = [i for i, p in enumerate(capture.problems) if p.operators[:1] and p.operators[0] in signs][:NUM_OPERATIONS]
    label = np.array([signs.index(capture.problems[i].operators[0]) for i in rows])
    story = np.array([capture.problems[i].template or capture.problems[i].group for i in rows])
    if len(rows) < FEWEST or np.bincount(label, minlength=len(signs)).min() < FOLDS:
        raise MeasureError(
            f"{len(rows)} problems begin with one of {signs}, and {FOLDS} with each are needed: give more problems"
        )
    return Operations(capture.hidden_states[rows][:, 1:][:, :, list(layers)].astype(np.float32), label, story)


def _cells(bench: Bench) -> dict[str, tuple[Operations, np.ndarray]]:
    """What the published study names: the first probed layer at latent positions 1 and 4, and everything together: [n, d]."""
    operations = _operations(bench, "+-*", bench.layers)
    at = {f"at_{place}": operations.states[:, place, 0] for place in (1, 4) if place < bench.num_latents}
    return {name: (operations, x) for name, x in {**at, "all": operations.states.reshape(len(operations.label), -1)}.items()}


def operation_class(bench: Bench) -> list[Measured]:
    """Accuracy of logistic regression on one of three operations, four fifths of the problems to train."""

    def measure(name: str, operations: Operations, x: np.ndarray) -> Measured:
        train, test = train_test_split(
            np.arange(len(x)), test_size=0.2, random_state=SEED + bench.seed, stratify=operations.label, shuffle=True
        )
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x[train], operations.label[train])
        return rate_of(name, probe.predict(x[test]) == operations.label[test])

    return [measure(name, *cell) for name, cell in _cells(bench).items()]


def operation_class_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same by least squares on stories that no probe was trained on, against permuted stories."""
    return _on_other_stories(bench, _cells(bench), least_squares, reported, chance=1 / 3)


def operation_direction(bench: Bench) -> list[Measured]:
    """Accuracy of the difference of means on plus or minus, by latent position, 70 % of the problems to train."""
    cells, rows = _additions(bench), []
    for name, (operations, x) in cells.items():
        train, test = train_test_split(
            np.arange(len(x)), test_size=0.3, random_state=SEED + bench.seed, stratify=operations.label
        )
        predictions = nearest_mean(x[train], operations.label[train, None], x[test], 2)[:, 0]
        rows.append(rate_of(name, predictions == operations.label[test]))
    return rows


def operation_direction_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same on stories that no probe was trained on, against permuted stories."""
    return _on_other_stories(bench, _additions(bench), nearest_mean, {}, chance=1 / 2)


def _additions(bench: Bench) -> dict[str, tuple[Operations, np.ndarray]]:
    operations = _operations(bench, "+-", (-1,))
    return {f"at_{place}": (operations, operations.states[:, place, 0]) for place in range(bench.num_latents)}


Classifier = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def nearest_mean(x: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> np.ndarray:
    """The class whose mean is nearest, int [m, B], of test rows [m, d], for B labellings [n, B] of the training rows [n, d]."""
    scores = []
    for k in range(classes):
        members = (labels == k).astype(np.float64)
        mean = (x.T @ members / np.maximum(members.sum(0), 1)).T  # [B, d]
        # a class that was never seen is no neighbour
        scores.append(np.where(members.any(0), 2 * test @ mean.T - (mean**2).sum(1), -np.inf))
    return np.argmax(scores, axis=0)


def least_squares(x: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> np.ndarray:
    """The class that a ridge regression on membership puts first (standardised columns, penalty n); shapes as above."""
    mean, std = x.mean(0), x.std(0)
    scale = np.where(std > 0, std, 1)
    a, b = (x - mean) / scale, (test - mean) / scale
    weights = b @ a.T @ np.linalg.inv(a @ a.T + len(a) * np.eye(len(a)))  # [m, n]: the dual, since rows may be fewer than columns
    targets = [(labels == k).astype(np.float64) for k in range(classes)]
    return np.argmax([weights @ (target - target.mean(0)) + target.mean(0) for target in targets], axis=0)


def _on_other_stories(
    bench: Bench,
    cells: Mapping[str, tuple[Operations, np.ndarray]],
    classify: Classifier,
    reported: Mapping[str, float],
    *,
    chance: float,
) -> list[Measured]:
    """The cells of a claim are one test: each against the best of every draw."""
    results = {name: _held_out(x.astype(np.float64), operations, classify, bench) for name, (operations, x) in cells.items()}
    best = np.max([null for _, null in results.values()], axis=0)
    rows = []
    for name, (right, null) in results.items():
        corrected = min(1.0, NUM_CLAIMS * permutation_p(right.mean(), best))
        operations = cells[name][0]
        count, majority = len(set(operations.story.tolist())), float(np.bincount(operations.label).max() / len(right))
        phi, _ = accuracy_phi(null[:, None], count)
        estimate = bootstrap_mean(right, rng=stream(SEED + bench.seed, name), groups=operations.story, phi=phi)
        assert estimate.low is not None and estimate.high is not None
        rate = Estimate(estimate.value, max(0.0, estimate.low), min(1.0, estimate.high))
        gain = Estimate(
            *cast(
                "tuple[float, float | None, float | None]",
                (None if end is None else end - null.mean() for end in (rate.value, rate.low, rate.high)),
            )
        )
        delta = effect_over(reported, name, chance, GAIN_FLOOR)
        word: Verdict | None = sound_verdict(
            gain, delta=delta, p={PERMUTED: corrected}, marginal=PERMUTED, n=count, permutations=bench.permutations
        )
        detail = {"problems": len(right), "majority": majority}
        ways = _labellings(operations)
        if NUM_CLAIMS / ways > ALPHA:
            word, detail = None, detail | without_word(f"{count} stories can have their operations in {ways} ways: no p is small")
        null_of = Null.of(null, corrected)
        rows.append(Measured(name, rate.value, count, "fraction", rate.low, rate.high, detail=detail, null=null_of, verdict=word))
    return rows


def _labellings(operations: Operations) -> int:
    """In how many ways the stories can have their operations."""
    by_story = dict(zip(operations.story.tolist(), operations.label.tolist(), strict=True))
    ways = math.factorial(len(by_story))
    for count in Counter(by_story.values()).values():
        ways //= math.factorial(count)
    return ways


def _held_out(x: np.ndarray, operations: Operations, classify: Classifier, bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong on held-out stories, bool [n], and accuracies where stories have the labels of others, [permutations]."""
    rng = stream(SEED + bench.seed, "stories")
    stories, member = np.unique(operations.story, return_inverse=True)
    labels = np.array([operations.label[member == i][0] for i in range(len(stories))])
    labellings = np.stack([labels, *(rng.permutation(labels) for _ in range(bench.permutations))], axis=1)[member]  # [n, 1 + B]
    predictions, classes = np.empty_like(labellings), int(operations.label.max()) + 1
    fold = (rng.permutation(len(stories)) % FOLDS)[member]  # by nothing that is permuted: folds suit all draws alike
    for k in range(FOLDS):
        predictions[fold == k] = classify(x[fold != k], labellings[fold != k], x[fold == k], classes)
    right = predictions == labellings
    return right[:, 0], right[:, 1:].mean(0)


# Values by regression


@dataclass(frozen=True, eq=False)
class Regressed:
    """One step's values on n rightly answered problems: by ridge regression held out, and by the head, at each place.

    r2, pearson [places]; hit, near, read bool [n, places]: within a percent, within that or rounded to it, the head's first word.
    """

    r2: np.ndarray
    pearson: np.ndarray
    hit: np.ndarray
    near: np.ndarray
    read: np.ndarray


def _regressions(bench: Bench) -> list[Regressed]:
    def compute():
        captured, decoded = bench.captured(NUM_PROBLEMS, num_latents=bench.num_latents), bench.decoded
        states, numbers = captured.hidden_states[captured.right][:, :, -1].astype(np.float64), decoded.numbers()[..., 0]
        regressions = []
        for step in (1, 2):
            rows = [i for i, p in enumerate(decoded.problems) if len(p.values) > step and not np.isnan(p.values[step - 1])]
            if len(rows) >= FEWEST:
                values = np.array([decoded.problems[i].values[step - 1] for i in rows], float)
                regressions.append(_regress(states[rows], values, numbers[rows], seed=SEED + bench.seed))
        if not regressions:
            raise MeasureError(f"fewer than {FEWEST} rightly answered problems have an intermediate value: give more problems")
        return regressions

    return bench.once("values by regression", compute)


def _regress(states: np.ndarray, values: np.ndarray, numbers: np.ndarray, *, seed: int) -> Regressed:
    predictions = np.empty(numbers.shape)
    for train, test in KFold(FOLDS, shuffle=True, random_state=seed).split(states):
        for place in range(states.shape[1]):
            probe = make_pipeline(StandardScaler(), Ridge(1.0)).fit(states[train, place], values[train])
            predictions[test, place] = probe.predict(states[test, place])
    places, targets = range(states.shape[1]), values[:, None]
    errors, percent = np.abs(predictions - targets), 0.01 * np.abs(targets)
    return Regressed(
        np.array([r2_score(values, predictions[:, place]) for place in places]),
        np.array([pearsonr(values, predictions[:, place]).statistic for place in places]),
        errors <= percent,
        errors <= np.maximum(percent, 0.5),
        numbers == targets,
    )


def probe_metric(bench: Bench) -> list[Measured]:
    """Means over steps 1 and 2 and all places: R2 and Pearson's r of ridge regression, its hits, and the head's."""
    regressions = _regressions(bench)
    n, why = (
        sum(len(regression.hit) for regression in regressions),
        without_word("a mean over cells that share their problems: no honest interval"),
    )
    means = {
        name: float(np.mean([getattr(regression, name).mean() for regression in regressions]))
        for name in ("r2", "pearson", "hit", "read")
    }
    return [Measured(name, value, n, "fraction", detail=why) for name, value in means.items()]


def probe_metric_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Step by step: does the head read the value at some place more often than regression, rounded, gives it at some place?"""
    regressions = _regressions(bench)
    read, near = ([getattr(regression, name).any(axis=1) for regression in regressions] for name in ("read", "near"))
    p = across_claims([mcnemar_exact(a, b, "greater") for a, b in zip(read, near, strict=True)], NUM_CLAIMS)
    rows, control = [], "ridge regression"
    for step, (a, b, corrected) in enumerate(zip(read, near, p, strict=True), start=1):
        gain, null = newcombe_paired(a, b), Null(float(b.mean()), p=float(corrected))
        assert null.p is not None
        word = sound_verdict(gain, delta=VALUE_FLOOR, p={control: null.p}, marginal=control, n=len(a))
        rows.append(rate_of(f"read_step{step}", a, null=null, verdict=word, detail={"gain": ends(gain)}))
    return rows
