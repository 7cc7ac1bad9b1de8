"""The bench for files that others released: claims can only read them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codi_bench.claims.claim import DEFAULT_PERMUTATIONS
from codi_bench.errors import MissingError, ProblemError
from codi_bench.problems import problems_hash
from codi_bench.records.baseline import RELEASED
from codi_bench.store.files import file_hash
from codi_bench.thoughts.decoded import Decoded, decoded_latent
from codi_bench.thoughts.released import RELEASED as KNOWN
from codi_bench.thoughts.released import ReleasedFile, altered_copy

LARGEST = 64 << 20  # bytes: no released file has more, and what has more is not read to see


@dataclass(frozen=True)
class ReleasedModel:
    """Takes the place of a model in rows from released files. fingerprint: sha256 of the file, or of the hashes of several."""

    name: str
    fingerprint: str
    device: str = RELEASED
    dtype: str = "float32"  # of this program's numbers; what the model itself ran in only the release may tell
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class ReleasedProblems:
    """The problems of released numbers."""

    hash: str
    on_gsm8k: bool = True


@dataclass(frozen=True, eq=False)
class FilesBench:
    """A `claims.ReleasedBench`.

    files: those that the claim needs, with paths; own: a user's own log among them. memo: results that a model's claims share.
    """

    model: ReleasedModel
    files: Mapping[ReleasedFile, Path]
    problems: ReleasedProblems
    permutations: int = DEFAULT_PERMUTATIONS
    seed: int = 0
    own: Path | None = None
    memo: dict = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, name: str, files: Mapping[ReleasedFile, Path], **settings: Any) -> FilesBench:
        """The bench of a model for a claim that needs these files."""
        sums = sorted(file.sha256 for file in files)
        fingerprint = sums[0] if len(sums) == 1 else hashlib.sha256(" ".join(sums).encode()).hexdigest()
        return cls(ReleasedModel(name, fingerprint), files, ReleasedProblems(fingerprint), **settings)

    @classmethod
    def of_log(cls, name: str, path: Path, **settings: Any) -> FilesBench:
        """The bench of a user's own log of decoded thoughts. Raises ProblemError for any other file."""
        try:
            sha256 = file_hash(path)
        except OSError as error:
            raise ProblemError(f"--log {name}={path}: cannot be read ({error.strerror}); give a file of JSON lines") from error
        bench = cls(ReleasedModel(name, sha256), {decoded_latent: path}, ReleasedProblems(""), own=path, **settings)
        return replace(bench, problems=ReleasedProblems(problems_hash(bench.decoded.problems)))

    def of_claim(self, files: Iterable[ReleasedFile]) -> FilesBench:
        """The bench of a claim that needs some of these files; file contents are shared."""
        settings = {"permutations": self.permutations, "seed": self.seed, "memo": self.memo}
        return self.of(self.model.name, {file: self.files[file] for file in files}, **settings)

    @property
    def origin(self) -> dict[str, str]:
        """The place of release of each file, and its sha256; {} for a user's own log, which nobody released."""
        return {file.where: file.sha256 for file in self.files if self.own is None}

    def read(self, file: ReleasedFile) -> Any:
        if file not in self.files:
            raise MissingError(f"the file {file.where} is needed; give it with --released")
        key = ("released", file.sha256, str(self.files[file]))
        if key not in self.memo:
            self.memo[key] = file.read(self.files[file])
        return self.memo[key]

    @property
    def decoded(self) -> Decoded:
        return self.read(decoded_latent)

    @property
    def remark(self) -> str:
        """An addition to reasons, for a user's own log of another model than that of the claims' source."""
        signs = () if self.own is None else self.decoded.other_model
        return f"; the log is of another model than CODI-GPT-2: {', '.join(signs)}" if signs else ""


def released_in(paths: Iterable[Path]) -> dict[ReleasedFile, Path]:
    """The registered files among these files and in these folders.

    Raises ProblemError for a path that does not exist or has none: files given as evidence must not be ignored silently.
    """
    found: dict[ReleasedFile, Path] = {}
    for path in paths:
        if not path.exists():
            raise ProblemError(f"--released {path}: no such file or folder")
        try:
            candidates = sorted(path.rglob("*")) if path.is_dir() else [path]
            files = [each for each in candidates if each.is_file() and each.stat().st_size <= LARGEST]
            here = {KNOWN[sha256]: each for each in files if (sha256 := file_hash(each)) in KNOWN}
        except OSError as error:
            raise ProblemError(f"--released {path}: {error.filename or path}: cannot be read ({error.strerror})") from error
        if not here:
            altered = "".join(map(altered_copy, files))
            raise ProblemError(
                f"--released {path}: none of {len(files)} file{'s' * (len(files) != 1)} there is a released one as it was "
                f"published; {altered}docs/released.md lists those that are known"
            )
        found |= here
    return found
