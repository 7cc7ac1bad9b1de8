"""Arrays as users have them: what every measure reads gives the numbers of the plain array, or one line that names the place."""

from __future__ import annotations

import datetime
import decimal
import warnings
from dataclasses import fields
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from codi_bench import audit
from codi_bench.errors import CodiBenchError, InputError, MeasureError
from codi_bench.measures import (
    Sae,
    balanced_sample,
    criticality,
    drops,
    grid_summary,
    in_sample_probes,
    predict_errors,
    probe_grid,
    sae_quality,
    spread,
    train_relu_sae,
)
from codi_bench.measures.ablation import position_effects
from codi_bench.measures.arrays import codes
from codi_bench.measures.crosscoder import cka, train_crosscoder
from codi_bench.measures.grid import in_sample_null
from codi_bench.measures.sae import train_topk_sae
from codi_bench.measures.sae_heldout import grouped_split, pca_features, quality
from codi_bench.measures.subspaces import principal_axes
from codi_bench.measures.surface import added_auc, conditional_null, propensity, surface_design
from codi_bench.measures.trend import trend
from codi_bench.measures.value_probes import value_probes

N = 60
RNG = np.random.default_rng(0)
Y = RNG.permutation(N) % 2 == 0
# eighths, which bfloat16, float8 and whole numbers hold exactly
X = (RNG.integers(-8, 9, size=(N, 2, 5)) + 3 * Y[:, None, None] * (np.arange(5) == 0)).astype(np.float64)
GROUPS = np.arange(N) // 2
SAE = Sae(torch.eye(5), torch.zeros(5), torch.eye(5), torch.zeros(5))


def grid(x=X, labels=Y, **how):
    settings = {"Cs": (0.01, 1.0), "folds": 3, "permutations": 9, "seed": 0, "workers": 1}
    return probe_grid(x, labels, **settings | how)


@cache
def of_plain(groups=False, probe="ridge"):
    return grid(groups=GROUPS if groups else None, probe=probe)


def same(one, other):
    """Every number of two grids but the predictions, which have the dtype of the labels."""
    return all(
        np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one) if f.name != "held_out_prediction"
    )


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def tuples(x):
    return tuple(map(tuples, x)) if np.ndim(x) else float(x)


FORMS = {
    "bfloat16": lambda x: torch.tensor(x, dtype=torch.bfloat16),
    "bfloat16 in a graph": lambda x: torch.tensor(x, dtype=torch.bfloat16, requires_grad=True) * 1,
    "half": lambda x: torch.tensor(x).half(),
    "a parameter": lambda x: torch.nn.Parameter(torch.tensor(x)),
    "8 bits": lambda x: torch.tensor(x).to(torch.float8_e4m3fn),
    "sparse": lambda x: torch.tensor(x).to_sparse(),
    "whole": lambda x: torch.tensor(x).long(),
    "int8": lambda x: x.astype(np.int8),
    "float128": lambda x: x.astype(np.longdouble),
    "other byte order": lambda x: x.astype(">f8"),
    "backwards": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "read-only": read_only,
    "Fortran's order": np.asfortranarray,
    "lists": lambda x: x.tolist(),
    "tuples": tuples,
    "a list of tensors": lambda x: [torch.tensor(row, dtype=torch.bfloat16) for row in x],
    "a generator of arrays": lambda x: (row for row in x),
    "memory": memoryview,
    "objects": lambda x: x.astype(object),
    "decimals": lambda x: np.vectorize(decimal.Decimal, otypes=[object])(x),
    "an unmasked array": np.ma.masked_array,
}


@pytest.mark.parametrize("form", FORMS)
def test_activations_of_every_form_give_the_same_bits(form):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(grid(FORMS[form](X)), of_plain())
        assert same(grid(FORMS[form](X), groups=GROUPS, probe="logistic"), of_plain(True, "logistic"))
        assert (in_sample_probes(FORMS[form](X), Y).predictions == in_sample_probes(X, Y).predictions).all()
        flat = X[:, 0]
        assert sae_quality(SAE, FORMS[form](flat)) == sae_quality(SAE, flat)
        assert (predict_errors(FORMS[form](flat), Y).test_right == predict_errors(flat, Y).test_right).all()
        assert (pca_features(FORMS[form](flat), FORMS[form](X), 2) == pca_features(flat, X, 2)).all()
        assert cka(FORMS[form](flat), FORMS[form](X[:, 1])) == cka(flat, X[:, 1])
        assert (principal_axes(FORMS[form](X)).variance == principal_axes(X).variance).all()


