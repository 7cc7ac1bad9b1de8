"""Arguments of public functions: what is given is used as it is meant, or refused in one line that names argument and type."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_folders import write_sae
from typer.testing import CliRunner

import codi_bench
from codi_bench import audit, measures, problems
from codi_bench.cli import app
from codi_bench.errors import CodiBenchError, InputError, MeasureError, ProblemError, arguments
from codi_bench.measures.probes import balanced_sample
from codi_bench.measures.sae_heldout import pca_features
from codi_bench.measures.surface import added_auc
from codi_bench.measures.trend import trend
from codi_bench.models.conditions import CLEAN
from codi_bench.models.edits import Edit
from codi_bench.models.loading import load
from codi_bench.rules import counts, intervals, p_values, reproduction, stats, validity, wilson
from codi_bench.suite import notebook
from codi_bench.training import recipes
from codi_bench.training.lora import with_changes

QUESTIONS = ["Mia has 7 apples . How many ?", "Omar has 31 pens .", "Nora has 4 books ."]
GOLDS, GROUPS = ["7", "31", "4"], ["a", "b", "c"]
QUICK = {"batch_size": 4, "max_new_tokens": 2}


@pytest.fixture(scope="module")
def model(tiny_folders):
    return load(tiny_folders["gpt2"], device="cpu")


# No call leaves a traceback


def doors(model, folder) -> dict[str, tuple[Callable, dict[str, Any], dict[str, Any]]]:
    """Public functions, by name with arguments that they take, and further ones whose contents are checked elsewhere."""
    rng = np.random.default_rng(0)
    right, other = np.arange(12) % 2 == 0, np.arange(12) % 3 == 0
    activations, labels = rng.normal(size=(40, 1, 3)), np.arange(40) % 2
    half = stats.Interval(0.5, 0.4, 0.6)
    table = [{"problem": i, "condition": c, "right": int(i % 2)} for i in range(4) for c in ("clean", "zero")]
    given = {"questions": QUESTIONS, **QUICK, "num_latents": 2, "progress": len}
    sae = write_sae(measures.Sae(torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2)), folder.with_name("sae"))
    calls: list[tuple[Callable, dict[str, Any]]] = [
        (codi_bench.load, {"name_or_path": folder, "base": None, "name": "mine", "device": "cpu", "dtype": "auto"}),
        (codi_bench.load, {"name_or_path": folder, "num_latents": 2, "lora_alpha": None}),
        (model.think, given | {"protocol": "masked", "progress": lambda count: None}),
        (model.answer, {"questions": QUESTIONS, "edits": [Edit(0, "zero")], "answers": GOLDS, "protocol": "masked", **QUICK}),
        (
            model.answers,
            given
            | {"conditions": [CLEAN], "reference": None, "golds": GOLDS, "groups": GROUPS, "seed": 0}
            | {"hidden_states": None, "confidence": None, "log_probabilities": None, "progress": lambda count: None},
        ),
        (model.explain, {"questions": QUESTIONS, **QUICK}),
        (
            model.reference,
            {"questions": QUESTIONS, "answers": GOLDS, "groups": GROUPS, "num_latents": 2, "batch_size": 4, "protocol": "masked"},
        ),
        (model.at_cue, {"questions": QUESTIONS, "batch_size": 4}),
        (model.keys_and_values, {"questions": QUESTIONS, "batch_size": 4}),
        (model.lens_words, {"states": np.zeros((2, 1, 32), np.float32), "count": 2}),
        (model.lens_ranks, {"hidden_states": np.zeros((1, 1, 5, 32), np.float32), "words": [["7"]]}),
        (model.untrained, {"seed": 0}),
        (problems.load_problems, {"name": "generated", "path": None, "n": 2, "split": "test", "seed": 0}),
        (problems.generate, {"n": 2, "seed": 0, "split": "test", "variants": 1}),
        (problems.stream, {"seed": 0, "split": "test", "variants": 1}),
        (problems.read_problems, {"path": folder / "nothing"}),
        (problems.score, {"prediction": "7", "gold": "7", "scoring": "study"}),
        (problems.parse_number, {"text": "7"}),
        (problems.problems_hash, {"problems": []}),
        (problems.split_of, {"template": "buy", "operands": (2, 3)}),
        (wilson, {"successes": 3, "n": 4, "level": 0.95}),
        (stats.bits, {"values": right}),
        (stats.rate_of, {"outcomes": right}),
        (stats.paired_counts, {"before": right, "after": other}),
        (stats.newcombe_limits, {"both": 3, "lost": 2, "gained": 1, "neither": 4, "level": 0.95}),
        (stats.newcombe_paired, {"before": right, "after": other, "level": 0.95}),
        (stats.mcnemar_exact, {"before": right, "after": other, "alternative": "less"}),
        (stats.holm, {"p_values": [0.1, 0.2]}),
        (
            stats.bootstrap_mean,
            {"outcomes": right, "rng": stats.stream(0), "draws": 9, "groups": list("abcdef" * 2), "phi": 1.0, "level": 0.9},
        ),
        (stats.stream, {"seed": 0}),
        (intervals.accuracy_phi, {"null_accuracy": [0.4, 0.5, 0.6], "n": 20}),
        (intervals.cv_accuracy, {"accuracy": 0.5, "n": 20, "phi": 1.0}),
        (intervals.fold_auc, {"scores": [0.1, 0.2, 0.3, 0.4], "labels": [0, 1, 0, 1], "fold": [0, 0, 1, 1]}),
        (intervals.auc_phi, {"null_auc": [0.4, 0.5], "null_variance": [0.1, 0.1]}),
        (intervals.cv_auc, {"auc": 0.6, "variance": 0.01, "phi": 1.0, "smaller_class": 10, "level": 0.95}),
        (intervals.auc_of_labels, {"auc": 0.6, "variance": 0.01, "labels": right, "phi": 1.0}),
        (intervals.heterogeneity, {"correct": np.stack([right, other], 1), "phi": 1.0, "level": 0.95}),
        (intervals.mover_difference, {"a": half, "b": half}),
        (p_values.permutation_p, {"observed": 0.5, "null": [0.4, 0.6]}),
        (p_values.max_p, {"observed": np.array([0.5]), "null": np.array([[0.4], [0.6]])}),
        (p_values.p_above, {"theta": half}),
        (p_values.holm_permutations, {"m": 2}),
        (p_values.check_permutations, {"B": 99, "m": 2}),
        (p_values.check_permuted, {"null_auc": [0.4, 0.6]}),
        (p_values.holm_p, {"p_values": {"a": 0.1}, "size": 1}),
        (p_values.across_claims, {"p_values": [0.1], "claims": 2}),
        (counts.fisher, {"right_a": 3, "n_a": 5, "right_b": 1, "n_b": 5, "alternative": "less"}),
        (counts.tables, {"before": 3, "after": 2, "n": 5}),
        (counts.mcnemar_range, {"before": 3, "after": 2, "n": 5, "alternative": "less"}),
        (counts.difference_range, {"before": 3, "after": 2, "n": 5, "level": 0.95}),
        (counts.paired_verdict, {"before": 3, "after": 2, "n": 5, "delta": 0.1, "p": 0.1}),
        (counts.contrast_range, {"counts": [1, 2, 3], "position": 0, "n": 5}),
        (counts.cochran_largest, {"counts": [1, 2, 3], "n": 5}),
        (counts.stratified_difference, {"a": [(1, 2), (3, 5)], "b": [(1, 3), (2, 5)]}),
        (
            validity.sound_verdict,
            {"theta": half, "delta": 0.1, "p": {"own": 0.01}, "marginal": "own", "n": 10, "z": 1.96, "unit": "points"}
            | {"permutations": 99, "controls": ()},
        ),
        (validity.half_effect, {"reported_effect": 0.3, "floor": 0.1}),
        (validity.n_decide, {"n": 10, "se": 0.1, "delta": 0.1, "z": 1.96}),
        (validity.passes, {"p": 0.1}),
        (
            validity.protocol_artefact,
            {"measured": 0.8, "null_mean": 0.79, "nominal": 0.5, "p_null": 0.3, "permutations": 99},
        ),
        (validity.none_stands_out, {"upper_bounds": [0.1], "margin": 0.2, "deviates": False, "n": 10, "se": 0.1, "z": 1.96}),
        (validity.order_verdict, {"difference": half}),
        (reproduction.equivalence_margin, {"reported": 0.4}),
        (reproduction.same_list, {"measured": 0.4, "reported": 0.4, "n": 10, "printed_unit": 0.01}),
        (
            reproduction.other_list,
            {"measured": 0.4, "reported": 0.4, "margin": 0.05, "n_measured": 10, "s_measured": 0.1, "n_reported": 10}
            | {"s_reported": 0.1, "effect": 0.3},
        ),
        (reproduction.stated_range, {"measured": half, "low": 0.3, "high": 0.7}),
        (reproduction.fact, {"measured": 3, "reported": 3, "printed_unit": 0}),
        (reproduction.reproduce_order, {"difference": half}),
        (reproduction.regression_count, {"recorded_bits": right, "measured_bits": other, "family_size": 3}),
        (reproduction.regression_value, {"recorded": 0.3, "measured": 0.3, "tolerance": 0.1}),
        (reproduction.winner, {"difference": 0.1, "p": 0.01}),
        (
            measures.probe_grid,
            {"folds": 2, "permutations": 3, "seed": 0, "Cs": (0.1, 1.0), "probe": "ridge", "device": "cpu", "workers": 1},
        ),
        (audit.probes, {"permutations": 99, "folds": 2, "seed": 0, "Cs": (0.1,), "workers": 1, "source": "mine"}),
        (audit.outcomes, {"table": table, "clean": "clean", "constant": 0.0, "source": "mine"}),
        (audit.read_probes, {"path": folder / "nothing.npz"}),
        (audit.read_outcomes, {"path": folder / "nothing.csv"}),
        (measures.sae_quality, {"sae": measures.load_sae(sae), "l0_above": 0.0}),
        (added_auc, {"phi": 1.0}),
        (pca_features, {"components": 2}),
        (measures.load_sae, {"folder": sae, "device": "cpu"}),
        (measures.spread, {"chance": 0.5}),
        (balanced_sample, {"per_class": 2, "seed": 0}),
        (
            measures.train_relu_sae,
            {"features": 2, "l1": 0.1, "l1_kind": "sum", "epochs": 1, "batch_size": 4, "lr": 0.1, "seed": 0},
        ),
        (trend, {"permutations": 9, "seed": 0}),
        (
            codi_bench.run,
            {"models": "gpt2-mini", "claims": ["size"], "base": None, "problems": None, "logs": None, "released": ()}
            | {"n": 1, "permutations": None, "num_latents": None, "lora_alpha": None, "device": "cpu", "dtype": "auto"}
            | {"batch_size": 4, "baselines": None},
        ),
        (recipes.recipe, {"name": "gpt2"}),
        (recipes.lora_recipe, {"name": "mine", "family": "gpt2"}),
        (
            with_changes,
            {"recipe": recipes.LORA_RECIPES["gpt2"], "rank": 2, "alpha": 2, "learning_rate": 0.1, "inner": 3, "epochs": 1}
            | {"batch_size": 2, "accumulate": 1, "distill_factor": 1.0, "answer_shift": 0, "seed": 1, "num_latents": 2}
            | {"steps": [1, 2]},
        ),
    ]
    fixed = {
        measures.probe_grid: {"activations": activations, "labels": labels},
        audit.probes: {"activations": activations, "labels": labels},
        measures.train_relu_sae: {"x": activations[:, 0].astype(np.float32)},
        measures.sae_quality: {"x": activations[:, 0, :2].astype(np.float32)},
        added_auc: {"score": activations[:, 0, 0], "labels": labels, "design": activations[:, 0], "fold": np.arange(40) // 10},
        pca_features: {"x_train": activations[:, 0], "x_all": activations[:, 0]},
        measures.spread: {"accuracy": [[0.6, 0.7]]},
        balanced_sample: {"correct": right},
        trend: {"parameters": [1, 2, 3, 4], "values": [1, 2, 3, 5], "architectures": ["a"] * 4},
        reproduction.regression_count: {"same_environment": True},
    }
    return {
        f"{getattr(function, '__qualname__', function)} {i}": (function, values, fixed.get(function, {}))
        for i, (function, values) in enumerate(calls)
    }


VALUES: list[Callable[[], Any]] = [
    *(
        lambda value=value: value
        for value in (
            *(None, True, False, -1, 0, 1, 2, 2**32, 2**63, -(2**63), 10**400, 2.5, 1.0, 0.3, -0.5, 1e300, math.nan, math.inf),
            *("", " ", "3", "abc", "\ud800", "a\0b", "a\nb", "../x", "x" * 5000, b"x", b"", 1j, Decimal("2"), Fraction(1, 3)),
            *(np.int64(2), np.int64(-1), np.float32(0.5), np.bool_(True), np.str_("abc"), np.datetime64("2020-01-01")),
            *([], (), [None], ["a", None], ["a", "b", "c"], [1, 2], [[1], [2, 3]], [["a"]], [math.nan], {}, {"a": 1}, {1, 2}),
            *({"a": "b"}, {None: None}, {"a": []}, object(), object, len, ..., range(3), slice(3), pd.NA, pd.NaT),
            *(np.array(3), np.array([]), np.array(["a", "b"]), np.zeros((2, 3)), np.array([None, 1]), np.array([1.0, math.nan])),
            *(np.array([{}, []], object), np.zeros((3, 2), bool), np.ma.masked_array([1, 2], [True, False])),
            *(pd.Series(["a", None, "c"]), pd.Series([1, 2, None]), pd.DataFrame({"a": ["b"]}), pd.Categorical(["a", "b", "c"])),
            *(torch.tensor(3), torch.ones(3, requires_grad=True), torch.ones(2, dtype=torch.bfloat16)),
            *(Edit(0, "zero"), [Edit("x", "y")], [Edit(None, None)], CLEAN, [CLEAN, None]),
        )
    ),
    lambda: (x for x in ("a", "b", "c")),
    lambda: iter([]),
    lambda: (x for x in (None, "a")),
]


def scalars():
    beyond = st.integers(max_value=-1) | st.integers(min_value=2**63) | st.sampled_from([0, 1, 2])
    return st.none() | st.booleans() | beyond | st.floats() | st.text(max_size=9) | st.binary(max_size=3) | st.complex_numbers()


def nested():
    lists = st.recursive(
        scalars(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    )
    return lists | lists.map(lambda value: np.array([value, None], object)[:1]) | st.lists(scalars(), max_size=3).map(pd.Series)


@pytest.fixture(scope="module")
def table(model, tiny_folders):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebook, "_measure", lambda *_, **__: [])
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield doors(model, tiny_folders["gpt2"])


def complaint(table, name: str, argument: str, value: object) -> str:
    """What is wrong with how a call ends, "" where it has a result or one line of the package's own errors."""
    function, arguments, more = table[name]
    if argument == "progress" and callable(value):
        return ""  # what a function of the user's does is its own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**arguments | {argument: value}, **more)
    except CodiBenchError as error:
        return "" if "\n" not in str(error) else f"{name}, {argument}: {error}"
    except Exception as error:
        return f"{name}, {argument} = {value!r:.60}: {type(error).__name__} {error}"
    return ""


