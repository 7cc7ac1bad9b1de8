"""Problems: generated word problems, problem files, and how an answer is read and scored."""

from codi_bench.problems.generate import generate, split_of, stream, vocabulary
from codi_bench.problems.problem import Problem, parse_number, problems_hash, score

__all__ = ["Problem", "generate", "parse_number", "problems_hash", "score", "split_of", "stream", "vocabulary"]
