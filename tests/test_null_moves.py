"""A null that cannot move is refused, with the number of its distinct draws, and one that just can is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codi_bench import audit
from codi_bench.errors import MeasureError
from codi_bench.measures import probe_grid
from codi_bench.measures.folds import permuted_labels
from codi_bench.measures.grid import in_sample_null
from codi_bench.measures.surface import conditional_draws
from codi_bench.measures.trend import trend
from codi_bench.measures.value_probes import value_probes

OWN_SIZES = np.repeat(np.arange(25), np.arange(3, 28))
EIGHT = np.arange(40) // 5  # groups of five
QUICK = {"Cs": (0.1,), "workers": 1, "in_sample": False}
RNG = np.random.default_rng(0)
MIXED = RNG.random(len(OWN_SIZES)) < 0.5


def signal(labels) -> np.ndarray:
    """Activations [n, 1, 4] that tell the labels: without the check, an AUC near 1 beside p = 1."""
    x = np.random.default_rng(1).normal(size=(len(labels), 1, 4))
    x[:, 0, 0] += 4 * (np.asarray(labels) == labels[0])
    return x


def grid(labels, groups, **how):
    return probe_grid(signal(labels), labels, groups=groups, **QUICK, **{"permutations": 99, **how})


@pytest.mark.parametrize(
    ("labels", "groups", "how", "draws"),
    [
        (MIXED, OWN_SIZES, {}, 1),
        (MIXED, OWN_SIZES, {"permutations": 9, "probe": "logistic"}, 1),
        (MIXED, np.zeros(len(MIXED)), {}, 1),
        (np.where(EIGHT % 2 == 0, "yes", "no"), EIGHT, {"folds": 2}, 36),  # two groups of each label in each fold
        (EIGHT < 1, EIGHT, {}, 8),  # too few for the folds as well
        (np.tile([True, False], 20), np.repeat(np.arange(20), 2), {}, 1),  # every group has the same two labels
    ],
)
def test_groups_that_cannot_change_places_are_refused(labels, groups, how, draws):
    with pytest.raises(MeasureError, match=rf"label arrangements: it has {draws} distinct draws?, and p <= 0\.025 needs 40"):
        grid(labels, groups, **how)


def test_groups_of_one_and_groups_that_change_places_are_measured():
    labels = np.arange(48) % 2 == 0
    assert grid(labels, np.arange(48)).p_value_auc[0] == grid(labels, None).p_value_auc[0] == 0.01
    draws = permuted_labels(np.arange(2400) % 2 == 0, np.arange(2400) % 5, permutations=3, seed=0)  # more ways than floats count
    assert len(np.unique(draws, axis=0)) == 3
    twelve = np.arange(48) // 4  # six a fold, three of each label: 20 ways in each of two folds
    assert grid(twelve % 2 == 0, twelve, folds=2).p_value_auc[0] <= 0.05


@pytest.mark.parametrize(("size", "ways"), [(1, math.comb(9, 2)), (3, math.comb(9, 2)), (1, math.comb(10, 2))])
def test_the_number_of_draws_is_that_of_the_arrangements_and_40_are_enough(size, ways):
    """36 ways can give no p <= 0.025, 45 can; what is drawn are all of them."""
    groups = np.repeat(np.arange(9 if ways == 36 else 10), size)
    labels, fold = groups < 2, np.zeros(len(groups), int)
    if ways < 40:
        with pytest.raises(MeasureError, match=f"it has {ways} distinct draws"):
            permuted_labels(labels, fold, groups, permutations=5, seed=0)
    else:
        assert len(np.unique(permuted_labels(labels, fold, groups, permutations=2000, seed=0), axis=0)) == ways


def test_many_classes_move_where_two_would_not():
    groups, fold = np.arange(5), np.zeros(5, int)
    assert permuted_labels(np.arange(5), fold, groups, permutations=3, seed=0).shape == (3, 5)  # 120 ways
    with pytest.raises(MeasureError, match="it has 10 distinct draws"):
        permuted_labels(np.arange(5) // 3, fold, groups, permutations=3, seed=0)


def test_draws_that_are_given_must_differ():
    labels = np.arange(40) % 2 == 0
    other = np.roll(labels[:20], 1).tolist() + labels[20:].tolist()
    for draws, number in (
        (np.tile(labels, (199, 1)), 1),
        (np.tile(other, (199, 1)), 1),
        (np.tile(labels, (2, 1)), 1),
        (labels[None], 1),
        (np.tile([labels, ~labels, other], (66, 1)), 3),
    ):
        with pytest.raises(MeasureError, match=f"it has {number} distinct draws?, .*give draws that differ"):
            grid(labels, None, null_labels=draws)
    drawn = np.stack([RNG.permutation(labels) for _ in range(38)])
    repeated = np.concatenate([drawn, drawn[:1]])  # as chance may have LoRA
    assert grid(labels, None, null_labels=repeated).null_auc.shape == (39, 1)


def test_the_siblings_keep_the_same_rule():
    values = np.repeat([0, 1], len(MIXED) // 2 + 1)[: len(MIXED)]
    with pytest.raises(MeasureError, match="it has 1 distinct draw,"):
        value_probes(signal(values), values, groups=OWN_SIZES, min_count=7, permutations=9, seed=0)
    with pytest.raises(MeasureError, match="it has 1 distinct draw,"):
        in_sample_null(signal(MIXED), MIXED, groups=OWN_SIZES, permutations=9, seed=0)
    with pytest.raises(MeasureError, match="distinct draw"):
        conditional_draws(np.r_[np.zeros(20), np.ones(17), 0.5, 0.5, 0.5], draws=199, seed=0)  # 8 ways
    assessment = audit.probes(signal(MIXED), MIXED, groups=OWN_SIZES, permutations=99, workers=1)
    assert assessment.status == "blocked" and "1 distinct draw" in assessment.reason


def test_sizes_of_a_trend_must_change_places_too():
    with pytest.raises(MeasureError, match=r"it has 6 distinct draws, and p <= 0\.05 needs 20; train more"):
        trend([1e3, 1e3, 1e6, 1e6], [1.0, 1.1, 2.0, 2.1], ["a"] * 4)
    assert trend([1e3, 1e4, 1e6, 1e8], [1.0, 1.1, 2.0, 2.2], ["a"] * 4).p <= 0.05  # 24 ways
