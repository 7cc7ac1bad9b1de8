"""What a problem is, and its identity by content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import cast

from codi_bench.errors import ProblemError, arguments

STEP = re.compile(r"<<([^=<>]+)=([^<>]+)>>")


@dataclass(frozen=True)
class Problem:
    """One word problem with everything that an audit needs.

    question: the text as it was written, blanks included. steps: the annotated chain in order, `"<<7+5=12>>"` each, or sentences.
    answer: a number in plain decimals, words (ProsQA), "" where nobody knows it. group: shared by variants of one problem
    (the unit that is split, permuted and resampled). operands: the numbers of the question; values: the result of each step.
    """

    question: str
    steps: tuple[str, ...]
    answer: str
    group: str
    template: str = ""
    operands: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    @property
    def num_steps(self) -> int:
        return len(self.steps)

    @property
    def operators(self) -> str:
        """The operators in the order of the steps, such as `"*-"`."""
        return "".join(
            cast("re.Match[str]", re.search(r"[-+*/]", step[3:])).group() for step in self.steps if re.search(r"[-+*/]", step[3:])
        )

    def to_json(self) -> str:
        """One line of a problem file."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        row["num_steps"] = self.num_steps
        return json.dumps({k: list(v) if isinstance(v, tuple) else v for k, v in row.items()}, ensure_ascii=False)


def problems_hash(problems: Iterable[Problem]) -> str:
    """sha256 of questions, answers and groups, in order. Raises ProblemError for other objects."""
    digest = hashlib.sha256()
    for i, problem in enumerate(arguments.entries("problems", problems, error=ProblemError)):
        arguments.instance(f"problems[{i}]", problem, Problem, error=ProblemError)
        digest.update(json.dumps([problem.question, problem.answer, problem.group]).encode())
    return digest.hexdigest()
