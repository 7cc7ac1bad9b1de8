"""Patches against a plain loop, one problem at a time; a model built by hand is steered where its answer is read alone."""

import re

import numpy as np
import pytest
import torch
from fake_bench import FakeBench, measured
from hand_built import by_hand
from transformers import AutoTokenizer, DynamicCache

from codi_bench.audits import patching
from codi_bench.audits.patching import DONOR, RANDOM, SAME, Patch, PatchOutcomes, patches, steered, steered_word
from codi_bench.claims import runs
from codi_bench.claims.runs import condition_of
from codi_bench.errors import EditError, MeasureError, ProblemError
from codi_bench.models import loop
from codi_bench.models.answering import Pass, tokenise
from codi_bench.models.edits import NOISE, SELF
from codi_bench.models.patching import answer_patched as answer
from codi_bench.models.patching import patched, source_run
from codi_bench.models.state import cache_argument
from codi_bench.problems import generate, score
from codi_bench.problems.pairs import Pair, pairs, random_donors
from codi_bench.problems.problem import Problem
from codi_bench.rules.stats import stream
from codi_bench.rules.validity import Validity

K, NEW = 6, 5
PAIRS = pairs(6, step=1)
EVERY = tuple(range(K))


def answer_patched(codi, questions, sources, given, vectors=None, **settings):
    conditions = [condition_of(patch, sources, vectors or {}) for patch in given]
    return answer(codi, questions, conditions, Pass(K, **settings), rng())


def asked(found):
    return {name: [getattr(pair, name).question for pair in found] for name in ("donor", "same")}


def rng():
    return stream(0, "patching")


# Pairs


@pytest.mark.parametrize("step", (1, 2, 3))
def test_a_pair_differs_in_the_value_of_its_step_and_what_follows(step):
    found = pairs(20, step=step)
    assert len({pair.recipient.group for pair in found}) == 20
    for pair in found:
        own, donor, same = pair.recipient, pair.donor, pair.same
        assert own.num_steps > step and own.template == donor.template == same.template
        assert own.values[: step - 1] == donor.values[: step - 1] and own.values[step - 1] != donor.values[step - 1]
        assert sum(a != b for a, b in zip(own.operands, donor.operands)) == 1
        assert pair.counterfactual == donor.answer != own.answer
        assert same.values[step - 1 :] == own.values[step - 1 :] and same.operands != own.operands
        words = [re.sub(r"\d+", "#", each.question) for each in (own, donor, same)]
        assert words[0] == words[1] == words[2]


def test_pairs_hang_on_their_seed_alone_and_stay_in_their_split():
    assert pairs(5, step=1) == PAIRS[:5] and pairs(5, step=1, seed=1) != PAIRS[:5]
    test, train = (
        {p.group for pair in pairs(30, step=1, split=s) for p in (pair.recipient, pair.donor, pair.same)}
        for s in ("test", "train")
    )
    assert not test & train


@pytest.mark.parametrize(
    "asking", ({"n": 0, "step": 1}, {"n": 1, "step": 0}, {"n": 1, "step": 5}, {"n": 1, "step": 1, "split": "dev"})
)
def test_pairs_that_cannot_be_made_are_refused(asking):
    with pytest.raises(ProblemError):
        pairs(**asking)


def test_random_donors_have_another_answer_and_nearly_the_same_length():
    pool = generate(200, seed=1, split="train")
    for pair, donor in zip(PAIRS, random_donors(PAIRS, pool)):
        assert donor.answer != pair.recipient.answer
        assert abs(len(donor.question.split()) - len(pair.recipient.question.split())) <= 4
    with pytest.raises(ProblemError, match="differs in its answer"):
        random_donors(PAIRS[:1], [PAIRS[0].recipient])


# The loop


@torch.inference_mode()
def think_plainly(codi, question, *, replaced=(), source=None, keys_of=None):
    """One problem, an ordinary cache, one thought at a time: the cache, where its thoughts begin, and the latents fed.

    replaced: places at which the source's latents are fed. keys_of: (cache, start, place): keys and values copied from there.
    """
    table, cache, latents = codi.backbone.get_input_embeddings().weight, DynamicCache(), []
    ids = torch.tensor([*codi.tokenizer(question)["input_ids"], codi.bot_id])
    value = codi.projection(feed_plainly(codi, cache, table[ids]))
    start = cache.get_seq_length()
    for place in EVERY:
        latents.append(source[place] if place in replaced else value)
        value = codi.projection(feed_plainly(codi, cache, latents[-1][None]))
        if keys_of is not None and place == keys_of[2]:
            for mine, theirs in zip(cache.layers, keys_of[0].layers):
                for name in ("keys", "values"):
                    getattr(mine, name)[:, :, start + place] = getattr(theirs, name)[:, :, keys_of[1] + place]
    return cache, start, latents


