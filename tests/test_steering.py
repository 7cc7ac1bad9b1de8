"""Directions on thoughts whose values are planted, the doses chosen and counted on different pairs, and a model built by hand."""

import numpy as np
import pytest
from hand_built import NUMBERS, by_hand
from transformers import AutoTokenizer

from codi_bench.audits.patching import Patch
from codi_bench.audits.steering import KINDS, MEAN, PROBE, RANDOM, SAE, StepLatents, directions, dose
from codi_bench.claims.runs import condition_of
from codi_bench.errors import MeasureError
from codi_bench.measures.sae import train_topk_sae
from codi_bench.models.answering import Pass, capture
from codi_bench.models.patching import answer_patched
from codi_bench.rules.stats import stream
from codi_bench.rules.validity import Validity


def planted(values=6, each=30, d=24, noise=0.3):
    rng = stream(0, "steering")
    centres = rng.standard_normal((values, d)).astype(np.float32)
    labels = np.repeat(np.arange(values), each)
    return centres, StepLatents(centres[labels] + noise * rng.standard_normal((len(labels), d)).astype(np.float32), labels)


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_directions_lead_from_one_value_to_the_other_and_are_equally_long():
    centres, known = planted()
    sae = train_topk_sae(known.latents, features=12, k=2, epochs=60, seed=0)
    start, end = [0, 1, 5], [3, 2, 0]
    found = directions(known, start, end, sae=sae, rng=stream(1))
    assert found.keys() == {*KINDS, RANDOM}
    wanted = centres[end] - centres[start]
    for kind, least in ((MEAN, 0.98), (PROBE, 0.6), (SAE, 0.75)):
        assert cosine(found[kind], wanted).min() > least, kind
    assert np.abs(cosine(found[RANDOM], wanted)).max() < 0.7
    lengths = [np.linalg.norm(each, axis=1) for each in found.values()]
    assert all(np.allclose(each, lengths[0], rtol=1e-5) for each in lengths)
    centres, two = planted(values=2)  # two values have a probe too
    assert cosine(directions(two, [0], [1], sae=None, rng=stream(1))[PROBE], centres[[1]] - centres[[0]])[0] > 0.6
    with pytest.raises(MeasureError, match="value 9 has fewer than 4 examples"):
        directions(known, [9], [1], sae=None, rng=stream(1))


def test_place_and_strength_are_chosen_on_one_half_and_counted_on_the_other():
    """A place that follows in the first half alone is chosen, and found out."""
    n = 200
    none, lucky, true = np.zeros(n, bool), np.arange(n) < n // 2, np.arange(n) % 2 == 0
    found = dose(
        MEAN,
        {(MEAN, 0, 1.0): true, (MEAN, 1, 1.0): lucky, (RANDOM, 0, 1.0): none, (RANDOM, 1, 1.0): none},
        dict.fromkeys([(MEAN, 0, 1.0), (MEAN, 1, 1.0)], none),
    )
    assert (found.place, found.follow.value, found.n) == (1, 0, 100) and found.word(found.p).word is Validity.REFUTED
    follows = {(MEAN, 0, 1.0): true, (MEAN, 0, 2.0): none, (RANDOM, 0, 1.0): none, (RANDOM, 0, 2.0): none}
    found = dose(MEAN, follows, dict.fromkeys(follows, ~true))
    assert (found.place, found.strength, found.follow.value, found.neither.value) == (0, 1.0, 0.5, 0)
    assert found.word(found.p).word is Validity.SUPPORTED and found.curve == {1.0: 0.5, 2.0: 0.0}


def test_the_model_built_by_hand_is_steered_at_its_latent_and_not_at_others(tiny_folders, carrier=2):
    codi = by_hand(AutoTokenizer.from_pretrained(tiny_folders["gpt2"]), carrier=carrier)
    numbers = list(range(0, NUMBERS, 10))
    ask = [f"Mia has {i} apples ." for i in numbers for _ in range(4)]
    latents = capture(codi, ask, Pass(6, 40, 0)).latents
    start = numbers * 4
    end = [numbers[(i + 3) % 10] for i in range(10)] * 4
    own = capture(codi, [f"Omar has {i} pens ." for i in start], Pass(6, 40, 0)).latents
    vectors, follows = {}, {}
    for place in (carrier, 4):
        known = StepLatents(latents[:, place], np.repeat(numbers, 4))
        for kind, step in directions(known, start, end, sae=None, rng=stream(2)).items():
            added = own[:, :6].copy()
            added[:, place] += 2 * step
            vectors[f"{kind} {place}"] = added
    patches = [Patch(name, (int(name[-1]),)) for name in vectors]
    asked = [f"Omar has {i} pens ." for i in start]
    conditions = [condition_of(patch, {}, vectors) for patch in patches]
    clean, found = answer_patched(codi, asked, conditions, Pass(6, max_new_tokens=3), stream(3))
    assert clean.texts == tuple(map(str, start))
    for patch, answers in zip(patches, found):
        kind = patch.source[:-2]
        follows[kind, patch.places[0], 2.0] = np.array([text == str(v) for text, v in zip(answers.texts, end)])
    for kind in (MEAN, PROBE):
        assert follows[kind, carrier, 2.0].all() and not follows[kind, 4, 2.0].any()
    assert follows[RANDOM, carrier, 2.0].mean() < 0.2
