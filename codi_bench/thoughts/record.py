"""What is kept of a run: states, latents and answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Answers:
    """Greedy answers: token ids up to and including eos (ragged), and their text."""

    tokens: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Thoughts:
    """Captured states of n problems under K latents, and the answers that followed.

    hidden_states [n, 1 + K, L + 1, d]: at bot, then at latent positions 0..K-1; layer 0 is the input embedding, the last
    entry is `final_normed`. latents [n, K + 1, d]: z_0..z_K (z_K is never fed). first_logits [n, V + 2]: at eot, over
    every id but eot itself. answers: None if none were asked for. confidence [n, 2]: mean log-probability of the answer's tokens,
    and the least margin of a token over the second best, in nats. A field that was not captured is None.
    """

    hidden_states: np.ndarray | None = None
    latents: np.ndarray | None = None
    first_logits: np.ndarray | None = None
    answers: Answers | None = None
    confidence: np.ndarray | None = None
