"""Crosscoders and alignment where the truth is known: rotated copies share everything, unrelated models nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codi_bench.audits import sharing as audit
from codi_bench.audits.sharing import OTHERS, SURFACE, UNTRAINED, Sharing, across, aligned_cka, aligned_features, shared_p
from codi_bench.claims import CLAIMS
from codi_bench.errors import MeasureError
from codi_bench.measures.crosscoder import cka, match, standardised, train_crosscoder
from codi_bench.measures.sae import train_topk_sae
from codi_bench.models.loading import load
from codi_bench.models.registry import REGISTRY
from codi_bench.records.results import Row, read_results, write_results
from codi_bench.rules.stats import stream
from codi_bench.rules.validity import Validity
from codi_bench.suite.engine import record_of
from codi_bench.suite.suite import Suite

N, K, FEATURES, ACTIVE = 800, 3, 24, 2
WIDTH = 64  # so many features has a crosscoder: room for those of two unrelated models


def thoughts(seed: int, width: int, features: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Thoughts [N, K, width] that are sums of a few directions, and how much of each [N, K, FEATURES]."""
    rng = stream(seed, "planted thoughts", str(width))
    if features is None:
        features = rng.uniform(0.5, 1.5, (N, K, FEATURES)) * (rng.random((N, K, FEATURES)).argsort(-1) < ACTIVE)
    directions = rng.standard_normal((FEATURES, width))
    return (features @ (directions / np.linalg.norm(directions, axis=1, keepdims=True))).astype(np.float32), features


def rotation(width: int) -> np.ndarray:
    return np.linalg.qr(stream(3, "rotation").standard_normal((width, width)))[0].astype(np.float32)


@pytest.fixture(scope="module")
def pair():
    """A model of width 64, a copy under a rotation, another one of width 80 with the same features, and an unrelated one."""
    one, features = thoughts(0, WIDTH)
    return {
        "one": one,
        "rotated": one @ rotation(WIDTH),
        "wider": thoughts(1, 80, features)[0],
        "unrelated": thoughts(2, WIDTH)[0],
    }


SIDES = np.arange(600), np.arange(600, N)


def crossed(a, b):
    return audit.sharing(a, b, *SIDES, seed=0, epochs=40)


def test_copies_share_every_feature_and_unrelated_models_none(pair):
    rotated, wider, unrelated = (crossed(pair["one"], pair[name]) for name in ("rotated", "wider", "unrelated"))
    for same in (rotated, wider):
        assert same.both >= 0.95 * same.alive and same.alive >= 20 and min(same.explained) > 0.9
    assert unrelated.both <= 0.1 * unrelated.alive and unrelated.only_first >= 8 <= unrelated.only_second
    assert shared_p(wider, {OTHERS: unrelated})[OTHERS] < 1e-6
    p = {OTHERS: 1e-6, UNTRAINED: 1e-6}
    assert audit.shared_word(wider, {OTHERS: unrelated}, p).word is Validity.SUPPORTED


def test_a_control_that_shares_as_much_makes_it_an_artefact():
    def of(both, alive):
        return Sharing(alive - both, both, 0, (0.9, 0.9), np.zeros(0), np.zeros(0, bool))

    controls = {OTHERS: of(10, 100), UNTRAINED: of(80, 100)}
    p = shared_p(of(60, 100), controls)
    assert p[OTHERS] < 1e-6 and p[UNTRAINED] > 0.9
    assert audit.shared_word(of(60, 100), controls, p).word is Validity.ARTEFACT
    effect = audit.over(of(60, 100), controls[UNTRAINED])
    assert effect.value == pytest.approx(-0.2) and effect.high < 0


