"""The measures against known answers: what the study's protocols give on signal, on noise and on nothing."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from codi_bench.errors import MeasureError
from codi_bench.measures import (
    Sae,
    balanced_sample,
    criticality,
    drops,
    grid_summary,
    in_sample_probes,
    predict_errors,
    sae_quality,
    spread,
    train_relu_sae,
)

# claims/seed-study.md: LLaMA's probe grid, layers 8, 14, 15 by tokens 0..5, percent.
LLAMA_GRID = np.array([[98, 98, 98, 98, 98, 98], [98, 98, 98, 98, 97, 94], [98, 98, 96, 98, 98, 98]]) / 100


def balanced_labels(n, seed):
    return np.random.default_rng(seed).permutation(n) % 2 == 0


def noise(n, cells, d, seed):
    """Gaussian activations [n, cells, d], variance 1/rank along random axes: aligned axes would be undone by the scaler."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (rng.standard_normal((n, cells, d)) / np.sqrt(np.arange(1, d + 1))) @ rotation


def identity_sae(d):
    """x = relu(x) - relu(-x): 2d features, no error."""
    eye = torch.eye(d)
    return Sae(torch.cat([eye, -eye]), torch.zeros(2 * d), torch.cat([eye, -eye], dim=1), torch.zeros(d))


# Probes


def test_balanced_sample_is_the_study_s():
    correct = np.random.default_rng(3).random(300) < 0.43
    random.seed(42)
    chosen = random.sample([i for i in range(300) if correct[i]], 50)
    chosen = chosen + random.sample([i for i in range(300) if not correct[i]], 50)
    in_front = list(chosen)
    random.shuffle(chosen)
    assert balanced_sample(correct).tolist() == chosen
    assert balanced_sample(correct, shuffle=False).tolist() == in_front
    assert balanced_sample(correct, seed=43).tolist() != chosen
    assert correct[balanced_sample(correct, per_class=7)].sum() == 7


def test_balanced_sample_leaves_the_global_generator_alone():
    random.seed(1)
    state = random.getstate()
    balanced_sample(np.arange(200) % 2 == 0)
    assert random.getstate() == state


@pytest.mark.parametrize(
    ("correct", "message"),
    [
        (np.arange(100) < 49, "class 'correct' has 49 problems, but a balanced sample needs 50"),
        (np.arange(100) < 51, "class 'incorrect' has 49 problems, but a balanced sample needs 50"),
        (np.ones(100), "must be bool"),
        (np.ones((10, 10), dtype=bool), "must be bool"),
    ],
)
def test_balanced_sample_refuses(correct, message):
    with pytest.raises(MeasureError, match=message):
        balanced_sample(correct)


def test_separable_labels_score_one_and_a_constant_cell_scores_the_majority():
    labels = balanced_labels(100, 0)
    activations = noise(100, 3, 16, 0)
    activations[:, 0, 5] = np.where(labels, 10.0, -10.0)
    activations[:, 1] = 7.0
    probes = in_sample_probes(activations, labels)
    assert probes.accuracy[0] == 1.0
    assert probes.accuracy[1] == 0.5
    assert probes.chosen_C[1] == 0.001
    assert probes.predictions.shape == probes.correct.shape == (100, 3)
    assert (probes.correct == (probes.predictions == labels[:, None])).all()
    assert (probes.accuracy == probes.correct.mean(axis=0)).all()


