"""Answers after the cue, the words that every answer begins with, and the state from which the number is read, changed or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from codi_bench.errors import EditError
from codi_bench.models.answering import Parts, Pass, answer_batches, each_batch, tokenise
from codi_bench.models.codi import Codi
from codi_bench.models.conditions import Affine
from codi_bench.models.loop import BRANCHES, generate, think
from codi_bench.models.state import State, feed
from codi_bench.thoughts.record import Answers


@dataclass(frozen=True, eq=False)
class CueStates:
    """`final_normed` at the last token of the cue, float32 [n, d], and by how much the first token there leads, in nats [n]."""

    states: np.ndarray
    margin: np.ndarray


def apply(move: Affine, x: Tensor) -> Tensor:
    """Apply to each vector of x [b, ..., d] its map."""
    matrix, offset = (torch.as_tensor(part, device=x.device) for part in (move.matrix, move.offset))
    return (torch.einsum("b...i,...ij->b...j", x.float(), matrix) + offset).to(x.dtype)


def cue_ids(model: Codi) -> list[int]:
    """The first tokens of every answer: the cue, and the blank after it if that is a token of its own."""
    one, two = (model.tokenizer(model.prompt.answer(str(number)), add_special_tokens=False)["input_ids"] for number in (1, 2))
    return one[: next(i for i, (a, b) in enumerate(zip(one, two)) if a != b)]


def _at_cue(model: Codi, questions: Sequence[list[int]], settings: Pass) -> State:
    """The state after the thoughts, eot and the cue."""
    cue, num_latents = [model.eot_id, *cue_ids(model)], settings.num_latents
    model.check_length(
        max(map(len, questions)) + 1 + num_latents + len(cue), "the longest question with bot, thoughts, eot and cue"
    )
    ids = torch.tensor([cue] * len(questions), device=model.device)
    return feed(model, think(model, questions, num_latents).state, model.embed(ids))


@torch.inference_mode()
def answer_at_cue(model: Codi, questions: Sequence[str], moves: Sequence[Affine | None], settings: Pass) -> list[Answers]:
    """Greedy answers after the cue, with each given change of the state at its last token.

    Raises EditError for a map of the wrong width.
    """
    ids, width = tokenise(model, questions), model.width
    for move in moves:
        if move is not None and (move.matrix.shape != (width, width) or move.offset.shape != (width,)):
            raise EditError(f"a state of width {width} cannot be changed by a map of shape {list(move.matrix.shape)}")

    def answer(rows: np.ndarray) -> Parts:
        state = _at_cue(model, [ids[i] for i in rows], settings)
        for start in range(0, len(moves), BRANCHES):
            part = moves[start : start + BRANCHES]
            hidden = torch.stack([state.last if move is None else apply(move, state.last) for move in part], dim=1)
            branches = replace(state, sees=state.sees.repeat(1, len(part), 1), position=state.position.repeat(1, len(part)))
            yield start, generate(model, replace(branches, hidden=hidden), settings.max_new_tokens)[1]

    return answer_batches(model, ids, len(moves), settings, answer)


@torch.inference_mode()
def cue_states(model: Codi, questions: Sequence[str], settings: Pass) -> CueStates:
    """The states from which the answers after the cue are read."""
    ids, n = tokenise(model, questions), len(questions)
    result = CueStates(np.empty((n, model.width), np.float32), np.empty(n))

    def write(rows: np.ndarray) -> None:
        state = _at_cue(model, [ids[i] for i in rows], settings).last
        best = model.answer_logits(state).float().topk(2).values
        result.states[rows], result.margin[rows] = state.float().cpu().numpy(), (best[:, 0] - best[:, 1]).cpu().numpy()

    each_batch(model, write, ids, settings.batch_size)
    return result
