"""Released answers of Coconuts on ProsQA and ProntoQA: made-up files of the same layout with planted answers, and real ones."""

from itertools import pairwise, product

import numpy as np
import pytest

from codi_bench.claims.coconut_controls import recipients
from codi_bench.errors import MeasureError, ProblemError
from codi_bench.suite.engine import judge
from codi_bench.thoughts.coconut_cot import steering
from codi_bench.thoughts.research_pipeline import (
    multipass_answers,
    prosqa_answers,
    spoilt_thoughts,
    thought_counts,
    unmatched_transplants,
)
from codi_bench.thoughts.rizvi_coconut import hops, prontoqa_beliefs, prontoqa_unaided, prosqa_beliefs, prosqa_unaided
from tests.released_files import by_metric, protocols_on, real, with_real_files, word

LIANG, CONTROLLED = "coconut-gpt2-prosqa-liang", "coconut-gpt2-prosqa"
PROSQA, PRONTOQA = "coconut-gpt2-prosqa-rizvi", "coconut-gpt2-prontoqa-rizvi"


# Steered


def table(changed=(), right=36):
    """A steering table: 40 problems, clean and 20 conditions; changed: (problem, position, strength) answered otherwise."""
    rows = ["position,alpha,sample_idx,correct,n_steps,predicted_word,expected_word"]
    for problem in range(40):
        for position, alpha in [(0, 0), *product(range(1, 6), (5, 10, 20, 40))]:
            answer = "wumpus" if problem >= right or (problem, position, alpha) in changed else "lempus"
            rows.append(f"{position},{alpha},{problem},{int(answer == 'lempus')},3,{answer},lempus")
    return {steering: "\n".join(rows) + "\n"}


def test_a_steering_table_in_which_nothing_moves_is_blocked_and_with_one_answer_changed_it_is_not(tmp_path):
    protocols = protocols_on(tmp_path, "rel-coconut-steering", LIANG, table())
    reported = next(protocols)
    assert len(reported) == 21 and {row.value for row in reported} == {0.9}
    with pytest.raises(MeasureError, match="^dead edit: none of 20 conditions .* changes anything on 40 problems"):
        next(protocols)
    _, sound = map(by_metric, protocols_on(tmp_path, "rel-coconut-steering", LIANG, table([(7, 3, 20)])))
    assert sound["latent_2_by_20"].detail["loss"][0] == 1 / 40  # position 3 of the file
    assert word(sound["latent_2_by_20"]) == "UNDERPOWERED"


def test_a_steering_that_costs_accuracy_is_seen_where_there_is_some_to_lose(tmp_path):
    changed = [(problem, 1, 40) for problem in range(30)]
    _, sound = map(by_metric, protocols_on(tmp_path, "rel-coconut-steering", LIANG, table(changed)))
    assert word(sound["latent_0_by_40"]) == "SUPPORTED" and word(sound["latent_0_by_20"]) != "SUPPORTED"
    with pytest.raises(MeasureError, match="nothing to lose"):
        list(protocols_on(tmp_path, "rel-coconut-steering", LIANG, table(changed, right=22)))


@with_real_files
def test_the_released_steering_table_is_dead():
    protocols = real("rel-coconut-steering", LIANG)
    assert {round(row.value, 3) for row in next(protocols)} == {0.82}
    with pytest.raises(MeasureError, match="^dead edit: none of 20 conditions"):
        next(protocols)


# Against pause tokens


def answers(coconut, pause, multipass, n=400):
    """Files in which so many of n problems are answered in every set."""
    sets = {"prosqa_id": "prosqa_test", "7hop": "ood_7hop", "8hop": "ood_8hop", "dag": "ood_dag", "dense": "ood_dense"}
    right = {model: [i < count for i in range(n)] for model, count in (("m3", coconut), ("m5", pause))}
    return {
        prosqa_answers: {f"{model}_{name}": each for model, each in right.items() for name in sets},
        multipass_answers: {name: [int(i < multipass) for i in range(n)] for name in sets.values()},
    }