def test_noise_scores_high_in_sample_and_chance_held_out():
    activations, labels = noise(100, 6, 768, 0), balanced_labels(100, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_sample = in_sample_probes(activations, labels).accuracy
    assert in_sample.mean() > 0.9
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    held_out = [cross_val_score(pipeline, activations[:, cell], labels, cv=5).mean() for cell in range(6)]
    assert 0.4 < np.mean(held_out) < 0.6


def test_probes_do_not_depend_on_dtype_or_names_of_the_labels():
    activations, labels = noise(60, 2, 24, 2).astype(np.float32), balanced_labels(60, 2)
    as_bool = in_sample_probes(activations, labels)
    as_int = in_sample_probes(activations.astype(np.float64), labels.astype(int))
    assert as_bool.predictions.dtype == bool
    assert (as_bool.predictions == as_int.predictions.astype(bool)).all()
    assert (as_bool.chosen_C == as_int.chosen_C).all()


@pytest.mark.parametrize(
    ("activations", "labels", "message"),
    [
        (np.zeros((10, 2)), np.arange(10) % 2, "activations .n, positions, d."),
        (np.zeros((10, 2, 3)), np.arange(9) % 2, "labels .n."),
        (np.zeros((10, 2, 3)), np.zeros(10), "two classes, the labels have 1"),
        (np.zeros((30, 2, 3)), np.arange(30) % 3, "two classes, the labels have 3"),
        (np.zeros((10, 2, 3)), np.arange(10) < 4, "class 'True' has 4 problems, but 5 folds need at least 5"),
        (np.full((10, 2, 3), np.nan), np.arange(10) % 2, "not finite"),
    ],
)
def test_probes_refuse(activations, labels, message):
    with pytest.raises(MeasureError, match=message):
        in_sample_probes(activations, labels)


def test_grid_summary_gives_the_published_llama_numbers():
    summary = grid_summary(LLAMA_GRID)
    assert round(100 * summary.mean, 2) == 97.61
    assert round(100 * summary.std, 2) == 1.01
    assert (summary.min, summary.max, summary.best) == (0.94, 0.98, (0, 0))


def test_grid_summary_breaks_ties_by_layer_first():
    assert grid_summary([[0.5, 0.6, 0.9], [0.9, 0.6, 0.9]]).best == (0, 2)


@pytest.mark.parametrize("grid", [[0.5, 0.6], np.zeros((0, 6)), [[0.5, np.nan]]])
def test_grid_summary_refuses(grid):
    with pytest.raises(MeasureError, match="finite accuracies"):
        grid_summary(grid)


# Autoencoders


def test_identity_sae_has_no_error():
    x = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    x[:, 7] = np.abs(x[:, 7])  # leaves the feature relu(-x_7) dead
    sae = identity_sae(8)
    assert (sae.decode(sae.encode(x)) == x).all()
    quality = sae_quality(sae, x)
    assert quality.explained_variance == quality.explained_variance_pooled == 1.0
    assert quality.l0 == 8.0
    assert quality.dead == 1 / 16
    assert sae_quality(sae, x, l0_above=100.0).l0 == 0.0


def test_the_study_s_explained_variance_credits_a_constant():
    x = np.random.default_rng(0).standard_normal((500, 4)).astype(np.float32) + np.array([0, 10, 20, 30], dtype=np.float32)
    only_the_mean = Sae(torch.zeros(2, 4), torch.zeros(2), torch.zeros(4, 2), torch.from_numpy(x.mean(axis=0)))
    quality = sae_quality(only_the_mean, x)
    assert quality.explained_variance == pytest.approx(0.0, abs=1e-6)
    assert quality.explained_variance_pooled == pytest.approx(1 - np.var(x - x.mean(axis=0)) / np.var(x), abs=1e-5)
    assert quality.explained_variance_pooled > 0.99
    assert (quality.l0, quality.dead) == (0.0, 1.0)


def test_quality_does_not_depend_on_the_chunks(monkeypatch):
    x = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float32) + 3
    sae = train_relu_sae(x, features=10, l1=0.01, l1_kind="mean", epochs=2, seed=0)
    whole = sae_quality(sae, x)
    monkeypatch.setattr("codi_bench.measures.sae.QUALITY_CHUNK", 64)
    pieces = sae_quality(sae, x)
    assert (whole.l0, whole.dead) == (pieces.l0, pieces.dead)
    assert whole.explained_variance == pytest.approx(pieces.explained_variance, abs=1e-6)
    error = sae.decode(sae.encode(x)) - x
    assert whole.explained_variance == pytest.approx(1 - (error**2).sum() / ((x - x.mean(axis=0)) ** 2).sum(), abs=1e-5)
    assert whole.explained_variance_pooled == pytest.approx(1 - error.var() / x.var(), abs=1e-5)