@torch.inference_mode()
def feed_plainly(codi, cache, inputs):
    out = codi.backbone.base_model(
        inputs_embeds=inputs[None], use_cache=True, **{cache_argument(type(codi.backbone.base_model)): cache}
    )
    return out.last_hidden_state[0, -1]


def plain(codi, question, donor, patch):
    """What is read at eot, [d]."""
    cache, start, latents = think_plainly(codi, donor)
    if patch.keys_only:
        cache, *_ = think_plainly(codi, question, keys_of=(cache, start, patch.places[0]))
    else:
        cache, *_ = think_plainly(codi, question, replaced=patch.places, source=latents)
    return feed_plainly(codi, cache, codi.backbone.get_input_embeddings().weight[[codi.eot_id]])


SOME = (
    *(Patch("donor", (place,)) for place in EVERY),
    *(Patch("donor", (place,), True) for place in EVERY),
    Patch("donor", (1, 4)),
    Patch("same", EVERY),
    Patch("same", (3,), True),
)


@torch.inference_mode()
def test_patches_are_those_of_a_plain_loop(tiny):
    """By the states that answers are read from; the questions differ in length, so that they are padded."""
    codi, given = tiny.codi, asked(PAIRS)
    questions = [pair.recipient.question for pair in PAIRS]
    recipient = loop.think(codi, tokenise(codi, questions), K)
    donors = {tuple(texts): source_run(codi, tokenise(codi, texts), K, 64) for texts in given.values()}
    conditions = [condition_of(patch, given, {}) for patch in SOME]
    found = loop.end_thoughts(codi, patched(codi, recipient, donors, conditions, {}, None)).hidden.numpy()
    clean = loop.end_thoughts(codi, recipient.state).hidden[:, 0].numpy()
    for c, patch in enumerate(SOME):
        wanted = np.stack([plain(codi, q, given[patch.source][i], patch).numpy() for i, q in enumerate(questions)])
        np.testing.assert_allclose(found[:, c], wanted, atol=2e-4, err_msg=str(patch))
        assert np.abs(wanted - clean).max() > 2e-3, f"{patch} changes nothing that could be seen"


def test_neither_batch_size_nor_other_patches_change_an_answer(tiny, monkeypatch):
    given, questions = asked(PAIRS), [pair.recipient.question for pair in PAIRS]
    noisy = [*SOME[:4], Patch(NOISE, (2,))]
    whole = answer_patched(tiny.codi, questions, given, [*SOME, *noisy], max_new_tokens=NEW)
    monkeypatch.setattr("codi_bench.models.patching.BRANCHES", 2)
    alone = answer_patched(tiny.codi, questions, given, noisy, batch_size=2, max_new_tokens=NEW)
    assert whole[0] == alone[0] and whole[1][len(SOME) :] == alone[1]


@torch.inference_mode()
def test_a_source_of_many_lengths_is_the_same_in_any_batch(tiny):
    """To the bit: which others of another length a run is beside must not show."""
    asked = tokenise(tiny.codi, [f"Mia has {'1' * i} {'red ' * (i % 4)}apples ." for i in range(1, 10)])
    one, two = (source_run(tiny.codi, asked, K, size) for size in (2, 64))
    assert torch.equal(one.latents, two.latents)
    for mine, theirs in zip(one.tapes, two.tapes, strict=True):
        assert all(torch.equal(a, b) and a.shape[2] == K for a, b in zip(mine, theirs))
    for i, question in enumerate(asked):
        np.testing.assert_allclose(one.latents[i], loop.think(tiny.codi, [question], K).latents[0], atol=1e-5)


def test_own_values_change_nothing_whether_kept_read_from_the_same_question_or_given_as_vectors(tiny):
    questions = [pair.recipient.question for pair in PAIRS]
    mine = np.stack([tiny.think([q]).latents[0, :K] for q in questions])
    given = [Patch(SELF, EVERY), *(Patch(SELF, (k,), True) for k in EVERY), Patch("twin", (2,)), Patch("twin", (2,), True)]
    given += [Patch("mine", EVERY), Patch("others", EVERY)]
    vectors = {"mine": mine, "others": mine[::-1].copy()}
    clean, found = answer_patched(tiny.codi, questions, {"twin": questions}, given, vectors, max_new_tokens=NEW)
    assert all(answers == clean for answers in found[:-1]) and found[-1] != clean
    assert clean == tiny.answer(questions, max_new_tokens=NEW)


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (Patch("donor", ()), "different latent positions"),
        (Patch("donor", (1, 1)), "different latent positions"),
        (Patch("donor", (6,)), "latent positions 0..5"),
        (Patch("doner", (0,)), "unknown source 'doner', give questions, 'self' or 'noise'"),
        (Patch("donor", (0, 1), True), "keys and values need exactly one place"),
        (Patch(NOISE, (0,), True), "keys and values need exactly one place"),
    ],
)
def test_patches_that_cannot_be_made_are_refused_before_anything_runs(tiny, patch, message):
    with pytest.raises(EditError, match=message):
        answer_patched(tiny.codi, ["Mia has 3 apples ."], {"donor": ["x"], "same": ["x"]}, [patch])


