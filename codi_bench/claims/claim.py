"""What a claim is, how to write one, and what it may ask of the bench that measures it.

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
    """The answers to n problems under C conditions.

    hidden_states: [n, 1 + K, L + 1, d] of the clean run if requested, as stored: half precision, memory-mapped, so select what
    you need before you compute. log_probability: natural, of the sentence with the gold answer and eos, teacher forced, float64
    [C, n], if requested. reference: the source of means and donors, in words, "" if none are needed. turned: the problem whose
    outcome is inverted when noise is measured. confidence [n, 2]: with hidden states, of the clean run's answers: mean
    log-probability of their tokens, and the least margin of a token over the second best (nats).
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

        golds: answers that count as right, by default the problems' own.
        """
        golds = golds or [p.answer for p in self.problems]
        right = np.array([[score(t, g, scoring) for t, g in zip(part.texts, golds, strict=True)] for part in self.answers])
        if self.turned is not None:
            right[:, self.turned] ^= True
        return right.reshape(len(self.answers), len(self.problems))

    @property
    def numbers(self) -> np.ndarray:
        """The numbers in the answers, float64 [C, n], NaN for an answer without a number."""
        return np.array([[parse_number(text) for text in part.texts] for part in self.answers], float)


class ProblemSource(Protocol):
    """The source of problems."""

    @property
    def limits(self) -> Limits:
        """The limits for values of problems that are generated in addition to given ones."""

    def first(self, n: int, variants: int = 1) -> list[Problem]:
        """The first n test problems (`variants` tellings each); raises ProblemError if a given file has fewer."""

    def sample(self, n: int, *, edited: bool = False) -> list[Problem]:
        """n generated test problems, or all of a named set; edited: without those that provide means and donors."""

    def pairs(self, n: int, *, step: int) -> list[Pair]:
        """n generated minimal pairs about `step` (1 is the first); raises ProblemError if there are too few."""

    def donors(self, pairs: Sequence[Pair], *, seed: int) -> list[Problem]:
        """For each pair, a random unrelated training problem of similar length."""

    def references(self, scored: Sequence[Problem], most: int = ...) -> tuple[list[Problem], str]:
        """Up to `most` problems to fit directions and spaces to, none of a scored group, and their source in words."""

    def elsewhere(self) -> dict[str, list[Problem]]:
        """Problems out of distribution, by the name of their set; raises MeasureError if none are known."""


class Bench(Protocol):
    """One model with its problems. It computes everything only once.

    seed: added to every seed of a measure (folds, samples, SAE, draws); 0 except when noise is measured. permutations: of
    every null. memo: the results that `once` stores.
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
        """The bench of the model that this one is compared with; raises MeasureError if there is none."""

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
        """The answers under each condition. A repeated edit draws other donors and other noise.

        Means and donors are from training problems, or from problems that are not scored. Raises ProblemError if there are too
        few of these, and what `Model.answers` raises.
        """

    @property
    def decoded(self) -> Decoded:
        """The head's first words after bot and every latent, of the problems that are answered rightly."""

    def cached(self, kind: type[T], function: Callable[..., T], /, *arguments: Any, **settings: Any) -> T:
        """`function(*arguments, **settings)`, computed once for equal arguments. It must depend on nothing else.

        kind: the type of its result: np.ndarray, or the class of a flat record of arrays and numbers.
        """


def once(function: Callable[P, T]) -> Callable[P, T]:
    """A run that claims share: the first call computes `function(bench, ...)`, later calls give the same value or error."""

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
    """The memo of a bench in which these runs (functions of the bench only) have these values."""
    return {(run, (), ()): (value, None) for run, value in runs.items()}


# What a claim gives


