"""Released files of the first study: made-up ones of the same layout with planted answers, and the real ones if at hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from codi_bench.claims import CLAIMS
from codi_bench.errors import MeasureError
from codi_bench.suite.released_bench import FilesBench, released_in
from codi_bench.thoughts.cot_exploration import (
    gpt2_error_classifier,
    gpt2_labels,
    gpt2_pairs,
    gpt2_words,
    llama_importance,
    problem_pairs,
)
from codi_bench.thoughts.internalize_cot import gsm8k_chains

HOME = os.environ.get("CODI_BENCH_RELEASED")
DROPS = {"drop_bot": 6, "drop_0": 7, "drop_1": 18, "drop_2": 40, "drop_3": 7, "drop_4": 7}


@pytest.fixture
def measure(tmp_path):
    """Both protocols of a claim on made-up files, by metric."""

    def run(claim, contents, published=(), model="gpt2"):
        files = {}
        for i, (file, content) in enumerate(contents.items()):
            files[file] = tmp_path / f"{i}"
            files[file].write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        protocols = CLAIMS[claim].on_files.function(FilesBench.of(model, files), dict(published))
        return [{row.metric: row for row in next(protocols)} for _ in range(2)]

    return run


def word(row):
    return row.verdict.word.value


def labels(right, numbers=None):
    places = np.zeros((len(right), 6), bool) if numbers is None else numbers
    rows = zip(right, places.tolist(), strict=True)
    samples = [
        {
            "id": i,
            "question": f"What is {i} and 1?",
            "ground_truth": i + 1,
            "is_correct": bool(each),
            "decoded_positions": [{"is_number": number} for number in row],
        }
        for i, (each, row) in enumerate(rows)
    ]
    return {"samples": samples}


def pairs(ids, right):
    """Pairs and answers to them, as the files hold them; a clean member's short answer ends at a comma."""
    texts = [
        {
            "pair_id": i,
            "clean": {"question": f"What is {i} and  1?", "answer": 1, "full_answer": f"<<{i}+1={i + 1}>>\n#### 1,{i:03}"},
            "corrupted": {"question": f"What is {i} and 2?", "answer": i + 2},
        }
        for i in ids
    ]
    answers = [
        {
            "pair_id": i,
            "clean": {"output": f"The answer is: {1000 + i if each else -1}", "correct": False},
            "corrupted": {"output": f"The answer is: {i + 2}", "correct": True},
        }
        for i, each in zip(ids, right, strict=True)
    ]
    return {problem_pairs: texts, gpt2_pairs: {"results": answers}}


def test_a_pair_that_stands_there_twice_counts_once_and_a_cut_answer_is_mended(measure):
    ids = [*range(40), *range(20)]
    right = [i % 2 == 0 or i > 55 for i in ids]
    reported, sound = measure("task-accuracy", {gpt2_labels: labels(np.arange(120) % 2 == 0), **pairs(ids, right)})
    assert reported["accuracy"].value == 0.5 and reported["accuracy_first_100"].n == 100
    assert reported["accuracy_pairs"].value == 0 and reported["accuracy_pairs"].n == 60  # as its script counted
    assert sound["accuracy_pairs"].value == 0.5 and sound["accuracy_pairs"].n == 40
    assert sound["accuracy_answers"].value == 0.75 and sound["accuracy_answers"].n == 40
    assert sound["accuracy_pairs"].detail["note"].startswith("0 of 40 answers")
    assert word(sound["accuracy"]) == word(sound["accuracy_pairs"]) == "SUPPORTED"


def chains(n):
    return "\n".join(f"What is {i} and 1?||<<{i}+1={i + 1}>> #### {i + 1}" for i in range(n))


@pytest.mark.parametrize(
    ("accuracy", "over_majority", "claim"),
    [(1.0, "SUPPORTED", "SUPPORTED"), (0.4, "REFUTED", "REFUTED"), (0.705, "UNDERPOWERED", "UNDERPOWERED")],
)
def test_a_count_is_judged_over_all_tables_against_majority_and_surface(measure, accuracy, over_majority, claim):
    right = np.random.default_rng(0).permutation(1000) < 400
    files = {
        gpt2_error_classifier: {"train_accuracy": 1.0, "test_accuracy": accuracy},
        gpt2_labels: labels(right),
        gsm8k_chains: chains(1000),
    }
    reported, sound = measure("sae-error-prediction", files)
    assert reported["test_accuracy"].value == accuracy and sound["test_accuracy"].detail["counts"] == [round(200 * accuracy), 200]
    assert sound["test_accuracy"].detail["note"].startswith("majority 120 of 200")
    assert (word(sound["over_majority"]), word(sound["test_accuracy"])) == (over_majority, claim)
    assert abs(sound["surface_accuracy"].value - 0.6) < 0.08  # nothing to be read there


