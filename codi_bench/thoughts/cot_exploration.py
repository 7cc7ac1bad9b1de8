"""Read what the first study's repository released: right and wrong by problem, pairs of problems, and the head's first words.

Its tokens are `bot-first`: place 0 is bot, place t the latent position t - 1. Predictions are whole texts or their last number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from codi_bench.problems.problem import Problem
from codi_bench.problems.readers import read_gsm8k
from codi_bench.thoughts.released import Repository, first_rows, read_json, released

COT_EXPLORATION = Repository("GusSand/CoT_Exploration", "4c3a34f882ee")
HERE = "src/experiments"
NO_HASH = "hash of the checkpoint"
FP32 = f"{NO_HASH}; float32, batch size 1 in the script that wrote it"


@dataclass(frozen=True, eq=False)
class Labels:
    """n problems without their steps; right bool [n]; number bool [n, places]: is the head's first word one?

    The words are read without the final norm.
    """

    problems: tuple[Problem, ...]
    right: np.ndarray
    number: np.ndarray


@dataclass(frozen=True, eq=False)
class Pairs:
    """n pairs: a problem of GSM8K's test set, and the same with other numbers, for which GPT-4 computed the answer.

    clean, perturbed: the members of a pair share a group, which shows when a pair occurs twice.
    """

    clean: tuple[Problem, ...]
    perturbed: tuple[Problem, ...]

    @property
    def distinct(self) -> np.ndarray:
        """Rows [groups] of the first occurrence of each pair."""
        return first_rows([problem.group for problem in self.clean])


@dataclass(frozen=True, eq=False)
class PairAnswers:
    """Answers to the members of n pairs, in the order of `Pairs`: texts, and right bool [n, 2] as its script counted them."""

    clean: tuple[str, ...]
    perturbed: tuple[str, ...]
    right: np.ndarray


@dataclass(frozen=True)
class ErrorClassifier:
    """Accuracies of a classifier that predicts errors from SAE features, fractions."""

    train_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class Importance:
    """Share of n problems that turn wrong when the state of a token at one layer is corrupted: at bot and five latents."""

    share: tuple[float, ...]
    n: int


@dataclass(frozen=True, eq=False)
class Words:
    """The head's first words after bot and six latents, words [n][places][3], of n members of pairs; right bool [n].

    clean bool [n]: is it the member from GSM8K? groups: its pair. answers: numbers [n] by condition; golds [n]: the numbers that
    the script compared them with, if it had one.
    """

    questions: tuple[str, ...]
    groups: tuple[str, ...]
    clean: np.ndarray
    right: np.ndarray
    words: tuple[tuple[tuple[str, ...], ...], ...]
    answers: Mapping[str, np.ndarray]
    golds: np.ndarray


def _pair(row: dict) -> str:
    return f"pair-{int(row['pair_id'])}"


def _labels(path: Path) -> Labels:
    rows = read_json(path)["samples"]
    problems = [
        Problem(row["question"], (), f"{row['ground_truth']}", _pair(row) if "pair_id" in row else f"{row['id']}") for row in rows
    ]
    number = [[place["is_number"] for place in row["decoded_positions"]] for row in rows]
    return Labels(tuple(problems), np.array([row["is_correct"] for row in rows], bool), np.array(number, bool))


@released(
    COT_EXPLORATION,
    f"{HERE}/gpt2_token_ablation/results/gpt2_final_layer_decoding.json",
    "94b1638332a71ce21cf50f45a9399da9d479c1d6c398f363458e359e2275c9d2",
    unknown=FP32,
)
def gpt2_labels(path: Path) -> Labels:
    """CODI-GPT-2 on the first 1000 problems of GSM8K's test set: labels of the study's probes and SAE."""
    return _labels(path)


@released(
    COT_EXPLORATION,
    f"{HERE}/gpt2_token_ablation/results/llama_final_layer_decoding.json",
    "4208ff87ab9f9bb39dd7b298f1bc847e257d3d7a2adbccb6ece2ccd1b810c88a",
    unknown=f"{NO_HASH}, dtype, batch size",
)
def llama_labels(path: Path) -> Labels:
    """CODI-LLaMA-3.2-1B on 424 members of pairs, chosen because it needs its thoughts for them; 29 of them occur twice."""
    return _labels(path)


@released(
    COT_EXPLORATION,
    f"{HERE}/activation_patching/problem_pairs_gpt4_answers.json",
    "752480d3511b2f06577f23f1b79669cb0da88e8c2b8ad7fbaaab5dabf17a71d1",
    unknown="",
)
def problem_pairs(path: Path) -> Pairs:
    """The 532 pairs. Clean members take the answer from their full solution: the short one is cut at a comma (2 for 2,125)."""
    rows = read_json(path)
    solved = [read_gsm8k({"question": row["clean"]["question"], "answer": row["clean"]["full_answer"]}) for row in rows]
    perturbed = [Problem(row["corrupted"]["question"], (), f"{row['corrupted']['answer']}", _pair(row)) for row in rows]
    return Pairs(tuple(replace(p, group=_pair(row)) for p, row in zip(solved, rows, strict=True)), tuple(perturbed))


def _pair_answers(path: Path) -> PairAnswers:
    rows = read_json(path)["results"]
    clean, perturbed = (tuple(row[member]["output"] for row in rows) for member in ("clean", "corrupted"))
    return PairAnswers(
        clean, perturbed, np.array([[row[member]["correct"] for member in ("clean", "corrupted")] for row in rows])
    )


@released(
    COT_EXPLORATION,
    f"{HERE}/activation_patching/validation_results_gpt2_gpt4_532.json",
    "1c479ac4766c8b56ff51f270077de6bf4347cc1c1dc621361ec6dcb76d4cf997",
)
def gpt2_pairs(path: Path) -> PairAnswers:
    """CODI-GPT-2 on both members of the 532 pairs."""
    return _pair_answers(path)


@released(
    COT_EXPLORATION,
    f"{HERE}/activation_patching/validation_results_llama_gpt4_532.json",
    "f15e78fe4c25c8c50ff44c11dacc7bf348e1b3702da2a00a01ef3effd4d92700",
)
def llama_pairs(path: Path) -> PairAnswers:
    """CODI-LLaMA-3.2-1B on the same."""
    return _pair_answers(path)


@released(
    COT_EXPLORATION,
    f"{HERE}/gpt2_sae_training/results/classification_results_gpt2.json",
    "b1e6f2f0eb1378771ba5f6d39414339783e6e79430803871ad5b138daab95a9b",
    unknown=f"{NO_HASH}, seed of the SAE, which problems were predicted rightly",
)
def gpt2_error_classifier(path: Path) -> ErrorClassifier:
    """The study's classifier of CODI-GPT-2's errors: two accuracies, and no outcomes by problem."""
    return ErrorClassifier(**read_json(path))


@released(
    COT_EXPLORATION,
    f"{HERE}/codi_attention_interp/results/summary_statistics.json",
    "f05c110e3726ec7b44d2400ec899f1e4113a134d932482ea602b1c5c490bd48f",
    unknown=f"{NO_HASH}, dtype, batch size, and what became of single problems",
)
def llama_importance(path: Path) -> Importance:
    """What it costs CODI-LLaMA-3.2-1B to corrupt the state of one token at layer 8, by token."""
    content = read_json(path)
    tokens, lengths = content["per_token"], content["by_difficulty"].values()
    share = tuple(tokens[f"token_{t}"]["importance_mean"] for t in range(len(tokens)))
    return Importance(share, sum(length["num_problems"] for length in lengths))


def _words(path: Path) -> Words:
    conditions = read_json(path)["results"]
    rows = conditions["vanilla"]
    return Words(
        tuple(row["question"] for row in rows),
        tuple(map(_pair, rows)),
        np.array([row["variant"] == "clean" for row in rows]),
        np.array([row["correct"] for row in rows], bool),
        tuple(tuple(map(tuple, row["thought_tokens"])) for row in rows),
        {name: np.array([row["predicted_number"] for row in part], float) for name, part in conditions.items()},
        np.array([row["ground_truth"] for row in rows], float),
    )


BATCH_16 = f"{NO_HASH}; batch size 16, and probabilities as bfloat16 has them"


@released(
    COT_EXPLORATION,
    f"{HERE}/25-10-2025_discretization_methods_comparison/results/gpt2/final_results.json",
    "de07e4c687cc31aa980118ac3c3cf7f96b52cbdc47f1b8ff928cfc9659ec86c7",
    unknown=BATCH_16,
)
def gpt2_words(path: Path) -> Words:
    """What the head reads first in CODI-GPT-2's thoughts about 285 members of 219 pairs, nothing edited."""
    return _words(path)


@released(
    COT_EXPLORATION,
    f"{HERE}/25-10-2025_discretization_methods_comparison/results/llama/final_results.json",
    "143335b9fb1fccadb2965f4eeba5a6bb1dbd3a313bb8c9659273fc16f662b9ea",
    unknown=BATCH_16,
)
def llama_words(path: Path) -> Words:
    """The same of CODI-LLaMA-3.2-1B."""
    return _words(path)
