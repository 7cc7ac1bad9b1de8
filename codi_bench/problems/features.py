"""The surface of a problem: what can be seen without solving it, such as its length, numbers, steps and operators.

The answer and the intermediate values are not part of it: they have to be computed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codi_bench.errors import ProblemError
from codi_bench.problems.answers import NUMBER
from codi_bench.problems.problem import Problem

OPERATORS = {"+": "additions", "-": "subtractions", "*": "multiplications", "/": "divisions"}
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# Kinds in the order in which a design gives them room (measures.surface.surface_design).
PRIORITY = (
    ("steps",),
    ("last_operator", "first_operator", *OPERATORS.values()),
    ("words", "numbers", "characters"),
    ("log_sum", "log_largest", "log_smallest"),
)


@dataclass(frozen=True, eq=False)
class SurfaceTable:
    """Columns [n] by name: numeric in float64, categorical as integers or text; the names are those of PRIORITY.

    steps and operators are those of the annotated chain, 0 and "" where a problem has none. log_*: log(1 + size) of the
    question's numbers, signs ignored, 0 where it has none.
    """

    numeric: dict[str, np.ndarray]
    categorical: dict[str, np.ndarray]


def surface_table(problems: Sequence[Problem]) -> SurfaceTable:
    """The surface of n problems, one row per problem. Raises ProblemError for an empty list."""
    if not len(problems):
        raise ProblemError("a surface table needs at least one problem")
    operators = [problem.operators for problem in problems]
    sizes = [_sizes(problem) for problem in problems]
    numeric: dict[str, list[float]] = {name: [row.count(sign) for row in operators] for sign, name in OPERATORS.items()}
    numeric |= {
        "words": [len(problem.question.split()) for problem in problems],
        "numbers": [len(row) for row in sizes],
        "characters": [len(problem.question) for problem in problems],
        "log_sum": [math.log1p(sum(row)) for row in sizes],
        "log_largest": [math.log1p(max(row, default=0)) for row in sizes],
        "log_smallest": [math.log1p(min(row, default=0)) for row in sizes],
    }
    categorical = {
        "steps": [problem.num_steps for problem in problems],
        "last_operator": [row[-1:] for row in operators],
        "first_operator": [row[:1] for row in operators],
    }
    return SurfaceTable(
        {name: np.array(values, np.float64) for name, values in numeric.items()},
        {name: np.array(values) for name, values in categorical.items()},
    )


def _sizes(problem: Problem) -> list[float]:
    """The numbers of the question without signs: its operands if it has any, else the numbers in its text."""
    numbers = problem.operands or map(float, NUMBER.findall(THOUSANDS.sub("", problem.question)))
    # A number of 400 digits reads as infinity.
    return [abs(float(number)) for number in numbers if math.isfinite(number)]
