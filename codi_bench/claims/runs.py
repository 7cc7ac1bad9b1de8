"""Runs of a model that several claims share, each computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codi_bench.audits import patching
from codi_bench.audits.patching import DONOR, RANDOM, SAME, Patch, PatchOutcomes
from codi_bench.claims.branches import Branches, branches, check_room_of
from codi_bench.claims.claim import Bench, once
from codi_bench.claims.families import FAMILIES
from codi_bench.errors import MeasureError
from codi_bench.measures.surface import surface_design
from codi_bench.models.conditions import CLEAN, Fed, Patched, Shortened
from codi_bench.problems import Problem
from codi_bench.problems.features import PRIORITY, surface_table
from codi_bench.thoughts.decoded import Decoded
from codi_bench.thoughts.record import Answers

if TYPE_CHECKING:
    from codi_bench.models.model import Model

NUM_PROBLEMS = FAMILIES["task accuracy"].n
NUM_WORDS = 5  # that are decoded at each place, as in the released log


@dataclass(frozen=True, eq=False)
class Captured:
    """Problems, hidden states [n, 1 + K, L + 1, d] of the thoughts about them, answers, and whether each was right (bool [n]).

    confidence [n, 2]: the model's own confidence in its answer: mean log-probability of the tokens, and the least margin.

    The hidden states are as stored: half precision, memory-mapped, so select what you need before you compute.
    """

    problems: list[Problem]
    hidden_states: np.ndarray
    answers: Answers
    right: np.ndarray
    confidence: np.ndarray

    def cells(self, rows: slice | np.ndarray | list[int], places: int, layers: Sequence[int]) -> np.ndarray:
        """What probes read of the chosen rows: float32 [n, layers x places, d], the first places of each layer in turn."""
        states = self.hidden_states[rows][:, :places, list(layers)].astype(np.float32)  # [n, places, layers, d]
        return states.transpose(0, 2, 1, 3).reshape(len(states), places * len(layers), states.shape[-1])

    def surface(self, n: int) -> np.ndarray:
        """The surface of the first n problems, [n, columns]."""
        return surface_of(self.problems[:n])


def surface_of(problems: Sequence[Problem]) -> np.ndarray:
    """The surface of problems, [n, columns]."""
    table = surface_table(list(problems))
    return surface_design(table.numeric, table.categorical, len({p.group for p in problems}), priority=PRIORITY)


@once
def captured(bench: Bench, n: int | None = None, num_latents: int | None = None, variants: int = 1) -> Captured:
    """Problems thought about with num_latents thoughts (default: all) and answered.

    n: the number of problems, in `variants` tellings each, as in a source; by default as many as decide.
    """
    problems = bench.problems.sample(NUM_PROBLEMS) if n is None else bench.problems.first(n, variants)
    outcomes = bench.answers(problems, [CLEAN], num_latents=num_latents, hidden_states=True)
    assert outcomes.hidden_states is not None and outcomes.confidence is not None  # they were asked for
    return Captured(problems, outcomes.hidden_states, outcomes.answers[0], outcomes.right()[0], outcomes.confidence)


@once
def shortened(bench: Bench, n: int) -> Branches:
    """The first n problems answered after 0 to K latents, by their number."""
    count = bench.model.num_latents
    outcomes = bench.answers(bench.problems.first(n), [Shortened(k) for k in range(count + 1)])
    return branches([str(k) for k in range(count + 1)], outcomes, clean=str(count))


def latents(bench: Bench, problems: Sequence[Problem]) -> np.ndarray:
    """z_0..z_K of thoughts about some problems, float32 [n, K + 1, d]."""
    texts = [[getattr(p, name) for p in problems] for name in ("question", "answer", "group")]
    return bench.cached(np.ndarray, _latents, bench.model, *texts)


def _latents(model: Model, questions: list[str], answers: list[str], groups: list[str]) -> np.ndarray:
    return model.reference(questions, answers, groups).latents


@once
def decoded(bench: Bench) -> Decoded:
    """The head's first words of a loaded model, for the problems that are answered rightly."""
    capture = captured(bench)
    rows = np.flatnonzero(capture.right)
    if not len(rows):
        raise MeasureError(f"{bench.model.name} answers none of {len(capture.right)} problems rightly, so nothing can be decoded")
    words = bench.model.lens_words(capture.hidden_states[rows, :, -1], count=NUM_WORDS)
    problems = tuple(capture.problems[i] for i in rows)
    return Decoded(problems, words, tuple(capture.answers.texts[i] for i in rows), len(capture.right))


def condition_of(patch: Patch, sources: Mapping[str, Sequence[str]], vectors: Mapping[str, np.ndarray]) -> Patched | Fed:
    """A patch as a condition: the questions of its source, or the vectors that are fed, by its name."""
    if patch.source in vectors:
        return Fed(vectors[patch.source], patch.places)
    source = tuple(sources[patch.source]) if patch.source in sources else patch.source
    return Patched(source, patch.places, patch.keys_only)


def patched(
    bench: Bench, n: int, patches: Sequence[Patch], *, step: int, seed: int = 0, vectors: Mapping[str, np.ndarray] | None = None
) -> PatchOutcomes:
    """The answers to the first n minimal pairs about a step under each patch.

    Its sources are the donor, the same value, and a random donor among training problems; vectors: latents to be fed by name,
    float32 [n, K, d].
    """
    pairs = bench.problems.pairs(n, step=step)
    sides = [[getattr(pair, name) for pair in pairs] for name in ("recipient", DONOR, SAME)]
    known = np.all([bench.answers(problems, [CLEAN]).right()[0] for problems in sides], axis=0)
    patching.check_known(known)
    rows = np.flatnonzero(known)
    recipients, donors, same = ([problems[i] for i in rows] for problems in sides)
    random = bench.problems.donors(pairs, seed=seed)
    sources = {
        name: tuple(p.question for p in problems)
        for name, problems in ((DONOR, donors), (SAME, same), (RANDOM, [random[i] for i in rows]))
    }
    fed = {name: array[rows] for name, array in (vectors or {}).items()}
    outcomes = bench.answers(recipients, [CLEAN, *(condition_of(patch, sources, fed) for patch in patches)], seed=seed)
    golds = [p.answer for p in donors]
    follows = outcomes.right(golds=golds)
    (clean, *texts) = (answers.texts for answers in outcomes.answers)
    changed = [[text != own for text, own in zip(part, clean, strict=True)] for part in texts]
    found = np.zeros((3, len(patches), len(pairs)), bool)  # what is not known is not patched, and counts nowhere
    found[:, :, rows] = follows[1:], outcomes.right()[1:], changed
    return PatchOutcomes(tuple(patches), known, *found)


def check_patched(bench: Bench, outcomes: PatchOutcomes, n: int, *, steps: Sequence[int]) -> None:
    """Raises MeasureError if rates of n pairs per step mean nothing.

    They mean nothing if a problem's own values change an answer, if no other values do, or if too few problems are answered.
    """
    recipients = [pair.recipient for step in steps for pair in bench.problems.pairs(n, step=step)]
    check_room_of(bench.answers(recipients, [CLEAN]).right()[0], recipients, what="to find")
    patching.check_controls(outcomes)