def test_what_feeding_thoughts_back_adds_is_judged_against_each_control(tmp_path):
    planted = answers(coconut=300, pause=200, multipass=360)
    words = {}
    for claim in ("rel-coconut-over-pause", "rel-coconut-over-passes", "rel-coconut-passes"):
        _, sound = map(by_metric, protocols_on(tmp_path, claim, CONTROLLED, planted))
        words[claim] = word(sound["seven_hops"])
    assert [*words.values()] == ["SUPPORTED", "REFUTED", "SUPPORTED"]
    reported, sound = map(by_metric, protocols_on(tmp_path, "rel-coconut-over-pause", CONTROLLED, answers(202, 200, 1)))
    assert reported["prosqa"].value == 0.505 and reported["pause_dag"].value == 0.5 and word(sound["dense"]) == "UNDERPOWERED"


# Thoughts spoilt, reordered, transplanted


STEPS = [3 + i % 4 for i in range(120)]  # so 120 problems have a third thought, 90 a fourth, 60 a fifth, 30 a sixth
RIGHT = [i % 12 > 0 for i in range(120)]


def question(steps):
    chain = ["Sally", *(f"k{i}pus" for i in range(steps))]
    rules = [f"{'Every ' * (i > 0)}{a} is a {b}." for i, (a, b) in enumerate(pairwise(chain))]
    return f"{' '.join(rules[::-1])} Bob is a yumpus. Is Sally a yumpus or {chain[-1]}?", chain[-1]


def spoilt(right_after, flipped=0.0, transplanted=1.0):
    """Files on these problems. right_after: of those with more than k steps, how many stay right with noise there."""
    n, counts = len(STEPS), [sum(step > k for step in STEPS) for k in range(6)]
    texts = [question(steps) for steps in STEPS]
    model = {
        "total_samples": n,
        "clean_accuracy": sum(RIGHT) / n,
        **{key: [after / n for after in right_after] for key in ("forward_corruption", "reverse_corruption", "single_position")},
        "cross_transplant_accuracy": transplanted,
        "cross_transplant_pairs": 40,
        "permutation_flip_rate": flipped,
        "mean_permutation_flip_rate": flipped / 10,
        "permutation_total_samples": n,
        "partial_permutation_flip_rate": 0.0,
    }
    rows = [
        {"full_output": f"{text}\n### Sally is a {gold}.", "expected": f"Sally is a {gold}.", "correct": 1}
        for text, gold in texts
    ]
    return {
        prosqa_answers: answers(1, 1, 1)[prosqa_answers] | {"m3_prosqa_id": RIGHT},
        spoilt_thoughts: {"m3": model},
        thought_counts: {f"{k}": ["a"] * count for k, count in enumerate(counts)},
        prosqa_unaided: {"results": rows},
        unmatched_transplants: {"m3": {"unmatched_correct": 39, "unmatched_total": 40}},
    }


def some(files, *names):
    return {name: files[name] for name in names}


CORRUPTION = (prosqa_answers, spoilt_thoughts, thought_counts, prosqa_unaided)
UNHURT = [sum(right for right, step in zip(RIGHT, STEPS) if step > k) for k in range(6)]


@pytest.mark.parametrize(
    ("fourth", "reported_word", "sound_word"), [(UNHURT[3], "ARTEFACT", "REFUTED"), (9, "SUPPORTED", "SUPPORTED")]
)
def test_a_cliff_that_the_denominator_makes_is_told_from_a_true_one(tmp_path, fourth, reported_word, sound_word):
    after = [UNHURT[0] - 1, *UNHURT[1:3], fourth, *UNHURT[4:]]
    files, printed = some(spoilt(after), *CORRUPTION), {"forward_3": 100 * (UNHURT[0] - fourth) / 120}
    reported, sound = protocols_on(tmp_path, "rel-coconut-corruption", CONTROLLED, files, printed)
    numbers = judge(reported, sound, 1000)
    assert numbers["forward_3"].value == pytest.approx(printed["forward_3"]) and numbers["sound forward_3"].n == 90
    assert (word(numbers["forward_3"]), word(numbers["sound forward_3"])) == (reported_word, sound_word)


