"""What `--junitxml` says of a test beside its outcome: each number's value, interval, null and words, as properties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from codi_bench.plugin.items import OUTCOME


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """On the test itself, whatever came out: its reports take properties along, also from a worker of xdist."""
    try:
        return (yield)
    finally:
        if OUTCOME in item.stash:
            item.user_properties += properties(item.stash[OUTCOME]["rows"])


def properties(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, object]]:
    """`claim.metric.protocol.value`, `.low`, `.high`, `.null`, `.p`, `.word`, `.reproduction`, `.regression`, where there is one.

    A row that was not measured has `.status` instead; this and what DRIFTED has a `.reason`.
    """
    pairs = []
    for row in rows:
        measured, null = row["measured"] or {}, row["null"] or {}
        red, ok = row["regression"] == "DRIFTED", row["status"] == "ok"
        values: dict[str, object] = {} if ok else {"status": row["status"]}
        if ok:
            values |= {
                **{name: measured.get(name) for name in ("value", "low", "high")},
                "null": null.get("value"),
                "p": null.get("p"),
            }
            values |= {"word": row["validity"], "reproduction": row["reproduction"]}
        values |= {"regression": row["regression"]} if ok or red else {}
        values |= {"reason": row["reason"]} if red or not ok else {}
        name = f"{row['claim']}.{row['metric']}.{row['protocol']}"
        pairs += [(f"{name}.{end}", value) for end, value in values.items() if value not in (None, "")]
    return pairs
