"""Early answers and the logit lens against plain loops; words of both on planted answers, and the model built by hand."""

import numpy as np
import pytest
import torch
from hand_built import NUMBERS, by_hand
from transformers import AutoTokenizer

from codi_bench.audits import reading
from codi_bench.audits.reading import choose_cell, enough_word, hit_word, readable
from codi_bench.errors import MeasureError
from codi_bench.models.answering import Pass, answer_early, capture
from codi_bench.models.reading import final_norm, lens_ranks, word_ids
from codi_bench.problems import Problem, generate
from codi_bench.rules.validity import Validity

K, NEW = 6, 6
QUESTIONS = [p.question for p in generate(6, seed=5)]


def test_an_early_answer_is_that_of_a_model_with_fewer_latents(tiny):
    found = answer_early(tiny.codi, QUESTIONS, range(K + 1), Pass(K, 4, NEW))
    assert len(found) == K + 1
    for k, answers in enumerate(found):
        assert answers == tiny.answer(QUESTIONS, num_latents=k, max_new_tokens=NEW), k
    assert found == answer_early(tiny.codi, QUESTIONS, range(K + 1), Pass(K, 1, NEW))


@pytest.mark.parametrize("carrier", (0, 4))
def test_the_model_built_by_hand_answers_once_its_latent_is_there(tiny_folders, carrier):
    codi = by_hand(AutoTokenizer.from_pretrained(tiny_folders["gpt2"]), carrier=carrier)
    found = answer_early(codi, ["Mia has 7 apples .", "Omar has 31 pens ."], range(K + 1), Pass(K, max_new_tokens=3))
    right = [answers.texts == ("7", "31") for answers in found]
    assert right == [k > carrier for k in range(K + 1)]


@torch.inference_mode()
def test_ranks_are_those_of_norm_and_head_one_state_at_a_time(tiny):
    codi, thought = tiny.codi, tiny.think(QUESTIONS[:3])
    words = [[[i, i + 1], [30 + i], []] for i in range(3)]
    found = lens_ranks(codi, thought.hidden_states, words)
    assert found.shape == (3, 1 + K, 6, 3) and (found[..., 2] == -1).all()
    head = codi.backbone.get_output_embeddings().weight
    for i, place, layer in ((0, 0, 0), (1, 3, 2), (2, 6, 4), (2, 2, 5)):
        state = torch.as_tensor(thought.hidden_states[i, place, min(layer, 4)])
        state = codi.projection(state) if layer == 5 else state if layer == 4 else final_norm(codi)(state)
        logits = head @ state
        for j, ids in enumerate(words[i][:2]):
            assert found[i, place, layer, j] == int((logits > logits[ids].max()).sum())


def test_the_lens_finds_the_number_where_the_model_built_by_hand_carries_it(tiny_folders):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folders["gpt2"])
    codi = by_hand(tokenizer, carrier=3)
    numbers = list(range(0, NUMBERS, 5))
    states = capture(codi, [f"Mia has {i} apples ." for i in numbers], Pass(K, 8, 0)).hidden_states
    words = [[word_ids(codi, str(i)), word_ids(codi, str((i + 5) % NUMBERS))] for i in numbers]
    ranks = lens_ranks(codi, states, words)
    assert choose_cell(ranks[..., 0]) == (3, 1)  # place 3: the latent before the carrier computes what the carrier is
    found = reading.hits(ranks[..., 0], ranks[..., 1], (3, 1))
    assert found.hit.value == 1 and found.shuffled.value == 0
    assert hit_word(found, found.p).word is Validity.SUPPORTED
    elsewhere = reading.hits(ranks[..., 0], ranks[..., 1], (5, 1))
    assert elsewhere.hit.value <= 1 / len(numbers) and hit_word(elsewhere, elsewhere.p).word is not Validity.SUPPORTED


def test_enough_is_a_loss_surely_below_the_margin():
    full = np.arange(400) < 300
    assert enough_word(full, full, 1.0, tests=6).word is Validity.SUPPORTED
    lost = full & (np.arange(400) >= 60)
    assert enough_word(full, lost, 1e-9, tests=6).word is Validity.REFUTED
    few = full[-120:] & (np.arange(120) > 2)
    assert enough_word(full[-120:], few, 0.5, tests=6).word is Validity.UNDERPOWERED


def test_a_value_is_read_only_where_the_question_does_not_say_it():
    problems = [Problem("", (), "0", str(i), operands=(i % 3, 9), values=(float(i % 7), 0.0)) for i in range(200)]
    values = [problem.values[0] for problem in problems]
    rows, other = readable(problems, values, seed=0)
    assert 40 < len(rows) < 200 and all(
        not {values[i], values[j]} & set(problems[i].operands) for i, j in zip(rows, other, strict=True)
    )
    assert any(values[i] == values[j] for i, j in zip(rows, other)) and len(set(other.tolist())) == len(other)
    assert np.array_equal(readable(problems, values, seed=0)[1], other)
    with pytest.raises(MeasureError, match="single id"):
        reading.hits(np.full((3, 2, 2), -1), np.zeros((3, 2, 2), int), (0, 0))