def test_sae_learns_a_planted_dictionary():
    rng = np.random.default_rng(0)
    atoms = rng.standard_normal((12, 32))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = rng.uniform(1, 2, (4000, 12)) * (rng.random((4000, 12)) < 0.15)
    x = (codes @ atoms).astype(np.float32)
    sae = train_relu_sae(x, features=48, l1=0.001, l1_kind="sum", epochs=40, batch_size=128, lr=3e-3, seed=0)
    assert sae_quality(sae, x).explained_variance > 0.95
    features = sae.encode(x)
    alike = np.corrcoef(codes.T, features[:, features.std(axis=0) > 0].T)[:12, 12:]
    assert (alike.max(axis=1) > 0.9).all(), alike.max(axis=1)


def test_sum_penalty_is_the_mean_penalty_times_the_number_of_features():
    x = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    one = train_relu_sae(x, features=16, l1=0.01, l1_kind="sum", epochs=3, seed=0)
    other = train_relu_sae(x, features=16, l1=0.16, l1_kind="mean", epochs=3, seed=0)
    torch.testing.assert_close(one.encoder_weight, other.encoder_weight, rtol=1e-3, atol=1e-5)
    weaker = train_relu_sae(x, features=16, l1=0.01, l1_kind="mean", epochs=3, seed=0)
    assert weaker.encode(x).sum() > one.encode(x).sum()


@pytest.mark.parametrize(
    ("x", "changed", "message"),
    [
        (np.zeros(8), {}, "vectors .m, d."),
        (np.zeros((0, 8)), {}, "vectors .m, d."),
        (np.full((4, 8), np.inf), {}, "not finite"),
        (np.zeros((4, 8)), {"l1_kind": "max"}, "unknown l1_kind 'max'"),
        (np.zeros((4, 8)), {"features": 0}, "features must be a whole number, at least 1"),
        (np.ones((4, 8)), {"lr": 1e30}, "diverged"),
    ],
)
def test_train_relu_sae_refuses(x, changed, message):
    arguments = {"features": 4, "l1": 0.1, "l1_kind": "sum", "epochs": 3, "seed": 0} | changed
    with pytest.raises(MeasureError, match=message):
        train_relu_sae(x, **arguments)


@pytest.mark.parametrize(
    ("x", "message"),
    [(np.zeros(8), "vectors .m, d."), (np.full((4, 8), np.nan), "not finite"), (np.ones((4, 8)), "but all are equal")],
)
def test_sae_quality_refuses(x, message):
    with pytest.raises(MeasureError, match=message):
        sae_quality(identity_sae(8), x)


# Error prediction


def test_planted_features_predict_errors():
    correct = np.random.default_rng(0).random(300) < 0.43
    features = np.random.default_rng(1).random((300, 40)).astype(np.float32)
    features[:, 3] = 10 * correct
    found = predict_errors(features, correct)
    assert found.train_accuracy == found.test_accuracy == found.precision_correct == found.precision_incorrect == 1.0
    assert found.test_right.all()
    assert len(found.test_index) == 60
    assert correct[found.test_index].sum() == round(0.2 * correct.sum())


def test_noise_predicts_errors_no_better_than_the_majority_but_fits_the_training_set():
    correct = np.random.default_rng(0).random(1000) < 0.43
    found = predict_errors(np.random.default_rng(1).standard_normal((1000, 900)).astype(np.float32), correct)
    assert found.train_accuracy == 1.0
    assert abs(found.test_accuracy - 0.5) < 0.12
    assert found.test_accuracy == found.test_right.mean()
    weak = predict_errors(np.random.default_rng(1).standard_normal((1000, 5)).astype(np.float32), correct)
    assert abs(weak.test_accuracy - (~correct).mean()) < 0.06


def test_precision_is_none_where_a_class_is_never_predicted():
    correct = np.arange(50) < 15
    found = predict_errors(np.zeros((50, 2)), correct)
    assert found.precision_correct is None
    assert found.precision_incorrect == found.test_accuracy == 0.7
    assert predict_errors(np.zeros((50, 2)), ~correct).precision_incorrect is None


def test_precision_counts_the_predictions_of_its_class():
    rng = np.random.default_rng(0)
    correct = rng.random(200) < 0.5
    features = (correct ^ (rng.random(200) < 0.3)).astype(np.float32)[:, None]
    found = predict_errors(features, correct)
    predicted = features[found.test_index, 0] > 0.5
    assert found.precision_correct == correct[found.test_index][predicted].mean()
    assert found.precision_incorrect == (~correct[found.test_index])[~predicted].mean()


