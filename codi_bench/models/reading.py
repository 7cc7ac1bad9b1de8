"""Read words from states with the head (logit lens)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from codi_bench.errors import MeasureError
from codi_bench.models.codi import Codi

AT_ONCE = 2**22  # logits that are held together


@torch.inference_mode()
def lens_ranks(model: Codi, hidden_states: np.ndarray, words: Sequence[Sequence[Sequence[int]]]) -> np.ndarray:
    """The rank that the head gives to a word (0: first), read from every state: int32 [n, places, L + 2, m].

    hidden_states: [n, places, L + 1, d]. Layers below the last pass the final norm first; the last is normed already; after it
    comes the projected thought, which is fed next. words: for each of n problems m words, each as the ids that can write it. The
    best of these ids counts; tied ids come first. A word without ids gets -1.
    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    n, places, layers, _ = hidden_states.shape
    m = len(words[0]) if n else 0
    ranks = np.full((n, places, layers + 1, m), -1, np.int32)
    chunk = max(1, AT_ONCE // (places * (layers + 1) * (model.vocab_size + 3)))
    for start in range(0, n, chunk):
        states = torch.tensor(hidden_states[start : start + chunk], device=model.device, dtype=model.backbone.dtype)
        thoughts = torch.stack([model.thought(states[:, k, -1:], k) for k in range(places)], dim=1)
        normed = torch.cat([final_norm(model)(states[:, :, :-1]), states[:, :, -1:], thoughts], dim=2)
        logits = model.logits(normed).float()
        for i, problem in enumerate(words[start : start + chunk]):
            for j, ids in enumerate(problem):
                if ids:
                    word_logits = logits[i, ..., list(ids)]
                    best = word_logits.amax(-1, keepdim=True)
                    num_before = (logits[i] >= best).sum(-1) - (word_logits >= best).sum(-1)  # a tie is no first place
                    ranks[start + i, ..., j] = num_before.cpu().numpy()
    return ranks


@torch.inference_mode()
def lens_words(model: Codi, states: np.ndarray, count: int) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """The first `count` words that the head reads, [n][places][count], from states after the final norm, [n, places, d].

    Each id is decoded alone; pad, bot and eot, which the tokenizer does not know, are skipped. The words are as the published
    `probe_latent_token.py` prints them.
    """
    n, places, _ = states.shape
    chunk, top_ids = max(1, AT_ONCE // (places * (model.vocab_size + 3))), []
    for start in range(0, n, chunk):
        chunk_states = torch.tensor(states[start : start + chunk], device=model.device, dtype=model.backbone.dtype)
        top_ids.append(model.logits(chunk_states).float().topk(count, dim=-1).indices.cpu())
    ids = torch.cat(top_ids).tolist()
    text_of = {
        i: cast(str, model.tokenizer.decode([i])) if i < model.vocab_size else ""
        for problem in ids
        for place in problem
        for i in place
    }
    return tuple(tuple(tuple(text_of[i] for i in place) for place in problem) for problem in ids)


def final_norm(model: Codi) -> torch.nn.Module:
    """The norm after the last block: `ln_f` of GPT-2, `norm` of Llama. Raises MeasureError for a backbone that has neither."""
    base = model.backbone.base_model
    for name in ("ln_f", "norm"):
        if hasattr(base, name):
            return getattr(base, name)
    raise MeasureError(
        f"the final norm of a {model.backbone.config.model_type} backbone is not known; the lens works with GPT-2 and Llama"
    )


def word_ids(model: Codi, text: str) -> list[int]:
    """The single ids that write a text, with and without a space before it; empty if it takes several ids."""
    encodings = [model.tokenizer(form, add_special_tokens=False)["input_ids"] for form in (text, f" {text}")]
    return sorted({ids[0] for ids in encodings if len(ids) == 1})
