"""A pytest plugin (-p slow_disk): files are written in pieces, with pauses, so that a kill finds them half-written."""

import time
from pathlib import Path

PIECES = 10
PAUSE = 0.02  # seconds after a piece


def write_text(path: Path, text: str, **how) -> int:
    with open(path, "w", **how) as file:
        return _in_pieces(file, text)


def write_bytes(path: Path, data: bytes) -> int:
    with open(path, "wb") as file:
        return _in_pieces(file, data)


def _in_pieces(file, whole) -> int:
    step = max(1, -(-len(whole) // PIECES))
    for start in range(0, len(whole), step):
        file.write(whole[start : start + step])
        file.flush()
        time.sleep(PAUSE)
    return len(whole)


Path.write_text, Path.write_bytes = write_text, write_bytes
