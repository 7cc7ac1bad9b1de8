"""Released runs with other states in thoughts: made-up files of the same layout with planted answers."""

import json

import numpy as np
import pytest

from codi_bench.claims import CLAIMS
from codi_bench.errors import MeasureError
from codi_bench.suite.released_bench import FilesBench
from codi_bench.thoughts.cot_exploration import llama_words
from codi_bench.thoughts.edited_runs import llama_without_bot
from codi_bench.thoughts.replaced_states import ALL, GPT2_PATCHED, llama_mapped_words, llama_number_five

LAYERS = ("early", "middle", "late")


@pytest.fixture
def measure(tmp_path):
    """Both protocols of a claim on made-up files, by metric; the sound one only when it is asked for."""

    def run(claim, model, contents, published=()):
        files = {}
        for i, (file, content) in enumerate(contents.items()):
            files[file] = tmp_path / f"{i}"
            files[file].write_text(json.dumps(content), encoding="utf-8")
        protocols = CLAIMS[claim].on_files.function(FilesBench.of(model, files), dict(published))
        return ({row.metric: row for row in each} for each in protocols)

    return run


def word(row):
    return row.verdict.word.value


def patched(follows, broken=False, dead=False):
    """A file of pairs; follows [n]: at the early layer alone."""

    def cell(layer, follow):
        text = "own" if dead else "////" if broken else "other"
        kind = "gibberish" if broken else "clean_answer" if follow and layer == "early" else "corrupted_answer"
        return {"matches_clean": kind == "clean_answer", "classification": kind, "generated": text, "extracted": None}

    rows = [
        {"pair_id": i, "corrupted": {"generated": "own"}, "patched": {layer: cell(layer, follow) for layer in LAYERS}}
        for i, follow in enumerate(follows)
    ]
    return {"valid_results": rows}


def test_a_patch_that_is_followed_is_seen_and_so_is_one_that_spoils_the_answer(measure):
    every = np.arange(30) < 30
    contents = {file: patched(every if count > 2 else ~every, broken=count == ALL) for count, file in GPT2_PATCHED.items()}
    reported, sound = measure("rel-patch-recovery", "gpt2", contents)
    assert reported["late_4"].value == 0 and reported[f"broken_{ALL}"].value == 1
    assert word(sound["follows_4"]) == "SUPPORTED" and word(sound["follows_1"]) == "UNDERPOWERED"
    assert sound[f"follows_{ALL}"].verdict is None
    assert sound["follows_4"].detail["note"].startswith("13 of 30 pairs must follow")


def test_patches_after_which_every_text_is_the_same_are_a_dead_edit(measure):
    protocols = measure("rel-patch-recovery", "gpt2", {file: patched([False] * 20, dead=True) for file in GPT2_PATCHED.values()})
    next(protocols)
    with pytest.raises(MeasureError, match="dead edit"):
        next(protocols)


def replaced(golds, clean, five, mapped):
    """Files of both edits on the same problems; mapped: right under the free map, the other one changes nothing."""

    def said(gold, right):
        return gold if right else gold + 1

    rows = [
        {
            "question": f"What is {gold}?",
            "ground_truth": gold,
            **{f"correct_{name}": bool(right) for name, right in each.items()},
            **{f"predicted_{name}": said(gold, right) for name, right in each.items()},
        }
        for gold, *both in zip(golds, clean, five, strict=True)
        for each in [dict(zip(("no_intervention", "with_intervention"), both, strict=True))]
    ]
    conditions = [
        {
            "condition": name,
            "results": [
                {"question": f"What is {gold}?", "ground_truth": gold, "correct": bool(each), "predicted": said(gold, each)}
                for gold, each in zip(golds, right, strict=True)
            ],
        }
        for name, right in {"baseline": clean, "no_reg": mapped, "strong_reg": np.append(clean[:-1], ~clean[-1])}.items()
    ]
    return {llama_number_five: {"results": rows}, llama_mapped_words: {"conditions": conditions}}


def test_a_loss_is_seen_where_answers_can_be_given_whole(measure):
    n = 400
    golds = np.where(np.arange(n) < 300, np.arange(n) % 50, 5000.0).tolist()
    clean = np.arange(n) < 300  # longer answers are cut, so wrong
    reported, sound = measure(
        "rel-replaced-states", "llama-3.2-1b", replaced(golds, clean, np.arange(n) < 200, clean & (np.arange(n) > 90))
    )
    assert reported["without_five"].value == 0.75 and reported["changed_five"].value == 0.25
    assert sound["five"].n == 300 and sound["five"].null.value == 1
    assert word(sound["five"]) == word(sound["no_reg"]) == "SUPPORTED"


def test_an_edit_that_changes_no_answer_is_dead(measure):
    right = np.arange(200) < 150
    files = replaced([7.0] * 200, right, right, right & (np.arange(200) > 50))
    protocols = measure("rel-replaced-states", "llama-3.2-1b", files)
    next(protocols)
    with pytest.raises(MeasureError, match=r"dead edit: none of 1 condition \(five\)"):
        next(protocols)


@pytest.mark.parametrize(("batches", "claim"), [(0.95, "SUPPORTED"), (0.5, "REFUTED")])
def test_a_loss_that_another_unedited_run_has_too_is_none_of_the_edit(measure, batches, claim):
    n = 200
    share = np.arange(n) / n
    golds, clean, without = [7.0 + i for i in range(n)], share < 0.97, share < 0.5

    def rows(right):
        return [
            {"question": f"What is {gold}?", "correct": bool(each), "predicted_number": gold if each else gold + 1}
            for gold, each in zip(golds, right, strict=True)
        ]

    vanilla = [
        row | {"pair_id": i, "variant": "clean", "thought_tokens": [[]], "ground_truth": golds[i]}
        for i, row in enumerate(rows(share < batches))
    ]
    reported, sound = measure(
        "rel-unedited",
        "llama-3.2-1b",
        {
            llama_without_bot: {"results_with_bot": rows(clean), "results_without_bot": rows(without)},
            llama_words: {"results": {"vanilla": vanilla}},
            llama_number_five: replaced(golds, clean, without, without)[llama_number_five],
        },
        {"alone": 0.97, "without_bot": 0.5},
    )
    assert reported["batch_16"].value == batches and reported["without_bot"].value == 0.5
    assert word(sound["over_unedited"]) == claim
    assert sound["lost_bfloat16"].value == 0
