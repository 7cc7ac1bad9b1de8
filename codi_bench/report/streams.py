"""The streams that are printed to: whatever their encoding lacks is a plain sign there, and nobody who stops reading is told."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

# signs where the stream has not those of the tables
PLAIN = dict(zip("✓≈⊘…✗■●○◐▲Δ★─–—−·×→“”‘’", "+~x?!#o-%^d*----.x>\"\"''")) | {"⇄": "<>", "≥": ">=", "≤": "<=", "±": "+-"}
ERRORS = "codi-bench-plain"


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error(ERRORS, _plain)


def make_tolerant(*streams: object) -> None:
    """Let streams show plain signs for those that they lack, where they would raise an error or show escapes."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def print_json_line(line: str) -> None:
    """A line of JSON on standard output, in escapes where a sign is lacking: there it may be data that goes to a file."""
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(json.loads(line))
    print(line)


def copy_of_stderr() -> IO[str]:
    """A stream of its own to where errors go now, which stays when somebody takes file descriptor 2 away."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return os.fdopen(os.dup(2), "w", encoding=encoding, errors=ERRORS)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Standard output and error for a command: tolerant, there though the caller closed them, and flushed at the end.

    Where nobody reads them any more the command ends without a word. Raises other errors of the last flush, such as a full disk.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # as long as the process
    make_tolerant(sys.stdout, sys.stderr)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard()
        sys.exit(1)  # as typer does where it meets it first
    except OSError:
        _discard()
        raise


def _discard() -> None:
    """What standard output still holds goes nowhere, or Python would complain of it at its end."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
