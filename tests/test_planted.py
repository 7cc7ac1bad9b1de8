"""Planted data are what they say: spectra, shifts, surfaces, groups, drops, and the attained AUC of a shift."""

import numpy as np
import pytest
from scipy.special import expit, logit

from benchmarks.calibration import planted
from codi_bench.errors import MeasureError
from codi_bench.measures.grid import nested_splits, scores
from codi_bench.measures.surface import propensity
from codi_bench.rules.intervals import fold_auc
from codi_bench.rules.stats import stream

QUICK = {"folds": 3, "Cs": (0.001, 0.01)}


def rng(name="planted"):
    return stream(0, name)


def held_out_auc(x, y, groups=None):
    """Mean over cells of the pipeline's AUC."""
    splits, fold = nested_splits(y, groups, folds=3, seed=0)
    score = scores([x[:, cell] for cell in range(x.shape[1])], y[:, None], splits, Cs=QUICK["Cs"], loose=True, workers=1).score
    return float(fold_auc(score[:, 0].T, y, fold)[0].mean())


@pytest.mark.parametrize(
    "make",
    [
        lambda r: planted.noise(r, n=30, cells=2, d=5, decay=1.0).activations,
        lambda r: planted.signal(r, n=30, cells=2, d=5, shift=1.0).activations,
        lambda r: planted.surface_only(r, n=60, cells=2, d=5).activations,
        lambda r: planted.leaking(r, groups=20, variants=3, cells=2, d=5).activations,
        lambda r: planted.ablations(r, n=30, drops=[0.1, 0.2]).ablated,
        lambda r: planted.answers(r, n=30, rates=[0.3, 0.7], variants=2),
    ],
)
def test_a_stream_gives_the_same_data_again_and_another_gives_others(make):
    assert (make(rng()) == make(rng())).all() and (make(rng()) != make(rng("other"))).any()


# Activations


def test_noise_has_two_equal_classes_and_knows_nothing_of_them():
    made = planted.noise(rng(), n=4001, cells=3, d=4)
    assert made.activations.shape == (4001, 3, 4) and made.activations.dtype == np.float32
    assert made.labels.dtype == bool and made.labels.sum() == 2000 and made.carriers == ()
    difference = made.activations[made.labels].mean(0) - made.activations[~made.labels].mean(0)
    assert abs(difference).max() < 4 * np.sqrt(4 / 4001)


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_variances_fall_by_rank_and_scaling_does_not_undo_it(decay):
    x = planted.spectrum(rng(), 20_000, 1, 64, decay)[:, 0].astype(float)
    found = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    np.testing.assert_allclose(found, np.arange(1, 65) ** -decay, rtol=0.15)
    scaled = np.linalg.eigvalsh(np.corrcoef(x.T))[::-1]
    largest = 1 / (np.arange(1, 65) ** -decay).sum()
    assert scaled[0] / 64 == pytest.approx(largest, rel=0.5)  # unrotated, it would be 1/64 whatever the decay


@pytest.mark.parametrize("where", [1, None])
def test_signal_is_a_shift_in_one_cell_or_in_all(where):
    made = planted.signal(rng(), n=4000, cells=3, d=8, shift=1.5, where=where)
    length = np.linalg.norm(made.activations[made.labels].mean(0) - made.activations[~made.labels].mean(0), axis=1)
    carries = np.isin(np.arange(3), made.carriers)
    assert made.carriers == ((1,) if where == 1 else (0, 1, 2))
    np.testing.assert_allclose(length[carries], 1.5, atol=0.2)
    assert (length[~carries] < 0.2).all()
    first, second = (made.activations[made.labels, cell].mean(0) for cell in made.carriers[:1] * 2)
    assert (first == second).all()


def test_surface_alone_tells_the_labels_and_activations_carry_nothing_else():
    made = planted.surface_only(rng(), n=6000, cells=2, d=6)
    x, y, p = made.activations.reshape(6000, -1), made.labels, made.propensity
    assert made.carriers == () and p.min() > 0 and p.max() < 1

    def strongest(residual):
        return max(abs(np.corrcoef(column, residual)[0, 1]) for column in x.T)

    assert strongest(y.astype(float)) > 0.15 and strongest(y - p) < 4 / np.sqrt(6000)
    fitted = propensity(made.surface, y)
    assert np.sqrt(np.mean((fitted - p) ** 2)) < 0.05  # the design is flexible enough for the curve


def test_the_surface_needs_a_curve():
    """The hump over the length is symmetric: a line over it sees nothing, and would leave it to the probes."""
    made = planted.surface_only(rng(), n=6000, cells=1, d=4)
    line = next(c for c in made.surface.T if len(np.unique(c.round(6))) > 1000)  # the length, standardised
    assert abs(np.corrcoef(line, made.labels)[0, 1]) < 0.06 < 0.2 < abs(np.corrcoef(line**2, made.labels)[0, 1])