def test_arguments_of_any_kind_are_used_or_refused_in_one_line(table):
    calls = [(name, argument) for name, (_, arguments, _) in table.items() for argument in arguments]
    complaints = [complaint(table, *call, value()) for call in calls for value in VALUES]
    assert len(complaints) > 10_000 and [text for text in complaints if text] == []


@given(data=st.data())
@settings(max_examples=300)
def test_no_argument_leaves_a_traceback(table, data):
    name = data.draw(st.sampled_from(sorted(table)))
    argument = data.draw(st.sampled_from(sorted(table[name][1])))
    assert complaint(table, name, argument, data.draw(nested())) == ""


# Lists of texts


@pytest.mark.parametrize(
    "form",
    [
        tuple,
        np.array,
        pd.Series,
        pd.Index,
        lambda texts: pd.DataFrame({"question": texts}, index=[7, 5, 3])["question"],
        lambda texts: pd.Series(texts, dtype="category"),
        lambda texts: np.array(texts, object),
        lambda texts: (text for text in texts),
        lambda texts: dict.fromkeys(texts).keys(),
    ],
)
def test_whatever_holds_questions_in_order_is_made_a_list(model, form):
    wanted = model.answer(QUESTIONS, **QUICK)
    assert model.answer(form(QUESTIONS), **QUICK) == wanted and len(wanted.texts) == 3
    assert model.answer(form(QUESTIONS), golds=form(GOLDS), **QUICK) == wanted
    assert (model.think(form(QUESTIONS)).latents == model.think(QUESTIONS).latents).all()
    assert (model.at_cue(form(QUESTIONS)).states == model.at_cue(QUESTIONS).states).all()
    donors = model.reference(form(QUESTIONS), form(GOLDS), form(GROUPS))
    assert donors.answers == tuple(GOLDS) and donors.groups == tuple(GROUPS)


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ("7+5", r"questions must be a list, or one column or array \[n\], got '7\+5' \(str\)"),
        (b"7+5", r"got b'7\+5' \(bytes\)"),
        (None, "got None"),
        ({"q": "7+5"}, "got a value of type dict"),
        ({"7+5"}, "got a value of type set"),
        (pd.DataFrame({"question": ["7+5"]}), "got a value of type DataFrame"),
        (np.array([["7+5"]]), "got a value of type ndarray"),
        (7, "questions must be a list, or one column .* got 7"),
        (["7+5", None], r"questions\[1\] must be text, got None"),
        (["7+5", "8+1", 3.5], r"questions\[2\] must be text, got 3.5 \(float\)"),
        (pd.Series(["7+5", math.nan], dtype=object), r"questions\[1\] must be text, got nan \(float\)"),
        ([["7+5"]], r"questions\[0\] must be text, got a value of type list"),
        (["7+5", "\ud83d"], r"questions\[1\] contains a lone surrogate"),
        (["7+5", ""], "question 2 of 2 is empty"),
    ],
)
def test_what_is_no_list_of_questions_is_named(model, questions, message):
    for ask in (model.think, model.answer, model.explain, model.at_cue, model.keys_and_values):
        with pytest.raises(CodiBenchError, match=message):
            ask(questions)


