"""The state of a batch between two passes of the backbone: keys and values, and the branches that continue from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from codi_bench.models.codi import Codi, products


class Tape:
    """Keys or values [b, heads, capacity, d_head] of one block; the first `filled` inputs are written.

    Appending copies old inputs only when two histories continue from one prefix, or when a full tape moves to one with half as
    much room again (at least 32). With C conditions, t is the longest question + 1 + K, plus the inputs after each condition's
    first edit, plus C (1 + gold ids + answer). Two tapes per block hold at most 2 b heads d_head (1.5 t + 32) numbers, and while
    one of them moves, its share twice.
    """

    def __init__(self, held: Tensor, filled: int | None = None):
        self.held, self.filled = held, held.shape[2] if filled is None else filled

    def select(self, length: int, rows: Tensor, slots: Tensor) -> Tape:
        """Some rows of the batch and some of the first `length` inputs, by index (copied)."""
        return Tape(self.held[:, :, :length][rows][:, :, slots])

    def append(self, start: int, new: Tensor) -> tuple[Tape, Tensor]:
        """The tape with `new` after its first `start` inputs, and a view of everything up to there."""
        end = start + new.shape[2]
        if torch.is_grad_enabled():  # what autograd has saved must not be written over
            tape = Tape(torch.cat([self.held[:, :, :start], new], dim=2))
            return tape, tape.held
        tape = self
        if start < self.filled or end > self.held.shape[2]:
            shape = list(self.held.shape)
            shape[2] = roomy(end)
            tape = Tape(self.held.new_empty(shape))
            tape.held[:, :, :start] = self.held[:, :, :start]
        tape.held[:, :, start:end] = new
        tape.filled = end
        return tape, tape.held[:, :, :end]


def roomy(length: int) -> int:
    """The capacity of a tape that now needs this length."""
    return length + max(32, length // 2)


@lru_cache
def cache_argument(backbone: type[nn.Module]) -> str:
    """The name of the backbone's cache argument: `past_key_values`, or `cache` (transformers 5.24; the only one from 5.40)."""
    return "cache" if "cache" in signature(backbone.forward).parameters else "past_key_values"


