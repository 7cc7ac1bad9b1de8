"""Operations and values that are planted, and what the probes of other studies make of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from codi_bench.claims import papers_probes as probes
from codi_bench.errors import MeasureError
from codi_bench.problems.problem import Problem
from codi_bench.rules.validity import Validity
from codi_bench.thoughts.decoded import Decoded

N, K, STORIES, WIDTH = 600, 6, 30, 64


def bench(states: np.ndarray, problems: list[Problem], words=None) -> SimpleNamespace:
    """states [n, 1 + K, layers, d]; words: what the head reads, where problems are all answered rightly."""
    right = np.ones(len(problems), bool)
    return SimpleNamespace(
        num_latents=K,
        layers=(0, 1, 2),
        seed=0,
        permutations=199,
        captured=lambda n, num_latents: SimpleNamespace(problems=problems, hidden_states=states, right=right),
        decoded=words and Decoded(tuple(problems), words, ("",) * len(problems), len(problems)),
        once=lambda name, compute: compute(),
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


@pytest.mark.parametrize("measure, soundly", [
    (probes.operation_class, probes.operation_class_sound),
    (probes.operation_direction, probes.operation_direction_sound),
])  # fmt: skip
def test_an_operation_is_found_on_other_stories_and_a_story_s_own_mark_is_not(measure, soundly):
    assert {row.value for row in measure(told(shared=True))} == {1}
    found = soundly(told(shared=True), {})
    assert {row.value for row in found} == {1} and {row.verdict.word for row in found} == {Validity.SUPPORTED}
    assert min(row.value for row in measure(told(shared=False))) > 0.9  # the published split knows every story
    by_story = soundly(told(shared=False), {})
    assert all(abs(row.value - row.null.value) < 0.35 and row.verdict.word is not Validity.SUPPORTED for row in by_story)
    assert all((row.n, row.detail["problems"]) in ((20, 400), (30, 600)) for row in by_story)  # stories are what counts
    few = soundly(told(shared=True, stories=6), {})  # 90 ways to deal three operations to six stories, 6 ways for two to four
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
        assert (probes.nearest_mean(x, labels, test, 3)[:, column] == near).all()
        ridge = RidgeClassifier(len(x)).fit(scaler.transform(x), labels[:, column]).predict(scaler.transform(test))
        assert (probes.least_squares(x, labels, test, 3)[:, column] == ridge).all()


def test_too_few_problems_with_an_operation_are_said():
    few = bench(np.zeros((3, 1 + K, 3, 2), np.float32), [Problem("", ("<<1+1=2>>",), "2", str(i)) for i in range(3)])
    with pytest.raises(MeasureError, match="3 problems begin with one of"):
        probes.operation_class(few)


def test_a_value_is_found_by_regression_where_it_is_linear_and_by_the_head_where_it_is_a_word():
    rng = np.random.default_rng(2)
    values = rng.integers(50, 90, size=200)
    problems = [Problem(f"{i}", ("<<1+1=2>>", "<<1+1=2>>"), "2", f"{i}", values=(int(v), 2)) for i, v in enumerate(values)]
    noise = rng.standard_normal((200, 1 + K, 3, 8)).astype(np.float32)
    linear = noise.copy()
    linear[:, :, -1, 0] = values[:, None]
    blank, words = ([[(w,)] * (1 + K) for w in each] for each in (["x"] * 200, map(str, values)))
    as_tuple = lambda found: tuple(tuple(each) for each in found)  # noqa: E731
    found = {row.metric: row.value for row in probes.probe_metric(bench(linear, problems, as_tuple(blank)))}
    assert found["r2"] > 0.99 and found["pearson"] > 0.99 and found["hit"] > 0.9 and found["read"] == 0
    (row,) = probes.probe_metric_sound(bench(linear, problems, as_tuple(blank)), {})
    assert row.verdict.word is Validity.REFUTED
    found = {row.metric: row.value for row in probes.probe_metric(bench(noise, problems, as_tuple(words)))}
    assert found["r2"] < 0.1 and abs(found["pearson"]) < 0.2 and found["hit"] < 0.1 and found["read"] == 1
    (row,) = probes.probe_metric_sound(bench(noise, problems, as_tuple(words)), {})
    assert row.verdict.word is Validity.SUPPORTED and row.value == 1
