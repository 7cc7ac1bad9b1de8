"""The latent loop against a plain one: no batch, no cache, no padding; and what edits change and what they never change."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import plain

from codi_bench.errors import EditError, ProblemError
from codi_bench.models import answering, loop
from codi_bench.models import codi as codi_module
from codi_bench.models.answering import Pass, batches
from codi_bench.models.conditions import Edited
from codi_bench.models.edits import Edit, Reference, parse_edit, replacements
from codi_bench.models.loading import load
from codi_bench.problems import generate
from codi_bench.thoughts.record import Thoughts

K, NEW = 6, 6
PLACES = ("bot", *range(K))
PROBLEMS = generate(16, seed=3)
QUESTIONS = [p.question for p in PROBLEMS]
SOME = [QUESTIONS[i] for i in (0, 5, 9, 14)]
OTHERS = generate(40, seed=4, split="train")


def edited(model, questions, conditions, answers=(), **options):
    return model.answers(questions, [Edited(tuple(edits)) for edits in conditions], golds=answers, **options)


def own(problems):
    return {"answers": [p.answer for p in problems], "groups": [p.group for p in problems]}


@pytest.fixture(scope="module")
def clean(tiny):
    """Thoughts and answers of all questions, one at a time."""
    return tiny.think(QUESTIONS, batch_size=1, max_new_tokens=NEW)


@pytest.fixture(scope="module")
def reference(tiny):
    return tiny.reference([p.question for p in OTHERS], **own(OTHERS))


class Fed:
    """What the backbone is fed: one tensor [b, s, d] a call."""

    def __init__(self, codi):
        self.inputs = []
        self.handle = codi.backbone.base_model.register_forward_pre_hook(self.note, with_kwargs=True)

    def note(self, module, args, kwargs):
        self.inputs.append(kwargs["inputs_embeds"].detach().clone())

    def __enter__(self):
        return self.inputs

    def __exit__(self, *error):
        self.handle.remove()


# The clean run


@pytest.mark.parametrize("latents", [0, 3, K])
def test_the_loop_is_the_plain_one(tiny, clean, latents):
    found = tiny.think(SOME, num_latents=latents, batch_size=4, max_new_tokens=NEW)
    assert found.hidden_states.shape == (4, 1 + latents, 5, 32) and found.latents.shape == (4, latents + 1, 32)
    assert found.first_logits.shape == (4, tiny.codi.vocab_size + 2)
    for i, question in enumerate(SOME):
        wanted = plain(tiny.codi, question, latents=latents)
        np.testing.assert_allclose(found.hidden_states[i], wanted.hidden, atol=1e-4)
        np.testing.assert_allclose(found.latents[i], wanted.latents, atol=1e-4)
        np.testing.assert_allclose(found.first_logits[i], wanted.first, atol=1e-4)
        assert found.answers.tokens[i] == wanted.tokens
    assert tiny.answer(SOME, num_latents=latents, max_new_tokens=NEW) == found.answers
    assert tiny.think(SOME, num_latents=latents).answers is None
    with pytest.raises(ValueError, match="num_latents must be a whole number, at least 0"):
        tiny.think(SOME, num_latents=-1)


@settings(max_examples=16)
@given(st.lists(st.integers(0, len(PROBLEMS) - 1), min_size=1, max_size=16), st.integers(1, 20), st.booleans())
def test_neither_the_neighbours_of_a_problem_nor_the_batch_size_matter(tiny, clean, chosen, size, padded):
    """Up to rounding: the last of an odd number of rows of one length is multiplied another way on some CPUs."""
    questions = [QUESTIONS[i] for i in chosen]
    with pytest.MonkeyPatch.context() as patch:
        if padded:
            patch.setattr(answering, "_alone", lambda model: False)
        found = tiny.think(questions, batch_size=size, max_new_tokens=NEW)
        assert tiny.answer(questions, batch_size=size, max_new_tokens=NEW) == found.answers
    assert len(set(clean.answers.tokens)) > 8  # or nothing could have differed
    assert found.answers.tokens == tuple(clean.answers.tokens[i] for i in chosen)
    assert found.answers.texts == tuple(clean.answers.texts[i] for i in chosen)
    for name in ("hidden_states", "latents", "first_logits"):
        wanted = getattr(clean, name)[chosen]
        np.testing.assert_allclose(getattr(found, name), wanted, atol=1e-5, rtol=0, err_msg=name)


def test_answers_end_at_eos_and_finished_problems_leave_the_batch(tiny, padded, monkeypatch):
    monkeypatch.setattr(tiny.codi, "eos_id", -1)
    endless = tiny.answer(QUESTIONS, max_new_tokens=NEW).tokens
    assert {len(t) for t in endless} == {NEW}
    ends = max(range(tiny.codi.vocab_size), key=lambda i: sum(i in t[1:-1] for t in endless))
    monkeypatch.setattr(tiny.codi, "eos_id", ends)
    with Fed(tiny.codi) as fed:
        found = tiny.answer(QUESTIONS, max_new_tokens=NEW, batch_size=64)
    assert found.tokens == tuple(t[: t.index(ends) + 1] if ends in t else t for t in endless)
    sizes = [len(inputs) for inputs in fed[K + 2 :]]
    needed = [sum(len(t) > i for t in found.tokens) for i in range(len(sizes))]
    assert len(sizes) == max(map(len, found.tokens))
    assert all(need <= size for need, size in zip(needed, sizes))
    assert all(0.75 * size < need for need, size in zip(needed[1:], sizes[1:]))  # a quarter may wait before the batch shrinks


@pytest.mark.parametrize("new", [1, 3])
def test_answers_stop_at_max_new_tokens(tiny, clean, new):
    assert tiny.answer(QUESTIONS, max_new_tokens=new).tokens == tuple(t[:new] for t in clean.answers.tokens)


def test_double_spaces_are_collapsed(tiny, clean):
    assert tiny.answer([f"  {QUESTIONS[0].replace(' ', '  ')} "], max_new_tokens=NEW).tokens == clean.answers.tokens[:1]


def test_explain_is_plain_and_batch_invariant(tiny):
    found = tiny.explain(QUESTIONS, batch_size=64, max_new_tokens=NEW)
    assert found == tiny.explain(QUESTIONS, batch_size=7, max_new_tokens=NEW)
    assert [found.tokens[QUESTIONS.index(q)] for q in SOME] == [plain(tiny.codi, q, in_words=True).tokens for q in SOME]
    assert len(set(found.tokens)) > 5


# Edits


def under(tiny, questions, replaced):
    """First logits and tokens where at some places other values [n, d] are fed."""
    kept = Thoughts(first_logits=np.empty((len(questions), tiny.codi.vocab_size + 2), np.float32))
    (answers,) = answering.answer_edited(tiny.codi, questions, [replaced], Pass(K, 4, NEW), keep=kept)
    return kept.first_logits, answers.tokens


@pytest.mark.parametrize("places", [(3,), ("bot", 0), ("bot",), (5,), (1, 4), tuple(range(K))], ids=str)
def test_edits_are_the_plain_loop_with_another_input(tiny, clean, places):
    """Each problem's own, whatever the order of a batch."""
    answers = tiny.answer(SOME, edits=[Edit(p, "zero") for p in places], max_new_tokens=NEW, batch_size=4)
    values = np.random.default_rng(0).standard_normal((len(places), len(SOME), 32)).astype(np.float32)
    first, tokens = under(tiny, SOME, dict(zip(places, values)))
    for i, question in enumerate(SOME):
        assert answers.tokens[i] == plain(tiny.codi, question, dict.fromkeys(places, torch.zeros(32))).tokens
        wanted = plain(tiny.codi, question, {place: torch.tensor(value[i]) for place, value in zip(places, values)})
        np.testing.assert_allclose(first[i], wanted.first, atol=1e-4)
        assert tokens[i] == wanted.tokens
        assert abs(first[i] - clean.first_logits[QUESTIONS.index(question)]).max() > 1e-3  # the edit did something


