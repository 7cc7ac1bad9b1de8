"""The families of claims, and how many claims each corrects for.

A verdict is corrected for the budget of its family, not for the claims measured in a run or written so far. So one more claim,
another model or a subset changes no word (docs/verdicts.md, section 3). Only a release raises a budget.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How a family is corrected.

    tests: those of a row, corrected together by Holm. budget: the largest number of claims, by which each p is multiplied; None
    if all claims of the family are rows of the same tests. n: problems of its sound rows (docs/verdicts.md, section 7): as many
    generated ones as give 90 % power at the floor; a named set is used as a whole.
    """

    budget: int | None = None
    tests: int = 1
    n: int = 0


# In the order of the report. The grid of probes is one max-statistic, so one test. A fact has no test.
FAMILIES = {
    "task accuracy": Family(n=2400),  # a winner by 5 points with 35 to 45 % of the answers discordant
    "probes": Family(n=1200),  # 1140: best of 18 cells is not 0.10 in AUC above its null
    "SAE errors": Family(tests=5, n=2400),  # half of them held out: 3 points over raw activations with 10 % discordant take 1140
    "ablation": Family(n=2400),  # 1400: no position stands out by 3 points where all cost 5; a drop of 2 points
    "spread": Family(n=1200),  # those of the probes: 400 tell concentrated from even at an AUC of 0.75, weaker cells take more
    "size": Family(tests=0),
    "edits": Family(budget=12, n=1000),  # pairs, some 400 of them known; 220 tell 20 % that follow from 5 %
    "sharing": Family(tests=4),
    "decoding": Family(budget=24, n=1000),  # a quarter of them have a third step: 250 tell 19 % read from 5 %
    "latents": Family(budget=48, n=1000),  # a drop of 5 points with gains of 2 % takes 890
    "other probes": Family(budget=10),
    "contradictions": Family(budget=12),
    "released answers": Family(budget=40),  # a released file has the problems that it has
    "word answers": Family(budget=6),  # the 500 of ProsQA tell 97 % from a guess, and bound a loss by 5 points
}
WINNER_TESTS = 3  # of two models: task accuracy, the AUC of the best probe, the AUC of SAE errors


def budget_of(family: str) -> int:
    """The factor for p of a claim of that family. Raises KeyError for a family without a budget."""
    budget = FAMILIES[family].budget
    if budget is None:
        raise KeyError(f"{family} has no budget, since its claims are rows of the same tests")
    return budget
