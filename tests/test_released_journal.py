"""Released edited runs: made-up files of the same layout with planted answers, and the real ones if at hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from codi_bench.claims import CLAIMS
from codi_bench.errors import MeasureError
from codi_bench.suite.released_bench import FilesBench, released_in
from codi_bench.thoughts.cot_exploration import gpt2_labels, gpt2_words, problem_pairs
from codi_bench.thoughts.decoded import decoded_latent
from codi_bench.thoughts.edited_runs import (
    gpt2_zeroed,
    llama_cumulative,
    llama_operations,
    llama_operations_multi,
    llama_projected,
    llama_projected_train,
    llama_teacher_projected,
    llama_without_bot,
    llama_zeroed,
    llama_zeroed_532,
)

HOME = os.environ.get("CODI_BENCH_RELEASED")
LLAMA = "llama-3.2-1b"


@pytest.fixture
def measure(tmp_path):
    """Both protocols of a claim on made-up files, by metric."""

    def run(claim, contents, model=LLAMA):
        files = {}
        for i, (file, content) in enumerate(contents.items()):
            files[file] = tmp_path / f"{i}"
            files[file].write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        protocols = CLAIMS[claim].on_files.function(FilesBench.of(model, files), {})
        return [{row.metric: row for row in next(protocols)} for _ in range(2)]

    return run


def word(row):
    return row.verdict.word.value


def question(i):
    return f"What is {i} and 1?"


def matched(ids, kept):
    """Pairs whose members are right, and right with zeros where kept; the perturbed ones always wrong then."""
    member = [{"baseline_correct": True, "ablated_correct": bool(each)} for each in kept]
    lost = {"baseline_correct": True, "ablated_correct": False}
    return {"results": [{"pair_id": i, "clean": each, "corrupted": lost} for i, each in zip(ids, member, strict=True)]}


def every(right, kept):
    keys = ("clean_baseline_correct", "clean_ablated_correct", "corrupted_baseline_correct", "corrupted_ablated_correct")
    rows = zip(right, kept, right, kept, strict=True)
    return [{"pair_id": i} | dict(zip(keys, map(bool, row), strict=True)) for i, row in enumerate(rows)]


def test_pairs_with_zeros_count_once_and_by_member(measure):
    ids = [*range(60), *range(10)]
    files = {llama_zeroed: matched(ids, [i < 30 for i in ids])}
    reported, sound = measure("gs-necessity", files | {llama_zeroed_532: every(np.arange(80) < 60, np.arange(80) < 30)})
    assert reported["lost"].value == 1 and reported["lost"].n == 70 and reported["lost_532"].value == 30 / 80
    assert (sound["drop_matched"].value, sound["drop_matched"].n) == (50, 60) and sound["drop_matched_perturbed"].value == 100
    assert sound["drop"].value == 37.5 and word(sound["drop"]) == "SUPPORTED"
    assert sound["lost_532"].detail["note"].startswith("60 pairs in both files: with zeros 0 clean members and 30 perturbed")
    _, sound = measure("gs-necessity", {gpt2_zeroed: matched(ids, [False] * 70)}, "gpt2")
    assert sound["drop_matched"].verdict is None and sound["drop_matched"].detail["no_validity"]
    with pytest.raises(MeasureError, match="dead edit"):
        unchanged = matched(ids, [True] * 70)
        for row in unchanged["results"]:
            row["corrupted"] = row["clean"]
        measure("gs-necessity", {gpt2_zeroed: unchanged}, "gpt2")


def cumulative(lost_from, origin="train"):
    """Problems that are lost as soon as so many places are zeroed."""
    return [
        {
            "problem_id": f"{origin}_{i}",
            "question": question(i),
            "baseline_answer": "1",
            "baseline_correct": True,
            "position_results": [{"ablated_answer": f"{int(k < at)}", "ablated_correct": bool(k < at)} for k in range(6)],
        }
        for i, at in enumerate(lost_from)
    ]


@pytest.mark.parametrize(("lost_from", "claim"), [([1] * 150 + [5] * 50, "REFUTED"), ([1] * 10 + [5] * 190, "SUPPORTED")])
def test_what_a_further_place_adds_is_told_from_what_grows(measure, lost_from, claim):
    reported, sound = measure("rel-cumulative", {llama_cumulative: cumulative(lost_from)})
    assert reported["lost_2"].value == reported["lost_bot"].value == lost_from.count(1) / 200 and reported["lost_3"].value == 1
    assert word(sound["late_over_early"]) == claim and sound["more_3"].value == lost_from.count(5) / 2
    assert word(sound["more_3"]) == "SUPPORTED" and sound["more_1"].value == 0 and sound["lost_3"].verdict is None
    with pytest.raises(MeasureError, match="occurs twice"):
        measure("rel-cumulative", {llama_cumulative: cumulative(lost_from) * 2})


def pairs(n):
    return [
        {
            "pair_id": i,
            "clean": {"question": question(i), "answer": i + 1, "full_answer": f"<<{i}+1={i + 1}>>\n#### {i + 1}"},
            "corrupted": {"question": f"What is {i} and 2?", "answer": i + 2},
        }
        for i in range(n)
    ]


@pytest.mark.parametrize(("six_kept", "claim"), [(0, "SUPPORTED"), (100, "REFUTED")])
def test_a_contradiction_is_looked_for_on_the_same_problems(measure, six_kept, claim):
    """100 problems of which five places lose 80; six lose all of them, or none."""
    files = {
        llama_cumulative: cumulative([5] * 80 + [6] * 20),
        llama_zeroed: matched(range(40), [True] * 40),
        llama_zeroed_532: every(np.ones(300), (np.arange(300) < six_kept) | (np.arange(300) >= 100)),
        problem_pairs: pairs(300),
    }
    reported, sound = measure("contra-necessity", files)
    assert reported["five"].value == 0.8 and reported["six_matched"].value == 0.5
    assert word(sound["six_over_five"]) == claim and sound["six_over_five"].n == 100
    assert sound["six_unchosen"].value == (100 - six_kept) / 300 and sound["six_unchosen"].n == 300


def log(right):
    head, thoughts = "Question{0}...\nWhat is {0} and 1?...\n", "decoded 0th latent (top1): ['1']\nModel Prediction: {1}"
    entry = head + "CoT=<<{0}+1={1}>>, Answer={1}\n" + thoughts
    return "\n".join(entry.format(i, i + 1) for i in np.flatnonzero(right))


def test_runs_in_other_batches_are_compared_by_problem(measure):
    labels, right = np.arange(400) < 200, (np.arange(400) < 190) | (np.arange(400) >= 340)
    samples = [
        {"id": i, "question": question(i), "ground_truth": i + 1, "is_correct": bool(each), "decoded_positions": []}
        for i, each in enumerate(labels)
    ]
    row = {"pair_id": 0, "variant": "clean", "question": question(0), "correct": False, "thought_tokens": []}
    words = {"results": {"vanilla": [row | {"predicted_number": 0, "ground_truth": 1}]}}
    files = {gpt2_labels: {"samples": samples}, decoded_latent: log(right), gpt2_words: words}
    reported, sound = measure("rel-padding", files, "gpt2")
    assert reported["batch_1"].value == 0.5 and reported["batch_128"].value == 0.625
    assert sound["differ_128"].value == 70 / 400 and sound["differ_16"].value == 1 and word(sound["batch_128"]) == "SUPPORTED"
    with pytest.raises(MeasureError, match="problem 0 of the log is another one"):
        measure("rel-padding", files | {gpt2_labels: {"samples": samples[::-1]}}, "gpt2")


def operations(**answers):
    """60 problems answered 1; by edit, how many of the first are answered otherwise."""
    return [
        {
            "question": question(i),
            "operation_type": "mixed",
            "conditions": {
                name: {"predicted_answer": f"{1 + (i < changed)}", "is_correct": i >= changed}
                for name, changed in {"baseline": 0, **answers}.items()
            },
        }
        for i in range(60)
    ]


@pytest.mark.parametrize(("own", "claim"), [(50, "SUPPORTED"), (5, "REFUTED")])
def test_an_operation_is_judged_against_a_random_vector_and_a_dead_edit_is_blocked(measure, own, claim):
    single = dict.fromkeys(("to_addition", "to_multiplication", "to_mixed"), own) | {"random_control": 20}
    multi = {"multi_token": own, "multi_random": 20, "token5_only": 0, "token5_random": 0}
    files = {
        llama_operations: operations(**single, wrong_token_control=0),
        llama_operations_multi: operations(**multi),
    }
    _, sound = measure("rel-operations", files)
    assert word(sound["addition"]) == word(sound["both"]) == claim and sound["addition"].value == own / 60
    with pytest.raises(MeasureError, match="dead edit"):
        measure("rel-operations-last", files)
    files[llama_operations_multi] = operations(**multi | {"token5_random": 1})  # one answer changed by hand
    assert "no_validity" not in measure("rel-operations-last", files)[1]["mean"].detail


def test_answers_that_a_script_did_not_know_are_scored_by_their_own(measure):
    """Clean members of 100 pairs, and perturbed ones of the last 50 of these and of 50 others, compared with inf."""
    rows = [(i, "clean", i + 1, i + 1) for i in range(100)] + [(i, "corrupted", i + 2, float("inf")) for i in range(50, 150)]
    conditions = {"vanilla": 0, "full": 3, "posthoc": 6}  # every so many answers stay right
    results = {
        name: [
            {
                "pair_id": i,
                "variant": variant,
                "question": question(i),
                "correct": False,
                "thought_tokens": [],
                "predicted_number": own if not step or i % step else -1,
                "ground_truth": gold,
            }
            for i, variant, own, gold in rows
        ]
        for name, step in conditions.items()
    }
    reported, sound = measure("rel-discretise", {gpt2_words: {"results": results}, problem_pairs: pairs(150)}, "gpt2")
    assert reported["vanilla"].value == 1 and reported["vanilla"].n == 100
    assert sound["full"].value == pytest.approx(2 / 3) and sound["full"].n == 150
    assert word(sound["full"]) == word(sound["posthoc_over_full"]) == "SUPPORTED"


def conditions(name, said="predicted_answer", gold=100, **kept):
    """100 problems, all right without an edit but for those with a comma in their answer; by edit, how many stay right."""
    return {
        "conditions": [
            {
                name: edit,
                "results": [
                    {"question": question(i), "correct": i < n, said: int(i < n), "ground_truth": 10.0 if i < gold else 1500.0}
                    for i in range(100)
                ],
            }
            for edit, n in {"none": gold, **kept}.items()
        ]
    }


def test_losses_by_edits_are_seen_and_where_there_are_none(measure):
    projected = conditions("intervention_type", average=50, proj50=99)
    _, sound = measure("rel-projections", {llama_projected: projected, llama_projected_train: projected})
    assert (word(sound["average"]), word(sound["train_proj50"])) == ("SUPPORTED", "UNDERPOWERED")
    _, sound = measure("rel-teacher-projections", {llama_teacher_projected: conditions("k", **{"1": 100, "2": 50})})
    assert (word(sound["proj1"]), word(sound["proj2"])) == ("SUPPORTED", "REFUTED")
    cut = conditions("k", gold=90, **{"1": 90, "2": 45})
    reported, sound = measure("rel-teacher-projections", {llama_teacher_projected: cut})
    assert (reported["proj2"].value, sound["proj2"].value, sound["proj2"].n) == (0.45, 0.5, 90)
    rows = [{"question": question(i), "correct": True, "predicted_number": 1} for i in range(100)]
    without = [row | {"correct": i < 60, "predicted_number": int(i < 60)} for i, row in enumerate(rows)]
    _, sound = measure("rel-without-bot", {llama_without_bot: {"results_with_bot": rows, "results_without_bot": without}})
    assert word(sound["without_bot"]) == "SUPPORTED" and sound["without_bot"].value == 0.6


@pytest.mark.skipif(not HOME, reason="NOT GIVEN: CODI_BENCH_RELEASED names the folder with released files")
@pytest.mark.parametrize(
    ("claim", "model", "values"),
    [
        ("gs-necessity", LLAMA, {"lost": 0.436, "lost_532": 0.430}),
        ("gs-necessity", "gpt2", {"lost": 1.0}),
        ("contra-necessity", LLAMA, {"five": 0.868, "six_matched": 0.327, "six_532": 0.635}),
        ("rel-cumulative", LLAMA, {"lost_bot": 0.145, "lost_0": 0.468, "lost_1": 0.528, "lost_2": 0.556, "lost_3": 0.868}),
        ("rel-operations", LLAMA, {"addition": 0.083, "random": 0.467}),
        ("rel-discretise", "gpt2", {"vanilla": 0.394, "full": 0.111, "posthoc": 0.144}),
        ("rel-discretise", LLAMA, {"vanilla": 0.553, "full": 0.308, "posthoc": 0.375}),
        ("rel-without-bot", LLAMA, {"clean": 0.970, "without_bot": 0.712}),
        ("rel-projections", LLAMA, {"clean": 0.545, "average": 0.311, "proj50": 0.5, "train_clean": 0.864}),
    ],
)
def test_published_numbers_come_out_to_the_printed_digit(claim, model, values):
    at_hand = released_in([Path(HOME)])
    bench = FilesBench.of(model, {file: at_hand[file] for file in CLAIMS[claim].files(model)})
    rows = {row.metric: row.value for row in next(CLAIMS[claim].on_files.function(bench, {}))}
    assert {metric: round(rows[metric], 3) for metric in values} == values
