"""The problems on which a model is measured: generated ones, or those of a set or a file, and related ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from codi_bench.claims.claim import Claim
from codi_bench.errors import MeasureError, MissingProblemsError, ProblemError
from codi_bench.problems import Problem, generate, load_problems, problems_hash
from codi_bench.problems.answers import in_words
from codi_bench.problems.files import ELSEWHERE, is_gsm8k_test
from codi_bench.problems.generator import DIGITS, EVERYTHING, Limits
from codi_bench.problems.out_of_distribution import distracted, renumbered
from codi_bench.problems.pairs import Pair, pairs, random_donors

GENERATED_SEED, REFERENCE_SEED = 0, 1
NUM_REFERENCES, FEWEST_REFERENCES = 200, 50
NUM_DONORS = NUM_ODD = 400


@dataclass(frozen=True)
class ProblemSource:
    """Test problems in order, related problems, and problems that are not scored.

    given: problems of a real set or a file; by default they are generated. n: limit of scored problems (`--n`). others: sets
    given in addition to GSM8K, by name. seed: of generated problems.
    """

    given: tuple[Problem, ...] = field(default=(), repr=False)
    n: int | None = None
    others: Mapping[str, Sequence[Problem]] = field(default_factory=dict, repr=False)
    seed: int = GENERATED_SEED

    @cached_property
    def hash(self) -> str:
        """The identity of the problem set: a hash of its first thousand problems (the generator's code is hashed elsewhere)."""
        return problems_hash(self.given[:1000] or generate(min(1000, self.n or 1000), seed=self.seed))

    @cached_property
    def on_gsm8k(self) -> bool:
        """Is this the problem list of the published numbers?"""
        return is_gsm8k_test(self.given)

    @property
    def limits(self) -> Limits:
        """Limits for generated pairs: values and chains as in given problems that were generated."""
        small = self.given and all(p.template and DIGITS.allow(p) for p in self.given)
        return DIGITS if small else EVERYTHING

    def first(self, n: int, variants: int = 1) -> list[Problem]:
        """The first n test problems (`variants` tellings each); raises ProblemError if a given file has fewer."""
        n = min(n, self.n or n)
        if not self.given:
            return generate(n, seed=self.seed, split="test", variants=variants)
        if len(self.given) < n:
            raise ProblemError(
                f"this claim's protocol needs {n} problems, but the file has {len(self.given)}; "
                f"give more, or --n {len(self.given)}"
            )
        return list(self.given[:n])

    def sample(self, n: int, *, edited: bool = False) -> list[Problem]:
        """n generated test problems, or all given ones; edited: without the last ones if these provide means and donors."""
        if not self.given:
            return self.first(n)
        scored = len(self.given) - (NUM_REFERENCES if edited and not self._train else 0)
        return list(self.given[: min(max(scored, 0), self.n or scored)])

    def pairs(self, n: int, *, step: int) -> list[Pair]:
        """n generated minimal pairs about `step` (1 is the first); raises ProblemError if there are too few."""
        return _pairs(min(n, self.n or n), step, self.seed, self.limits)

    def donors(self, pairs: Sequence[Pair], *, seed: int) -> list[Problem]:
        """For each pair, a random unrelated training problem of similar length."""
        return random_donors(list(pairs), generate(NUM_DONORS, seed=REFERENCE_SEED, split="train", limits=self.limits), seed=seed)

    def elsewhere(self) -> dict[str, list[Problem]]:
        """Problems out of distribution, by the name of their set.

        For GSM8K: all of SVAMP, GSM-Hard and MultiArith. For generated problems: some told or numbered as none in training.
        Raises MissingProblemsError if they cannot be fetched, MeasureError for other problem sets.
        """
        if not self.given:
            makers = {"distracted": distracted, "renumbered": renumbered}
            return {name: make(min(NUM_ODD, self.n or NUM_ODD), seed=self.seed) for name, make in makers.items()}
        if not self.on_gsm8k:
            raise MeasureError(
                "this claim needs problems out of distribution, which exist only for GSM8K and for generated problems"
            )
        # The hub and the files keep a set in different orders, and outcomes are compared problem by problem.
        sets = {name: sorted(self.others.get(name) or load_problems(name), key=lambda p: p.question) for name in ELSEWHERE}
        return {name: problems[: self.n or len(problems)] for name, problems in sets.items()}

    @cached_property
    def _train(self) -> list[Problem]:
        """GSM8K's train split, if the given problems are its test split and it can be fetched."""
        with suppress(MissingProblemsError):
            return load_problems("gsm8k", split="train") if self.on_gsm8k else []
        return []

    def references(self, scored: Sequence[Problem], most: int = NUM_REFERENCES) -> tuple[list[Problem], str]:
        """Up to `most` problems for means and donors, none of a scored group, and their source in words.

        Training problems for the generated set, and for GSM8K if its train split can be fetched; else the first given problems
        that are not scored. Raises ProblemError if these are too few.
        """
        if not self.given:
            problems = generate(most, seed=REFERENCE_SEED, split="train")
            return problems, f"{len(problems)} generated training problems"
        groups = {p.group for p in scored}
        if self._train:
            train = [p for p in self._train if p.group not in groups][:most]
            return train, f"{len(train)} problems of GSM8K's train split"
        rest = [p for p in self.given[len(scored) :] if p.group not in groups]
        if len(rest) < FEWEST_REFERENCES:
            raise ProblemError(
                f"means and donors need at least {FEWEST_REFERENCES} problems that are not scored, but after the first "
                f"{len(scored)} the file has only {len(rest)} of other groups; give more problems, or a smaller --n"
            )
        return rest[:most], f"{len(rest[:most])} given problems that are not scored"


def check_answers(claim: Claim, problems: object) -> None:
    """Raises MeasureError if a claim needs answers of another kind than those of given problems.

    Otherwise words would count as wrong numbers, and a claim that nothing is lost would hold of a model that was asked nothing.
    """
    given = problems.given if isinstance(problems, ProblemSource) else ()
    worded = in_words(problem.answer for problem in given[:1])
    if claim.answers == "numbers" and worded:
        raise MeasureError("not applicable: this claim is about numbers, and the answers of these problems are words")
    if claim.answers == "words" and not worded and isinstance(problems, ProblemSource):
        raise MeasureError(
            "not applicable: this claim is about answers in words, and these are numbers; give --problems prosqa=FILE or "
            "prontoqa=FILE, and a model for them"
        )


@lru_cache(maxsize=16)
def _pairs(n: int, step: int, seed: int, limits: Limits) -> list[Pair]:
    """Find pairs, cached: this takes a while, and several claims use the same ones."""
    return pairs(n, step=step, seed=seed, limits=limits)
