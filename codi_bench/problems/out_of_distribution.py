"""Generated problems out of distribution: told in a way no training problem is, or with numbers outside the ranges of training.

They are to these problems what SVAMP and GSM-Hard are to GSM8K: the same chains told otherwise, the same stories with other
numbers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from codi_bench.problems.generator import BY_STEPS, MAX_VALUE, STEP_WEIGHTS, distinct, generate, run_program, split_of, tell
from codi_bench.problems.problem import Problem
from codi_bench.problems.templates import NAMES, THINGS, Template

PATIENCE = 2_000  # stories in a row that bring nothing new
DRAWS = 500  # of numbers for one story: long chains of large numbers seldom stay below 100


def distracted(n: int, *, seed: int) -> list[Problem]:
    """The first n test problems, each with an irrelevant fact such as "Tom has 7 pens" in front."""
    rng, problems = random.Random(f"codi-bench:odd:{seed}:distracted"), []
    for problem in generate(n, seed=seed, split="test"):
        person, thing = (rng.choice([word for word in words if word not in problem.question]) for words in (NAMES, THINGS))
        problems.append(replace(problem, question=f"{person} has {rng.randint(2, 30)} {thing}. {problem.question}"))
    return problems


def renumbered(n: int, *, seed: int) -> list[Problem]:
    """n different problems in each of which at least one number lies outside the range that its story has in training.

    Raises ProblemError if the stories allow fewer.
    """
    rng = random.Random(f"codi-bench:odd:{seed}:renumbered")

    def candidates() -> Iterator[Problem | None]:
        while True:
            template = rng.choice(BY_STEPS[rng.choices([*STEP_WEIGHTS], [*STEP_WEIGHTS.values()])[0]])
            draws = (_draw(template, rng) for _ in range(DRAWS))
            operands = next((numbers for numbers in draws if _is_new(template, numbers)), None)
            yield tell(template, operands, rng) if operands is not None else None

    shortage = f"the generator has fewer than {n} problems with other numbers"
    return distinct(n, candidates(), lambda problem: problem.group, shortage, PATIENCE)


def _draw(template: Template, rng: random.Random) -> dict[str, int]:
    return {letter: rng.randint(1, MAX_VALUE) for letter in template.ranges}


def _is_new(template: Template, operands: dict[str, int]) -> bool:
    """Can this content be told, and does a number of it lie outside its range?"""
    in_range = [low <= operands[letter] <= high for letter, (low, high) in template.ranges.items()]
    is_tellable = run_program(template, operands) is not None
    return is_tellable and not all(in_range) and split_of(template.name, tuple(operands.values())) == "test"