class KeyValues(DynamicCache):
    """The keys and values of everything fed so far, one pair of tapes a block, as the backbone's attention asks for them."""

    def __init__(self, tapes: Sequence[tuple[Tape, Tape]] = (), length: int = 0):
        super().__init__()
        self.tapes, self.length = list(tapes), length

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Called by block `layer_idx` with its new keys and values [b, heads, s, d_head]; gives all of them."""
        if layer_idx == len(self.tapes):
            self.tapes.append((Tape(key_states), Tape(value_states)))
            return key_states, value_states
        (keys_tape, key_states), (values_tape, value_states) = (
            tape.append(self.length, new) for tape, new in zip(self.tapes[layer_idx], (key_states, value_states))
        )
        self.tapes[layer_idx] = (keys_tape, values_tape)
        return key_states, value_states

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        return self.length

    def select(self, rows: Tensor, slots: Tensor) -> KeyValues:
        """Some rows of the batch and some of the inputs, by index (copied)."""
        tapes = [tuple(tape.select(self.length, rows, slots) for tape in pair) for pair in self.tapes]
        return KeyValues(cast(list[tuple[Tape, Tape]], tapes), len(slots))


def join(states: Sequence[State], order: Tensor) -> State:
    """Join states of one branch into one batch, padded on the left to the longest; order: the new row of each of their rows."""
    longest = max(state.length for state in states)
    rows_of = order.split([len(state.position) for state in states])

    def joined(parts: Sequence[Tape]) -> Tape:
        _, heads, _, width = parts[0].held.shape
        buffer = parts[0].held.new_zeros(len(order), heads, roomy(longest), width)  # what is masked must still be finite
        for state, rows, part in zip(states, rows_of, parts):
            buffer[rows, :, longest - state.length : longest] = part.held[:, :, : state.length]
        return Tape(buffer, longest)

    blocks = zip(*(state.cache.tapes for state in states))
    tapes = [(joined([keys for keys, _ in block]), joined([values for _, values in block])) for block in blocks]
    inverse = order.argsort()
    sees = torch.cat([nn.functional.pad(state.sees, (longest - state.length, 0)) for state in states])
    position, last = (torch.cat([getattr(state, name) for state in states])[inverse] for name in ("position", "last"))
    return State(KeyValues(tapes, longest), sees[inverse], position, last[:, None])


@dataclass(frozen=True)
class State:
    """The state of a batch: the inputs so far, and C branches that continue from them, each with its own history.

    sees: which inputs the next input of each branch attends to, bool [b, C, t]. position: its position, [b, C]. hidden:
    `final_normed` of the newest inputs, [b, s, d]. hidden_states: the same for every layer, L + 1 entries, or () when not
    asked for.
    """

    cache: KeyValues
    sees: Tensor
    position: Tensor
    hidden: Tensor
    hidden_states: tuple[Tensor, ...] = ()

    @property
    def last(self) -> Tensor:
        """`final_normed` of the newest input, [b, d]: what the projection and the head read."""
        return self.hidden[:, -1]

    @property
    def length(self) -> int:
        """The number of inputs so far, paddings and branches included."""
        return self.sees.shape[2]

    def all_seen(self) -> State:
        """The same, but from now on paddings are attended to."""
        return replace(self, sees=torch.ones_like(self.sees))

    def rows(self, keep: Tensor) -> State:
        """Some rows of the batch, by index, without the inputs that none of them attends to."""
        sees = self.sees[keep]
        slots = sees.any(dim=(0, 1)).nonzero().squeeze(1)
        return State(self.cache.select(keep, slots), sees[:, :, slots], self.position[keep], self.hidden[keep])

    def branches(self, keep: Tensor) -> State:
        """Some branches, by index."""
        return replace(self, sees=self.sees[:, keep], position=self.position[:, keep])


def feed(
    model: Codi,
    state: State | None,
    embeds: Tensor,
    mask: Tensor | None = None,
    *,
    positions: Tensor | None = None,
    all_layers: bool = False,
) -> State:
    """Feed inputs [b, s, d], one after another, after a state of one branch (None: at the beginning).

    mask [b, s]: 1 where there is an input, 0 for padding, which nothing attends to. positions [b, s]: counted over the mask
    unless given.
    """
    b, s, _ = embeds.shape
    new_mask = torch.ones(b, s, dtype=torch.bool, device=embeds.device) if mask is None else mask.bool()
    if positions is None:
        start = 0 if state is None else state.position
        positions = (start + new_mask.cumsum(1) - 1).clamp(min=0)
    visible = new_mask[:, None] & torch.ones(s, s, dtype=torch.bool, device=embeds.device).tril()
    sees, next_sees, cache = visible, new_mask[:, None], KeyValues()
    if state is not None:
        sees, next_sees = (torch.cat([state.sees.expand(b, new.shape[1], -1), new], dim=2) for new in (sees, next_sees))
        cache = state.cache
    return _run(model, cache, embeds, sees, positions, next_sees, positions[:, -1:] + 1, all_layers)


def step(model: Codi, state: State, embeds: Tensor, branches: Sequence[int] | None = None) -> State:
    """Feed one input to each branch: embeds [b, C, d], or [b, len(branches), d] to those branches only; the others wait.

    The branches of a row share their common keys and values; nothing is computed or stored twice.
    """
    count = state.sees.shape[1]
    indices = torch.arange(count, device=embeds.device) if branches is None else torch.tensor(branches, device=embeds.device)
    b, s = embeds.shape[:2]
    visible = torch.zeros(count, s, dtype=torch.bool, device=embeds.device)
    visible[indices, torch.arange(s, device=embeds.device)] = True
    next_sees = torch.cat([state.sees, visible.expand(b, -1, -1)], dim=2)
    position = state.position.index_add(1, indices, torch.ones(b, s, dtype=torch.long, device=embeds.device))
    return _run(model, state.cache, embeds, next_sees[:, indices], state.position[:, indices], next_sees, position, False)


def feed_each(model: Codi, state: State, embeds: Tensor) -> State:
    """Feed s inputs, one after another, to every branch in one pass: embeds [b, C, s, d]; `hidden` is [b, C s, d]."""
    b, count, s, _ = embeds.shape
    branch = torch.arange(count, device=embeds.device).repeat_interleave(s)
    place = torch.arange(s, device=embeds.device).repeat(count)
    same_branch = branch[:, None] == branch  # [C s, C s]
    visible, next_visible = same_branch & (place[:, None] >= place), same_branch[place == 0]
    sees = torch.cat([state.sees.repeat_interleave(s, 1), visible.expand(b, -1, -1)], dim=2)
    next_sees = torch.cat([state.sees, next_visible.expand(b, -1, -1)], dim=2)
    # beyond the last position there are paddings alone, which nothing sees
    positions = (state.position.repeat_interleave(s, 1) + place).clamp(max=(model.num_positions or 2**62) - 1)
    return _run(model, state.cache, embeds.flatten(1, 2), sees, positions, next_sees, state.position + s, False)


def _run(
    model: Codi,
    cache: KeyValues,
    embeds: Tensor,
    sees: Tensor,
    positions: Tensor,
    next_sees: Tensor,
    next_position: Tensor,
    all_layers: bool,
) -> State:
    """One pass of the backbone; sees [b, s, t + s] is the whole attention mask."""
    if embeds.is_cuda:  # as transformers does there: a padding, which sees nothing, attends to everything; matters to
        sees = sees | ~sees.any(-1, keepdim=True)  # `unmasked-padding` alone. On a CPU it averages everything: see below.
    bias = torch.zeros(sees.shape, dtype=embeds.dtype, device=embeds.device)
    bias.masked_fill_(~sees, torch.finfo(embeds.dtype).min)  # not -inf: a row without anything to see must stay finite
    if model.num_positions is not None:  # rows that have ended may be fed a little longer than they have positions
        positions = positions.clamp(max=model.num_positions - 1)
    cache = KeyValues(cache.tapes, cache.length)
    with products(embeds):
        out = model.backbone.base_model(
            inputs_embeds=embeds,
            attention_mask=bias[:, None],
            position_ids=positions,
            use_cache=True,
            output_hidden_states=all_layers,
            **{cache_argument(type(model.backbone.base_model)): cache},  # type: ignore[arg-type]  # mypy: no class is hashable
        )
    cache.length = next_sees.shape[2]
    return State(cache, next_sees, next_position, out.last_hidden_state, tuple(out.hidden_states) if all_layers else ())
