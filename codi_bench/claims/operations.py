"""Probes for which operation comes first, and for values by regression, each beside what it is to be held against.

A story tells its operation, so the sound protocol trains on some stories and tests on others; its null gives whole stories the
operations of others. Problems without a story (GSM8K) are stories of their own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from codi_bench.audits.decoding import FEWEST
from codi_bench.claims import runs
from codi_bench.claims.blocks import effect_over, rate
from codi_bench.claims.claim import SEED, Bench, Measured, Null, Published, measured, once, without_word
from codi_bench.claims.families import budget_of
from codi_bench.errors import MeasureError
from codi_bench.rules.intervals import accuracy_phi
from codi_bench.rules.p_values import permutation_p
from codi_bench.rules.stats import Interval, bootstrap_mean, stream
from codi_bench.rules.validity import ALPHA, sound_verdict

FAMILY = "other probes"
NUM_OPERATIONS = 600  # problems: 480 to train, 120 to test, as published
FOLDS = 5
GAIN_FLOOR = 0.10
PERMUTED = "stories permuted"
STORIES = "on stories that no probe was trained on (GSM8K: problems), against stories with the operations of others"

# The first operation


@dataclass(frozen=True, eq=False)
class Cell:
    """What a probe reads, x float32 [n, d], of problems with one of the operations first: label int [n], story [n]."""

    x: np.ndarray
    label: np.ndarray
    story: np.ndarray


def operation_cells(
    bench: Bench, signs: str, layers: tuple[int, ...], at: Mapping[str, tuple[int, int] | None]
) -> dict[str, Cell]:
    """Cells by name: a latent position and a layer by its place among `layers`, or None for all positions and layers together."""
    capture = runs.captured(bench)
    rows = [i for i, p in enumerate(capture.problems) if p.operators[:1] and p.operators[0] in signs][:NUM_OPERATIONS]
    label = np.array([signs.index(capture.problems[i].operators[0]) for i in rows])
    story = np.array([capture.problems[i].template or capture.problems[i].group for i in rows])
    if len(rows) < FEWEST or np.bincount(label, minlength=len(signs)).min() < FOLDS:
        raise MeasureError(
            f"{len(rows)} problems begin with one of {signs}, but {FOLDS} with each are needed: give more problems"
        )
    states = capture.hidden_states[rows][:, 1:][:, :, list(layers)].astype(np.float32)  # [n, latents, layers, d]
    every = states.reshape(len(rows), -1)
    return {name: Cell(every if place is None else states[:, place[0], place[1]], label, story) for name, place in at.items()}


Classifier = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def nearest_mean(x: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> np.ndarray:
    """The class whose mean is nearest, int [m, B], of test rows [m, d], for B labellings [n, B] of the training rows [n, d]."""
    scores = []
    for k in range(classes):
        members = (labels == k).astype(np.float64)
        mean = (x.T @ members / np.maximum(members.sum(0), 1)).T  # [B, d]
        # a class that was never seen is no neighbour
        scores.append(np.where(members.any(0), 2 * test @ mean.T - (mean**2).sum(1), -np.inf))
    return np.asarray(np.argmax(scores, axis=0))


def least_squares(x: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> np.ndarray:
    """The class that a ridge regression on membership puts first (standardised columns, penalty n); shapes as above."""
    mean, std = x.mean(0), x.std(0)
    scale = np.where(std > 0, std, 1)
    a, b = (x - mean) / scale, (test - mean) / scale
    weights = b @ a.T @ np.linalg.inv(a @ a.T + len(a) * np.eye(len(a)))  # [m, n]: the dual, since rows may be fewer than columns
    targets = [(labels == k).astype(np.float64) for k in range(classes)]
    return np.asarray(np.argmax([weights @ (target - target.mean(0)) + target.mean(0) for target in targets], axis=0))


def logistic(x: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> np.ndarray:
    """The class that logistic regression on standardised columns puts first, for one labelling [n, 1]."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, labels[:, 0])
    return np.asarray(probe.predict(test))[:, None]