def test_the_auditor_reads_the_same_forms_and_tables():
    expected = audit.probes(X[:, 0], Y, permutations=99, folds=3).as_dict()
    frame = pd.DataFrame(X[:, 0])
    for x in (FORMS["bfloat16 in a graph"](X[:, 0]), X[:, 0].tolist(), frame, frame.astype("Float64"), frame.astype("int64")):
        assert audit.probes(x, Y, permutations=99, folds=3).as_dict() == expected
    for labels in (torch.tensor(Y), torch.tensor(Y).bfloat16(), Y.astype(np.uint64), pd.Series(Y, dtype="boolean"), Y.tolist()):
        assert audit.probes(X[:, 0], labels, permutations=99, folds=3).as_dict() == expected


LABELS = [
    *(Y.astype(kind) for kind in (np.int8, np.uint8, np.int64, np.uint64, np.float16, np.float64, ">i4")),
    *(torch.tensor(Y).to(kind) for kind in (torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32)),
    np.where(Y, "yes", "no"),
    np.where(Y, b"yes", b"no"),
    np.where(Y, 7, -7),
    np.where(Y, "yes", "no").tolist(),
    Y.astype(object),
    [int(label) for label in Y],
    [torch.tensor(label) for label in Y],
    pd.Categorical(np.where(Y, "b", "a")),
    pd.Series(np.where(Y, "b", "a"), index=np.arange(N)[::-1]),
    pd.Series(Y.astype(int), dtype="Int64"),
]


@pytest.mark.parametrize("labels", LABELS, ids=lambda labels: f"{type(labels).__name__} {getattr(labels, 'dtype', '')}")
def test_labels_of_every_kind_give_the_same_bits(labels):
    found = grid(labels=labels)
    assert same(found, of_plain())
    assert (found.held_out_prediction == np.unique(found.held_out_prediction)[1]).tolist() == (
        of_plain().held_out_prediction == np.True_
    ).tolist()
    assert (in_sample_probes(X, labels).correct == in_sample_probes(X, Y).correct).all()


NAMES = [
    [f"g{g:02}" for g in GROUPS],
    [(int(g), "a") for g in GROUPS],
    [frozenset({int(g)}) for g in GROUPS],
    [datetime.date(2020, 1, 1) + datetime.timedelta(days=int(g)) for g in GROUPS],
    np.datetime64("2020-01-01", "ns") + GROUPS,
    pd.Categorical([f"g{g:02}" for g in GROUPS]),
    pd.Series(GROUPS, dtype="Int64"),
    torch.tensor(GROUPS),
    torch.tensor(GROUPS).bfloat16(),
    [torch.tensor(int(g)) for g in GROUPS],
    GROUPS.astype(np.uint64),
    GROUPS.astype(object),
    (f"g{g:02}" for g in GROUPS),
]


@pytest.mark.parametrize("groups", NAMES, ids=lambda groups: type(groups).__name__)
def test_groups_of_every_hashable_give_the_same_bits(groups):
    assert same(grid(groups=groups), of_plain(groups=True))


def test_names_of_several_kinds_are_as_many_groups():
    """numpy would make one text of 1 and "1", and one row of each tuple."""
    assert codes("groups", [1, "1", (1,), 1.0, True, "a", None.__class__], 7).tolist() == [0, 1, 2, 0, 0, 3, 4]
    assert codes("groups", ["b", "a", "b"], 3).tolist() == [1, 0, 1] and codes("groups", [10, 9.5, 10], 3).tolist() == [1, 0, 1]
    half = [int(g) if g % 2 else str(g) for g in GROUPS]
    assert value_probes(X, Y.astype(int), groups=half, folds=3, permutations=2, seed=0).groups == N // 2
    train, test = grouped_split(half, np.where(Y, "yes", "no"), seed=0)
    assert not {half[row] for row in train} & {half[row] for row in test}


# What is refused


def put(values, row, value):
    values = list(values)
    values[row] = value
    return values


def nested(value):
    x = X.tolist()
    x[3][1][2] = value
    return x


