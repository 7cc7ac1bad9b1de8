"""What a claim is, how one is written down, and what it may ask of the bench that measures it.

A claim is one function with `@claim(...)` in the module of its source: its docstring is the sentence, and it yields two lists of
numbers, first those of the reported protocol and then those of the sound one. Registering happens by import.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from codi_bench.claims.families import FAMILIES
from codi_bench.models.conditions import Condition
from codi_bench.problems import Problem, parse_number, score
from codi_bench.problems.generator import Limits
from codi_bench.problems.pairs import Pair
from codi_bench.rules.intervals import Ranked
from codi_bench.rules.stats import Estimate
from codi_bench.rules.validity import Verdict
from codi_bench.thoughts.decoded import Decoded
from codi_bench.thoughts.record import Answers
from codi_bench.thoughts.released import ReleasedFile

if TYPE_CHECKING:  # claims are listed without transformers
    from codi_bench.models.model import Model

T = TypeVar("T")
P = ParamSpec("P")
SEED = 0
DEFAULT_PERMUTATIONS = 1000  # of every null: carries Holm over 25 tests (docs/verdicts.md, section 1)
STUDY = "study"  # the suite that is measured where nothing else is asked for
VALUE, EXISTS, LOCATION, NONE, EVEN, ORDER, FACT = KINDS = ("value", "exists", "location", "none", "even", "order", "fact")


# What a claim may ask


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What n problems were answered under C conditions.

    hidden_states: [n, 1 + K, L + 1, d] of the clean run if they were asked for, as the store holds them: half precision, mapped
    from a file, so take what you need and then compute. log_probability: natural, of the sentence with the gold answer and eos,
    teacher forced, float64 [C, n], if it was asked for. reference: where means and donors come from, in words, "" where none are
    needed. turned: the problem whose outcome is turned round where noise is measured. confidence [n, 2]: beside hidden states, of
    the clean run's answers: mean log-probability of their tokens, and the least margin of one over the second best (nats).
    """

    problems: tuple[Problem, ...]
    answers: tuple[Answers, ...]
    hidden_states: np.ndarray | None = None
    log_probability: np.ndarray | None = None
    reference: str = ""
    turned: int | None = None
    confidence: np.ndarray | None = None

    def right(self, scoring: str = "study", golds: Sequence[str] = ()) -> np.ndarray:
        """Right or wrong, bool [C, n]. scoring: `study` (integer parts agree) or `published` (numbers agree as floats).

        golds: answers that are taken for right, by default the problems' own.
        """
        golds = golds or [p.answer for p in self.problems]
        right = np.array([[score(t, g, scoring) for t, g in zip(part.texts, golds, strict=True)] for part in self.answers])
        if self.turned is not None:
            right[:, self.turned] ^= True
        return right.reshape(len(self.answers), len(self.problems))

    @property
    def numbers(self) -> np.ndarray:
        """The number that was answered, float64 [C, n], NaN where none was."""
        return np.array([[parse_number(text) for text in part.texts] for part in self.answers], float)


class ProblemSource(Protocol):
    """Which problems there are."""

    @property
    def limits(self) -> Limits:
        """How large the values of generated problems beside the given ones may be."""

    def first(self, n: int, variants: int = 1) -> list[Problem]:
        """The first n test problems (`variants` tellings each); raises ProblemError if a given file has fewer."""

    def sample(self, n: int, *, edited: bool = False) -> list[Problem]:
        """n generated test problems, or a named set whole; edited: but for what means and donors come from."""

    def pairs(self, n: int, *, step: int) -> list[Pair]:
        """n generated minimal pairs about `step` (1 is the first); raises ProblemError where there are too few."""

    def donors(self, pairs: Sequence[Pair], *, seed: int) -> list[Problem]:
        """For each pair a random training problem, of like length, that has nothing to do with it."""

    def references(self, scored: Sequence[Problem], most: int = ...) -> tuple[list[Problem], str]:
        """Up to `most` problems that directions and spaces are fitted to, none of a scored group; and whence, in words."""

    def elsewhere(self) -> dict[str, list[Problem]]:
        """Problems out of distribution, by the name of their set; raises MeasureError where none are known."""