def test_half_of_the_features_shared_is_said_so(pair):
    one, features = thoughts(0, WIDTH)
    mixed = features.copy()
    mixed[..., FEATURES // 2 :] = thoughts(2, WIDTH)[1][..., FEATURES // 2 :]
    made = train_crosscoder(
        one.reshape(-1, WIDTH), thoughts(4, WIDTH, mixed)[0].reshape(-1, WIDTH), features=36, k=3, epochs=40, seed=0
    )
    middle = ((made.ratio() > 0.3) & (made.ratio() < 0.7)).mean()
    assert 0.2 < middle < 0.7 and (made.ratio() < 0.3).any() and (made.ratio() > 0.7).any()


def test_a_crosscoder_is_the_same_again_and_refuses_what_it_cannot_use(pair):
    a, b = pair["one"].reshape(-1, WIDTH), pair["unrelated"].reshape(-1, WIDTH)
    first, second = (train_crosscoder(a, b, features=8, k=2, epochs=1, seed=5) for _ in range(2))
    assert torch.equal(first.decoder_a, second.decoder_a) and torch.equal(first.encoder_b, second.encoder_b)
    assert first.encode(pair["one"], pair["unrelated"]).shape == (N, K, 8)
    for wrong, message in (
        ((a, b[:-1], 8, 2), "aligned"),
        ((a, np.full_like(b, np.nan), 8, 2), "finite"),
        ((a, np.ones_like(b), 8, 2), "differ"),
        ((a, b, 8, 9), "k must be"),
    ):
        with pytest.raises(MeasureError, match=message):
            train_crosscoder(wrong[0], wrong[1], features=wrong[2], k=wrong[3], seed=0)


def test_cka_is_one_for_a_rotation_and_that_of_the_formula(pair):
    a, b = pair["one"].reshape(-1, WIDTH), pair["wider"].reshape(-1, 80)
    assert cka(a, 3 * a @ rotation(WIDTH) + 1) == pytest.approx(1, abs=1e-5)
    centred = [v.astype(float) - v.mean(0) for v in (a, b)]
    k, m = (v @ v.T for v in centred)
    assert cka(a, b) == pytest.approx((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()), abs=1e-5)
    with pytest.raises(MeasureError, match="differ"):
        cka(a, np.ones_like(b))


def test_alignment_is_found_where_features_are_the_same_and_not_where_they_are_not(pair):
    same = aligned_cka(pair["one"], pair["wider"], pair["unrelated"], permutations=99, seed=0)
    assert same.gain.low > 0.2 and same.p == {OTHERS: 0.01, UNTRAINED: pytest.approx(0, abs=1e-4)} and same.n == N
    other = aligned_cka(pair["one"], pair["unrelated"], pair["wider"], permutations=99, seed=0)
    assert other.p[UNTRAINED] > 0.9 and other.gain.high < 0
    assert audit.aligned_word(same, same.p).word is Validity.SUPPORTED
    assert audit.aligned_word(other, other.p).word is Validity.REFUTED


def test_features_of_separate_saes_are_matched(pair):
    train, test = SIDES
    saes = {
        name: train_topk_sae(x[train].reshape(-1, x.shape[-1]), features=FEATURES, k=ACTIVE, epochs=40, lr=3e-3, seed=0)
        for name, x in pair.items()
    }
    chosen = [saes[name] for name in ("one", "wider", "unrelated")]
    found = aligned_features(
        *chosen, [pair[name] for name in ("one", "wider", "unrelated")], train, test, permutations=99, seed=0
    )
    assert found.value.value > 0.6 and abs(found.untrained) < 0.1 and abs(found.null.mean()) < 0.05
    assert found.value.low < found.value.value < found.value.high and found.p[OTHERS] == 0.01


def test_features_are_matched_one_to_one():
    rng = stream(0, "matching")
    f = standardised(rng.standard_normal((200, 6)), np.arange(200))
    left, right = match(f, f[:, ::-1])
    assert left.tolist() == list(range(6)) and right.tolist() == [5, 4, 3, 2, 1, 0]
    assert (standardised(np.ones((5, 2)), np.arange(5)) == 0).all()


def errors(beyond: float, columns: int = 1, seed: int = 0, *, aware: bool = False):
    """Two models' errors: both hang on the surface, and by `beyond` on one feature that is no part of it.

    aware: does the model's own confidence tell all that makes its errors?
    """
    rng = stream(seed, "planted errors")
    surface, feature = rng.standard_normal((2, 1000))
    own, theirs = (rng.random(1000) < 1 / (1 + np.exp(-(surface + beyond * feature))) for _ in range(2))
    design = np.column_stack([surface, rng.standard_normal((1000, columns - 1))])
    features = np.column_stack([surface, feature, rng.standard_normal((1000, 6))]).astype(np.float32)
    sides = np.arange(800), np.arange(800, 1000)
    shared = {"groups": [str(i) for i in range(1000)], "surface": design, "permutations": 199, "seed": 0}
    confidence = (surface + beyond * feature if aware else rng.standard_normal(1000))[:, None]
    return across(features, theirs, own, *sides, confidence=confidence, **shared)


def test_errors_are_told_across_models_where_a_shared_feature_makes_them_and_not_where_the_surface_does():
    told, not_told = errors(2.0), errors(0.0)
    assert told.added.low > 0 and max(told.p.values()) <= 0.01
    assert audit.across_word(told, told.p).word is Validity.SUPPORTED
    assert not_told.auc.low > 0.5 and not_told.p[SURFACE] > 0.025  # the surface alone tells errors, and the test knows it
    assert audit.across_word(not_told, not_told.p).word is not Validity.SUPPORTED


def test_what_a_model_knows_of_its_own_errors_is_not_told_by_features_that_it_shares():
    blind, aware = errors(2.0).over_confidence, errors(2.0, aware=True).over_confidence
    assert abs(blind.alone.value - 0.5) < 0.1 and blind.word(blind.p, n=200).word is Validity.SUPPORTED
    assert aware.alone.value > 0.8 and aware.word(aware.p, n=200).word is not Validity.SUPPORTED and aware.gain.value < 0.02


def test_a_surface_of_many_columns_is_not_fitted_to_the_few_held_out_problems():
    added = [errors(0.0, columns=50, seed=seed).added for seed in range(8)]
    assert abs(np.mean([each.value for each in added])) < 0.03 and sum(each.low > 0 for each in added) <= 1


def test_an_untrained_model_has_other_weights_and_leaves_the_random_numbers_alone():
    model = load("gpt2-mini", device="cpu")
    before = torch.random.get_rng_state()
    one, again, other = model.untrained(0), model.untrained(0), model.untrained(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    question = ["Tom has 3 apples and buys 4 more. How many apples does Tom have?"]
    states = [np.asarray(m.think(question).hidden_states) for m in (model, one, again, other)]
    assert (
        np.array_equal(states[1], states[2]) and not np.allclose(states[1], states[3]) and not np.allclose(states[0], states[1])
    )
    assert len({m.fingerprint for m in (model, one, other)}) == 3


def test_the_partner_is_the_registered_one_or_the_other_one_of_two(tmp_path, monkeypatch):
    monkeypatch.setenv("CODI_BENCH_CACHE", str(tmp_path))
    own = [f"{name}={REGISTRY[model].folder}" for name, model in (("a", "gpt2-mini"), ("b", "llama-mini"), ("c", "gpt2-mini"))]

    def partners(models, **more):
        suite = Suite(models=models, report=tmp_path, **more)
        found = {}
        for name in ("a", "b", "c", "gpt2-mini"):
            if name in {asked.name for asked in suite.asked_models}:
                try:
                    found[name] = suite.bench_of(name)[0].partner.model.name
                except MeasureError as error:
                    found[name] = str(error)
        return found

    assert partners(own[:2]) == {"a": "b", "b": "a"}
    assert partners(["gpt2-mini"]) == {"gpt2-mini": "llama-mini"}
    for alone in (own[:1], own):
        told = partners(alone)
        assert told["a"] == "a has no model to be compared with: give a second one, --model NAME=FOLDER"

    suite = Suite(models=own[:1], report=tmp_path, n=16)
    outcome = suite.measure(suite.asked_models[0], CLAIMS["alignment"])
    assert outcome.word == "blocked" and outcome.lines == [told["a"]]  # and not red: nothing was measured that could have moved


def test_what_takes_two_models_is_recorded_with_the_weights_of_both(tmp_path, monkeypatch):
    monkeypatch.setenv("CODI_BENCH_CACHE", str(tmp_path))
    suite = Suite(models=["gpt2-mini"], report=tmp_path)
    bench = suite.bench_of("gpt2-mini")[0]
    for name, partner in (("alignment", bench.partner.model.fingerprint), ("size", None)):
        assert record_of(bench, CLAIMS[name], {}).partner == partner


@pytest.mark.parametrize("over", [[-0.13, -0.26, 0.01], [0.2, None, None], "raw"])
def test_what_a_share_is_over_is_read_again_from_results(tmp_path, over):
    """The whole of `shared-features` could be written and not be read."""
    number = {"value": 0.5, "low": 0.4, "high": 0.6}
    row = Row(
        "shared-features", "gpt2-mini", "shared", "sound", "ok", unit="fraction", n=9, measured=number, detail={"over": over}
    )
    write_results(tmp_path / "results.json", {}, [row])
    assert read_results(tmp_path / "results.json")[1] == [row]