@pytest.mark.parametrize(
    ("features", "correct", "message"),
    [
        (np.zeros(10), np.arange(10) < 5, "features .n, F."),
        (np.zeros((10, 2)), np.arange(9) < 5, "features .n, F."),
        (np.zeros((10, 2)), np.arange(10) % 2, "correct bool"),
        (np.zeros((10, 2)), np.ones(10, dtype=bool), "two classes"),
        (np.zeros((10, 2)), np.arange(10) < 1, "1 correct and 9 incorrect cannot be split"),
        (np.full((10, 2), np.nan), np.arange(10) < 5, "not finite"),
    ],
)
def test_predict_errors_refuses(features, correct, message):
    with pytest.raises(MeasureError, match=message):
        predict_errors(features, correct)


# Ablation


def test_drops_are_net_percentage_points():
    clean = np.arange(100) < 42
    assert drops(clean, np.stack([clean, clean])).tolist() == [0.0, 0.0]
    ablated = np.stack([np.arange(100) < 36, np.arange(100) < 22, ~(np.arange(100) < 50)])
    assert drops(clean, ablated).tolist() == [6.0, 20.0, -8.0]


def test_criticality_of_the_published_drops():
    found = criticality([6, 7, 18, 20, 7, 7])
    assert (found.range, found.position_index) == (14.0, 3)
    assert criticality([1.0, 2.0, 2.0]).position_index == 1


@pytest.mark.parametrize(
    ("clean", "ablated", "message"),
    [
        (np.ones(4), np.ones((2, 4), dtype=bool), "must be bool"),
        (np.ones(4, dtype=bool), np.ones((2, 4)), "must be bool"),
        (np.ones(4, dtype=bool), np.ones(4, dtype=bool), "conditions, n"),
        (np.ones(4, dtype=bool), np.ones((2, 5), dtype=bool), "conditions, n"),
        (np.ones(0, dtype=bool), np.ones((2, 0), dtype=bool), "at least one problem"),
    ],
)
def test_drops_refuse(clean, ablated, message):
    with pytest.raises(MeasureError, match=message):
        drops(clean, ablated)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, np.nan]])
def test_criticality_refuses(values):
    with pytest.raises(MeasureError, match="finite drops"):
        criticality(values)


# Spread


def test_spread_of_known_grids():
    constant = spread(np.full((3, 6), 0.8))
    assert constant.std == pytest.approx(0.0, abs=1e-9)
    assert constant.range == 0.0
    assert constant.evenness == pytest.approx(1.0)

    one_hot = np.full((3, 6), 0.5)
    one_hot[1, 2] = 0.9
    assert spread(one_hot).evenness == 0.0
    assert spread(one_hot).range == pytest.approx(40.0)
    one_hot[0, 0] = 0.2  # below chance: no share, not a negative one
    assert spread(one_hot).evenness == 0.0

    two = np.full((2, 4), 0.5)
    two[0, :2] = 0.75
    assert spread(two).evenness == pytest.approx(np.log(2) / np.log(8))
    assert spread(two, chance=0.0).evenness > spread(two).evenness


def test_spread_gives_the_published_llama_std_and_range():
    found = spread(LLAMA_GRID)
    assert round(found.std, 2) == 1.01
    assert found.range == pytest.approx(4.0)
    assert found.evenness > 0.999


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (np.full((2, 3), 0.5), "above chance .0.5., but the best has 0.5"),
        (np.full((1, 1), 0.9), "at least two cells"),
        (np.full(6, 0.9), "layers, positions"),
        (np.full((2, 3), 92.0), "fractions"),
        (np.full((2, 3), np.nan), "fractions"),
    ],
)
def test_spread_refuses(grid, message):
    with pytest.raises(MeasureError, match=message):
        spread(grid)


def test_error_prediction_does_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    features = np.maximum(rng.standard_normal((200, 3000)), 0).astype(np.float32)
    correct = rng.random(200) < 0.5
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            found.append(predict_errors(features, correct))
    assert found[0].train_accuracy == found[1].train_accuracy and (found[0].test_right == found[1].test_right).all()
