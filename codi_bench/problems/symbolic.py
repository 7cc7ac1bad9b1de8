"""gsm-symbolic: word problems in the manner of GSM8K, as many as you ask for, with steps.

reasoning-gym (Apache-2.0, https://github.com/open-thought/reasoning-gym, the extra `symbolic`) has a hundred generators, each
made from a problem of GSM8K's test set (`sources`). A generator draws names and numbers and tells question, solution and answer.
The steps are read from the solution (`worked`). A generator whose steps do not hold is left out, and so is every single problem.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import repeat
from typing import Any

from codi_bench.errors import MissingProblemsError, ProblemError, arguments
from codi_bench.problems.generator import distinct, split_of
from codi_bench.problems.problem import Problem
from codi_bench.problems.readers import IN_QUESTION, read_own
from codi_bench.problems.sources import SET
from codi_bench.problems.worked import Worked, evaluate, read_worked, step_value

Generator = Callable[[Any], Mapping[str, Any]]  # takes what draws (random.Random or Draws); gives question, answer and solution
SAMPLE, FEWEST = 50, 45  # draws by which a generator is judged, and how many of them must hold
IN_STEP = re.compile(r"\d+(?:\.\d+)?")
RATIO = re.compile(r"(\d+(?:\.\d+)?)%")
MOST_CONSTANTS = 2  # values of an operand that the question gives in words (half, twice, a week or a month)
RUN, RUN_REFERENCES = 1000, 200


@dataclass(frozen=True)
class Generators:
    """The generators by name, and why the others are left out."""

    usable: Mapping[str, Generator]
    left_out: Mapping[str, str]

    def names(self, held_out: bool | None) -> list[str]:
        """All of them, those held out by `--by-generator` (about one in five, by a hash of the name), or the others."""
        return [name for name in self.usable if held_out is None or is_held_out(name) == held_out]


def is_held_out(name: str) -> bool:
    return split_of(name, ()) == "test"


@cache
def generators() -> Generators:
    """Those of the installed reasoning-gym. Raises MissingProblemsError where it is not installed."""
    try:
        from reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic import GSMSymbolicDataset, GSMSymbolicDatasetConfig
    except ImportError as error:
        raise MissingProblemsError(f"{SET}: needs the library reasoning-gym; run pip install 'codi-bench[symbolic]'") from error
    dataset = GSMSymbolicDataset(GSMSymbolicDatasetConfig(seed=0, size=1))
    return judged({f"{SET}-{number}": generator for number, generator in sorted(dataset.generators.items())})


def judged(by_name: Mapping[str, Generator]) -> Generators:
    """Sort generators into those whose steps hold and those that are left out."""
    faults = {name: fault for name, generator in by_name.items() if (fault := fault_of(generator))}
    return Generators({name: generator for name, generator in by_name.items() if name not in faults}, faults)


def fault_of(generator: Generator) -> str:
    """Why a generator is left out, from its first 50 draws; "" if it is not.

    In at least 45, every step must be right and the last one give the answer. Over these, every operand of a step must have a
    source: the question, an earlier step, or what the solution states in words. An operand of at most two values is a constant.
    """
    draws, faults = [], []
    for seed in range(SAMPLE):
        draw = generator(random.Random(seed))
        try:
            worked = _worked(draw)
            draws.append((_problem("", draw, worked), worked))
        except ProblemError as error:
            faults.append(str(error))
    if len(draws) < FEWEST:
        return f"{len(faults)} of {SAMPLE} draws do not hold, such as: {faults[0]}"
    return _without_source(draws)


def to_problem(name: str, draw: Mapping[str, Any]) -> Problem:
    """What a generator drew as a problem of the group `name`. Raises ProblemError unless its steps hold."""
    return _problem(name, draw, _worked(draw))


def _problem(name: str, draw: Mapping[str, Any], worked: Worked) -> Problem:
    row = {"question": draw["question"], "steps": list(worked.steps), "answer": draw["answer"]}
    problem = replace(read_own(row), group=name)
    check(problem)
    return problem


def check(problem: Problem) -> None:
    """Raises ProblemError unless every step is right, none is negative, and the last one gives the answer."""
    values = [step_value(step) for step in problem.steps]
    if not values:
        raise ProblemError("the solution has no step")
    if min(values) < 0:
        raise ProblemError(f"step {problem.steps[values.index(min(values))]} is negative")
    if values[-1] != Fraction(problem.answer):
        raise ProblemError(f"the last step is {problem.steps[-1]}, but the answer is {problem.answer}")


def generate(
    n: int, *, seed: int = 0, split: str = "test", steps: Collection[int] = (), held_out: bool | None = None
) -> list[Problem]:
    """n problems, every content (generator and numbers of the question) at most once.

    The split is a hash of the content, so that a problem of the other split has other numbers, whatever the names in it. steps:
    only problems with so many steps. held_out: only generators that are held out (True), or only others (False).
    Raises ProblemError for an argument that cannot be, or if there are too few.
    """
    n = arguments.whole("n", n, error=ProblemError)
    lengths, rng, chosen = choices("problems", seed=seed, split=split, steps=steps, held_out=held_out)
    drawn = (draw_problem(name, generator, rng, split, lengths) for name, generator in chosen)
    return distinct(n, drawn, content, f"{SET} has fewer than {n} such problems in {split}")


def content(problem: Problem) -> str:
    return f"{problem.group}:{problem.operands}"


def choices(
    purpose: str, *, seed: int, split: str, steps: Collection[int], held_out: bool | None
) -> tuple[set[int], random.Random, Iterator[tuple[str, Generator]]]:
    """The numbers of steps, what draws, and without end the next generator to draw with. Raises ProblemError."""
    seed = arguments.seed(seed, error=ProblemError)
    split = arguments.choice("split", split, ("train", "test"), error=ProblemError)
    lengths = {arguments.whole("steps", count, error=ProblemError) for count in steps}
    known = generators()
    rng, names = random.Random(f"codi-bench:{SET}:{purpose}:{seed}:{split}"), known.names(held_out)
    return lengths, rng, ((name, known.usable[name]) for name in map(rng.choice, repeat(names)))


def draw_problem(name: str, generator: Generator, rng: Any, split: str, lengths: Collection[int] = ()) -> Problem | None:
    """One draw; None if it is of the other split, has another number of steps, or does not hold. rng: what draws."""
    draw = generator(rng)
    if split_of(name, _numbers(draw["question"])) != split:  # seen before the steps are read, which takes longer
        return None
    try:
        problem = to_problem(name, draw)
    except ProblemError:
        return None
    return problem if not lengths or problem.num_steps in lengths else None


def run_set() -> list[Problem]:
    """A thousand test problems for a run. The last 200 are of other generators than the rest, and can give means and donors."""
    return [*generate(RUN - RUN_REFERENCES, held_out=False), *generate(RUN_REFERENCES, held_out=True)]


def _worked(draw: Mapping[str, Any]) -> Worked:
    return read_worked(draw["metadata"]["answer_cot"].rpartition("####")[0])


def _numbers(question: str) -> Any:
    return tuple(float(number.replace(",", "")) for number in IN_QUESTION.findall(question))


def _without_source(draws: Sequence[tuple[Problem, Worked]]) -> str:
    """The first operand that comes from nowhere, in words, or ""."""
    examples: dict[tuple[int, int], dict[str, str]] = defaultdict(dict)  # place of an operand → its values, each with a step
    for problem, worked in draws:
        sources = {Fraction(str(number)) for number in problem.operands} | worked.stated
        sources |= {Fraction(percent) / 100 for percent in RATIO.findall(problem.question)}
        for i, step in enumerate(problem.steps):
            for j, operand in enumerate(IN_STEP.findall(step.partition("=")[0])):
                if evaluate(operand) not in sources:
                    examples[i, j].setdefault(operand, step)
            sources.add(step_value(step))
    for values in examples.values():
        if len(values) > MOST_CONSTANTS:
            operand, step = next(iter(values.items()))
            return f"{operand} in step {step} has no source: it is neither in the question nor computed before"
    return ""
