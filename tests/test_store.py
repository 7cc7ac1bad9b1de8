"""What was computed once is read again, exactly; no damage is read as good; where nothing can be stored, all is computed."""

import errno
import logging
import os
import pwd
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from codi_bench.rules.stats import stream
from codi_bench.store import arrays as mapped
from codi_bench.store import cache as store
from codi_bench.store.arrays import START, read_sealed, write_arrays
from codi_bench.store.cache import Store, default_folder, pack_answers, unpack_answers
from codi_bench.store.files import file_hash, write_text, write_whole
from codi_bench.thoughts.record import Answers

KEY = {"what": "think", "weights": "0123456789abcdef"}
BOTH_KINDS = pytest.mark.parametrize("filled", [False, True], ids=["small", "filled"])
answers = st.lists(st.tuples(st.lists(st.integers(0, 2**31 - 1)), st.text(st.characters(exclude_categories=["Cs"])))).map(
    lambda rows: Answers(tuple(tuple(ids) for ids, _ in rows), tuple(text for _, text in rows))
)


class Counting:
    """A computation that counts its calls and gives other arrays each time, small ones or one to fill."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"a": np.full((5, 7), self.calls, np.float32), "b": np.arange(17)[::2]}

    def fill(self, large):
        self.calls += 1
        large[:] = self.calls
        return {"b": np.arange(17)[::2]}


def fetch(cache, compute, filled=False, key=KEY):
    return cache.fetch_filled(key, "a", (5, 7), compute.fill) if filled else cache.fetch(key, compute)


def entries(folder):
    return sorted(folder.glob("*.safetensors"))


def is_call(arrays, number):
    """Are these the arrays of that call?"""
    return arrays.keys() == {"a", "b"} and (arrays["a"] == number).all() and arrays["b"].tolist() == list(range(0, 17, 2))


# Fetching


def test_a_key_is_computed_once_whatever_its_order_and_then_read(tmp_path, caplog):
    compute, cache, key = Counting(), Store(tmp_path), {"model": "m", "n": 3}
    for arrays in (cache.fetch(key, compute), Store(tmp_path).fetch({"n": 3, "model": "m"}, compute)):
        assert is_call(arrays, 1) and arrays["a"].dtype == np.float32 and arrays["b"].dtype == np.int64
    (first,) = entries(tmp_path)
    for call, other in enumerate(({"model": "m", "n": 4}, {"model": "m"}, {"model": "m", "n": "3"}), start=2):
        assert is_call(cache.fetch(other, compute), call) and is_call(cache.fetch(key, compute), 1)
    for entry in set(entries(tmp_path)) - {first}:
        shutil.copy(first, entry)  # under the name of another key
    with caplog.at_level(logging.WARNING):
        assert is_call(cache.fetch(other, compute), 5) and "another key" in caplog.text


@BOTH_KINDS
def test_a_computation_that_fails_leaves_no_entry(tmp_path, filled, caplog):
    class Failing(Counting):
        def __call__(self):
            raise OSError("weights are gone")  # not taken for an error of the disk

        def fill(self, large):
            self()

    with pytest.raises(OSError, match="weights are gone"):
        fetch(Store(tmp_path), Failing(), filled)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    assert not caplog.records
    assert is_call(fetch(Store(tmp_path), Counting(), filled), 1)


def test_the_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("CODI_BENCH_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "store"
    monkeypatch.delenv("CODI_BENCH_CACHE")
    assert tmp_path not in default_folder().parents


# Packing


@given(answers)
def test_answers_are_unpacked_as_they_were(record):
    assert unpack_answers(pack_answers(record)) == record


def test_answers_survive_the_store(tmp_path):
    record, store = Answers(((), (1, 2), ()), ("é𝟙", "", "中")), Store(tmp_path)
    assert unpack_answers(store.fetch({}, lambda: pack_answers(record))) == unpack_answers(store.fetch({}, dict)) == record


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
    for arrays in (cold, warm):
        assert isinstance(arrays["states"], np.memmap) and not arrays["states"].flags.writeable
        assert np.array_equal(arrays["states"], rows.astype(np.float16)) and arrays["b"].tolist() == [0, 1, 2]
    (path,) = entries(tmp_path)
    whole = load_file(path)  # safetensors itself reads the same
    assert whole.keys() == {"states", "b", "empty"} and np.array_equal(whole["states"], cold["states"])
    assert path.stat().st_size < 2 * rows.size + 2 * START


def test_room_for_a_filled_array_is_taken_before_it_is_filled(tmp_path):
    def fill(large):
        (path,) = tmp_path.glob(".*.safetensors.*")
        assert path.stat().st_blocks * 512 >= large.nbytes + START  # no holes, which a full disk could not fill
        return {}

    Store(tmp_path).fetch_filled(KEY, "a", (1000, 100), fill)


# Damage


def places(data, filled):
    """Of 100 bytes: the length of the header, its text, its checksum, its blanks if any, and the payload."""
    rng = stream(0, "cache", "damage", "filled" if filled else "small")
    start = 8 + int.from_bytes(data[:8], "little")
    text = len(data[:start].rstrip())
    checksum = mapped.CHECKSUM.search(data).start(1)
    regions = [(0, 8, 8), (8, text, 32), (checksum, checksum + 64, 20), (start, len(data), 30)]
    regions.append((text, start, 10) if filled else (start, len(data), 10))
    return [int(place) for low, high, count in regions for place in rng.choice(np.arange(low, high), count, replace=False)]


@BOTH_KINDS
def test_a_damaged_entry_is_never_read_as_good(tmp_path, caplog, filled):
    cache, compute = Store(tmp_path), Counting()
    fetch(cache, compute, filled)
    (path,) = entries(tmp_path)
    data = path.read_bytes()
    rng = stream(0, "cache", "flips", "filled" if filled else "small")
    flips = [(place, int(rng.integers(1, 256))) for place in places(data, filled)]
    lengths = sorted({*range(10), *np.linspace(10, len(data) - 1, 15).astype(int).tolist()})
    assert (len(flips), len(lengths)) == (100, 25)

    def damaged():
        for place, change in flips:
            data = bytearray(path.read_bytes())
            data[place] ^= change
            yield data
        for length in (*lengths, len(data) + 1):
            yield path.read_bytes()[:length].ljust(length, b"\0")
        yield bytes(len(data))

    for count, contents in enumerate(damaged(), start=1):
        path.write_bytes(contents)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            arrays = fetch(cache, compute, filled)
        assert compute.calls == 1 + count and is_call(arrays, compute.calls)
        assert [r.levelname for r in caplog.records] == ["WARNING"] and f"{path} cannot be used" in caplog.text
        assert "computed again" in caplog.text
    fetch(cache, compute, filled)
    assert compute.calls == 1 + count


def test_an_entry_without_a_checksum_or_of_a_newer_version_is_computed_once_more(tmp_path, caplog):
    cache, compute = Store(tmp_path), Counting()
    cache.fetch(KEY, compute)
    (path,) = entries(tmp_path)
    metadata, arrays = read_sealed(path, {})
    save_file(arrays, path, {"key": metadata["key"]})
    for _ in range(2):
        assert (Store(tmp_path).fetch(KEY, compute)["a"] == 2).all()
    assert len(caplog.records) == 1 and "no checksum" in caplog.text and str(path) in caplog.text
    write_arrays(path, {"a": np.zeros(3, np.uint16)}, read_sealed(path, {})[0] | {"checksum": mapped.BLANK})
    assert (cache.fetch(KEY, compute)["a"] == 3).all() and "unknown: 'U16'" in caplog.text


def test_damage_far_into_a_large_file_is_seen(tmp_path, caplog):
    cache, calls = Store(tmp_path), []
    for _ in range(2):
        assert cache.fetch_filled(KEY, "a", (3000, 500), lambda large: calls.append(large.fill(1)) or {})["a"].min() == 1
        (path,) = entries(tmp_path)
        with open(path, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"?")
    assert len(calls) == 2 and "its checksum does not match" in caplog.text


@pytest.mark.parametrize(("tick", "checks"), [(0, 2), (10**18, 6)], ids=["long ago", "just now"])
def test_a_file_is_checked_once_and_again_if_it_changed_or_may_have(tmp_path, monkeypatch, tick, checks):
    digests, digest = [], mapped._digest
    monkeypatch.setattr(mapped, "_digest", lambda head, file: digests.append(1) or digest(head, file))
    monkeypatch.setattr(mapped, "TICK", tick)  # how long ago a change must be for its stamp to be its own
    cache, compute = Store(tmp_path), Counting()
    for _ in range(5):
        cache.fetch(KEY, compute)
    assert len(digests) == checks  # one to write it, one to read what was written
    (path,) = entries(tmp_path)
    time.sleep(0.05)
    path.write_bytes(path.read_bytes())
    cache.fetch(KEY, compute)
    assert len(digests) == checks + 1 and compute.calls == 1


# Nowhere to store


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("where", "name", "filled", "calls"),
    [(os, "posix_fallocate", True, 1), (Path, "write_bytes", False, 1), (mapped, "seal", False, 1), (mapped, "seal", True, 2)],
    ids=["before filling", "small", "small, at the end", "filled, at the end"],
)
def test_on_a_full_disk_the_results_are_the_same_and_it_is_said_once(tmp_path, monkeypatch, caplog, where, name, filled, calls):
    compute = Counting()
    wanted = {name: np.array(array) for name, array in fetch(Store(tmp_path / "good"), compute, filled).items()}
    folder = tmp_path / "full"
    monkeypatch.setattr(where, name, full)
    for _ in range(2):
        compute = Counting()
        arrays = fetch(Store(folder), compute, filled)
        assert compute.calls == calls and not entries(folder) and not list(folder.glob(".*.safetensors*"))
        assert arrays.keys() == wanted.keys() and not any(array.flags.writeable for array in arrays.values())
        assert np.array_equal(arrays["a"], calls * wanted["a"]) and np.array_equal(arrays["b"], wanted["b"])
        assert all(arrays[name].dtype == wanted[name].dtype for name in wanted)
        assert len(caplog.records) == 1 and "No space left" in caplog.text and str(folder) in caplog.text


def test_without_a_folder_everything_is_computed(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    for filled in (False, True, False):
        compute = Counting()
        assert (fetch(Store(tmp_path / "file" / "store"), compute, filled)["a"] == 1).all()
    assert len(caplog.records) == 1 and "CODI_BENCH_CACHE" in caplog.text


def test_what_a_read_only_folder_holds_is_used(tmp_path, monkeypatch, caplog):
    compute = Counting()
    Store(tmp_path).fetch(KEY, compute)

    def refused(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    for where, name in ((store, "locked"), (os, "utime"), (Path, "mkdir"), (store, "write_whole")):
        monkeypatch.setattr(where, name, refused)
    assert (Store(tmp_path).fetch(KEY, compute)["a"] == 1).all() and not caplog.records
    assert (Store(tmp_path).fetch({"k": 1}, compute)["a"] == 2).all() and len(caplog.records) == 1
    (path,) = entries(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert (Store(tmp_path).fetch(KEY, compute)["a"] == 3).all() and f"{path} cannot be used" in caplog.text


def test_without_a_home_nothing_is_made_in_the_current_folder(tmp_path, monkeypatch, caplog):
    def unknown(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "CODI_BENCH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    store._say_unstored.cache_clear()
    assert (Store(default_folder()).fetch(KEY, Counting())["a"] == 1).all()
    assert not list(tmp_path.iterdir()) and len(caplog.records) == 1


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
