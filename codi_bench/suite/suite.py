"""One run of the suite: which models and claims were asked for, and measuring them one pair at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from codi_bench.claims import CLAIMS, FAMILIES, Claim, get_claim
from codi_bench.claims.claim import DEFAULT_PERMUTATIONS
from codi_bench.claims.on_files import missing, released_models
from codi_bench.errors import BaselineError, CodiBenchError, MissingError, arguments
from codi_bench.models.hub import is_repository
from codi_bench.models.loading import load
from codi_bench.models.registry import CONTROLS, EMBEDDED, PUBLISHED, REGISTRY
from codi_bench.problems import load_problems
from codi_bench.problems.files import ELSEWHERE
from codi_bench.records.as_rows import published_numbers, with_controls
from codi_bench.records.baseline import REPORTED, load_baseline, metrics_recorded, orphans, path_of
from codi_bench.records.extras import noise_figures
from codi_bench.records.gate import load_gate
from codi_bench.records.results import BLOCKED, NOT_RUN, OK, PublishedNumber, Row, Status
from codi_bench.report.render import check_report
from codi_bench.rules.p_values import holm_permutations
from codi_bench.rules.reproduction import Reproduction
from codi_bench.store.cache import Store, default_bound, default_folder
from codi_bench.store.files import package_folder
from codi_bench.suite import engine
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.environment import available, own_gpu
from codi_bench.suite.gate import note_of
from codi_bench.suite.preflight import preflight
from codi_bench.suite.problem_source import ProblemSource
from codi_bench.suite.released_bench import FilesBench, released_in
from codi_bench.suite.request import ModelRequest, PairOutcome, check_numbers, given_problems, model_requests, released_logs
from codi_bench.thoughts.decoded import decoded_latent
from codi_bench.thoughts.released import MODELS

FEWEST_PERMUTATIONS = holm_permutations(max(family.tests for family in FAMILIES.values()))


@dataclass
class Suite:
    """Everything that a run was asked for, checked before anything is measured.

    models, bases, problems, logs: `NAME=PATH`, or a bare NAME of a model. released: files and folders that others released; their
    claims and models are measured. If models are named, only these are measured; otherwise the embedded pair and those of the
    released files, and with gpu every registered one. num_latents, lora_alpha: of the user's models, if their files do not say.
    gpu: measure on cuda, the embedded pair too. worker: number of this process among several, which share the GPUs.
    Raises CodiBenchError.
    """

    models: Sequence[str] = ()
    bases: Sequence[str] = ()
    claims: Sequence[str] = ()
    problems: Sequence[str] = ()
    logs: Sequence[str] = ()
    released: Sequence[str | Path] = ()
    num_latents: int | None = None
    lora_alpha: float | None = None
    gpu: bool = False
    worker: int | None = None
    n: int | None = None
    permutations: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 64
    report: Path = Path("report")
    baselines: str | Path | None = None
    benches: dict[str, ModelBench] = field(default_factory=dict, repr=False)
    file_benches: dict[str, FilesBench] = field(default_factory=dict, repr=False)
    gates: dict[str, str] = field(default_factory=dict, repr=False)  # model → what was decoded again of it, or why nothing was
    stopped: dict[str, tuple[Status, str]] = field(default_factory=dict, repr=False)  # model → (status, why nothing of it counts)

    def __post_init__(self):
        self.baseline_folder = (
            arguments.path("--baselines", self.baselines) if self.baselines is not None else package_folder("baselines")
        )
        if not self.baseline_folder.is_dir():
            raise CodiBenchError(
                f"{self.baseline_folder}: no such folder; --baselines needs the folder that holds <model>/<claim>.json"
            )
        self.asked_claims: list[Claim] = [get_claim(name) for name in dict.fromkeys(self.claims)] or list(CLAIMS.values())
        logs, own_logs = released_logs(self.logs)
        self.files = released_in([*(arguments.path("--released", path) for path in self.released), *logs])
        served = [name for name in released_models() if any(self.serves(name, claim) for claim in self.asked_claims)]
        default = [*dict.fromkeys([*EMBEDDED, *(PUBLISHED if self.gpu else ()), *served])]
        self.asked_models = model_requests(self.models, self.bases, own_logs, default)
        self.given = given_problems(self.problems)
        check_numbers(
            self.n, self.batch_size, self.permutations, self.num_latents, self.lora_alpha, fewest_permutations=FEWEST_PERMUTATIONS
        )
        for option, text in (("--device", self.device), ("--dtype", self.dtype)):
            arguments.text(option, text)
        sets = {model.problem_set(self.given) for model in self.asked_models if model.runs}
        elsewhere = {*ELSEWHERE} if "gsm8k" in self.given or self.gpu else set()  # else nothing is measured on GSM8K here
        extra = self.given.keys() - sets - (elsewhere if "gsm8k" in sets else set())
        if extra:
            raise CodiBenchError(f"--problems {min(extra)}=…: no model of this run is measured on {min(extra)}")
        texts = {"--model": self.models, "--base": self.bases, "--problems": self.problems, "--log": self.logs}
        inputs = {f"{flag} {text}": text.partition("=")[2] for flag in texts for text in texts[flag] if "=" in text}
        inputs |= {f"--released {path}": str(path) for path in self.files.values()} | {"--baselines": str(self.baseline_folder)}
        check_report(Path(self.report), "give --report DIR", inputs, "results.json")
        noise_figures(self.baseline_folder)  # what the report will show beside the rows must be readable, and the next too
        _ = self.published
        default_bound()  # a bound that is no number is said before anything runs
        for model in self.asked_models:
            if model.path is not None and available(self.device_of(model)):
                with suppress(MissingError):  # which is said in the rows
                    # what cannot be loaded must not cost a minute of measuring first
                    _ = self._files_bench(model) if model.log else self._model_bench(model)

    @cached_property
    def recorded(self) -> int:
        """The number of recorded metrics of all models and claims, in this run or not; of controls only those of this run."""
        return metrics_recorded(self.baseline_folder, without={*CONTROLS.values()} - {model.name for model in self.asked_models})

    @property
    def changed(self) -> str:
        """The options of this run that change every number, or ""."""
        options = (("--n", self.n), ("--permutations", self.permutations if self.permutations != DEFAULT_PERMUTATIONS else None))
        return ", ".join(f"{name} {value}" for name, value in options if value is not None)

    def serves(self, model: str, claim: Claim) -> bool:
        """Were all released files given that this claim needs for that model?"""
        return bool(claim.files(model)) and all(file in self.files for file in claim.files(model))

    def takes(self, model: ModelRequest, claim: Claim) -> bool:
        """Can that claim be measured on that model, by running it or from released files?

        A claim that needs no run of a model has a row if its files were given, or the model was named.
        """
        if model.log:
            return claim.reading is not None and (decoded_latent,) in claim.reading.files.values()
        if claim.runs and model.runs and model.name in (claim.models or (model.name,)):
            return claim.answers != "words" or claim.id in self.claims or model.in_words(self.given)
        return self.serves(model.name, claim) or bool(claim.files(model.name) and self.models)

    def names(self, model: ModelRequest, claim: Claim) -> bool:
        """Is it requested by name, whatever its suite? Released files request all claims about them."""
        return model.log or claim.id in self.claims or self.serves(model.name, claim)

    def measure(self, model: ModelRequest, wanted: Claim) -> PairOutcome:
        """Measure one claim on one model; an error while measuring becomes a row, not an exception."""
        try:
            baseline = load_baseline(self.baseline_folder, model.name, wanted.id)
            status, why = self._checked(model) if model.log or (wanted.runs and model.runs) else (NOT_RUN, "")
        except CodiBenchError as error:  # a damaged baseline or damaged embedded weights
            return _unusable(model, wanted, str(error))
        on_files = model.log or (status == NOT_RUN and self.serves(model.name, wanted))
        if status != OK and not on_files:
            if status == NOT_RUN:
                why = missing(wanted, model.name, self.files, why)
            return PairOutcome(engine.unmeasured(model.name, wanted, baseline, status, why), status, [why])
        bench: ModelBench | FilesBench = self._files_bench(model) if on_files else self._model_bench(model)
        if isinstance(bench, FilesBench):
            wanted, bench = wanted.on_files, bench if model.log else bench.of_claim(wanted.on_files.files(model.name))
        try:
            outcome = engine.measure_claim(bench, wanted, baseline, compare=not self.changed, recorded=self.recorded)
            if model.path is None and not self.changed and "generated" not in self.given:  # as the control is recorded
                outcome = replace(outcome, rows=with_controls(self.baseline_folder, outcome.rows))
        except CodiBenchError as error:
            return _unusable(model, wanted, f"{path_of(self.baseline_folder, model.name, wanted.id)}: {error}; correct the file")
        if outcome.word != OK or (baseline.of_origin(released=on_files) and not self.changed):
            return outcome
        word, lines = self._unrecorded(model, outcome.rows)
        return replace(outcome, word=word, lines=[f"{wanted.id} on {model.name}: {line}" for line in lines])

    def unchecked(self, name: str) -> ModelBench:
        """The bench of a model before its preflight. Raises CodiBenchError if it cannot be loaded."""
        return self._model_bench(next(model for model in self.asked_models if model.name == name))

    def bench_of(self, name: str) -> tuple[ModelBench | None, str]:
        """The bench of a model for other uses than claims, or None and why it cannot be measured in this run."""
        model = next((candidate for candidate in self.asked_models if candidate.name == name), None)
        if model is None:
            return None, f"--model leaves {name} out"
        status, why = self._checked(model)
        return (self._model_bench(model), "") if status == OK else (None, f"{name}: {why}")

    def stray_files(self) -> list[str]:
        """Baseline files that belong to no registered (model, claim), so no run would ever check them."""
        return orphans(self.baseline_folder, CLAIMS, {*REGISTRY, *MODELS, *(model.name for model in self.asked_models)})

    def unmeasured(self, claim: str, model: str, reason: str) -> list[Row]:
        """Rows of a claim on a model that were requested but are missing, for example after a crash."""
        definition = get_claim(claim)
        try:
            baseline = load_baseline(self.baseline_folder, model, claim)
        except BaselineError as error:
            return [Row(claim, model, "-", REPORTED, NOT_RUN, reason=str(error))]
        return engine.unmeasured(model, definition, baseline, NOT_RUN, reason)

    @cached_property
    def published(self) -> list[PublishedNumber]:
        return published_numbers(self.baseline_folder, [claim.id for claim in self.asked_claims])

    def _unrecorded(self, model: ModelRequest, rows: Sequence[Row]) -> tuple[str, list[str]]:
        """The word of a pair without a record to compare with, and why."""
        if self.changed:
            return "unchecked", [f"{self.changed} is not what was recorded"]
        failures = [row for row in rows if row.reproduction == Reproduction.NOT_REPRODUCED]
        if failures:
            return "red", [f"{row.metric}: {row.reproduction}, {row.detail['reproduction']}" for row in failures]
        if model.embedded:
            mend = "run `codi-bench run --update-baselines`, look at the proposal and accept it"
            return "red", [f"nothing is recorded for this embedded model; {mend}"]
        if any(row.reproduction == Reproduction.REPRODUCED for row in rows):
            return OK, []
        return "unchecked", ["nothing is recorded for this model"]

    def _checked(self, model: ModelRequest) -> tuple[Status, str]:
        """Whether this model can be measured, and if not, why; checked once per run."""
        if model.name not in self.stopped:
            self.stopped[model.name] = self._check(model)
        return self.stopped[model.name]

    def _check(self, model: ModelRequest) -> tuple[Status, str]:
        if model.log:
            return OK, ""
        device, known = self.device_of(model), model.registered
        if not available(device):
            remedy = ""
            if known and known.hub:
                folders = f"--model {known.name}=FOLDER --base {known.name}=FOLDER"
                remedy = f"; on one with a GPU, download {known.hub} and {known.base}, or give {folders}"
            on_cpu = "`codi-bench run`" if model.embedded else "`--device cpu`"
            return NOT_RUN, f"this machine has no GPU{remedy}; {on_cpu} measures on the CPU"
        try:
            bench = self._model_bench(model)
        except MissingError as error:
            return NOT_RUN, str(error)
        except CodiBenchError as error:
            if model.embedded:  # weights that came with the package: what is wrong with them is red
                raise
            return BLOCKED, f"preflight: {error}"
        if model.embedded:
            return (BLOCKED, why) if device != "cpu" and (why := preflight(bench, None)) else (OK, "")
        reported = load_baseline(self.baseline_folder, model.name, "task-accuracy").reported.get("accuracy")
        gate = load_gate(self.baseline_folder, model.name)
        why = preflight(bench, reported, gate)
        self.gates[model.name] = note_of(bench, gate)
        return (BLOCKED, why) if why else (OK, "")

    def _files_bench(self, model: ModelRequest) -> FilesBench:
        """The bench of all given released files about a model, or of a user's own log."""
        if model.name not in self.file_benches:
            settings = {"permutations": self.permutations or DEFAULT_PERMUTATIONS}
            if model.log:
                assert model.path is not None  # --log names one
                bench = FilesBench.of_log(model.name, Path(model.path), **settings)
            else:
                files = {file for claim in CLAIMS.values() for file in claim.files(model.name)} & self.files.keys()
                bench = FilesBench.of(model.name, {file: self.files[file] for file in files}, **settings)
            self.file_benches[model.name] = bench
        return self.file_benches[model.name]

    def _model_bench(self, model: ModelRequest) -> ModelBench:
        if model.name not in self.benches:
            self.benches[model.name] = self._load(model)
        return self.benches[model.name]

    def _load(self, model: ModelRequest) -> ModelBench:
        permutations, path = self.permutations or DEFAULT_PERMUTATIONS, model.path
        name = model.problem_set(self.given)
        problems = self.given.get(name) or (() if name == "generated" else tuple(load_problems(name)))
        checkpoint = load(
            model.name if path is None else path if is_repository(path) else Path(path),
            base=model.base,
            name=model.name,
            device=self.device_of(model),
            dtype=self.dtype,
            num_latents=None if path is None else self.num_latents,
            lora_alpha=None if path is None else self.lora_alpha,
        )
        others = {name: self.given[name] for name in ELSEWHERE if name in self.given}
        return ModelBench(
            checkpoint,
            Store(default_folder()),
            ProblemSource(problems, self.n, others),
            self.batch_size,
            permutations=permutations,
            other=self._partner(model),
        )

    def _partner(self, model: ModelRequest) -> Callable[[], ModelBench] | None:
        """The bench of the model that this one is compared with: the registered partner, or the other one of two given models."""
        by_name = {other.name: other for other in self.asked_models}
        if model.registered is not None:
            name = model.registered.partner
            return lambda: self._model_bench(by_name.get(name) or ModelRequest(name))
        candidates = [other for other in self.asked_models if other.registered is None and other.name != model.name]
        return partial(self._model_bench, candidates[0]) if len(candidates) == 1 else None

    def device_of(self, model: ModelRequest) -> str:
        """`auto`: cpu for the embedded pair, which is recorded there, unless `-m gpu` is given; cuda for published models."""
        device = self.device
        if model.log:
            return "cpu"
        if device == "auto" and (self.gpu or model.for_gpus):
            device = "cuda"
        elif device == "auto" and model.path is None:
            device = "cpu"
        return device if self.worker is None else own_gpu(device, self.worker)


def _unusable(model: ModelRequest, claim: Claim, reason: str) -> PairOutcome:
    """A red outcome: the pair cannot be judged, because a file of the package or of the user's baselines is damaged."""
    row = Row(claim.id, model.name, "-", REPORTED, BLOCKED, regression=engine.DRIFTED, reason=reason)
    return PairOutcome([row], "red", [reason])