MASKED = np.ma.masked_array(X, np.arange(X.size).reshape(X.shape) == 37)  # row 3, cell 1
BAD_ACTIVATIONS = [
    (X.astype(complex), "activations: holds complex128; numbers are needed"),
    (torch.tensor(X).to(torch.complex64), "activations: holds complex64"),
    (X.astype(str), "activations: holds <U"),
    (X.astype("M8[D]"), r"activations: holds datetime64\[D\]"),
    (np.zeros(N, [("a", float)]), "activations: holds"),
    (nested("0.5"), "activations: row 3 holds '0.5' .str.; numbers"),
    (nested(None), "activations: row 3, cell 1 holds nan"),
    (nested(pd.NA), "activations: row 3, cell 1 holds nan"),
    (nested(float("inf")), "activations: row 3, cell 1 holds inf"),
    (nested(10**400), "activations: row 3, cell 1 holds inf"),
    (MASKED, "activations: row 3, cell 1 is masked"),
    ([*X[:, 0].tolist()[:-1], [1.0]], r"activations: row 59 has the shape \[1\], row 0 has \[5\]"),
    (torch.tensor(X).bfloat16() * float("inf"), "holds (nan|inf|-inf)"),
    ("abc", "activations: is of type str"),
    ({"a": 1}, "activations: is of type dict"),
    (None, "activations: is of type NoneType"),
    (3.0, r"got \[\] and \[60\]"),
    ([], r"got \[0\] and"),
    (X[:, 0], r"got \[60, 5\] and \[60\]"),
    (torch.empty(N, 2, 5, device="meta"), "activations: a tensor of torch.float32 on meta"),
]


