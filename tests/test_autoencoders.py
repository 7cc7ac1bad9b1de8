"""TopK autoencoders, their quality on held-out problems, and their files: known answers, and what must not be seen."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codi_bench.errors import MeasureError
from codi_bench.measures.pipeline import use_threads
from codi_bench.measures.sae import Sae, sae_quality, train_relu_sae, train_topk_sae
from codi_bench.measures.sae_heldout import feature_sets, grouped_split, pca_features, quality

FIELDS = ("encoder_weight", "encoder_bias", "decoder_weight", "decoder_bias")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def identity_sae(d, k=None):
    """x = relu(x) - relu(-x): 2d features of which d are active, no error."""
    eye = torch.eye(d)
    return Sae(torch.cat([eye, -eye]), torch.zeros(2 * d), torch.cat([eye, -eye], dim=1), torch.zeros(d), k)


def some_sae(k, *, features=12, d=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((features, d), (features,), (d, features), (d,))
    return Sae(*(torch.randn(shape, generator=generator) for shape in shapes), k)


def planted(m, *, seed, d=32, atoms=48, active=3):
    """Vectors [m, d] that are `active` of `atoms` directions with weights in 1..2, around 5; and the directions [atoms, d]."""
    directions = np.random.default_rng(9).standard_normal((atoms, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    chosen = np.argsort(rng.random((m, atoms)), axis=1)[:, :active]
    weights = rng.uniform(1, 2, (m, active))
    return ((weights[:, :, None] * directions[chosen]).sum(axis=1) + 5).astype(np.float32), directions


def same(one, other):
    return one.k == other.k and all(torch.equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


# TopK


def test_topk_keeps_the_k_largest_positive():
    x = np.array([[3.0, -2.0, 1.0, 0.5], [0.0, 0.0, -1.0, 0.0]], np.float32)
    assert identity_sae(4, 2).encode(x).tolist() == [[3, 0, 0, 0, 0, 2, 0, 0], [0, 0, 0, 0, 0, 0, 1, 0]]
    assert (identity_sae(4, 4).decode(identity_sae(4, 4).encode(x)) == x).all()
    assert (identity_sae(4, 8).encode(x) == identity_sae(4).encode(x)).all()
    assert identity_sae(4, 2).encode(x.reshape(2, 1, 4)).shape == (2, 1, 8)
    for sae in (identity_sae(4), identity_sae(4, 2)):  # a tensor for a tensor, an array for an array
        features = sae.encode(torch.from_numpy(x))
        assert (
            isinstance(features, torch.Tensor) and sae.encode(x).dtype == np.float32 and (features.numpy() == sae.encode(x)).all()
        )


def test_topk_subtracts_the_decoder_bias_and_relu_does_not():
    bias, x = torch.tensor([1.0, 2.0]), np.array([[4.0, 1.0]], np.float32)
    assert replace(identity_sae(2, 2), decoder_bias=bias).encode(x).tolist() == [[3, 0, 0, 1]]
    assert replace(identity_sae(2), decoder_bias=bias).encode(x).tolist() == [[4, 1, 0, 0]]


def test_topk_learns_a_planted_dictionary():
    x, directions = planted(3000, seed=0)
    sae = train_topk_sae(x, features=96, k=3, epochs=25, batch_size=128, lr=3e-3, seed=0)
    features = sae.encode(planted(500, seed=1)[0])
    assert sae.k == 3 and (features >= 0).all() and (features > 0).sum(axis=1).max() <= 3
    assert sae_quality(sae, planted(500, seed=1)[0]).explained_variance > 0.95
    torch.testing.assert_close(sae.decoder_weight.norm(dim=0), torch.ones(96), rtol=1e-5, atol=0)
    assert ((directions @ sae.decoder_weight.numpy()).max(axis=1) > 0.9).mean() > 0.95


@pytest.mark.parametrize("architecture", ["relu", "topk", "topk without auxk"])
def test_a_seed_is_an_sae_whatever_the_global_state(architecture):
    x = noise(300, 8)
    x.setflags(write=False)

    def train(seed):
        if architecture == "relu":
            return train_relu_sae(x, features=12, l1=0.001, l1_kind="mean", epochs=2, seed=seed)
        aux_k = None if architecture == "topk" else 0
        return train_topk_sae(x, features=64, k=2, epochs=3, lr=1e-2, aux_k=aux_k, dead_after=50, seed=seed)

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = train(5)
    torch.manual_seed(1)
    with torch.no_grad():
        assert same(first, train(5))
    assert not same(first, train(6))
    assert not any(getattr(first, name).requires_grad for name in FIELDS)


def test_auxk_moves_dead_features_and_only_when_there_are_any():
    x = noise(400, 8)

    def train(**changes):
        return train_topk_sae(x, features=64, k=1, epochs=4, batch_size=100, lr=1e-2, seed=0, **changes)

    assert not same(train(dead_after=100), train(dead_after=100, aux_k=0))
    assert same(train(dead_after=10**9), train(dead_after=10**9, aux_k=0))


def test_scaled_vectors_have_the_same_features_scaled():
    x = noise(300, 8) + 3
    one, other = (train_topk_sae(s * x, features=16, k=4, epochs=3, seed=0) for s in (1, 1024))
    assert torch.equal(one.encoder_weight, other.encoder_weight) and torch.equal(one.decoder_weight, other.decoder_weight)
    assert (1024 * one.encode(x) == other.encode(1024 * x)).all()


# The split


@given(
    sizes=st.lists(st.integers(1, 6), min_size=10, max_size=40),
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.2, 0.25, 0.5]),
)
def test_a_split_never_divides_a_group(sizes, seed, share):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(str)
    labels = rng.random(len(groups)) < 0.5
    try:
        train, test = grouped_split(groups, labels, test_share=share, seed=seed)
    except MeasureError:
        return  # a side without a class
    assert not set(groups[train]) & set(groups[test])
    assert sorted([*train, *test]) == list(range(len(groups)))
    assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
    assert set(labels[train]) == set(labels[test]) == set(labels)


def test_a_split_holds_out_a_fifth_of_each_class_and_hangs_on_its_seed():
    groups = np.repeat(np.arange(500), 2)
    labels = np.repeat(np.random.default_rng(0).random(500) < 0.3, 2)
    _train, test = grouped_split(groups, labels, seed=0)
    assert len(test) == 200 and abs(labels[test].mean() - labels.mean()) < 0.01
    assert (grouped_split(groups, labels, seed=0)[1] == test).all()
    assert (grouped_split(groups, labels, seed=1)[1] != test).any()
    named = grouped_split([f"g{g:03}" for g in groups], np.where(labels, "wrong", "right"), seed=0)
    assert len(named[1]) == 200 and abs(labels[named[1]].mean() - labels.mean()) < 0.01


# PCA


@pytest.mark.parametrize("m", [40, 6])
def test_pca_features_are_the_principal_coordinates_of_the_training_vectors(m):
    train, rest = noise(m, 8) * np.arange(1, 9, dtype=np.float32) + 3, noise(20, 8, seed=1)
    axes = np.linalg.svd(train - train.mean(axis=0), full_matrices=False)[2][:3]
    found = pca_features(train, rest, 3)
    assert found.shape == (20, 3) and found.dtype == np.float32
    np.testing.assert_allclose(np.abs(found), np.abs((rest - train.mean(axis=0)) @ axes.T), rtol=1e-3, atol=1e-4)
    assert pca_features(train, rest, 100).shape == (20, min(m, 8))


# Quality on held-out problems


def test_an_identity_sae_explains_everything_held_out():
    train, test = noise(30, 5, 8), noise(10, 5, 8, seed=1)
    train[..., 7] = test[..., 7] = np.abs(test[0, 0, 7])
    found = quality(identity_sae(8), train, test)
    assert (found.explained_variance, found.l0, found.pca_components) == (1.0, 8.0, 8)
    assert found.dead == found.dead_train == 1 / 16
    assert found.pca_explained_variance == pytest.approx(1.0)
    assert (found.squared_error == 0).all() and found.total.shape == (10,)


@pytest.mark.parametrize("k", [None, 3])
def test_quality_is_the_plain_formula(k, monkeypatch):
    train, test = noise(30, 5, 8) + 2, 2 * noise(10, 5, 8, seed=1) + 1
    sae = replace(some_sae(k), encoder_bias=torch.linspace(-20, 1, 12))
    features = sae.encode(test)
    error = (sae.decode(features) - test).astype(np.float64)
    centred = test - train.reshape(-1, 8).mean(axis=0, dtype=np.float64)
    l0 = (features > 0).sum(axis=-1).mean()
    flat = train.reshape(-1, 8).astype(np.float64)
    axes = np.linalg.svd(flat - flat.mean(axis=0))[2][: max(1, round(l0))]
    left = centred - centred @ axes.T @ axes

    monkeypatch.setattr("codi_bench.measures.sae_heldout.QUALITY_CHUNK", 7)
    found = quality(sae, train, test)
    np.testing.assert_allclose(found.squared_error, (error**2).sum(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.pca_squared_error, (left**2).sum(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.total, (centred**2).sum(axis=(1, 2)), rtol=1e-12)
    assert found.explained_variance == pytest.approx(1 - (error**2).sum() / (centred**2).sum())
    assert found.pca_explained_variance == pytest.approx(1 - (left**2).sum() / (centred**2).sum())
    assert (found.l0, found.pca_components) == (l0, len(axes))
    assert found.dead == 1 - (features > 0).any(axis=(0, 1)).mean() > 0
    assert found.dead_train == 1 - (sae.encode(train) > 0).any(axis=(0, 1)).mean()
    rows = quality(sae, train, test.reshape(50, 8))  # a row may be a problem
    assert rows.total.shape == (50,) and rows.explained_variance == pytest.approx(found.explained_variance)


def test_the_training_mean_explains_nothing_and_a_shift_is_an_error():
    train, test = noise(50, 4), noise(20, 4, seed=1) + 10
    mean = torch.from_numpy(train.mean(axis=0))
    silent = Sae(torch.zeros(2, 4), torch.zeros(2), torch.zeros(4, 2), mean)
    found = quality(silent, train, test)
    assert found.explained_variance == pytest.approx(0.0, abs=1e-6)
    assert (found.l0, found.dead, found.dead_train, found.pca_components) == (0.0, 1.0, 1.0, 1)


def test_a_topk_sae_beats_a_pca_of_its_budget_on_sparse_vectors_only():
    settings = {"epochs": 15, "batch_size": 128, "lr": 3e-3, "seed": 0}
    train, test = planted(3000, seed=0)[0], planted(500, seed=1)[0]
    sae = train_topk_sae(train, features=96, k=3, **settings)
    found = quality(sae, train.reshape(300, 10, 32), test.reshape(50, 10, 32))
    assert found.explained_variance > 0.9 > 0.4 > found.pca_explained_variance
    gaussian = noise(3000, 32) / np.arange(1, 33, dtype=np.float32)
    found = quality(train_topk_sae(gaussian[:2500], features=32, k=8, **settings), gaussian[:2500], gaussian[2500:])
    assert found.explained_variance < found.pca_explained_variance


# What error prediction is compared on


def test_feature_sets():
    states, surface, train = noise(30, 5, 8), noise(30, 3, seed=1), np.arange(20)
    sets = feature_sets(states, train, sae=some_sae(None), surface=surface)
    assert {name: values.shape for name, values in sets.items()} == {
        "sae": (30, 60),
        "raw": (30, 40),
        "pca": (30, 5 * round(float((some_sae(None).encode(states[:20]) > 0).sum(axis=-1).mean()))),
        "surface": (30, 3),
    }
    assert all(values.dtype == np.float32 for values in sets.values())
    np.testing.assert_allclose(sets["sae"][3, 12:24], some_sae(None).encode(states[3, 1]), rtol=1e-5, atol=1e-6)
    assert (sets["raw"][3, 8:16] == states[3, 1]).all() and (sets["surface"] == surface).all()
    assert feature_sets(states, train, sae=some_sae(2), surface=surface)["pca"].shape == (30, 5 * 2)
    narrow = feature_sets(states, train, sae=some_sae(None, features=6), surface=surface)
    assert narrow["sae"].shape == narrow["pca"].shape == (30, 30)
    np.testing.assert_allclose(narrow["pca"][:, 6:12], pca_features(states[:20].reshape(-1, 8), states[:, 1], 6), atol=1e-6)
    never = replace(some_sae(None), encoder_bias=torch.full((12,), -1e6))
    assert feature_sets(states, train, sae=never, surface=surface)["pca"].shape == (30, 5)
    assert feature_sets(states, train, sae=identity_sae(8), surface=surface)["pca"].shape == (30, 5 * 7)  # below d


def trained(x, **changed):
    train_topk_sae(x, **{"features": 4, "k": 2, "epochs": 3, "seed": 0} | changed)


def split(groups, labels, **changed):
    grouped_split(groups, labels, **{"seed": 0} | changed)


def quality_of(train, test):
    quality(identity_sae(8), train, test)


def compared(states, surface):
    feature_sets(states, np.arange(20), sae=identity_sae(8), surface=surface)


X, NAN, TEN = noise(4, 8), np.full((4, 8), np.nan), np.arange(10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trained(noise(8)), "vectors .m, d."),
        (lambda: trained(np.full((4, 8), np.inf)), "not finite"),
        (lambda: trained(np.full((4, 8), 0.1)), "but all are equal"),
        (lambda: trained(X, features=0), "features must be a whole number, at least 1"),
        (lambda: trained(X, k=0), "k must be a whole number, at least 1, got 0"),
        (lambda: trained(X, k=5), "at most 4, got 5"),
        (lambda: trained(X, lr=1e30), "diverged"),
        (lambda: split(TEN, TEN[:9] < 5), "groups .n. and labels .n."),
        (lambda: split(np.zeros(0), np.zeros(0)), "groups .n. and labels .n."),
        (lambda: split(TEN, TEN < 5, test_share=0.6), "at most 0.5, got 0.6"),
        (lambda: split(TEN, TEN < 5, test_share=0.0), "above 0"),
        (lambda: split(TEN % 4, TEN < 5), "4 groups cannot be split into 5 folds"),
        (lambda: split(np.arange(40), np.arange(40) < 1), "no group with class 'True' is left for the"),
        (lambda: split(TEN[:6], TEN[:6] % 3, test_share=1 / 3), "cannot be split"),
        (lambda: pca_features(X, noise(4, 7), 2), "width 8 does not fit vectors of width 7"),
        (lambda: pca_features(X, X, 0), "components must be a whole number, at least 1"),
        (lambda: pca_features(NAN, X, 2), "not finite"),
        (lambda: quality_of(noise(4, 7), X), "training vectors have width 7, the autoencoder 8"),
        (lambda: quality_of(X, noise(4, 7)), "held-out vectors have width 7"),
        (lambda: quality_of(X, NAN), "not finite"),
        (lambda: quality_of(np.ones((4, 8)), np.ones((4, 8))), "equal the training mean"),
        (lambda: compared(noise(30, 8), noise(30, 3)), "states .n, vectors, d."),
        (lambda: compared(noise(30, 5, 8), noise(29, 3)), "surface .n, s."),
        (lambda: compared(noise(30, 5, 7), noise(30, 3)), "states have width 7, the autoencoder 8"),
        (lambda: compared(np.full((30, 5, 8), np.nan), noise(30, 3)), "not finite"),
    ],
)
def test_what_cannot_be_computed_is_refused(call, message):
    with pytest.raises(MeasureError, match=message):
        call()


def test_nothing_that_is_fitted_sees_a_test_row():
    states, surface = noise(60, 3, 8), noise(60, 2, seed=1)
    train, test = grouped_split(np.arange(60) // 2, np.arange(60) % 4 < 2, seed=0)
    other = states.copy()
    other[test] = 100 * noise(len(test), 3, 8, seed=2)

    def fit(values):
        x = values[train].reshape(-1, 8)
        saes = (
            train_topk_sae(x, features=16, k=3, epochs=3, seed=0),
            train_relu_sae(x, features=16, l1=0.01, l1_kind="sum", epochs=3, seed=0),
        )
        return [
            (sae, feature_sets(values, train, sae=sae, surface=surface), quality(sae, values[train], values[test]))
            for sae in saes
        ]

    for (sae, sets, found), (moved_sae, moved_sets, moved) in zip(fit(states), fit(other)):
        assert same(sae, moved_sae)
        assert all((sets[name][train] == moved_sets[name][train]).all() for name in sets)
        assert found.dead_train == moved.dead_train
        assert found.explained_variance != moved.explained_variance  # the perturbation is seen where it may be


# Threads


def test_a_thread_computes_with_the_number_that_it_set_whatever_another_one_sets_meanwhile():
    """Else two autoencoders that train at a time would be stored under one number of threads now and another then."""
    before, small, asked, seen = torch.get_num_threads(), Event(), Event(), {}

    def one():
        torch.set_num_threads(1)
        small.set()
        asked.wait(5)
        seen["one"] = torch.get_num_threads()

    def other():
        small.wait(5)
        seen["other"] = torch.get_num_threads()
        asked.set()

    with ThreadPoolExecutor(2, initializer=use_threads, initargs=(2,)) as pool:
        for done in [pool.submit(one), pool.submit(other)]:
            done.result()
    torch.set_num_threads(before)
    assert seen == {"one": 1, "other": 2}