def test_all_replaces_each_latent_position_and_no_other(tiny):
    with Fed(tiny.codi) as fed:
        found = tiny.answer(QUESTIONS, edits=[Edit("all", "zero")], max_new_tokens=NEW)
    assert found == tiny.answer(QUESTIONS, edits=[Edit(k, "zero") for k in range(K)], max_new_tokens=NEW)
    assert [not inputs.any() for inputs in fed[: 2 + 2 * K]] == [False] * (2 + K) + [True] * K


def test_the_mean_is_that_of_the_reference(tiny, reference):
    values = replacements([Edit(2, "mean")], num_latents=K, width=32, n=4, reference=reference, answers=(), groups=(), rng=None)
    mean = tiny.think([p.question for p in OTHERS], batch_size=1).latents[:, 2].mean(0)
    np.testing.assert_allclose(values[2], np.tile(mean, (4, 1)), atol=1e-5)
    found = tiny.answer(SOME, edits=[Edit(2, "mean")], reference=reference, max_new_tokens=NEW)
    assert list(found.tokens) == [plain(tiny.codi, q, {2: torch.from_numpy(mean)}).tokens for q in SOME]


def test_resampled_thoughts_are_those_of_donors_at_the_same_place(tiny, reference, padded):
    with Fed(tiny.codi) as fed:
        tiny.answer(QUESTIONS, edits=[Edit(4, "resample")], reference=reference, **own(PROBLEMS), max_new_tokens=1)
    (replaced,) = [x[:, 0].numpy() for x in fed[2 + K :][:1]]
    distance = abs(replaced[:, None] - reference.latents[None, :, 4]).max(-1)
    assert (distance.min(1) == 0).all() and len(set(distance.argmin(1))) > 10


