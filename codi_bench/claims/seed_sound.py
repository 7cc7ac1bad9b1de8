"""What the sound protocols of the first study's claims share: problems, surface and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from codi_bench.claims.claim import Bench, Captured
from codi_bench.measures.surface import surface_design
from codi_bench.problems.features import PRIORITY, surface_table
from codi_bench.rules.stats import Estimate
from codi_bench.rules.validity import half_effect

NUM_PROBLEMS, NUM_PROBED, NUM_ABLATED = 1000, 400, 300
PROBE_CS = (0.001, 0.01, 0.1)  # standardised features: at 0.1 the loss outweighs the penalty already, and fits take much longer
TOPK_EPOCHS = 10
ACCURACY_FLOOR = 0.05
SEED = 0
DEFAULT_PERMUTATIONS = 199  # of every null: carries Holm over five tests (docs/verdicts.md, section 1)
# Tests a (source, model, claim family), corrected together by Holm. The grid of probes is one max-statistic, so one test.
FAMILY_TESTS = {
    "task accuracy": 1,
    "probes": 1,
    "SAE errors": 4,
    "ablation": 1,
    "spread": 1,
    "edits": 1,
    "sharing": 4,
    "decoding": 1,
    "latents": 1,
    "other probes": 1,
    "contradictions": 1,
}
WINNER_TESTS = 3  # of two models: task accuracy, the AUC of the best probe, the AUC of SAE errors
NO_BOUND = "an extreme over cells has no honest interval; its null band is printed"


def captured(bench: Bench) -> Captured:
    """Problems thought about with all latents, in order."""
    return bench.captured(NUM_PROBLEMS, num_latents=bench.num_latents)


def surface(found: Captured, n: int) -> np.ndarray:
    """What the first n problems show without any thought, [n, columns]."""
    problems = found.problems[:n]
    table = surface_table(problems)
    return surface_design(table.numeric, table.categorical, len({p.group for p in problems}), priority=PRIORITY)


def effect_over(reported: Mapping[str, float], metric: str, nominal: float, floor: float) -> float:
    """Delta: half of the published effect over its null, not below the floor."""
    value = reported.get(metric)
    return half_effect(None if value is None else value - nominal, floor)


def as_points(value: Estimate) -> tuple[float, float | None, float | None]:
    return cast(
        "tuple[float, float | None, float | None]",
        tuple(None if part is None else 100 * part for part in (value.value, value.low, value.high)),
    )


def without_word(why: str) -> dict:
    return {"no_validity": why}


def ends(value: Estimate) -> list[float | None]:
    return [value.value, value.low, value.high]
