"""`load_problems`: generated problems, the public sets from the hub, or a file in any of their forms.

What a file holds is told by its text, never by its name: a JSON list, JSON lines, a table with a head (CSV), or lines
`question||steps #### answer`. The same rows give the same problems in each.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codi_bench.errors import MissingProblemsError, ProblemError, UnknownNameError, arguments, one_line
from codi_bench.problems.answers import gold_number
from codi_bench.problems.generator import generate
from codi_bench.problems.problem import Problem
from codi_bench.problems.readers import FORMS, OWN, SETS, Form, Row


@dataclass(frozen=True)
class Hub:
    """A set on the hub: repository (or a folder in its layout), config, and which of its splits make up one of ours."""

    name: str
    splits: dict[str, tuple[str, ...]]
    config: str | None = None


# SVAMP is evaluated whole, 700 + 300, in the published code. For MultiArith that code takes the hub's test split of 180, the
# paper says 500, the original file has 600: here it is the 600.
HUBS = {
    "gsm8k": Hub("openai/gsm8k", {"test": ("test",), "train": ("train",)}, config="main"),
    "svamp": Hub("ChilleD/SVAMP", {"test": ("train", "test")}),
    "gsm-hard": Hub("reasoning-machines/gsm-hard", {"test": ("train",)}),
    "multiarith": Hub("ChilleD/MultiArith", {"test": ("train", "test")}),
}
IN_WORDS = ("prosqa", "prontoqa")  # whose answers are words: no repository has them as rows, files have
NAMES = ("generated", *HUBS, *IN_WORDS)
ELSEWHERE = ("svamp", "gsm-hard", "multiarith")  # out of distribution for what was trained on GSM8K
# sha256 of the first thousand questions of GSM8K's test set, a line each: the list that published numbers are about
GSM8K_TEST = "f7d3e42116775b4aba501bcabe1e71f52ffc4c9790be15d71272ae58efb4cd08"

QUESTIONS = {"question", "Question", "sQuestion", "instruction", "input"}  # one of them is in the head of a table
LISTS = ("steps", "operands", "values", "lEquations", "lSolutions")  # that a table has as text


def load_problems(
    name: str = "generated", *, path: str | Path | None = None, n: int | None = None, split: str = "test", seed: int = 0
) -> list[Problem]:
    """n problems of a set, in order (all if n is None; 1000 generated ones); with a path from that file.

    seed: draws the generated problems; the real sets are what they are. The hub keeps SVAMP and MultiArith in another order
    than their files, and MultiArith without equations, so without steps.
    Raises ProblemError naming file, line and field for a broken file or one of another set, MissingProblemsError for a set that
    cannot be had, UnknownNameError for an unknown one (a file may have any name), and ProblemError for another argument that
    cannot be.
    """
    n = None if n is None else arguments.whole("n", n, error=ProblemError)
    seed, name = arguments.seed(seed, error=ProblemError), arguments.text("problem set", name, error=ProblemError)
    split = arguments.text("split", split, error=ProblemError)
    if path is not None:
        forms, problems = _read_file(arguments.path("path", path, error=ProblemError))
        other = next((form.name for form in forms if form.name not in ("", name)), "") if name in NAMES else ""
        if other:
            raise ProblemError(f"{path}: has the fields of {other}, not of {name}; give it as {other}={path}")
        return _first(n, problems, str(path))
    if name not in NAMES:
        raise UnknownNameError("problem set", name, NAMES)
    if name in IN_WORDS:
        raise MissingProblemsError(
            f"{name}: is in no repository of rows; give its file with --problems {name}=FILE (or --path FILE)"
        )
    if name == "generated":
        return generate(1000 if n is None else n, seed=seed, split=split)
    return _first(n, _read_hub(name, split), f"{name} ({split})")


def is_gsm8k_test(problems: Sequence[Problem]) -> bool:
    """Do these begin with the first thousand problems of GSM8K's test set, in order?"""
    lines = "\n".join(" ".join(problem.question.split()) for problem in problems[:1000])
    return hashlib.sha256(lines.encode()).hexdigest() == GSM8K_TEST


def read_problems(path: str | Path, *, unanswered: bool = False) -> list[Problem]:
    """Every problem of a file, in any of its forms. unanswered: may rows lack an answer, which then is ""?

    Raises ProblemError naming file, row and field.
    """
    return _read_file(arguments.path("path", path, error=ProblemError), unanswered)[1]


def _first(n: int | None, problems: list[Problem], source: str) -> list[Problem]:
    if n is not None and len(problems) < n:
        raise ProblemError(f"{source}: holds {len(problems)} problems, {n} were asked for")
    return problems[:n]


# Files


