"""Nested probes against scikit-learn and known answers: what they find, what their null is, and what they must never see."""

import warnings
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from codi_bench.audits.probes import audit_probes
from codi_bench.errors import MeasureError
from codi_bench.measures import logistic, ridge
from codi_bench.measures.grid import (
    Split,
    in_sample_null,
    in_sample_split,
    nested_splits,
    permuted_labels,
    probe_grid,
    scores,
)
from codi_bench.measures.pipeline import standardised
from codi_bench.measures.probes import _L2_ONLY
from codi_bench.rules.stats import holm

QUICK = {"Cs": (0.01, 0.1, 1.0), "folds": 3, "permutations": 19, "seed": 0, "workers": 1}


def noise(n, cells, d, seed, decay=1.0):
    """Gaussian activations [n, cells, d]; variances fall as 1/rank^decay along random axes."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (rng.standard_normal((n, cells, d)) * np.arange(1, d + 1) ** (-decay / 2)) @ rotation


def balanced(n, seed):
    return np.random.default_rng(seed).permutation(n) < n // 2


def same(one, other, leave=()):
    """Every number of two grids, bit by bit."""
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one) if f.name not in leave)


# Against scikit-learn


def reference(x, y, *, seed, probe, cv=None):
    """The pipeline of a training fold: (scaler, classifier, mean inner accuracy of every C), one thread, until nothing moves."""
    scaler = StandardScaler().fit(x)
    if probe == "ridge":
        cv = cv or list(StratifiedKFold(5, shuffle=True, random_state=seed).split(x, y))
        z = scaler.transform(x)
        inner = np.array([[RidgeClassifier(alpha=1 / C).fit(z[a], y[a]).score(z[b], y[b]) for a, b in cv] for C in ridge.CS])
        inner = sum(inner.T) / len(cv)
        return scaler, RidgeClassifier(alpha=1 / ridge.CS[inner.argmax()]).fit(z, y), inner
    found = LogisticRegressionCV(
        Cs=logistic.CS,
        cv=cv or StratifiedKFold(5, shuffle=True, random_state=seed),
        scoring="accuracy",
        tol=1e-10,
        max_iter=100_000,
        **_L2_ONLY,
    )
    with threadpool_limits(1), warnings.catch_warnings():
        # lbfgs may end its line search within rounding of the optimum
        warnings.simplefilter("ignore")
        found.fit(scaler.transform(x), y)
    return scaler, found, by_fold(found)


def by_fold(found):
    """Mean inner accuracy of every C [Cs]; `scores_` is a dict by class before 1.8 and an array without legacy attributes."""
    inner = found.scores_
    inner = next(iter(inner.values())) if isinstance(inner, dict) else inner
    return np.asarray(inner).reshape(5, -1, len(logistic.CS)).mean((0, 1))


def problem(n, d, seed, *, decay=1.0, share=0.5, strength=0.0):
    """One cell [n, d] with labels: a signal of that strength along a random direction, in units of the spread of a feature."""
    rng = np.random.default_rng(seed)
    x, y = noise(n, 1, d, seed, decay)[:, 0], rng.permutation(n) < round(share * n)
    return x + strength * x.std() * np.outer(y, rng.standard_normal(d)), y


def chosen_C(found):
    return 1 / found.alpha if isinstance(found, RidgeClassifier) else float(np.ravel(found.C_)[0])


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
@pytest.mark.parametrize(
    ("n", "d", "changes"),
    [
        (40, 16, {}),
        (60, 300, {"decay": 0.0}),
        (120, 32, {"strength": 0.5, "share": 0.3}),
        (80, 100, {"strength": 3.0}),  # separable
        (50, 40, {"decay": 2.0}),  # training rows and features in equal number
    ],
)
def test_observed_fits_are_scikit_learn_s(n, d, changes, probe):
    x, y = problem(n, d, n + d, **changes)
    splits, _ = nested_splits(y, folds=5, seed=n)
    Cs, ours = {"ridge": ridge.CS, "logistic": logistic.CS}[probe], scores([x], y[:, None], splits, probe=probe, workers=1)
    for k, split in enumerate(splits):
        scaler, found, inner = reference(x[split.train], y[split.train], seed=n, probe=probe)
        chosen = ours.chosen[k, 0, 0]
        C = min(Cs, key=lambda C: abs(np.log(C / chosen_C(found))))
        assert chosen == C or abs(inner[Cs.index(C)] - inner[Cs.index(chosen)]) <= 1e-9  # another one of the same score
        score, expected = ours.score[split.test, 0, 0], found.decision_function(scaler.transform(x[split.test]))
        assert ((score > 0) == found.predict(scaler.transform(x[split.test]))).all()
        if chosen == C:
            np.testing.assert_allclose(score, expected, atol={"ridge": 1e-5, "logistic": 2e-3}[probe] * np.abs(expected).max())


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
@pytest.mark.parametrize(("n", "d"), [(60, 24), (50, 90)])
def test_permuted_fits_predict_what_scikit_learn_does(n, d, probe):
    x, y = problem(n, d, 7)
    splits, fold = nested_splits(y, folds=5, seed=1)
    null, unequal = permuted_labels(y, fold, permutations=3, seed=1), 0
    drawn = scores([x], null.T, splits, probe=probe, loose=True, workers=1)
    for split in splits:
        fixed = [tuple(np.searchsorted(split.train, rows) for rows in pair) for pair in split.inner]
        for b, labels in enumerate(null):
            scaler, found, _ = reference(x[split.train], labels[split.train], seed=1, probe=probe, cv=fixed)
            said = found.predict(scaler.transform(x[split.test]))
            unequal += int((said != (drawn.score[split.test, b, 0] > 0)).sum())
    assert unequal <= 3 * n / 1000


def test_scaling_is_standard_scaler_s_with_constant_features_too():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.standard_normal((50, 3)) * (1, 1e-6, 1e6) + (0, 5, -1e7), np.full(50, 0.1), np.full(50, 1e8)])
    x[40:, 4] += 1.0  # constant in the training rows only
    train = np.arange(40)
    expected = StandardScaler().fit(x[train]).transform(x)
    np.testing.assert_allclose(standardised(torch.as_tensor(x), torch.as_tensor(train)).numpy(), expected, atol=1e-9)


# Known answers


def test_separable_labels_score_one_beside_noise():
    y, x = balanced(60, 0), noise(60, 3, 20, 1)
    x[:, 1] += 30 * y[:, None]
    found = probe_grid(x, np.where(y, "yes", "no"), **QUICK)
    assert found.held_out_accuracy[1] == found.held_out_balanced_accuracy[1] == found.held_out_auc[1] == 1
    assert (found.held_out_prediction[:, 1] == np.where(y, "yes", "no")).all()
    assert (
        found.p_value[1] == found.p_value_auc[1] == found.p_value_max[1] == found.p_value_any == found.p_value_any_auc == 1 / 20
    )
    assert min(found.p_value[0], found.p_value[2], found.p_value_auc[0], found.p_value_auc[2]) > 0.05
    assert abs(found.null_held_out.mean() - 0.5) < 0.06 and found.null_held_out.max() < 1


def test_noise_reads_high_in_sample_and_is_nothing_held_out():
    found = probe_grid(
        noise(100, 2, 768, 3, decay=0.0).astype(np.float32), balanced(100, 4), permutations=39, in_sample_null=True, workers=1
    )
    assert found.in_sample_accuracy.mean() > 0.95 and found.null_in_sample.mean() > 0.95
    assert 0.35 < found.held_out_accuracy.mean() < 0.65
    assert found.p_value_any > 0.1 and found.p_value_any_auc > 0.1
    assert found.null_in_sample.shape == found.null_held_out.shape == found.null_auc.shape == (39, 2)


def test_wide_cells_share_what_knows_no_labels_and_give_the_same_numbers(monkeypatch):
    x, y = noise(200, 2, 190, 5), balanced(200, 6)
    surface = noise(200, 1, 2, 7)[:, 0]
    apart = probe_grid(x, y, in_sample_null=True, **QUICK)
    nulls = audit_probes(x, y, surface=surface, **QUICK).conditional
    monkeypatch.setattr("codi_bench.measures.grid.WIDE", 190)
    assert same(probe_grid(x, y, in_sample_null=True, **QUICK), apart)
    assert same(audit_probes(x, y, surface=surface, **QUICK).conditional, nulls)


def test_chance_is_found_as_often_as_chance_allows():
    """p values of noise are uniform: their mean over seeds is near a half, and few are small."""
    how = QUICK | {"Cs": (0.1,)}
    p = [probe_grid(noise(40, 2, 10, s), balanced(40, s + 99), **how | {"seed": s}).p_value_auc for s in range(16)]
    assert 0.35 < np.mean(p) < 0.7 and np.mean(np.array(p) <= 0.05) <= 0.15


def test_constant_cells_predict_the_majority_and_rank_nothing():
    y = np.repeat([True, False], [36, 24])
    found = probe_grid(np.full((60, 1, 5), 0.1), y, **QUICK)
    assert found.held_out_accuracy[0] == found.in_sample_accuracy[0] == 0.6
    assert found.held_out_balanced_accuracy[0] == found.held_out_auc[0] == 0.5
    assert found.p_value[0] == found.p_value_auc[0] == 1


def test_a_training_fold_of_one_class_says_that_class():
    x, y = noise(30, 1, 6, 0)[:, 0], np.arange(30) < 4
    whole, alone = np.arange(30), Split(np.arange(4, 20), np.arange(20, 30), ((np.arange(4, 12), np.arange(12, 20)),))
    found = scores([x], np.column_stack([y, ~y]), [alone], workers=1)
    assert (found.score[20:, :, 0] == [-1, 1]).all() and np.isnan(found.score[:20]).all()
    assert (found.inner == 1).all() and (found.chosen == ridge.CS[0]).all()
    inside = Split(whole, whole, ((whole[4:], whole[:4]), (whole[:20], whole[20:])))  # an inner fold without the class
    assert np.isfinite(scores([x], y[:, None], [inside], workers=1).score).all()


@pytest.mark.parametrize("loose", [False, True])
def test_wide_and_narrow_cells_go_the_same_way(loose):
    """24 features by themselves, and among constants that make them more than the training rows: two algorithms, one answer."""
    x, y = noise(60, 1, 24, 5)[:, 0], balanced(60, 6)
    wide = np.column_stack([x, np.zeros((60, 50)), np.full((60, 50), 0.1)])
    splits, fold = nested_splits(y, folds=5, seed=0)
    labels = np.column_stack([y, *permuted_labels(y, fold, permutations=4, seed=0)])
    narrow, padded = (scores([cell], labels, splits, loose=loose, workers=1) for cell in (x, wide))
    together = scores([x, wide], labels, splits, loose=loose, workers=2)
    assert (narrow.chosen == padded.chosen).all()
    np.testing.assert_allclose(narrow.score, padded.score, atol=1e-2 if loose else 1e-5)
    assert np.array_equal(together.score, np.concatenate([narrow.score, padded.score], 2))


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_without_scaling_and_inner_folds_the_only_C_is_taken(probe):
    x, y, split = 100 * noise(40, 1, 8, 0)[:, 0], balanced(40, 1), Split(np.arange(30), np.arange(30, 40), ())
    found = scores([x], y[:, None], [split], probe=probe, Cs=(0.5,), scale=False, workers=1)
    regression = RidgeClassifier(alpha=2) if probe == "ridge" else LogisticRegression(C=0.5, tol=1e-10, max_iter=100_000)
    regression.fit(x[:30], y[:30])
    np.testing.assert_allclose(found.score[30:, 0, 0], regression.decision_function(x[30:]), rtol=1e-3)
    assert found.chosen.item() == 0.5 and found.inner.item() == 0


# The null


def test_the_null_goes_through_the_whole_pipeline():
    x, y = noise(60, 2, 20, 1), balanced(60, 2)
    splits, fold = nested_splits(y, folds=3, seed=0)
    null = permuted_labels(y, fold, permutations=19, seed=0)
    drawn = scores([x[:, 0], x[:, 1]], null.T, splits, Cs=QUICK["Cs"], loose=True, workers=1)
    assert all(len(np.unique(drawn.chosen[:, :, cell])) > 1 for cell in range(2))  # C is chosen anew
    found = probe_grid(x, y, **QUICK)
    assert np.array_equal(found.null_score, drawn.score.transpose(1, 0, 2))
    right = (drawn.score > 0) == null.T[:, :, None]
    assert np.array_equal(found.null_held_out, right.mean(0))


def test_corrected_p_values_follow_from_the_null():
    found = probe_grid(noise(60, 4, 8, 3), balanced(60, 4), **QUICK)
    for own, null, p, p_max, p_any in (
        (found.held_out_accuracy, found.null_held_out, found.p_value, found.p_value_max, found.p_value_any),
        (found.held_out_auc, found.null_auc, found.p_value_auc, found.p_value_max_auc, found.p_value_any_auc),
    ):
        assert np.allclose(p, (1 + (null >= own - 1e-12).sum(0)) / 20)
        assert np.allclose(p_max, (1 + (null.max(1)[:, None] >= own - 1e-12).sum(0)) / 20)
        assert (p_max >= p).all() and p_any == p_max.min() == p_max[own.argmax()]
    assert np.allclose(found.p_value_holm, holm(found.p_value))


def test_more_permutations_begin_with_the_fewer():
    x, y = noise(60, 2, 12, 5), balanced(60, 6)
    fold = nested_splits(y, folds=3, seed=0)[1]
    few, many = (permuted_labels(y, fold, permutations=b, seed=0) for b in (19, 99))
    assert (many[:19] == few).all() and len(np.unique(many, axis=0)) == 99
    few, many = (probe_grid(x, y, **QUICK | {"permutations": b}) for b in (19, 99))
    # Other columns beside it may move the last bits of a loose fit, hardly ever a prediction.
    assert ((many.null_score[:19] > 0) == (few.null_score > 0)).mean() >= 0.999
    assert same(few, many, [f.name for f in fields(few) if f.name.startswith(("null", "p_"))])


def test_null_labels_are_used_as_given():
    x, y = noise(60, 2, 12, 7) + balanced(60, 8)[:, None, None], balanced(60, 8)
    fold = nested_splits(y, folds=3, seed=0)[1]
    own = permuted_labels(y, fold, permutations=19, seed=0)
    names = np.array(["no", "yes"])
    plain = probe_grid(x, names[y.astype(int)], **QUICK)
    assert same(plain, probe_grid(x, names[y.astype(int)], null_labels=names[own.astype(int)], **QUICK))
    itself = probe_grid(x, y, null_labels=np.stack([y, own[0], y]), **QUICK)
    assert itself.null_held_out.shape == (3, 2)
    assert (itself.null_held_out[::2] == itself.held_out_accuracy).all() and (itself.p_value >= 3 / 4).all()


def test_the_in_sample_null_alone_is_that_of_the_grid_and_its_split_fits_what_it_scores():
    x, y = noise(50, 2, 30, 9), balanced(50, 10)
    alone, settings = in_sample_null(x, y, permutations=19, seed=0, folds=3, workers=2), QUICK | {"Cs": None, "probe": "logistic"}
    assert np.array_equal(alone, probe_grid(x, y, in_sample_null=True, **settings).null_in_sample)
    assert probe_grid(x, y, **QUICK).null_in_sample is None
    split = in_sample_split(y, folds=5, seed=42)
    assert np.array_equal(split.train, np.arange(50)) and np.array_equal(split.test, np.arange(50))
    expected = StratifiedKFold(5, shuffle=True, random_state=42).split(np.zeros(50), y)
    assert all(np.array_equal(a, c) and np.array_equal(b, d) for (a, b), (c, d) in zip(split.inner, expected, strict=True))


# What is divided, and what is seen


def grouped(groups, seed, largest=3):
    """(labels, groups, order of the rows is random): sizes 1..largest; a third of the groups have members of both classes."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), rng.integers(1, largest + 1, groups))
    y = (np.arange(groups) % 2 == 0)[group] ^ ((group % 3 == 0) & (rng.random(len(group)) < 0.5))
    order = rng.permutation(len(group))
    return y[order], group[order]