@dataclass(frozen=True)
class Null:
    """The result of a protocol if there is no effect: mean and 95 % band of its null draws, and the p of the measured value.

    p: permutation p, or that of an exact test; None without a test. quantiles: of its draws, 0 to 100 % in steps of 5, for
    figures; () without draws.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    quantiles: tuple[float, ...] = ()

    @classmethod
    def of(cls, draws: ArrayLike, p: float | None = None) -> Null:
        """The null of these draws [n]."""
        draws = np.asarray(draws, float)
        low, high = np.quantile(draws, [0.025, 0.975])
        quantiles = np.quantile(draws, np.linspace(0, 1, 21))
        return cls(float(draws.mean()), float(low), float(high), p, tuple(quantiles.tolist()))

    @classmethod
    def at(cls, estimate: Estimate, p: float | None = None) -> Null:
        """The null given by a control."""
        return cls(estimate.value, estimate.low, estimate.high, p)


Cell = dict[Literal["layer", "latent_pos"], int | str | None]


@dataclass(frozen=True)
class Measured:
    """One measured number. low, high: 95 % interval, None if there is no valid one (detail says why).

    outcomes: right or wrong per problem if the number is an accuracy; ranked: the scores if it is an AUC. cell: {"layer",
    "latent_pos"} if it has one. nominal: for the reported protocol, the null value that the source compares with (chance, no
    drop). verdict: for the sound protocol, None if no rule gives a word (detail["no_validity"] says why).
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
    """Make a measured number, with its interval if it has one."""
    if isinstance(value, Estimate):
        return Measured(metric, value.value, n, unit, value.low, value.high, **more)
    return Measured(metric, value, n, unit, **more)


def points(metric: str, value: Estimate, n: int, **more: Any) -> Measured:
    """Make a measured number in percentage points from a difference of fractions."""
    low, high = (None if end is None else 100 * end for end in (value.low, value.high))
    return Measured(metric, 100 * value.value, n, "points", low, high, **more)


def ends(value: Estimate) -> list[float | None]:
    """The ends of an interval, for figures."""
    return [value.value, value.low, value.high]


def without_word(why: str) -> dict[str, Any]:
    """The detail of a number without a word, with the reason."""
    return {"no_validity": why}


# What a claim is

Published = Mapping[str, float]  # the printed numbers by metric, of the source's own models; fractions or points
Protocols = Iterator[list[Measured]]
Function = Callable[[Any, Published], Protocols]  # of a bench and the published numbers
NOTHING_MORE: list[Measured] = []  # what a sound protocol adds where no rule gives a word


@dataclass(frozen=True)
class Reading:
    """How a claim is measured on released files.

    files: those that it needs, by the model that they are about. compared: the metric for comparing two models, if it is not that
    of runs. same_list: are these the source's own outcomes, while a run has other problems?
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
    pairs, that it uses. compared: the metric of the sound protocol to compare two models. answers: what those of its problems
    must be. with_partner: measured on two models, and recorded with the weights of both. reading: how it is measured on released
    files, if possible. runs: can it be measured on a model, or only on released files? models: those that it is about, () for
    all. unreleased: what nobody released, so that it cannot be judged without weights.
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
    answers: Literal["numbers", "words", "either"] = "numbers"
    with_partner: bool = False
    reading: Reading | None = field(default=None, repr=False)
    runs: bool = True
    models: tuple[str, ...] = ()
    unreleased: str = ""

    def files(self, model: str) -> tuple[ReleasedFile, ...]:
        """The released files on which it is measured for that model; () if there are none."""
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
        """The suite: `study`, `questions` or `literature`, by the folder of its module."""
        room = self.function.__module__.removeprefix("codi_bench.claims.").partition(".")[0]
        return {"first_study": STUDY, "open_questions": "questions"}.get(room, "literature")

    def reported(self, bench: Bench) -> list[Measured]:
        """Only the numbers of the reported protocol."""
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

    Raises ValueError, at import, for a second claim of that id, an unknown family or kind, a family whose budget is used up, or a
    function without a docstring.
    """

    def register(function: Function) -> Function:
        sentence = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        budget = FAMILIES[family].budget if family in FAMILIES else None
        problems = {
            "a claim with this id exists already": id in CLAIMS,
            f"there is no family '{family}'": family not in FAMILIES,
            f"there is no kind '{kind}'": kind not in KINDS,
            "its function needs a docstring, which is the claim's sentence": not sentence,
            f"the budget of the family '{family}', {budget} claims, is used up": budget is not None
            and sum(other.family == family for other in CLAIMS.values()) >= budget,
        }
        for problem, holds in problems.items():
            if holds:
                raise ValueError(f"claim '{id}': {problem}")
        reading = Reading(files, protocol, sound, function) if files else None
        CLAIMS[id] = Claim(id, family, kind, sentence, source, n, protocol, sound, function, reading=reading, **more)
        return function

    return register
