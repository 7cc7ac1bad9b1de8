"""What `codi-bench answer` writes: a line a problem, and how many are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codi_bench.problems import parse_number, score
from codi_bench.problems.answers import in_words, parse_words
from codi_bench.thoughts.record import Answers


def answer_lines(answers: Answers, golds: Sequence[str]) -> list[dict[str, Any]]:
    """tokens, text and answer of each problem; `correct` where it has a gold answer, `correct_study` where that differs."""
    read, lines = parse_words if in_words(golds) else parse_number, []
    for tokens, text, gold in zip(answers.tokens, answers.texts, golds, strict=True):
        line = {"tokens": list(tokens), "text": text, "answer": read(text)}
        if gold:
            published, study = (score(text, gold, scoring) for scoring in ("published", "study"))
            line |= {"correct": published} if study == published else {"correct": published, "correct_study": study}
        lines.append(line)
    return lines


def right_counts(lines: Sequence[dict[str, Any]]) -> str:
    """How many of the problems that have an answer are right, by each scoring if they differ."""
    scored = [line for line in lines if "correct" in line]
    unscored = f"{len(lines) - len(scored)} of {len(lines)} problems have no answer to compare with"
    if not scored:
        return unscored
    published = sum(line["correct"] for line in scored)
    study = sum(line.get("correct_study", line["correct"]) for line in scored)
    text = f"{published} of {len(scored)} right by the published scoring"
    text += " and the study's" if study == published else f"; {study} of {len(scored)} right by the study scoring"
    return text if len(scored) == len(lines) else f"{text}; {unscored}"
