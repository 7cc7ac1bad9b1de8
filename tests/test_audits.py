"""The audits of probes, SAE errors and ablations on data whose truth is known: the words, and what no fit may see."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from benchmarks.calibration import planted
from codi_bench.audits import ablation, probes, sae
from codi_bench.errors import MeasureError
from codi_bench.measures.sae import Sae
from codi_bench.measures.sae_heldout import grouped_split
from codi_bench.measures.surface import surface_design
from codi_bench.rules.intervals import fold_auc
from codi_bench.rules.stats import Interval, mcnemar_exact, newcombe_paired, stream
from codi_bench.rules.validity import Validity

QUICK = {"Cs": (0.01, 0.1), "folds": 3, "permutations": 79, "seed": 0, "workers": 1}
SUPPORTED, ARTEFACT, REFUTED, UNDERPOWERED = Validity


# Probes


@cache
def audited(kind, **how):
    made = getattr(planted, kind)(stream(0, "audits", kind), **how)
    return made, probes.audit_probes(made.activations, made.labels, surface=made.surface, groups=made.groups, **QUICK)


def test_noise_is_not_supported_and_far_from_a_large_claim():
    _made, found = audited("noise", n=120, cells=3, d=16)
    assert probes.exists_word(found).word in (REFUTED, UNDERPOWERED)
    claimed = probes.accuracy_word(found, found.mean, delta=0.4)
    assert claimed.word is REFUTED and "Delta +40.0" in claimed.why
    assert probes.accuracy_word(found, found.best_accuracy, delta=0.4, cells=3).word is REFUTED
    assert set(found.p) == {probes.LABELS} and found.conditional is found.beyond_bot is found.surface_auc is None
    assert abs(found.q - 0.5) < 0.05 and found.phi >= 1 and found.phi_auc >= 1
    assert found.n == 120 and found.mean.value == pytest.approx(found.correct.mean())
    # Without a surface the effect is the AUC over that of permuted labels.
    assert found.added.value == pytest.approx(found.best_auc.value - found.grid.null_auc.mean())


def test_one_strong_cell_is_supported_named_and_concentrated():
    made, found = audited("signal", n=160, cells=4, d=16, shift=3.0, where=2)
    assert made.carriers == (found.best,) == (2,)
    assert probes.exists_word(found).word is SUPPORTED and found.p[probes.LABELS] == 1 / 80
    assert probes.accuracy_word(found, found.best_accuracy, cells=4).word is SUPPORTED
    spread, says = probes.spread_of(found)
    assert says.word == "concentrated" and spread.tau.low > 0, says.why
    # The cell that counts was chosen inside the outer folds: here always the strong one.
    assert np.array_equal(found.ranked.score, found.grid.held_out_score[:, 2])
    assert found.best_auc.value == pytest.approx(found.grid.held_out_auc[2])


def test_the_best_cell_is_chosen_inside_every_outer_fold():
    _, found = audited("noise", n=120, cells=3, d=16)
    chosen = found.grid.fold_inner.argmax(1)
    assert len(set(chosen)) > 1  # in noise the folds disagree
    for k, cell in enumerate(chosen):
        rows = found.grid.fold == k
        assert np.array_equal(found.ranked.score[rows], found.grid.held_out_score[rows, cell])


def test_even_cells_are_even():
    _made, found = audited("signal", n=200, cells=4, d=12, shift=3.0)
    says = probes.spread_of(found)[1]
    assert probes.exists_word(found).word is SUPPORTED and says.word == "even", says.why
    assert (found.grid.p_value_auc == 1 / 80).all()


def test_what_only_the_surface_tells_is_an_artefact():
    made, found = audited("surface_only", n=300, cells=3, d=12, steep=2.0)
    assert found.p[probes.LABELS] == 1 / 80 and found.p[probes.SURFACE] > 0.025
    verdict = probes.exists_word(found)
    assert verdict.word is ARTEFACT, verdict.why
    assert found.surface_auc > 0.7 and found.added.high < probes.AUC_FLOOR
    # Its accuracy is far above chance, and no n would make it small: what is judged is what it adds.
    assert found.mean.low - found.q > probes.ACCURACY_FLOOR / 2
    said = probes.accuracy_word(found, found.mean)
    assert said.word is ARTEFACT and said.why.startswith("AUC added to the surface")
    layer = {probes.LABELS: found.p[probes.LABELS], probes.SURFACE: 0.01}  # a part of the grid that passes is judged by accuracy
    assert probes.accuracy_word(found, found.mean, p=layer).word is SUPPORTED
    blind = probes.audit_probes(made.activations, made.labels, **QUICK)  # an auditor who does not know the surface is taken in
    assert probes.exists_word(blind).word is SUPPORTED


def test_leaking_groups_are_not_supported_and_counted_once():
    made, found = audited("leaking", groups=60, variants=3, cells=2, d=40)
    assert found.n == 60 and probes.exists_word(found).word is not SUPPORTED
    divided = probes.audit_probes(made.activations, made.labels, **QUICK)
    assert divided.n == 180 and probes.exists_word(divided).word is SUPPORTED


def test_what_bot_reads_already_is_not_beyond_bot():
    rng = stream(0, "bot")
    y = planted.balanced(rng, 160)
    hidden, length = 2 * (y - 0.5) + rng.standard_normal(160), rng.random(160)
    x = rng.standard_normal((160, 3, 6))
    x[:, 0, 0] += 3 * hidden  # bot knows it
    x[:, 1, 1] += 3 * hidden  # a thought repeats it
    design = surface_design({"length": length}, {}, 160)
    repeats = probes.audit_probes(x, y, surface=design, bot=[0], **QUICK)
    x[:, 2, 2] += 4 * (y - 0.5)  # another adds to it
    adds = probes.audit_probes(x, y, surface=design, bot=[0], **QUICK)
    assert repeats.p[probes.SURFACE] <= 0.025 < repeats.beyond_bot.p_value_any
    assert adds.beyond_bot.p_value_any == 1 / 80 and adds.beyond_bot.p_value_max.shape == (2,)


def test_a_probe_is_held_against_what_the_model_says_of_its_answer_itself():
    made, alone = audited("signal", n=160, cells=4, d=16, shift=3.0, where=2)
    told = {"surface": made.surface, "groups": made.groups, **QUICK}
    for certain in (False, True):
        noise = stream(0, "confidence").standard_normal((160, 2))
        found = probes.audit_probes(made.activations, made.labels, confidence=noise + 9 * certain * made.labels[:, None], **told)
        own = found.over_confidence
        assert (own.alone.value > 0.95) == certain and (own.word(own.p, n=160).word is SUPPORTED) != certain
        assert found.best_auc == alone.best_auc and found.added == alone.added  # the probe is judged by itself as before


def test_the_floor_of_accuracy_is_an_auc_of_0_60():
    x, y = stream(0, "floor").standard_normal(200_000), np.arange(200_000) % 2
    shift = 2 * 0.17914  # of two normal classes with AUC 0.60
    auc, _ = fold_auc(x + shift * y, y, np.zeros(len(y), int))
    assert auc == pytest.approx(0.5 + probes.AUC_FLOOR, abs=0.005)
    assert ((x + shift * y > shift / 2) == y).mean() == pytest.approx(0.5 + probes.ACCURACY_FLOOR, abs=0.005)


# SAE errors


def identity_sae(d):
    """One feature a dimension: vectors without negative numbers come through as they are."""
    return Sae(torch.eye(d), torch.zeros(d), torch.eye(d), torch.zeros(d))


class Trainer:
    """Gives the identity and remembers what it was given."""

    def __init__(self):
        self.given = []

    def __call__(self, vectors):
        self.given.append(np.array(vectors))
        return identity_sae(vectors.shape[-1])


def thoughts(strength, *, groups=120, variants=2, vectors=2, d=5):
    """(states, right, groups, surface): states above 0, labels by group, `strength` apart in the first dimension."""
    rng = stream(0, "thoughts")
    group = np.repeat(np.arange(groups), variants)
    right = planted.balanced(rng, groups)[group]
    states = 10 + rng.standard_normal((len(group), vectors, d))
    states[:, :, 0] += strength * right[:, None]
    length = rng.random(groups)[group]
    order = rng.permutation(len(group))
    surface = surface_design({"length": length}, {}, groups)
    return states.astype(np.float32)[order], right[order], group[order], surface[order]


def audit_of(states, right, group, surface, train_sae=None, train_topk=None, confidence=None):
    """confidence: of a model that knows nothing of its errors, if not told."""
    confidence = stream(0, "confidence").standard_normal((len(right), 2)) if confidence is None else confidence
    trainers = {"train_sae": train_sae or Trainer(), "train_topk": train_topk or Trainer()}
    known = {"groups": group, "surface": surface, "confidence": confidence}
    return sae.audit_errors(states, right, **known, permutations=199, seed=0, **trainers)


@cache
def judged(strength):
    return audit_of(*thoughts(strength))


def test_errors_that_features_tell_are_supported():
    found = judged(8.0)
    assert found.p_auc == {sae.LABELS: 1 / 200, sae.SURFACE: 1 / 200}
    assert sae.exists_word(found, found.p_auc).word is SUPPORTED
    # A permuted classifier that calls one class once is right about it half of the time: the smallest p is hardly reached.
    assert [rate.value for rate in found.precision] == [1, 1] and max(found.p_precision) <= 0.025
    assert all(sae.precision_word(found, which, found.p_precision[which]).word is SUPPORTED for which in (0, 1))
    assert found.train_accuracy == found.sets["sae"].accuracy.value == found.sets["sae"].auc.value == 1
    assert found.sets["surface"].accuracy.value < 0.8
    assert list(found.sets) == ["sae", "raw", "pca", "surface", "topk"]
    assert found.n == len(found.ranked.labels) == 60  # one problem of each held-out group
    assert found.fitted == 120  # all problems of the others


def test_features_that_are_the_activations_gain_nothing():
    for found in (judged(8.0), judged(0.0)):
        assert np.array_equal(found.sets["sae"].right, found.sets["raw"].right)
        assert np.array_equal(found.sets["sae"].right, found.sets["topk"].right)
    found = judged(8.0)
    assert found.best_other == "raw" and found.gain.value == 0 and found.gain_p == 1
    assert sae.gain_word(found, found.gain_p).word is not SUPPORTED
    assert found.quality.explained_variance == found.topk_quality.explained_variance == pytest.approx(1)
    over = sae.explained_over_pca(found.quality)  # five numbers a vector against five
    assert over.value == pytest.approx(0, abs=1e-9) and over.low <= over.value <= over.high


def test_features_that_tell_nothing_are_not_supported():
    found = judged(0.0)
    assert sae.exists_word(found, found.p_auc).word is not SUPPORTED and min(found.p_auc.values()) > 0.025
    assert abs(found.null_accuracy.mean() - 0.5) < 0.1 and abs(found.null_auc.mean() - 0.5) < 0.1
    for which in (0, 1):
        if found.precision[which] is not None:
            assert sae.precision_word(found, which, found.p_precision[which]).word is not SUPPORTED


def test_what_the_model_says_of_its_answer_itself_is_not_counted_for_the_features():
    known = thoughts(2.0, groups=400, variants=1)
    blind = audit_of(*known)
    own = blind.over_confidence
    assert abs(own.alone.value - 0.5) < 0.1
    assert own.word(own.p, n=blind.n).word is SUPPORTED and own.p < 0.001
    states, right, _, _ = known
    certain = np.column_stack([states[:, :, 0].sum(1), np.zeros(len(right))])  # it tells all that the features tell
    aware = audit_of(*known, confidence=certain)
    own = aware.over_confidence
    assert own.alone.value > 0.9 and own.gain.high < sae.GAIN_FLOOR
    assert own.word(own.p, n=aware.n).word is REFUTED
    assert aware.sets["sae"].auc == blind.sets["sae"].auc  # the features are judged by themselves as before


@pytest.mark.parametrize("variants", [1, 3])
def test_labels_are_permuted_among_held_out_groups_and_among_the_others(variants, monkeypatch):
    states, right, group, surface = thoughts(1.0, variants=variants)
    drawn, draw = [], sae.permuted_labels
    monkeypatch.setattr(sae, "permuted_labels", lambda *given, **how: drawn.append(draw(*given, **how)) or drawn[-1])
    audit_of(states, right, group, surface)
    _, test = grouped_split(group, right, test_share=sae.TEST_SHARE, seed=0)
    assert (drawn[0][:, test].sum(1) == right[test].sum()).all() and not (drawn[0][:, test] == right[test]).all()


def test_what_is_fitted_does_not_see_held_out_states():
    states, right, group, surface = thoughts(1.0)
    trainers = Trainer(), Trainer()
    plain = audit_of(states, right, group, surface, *trainers)
    train, test = grouped_split(group, right, test_share=sae.TEST_SHARE, seed=0)
    for trainer in trainers:
        (given,) = trainer.given
        assert np.array_equal(given, states[train].reshape(-1, 5))
    assert plain.fitted == len(train) and plain.n == len(np.unique(group[test]))
    changed = states.copy()
    changed[test] = 1000 - 50 * changed[test]
    moved = audit_of(changed, right, group, surface)
    assert moved.train_accuracy == plain.train_accuracy and moved.quality.dead_train == plain.quality.dead_train
    assert moved.quality.pca_components == plain.quality.pca_components
    # Higher is right in the training states, and now that is lower.
    assert moved.sets["sae"].auc.value == pytest.approx(1 - plain.sets["sae"].auc.value)


def test_a_class_that_is_never_called_has_no_precision():
    states, right, group, surface = thoughts(0.0)
    group = np.arange(len(group))
    right = stream(0, "rare").permutation(len(group)) < 24  # 10 % right: the classifier always says wrong
    found = audit_of(np.full_like(states, 3.0) + states / 1e3, right, group, surface)
    assert found.precision[1] is None and found.p_precision[1] == 1
    assert found.precision[0].value == (~found.ranked.labels).mean() and found.p_precision[0] > 0.025


# Ablations


def sweep_of(clean, log=None, **others):
    """A sweep of outcomes by name; a list of rows is several draws. log: a shift of the log-probability by name."""
    rows = [("clean", clean), ("all=self", clean)]
    rows += [(name, row) for name, draws in others.items() for row in (draws if isinstance(draws, list) else [draws])]
    names = tuple(name for name, _ in rows)
    base = -np.linspace(0.5, 3, len(clean))
    return ablation.Sweep(
        names, np.array([row for _, row in rows]), np.array([base + (log or {}).get(name, 0.0) for name in names])
    )


def test_a_self_replacement_that_changes_an_answer_or_is_missing_blocks():
    clean = np.arange(50) < 30
    ablation.check_controls(sweep_of(clean, {"0=zero": -0.1}, **{"0=zero": clean}))  # a log-probability that moves is an effect
    with pytest.raises(MeasureError, match="^dead edit: none of 1 condition .0=zero. changes anything on 50 problems"):
        ablation.check_controls(sweep_of(clean, **{"0=zero": clean}))
    ablation.check_controls(sweep_of(clean, **{"0=resample": [clean, ~clean, clean]}))
    with pytest.raises(MeasureError, match="^nothing to lose: 60.0 % of 50"):
        ablation.check_controls(replace(sweep_of(clean, **{"0=zero": ~clean}), constant=0.5))
    for changed in (0, 49):  # one that was right, one that was wrong: a gain counts as well
        same = clean.copy()
        same[changed] ^= True
        sweep = ablation.Sweep(("clean", "all=self"), np.array([clean, same]), np.zeros((2, 50)))
        with pytest.raises(MeasureError, match="a control fails: .* changes 1 of 50 answers") as error:
            ablation.check_controls(sweep)
        assert "\n" not in str(error.value)
    with pytest.raises(MeasureError, match="condition '3=mean' was not run"):
        ablation.effect(sweep_of(clean), "3=mean")
    with pytest.raises(MeasureError, match="condition 'all=self' was not run"):
        ablation.check_controls(ablation.Sweep(("clean",), clean[None], np.zeros((1, 50))))


def test_no_change_is_no_effect():
    clean = np.arange(80) < 50
    found = ablation.effect(sweep_of(clean, **{"0=mean": clean}), "0=mean")
    assert found.drop.value == 0 and found.p == 1 and found.drop.low <= 0 <= found.drop.high
    assert found.log_probability == Interval(0.0, 0.0, 0.0)
    assert ablation.drop_word(found.drop, found.p, n=80).word is UNDERPOWERED
    assert ablation.drop_word(found.drop, found.p, n=80, delta=0.3).word is REFUTED


def test_effects_of_one_draw_are_the_plain_paired_numbers():
    made = planted.ablations(stream(0, "one draw"), n=200, drops=[0.3])
    found = ablation.effect(sweep_of(made.clean, {"2=zero": -0.25}, **{"2=zero": made.ablated[0]}), "2=zero")
    assert found.drop == newcombe_paired(made.clean, made.ablated[0])
    assert found.p == mcnemar_exact(made.clean, made.ablated[0], "greater")
    assert found.log_probability.value == pytest.approx(-0.25)
    assert found.log_probability.low == pytest.approx(-0.25) == found.log_probability.high
    assert ablation.drop_word(found.drop, found.p, n=200).word is SUPPORTED


def test_draws_are_averaged_problem_by_problem():
    rng = stream(0, "donors")
    clean = np.arange(100) < 60
    draws = [clean & (rng.random(100) > loss) for loss in (0.1, 0.4, 0.7)]
    sweep = sweep_of(clean, {"1=resample": -1.0}, **{"1=resample": draws})
    found = ablation.effect(sweep, "1=resample")
    assert found.drop.value == pytest.approx(clean.mean() - np.mean(draws))
    assert found.drop.low < found.drop.value < found.drop.high
    assert found.p == mcnemar_exact(clean, draws[0], "greater")
    assert found.log_probability.value == pytest.approx(-1.0)
    right, log = sweep.rows("1=resample")
    assert right.shape == log.shape == (3, 100) and np.array_equal(right, draws)


def effects_of(name, drops, n=800):
    made = planted.ablations(stream(0, name), n=n, drops=drops, baseline=0.6)
    sweep = sweep_of(made.clean, **{f"{t}=mean": row for t, row in enumerate(made.ablated)}, bot=~made.clean)
    return ablation.latents(sweep, len(drops))


def test_one_position_of_six_is_critical():
    found = effects_of("critical", [0.05, 0.05, 0.3, 0.05, 0.05, 0.05])
    verdict = ablation.critical_word(found, n=800)
    assert found.critical == (2,) and verdict.word is SUPPORTED
    assert verdict.why.startswith("latent 2: effect") and "Cochran's Q p = " in verdict.why
    assert ablation.none_word(found, n=800).word is REFUTED
    assert ablation.critical_word(found, n=800, claimed=[2, 4]).word is SUPPORTED
    elsewhere = ablation.critical_word(found, n=800, claimed=[4, 5])
    assert elsewhere.word is REFUTED and elsewhere.why.startswith(("latent 4", "latent 5"))
    doubted = replace(found, q_p=0.2, critical=())  # a contrast without Cochran's Q
    assert ablation.critical_word(doubted, n=800).word is UNDERPOWERED


def test_equal_positions_are_not_critical_and_with_problems_enough_none_is():
    few, many = effects_of("equal", [0.1] * 6, n=60), effects_of("equal", [0.1] * 6, n=3000)
    assert ablation.none_word(many, n=3000).word is SUPPORTED and ablation.critical_word(many, n=3000).word is REFUTED
    undecided = ablation.none_word(few, n=60)
    assert undecided.word is UNDERPOWERED and undecided.decide > 60
    assert ablation.critical_word(few, n=60).word is UNDERPOWERED


def test_a_position_that_only_fails_to_gain_is_not_critical():
    clean = np.arange(400) < 200
    gains = np.arange(400) < 300
    found = ablation.latents(sweep_of(clean, **{"0=zero": gains, "1=zero": clean, "2=zero": gains}), 3, "zero")
    assert found.contrasts[1].low > 0.05 and found.q_p < 0.001
    assert found.critical == () and ablation.critical_word(found, n=400).word is not SUPPORTED
