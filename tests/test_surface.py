"""The surface of problems and the null that keeps what it explains: known answers, small simulations, what must not matter."""

from dataclasses import FrozenInstanceError, replace
from functools import cache

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from codi_bench.errors import MeasureError, ProblemError
from codi_bench.measures.grid import probe_grid
from codi_bench.measures.surface import (
    added_auc,
    conditional_draws,
    conditional_null,
    conditional_statistic,
    propensity,
    surface_design,
)
from codi_bench.problems.features import PRIORITY, surface_table
from codi_bench.problems.generator import generate
from codi_bench.problems.problem import Problem
from codi_bench.rules.intervals import fold_auc

QUICK = dict(Cs=(0.1,), folds=3, permutations=39, workers=1)
PUBLIC = (
    Problem("Ann has 1,200 eggs and sells 2.5 a day.", ("<<1200/2.5=480>>",), "480", "a"),
    Problem("Bob runs. How far?", (), "3", "b"),
    Problem("Cid has -4 points, then 6, 7.", ("<<6+7=13>>", "<<13-4=9>>"), "9", "c"),
)


def rng(seed=0):
    return np.random.default_rng(seed)


def design_of(problems, n=None):
    table = surface_table(problems)
    return surface_design(table.numeric, table.categorical, n or len(problems), priority=PRIORITY)


def full_rank(design):
    return np.linalg.matrix_rank(np.column_stack([np.ones(len(design)), design])) == design.shape[1] + 1


def folds_of(n, folds=5):
    return np.arange(n) % folds


# Features


def test_surface_of_generated_problems():
    problems = generate(60, seed=3)
    table = surface_table(problems)
    assert {*table.numeric, *table.categorical} == {name for kind in PRIORITY for name in kind}
    assert all(values.shape == (60,) for values in (*table.numeric.values(), *table.categorical.values()))
    row, k = problems[7], 7
    assert table.categorical["steps"][k] == len(row.steps) == sum(table.numeric[name][k] for name in PRIORITY[1][2:])
    assert (
        table.categorical["first_operator"][k] == row.operators[0] and table.categorical["last_operator"][k] == row.operators[-1]
    )
    assert table.numeric["words"][k] == len(row.question.split()) and table.numeric["characters"][k] == len(row.question)
    assert table.numeric["numbers"][k] == len(row.operands)
    assert table.numeric["log_largest"][k] == np.log1p(max(row.operands))
    with pytest.raises(FrozenInstanceError):
        table.numeric = {}


def test_the_answer_is_not_on_the_surface():
    problems = generate(40, seed=1)
    other = [replace(p, answer="77", values=(1.0,) * len(p.values), group="g", template="") for p in problems]
    one, two = surface_table(problems), surface_table(other)
    for before, after in ((one.numeric, two.numeric), (one.categorical, two.categorical)):
        assert all((before[name] == after[name]).all() for name in before)


def test_numbers_are_read_from_the_question_where_there_are_no_operands():
    table = surface_table(PUBLIC)
    assert table.numeric["numbers"].tolist() == [2, 0, 3]
    assert np.expm1(table.numeric["log_largest"]) == pytest.approx([1200, 0, 7])
    assert np.expm1(table.numeric["log_smallest"]) == pytest.approx([2.5, 0, 4])
    assert np.expm1(table.numeric["log_sum"]) == pytest.approx([1202.5, 0, 17])
    assert table.categorical["steps"].tolist() == [1, 0, 2]
    assert table.categorical["first_operator"].tolist() == ["/", "", "+"]
    assert table.categorical["last_operator"].tolist() == ["/", "", "-"]
    huge = surface_table([Problem("9" * 400, (), "1", "d")])
    assert all(np.isfinite(values).all() for values in huge.numeric.values())
    with pytest.raises(ProblemError, match="at least one"):
        surface_table([])


# Design


@pytest.mark.parametrize("n", [20, 60, 100, 200, 400])
def test_design_of_problems_is_small_and_of_full_rank(n):
    problems, order = generate(n, seed=2), rng(3).permutation(n)
    design = design_of(problems)
    assert design.shape[1] == n // 20 and full_rank(design)
    assert design.mean(axis=0) == pytest.approx(0, abs=1e-9) and (design**2).mean(axis=0) == pytest.approx(1)
    assert design_of([problems[k] for k in order]) == pytest.approx(design[order], abs=1e-9)
    public = design_of(PUBLIC * 20)
    assert public.shape == (60, 2) and full_rank(public)  # three kinds of rows carry two columns


