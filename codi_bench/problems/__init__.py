"""Problems: generated word problems, the public sets, problem files, and how an answer is read and scored."""

from codi_bench.problems.answers import parse_number, score
from codi_bench.problems.files import NAMES, load_problems, read_problems
from codi_bench.problems.generator import generate, split_of, stream, vocabulary
from codi_bench.problems.problem import Problem, problems_hash

__all__ = [
    "NAMES",
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
