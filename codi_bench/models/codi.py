"""The model: a causal backbone that feeds its own last hidden state back, and the latent loop over it.

Words (DESIGN): `bot` opens the thoughts, `latent_pos` k is the step whose input is z_k, `eot` opens the answer; `layer`
counts blocks applied, so `hidden_states[0]` is the input embedding and the last entry, after the final norm, is
`final_normed`. Batches are padded on the left; mask and positions go through every phase, so no result depends on a
problem's neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import DynamicCache
from transformers.activations import NewGELUActivation

from codi_bench.errors import ProblemError

if TYPE_CHECKING:  # loaded with the first model
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WIDE = 512  # narrower models gain nothing from other kernels, and what is recorded of the embedded ones rounds as before


class Projection(nn.Sequential):
    """Hidden state → next input: Linear(d, p), GELU, Linear(p, d), LayerNorm(d); keys as published (`1`, `3`, `ln`)."""

    def __init__(self, width: int, inner: int, *, dropout: float = 0.0, layer_norm: bool = True):
        super().__init__(nn.Dropout(dropout), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        if layer_norm:
            self.add_module("ln", nn.LayerNorm(width))


@torch.no_grad()
def start_as_identity(projection: Projection, scale: float) -> None:
    """Let a fresh projection of inner width 2 d feed the state itself, normalised to the given root mean square.

    GELU(x) - GELU(-x) = x, so [I, -I] after [I; -I] is the identity. Raises ValueError for another inner width.
    """
    first, second = cast(nn.Linear, projection[1]), cast(nn.Linear, projection[3])
    if first.out_features != 2 * first.in_features:
        raise ValueError(f"an identity needs the inner width {2 * first.in_features}, not {first.out_features}")
    eye = torch.eye(first.in_features, device=first.weight.device)
    first.weight.copy_(torch.cat([eye, -eye]))
    second.weight.copy_(torch.cat([eye, -eye], dim=1))
    first.bias.zero_()
    second.bias.zero_()
    cast(nn.LayerNorm, projection.ln).weight.fill_(scale)


class OneDNN(TorchFunctionMode):
    """Products of full-precision matrices on a CPU by oneDNN instead of torch's BLAS.

    1.7 times as fast with 16 rows, 1.5 with a hundred, 1.1 with a thousand. One row goes the usual way, which is faster there.
    The operator is private to torch (it serves its compiler); without it everything goes the usual way.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if not kwargs and args and isinstance(args[0], Tensor):
            if func is nn.functional.linear and args[0].shape[:-1].numel() > 1:
                x, weight, *bias = args
                return torch.ops.mkldnn._linear_pointwise(x, weight, *(bias or [None]), "none", [], "")
            if func is torch.addmm and len(args[1]) > 1:  # GPT-2's layers, whose weights are the other way round
                bias, x, weight = args
                return torch.ops.mkldnn._linear_pointwise(x, weight.t(), bias, "none", [], "")
        return func(*args, **(kwargs or {}))


def products(x: Tensor) -> AbstractContextManager[object]:
    """What to multiply x [..., d] under: `OneDNN` where it is faster."""
    wide = x.shape[-1] >= WIDE and x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled()
    available = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return OneDNN() if wide and available else nullcontext()


class Codi(nn.Module):
    """A backbone, its projection and the three ids that follow the tokenizer's vocabulary of size V.

    backbone: Hugging Face causal LM whose embeddings hold V + 3 rows. projection: a `Projection`, or `nn.Identity()` where
    the hidden state itself is fed (Coconut). num_latents: K, the thoughts fed between bot and eot. extra_ids: (pad, bot, eot),
    CODI's V, V + 1, V + 2 unless given. question_suffix: text behind every question (Coconut's newline).
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        projection: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        vocab_size: int,
        num_latents: int,
        name: str = "",
        extra_ids: tuple[int, int, int] | None = None,
        question_suffix: str = "",
    ):
        super().__init__()
        self.backbone, self.projection, self.tokenizer = backbone, projection, tokenizer
        self.vocab_size, self.num_latents, self.name = vocab_size, num_latents, name
        self.pad_id, self.bot_id, self.eot_id = extra_ids or (vocab_size, vocab_size + 1, vocab_size + 2)
        self.question_suffix = question_suffix
        self.eos_id = tokenizer.eos_token_id
        self.fingerprint = ""  # sha256 of the files it was loaded from
        for module in backbone.modules():
            if self.width >= WIDE and isinstance(getattr(module, "act", None), NewGELUActivation):
                module.act = nn.GELU(approximate="tanh")  # the same function in one pass over memory, not eight

    @property
    def num_layers(self) -> int:
        return self.backbone.config.num_hidden_layers

    @property
    def width(self) -> int:
        return self.backbone.config.hidden_size

    @property
    def num_positions(self) -> int | None:
        """How many positions a table of position embeddings has (GPT-2); None where there is no such table."""
        config = self.backbone.config
        return config.max_position_embeddings if config.model_type == "gpt2" else None

    def check_length(self, needed: int, what: str) -> None:
        """Raises ProblemError if so many inputs have no positions."""
        if self.num_positions is not None and needed > self.num_positions:
            name = self.name or "the backbone"
            raise ProblemError(f"{what}: needs {needed} positions, and {name} has {self.num_positions}")

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def num_parameters(self) -> int:
        """Every parameter once (a tied head shares the embedding), projection included."""
        return sum(p.numel() for p in self.parameters())

    def embed(self, ids: Tensor) -> Tensor:
        """ids [b, t] → input embeddings [b, t, d] (without position embeddings, which the backbone adds)."""
        return self.backbone.get_input_embeddings()(ids)

    def logits(self, final_normed: Tensor) -> Tensor:
        """final_normed [..., d] → logits [..., V + 3]."""
        with products(final_normed):
            return self.backbone.get_output_embeddings()(final_normed)

    def answer_logits(self, final_normed: Tensor) -> Tensor:
        """final_normed [..., d] → logits [..., V + 2] over every id but eot, which is never generated."""
        logits = self.logits(final_normed)
        if self.eot_id == logits.shape[-1] - 1:
            return logits[..., :-1]
        return torch.cat([logits[..., : self.eot_id], logits[..., self.eot_id + 1 :]], dim=-1)

    def answer_ids(self, answer_logits: Tensor) -> Tensor:
        """The greedy ids of `answer_logits`, [...]."""
        ids = answer_logits.argmax(-1)
        return ids + (ids >= self.eot_id)

    def pad(self, sequences: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Left-padded ids [b, t] and their mask [b, t] (1 where there is a token)."""
        longest = max(len(s) for s in sequences)
        ids = torch.tensor([[self.pad_id] * (longest - len(s)) + list(s) for s in sequences], device=self.device)
        mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences], device=self.device)
        return ids, mask


