"""Questions that the first study left open, answered by experiment. Nothing was published on them, so nothing is reproduced."""

from __future__ import annotations

from codi_bench.claims.claim import Measured
from codi_bench.claims.families import FAMILIES

LEFT_OPEN = "GPT-2 vs LLaMA CODI: Comparative Analysis, 2025-10-24, left open: "
STEERED = LEFT_OPEN + "can editing one thought steer the answer?"
LEARNED = LEFT_OPEN + "do two models learn the same features?"
UNPUBLISHED = "nothing was published"
NO_ROWS: list[Measured] = []  # of the reported protocol
STEPS = (1, 2)
NUM_PAIRS = FAMILIES["edits"].n