def test_what_stands_beside_the_questions_has_their_length(model):
    for name in ("golds", "groups"):
        with pytest.raises(InputError, match=f"{name} must have 3 entries, one for each question, got 2"):
            model.answers(QUESTIONS, [CLEAN], **{name: ["1", "2"]})
        with pytest.raises(InputError, match=rf"{name}\[2\] must be text, got 7"):
            model.answers(QUESTIONS, [CLEAN], **{name: ["1", "2", 7]})
    with pytest.raises(InputError, match="answers must have 3 entries"):
        model.reference(QUESTIONS, GOLDS[:1], GROUPS)
    with pytest.raises(InputError, match="groups must be a list.*'abc'"):
        model.reference(QUESTIONS, GOLDS, "abc")
    with pytest.raises(InputError, match="hidden_states must be a writable array of floats"):
        model.answers(QUESTIONS, [CLEAN], hidden_states=np.zeros((3, 7, 5, 31)))


def test_models_of_a_run_may_come_from_any_list(table):
    for names in (["gpt2-mini"], pd.Series(["gpt2-mini"]), (name for name in ["gpt2-mini"])):
        assert codi_bench.run(names, ["size"], n=1).rows == ()
    with pytest.raises(InputError, match=r"claims\[0\] must be text, got 3"):
        codi_bench.run("gpt2-mini", [3])
    with pytest.raises(InputError, match="--batch-size must be a whole number, at least 1, got None"):
        codi_bench.run("gpt2-mini", "size", batch_size=None)