@given(st.integers(0, 10_000), st.integers(20, 150), st.integers(1, 6), st.integers(1, 12))
def test_design_is_always_small_and_of_full_rank(seed, n, variables, levels):
    draw = rng(seed)
    columns = {f"v{k}": draw.integers(0, levels, n) * 10.0 ** draw.integers(-3, 6) for k in range(variables)}
    columns |= {"twice": 2 * columns["v0"] + 1, "same": np.full(n, 3.7)}
    design = surface_design(columns, {"c": draw.integers(0, levels, n).astype(str)}, n)
    assert design.shape[0] == n and design.shape[1] <= n // 20 and full_rank(design)


def test_steps_come_whole_and_then_each_kind_in_turn():
    draw = rng(1)
    steps, words, size = draw.integers(1, 5, 400), draw.normal(size=400), draw.normal(size=400)
    table = {"words": words, "size": size}, {"steps": steps}
    kinds = (("steps",), ("words",), ("size",))
    whole = surface_design(*table, 400, priority=kinds)
    assert whole.shape == (400, 19) and full_rank(whole)  # 3 + 8 + 8: a line and seven knots each
    for room in range(1, 19):
        assert np.array_equal(surface_design(*table, 20 * room, priority=kinds), whole[:, :room])
    indicators = {tuple(np.unique(steps[column > 0])) for column in whole[:, :3].T}
    assert len(indicators) == 3 and all(len(step) == 1 for step in indicators)
    assert abs(np.corrcoef(whole[:, 3], words)[0, 1]) > 0.999999 and abs(np.corrcoef(whole[:, 4], size)[0, 1]) > 0.999999


def test_rare_categories_join_their_neighbour_and_a_variable_of_few_values_is_as_free_as_one_hot():
    steps = np.repeat([1, 2, 3, 7, 8], [50, 30, 14, 3, 3])
    design = surface_design({}, {"steps": steps}, 100)
    assert design.shape[1] == 3 and len(np.unique(design[steps >= 7], axis=0)) == 1
    assert surface_design({}, {"steps": np.repeat([1, 2], [96, 4])}, 100).shape == (100, 0)
    assert surface_design({"v": np.repeat(np.arange(5.0), 40)}, {}, 200).shape[1] == 4


# Propensity


def test_propensity_is_the_unpenalised_fit():
    draw = rng(4)
    x = draw.normal(size=(300, 4)) * [1, 100, 1e-4, 1]
    y = draw.random(300) < expit(x[:, 0] - x[:, 3])
    p = propensity(x, y)
    assert p == pytest.approx(sm.Logit(y, sm.add_constant(x)).fit(disp=0).predict(), abs=1e-7)
    assert np.array_equal(propensity(x, y), p) and propensity(x, np.where(y, "right", "a wrong")) == pytest.approx(p)
    assert propensity(np.column_stack([x, x[:, 0] + x[:, 3]]), y) == pytest.approx(p, abs=1e-7)
    assert propensity(np.empty((300, 0)), y) == pytest.approx(y.mean())
    order = draw.permutation(300)
    assert propensity(x[order], y[order]) == pytest.approx(p[order], abs=1e-9)


def test_a_separated_category_takes_nothing_from_the_others():
    kind = np.repeat([0, 1, 2], 40)
    y = (np.arange(120) % 4 > 0) | (kind == 2)
    p = propensity(surface_design({}, {"kind": kind}, 120), y)
    assert p[kind == 2] == pytest.approx(1, abs=1e-6) and p[kind < 2] == pytest.approx(0.75, abs=1e-6)
    drawn = conditional_draws(p, draws=50, seed=0)
    assert drawn[:, kind == 2].all() and not drawn[:, kind < 2].all()


# Draws


def test_draws_keep_the_marginals():
    p = rng(5).random(80)
    p[:2] = 0, 1
    drawn = conditional_draws(p, draws=4000, seed=1)
    assert drawn.shape == (4000, 80) and drawn.dtype == bool
    assert drawn.mean(axis=0) == pytest.approx(p, abs=0.04) and not drawn[:, 0].any() and drawn[:, 1].all()
    assert np.array_equal(drawn, conditional_draws(p, draws=4000, seed=1))
    assert not np.array_equal(drawn, conditional_draws(p, draws=4000, seed=2))
    assert abs(np.corrcoef(drawn[:, 2:].T) - np.eye(78)).max() < 0.1


