"""Problems: generated word problems, problem files, and how an answer is read and scored."""

from codi_bench.problems.files import load_problems, read_problems
from codi_bench.problems.generator import generate, split_of, stream, vocabulary
from codi_bench.problems.problem import Problem, parse_number, problems_hash, score

__all__ = [
    "Problem",
    "generate",
    "load_problems",
    "parse_number",
    "problems_hash",
    "read_problems",
    "score",
    "split_of",
    "stream",
    "vocabulary",
]
