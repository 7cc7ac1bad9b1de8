"""The results files of a history: found, read one by one, and kept without what only figures of one run need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from codi_bench.errors import CodiBenchError
from codi_bench.records.baseline import load_baseline
from codi_bench.report.history import History, Night, history
from codi_bench.report.side_by_side import read_run


def read_history(paths: Sequence[Path], baselines: Path) -> History:
    """The history of results files, and of those named results.json below folders.

    A file that was named must be a results file; one found in a folder that is none is left out, and said. Raises
    CodiBenchError naming path and mend.
    """
    files: dict[Path, tuple[Path, bool]] = {}
    notes: list[str] = []
    nights: list[Night] = []
    for path in paths:
        matches = sorted(path.rglob("results.json")) if path.is_dir() else [path]
        if not matches:
            raise CodiBenchError(
                f"{path}: no results.json in or below this folder; name results files, or run `pytest benchmarks`"
            )
        for file in matches:
            files[file.resolve()] = (file, files.get(file.resolve(), (file, False))[1] or not path.is_dir())
    for path, is_explicit in files.values():
        try:
            nights.append(_night(path))
        except CodiBenchError as error:
            if is_explicit:
                raise
            notes.append(f"left out: {error}")
    if not nights:
        raise CodiBenchError(f"{paths[0]}: none of {len(files)} files below it can be read: {notes[0]}")
    return history(nights, lambda model, claim: load_baseline(baselines, model, claim), notes)


def _night(path: Path) -> Night:
    file, environment, rows = read_run(path)
    # the arrays that figures need would fill the memory with many files
    slim = [replace(row, detail={"fragile": bool(row.detail.get("fragile"))}) for row in rows]
    return Night(file, _date(environment.get("date")), file, environment, {row.key: row for row in slim})


def _date(text) -> datetime | None:
    try:
        date = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
