"""Entries of a store whose arrays follow from their number; as a script, a writer that goes on until it is killed.

python writer.py FOLDER: says the number of each entry before it asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

from codi_bench.store.cache import Store

SHAPE = (1000, 4096)  # 8 MB in half precision: most of the time goes into writing
BOUND = 60e6  # bytes: entries are evicted all the time, too
NUMBERS = 40  # more than fit; then again from the first


def wanted(number: int) -> np.ndarray:
    """The large array of that entry; half precision holds whole numbers up to 2048."""
    return ((np.arange(np.prod(SHAPE)) + number) % 2048).astype(np.float16).reshape(SHAPE)


def key(number: int) -> dict:
    return {"number": number}


def fetch(store: Store, number: int) -> dict[str, np.ndarray]:
    """A large entry where the number is even, else a small one."""

    def fill(large: np.ndarray) -> dict[str, np.ndarray]:
        large[:] = wanted(number)
        return {"number": np.array([number])}

    if number % 2:
        return store.fetch(key(number), lambda: {"large": wanted(number)[:50], "number": np.array([number])})
    return store.fetch_filled(key(number), "large", SHAPE, fill)


def good(arrays: dict[str, np.ndarray], number: int) -> bool:
    """Are these the arrays of that entry?"""
    return arrays["number"].tolist() == [number] and np.array_equal(arrays["large"], wanted(number)[: len(arrays["large"])])


def write(folder: Path) -> Iterator[int]:
    """Ask for one entry after the other; gives the number of the next one."""
    for number in count():
        yield number % NUMBERS
        fetch(Store(folder, BOUND), number % NUMBERS)


if __name__ == "__main__":
    for number in write(Path(sys.argv[1])):
        print(number, flush=True)
