"""The bench of one model: it answers problems under conditions, and stores everything that it computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version

import numpy as np
import torch

from codi_bench.claims import runs
from codi_bench.claims.claim import DEFAULT_PERMUTATIONS, Outcomes, T
from codi_bench.errors import MeasureError
from codi_bench.models import answering, cue
from codi_bench.models.adapter import load_adapter
from codi_bench.models.checkpoint import load_folder
from codi_bench.models.codi import Codi
from codi_bench.models.conditions import CLEAN, UNMASKED, Condition, Edited, edits_of
from codi_bench.models.edits import Reference, needs_reference, replacements
from codi_bench.models.model import Model
from codi_bench.models.objective import encode_examples
from codi_bench.models.patching import answer_patched
from codi_bench.models.published import load_published
from codi_bench.problems import Problem, problems_hash
from codi_bench.rules import stats
from codi_bench.store.cache import Store, pack_answers, unpack_answers
from codi_bench.store.code import code_hash
from codi_bench.store.memo import digest, pack, unpack
from codi_bench.suite.environment import environment
from codi_bench.suite.problem_source import ProblemSource
from codi_bench.thoughts.decoded import Decoded

PUBLISHED_BATCH = 128  # problems, of the published evaluation
LOADERS = (load_folder, load_published, load_adapter)
ANSWERING = (Codi, answer_patched, answering, cue)  # and the kinds of runs in it
DRAWING = (encode_examples, replacements, stats.stream)  # the gold sentence, and what is drawn
LIBRARIES = ("torch", "transformers", "numpy", "scipy", "scikit-learn")  # that compute what is stored


@dataclass(frozen=True, eq=False)
class ModelBench:
    """A `claims.Bench` over a loaded model.

    seed: added to every seed of a measure; turned: one problem whose clean answer counts as wrong although it is right, or the
    other way round. `codi-bench baselines calibrate` sets both to measure noise. other: the bench of the model that this one is
    compared with. memo: results that claims share within a run.
    """

    model: Model
    store: Store
    problems: ProblemSource = field(default_factory=ProblemSource)
    batch_size: int = 64
    max_new_tokens: int = 256
    permutations: int = DEFAULT_PERMUTATIONS
    seed: int = 0
    turned: int | None = None
    other: Callable[[], ModelBench] | None = field(default=None, repr=False)
    memo: dict = field(default_factory=dict, repr=False)

    def __post_init__(self):
        _ = self.model.layers  # a model too shallow for the suite is refused before anything runs

    @property
    def partner(self) -> ModelBench:
        if self.other is None:
            raise MeasureError(f"{self.model.name} has no model to be compared with: give a second one, --model NAME=FOLDER")
        return self.other()

    @cached_property
    def speed(self) -> float:
        """Problems per second, thoughts and answers, measured on the second of two equal batches."""
        questions = [problem.question for problem in self.problems.first(self.batch_size)]
        for _ in range(2):
            start = time.perf_counter()
            self.model.answers(questions, [CLEAN], batch_size=self.batch_size, max_new_tokens=self.max_new_tokens)
            seconds = time.perf_counter() - start
        return len(questions) / seconds

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
        problems = tuple(problems)
        latents = self.model.num_latents if num_latents is None else num_latents
        references, source = list[Problem](), ""
        if any(map(needs_reference, edits_of(conditions))):
            references, source = self.problems.references(problems)
        inner = self.model.codi
        shape = (len(problems), 1 + latents, inner.num_layers + 1, inner.width) if hidden_states else None
        unmasked = any(isinstance(condition, Edited) and condition.padding == UNMASKED for condition in conditions)
        key = {
            "what": "answers",
            "weights": self.model.fingerprint,
            "problems": problems_hash(problems),
            "num_latents": latents,
            "conditions": digest(list(conditions), {}),
            "hidden_states": hidden_states,
            "log_probability": log_probability,
            "reference": problems_hash(references),
            "seed": seed,
            "max_new_tokens": self.max_new_tokens,  # batch size is no part of it: results do not depend on it
            "environment": self._environment(),
            "code": code_hash(*ANSWERING, *LOADERS, *DRAWING),
        }

        def compute(states: np.ndarray | None = None) -> dict[str, np.ndarray]:
            log_probabilities = np.empty((len(conditions), len(problems))) if log_probability else None
            confidence = np.empty((len(problems), 2), np.float32)
            answers = self.model.answers(
                [p.question for p in problems],
                conditions,
                reference=self._reference(references, latents),
                golds=[p.answer for p in problems],
                groups=[p.group for p in problems],
                num_latents=latents,
                batch_size=PUBLISHED_BATCH if unmasked else self.batch_size,
                max_new_tokens=self.max_new_tokens,
                seed=seed,
                hidden_states=states,
                confidence=confidence,
                log_probabilities=log_probabilities,
            )
            arrays = {f"{c}.{name}": array for c, part in enumerate(answers) for name, array in pack_answers(part).items()}
            if states is not None:
                arrays["confidence"] = confidence
            return arrays if log_probabilities is None else {**arrays, "log_probability": log_probabilities}

        if shape is None:
            arrays = self.store.fetch(key, compute)
        else:
            arrays = self.store.fetch_filled(key, "hidden_states", shape, compute)
        answers = [
            unpack_answers({name.split(".", 1)[1]: array for name, array in arrays.items() if name.startswith(f"{c}.")})
            for c in range(len(conditions))
        ]
        return Outcomes(
            problems,
            tuple(answers),
            arrays.get("hidden_states"),
            np.array(arrays["log_probability"]) if log_probability else None,
            source,
            self.turned if hidden_states else None,
            arrays.get("confidence"),
        )

    @property
    def decoded(self) -> Decoded:
        return runs.decoded(self)

    def cached(self, kind: type[T], function: Callable[..., T], /, *arguments, **settings) -> T:
        # Which of several equal GPUs computes it is no part of the key; what they are is in the environment.
        key_settings = settings | ({"device": settings["device"].partition(":")[0]} if "device" in settings else {})
        key = {
            "what": function.__name__,
            "weights": self.model.fingerprint,  # for people: the arguments hold what came of them
            "given": digest(arguments, key_settings),
            "environment": self._environment(),
            "code": code_hash(function),
        }
        return unpack(kind, self.store.fetch(key, lambda: pack(function(*arguments, **settings))))

    def _reference(self, problems: Sequence[Problem], num_latents: int) -> Reference | None:
        """The source of means and donors."""
        if not problems:
            return None
        questions, answers, groups = zip(*((p.question, p.answer, p.group) for p in problems))
        return self.model.reference(questions, answers, groups, num_latents=num_latents, batch_size=self.batch_size)

    def _environment(self) -> dict:
        """The hardware and threads, if they change the last bits of a result: wide layers split their sums over threads."""
        own = environment(self.model.device, self.model.dtype).model_dump()
        return {**own, **{name: version(name) for name in LIBRARIES}, "threads": torch.get_num_threads()}