class Bench(Protocol):
    """One model with its problems. What it computes it computes once.

    seed: added to every seed of a measure (folds, samples, SAE, draws): 0 but where their noise is measured. permutations: of
    every null. memo: what `once` remembers.
    """

    @property
    def model(self) -> Model: ...

    @property
    def problems(self) -> ProblemSource: ...

    @property
    def seed(self) -> int: ...

    @property
    def permutations(self) -> int: ...

    @property
    def memo(self) -> dict[Any, Any]: ...

    @property
    def partner(self) -> Bench:
        """The bench of the model that this one is compared with; raises MeasureError where there is none."""

    def answers(
        self,
        problems: Sequence[Problem],
        conditions: Sequence[Condition],
        *,
        num_latents: int | None = None,
        hidden_states: bool = False,
        log_probability: bool = False,
        seed: int = 0,
    ) -> Outcomes:
        """What is answered under each condition; an edit that is given again draws other donors and other noise.

        Means and donors are those of training problems, or of problems that are not scored. Raises ProblemError where there are
        too few of these, and what `Model.answers` raises.
        """

    @property
    def decoded(self) -> Decoded:
        """What the head reads first behind bot and every latent, of the problems that are answered rightly."""

    def cached(self, kind: type[T], function: Callable[..., T], /, *arguments: Any, **settings: Any) -> T:
        """`function(*arguments, **settings)`, where it is long and depends on nothing else: computed once for equal arguments.

        kind: what it gives: np.ndarray, or the class of a flat record of arrays and numbers.
        """


def once(function: Callable[P, T]) -> Callable[P, T]:
    """A run that claims share: `function(bench, ...)` the first time, the same value, or error, ever after."""

    @wraps(function)
    def remembered(*arguments: P.args, **settings: P.kwargs) -> T:
        bench, *rest = arguments
        memo: dict[Any, Any] = bench.memo  # type: ignore[attr-defined]  # a Bench
        key = (remembered, tuple(rest), tuple(settings.items()))
        if key not in memo:
            try:
                memo[key] = (function(*arguments, **settings), None)
            except (ValueError, RuntimeError) as error:
                memo[key] = (None, error)
        value, failure = memo[key]
        if failure is not None:
            raise failure
        return cast(T, value)

    return remembered


def done(runs: Mapping[Callable[..., Any], Any]) -> dict[Any, Any]:
    """The memo of a bench on which these runs, functions of the bench alone, have given these values."""
    return {(run, (), ()): (value, None) for run, value in runs.items()}


# What a claim gives


