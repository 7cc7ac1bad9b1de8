"""Direct effects and the log-probability of gold answers, against a plain loop without batch, cache or padding."""

from functools import partialmethod

import numpy as np
import pytest
import torch
from plain import plain

from codi_bench.errors import EditError, MeasureError, MissingProblemsError, ProblemError
from codi_bench.models import answering, loop
from codi_bench.models.codi import Codi
from codi_bench.models.conditions import MASKED, UNMASKED, Edited
from codi_bench.models.edits import KINDS, Edit, direct, draws, parse_edit
from codi_bench.models.model import Model
from codi_bench.problems import generate
from codi_bench.store.cache import Store
from codi_bench.suite import problem_source
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.problem_source import ProblemSource

K, NEW = 6, 6
PLACES = ("bot", *range(K))
PROBLEMS = generate(8, seed=3)  # a batch of five, and what is left of one
QUESTIONS = [p.question for p in PROBLEMS]
GOLDS = [p.answer if i % 3 else f"{p.answer} 7 apples" for i, p in enumerate(PROBLEMS)]  # of different lengths
GROUPS = [p.group for p in PROBLEMS]
OTHERS = generate(40, seed=4, split="train")
ZERO = torch.zeros(32)


def run(model, conditions, size=64, questions=QUESTIONS, golds=GOLDS, **options):
    """Answers, and log-probabilities [conditions, n]."""
    likely = np.full((len(conditions), len(questions)), np.nan)
    options = {"groups": (2 * GROUPS)[: len(questions)], "max_new_tokens": NEW, "batch_size": size, **options}
    padding = options.pop("protocol", MASKED)
    asked = [Edited(tuple(edits), padding) for edits in conditions]
    return model.answers(questions, asked, golds=golds, log_probabilities=likely, **options), likely


@pytest.fixture(scope="module")
def clean(tiny):
    answers, likely = run(tiny, [[]], size=1)
    return answers[0], likely[0]


@pytest.fixture(scope="module")
def reference(tiny):
    return tiny.reference([p.question for p in OTHERS], [p.answer for p in OTHERS], [p.group for p in OTHERS])


# Log-probabilities


@pytest.mark.parametrize("size", [1, 5])
def test_log_probabilities_are_those_of_the_plain_loop(tiny, clean, size):
    (answers,), likely = run(tiny, [[]], size)
    wanted = [plain(tiny.codi, question, gold=gold).log_probability for question, gold in zip(QUESTIONS, GOLDS)]
    np.testing.assert_allclose(likely[0], wanted, atol=1e-4, rtol=0)
    np.testing.assert_allclose(likely[0], clean[1], atol=1e-5, rtol=0)
    assert answers == tiny.answer(QUESTIONS, max_new_tokens=NEW) and np.ptp(likely) > 1  # it is an output beside the answers