@given(st.integers(24, 60), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_groups_are_never_divided_and_swap_labels_whole(groups, seed, largest):
    y, group = grouped(groups, seed, largest)
    try:
        splits, fold = nested_splits(y, group, folds=3, seed=seed)
    except MeasureError:
        assume(False)
    for split in splits:
        assert np.array_equal(np.sort(np.r_[split.train, split.test]), np.arange(len(y)))
        for train, test in ((split.train, split.test), *split.inner):
            assert not np.intersect1d(group[train], group[test]).size
        assert np.array_equal(np.sort(np.concatenate([test for _, test in split.inner])), np.sort(split.train))
        assert all(np.array_equal(np.sort(np.r_[pair]), np.sort(split.train)) for pair in split.inner)

    def blocks(labels):
        """By outer fold and size of the group: the labels of its groups, members in order."""
        found = {}
        for name in range(groups):
            rows = np.flatnonzero(group == name)
            found.setdefault((fold[rows[0]], len(rows)), []).append(tuple(labels[rows].tolist()))
        return {key: sorted(value) for key, value in found.items()}

    assert all(len(set(fold[group == name])) == 1 for name in range(groups))
    try:
        drawn = permuted_labels(y, fold, group, permutations=5, seed=seed)
    except MeasureError:  # too few ways to draw them
        assume(False)
    assert all(blocks(labels) == blocks(y) for labels in drawn)


def test_groups_that_share_label_and_activations_tell_nothing():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 4)
    y, x = balanced(40, 1)[group], noise(40, 1, 60, 2, decay=0.0)[group] + 0.1 * rng.standard_normal((160, 1, 60))
    divided, whole = probe_grid(x, y, **QUICK), probe_grid(x, y, groups=group, **QUICK)
    assert divided.held_out_accuracy[0] > 0.95 and divided.p_value_any == 1 / 20  # recognised, not understood
    assert whole.held_out_accuracy[0] < 0.75 and whole.p_value_any > 0.05
    assert same(divided, probe_grid(x, y, groups=np.arange(160), **QUICK))  # groups of one are no groups


