"""No damaged entry is ever read as good, and where nothing can be stored the results are the same."""

from __future__ import annotations

import errno
import logging
import os
import pwd
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from codi_bench.rules.stats import stream
from codi_bench.store import arrays as mapped
from codi_bench.store import cache as store
from codi_bench.store.arrays import START, read_sealed, write_arrays
from codi_bench.store.cache import Store, default_folder, entries

KEY = {"what": "think", "weights": "0123456789abcdef"}


class Counting:
    """A computation that counts its calls and gives other arrays each time, small ones or one to fill."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"a": np.full((5, 7), self.calls, np.float32), "b": np.arange(9)}

    def fill(self, large):
        self.calls += 1
        large[:] = self.calls
        return {"b": np.arange(9)}


def fetch(kept, compute, filled, key=KEY):
    return kept.fetch_filled(key, "a", (5, 7), compute.fill) if filled else kept.fetch(key, compute)


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


@pytest.mark.parametrize("filled", [False, True], ids=["small", "filled"])
def test_a_single_damaged_byte_is_never_read_as_good(tmp_path, caplog, filled):
    kept, compute = Store(tmp_path), Counting()
    fetch(kept, compute, filled)
    (path,) = tmp_path.glob("*.safetensors")
    rng = stream(0, "cache", "flips", "filled" if filled else "small")
    at = places(path.read_bytes(), filled)
    assert len(at) == 100
    for count, place in enumerate(at, start=1):
        data = bytearray(path.read_bytes())
        data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            held = fetch(kept, compute, filled)
        assert compute.calls == 1 + count and (held["a"] == compute.calls).all() and held["b"].tolist() == list(range(9))
        assert len(caplog.records) == 1 and str(path) in caplog.text and "computed again" in caplog.text


@pytest.mark.parametrize("filled", [False, True], ids=["small", "filled"])
def test_a_file_cut_short_or_longer_is_never_read_as_good(tmp_path, caplog, filled):
    kept, compute = Store(tmp_path), Counting()
    fetch(kept, compute, filled)
    (path,) = tmp_path.glob("*.safetensors")
    size = path.stat().st_size
    lengths = sorted({*range(10), *np.linspace(10, size - 1, 15).astype(int).tolist()})
    assert len(lengths) == 25
    for count, length in enumerate([*lengths, size + 1], start=1):
        path.write_bytes(path.read_bytes()[:length].ljust(length, b"\0"))
        caplog.clear()
        held = fetch(kept, compute, filled)
        assert compute.calls == 1 + count and (held["a"] == compute.calls).all()
        assert len(caplog.records) == 1 and str(path) in caplog.text


def test_an_entry_of_the_old_format_is_computed_once_more(tmp_path, caplog):
    kept, compute = Store(tmp_path), Counting()
    kept.fetch(KEY, compute)
    (path,) = tmp_path.glob("*.safetensors")
    metadata, arrays = read_sealed(path, {})
    save_file(arrays, path, {"key": metadata["key"]})
    for _ in range(2):
        assert (Store(tmp_path).fetch(KEY, compute)["a"] == 2).all()
    assert len(caplog.records) == 1 and "no checksum" in caplog.text and str(path) in caplog.text


def test_a_sealed_file_of_a_newer_version_is_not_read(tmp_path, caplog):
    kept, compute = Store(tmp_path), Counting()
    kept.fetch(KEY, compute)
    (path,) = tmp_path.glob("*.safetensors")
    write_arrays(path, {"a": np.zeros(3, np.uint16)}, read_sealed(path, {})[0] | {"checksum": mapped.BLANK})
    assert (kept.fetch(KEY, compute)["a"] == 2).all() and "not known here: 'U16'" in caplog.text


def test_damage_far_into_a_large_file_is_seen(tmp_path, caplog):
    kept, calls = Store(tmp_path), []
    for _ in range(2):
        assert kept.fetch_filled(KEY, "a", (3000, 500), lambda large: calls.append(large.fill(1)) or {})["a"].min() == 1
        (path,) = tmp_path.glob("*.safetensors")
        with open(path, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"?")
    assert len(calls) == 2 and "its checksum is another" in caplog.text


@pytest.mark.parametrize(("tick", "checks"), [(0, 2), (10**18, 6)], ids=["long ago", "just now"])
def test_a_file_is_checked_once_and_again_if_it_changed_or_may_have(tmp_path, monkeypatch, tick, checks):
    digests, digest = [], mapped._digest
    monkeypatch.setattr(mapped, "_digest", lambda head, file: digests.append(1) or digest(head, file))
    monkeypatch.setattr(mapped, "TICK", tick)  # how long ago a change must be for its stamp to be its own
    kept, compute = Store(tmp_path), Counting()
    for _ in range(5):
        kept.fetch(KEY, compute)
    assert len(digests) == checks  # one to write it, one to read what was written
    (path,) = tmp_path.glob("*.safetensors")
    time.sleep(0.05)
    path.write_bytes(path.read_bytes())
    kept.fetch(KEY, compute)
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
        held = fetch(Store(folder), compute, filled)
        assert compute.calls == calls and not entries(folder) and not list(folder.glob(".*.safetensors*"))
        assert held.keys() == wanted.keys() and not any(array.flags.writeable for array in held.values())
        assert np.array_equal(held["a"], calls * wanted["a"]) and np.array_equal(held["b"], wanted["b"])
        assert all(held[name].dtype == wanted[name].dtype for name in wanted)
        assert len(caplog.records) == 1 and "No space left" in caplog.text and str(folder) in caplog.text


def test_an_error_of_the_computation_is_not_taken_for_one_of_the_disk(tmp_path, caplog):
    with pytest.raises(OSError, match="weights are gone"):
        Store(tmp_path).fetch(KEY, lambda: (_ for _ in ()).throw(OSError("weights are gone")))
    assert not caplog.records and not entries(tmp_path)


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

    for where, name in ((store, "FileLock"), (os, "utime"), (Path, "mkdir"), (store, "write_whole")):
        monkeypatch.setattr(where, name, refused)
    assert (Store(tmp_path).fetch(KEY, compute)["a"] == 1).all() and not caplog.records
    assert (Store(tmp_path).fetch({"k": 1}, compute)["a"] == 2).all() and len(caplog.records) == 1
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    assert (Store(tmp_path).fetch(KEY, compute)["a"] == 3).all() and f"{path} is damaged" in caplog.text


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


def test_room_for_a_filled_array_is_taken_before_it_is_filled(tmp_path):
    def fill(large):
        (path,) = tmp_path.glob(".*.safetensors.*")
        assert path.stat().st_blocks * 512 >= large.nbytes + START  # no holes, which a full disk could not fill
        return {}

    Store(tmp_path).fetch_filled(KEY, "a", (1000, 100), fill)
