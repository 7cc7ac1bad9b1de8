"""Patching: replace one place of the thoughts by that of another run, and see how the answer changes.

A patch takes from its source run either latents at some positions, which are fed instead of the recipient's, or only the keys and
values of one position. Then the recipient's own latent is fed and gives its own next thought, but later inputs attend to the
source's keys and values. Changed keys and values of the recipient are such a source. Inputs before a patch are computed once for
all patches, inputs after it for up to BRANCHES patches together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from codi_bench.errors import EditError
from codi_bench.models.answering import Parts, Pass, answer_batches, each_batch, tokenise
from codi_bench.models.codi import Codi
from codi_bench.models.conditions import Affine, Fed, KeysMoved, Patched, check_patched, fed_places
from codi_bench.models.cue import apply
from codi_bench.models.edits import NOISE, SELF
from codi_bench.models.loop import (
    BRANCHES,
    Replacements,
    Thinking,
    end_thoughts,
    forked,
    generate,
    go_on,
    noise_like,
    places_of,
    think,
)
from codi_bench.models.state import KeyValues, State
from codi_bench.thoughts.record import Answers

Source = tuple[str, ...] | str  # of a condition: questions, or SELF or NOISE


@dataclass(frozen=True)
class SourceRun:
    """The parts of a run that a patch may take.

    latents: z_0..z_K [b, K + 1, d]; keys and values of its thoughts [b, heads, K, d / heads], a pair a block.
    """

    latents: Tensor
    tapes: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def of(cls, run: Thinking) -> SourceRun:
        start, end = run.state.length - run.latents.shape[1] + 1, run.state.length
        return cls(
            run.latents,
            tuple(
                cast(tuple[Tensor, Tensor], tuple(tape.held[:, :, start:end] for tape in pair)) for pair in run.state.cache.tapes
            ),
        )

    def rows(self, rows: Sequence[int] | np.ndarray) -> SourceRun:
        at = torch.as_tensor(np.asarray(rows), device=self.latents.device)
        return SourceRun(self.latents[at], tuple((keys[at], values[at]) for keys, values in self.tapes))

    def moved(self, place: int, move: Affine) -> SourceRun:
        """The same with keys and values of one place changed. Raises EditError for a map of the wrong shape."""
        heads, _, d_head = self.tapes[0][0].shape[1:]
        if move.matrix.shape != (shape := (len(self.tapes), 2, heads, d_head, d_head)) or move.offset.shape != shape[:-1]:
            raise EditError(f"keys and values need a map of shape {list(shape)}, not {list(move.matrix.shape)}")
        tapes = tuple((keys.clone(), values.clone()) for keys, values in self.tapes)
        for block, pair in enumerate(tapes):
            for kind, tape in enumerate(pair):
                own = Affine(move.matrix[block, kind], move.offset[block, kind])
                tape[:, :, place] = apply(own, tape[:, :, place])
        return SourceRun(self.latents, tapes)


def source_run(model: Codi, questions: Sequence[list[int]], num_latents: int, batch_size: int) -> SourceRun:
    """Think about every question, in separate batches: sources differ in length, and paddings change rounding."""
    parts: list[tuple[np.ndarray, SourceRun]] = []

    def think_batch(rows: np.ndarray) -> None:
        # a clone lets the rest of the batch's keys and values go
        batch_run = SourceRun.of(think(model, [questions[i] for i in rows], num_latents))
        parts.append((rows, SourceRun(batch_run.latents, tuple((k.clone(), v.clone()) for k, v in batch_run.tapes))))

    each_batch(model, think_batch, questions, batch_size)
    place = np.empty(len(questions), int)
    place[np.concatenate([rows for rows, _ in parts])] = np.arange(sum(len(rows) for rows, _ in parts))
    runs = [source for _, source in parts]
    blocks = zip(*(source.tapes for source in runs))
    tapes = tuple(cast(tuple[Tensor, Tensor], tuple(map(torch.cat, zip(*block)))) for block in blocks)
    return SourceRun(torch.cat([source.latents for source in runs]), tapes).rows(place)


@torch.inference_mode()
def keys_and_values(model: Codi, questions: Sequence[str], settings: Pass) -> np.ndarray:
    """Keys and values of the thoughts, float32 [n, K, blocks, 2, heads, d_head]. Raises what `think` raises."""
    run = source_run(model, tokenise(model, questions), settings.num_latents, settings.batch_size)
    blocks = torch.stack([torch.stack(pair, dim=1) for pair in run.tapes], dim=1)  # [n, blocks, 2, heads, K, d_head]
    return blocks.permute(0, 4, 1, 2, 3, 5).float().cpu().numpy()


@torch.inference_mode()
def answer_patched(
    model: Codi,
    questions: Sequence[str],
    conditions: Sequence[Patched | Fed | KeysMoved],
    settings: Pass,
    rng: np.random.Generator,
) -> tuple[Answers, list[Answers]]:
    """Greedy answers: clean, and under each condition.

    rng: draws the random vectors, all of them before anything runs, so that batches cannot change them.
    Raises EditError or ValueError for an impossible patch, before anything runs, and what `think` raises.
    """
    latents = settings.num_latents
    for condition in conditions:
        check_patched(condition, len(questions), latents)
    sources = dict.fromkeys(c.source for c in conditions if isinstance(c, Patched) and not isinstance(c.source, str))
    ids = tokenise(model, questions)
    source_ids = {source: tokenise(model, source) for source in sources}
    for question_ids in (ids, *source_ids.values()):
        for i, question in enumerate(question_ids):
            model.check_length(len(question) + latents + 2, f"question {i + 1} of {len(question_ids)} with bot, thoughts and eot")
    runs: dict[Source, SourceRun] = {
        source: source_run(model, question_ids, latents, settings.batch_size) for source, question_ids in source_ids.items()
    }
    noise = rng.standard_normal((len(questions), latents, model.width)).astype(np.float32)
    directions = noise / np.linalg.norm(noise, axis=-1, keepdims=True)

    def answer(rows: np.ndarray) -> Parts:
        recipient = think(model, [ids[i] for i in rows], latents)
        donors = {source: run.rows(rows) for source, run in runs.items()}
        yield 0, generate(model, end_thoughts(model, recipient.state), settings.max_new_tokens)[1]
        unit_vectors = torch.as_tensor(directions[rows], device=model.device)
        for start in range(0, len(conditions), BRANCHES):
            part = conditions[start : start + BRANCHES]
            fed = {
                c: torch.as_tensor(condition.latents[rows], device=model.device)
                for c, condition in enumerate(part)
                if isinstance(condition, Fed)
            }
            state = patched(model, recipient, donors, part, fed, unit_vectors)
            yield 1 + start, generate(model, end_thoughts(model, state), settings.max_new_tokens)[1]

    clean, *answers = answer_batches(model, ids, 1 + len(conditions), settings, answer)
    return clean, answers


def patched(
    model: Codi,
    recipient: Thinking,
    donors: Mapping[Source, SourceRun],
    conditions: Sequence[Patched | Fed | KeysMoved],
    fed: Mapping[int, Tensor],
    directions: Tensor,
) -> State:
    """The state after the last latent under each condition: C branches of the recipient's run.

    fed: the fed vectors [b, K, d], by number of the condition. directions: unit vectors [b, K, d] for NOISE.
    """

    def latent(c: int, place: int) -> Tensor | None:
        condition = conditions[c]
        if isinstance(condition, Fed):
            return fed[c][:, place]
        assert isinstance(condition, Patched)
        if condition.source == SELF:
            return None
        if condition.source == NOISE:
            return noise_like(model, directions[:, place], recipient, place)
        return donors[condition.source].latents[:, place]

    places, replacements, first = places_of(recipient), list[Replacements](), list[int]()
    own_run = SourceRun.of(recipient)
    keys_of: dict[Source, list[tuple[int, int]]] = {}
    for c, condition in enumerate(conditions):
        own = fed_places(condition)
        if isinstance(condition, KeysMoved) or (isinstance(condition, Patched) and condition.keys_only):
            replacements.append({})  # the own latent was fed; what comes after its place is new
            first.append(places.index(own[0]) + 1)
            if isinstance(condition, Patched):
                keys_of.setdefault(condition.source, []).append((c, own[0]))
        else:
            replacements.append({place: latent(c, place) for place in own})
            first.append(min(map(places.index, own)))
    state = forked(recipient, first)
    for source, branch_places in keys_of.items():
        state = _with_donor_keys(state, recipient, own_run if source == SELF else donors[source], branch_places)
    for c, condition in enumerate(conditions):
        if isinstance(condition, KeysMoved):
            run = own_run.moved(condition.place, condition.move)
            state = _with_donor_keys(state, recipient, run, [(c, condition.place)])
    return go_on(model, recipient, state, first, replacements)


def _with_donor_keys(state: State, recipient: Thinking, donor: SourceRun, branch_places: Sequence[tuple[int, int]]) -> State:
    """The branches c with the donor's keys and values at their places instead of the recipient's.

    The donor's thoughts are appended to the inputs; only those branches attend to them, each at its place.
    """
    num_latents = recipient.latents.shape[1] - 1
    cache = KeyValues(state.cache.tapes, state.cache.length)
    for block, pair in enumerate(donor.tapes):
        cache.update(*pair, block)
    cache.length = state.length + num_latents
    sees = torch.nn.functional.pad(state.sees, (0, num_latents))
    start = recipient.state.length - num_latents
    for c, place in branch_places:
        sees[:, c, start + place] = False
        sees[:, c, state.length + place] = True
    return replace(state, cache=cache, sees=sees)