def test_neither_workers_nor_neighbours_nor_the_width_of_floats_change_a_cell():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        x, y = noise(50, 4, 40, 11).astype(np.float32), balanced(50, 12)
        one, three, exact = (probe_grid(a, y, **QUICK | {"workers": w}) for a, w in ((x, 1), (x, 3), (x.astype(np.float64), 2)))
        assert torch.get_num_threads() == 2  # left as it was
    finally:
        torch.set_num_threads(before)
    assert same(one, three) and same(one, exact)
    alone = probe_grid(x[:, [2]], y, **QUICK)
    for name in ("held_out_score", "fold_C", "fold_inner", "null_score", "in_sample_accuracy", "null_auc", "p_value"):
        assert np.array_equal(getattr(alone, name)[..., 0], getattr(one, name)[..., 2]), name
    assert not same(one, probe_grid(x, y, **QUICK | {"seed": 1}))


@pytest.mark.parametrize("d", [12, 90])
def test_what_is_held_out_is_never_seen(d):
    x, y = noise(60, 1, d, 13)[:, 0], balanced(60, 14)
    splits, fold = nested_splits(y, folds=5, seed=0)
    for k in (0, 4):
        test = splits[k].test
        changed, flipped = x.copy(), y.copy()
        changed[test[3:]] = 1e3 * (1 + changed[test[3:]])
        flipped[test] ^= True
        plain = scores([x], y[:, None], [splits[k]], workers=1)
        moved = scores([changed], flipped[:, None], [splits[k]], workers=1)
        assert moved.chosen == plain.chosen and moved.inner == plain.inner
        assert np.array_equal(moved.score[test[:3]], plain.score[test[:3]])
        assert not np.isclose(moved.score[test[3:]], plain.score[test[3:]]).any()
    changed = x.copy()
    changed[fold == 2] *= 50
    plain, moved = (probe_grid(a[:, None], y, **QUICK | {"folds": 5, "permutations": 1}) for a in (x, changed))
    assert np.array_equal(moved.fold_C[2], plain.fold_C[2]) and np.array_equal(moved.fold_inner[2], plain.fold_inner[2])
    assert not np.array_equal(moved.fold_inner, plain.fold_inner)


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activations": np.zeros((60, 4))}, r"activations \[n, positions, d\] and labels \[n\], got \[60, 4\] and \[60\]"),
        ({"labels": np.zeros(59)}, r"got \[60, 1, 4\] and \[59\]"),
        ({"labels": np.zeros(60)}, "two classes, the labels have 1"),
        ({"activations": np.full((60, 1, 4), np.nan)}, "not finite"),
        ({"labels": np.arange(60) < 5}, "a class has 4 problems"),  # enough for the outer folds, not for the inner ones
        ({"labels": np.arange(60) < 20, "groups": np.arange(60) // 5}, "a class has 4 problems"),  # 4 groups of 5
        ({"groups": np.arange(59)}, "groups"),
        ({"probe": "lda"}, "unknown probe 'lda': use ridge or logistic"),
        ({"Cs": ()}, "Cs must be positive and rising"),
        ({"Cs": (0.1, 0.01)}, "Cs must be positive and rising"),
        ({"Cs": (float("nan"),)}, r"Cs\[0\] must be a finite number, above 0"),
        ({"permutations": 0}, "permutations must be a whole number, at least 1, got 0"),
        ({"folds": 1}, "folds"),
        ({"null_labels": np.zeros((2, 59))}, r"null_labels need the shape \[permutations, 60\] and the classes"),
        ({"null_labels": np.full((2, 60), 7)}, "null_labels need"),
        ({"null_labels": np.zeros((0, 60))}, "null_labels need"),
    ],
)
def test_probe_grid_refuses(changes, message):
    given = {"activations": np.ones((60, 1, 4)), "labels": np.arange(60) % 2, "permutations": 1, "workers": 1} | changes
    with pytest.raises(MeasureError, match=message) as error:
        probe_grid(given.pop("activations"), given.pop("labels"), **given)
    assert "\n" not in str(error.value)
