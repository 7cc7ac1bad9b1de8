"""One run of the suite: which models and claims were asked for, and measuring them one pair at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

from codi_bench import __version__
from codi_bench.claims import CLAIMS, FAMILIES, Claim, get_claim, in_words
from codi_bench.claims.claim import DEFAULT_PERMUTATIONS
from codi_bench.errors import BaselineError, CodiBenchError, MissingError
from codi_bench.models.hub import is_repository
from codi_bench.models.loading import load, resolve
from codi_bench.models.registry import EMBEDDED, REGISTRY
from codi_bench.problems import load_problems
from codi_bench.problems.files import ELSEWHERE
from codi_bench.records.as_rows import published_numbers
from codi_bench.records.baseline import REPORTED, SOUND, load_baseline, metrics_recorded, orphans, path_of
from codi_bench.records.extras import noise_figures
from codi_bench.records.gate import load_gate
from codi_bench.records.results import BLOCKED, NOT_RUN, OK, PublishedNumber, Row, Status
from codi_bench.rules.reproduction import Reproduction
from codi_bench.rules.validity import holm_permutations
from codi_bench.store.cache import Store, default_bound, default_folder
from codi_bench.store.files import check_writable, package_folder
from codi_bench.suite import engine
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.environment import available, environment, own_gpu, versions
from codi_bench.suite.gate import note_of
from codi_bench.suite.log_bench import LogBench
from codi_bench.suite.preflight import preflight
from codi_bench.suite.problem_source import ProblemSource
from codi_bench.suite.request import ModelRequest, PairOutcome, given_problems, model_requests
from codi_bench.thoughts.decoded import LOGS

FEWEST_PERMUTATIONS = holm_permutations(max(family.tests for family in FAMILIES.values()))


@dataclass
class Suite:
    """Everything that a run was asked for, checked before anything is measured.

    models, bases, problems, logs: `NAME=PATH`, or a bare NAME of a model. Models that are named are measured and no others;
    without any it is the embedded pair, and with gpu every registered one. num_latents, lora_alpha: of the models that the user
    gave, where their files do not say. gpu: measure on cuda, the embedded pair too. worker: number of this process among
    several, which share the GPUs.
    Raises CodiBenchError.
    """

    models: Sequence[str] = ()
    bases: Sequence[str] = ()
    claims: Sequence[str] = ()
    problems: Sequence[str] = ()
    logs: Sequence[str] = ()
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
    benches: dict[str, ModelBench | LogBench] = field(default_factory=dict, repr=False)
    gates: dict[str, str] = field(default_factory=dict, repr=False)  # model → what was decoded again of it, or why nothing was
    stopped: dict[str, tuple[Status, str]] = field(default_factory=dict, repr=False)  # model → (status, why nothing of it counts)

    def __post_init__(self):
        self.baseline_folder = Path(self.baselines) if self.baselines else package_folder("baselines")
        if not self.baseline_folder.is_dir():
            raise CodiBenchError(
                f"{self.baseline_folder}: no such folder; --baselines needs the folder that holds <model>/<claim>.json"
            )
        self.asked_claims: list[Claim] = [get_claim(name) for name in dict.fromkeys(self.claims)] or list(CLAIMS.values())
        self.asked_models = model_requests(self.models, self.bases, self.logs, (*REGISTRY,) if self.gpu else EMBEDDED)
        self.given = given_problems(self.problems)
        fewest = {"--n": (self.n, 1, ""), "--batch-size": (self.batch_size, 1, "")}
        fewest["--permutations"] = (self.permutations, FEWEST_PERMUTATIONS, ", which Holm over the largest family needs")
        for option, (value, least, why) in fewest.items():
            if value is not None and value < least:
                raise CodiBenchError(f"{option} must be at least {least}{why}, got {value}")
        sets = {model.problem_set(self.given) for model in self.asked_models if not model.log}
        elsewhere = {*ELSEWHERE} if "gsm8k" in self.given or self.gpu else set()  # else nothing is measured on GSM8K here
        extra = self.given.keys() - sets - (elsewhere if "gsm8k" in sets else set())
        if extra:
            raise CodiBenchError(f"--problems {min(extra)}=…: no model of this run is measured on {min(extra)}")
        check_writable(Path(self.report) / "results.json", "give --report DIR")
        noise_figures(self.baseline_folder)  # what the report will show beside the rows must be readable, and the next too
        _ = self._published
        default_bound()  # a bound that is no number is said before anything runs
        for model in self.asked_models:
            if model.path is not None and available(self._device(model)):
                with suppress(MissingError):  # which is said in the rows
                    self._bench(model)  # a folder that cannot be loaded must not cost a minute of measuring first

    @cached_property
    def recorded(self) -> int:
        """Metrics recorded of all models and claims, in this run or not."""
        return metrics_recorded(self.baseline_folder)

    @property
    def changed(self) -> str:
        """The options of this run that change every number, "" if there are none."""
        options = (("--n", self.n), ("--permutations", self.permutations if self.permutations != DEFAULT_PERMUTATIONS else None))
        return ", ".join(f"{name} {value}" for name, value in options if value is not None)

    def names(self, model: ModelRequest, claim: Claim) -> bool:
        """Is it asked for by name, whatever its suite? Whoever gives a log asks for all that it tells."""
        return model.log or claim.id in self.claims

    def measure(self, model: ModelRequest, wanted: Claim) -> PairOutcome:
        """Measure one claim on one model; whatever goes wrong while measuring is a row, not an exception."""
        try:
            baseline = load_baseline(self.baseline_folder, model.name, wanted.id)
            status, why = self._checked(model)
        except CodiBenchError as error:  # a damaged baseline or damaged embedded weights
            return _unusable(model, wanted, str(error))
        if status != OK:
            return PairOutcome(engine.unmeasured(model.name, wanted, baseline, status, why), status, [why])
        bench = self._bench(model)
        try:
            outcome = engine.measure_claim(bench, wanted, baseline, compare=not self.changed, recorded=self.recorded)
        except CodiBenchError as error:
            return _unusable(model, wanted, f"{path_of(self.baseline_folder, model.name, wanted.id)}: {error}; mend it by hand")
        if outcome.word != OK or (baseline.recorded and not self.changed):
            return outcome
        word, lines = self._unrecorded(model, outcome.rows)
        return replace(outcome, word=word, lines=[f"{wanted.id} on {model.name}: {line}" for line in lines])

    def unchecked(self, name: str) -> ModelBench:
        """The bench of a model before its preflight; raises CodiBenchError where it cannot be loaded."""
        return self._model_bench(next(model for model in self.asked_models if model.name == name))

    def bench_of(self, name: str) -> tuple[ModelBench | None, str]:
        """The bench of a model for what is no claim, or None and why it cannot be measured in this run."""
        model = next((candidate for candidate in self.asked_models if candidate.name == name), None)
        if model is None:
            return None, f"--model leaves {name} out"
        status, why = self._checked(model)
        return (self._model_bench(model), "") if status == OK else (None, f"{name}: {why}")

    def stray_files(self) -> list[str]:
        """Baseline files that no registered (model, claim) would ever check."""
        return orphans(self.baseline_folder, CLAIMS, {*REGISTRY, *LOGS, *(model.name for model in self.asked_models)})

    def unmeasured(self, claim: str, model: str, reason: str) -> list[Row]:
        """Rows of a claim on a model that were asked for and did not come, such as of one that crashed."""
        definition = get_claim(claim)
        try:
            baseline = load_baseline(self.baseline_folder, model, claim)
        except BaselineError as error:
            return [Row(claim, model, "-", REPORTED, NOT_RUN, reason=str(error))]
        return engine.unmeasured(model, definition, baseline, NOT_RUN, reason)

    @cached_property
    def _published(self) -> list[PublishedNumber]:
        return published_numbers(self.baseline_folder, [claim.id for claim in self.asked_claims])

    @property
    def options(self) -> str:
        """The options of this run that its numbers depend on, as they were given."""
        values: dict[str, object] = {"--n": self.n, "--permutations": self.permutations, "--num-latents": self.num_latents}
        values |= {"--lora-alpha": self.lora_alpha, "--dtype": None if self.dtype == "auto" else self.dtype}
        texts = [f"{name} {value}" for name, value in values.items() if value is not None]
        return " ".join([*texts, *(f"--problems {text}" for text in self.problems)])

    def facts(self, name: str) -> dict:
        """Device, inputs, layers and speed of a model that was measured here; {} of another. A worker sends them along."""
        bench = self.benches.get(name)
        if bench is None:
            return {}
        inputs = {"weights": bench.model.fingerprint, "problems": bench.problems.hash}
        kind = bench.model.device.partition(":")[0]  # which of several GPUs it was is no property of a number
        facts: dict[str, object] = {"device": f"{kind} {bench.model.dtype}", "inputs": inputs, "layers": list(bench.model.layers)}
        if name in self.gates and self.stopped.get(name) == (OK, ""):
            facts["gate"] = self.gates[name]
        if isinstance(bench, ModelBench) and any(claim.family == "task accuracy" for claim in self.asked_claims):
            with suppress(RuntimeError):  # as out of memory, which its rows say
                facts["speed"] = bench.speed
        return facts

    def environment(self, rows: Sequence[Row] = (), facts: dict[str, dict] | None = None) -> dict:
        """Device, versions and threads of this run, and the claims in words, so that a report needs no model room.

        facts: of the measured models, where they were measured elsewhere than in this process.
        """
        device, dtype = resolve(self._device(self.asked_models[0]), self.dtype)
        facts = {name: known for name in {*self.benches, *(facts or {})} if (known := self.facts(name) or (facts or {})[name])}
        inputs = {name: known["inputs"] for name, known in sorted(facts.items())}
        measured = {(row.model, CLAIMS[row.claim].family) for row in rows if row.protocol == SOUND and row.status == OK}
        claims = {row.claim for row in rows}
        return {
            "families": sum(bool(FAMILIES[family].tests) for _, family in measured),
            "noise": noise_figures(self.baseline_folder),
            "devices": {name: known["device"] for name, known in sorted(facts.items())},
            "inputs": inputs,
            "speed": {name: known["speed"] for name, known in sorted(facts.items()) if "speed" in known},
            "gate": {name: known["gate"] for name, known in sorted(facts.items()) if "gate" in known},
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "codi-bench": __version__,
            **({"options": self.options} if self.options else {}),
            **environment(device if available(device) else "cpu", dtype).model_dump(),
            **versions(),
            "claims": in_words(claims),
            "published": [number for number in self._published if number["claim"] in claims],
            "beside": {name: model.beside for name, model in REGISTRY.items() if model.beside},
            "layers": {name: list(model.layers) for name, model in REGISTRY.items()}
            | {name: known["layers"] for name, known in facts.items()},
        }

    def _unrecorded(self, model: ModelRequest, rows: Sequence[Row]) -> tuple[str, list[str]]:
        """The word of a pair that is compared with no record, and why."""
        if self.changed:
            return "unchecked", [f"{self.changed} is not what was recorded"]
        failures = [row for row in rows if row.reproduction == Reproduction.NOT_REPRODUCED]
        if failures:
            return "red", [f"{row.metric}: {row.reproduction}, {row.detail['reproduction']}" for row in failures]
        if model.embedded:
            mend = "look at `pytest benchmarks --update-baselines`, then accept it"
            return "red", [f"nothing is recorded for this embedded model; {mend}"]
        if any(row.reproduction == Reproduction.REPRODUCED for row in rows):
            return OK, []
        return "unchecked", ["nothing is recorded for this model"]

    def _checked(self, model: ModelRequest) -> tuple[Status, str]:
        """Whether this model can be measured, and if not, why: found out once a run."""
        if model.name not in self.stopped:
            self.stopped[model.name] = self._check(model)
        return self.stopped[model.name]

    def _check(self, model: ModelRequest) -> tuple[Status, str]:
        device, known = self._device(model), model.registered
        if not available(device):
            remedy = ""
            if known and known.hub:
                folders = f"--model {known.name}=FOLDER --base {known.name}=FOLDER"
                remedy = f"; with one, download {known.hub} and {known.base}, or give {folders}"
            on_cpu = "`pytest benchmarks`" if model.embedded else "`--device cpu`"
            return NOT_RUN, f"no GPU here{remedy}; {on_cpu} measures on the CPU"
        if model.embedded:
            own = self._model_bench(model)  # weights that came with the package: what is wrong with them is red
            return (BLOCKED, why) if device != "cpu" and (why := preflight(own, None)) else (OK, "")
        try:
            bench = self._bench(model)
        except MissingError as error:
            return NOT_RUN, str(error)
        except CodiBenchError as error:
            return BLOCKED, f"preflight: {error}"
        if isinstance(bench, LogBench):
            return OK, ""
        reported = load_baseline(self.baseline_folder, model.name, "task-accuracy").reported.get("accuracy")
        gate = load_gate(self.baseline_folder, model.name)
        why = preflight(bench, reported, gate)
        self.gates[model.name] = note_of(bench, gate)
        return (BLOCKED, why) if why else (OK, "")

    def _bench(self, model: ModelRequest) -> ModelBench | LogBench:
        if model.name not in self.benches:
            self.benches[model.name] = self._load(model)
        return self.benches[model.name]

    def _model_bench(self, model: ModelRequest) -> ModelBench:
        """The bench of a model that is no log."""
        bench = self._bench(model)
        assert isinstance(bench, ModelBench)
        return bench

    def _load(self, model: ModelRequest) -> ModelBench | LogBench:
        permutations, path = self.permutations or DEFAULT_PERMUTATIONS, model.path
        if model.log:
            assert path is not None  # --log names one
            return LogBench.read(model.name, Path(path), permutations=permutations)
        name = model.problem_set(self.given)
        problems = self.given.get(name) or (() if name == "generated" else tuple(load_problems(name)))
        checkpoint = load(
            model.name if path is None else path if is_repository(path) else Path(path),
            base=model.base,
            name=model.name,
            device=self._device(model),
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
        """The bench of the model that this one is compared with: the registered one, or the other one of two that were given."""
        by_name = {other.name: other for other in self.asked_models}
        if model.registered is not None:
            name = model.registered.partner
            return lambda: self._model_bench(by_name.get(name) or ModelRequest(name))
        candidates = [other for other in self.asked_models if other.registered is None and other.name != model.name]
        return partial(self._model_bench, candidates[0]) if len(candidates) == 1 else None

    def _device(self, model: ModelRequest) -> str:
        """`auto`: the embedded pair is recorded on the CPU and measured there unless `-m gpu` asks; published models on cuda."""
        device = self.device
        if model.log:
            return "cpu"
        if device == "auto" and (self.gpu or model.for_gpus):
            device = "cuda"
        elif device == "auto" and model.path is None:
            device = "cpu"
        return device if self.worker is None else own_gpu(device, self.worker)


def _unusable(model: ModelRequest, claim: Claim, reason: str) -> PairOutcome:
    """A pair that cannot be judged since something that came with the package or the user's baselines is damaged: red."""
    row = Row(claim.id, model.name, "-", REPORTED, BLOCKED, regression=engine.DRIFTED, reason=reason)
    return PairOutcome([row], "red", [reason])