@given(st.lists(st.tuples(st.sampled_from("123"), st.sampled_from("abc")), min_size=1), st.integers(0, 2**31))
def test_donors_have_another_group_and_another_answer(rows, seed):
    donors = [("1", "a"), ("2", "b"), ("3", "c"), ("1", "b"), ("2", "a")]
    index = np.broadcast_to(np.arange(5, dtype=np.float32)[:, None, None], (5, K + 1, 1))
    reference = Reference(index, *map(tuple, zip(*donors)))
    answers, groups = zip(*rows)
    values = replacements(
        [Edit("all", "resample")],
        num_latents=K,
        width=1,
        n=len(rows),
        reference=reference,
        answers=answers,
        groups=groups,
        rng=np.random.default_rng(seed),
    )
    assert values.keys() == set(range(K))
    for place in range(K):
        for row, donor in zip(rows, values[place][:, 0].astype(int), strict=True):
            assert row[0] != donors[donor][0] and row[1] != donors[donor][1]


@pytest.mark.parametrize("place", PLACES)
def test_noise_has_the_norm_it_replaces(tiny, padded, place):
    with Fed(tiny.codi) as fed:
        tiny.answer(QUESTIONS, edits=[Edit(place, "noise")], max_new_tokens=1)
    at = PLACES.index(place)
    original, noise = fed[1 + at][:, 0], fed[2 + K][:, 0]
    torch.testing.assert_close(noise.norm(dim=1), original.norm(dim=1))
    assert torch.cosine_similarity(noise, original).abs().mean() < 0.4
    assert len(noise.unique(dim=0)) == len(PROBLEMS)


def test_conditions_share_everything_before_their_edit(tiny, padded):
    conditions = [[], *([Edit(k, "zero")] for k in range(K))]
    ids = tiny.codi.tokenizer(QUESTIONS[0])["input_ids"]
    with Fed(tiny.codi) as fed:
        edited(tiny, QUESTIONS[:1] * 3, conditions, max_new_tokens=1, batch_size=8)
    together = [(3, k + 1) for k in range(K)] + [(3, len(conditions))]  # the edits of 0..k after place k, and at last eot
    assert [tuple(x.shape[:2]) for x in fed] == [(3, len(ids))] + [(3, 1)] * (1 + K) + together
    for k, inputs in enumerate(fed[2 + K : -1]):
        assert not inputs[:, k].any() and (k == 0 or inputs[:, :k].any())  # the first thing fed after the shared part is the edit


