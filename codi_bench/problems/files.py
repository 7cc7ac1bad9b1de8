"""`load_problems`: generated problems by name, or a file of JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

from codi_bench.errors import ProblemError, UnknownNameError
from codi_bench.problems.generator import generate
from codi_bench.problems.problem import STEP, Problem, parse_number

NAMES = ("generated",)


def load_problems(
    name: str = "generated", *, path: str | Path | None = None, n: int | None = None, split: str = "test", seed: int = 0
) -> list[Problem]:
    """n problems of a set, in order; with a path from that file (JSON lines), whatever the name.

    Raises ProblemError naming file, line and field for a broken file, and UnknownNameError for an unknown set.
    """
    if n is not None and n < 1:
        raise ProblemError(f"n must be at least 1, got {n}")
    if path is not None:
        problems = read_problems(Path(path))
        if n is not None and len(problems) < n:
            raise ProblemError(f"{path}: holds {len(problems)} problems, {n} were asked for")
        return problems[:n]
    if name not in NAMES:
        raise UnknownNameError("problem set", name, NAMES)
    return generate(1000 if n is None else n, seed=seed, split=split)


def read_problems(path: Path) -> list[Problem]:
    """Every problem of a file of JSON lines: `question` and `answer`; `steps` (or annotated text), `group` and more if there."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines also cuts at U+2028 and its like, inside a question
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemError(f"{path}: cannot be read as text ({error}); give a file of JSON lines") from error
    problems = [_read(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not problems:
        raise ProblemError(f"{path}: holds no problems; `codi-bench problems generated --out FILE` writes some")
    return problems


def _read(line: str, where: str) -> Problem:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ProblemError(f"{where}: not JSON ({error.msg}); each line must be one object") from error
    if not isinstance(row, dict):
        raise ProblemError(f"{where}: not an object; each line needs the fields question and answer")
    question, answer = row.get("question"), str(row.get("answer", ""))
    if not isinstance(question, str) or not question.strip():
        raise ProblemError(f"{where}: field 'question' is missing or empty")
    if parse_number(answer) is None:
        raise ProblemError(f"{where}: field 'answer' is {answer!r}, which holds no number")
    steps = row.get("steps", [])
    if not isinstance(steps, list) or not all(isinstance(step, str) and STEP.fullmatch(step) for step in steps):
        raise ProblemError(f"{where}: field 'steps' must be a list of annotated steps such as \"<<7+5=12>>\"")
    numbers = {}
    for field in ("operands", "values"):
        numbers[field] = row.get(field, [])
        if not isinstance(numbers[field], list) or not all(isinstance(v, (int, float)) for v in numbers[field]):
            raise ProblemError(f"{where}: field '{field}' must be a list of numbers")
    group = where if row.get("group") in (None, "") else str(row["group"])  # 0 is a group
    return Problem(
        question, tuple(steps), answer, group, str(row.get("template", "")), tuple(numbers["operands"]), tuple(numbers["values"])
    )
