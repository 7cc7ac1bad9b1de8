"""The bench of a released log: what its model said and the head read is there, and nothing else can be asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from codi_bench.claims.claim import DEFAULT_PERMUTATIONS
from codi_bench.errors import ProblemError
from codi_bench.problems import problems_hash
from codi_bench.store.files import file_hash
from codi_bench.thoughts.decoded import LOGS, Decoded, load_decoded


@dataclass(frozen=True)
class LogModel:
    """What stands for a model in the rows of a log. fingerprint: sha256 of the file."""

    name: str
    fingerprint: str
    num_latents: int
    device: str = "cpu"
    dtype: str = "float32"  # of this program's numbers; the log's own model ran in bfloat16
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class LogProblems:
    """The problems of a log, which its numbers are about."""

    hash: str
    on_gsm8k: bool = True


@dataclass(frozen=True, eq=False)
class LogBench:
    """A `claims.Bench` for claims that only need what was decoded."""

    model: LogModel
    decoded: Decoded
    problems: LogProblems
    permutations: int = DEFAULT_PERMUTATIONS
    seed: int = 0
    memo: dict = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, name: str, path: Path, **settings) -> LogBench:
        """The bench of a log in a file. Raises ProblemError for what is none, and for another file under a registered name."""
        decoded = load_decoded(path)
        sha256 = file_hash(path)
        log = LOGS.get(name)
        if log is not None and sha256 != log.sha256:
            raise ProblemError(
                f"{path}: sha256 is {sha256}, that of {log.source} is {log.sha256}; give the file as it was released, "
                "or this one another name"
            )
        latents = len(decoded.words[0]) - 1
        return cls(LogModel(name, sha256, latents), decoded, LogProblems(problems_hash(decoded.problems)), **settings)
