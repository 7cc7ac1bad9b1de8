"""Coconut on logic problems, whose answers are words: how many are right, and what of the thoughts they need.

ProsQA asks which of two kinds somebody is, ProntoQA whether a statement is true; so half of the answers can be guessed. All
problems of the given set are asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from codi_bench.audits.ablation import CLEAN, SELF
from codi_bench.claims import runs
from codi_bench.claims.ablations import KINDS, edited
from codi_bench.claims.blocks import PAIRED, constant, effect_over, gains, not_lost, rate, rates
from codi_bench.claims.branches import Branches, branches
from codi_bench.claims.claim import SEED, Bench, Protocols, Published, claim, once
from codi_bench.errors import MeasureError
from codi_bench.models import conditions
from codi_bench.models.conditions import Condition, Fed, Patched, Shortened
from codi_bench.models.edits import Edit
from codi_bench.problems import Problem
from codi_bench.rules.controls import check_room

PAPER = "Coconut, arXiv 2412.06769, Table 1"
OTHERS = "github.com/michaelrizvi/coconut and arXiv 2604.04902"
PIPELINE = "The Curriculum Is the Mechanism, github.com/bmarti44/research-pipeline"
FAMILY, GUESS, ACCURACY_FLOOR = "word answers", "a guess", 0.05
SWAPPED, REVERSED = "transplant", "reversed"
RIGHT = "right if all that stands behind the last # is the answer"
CONTROLS = "Controls: some condition must change something, and the clean run must be better than a guess"
WORDS: dict[str, Any] = {"family": FAMILY, "answers": "words"}
NAMED = re.compile(r"\ban? (\w+) or (?:an? )?(\w+)\?\s*$")  # the two answers that a question of ProsQA ends with


def guess(problems: Sequence[Problem]) -> np.ndarray:
    """Right or wrong without reading the problem, bool [n].

    Always the first of the two answers that questions name, or always the second, whichever is more often right. Where questions
    name none (ProntoQA), always the most frequent answer.
    """
    named = [NAMED.search(problem.question) for problem in problems]
    if not all(named):
        return constant([problem.answer for problem in problems])
    last = [problem.answer.rstrip(" .").split()[-1] for problem in problems]
    by_place = np.array([[word == kind for kind in match.groups()] for word, match in zip(last, named, strict=True) if match])
    return by_place[:, int(by_place[:, 1].sum() > by_place[:, 0].sum())]


def checked(outcomes: Branches, clean: np.ndarray, problems: Sequence[Problem]) -> None:
    """Raises MeasureError if the edits reach nothing, or if there is nothing to lose: a guess does hardly worse."""
    outcomes.checked()
    check_room(clean, float(guess(problems).mean()))


@claim(
    "coconut-acc",
    PAPER,
    kind="value",
    n=500,
    protocol=f"all problems of the set (there: 500 of ProsQA, 800 of ProntoQA), all thoughts, greedy; {RIGHT}",
    sound=f"against always the first of two answers that a question names, or the second (ProntoQA: True, or False); {PAIRED}",
    **WORDS,
)
def accuracy(bench: Bench, published: Published) -> Protocols:
    """The model answers this share of logic problems rightly."""
    problems = bench.problems.sample(runs.NUM_PROBLEMS)
    right = bench.answers(problems, [conditions.CLEAN]).right("published")[0]
    yield [rate("accuracy", right)]
    control = guess(problems)
    delta = effect_over(published, "accuracy", float(control.mean()), ACCURACY_FLOOR)
    yield gains({"accuracy": (right, control)}, GUESS, family=FAMILY, delta=delta)


@once
def fewer_thoughts(bench: Bench) -> Branches:
    """All problems answered after 0 to K thoughts, by their number."""
    names = [str(k) for k in range(bench.model.num_latents + 1)]
    asked = [Shortened(int(name)) for name in names]
    problems = bench.problems.sample(runs.NUM_PROBLEMS)
    return branches(names, bench.answers(problems, asked), clean=names[-1])


@claim(
    "coconut-fewer",
    OTHERS,
    kind="none",
    n=500,
    protocol=(
        f"all problems of the set; eot behind the first k thoughts, 0 to all; {RIGHT}. In the first source, without any "
        "thought: the question alone, neither bot nor eot behind it"
    ),
    sound=f"the loss against all thoughts is surely below 5 points. {CONTROLS}",
    **WORDS,
)
def fewer(bench: Bench, published: Published) -> Protocols:
    """With fewer thoughts, or none, as many logic problems are answered rightly."""
    outcomes = fewer_thoughts(bench)
    right = {f"accuracy_{k}": each for k, each in outcomes.items()}
    yield rates(right)
    (_, full) = right.popitem()
    checked(outcomes, full, bench.problems.sample(runs.NUM_PROBLEMS))
    yield not_lost(full, right, family=FAMILY)


@once
def replaced_thoughts(bench: Bench) -> Branches:
    """All thoughts replaced at once: by each kind, by those of the next problem, and by the own ones in reverse order."""
    problems = bench.problems.sample(runs.NUM_PROBLEMS, edited=True)
    if len(problems) < 2 or not bench.model.num_latents:
        raise MeasureError("another problem's thoughts need two problems and a model that thinks; give more problems")
    edits = {CLEAN: [], SELF: [Edit("all", "self")]} | {kind: [Edit("all", kind)] for kind in KINDS}
    right = branches([*edits], edited(bench, list(edits.values()), problems), same=[SELF])
    if (right[SELF] != right[CLEAN]).any():
        return Branches(right, MeasureError("a control fails: replacing every thought by itself changes an answer"))
    every, others = tuple(range(bench.model.num_latents)), tuple(p.question for p in [*problems[1:], problems[0]])
    asked: list[Condition] = [Patched(others, every), Fed(runs.latents(bench, problems)[:, :-1][:, ::-1])]
    exchanged = bench.answers(problems, asked, seed=SEED + bench.seed).right()
    return Branches(right | dict(zip((SWAPPED, REVERSED), exchanged, strict=True)), right.failure)


@claim(
    "coconut-replaced",
    PIPELINE,
    kind="none",
    n=300,
    protocol=(
        "all problems of the set but the last 200, which give the means; all thoughts replaced at once: by zeros, by means, by "
        "noise of equal norm, by the thoughts of the next problem, by the own ones in reverse order. There: the thoughts of any "
        "other problem, 200 problems, and as many thoughts as the recipient has steps"
    ),
    sound=f"the loss against the clean run is surely below 5 points. {CONTROLS}",
    **WORDS,
)
def replaced(bench: Bench, published: Published) -> Protocols:
    """With other thoughts in place of its own as many logic problems are answered rightly."""
    outcomes = replaced_thoughts(bench).chosen([*KINDS, SWAPPED, REVERSED])
    yield rates(outcomes)
    clean = outcomes.pop(CLEAN)
    checked(outcomes, clean, bench.problems.sample(runs.NUM_PROBLEMS, edited=True))
    yield not_lost(clean, outcomes, family=FAMILY)