def test_eot_has_no_probability_and_is_never_generated(tiny, clean, monkeypatch):
    logits = Codi.logits

    def eager(self, hidden):
        values = logits(self, hidden).clone()
        values[..., self.eot_id] = 1e6
        return values

    monkeypatch.setattr(Codi, "logits", eager)
    (answers,), likely = run(tiny, [[]])
    assert answers == clean[0] and tiny.think(QUESTIONS, max_new_tokens=NEW).first_logits.max() < 1e5
    np.testing.assert_allclose(likely[0], clean[1], atol=1e-5, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("agrees", [0, 1, 3, NEW])
def test_a_greedy_answer_goes_on_from_where_it_leaves_the_gold_one(tiny, agrees):
    codi, asked = tiny.codi, answering.tokenise(tiny.codi, QUESTIONS[:3])
    clean = loop.think(codi, asked, K)
    state = loop.end_thoughts(codi, loop.rethink(codi, clean, [{}, {1: torch.zeros_like(clean.latents[:, 1])}]))
    logits, wanted = loop.generate(codi, state, NEW)
    own = [ids[i % 2] for i, ids in enumerate(wanted)]  # of one branch or the other
    golds = [[*ids[:agrees], *((each + 1) % 5 for each in ids[agrees:][:2])] or [1] for ids in own]
    forced = loop.force(codi, state, golds)
    assert loop.generate_behind(codi, forced, golds, NEW) == wanted and torch.equal(forced.first, logits)
    assert [int(forced.agreed[i, i % 2]) >= min(agrees, len(ids)) for i, ids in enumerate(own)] == [True] * 3


@torch.inference_mode()
def test_ids_behind_eot_are_found_where_eot_is_left_out(tiny, monkeypatch):
    """Coconut's eot is not the last id."""
    codi, last = tiny.codi, tiny.codi.eot_id
    monkeypatch.setattr(codi, "eot_id", 2)
    state = loop.end_thoughts(codi, loop.think(codi, answering.tokenise(codi, QUESTIONS[:2]), K).state)
    others = [i for i in range(last + 1) if i != 2]
    wanted = codi.logits(state.hidden)[..., others].double().log_softmax(-1)
    for gold in (1, 3, last):
        found = loop.force(codi, state, [[gold], [gold]]).log_probability
        torch.testing.assert_close(found, wanted[..., others.index(gold)], atol=1e-5, rtol=0)


def test_log_probabilities_that_are_not_finite_are_refused(tiny, monkeypatch):
    monkeypatch.setattr(Codi, "logits", lambda self, hidden: torch.full((*hidden.shape[:-1], self.vocab_size + 3), torch.nan))
    with pytest.raises(MeasureError, match="not finite; use --dtype float32"):
        run(tiny, [[]])


def test_gold_answers_are_needed_and_must_have_positions(tiny):
    with pytest.raises(ValueError, match="golds must have 8 entries, one for each question, got 3"):
        run(tiny, [[]], golds=GOLDS[:3])
    if tiny.entry.architecture == "gpt2":
        with pytest.raises(ProblemError, match="question 2 of 2 with its gold answer: needs .* positions"):
            run(tiny, [[]], questions=QUESTIONS[:2], golds=["1", "1 " * 90])


# Kept latents


@pytest.mark.parametrize(("size", "padding"), [(5, MASKED), (64, MASKED), (64, UNMASKED)])
def test_self_and_kept_change_nothing(tiny, clean, size, padding):
    """Under either padding, of which unmasked paddings have no bot of their own."""
    places = (*range(K), "all", *["bot"] * (padding == MASKED))
    conditions = [[Edit(place, kind)] for place in places for kind in ("self", "kept")] + [[Edit(2, "kept"), Edit(4, "self")]]
    (wanted, *answers, other), likely = run(tiny, [[], *conditions, [Edit(2, "zero")]], size, protocol=padding)
    assert answers == [wanted] * len(answers) and other != wanted and (wanted == clean[0] or padding != MASKED)
    np.testing.assert_allclose(likely[1:-1], np.tile(likely[0], (len(answers), 1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 5])
def test_a_direct_effect_is_the_plain_loop_fed_the_clean_latents(tiny, size):
    edits = [Edit(place, "zero") for place in PLACES]
    few = {"questions": QUESTIONS[:6], "golds": GOLDS[:6]}
    _answers, likely = run(tiny, [direct(edit, K) for edit in edits], size, **few)
    _totals, total = run(tiny, [[edit] for edit in edits], size, **few)
    for i, (question, gold) in enumerate(zip(QUESTIONS[:6], GOLDS)):
        latents = torch.tensor(plain(tiny.codi, question).latents)
        for at, place in enumerate(PLACES):
            kept = dict(zip(PLACES[at + 1 :], latents[at:]))
            assert abs(likely[at, i] - plain(tiny.codi, question, {**kept, place: ZERO}, gold=gold).log_probability) < 1e-4
            assert abs(total[at, i] - plain(tiny.codi, question, {place: ZERO}, gold=gold).log_probability) < 1e-4
    assert (abs(likely - total)[:-1].max(1) > 1e-3).all()  # what is kept was another's input


def test_kept_is_a_kind_with_a_name_and_the_last_latent_has_a_direct_effect_alone():
    assert parse_edit("2=kept", K) == Edit(2, "kept") and direct(Edit(K - 1, "zero"), K) == [Edit(K - 1, "zero")]
    assert direct(Edit(3, "zero"), K) == [Edit(3, "zero"), Edit(4, "kept"), Edit(5, "kept")]
    with pytest.raises(EditError, match=f"unknown kind 'keep', use one of {', '.join(KINDS)}$") as error:
        parse_edit("2=keep", K)
    assert "kept" in str(error.value).partition("use one of")[2]
    with pytest.raises(EditError, match="'all=zero' has no direct effect"):
        direct(Edit("all", "zero"), K)


# Conditions


EDITS = [Edit(0, "resample"), Edit(3, "noise"), Edit(1, "mean"), Edit("bot", "zero")]
TOGETHER = [*(condition for edit in EDITS for condition in ([edit], direct(edit, K))), []]


@pytest.fixture(scope="module")
def alone(tiny, reference):
    return [run(tiny, [condition], reference=reference) for condition in TOGETHER]


@pytest.mark.parametrize("branches", [2, 16])
def test_conditions_do_not_influence_each_other(tiny, reference, alone, branches, monkeypatch):
    monkeypatch.setattr(answering, "BRANCHES", branches)
    for order in (TOGETHER, TOGETHER[::-1]):
        answers, likely = run(tiny, order, 5, reference=reference)
        for condition, found, row in zip(order, answers, likely, strict=True):
            (wanted,), (wanted_row,) = alone[TOGETHER.index(condition)]
            assert found == wanted
            np.testing.assert_allclose(row, wanted_row, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["resample", "noise"])
def test_a_repeated_condition_is_another_draw_and_a_direct_effect_has_the_same(tiny, reference, kind):
    edit = Edit(2, kind)
    first, second, other, same, again = (
        rng.random() for rng in draws([[edit], [edit], [Edit(3, kind)], *[direct(edit, K)] * 2], 0)
    )
    assert first == same and second == again and len({first, second, other}) == 3
    assert first != draws([[edit]], 1)[0].random()
    _, likely = run(tiny, [[edit], [edit], [], [edit]], reference=reference)
    _, shorter = run(tiny, [[edit], [edit]], reference=reference)
    assert min(abs(likely[0] - likely[1]).max(), abs(likely[0] - likely[3]).max(), abs(likely[1] - likely[3]).max()) > 1e-3
    np.testing.assert_allclose(likely[:2], shorter, atol=1e-5, rtol=0)


# The bench


SWEEP = [[], [Edit(0, "resample")], [Edit(0, "resample")], direct(Edit(0, "mean"), K), [Edit("bot", "noise")]]


def effects(bench: ModelBench, n: int, conditions=SWEEP, **settings):
    asked = [Edited(tuple(edits)) for edits in conditions]
    return bench.answers(bench.problems.first(n), asked, log_probability=True, **settings)


def test_effects_are_computed_once_and_read_again(tiny, tmp_path, monkeypatch):
    references = ProblemSource.references

    def take(most):
        monkeypatch.setattr(ProblemSource, "references", partialmethod(references, most=most))

    take(60)
    bench = ModelBench(tiny, Store(tmp_path), max_new_tokens=NEW)
    found = effects(bench, 12)
    assert found.right().shape == found.log_probability.shape == (5, 12) and found.right().dtype == bool
    assert found.reference == "60 generated training problems"
    texts = {"questions": [p.question for p in found.problems], "golds": [p.answer for p in found.problems]}
    np.testing.assert_allclose(found.log_probability[0], run(tiny, [[]], **texts)[1][0], atol=1e-5, rtol=0)
    assert found.answers[0] == bench.answers(found.problems, [Edited()], hidden_states=True).answers[0]
    assert abs(np.diff(found.log_probability, axis=0)).max(1).min() > 1e-3  # no two conditions are one

    fewer = effects(bench, 12, SWEEP[:2])
    np.testing.assert_allclose(fewer.log_probability, found.log_probability[:2], atol=1e-5, rtol=0)
    other = [effects(bench, 12, seed=1)]
    take(50)
    other.append(effects(bench, 12))
    assert all((each.log_probability[1:4] != found.log_probability[1:4]).any() for each in other)

    take(60)
    monkeypatch.setattr(Model, "answers", lambda *args, **kwargs: pytest.fail("computed again"))
    held = effects(ModelBench(tiny, Store(tmp_path), batch_size=5, max_new_tokens=NEW), 12)
    assert (held.log_probability == found.log_probability).all() and held.answers == found.answers


@pytest.mark.parametrize("given", [(), tuple(generate(120, seed=5, variants=4))], ids=["generated", "file"])
def test_reference_problems_are_of_other_groups_than_scored_ones(tiny, tmp_path, given):
    source = ProblemSource(given)
    scored = source.first(30)  # the thirtieth is one of four variants
    found, said = source.references(scored, 80)
    assert not {p.group for p in found} & {p.group for p in scored} and not {p.question for p in found} & {
        p.question for p in scored
    }
    assert len(found) == 80 and said == f"80 {'given problems that are not scored' if given else 'generated training problems'}"


def test_too_few_problems_for_a_reference_say_what_to_give(tiny, tmp_path):
    bench = ModelBench(tiny, Store(tmp_path), ProblemSource(tuple(generate(24, seed=3))), max_new_tokens=NEW)
    with pytest.raises(ProblemError, match="at least 50 .* first 20 the file has only 4 .* more problems, or a smaller --n"):
        effects(bench, 20)
    assert effects(bench, 20, [[], [Edit(0, "zero")]]).reference == ""  # nothing is taken from others


def test_gsm8k_has_its_train_split_where_it_is_to_be_had(monkeypatch):
    given, train = tuple(generate(100, seed=5)), generate(70, seed=6)
    monkeypatch.setattr(problem_source, "is_gsm8k_test", lambda problems: True)
    monkeypatch.setattr(
        problem_source, "load_problems", lambda name, split: {("gsm8k", "train"): [given[0], *train]}[name, split]
    )
    found, said = ProblemSource(given).references(given[:10], 60)
    scored = {p.group for p in given[:10]}
    assert found == [p for p in train if p.group not in scored][:60] and said == "60 problems of GSM8K's train split"

    def missing(name, split):
        raise MissingProblemsError("no network")

    monkeypatch.setattr(problem_source, "load_problems", missing)
    found, said = ProblemSource(given).references(given[:10], 60)
    assert found == list(given[10:70]) and said == "60 given problems that are not scored"
