"""The latent loop over one left-padded batch: think, think again under edits that share their prefix, and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count as count_from
from typing import cast

import torch
from torch import Tensor

from codi_bench.errors import EditError, MeasureError
from codi_bench.models.codi import Codi
from codi_bench.models.conditions import MASKED, UNMASKED
from codi_bench.models.edits import BOT
from codi_bench.models.state import State, feed, feed_each, join, step

Replacements = dict[int | str, Tensor | None]
BRANCHES = 16  # conditions that go through the backbone together: each attends, masked, to the places of all of them


@dataclass(frozen=True)
class Thinking:
    """A batch after its thoughts: the state after the last latent, and z_0..z_K [b, K + 1, d]."""

    state: State
    latents: Tensor
    padding: str
    hidden_states: Tensor | None = None  # [b, 1 + K, L + 1, d]


def encode(model: Codi, questions: Sequence[list[int]]) -> State:
    """Feed the question tokens (bot comes next), questions of similar length together; `hidden` may have only the last ones."""
    groups = _similar(model, [len(question) for question in questions])
    if len(groups) == 1 or torch.is_grad_enabled():
        ids, mask = model.pad(questions)
        return feed(model, None, model.embed(ids), mask)
    states = [encode(model, [questions[i] for i in group]) for group in groups]
    return join(states, torch.tensor([i for group in groups for i in group], device=model.device))


def _similar(model: Codi, lengths: Sequence[int]) -> list[list[int]]:
    """Indices by rising length, in groups: a new one begins where paddings would cost more than another pass of the backbone.

    A pass costs as much as computing so many more inputs: as many as take the time of reading the weights (once per pass), and
    as many as take the time of starting the kernels. Both are orders of magnitude.
    """
    read_cost, start_cost = (256, 1e12) if model.device.type == "cuda" else (16, 1e9)
    budget = read_cost + start_cost / model.num_parameters
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not groups or sum(lengths[i] - lengths[j] for j in groups[-1]) > budget:
            groups.append([])
        groups[-1].append(i)
    return groups


def think(
    model: Codi, questions: Sequence[list[int]], num_latents: int, *, padding: str = MASKED, all_layers: bool = False
) -> Thinking:
    """Encode the questions, feed bot and `num_latents` thoughts.

    padding: `masked`, or `unmasked-padding` as in the published evaluation: question and bot in one masked pass whose positions
    count the paddings too, and no mask after it, so that every thought attends to the paddings.
    Raises MeasureError for thoughts that are not finite.
    """
    if padding == MASKED:
        state = feed(model, encode(model, questions), bot(model, len(questions)).unsqueeze(1), all_layers=all_layers)
    else:
        ids, mask = model.pad([[*question, model.bot_id] for question in questions])
        positions = torch.arange(ids.shape[1], device=model.device).expand(*ids.shape)
        state = feed(model, None, model.embed(ids), mask, positions=positions, all_layers=all_layers).all_seen()
    latents, hidden = [model.thought(state.last, 0)], [state.hidden_states]
    for k in range(num_latents):
        state = feed(model, state, latents[-1].unsqueeze(1), all_layers=all_layers)
        latents.append(model.thought(state.last, k + 1))
        hidden.append(state.hidden_states)
    if not torch.is_grad_enabled() and not torch.isfinite(latents[-1]).all():  # what follows one is not finite either
        raise MeasureError(f"the thoughts of {model.name or 'the model'} are not finite; use --dtype float32, or other weights")
    hidden_states = (
        torch.stack([torch.stack([h[:, -1] for h in layers], dim=1) for layers in hidden], dim=1) if all_layers else None
    )
    return Thinking(state, torch.stack(latents, dim=1), padding, hidden_states)


def rethink(model: Codi, clean: Thinking, conditions: Sequence[Replacements]) -> State:
    """The state after the last latent under each condition: C branches of one state.

    A condition maps places to the value fed there [b, d], or to None for the model's own input; without any it is the clean
    run. What precedes a condition's first edit is the clean run's own; what follows is computed for all conditions together.
    Raises EditError for an edit of bot under `unmasked-padding`, where paddings have read bot and all of it would change.
    """
    places = places_of(clean)
    first = [min(map(places.index, edits), default=len(places)) for edits in conditions]
    if clean.padding == UNMASKED and 0 in first:
        raise EditError("bot cannot be edited under unmasked-padding, since paddings attend to bot there; use masked")
    return go_on(model, clean, forked(clean, first), first, conditions)


def places_of(clean: Thinking) -> list[int | str]:
    """bot and the latent positions, in the order in which they were fed."""
    return [BOT, *range(clean.latents.shape[1] - 1)]


def go_on(model: Codi, clean: Thinking, state: State, first: Sequence[int], conditions: Sequence[Replacements]) -> State:
    """Feed bot and thoughts from place number `first` of each branch to the end, after `forked` branches."""
    places = places_of(clean)
    next_inputs = torch.stack([bot(model, len(clean.latents)), *clean.latents[:, :-1].unbind(1)], dim=1)[
        :, [min(f, len(places) - 1) for f in first]
    ]  # what each condition would feed next, [b, C, d]
    for p, place in enumerate(places):
        active = [c for c, f in enumerate(first) if f <= p]
        if not active:
            continue
        values = [conditions[c].get(place) for c in active]
        inputs = [next_inputs[:, c] if v is None else v.to(next_inputs.dtype) for c, v in zip(active, values)]
        state = step(model, state, torch.stack(inputs, dim=1), active)
        next_inputs = next_inputs.clone()
        next_inputs[:, active] = model.thought(state.hidden, p)
    return state


def forked(clean: Thinking, first: Sequence[int]) -> State:
    """Branches of the clean run, each cut off before its place number `first` (bot is 0; as many as there are places: uncut)."""
    num_places = clean.latents.shape[1]
    start = clean.state.length - num_places
    sees = clean.state.sees.repeat(1, len(first), 1)
    for c, place in enumerate(first):
        sees[:, c, start + place :] = False
    offset = torch.tensor(first, device=sees.device) - num_places
    return State(clean.state.cache, sees, clean.state.position + offset, clean.state.hidden)


def noise_like(model: Codi, directions: Tensor, clean: Thinking, place: int | str) -> Tensor:
    """Unit vectors [b, d] scaled to the norm of the input that they replace."""
    original = bot(model, len(directions)) if place == BOT else clean.latents[:, cast(int, place)]
    return directions * original.norm(dim=-1, keepdim=True)


def end_thoughts(model: Codi, state: State) -> State:
    """Feed eot after each branch: the state from which answers start."""
    return step(model, state, model.embed(torch.full(state.position.shape, model.eot_id, device=model.device)))


@dataclass(frozen=True)
class Forced:
    """The result of feeding gold ids to C branches.

    log_probability: natural, [b, C], float64; agreed: how many of the ids greedy decoding gives too, [b, C]; ids: the next one
    it gives, [b, C]; state: after those that agree; first: the first logits.
    """

    log_probability: Tensor
    agreed: Tensor
    ids: Tensor
    state: State
    first: Tensor


def force(model: Codi, state: State, golds: Sequence[list[int]], longest: int = 0) -> Forced:
    """Teacher force each problem's gold ids, which end in eos, after the newest inputs of C branches, all of them in one pass.

    The log-probability is summed over the ids; eot has none, as it is never generated. longest: over the golds of all batches, so
    that the number of fed inputs, which changes rounding, does not depend on the batch. Raises MeasureError for infinite ones.
    """
    b, count = state.position.shape
    longest = max(longest, *map(len, golds))
    ids = torch.tensor([gold + [model.eos_id] * (longest - len(gold)) for gold in golds], device=model.device)  # [b, longest]
    lengths = torch.tensor([len(gold) for gold in golds], device=model.device)[:, None]
    hidden, gold_state = state.hidden[:, -count:, None], state
    if longest > 1:
        gold_state = feed_each(model, state, model.embed(ids[:, None, :-1].expand(-1, count, -1)))
        hidden = torch.cat([hidden, gold_state.hidden.view(b, count, longest - 1, -1)], dim=2)
    total = torch.zeros(b, count, dtype=torch.float64, device=model.device)
    agreement, next_ids = torch.zeros_like(state.position), torch.zeros_like(state.position)
    first = model.answer_logits(hidden[:, :, 0])
    for t in range(longest):
        logits, gold = model.answer_logits(hidden[:, :, t]) if t else first, ids[:, t, None].expand(-1, count)
        index, greedy, scores = gold - (gold > model.eot_id).long(), model.answer_ids(logits), logits.float()
        log_probability = scores.gather(2, index.unsqueeze(2)).squeeze(2) - scores.logsumexp(2)
        total += torch.where(t < lengths, log_probability.double(), 0.0)
        next_ids = torch.where(agreement == t, greedy, next_ids)
        agreement += (agreement == t) & (t < lengths) & (greedy == gold)
    if not torch.isfinite(total).all():
        raise MeasureError(f"log-probabilities of {model.name or 'the model'} are not finite; use --dtype float32")
    sees = gold_state.sees.clone()
    gold_sees = sees[:, :, state.length :].view(b, count, count, longest - 1)
    gold_sees &= (torch.arange(longest - 1, device=model.device) < agreement[..., None])[:, :, None]
    return Forced(total, agreement, next_ids, replace(gold_state, sees=sees, position=state.position + agreement), first)


def generate(
    model: Codi, state: State, max_new_tokens: int, confidence: Tensor | None = None
) -> tuple[Tensor, list[list[list[int]]]]:
    """Greedy ids [b][C] after the newest inputs of C branches, eos included, and the logits [b, C, V + 2] of the first.

    confidence [b, C, 2]: filled with the mean log-probability of an answer's tokens and the least of their margins over the
    second best, in nats.

    eot is never generated, as in the published decoding. An answer also ends where the backbone has no more positions. A branch
    whose problems have all ended is not computed any more, and problems leave the batch when a quarter of it has ended.
    """
    first = model.answer_logits(state.hidden[:, -state.position.shape[1] :])
    tokens: list[list[list[int]]] = [[[] for _ in row] for row in state.position]
    if confidence is not None:
        confidence[..., 0], confidence[..., 1] = 0.0, torch.inf
    _go_on_from(model, state, model.answer_ids(first), tokens, max_new_tokens, confidence, first)
    if confidence is not None:
        confidence[..., 0] /= torch.tensor([[len(ids) for ids in row] for row in tokens], device=confidence.device)
    return first, tokens


def generate_behind(model: Codi, forced: Forced, golds: Sequence[list[int]], max_new_tokens: int) -> list[list[list[int]]]:
    """The greedy ids of `generate`, starting where they differ from the gold ids that were fed."""
    tokens = [[gold[: min(k, max_new_tokens)] for k in counts] for gold, counts in zip(golds, forced.agreed.tolist())]
    return _go_on_from(model, forced.state, forced.ids, tokens, max_new_tokens)


def _go_on_from(  # type: ignore[return]  # its loop has no end but the return
    model: Codi,
    state: State,
    ids: Tensor,
    tokens: list[list[list[int]]],
    max_new_tokens: int,
    confidence: Tensor | None = None,
    logits: Tensor | None = None,
) -> list[list[list[int]]]:
    """Complete the answers `tokens` [b][C] in place; ids [b, C]: the next ids, not fed yet, by logits [b, C, V + 2]."""
    b, count = state.position.shape
    rows, columns = torch.arange(b, device=model.device), torch.arange(count, device=model.device)
    lengths = torch.tensor([[len(sequence) for sequence in row] for row in tokens], device=model.device)
    at_eos = [[sequence[-1:] == [model.eos_id] for sequence in row] for row in tokens]
    room = (model.num_positions or 2**62) - state.position + 1  # ids that may come: the last is not fed
    room = torch.minimum(room, max_new_tokens - lengths)
    is_open = ~torch.tensor(at_eos, device=model.device) & (room > 0)
    for num_new in count_from(1):
        for row, line, alive in zip(rows.tolist(), ids.tolist(), is_open.tolist()):
            for column, token, active in zip(columns.tolist(), line, alive):
                if active:
                    tokens[row][column].append(token)
        if confidence is not None and logits is not None:
            best = logits.float().topk(2).values
            log_probability, margin = best[..., 0] - logits.float().logsumexp(-1), best[..., 0] - best[..., 1]
            index = rows[:, None], columns[None]
            confidence[(*index, 0)] += torch.where(is_open, log_probability, 0.0)
            confidence[(*index, 1)] = confidence[(*index, 1)].minimum(torch.where(is_open, margin, torch.inf))
        is_open &= (ids != model.eos_id) & (num_new < room)
        if not is_open.any():
            return tokens
        open_columns, open_rows = (is_open.any(dim).nonzero().squeeze(1) for dim in (0, 1))
        if len(open_columns) < len(columns):
            state, columns = state.branches(open_columns), columns[open_columns]
            ids, is_open, room = ids[:, open_columns], is_open[:, open_columns], room[:, open_columns]
        if len(open_rows) <= 0.75 * len(rows):  # moving keys and values costs a little
            state, rows = state.rows(open_rows), rows[open_rows]
            ids, is_open, room = ids[open_rows], is_open[open_rows], room[open_rows]
        state = step(model, state, model.embed(ids))
        logits = model.answer_logits(state.hidden)
        ids = model.answer_ids(logits)


def bot(model: Codi, rows: int) -> Tensor:
    """The input that opens the thoughts, [rows, d]."""
    return model.embed(torch.full((rows,), model.bot_id, device=model.device))