def test_leaking_groups_have_one_label_and_are_nearly_one_point():
    made = planted.leaking(rng(), groups=60, variants=3, cells=2, d=16)
    x, y, groups = made.activations, made.labels, made.groups
    assert x.shape == (180, 2, 16) and (np.bincount(groups) == 3).all()
    assert all(len(set(y[groups == g])) == 1 for g in range(60)) and y.sum() == 90
    distance = np.linalg.norm(x[:, 0, None] - x[None, :, 0], axis=-1) + 100 * np.eye(180)
    assert (groups[distance.argmin(1)] == groups).all()


def test_leaking_groups_tell_nothing_once_they_are_held_out_whole():
    made = [planted.leaking(rng(str(k)), groups=40, variants=4, cells=4, d=32) for k in range(6)]
    assert np.mean([held_out_auc(one.activations, one.labels) for one in made]) > 0.85
    assert abs(np.mean([held_out_auc(one.activations, one.labels, one.groups) for one in made]) - 0.5) < 0.08


# Strength


def test_the_shift_attains_its_auc_on_other_data_too():
    shift = planted.shift_for_auc(0.75, 120, 8, repeats=25, **QUICK)
    how = {"repeats": 25, **QUICK}
    assert abs(planted.attained_auc(shift, 120, 8, seed=0, **how) - 0.75) <= 0.002
    assert abs(planted.attained_auc(shift, 120, 8, seed=1, **how) - 0.75) < 0.03
    assert planted.attained_auc(0.0, 120, 8, seed=1, **how) == pytest.approx(0.5, abs=0.03)
    assert planted.attained_auc(shift, 120, 32, seed=0, **how) < 0.74  # in more dimensions it is harder to find


def test_an_auc_that_no_shift_attains_is_refused(monkeypatch):
    for target in (0.5, 1.0, 0.2):
        with pytest.raises(MeasureError, match="between 0.5 and 1"):
            planted.shift_for_auc(target, 40, 4)
    monkeypatch.setattr(planted, "attained_auc", lambda *_, **__: 0.6)
    with pytest.raises(MeasureError, match="no shift up to 64"):
        planted.shift_for_auc(0.75, 40, 4)


# Right and wrong


def test_drops_and_gains_are_the_true_ones():
    drops = [0.06, 0.07, 0.18, 0.20, 0.07, 0.0]
    made = planted.ablations(rng(), n=200_000, drops=drops, baseline=0.43, gains=0.02)
    assert made.clean.mean() == pytest.approx(0.43, abs=0.005) and made.drops == tuple(drops)
    np.testing.assert_allclose(made.clean.mean() - made.ablated.mean(1), drops, atol=0.004)
    np.testing.assert_allclose((made.ablated & ~made.clean).mean(1), 0.02, atol=0.002)
    lost = made.clean & ~made.ablated
    both = (lost[2] & lost[3])[made.clean].mean()
    assert both == pytest.approx(lost[2][made.clean].mean() * lost[3][made.clean].mean(), abs=0.01)  # independent costs


@pytest.mark.parametrize(
    "wrong", [{"drops": [0.49]}, {"drops": [-0.03]}, {"drops": [0.1], "gains": 0.6}, {"drops": [0.1], "baseline": 1.0}]
)
def test_drops_that_do_not_fit_are_refused(wrong):
    with pytest.raises(MeasureError, match="do not fit a baseline"):
        planted.ablations(rng(), **{"n": 10, "baseline": 0.5} | wrong)


def test_answers_have_their_rates_and_share_the_difficulty():
    rates = [0.2, 0.5, 0.9]
    made = planted.answers(rng(), n=100_000, rates=rates, shared=0.5, variants=4)
    np.testing.assert_allclose(made.mean(0), rates, atol=0.01)
    expected = 2 / np.pi * np.arcsin(0.5)  # phi of two halved normals of correlation 0.5
    same = planted.answers(rng(), n=100_000, rates=[0.5, 0.5], shared=0.5)
    assert np.corrcoef(same.T)[0, 1] == pytest.approx(expected, abs=0.02)
    variants = made[:, 1].reshape(-1, 4)
    assert np.corrcoef(variants[:, 0], variants[:, 1])[0, 1] == pytest.approx(expected, abs=0.03)
    assert abs(np.corrcoef(variants[:-1, 0], variants[1:, 0])[0, 1]) < 0.03
    apart = planted.answers(rng(), n=100_000, rates=[0.5, 0.5], shared=0.0)
    assert abs(np.corrcoef(apart.T)[0, 1]) < 0.02


def test_steepness_scales_the_log_odds():
    flat, steep = (planted.surface_only(rng(), n=500, cells=1, d=4, steep=s).propensity for s in (0.5, 1.5))
    np.testing.assert_allclose(logit(steep), 3 * logit(flat), rtol=1e-6, atol=1e-9)
    assert expit(0) == 0.5 and steep.std() > flat.std()