@pytest.mark.parametrize(("x", "message"), BAD_ACTIVATIONS, ids=lambda value: type(value).__name__)
def test_activations_that_are_no_numbers_are_refused_by_every_door(x, message):
    for call in (
        lambda: grid(x),
        lambda: in_sample_probes(x, Y),
        lambda: in_sample_null(x, Y, permutations=2, seed=0),
        lambda: value_probes(x, Y.astype(int), folds=3, permutations=2, seed=0, groups=GROUPS),
        lambda: conditional_null(x, Y, np.ones((N, 1)), permutations=2),
    ):
        with pytest.raises(MeasureError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
    if message.startswith("activations"):
        with pytest.raises(InputError, match=message):
            audit.probes(x, Y)


BAD_LABELS = [
    (put(Y, 4, None), "labels: row 4 is missing"),
    (put(Y.astype(float), 4, np.nan), "labels: row 4 is (missing|nan)"),
    (np.array(put(Y.astype(float), 4, np.nan)), "labels: row 4 is nan"),
    (put(np.where(Y, "yes", "no"), 4, float("nan")), "labels: row 4 is missing"),
    (pd.Series(put(Y, 4, pd.NA), dtype="boolean"), "labels: row 4 is missing"),
    (pd.Categorical(put(np.where(Y, "yes", "no"), 4, None)), "labels: row 4 is missing"),
    (Y + 0.5, "labels: row 0 is .*; classes are whole numbers"),
    (put(Y, 4, "yes"), "labels: holds numbers and text"),
    ([(1, 2)] * N, r"got \[60, 2, 5\] and \[60, 2\]"),
    (Y.astype(complex), "labels: holds complex"),
    (np.ma.masked_array(Y, np.arange(N) == 4), "labels: row 4 is masked"),
    (np.ones(N), "two classes"),
    (Y[:, None], r"and \[60, 1\]"),
    (7, r"and \[\]"),
    (None, "labels: is of type NoneType"),
]


@pytest.mark.parametrize(("labels", "message"), BAD_LABELS, ids=lambda value: type(value).__name__)
def test_labels_that_are_no_classes_are_refused_with_their_row(labels, message):
    for call in (grid, lambda labels: in_sample_probes(X, labels)):
        with pytest.raises(MeasureError, match=message) as error:
            call(labels=labels)
        assert "\n" not in str(error.value)
    with pytest.raises(CodiBenchError):
        audit.probes(X, labels)


@pytest.mark.parametrize(
    "nothing",
    [None, float("nan"), np.nan, pd.NA, pd.NaT, np.datetime64("NaT"), decimal.Decimal("nan"), np.ma.masked, "", " "],
    ids=repr,
)
@pytest.mark.parametrize(
    "names", [[f"g{g}" for g in GROUPS], GROUPS.tolist(), [(int(g),) for g in GROUPS]], ids=["text", "int", "tuple"]
)
def test_a_missing_group_is_refused_with_its_row(nothing, names):
    groups = put(names, 7, nothing)
    for call in (
        lambda: grid(groups=groups),
        lambda: value_probes(X, Y.astype(int), groups=groups, folds=3, permutations=2, seed=0),
        lambda: conditional_null(X, Y, np.ones((N, 1)), groups=groups, permutations=2),
        lambda: grouped_split(groups, Y, seed=0),
        lambda: audit.probes(X, Y, groups=groups),
    ):
        with pytest.raises(CodiBenchError, match="groups: row 7 is missing"):
            call()


def test_other_groups_are_refused_in_one_line():
    for groups, message in (
        (put(GROUPS.tolist(), 7, {}), "groups: row 7 is of type dict; give text, numbers or tuples"),
        (GROUPS[:-1], r"groups need one name per problem, \[60\], not \[59\]"),
        (np.stack([GROUPS, GROUPS], 1), r"not \[60, 2\]"),
        ("g" * N, "groups: is of type str"),
        (dict.fromkeys(range(N)), "groups: is of type dict"),
        (5, r"not \[\]"),
        (np.datetime64("NaT", "s") + np.zeros(N, int), "groups: row 0 is missing"),
        (np.where(np.arange(N) == 7, np.nan, GROUPS), "groups: row 7 is missing"),
    ):
        with pytest.raises(MeasureError, match=message):
            grid(groups=groups)


def test_the_other_measures_read_and_refuse_alike():
    outcomes, right = torch.tensor([[True, False, True, True]] * 2), pd.Series([True, False, True, True], dtype="boolean")
    assert drops(right, outcomes).tolist() == [0, 0] == drops(right.tolist(), outcomes.tolist()).tolist()
    assert position_effects(right, outcomes).drops == position_effects(right.to_numpy(), outcomes.numpy()).drops
    assert balanced_sample(torch.tensor(Y), per_class=5).tolist() == balanced_sample(Y, per_class=5).tolist()
    accuracies = torch.tensor([[0.5, 0.75], [1.0, 0.5]], dtype=torch.bfloat16, requires_grad=True)
    assert spread(accuracies) == spread(accuracies.detach().double().numpy())
    assert grid_summary(accuracies).max == 1.0 and criticality(accuracies[0]).range == 0.25
    design = torch.tensor(X[:, 1, :2], requires_grad=True)
    assert (propensity(design, np.where(Y, "b", "a")) == propensity(X[:, 1, :2], Y)).all()
    assert surface_design({"a": pd.Series(X[:, 0, 1])}, {"b": [(int(k),) for k in np.arange(N) % 3]}, N).shape == (N, 3)
    for call, message in (
        (lambda: drops([True, None], [[True, True]]), "clean: row 1 is missing"),
        (lambda: balanced_sample(np.array(put(Y, 4, None), object)), "correct: row 4 is missing"),
        (lambda: spread([["0.5", "0.75"]]), "accuracy: holds <U"),
        (lambda: trend([1e3, 1e4, 1e5] * 2, [1, 2, "3", 1, 2, 3], ["a"] * 6), "values: row 2 holds '3'"),
        (lambda: trend([1e3, 1e4, 1e5] * 2, [1, 2, 3] * 2, ["a", None] * 3), "architectures: row 1 is missing"),
        (lambda: predict_errors(X[:, 0], put(Y, 4, None)), "correct: row 4 is missing"),
        (lambda: SAE.encode(np.zeros((3, 4))), r"vectors have the shape \[3, 4\]; this autoencoder takes \[..., 5\]"),
        (lambda: SAE.decode(torch.full((3, 5), torch.nan)), "features: row 0, column 0 holds nan"),
        (lambda: SAE.encode("x"), "vectors: is of type str"),
        (lambda: cka(X[:, 0], X[1:, 0]), "aligned vectors"),
        (lambda: principal_axes(np.full((4, 3), np.nan)), "not finite"),
    ):
        with pytest.raises(MeasureError, match=message):
            call()


def test_training_leaves_the_graph_of_its_vectors_alone():
    x = torch.tensor(X[:, 0], dtype=torch.bfloat16, requires_grad=True)
    for train in (
        lambda v: train_relu_sae(v, features=6, l1=0.01, l1_kind="sum", epochs=2, seed=0).encoder_weight,
        lambda v: train_topk_sae(v, features=6, k=2, epochs=2, seed=0).encoder_weight,
        lambda v: train_crosscoder(v, v, features=6, k=2, epochs=2, seed=0).encoder_a,
    ):
        assert torch.equal(train(x * 1), train(X[:, 0])) and x.grad is None
    assert not SAE.encode(x).requires_grad and isinstance(SAE.encode(x), torch.Tensor)


# Magnitudes

SCALES = (2.0**664, 2.0**-664, 2.0**1000, 2.0**-1060)  # 1e200, 1e-200, and nearly all that a float can be


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_probes_do_not_depend_on_the_magnitude(scale, probe):
    wide = RNG.normal(size=(N, 1, 80)) + Y[:, None, None]  # more dimensions than problems: single precision in the null
    mixed = np.where(np.arange(5) == 0, X * scale, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(grid(X * scale, probe=probe), of_plain(probe=probe)) and same(grid(mixed, probe=probe), of_plain(probe=probe))
        rounded = wide * scale / scale  # what 2^-1060 leaves of the digits
        assert same(grid(wide * scale, probe=probe), grid(rounded, probe=probe))
        assert (in_sample_probes(X * scale, Y).predictions == in_sample_probes(X, Y).predictions).all()
        values = (value_probes(x, np.arange(N) % 3, folds=3, permutations=3, seed=0) for x in (X * scale, X))
        assert np.array_equal(*(found.null for found in values))


@pytest.mark.parametrize(
    ("kind", "scale"), [(np.float32, 2.0**80), (np.float32, 2.0**-80), (np.float16, 2.0**8), (np.int64, 2**50)]
)
def test_squares_in_narrow_floats_neither_overflow_nor_vanish(kind, scale):
    wide = np.round(8 * RNG.normal(size=(N, 1, 80))) + 8 * Y[:, None, None]
    assert same(grid((wide * scale).astype(kind)), grid(wide))


@pytest.mark.parametrize("scale", SCALES[:2])
def test_surface_confidence_and_trend_do_not_depend_on_the_magnitude(scale):
    surface, confidence = RNG.random((N, 2)), RNG.random(N)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = (
            audit.probes(X, Y, surface=surface * s, confidence=confidence * s, permutations=99, folds=3).as_dict()
            for s in (1, scale)
        )
        assert one == other and one["status"] == "ok"
        assert (propensity(surface * scale, Y) == propensity(surface, Y)).all()
        fold = np.arange(N) % 3
        assert added_auc(confidence * scale, Y, surface * scale, fold, phi=1) == added_auc(confidence, Y, surface, fold, phi=1)
        sizes, values = [1e3, 1e4, 1e5, 1e6] * 2, RNG.random(8) + np.arange(8) % 4
        near, far = (trend(sizes, values * s, ["a"] * 8, permutations=199) for s in (1, scale))
        assert far.p == near.p <= 0.05 and far.change.low == scale * near.change.low and far.seed_std == scale * near.seed_std


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e30, 1e-30])
def test_what_single_precision_cannot_square_is_refused_by_autoencoders(scale):
    x = X[:, 0] * scale
    for call in (
        lambda: sae_quality(SAE, x),
        lambda: train_relu_sae(torch.tensor(x), features=6, l1=0.01, l1_kind="sum", seed=0),
        lambda: train_topk_sae(x, features=6, k=2, seed=0),
        lambda: train_crosscoder(x, x, features=6, k=2, seed=0),
        lambda: quality(SAE, x[:30], x[30:]),
        lambda: pca_features(x, x, 2),
        lambda: cka(x, x),
    ):
        with warnings.catch_warnings(), pytest.raises(MeasureError, match="vectors: the largest magnitude is .*e.*; scale them"):
            warnings.simplefilter("error")
            call()


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_what_goes_unscaled_to_a_classifier_must_be_in_the_range_of_features(scale):
    with pytest.raises(MeasureError, match="features: the largest magnitude is"):
        predict_errors(X[:, 0] * scale, Y)
    with pytest.raises(MeasureError, match="vectors: the largest magnitude is"):
        principal_axes(X * scale)
    assert predict_errors(np.zeros((N, 2)), Y).train_accuracy == 0.5