@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
def test_what_makes_large_models_fast_changes_nothing(tiny, tiny_folders, clean, padded, monkeypatch, wide):
    """Groups of questions encoded apart and joined; oneDNN's products and the one-pass GELU of wide models."""
    conditions = [[], [Edit("bot", "zero")], [Edit(2, "zero")]]
    wanted = edited(tiny, QUESTIONS, conditions, max_new_tokens=NEW)
    groups = []

    def threes(model, lengths):
        found = [list(range(i, min(i + 3, len(lengths)))) for i in range(0, len(lengths), 3)][::-1]
        groups.append(len(found))
        return found

    monkeypatch.setattr(loop, "_similar", threes)
    monkeypatch.setattr(codi_module, "WIDE", 1 if wide else 10**6)
    model = load(tiny_folders[tiny.entry.architecture], device="cpu")
    states = np.zeros_like(clean.hidden_states)
    assert edited(model, QUESTIONS, conditions, max_new_tokens=NEW, hidden_states=states) == wanted
    np.testing.assert_allclose(states, clean.hidden_states, atol=1e-4, rtol=0)
    assert max(groups) == -(-len(PROBLEMS) // 3)


def test_answers_end_where_the_backbone_has_no_more_positions(tiny, monkeypatch):
    monkeypatch.setattr(tiny.codi, "eos_id", -1)
    questions = QUESTIONS[:3]
    lengths = [len(tiny.codi.tokenizer(q)["input_ids"]) for q in questions]
    found = tiny.answer(questions, max_new_tokens=140).tokens
    if tiny.entry.architecture == "llama":  # rotary positions go on
        assert {len(t) for t in found} == {140}
        return
    assert [len(t) for t in found] == [128 - (length + 1 + K + 1) + 1 for length in lengths]  # the last id is not fed
    assert found == tiny.answer(questions, max_new_tokens=140, batch_size=1).tokens  # whatever the neighbours' lengths


def test_what_has_no_positions_is_refused(tiny):
    if tiny.entry.architecture == "llama":
        return
    long = " ".join(["apples"] * 121)
    with pytest.raises(ProblemError, match=f"question 2 of 2 with bot, thoughts and eot: needs {121 + K + 2} positions"):
        tiny.answer([QUESTIONS[0], long])
    with pytest.raises(ProblemError, match="needs 136 positions"):
        tiny.think([*SOME[:1], " ".join(["apples"] * 128)], num_latents=6)


def test_empty_lists_and_empty_questions(tiny):
    assert tiny.answer([]).tokens == () and edited(tiny, QUESTIONS, []) == []
    with pytest.raises(ProblemError, match="question 2 of 2 is empty"):
        tiny.answer([QUESTIONS[0], "  "])


# What is refused


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([Edit("bot", "mean")], "'bot=mean'.*identity"),
        ([Edit("bot", "resample")], "'bot=resample'.*identity"),
        ([Edit(0, "zeros")], "'0=zeros': unknown kind 'zeros', use one of zero, mean"),
        ([Edit(K, "zero")], "'6=zero': unknown place, use a latent position 0..5"),
        ([Edit(-1, "zero")], "unknown place"),
        ([Edit("eot", "zero")], "'eot=zero': unknown place"),
        ([Edit(0, "mean")], "'0=mean' needs reference problems"),
        ([Edit("all", "resample")], "'all=resample' needs reference problems"),
        ([Edit(1, "zero"), Edit(1, "self")], "place 1 is edited twice"),
        ([Edit("all", "zero"), Edit(5, "zero")], "place 5 is edited twice"),
    ],
)
def test_edits_are_checked_before_anything_runs(tiny, edits, message):
    with Fed(tiny.codi) as fed, pytest.raises(EditError, match=message):
        tiny.answer(SOME, edits=edits, **own(PROBLEMS[:4]))
    assert not fed


def test_resampling_needs_answers_groups_and_a_fitting_donor(tiny, reference):
    with pytest.raises(ValueError, match="resample needs the gold answer and the group"):
        tiny.answer(SOME, edits=[Edit(0, "resample")], reference=reference)
    alone = Reference(reference.latents[:1], reference.answers[:1], reference.groups[:1])
    with pytest.raises(EditError, match="no reference problem has another group and another answer"):
        tiny.answer(SOME[:1], edits=[Edit(0, "resample")], reference=alone, answers=alone.answers, groups=("other",))


@pytest.mark.parametrize(
    ("text", "edit"), [("3=zero", Edit(3, "zero")), ("bot=noise", Edit("bot", "noise")), ("all=mean", Edit("all", "mean"))]
)
def test_edits_are_read_as_written(text, edit):
    assert parse_edit(text, K) == edit and str(edit) == text


@pytest.mark.parametrize(
    "text", ["6=zero", "-1=zero", "²=zero", "=zero", "zero", "3", "3=", "3=Zero", "bot=mean", "1.0=zero", ""]
)
def test_other_texts_are_no_edits(text):
    with pytest.raises(EditError, match="^edit '"):
        parse_edit(text, K)


@pytest.mark.parametrize("threaded", [True, False])
def test_the_number_of_threads_changes_no_bit_and_transformers_that_cannot_be_threaded_are_not(
    tiny, clean, monkeypatch, threaded
):
    at_once, most, lock, think = 0, 0, threading.Lock(), answering.think

    def counting(*args, **more):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        try:
            return think(*args, **more)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(answering, "think", counting)
    monkeypatch.setattr(answering, "THREADED", threaded)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = tiny.think(QUESTIONS, batch_size=3, max_new_tokens=NEW)
        assert torch.get_num_threads() == 2  # it is given back
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found.hidden_states, clean.hidden_states) and (threaded or most == 1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_a_batch_that_must_round_as_any_other_has_an_even_number_of_rows_of_one_length(size):
    lengths = [3, 5, 3, 3, 5, 9, 3, 3, 5]
    parts = batches([[0] * n for n in lengths], size, exact=True)
    assert all(len(rows) % 2 == 0 and len(rows) >= 4 and len({lengths[i] for i in rows}) == 1 for rows in parts)
    assert {int(i) for rows in parts for i in rows} == set(range(9))
