"""How far an SAE's number is that of its split and its seed, of which the study took one each."""

from __future__ import annotations

import numpy as np

from codi_bench.claims import runs
from codi_bench.claims.claim import Bench, Protocols, Published, claim, measured, without_word
from codi_bench.claims.first_study.sae import FAMILY, SEEDS, audit_of
from codi_bench.claims.open_questions import LEFT_OPEN, NO_ROWS, UNPUBLISHED

NUM_PROBLEMS = 400  # trained on 25 times: a spread, which decides nothing, needs no more
SEEDS_TRIED = range(5)  # of the splits, and of the SAEs on each
FEWEST = 19  # permutations: of the audit only AUCs are read, which no null moves; its control needs some


@claim(
    "sae-folds",
    LEFT_OPEN + "does it depend on the split?",
    family=FAMILY,
    kind="fact",
    n=NUM_PROBLEMS,
    protocol=UNPUBLISHED,
    sound=(
        "five splits into halves by groups (they overlap: no partition), and five SAEs on each; AUC of "
        "their features for errors, its std over SAE seeds and over splits"
    ),
    seeds=SEEDS,
)
def sae_folds(bench: Bench, published: Published) -> Protocols:
    """Error prediction depends this much on the split and on the seed of the SAE."""
    yield NO_ROWS
    capture = runs.captured(bench, NUM_PROBLEMS)

    def on_split(split: int, seed: int) -> tuple[float, int]:
        audit = audit_of(bench, capture, permutations=FEWEST, seed=split, sae_seed=seed)
        return audit.sets["sae"].auc.value, audit.n

    tried = np.array([[on_split(split, seed) for seed in SEEDS_TRIED] for split in SEEDS_TRIED])  # [splits, seeds, 2]
    auc, n = tried[:, :, 0], int(tried[0, 0, 1])
    why = without_word("a spread over seeds and splits, which is no effect")
    within, between = auc.var(1, ddof=1).mean(), auc.mean(1).std(ddof=1)
    yield [
        measured("auc", float(auc.mean()), n, detail=why | {"auc": auc.tolist()}),
        measured("std_seeds", float(np.sqrt(within)), n, detail=why),
        measured("std_splits", float(between), n, detail=why),
    ]
