"""Data whose truth is known, to see how often a verdict is wrong: activations with labels, and outcomes of ablations.

Every generator draws from the numpy Generator that it is given and from nothing else. Rates and drops are fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import dct
from scipy.special import expit
from scipy.stats import norm

from codi_bench.errors import MeasureError
from codi_bench.measures.grid import nested_splits, scores
from codi_bench.measures.surface import surface_design
from codi_bench.rules.intervals import fold_auc
from codi_bench.rules.stats import stream

STEPS, LENGTHS = (1, 5), (0.0, 1.0)  # the surface of a made-up problem: a count, and a length


@dataclass(frozen=True, eq=False)
class Planted:
    """activations float32 [n, cells, d], labels bool [n], and the truth.

    carriers: the cells that tell more about the labels than surface and group do. groups [n] and surface [n, p] (a design as
    `surface_design` makes it), where there are any; propensity [n]: the true probability of a right answer given the surface.
    """

    activations: np.ndarray
    labels: np.ndarray
    carriers: tuple[int, ...] = ()
    groups: np.ndarray | None = None
    surface: np.ndarray | None = None
    propensity: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Outcomes:
    """clean bool [n] and ablated bool [positions, n], the same problems; drops [positions]: the true ones."""

    clean: np.ndarray
    ablated: np.ndarray
    drops: tuple[float, ...]


# --- activations -----------------------------------------------------------------------------------------------------


def noise(rng: np.random.Generator, *, n: int, cells: int, d: int, decay: float = 0.0) -> Planted:
    """Nothing at all: labels of two equal classes (up to one problem), activations that know nothing of them."""
    return Planted(spectrum(rng, n, cells, d, decay), balanced(rng, n))


def signal(
    rng: np.random.Generator, *, n: int, cells: int, d: int, shift: float, where: int | None = None, decay: float = 0.0
) -> Planted:
    """Right and wrong answers are `shift` apart along a random direction: in the cell `where`, or in all cells evenly."""
    x, y = spectrum(rng, n, cells, d, decay), balanced(rng, n)
    carriers = tuple(range(cells)) if where is None else (where,)
    for cell in carriers:
        x[:, cell] += shift * (y - 0.5)[:, None] * direction(rng, d)
    return Planted(x, y, carriers)


def surface_only(rng: np.random.Generator, *, n: int, cells: int, d: int, steep: float = 1.5, strength: float = 1.0) -> Planted:
    """Answers depend on number of steps and length alone, the second by a curve; all that cells carry is that, and noise.

    The log-odds of a right answer fall with the steps and have a hump over the length; steep scales them. Each cell carries
    steps, length and the hump itself along directions of its own, so that a linear probe reads the curve too.
    """
    steps, length = rng.integers(STEPS[0], STEPS[1] + 1, n), rng.uniform(*LENGTHS, n)
    hump = 1 - 8 * (length - 0.5) ** 2  # mean 1/3
    p = expit(steep * (hump - 1 / 3 - (steps - np.mean(STEPS)) / 2))
    y = _two_classes(lambda: rng.random(n) < p)
    x = spectrum(rng, n, cells, d, 0.0)
    for cell in range(cells):
        for variable in (steps, length, hump):
            x[:, cell] += strength * ((variable - variable.mean()) / variable.std())[:, None] * direction(rng, d)
    return Planted(x, y, surface=surface_design({"length": length}, {"steps": steps}, n), propensity=p)


def leaking(rng: np.random.Generator, *, groups: int, variants: int, cells: int, d: int, within: float = 0.1) -> Planted:
    """Variants of a problem share their label and, up to `within`, their activations: only who is whose variant tells anything.

    Labels of groups are balanced and independent of the activations; within: std of a variant around its group, whose std is 1.
    """
    y = np.repeat(balanced(rng, groups), variants)
    x = np.repeat(spectrum(rng, groups, cells, d, 0.0), variants, axis=0)
    x += np.float32(within) * rng.standard_normal(x.shape, np.float32)
    order = rng.permutation(len(y))
    return Planted(x[order], y[order], groups=np.repeat(np.arange(groups), variants)[order])


def spectrum(rng: np.random.Generator, n: int, cells: int, d: int, decay: float) -> np.ndarray:
    """Gaussian float32 [n, cells, d], variances 1/rank^decay along a random basis: scaling coordinates does not undo them."""
    x = rng.standard_normal((n, cells, d), np.float32)
    if decay:
        x *= (np.arange(1, d + 1) ** (-decay / 2)).astype(np.float32)
        for _ in range(2):  # random signs and a cosine transform, twice: a random rotation in d log d
            x = dct(x * rng.choice(np.array([-1, 1], np.float32), d), norm="ortho", axis=-1)
    return x


def direction(rng: np.random.Generator, d: int) -> np.ndarray:
    """A random unit vector float32 [d]."""
    v = rng.standard_normal(d)
    return (v / np.linalg.norm(v)).astype(np.float32)


def balanced(rng: np.random.Generator, n: int) -> np.ndarray:
    """Labels bool [n] in random order, n // 2 of them True."""
    return rng.permutation(np.arange(n) < n // 2)


def _two_classes(draw: Callable[[], np.ndarray], smallest: int = 10) -> np.ndarray:
    """The first of a hundred draws with at least `smallest` problems in either class (or a tenth, where there are fewer)."""
    for _ in range(100):
        y = draw()
        if min(y.sum(), (~y).sum()) >= min(smallest, len(y) / 10):
            return y
    raise MeasureError("labels drawn from the surface hardly ever have two classes")


# --- how strong a signal is ------------------------------------------------------------------------------------------


def attained_auc(shift: float, n: int, d: int, *, repeats: int, seed: int, decay: float = 0.0, folds: int = 5, **how) -> float:
    """Mean held-out AUC of the probe pipeline over `repeats` data sets [n, d] of that shift; the same noise for every shift.

    how: probe and Cs, as `scores` takes them.
    """
    # The data sets stand beside each other as cells: what is held out in one is held out in all.
    data = signal(stream(seed, "attained AUC"), n=n, cells=repeats, d=d, shift=shift, decay=decay)
    splits, fold = nested_splits(data.labels, folds=folds, seed=seed)
    cells = [data.activations[:, k] for k in range(repeats)]
    score = scores(cells, data.labels[:, None], splits, loose=True, workers=1, **how).score[:, 0]
    return float(fold_auc(score.T, data.labels, fold)[0].mean())


def shift_for_auc(target: float, n: int, d: int, *, repeats: int = 100, seed: int = 0, tolerance: float = 0.002, **how) -> float:
    """The shift whose attained held-out AUC is the target, by bisection over the same random numbers; how: see attained_auc.

    Raises MeasureError for a target outside 0.5..1, or one that no shift up to 64 attains.
    """
    if not 0.5 < target < 1:
        raise MeasureError(f"a shift has an attained AUC between 0.5 and 1, not {target}")
    low, high = 0.0, 1.0
    while attained_auc(high, n, d, repeats=repeats, seed=seed, **how) < target:
        low, high = high, 2 * high
        if high > 64:
            raise MeasureError(f"no shift up to 64 attains an AUC of {target} with n = {n}, d = {d}")
    while True:
        middle = (low + high) / 2
        auc = attained_auc(middle, n, d, repeats=repeats, seed=seed, **how)
        if abs(auc - target) <= tolerance or high - low < 1e-6:
            return middle
        low, high = (middle, high) if auc < target else (low, middle)


# --- right and wrong -------------------------------------------------------------------------------------------------


def ablations(
    rng: np.random.Generator, *, n: int, drops: Sequence[float], baseline: float = 0.5, gains: float = 0.02
) -> Outcomes:
    """Clean answers are right at rate `baseline`; each position loses drop + gains of all problems and gains `gains`.

    Which problems a position costs does not depend on what the others cost.
    Raises MeasureError where a loss exceeds what is right, or a gain what is wrong.
    """
    drops = tuple(map(float, drops))
    losses = np.array([drop + gains for drop in drops])
    if not 0 < baseline < 1 or not ((losses >= 0) & (losses <= baseline)).all() or not 0 <= gains <= 1 - baseline:
        raise MeasureError(f"drops {drops} with gains {gains} do not fit a baseline of {baseline}")
    clean, u = rng.random(n) < baseline, rng.random((len(drops), n))
    return Outcomes(clean, np.where(clean, u >= (losses / baseline)[:, None], u < gains / (1 - baseline)), drops)


def answers(rng: np.random.Generator, *, n: int, rates: Sequence[float], shared: float = 0.5, variants: int = 1) -> np.ndarray:
    """Right or wrong bool [n, cells] at true rates [cells]; problems are easy or hard for all cells alike.

    shared: correlation of the cells' normal scores within a problem; with variants, the problems i // variants share it.
    """
    difficulty = np.repeat(rng.standard_normal(-(-n // variants)), variants)[:n, None]
    residual = rng.standard_normal((n, len(rates)))
    return np.sqrt(shared) * difficulty + np.sqrt(1 - shared) * residual < norm.ppf(np.asarray(rates, float))
