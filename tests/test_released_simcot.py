"""Released answers of SIM-CoT by number of latents: a made-up file of the same layout with planted answers, and the real one."""

import json

import pytest

from codi_bench.errors import MeasureError, ProblemError
from codi_bench.thoughts.pondernet import simcot_budgets
from tests.released_files import by_metric, protocols_on, real, with_real_files, word

MODEL = "sim-cot-gpt2"


def budgets(*counts, n=2000, numbers=range(1, 9)):
    """n problems of which the first ones are answered, so many with each number of latents; questions hold what splits lines."""
    rows = []
    for i in range(n):
        labels = [int(i < count) for count in counts]
        rows.append({"id": f"{i}", "prompt": f"What\u2028is {i}?", "answer": f"{i}", "k_values": [*numbers], "labels": labels})
    return {simcot_budgets: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"}


def test_what_each_latent_adds_and_how_few_are_enough_is_seen(tmp_path):
    content = budgets(400, 600, 800, 1000, 1200, 1210, 1210, 1100)
    reported, sound = map(by_metric, protocols_on(tmp_path, "rel-simcot-latents", MODEL, content))
    assert (reported["accuracy_6"].value, round(reported["gain_6"].value, 9)) == (0.605, 0.5)
    assert reported["gain_6"].null.p == 2 / 2**10  # ten gains, no loss
    words = {k: word(sound[f"gain_{k}"]) for k in range(2, 9)}
    assert words == dict.fromkeys((2, 3, 4, 5), "SUPPORTED") | dict.fromkeys((6, 7, 8), "REFUTED")
    _, sound = map(by_metric, protocols_on(tmp_path, "rel-simcot-enough", MODEL, content))
    assert [word(sound[f"accuracy_{k}"]) for k in (3, 4, 5)] == ["REFUTED", "REFUTED", "SUPPORTED"] and sound["fewest"].value == 5


def test_problems_that_no_number_of_latents_answers_are_not_said_to_need_one(tmp_path):
    reported, sound = map(by_metric, protocols_on(tmp_path, "rel-simcot-enough", MODEL, budgets(500, *[1000] * 7)))
    assert reported["one_is_enough"].value == 0.75 and sound["one_is_enough"].value == 0.5


def test_a_model_that_answers_nothing_and_a_row_of_other_numbers_are_said(tmp_path):
    with pytest.raises(MeasureError, match="nothing to lose"):
        list(protocols_on(tmp_path, "rel-simcot-enough", MODEL, budgets(*[60] * 8)))
    odd = budgets(1, n=2, numbers=[1])[simcot_budgets] + budgets(1, n=1, numbers=[2])[simcot_budgets]
    with pytest.raises(ProblemError, match=r"row 2: k_values are \[2\], .*\[1\] in row 0"):
        next(protocols_on(tmp_path, "rel-simcot-enough", MODEL, {simcot_budgets: odd}))


@with_real_files
def test_the_sixth_latent_adds_a_quarter_of_a_point():
    rows = by_metric(next(real("rel-simcot-latents", MODEL)))
    shares = [round(100 * rows[f"accuracy_{k}"].value, 1) for k in range(1, 9)]
    assert shares == [40.8, 42.7, 47.9, 57.8, 63.7, 64.0, 63.7, 63.1]
    assert (round(rows["gain_6"].value, 2), round(rows["gain_6"].null.p, 2)) == (0.25, 0.29)
