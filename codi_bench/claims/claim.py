"""What a claim is, and what it may ask of the bench that measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from codi_bench.audits.patching import PatchOutcomes
from codi_bench.models.edits import Edit, Patch
from codi_bench.problems import Problem
from codi_bench.problems.generator import Limits
from codi_bench.problems.pairs import Pair
from codi_bench.rules.intervals import Ranked
from codi_bench.rules.validity import Verdict
from codi_bench.thoughts.decoded import Decoded
from codi_bench.thoughts.record import Answers

T = TypeVar("T")
ZERO, NORMAL = "zero", "normal"  # what may be fed in the place of a thought
OWN = "own"  # the run to which nothing is done


@dataclass(frozen=True)
class Captured:
    """Problems, hidden states [n, 1 + K, L + 1, d] of the thoughts about them, answers, and whether each was right (bool [n]).

    The hidden states are what the store holds: half precision, mapped from a file, so take what you need and then compute.
    """

    problems: list[Problem]
    hidden_states: np.ndarray
    answers: Answers
    right: np.ndarray

    def cells(self, rows, places: int, layers: Sequence[int]) -> np.ndarray:
        """What probes read of the chosen rows: float32 [n, layers x places, d], the first places of each layer in turn."""
        states = self.hidden_states[rows][:, :places, list(layers)].astype(np.float32)  # [n, places, layers, d]
        return states.transpose(0, 2, 1, 3).reshape(len(states), -1, states.shape[-1])


@dataclass(frozen=True)
class Effects:
    """What conditions do to n problems: right bool, log_probability and said float64, all [conditions, n].

    log_probability: natural, of the sentence with the gold answer and eos, teacher forced. reference: where means and donors
    come from, in words, "" where none are needed. said: the number that was answered, NaN where none was.
    """

    right: np.ndarray
    log_probability: np.ndarray
    reference: str
    said: np.ndarray


class Bench(Protocol):
    """One model with its problems. What it computes it computes once.

    seed: added to every seed of a measure (folds, samples, SAE, draws): 0 but where their noise is measured.
    """

    name: str
    architecture: str
    seed: int
    layers: tuple[int, ...]
    sae_layers: tuple[int, ...]
    num_latents: int
    permutations: int
    device: str

    @property
    def partner(self) -> Bench:
        """The bench of the model that this one is compared with; raises MeasureError where there is none."""

    def captured(self, n: int, *, num_latents: int, variants: int = 1) -> Captured:
        """The first n test problems (`variants` tellings each), thought about with num_latents thoughts and answered."""

    def right_under(self, n: int, conditions: Sequence[Sequence[Edit]], *, num_latents: int) -> np.ndarray:
        """Right or wrong on the first n test problems under each condition, bool [conditions, n]."""

    def effects(
        self,
        n: int,
        conditions: Sequence[Sequence[Edit]],
        *,
        num_latents: int,
        reference_n: int = 200,
        scoring: str = "published",
        seed: int = 0,
    ) -> Effects:
        """Right or wrong, and the log-probability of the gold answer, on the first n test problems under each condition.

        Means and donors are those of up to reference_n training problems, or of problems that are not scored. A condition that
        is given again draws other donors and other noise; no condition changes the numbers of another. Raises ProblemError where
        there are too few problems to take means and donors from.
        """

    @property
    def limits(self) -> Limits:
        """How large the values of generated problems beside the given ones may be."""

    def pairs(self, n: int, *, step: int) -> list[Pair]:
        """n generated minimal pairs about `step` (1 is the first); raises ProblemError where there are too few."""

    def patched(
        self,
        n: int,
        patches: Sequence[Patch],
        *,
        step: int,
        seed: int = 0,
        vectors: Mapping[str, np.ndarray] | None = None,
    ) -> PatchOutcomes:
        """What becomes of the answers to the first n pairs under each patch.

        Its sources are the donor, the same value, and a random donor among training problems; vectors: latents to be fed by name,
        float32 [n, K, d].
        """

    def latents(self, problems: Sequence[Problem]) -> np.ndarray:
        """z_0..z_K of thoughts about some problems, float32 [n, K + 1, d]."""

    def untrained_thoughts(self, problems: Sequence[Problem], *, seed: int) -> np.ndarray:
        """What the same architecture with fresh weights thinks, float32 [n, K, d] after the final norm."""

    def early(self, n: int) -> np.ndarray:
        """Right or wrong on the first n test problems after k latents, bool [K + 1, n]."""

    def lens(self, problems: Sequence[Problem], hidden_states: np.ndarray, words: Sequence[Sequence[str]]) -> np.ndarray:
        """How many ids the head puts before each problem's m words, int32 [n, places, L + 2, m], -1 where one takes several."""

    def problems(self, n: int) -> list[Problem]:
        """The first n test problems; raises ProblemError if a given file has fewer."""

    def elsewhere(self) -> dict[str, list[Problem]]:
        """Problems out of distribution, by the name of their set.

        SVAMP, GSM-Hard and MultiArith whole beside GSM8K; beside generated problems those that are told or numbered as none of
        training.

        Raises MissingProblemsError where they cannot be had, MeasureError beside other problems.
        """

    def answered(self, problems: Sequence[Problem], *, padding: str) -> np.ndarray:
        """Right or wrong, bool [n], answered in batches of 128 in their order.

        padding: `masked`, where batches make no difference, or `unmasked-padding`. Right as published: numbers agree as floats.
        """

    def explained(self, problems: Sequence[Problem]) -> np.ndarray:
        """Right or wrong, bool [n], where the teacher explains in words; right as published."""

    def said(self, problems: Sequence[Problem], latents: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The number said, float64 [n], NaN where none: OWN, and with latents [n, K, d] by name fed instead of the own ones."""

    def discretised(self, n: int, places: Sequence[int]) -> np.ndarray:
        """Right or wrong on the first n test problems, bool [n], with words in place of thoughts; right as published.

        The latents at some positions are the projected embedding of the word that the head reads there.
        """

    def refed(self, n: int, arrangements: Sequence[Sequence[int | str]], *, seed: int = 0) -> np.ndarray:
        """Right or wrong on the first n test problems, bool [arrangements, n], where their own thoughts are fed in another order.

        An arrangement is what is fed one after the other, before eot: the latent of a position, ZERO, or NORMAL (from N(0, 1)).
        """

    @property
    def decoded(self) -> Decoded:
        """What the head reads first behind bot and every latent, of the problems that are answered rightly."""

    def facts(self) -> dict[str, int]:
        """parameters (of the backbone, as sources count them: without CODI's projection), layers, width."""

    def kept(self, kind: type[T], function: Callable[..., T], /, *given, **settings) -> T:
        """`function(*given, **settings)`, where it is long and depends on nothing else: computed once for equal arguments.

        kind: what it gives: np.ndarray, or the class of a flat record of arrays and numbers.
        """

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """`compute()` the first time a claim asks for that name, the same value ever after."""


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
    def of(cls, draws, p: float | None = None) -> Null:
        """The null that draws [n] make."""
        draws = np.asarray(draws, float)
        low, high = np.quantile(draws, [0.025, 0.975])
        quantiles = np.quantile(draws, np.linspace(0, 1, 21))
        return cls(float(draws.mean()), float(low), float(high), p, tuple(quantiles.tolist()))


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
    cell: dict | None = None
    outcomes: np.ndarray | None = None
    ranked: Ranked | None = None
    detail: dict = field(default_factory=dict)
    null: Null | None = None
    nominal: float | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Claim:
    """A reported claim: its sentence and source, both protocols in words, and the measurements that make its metrics.

    kind: value, exists, location, none, even, order or fact (docs/verdicts.md, section 1).
    sound: the same metrics (and further ones) measured as
    they should have been, with verdicts; `reported` are the published values of these metrics, as fractions or points, where the
    model is the source's own. compared: the metric, soundly measured, by which two models are compared. slow: measured under
    `-m slow` alone. with_partner: measured on two models, and recorded with the weights of both. on_logs:
    measured on what was decoded alone, so that a released log is enough.
    """

    id: str
    family: str
    kind: str
    sentence: str
    source: str
    protocol: str
    measure: Callable[[Bench], list[Measured]]
    sound_protocol: str
    sound: Callable[[Bench, Mapping[str, float]], list[Measured]]
    seeds: dict[str, int] = field(default_factory=dict)
    compared: str | None = None
    slow: bool = False
    with_partner: bool = False
    on_logs: bool = False
