"""The commands that show and clear what is stored: `codi-bench cache ls`, `codi-bench cache gc`."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from codi_bench.cli.help import group, shown
from codi_bench.cli.options import print_list

cache_app = group(
    "List or clear the cache: thoughts, answers and other results that are computed once and used again.",
    "codi-bench cache ls",
    "codi-bench cache gc --max-gb 5",
)
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@cache_app.command("ls", **shown("codi-bench cache ls"))
def ls() -> None:
    """List what is in the cache, the least recently used first; `--` stands for a file that cannot be read.

    The cache is the folder $CODI_BENCH_CACHE, or your user's cache folder.
    """
    from codi_bench.store.cache import default_bound, default_folder, entries

    folder, bound = default_folder(), default_bound()
    listing = entries(folder)
    rows = [(entry.path.stem[:12], _what(entry.path), _size(entry.size), f"{_age(entry.age)} ago") for entry in listing]
    if rows:
        print_list(("entry", "what", "size", "last used"), rows)
    total = _size(sum(entry.size for entry in listing))
    print(f"{folder}: {len(listing)} entries, {total} of at most {_size(bound)}")


@cache_app.command("gc", **shown("codi-bench cache gc --max-gb 5", "codi-bench cache gc --older-than 30"))
def gc(
    max_gb: Annotated[
        float | None,
        typer.Option(min=0, metavar="GB", help="Keep at most this many gigabytes. Default: $CODI_BENCH_CACHE_MAX_GB, or 20."),
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Remove what was not used for this many days.")
    ] = None,
) -> None:
    """Clear the cache: remove what was not used for long, then the least recently used until the rest fits.

    What another process is using stays. Nothing is lost: what is removed is computed again when it is needed.
    """
    from codi_bench.store.cache import GB, default_bound, default_folder, entries, evict

    folder = default_folder()
    bound = default_bound() if max_gb is None else max_gb * GB
    labels = {entry.path: _what(entry.path) for entry in entries(folder)}
    removals = evict(folder, bound, older=math.inf if older_than is None else older_than * 86400)
    for entry in removals:
        what = labels.get(entry.path, "half-written")
        print(f"removed {entry.path.name.lstrip('.')[:12]}  {what}  {_size(entry.size)}, used {_age(entry.age)} ago")
    listing = entries(folder)
    freed_size, remaining_size = (_size(sum(entry.size for entry in group)) for group in (removals, listing))
    print(f"{folder}: {len(removals)} removed, {freed_size} freed; {len(listing)} left, {remaining_size}")
    if sum(entry.size for entry in listing) > bound:
        print(f"more than {_size(bound)}: the rest is in use")


def _what(path: Path) -> str:
    """What an entry says it is: the kind of computation, and the beginning of the hash of the weights that it is of."""
    from codi_bench.store.arrays import UnusableError, read_metadata

    with suppress(UnusableError, OSError, ValueError, TypeError, KeyError, AttributeError):
        key = json.loads(read_metadata(path)["key"])
        return " ".join([str(key["what"]), *([f"weights {key['weights'][:8]}"] if "weights" in key else [])])
    return "--"


def _size(count: float) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3f} MB"


def _age(seconds: float) -> str:
    length, unit = next((pair for pair in UNITS if seconds >= pair[0]), UNITS[-1])
    return f"{int(seconds // length)} {unit}"
