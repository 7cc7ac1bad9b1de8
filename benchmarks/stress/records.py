"""What a stress run leaves: steps that are kept as they end, so that a run that ends early goes on later, and the record."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from codi_bench import plugin
from codi_bench.records import results
from codi_bench.report import render
from codi_bench.store import arrays as mapped
from codi_bench.store import cache as store
from codi_bench.store import files
from codi_bench.store.code import code_hash
from codi_bench.store.files import file_hash, package_folder, write_text
from codi_bench.suite import bench, engine, suite
from codi_bench.suite.environment import environment, versions

ABOUT = {
    "kills": "kill -9 at random moments, then on to the end: what is on the disk is whole, and the results are the same",
    "repeats": "runs in random order over batch sizes, threads and workers: the numbers and words are the same",
}
LEAST = {
    "kills": {
        "store": {"kills": 22, "while a file was written": 10},
        "tiny model": {"kills": 24, "while a file was written": 10},
        "gpt2-mini": {"kills": 4},
    },
    "repeats": {"embedded pair": {"runs, cache empty": 2, "runs, cache thoughts anew": 8, "runs, cache full": 1}},
}
UNDER_STRESS = (bench, engine, files, mapped, plugin, render, results, store, suite)


def folder() -> Path:
    """Where the records are."""
    return package_folder("baselines") / "_stress"


def work_folder(name: str) -> Path:
    """Where steps are kept: in the cache folder, for this code and these drivers alone."""
    drivers = file_hash(*sorted(Path(__file__).parent.glob("*.py")))
    return store.default_folder().parent / "stress" / f"{name}-{code_hash(*UNDER_STRESS)[:8]}-{drivers[:8]}"


def kept(path: Path, do: Callable[[], dict]) -> dict:
    """What `do` gave, and in how many seconds, the first time that this path was asked for; it is not done twice."""
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    start = time.monotonic()
    found = do()
    found = {"seconds": round(time.monotonic() - start, 1), **found}
    write_text(path, json.dumps(found, indent=1) + "\n")
    told = ", ".join(f"{key} {value}" for key, value in found.items() if isinstance(value, int | float | str))
    print(f"{path.parent.name}, {path.stem}: {told}", file=sys.stderr, flush=True)
    return found


def write_record(out: Path, name: str, parts: dict[str, dict]) -> dict:
    """The record `out/<name>.json`. met: nothing was at fault, and enough was done."""
    record = {
        "name": name,
        "about": ABOUT[name],
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "environment": environment("cpu", "float32").model_dump() | versions(),
        "code": code_hash(*UNDER_STRESS),
        "least": LEAST[name],
        "met": met(name, parts),
        "parts": parts,
    }
    write_text(out / f"{name}.json", json.dumps(record, indent=1) + "\n")
    return record


def met(name: str, parts: dict[str, dict]) -> bool:
    """Was enough done of every part, and nothing at fault?"""
    enough = [parts.get(part, {}).get(what, 0) >= count for part, least in LEAST[name].items() for what, count in least.items()]
    return all(enough) and not any(part["faults"] for part in parts.values())


def lines(record: dict) -> list[str]:
    """A line a part, as docs/baselines.md prints them."""
    found = []
    for name, part in record["parts"].items():
        done = ", ".join(f"{part[what]} {what}" for what in record["least"][name])
        found.append(f"| {name} | {done} | {OUTCOME[record['name']](part)} | {len(part['faults']) or 'none'} |")
    return found


def _kills(part: dict) -> str:
    written = ", ".join(f"{count} in {kind}" for kind, count in part["what was written"].items())
    return f"half-written at the kill: {written or 'nothing'}"


def _repeats(part: dict) -> str:
    return (
        f"{part['rows']} rows, {part['identical']} of them equal to the last bit; largest difference of a number "
        f"{part['largest']:.2g}, in what stands beside it {part['largest_beside']:.2g}"
    )


OUTCOME = {"kills": _kills, "repeats": _repeats}
