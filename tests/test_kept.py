"""Long computations are kept by what they were given: the same again costs nothing, anything else is computed."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from codi_bench.errors import MeasureError
from codi_bench.measures.grid import ProbeGrid, Split, probe_grid
from codi_bench.measures.sae import ErrorPrediction, Sae, predict_errors, train_relu_sae, train_topk_sae
from codi_bench.models.loading import load
from codi_bench.rules.stats import stream
from codi_bench.store.cache import Store, entries
from codi_bench.store.memo import digest, pack
from codi_bench.suite import bench as bench_module
from codi_bench.suite.bench import ModelBench

VECTORS = stream(0, "kept").normal(size=(60, 8)).astype(np.float32)
RELU = {"features": 12, "l1": 1e-3, "l1_kind": "mean", "epochs": 2, "seed": 3}
TOPK = {"features": 12, "k": 3, "epochs": 2, "seed": 3}


@pytest.fixture
def bench(tiny_folders, tmp_path):
    return ModelBench(load(tiny_folders["gpt2"], device="cpu"), Store(tmp_path))


def same(one, other) -> bool:
    """Every number to its last bit."""
    one, other = ({name: (a.dtype, a.shape, a.tobytes()) for name, a in pack(each).items()} for each in (one, other))
    return one == other


# What is kept comes back


@pytest.mark.parametrize(("train", "settings"), [(train_relu_sae, RELU), (train_topk_sae, TOPK)])
def test_a_trained_sae_is_read_again_to_the_last_bit(bench, train, settings, monkeypatch):
    fresh = train(VECTORS, **settings)
    cold = bench.cached(Sae, train, VECTORS, **settings)
    monkeypatch.setattr(torch.optim, "Adam", lambda *args, **kwargs: pytest.fail("trained again"))
    warm = replace(bench, memo={}).cached(Sae, train, VECTORS.copy(), **settings)
    assert same(fresh, cold) and same(cold, warm) and warm.k == fresh.k
    assert (warm.encode(VECTORS) == fresh.encode(VECTORS)).all() and len(entries(bench.store.folder)) == 1
    warm.encoder_bias.add_(1)  # a copy: what is stored stays
    assert same(bench.cached(Sae, train, VECTORS, **settings), fresh)


def test_records_come_back_with_numbers_arrays_and_what_is_missing(bench):
    labels = VECTORS[:, 0] > 0
    how = {"permutations": 9, "folds": 3, "in_sample": False}
    grid = bench.cached(ProbeGrid, probe_grid, VECTORS[:, None], labels, groups=[f"g{i}" for i in range(60)], **how)
    assert same(grid, probe_grid(VECTORS[:, None], labels, groups=[f"g{i}" for i in range(60)], **how))
    assert grid.chosen_C is None and isinstance(grid.p_value_any, float) and grid.p_value.shape == (1,)
    with pytest.raises(ValueError, match="read-only"):
        grid.p_value[0] = 0
    found = bench.cached(ErrorPrediction, predict_errors, VECTORS, labels)
    assert same(found, predict_errors(VECTORS, labels)) and isinstance(found.called_correct, int)


def test_what_a_computation_raises_is_raised_and_not_kept(bench):
    for _ in range(2):
        with pytest.raises(MeasureError, match="features must be a whole number, at least 1"):
            bench.cached(Sae, train_relu_sae, VECTORS, **RELU | {"features": 0})
    assert not entries(bench.store.folder)


# Anything else is computed


def moved(vectors):
    vectors = vectors.copy()
    vectors[-1, -1] = np.nextafter(vectors[-1, -1], np.float32(9))
    return vectors


CHANGES = {
    "last bit of a vector": lambda patch: ((moved(VECTORS),), {}),
    "order": lambda patch: ((VECTORS[::-1],), {}),
    "dtype": lambda patch: ((VECTORS.astype(np.float64),), {}),
    "seed": lambda patch: ((VECTORS,), {"seed": 4}),
    "penalty": lambda patch: ((VECTORS,), {"l1": 1e-4}),
    "kind of penalty": lambda patch: ((VECTORS,), {"l1_kind": "sum"}),
    "a setting that had its default": lambda patch: ((VECTORS,), {"lr": 2e-3}),
    "threads": lambda patch: patch.setattr(bench_module, "torch", SimpleNamespace(get_num_threads=lambda: 7)),
    "library": lambda patch: patch.setattr(bench_module, "version", lambda name: "9.9"),
    "code": lambda patch: patch.setattr(bench_module, "code_hash", lambda *modules: "other"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_argument_or_another_maker_is_computed_anew(bench, what, monkeypatch):
    bench.cached(Sae, train_relu_sae, VECTORS, **RELU)
    given, settings = CHANGES[what](monkeypatch) or ((VECTORS,), {})
    replace(bench, memo={}).cached(Sae, train_relu_sae, *given, **RELU | settings)
    assert len(entries(bench.store.folder)) == 2


def test_which_of_equal_gpus_computes_is_no_part_of_the_key(bench):
    seen = [bench.cached(np.ndarray, letters, device=device).tobytes() for device in ("cuda:0", "cuda:3", "cuda", "cpu")]
    assert seen == [b"cuda:0"] * 3 + [b"cpu"]


def letters(*, device):
    return np.frombuffer(device.encode(), np.uint8)


@dataclass(frozen=True)
class Pair:
    a: object
    b: object


def test_equal_arguments_and_no_others_have_one_name():
    values = [None, True, 1.5, "a", ["a", "b"], ["b", "a"], [["a"], "b"], np.arange(3), np.arange(3.0), np.arange(3)[:, None]]
    values += [np.array(["a", "b"]), Pair(1.5, None), Pair(None, 1.5), Split(np.arange(2), np.arange(3), ())]
    values += [[], np.empty((0, 2))]
    names = [digest([value], {}) for value in values] + [digest([], {"x": 1.5}), digest([], {"y": 1.5}), digest([1.5, None], {})]
    assert len(set(names)) == len(names)
    assert digest([("a", "b")], {"x": 1, "y": 2}) == digest([["a", "b"]], {"y": 2, "x": 1})
    assert digest([np.arange(12).reshape(3, 4).T], {}) == digest([np.arange(12).reshape(3, 4).T.copy()], {})
    for value in (object(), len, np.array([object()])):
        with pytest.raises(TypeError, match="no content to hash"):
            digest([value], {})