# Numbers


WHOLE = [2, np.int8(2), np.int64(2), np.uint16(2)]
NOT_WHOLE = [-1, True, np.bool_(True), 2.0, 2.5, math.nan, "2", None, [2], np.array([2]), np.array(2), Fraction(2), 2**70]


def test_whole_numbers_are_pythons_and_numpys(model):
    for two in WHOLE:
        assert model.answer(QUESTIONS, batch_size=two, max_new_tokens=two) == model.answer(QUESTIONS, max_new_tokens=2)
        assert problems.generate(two, seed=two) == problems.generate(2, seed=2)
    for other in NOT_WHOLE:
        for call in (
            lambda other=other: model.think(QUESTIONS, batch_size=other),
            lambda other=other: model.answer(QUESTIONS, batch_size=other),
            lambda other=other: model.answer(QUESTIONS, max_new_tokens=other),
            lambda other=other: model.answers(QUESTIONS, [CLEAN], seed=other),
            lambda other=other: model.reference(QUESTIONS, GOLDS, GROUPS, batch_size=other),
            lambda other=other: model.keys_and_values(QUESTIONS, batch_size=other),
            lambda other=other: problems.generate(2, variants=other),
            lambda other=other: problems.load_problems(seed=other, n=2),
        ):
            with pytest.raises(CodiBenchError, match="must be a whole number, at (least [01]|most [0-9]+), got"):
                call()


