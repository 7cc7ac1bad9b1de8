"""SIM-CoT on GSM8K's training problems with one to eight latents: right or wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codi_bench.errors import ProblemError
from codi_bench.problems.problem import Problem
from codi_bench.thoughts.released import Repository, released

PONDERNET = Repository("anatissera/pondernet", "7ad5608")


@dataclass(frozen=True, eq=False)
class BudgetAnswers:
    """n problems without their steps, and right or wrong by the number of latents, bool [n] each."""

    problems: tuple[Problem, ...]
    right: dict[int, np.ndarray]


@released(
    PONDERNET,
    "k-classifier/data/k_classifier_train.jsonl",
    "9298b7daa29c1a20751dd0b321de84e927b0c64853f4d0f51e7a4ca9c2c24399",
    unknown="hash of the checkpoint, dtype, batch size, how answers were compared",
)
def simcot_budgets(path: Path) -> BudgetAnswers:
    """internlm/SIM_COT-GPT2-CODI on all 7473 training problems of GSM8K.

    Raises ProblemError for a row with other numbers of latents.
    """
    with path.open(encoding="utf-8") as file:  # not splitlines: a question holds U+2028, which would end a line there
        rows = [json.loads(line) for line in file]
    for i, row in enumerate(rows):
        if row["k_values"] != rows[0]["k_values"]:
            raise ProblemError(
                f"{path}: row {i}: k_values are {row['k_values']}, but {rows[0]['k_values']} in row 0; correct the row"
            )
    right = np.array([row["labels"] for row in rows], bool).T
    problems = [Problem(row["prompt"], (), row["answer"], row["id"]) for row in rows]
    return BudgetAnswers(tuple(problems), dict(zip(rows[0]["k_values"], right, strict=True)))
