"""GSM8K's test problems with their gold chains, for releases that hold only answers."""

from __future__ import annotations

from pathlib import Path

from codi_bench.problems.problem import Problem
from codi_bench.problems.readers import read_gsm8k_aug
from codi_bench.thoughts.released import Repository, released


@released(
    Repository("da03/Internalize_CoT_Step_by_Step", "c2e3891"),
    "data/gsm8k/test.txt",
    "e464efa2713fbcf423bdbfb482c543a6a086188c3d97c294b1d19a70c2a515e8",
    unknown="",
)
def gsm8k_chains(path: Path) -> dict[str, Problem]:
    """Problems with their steps by `spelling` of their question, from lines `question||steps #### answer`."""
    problems = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        question, _, solution = line.partition("||")
        cot, _, answer = solution.partition("####")
        problems[spelling(question)] = read_gsm8k_aug({"question": question, "cot": cot, "answer": answer})
    return problems


def spelling(question: str) -> str:
    """A question without differences in blanks, to match problems of several files."""
    return " ".join(question.split())