def test_noise_that_changes_no_count_is_a_dead_edit_and_other_problems_are_not_mixed(tmp_path):
    with pytest.raises(MeasureError, match="^dead edit: none of 9 conditions"):
        list(protocols_on(tmp_path, "rel-coconut-corruption", CONTROLLED, some(spoilt(UNHURT), *CORRUPTION)))
    files = some(spoilt(UNHURT), *CORRUPTION) | {thought_counts: {f"{k}": ["a"] * 7 for k in range(6)}}
    with pytest.raises(MeasureError, match="not the same problems"):
        list(protocols_on(tmp_path, "rel-coconut-corruption", CONTROLLED, files))


@pytest.mark.parametrize(("flipped", "claim"), [(0.0, "SUPPORTED"), (0.2, "REFUTED"), (0.05, "UNDERPOWERED")])
def test_orders_without_effect_beside_noise_with_one_are_a_result(tmp_path, flipped, claim):
    files = some(spoilt([UNHURT[0] - 1] * 6, flipped), spoilt_thoughts)
    reported, sound = map(by_metric, protocols_on(tmp_path, "rel-coconut-order", CONTROLLED, files))
    assert (reported["flipped"].n, reported["flipped"].value) == (1200, pytest.approx(flipped / 10))
    assert (sound["flipped"].n, sound["flipped"].value, word(sound["flipped"])) == (120, pytest.approx(flipped), claim)


def test_orders_without_effect_beside_noise_without_one_are_blocked(tmp_path):
    with pytest.raises(MeasureError, match="^dead edit"):
        list(protocols_on(tmp_path, "rel-coconut-order", CONTROLLED, some(spoilt(UNHURT), spoilt_thoughts)))


def test_transplants_are_compared_with_the_same_problems(tmp_path):
    assert recipients(np.array([3, 4, 3, 3, 4, 3, 3]), 2) == [2, 5] and recipients(np.array([3, 4, 3, 4]), 9) == [2, 3]
    files = spoilt([UNHURT[0] - 1] * 6, transplanted=0.1)
    del files[prosqa_unaided], files[thought_counts]
    files |= some(spoilt(UNHURT), prosqa_unaided, thought_counts)
    reported, sound = map(by_metric, protocols_on(tmp_path, "rel-coconut-transplant", CONTROLLED, files))
    assert reported["matched"].value == 0.1 and word(sound["matched"]) == "REFUTED"
    assert sound["unmatched"].detail["note"].startswith("30 to 40 of 40") and word(sound["unmatched"]) == "UNDERPOWERED"


def test_steps_of_a_problem_are_counted_on_its_shortest_way():
    text = "Every a is a b. Every b is an d. Every a is a c. Every c is a b. Max is a a. Is Max a d or e?"
    assert hops(text, "d") == 3
    with pytest.raises(ProblemError, match="'e' does not follow from the rules in the question 'Every a is a b"):
        hops(text, "e")
    with pytest.raises(ProblemError, match="give a question of ProsQA"):
        hops("What is 1 and 1?", "2")


@with_real_files
def test_the_released_cliff_is_one_of_the_denominator():
    protocols = real("rel-coconut-corruption", CONTROLLED)
    reported, sound = by_metric(next(protocols)), by_metric(next(protocols))
    assert [round(reported[f"forward_{k}"].value, 1) for k in range(6)] == [0.2, 0.2, 0.2, 39.6, 81.4, 94.6]
    assert [sound[f"forward_{k}"].detail["note"] for k in (3, 4, 5)] == [
        "288 of 298 right before, 287 after",
        "78 of 81 right before, 78 after",
        "12 of 12 right before, 12 after",
    ]


# Left out, and read on their way


