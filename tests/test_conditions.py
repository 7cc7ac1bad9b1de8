"""One way to ask a model: any conditions together are the conditions alone, and the store knows an answer by their content."""

from __future__ import annotations

import numpy as np
import pytest

from codi_bench.errors import EditError
from codi_bench.models.codi import Codi
from codi_bench.models.conditions import CLEAN, IN_WORDS, PUBLISHED, Discretised, Edited, Fed, Patched, Shortened
from codi_bench.models.edits import NOISE, SELF, Edit
from codi_bench.problems import generate
from codi_bench.store.cache import Store, entries
from codi_bench.suite.bench import ModelBench

NEW, K = 5, 6
PROBLEMS = generate(5, seed=7)
QUESTIONS = [p.question for p in PROBLEMS]
OTHERS = tuple(QUESTIONS[::-1])
FED = np.random.default_rng(0).standard_normal((5, 3, 32)).astype(np.float32)  # fewer thoughts than the model has


def every_kind():
    zero = Edited((Edit(2, "zero"),))
    patches = [Patched(OTHERS, (1,)), Patched(OTHERS, (2,), keys_only=True), Patched(SELF, (0, 1))]
    return [Shortened(2), CLEAN, *patches, zero, IN_WORDS, Fed(FED), Discretised((1,)), PUBLISHED, Shortened(0)]


def test_conditions_of_every_kind_together_are_each_alone(tiny):
    together = tiny.answers(QUESTIONS, every_kind(), max_new_tokens=NEW)
    assert together == [tiny.answers(QUESTIONS, [condition], max_new_tokens=NEW)[0] for condition in every_kind()]
    assert together[1] == together[4] == tiny.answer(QUESTIONS, max_new_tokens=NEW)
    assert together[0] == tiny.answer(QUESTIONS, num_latents=2, max_new_tokens=NEW)
    assert together[6] == tiny.explain(QUESTIONS, max_new_tokens=NEW)
    assert len({answers.tokens for answers in together}) > 6


@pytest.mark.parametrize("other", [Shortened(1), IN_WORDS, Patched(OTHERS, (1,)), Fed(FED), Discretised(())], ids=str)
@pytest.mark.parametrize("capture", ["hidden_states", "log_probabilities"])
def test_what_is_captured_is_of_clean_and_edited_runs_alone(tiny, other, capture):
    with pytest.raises(ValueError, match="only for clean and edited runs"):
        tiny.answers(QUESTIONS, [CLEAN, other], golds=["1"] * 5, **{capture: np.zeros((2, 5))})


@pytest.mark.parametrize(
    ("condition", "error", "message"),
    [
        (Shortened(7), EditError, "an answer may come after 0 to 6 latents"),
        (Discretised((6,)), EditError, "latent positions go from 0 to 5"),
        (Fed(FED[:4]), ValueError, "has vectors for 4 problems, not 5"),
        (Fed(FED, (3,)), EditError, "use latent positions 0..2"),
        (Patched(OTHERS[:2], (1,)), ValueError, "one question for each of the 5 recipients"),
        (Patched(NOISE, (1,), keys_only=True), EditError, "keys and values need exactly one place"),
        (Edited((), "padded"), ValueError, "padded"),
        (Edited((Edit(6, "zero"),)), EditError, "unknown place"),
    ],
)
def test_what_cannot_be_is_refused_by_name_before_anything_runs(tiny, condition, error, message, monkeypatch):
    monkeypatch.setattr(Codi, "embed", lambda *_: pytest.fail("something ran"))
    with pytest.raises(error, match=message):
        tiny.answers(QUESTIONS, [CLEAN, Patched(OTHERS, (1,)), condition], max_new_tokens=NEW)


def test_equal_conditions_are_read_again_and_any_other_is_computed(tiny, tmp_path):
    bench = ModelBench(tiny, Store(tmp_path), max_new_tokens=NEW)
    asked = [CLEAN, Fed(FED), Patched(OTHERS, (1,))]
    found = bench.answers(PROBLEMS, asked)
    again = bench.answers(list(PROBLEMS), [Edited(), Fed(FED.copy()), Patched(tuple(QUESTIONS[::-1]), (1,))])
    assert again.answers == found.answers and len(entries(tmp_path)) == 1
    others = [
        [CLEAN, Fed(FED + 1), asked[2]],
        [CLEAN, Fed(FED, (0, 1, 2)), asked[2]],
        [CLEAN, asked[1], Patched(tuple(QUESTIONS), (1,))],
        [CLEAN, asked[1], Patched(OTHERS, (1,), keys_only=True)],
        [PUBLISHED],
    ]
    for i, conditions in enumerate(others, start=2):
        bench.answers(PROBLEMS, conditions)
        assert len(entries(tmp_path)) == i
    bench.answers(PROBLEMS, asked, seed=1)
    bench.answers(PROBLEMS[:4], [CLEAN])
    assert len(entries(tmp_path)) == len(others) + 3


def test_outcomes_are_scored_as_the_study_or_as_published(tiny, tmp_path):
    outcomes = ModelBench(tiny, Store(tmp_path), max_new_tokens=NEW).answers(PROBLEMS, [CLEAN, Shortened(1)])
    assert outcomes.right().shape == outcomes.numbers.shape == (2, 5)
    golds = [f"{number + 0.5:g}" if number == number else "none" for number in outcomes.numbers[0]]
    known = ~np.isnan(outcomes.numbers[0])
    assert (outcomes.right(golds=golds)[0] == known).all() and not outcomes.right("published", golds)[0].any()