@pytest.mark.parametrize("k", [-1, 1025, 2.0, "6", True])
def test_thoughts_are_as_many_as_a_model_folder_may_have(model, tiny_folders, k):
    for call in (lambda: model.think(QUESTIONS, num_latents=k), lambda: load(tiny_folders["gpt2"], num_latents=k)):
        with pytest.raises(CodiBenchError, match="num_latents must be a whole number, at"):
            call()


def test_a_rate_takes_any_number_that_is_one():
    known = (0.4901625, 0.9433178)  # Wilson's limits of 8 of 10
    for eight, ten in ((8, 10), (8.0, 10.0), (np.int64(8), np.float32(10)), (np.uint8(8), np.int16(10))):
        rate = wilson(eight, ten)
        assert (rate.low, rate.high) == pytest.approx(known, abs=1e-7) and rate == wilson(8, 10)
    for level in (95, 0, 1, -0.95, True, "0.95", None, math.nan):
        for call in (
            lambda level=level: wilson(8, 10, level),
            lambda level=level: stats.newcombe_paired([1, 0], [0, 0], level),
            lambda level=level: stats.bootstrap_mean([1, 0, 1], rng=stats.stream(0), level=level),
            lambda level=level: intervals.cv_auc(0.6, 0.1, 1.0, level=level),
            lambda level=level: intervals.heterogeneity(np.eye(3), level=level),
            lambda level=level: counts.difference_range(3, 2, 5, level),
        ):
            with pytest.raises(MeasureError, match="level must be a fraction between 0 and 1, such as 0.95"):
                call()
    for successes, n in ((True, 2), (1, True), ("1", 2), (None, 2), (math.nan, 2), (1, math.inf), (1, None), (Decimal(1), 2)):
        with pytest.raises(MeasureError, match=r"(successes|n) must be a finite number"):
            wilson(successes, n)


