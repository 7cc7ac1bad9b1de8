"""Minimal pairs of `gsm-symbolic`: one number of the question is changed, and the generator itself tells the other problem.

The draws of a generator are written down. Then it draws the same again but for one of them, such as how many apples there are. So
question, steps and answer of the other problem are the generator's own.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from codi_bench.errors import ProblemError, arguments
from codi_bench.problems.generator import distinct
from codi_bench.problems.problem import Problem
from codi_bench.problems.readers import IN_QUESTION
from codi_bench.problems.sources import SET
from codi_bench.problems.symbolic import Generator, choices, content, draw_problem

TRIALS = 8  # other values that are tried for each draw


@dataclass(frozen=True)
class MinimalPair:
    """Two problems that differ in one number of the question, and in the answer."""

    recipient: Problem
    donor: Problem

    @property
    def counterfactual(self) -> str:
        """The answer to the recipient's question with the donor's number."""
        return self.donor.answer

    @property
    def step(self) -> int:
        """The first step, from 1, whose value differs."""
        return next(i for i, (a, b) in enumerate(zip(self.recipient.values, self.donor.values), start=1) if a != b)


class OtherDrawsError(Exception):
    """With the changed draw, the generator draws something else than before, or more."""


@dataclass
class Draws:
    """What a generator draws from, in place of `random.Random`: every draw is written down.

    rng: None replays `values`. options: for each draw what could have come instead, empty unless it is a number among several.
    """

    rng: random.Random | None
    values: list[Any] = field(default_factory=list)
    options: list[Sequence[Any]] = field(default_factory=list)

    def randint(self, least: int, largest: int) -> Any:
        return self._draw(range(least, largest + 1))

    def randrange(self, *limits: int) -> Any:
        return self._draw(range(*limits))

    def choice(self, entries: Sequence[Any]) -> Any:
        return self._draw(entries)

    def sample(self, entries: Sequence[Any], k: int) -> list[Any]:
        drawn = self._next(lambda rng: rng.sample(entries, k))
        if len(drawn) != k or any(entry not in entries for entry in drawn):
            raise OtherDrawsError
        return list(drawn)

    def uniform(self, least: float, largest: float) -> float:
        drawn = self._next(lambda rng: rng.uniform(least, largest))
        if not least <= drawn <= largest:
            raise OtherDrawsError
        return float(drawn)

    def _draw(self, entries: Sequence[Any]) -> Any:
        is_number = len(entries) and all(type(entry) in (int, float) for entry in entries[:2])
        drawn = self._next(lambda rng: rng.choice(entries), entries if is_number else ())
        if drawn not in entries:
            raise OtherDrawsError
        return drawn

    def _next(self, fresh: Any, options: Sequence[Any] = ()) -> Any:
        if self.rng is None and len(self.options) == len(self.values):
            raise OtherDrawsError
        if self.rng is not None:
            self.values.append(fresh(self.rng))
        self.options.append(options)
        return self.values[len(self.options) - 1]

    def replayed(self, place: int, value: Any) -> Draws:
        """The same draws again with another value at `place`."""
        return Draws(None, [*self.values[:place], value, *self.values[place + 1 :]])

    @property
    def used_up(self) -> bool:
        return len(self.options) == len(self.values)


def pairs(
    n: int, *, seed: int = 0, split: str = "test", steps: Collection[int] = (), held_out: bool | None = None
) -> list[MinimalPair]:
    """n pairs, each recipient of another content; both problems of a pair are of the split.

    steps and held_out: as in `generate`. Raises ProblemError for an argument that cannot be, or if there are too few.
    """
    n = arguments.whole("n", n, error=ProblemError)
    lengths, rng, chosen = choices("pairs", seed=seed, split=split, steps=steps, held_out=held_out)
    made = (pair_of(name, generator, rng, split, lengths) for name, generator in chosen)
    return distinct(n, made, lambda pair: content(pair.recipient), f"{SET} has fewer than {n} such pairs in {split}")


def pair_of(name: str, generator: Generator, rng: random.Random, split: str, lengths: Collection[int] = ()) -> MinimalPair | None:
    """One draw and the first changed draw that makes a pair with it; None if none does."""
    draws = Draws(rng)
    recipient = draw_problem(name, generator, draws, split, lengths)
    if recipient is None:
        return None
    places = [place for place, options in enumerate(draws.options) if len(options) > 1]
    for place in rng.sample(places, len(places)):
        options = draws.options[place]
        for value in rng.sample(options, min(TRIALS, len(options))):
            replay = draws.replayed(place, value)
            try:
                donor = draw_problem(name, generator, replay, split)
            except OtherDrawsError:
                continue
            if donor is not None and replay.used_up and not fault_of_pair(pair := MinimalPair(recipient, donor)):
                return pair
    return None


def fault_of_pair(pair: MinimalPair) -> str:
    """Why two problems are no minimal pair, or "". One number of the question differs, and the answer; nothing else may."""
    one, other = pair.recipient, pair.donor
    if IN_QUESTION.split(one.question) != IN_QUESTION.split(other.question):
        return "the questions differ in words"
    differing = sum(a != b for a, b in zip(one.operands, other.operands, strict=True))
    if differing != 1:
        return f"the questions differ in {differing} numbers"
    if one.answer == other.answer:
        return f"both answers are {one.answer}"
    return "" if one.operators == other.operators and one.num_steps == other.num_steps else "the steps are others"
