"""What was computed once is read again, exactly; damage is noticed; files are whole."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from codi_bench.store.arrays import START
from codi_bench.store.cache import Store, default_folder, pack_answers, unpack_answers
from codi_bench.store.files import file_hash, write_text, write_whole
from codi_bench.thoughts.record import Answers

answers = st.lists(st.tuples(st.lists(st.integers(0, 2**31 - 1)), st.text(st.characters(exclude_categories=["Cs"])))).map(
    lambda rows: Answers(tuple(tuple(ids) for ids, _ in rows), tuple(text for _, text in rows))
)


class Counting:
    """A computation that counts its calls and gives another array each time."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"a": np.full((2, 3), self.calls, np.float32), "b": np.arange(6)[::2]}


def entries(folder):
    return sorted(folder.glob("*.safetensors"))


# Fetching


def test_fetch_computes_once_and_then_reads(tmp_path):
    compute = Counting()
    cold = Store(tmp_path).fetch({"model": "m", "n": 3}, compute)
    warm = Store(tmp_path).fetch({"n": 3, "model": "m"}, compute)  # the order of a key is nothing
    assert compute.calls == 1
    for held in (cold, warm):
        assert held.keys() == {"a", "b"} and (held["a"] == 1).all() and held["b"].tolist() == [0, 2, 4]
        assert held["a"].dtype == np.float32 and held["b"].dtype == np.int64


@pytest.mark.parametrize("other", [{"model": "m", "n": 4}, {"model": "m"}, {"model": "m", "n": "3"}])
def test_another_key_computes_again(tmp_path, other):
    compute, store = Counting(), Store(tmp_path)
    store.fetch({"model": "m", "n": 3}, compute)
    assert (store.fetch(other, compute)["a"] == 2).all() and len(entries(tmp_path)) == 2
    assert (store.fetch({"model": "m", "n": 3}, compute)["a"] == 1).all()


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-4], lambda b: b[:20], lambda b: b"", lambda b: b"\0" * len(b)],
    ids=["short", "header cut", "empty", "zeros"],
)
def test_a_damaged_entry_is_computed_again_with_a_warning(tmp_path, caplog, damage):
    compute, store = Counting(), Store(tmp_path)
    store.fetch({"k": 1}, compute)
    (path,) = entries(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert (store.fetch({"k": 1}, compute)["a"] == 2).all()
    assert [r.levelname for r in caplog.records] == ["WARNING"] and f"{path} is damaged" in caplog.text
    store.fetch({"k": 1}, compute)
    assert compute.calls == 2


def test_an_entry_of_another_key_under_this_name_is_computed_again(tmp_path, caplog):
    compute, store = Counting(), Store(tmp_path)
    store.fetch({"k": 1}, compute)
    (first,) = entries(tmp_path)
    store.fetch({"k": 2}, compute)
    (second,) = set(entries(tmp_path)) - {first}
    shutil.copy(first, second)
    with caplog.at_level(logging.WARNING):
        assert (store.fetch({"k": 2}, compute)["a"] == 3).all()
    assert "another key" in caplog.text


def test_a_computation_that_fails_leaves_no_entry(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Store(tmp_path).fetch({"k": 1}, lambda: 1 // 0)
    assert not entries(tmp_path)
    assert (Store(tmp_path).fetch({"k": 1}, Counting())["a"] == 1).all()


def test_the_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("CODI_BENCH_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "store"
    monkeypatch.delenv("CODI_BENCH_CACHE")
    assert tmp_path not in default_folder().parents


# Packing


@given(answers)
def test_answers_are_unpacked_as_they_were(found):
    assert unpack_answers(pack_answers(found)) == found


@pytest.mark.parametrize("found", [Answers((), ()), Answers(((),), ("",)), Answers(((), (1, 2), ()), ("é𝟙", "", "中"))])
def test_answers_survive_the_store(tmp_path, found):
    store = Store(tmp_path)
    assert unpack_answers(store.fetch({}, lambda: pack_answers(found))) == unpack_answers(store.fetch({}, dict)) == found


def test_a_large_array_is_filled_in_the_file_and_read_without_loading_it(tmp_path):
    rows = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    calls = []

    def fill(large):
        assert isinstance(large, np.memmap) and large.dtype == np.float16
        for i in (3, 0, 4, 1, 2):
            large[i] = rows[i]
        calls.append(1)
        return {"b": np.arange(3), "empty": np.empty(0, np.uint8)}

    cold = Store(tmp_path).fetch_filled({"k": 1}, "states", rows.shape, fill)
    warm = Store(tmp_path).fetch_filled({"k": 1}, "states", rows.shape, fill)
    assert len(calls) == 1
    for held in (cold, warm):
        assert isinstance(held["states"], np.memmap) and not held["states"].flags.writeable
        assert np.array_equal(held["states"], rows.astype(np.float16)) and held["b"].tolist() == [0, 1, 2]
    (path,) = entries(tmp_path)
    whole = load_file(path)  # safetensors itself reads the same
    assert whole.keys() == {"states", "b", "empty"} and np.array_equal(whole["states"], cold["states"])
    assert path.stat().st_size < 2 * rows.size + 2 * START


@pytest.mark.parametrize(("layers", "width", "most"), [(13, 768, 145e6), (17, 2048, 500e6)], ids=["gpt2", "llama-3.2-1b"])
def test_a_thousand_problems_of_a_published_model_fit(tmp_path, layers, width, most):
    Store(tmp_path).fetch_filled({}, "hidden_states", (1000, 7, layers, width), lambda large: {})  # a file of holes
    assert entries(tmp_path)[0].stat().st_size <= most


def test_a_fill_that_fails_leaves_no_entry(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Store(tmp_path).fetch_filled({"k": 1}, "states", (2, 2), lambda large: 1 // 0)
    assert not entries(tmp_path) and not [p for p in tmp_path.iterdir() if p.suffix != ".lock"]


# Files


def test_files_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "old é")

    def broken(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, broken)
    assert path.read_text(encoding="utf-8") == "old é" and list(path.parent.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_file_hash_depends_on_contents_and_order(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    write_text(a, "1")
    write_text(b, "2")
    first = file_hash(a, b)
    assert first != file_hash(b, a)
    write_text(b, "3")
    assert first != file_hash(a, b)