def test_groups_are_drawn_whole():
    p = np.repeat(rng(6).uniform(0.2, 0.8, 40), 3)
    groups = np.repeat(rng(7).permutation(40), 3)
    drawn = conditional_draws(p, groups=groups, draws=2000, seed=0)
    assert (drawn.reshape(2000, 40, 3).sum(axis=2) % 3 == 0).all()
    assert drawn.mean(axis=0) == pytest.approx(p, abs=0.05)
    # Members of different p: each keeps its own, and the likelier one is right wherever the other is.
    pairs = conditional_draws(np.tile([0.3, 0.7], 30), groups=np.repeat(np.arange(30), 2), draws=2000, seed=0)
    assert pairs.mean(axis=0) == pytest.approx(np.tile([0.3, 0.7], 30), abs=0.05) and (pairs[:, ::2] <= pairs[:, 1::2]).all()


def test_draws_with_a_class_too_small_are_drawn_again():
    drawn = conditional_draws(np.full(40, 0.1), draws=300, seed=0, smallest=5)
    assert drawn.sum(axis=1).min() >= 5
    groups = np.repeat(np.arange(20), 2)
    right = conditional_draws(np.full(40, 0.25), groups=groups, draws=300, seed=0, smallest=5).sum(axis=1)
    assert right.min() >= 10
    with pytest.raises(MeasureError, match="hardly ever"):
        conditional_draws(np.full(40, 0.001), draws=3, seed=0)
    for p, options in (([0.5, 1.1], {}), ([0.5, np.nan], {}), ([], {}), ([0.5], {"draws": 0}), ([0.5], {"groups": [1, 2]})):
        with pytest.raises(MeasureError):
            conditional_draws(np.array(p), **{"draws": 1, "seed": 0, **options})


# Statistic


def test_statistic_by_hand():
    labels, p, fold = np.array([1, 0, 1, 0]), np.array([0.5, 0.5, 0.25, 0.25]), np.array([0, 0, 1, 1])
    score = np.array([[3.0, 1.0, 10.0, 14.0], [0.1, 0.1, 0.1, 0.1], [0, 0, 1.7, 1.7]])  # the first less fold means: 1, -1, -2, 2
    assert conditional_statistic(labels, p, score, fold).tolist() == [pytest.approx((0.5 + 0.5 - 1.5 - 0.5) / np.sqrt(10)), 0, 0]


def test_statistic_over_leading_axes_and_any_order():
    draw, fold, p = rng(9), folds_of(60), rng(10).random(60)
    labels, score = draw.random((7, 60)) < 0.5, draw.normal(size=(7, 3, 60))
    found = conditional_statistic(labels[:, None], p, score, fold)
    assert found.shape == (7, 3) and found[4, 2] == pytest.approx(conditional_statistic(labels[4], p, score[4, 2], fold))
    order = draw.permutation(60)
    assert conditional_statistic(labels[:, None, order], p[order], score[..., order], fold[order]) == pytest.approx(found)
    # Neither a shift of a fold's scores nor their unit matters.
    assert conditional_statistic(labels[:, None], p, 3 * score + 5 * fold, fold) == pytest.approx(found)
    for bad in (
        (labels[0], p, score[0, 0], fold[1:]),
        (labels[0, 1:], p[1:], score[0, 0], fold),
        (labels[0], p, score[0, 0] * np.inf, fold),
    ):
        with pytest.raises(MeasureError), np.errstate(all="ignore"):
            conditional_statistic(*bad)


# The null


@cache
def study(seed, *, signal=0.0, n=120, variants=1):
    """Activations [n, 3, 8], labels, surface variable and groups: right answers are likely at middling values of the surface.

    Every cell carries the variable and its square; cell 1 also carries something hidden, which labels follow by `signal`.
    """
    draw, groups = rng(seed), np.arange(n) // variants
    surface, hidden, luck = draw.uniform(-2, 2, n)[groups], draw.standard_normal(n)[groups], draw.random(n)[groups]
    x = draw.standard_normal((n, 3, 8))
    x[:, :, 0] += 1.5 * (surface**2)[:, None]
    x[:, :, 1] += surface[:, None]
    x[:, 1, 2] += 2 * hidden
    return x, luck < expit(2.2 - 1.8 * surface**2 + signal * hidden), surface, groups if variants > 1 else None


@cache
def both_nulls(seed, **options):
    """(marginal p, conditional p, theta of cell 1) of a study."""
    x, y, surface, groups = study(seed, **options)
    design = surface_design({"surface": surface}, {}, len(y) if groups is None else len(np.unique(groups)))
    grid = probe_grid(x, y, groups=groups, seed=seed, **QUICK)
    given_surface = conditional_null(x, y, design, groups=groups, score=grid.held_out_score, fold=grid.fold, seed=seed, **QUICK)
    theta, _ = added_auc(grid.held_out_score[:, 1], y, design, grid.fold, phi=1.8)
    return grid.p_value_any_auc, given_surface.p_value_any, theta


