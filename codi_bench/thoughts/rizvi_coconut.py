"""Read answers of Coconuts on ProsQA and ProntoQA without latents, and how probable the right answer is as they think (MIT).

Its thought k is the latent position k - 1; before thinking is bot, after thinking eot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codi_bench.errors import ProblemError
from codi_bench.thoughts.released import Repository, read_json, released

RIZVI_COCONUT = Repository("michaelrizvi/coconut", "8a939d7")
HERE = "analysis/results"
LATENTS = 6
ASKED = re.compile(r"Is (\w+) an? (\w+) or (\w+)\?")
RULE = re.compile(r"(\w+) is an? (\w+)\.")  # of ProsQA: `Every gerpus is a terpus.`, `Sally is a gerpus.`


@dataclass(frozen=True, eq=False)
class UnaidedAnswers:
    """Answers to n questions without any latent.

    golds, words: last word of the right answer and of what was answered, str [n]; options: the two words that may be answered, in
    their order, str [n, 2]; right bool [n]: as counted, by all text after the last #.
    """

    questions: tuple[str, ...]
    golds: np.ndarray
    words: np.ndarray
    options: np.ndarray
    right: np.ndarray


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Probability of the right and of the wrong answer to n questions, float [n] each, at places on the way to the answer."""

    right: Mapping[str, np.ndarray]
    wrong: Mapping[str, np.ndarray]


def _last_word(text: str) -> str:
    return text.rstrip(" .").split()[-1]


def _unaided(path: Path) -> UnaidedAnswers:
    rows = read_json(path)["results"]
    questions = [row["full_output"].partition("\n")[0] for row in rows]
    golds, words = ([_last_word(row[key]) for row in rows] for key in ("expected", "full_output"))
    asked = [ASKED.search(question) for question in questions]
    options = [found.groups()[1:] if found else ("True", "False") for found in asked]
    right = np.array([row["correct"] for row in rows], bool)
    return UnaidedAnswers(tuple(questions), np.array(golds), np.array(words), np.array(options), right)


@released(
    RIZVI_COCONUT,
    f"{HERE}/test/coconut_no_latent_eval.json",
    "3e973465ccce06673dfd5fcddeead856229ee6e5cd08c2dda712fd3c2310c1ba",
)
def prosqa_unaided(path: Path) -> UnaidedAnswers:
    """Coconut on GPT-2, ProsQA's 500 test problems."""
    return _unaided(path)


@released(
    RIZVI_COCONUT,
    f"{HERE}/prontoqa/no_latent_accuracy.json",
    "55f5e3c681140fea4987b152d7fc77ff8e677e25e69c7e31a28dfea28a363619",
)
def prontoqa_unaided(path: Path) -> UnaidedAnswers:
    """Coconut on GPT-2, 800 test problems of ProntoQA."""
    return _unaided(path)


@released(
    RIZVI_COCONUT,
    f"{HERE}/smollm2_135m_no_latent_eval.json",
    "52f78cac24acc7567d860aa518b1aa807d7a7e1e15bfd936b96965d553cf97a9",
)
def smollm2_unaided(path: Path) -> UnaidedAnswers:
    """Coconut on SmolLM2-135M, ProsQA's 300 validation problems."""
    return _unaided(path)


@released(
    RIZVI_COCONUT,
    f"{HERE}/coconut_entity_probs.json",
    "6e7b02c7d696ab0e35e104109ed624386233017fd023d1c20401ee9a5258aa52",
)
def prosqa_beliefs(path: Path) -> Beliefs:
    """Coconut on GPT-2, ProsQA's 300 validation problems: the probabilities of the right word and of the other option."""
    rows = read_json(path)["examples"]

    def probability(key: str) -> dict[str, np.ndarray]:
        values = np.array([row["entity_probs"][row["entities"][row[key]]] for row in rows], float).T
        return dict(zip(["bot", *(f"latent_{k}" for k in range(LATENTS)), "eot"], values, strict=True))

    return Beliefs(probability("target"), probability("neg_target"))


@released(
    RIZVI_COCONUT,
    f"{HERE}/prontoqa/true_false_belief.json",
    "ecee78cf8f1d51b5c3de9bd69e8ee2695484895d06ace1a4956bab6dc28dd3a9",
)
def prontoqa_beliefs(path: Path) -> Beliefs:
    """Coconut on GPT-2, the first 200 of the same ProntoQA problems: True and False, which add to 1; latent 5 was not read."""
    rows = read_json(path)["results"]
    true = np.array([row["p_norm"] for row in rows], float)
    right = np.where([[row["answer"] == "True"] for row in rows], true, 1 - true).T
    by_place = dict(zip(["bot", *(f"latent_{k}" for k in range(LATENTS - 1)), "eot"], right, strict=True))
    return Beliefs(by_place, {place: 1 - each for place, each in by_place.items()})


def hops(question: str, gold: str) -> int:
    """Number of steps on the shortest path from the name that a question of ProsQA asks about to the right answer.

    Raises ProblemError if there is no path.
    """
    asked = ASKED.search(question)
    rules = RULE.findall(question)
    reached, steps = {asked[1]} if asked else set(), 0
    while reached and gold not in reached:
        more = reached | {kind for member, kind in rules if member in reached}
        reached, steps = (more, steps + 1) if more != reached else (set(), steps)
    if not reached:
        raise ProblemError(
            f"'{gold}' does not follow from the rules in the question '{question[:60]}…'; give a question of ProsQA"
        )
    return steps
