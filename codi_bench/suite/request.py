"""The request for a run: models, released files and problem sets, as texts; and the outcome of one model and claim."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codi_bench.errors import CodiBenchError, ProblemError, UnknownNameError, arguments
from codi_bench.models.registry import REGISTRY, ModelEntry
from codi_bench.problems import Problem, load_problems
from codi_bench.problems.files import IN_WORDS, NAMES
from codi_bench.problems.sources import SET
from codi_bench.problems.symbolic import run_set
from codi_bench.records.baseline import Record
from codi_bench.records.results import Row
from codi_bench.store.files import file_hash
from codi_bench.store.names import check_name
from codi_bench.thoughts.decoded import decoded_latent
from codi_bench.thoughts.released import ALIASES, MODELS, altered_copy


@dataclass(frozen=True)
class ModelRequest:
    """A model of this run: its name, and its path if the user gave one (a folder or a hub name, with its base).

    log: the path is a user's own log of decoded thoughts; only claims that need no more are measured on it.
    """

    name: str
    path: str | None = None
    base: str | None = None
    log: bool = False

    @property
    def known(self) -> bool:
        """Is it a model known by name, not a user's own?"""
        return self.registered is not None or self.name in MODELS

    @property
    def runs(self) -> bool:
        """Can it have weights, so that it could be run?"""
        return not self.log and (self.path is not None or self.name not in MODELS)

    @property
    def registered(self) -> ModelEntry | None:
        return REGISTRY.get(self.name)

    @property
    def embedded(self) -> bool:
        return self.registered is not None and self.registered.embedded

    @property
    def for_gpus(self) -> bool:
        """Is it a published checkpoint without a given folder? These are measured only with `-m gpu`."""
        return self.path is None and self.registered is not None and not self.embedded

    def in_words(self, given: Collection[str]) -> bool:
        """Is it measured on problems whose answers are words?"""
        return self.problem_set(given) in IN_WORDS

    def problem_set(self, given: Collection[str]) -> str:
        """The problem set on which it is measured, if these sets are given.

        For a published model that of its registry entry; for a user's own model the given set (with GSM8K, others are out of
        distribution), or generated problems. Raises CodiBenchError if that is ambiguous.
        """
        if self.registered is not None:
            return "generated" if self.embedded else self.registered.problems
        names = [name for name in given if name != "generated"]
        if len(names) > 1 and "gsm8k" not in names:
            raise CodiBenchError(f"--problems: {' and '.join(names)} are given, but {self.name} is measured on one set; give one")
        return "gsm8k" if "gsm8k" in names else names[0] if names else "generated"


@dataclass(frozen=True)
class PairOutcome:
    """One measured pair. word: ok, red, blocked, unchecked or not-run; lines: why it is red; proposal: a record to accept."""

    rows: list[Row]
    word: str
    lines: list[str]
    proposal: Record | None = None


def model_requests(
    models: Sequence[str], bases: Sequence[str], logs: Sequence[str], default: Sequence[str]
) -> list[ModelRequest]:
    """The models of a run by `NAME=PATH` or NAME, and its own logs; default: the models if none is named.

    Raises CodiBenchError for an invalid name (`check_name`), for names that clash, and for a base without its model.
    """
    base_of = _pairs("--base", bases)
    own = _pairs("--model", (text for text in models if "=" in text))
    log_requests = [ModelRequest(name, path, log=True) for name, path in _pairs("--log", logs).items()]
    log_names = {log.name for log in log_requests}
    if clashes := sorted(log_names & {*REGISTRY, *MODELS, *own}):
        raise CodiBenchError(f"--log {clashes[0]}=…: a model has that name; give the log another")
    if clashes := sorted(own.keys() & {*ALIASES, *MODELS}):
        raise CodiBenchError(f"--model {clashes[0]}=…: a released model has that name; give yours another")
    if clashes := sorted(own.keys() & {ALIASES.get(text, text) for text in models}):
        raise CodiBenchError(f"--model {clashes[0]} and {clashes[0]}={own[clashes[0]]}: two models have one name; leave one out")
    by_folded = {name.lower(): name for name in (*REGISTRY, *MODELS, *ALIASES)}
    for name in (*own, *(log.name for log in log_requests)):
        if (other := by_folded.setdefault(name.lower(), name)) != name:
            raise CodiBenchError(f"{name}: differs from {other} only in capitals, which some disks ignore; give it another name")
    own_requests = [ModelRequest(name, path, base_of.pop(name, None)) for name, path in own.items()]
    if base_of:
        name, base = base_of.popitem()
        raise CodiBenchError(f"--base {name}={base}: there is no such model in this run; give --model {name}=FOLDER too")
    names = [text for text in dict.fromkeys(models) if "=" not in text and text not in log_names]
    selection = list(dict.fromkeys(known_name(name) for name in names))
    if not models:
        selection = [*default]
    return [*map(ModelRequest, selection), *own_requests, *log_requests]


