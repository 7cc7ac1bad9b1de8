"""The bench of one model: what claims may ask for, computed once and kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TypedDict, cast

import numpy as np
import torch

from codi_bench.audits.patching import DONOR, RANDOM, SAME, PatchOutcomes, check_known
from codi_bench.claims.claim import NORMAL, OWN, ZERO, Captured, Effects, T
from codi_bench.claims.seed_sound import DEFAULT_PERMUTATIONS, NUM_PROBLEMS
from codi_bench.errors import MeasureError, MissingProblemsError, ProblemError
from codi_bench.models import edits, loop, reading
from codi_bench.models.adapter import load_adapter
from codi_bench.models.checkpoint import load_folder
from codi_bench.models.codi import Codi
from codi_bench.models.discrete import answer_discretised
from codi_bench.models.edits import Edit, Patch, replacements
from codi_bench.models.loop import UNMASKED
from codi_bench.models.model import Model
from codi_bench.models.objective import encode_examples
from codi_bench.models.patching import answer_patched
from codi_bench.models.published import load_published
from codi_bench.problems import Problem, generate, load_problems, problems_hash, score
from codi_bench.problems.files import ELSEWHERE, is_gsm8k_test
from codi_bench.problems.generator import DIGITS, EVERYTHING, Limits
from codi_bench.problems.out_of_distribution import distracted, renumbered
from codi_bench.problems.pairs import Pair, pairs, random_donors
from codi_bench.problems.problem import parse_number
from codi_bench.rules import stats
from codi_bench.store.cache import Store, pack_answers, unpack_answers
from codi_bench.store.code import code_hash
from codi_bench.store.memo import digest, pack, unpack
from codi_bench.suite.environment import environment
from codi_bench.thoughts.decoded import Decoded
from codi_bench.thoughts.record import Answers

GENERATED_SEED, REFERENCE_SEED = 0, 1
FEWEST_REFERENCES = 50
NUM_DONORS = NUM_ODD = 400
PUBLISHED_BATCH = 128  # problems, of the published evaluation
NUM_WORDS = 5  # that are decoded at each place, as in the released log
LOADERS = (load_folder, load_published, load_adapter)
LIBRARIES = ("torch", "transformers", "numpy", "scipy", "scikit-learn")  # that compute what is stored


class Settings(TypedDict):
    """Of generation, but for what is generated."""

    batch_size: int
    max_new_tokens: int


class Once:
    """What is asked for by a name is computed the first time. seen: by name, what came of it."""

    seen: dict

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """`compute()` the first time a claim asks for that name; what it raised is raised again."""
        if name not in self.seen:
            try:
                self.seen[name] = (compute(), None)
            except (ValueError, RuntimeError) as error:
                self.seen[name] = (None, error)
        value, error = self.seen[name]  # type: ignore[misc]  # the exception of that name is gone by then
        if error is not None:
            raise error
        return value


@dataclass(frozen=True)
class ModelBench(Once):
    """A `claims.Bench` over a loaded model.

    given: problems of a real set or a file, used in order instead of generated ones; others: sets given beside GSM8K, by name.
    Scoring is the study's (integer parts agree). problem_seed, seed, turned: what `codi-bench baselines calibrate` changes to
    measure noise: which problems are generated, the seeds of the measures, and one problem whose answer is taken for right where
    it is wrong, or the other way.
    """

    model: Model
    store: Store
    given: tuple[Problem, ...] = ()
    n: int | None = None
    batch_size: int = 64
    max_new_tokens: int = 256
    permutations: int = DEFAULT_PERMUTATIONS
    problem_seed: int = GENERATED_SEED
    seed: int = 0
    turned: int | None = None
    others: Mapping[str, Sequence[Problem]] = field(default_factory=dict, repr=False)
    other: Callable[[], ModelBench] | None = field(default=None, repr=False)  # of the model that this one is compared with
    seen: dict = field(default_factory=dict, repr=False)  # results of `once`

    def __post_init__(self):
        _ = self.layers  # a model too shallow for the suite is refused before anything runs

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def architecture(self) -> str:
        return self.model.entry.architecture

    @property
    def partner(self) -> ModelBench:
        if self.other is None:
            raise MeasureError(f"{self.name} is compared with no other model: give a second one, --model NAME=FOLDER")
        return self.once("partner", self.other)

    @property
    def layers(self) -> tuple[int, ...]:
        return self.model.entry.probed

    @property
    def sae_layers(self) -> tuple[int, ...]:
        return self.model.entry.sae_layers

    @property
    def num_latents(self) -> int:
        return self.model.num_latents

    @property
    def device(self) -> str:
        return self.model.device

    @property
    def problems_hash(self) -> str:
        """Names the problem set: its first thousand problems (the generator's code, which makes the rest, is hashed too)."""
        return self.once(
            "problems hash",
            lambda: problems_hash(self.given[:1000] or generate(min(1000, self.n or 1000), seed=self.problem_seed)),
        )

    @property
    def on_gsm8k(self) -> bool:
        """Is this the list of problems that published numbers are about?"""
        return self.once("on gsm8k", lambda: is_gsm8k_test(self.given))

    def problems(self, n: int, variants: int = 1) -> list[Problem]:
        """The first n test problems; raises ProblemError if a given file has fewer."""
        n = min(n, self.n or n)
        if not self.given:
            return generate(n, seed=self.problem_seed, split="test", variants=variants)
        if len(self.given) < n:
            raise ProblemError(
                f"this claim's protocol takes {n} problems and the file has {len(self.given)}; "
                f"give more, or --n {len(self.given)}"
            )
        return list(self.given[:n])

    def captured(self, n: int, *, num_latents: int, variants: int = 1) -> Captured:
        def compute():
            problems = self.problems(n, variants)
            questions = [p.question for p in problems]
            inner = self.model.codi
            shape = (len(problems), 1 + num_latents, inner.num_layers + 1, inner.width)

            def fill(hidden_states: np.ndarray) -> dict[str, np.ndarray]:
                (answers,) = self.model.answer_conditions(
                    questions,
                    [[]],
                    num_latents=num_latents,
                    batch_size=self.batch_size,
                    max_new_tokens=self.max_new_tokens,
                    hidden_states=hidden_states,
                )
                return pack_answers(answers)

            arrays = self.store.fetch_filled(self._key("think", problems, num_latents), "hidden_states", shape, fill)
            answers = unpack_answers(arrays)
            right = _scores(answers.texts, problems)
            if self.turned is not None:
                right[self.turned] ^= True
            return Captured(problems, arrays["hidden_states"], answers, right)

        return self.once(f"captured {n} {num_latents} {variants}", compute)

    def right_under(self, n: int, conditions: Sequence[Sequence[Edit]], *, num_latents: int) -> np.ndarray:
        problems = self.problems(n)
        questions = [p.question for p in problems]

        def compute():
            answers = self.model.answer_conditions(
                questions, conditions, num_latents=num_latents, batch_size=self.batch_size, max_new_tokens=self.max_new_tokens
            )
            return _as_arrays(answers)

        key = self._key("answer", problems, num_latents, conditions=[[str(e) for e in c] for c in conditions])
        arrays = self.store.fetch(key, compute)
        return _right(arrays, len(conditions), problems, "study")

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
        problems = self.problems(n)
        references, source = self.references(n, reference_n) if any(map(edits.needs_reference, conditions)) else ([], "")

        def compute():
            log_probabilities = np.empty((len(conditions), len(problems)))
            answers = self.model.answer_conditions(
                [p.question for p in problems],
                conditions,
                reference=self._reference(references, num_latents) if references else None,
                answers=[p.answer for p in problems],
                groups=[p.group for p in problems],
                num_latents=num_latents,
                batch_size=self.batch_size,
                max_new_tokens=self.max_new_tokens,
                seed=seed,
                log_probabilities=log_probabilities,
            )
            return {**_as_arrays(answers), "log_probability": log_probabilities}

        key = self._key(
            "effects",
            problems,
            num_latents,
            conditions=[[str(e) for e in c] for c in conditions],
            reference=problems_hash(references),
            seed=seed,
            drawing=code_hash(encode_examples, replacements, stats.stream),  # the gold sentence, and what is drawn
        )
        arrays = self.store.fetch(key, compute)
        numbers = np.array([_numbers(texts) for texts in _texts(arrays)])
        return Effects(_right(arrays, len(conditions), problems, scoring), np.array(arrays["log_probability"]), source, numbers)

    def pairs(self, n: int, *, step: int) -> list[Pair]:
        n = min(n, self.n or n)
        return self.once(f"pairs {n} {step}", lambda: pairs(n, step=step, seed=self.problem_seed, limits=self.limits))

    @property
    def limits(self) -> Limits:
        """Generated pairs have no larger values and no longer chains than generated problems that are given."""
        small = self.given and all(p.template and DIGITS.allow(p) for p in self.given)
        return DIGITS if small else EVERYTHING

    def patched(
        self,
        n: int,
        patches: Sequence[Patch],
        *,
        step: int,
        seed: int = 0,
        vectors: Mapping[str, np.ndarray] | None = None,
    ) -> PatchOutcomes:
        pairs, known = self.pairs(n, step=step), self._known(n, step)
        check_known(known)
        rows = np.flatnonzero(known)
        pool = generate(NUM_DONORS, seed=REFERENCE_SEED, split="train", limits=self.limits)
        donors = random_donors(pairs, pool, seed=seed)
        sources = {name: [getattr(pairs[i], name) for i in rows] for name in (DONOR, SAME)} | {RANDOM: [donors[i] for i in rows]}
        recipients, counterfactual = ([getattr(pairs[i], name) for i in rows] for name in ("recipient", DONOR))
        vectors = {name: array[rows] for name, array in (vectors or {}).items()}

        def compute():
            clean, under_patches = self.model.answer_patched(
                [p.question for p in recipients],
                {name: [p.question for p in problems] for name, problems in sources.items()},
                patches,
                vectors=vectors,
                batch_size=self.batch_size,
                max_new_tokens=self.max_new_tokens,
                seed=seed,
            )
            return _as_arrays([clean, *under_patches])

        key = self._key(
            "patched",
            recipients,
            self.num_latents,
            patches=list(map(str, patches)),
            sources={name: problems_hash(problems) for name, problems in sources.items()},
            seed=seed,
            vectors=digest((), vectors),
            patching=code_hash(answer_patched),
        )
        arrays = self.store.fetch(key, compute)
        clean, *under_patches = _texts(arrays)
        outcomes = np.zeros((3, len(patches), len(pairs)), bool)  # what is not known is not patched, and counts nowhere
        for c, texts in enumerate(under_patches):
            outcomes[0, c, rows] = _scores(texts, counterfactual)
            outcomes[1, c, rows] = _scores(texts, recipients)
            outcomes[2, c, rows] = [text != clean_text for text, clean_text in zip(texts, clean)]
        return PatchOutcomes(tuple(patches), known, *outcomes)

    def _known(self, n: int, step: int) -> np.ndarray:
        """Are all three problems of a pair answered rightly without a patch? bool [n]."""
        pairs = self.pairs(n, step=step)
        sides = [[getattr(pair, name) for pair in pairs] for name in ("recipient", DONOR, SAME)]

        def compute():
            settings: Settings = {"batch_size": self.batch_size, "max_new_tokens": self.max_new_tokens}
            return _as_arrays([self.model.answer([p.question for p in problems], **settings) for problems in sides])

        hashes = [problems_hash(problems) for problems in sides]
        arrays = self.store.fetch(self._key("pairs", sides[0], self.num_latents, sides=hashes), compute)
        return np.all([_scores(_answers(arrays, c).texts, problems) for c, problems in enumerate(sides)], axis=0)

    def answered(self, problems: Sequence[Problem], *, padding: str) -> np.ndarray:
        problems = list(problems)

        def compute():
            questions = [p.question for p in problems]
            size = PUBLISHED_BATCH if padding == UNMASKED else self.batch_size
            return _as_arrays(
                [self.model.answer(questions, batch_size=size, max_new_tokens=self.max_new_tokens, protocol=padding)]
            )

        key = self._key("answered", problems, self.num_latents) | {"padding": padding}
        return _right(self.store.fetch(key, compute), 1, problems, "published")[0]

    def explained(self, problems: Sequence[Problem]) -> np.ndarray:
        problems = list(problems)

        def compute():
            questions = [p.question for p in problems]
            return _as_arrays([self.model.explain(questions, batch_size=self.batch_size, max_new_tokens=self.max_new_tokens)])

        return _right(self.store.fetch(self._key("explained", problems, 0), compute), 1, problems, "published")[0]

    def elsewhere(self) -> dict[str, list[Problem]]:
        if not self.given:
            makers = {"distracted": distracted, "renumbered": renumbered}
            return {name: make(min(NUM_ODD, self.n or NUM_ODD), seed=self.problem_seed) for name, make in makers.items()}
        if not self.on_gsm8k:
            raise MeasureError(
                "what is out of distribution beside these problems is not known: it is beside GSM8K and generated ones"
            )
        # The hub and the files keep a set in different orders, and outcomes are compared problem by problem.
        sets = {name: sorted(self.others.get(name) or load_problems(name), key=lambda p: p.question) for name in ELSEWHERE}
        return {name: problems[: self.n or len(problems)] for name, problems in sets.items()}

    def said(self, problems: Sequence[Problem], latents: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        problems, names = list(problems), list(latents)

        def compute():
            clean, under_patches = self.model.answer_patched(
                [p.question for p in problems],
                {},
                [Patch(name, tuple(range(self.num_latents))) for name in names],
                vectors=dict(latents),
                batch_size=self.batch_size,
                max_new_tokens=self.max_new_tokens,
            )
            return _as_arrays([clean, *under_patches])

        key = self._key(
            "said",
            problems,
            self.num_latents,
            latents=digest(tuple(names), dict(latents)),
            patching=code_hash(answer_patched),
        )
        return {name: _numbers(texts) for name, texts in zip((OWN, *names), _texts(self.store.fetch(key, compute)), strict=True)}

    def discretised(self, n: int, places: Sequence[int]) -> np.ndarray:
        problems = self.problems(n)

        def compute():
            questions = [p.question for p in problems]
            settings: Settings = {"batch_size": self.batch_size, "max_new_tokens": self.max_new_tokens}
            return _as_arrays([answer_discretised(self.model.codi, questions, places, **settings)])

        key = self._key("discretised", problems, self.num_latents, places=list(places), rule=code_hash(answer_discretised))
        return _right(self.store.fetch(key, compute), 1, problems, "published")[0]

    def refed(self, n: int, arrangements: Sequence[Sequence[int | str]], *, seed: int = 0) -> np.ndarray:
        problems = self.problems(n)
        latents = self.latents(problems)

        def thoughts(arrangement: Sequence[int | str]) -> np.ndarray:
            draws = iter(
                stats.stream(seed, "refed", *map(str, arrangement)).standard_normal((len(arrangement), *latents[:, 0].shape))
            )
            sources = {ZERO: lambda: np.zeros_like(latents[:, 0]), NORMAL: lambda: next(draws).astype(np.float32)}
            return np.stack(
                [sources[place]() if place in sources else latents[:, cast(int, place)] for place in arrangement], axis=1
            )

        def compute():
            by_index: dict[int, Answers] = {}
            for length in sorted({len(arrangement) for arrangement in arrangements}):
                indices = [i for i, arrangement in enumerate(arrangements) if len(arrangement) == length]
                _, answers = self.model.answer_patched(
                    [p.question for p in problems],
                    {},
                    [Patch(str(i), tuple(range(length))) for i in indices],
                    vectors={str(i): thoughts(arrangements[i]) for i in indices},
                    num_latents=length,
                    batch_size=self.batch_size,
                    max_new_tokens=self.max_new_tokens,
                )
                by_index |= dict(zip(indices, answers, strict=True))
            return _as_arrays([by_index[i] for i in range(len(arrangements))])

        key = self._key(
            "refed",
            problems,
            self.num_latents,
            arrangements=[list(arrangement) for arrangement in arrangements],
            seed=seed,
            patching=code_hash(answer_patched),
        )
        return _right(self.store.fetch(key, compute), len(arrangements), problems, "study")

    def latents(self, problems: Sequence[Problem]) -> np.ndarray:
        problems = list(problems)

        def compute():
            return {"latents": self._reference(problems, self.num_latents).latents}

        return np.array(self.store.fetch(self._key("latents", problems, self.num_latents), compute)["latents"])

    def untrained_thoughts(self, problems: Sequence[Problem], *, seed: int) -> np.ndarray:
        problems = list(problems)

        def compute():
            fresh = self.model.untrained(seed)
            states = fresh.think([p.question for p in problems], batch_size=self.batch_size).hidden_states
            assert states is not None
            return {"thoughts": np.ascontiguousarray(states[:, 1:, -1], np.float32)}

        key = self._key("untrained", problems, self.num_latents, seed=seed, drawn=code_hash(Model))
        return np.array(self.store.fetch(key, compute)["thoughts"])

    def early(self, n: int) -> np.ndarray:
        problems = self.problems(n)

        def compute():
            questions = [p.question for p in problems]
            return _as_arrays(self.model.answer_early(questions, batch_size=self.batch_size, max_new_tokens=self.max_new_tokens))

        key = self._key("early", problems, self.num_latents, reading=code_hash(reading))
        return _right(self.store.fetch(key, compute), self.num_latents + 1, problems, "study")

    def lens(self, problems: Sequence[Problem], hidden_states: np.ndarray, words: Sequence[Sequence[str]]) -> np.ndarray:
        def compute():
            return {"ranks": self.model.lens_ranks(hidden_states, words)}

        key = self._key(
            "lens", list(problems), self.num_latents, words=[list(group) for group in words], reading=code_hash(reading)
        )
        return np.array(self.store.fetch(key, compute)["ranks"])

    @property
    def decoded(self) -> Decoded:
        def compute():
            captured = self.captured(NUM_PROBLEMS, num_latents=self.num_latents)
            rows = np.flatnonzero(captured.right)
            if not len(rows):
                raise MeasureError(f"{self.name} answers none of {len(captured.right)} problems rightly: nothing can be decoded")
            words = self.model.lens_words(captured.hidden_states[rows, :, -1], count=NUM_WORDS)
            problems = tuple(captured.problems[i] for i in rows)
            return Decoded(problems, words, tuple(captured.answers.texts[i] for i in rows), len(captured.right))

        return self.once("decoded", compute)

    def kept(self, kind: type[T], function: Callable[..., T], /, *given, **settings) -> T:
        # Which of several equal GPUs computes it is no part of the key; what they are is in the environment.
        key_settings = settings | ({"device": settings["device"].partition(":")[0]} if "device" in settings else {})
        key = {
            "what": function.__name__,
            "weights": self.model.fingerprint,  # for people: the arguments hold what came of them
            "given": digest(given, key_settings),
            "environment": self._environment(),
            "code": code_hash(function),
        }
        return unpack(kind, self.store.fetch(key, lambda: pack(function(*given, **settings))))

    def references(self, n: int, most: int) -> tuple[list[Problem], str]:
        """Up to `most` problems for means and donors where the first n are scored, none of a scored group; and whence, in words.

        Training problems for the generated set, and for GSM8K where its train split is to be had; else the first of the given
        ones that are not scored. Raises ProblemError if these are too few.
        """

        def compute():
            if not self.given:
                return generate(most, seed=REFERENCE_SEED, split="train"), "generated training problems"
            scored_groups = {p.group for p in self.problems(n)}
            if self.on_gsm8k:
                try:
                    train = load_problems("gsm8k", split="train")
                    return [p for p in train if p.group not in scored_groups][:most], "problems of GSM8K's train split"
                except MissingProblemsError:
                    pass
            rest = [p for p in self.given[len(self.problems(n)) :] if p.group not in scored_groups]
            if len(rest) < FEWEST_REFERENCES:
                raise ProblemError(
                    f"means and donors come from {FEWEST_REFERENCES} or more problems that are not scored, and behind the first "
                    f"{len(self.problems(n))} the file has {len(rest)} of other groups; give more problems, or a smaller --n"
                )
            return rest[:most], "given problems that are not scored"

        problems, source = self.once(f"references {n} {most}", compute)
        return problems, f"{len(problems)} {source}"

    def _reference(self, problems: list[Problem], num_latents: int) -> edits.Reference:
        return self.model.reference(
            [p.question for p in problems],
            [p.answer for p in problems],
            [p.group for p in problems],
            num_latents=num_latents,
            batch_size=self.batch_size,
        )

    def facts(self) -> dict[str, int]:
        inner = self.model.codi
        backbone = sum(parameter.numel() for parameter in inner.backbone.parameters())
        return {"parameters": backbone, "layers": inner.num_layers, "width": inner.width}

    def _environment(self) -> dict:
        """What computes, as far as the last bits of a result may tell: wide layers split their sums over all threads."""
        own = environment(self.model.device, self.model.dtype).model_dump()
        return {**own, **{name: version(name) for name in LIBRARIES}, "threads": torch.get_num_threads()}

    def _key(self, what: str, problems: list[Problem], num_latents: int, **more) -> dict:
        """Everything the arrays depend on. Batch size is no part of it: results do not depend on it."""
        return {
            "what": what,
            "weights": self.model.fingerprint,
            "problems": problems_hash(problems),
            "num_latents": num_latents,
            "padding": "masked",
            "max_new_tokens": self.max_new_tokens,
            "environment": self._environment(),
            "code": code_hash(Codi, *LOADERS, loop.capture, loop.answer_conditions, loop.explain),
            **more,
        }


def _as_arrays(conditions: Sequence[Answers]) -> dict[str, np.ndarray]:
    """The answers under each condition as arrays of one entry of the store."""
    return {f"{c}.{name}": array for c, answers in enumerate(conditions) for name, array in pack_answers(answers).items()}


def _answers(arrays: dict[str, np.ndarray], c: int) -> Answers:
    """The answers under condition number c of an entry."""
    return unpack_answers({k.split(".", 1)[1]: v for k, v in arrays.items() if k.startswith(f"{c}.")})


def _texts(arrays: dict[str, np.ndarray]) -> list[tuple[str, ...]]:
    """The texts under every condition of an entry."""
    count = len({name.partition(".")[0] for name in arrays if "." in name})
    return [_answers(arrays, c).texts for c in range(count)]


def _numbers(texts: Sequence[str]) -> np.ndarray:
    """The number that each text gives, float64 [n], NaN where it gives none."""
    return np.array([parse_number(text) for text in texts], float)


def _scores(texts: Sequence[str], problems: Sequence[Problem], scoring: str = "study") -> np.ndarray:
    """Does each text give the answer of its problem? bool [n]."""
    return np.array([score(text, p.answer, scoring) for text, p in zip(texts, problems, strict=True)])


def _right(arrays: dict[str, np.ndarray], count: int, problems: list[Problem], scoring: str) -> np.ndarray:
    """Are the answers of an entry right under each of `count` conditions? bool [count, n]."""
    return np.array([_scores(_answers(arrays, c).texts, problems, scoring) for c in range(count)])
