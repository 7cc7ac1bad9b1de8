"""Released files on SIM-CoT and Coconut: made-up ones of the same layout with planted answers, and the real ones if at hand."""

import json
import os
from itertools import product
from pathlib import Path

import pytest

from codi_bench.claims import CLAIMS
from codi_bench.errors import MeasureError, ProblemError
from codi_bench.suite.released_bench import FilesBench, released_in
from codi_bench.thoughts.coconut_cot import steering
from codi_bench.thoughts.pondernet import simcot_budgets

HOME = os.environ.get("CODI_BENCH_RELEASED")
LIANG = "coconut-gpt2-prosqa-liang"


@pytest.fixture
def measure(tmp_path):
    """Both protocols of a claim on made-up files, by metric; how many: of its protocols."""

    def run(claim, model, contents, published=(), how_many=2):
        files = {}
        for i, (file, content) in enumerate(contents.items()):
            files[file] = tmp_path / f"{i}"
            files[file].write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        assert set(files) == set(CLAIMS[claim].files(model))
        protocols = CLAIMS[claim].on_files.function(FilesBench.of(model, files), dict(published))
        return [{row.metric: row for row in next(protocols)} for _ in range(how_many)]

    return run


def word(row):
    return row.verdict.word.value


def table(changed=(), right=36):
    """A steering table: 40 problems, clean and 20 conditions; changed: (problem, position, strength) answered otherwise."""
    rows = ["position,alpha,sample_idx,correct,n_steps,predicted_word,expected_word"]
    for problem in range(40):
        for position, alpha in [(0, 0), *product(range(1, 6), (5, 10, 20, 40))]:
            answer = "wumpus" if problem >= right or (problem, position, alpha) in changed else "lempus"
            rows.append(f"{position},{alpha},{problem},{int(answer == 'lempus')},3,{answer},lempus")
    return "\n".join(rows) + "\n"


def test_a_steering_table_in_which_nothing_moves_is_blocked_and_with_one_answer_changed_it_is_not(measure):
    (reported,) = measure("rel-coconut-steering", LIANG, {steering: table()}, how_many=1)
    assert len(reported) == 21 and {row.value for row in reported.values()} == {0.9}
    with pytest.raises(MeasureError, match="^dead edit: none of 20 conditions .* changes anything on 40 problems"):
        measure("rel-coconut-steering", LIANG, {steering: table()})
    _, sound = measure("rel-coconut-steering", LIANG, {steering: table([(7, 3, 20)])})
    assert sound["latent_2_by_20"].detail["loss"][0] == 1 / 40  # position 3 of the file
    assert word(sound["latent_2_by_20"]) == "UNDERPOWERED"


def test_a_steering_that_costs_accuracy_is_seen_where_there_is_some_to_lose(measure):
    changed = [(problem, 1, 40) for problem in range(30)]
    _, sound = measure("rel-coconut-steering", LIANG, {steering: table(changed)})
    assert word(sound["latent_0_by_40"]) == "SUPPORTED" and word(sound["latent_0_by_20"]) != "SUPPORTED"
    with pytest.raises(MeasureError, match="nothing to lose"):
        measure("rel-coconut-steering", LIANG, {steering: table(changed, right=22)})


def budgets(*counts, n=2000, numbers=range(1, 9)):
    """n problems of which the first ones are answered, so many with each number of latents; questions hold what splits lines."""
    rows = []
    for i in range(n):
        labels = [int(i < count) for count in counts]
        rows.append({"id": f"{i}", "prompt": f"What\u2028is {i}?", "answer": f"{i}", "k_values": [*numbers], "labels": labels})
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def test_what_each_latent_adds_and_how_few_are_enough_is_seen(measure):
    content = {simcot_budgets: budgets(400, 600, 800, 1000, 1200, 1210, 1210, 1100)}
    reported, sound = measure("rel-simcot-latents", "sim-cot-gpt2", content)
    assert (reported["accuracy_6"].value, round(reported["gain_6"].value, 9)) == (0.605, 0.5)
    assert reported["gain_6"].null.p == 2 / 2**10  # ten gains, no loss
    words = {k: word(sound[f"gain_{k}"]) for k in range(2, 9)}
    assert words == dict.fromkeys((2, 3, 4, 5), "SUPPORTED") | dict.fromkeys((6, 7, 8), "REFUTED")
    _, sound = measure("rel-simcot-enough", "sim-cot-gpt2", content)
    assert [word(sound[f"accuracy_{k}"]) for k in (3, 4, 5)] == ["REFUTED", "REFUTED", "SUPPORTED"] and sound["fewest"].value == 5


def test_problems_that_no_number_of_latents_answers_are_not_said_to_need_one(measure):
    reported, sound = measure("rel-simcot-enough", "sim-cot-gpt2", {simcot_budgets: budgets(500, *[1000] * 7)})
    assert reported["one_is_enough"].value == 0.75 and sound["one_is_enough"].value == 0.5
    with pytest.raises(MeasureError, match="nothing to lose"):
        measure("rel-simcot-enough", "sim-cot-gpt2", {simcot_budgets: budgets(*[60] * 8)})
    odd = budgets(1, n=2, numbers=[1]) + budgets(1, n=1, numbers=[2])
    with pytest.raises(ProblemError, match=r"row 2: k_values are \[2\], in row 0 \[1\]"):
        measure("rel-simcot-enough", "sim-cot-gpt2", {simcot_budgets: odd})


@pytest.mark.skipif(not HOME, reason="NOT GIVEN: CODI_BENCH_RELEASED names the folder with released files")
def test_the_released_steering_table_is_dead():
    bench = FilesBench.of(LIANG, {steering: released_in([Path(HOME)])[steering]})
    protocols = CLAIMS["rel-coconut-steering"].on_files.function(bench, {})
    assert {round(row.value, 3) for row in next(protocols)} == {0.82}
    with pytest.raises(MeasureError, match="^dead edit: none of 20 conditions"):
        next(protocols)


@pytest.mark.skipif(not HOME, reason="NOT GIVEN: CODI_BENCH_RELEASED names the folder with released files")
@pytest.mark.parametrize(
    ("claim", "model", "values"),
    [
        (
            "rel-simcot-latents",
            "sim-cot-gpt2",
            {f"accuracy_{k}": x / 1000 for k, x in enumerate((408, 427, 479, 578, 637, 640, 637, 631), 1)} | {"gain_6": 0.254},
        ),
    ],
)
def test_published_numbers_come_out_to_the_printed_digit(claim, model, values):
    at_hand = released_in([Path(HOME)])
    bench = FilesBench.of(model, {file: at_hand[file] for file in CLAIMS[claim].files(model)})
    rows = {row.metric: row.value for row in next(CLAIMS[claim].on_files.function(bench, {}))}
    assert {metric: round(rows[metric], 3) for metric in values} == values
