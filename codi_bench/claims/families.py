"""The families of claims, and how many tests each may come to.

A verdict is corrected for the budget of its family and not for what was measured in a run, or has been written down so far: one
more claim, another model or a subset changes no word (docs/verdicts.md, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """budget: claims that the family may grow to. tests: of one claim's row, corrected together by Holm."""

    budget: int
    tests: int = 1


WINNER_TESTS = 3  # of two models: task accuracy, the AUC of the best probe, the AUC of SAE errors
# In the order of the report. The grid of probes is one max-statistic, so one test.
FAMILIES = {
    "task accuracy": Family(1),
    "probes": Family(4),
    "SAE errors": Family(5, tests=4),
    "ablation": Family(2),
    "spread": Family(1),
    "size": Family(1, tests=0),
    "edits": Family(7),
    "sharing": Family(3, tests=4),
    "decoding": Family(12),
    "latents": Family(29),
    "other probes": Family(3),
    "contradictions": Family(4),
}
