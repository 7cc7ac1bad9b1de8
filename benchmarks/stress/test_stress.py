"""Kills, and runs over and over, at full size: pytest benchmarks/stress -m stress. Two hours; what was done stays done.

What comes out is written to baselines/_stress, where tests/test_stress.py looks for it.
"""

import pytest

from .kills import full_kills, store_kills, tiny_kills
from .records import folder, lines, work_folder, write_record
from .repeats import repeats

pytestmark = pytest.mark.stress


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been():
    work = work_folder("kills")
    parts = {"store": store_kills(work, 24), "tiny model": tiny_kills(work, 6), "gpt2-mini": full_kills(work)}
    record = write_record(folder(), "kills", parts)
    print(*lines(record), sep="\n")
    assert record["met"], faults(record)


def test_neither_order_nor_batch_size_threads_or_workers_change_a_number():
    record = write_record(folder(), "repeats", {"embedded pair": repeats(work_folder("repeats"))})
    print(*lines(record), sep="\n")
    assert record["met"], faults(record)


def faults(record: dict) -> str:
    """What was at fault in any part; nothing where too little was done."""
    return "\n".join(fault for part in record["parts"].values() for fault in part["faults"]) or f"less than {record['least']}"
