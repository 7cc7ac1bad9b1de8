"""Read a steering experiment on a Coconut that was trained on ProsQA, problem by problem.

Its positions count latents from 1: position p is the latent position p - 1.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codi_bench.thoughts.released import Repository, released

COCONUT_COT = Repository("valerieliang/coconut-cot", "d308c16")


@dataclass(frozen=True, eq=False)
class WordAnswers:
    """The answers to n problems: words, str [n], and whether they were counted as right, bool [n]."""

    words: np.ndarray
    right: np.ndarray


@dataclass(frozen=True, eq=False)
class SteeredAnswers:
    """Answers of the clean run, and answers by (latent position that was steered, strength), on the same problems."""

    clean: WordAnswers
    steered: Mapping[tuple[int, int], WordAnswers]


@released(
    COCONUT_COT,
    "steering/outputs/results.csv",
    "dce440f78662baf28177293bfb8a87ee413d63c5f7d58515cc614b76e574f5f1",
    unknown="checkpoint (its script names checkpoint_48 of a training of its own), dtype, layer, directions",
)
def steering(path: Path) -> SteeredAnswers:
    """300 validation problems under 20 conditions: five latents, four strengths each."""
    conditions: dict[tuple[int, int], list[dict[str, str]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            conditions.setdefault((int(row["position"]) - 1, int(row["alpha"])), []).append(row)
    answers = {}
    for condition, rows in conditions.items():
        rows.sort(key=lambda row: int(row["sample_idx"]))
        words, right = [row["predicted_word"] for row in rows], [row["correct"] == "1" for row in rows]
        answers[condition] = WordAnswers(np.array(words), np.array(right))
    return SteeredAnswers(answers.pop((-1, 0)), answers)
