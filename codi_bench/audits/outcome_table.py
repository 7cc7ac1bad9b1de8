"""Read a user's table of right and wrong answers, from a file or from memory, and check it; errors name the place.

Columns: `problem`, `condition`, `right`, and optionally `model` and `group`; other columns are ignored.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codi_bench.audits.probe_arrays import in_file
from codi_bench.errors import InputError, arguments, one_line

NEEDED, OPTIONAL = ("problem", "condition", "right"), ("model", "group")
SUFFIXES = (".csv", ".jsonl", ".parquet")
CLEAN = ("clean", "baseline")
TRUTHS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}

Row = tuple[str, Mapping[str, Any]]  # where it stands, and its cells


@dataclass(frozen=True, eq=False)
class ModelTable:
    """Outcomes of one model: right bool [conditions, n], names of conditions (the clean one first), every problem under each.

    group int [n]: of each problem, 0, 1, 2 ...; without groups each problem is its own. model: "" in a table without models.
    """

    model: str
    conditions: tuple[str, ...]
    problems: tuple[str, ...]
    right: np.ndarray
    group: np.ndarray


# --- files -----------------------------------------------------------------------------------------------------------


def read_outcomes(path: str | Path) -> list[Row]:
    """Read the rows of a CSV, JSON lines or Parquet file, each with its place in the file. Raises InputError."""
    path = arguments.path("path", path)
    readers = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}
    if path.suffix not in readers:
        raise InputError(f"{path}: has the suffix '{path.suffix}'; give a .csv, a .jsonl (JSON lines) or a .parquet file")
    with in_file(path):
        try:
            rows = list(readers[path.suffix](path))
        except FileNotFoundError as error:
            raise InputError("no such file") from error
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"cannot be read ({one_line(error)}); write it as UTF-8 text") from error
        if not rows:
            raise InputError("has no rows; give one for each problem and condition")
    return rows


def _csv(path: Path) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        head = [name.strip() for name in next(reader, [])]
        if len(set(head)) < len(head):
            raise InputError(
                f"line 1: the columns {', '.join(head)} are not all different; name each once, as in problem,condition,right"
            )
        for cells in reader:
            if not cells:
                continue
            where = f"line {reader.line_num}"
            if len(cells) != len(head):
                raise InputError(f"{where}: has {len(cells)} cells, but the header has {len(head)} columns; correct that row")
            yield where, dict(zip(head, cells, strict=True))


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number}: is not JSON ({one_line(error)}); each line must be one object") from error
        if not isinstance(row, dict):
            raise InputError(f"line {number}: is not an object; each line needs the fields {', '.join(NEEDED)}")
        yield f"line {number}", row


def _parquet(path: Path) -> Iterator[Row]:
    import pandas

    try:
        frame = pandas.read_parquet(path)
    except (FileNotFoundError, InputError):
        raise
    except Exception as error:  # whichever engine there is has errors of its own
        raise InputError(f"cannot be read ({one_line(error)}); write it with pandas.DataFrame.to_parquet") from error
    yield from rows_of(frame)


def rows_of(table: Any) -> list[Row]:
    """The rows of a table in memory: a pandas DataFrame, a mapping of columns, or a list of mappings; counted from 0."""
    if hasattr(table, "to_dict") and getattr(table, "ndim", 2) == 2:
        table = table.to_dict("records")
    if isinstance(table, Mapping):
        columns = {name: arguments.entries(f"column {name}", column) for name, column in table.items()}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"columns: have different lengths ({lengths}); give each one cell per row")
        table = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    rows = [row if _is_placed(row) else (f"row {i}", row) for i, row in enumerate(arguments.entries("table", table))]
    if not rows or not all(isinstance(row, Mapping) for _, row in rows):
        raise InputError(f"table: give rows with {', '.join(NEEDED)}, as a DataFrame, a mapping of columns or mappings")
    return rows


def _is_placed(row: Any) -> bool:
    return isinstance(row, tuple) and len(row) == 2 and isinstance(row[0], str)


# --- checks ----------------------------------------------------------------------------------------------------------


def checked_table(rows: Sequence[Row], clean: str | None = None) -> list[ModelTable]:
    """One table per model; clean: the name of that condition. Raises InputError, naming column and row, and what to do."""
    there = list(dict.fromkeys(name for _, row in rows for name in row))
    for name in NEEDED:
        if name not in there:
            raise InputError(f"{name}: no such column, there are {', '.join(map(str, there)) or 'none'}; rename one to {name}")
    columns = [*NEEDED, *(name for name in OPTIONAL if name in there)]
    outcomes: dict[str, dict[tuple[str, str], bool]] = {}
    places: dict[tuple[str, str, str], str] = {}
    groups: dict[str, str] = {}
    for where, row in rows:
        cells = {name: _cell(name, row.get(name), where) for name in columns}
        key = (model, problem, condition) = (cells.get("model", ""), cells["problem"], cells["condition"])
        what = f"problem {problem}, condition {condition}" + (f", model {model}" if model else "")
        if key in places:
            raise InputError(f"{where}: {what} occurs twice, first in {places[key]}; remove one of them")
        places[key] = where
        outcomes.setdefault(model, {})[problem, condition] = _right(cells["right"], where)
        group = cells.get("group", problem)
        if groups.setdefault(problem, group) != group:
            raise InputError(
                f"{where}: group of problem {problem} is {group}, but in an earlier row {groups[problem]}; give it one group"
            )
    return [_model_table(model, by_key, groups, clean) for model, by_key in outcomes.items()]


def _cell(name: str, value: Any, where: str) -> str:
    """The text of a cell; 3 and 3.0 give the same text."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip() or str(value) == "<NA>":
        raise InputError(f"{where}: {name} is missing; fill the cell, or leave that problem out of every condition")
    if isinstance(value, float) and value.is_integer() and name != "right":
        value = int(value)
    return str(value).strip()


def _right(value: str, where: str) -> bool:
    if value.lower() not in TRUTHS:
        raise InputError(
            f"{where}: right is {value[:40]!r}, neither 0 nor 1; write 1 (or true) for right and 0 (or false) for wrong"
        )
    return TRUTHS[value.lower()]


def _model_table(
    model: str, outcomes: Mapping[tuple[str, str], bool], groups: Mapping[str, str], clean: str | None
) -> ModelTable:
    problems, names = (tuple(dict.fromkeys(key[i] for key in outcomes)) for i in (0, 1))
    of_model = f" of model {model}" if model else ""
    first = _clean(names, clean, of_model)
    conditions = (first, *(name for name in names if name != first))
    for problem in problems:
        for condition in conditions:
            if (problem, condition) not in outcomes:
                raise InputError(
                    f"problem {problem}{of_model}: has no row for the condition {condition}; add it, or leave that problem out"
                )
    right = np.array([[outcomes[problem, condition] for problem in problems] for condition in conditions])
    group = np.unique([groups[problem] for problem in problems], return_inverse=True)[1]
    return ModelTable(model, conditions, problems, right, group)


def _clean(names: Sequence[str], clean: str | None, of_model: str) -> str:
    """The name of the clean condition: the given one, or the one called clean or baseline."""
    matches = [name for name in names if (name == clean if clean is not None else name.lower() in CLEAN)]
    if clean is None and len(names) == 1:
        return names[0]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(names[:12]) + ", …" * (len(names) > 12)
    what = f"'{clean}' is none of" if clean is not None else f"{'two are' if matches else 'none is'} called clean or baseline of"
    raise InputError(f"condition: {what} the conditions{of_model} ({listed}); give --clean NAME")
