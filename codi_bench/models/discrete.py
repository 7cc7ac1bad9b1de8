"""Thoughts made discrete: what is fed is no state of the model but the embedding of the word that the head reads in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from codi_bench.errors import EditError
from codi_bench.models.codi import Codi, feed
from codi_bench.models.loop import each_batch, encode, end_thoughts, generate, texts, tokenise
from codi_bench.thoughts.record import Answers


@torch.inference_mode()
def answer_discretised(
    model: Codi, questions: Sequence[str], places: Sequence[int], *, batch_size: int = 64, max_new_tokens: int = 256
) -> Answers:
    """Greedy answers where the latents at some positions are the projected embedding of the head's first word there.

    The word is read from the state of this very run, after what was fed before. Ids behind the tokenizer's (pad, bot, eot) are no
    words. Raises EditError for a position that the model has not, and ProblemError for an empty question.
    """
    if any(not 0 <= place < model.num_latents for place in places):
        raise EditError(f"latent positions go from 0 to {model.num_latents - 1}, not {sorted(places)}")
    ids = tokenise(model, questions)
    tokens: list[list[int]] = [[] for _ in ids]

    def answer(rows: np.ndarray) -> None:
        bot = torch.full((len(rows), 1), model.bot_id, device=model.device)
        state = feed(model, encode(model, [ids[i] for i in rows]), model.embed(bot))
        for place in range(model.num_latents):
            thought = state.last
            if place in places:
                thought = model.embed(model.logits(thought)[..., : model.vocab_size].argmax(-1))
            state = feed(model, state, model.projection(thought).unsqueeze(1))
        _, answer_ids = generate(model, end_thoughts(model, state), max_new_tokens)
        for i, row in enumerate(rows):
            tokens[row] = answer_ids[i][0]

    each_batch(model, answer, ids, batch_size)
    return texts(model, tokens)
