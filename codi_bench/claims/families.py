"""The families of claims, and how many claims each corrects for.

A verdict is corrected for the budget of its family and not for what was measured in a run, or has been written down so far: one
more claim, another model or a subset changes no word (docs/verdicts.md, section 3). A budget is raised by a release alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How a family is corrected.

    tests: those of a row, which are corrected together by Holm. budget: claims that it may grow to, by which their p are
    multiplied; None where all claims of the family are rows of the same tests.
    """

    budget: int | None = None
    tests: int = 1


# In the order of the report. The grid of probes is one max-statistic, so one test. A fact has no test.
FAMILIES = {
    "task accuracy": Family(),
    "probes": Family(),
    "SAE errors": Family(tests=4),
    "ablation": Family(),
    "spread": Family(),
    "size": Family(tests=0),
    "edits": Family(budget=12),
    "sharing": Family(tests=4),
    "decoding": Family(budget=24),
    "latents": Family(budget=48),
    "other probes": Family(budget=5),  # what 199 permutations carry: 5/200 is just alpha
    "contradictions": Family(budget=12),
}
WINNER_TESTS = 3  # of two models: task accuracy, the AUC of the best probe, the AUC of SAE errors


def budget_of(family: str) -> int:
    """By which p of a claim of that family are multiplied; raises KeyError for a family without a budget."""
    budget = FAMILIES[family].budget
    if budget is None:
        raise KeyError(f"{family} has no budget: its claims are rows of the same tests")
    return budget