class Tape:
    """Keys or values [b, heads, capacity, d_head] of one block; the first `filled` inputs are written.

    Appending copies nothing that is there already, except where two histories go on from one prefix, or a full tape moves to
    one with room for half as much again (32 at least). Over C conditions t = longest question + 1 + K, then what follows each
    condition's first edit, then C (1 + gold ids + answer): two tapes a block hold no more than 2 b heads d_head (1.5 t + 32)
    numbers, and while one of them moves the same again for it alone.
    """

    def __init__(self, held: Tensor, filled: int | None = None):
        self.held, self.filled = held, held.shape[2] if filled is None else filled

    def append(self, start: int, new: Tensor) -> tuple[Tape, Tensor]:
        """The tape with `new` behind its first `start` inputs, and everything up to there (a view)."""
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
    """How long a tape is made that now needs this length."""
    return length + max(32, length // 2)


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
        return KeyValues(
            [
                cast(tuple[Tape, Tape], tuple(Tape(tape.held[:, :, : self.length][rows][:, :, slots]) for tape in pair))
                for pair in self.tapes
            ],
            len(slots),
        )


def join(states: Sequence[State], order: Tensor) -> State:
    """States of one branch as one batch, padded on the left to the longest; order: which row each of theirs becomes."""
    longest = max(state.length for state in states)
    tapes: list[tuple[Tape, Tape]] = []
    for pairs in zip(*(state.cache.tapes for state in states)):
        pair = []
        for parts in zip(*pairs):
            _, heads, _, width = parts[0].held.shape
            buffer = parts[0].held.new_zeros(len(order), heads, roomy(longest), width)  # what is masked must still be finite
            start = 0
            for state, part in zip(states, parts):
                rows = order[start : start + len(state.position)]
                buffer[rows, :, longest - state.length : longest] = part.held[:, :, : state.length]
                start += len(rows)
            pair.append(Tape(buffer, longest))
        tapes.append(cast(tuple[Tape, Tape], tuple(pair)))
    inverse = order.argsort()
    sees = torch.cat([nn.functional.pad(state.sees, (longest - state.length, 0)) for state in states])
    position, last = (torch.cat([getattr(state, name) for state in states])[inverse] for name in ("position", "last"))
    return State(KeyValues(tapes, longest), sees[inverse], position, last[:, None])


@dataclass(frozen=True)
class State:
    """Where a batch stands: what was fed, and C branches that go on from it, each seeing its own history.

    sees: which inputs the next one of each branch attends to, bool [b, C, t]. position: its position, [b, C]. hidden:
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
        """How many inputs were fed, paddings and branches included."""
        return self.sees.shape[2]

    def all_seen(self) -> State:
        """The same with paddings attended to from now on."""
        return replace(self, sees=torch.ones_like(self.sees))

    def rows(self, keep: Tensor) -> State:
        """Some rows of the batch, by index; inputs that none of them sees are let go."""
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
    """Feed inputs [b, s, d], one after another, behind a state of one branch (None: at the beginning).

    mask [b, s]: 1 where there is an input, 0 for padding, which nothing attends to. positions [b, s]: counted over the mask
    unless given.
    """
    b, s, _ = embeds.shape
    new_mask = torch.ones(b, s, dtype=torch.bool, device=embeds.device) if mask is None else mask.bool()
    if positions is None:
        start = 0 if state is None else state.position
        positions = (start + new_mask.cumsum(1) - 1).clamp(min=0)
    visible = new_mask[:, None] & torch.ones(s, s, dtype=torch.bool, device=embeds.device).tril()
    sees, cache = (
        (visible, KeyValues()) if state is None else (torch.cat([state.sees.expand(b, s, -1), visible], dim=2), state.cache)
    )
    next_sees = new_mask[:, None] if state is None else torch.cat([state.sees, new_mask[:, None]], dim=2)
    return _run(model, cache, embeds, sees, positions, next_sees, positions[:, -1:] + 1, all_layers)


def step(model: Codi, state: State, embeds: Tensor, branches: Sequence[int] | None = None) -> State:
    """Feed one input behind each branch: embeds [b, C, d], or [b, len(branches), d] behind those alone; the others wait.

    The branches of a row share what they share of its keys and values; nothing is computed or kept twice.
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
    """Feed s inputs, one after another, behind every branch in one pass: embeds [b, C, s, d]; `hidden` is [b, C s, d]."""
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
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=all_layers,
        )
    cache.length = next_sees.shape[2]
    return State(cache, next_sees, next_position, out.last_hidden_state, tuple(out.hidden_states) if all_layers else ())
