"""Latents replaced, re-ordered and transplanted, where it is known what must come of it."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
from fake_bench import EVERY, FakeBench, K, N, measured, values, words
from hand_built import by_hand
from plain import plain
from transformers import AutoTokenizer

from codi_bench.claims import runs, transplants
from codi_bench.claims.ablations import NORMAL, ZERO, arrange
from codi_bench.claims.claim import done
from codi_bench.errors import EditError, MeasureError
from codi_bench.models.answering import Pass, answer_discretised
from codi_bench.models.conditions import CLEAN, PUBLISHED, Discretised, Edited, Fed
from codi_bench.models.edits import Edit
from codi_bench.models.model import Model
from codi_bench.models.registry import ModelEntry
from codi_bench.problems import Problem, score
from codi_bench.problems.pairs import Pair
from codi_bench.rules.validity import Validity
from codi_bench.store.cache import Store
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.problem_source import ProblemSource
from codi_bench.thoughts.decoded import Decoded

NEW = 5
NUMBERS = 98  # that the tokenizer of the model built by hand has
SIDES = ("recipient", "donor", "same")
SUPPORTED, REFUTED = Validity.SUPPORTED, Validity.REFUTED


# Transplants


def planted(step: int, **gold: str) -> list[Pair]:
    """Pairs for the model built by hand, whose answer is the number of the question. gold: another answer of that side."""

    def problem(number: int, side: str) -> Problem:
        return Problem(f"Mia has {number} apples .", (), gold.get(side, str(number)), f"{step} {number}")

    numbers = [{"recipient": i, "donor": (i + 37) % NUMBERS, "same": i} for i in range(NUMBERS)]
    return [Pair(*(problem(each[side], side) for side in SIDES), step) for each in numbers]


@dataclass(frozen=True)
class Planted(ProblemSource):
    gold: dict = field(default_factory=dict)

    def pairs(self, n, *, step):
        return planted(step, **self.gold)


@pytest.fixture
def read_at(tiny_folders, tmp_path):
    """The bench of a model that reads its answer at one latent."""

    def made(carrier: int, **gold: str) -> ModelBench:
        codi = by_hand(AutoTokenizer.from_pretrained(tiny_folders["gpt2"]), carrier=carrier, by_place=True)
        codi.fingerprint = f"read at {carrier}"
        model = Model(codi, ModelEntry("by-hand", "gpt2", (1, 2, 3), (1, 2, 3)), "cpu", "float32")
        return ModelBench(model, Store(tmp_path), Planted(gold=gold), max_new_tokens=3)

    return made


@pytest.mark.parametrize("carrier", (0, 3, 5))
def test_a_transplant_turns_every_answer_that_is_read_there_and_one_place_off_it_turns_none(read_at, carrier):
    bench = read_at(carrier)
    pair = values("cap-minimal-pair", bench)
    assert pair == {"all": 1} | {f"single_{k}": float(k == carrier) for k in EVERY}
    assert values("cap-minimal-pair-without", bench) == {f"without_{k}": float(k != carrier) for k in EVERY}
    assert values("cap-minimal-pair-prefix", bench) == {f"prefix_{k}": float(k >= carrier) for k in EVERY}
    assert set(values("cap-off-by-one", bench).values()) == {0}
    expected = {name: SUPPORTED if value else REFUTED for name, value in pair.items()}
    assert words("cap-minimal-pair", bench) == words("cap-off-by-one", bench) == expected
    assert {row.n for row in measured("cap-minimal-pair", bench)[0].values()} == {2 * NUMBERS}


# What the model itself answers to a twin


def test_own_thoughts_fed_again_change_nothing_and_a_twin_s_turn_the_answer(read_at):
    bench, pairs = read_at(3), planted(1)
    recipients, donors = ([getattr(pair, side) for pair in pairs] for side in ("recipient", "donor"))
    fed = [Fed(runs.latents(bench, problems)[:, :-1]) for problems in (recipients, donors)]
    clean, own, twin = bench.answers(recipients, [CLEAN, *fed]).numbers
    numbers = np.arange(float(NUMBERS))
    assert (clean == numbers).all() and (own == numbers).all() and (twin == (numbers + 37) % NUMBERS).all()
    assert values("cap-cfr", bench) == {"all": 1}


def test_a_wrong_twin_is_followed_to_its_own_answer_and_not_to_the_right_one(read_at):
    wrong = read_at(3, donor="99")  # the model gives another number for every donor
    assert values("cap-minimal-pair-wrong", wrong) == {"wrong": 1, "gold": 0}
    (row,) = measured("cap-minimal-pair-wrong", wrong)[1].values()
    assert row.verdict.word is SUPPORTED and row.n == 2 * NUMBERS
    assert values("cap-cfr", wrong) == {"all": 0}
    with pytest.raises(MeasureError, match=f"0 of {2 * NUMBERS} pairs have a twin with a wrong answer of its own; 20 are needed"):
        values("cap-minimal-pair-wrong", read_at(3))
    with pytest.raises(MeasureError, match="0 of"):
        values("cap-minimal-pair-wrong", read_at(3, recipient="99", donor="99"))


def test_the_same_value_leaves_the_answer_or_loses_it(read_at):
    bench = read_at(3)
    assert set(values("af-same-value-patch", bench).values()) == {1}
    assert {*words("af-same-value-patch", bench).values()} == {SUPPORTED}
    found = transplants.transplanted(bench)
    bench.memo.update(done({transplants.transplanted: replace(found, stays=np.zeros_like(found.stays))}))
    assert {*words("af-same-value-patch", bench).values()} == {REFUTED}


# Words in the place of thoughts


def test_discretised_thoughts_are_those_of_a_plain_loop_over_words(tiny, tmp_path):
    bench, codi = ModelBench(tiny, Store(tmp_path), max_new_tokens=NEW), tiny.codi
    problems = bench.problems.first(12)
    clean, none = bench.answers(problems, [CLEAN, Discretised(())]).answers
    assert none == clean
    for places in ((1, 3, 5), EVERY):
        found = answer_discretised(codi, [p.question for p in problems], places, Pass(K, 5, NEW))
        assert list(found.tokens) == [plain(codi, p.question, discretised=places, new=NEW).tokens for p in problems]
    with pytest.raises(EditError, match="latent positions go from 0 to 5"):
        bench.answers(problems, [Discretised((6,))])


# What a claim says of given answers

INDEX, NONE = np.arange(N), np.zeros(N, bool)
ALL, HALF, THREE_QUARTERS = ~NONE, INDEX % 2 > 0, INDEX % 4 > 0  # three quarters are right in the clean run
SUMMED = {"": ALL, "all=self": ALL, "all=zero": HALF, "all=mean": HALF, "after 0": ALL}
ORDER, REVERSED = "fed 0 1 2 3 4 5", "fed 5 4 3 2 1 0"
ABLATED = {"all=noise": (INDEX % 3 > 0) & THREE_QUARTERS, "all=mean": NONE}
EVEN, PADDED = {"0=zero+2=zero+4=zero": NONE}, dict.fromkeys(("unmasked-padding", ""), INDEX % 10 > 0)
FEWER = {"all=zero": THREE_QUARTERS & (INDEX % 5 > 0)}
ORDERED = {"zero": REFUTED, "mean": SUPPORTED, "noise": SUPPORTED, "zero_over_noise": SUPPORTED, "noise_over_mean": SUPPORTED}
OVER = {"none_over_zero": SUPPORTED, "none_over_mean": SUPPORTED, "zero_over_mean": REFUTED}


def content(reverse, without, word):
    given = {"": ALL, ORDER: ALL, REVERSED: reverse, "after 0": without}
    return "contra-order", given, {}, None, {"content_over_order": word}


@pytest.mark.parametrize(
    ("claim", "given", "published", "numbers", "says"),
    [
        ("gs-number-positions", EVEN, {}, {"drop_even": 75, "drop_odd": 0}, {"even": SUPPORTED, "odd": REFUTED}),
        ("contra-none", SUMMED, {"none": 0.9, "zero": 0.6, "mean": 0.1}, {"none": 1, "zero": 0.5, "mean": 0.5}, OVER),
        content(HALF, NONE, Validity.UNDERPOWERED),  # as much by order as by content
        content(HALF, HALF, REFUTED),
        content(ALL, HALF, SUPPORTED),
        ("scratch-order", {REVERSED: HALF}, {}, None, {"permuted": REFUTED, "reversed": SUPPORTED}),
        ("cap-ablate-all", ABLATED, {}, {"clean": 0.75, "zero": 0.75, "mean": 0, "noise": 0.5}, ORDERED),
        ("cap-ablate-all", FEWER, {}, None, {"zero": SUPPORTED}),
        ("cap-ablate-all", FEWER, {"clean": 0.9, "zero": 0.1}, None, {"zero": REFUTED}),  # less than half of the published loss
        ("gs-necessity", ABLATED, {}, {"lost": 0}, {}),
        ("gs-necessity", {"all=zero": NONE}, {}, {"lost": 1}, {}),
        ("af-last-two-random", {"all=zero": HALF}, {}, None, {"last_two": SUPPORTED}),
        ("af-last-two-random", {"4=noise+5=noise": NONE}, {}, None, {"last_two": REFUTED}),
        ("cap-batch-effect", PADDED | {"unmasked-padding": ALL}, {}, {"batches": 1, "alone": 0.9}, {"batches": SUPPORTED}),
        ("cap-batch-effect", PADDED, {}, None, {"batches": Validity.UNDERPOWERED}),
    ],
)
def test_a_claim_has_the_numbers_and_the_words_of_its_answers(claim, given, published, numbers, says):
    bench = FakeBench(given)
    assert numbers is None or values(claim, bench) == pytest.approx(numbers)
    found = words(claim, bench, published)
    assert {name: found[name] for name in says} == says


def test_the_share_solved_by_some_step_can_but_grow():
    right = {"after 0": [1, 0, 0, 0], "after 1": [0, 1, 0, 0], "after 2": [0, 0, 0, 1]}
    bench = FakeBench({name: np.array(row, bool) for name, row in right.items()}, num_latents=2)
    assert values("dyn-solved-rate", bench) == {"solved_0": 0.25, "solved_1": 0.5, "solved_2": 0.75}


def test_a_donor_s_latent_costs_what_it_does():
    rows, sound = measured("gs-resample", FakeBench({"2=resample": HALF, "3=zero": NONE, "2=zero": HALF}))
    assert {k: row.value for k, row in rows.items() if k != "r"} == {f"drop_{k}": 50 * (k == 2) / 2 for k in EVERY}
    assert rows["r"].value == pytest.approx(np.corrcoef([0, 0, 1, 0, 0, 0], [0, 0, 1, 3, 0, 0])[0, 1])
    assert sound["drop_2"].verdict.word is SUPPORTED and sound["drop_0"].verdict.word is not SUPPORTED


# Out of distribution


def test_what_is_elsewhere_is_against_a_constant_and_against_words():
    problems = [Problem(f"{i}", (), "1" if i < 40 else str(i), f"{i}") for i in range(N)]
    right, in_words = np.arange(N) >= 40, np.arange(N) % 2 > 0
    sets = {"elsewhere": lambda: {"gsm-hard": problems}}
    bench = FakeBench({"": right, "unmasked-padding": right, "in words": in_words}, sets=sets)
    assert values("codi-ood", bench) == {"accuracy_gsm_hard": 0.8}
    (row,) = measured("codi-ood", bench)[1].values()
    assert row.verdict.word is SUPPORTED and row.null.value == 0.2
    ((metric, row),) = measured("codi-ood-beats-cot", bench)[1].items()
    assert metric == "gain_gsm_hard" and row.value == pytest.approx(0.3) and row.verdict.word is SUPPORTED
    other = FakeBench({"": in_words, "in words": right}, sets=sets)
    assert words("codi-ood-beats-cot", other) == {"gain_gsm_hard": REFUTED}


# Where sources disagree


def test_replacements_disagree_on_the_latent_that_matters_most_only_where_they_do():
    none = np.zeros(N, bool)
    bench = FakeBench({"": ~none, "all=self": ~none, "1=zero": none, "4=mean": none, "1=noise": none})
    found, rows = measured("contra-most-important", bench)
    assert (found["zero"].value, found["mean"].value, found["noise"].value) == (1, 4, 1)
    assert rows["mean_or_zero"].value == 0.75 and rows["mean_or_zero"].verdict.word is SUPPORTED
    assert rows["mean_or_zero"].detail["positions"] == [4, 1] and rows["mean_or_zero"].n == N // 2
    assert rows["zero_or_noise"].verdict is None and "both cost most at latent 1" in rows["zero_or_noise"].detail["no_validity"]
    # noise prefers another position on the half that chooses, and on the half that counts the one of the others
    half = np.arange(N) >= N // 2
    bench = FakeBench({"": ~none, "all=self": ~none, "1=zero": none, "1=noise": ~half, "4=noise": half})
    row = measured("contra-most-important", bench)[1]["zero_or_noise"]
    assert row.value < 0 and row.verdict.word is REFUTED


def test_a_looser_rule_finds_what_a_stricter_one_leaves():
    problems = tuple(Problem(f"{i}", ("<<1+1=12>>", "<<1+1=2>>"), "2", f"{i}", values=(12, 2)) for i in range(40))
    texts = tuple((("1",) if i % 2 else ("12",),) for i in range(40))
    bench = FakeBench(decoded=Decoded(problems, texts, ("2",) * 40, 40))
    assert values("contra-table3", bench) == {"equal_1": 0.5, "prefix_1": 1}
    assert words("contra-table3", bench) == {"prefix_1": SUPPORTED}
    assert words("contra-table3", bench, {"prefix_1": 1.0, "equal_1": 0.0})["prefix_1"] is not REFUTED


# Thoughts fed in another order


def test_thoughts_fed_again_are_the_clean_run_and_zeros_are_an_edit(tiny, tmp_path):
    zeros = Edited((Edit("all", "zero"),))

    def refed(folder: str, arrangements, **settings) -> np.ndarray:
        bench = ModelBench(tiny, Store(tmp_path / folder), max_new_tokens=NEW, **settings)
        problems = bench.problems.first(12)
        thoughts = runs.latents(bench, problems)
        return bench.answers(problems, [Fed(arrange(thoughts, each, seed=0)) for each in arrangements]).right()

    asked = [EVERY, EVERY[::-1], (ZERO,) * K, (ZERO,), (2,), (NORMAL,) * K]
    found = refed("one", asked)
    bench = ModelBench(tiny, Store(tmp_path), max_new_tokens=NEW)
    problems = bench.problems.first(12)
    assert (found[[0, 2]] == bench.answers(problems, [CLEAN, zeros]).right()).all()
    assert (found[3] == bench.answers(problems, [zeros], num_latents=1).right()[0]).all()
    assert (refed("other", asked, batch_size=5) == found).all() and (refed("third", asked[4:]) == found[4:]).all()


ALONE = {"zero": "fed zero", "zeros": "fed zero zero zero zero zero zero", "single": "fed 2", "repeat": "fed 2 2 2 2 2 2"}


def reordering(**given: np.ndarray) -> FakeBench:
    return FakeBench({ALONE[name]: right for name, right in given.items()})


def test_what_one_thought_alone_or_repeated_leaves_is_found():
    row = measured("scratch-single", reordering(zero=HALF, single=NONE))[1]["single_2"]
    assert row.verdict.word is SUPPORTED and row.null.value == 0.5
    row = measured("scratch-repeat", reordering(zeros=NONE, repeat=HALF))[1]["repeat_2"]
    assert row.verdict.word is REFUTED and row.value == 0.5
    rows = measured("scratch-retention", reordering(zero=HALF))[0]
    assert rows["first_half"].value == 1 and rows["zero_single"].value == pytest.approx(2 / 3) and rows["zero_single"].n == 150


# Other values


def test_a_prediction_that_changes_is_a_flip_right_or_wrong():
    other, missing = np.arange(float(N)), np.arange(float(N))
    other[:50] += 1
    missing[:20] = np.nan
    found = values("dyn-flip", FakeBench(numbers={"2=zero": other, "4=zero": missing}))
    assert found == {f"flip_{t}": {3: 0.25, 5: 0.1}.get(t, 0) for t in range(1, K + 1)}


@pytest.mark.parametrize(
    ("claim", "bench", "control"),
    [
        ("cap-ablate-all", FakeBench({"all=self": NONE}), "replacing every latent by itself"),
        ("dyn-flip", FakeBench(numbers={"all=self": np.zeros(N)}), ""),
        ("scratch-order", FakeBench({ORDER: THREE_QUARTERS ^ (INDEX % 20 == 7)}), "the own thoughts, fed again in their order"),
    ],
)
def test_a_control_that_fails_forbids_every_word_and_no_published_number(claim, bench, control):
    assert values(claim, bench)
    with pytest.raises(MeasureError, match=f"a control fails: {control}"):
        measured(claim, bench)


# Fewer latents


def truncating(right: np.ndarray, steps) -> FakeBench:
    given = {f"after {k}": row for k, row in enumerate(right)}
    return FakeBench(given, num_latents=len(right) - 1, problems=[SimpleNamespace(num_steps=k) for k in steps])


def test_a_dip_of_long_problems_is_found_and_none_is_not():
    steps, flat = np.arange(N) % 5 + 1, np.ones((4, N), bool)
    dip = flat.copy()
    dip[2] = steps < 3
    flat[1, 0] = False  # an edit that changes nothing at all is dead
    found, sound = measured("cap-truncation-by-steps", truncating(dip, steps))
    row = sound["dip"]
    assert row.value == 1 and row.n == (steps >= 3).sum() and row.verdict.word is SUPPORTED
    assert found["steps4_2"].value == 0 and found["steps2_2"].value == 1 and len(found) == 16
    row = measured("cap-truncation-by-steps", truncating(flat, steps))[1]["dip"]
    assert row.value == 0 and row.verdict.word is not SUPPORTED
    assert values("cap-truncation", truncating(dip, steps)) == {f"accuracy_{k}": [1, 1, 0.4, 1][k] for k in range(4)}
    says = dict(zip(("accuracy_0", "accuracy_1", "accuracy_2"), (REFUTED, REFUTED, SUPPORTED)))
    assert words("cap-truncation", truncating(dip, steps)) == says
    published = {"accuracy_2": 0.01, "accuracy_3": 1.0}
    assert measured("cap-truncation", truncating(dip, steps), published)[1]["accuracy_2"].value == 0.4
    with pytest.raises(MeasureError, match="needs a model with two latents and problems with three steps"):
        measured("cap-truncation-by-steps", truncating(flat, np.ones(N)))


# The published evaluation


def test_padded_batches_are_compared_with_each_alone(tiny, tmp_path):
    bench = ModelBench(tiny, Store(tmp_path), ProblemSource(n=40), max_new_tokens=NEW)
    problems = bench.problems.first(40)
    batches, alone = (bench.answers(problems, [condition]).right("published")[0] for condition in (PUBLISHED, CLEAN))
    questions = [p.question for p in problems]
    texts = tiny.answer(questions, batch_size=128, max_new_tokens=NEW, protocol="unmasked-padding").texts
    assert batches.tolist() == [score(text, p.answer) for text, p in zip(texts, problems, strict=True)]
    assert values("cap-batch-effect", bench) == {"batches": batches.mean(), "alone": alone.mean()}
