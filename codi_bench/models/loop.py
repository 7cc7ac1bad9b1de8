"""Think and answer: the latent loop over batches, with edits that share everything before them.

Every function works on one left-padded batch; `Codi` results are independent of how problems are batched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codi_bench.models.codi import Codi, State, feed
from codi_bench.models.edits import BOT
from codi_bench.thoughts.record import Answers, Thoughts

Replacements = dict[int | str, Tensor | None]


@dataclass(frozen=True)
class Thinking:
    """A batch after its thoughts: the state behind the last latent, z_0..z_K [b, K + 1, d], and where bot stands."""

    state: State
    latents: Tensor
    bot: int
    hidden_states: Tensor | None = None  # [b, 1 + K, L + 1, d]


def encode(model: Codi, questions: Sequence[list[int]]) -> State:
    """Feed the question tokens (bot comes next)."""
    ids, mask = model.pad(list(questions))
    return feed(model, None, model.embed(ids), mask)


def think(model: Codi, question: State, num_latents: int, *, all_layers: bool = False) -> Thinking:
    """Feed bot and `num_latents` thoughts."""
    bot = model.embed(torch.full((question.mask.shape[0], 1), model.bot_id, device=model.device))
    state = feed(model, question, bot, all_layers=all_layers)
    latents, hidden = [model.projection(state.last)], [state.hidden_states]
    for _ in range(num_latents):
        state = feed(model, state, latents[-1].unsqueeze(1), all_layers=all_layers)
        latents.append(model.projection(state.last))
        hidden.append(state.hidden_states)
    stacked = torch.stack([torch.stack([h[:, -1] for h in step], dim=1) for step in hidden], dim=1) if all_layers else None
    return Thinking(state, torch.stack(latents, dim=1), question.length, stacked)


def rethink(model: Codi, clean: Thinking, edits: Replacements) -> State:
    """The state behind the last latent when some inputs are replaced; what precedes the first edit is reused as it is.

    edits: place → value [b, d], or None to feed the model's own input again. A unit-norm value is not special: scale
    noise with `noise_like` first.
    """
    num_latents = clean.latents.shape[1] - 1
    places = [BOT, *range(num_latents)]
    first = min(places.index(place) for place in edits)
    state = clean.state.prefix(clean.bot + first)
    own = clean.latents[:, first - 1] if first else _bot(model, len(clean.latents))
    for place in places[first:]:
        value = edits.get(place)
        state = feed(model, state, (own if value is None else value.to(own.dtype)).unsqueeze(1))
        own = model.projection(state.last)
    return state


def noise_like(model: Codi, directions: Tensor, clean: Thinking, place: int | str) -> Tensor:
    """Unit vectors [b, d] scaled to the norm of the input that they replace."""
    original = _bot(model, len(directions)) if place == BOT else clean.latents[:, place]
    return directions * original.norm(dim=-1, keepdim=True)


def decode(model: Codi, state: State, max_new_tokens: int) -> tuple[Tensor, list[list[int]]]:
    """Feed eot, then answer: logits at eot [b, V + 2], and greedy ids up to and including eos."""
    eot = model.embed(torch.full((state.mask.shape[0], 1), model.eot_id, device=model.device))
    return generate(model, feed(model, state, eot), max_new_tokens)


def generate(model: Codi, state: State, max_new_tokens: int) -> tuple[Tensor, list[list[int]]]:
    """Greedy ids after the newest input of a state, and the logits [b, V + 2] of the first.

    eot (the last id) is never generated, as in the published decoding.
    """
    rows = torch.arange(state.mask.shape[0], device=model.device)
    tokens: list[list[int]] = [[] for _ in rows]
    first = logits = model.logits(state.last)[:, :-1]
    for count in range(max_new_tokens):
        ids = logits.argmax(-1)
        for row, token in zip(rows.tolist(), ids.tolist()):
            tokens[row].append(token)
        going = ids != model.eos_id
        if not going.any() or count + 1 == max_new_tokens:
            break
        if not going.all():  # finished problems leave the batch
            rows, ids, state = rows[going], ids[going], state.rows(going)
        state = feed(model, state, model.embed(ids.unsqueeze(1)))
        logits = model.logits(state.last)[:, :-1]
    return first, tokens


def batches(sequences: Sequence[list[int]], size: int) -> list[np.ndarray]:
    """Indices of similar length together, so that little padding is computed; the order never shows in a result."""
    order = np.argsort([len(s) for s in sequences], kind="stable")
    return [order[i : i + size] for i in range(0, len(order), size)]


@torch.inference_mode()
def capture(
    model: Codi,
    questions: Sequence[str],
    *,
    num_latents: int,
    batch_size: int,
    max_new_tokens: int | None,
    progress=lambda done: None,
) -> Thoughts:
    """Think about every question and keep all states; answer too unless max_new_tokens is None."""
    ids = tokenise(model, questions)
    n, width = len(ids), model.width
    hidden = np.empty((n, 1 + num_latents, model.num_layers + 1, width), np.float32)
    latents = np.empty((n, num_latents + 1, width), np.float32)
    logits = np.empty((n, model.vocab_size + 2), np.float32)
    tokens: list[list[int]] = [[] for _ in ids]
    for rows in batches(ids, batch_size):
        clean = think(model, encode(model, [ids[i] for i in rows]), num_latents, all_layers=True)
        hidden[rows], latents[rows] = _numpy(clean.hidden_states), _numpy(clean.latents)
        first, found = decode(model, clean.state, max_new_tokens or 0)
        logits[rows] = _numpy(first)
        for i, row in enumerate(rows):
            tokens[row] = found[i]
        progress(len(rows))
    return Thoughts(hidden, latents, logits, texts(model, tokens) if max_new_tokens else None)


@torch.inference_mode()
def answer_conditions(
    model: Codi,
    questions: Sequence[str],
    conditions: Sequence[dict[int | str, np.ndarray | None]],
    noise: Sequence[frozenset],
    *,
    num_latents: int,
    batch_size: int,
    max_new_tokens: int,
    progress=lambda done: None,
) -> list[Answers]:
    """Greedy answers under several conditions, each a set of replacements (empty: the clean run).

    Question and clean thoughts are computed once a batch; a condition computes only what follows its first edit.
    noise: for each condition the places whose values are unit vectors to be scaled to the norm they replace.
    """
    ids = tokenise(model, questions)
    tokens: list[list[list[int]]] = [[[] for _ in ids] for _ in conditions]
    for rows in batches(ids, batch_size):
        clean = think(model, encode(model, [ids[i] for i in rows]), num_latents)
        for c, values in enumerate(conditions):
            edits: Replacements = {}
            for place, value in values.items():
                edits[place] = None if value is None else torch.as_tensor(value[rows], device=model.device)
                if place in noise[c]:
                    edits[place] = noise_like(model, edits[place], clean, place)
            _, found = decode(model, rethink(model, clean, edits) if edits else clean.state, max_new_tokens)
            for i, row in enumerate(rows):
                tokens[c][row] = found[i]
        progress(len(rows))
    return [texts(model, t) for t in tokens]


@torch.inference_mode()
def explain(model: Codi, questions: Sequence[str], *, batch_size: int, max_new_tokens: int) -> Answers:
    """The teacher: greedy chain of thought in words, straight after the question."""
    ids = tokenise(model, questions)
    tokens: list[list[int]] = [[] for _ in ids]
    for rows in batches(ids, batch_size):
        _, found = generate(model, encode(model, [ids[i] for i in rows]), max_new_tokens)
        for i, row in enumerate(rows):
            tokens[row] = found[i]
    return texts(model, tokens)


def tokenise(model: Codi, questions: Sequence[str]) -> list[list[int]]:
    """Question ids in the published form: stripped, double spaces collapsed."""
    return [model.tokenizer(q.strip().replace("  ", " "))["input_ids"] for q in questions]


def texts(model: Codi, tokens: Sequence[list[int]]) -> Answers:
    """Ids with their text, special tokens left out; ids beyond the tokenizer (pad, bot) have no text."""
    plain = [[t for t in ids if t < model.vocab_size] for ids in tokens]
    return Answers(tuple(map(tuple, tokens)), tuple(model.tokenizer.batch_decode(plain, skip_special_tokens=True)))


def _bot(model: Codi, rows: int) -> Tensor:
    return model.embed(torch.full((rows,), model.bot_id, device=model.device))


def _numpy(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
