"""One run of the suite: which models and claims were asked for, and measuring them one pair at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from codi_bench import engine
from codi_bench.baselines import BaselineError, Record, load_baseline, orphans
from codi_bench.bench import ModelBench
from codi_bench.claims import CLAIMS, Claim, claim
from codi_bench.errors import CodiBenchError, UnknownNameError
from codi_bench.files import package_folder
from codi_bench.models.model import load, resolve
from codi_bench.models.registry import EMBEDDED, PUBLISHED, REGISTRY, ModelEntry, entry
from codi_bench.problems import Problem, load_problems
from codi_bench.problems.files import NAMES
from codi_bench.results import BLOCKED, NOT_RUN, OK, Row
from codi_bench.thoughts.store import Store, default_folder
from codi_bench.verdicts import Reproduction


@dataclass(frozen=True)
class Asked:
    """A model of this run: its name, and its folder where the user gave one."""

    name: str
    folder: Path | None = None

    @property
    def registered(self) -> ModelEntry | None:
        return REGISTRY.get(self.name)

    @property
    def needs_gpu(self) -> bool:
        """Published checkpoints from the hub are measured under `-m gpu` alone."""
        return self.folder is None and not self.registered.embedded


@dataclass(frozen=True)
class Judged:
    """One measured pair. word: ok, red, blocked, unchecked or not-run; lines: why it is red."""

    rows: list[Row]
    word: str
    lines: list[str]
    proposal: Record | None = None


@dataclass
class Suite:
    """Everything that a run was asked for, checked before anything is measured.

    models, problems: `NAME=PATH` (or a bare model NAME to measure only that one). Raises CodiBenchError.
    """

    models: Sequence[str] = ()
    claims: Sequence[str] = ()
    problems: Sequence[str] = ()
    n: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 64
    report: Path = Path("report")
    baselines: Path | None = None
    benches: dict[str, ModelBench] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        self.baselines = Path(self.baselines) if self.baselines else package_folder("baselines")
        if not self.baselines.is_dir():
            raise CodiBenchError(
                f"{self.baselines}: no such folder; --baselines needs the folder that holds <model>/<claim>.json"
            )
        self.asked_claims: list[Claim] = [claim(name) for name in self.claims] or list(CLAIMS.values())
        self.asked_models = self._models()
        self.given: tuple[Problem, ...] = self._problems()
        for name, value in (("--n", self.n), ("--batch-size", self.batch_size)):
            if value is not None and value < 1:
                raise CodiBenchError(f"{name} must be at least 1, got {value}")
        _check_writable(Path(self.report))
        for asked in self.asked_models:
            if asked.folder is not None:
                self._bench(asked)  # a folder that cannot be loaded must not cost a minute of measuring first

    def measure(self, asked: Asked, wanted: Claim) -> Judged:
        """Measure one claim on one model; whatever goes wrong while measuring is a row, not an exception."""
        try:
            baseline = load_baseline(self.baselines, asked.name, wanted.id)
            bench = None if asked.needs_gpu else self._bench(asked)
        except CodiBenchError as error:  # a damaged baseline or damaged embedded weights
            return Judged(
                [Row(wanted.id, asked.name, "-", engine.PROTOCOL, BLOCKED, regression=engine.DRIFTED, reason=str(error))],
                "red",
                [str(error)],
            )
        if bench is None:
            reason = self._why_not(asked)
            return Judged(engine.not_run(asked.name, wanted, baseline, reason), NOT_RUN, [reason])
        found = engine.measure_claim(bench, wanted, baseline, compare=self.n is None)
        blocked = [row.reason for row in found.rows if row.status == BLOCKED]
        if found.red:
            return Judged(found.rows, "red", found.red, found.proposal)
        if blocked:
            return Judged(found.rows, BLOCKED, blocked[:1])
        if not baseline.recorded or self.n is not None:
            return self._unrecorded(asked, wanted, found)
        return Judged(found.rows, OK, [], found.proposal)

    def stray_files(self) -> list[str]:
        """Baseline files that no registered (model, claim) would ever check."""
        return orphans(self.baselines, CLAIMS, {*REGISTRY, *(asked.name for asked in self.asked_models)})

    def not_selected(self, rows: Sequence[Row]) -> list[Row]:
        """Rows for everything registered that this run did not measure, so that the table never loses a claim."""
        have = {(row.claim, row.model) for row in rows}
        missing = []
        for name in dict.fromkeys([*REGISTRY, *(asked.name for asked in self.asked_models)]):
            for each in CLAIMS.values():
                if (each.id, name) in have:
                    continue
                reason = (
                    "not selected in this run"
                    if name not in PUBLISHED
                    else f"not asked for: `pytest benchmarks -m gpu`, or --model {name}=FOLDER"
                )
                try:
                    baseline = load_baseline(self.baselines, name, each.id)
                except BaselineError as error:
                    reason = str(error)
                    missing.append(Row(each.id, name, "-", engine.PROTOCOL, NOT_RUN, reason=reason))
                    continue
                missing += engine.not_run(name, each, baseline, reason) or [
                    Row(each.id, name, "-", engine.PROTOCOL, NOT_RUN, reason=reason)
                ]
        return missing

    def environment(self) -> dict:
        """Device, versions and threads of this run, and the claims in words, so that a report needs no model room."""
        device, dtype = resolve(self.device, self.dtype)
        texts = {
            each.id: {
                "position": i,
                "family": each.family,
                "sentence": each.sentence,
                "source": each.source,
                "protocol": each.protocol,
            }
            for i, each in enumerate(CLAIMS.values())
        }
        layers = {name: list(each.layers) for name, each in REGISTRY.items()} | {
            n: list(b.layers) for n, b in self.benches.items()
        }
        return {**engine.environment(device, dtype).model_dump(), **engine.versions(), "claims": texts, "layers": layers}

    def _unrecorded(self, asked: Asked, wanted: Claim, found: engine.Finding) -> Judged:
        where = f"{wanted.id} on {asked.name}"
        if self.n is not None:
            return Judged(found.rows, "unchecked", [f"{where}: --n {self.n} is not what was recorded"], found.proposal)
        missed = [row for row in found.rows if row.reproduction == Reproduction.NOT_REPRODUCED]
        if missed:
            lines = [f"{where}: {row.metric}: {row.reproduction}, {row.detail['reproduction']}" for row in missed]
            return Judged(found.rows, "red", lines, found.proposal)
        if asked.registered is not None and asked.registered.embedded:
            return Judged(
                found.rows,
                "red",
                [
                    f"{where}: nothing is recorded for this embedded model; "
                    "look at `pytest benchmarks --update-baselines`, then accept it"
                ],
                found.proposal,
            )
        return Judged(found.rows, OK, [], found.proposal)

    def _bench(self, asked: Asked) -> ModelBench:
        if asked.name not in self.benches:
            model = load(asked.folder or asked.name, name=asked.name, device=self.device, dtype=self.dtype)
            self.benches[asked.name] = ModelBench(model, Store(default_folder()), self.given, self.n, self.batch_size)
        return self.benches[asked.name]

    def _models(self) -> list[Asked]:
        only, more = [], []
        for text in self.models:
            name, separator, path = text.partition("=")
            if separator and not (name and path):
                raise CodiBenchError(f"--model {text}: write NAME=FOLDER")
            if separator:
                more.append(Asked(name, Path(path)))
            else:
                only.append(Asked(entry(name).name))
        known = only or [Asked(name) for name in (*EMBEDDED, *PUBLISHED)]
        again = {asked.name for asked in more}
        return [asked for asked in known if asked.name not in again] + more

    def _problems(self) -> tuple[Problem, ...]:
        given: tuple[Problem, ...] = ()
        for text in self.problems:
            name, separator, path = text.partition("=")
            if not separator:
                raise CodiBenchError(f"--problems {text}: write NAME=FILE")
            if name not in NAMES:
                raise UnknownNameError("problem set", name, NAMES)
            given = tuple(load_problems(name, path=path))
        return given

    def _why_not(self, asked: Asked) -> str:
        give = f"give --model {asked.name}=FOLDER"
        if not torch.cuda.is_available():
            return f"no GPU here, and the weights of {asked.registered.hub} are not in this package; {give}"
        return f"the weights of {asked.registered.hub} are not in this package; {give}"


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CodiBenchError(
            f"{folder}: the report cannot be written there ({error.strerror or error}); give --report DIR"
        ) from error
