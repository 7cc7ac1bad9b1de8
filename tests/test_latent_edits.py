"""Latents replaced, re-ordered and transplanted, where it is known what must come of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hand_built import by_hand
from transformers import AutoTokenizer

from codi_bench.claims import papers_answers as answers
from codi_bench.claims import papers_contradictions as contradictions
from codi_bench.claims import papers_latents as latents
from codi_bench.claims import papers_transplant as transplant
from codi_bench.claims.claim import NORMAL, ZERO, Effects
from codi_bench.claims.own_edits import NUM_PAIRS
from codi_bench.claims.papers_transplant import NUM_TWINS
from codi_bench.errors import EditError, MeasureError
from codi_bench.models.discrete import answer_discretised
from codi_bench.models.edits import Edit
from codi_bench.models.loop import tokenise
from codi_bench.models.model import Model
from codi_bench.models.registry import ModelEntry
from codi_bench.problems.pairs import Pair
from codi_bench.problems.problem import Problem, score
from codi_bench.rules.validity import Validity
from codi_bench.store.cache import Store
from codi_bench.suite.bench import ModelBench
from codi_bench.thoughts.decoded import Decoded

K, N, NEW = 6, 200, 5
SAID = 98  # numbers that the tokenizer of the model built by hand has
EVERY = tuple(range(K))
SIDES = ("recipient", "donor", "same")


def of(rows) -> dict:
    return {row.metric: row for row in rows}


def values(rows) -> dict:
    return {row.metric: row.value for row in rows}


# Transplants


def planted(step: int) -> list[Pair]:
    """Pairs for the model built by hand, whose answer is the number of the question."""

    def problem(number):
        return Problem(f"Mia has {number} apples .", (), str(number), f"{step} {number}")

    return [Pair(problem(i), problem((i + 37) % SAID), problem(i), step) for i in range(SAID)]


@pytest.fixture
def read_at(tiny_folders, tmp_path):
    """The bench of a model that reads its answer at one latent."""

    def made(carrier: int) -> ModelBench:
        codi = by_hand(AutoTokenizer.from_pretrained(tiny_folders["gpt2"]), carrier=carrier, by_place=True)
        codi.fingerprint = f"read at {carrier}"
        model = Model(codi, ModelEntry("by-hand", "gpt2", (1, 2, 3), (1, 2, 3)), "cpu", "float32")
        seen = {f"pairs {NUM_PAIRS} {step}": (planted(step), None) for step in (1, 2)}
        return ModelBench(model, Store(tmp_path), seen=seen, max_new_tokens=3)

    return made


@pytest.mark.parametrize("carrier", (0, 3, 5))
def test_a_transplant_turns_every_answer_that_is_read_there_and_one_place_off_it_turns_none(read_at, carrier):
    bench = read_at(carrier)
    pair = values(transplant.pair(bench))
    assert pair == {"all": 1} | {f"single_{k}": float(k == carrier) for k in EVERY}
    assert values(transplant.without(bench)) == {f"without_{k}": float(k != carrier) for k in EVERY}
    assert values(transplant.prefix(bench)) == {f"prefix_{k}": float(k >= carrier) for k in EVERY}
    assert set(values(transplant.off_by_one(bench)).values()) == {0}
    words = {name: row.verdict.word for name, row in of(transplant.pair_sound(bench, {})).items()}
    assert words == {name: Validity.SUPPORTED if value else Validity.REFUTED for name, value in pair.items()}
    off = {name: row.verdict.word for name, row in of(transplant.off_by_one_sound(bench, {})).items()}
    assert off == {name: Validity.SUPPORTED if value else Validity.REFUTED for name, value in pair.items()}
    assert {row.n for row in transplant.pair(bench)} == {2 * SAID}


# What the model itself says of a twin


def test_own_thoughts_said_again_change_nothing_and_a_twin_s_turn_the_answer(read_at):
    bench = read_at(3)
    asked = [pair.recipient for pair in planted(1)]
    own, twins = (bench.latents([getattr(pair, side) for pair in planted(1)])[:, :-1] for side in ("recipient", "donor"))
    found = bench.said(asked, {"self": own, "twin": twins})
    numbers = np.arange(float(SAID))
    assert (found["own"] == numbers).all() and (found["self"] == numbers).all()
    assert (found["twin"] == (numbers + 37) % SAID).all()
    assert values(transplant.response_rate(replaced(bench))) == {"all": 1}


def replaced(bench: ModelBench, **gold: str) -> ModelBench:
    """The same with pairs whose donor, or recipient, has this answer, whatever the model says."""
    bench.seen.clear()
    for step in (1, 2):
        made = [
            Pair(*(replace(getattr(p, side), answer=gold.get(side, getattr(p, side).answer)) for side in SIDES), step)
            for p in planted(step)
        ]
        bench.seen[f"pairs {NUM_TWINS} {step}"] = (made, None)
    return bench


def test_a_wrong_twin_is_followed_to_its_own_answer_and_not_to_the_right_one(read_at):
    wrong = replaced(read_at(3), donor="99")  # the model says another number of every donor
    assert values(transplant.wrong_twin(wrong)) == {"wrong": 1, "gold": 0}
    (row,) = transplant.wrong_twin_sound(wrong, {})
    assert row.verdict.word is Validity.SUPPORTED and row.n == 2 * SAID
    assert values(transplant.response_rate(wrong)) == {"all": 0}
    with pytest.raises(MeasureError, match=f"0 of {2 * SAID} pairs have a twin with a wrong answer of its own; 20 are needed"):
        transplant.wrong_twin(replaced(read_at(3)))
    with pytest.raises(MeasureError, match="0 of"):
        transplant.wrong_twin(replaced(read_at(3), recipient="99", donor="99"))


def test_the_same_value_leaves_the_answer_or_loses_it(read_at):
    bench = read_at(3)
    assert set(values(transplant.same_value(bench)).values()) == {1}
    assert {row.verdict.word for row in transplant.same_value_sound(bench, {})} == {Validity.SUPPORTED}
    spoilt = transplanted_stays(bench, np.zeros(2 * SAID, bool))
    assert {row.verdict.word for row in transplant.same_value_sound(spoilt, {})} == {Validity.REFUTED}


def transplanted_stays(bench: ModelBench, stays: np.ndarray) -> SimpleNamespace:
    found = SimpleNamespace(of=lambda source, places: (None, stays))
    return SimpleNamespace(num_latents=bench.num_latents, once=lambda name, compute: found)


# Words in the place of thoughts


@torch.inference_mode()
def test_discretised_thoughts_are_those_of_a_plain_loop_over_words(tiny, tmp_path):
    bench, codi = ModelBench(tiny, Store(tmp_path), max_new_tokens=NEW), tiny.codi
    problems = bench.problems(12)
    clean = bench.answered(problems, padding="masked")
    assert (bench.discretised(12, ()) == clean).all()
    for places in ((1, 3, 5), EVERY):
        found = answer_discretised(codi, [p.question for p in problems], places, max_new_tokens=NEW, batch_size=5)
        for problem, ids in zip(problems, found.tokens, strict=True):
            (asked,) = tokenise(codi, [problem.question])
            fed = codi.embed(torch.tensor([[*asked, codi.bot_id]]))
            for place in EVERY:
                thought = run(codi, fed)
                if place in places:
                    thought = codi.embed(codi.logits(thought)[: codi.vocab_size].argmax())
                fed = torch.cat([fed, codi.projection(thought)[None, None]], dim=1)
            fed, said = torch.cat([fed, codi.embed(torch.tensor([[codi.eot_id]]))], dim=1), []
            while len(said) < NEW and (not said or said[-1] != codi.eos_id):
                said.append(int(codi.answer_ids(codi.answer_logits(run(codi, fed)))))
                fed = torch.cat([fed, codi.embed(torch.tensor([[said[-1]]]))], dim=1)
            assert list(ids) == said
    with pytest.raises(EditError, match="latent positions go from 0 to 5"):
        bench.discretised(12, (6,))


def run(codi, embeds: torch.Tensor) -> torch.Tensor:
    """The state behind the final norm of the newest input, [d], without any cache."""
    return codi.backbone(inputs_embeds=embeds, output_hidden_states=True).hidden_states[-1][0, -1]


def test_the_share_solved_by_some_step_can_but_grow():
    right = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
    bench = SimpleNamespace(num_latents=2, early=lambda n: right)
    assert values(latents.solved(bench)) == {"solved_0": 0.25, "solved_1": 0.5, "solved_2": 0.75}


def test_zeros_at_even_places_and_a_donor_s_latent_cost_what_they_do():
    none, half = np.zeros(N, bool), np.arange(N) % 2 > 0
    found = values(latents.number_places(replacing({"0=zero+2=zero+4=zero": none})))
    assert found == {"drop_even": 75, "drop_odd": 0}
    words = of(latents.number_places_sound(replacing({"0=zero+2=zero+4=zero": none}), {}))
    assert words["even"].verdict.word is Validity.SUPPORTED and words["odd"].verdict.word is Validity.REFUTED
    bench = replacing({"2=resample": half, "3=zero": none, "2=zero": half})
    rows = of(latents.resampled(bench))
    assert {k: row.value for k, row in rows.items() if k != "r"} == {f"drop_{k}": 50 * (k == 2) / 2 for k in EVERY}
    assert rows["r"].value == pytest.approx(np.corrcoef([0, 0, 1, 0, 0, 0], [0, 0, 1, 3, 0, 0])[0, 1])
    words = of(latents.resampled_sound(bench, {}))
    assert words["drop_2"].verdict.word is Validity.SUPPORTED and words["drop_0"].verdict.word is not Validity.SUPPORTED


# Out of distribution


def test_what_is_elsewhere_is_against_a_constant_and_against_words():
    problems = [Problem(f"{i}", (), "1" if i < 40 else str(i), f"{i}") for i in range(N)]
    right, words = np.arange(N) >= 40, np.arange(N) % 2 > 0
    bench = SimpleNamespace(
        elsewhere=lambda: {"gsm-hard": problems},
        answered=lambda problems, padding: right,
        explained=lambda problems: words,
        once=lambda name, compute: compute(),
    )
    assert values(answers.elsewhere(bench)) == {"accuracy_gsm_hard": 0.8}
    (row,) = answers.elsewhere_sound(bench, {})
    assert row.verdict.word is Validity.SUPPORTED and row.null.value == 0.2
    (row,) = answers.beats_words_sound(bench, {})
    assert row.metric == "gain_gsm_hard" and row.value == pytest.approx(0.3) and row.verdict.word is Validity.SUPPORTED
    bench.answered, bench.explained = lambda problems, padding: words, lambda problems: right
    assert answers.beats_words_sound(bench, {})[0].verdict.word is Validity.REFUTED


# Where sources disagree


def test_what_protocols_differ_in_explains_a_difference_or_does_not():
    clean, half, none = np.ones(N, bool), np.arange(N) % 2 > 0, np.zeros(N, bool)
    bench = replacing({"": clean, "all=self": clean, "all=zero": half, "all=mean": half})
    bench.early = lambda n: np.array([clean, half])
    assert values(contradictions.without_thoughts(bench)) == {"none": 1, "zero": 0.5, "mean": 0.5}
    words = of(contradictions.without_thoughts_sound(bench, {"none": 0.9, "zero": 0.6, "mean": 0.1}))
    assert {name: row.verdict.word for name, row in words.items()} == {
        "none_over_zero": Validity.SUPPORTED,
        "none_over_mean": Validity.SUPPORTED,
        "zero_over_mean": Validity.REFUTED,
    }
    asked = reordering(clean=clean, reversed=half)
    asked.captured, asked.early = lambda n, num_latents: SimpleNamespace(right=clean), lambda n: np.array([none])
    (row,) = contradictions.order_or_content_sound(asked, {})
    assert row.value == 0 and row.verdict.word is Validity.UNDERPOWERED  # as much by order as by content
    asked.early = lambda n: np.array([half])
    assert contradictions.order_or_content_sound(asked, {})[0].verdict.word is Validity.REFUTED
    asked = reordering(clean=clean, reversed=clean)
    asked.captured, asked.early = lambda n, num_latents: SimpleNamespace(right=clean), lambda n: np.array([half])
    assert contradictions.order_or_content_sound(asked, {})[0].verdict.word is Validity.SUPPORTED


def test_replacements_disagree_on_the_latent_that_matters_most_only_where_they_do():
    none = np.zeros(N, bool)
    bench = replacing({"": ~none, "all=self": ~none, "1=zero": none, "4=mean": none, "1=noise": none})
    found = values(contradictions.most_important(bench))
    assert (found["zero"], found["mean"], found["noise"]) == (1, 4, 1)
    rows = of(contradictions.most_important_sound(bench, {}))
    assert rows["mean_or_zero"].value == 0.75 and rows["mean_or_zero"].verdict.word is Validity.SUPPORTED
    assert rows["mean_or_zero"].detail["positions"] == [4, 1] and rows["mean_or_zero"].n == N // 2
    assert rows["zero_or_noise"].verdict is None and "both cost most at latent 1" in rows["zero_or_noise"].detail["no_validity"]
    # noise prefers another position on the half that chooses, and on the half that counts the one of the others
    half = np.arange(N) >= N // 2
    bench = replacing({"": ~none, "all=self": ~none, "1=zero": none, "1=noise": ~half, "4=noise": half})
    rows = of(contradictions.most_important_sound(bench, {}))
    assert rows["zero_or_noise"].value < 0 and rows["zero_or_noise"].verdict.word is Validity.REFUTED


def test_a_looser_rule_finds_what_a_stricter_one_leaves():
    problems = tuple(Problem(f"{i}", ("<<1+1=12>>", "<<1+1=2>>"), "2", f"{i}", values=(12, 2)) for i in range(40))
    words = tuple((("1",) if i % 2 else ("12",),) for i in range(40))
    bench = SimpleNamespace(decoded=Decoded(problems, words, ("2",) * 40, 40), once=lambda name, compute: compute())
    assert values(contradictions.table(bench)) == {"equal_1": 0.5, "prefix_1": 1}
    (row,) = contradictions.table_sound(bench, {})
    assert row.metric == "prefix_1" and row.verdict.word is Validity.SUPPORTED
    (row,) = contradictions.table_sound(bench, {"prefix_1": 1.0, "equal_1": 0.0})
    assert row.verdict.word is not Validity.REFUTED


# Thoughts fed in another order


def test_thoughts_fed_again_are_the_clean_run_and_zeros_are_an_edit(tiny, tmp_path):
    bench = ModelBench(tiny, Store(tmp_path), max_new_tokens=NEW)
    asked = [EVERY, EVERY[::-1], (ZERO,) * K, (ZERO,), (2,), (NORMAL,) * K]
    found = bench.refed(12, asked)
    whole = bench.right_under(12, [[], [Edit("all", "zero")]], num_latents=K)
    assert (found[0] == whole[0]).all() and (found[2] == whole[1]).all()
    assert (found[3] == bench.right_under(12, [[Edit("all", "zero")]], num_latents=1)[0]).all()
    other = ModelBench(tiny, Store(tmp_path / "other"), max_new_tokens=NEW, batch_size=5)
    assert (other.refed(12, asked) == found).all()
    assert (ModelBench(tiny, Store(tmp_path / "third"), max_new_tokens=NEW).refed(12, asked[4:]) == found[4:]).all()


def reordering(**given) -> SimpleNamespace:
    """A bench whose answers under an arrangement are given; the others are those of the clean run."""
    clean = np.arange(N) % 4 > 0
    seen = {}

    def refed(n, arrangements, *, seed):
        at = {EVERY: "clean", EVERY[::-1]: "reversed", (ZERO,): "zero", (ZERO,) * K: "zeros", (2,): "single", (2,) * K: "repeat"}
        return np.array([given.get(at.get(tuple(each), ""), clean) for each in arrangements])

    return SimpleNamespace(
        num_latents=K,
        seed=0,
        refed=refed,
        captured=lambda n, num_latents: SimpleNamespace(right=clean),
        once=lambda name, compute: seen.setdefault(name, compute()),
    )


def test_what_another_order_costs_is_found():
    half = np.arange(N) % 2 > 0
    rows = of(latents.reordered_sound(reordering(reversed=half), {}))
    assert {name: row.verdict.word for name, row in rows.items()} == {
        "permuted": Validity.REFUTED,
        "reversed": Validity.SUPPORTED,
    }
    none = np.zeros(N, bool)
    rows = of(latents.single_sound(reordering(zero=half, single=none), {}))
    assert rows["single_2"].verdict.word is Validity.SUPPORTED and rows["single_2"].null.value == 0.5
    rows = of(latents.repeat_sound(reordering(zeros=none, repeat=half), {}))
    assert rows["repeat_2"].verdict.word is Validity.REFUTED and rows["repeat_2"].value == 0.5
    kept = of(latents.retention(reordering(zero=half)))
    assert kept["first_half"].value == 1 and kept["zero_single"].value == pytest.approx(2 / 3) and kept["zero_single"].n == 150


def test_own_thoughts_that_change_an_answer_stop_everything():
    broken = (np.arange(N) % 4 > 0) ^ (np.arange(N) % 20 == 7)
    with pytest.raises(MeasureError, match="a control fails: the own thoughts, fed again in their order"):
        latents.reordered(reordering(clean=broken))


# Other values


def replacing(right: dict, said: dict | None = None) -> SimpleNamespace:
    """A bench whose answers under conditions of all latents are given, by what they are replaced with."""
    clean, seen = np.arange(N) % 4 > 0, {}

    def effects(n, conditions, *, num_latents, scoring, seed):
        names = ["+".join(map(str, each)) for each in conditions]
        numbers = np.array([(said or {}).get(name, np.arange(float(N))) for name in names])
        return Effects(np.array([right.get(name, clean) for name in names]), np.zeros((len(names), N)), "", numbers)

    return SimpleNamespace(num_latents=K, seed=0, effects=effects, once=lambda name, compute: seen.setdefault(name, compute()))


def test_what_all_latents_carry_is_found_with_its_order():
    third, none = np.arange(N) % 3 > 0, np.zeros(N, bool)
    bench = replacing({"all=noise": third & (np.arange(N) % 4 > 0), "all=mean": none})
    rows = of(latents.ablate_all_sound(bench, {}))
    assert {name: row.verdict.word for name, row in rows.items()} == {
        "zero": Validity.REFUTED,
        "mean": Validity.SUPPORTED,
        "noise": Validity.SUPPORTED,
        "zero_over_noise": Validity.SUPPORTED,
        "noise_over_mean": Validity.SUPPORTED,
    }
    assert values(latents.ablate_all(bench)) == {"clean": 0.75, "zero": 0.75, "mean": 0, "noise": pytest.approx(0.5)}
    assert values(latents.necessity(bench)) == {"lost": 0}
    assert values(latents.necessity(replacing({"all=zero": none}))) == {"lost": 1}


def test_a_loss_counts_from_half_of_the_published_one():
    few = (np.arange(N) % 4 > 0) & (np.arange(N) % 5 > 0)
    bench = replacing({"all=zero": few})
    assert of(latents.ablate_all_sound(bench, {}))["zero"].verdict.word is Validity.SUPPORTED
    published = {"clean": 0.9, "zero": 0.1}
    assert of(latents.ablate_all_sound(bench, published))["zero"].verdict.word is Validity.REFUTED


def test_a_prediction_that_changes_is_a_flip_right_or_wrong():
    other, missing = np.arange(float(N)), np.arange(float(N))
    other[:50] += 1
    missing[:20] = np.nan
    found = values(latents.flips(replacing({}, {"2=zero": other, "4=zero": missing})))
    assert found == {f"flip_{t}": {3: 0.25, 5: 0.1}.get(t, 0) for t in range(1, K + 1)}


def test_a_control_that_fails_stops_everything():
    with pytest.raises(MeasureError, match="a control fails: replacing every latent by itself"):
        latents.ablate_all(replacing({"all=self": np.zeros(N, bool)}))
    with pytest.raises(MeasureError, match="a control fails"):
        latents.flips(replacing({}, {"all=self": np.zeros(N)}))


def test_noise_in_the_last_two_costs_nothing_or_is_said_to_be_undecidable():
    (row,) = latents.last_two_sound(replacing({}), {})
    assert row.verdict.word is Validity.SUPPORTED
    none = np.zeros(N, bool)
    (row,) = latents.last_two_sound(replacing({"4=noise+5=noise": none}), {})
    assert row.verdict.word is Validity.REFUTED
    (row,) = latents.last_two_sound(replacing(dict.fromkeys(("", "all=self", "4=noise+5=noise"), none)), {})
    assert row.verdict is None and "nothing could be lost" in row.detail["no_validity"]


# Fewer latents


def truncating(right: np.ndarray, steps) -> SimpleNamespace:
    problems = [SimpleNamespace(num_steps=k) for k in steps]
    return SimpleNamespace(
        num_latents=len(right) - 1, early=lambda n: right, captured=lambda n, num_latents: SimpleNamespace(problems=problems)
    )


def test_a_dip_of_long_problems_is_found_and_none_is_not():
    steps = np.arange(N) % 5 + 1
    flat = np.ones((4, N), bool)
    dip = flat.copy()
    dip[2] = steps < 3
    (row,) = latents.truncation_by_steps_sound(truncating(dip, steps), {})
    assert row.value == 1 and row.n == (steps >= 3).sum() and row.verdict.word is Validity.SUPPORTED
    (row,) = latents.truncation_by_steps_sound(truncating(flat, steps), {})
    assert row.value == 0 and row.verdict.word is not Validity.SUPPORTED
    found = values(latents.truncation_by_steps(truncating(dip, steps)))
    assert found["steps4_2"] == 0 and found["steps2_2"] == 1 and len(found) == 16
    assert values(latents.truncation(truncating(dip, steps))) == {f"accuracy_{k}": [1, 1, 0.4, 1][k] for k in range(4)}
    lost = of(latents.truncation_sound(truncating(dip, steps), {}))
    assert {name: row.verdict.word for name, row in lost.items()} == {
        "accuracy_0": Validity.REFUTED,
        "accuracy_1": Validity.REFUTED,
        "accuracy_2": Validity.SUPPORTED,
    }
    assert (
        of(latents.truncation_sound(truncating(dip, steps), {"accuracy_2": 0.01, "accuracy_3": 1.0}))["accuracy_2"].value == 0.4
    )
    with pytest.raises(MeasureError, match="needs two of them and problems with three steps"):
        latents.truncation_by_steps_sound(truncating(flat, np.ones(N)), {})


# The published evaluation


def test_padded_batches_are_compared_with_each_alone(tiny, tmp_path):
    bench = ModelBench(tiny, Store(tmp_path), n=40, max_new_tokens=NEW)
    alone = bench.answered(bench.problems(40), padding="masked")
    assert (alone == bench.right_under(40, [[]], num_latents=K)[0]).all()
    texts = tiny.answer(
        [p.question for p in bench.problems(40)], batch_size=128, max_new_tokens=NEW, protocol="unmasked-padding"
    ).texts
    batches = bench.answered(bench.problems(40), padding="unmasked-padding")
    assert batches.tolist() == [score(text, p.answer) for text, p in zip(texts, bench.problems(40))]
    assert values(answers.batch_effect(bench)) == {"batches": batches.mean(), "alone": alone.mean()}


def test_what_padding_gains_is_found():
    right = {"unmasked-padding": np.ones(N, bool), "masked": np.arange(N) % 10 > 0}
    bench = SimpleNamespace(problems=lambda n: [], answered=lambda problems, padding: right[padding])
    (row,) = answers.batch_effect_sound(bench, {})
    assert row.verdict.word is Validity.SUPPORTED and row.value == 1 and row.null.value == 0.9
    bench.answered = lambda problems, padding: right["masked"]
    (row,) = answers.batch_effect_sound(bench, {})
    assert row.verdict.word is not Validity.SUPPORTED