def test_what_the_surface_explains_is_found_by_the_marginal_null_only():
    found = [both_nulls(seed) for seed in range(16)]
    assert all(marginal <= 0.025 for marginal, _, _ in found)
    assert sum(conditional <= 0.025 for _, conditional, _ in found) <= 2  # at a size of 0.025, 3 of 16 happen once in 150 times
    assert abs(np.mean([theta.value for _, _, theta in found])) < 0.02
    assert sum(theta.low <= 0 <= theta.high for _, _, theta in found) >= 13


def test_what_goes_beyond_the_surface_is_found_by_both_and_what_groups_share_is_not():
    found = [both_nulls(seed, signal=4.0) for seed in range(8)]
    assert sum(marginal <= 0.025 and conditional <= 0.025 for marginal, conditional, _ in found) >= 7
    assert np.mean([theta.value for _, _, theta in found]) > 0.03
    found = [both_nulls(seed, n=180, variants=3) for seed in range(8)]
    assert sum(conditional <= 0.025 for _, conditional, _ in found) <= 2


def test_the_null_is_complete_and_does_not_fit_the_observed_twice():
    x, y, surface, _ = study(0, signal=2.0)
    design = surface_design({"surface": surface}, {}, 120)
    grid = probe_grid(x, y, **QUICK)
    with_grid = conditional_null(x, y, design, score=grid.held_out_score, fold=grid.fold, **QUICK)
    alone = conditional_null(x, y, design, **QUICK)
    for name in ("statistic", "null", "z", "z_max", "p_value", "p_value_max", "propensity"):
        assert np.array_equal(getattr(with_grid, name), getattr(alone, name))
    assert alone.null.shape == (39, 3) and alone.z_max.shape == (39,) and alone.p_value_any == alone.p_value_max.min()
    assert (alone.p_value <= alone.p_value_max + 1e-12).all() and alone.z.argmax() == 1
    assert alone.p_value_max[0] == (1 + (alone.z_max >= alone.z[0]).sum()) / 40
    assert np.array_equal(alone.propensity, propensity(design, y))


def test_a_cell_without_any_score_takes_no_part():
    x, y, surface, _ = study(1, signal=2.0)
    x = x.copy()
    x[:, 0] = 1
    found = conditional_null(x, y, surface_design({"surface": surface}, {}, 120), **QUICK)
    assert found.statistic[0] == found.z[0] == 0 and (found.null[:, 0] == 0).all() and np.isfinite(found.z_max).all()


# Added AUC


def stepped(n=400, seed=0, hidden_weight=0.0):
    """(labels, a hidden variable, design, fold): labels follow a surface of four steps."""
    draw = rng(seed)
    steps, hidden = draw.integers(1, 5, n), draw.normal(size=n)
    labels = draw.random(n) < expit(np.array([2.0, -1.0, 1.0, -2.0])[steps - 1] + hidden_weight * hidden)
    return labels, hidden, surface_design({}, {"steps": steps}, n), folds_of(n)


def test_a_score_that_repeats_the_surface_adds_nothing():
    labels, _, design, fold = stepped()
    theta, surface_auc = added_auc(propensity(design, labels), labels, design, fold, phi=1)
    assert theta.value == pytest.approx(0, abs=0.01) and surface_auc > 0.75
    theta, again = added_auc(np.full(400, 0.3), labels, design, fold, phi=1)
    assert (theta.value, theta.low, theta.high) == (0, None, None) and again == surface_auc


def test_a_score_beyond_the_surface_adds():
    labels, hidden, design, fold = stepped(hidden_weight=1.5)
    theta, surface_auc = added_auc(hidden, labels, design, fold, phi=1)
    assert theta.low > 0.03 and theta.value + surface_auc < 1
    wide, _ = added_auc(hidden, labels, design, fold, phi=4)
    assert wide.high - wide.low == pytest.approx(2 * (theta.high - theta.low)) and wide.value == theta.value
    # Neither the order of problems nor the unit of a fold's scores matters.
    order = rng(1).permutation(400)
    moved, _ = added_auc((100.0**fold * hidden + fold)[order], labels[order], design[order], fold[order], phi=1)
    assert (moved.value, moved.low) == pytest.approx((theta.value, theta.low), abs=1e-6)


