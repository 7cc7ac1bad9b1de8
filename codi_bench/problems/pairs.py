"""Minimal pairs of generated problems that differ in one intermediate value, so the answer that an edit should give is known.

A pair tells one story twice, word for word, with one number changed that the program uses in `step` alone. So everything before
that step is equal, its value differs, and the donor's answer is what the recipient's program gives with the donor's value: the
*counterfactual* answer. `same` is the control: other numbers up to the step, but the same value at it and after it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import cast

from codi_bench.errors import ProblemError, arguments
from codi_bench.problems.generator import EVERYTHING, Limits, distinct, run_program, split_of, stream, tell
from codi_bench.problems.problem import Problem
from codi_bench.problems.templates import TEMPLATES, Template

PROGRAMS = {template.name: template for template in TEMPLATES}


@dataclass(frozen=True)
class Pair:
    """recipient and donor differ in the value of `step` (the first is 1) and in what follows from it; `same` agrees in both."""

    recipient: Problem
    donor: Problem
    same: Problem
    step: int

    @property
    def counterfactual(self) -> str:
        """The answer of the recipient's program with the donor's value at `step`."""
        return self.donor.answer


def pairs(n: int, *, step: int, seed: int = 0, split: str = "test", limits: Limits = EVERYTHING) -> list[Pair]:
    """n pairs whose value at `step` is intermediate (another step follows). Every recipient has different content.

    All three problems are of the split. Raises ProblemError if n or step is not positive, or the split holds too few.
    """
    n, step = arguments.whole("n", n, error=ProblemError), arguments.whole("step", step, error=ProblemError)
    groups: set[str] = set()

    def candidates() -> Iterator[Pair | None]:
        for recipient in stream(seed, split, limits=limits):
            is_new = recipient.num_steps > step and recipient.group not in groups
            groups.add(recipient.group)
            yield _pair(recipient, step, split, seed, limits) if is_new else None

    shortage = f"the generator has fewer than {n} pairs for step {step} in {split}"
    return distinct(n, candidates(), lambda pair: pair.recipient.group, shortage)


def random_donors(pairs: Sequence[Pair], pool: Sequence[Problem], *, seed: int = 0, nearest: int = 10) -> list[Problem]:
    """For each pair, a problem of the pool with a different answer than recipient and donor, drawn from those nearest in length.

    Of nearly equal length, so that their thoughts stand at nearly the same positions. Raises ProblemError if the pool has no such
    problem.
    """
    words = [len(problem.question.split()) for problem in pool]
    donors = []
    for pair in pairs:
        length = len(pair.recipient.question.split())
        candidates = [i for i, problem in enumerate(pool) if problem.answer not in (pair.recipient.answer, pair.counterfactual)]
        if not candidates:
            raise ProblemError("no problem of the pool differs in its answer from both recipient and donor; give a larger pool")
        nearest_candidates = sorted(candidates, key=lambda i: abs(words[i] - length))[:nearest]
        donors.append(pool[random.Random(f"codi-bench:donor:{seed}:{pair.recipient.group}").choice(nearest_candidates)])
    return donors


def _pair(problem: Problem, step: int, split: str, seed: int, limits: Limits) -> Pair | None:
    """The pair made from one content; None if there is no donor or no control for it."""
    template = PROGRAMS[problem.template]
    ranges = {letter: range(low, high + 1) for letter, (low, high) in limits.ranges(template).items()}
    operands = dict(zip(template.ranges, cast("tuple[int, ...]", problem.operands)))
    value, answer = problem.values[step - 1], problem.values[-1]
    rng = random.Random(f"codi-bench:pairs:{seed}:{step}:{problem.group}")
    letters_upto, letters_later = _letters(template, 0, step), _letters(template, step, len(template.program))
    own_letters = _letters(template, step - 1, step) - _letters(template, 0, step - 1) - letters_later

    def first(
        candidates: Iterator[dict[str, int]], fits: Callable[[list[tuple[int, str, int, int]]], bool]
    ) -> dict[str, int] | None:
        for candidate in candidates:
            steps = run_program(template, candidate, limits.max_value)
            if steps is not None and split_of(template.name, tuple(candidate.values())) == split and fits(steps):
                return candidate
        return None

    donors = [operands | {letter: number} for letter in sorted(own_letters) for number in ranges[letter]]
    donor = first(iter(rng.sample(donors, len(donors))), lambda steps: steps[step - 1][3] != value and steps[-1][3] != answer)
    free_letters = sorted(letters_upto - letters_later)
    controls = [operands | dict(zip(free_letters, numbers)) for numbers in product(*(ranges[letter] for letter in free_letters))]
    same = first(
        (candidate for candidate in rng.sample(controls, len(controls)) if candidate != operands),
        lambda steps: [row[3] for row in steps[step - 1 :]] == list(problem.values[step - 1 :]),
    )
    if donor is None or same is None:
        return None
    words = f"codi-bench:pairs:{seed}:{step}:{problem.group}:words"  # one story: names, things and order of facts agree
    return Pair(
        *cast(
            "tuple[Problem, Problem, Problem]",
            (tell(template, numbers, random.Random(words)) for numbers in (operands, donor, same)),
        ),
        step,
    )


def _letters(template: Template, start: int, end: int) -> set[str]:
    """The numbers of the question that steps start..end - 1 use."""
    return {name for _, left, right in template.program[start:end] for name in (left, right)} & set(template.ranges)
