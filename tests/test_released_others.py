"""Released files on SIM-CoT and Coconut: made-up ones of the same layout with planted answers, and the real ones if at hand."""

import json
import os
from itertools import product
from pathlib import Path

import pytest

from codi_bench.claims import CLAIMS
from codi_bench.errors import MeasureError
from codi_bench.suite.released_bench import FilesBench, released_in
from codi_bench.thoughts.coconut_cot import steering

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


@pytest.mark.skipif(not HOME, reason="NOT GIVEN: CODI_BENCH_RELEASED names the folder with released files")
def test_the_released_steering_table_is_dead():
    bench = FilesBench.of(LIANG, {steering: released_in([Path(HOME)])[steering]})
    protocols = CLAIMS["rel-coconut-steering"].on_files.function(bench, {})
    assert {round(row.value, 3) for row in next(protocols)} == {0.82}
    with pytest.raises(MeasureError, match="^dead edit: none of 20 conditions"):
        next(protocols)
