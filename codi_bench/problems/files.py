"""Load problems: generated ones, the public sets from the hub, or a file in any of their formats.

The format is recognised from the text of the file, never from its name: a JSON list, JSON lines, a table with a header (CSV),
or lines `question||steps #### answer`. The same rows give the same problems in each format.
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
from codi_bench.problems import symbolic
from codi_bench.problems.answers import gold_number, in_words
from codi_bench.problems.generator import generate
from codi_bench.problems.problem import Problem
from codi_bench.problems.readers import FORMS, OWN, SETS, Form, Row
from codi_bench.problems.sources import SET


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
NAMES = ("generated", *HUBS, SET, *IN_WORDS)
ELSEWHERE = ("svamp", "gsm-hard", "multiarith")  # out of distribution for what was trained on GSM8K
# sha256 of the first thousand questions of GSM8K's test set, a line each: the list that published numbers are about
GSM8K_TEST = "f7d3e42116775b4aba501bcabe1e71f52ffc4c9790be15d71272ae58efb4cd08"

QUESTIONS = {"question", "Question", "sQuestion", "instruction", "input"}  # one of them is in the head of a table
LISTS = ("steps", "operands", "values", "lEquations", "lSolutions")  # that a table has as text


def load_problems(
    name: str = "generated", *, path: str | Path | None = None, n: int | None = None, split: str = "test", seed: int = 0
) -> list[Problem]:
    """The first n problems of a set, in order, or of the file at path. n None: all of them, or 1000 that are generated.

    seed: for `generated` and `gsm-symbolic` only. On the hub, SVAMP and MultiArith stand in another order than in their original
    files, and MultiArith has no equations, so its problems have no steps.
    Raises ProblemError, naming file, line and field, for a broken file, a file of another set or an invalid argument;
    MissingProblemsError for a set that cannot be fetched; UnknownNameError for an unknown set (a file may have any set name).
    """
    n = None if n is None else arguments.whole("n", n, error=ProblemError)
    seed, name = arguments.seed(seed, error=ProblemError), arguments.text("problem set", name, error=ProblemError)
    split = arguments.text("split", split, error=ProblemError)
    if path is not None:
        forms, problems = _read_file(arguments.path("path", path, error=ProblemError))
        other = next((form.name for form in forms if form.name not in ("", name)), "") if name in NAMES else ""
        if other:
            raise ProblemError(f"{path}: has the fields of the set {other}, not of {name}; give it as {other}={path}")
        if name in NAMES and (worded := in_words([problems[0].answer])) != (name in IN_WORDS):
            kinds = ("words", "prosqa") if worded else ("numbers", "gsm8k")
            raise ProblemError(f"{path}: its answers are {kinds[0]}, those of {name} are not; give it as {kinds[1]}={path}")
        return _first(n, problems, str(path))
    if name not in NAMES:
        raise UnknownNameError("problem set", name, NAMES)
    if name in IN_WORDS:
        raise MissingProblemsError(
            f"{name}: cannot be downloaded; give its file in Coconut's JSON: --problems {name}=FILE, or --path FILE"
        )
    if name in ("generated", SET):
        make = generate if name == "generated" else symbolic.generate
        return make(1000 if n is None else n, seed=seed, split=split)
    return _first(n, _read_hub(name, split), f"{name} ({split})")


def is_gsm8k_test(problems: Sequence[Problem]) -> bool:
    """Are the first thousand of these problems those of GSM8K's test set, in order?"""
    lines = "\n".join(" ".join(problem.question.split()) for problem in problems[:1000])
    return hashlib.sha256(lines.encode()).hexdigest() == GSM8K_TEST


def read_problems(path: str | Path, *, unanswered: bool = False) -> list[Problem]:
    """Read every problem of a file, in any format. unanswered: accept rows without an answer, which becomes "".

    Raises ProblemError naming file, row and field.
    """
    return _read_file(arguments.path("path", path, error=ProblemError), unanswered)[1]


def _first(n: int | None, problems: list[Problem], source: str) -> list[Problem]:
    if n is not None and len(problems) < n:
        raise ProblemError(f"{source}: has {len(problems)} problems, but {n} were asked for")
    return problems[:n]


# Files


def _read_file(path: Path, unanswered: bool = False) -> tuple[list[Form], list[Problem]]:
    """For each row its format and its problem."""
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
    """The format of a row and its fields. None and NaN count as fields only if no format fits without them."""
    present = {name: cell for name, cell in row.items() if cell is not None and cell == cell}
    return next(((form, fields) for fields in (present, row) for form in FORMS if form.fits(fields)), (OWN, row))


def _rows(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    """(place in the file, row) for each row of a JSON list, of a table, or of lines."""
    lines = text.split("\n")  # splitlines also cuts at U+2028 and its like, inside a question
    first = next((line for line in lines if line.strip()), "")
    places: Iterable[tuple[str, Any]]
    if first.lstrip().startswith("["):
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ProblemError(f"{path}: begins like a JSON list, but is not valid JSON ({error})") from error
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
            raise ProblemError(
                f"{where}: contains a lone surrogate (half a character), which UTF-8 cannot write; remove it"
            ) from error
        except RecursionError as error:
            raise ProblemError(f"{where}: nests too deeply; each needs the fields question and answer") from error
        yield where, row


def _table(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of comma-separated values below a header, without empty and NaN cells. Lists may be JSON or Python."""
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    filled = (cells for cells in lines if any(cell.strip() for cell in cells))
    try:
        names = [name.strip() for name in next(filled)]
        if not QUESTIONS & set(names):  # semicolons are no commas: where they part cells, 1,234 may be 1.234
            raise ProblemError(f"{path}: no column is named question, the first is {names[0][:80]!r}; separate cells with commas")
        rows = list(filled)
    except csv.Error as error:
        raise ProblemError(
            f"{path}, line {lines.line_num}: not comma-separated values ({error}); quote cells that have commas or line ends"
        ) from error
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise ProblemError(f"{path}: has two columns named {twice[0]}; remove one of them")
    for number, cells in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        if len(cells) != len(names):
            raise ProblemError(
                f"{where}: has {len(cells)} cells, but the header has {len(names)}; put cells with commas in double quotes"
            )
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
    raise ProblemError(f"{where} is {cell[:80]!r}, which is not a list; write a list in JSON")


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
        raise ProblemError(f"{name} has no split '{split}': it has {' and '.join(map(repr, hub.splits))}")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingProblemsError(
            f"{name}: {hub.name} needs the library `datasets`: run `pip install datasets`, or {mend}"
        ) from error
    problems = []
    for part in hub.splits[split]:
        try:
            rows = load_dataset(hub.name, hub.config, split=part)
        except Exception as error:  # no network, no cache, gated, moved: every layer below has errors of its own
            raise MissingProblemsError(f"{name}: {hub.name} cannot be loaded from the hub ({one_line(error)}); {mend}") from error
        where = f"{hub.name}, split {part}, row"
        problems += [SETS[name].problem(row, f"{where} {number}") for number, row in enumerate(rows, start=1)]
    return problems
