"""Thoughts in words: the head's first words for the state after each thought, as the authors of CODI released them.

Source: `outputs/decoded_latent.txt` of github.com/zhenyi4/codi, made by its `probe_latent_token.py` with zen-E/CODI-gpt2 over the
test split of GSM8K. It has only problems that were answered rightly. Place 0 is the state at bot, place k + 1 that at latent
position k. With `test_attention` the script also writes, before each place and before the answer, which tokens were attended to;
these lines are skipped.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from codi_bench.errors import ProblemError
from codi_bench.problems.answers import plain
from codi_bench.problems.problem import Problem
from codi_bench.thoughts.released import Repository, read_text, released

NUM_ASKED = 1319  # problems of the test split, of which the log has those answered rightly
HEAD = re.compile(r"Question(\d{1,9})\.\.\.$")
SOLUTION = re.compile(r"CoT=(.*), Answer=(\S+)$")
LATENT = re.compile(r"decoded (\d{1,9})th latent \(top ?(\d{1,9})\): (\[.*\])$")
ATTENDED = re.compile(r"decoded (\d+th latent|before answer token)'s attended tokens \(top ?\d+\): ")
FLOAT = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)  # as Python prints it
NUMBER = r"\d+(\.\d+)?|\.\d+"
SAID = "Model Prediction: "
END = re.compile(r"(<\|\w+\|>|</s>)+$")  # an answer that ended by itself
MEND = "; give the file as it was released"
CUT = f" (the last problem: is the file cut off?){MEND}"
GPT2_PLACES, GPT2_END = 7, "<|endoftext|>"
BLANKS = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n"})  # how tokenizers spell them in words that were not decoded


@dataclass(frozen=True)
class Decoded:
    """n problems answered rightly out of `asked`. words [n][places][k]: the head's first k words; said [n]: texts of the answers.

    other_model: the signs that another model than CODI-GPT-2 made this, in words.
    """

    problems: tuple[Problem, ...]
    words: tuple[tuple[tuple[str, ...], ...], ...]
    said: tuple[str, ...]
    asked: int
    other_model: tuple[str, ...] = ()

    def numbers(self) -> np.ndarray:
        """Each word as a number, NaN if it is not one: float64 [n, places, k]."""
        return np.array([[[number(word) for word in place] for place in places] for places in self.words])


def load_decoded(path: Path) -> Decoded:
    """Read a released log. Raises ProblemError, naming file, line and fault, for a file that is not such a log."""
    try:
        lines = read_text(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemError(f"{path}: {error}; give the released decoded_latent.txt") from error
    starts = [i for i, line in enumerate(lines) if HEAD.match(line)]
    if not starts or any(line.strip() for line in lines[: starts[0]]):
        raise ProblemError(f"{path}: line 1: no 'Question0...'; give the released decoded_latent.txt")
    entries = [_entry(path, lines, start, end) for start, end in zip(starts, [*starts[1:], len(lines)])]
    shapes = {(len(words), *map(len, words)) for _, _, words, _ in entries}
    if len(shapes) > 1:
        raise ProblemError(f"{path}: entries differ in their number of latents or words ({min(shapes)} and {max(shapes)})")
    index = [number for number, *_ in entries]
    if len(set(index)) < len(index):
        raise ProblemError(f"{path}: a question number occurs twice{MEND}")
    if max(index) >= NUM_ASKED:
        raise ProblemError(
            f"{path}: question {max(index)} of {NUM_ASKED} in GSM8K's test split; give the file as it was released"
        )
    _, problems, words, texts = zip(*entries)
    if lines[-1] and not END.search(texts[-1]) and any(map(END.search, texts)):
        raise ProblemError(f"{path}: line {len(lines)}: the last answer ends differently from the others{CUT}")
    decoded = tuple(tuple(tuple(word.translate(BLANKS) for word in place) for place in places) for places in words)
    ends = sorted({match[1] for text in texts if (match := END.search(text))} - {GPT2_END})
    signs = {
        f"answers end in {' and '.join(ends)}": bool(ends),
        "words that were not decoded": decoded != words,
        f"{len(words[0])} places instead of {GPT2_PLACES}": len(words[0]) != GPT2_PLACES,
    }
    answers = tuple(END.sub("", text) for text in texts)
    return Decoded(problems, decoded, answers, NUM_ASKED, tuple(sign for sign, is_there in signs.items() if is_there))


def _entry(path: Path, lines: Sequence[str], start: int, end: int) -> tuple[int, Problem, tuple[tuple[str, ...], ...], str]:
    """One problem of the log: its number in the set, problem, words and answer."""

    def error_at(line: int, what: str) -> ProblemError:
        return ProblemError(f"{path}: line {line + 1}: {what}{CUT if end == len(lines) else MEND}")

    solution = next((i for i in range(start, end) if SOLUTION.match(lines[i])), None)
    if solution is None:
        raise error_at(start, "no 'CoT=..., Answer=...' after this question")
    question = "\n".join(lines[start + 1 : solution]).removesuffix("...")
    chain, answer = cast("re.Match[str]", SOLUTION.match(lines[solution])).groups()
    words: list[tuple[str, ...]]
    words, line = [], solution + 1
    while line < end and ((match := LATENT.match(lines[line])) or ATTENDED.match(lines[line])):
        line += 1
        if not match:
            continue
        try:
            word_list = ast.literal_eval(match[3])
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise error_at(line - 1, f"not a list of words ({type(error).__name__})") from error
        if int(match[1]) != len(words) or len(word_list) != int(match[2]) or not all(isinstance(word, str) for word in word_list):
            raise error_at(line - 1, f"latent {len(words)} with its {match[2]} words is expected here")
        words.append(tuple(word_list))
    if not words:
        raise error_at(line, "no decoded latents")
    if line >= end or not lines[line].startswith(SAID):
        raise error_at(line, f"'{SAID.strip()}' is expected here")
    prediction = "\n".join(lines[line:end]).strip().removeprefix(SAID)
    steps = tuple(chain.split()) if chain.strip() else ()
    if not FLOAT.fullmatch(answer) or math.isinf(gold := float(answer)):
        raise error_at(solution, f"no number ({answer[:40]!r})")
    place = int(cast("re.Match[str]", HEAD.match(lines[start]))[1])
    return (
        place,
        Problem(question, steps, plain(gold), f"log:{place}", values=tuple(map(_value, steps))),
        tuple(words),
        prediction,
    )


def _value(step: str) -> float:
    """The result of a step; NaN if it is not a plain number (such as 3/4), which no single word can be."""
    text = step.rpartition("=")[2].removesuffix(">>").replace(",", "")
    return float(text) if re.fullmatch(f"-?({NUMBER})", text) else math.nan


def number(word: str) -> float:
    """A word as a number; NaN if it is not one."""
    text = word.strip()
    return float(text) if re.fullmatch(NUMBER, text) else math.nan


@released(
    Repository("zhenyi4/codi"),
    "outputs/decoded_latent.txt",
    "40b3adeab8ef38dd8b7f2b2af25e10d46013b304c04ea773c133b2d8c95d6bbe",
    unknown="revision of the checkpoint; bfloat16, batch size 128",
)
def decoded_latent(path: Path) -> Decoded:
    """The authors' own log of CODI-GPT-2 on GSM8K, with right answers only."""
    return load_decoded(path)
