"""Ridge probes of values against scikit-learn and known answers: signal, noise, controls that memory can or cannot solve."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from codi_bench.errors import MeasureError
from codi_bench.measures.folds import nested_splits
from codi_bench.measures.ridge import CS
from codi_bench.measures.value_probes import control_values, value_probes
from codi_bench.rules.intervals import cv_accuracy

N, K, D = 150, 5, 12


def noise(n, positions, d, seed):
    """Gaussian activations [n, positions, d] of falling variance along random axes."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (rng.standard_normal((n, positions, d)) / np.sqrt(np.arange(1, d + 1))) @ rotation


def balanced(n, k, seed):
    return np.random.default_rng(seed).permutation(n) % k


def shown(labels, strength):
    """Directions [n, 1, D], one a label."""
    return strength * np.eye(D)[labels % D][:, None]


def same(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("prediction", "fold", "fold_C", "null", "p_value", "control")
    )


@pytest.mark.parametrize("d", [10, 200])  # narrower and wider than the training rows: without and with a Gram matrix
def test_predictions_are_scikit_learn_s(d):
    values = balanced(N, K, 4)
    activations = noise(N, 1, d, 5) + 0.4 * np.eye(d)[values][:, None]
    found = value_probes(activations, values, permutations=2, seed=0, control=False)
    for k, C in enumerate(found.fold_C[:, 0]):
        train, test = found.fold != k, found.fold == k
        scaler = StandardScaler().fit(activations[train, 0])
        x = scaler.transform(activations[:, 0])
        assert (RidgeClassifier(alpha=1 / C).fit(x[train], values[train]).predict(x[test]) == found.prediction[test, 0]).all()
        assert inner_accuracy(activations[train, 0], values[train], C) >= max(
            inner_accuracy(activations[train, 0], values[train], other) for other in CS
        )


def inner_accuracy(x, y, C):
    """By five folds of all rows, scaled together."""
    z = StandardScaler().fit_transform(x)
    folds = StratifiedKFold(5, shuffle=True, random_state=0).split(z, y)
    return np.mean([RidgeClassifier(alpha=1 / C).fit(z[a], y[a]).score(z[b], y[b]) for a, b in folds])


# Known answers


def test_separable_values_score_one_beside_a_position_of_noise():
    values = balanced(N, K, 0) * 1.5 - 2  # floats, one negative
    activations = noise(N, 2, D, 1)
    activations[:, :1] += shown(balanced(N, K, 0), 30)
    found = value_probes(activations, values, permutations=39, seed=0)
    assert found.accuracy[0].value == 1.0 and found.accuracy[0].low > 0.9
    assert abs(found.accuracy[1].value - 1 / K) < 0.12
    assert found.p_value[0] == found.p_value_max[0] == found.p_value_any == 1 / 40
    assert found.p_value[1] > 0.025 and found.p_value_max[1] >= found.p_value[1]
    assert (found.prediction[:, 0] == values).all() and found.prediction.dtype == values.dtype
    assert (found.n, found.groups, found.majority, found.classes.tolist()) == (N, N, 1 / K, np.unique(values).tolist())
    assert abs(found.chance - 1 / K) < 0.05 and found.phi >= 1
    assert found.accuracy[0] == cv_accuracy(1.0, N, found.phi)
    # every problem is a key of its own: nothing to memorise, so selectivity is the gain over chance
    assert abs(found.control.mean() - 1 / K) < 0.06
    assert np.allclose(found.selectivity, [a.value for a in found.accuracy] - found.control.mean(0))
    assert 0.7 < found.selectivity[0] < 0.9 and abs(found.selectivity[1]) < 0.15


def test_shuffled_values_give_p_values_like_any_others():
    p = [
        value_probes(
            noise(60, 1, D, seed), balanced(60, 3, seed + 50), Cs=(0.01,), folds=3, permutations=39, seed=seed, control=False
        )
        for seed in range(8)
    ]
    p = np.array([found.p_value_any for found in p])
    assert p.min() > 0.025 and p.max() > 0.5 and 0.25 < p.mean() < 0.75


def test_a_control_that_can_be_memorised_leaves_little_selectivity():
    keys = balanced(N, 10, 3)  # ten surface types, 15 problems each, which the activations show
    values = keys % K  # and the values follow from the type: reading the type is enough
    activations = noise(N, 1, D, 4) + shown(keys, 30)
    found = value_probes(activations, values, permutations=3, seed=0, control_key=[f"type {key}" for key in keys])
    assert found.accuracy[0].value == 1.0
    assert found.control.min() > 0.95 and found.selectivity[0] < 0.05
    assert value_probes(activations, values, permutations=3, seed=0).selectivity[0] > 0.6


def test_control_values_are_one_a_key_and_distributed_like_the_values():
    y, keys = np.repeat([0, 1], [900, 100]), np.arange(1000) // 2
    drawn = control_values(y, keys, draws=4, seed=0)
    assert drawn.shape == (4, 1000) and (drawn[:, ::2] == drawn[:, 1::2]).all()
    assert abs(drawn.mean() - 0.1) < 0.03 and not (drawn[0] == drawn[1]).all()


