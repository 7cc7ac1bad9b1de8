"""Operations and values that are planted, and what the probes of other studies make of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from fake_bench import measured

from codi_bench.claims import operations, runs
from codi_bench.claims.claim import done
from codi_bench.errors import MeasureError
from codi_bench.problems.problem import Problem
from codi_bench.rules.validity import Validity
from codi_bench.thoughts.decoded import Decoded

N, K, STORIES, WIDTH = 600, 6, 30, 64


def bench(states: np.ndarray, problems: list[Problem], words=None) -> SimpleNamespace:
    """states [n, 1 + K, layers, d]; words: what the head reads, where problems are all answered rightly."""
    capture = SimpleNamespace(problems=problems, hidden_states=states, right=np.ones(len(problems), bool))
    return SimpleNamespace(
        model=SimpleNamespace(num_latents=K, layers=(0, 1, 2)),
        seed=0,
        permutations=499,  # the smallest p times the budget of the family is below alpha
        memo=done({runs.captured: capture}),
        decoded=words and Decoded(tuple(problems), words, ("",) * len(problems), len(problems)),
    )


def told(shared: bool, stories: int = STORIES) -> SimpleNamespace:
    """Problems of 30 stories, each with one operation: in a direction that all stories share, or in one of the story's own."""
    rng = np.random.default_rng(1)
    story = np.arange(N) % stories
    signs = ["+-*"[s % 3] for s in story]
    problems = [
        Problem(f"{i}", (f"<<2{sign}1=1>>",), "1", f"{i}", template=f"story {s}") for i, (s, sign) in enumerate(zip(story, signs))
    ]
    own, common = rng.standard_normal((stories, WIDTH)), rng.standard_normal((3, WIDTH))
    place = np.array([common[s % 3] if shared else own[s] for s in story])
    noise = rng.standard_normal((N, 1 + K, 3, WIDTH))
    return bench((3 * place[:, None, None] + noise).astype(np.float32), problems)


@pytest.mark.parametrize("claim", ["gs-operation-class", "af-op-probe"])
def test_an_operation_is_found_on_other_stories_and_a_story_s_own_mark_is_not(claim):
    published, found = (rows.values() for rows in measured(claim, told(shared=True)))
    assert {row.value for row in published} == {row.value for row in found} == {1}
    assert {row.verdict.word for row in found} == {Validity.SUPPORTED}
    published, by_story = (rows.values() for rows in measured(claim, told(shared=False)))
    assert min(row.value for row in published) > 0.9  # the published split knows every story
    assert all(abs(row.value - row.null.value) < 0.35 and row.verdict.word is not Validity.SUPPORTED for row in by_story)
    assert all((row.n, row.detail["asked"]) in ((20, 400), (30, 600)) for row in by_story)  # stories are what counts
    # 90 ways to deal three operations to six stories, 6 ways for two to four
    few = list(measured(claim, told(shared=True, stories=6))[1].values())
    assert {row.verdict for row in few} == {None} and "no p is small" in few[0].detail["no_validity"]


def test_classifiers_give_what_scikit_learn_does():
    from sklearn.linear_model import RidgeClassifier
    from sklearn.neighbors import NearestCentroid
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x, test, labels = rng.standard_normal((90, 20)), rng.standard_normal((40, 20)), rng.integers(3, size=(90, 4))
    scaler = StandardScaler().fit(x)
    for column in range(4):
        near = NearestCentroid().fit(x, labels[:, column]).predict(test)
        assert (operations.nearest_mean(x, labels, test, 3)[:, column] == near).all()
        ridge = RidgeClassifier(len(x)).fit(scaler.transform(x), labels[:, column]).predict(scaler.transform(test))
        assert (operations.least_squares(x, labels, test, 3)[:, column] == ridge).all()


def test_too_few_problems_with_an_operation_are_said():
    few = bench(np.zeros((3, 1 + K, 3, 2), np.float32), [Problem("", ("<<1+1=2>>",), "2", str(i)) for i in range(3)])
    with pytest.raises(MeasureError, match="3 problems begin with one of"):
        measured("gs-operation-class", few)


def test_a_value_is_found_by_regression_where_it_is_linear_and_by_the_head_where_it_is_a_word():
    rng = np.random.default_rng(2)
    values = rng.integers(50, 90, size=200)
    problems = [Problem(f"{i}", ("<<1+1=2>>", "<<1+1=2>>"), "2", f"{i}", values=(int(v), 2)) for i, v in enumerate(values)]
    noise = rng.standard_normal((200, 1 + K, 3, 8)).astype(np.float32)
    linear = noise.copy()
    linear[:, :, -1, 0] = values[:, None]
    blank, words = ([[(w,)] * (1 + K) for w in each] for each in (["x"] * 200, map(str, values)))
    as_tuple = lambda found: tuple(tuple(each) for each in found)  # noqa: E731
    found, sound = measured("cap-probe-metric", bench(linear, problems, as_tuple(blank)))
    assert found["r2"].value > 0.99 and found["pearson"].value > 0.99 and found["hit"].value > 0.9 and found["read"].value == 0
    assert [row.verdict.word for row in sound.values()] == [Validity.REFUTED]
    found, sound = measured("cap-probe-metric", bench(noise, problems, as_tuple(words)))
    assert found["r2"].value < 0.1 and abs(found["pearson"].value) < 0.2
    assert found["hit"].value < 0.1 and found["read"].value == 1
    assert [(row.value, row.verdict.word) for row in sound.values()] == [(1, Validity.SUPPORTED)]
