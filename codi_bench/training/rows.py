"""Trained embedding rows: those of pad, bot and eot, and of the end of an answer, beside a frozen table."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codi_bench.models.codi import Codi


class RowCodi(Codi):
    """A `Codi` whose rows of eos, pad, bot and eot are a small parameter [4, d] of their own; the table stays frozen.

    A gradient of the whole table would cost half as much again as the head, and two moments for each of its numbers, so neither
    `requires_grad` on it nor a copy of it with other rows (as in peft's `trainable_token_indices`) will do. A head that is not
    tied has rows of its own.
    """

    row_ids: Tensor

    def __init__(self, plain: Codi):
        super().__init__(**_parts(plain))
        ids = [self.eos_id, self.pad_id, self.bot_id, self.eot_id]
        self.register_buffer("row_ids", torch.tensor(ids, device=self.device), persistent=False)
        embedding, head = self._tables()
        self.embedding_rows = nn.Parameter(embedding.detach()[self.row_ids].clone())
        self.head_rows = self.embedding_rows if head is embedding else nn.Parameter(head.detach()[self.row_ids].clone())

    def _tables(self) -> tuple[Tensor, Tensor]:
        modules = self.backbone.get_input_embeddings(), self.backbone.get_output_embeddings()
        return cast(tuple[Tensor, Tensor], tuple(module.weight for module in modules))

    def embed(self, ids: Tensor) -> Tensor:
        """ids [b, t] → input embeddings [b, t, d], with the trained rows."""
        places = ids.unsqueeze(-1) == self.row_ids  # [b, t, 4]
        rows = places.to(self.embedding_rows.dtype) @ self.embedding_rows
        return torch.where(places.any(-1, keepdim=True), rows, super().embed(ids))

    def logits(self, final_normed: Tensor) -> Tensor:
        """final_normed [..., d] → logits [..., V + 3], with the trained rows."""
        logits = super().logits(final_normed)
        return logits.index_copy_(-1, self.row_ids, F.linear(final_normed, self.head_rows))

    @torch.no_grad()
    def plain(self) -> Codi:
        """The model with its rows written into the tables; shares everything else."""
        for table, rows in zip(self._tables(), (self.embedding_rows, self.head_rows)):
            table[self.row_ids] = rows
        return Codi(**_parts(self))


def _parts(model: Codi) -> dict[str, Any]:
    """What a model is made of: the arguments of `Codi`."""
    names = ("backbone", "projection", "tokenizer", "vocab_size", "num_latents", "name", "prompt")
    return {name: getattr(model, name) for name in names} | {"extra_ids": (model.pad_id, model.bot_id, model.eot_id)}
