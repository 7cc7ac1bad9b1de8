"""The model: a causal backbone that feeds its own last hidden state back, and the latent loop over it.

Words (DESIGN): `bot` opens the thoughts, `latent_pos` k is the step whose input is z_k, `eot` opens the answer; `layer`
counts blocks applied, so `hidden_states[0]` is the input embedding and the last entry, after the final norm, is
`final_normed`. Batches are padded on the left; mask and positions go through every phase, so no result depends on a
problem's neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

try:
    from transformers.cache_utils import DynamicLayer
except ImportError:  # transformers before 4.54 keeps keys and values in two lists
    DynamicLayer = None


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
    first, second = projection[1], projection[3]
    if first.out_features != 2 * first.in_features:
        raise ValueError(f"an identity needs the inner width {2 * first.in_features}, not {first.out_features}")
    eye = torch.eye(first.in_features, device=first.weight.device)
    first.weight.copy_(torch.cat([eye, -eye]))
    second.weight.copy_(torch.cat([eye, -eye], dim=1))
    first.bias.zero_()
    second.bias.zero_()
    projection.ln.weight.fill_(scale)


class Codi(nn.Module):
    """A backbone, its projection and the three ids that follow the tokenizer's vocabulary of size V.

    backbone: Hugging Face causal LM whose embeddings hold V + 3 rows. num_latents: K, the thoughts fed between bot and eot.
    """

    def __init__(self, backbone, projection: nn.Module, tokenizer, *, vocab_size: int, num_latents: int, name: str = ""):
        super().__init__()
        self.backbone, self.projection, self.tokenizer = backbone, projection, tokenizer
        self.vocab_size, self.num_latents, self.name = vocab_size, num_latents, name
        self.pad_id, self.bot_id, self.eot_id = vocab_size, vocab_size + 1, vocab_size + 2
        self.eos_id = tokenizer.eos_token_id
        self.fingerprint = ""  # sha256 of the files it was loaded from

    @property
    def num_layers(self) -> int:
        return self.backbone.config.num_hidden_layers

    @property
    def width(self) -> int:
        return self.backbone.config.hidden_size

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
        return self.backbone.get_output_embeddings()(final_normed)

    def pad(self, sequences: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Left-padded ids [b, t] and their mask [b, t] (1 where there is a token)."""
        longest = max(len(s) for s in sequences)
        ids = torch.tensor([[self.pad_id] * (longest - len(s)) + list(s) for s in sequences], device=self.device)
        mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences], device=self.device)
        return ids, mask


@dataclass(frozen=True)
class State:
    """Where a batch stands: keys and values of what was fed, its mask, and the states of the newest inputs.

    layers: one (keys, values) [b, heads, t, d_head] a block. mask [b, t]. hidden: `final_normed` of the newest inputs
    [b, s, d]. hidden_states: the same for every layer, L + 1 entries, or () when not asked for.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor
    hidden: Tensor
    hidden_states: tuple[Tensor, ...] = ()

    @property
    def last(self) -> Tensor:
        """`final_normed` of the newest input, [b, d]: what the projection and the head read."""
        return self.hidden[:, -1]

    def prefix(self, length: int) -> State:
        """The same batch after its first `length` inputs (views, nothing is copied)."""
        return State(
            tuple((k[:, :, :length], v[:, :, :length]) for k, v in self.layers), self.mask[:, :length], self.hidden[:, :0]
        )

    def rows(self, keep: Tensor) -> State:
        """Some rows of the batch, by index."""
        return State(tuple((k[keep], v[keep]) for k, v in self.layers), self.mask[keep], self.hidden[keep])

    @property
    def length(self) -> int:
        return self.mask.shape[1]


def feed(model: Codi, state: State | None, embeds: Tensor, mask: Tensor | None = None, *, all_layers: bool = False) -> State:
    """Feed inputs [b, s, d] after a state (None: at the beginning); earlier inputs are never computed again."""
    new = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device) if mask is None else mask
    full = new if state is None else torch.cat([state.mask, new], dim=1)
    positions = (full.cumsum(1) - 1).clamp(min=0)[:, -new.shape[1] :]
    out = model.backbone.base_model(
        inputs_embeds=embeds,
        attention_mask=full,
        position_ids=positions,
        past_key_values=_cache(state),
        use_cache=True,
        output_hidden_states=all_layers,
    )
    return State(_layers(out.past_key_values), full, out.last_hidden_state, tuple(out.hidden_states) if all_layers else ())


def _cache(state: State | None) -> DynamicCache:
    cache = DynamicCache()
    for i, (keys, values) in enumerate(state.layers if state is not None else ()):
        if DynamicLayer is None:
            cache.update(keys, values, i)
            continue
        layer = DynamicLayer()  # filled by hand: `update` would copy everything once more
        layer.keys, layer.values, layer.is_initialized = keys, values, True
        layer.dtype, layer.device = keys.dtype, keys.device
        cache.layers.append(layer)
    return cache


def _layers(cache: DynamicCache) -> tuple[tuple[Tensor, Tensor], ...]:
    if hasattr(cache, "layers"):
        return tuple((layer.keys, layer.values) for layer in cache.layers)
    return tuple(zip(cache.key_cache, cache.value_cache))
