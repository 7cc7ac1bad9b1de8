"""Kill -9 at random moments: a writer of the store, and `pytest benchmarks` over a tiny model and in full; then on to the end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from codi_bench.rules.stats import stream
from codi_bench.store.arrays import UnusableError, read_sealed
from codi_bench.store.cache import Store, entries
from codi_bench.store.files import write_text

from . import writer
from .door import HALVES, POLL, RESULTS, Door
from .records import kept
from .tiny import write_tiny

ANYWHERE = "anywhere"  # other aims are the kinds of half-written files, door.HALVES
TINY_CLAIMS = ("task-accuracy", "ablation", "size")
TINY_CHAIN = ("an entry", ANYWHERE, "results.json", "the report")
FULL_CHAIN = (ANYWHERE, "an entry", ANYWHERE, ANYWHERE, "results.json", "the report")
OLD = json.dumps({"schema": 1, "environment": {}, "rows": []})  # results of an earlier run that has nothing of this one
SLOWLY = ("-p", "slow_disk")
FULL = ("benchmarks", "--model", "gpt2-mini", *SLOWLY)
TRIES = 4  # runs that may end before they are killed


# The store


def store_kills(work: Path, count: int) -> dict:
    """A writer killed `count` times within its first second, each time looked after, and its work gone on with."""
    folder = work / "store"
    steps = [kept(folder / f"{i:03d}.json", partial(_store_kill, folder / "folder", i)) for i in range(count)]
    return _told(steps) | {"entries read back": sum(step["entries"] for step in steps)}


def _store_kill(folder: Path, index: int) -> dict:
    rng = stream(0, "stress", "kills", "store", str(index))
    with subprocess.Popen([sys.executable, writer.__file__, folder], stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        time.sleep(float(rng.uniform(0, 1)))
        process.kill()
        said += process.stdout.read()
    number = int(said.split()[-1])
    halves = _halves(folder)
    held, faults = _read_back(folder)
    arrays = writer.fetch(Store(folder, writer.BOUND), number)  # nobody holds its lock, and what is half-written is gone
    faults += [f"entry {number} is another after the kill"] * (not writer.good(arrays, number))
    writer.fetch(Store(folder, writer.BOUND), writer.NUMBERS + index)  # whoever writes next clears the rest
    faults += [f"{left} was left" for left in _halves(folder)]
    return {"killed": True, "while writing": "an entry" if halves else "", "entries": held, "faults": faults}


def _halves(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".*.safetensors.*")]


def _read_back(folder: Path) -> tuple[int, list[str]]:
    """How many entries there are, and those that are not what they must be: every byte is read."""
    held = entries(folder)
    faults = []
    for entry in held:
        try:
            metadata, arrays = read_sealed(entry.path, {})
        except UnusableError as error:
            faults.append(f"{entry.path.name}: {error}")
            continue
        if not writer.good(arrays, json.loads(metadata["key"])["number"]):
            faults.append(f"{entry.path.name} is read as good and is not")
    return len(held), faults


# `pytest benchmarks`


def tiny_kills(work: Path, trials: int, aims: tuple[str, ...] = TINY_CHAIN, claims: tuple[str, ...] = TINY_CLAIMS) -> dict:
    """`trials` times from a cold cache: killed once an aim, one start after the other on the same folder, then run to the end."""
    return door_kills(work / "tiny", ("benchmarks", *SLOWLY, *on_tiny(work / "models", claims)), trials, aims)


def on_tiny(folder: Path, claims: tuple[str, ...]) -> tuple[str, ...]:
    """Arguments to measure these claims on a tiny model alone, with nothing recorded; the model is written into the folder."""
    model, baselines = folder / "tiny", folder / "baselines"
    baselines.mkdir(parents=True, exist_ok=True)
    if not model.is_dir():
        write_tiny("gpt2", model, brief=True)
    asked = [word for claim in claims for word in ("--claim", claim)]
    return ("-k", "tiny", "--model", f"tiny={model}", "--baselines", str(baselines), "--n", "8", *asked)


def full_kills(work: Path, arguments: tuple[str, ...] = FULL, aims: tuple[str, ...] = FULL_CHAIN) -> dict:
    """Every claim on gpt2-mini: one chain of kills from a cold cache to the end."""
    return door_kills(work / "full", arguments, 1, aims)


def door_kills(work: Path, arguments: tuple[str, ...], trials: int, aims: tuple[str, ...]) -> dict:
    """Chains of kills, each compared with one undisturbed run, file by file and byte by byte but for their times."""
    wanted = kept(work / "undisturbed.json", lambda: _undisturbed(Door(work / "undisturbed", arguments)))
    steps, ends = [], []
    for trial in range(trials):
        door = Door(work / f"trial-{trial}", arguments)
        longest = wanted["seconds"]
        for place, aim in enumerate(aims):
            for attempt in range(TRIES):
                name = f"{trial}-{place}-{attempt}"
                rng = stream(0, "stress", "kills", work.name, name)
                steps.append(kept(work / f"{name}.json", partial(_door_kill, door, aim, rng, longest, wanted)))
                if steps[-1]["killed"]:
                    break
                longest = min(longest, steps[-1]["seconds"])  # with a warmer cache it is over sooner
        ends.append(kept(work / f"{trial}-end.json", partial(_end, door, wanted)))
    told = _told([wanted, *steps, *ends])
    return told | {"chains": trials, "resumed to the end with identical results": sum(not end["faults"] for end in ends)}


def _undisturbed(door: Door) -> dict:
    shutil.rmtree(door.folder, ignore_errors=True)
    found = door.run()
    faults = [] if found["exit"] == 0 else [f"the undisturbed run ended with {found['exit']}: see {door.folder / 'said.txt'}"]
    return found | {"killed": False, "files": door.files(), "faults": faults}


def _door_kill(door: Door, aim: str, rng: np.random.Generator, longest: float, wanted: dict) -> dict:
    """One run, killed if it has not ended before its moment."""
    if not (door.folder / RESULTS).exists():
        write_text(door.folder / RESULTS, OLD)
    before = door.halves(aim) if aim in HALVES else set()
    with door.open() as process:
        while aim in HALVES and process.poll() is None and door.halves(aim) <= before:
            time.sleep(POLL)
        moment = float(rng.uniform(0, _span(aim, longest, wanted["seen"])))
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment)  # where this block ends it is killed
    halves = [kind for kind in ("results.json", "the report", "an entry") if door.halves(kind) - before]
    return {
        "killed": process.returncode == -signal.SIGKILL,
        "aim": aim,
        "while writing": halves[0] if halves else "",
        "faults": _damaged(door, wanted),
    }


def _span(aim: str, longest: float, seen: dict[str, list[float]]) -> float:
    """Seconds after the first half-written file within which a kill comes; the whole run where it may come anywhere."""
    if aim == ANYWHERE:
        return longest
    first, last = seen["results.json"][0] if aim == "the report" else seen[aim][0], seen[aim][1]
    return last - first


def _damaged(door: Door, wanted: dict) -> list[str]:
    """Files that are neither absent nor whole; results may also be those from before."""
    faults = []
    for name, digest in door.files().items():
        old = name == RESULTS and (door.folder / name).read_text(encoding="utf-8") == OLD
        if digest != wanted["files"].get(name) and not old:
            faults.append(f"{door.folder / name} is damaged")
    return faults


def _end(door: Door, wanted: dict) -> dict:
    """The run that nobody kills."""
    found, files = door.run(), door.files()
    faults = [f"{door.folder}: exit {found['exit']} after kills"] * (found["exit"] != wanted["exit"])
    names = sorted(files.keys() | wanted["files"].keys())
    faults += [f"{door.folder / name} is another after kills" for name in names if files.get(name) != wanted["files"].get(name)]
    return {"killed": False, "exit": found["exit"], "faults": faults}


def _told(steps: list[dict]) -> dict:
    """What a record says of steps."""
    killed = [step for step in steps if step["killed"]]
    writing = Counter(step["while writing"] for step in killed if step["while writing"])
    return {
        "seconds": round(sum(step["seconds"] for step in steps), 1),
        "kills": len(killed),
        "while a file was written": writing.total(),
        "what was written": dict(sorted(writing.items())),
        "faults": [fault for step in steps for fault in step["faults"]],
    }