def on_one_split(bench: Bench, cells: Mapping[str, Cell], classify: Classifier, *, share: float) -> list[Measured]:
    """As published: a share of the problems is held out, by a stratified split that does not know of stories."""
    rows = []
    for name, cell in cells.items():
        every, seed = np.arange(len(cell.x)), SEED + bench.seed
        train, test = train_test_split(every, test_size=share, random_state=seed, stratify=cell.label)
        predictions = classify(cell.x[train], cell.label[train, None], cell.x[test], int(cell.label.max()) + 1)[:, 0]
        rows.append(rate(name, predictions == cell.label[test]))
    return rows


def on_other_stories(
    bench: Bench, cells: Mapping[str, Cell], classify: Classifier, published: Published, *, chance: float
) -> list[Measured]:
    """The cells of a claim are one test: each against the best of every draw."""
    results = {name: held_out(cell, classify, bench) for name, cell in cells.items()}
    best = np.max([null for _, null in results.values()], axis=0)
    rows = []
    for name, (right, null) in results.items():
        cell, p = cells[name], min(1.0, budget_of(FAMILY) * permutation_p(right.mean(), best))
        count, majority = len(set(cell.story.tolist())), float(np.bincount(cell.label).max() / len(right))
        phi, _ = accuracy_phi(null[:, None], count)
        estimate = bootstrap_mean(right, rng=stream(SEED + bench.seed, name), groups=cell.story, phi=phi)
        accuracy = Interval(estimate.value, max(0.0, estimate.low), min(1.0, estimate.high))
        gain = Interval(*(end - null.mean() for end in (accuracy.value, accuracy.low, accuracy.high)))
        delta = effect_over(published, name, chance, GAIN_FLOOR)
        word = sound_verdict(gain, delta=delta, p={PERMUTED: p}, marginal=PERMUTED, n=count, permutations=bench.permutations)
        detail, ways = {"asked": len(right), "majority": majority}, labellings(cell)
        decidable = budget_of(FAMILY) / ways <= ALPHA
        why = {} if decidable else without_word(f"{count} stories can have their operations in {ways} ways: no p is small")
        verdict = word if decidable else None
        rows.append(measured(name, accuracy, count, detail=detail | why, null=Null.of(null, p), verdict=verdict))
    return rows


def labellings(cell: Cell) -> int:
    """In how many ways the stories can have their operations."""
    by_story = dict(zip(cell.story.tolist(), cell.label.tolist(), strict=True))
    return math.factorial(len(by_story)) // math.prod(map(math.factorial, Counter(by_story.values()).values()))


def held_out(cell: Cell, classify: Classifier, bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong on held-out stories, bool [n], and accuracies where stories have the labels of others, [permutations]."""
    x, rng = cell.x.astype(np.float64), stream(SEED + bench.seed, "stories")
    stories, member = np.unique(cell.story, return_inverse=True)
    labels = np.array([cell.label[member == i][0] for i in range(len(stories))])
    columns = np.stack([labels, *(rng.permutation(labels) for _ in range(bench.permutations))], axis=1)[member]  # [n, 1 + B]
    predictions, classes = np.empty_like(columns), int(cell.label.max()) + 1
    fold = (rng.permutation(len(stories)) % FOLDS)[member]  # by nothing that is permuted: folds suit all draws alike
    for k in range(FOLDS):
        predictions[fold == k] = classify(x[fold != k], columns[fold != k], x[fold == k], classes)
    right = predictions == columns
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


@once
def regressions(bench: Bench) -> list[Regressed]:
    """Of steps 1 and 2, where enough problems have them. Raises MeasureError where none has."""
    capture, decoded = runs.captured(bench), bench.decoded
    states, numbers = capture.hidden_states[capture.right][:, :, -1].astype(np.float64), decoded.numbers()[..., 0]
    found = []
    for step in (1, 2):
        rows = [i for i, p in enumerate(decoded.problems) if len(p.values) > step and not np.isnan(p.values[step - 1])]
        if len(rows) >= FEWEST:
            values = np.array([decoded.problems[i].values[step - 1] for i in rows], float)
            found.append(regress(states[rows], values, numbers[rows], seed=SEED + bench.seed))
    if not found:
        raise MeasureError(f"fewer than {FEWEST} rightly answered problems have an intermediate value: give more problems")
    return found


def regress(states: np.ndarray, values: np.ndarray, numbers: np.ndarray, *, seed: int) -> Regressed:
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