def check_numbers(
    n: int | None,
    batch_size: int,
    permutations: int | None,
    num_latents: int | None,
    lora_alpha: float | None,
    *,
    fewest_permutations: int,
) -> None:
    """Raises InputError for a number that a run cannot use; fewest_permutations: those that Holm needs."""
    arguments.whole("--batch-size", batch_size)
    for option, count, least, most in (
        ("--n", n, 1, arguments.COUNT),
        ("--permutations", permutations, fewest_permutations, arguments.PERMUTATIONS),
        ("--num-latents", num_latents, 0, arguments.LATENTS),
    ):
        if count is not None:
            arguments.whole(option, count, least, most)
    if lora_alpha is not None:
        arguments.number("--lora-alpha", lora_alpha, math.ulp(0))


def known_name(name: str) -> str:
    """The name of a registered model or of one with released outcomes. Raises UnknownNameError with the nearest name."""
    name = ALIASES.get(name, name)
    if name not in (known := {*REGISTRY, *MODELS}):
        raise UnknownNameError("model", name, known)
    return name


def released_logs(logs: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Split `NAME=FILE` texts: the files that are the released log, and the texts of users' own logs.

    Raises ProblemError for another file under the name of the released one.
    """
    released, own = list[Path](), list[str]()
    for name, path in _pairs("--log", logs).items():
        sha256 = file_hash(Path(path)) if name in ALIASES and Path(path).is_file() else None
        if sha256 not in (None, decoded_latent.sha256):
            raise ProblemError(
                f"{path}: sha256 is {sha256}, that of {decoded_latent.where} is {decoded_latent.sha256}; "
                f"{altered_copy(Path(path))}give the file as it was released, or this one another name"
            )
        if name in ALIASES:
            released.append(Path(path))
        else:
            own.append(f"{name}={path}")
    return released, own


def given_problems(texts: Sequence[str]) -> Mapping[str, tuple[Problem, ...]]:
    """Problem sets by name, read from `NAME=PATH`; `gsm-symbolic` needs no path. Raises CodiBenchError."""
    paths = _pairs("--problems", (text for text in texts if text != SET))
    for name in paths:
        if name not in NAMES:
            raise UnknownNameError("problem set", name, NAMES)
    made = {SET: tuple(run_set())} if SET in texts and SET not in paths else {}
    return made | {name: tuple(load_problems(name, path=path)) for name, path in paths.items()}


def _pairs(option: str, texts: Iterable[str]) -> dict[str, str]:
    """name → path. Raises CodiBenchError for other texts, and for a name with two paths."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not (name and path):
            raise CodiBenchError(f"{option} {text!r}: write NAME=PATH, such as {_example(option, text)}")
        arguments.path(f"{option} {name}", path)
        if not _same_place(pairs.setdefault(check_name(name, option), path), path):
            raise CodiBenchError(f"{option} {text}: {name} is {pairs[name]} already; give one of them another name")
    return pairs


def _example(option: str, text: str) -> str:
    """The text as it may have been meant."""
    name = "gsm8k" if option == "--problems" else "mine"
    return f"{option} {name}={text.strip('=') or 'PATH'}"


def _same_place(one: str, other: str) -> bool:
    return one == other or (os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other))
