"""Read right and wrong answers of a Coconut on ProsQA and of its controls, trained alike with pause tokens instead of thoughts.

Names in its files: m3 is the Coconut (M2 in the paper), m5 the control with one pass (M3), m6 that with as many passes (M4). A
problem has as many thoughts as steps; they are numbered from 0 like latent positions. Results: CC-BY-4.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codi_bench.thoughts.released import Repository, read_json, released

RESEARCH_PIPELINE = Repository("bmarti44/research-pipeline", "7a6f14a")
HERE = "papers/coconut_curriculum_dissection/results"
COCONUT, PAUSE = "m3", "m5"
SETS = {"prosqa": "prosqa_id", "seven_hops": "7hop", "eight_hops": "8hop", "dag": "dag", "dense": "dense"}
NOISE = {"forward": "forward_corruption", "reverse": "reverse_corruption", "single": "single_position"}
PERMUTATIONS = 10  # of each problem's thoughts

RightBySet = Mapping[str, np.ndarray]  # bool [n] each


@dataclass(frozen=True)
class SpoiltThoughts:
    """Right answers of a model to n problems, as counts: clean, and by condition with noise in some thoughts.

    noise: by kind and latent position k: in 0..k (forward), in the last k + 1 (reverse), in k alone (single); a problem without
    a thought there was not run and counts as not right. transplanted: (right, n) with thoughts of another equally long problem.
    trials: answers that changed, of `PERMUTATIONS` orders of each problem's thoughts; flipped: problems with such an answer;
    swapped: those whose answer changed with neighbours exchanged.
    """

    n: int
    clean: int
    noise: Mapping[tuple[str, int], int]
    transplanted: tuple[int, int]
    trials: int
    flipped: int
    swapped: int


@released(
    RESEARCH_PIPELINE,
    f"{HERE}/experiments/per_sample_correctness.json",
    "8765fe4f0d197a852d9d3657a331baab50e3dfaaebc30f71eec22291a6dda4f9",
)
def prosqa_answers(path: Path) -> dict[str, RightBySet]:
    """Coconut and one-pass control, by model and set: ProsQA's 500 test problems, 1000 of each set out of distribution."""
    content = read_json(path)
    return {model: {name: np.array(content[f"{model}_{key}"], bool) for name, key in SETS.items()} for model in (COCONUT, PAUSE)}


@released(
    RESEARCH_PIPELINE,
    f"{HERE}/experiments/m6/per_sample_correctness.json",
    "b35c3fc887f41fd6673737e141070c2f23a27e591f5878ba0a89cdfec1d09c22",
)
def multipass_answers(path: Path) -> RightBySet:
    """The control with as many passes as the Coconut, on the same problems."""
    content = read_json(path)
    keys = {name: f"ood_{key}" for name, key in SETS.items()} | {"prosqa": "prosqa_test"}
    return {name: np.array(content[key], bool) for name, key in keys.items()}


@released(
    RESEARCH_PIPELINE,
    f"{HERE}/experiments/corruption/results.json",
    "86f8aa882e3ab54d4745c6a966276f5051abda9e587cda0bb671b3eb8fa32582",
    unknown="hash of the checkpoint, dtype, and which problems were right under a condition",
)
def spoilt_thoughts(path: Path) -> SpoiltThoughts:
    """The Coconut's answers under edits of its thoughts, ProsQA's 500 test problems."""
    content = read_json(path)[COCONUT]
    n, pairs, orders = (content[key] for key in ("total_samples", "cross_transplant_pairs", "permutation_total_samples"))
    return SpoiltThoughts(
        n,
        round(n * content["clean_accuracy"]),
        {(kind, k): round(n * share) for kind, key in NOISE.items() for k, share in enumerate(content[key])},
        (round(pairs * content["cross_transplant_accuracy"]), pairs),
        round(orders * PERMUTATIONS * content["mean_permutation_flip_rate"]),
        round(orders * content["permutation_flip_rate"]),
        round(orders * content["partial_permutation_flip_rate"]),
    )


@released(
    RESEARCH_PIPELINE,
    f"{HERE}/unmatched_transplant.json",
    "55ebe93abfda67cf40bdb298cb4bde49352afe4bcd68307f58d3dfb3215ae7df",
    unknown="hash of the checkpoint, dtype, and which problems were given whose thoughts",
)
def unmatched_transplants(path: Path) -> tuple[int, int]:
    """Right answers of the Coconut with the thoughts of any other problem, (right, n)."""
    content = read_json(path)[COCONUT]
    return content["unmatched_correct"], content["unmatched_total"]


@released(
    RESEARCH_PIPELINE,
    f"{HERE}/experiments/probing_corrected/m3_labels.json",
    "ad44044eeca359f26a96fa16f1602cff758c9d28886c3d29bc510150275c3a1f",
    unknown="",
)
def thought_counts(path: Path) -> tuple[int, ...]:
    """How many of ProsQA's 500 test problems have a thought at each latent position: as many as have that many steps."""
    content = read_json(path)
    return tuple(len(content[f"{k}"]) for k in range(len(content)))
