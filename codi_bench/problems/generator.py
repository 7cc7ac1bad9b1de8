"""Generated English word problems in the GSM8K-Aug shape (question, annotated steps, answer).

Every value is an integer in 0..99 (by rejection, no modulus), so that each number is one token. Train and test are
disjoint by content: the split is a hash of (template, operands), whatever the names, things or order of facts.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from math import ceil
from typing import TypeVar

from codi_bench.errors import ProblemError, arguments
from codi_bench.problems.problem import Problem
from codi_bench.problems.templates import NAMES, TEMPLATES, THINGS, Template

T = TypeVar("T")
MAX_VALUE = 99
TEST_SHARE = 5  # one content in five belongs to the test split
STEP_WEIGHTS = {1: 4, 2: 5, 3: 5, 4: 3, 5: 3}  # how often a problem has so many steps
BY_STEPS = {n: [t for t in TEMPLATES if len(t.program) == n] for n in STEP_WEIGHTS}


@dataclass(frozen=True)
class Limits:
    """How large values and how long chains may be. With max_value below MAX_VALUE, all operands are drawn from 1..max_value."""

    max_value: int = MAX_VALUE
    max_steps: int = max(STEP_WEIGHTS)

    def ranges(self, template: Template) -> dict[str, tuple[int, int]]:
        """The range of each number of the question: (least, largest)."""
        return template.ranges if self.max_value == MAX_VALUE else dict.fromkeys(template.ranges, (1, self.max_value))

    def allow(self, problem: Problem) -> bool:
        """Does a generated problem keep within them?"""
        return problem.num_steps <= self.max_steps and max(*problem.operands, *problem.values) <= self.max_value


EVERYTHING, DIGITS = Limits(), Limits(max_value=9, max_steps=3)  # DIGITS: what a small model learns in minutes


def stream(seed: int, split: str, variants: int = 1, limits: Limits = EVERYTHING) -> Iterator[Problem]:
    """An endless stream of problems of one split; `variants` retellings of each content in a row, sharing its group.

    Raises ProblemError for an unknown split, and for an invalid seed or number of variants.
    """
    seed = arguments.seed(seed, error=ProblemError)
    variants = arguments.whole("variants", variants, error=ProblemError)
    split = arguments.choice("split", split, ("train", "test"), error=ProblemError)
    arguments.instance("limits", limits, Limits, error=ProblemError)
    return _endless(seed, split, variants, limits)


def _endless(seed: int, split: str, variants: int, limits: Limits) -> Iterator[Problem]:
    rng = random.Random(f"codi-bench:{seed}:{split}")
    counts = [count for count in STEP_WEIGHTS if count <= limits.max_steps]
    weights = [STEP_WEIGHTS[count] for count in counts]
    while True:
        template = rng.choice(BY_STEPS[rng.choices(counts, weights)[0]])
        operands = _draw(template, split, rng, limits)
        for _ in range(variants):
            yield tell(template, operands, rng)


def generate(n: int, *, seed: int = 0, split: str = "test", variants: int = 1, limits: Limits = EVERYTHING) -> list[Problem]:
    """n problems, every content at most once (so n / variants groups).

    Raises ProblemError for an argument that cannot be, or if the split holds too few different contents.
    """
    n = arguments.whole("n", n, error=ProblemError)
    variants = min(arguments.whole("variants", variants, error=ProblemError), n)  # further tellings would be cut off
    source = stream(seed, split, variants, limits)
    retellings = ([next(source) for _ in range(variants)] for _ in repeat(None))
    shortage = f"the generator has fewer than {n} different {split} problems"
    contents = distinct(ceil(n / variants), retellings, lambda tellings: tellings[0].group, shortage)
    return [problem for tellings in contents for problem in tellings][:n]


def distinct(n: int, source: Iterable[T | None], group: Callable[[T], str], shortage: str, patience: int = 20_000) -> list[T]:
    """The first n of an endless source that are of different groups; None is nothing new.

    Raises ProblemError where more than `patience` in a row bring nothing new.
    """
    by_group: dict[str, T] = {}
    idle = 0
    for item in source:
        idle += 1
        if item is not None and group(item) not in by_group:
            by_group[group(item)], idle = item, 0
        if len(by_group) >= n:
            break
        if idle > patience:
            raise ProblemError(f"{shortage}; ask for fewer")
    return list(by_group.values())


def split_of(template: str, operands: tuple[int, ...]) -> str:
    """The split that a content belongs to, from its hash alone. Raises ProblemError for operands that are no numbers."""
    template = arguments.text("template", template, error=ProblemError)
    for i, operand in enumerate(arguments.entries("operands", operands, error=ProblemError)):
        arguments.number(f"operands[{i}]", operand, error=ProblemError)
    return _split_of(template, operands)


def _split_of(template: str, operands: tuple[int, ...]) -> str:
    return "test" if int(_content(template, operands)[:8], 16) % TEST_SHARE == 0 else "train"


def run_program(
    template: Template, operands: dict[str, int], max_value: int = MAX_VALUE
) -> list[tuple[int, str, int, int]] | None:
    """Each step as (left, operator, right, result), or None where a value leaves 0..max_value or a division has a rest."""
    values, steps = dict(operands), []
    for number, (operator, left_name, right_name) in enumerate(template.program, start=1):
        left, right = values[left_name], values[right_name]
        if operator == "/" and (right == 0 or left % right):
            return None
        result = {"+": left + right, "-": left - right, "*": left * right, "/": left // right if right else 0}[operator]
        if not 0 <= result <= max_value:
            return None
        values[f"r{number}"] = result
        steps.append((left, operator, right, result))
    return steps


def vocabulary() -> list[str]:
    """Every word that the generated problems and their answers use, in a fixed order."""
    text = " ".join(" ".join((*t.facts, t.question)) for t in TEMPLATES)
    words = set(re.findall(r"\w+|[^\w\s]", re.sub(r"\{\w\}", " ", text)))
    words |= set(NAMES) | set(THINGS) | {"The", "answer", "is", ":"}
    numbers = [str(i) for i in range(MAX_VALUE + 1)]
    return [*numbers, "<<", ">>", "+", "-", "*", "/", "=", *sorted(words)]


def _content(template: str, operands: tuple[int, ...]) -> str:
    return hashlib.sha256(f"{template}:{','.join(map(str, operands))}".encode()).hexdigest()


def _draw(template: Template, split: str, rng: random.Random, limits: Limits) -> dict[str, int]:
    while True:
        operands = {letter: rng.randint(low, high) for letter, (low, high) in limits.ranges(template).items()}
        if (
            run_program(template, operands, limits.max_value) is not None
            and _split_of(template.name, tuple(operands.values())) == split
        ):
            return operands


def tell(template: Template, operands: dict[str, int], rng: random.Random) -> Problem:
    """Put one content into words: names, things and (where the story allows) the order of facts are drawn."""
    (first_person, second_person), (first_thing, second_thing) = rng.sample(NAMES, 2), rng.sample(THINGS, 2)
    facts = list(template.facts)
    if not template.fixed:
        rng.shuffle(facts)
    slots = {"P": first_person, "Q": second_person, "x": first_thing, "y": second_thing, **operands}
    steps = run_program(template, operands)
    assert steps is not None
    numbers = tuple(operands.values())
    return Problem(
        question=" ".join((*facts, template.question)).format(**slots),
        steps=tuple(f"<<{left}{op}{right}={result}>>" for left, op, right, result in steps),
        answer=str(steps[-1][3]),
        group=_content(template.name, numbers)[:16],
        template=template.name,
        operands=numbers,
        values=tuple(result for *_, result in steps),
    )
