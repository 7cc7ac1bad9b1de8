"""A loaded model: think, answer under conditions, explain."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from codi_bench.errors import InputError, arguments
from codi_bench.models import answering, cue, inputs, reading
from codi_bench.models.codi import Codi
from codi_bench.models.conditions import (
    CLEAN,
    IN_WORDS,
    MASKED,
    AtCue,
    Condition,
    Discretised,
    Edited,
    Fed,
    InWords,
    KeysMoved,
    Patched,
    Shortened,
    latents_of,
)
from codi_bench.models.edits import Edit, Reference, Replacement, draws, replacements
from codi_bench.models.objective import encode_examples
from codi_bench.models.patching import answer_patched, keys_and_values
from codi_bench.models.registry import ModelEntry
from codi_bench.problems import Problem
from codi_bench.rules.stats import stream
from codi_bench.thoughts.record import Answers, Thoughts

_ORDER = (Fed, Edited, Shortened, Discretised, AtCue, InWords)  # runs of patches answer the clean run too, so they come first


@dataclass(frozen=True)
class Model:
    """A loaded CODI model. Results depend neither on batch_size nor on the other problems of a batch."""

    codi: Codi
    entry: ModelEntry
    device: str
    dtype: str

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def num_latents(self) -> int:
        return self.codi.num_latents

    @property
    def layers(self) -> tuple[int, ...]:
        """The probed layers. Raises CheckpointError for a model with too few layers for the suite."""
        return self.entry.probed

    @property
    def sae_layers(self) -> tuple[int, ...]:
        return self.entry.sae_layers

    @property
    def num_layers(self) -> int:
        return self.codi.num_layers

    @property
    def width(self) -> int:
        return self.codi.width

    @property
    def num_parameters(self) -> int:
        """The parameters of the backbone, without CODI's projection, as sources count them."""
        return sum(parameter.numel() for parameter in self.codi.backbone.parameters())

    @property
    def identity(self) -> tuple[str, int]:
        """The key of its stored computations."""
        return self.fingerprint, self.num_latents

    @property
    def fingerprint(self) -> str:
        """sha256 of weights, configuration and tokenizer as they lie on disk."""
        return self.codi.fingerprint

    def think(
        self,
        questions: Sequence[str],
        *,
        num_latents: int | None = None,
        batch_size: int = 64,
        max_new_tokens: int | None = None,
        protocol: str = MASKED,
        progress: Callable[[int], object] = lambda count: None,
    ) -> Thoughts:
        """Capture every state of `num_latents` thoughts (default K); with max_new_tokens also answer, in the same pass.

        protocol: `masked`, or `unmasked-padding` as in the published evaluation, where batch_size and order change results.
        questions: a list, column, array or generator of texts. Raises ProblemError for an empty question, MeasureError for
        thoughts that are not finite, InputError for other invalid arguments, UnknownNameError for an unknown protocol.
        """
        tokens = 0 if max_new_tokens is None else max_new_tokens
        settings = inputs.settings(self.codi, num_latents, batch_size, tokens, protocol, progress)
        return answering.capture(self.codi, inputs.questions_of(questions), settings)

    def answer(
        self,
        questions: Sequence[str],
        *,
        edits: Sequence[Edit] = (),
        answers: Sequence[str] = (),
        protocol: str = MASKED,
        **settings: Any,
    ) -> Answers:
        """Greedy answers, under edits if any. answers (or golds): needed for resampling; settings: those of `answers`."""
        return self.answers(questions, [Edited(inputs.edits_of(edits), protocol)], **{"golds": answers} | settings)[0]

    def answers(
        self,
        questions: Sequence[str],
        conditions: Sequence[Condition],
        *,
        reference: Reference | None = None,
        golds: Sequence[str] = (),
        groups: Sequence[str] = (),
        num_latents: int | None = None,
        max_new_tokens: int = 256,
        batch_size: int = 64,
        seed: int = 0,
        hidden_states: np.ndarray | None = None,
        confidence: np.ndarray | None = None,
        log_probabilities: np.ndarray | None = None,
        progress: Callable[[int], object] = lambda count: None,
    ) -> list[Answers]:
        """Greedy answers under each condition. Conditions share computations where they can.

        golds, groups: the gold answer and the group of each question. A repeated edit gets a new draw.
        hidden_states: an array [n, 1 + K, L + 1, d] to fill with the clean run's, such as a memory-mapped file; confidence
        [n, 2]: an array for the confidence of its answers.
        log_probabilities: an array [conditions, n] to fill with the natural log-probability of the gold answer, in the sentence
        that CODI is trained to give, with eos; both for edits only. progress: called with the number of answered problems.
        Raises what `think` raises, EditError for an impossible condition (before anything runs), MeasureError for infinite
        log-probabilities, and InputError if resampling lacks golds and groups, or log-probabilities lack golds.
        """
        settings = inputs.settings(self.codi, num_latents, batch_size, max_new_tokens, MASKED, progress, fewest=1)
        questions, seed = inputs.questions_of(questions), arguments.seed(seed)
        n, latents, width = len(questions), settings.num_latents, self.codi.width
        golds, groups = inputs.beside("golds", golds, n), inputs.beside("groups", groups, n)
        conditions = inputs.conditions_of(conditions, n, latents, width)
        reference = inputs.reference_of(reference, latents, width)
        runs, results = dict[tuple, list[int]](), dict[int, Answers]()
        for i, condition in enumerate(conditions):
            runs.setdefault(_run_of(condition, latents), []).append(i)
        if any(run[0] != Edited for run in runs) and (hidden_states is not None or log_probabilities is not None):
            raise InputError("hidden states and log-probabilities exist only for clean and edited runs")
        hidden_states = inputs.array_to_fill("hidden_states", hidden_states, (n, 1 + latents, self.num_layers + 1, width))
        confidence = inputs.array_to_fill("confidence", confidence, (n, 2))
        log_probabilities = inputs.array_to_fill("log_probabilities", log_probabilities, (len(conditions), n))
        for (kind, *run), rows in sorted(runs.items(), key=lambda item: _ORDER.index(item[0][0])):
            rows = [i for i in rows if i not in results]
            members: list[Any] = [conditions[i] for i in rows]
            if not members:
                continue
            if kind is Fed:
                patch_settings = replace(settings, num_latents=run[0])
                clean, part = answer_patched(self.codi, questions, members, patch_settings, stream(seed, "patch"))
                if patch_settings == settings:  # the clean run is a part of it
                    results |= {i: clean for i, condition in enumerate(conditions) if condition == CLEAN}
            elif kind is Edited:
                if log_probabilities is not None and len(golds) != len(questions):
                    raise InputError("log-probabilities need the gold answer of every question")
                part = answering.answer_edited(
                    self.codi,
                    questions,
                    self._replacements([member.edits for member in members], n, latents, reference, golds, groups, seed),
                    replace(settings, padding=run[0]),
                    keep=None if hidden_states is None else Thoughts(hidden_states, confidence=confidence),
                    golds=None if log_probabilities is None else self._golds(questions, golds),
                    log_probabilities=log_probabilities,
                )
            elif kind is Shortened:
                part = answering.answer_early(self.codi, questions, [member.latents for member in members], settings)
            elif kind is Discretised:
                part = [answering.answer_discretised(self.codi, questions, member.places, settings) for member in members]
            elif kind is AtCue:
                part = cue.answer_at_cue(self.codi, questions, [member.move for member in members], settings)
            else:
                part = [answering.explain(self.codi, questions, settings)] * len(members)
            results |= dict(zip(rows, part, strict=True))
        return [results[i] for i in range(len(conditions))]

    def _replacements(
        self,
        conditions: Sequence[Sequence[Edit]],
        n: int,
        num_latents: int,
        reference: Reference | None,
        golds: Sequence[str],
        groups: Sequence[str],
        seed: int,
    ) -> list[dict[int | str, Replacement]]:
        """The inputs that each condition replaces, for n problems."""
        if any(edit.kind == "resample" for edits in conditions for edit in edits) and not len(golds) == len(groups) == n:
            raise InputError("resample needs the gold answer and the group of every question, to choose donors that differ")
        facts: dict[str, Any] = {"num_latents": num_latents, "width": self.codi.width, "n": n, "reference": reference}
        return [
            replacements(edits, **facts, answers=golds, groups=groups, rng=rng)
            for edits, rng in zip(conditions, draws(conditions, seed))
        ]

    def at_cue(self, questions: Sequence[str], *, batch_size: int = 64) -> cue.CueStates:
        """The states from which answers after the cue are read. Raises what `think` raises."""
        settings = inputs.settings(self.codi, None, batch_size, 0, MASKED)
        return cue.cue_states(self.codi, inputs.questions_of(questions, fewest=1), settings)

    def keys_and_values(self, questions: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
        """Keys and values of the thoughts, as attention stores them: float32 [n, K, blocks, 2, heads, d_head]."""
        settings = inputs.settings(self.codi, None, batch_size, 0, MASKED)
        return keys_and_values(self.codi, inputs.questions_of(questions, fewest=1), settings)

    def lens_ranks(self, hidden_states: np.ndarray, words: Sequence[Sequence[str]]) -> np.ndarray:
        """The head's rank of each of a problem's m words (0: first), int32 [n, places, L + 2, m], from [n, places, L + 1, d].

        The last layer is the projected thought. The rank is -1 for a word of several ids.
        """
        words = inputs.words_of(words, inputs.states_of(hidden_states, (None, None, self.codi.width)))
        word_ids = {word: reading.word_ids(self.codi, word) for problem_words in words for word in problem_words}
        return reading.lens_ranks(self.codi, hidden_states, [[word_ids[word] for word in those] for those in words])

    def lens_words(self, states: np.ndarray, *, count: int) -> tuple[tuple[tuple[str, ...], ...], ...]:
        """The first words that the head reads in states after the final norm, [n][places][count], from [n, places, d]."""
        inputs.states_of(states, (None, self.codi.width))
        return reading.lens_words(self.codi, states, arguments.whole("count", count, 1, self.codi.vocab_size))

    def untrained(self, seed: int = 0) -> Model:
        """The same architecture and tokenizer with fresh weights, as a control for what training adds.

        The backbone's weights are drawn as its configuration says, the projection's with PyTorch's defaults.
        """
        codi, seed = copy.deepcopy(self.codi), arguments.seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = type(codi.backbone)(codi.backbone.config)
            for module in codi.projection.modules():
                if hasattr(module, "reset_parameters"):
                    cast(torch.nn.Linear | torch.nn.LayerNorm, module).reset_parameters()
        codi.backbone.load_state_dict(backbone.state_dict())
        codi.fingerprint = f"{self.fingerprint} untrained {seed}"
        return Model(codi, self.entry, self.device, self.dtype)

    def explain(self, questions: Sequence[str], *, batch_size: int = 64, max_new_tokens: int = 64) -> Answers:
        """The teacher's chain of thought and answer in words, greedily."""
        return self.answers(questions, [IN_WORDS], batch_size=batch_size, max_new_tokens=max_new_tokens)[0]

    def reference(
        self,
        questions: Sequence[str],
        answers: Sequence[str],
        groups: Sequence[str],
        *,
        num_latents: int | None = None,
        batch_size: int = 64,
        protocol: str = MASKED,
    ) -> Reference:
        """Capture thoughts of other problems, as the source of means and donors. Raises what `think` raises."""
        settings, questions = inputs.settings(self.codi, num_latents, batch_size, 0, protocol), inputs.questions_of(questions)
        answers, groups = (
            arguments.texts(name, values, len(questions), of="question")
            for name, values in (("answers", answers), ("groups", groups))
        )
        latents = np.empty((len(questions), settings.num_latents + 1, self.codi.width), np.float32)
        answering.answer_edited(self.codi, questions, [{}], settings, keep=Thoughts(latents=latents))
        return Reference(latents, tuple(answers), tuple(groups))

    def _golds(self, questions: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
        """Ids of the gold answers as in training, with eos."""
        problems = [Problem(question, (), answer, "") for question, answer in zip(questions, answers, strict=True)]
        return [example.answer for example in encode_examples(self.codi, problems)]


def _run_of(condition: Condition, num_latents: int) -> tuple:
    """The key of the conditions that can share a run: their kind, and the settings that must be equal."""
    if isinstance(condition, Patched | Fed | KeysMoved):
        return Fed, latents_of(condition, num_latents)
    return (Edited, condition.padding) if isinstance(condition, Edited) else (type(condition),)