# What is said of it


def planted(num_pairs=40):
    """Pairs for the model built by hand: the answer is the number of the question."""

    def problem(number):
        return Problem(f"Mia has {number} apples .", (), str(number), str(number))

    return [Pair(problem(i), problem(i + 10), problem(i), 1) for i in range(num_pairs)]


@pytest.mark.parametrize("carrier", (0, 3, 5))
def test_the_model_built_by_hand_is_steered_where_its_answer_is_read(tiny_folders, carrier):
    found, codi = planted(), by_hand(AutoTokenizer.from_pretrained(tiny_folders["gpt2"]), carrier=carrier)
    donors = random_donors(found, [Problem(f"Mia has {i} pens .", (), str(i), f"x{i}") for i in range(80, 100)])
    every = patches(K, full=carrier == 3)
    sources = asked(found) | {RANDOM: [donor.question for donor in donors]}
    clean, under = answer_patched(codi, [p.recipient.question for p in found], sources, every, max_new_tokens=3)

    def scored(texts, gold):
        return np.array([score(text, getattr(p, gold).answer) for text, p in zip(texts, found)])

    seen = PatchOutcomes(
        every,
        scored(clean.texts, "recipient"),
        np.array([scored(each.texts, "donor") for each in under]),
        np.array([scored(each.texts, "recipient") for each in under]),
        np.array([[a != b for a, b in zip(each.texts, clean.texts)] for each in under]),
    )
    assert seen.known.all()
    patching.check_controls(seen)
    for keys_only in (False, True):
        for place, step in enumerate(steered([(seen, (k,)) for k in EVERY], keys_only=keys_only, budget=7)):
            read = place == carrier
            assert (step.follow.value, step.stay.value) == ((1, 0) if read else (0, 1))
            assert step.controls[SAME].value == 0 and step.controls[RANDOM].value == 0
            assert (steered_word(step).word is Validity.SUPPORTED) == read
    for patch, follows in zip(every, seen.follows):
        assert follows.all() == (patch.source == DONOR and carrier in patch.places)


def test_a_control_that_fails_or_too_few_known_pairs_stop_everything():
    every = patches(2)
    none = np.zeros((len(every), 30), bool)
    alive = none.copy()
    alive[every.index(Patch(RANDOM, (1,))), 7] = True
    patching.check_controls(PatchOutcomes(every, np.ones(30, bool), none, ~none, alive))
    with pytest.raises(MeasureError, match="^dead edit: none of .* changes anything on 30 problems"):
        patching.check_controls(PatchOutcomes(every, np.ones(30, bool), none, ~none, none))
    with pytest.raises(MeasureError, match="own values|a control fails: patch '0,1=self' changes 30"):
        patching.check_controls(PatchOutcomes(every, np.ones(30, bool), none, ~none, ~none))
    with pytest.raises(MeasureError, match="in 0 of 30 pairs .*; 20 are needed"):
        patching.check_known(np.zeros(30, bool))


def test_the_slow_claim_chooses_its_pair_on_one_half_and_counts_on_the_other(monkeypatch):
    """Answers follow where latents 1 and 4 both are the donor's; in the first half 0 and 2 do as well, and more often."""
    every = patches(K, full=True)
    rng_ = np.random.default_rng(0)
    half = np.arange(300) < 150
    own, chance = rng_.random(300) < 0.6, rng_.random(300) < 0.9

    def follows(patch):
        if patch.source != DONOR or patch.keys_only:
            return np.zeros(300, bool)
        found = own if {1, 4} <= {*patch.places} else np.zeros(300, bool)
        return found | (half & chance) if {0, 2} == {*patch.places} else found

    found = PatchOutcomes(
        every,
        np.ones(300, bool),
        np.array([follows(p) for p in every]),
        np.zeros((len(every), 300), bool),
        np.array([follows(p) for p in every]),
    )
    monkeypatch.setattr(runs, "patched", lambda bench, n, asked, step, seed: found)
    _, rows = measured("patch-sets", FakeBench(sets={"pairs": lambda n, step: planted()}))
    assert len(rows) == 2 * (2 * (K - 1) + 1)
    assert (
        rows["pair_step1"].detail["note"] == "latents 0 and 2" and rows["pair_step1"].value == 0 and rows["pair_step1"].n == 150
    )
    assert rows["left_step1_4"].value == 0 and rows["left_step2_5"].value == own.mean()
    assert rows["right_step1_2"].value == 0 and rows["right_step1_5"].value == own.mean()
    assert rows["right_step1_5"].verdict.word is Validity.SUPPORTED and rows["pair_step1"].verdict.word is Validity.REFUTED