def unaided(right, marked=True, truth=("True", "False")):
    """Questions whose answers take turns; those of which right is true are answered rightly."""
    rows = []
    for i, each in enumerate(right):
        gold = truth[i % 2]
        answer = gold if each else truth[1 - i % 2]
        output = f"True or false: {i} is dull.\n{'### ' * marked}{answer}"
        rows.append({"full_output": output, "expected": gold, "correct": bool(each and marked)})
    return {prontoqa_unaided: {"results": rows}}


def test_answers_without_latents_are_held_against_one_of_two_and_read_without_the_mark_too(tmp_path):
    claim = "rel-coconut-no-latents"
    _, sound = map(by_metric, protocols_on(tmp_path, claim, PRONTOQA, unaided(np.arange(200) % 10 > 0)))
    assert sound["accuracy"].null.value == 0.5 and word(sound["accuracy"]) == "SUPPORTED"
    _, sound = map(by_metric, protocols_on(tmp_path, claim, PRONTOQA, unaided(np.arange(400) % 2 == 0)))  # always True
    assert word(sound["accuracy"]) == "UNDERPOWERED" or word(sound["accuracy"]) == "REFUTED"
    reported, sound = map(by_metric, protocols_on(tmp_path, claim, PRONTOQA, unaided(np.ones(200), marked=False)))
    assert reported["accuracy"].value == 0 and sound["last_word"].value == 1


@pytest.mark.parametrize(("before", "later", "claim"), [(40, 90, "SUPPORTED"), (90, 40, "REFUTED"), (60, 61, "UNDERPOWERED")])
def test_a_frontier_that_advances_is_told_from_one_that_does_not(tmp_path, before, later, claim):
    counts = [before, later, later, later, later, later, later]
    rows = [
        {"answer": "True" if i % 2 else "False", "p_norm": [0.9 if (i < c) == i % 2 else 0.1 for c in counts]} for i in range(100)
    ]
    files = {prontoqa_beliefs: {"results": rows}}
    reported, sound = map(by_metric, protocols_on(tmp_path, "rel-coconut-frontier", PRONTOQA, files))
    assert reported["bot"].value == before / 100 and word(sound["latent_4"]) == word(sound["eot"]) == claim


def test_the_right_word_is_held_against_the_other_one_that_was_asked_for(tmp_path):
    probabilities = {"lempus": [0.3] + [0.1] * 7, "wumpus": [0.2] * 8, "Max": [0.9] * 8}
    row = {"entities": [*probabilities], "target": 0, "neg_target": 1, "entity_probs": probabilities}
    reported = by_metric(next(protocols_on(tmp_path, "rel-coconut-frontier", PROSQA, {prosqa_beliefs: {"examples": [row] * 3}})))
    assert (reported["bot"].value, reported["latent_5"].value, reported["eot"].value) == (1, 0, 0)


@with_real_files
@pytest.mark.parametrize(
    ("claim", "model", "values"),
    [
        (
            "rel-coconut-over-pause",
            CONTROLLED,
            {"prosqa": 97.0, "pause_prosqa": 96.6, "seven_hops": 66.0, "pause_seven_hops": 75.4},
        ),
        ("rel-coconut-over-passes", CONTROLLED, {"multipass_seven_hops": 76.9, "multipass_prosqa": 94.8}),
        ("rel-coconut-order", CONTROLLED, {"flipped": 0.0}),
        ("rel-coconut-transplant", CONTROLLED, {"matched": 97.0, "unmatched": 97.5}),
        ("rel-coconut-no-latents", PROSQA, {"accuracy": 96.6}),
        ("rel-coconut-no-latents", PRONTOQA, {"accuracy": 92.1}),
        ("rel-coconut-no-latents", "coconut-smollm2-135m-prosqa-rizvi", {"accuracy": 86.3}),
        ("rel-coconut-frontier", PROSQA, {"bot": 95.7, "latent_0": 87.7, "latent_5": 85.7, "eot": 95.7}),
    ],
)
def test_published_numbers_come_out_to_the_printed_digit(claim, model, values):
    rows = by_metric(next(real(claim, model)))
    assert {metric: round(100 * rows[metric].value, 1) for metric in values} == values