def _read_file(path: Path, unanswered: bool = False) -> tuple[list[Form], list[Problem]]:
    """The form of each row and its problem."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemError(f"{path}: cannot be read as text ({error}); give a file of JSON lines") from error
    rows = list(_rows(text, path))
    if not rows:
        raise ProblemError(f"{path}: holds no problems; `codi-bench problems generated --out FILE` writes some")
    formed = [(*_form(row), where) for where, row in rows]
    forms, problems = [form for form, *_ in formed], [form.problem(row, where) for form, row, where in formed]
    answered = [(problem.answer, where) for problem, (where, _) in zip(problems, rows) if problem.answer or not unanswered]
    for answer, where in answered:
        if not answer:
            raise ProblemError(f"{where}: field 'answer' is missing; give a number (`codi-bench think` and `answer` need none)")
        if (gold_number(answer) is None) != (gold_number(answered[0][0]) is None):
            raise ProblemError(
                f"{where}: field 'answer' is {answer!r}, and that of {answered[0][1]} is {answered[0][0]!r}; "
                "give numbers and words in files of their own"
            )
    return forms, problems


def _form(row: Row) -> tuple[Form, Row]:
    """The form of a row and what it says: None and NaN, which tables fill up with, count as fields where no form fits without."""
    present = {name: cell for name, cell in row.items() if cell is not None and cell == cell}
    return next(((form, fields) for fields in (present, row) for form in FORMS if form.fits(fields)), (OWN, row))


def _rows(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    """(where it stands, row) for each row of a JSON list, of a table, or of lines."""
    lines = text.split("\n")  # splitlines also cuts at U+2028 and its like, inside a question
    first = next((line for line in lines if line.strip()), "")
    places: Iterable[tuple[str, Any]]
    if first.lstrip().startswith("["):
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ProblemError(f"{path}: begins as a JSON list, but is not one ({error})") from error
        places = ((f"{path}, row {number}", entry) for number, entry in enumerate(entries, start=1))
    elif "{" not in first and "||" not in first and QUESTIONS & {name.strip().strip('"') for name in re.split("[,;\t]", first)}:
        places = _table(text, path)
    else:
        numbered = ((f"{path}, line {number}", line) for number, line in enumerate(lines, start=1) if line.strip())
        places = ((where, _line(line, where)) for where, line in numbered)
    for where, row in places:
        if not isinstance(row, dict):
            raise ProblemError(f"{where}: not an object; each needs the fields question and answer")
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ProblemError(f"{where}: holds half a character (a lone surrogate); write it as UTF-8") from error
        except RecursionError as error:
            raise ProblemError(f"{where}: nests too deeply; each needs the fields question and answer") from error
        yield where, row


def _table(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of comma-separated values below a head, empty and NaN cells left out, lists as JSON or Python writes them."""
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    filled = (cells for cells in lines if any(cell.strip() for cell in cells))
    try:
        names = [name.strip() for name in next(filled)]
        if not QUESTIONS & set(names):  # semicolons are no commas: where they part cells, 1,234 may be 1.234
            raise ProblemError(f"{path}: no column is named question, but {names[0][:80]!r}; part the cells with commas")
        rows = list(filled)
    except csv.Error as error:
        raise ProblemError(f'{path}, line {lines.line_num}: not comma-separated values ({error}); quote cells with "') from error
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise ProblemError(f"{path}: has two columns named {twice[0]}; keep the one that is meant")
    for number, cells in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        if len(cells) != len(names):
            raise ProblemError(f'{where}: has {len(cells)} cells, and the head {len(names)}; quote cells that hold commas with "')
        row: Row = {name: cell for name, cell in zip(names, cells) if cell.strip().lower() not in ("", "nan")}
        for name in LISTS:
            if row.get(name, "").startswith("["):
                row[name] = _list(row[name], f"{where}: field '{name}'")
        yield where, row


def _list(cell: str, where: str) -> object:
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise ProblemError(f"{where} is {cell[:80]!r}, which is no list; write it as JSON")


def _line(line: str, where: str) -> Any:
    if "||" in line and not line.lstrip().startswith("{"):
        question, _, rest = line.rpartition("||")
        cot, _, answer = rest.rpartition("####")
        return {"question": question, "cot": cot, "answer": answer}
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProblemError(f"{where}: not JSON ({getattr(error, 'msg', error)}); each line must be one object") from error


# The hub


def _read_hub(name: str, split: str) -> list[Problem]:
    hub, mend = HUBS[name], f"give its file with --problems {name}=FILE (or --path FILE to `codi-bench problems`)"
    if split not in hub.splits:
        raise ProblemError(f"unknown split '{split}' of {name}: it has {' and '.join(map(repr, hub.splits))}")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingProblemsError(f"{name}: {hub.name} is read with `datasets`: pip install datasets, or {mend}") from error
    problems = []
    for part in hub.splits[split]:
        try:
            rows = load_dataset(hub.name, hub.config, split=part)
        except Exception as error:  # no network, no cache, gated, moved: every layer below has errors of its own
            raise MissingProblemsError(f"{name}: {hub.name} cannot be loaded from the hub ({one_line(error)}); {mend}") from error
        where = f"{hub.name}, split {part}, row"
        problems += [SETS[name].problem(row, f"{where} {number}") for number, row in enumerate(rows, start=1)]
    return problems