def test_texts_are_no_outcomes_and_no_scores():
    """numpy would read "0" as a number, or as true."""
    for values in (["1", "0"], np.array(["0", "1"]), [1, None], [[1], [0, 1]], "10", torch.ones(2, dtype=torch.bfloat16)):
        with pytest.raises(MeasureError, match="outcomes must be numbers"):
            stats.bits(values)
    assert stats.bits(pd.array([True, False])).tolist() == stats.bits([1.0, 0]).tolist() == [True, False]
    with pytest.raises(ProblemError, match="unknown scoring 'loose': use published or study"):
        problems.score("no number", "3", "loose")
    with pytest.raises(ProblemError, match="gold must be a text, got 3"):
        problems.score("3", 3)
    with pytest.raises(MeasureError, match=r"groups\[1\] is None; give every problem the name of its group"):
        stats.bootstrap_mean([1, 0, 1], rng=stats.stream(0), groups=["a", None, "b"])


# The command line


@pytest.mark.parametrize(
    ("command", "option", "least", "most"),
    [
        ("problems generated --n 1", "--seed", 0, arguments.SEED),
        ("problems generated", "--n", 1, arguments.COUNT),
        ("problems generated --n 1", "--variants", 1, arguments.COUNT),
        ("think --model M --problems P --out O", "--batch-size", 1, arguments.COUNT),
        ("think --model M --problems P --out O", "--num-latents", 0, arguments.LATENTS),
        ("think --model M --problems P --out O", "--seed", 0, arguments.SEED),
        ("answer --model M --problems P --out O", "--max-new-tokens", 1, arguments.COUNT),
        ("answer --model M --problems P --out O", "--seed", 0, arguments.SEED),
        ("audit probes P", "--permutations", 99, arguments.PERMUTATIONS),
        ("audit probes P", "--folds", 2, arguments.COUNT),
        ("audit probes P", "--seed", 0, arguments.FOLD_SEED),
        ("train gpt2-mini --out O", "--seed", 0, arguments.SEED),
        ("train gpt2-mini --out O", "--num-latents", 1, arguments.LATENTS),
        ("sweep", "--seed", 0, arguments.SEED),
    ],
)
def test_the_command_line_has_the_limits_of_the_functions(command, option, least, most, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (least - 1, most + 1, "1.5", "x"):
        done = CliRunner().invoke(app, [*command.split(), option, str(value)])
        assert done.exit_code == 2 and f"Invalid value for '{option}'" in done.output and list(tmp_path.iterdir()) == []
    if command == "problems generated --n 1":
        outputs = {CliRunner().invoke(app, [*command.split(), option, str(value)]).stdout for value in (least, most)}
        expected = {problems.generate(1, **{option[2:]: value})[0].to_json() + "\n" for value in (least, most)}
        assert outputs == expected


def test_a_log_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ProblemError, match="--log mine=.*nowhere: cannot be read"):
        codi_bench.run(logs={"mine": tmp_path / "nowhere"})