@dataclass(frozen=True)
class Null:
    """What a protocol gives where there is nothing: mean and 95 % band of its null draws, and the p of the measured value.

    p: permutation p, or that of an exact test; None where nothing was tested. quantiles: of its draws, 0 to 100 % in steps of 5,
    to be drawn; () where there are none.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    quantiles: tuple[float, ...] = ()

    @classmethod
    def of(cls, draws: ArrayLike, p: float | None = None) -> Null:
        """The null that draws [n] make."""
        draws = np.asarray(draws, float)
        low, high = np.quantile(draws, [0.025, 0.975])
        quantiles = np.quantile(draws, np.linspace(0, 1, 21))
        return cls(float(draws.mean()), float(low), float(high), p, tuple(quantiles.tolist()))

    @classmethod
    def at(cls, estimate: Estimate, p: float | None = None) -> Null:
        """The null that a control gives."""
        return cls(estimate.value, estimate.low, estimate.high, p)


Cell = dict[Literal["layer", "latent_pos"], int | str | None]


@dataclass(frozen=True)
class Measured:
    """One measured number. low, high: 95 % interval, None where there is no honest one (detail says why).

    outcomes: right or wrong per problem where the number is an accuracy; ranked: the scores where it is an AUC. cell: {"layer",
    "latent_pos"} where it has one. nominal: of the reported protocol, the null value that the source compares with (chance, no
    drop). verdict: of the sound protocol, None where no rule gives a word (detail["no_validity"] says why).
    """

    metric: str
    value: float
    n: int
    unit: str
    low: float | None = None
    high: float | None = None
    cell: Cell | None = None
    outcomes: np.ndarray | None = None
    ranked: Ranked | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    null: Null | None = None
    nominal: float | None = None
    verdict: Verdict | None = None


def measured(metric: str, value: float | Estimate, n: int, unit: str = "fraction", **more: Any) -> Measured:
    """A number with its interval if it has one."""
    if isinstance(value, Estimate):
        return Measured(metric, value.value, n, unit, value.low, value.high, **more)
    return Measured(metric, value, n, unit, **more)


def points(metric: str, value: Estimate, n: int, **more: Any) -> Measured:
    """A difference of fractions in percentage points."""
    low, high = (None if end is None else 100 * end for end in (value.low, value.high))
    return Measured(metric, 100 * value.value, n, "points", low, high, **more)


def ends(value: Estimate) -> list[float | None]:
    """What figures need of an interval."""
    return [value.value, value.low, value.high]


def without_word(why: str) -> dict[str, Any]:
    """Detail of a number for which no rule gives a word."""
    return {"no_validity": why}


# What a claim is

Published = Mapping[str, float]  # the printed numbers by metric, of the source's own models; fractions or points
Protocols = Iterator[list[Measured]]
Function = Callable[[Any, Published], Protocols]  # of a bench and the published numbers
NOTHING_MORE: list[Measured] = []  # what a sound protocol adds where no rule gives a word


@dataclass(frozen=True)
class Reading:
    """How a claim is measured on released files.

    files: which it needs, by the model that they tell of. compared: the metric by which two models are compared then, where it is
    another one than that of runs. same_list: are these the source's own outcomes, where a run has other problems?
    """

    files: Mapping[str, tuple[ReleasedFile, ...]]
    protocol: str
    sound_protocol: str
    function: Function = field(repr=False)
    compared: str | None = None
    same_list: bool = False


@dataclass(frozen=True)
class Claim:
    """A reported claim: its sentence and source, both protocols in words, and the function that measures it.

    kind: value, exists, location, none, even, order or fact (docs/verdicts.md, section 1). function: yields the numbers of the
    reported protocol, then the same metrics (and further ones) as they should have been measured, with verdicts. n: problems, or
    pairs, that it takes. compared: the metric, soundly measured, by which two models are compared. with_partner: measured on two
    models, and recorded with the weights of both. reading: how it is measured on released files, where it can be. runs: can it be
    measured on a model at all, or on released files alone? unreleased: what nobody released, so that it cannot be judged without
    weights.
    """

    id: str
    family: str
    kind: str
    sentence: str
    source: str
    n: int
    protocol: str
    sound_protocol: str
    function: Function = field(repr=False)
    seeds: dict[str, int] = field(default_factory=dict)
    compared: str | None = None
    with_partner: bool = False
    reading: Reading | None = field(default=None, repr=False)
    runs: bool = True
    unreleased: str = ""

    def files(self, model: str) -> tuple[ReleasedFile, ...]:
        """The released files on which it is measured for that model; () where there are none."""
        return self.reading.files.get(model, ()) if self.reading else ()

    @property
    def on_files(self) -> Claim:
        """The same claim as it is measured on released files."""
        assert self.reading is not None
        reading = self.reading
        return replace(
            self,
            function=reading.function,
            protocol=reading.protocol,
            sound_protocol=reading.sound_protocol,
            compared=reading.compared or self.compared,
        )

    @property
    def suite(self) -> str:
        """`study`, `questions` or `literature`: by the place of its source."""
        room = self.function.__module__.removeprefix("codi_bench.claims.").partition(".")[0]
        return {"first_study": STUDY, "open_questions": "questions"}.get(room, "literature")

    def reported(self, bench: Bench) -> list[Measured]:
        """The numbers of the reported protocol alone."""
        return next(self.function(bench, {}))


CLAIMS: dict[str, Claim] = {}


def claim(
    id: str,
    source: str,
    *,
    family: str,
    kind: str,
    n: int,
    protocol: str,
    sound: str,
    files: Mapping[str, tuple[ReleasedFile, ...]] | None = None,
    **more: Any,
) -> Callable[[Function], Function]:
    """Register the decorated function as a claim. sound: the sound protocol in words; all else as in `Claim`.

    files: by model, the released files on which the same function measures it.

    Raises ValueError for a second claim of that id, an unknown family or kind, a family whose budget is spent, or a function
    without a docstring: a mistake in the source, which every run would meet.
    """

    def register(function: Function) -> Function:
        sentence = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        budget = FAMILIES[family].budget if family in FAMILIES else None
        problems = {
            "there is one already": id in CLAIMS,
            f"no family '{family}'": family not in FAMILIES,
            f"no kind '{kind}'": kind not in KINDS,
            "its function has no docstring, which is its sentence": not sentence,
            f"the budget of the family '{family}', {budget} claims, is spent": budget is not None
            and sum(other.family == family for other in CLAIMS.values()) >= budget,
        }
        for problem, holds in problems.items():
            if holds:
                raise ValueError(f"claim '{id}': {problem}")
        reading = Reading(files, protocol, sound, function) if files else None
        CLAIMS[id] = Claim(id, family, kind, sentence, source, n, protocol, sound, function, reading=reading, **more)
        return function

    return register
