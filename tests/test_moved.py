"""States, keys and values moved by affine maps: against a plain loop, and against what another run had there."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain import plain
from transformers import AutoModelForCausalLM

from codi_bench.errors import EditError, ProblemError
from codi_bench.models.codi import Codi
from codi_bench.models.conditions import CLEAN, Affine, AtCue, Fed, KeysMoved, Patched
from codi_bench.models.cue import cue_ids
from codi_bench.models.loading import load
from codi_bench.problems import generate

NEW, K = 4, 6
QUESTIONS = [p.question for p in generate(9, seed=3)]
RNG = np.random.default_rng(0)


def every(tiny, factor: float, offset: float = 0.0) -> Affine:
    """The same map of all keys and values of a place."""
    shape = tiny.keys_and_values(QUESTIONS[:1]).shape[2:]
    eye = np.tile(factor * np.eye(shape[-1], dtype=np.float32), (*shape[:-1], 1, 1))
    return Affine(eye, np.full(shape, offset, np.float32))


@pytest.fixture(params=("gpt2", "llama", "grouped"))
def tiny(request, tiny_folders):
    """One family after the other, and a Llama whose two heads share their keys and values."""
    model = load(tiny_folders[request.param.replace("grouped", "llama")], device="cpu")
    if request.param != "grouped":
        return model
    config = copy.deepcopy(model.codi.backbone.config)
    config.num_key_value_heads = 1
    torch.manual_seed(0)
    backbone = AutoModelForCausalLM.from_config(config).eval()
    codi = model.codi
    return replace(
        model, codi=Codi(backbone, codi.projection, codi.tokenizer, vocab_size=codi.vocab_size, num_latents=codi.num_latents)
    )


def answers(tiny, conditions, **settings):
    return tiny.answers(QUESTIONS, conditions, max_new_tokens=NEW, **settings)


def test_answers_behind_the_cue_are_those_of_a_plain_loop_moved_or_not(tiny):
    codi, d = tiny.codi, tiny.width
    matrix, offset = RNG.standard_normal((2, d, d)).astype(np.float32)
    move, same = Affine(matrix, offset[0]), Affine(np.eye(d, dtype=np.float32), np.zeros(d, np.float32))
    clean, identity, moved = answers(tiny, [AtCue(), AtCue(same), AtCue(move)])
    cue = cue_ids(codi)
    assert codi.tokenizer.decode(cue).replace(" ", "") == "Theansweris:"

    def by_hand(state):
        return state @ torch.tensor(matrix) + torch.tensor(offset[0])

    assert clean == identity != moved
    assert list(clean.tokens) == [plain(codi, q, cue=cue, new=NEW).tokens for q in QUESTIONS]
    assert list(moved.tokens) == [plain(codi, q, cue=cue, moved=by_hand, new=NEW).tokens for q in QUESTIONS]
    assert [t[1:] for t in moved.tokens] != [t[1:] for t in clean.tokens]  # what follows goes on from the other token
    for conditions in ([AtCue(move)], [CLEAN, AtCue(move)], [AtCue(move)] * 20):
        assert answers(tiny, conditions, batch_size=2)[-1] == moved


def test_the_states_at_the_cue_are_those_that_are_read(tiny):
    found = tiny.at_cue(QUESTIONS, batch_size=4)
    assert found.states.shape == (9, tiny.width) and (found.states == tiny.at_cue(QUESTIONS).states).all()
    logits = tiny.codi.answer_logits(torch.tensor(found.states)).detach()
    ids = tiny.codi.answer_ids(logits).tolist()
    assert ids == [tokens[0] for tokens in answers(tiny, [AtCue()])[0].tokens]
    best = logits.sort().values
    assert np.allclose(found.margin, best[:, -1] - best[:, -2], atol=1e-5) and (found.margin > 0).all()


@pytest.mark.parametrize("place", (0, 3, 5))
def test_keys_moved_to_those_of_another_run_are_that_run_s(tiny, place):
    donor, heads = QUESTIONS[-1], getattr(tiny.codi.backbone.config, "num_key_value_heads", 2)
    assert tiny.keys_and_values(QUESTIONS).shape == (9, K, tiny.num_layers, 2, heads, 16)
    keys = tiny.keys_and_values([donor])[0, place]
    other = Affine(np.zeros((*keys.shape, keys.shape[-1]), np.float32), keys)
    clean, same, patched, moved, zero = answers(
        tiny,
        [
            CLEAN,
            KeysMoved(place, every(tiny, 1.0)),
            Patched((donor,) * 9, (place,), keys_only=True),
            KeysMoved(place, other),
            KeysMoved(place, every(tiny, -3.0, 2.0)),
        ],
    )
    assert same == clean and moved == patched and zero != clean
    together = [KeysMoved(place, other), KeysMoved((place + 1) % K, every(tiny, 0.0))] * 9
    assert answers(tiny, together, batch_size=2)[-2] == moved


def test_a_map_that_does_not_fit_is_refused(tiny):
    wrong = Affine(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    with pytest.raises(EditError, match=f"a state of width {tiny.width} cannot be changed by a map of shape"):
        answers(tiny, [AtCue(wrong)])
    with pytest.raises(EditError, match="keys and values need a map of shape"):
        answers(tiny, [KeysMoved(1, wrong)])
    with pytest.raises(EditError, match="6=keys and values moved.*latent positions 0..5"):
        answers(tiny, [KeysMoved(6, wrong)])
    if tiny.codi.num_positions:
        with pytest.raises(ProblemError, match="the longest question with bot, thoughts, eot and cue"):
            tiny.at_cue([" ".join(["apples"] * tiny.codi.num_positions)])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("what", ["keys", "cue", "fed"])
def test_what_is_not_finite_is_no_edit(tiny, bad, what):
    """Its answers would run to the limit of tokens."""
    d = tiny.width
    condition = {
        "keys": KeysMoved(0, every(tiny, 1.0, bad)),
        "cue": AtCue(Affine(np.eye(d, dtype=np.float32), np.full(d, bad, np.float32))),
        "fed": Fed(np.full((1, K, d), bad, np.float32)),
    }[what]
    with pytest.raises(EditError, match=r"conditions\[0\]\.(move|latents) must be finite"):
        tiny.answers(QUESTIONS[:1], [condition], max_new_tokens=1)