def test_surface_auc_is_that_of_the_cross_fitted_surface():
    labels, hidden, design, fold = stepped(hidden_weight=1)
    expected = []
    for k in range(5):
        model = sm.Logit(labels[fold != k], sm.add_constant(design[fold != k])).fit(disp=0)
        logit = np.round(model.predict(sm.add_constant(design[fold == k]), which="linear"), 6)
        expected.append(roc_auc_score(labels[fold == k], logit))
    assert added_auc(hidden, labels, design, fold, phi=1)[1] == pytest.approx(np.mean(expected))


def test_interval_of_added_auc_is_delong_s_when_the_surface_is_constant():
    """All surface logits of a fold are tied: its AUC is 1/2 without error, so the difference has the error of the score's AUC."""
    labels, hidden, _, fold = stepped(hidden_weight=1)
    theta, surface_auc = added_auc(hidden, labels, np.empty((400, 0)), fold, phi=1)
    auc, variance = fold_auc(hidden, labels, fold)
    assert surface_auc == 0.5 and theta.value == pytest.approx(auc - 0.5, abs=1e-12)
    assert theta.high - theta.value == pytest.approx(1.959964 * np.sqrt(variance), abs=1e-6)


def test_a_separated_category_does_not_drown_the_score():
    labels, hidden, design, fold = stepped(hidden_weight=1.5)
    always = np.arange(400) % 7 == 0
    theta, _ = added_auc(hidden, labels | always, np.column_stack([design, always]), fold, phi=1)
    assert theta.low > 0.02


X, Y = np.arange(40.0), np.arange(20) % 2
FEW = np.array([1, 0, 1, 0, 1, 1, 1, 1])  # a class that one of two folds lacks


def added(score=None, fold=None, **how):
    labels, hidden, design, folds = stepped()
    added_auc(hidden if score is None else score, labels, design, folds if fold is None else fold, **{"phi": 1} | how)


def null_given(which=slice(None), **how):
    """The null with the scores of a grid, of some cells, and its folds or others."""
    x, y, surface, _ = study(0)
    grid = probe_grid(x, y, **QUICK)
    how = {name: turn(grid.fold) if name == "fold" else turn for name, turn in how.items()}
    design = surface_design({"surface": surface}, {}, 120)
    conditional_null(x, y, design, score=grid.held_out_score[:, which], **{**QUICK, **how})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surface_design({"x": X}, {}, 19), "too few"),
        (lambda: surface_design({"x": X, "y": X[1:]}, {}, 20), "one length"),
        (lambda: surface_design({}, {"c": np.ones((40, 2))}, 20), "categories"),
        (lambda: surface_design({"x": X}, {}, 41), "at least n = 41"),
        (lambda: surface_design({"x": X * np.nan}, {}, 40), "finite"),
        (lambda: surface_design({}, {}, 40), "priority names"),
        (lambda: surface_design({"x": X}, {}, 40, priority=(("x",), ("y",))), "priority names"),
        (lambda: surface_design({"x": X}, {}, 40, priority=(("x", "x"),)), "priority names"),
        (lambda: surface_design({"x": X}, {}, 40, priority=()), "priority names"),
        (lambda: surface_design({"x": X}, {"x": X}, 40), "priority names"),
        (lambda: propensity(Y[:, None], Y), "predicts every label"),
        (lambda: propensity(np.ones((20, 1)), np.ones(20)), "two classes"),
        (lambda: propensity(np.full((20, 1), np.nan), Y), "two classes"),
        (lambda: propensity(np.ones((19, 1)), Y), "design"),
        (lambda: null_given(), "score"),
        (lambda: null_given(fold=lambda fold: np.roll(fold, 1)), "score"),
        (lambda: null_given(fold=lambda fold: fold, seed=1), "score"),
        (lambda: null_given(slice(2), fold=lambda fold: fold), "score"),
        (lambda: conditional_null(study(0)[0], study(0)[1], study(0)[1][:, None], **QUICK), "predicts every label"),
        (lambda: added(stepped()[1][1:]), "finite scores"),
        (lambda: added(fold=folds_of(399)), "finite scores"),
        (lambda: added(np.full(400, np.inf)), "finite scores"),
        (lambda: added(phi=0.5), "phi must be a finite number, at least 1"),
        (lambda: added(fold=np.zeros(400)), "two folds"),
        (lambda: added_auc(X[:8], FEW, X[:8, None], np.repeat([0, 1], 4), phi=1), "two folds"),
    ],
)
def test_what_cannot_be_computed_is_refused(call, message):
    with pytest.raises(MeasureError, match=message), np.errstate(all="ignore"):
        call()