def test_a_constant_position_predicts_the_majority():
    values = np.repeat([1, 2, 3], [30, 20, 20])
    found = value_probes(np.ones((70, 1, 4)), values, permutations=2, seed=0, control=False)
    assert found.accuracy[0].value == found.majority == 30 / 70
    assert found.control is found.selectivity is None


# What is kept, and how it is divided


def test_rare_values_are_left_out():
    values = np.r_[balanced(60, 3, 0), np.full(9, 7), np.full(10, 8)]
    found = value_probes(noise(79, 1, D, 0), values, permutations=2, seed=0, control=False)
    assert found.classes.tolist() == [0, 1, 2, 8] and found.n == len(found.prediction) == 70
    assert (found.kept == (values != 7)).all()
    assert 7 in value_probes(noise(79, 1, D, 0), values, min_count=9, permutations=2, seed=0, control=False).classes


def test_groups_are_never_divided_and_counted_once():
    groups = np.repeat([f"g{i}" for i in range(60)], 4)
    values = np.repeat(balanced(60, 3, 5), 4)
    order = np.random.default_rng(6).permutation(240)
    groups, values = groups[order], values[order]
    # every group has its own direction: a divided group would be recognised
    activations = noise(240, 1, 60, 7) + 30 * np.eye(60)[np.unique(groups, return_inverse=True)[1]][:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = value_probes(activations, values, groups=groups, permutations=5, seed=0)
    assert found.accuracy[0].value < 0.6 and found.control.mean() < 0.6
    assert found.groups == 60 and found.n == 240
    assert all(len(set(found.fold[groups == group])) == 1 for group in groups)
    for split in nested_splits(values, np.unique(groups, return_inverse=True)[1], folds=5, seed=0, rare=True)[0]:
        for train, test in ((split.train, split.test), *split.inner):
            assert not set(groups[train]) & set(groups[test])
            assert set(train) | set(test) <= set(split.train) | set(split.test)
        assert not set(np.concatenate([np.r_[a, b] for a, b in split.inner])) & set(split.test)


def test_a_value_of_one_large_group_is_rare():
    values, groups = np.r_[balanced(60, 3, 0), np.full(20, 9)], np.r_[np.arange(60), np.full(20, 99)]
    found = value_probes(noise(80, 1, D, 0), values, groups=groups, permutations=2, seed=0, control=False)
    assert 9 not in found.classes and found.n == 60


def test_workers_and_the_scale_of_the_activations_change_nothing():
    activations, values = noise(60, 3, D, 8), balanced(60, 3, 9)
    one, three, scaled = (
        value_probes(x, values, permutations=3, seed=1, workers=w)
        for x, w in ((activations, 1), (activations, 3), (activations * 1024, 2))
    )
    assert same(one, three) and same(one, scaled)
    assert not same(one, value_probes(activations, values, permutations=3, seed=2, workers=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activations": np.zeros((60, 4))}, r"activations \[n, positions, d\] and values \[n\]"),
        ({"values": np.zeros(59)}, r"got \[60, 1, 4\] and \[59\]"),
        ({"values": np.full(60, np.nan)}, "values: row 0 holds nan"),
        ({"values": np.array(["7"] * 60)}, "values: holds <U1; numbers are needed"),
        ({"activations": np.full((60, 1, 4), np.inf)}, "not finite"),
        ({"groups": np.arange(59)}, r"groups need one name per problem, \[60\], not \[59\]"),
        ({"control_key": np.zeros((60, 2))}, r"control_key need one name per problem, \[60\], not \[60, 2\]"),
        ({"values": np.zeros(60)}, "1 values occur in 10 groups or more, in 60 problems: at least 2 values and 40 problems"),
        (
            {"values": np.where(np.arange(60) < 30, np.arange(60) % 2, np.arange(60))},
            "2 values occur in 10 groups or more, in 30 problems",
        ),
        ({"values": np.arange(60) // 2}, "0 values occur in 10 groups or more, in 0 problems"),
        ({"min_count": 21}, "0 values occur in 21 groups"),
        ({"min_count": 6}, "min_count = 6: 5 folds inside 5 folds need 7 of a value"),
        ({"folds": 1}, "folds must be a whole number, at least 2, got 1"),
        ({"permutations": 1}, "permutations must be a whole number, at least 2, got 1"),
        ({"Cs": ()}, "Cs must be positive and rising"),
        ({"Cs": (0.1, 0.01)}, "Cs must be positive and rising"),
    ],
)
def test_value_probes_refuse(changes, message):
    given = {"activations": np.ones((60, 1, 4)), "values": np.arange(60) % 3, "permutations": 2, "seed": 0} | changes
    with pytest.raises(MeasureError, match=message) as error:
        value_probes(given.pop("activations"), given.pop("values"), **given)
    assert "\n" not in str(error.value)