def test_a_drop_is_shown_where_no_table_undoes_it(measure):
    reported, sound = measure("ablation", {gpt2_labels: labels(np.arange(120) < 42)}, DROPS)
    assert reported["clean"].value == 0.42 and sound["drop_2"].value == 40
    assert {metric: word(sound[metric]) for metric in DROPS} == dict.fromkeys(DROPS, "UNDERPOWERED") | {"drop_2": "SUPPORTED"}
    assert word(sound["contrast_2"]) == "SUPPORTED" and word(sound["contrast_1"]) == "UNDERPOWERED"
    assert sound["drop_1"].detail["note"] == "24 right of 100; shown if at most 12 wrong answers turned right"
    with pytest.raises(MeasureError, match="the baseline has no drop_bot"):
        measure("ablation", {gpt2_labels: labels(np.arange(120) < 42)}, {"drop_0": 1})


@pytest.mark.parametrize(("last", "n", "claim"), [(0.6, 100, "REFUTED"), (0.02, 4000, "SUPPORTED"), (0.06, 100, "UNDERPOWERED")])
def test_no_critical_token_is_judged_by_the_contrasts_of_losses(measure, last, n, claim):
    tokens = {f"token_{t}": {"importance_mean": share} for t, share in enumerate([0.02] * 5 + [last])}
    content = {"per_token": tokens, "by_difficulty": {"2-step": {"num_problems": n // 2}, "3-step": {"num_problems": n - n // 2}}}
    _, sound = measure("ablation-critical", {llama_importance: content}, model="llama-3.2-1b")
    assert word(sound["range"]) == claim and sound["range"].detail["critical"] == [4] * (claim == "REFUTED")


def words(right, texts, clean=True):
    """Rows of a released comparison: the head's words at seven places, the same at each."""
    rows = [
        {
            "pair_id": i,
            "variant": "clean" if clean else "corrupted",
            "question": f"What is {i} and 1?",
            "correct": bool(each),
            "predicted_number": i + 1 if each else -1,
            "ground_truth": i + 1,
            "thought_tokens": [[text, " so", ","] if place % 2 == 0 else [">>", "-", text] for place in range(7)],
        }
        for i, (each, text) in enumerate(zip(right, texts, strict=True))
    ]
    return {"results": {"vanilla": rows}}


def test_numbers_at_even_places_are_seen_and_so_is_what_the_norm_does(measure):
    content = words(np.ones(60), [f" {i + 1}" for i in range(60)])
    content["results"]["vanilla"] += words(np.ones(60), ["x"] * 60, clean=False)["results"]["vanilla"]
    reported, sound = measure("rel-parity", {gpt2_words: content, gpt2_labels: labels(np.ones(60))})
    assert [reported[f"number_{place}"].value for place in (0, 1)] == [0.5, 0]
    assert sound["alternates"].n == 60 and sound["alternates"].value == 1  # the clean member of each pair
    assert word(sound["alternates"]) == word(sound["normed_2"]) == "SUPPORTED"


@pytest.mark.parametrize(("wrong_too", "claim"), [(False, "SUPPORTED"), (True, "REFUTED")])
def test_what_right_answers_alone_leave_out_is_seen(measure, wrong_too, claim):
    right = np.arange(200) < 100
    texts = [f"{i + 1}" if each or wrong_too else "x" for i, each in enumerate(right)]
    steps = "\n".join(f"What is {i} and 1?||<<{i}+1={i + 1}>> <<{i + 1}*2={2 * i + 2}>> #### {2 * i + 2}" for i in range(200))
    reported, sound = measure("rel-decoding-selection", {gpt2_words: words(right, texts), gsm8k_chains: steps})
    assert reported["right"].value == 1 and reported["wrong"].value == wrong_too
    assert word(sound["right"]) == "SUPPORTED" and word(sound["selection"]) == claim
    assert sound["selection"].value == 100 * (not wrong_too)


def test_a_surface_that_tells_the_answers_is_read(measure):
    """Problems with large numbers are wrong."""
    files = {gpt2_labels: labels(np.arange(200) < 100), gsm8k_chains: chains(200)}
    reported, sound = measure("rel-probe-surface", files)
    assert reported["in_sample"].value > 0.9 and word(sound["held_out_1000"]) == "SUPPORTED"


@pytest.mark.skipif(not HOME, reason="NOT GIVEN: CODI_BENCH_RELEASED names the folder with released files")
@pytest.mark.parametrize(
    ("claim", "model", "values"),
    [
        ("task-accuracy", "gpt2", {"accuracy": 0.432, "accuracy_first_100": 0.42}),
        ("rel-parity", "llama-3.2-1b", dict(enumerate((0.611, 0.916, 0.653, 0.070, 0.972, 0.740, 0.200)))),
        ("rel-parity", "gpt2", dict(enumerate((0.951, 0.004, 0.905, 0, 0.912, 0, 0.919)))),
    ],
)
def test_published_numbers_come_out_to_the_printed_digit(claim, model, values):
    at_hand = released_in([Path(HOME)])
    bench = FilesBench.of(model, {file: at_hand[file] for file in CLAIMS[claim].files(model)})
    rows = {row.metric: row.value for row in next(CLAIMS[claim].on_files.function(bench, {}))}
    found = {key: round(rows[key if isinstance(key, str) else f"number_{key}"], 3) for key in values}
    assert found == values
