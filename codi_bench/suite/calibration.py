"""Measure how much the recorded numbers move: run the suite again with one thing changed, and draw its measures again.

*Runs* are the whole suite with another batch size, number of threads, instruction set or dtype, each in a process with an empty
cache, and results measured elsewhere. *Draws* are the measures in this process with other seeds, other problems, or the answer to
one problem turned. Each is saved in a work folder at once, so a stopped calibration continues. `records.tolerance` derives the
tolerances.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import platformdirs

from codi_bench.audits.ablation import ALL, CLEAN, MAIN, SELF, Sweep
from codi_bench.claims import CLAIMS, Claim
from codi_bench.claims.ablations import sweep
from codi_bench.claims.claim import done
from codi_bench.claims.first_study.ablation import without_token
from codi_bench.claims.first_study.probes import NUM_PROBED
from codi_bench.errors import CodiBenchError, MeasureError
from codi_bench.models.edits import BOT
from codi_bench.records import tolerance as noise
from codi_bench.records.baseline import Baseline, Component, Environment, Record, Recorded, Word, load_baseline, record_key
from codi_bench.records.results import OK, environment_of, of_model, read_results
from codi_bench.records.tolerance import NoiseMove, noise_move
from codi_bench.rules.stats import stream
from codi_bench.store.files import open_log, write_text
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import judge, published_values, record_of, word_of
from codi_bench.suite.environment import versions
from codi_bench.suite.suite import Suite

ABLATION = "ablation"  # the family
CAPABILITY = "ATEN_CPU_CAPABILITY"  # PyTorch's own: the instruction set that it keeps to
NO_NULL = 2  # permutations where only the number itself is wanted
FEWEST_TURNED = 1e-3  # share of outcomes: what was not seen in a few runs may still happen elsewhere
DRAWS: dict[Component, str] = {"seed": "other seeds", "turned": "one answer turned", "sampling": "other problems and seeds"}
ADVICE = "`codi-bench run --update-baselines`, then `codi-bench baselines accept`"
Key = tuple[str, str, str]  # model, claim, key of the record
Value = tuple[float, Word | None]  # a number measured again, and the word it gets
Step = tuple[str, Callable[[], dict[Key, NoiseMove]]]  # name, measurement


@dataclass(frozen=True)
class Variation:
    """One change to a run: in words, as options of pytest, and as variables of its process."""

    of: str
    options: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)


VARIATIONS = (
    Variation("batch size 1", ("--batch-size=1",)),
    Variation("batch size 16", ("--batch-size=16",)),
    Variation("one thread", variables={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}),
    Variation("AVX2", variables={CAPABILITY: "avx2"}),
    Variation("no vector instructions", variables={CAPABILITY: "default"}),
    Variation("bfloat16", ("--dtype=bfloat16",)),
)


@dataclass(frozen=True)
class CalibrationPlan:
    """The records of one environment that are calibrated, their baselines, and the bench of each model."""

    suite: Suite
    benches: dict[str, ModelBench]
    baselines: dict[tuple[str, str], Baseline]
    records: dict[tuple[str, str], Record]
    work: Path

    @property
    def environment(self) -> Environment:
        return next(iter(self.records.values())).environment

    @property
    def numbers(self) -> dict[Key, Recorded]:
        return {(*pair, key): number for pair, record in self.records.items() for key, number in sorted(record.metrics.items())}

    @property
    def variations(self) -> list[Variation]:
        """The variations that make a difference on this machine: not its own instruction set, and none of them with a GPU."""
        here = self.environment
        own = here.instructions.lower()
        return [v for v in VARIATIONS if v.options or (here.device == "cpu" and v.variables.get(CAPABILITY) != own)]

    def claims(self, model: str) -> list[Claim]:
        return [CLAIMS[claim] for name, claim in self.records if name == model]

    def moves(self, values: Mapping[Key, Value], component: Component, of: str) -> dict[Key, NoiseMove]:
        """How far values are from the recorded numbers, if there are any."""
        numbers = self.numbers
        recorded = {key: value for key, value in values.items() if key in numbers}
        return {key: NoiseMove(component, of, x - numbers[key].value, word=word) for key, (x, word) in recorded.items()}


def default_work() -> Path:
    """The folder of measurements: in the user's cache folder, or in $CODI_BENCH_CACHE."""
    return Path(os.environ.get("CODI_BENCH_CACHE") or platformdirs.user_cache_dir("codi-bench")) / "calibrate"


def plan_of(suite: Suite, work: Path) -> CalibrationPlan:
    """The plan for the models and claims of the suite; measurements are saved below `work`, in a folder of these records.

    Raises CodiBenchError if a model cannot be measured here, if nothing is recorded for this environment, and if a record is of
    other weights or problems: noise around an outdated number means nothing.
    """
    benches, baselines, records = {}, {}, {}
    for name in (model.name for model in suite.asked_models):
        bench, why = suite.bench_of(name)
        if bench is None:
            raise CodiBenchError(f"{name} cannot be measured here: {why}; give --model for the others")
        benches[name] = bench
        for claim in suite.asked_claims:
            baseline = load_baseline(suite.baseline_folder, name, claim.id)
            inputs = record_of(bench, claim, {})
            record, same = baseline.nearest(inputs.environment, inputs)
            if record is None or not same:
                where = ", ".join(inputs.environment.model_dump().values())
                raise CodiBenchError(f"{name} {claim.id}: nothing is recorded for {where}; record it first: {ADVICE}")
            if changes := record.changed_inputs(inputs):
                raise CodiBenchError(
                    f"{name} {claim.id}: field {changes[0]} of the record has changed since; record it again: {ADVICE}"
                )
            baselines[name, claim.id], records[name, claim.id] = baseline, record
    digest = hashlib.sha256("".join(record.model_dump_json() for record in records.values()).encode()).hexdigest()[:12]
    return CalibrationPlan(suite, benches, baselines, records, work / digest)


def steps(plan: CalibrationPlan, results: Sequence[Path], *, runs: bool, seeds: int, turns: int, redraws: int) -> list[Step]:
    """(name, measurement) of everything that is measured, in order; results of other runs are read first."""
    measurements: list[Step] = [(str(path), partial(run_moves, plan, path)) for path in results]
    measurements += [(variation.of, partial(run_again, plan, variation)) for variation in plan.variations if runs]
    for model, bench in plan.benches.items():
        places = stream(0, "calibrate", model, "turned").permutation(min(NUM_PROBED, len(bench.problems.first(NUM_PROBED))))[
            :turns
        ]
        variants: list[tuple[Component, str, ModelBench]]
        variants = [("seed", f"seed-{k}", replace(bench, seed=1000 * k, memo={})) for k in range(1, seeds + 1)]
        variants += [("turned", f"turned-{place}", replace(bench, turned=int(place), memo={})) for place in places]
        variants += [("sampling", f"problems-{k}", _other_problems(bench, k)) for k in range(1, redraws + 1)]
        measurements += [(f"{model}, {name}", partial(_draw, plan, model, kind, name, draw)) for kind, name, draw in variants]
    return measurements


def run_again(plan: CalibrationPlan, variation: Variation) -> dict[Key, NoiseMove]:
    """Run the suite once more with that change, from an empty cache, unless its results are already there.

    Raises CodiBenchError, naming the log, if the run ends without results.
    """
    folder = (plan.work / variation.of.replace(" ", "-")).absolute()
    results, log = folder / "results.json", folder / "log.txt"
    if not results.is_file():
        device = next(iter(plan.benches.values())).model.device
        command = [sys.executable, "-m", "codi_bench.cli", "run", "-p", "no:cacheprovider", f"--device={device}"]
        command += [f"--report={folder}", f"--baselines={plan.suite.baseline_folder.absolute()}", *variation.options]
        command += [f"--model={name}" for name in plan.benches]
        command += [f"--claim={claim}" for claim in dict.fromkeys(claim for _, claim in plan.records)]
        variables = {**os.environ, "CODI_BENCH_CACHE": str(folder / "cache"), **variation.variables}
        with open_log(log) as file:  # red: in another environment, or because what is calibrated is not so yet
            subprocess.run(command, cwd=folder, env=variables, stdout=file, stderr=subprocess.STDOUT, check=False)
        shutil.rmtree(folder / "cache", ignore_errors=True)
        if not results.is_file():
            raise CodiBenchError(
                f"{log}: the run with {variation.of} ended without results; correct the error that the log shows and start again"
            )
    return run_moves(plan, results, of=variation.of)


def run_moves(plan: CalibrationPlan, path: Path, *, of: str = "") -> dict[Key, NoiseMove]:
    """How far the numbers of a results file are from the recorded ones. of: what was changed (by default read from the file).

    Raises CodiBenchError if the file is of other weights or problems.
    """
    facts, rows = read_results(path)
    environments: dict[str, Environment] = {}
    for name, bench in plan.benches.items():
        inputs = {"weights": bench.model.fingerprint, "problems": bench.problems.hash}
        if (of_model(facts, "inputs", name) or inputs) != inputs:
            fault = f"inputs: {name} has other weights or problems in that file; give results with the same ones"
        elif (environment := environment_of(facts, name)) is None:
            fault = f"environment: does not say where {name} was measured; give a complete results file"
        else:
            environments[name] = environment
            continue
        raise CodiBenchError(f"{path}: field {fault}")
    own = versions()
    others = [f"{name} {facts.get(name)}" for name in ("transformers", "scikit-learn") if facts.get(name) != own[name]]
    moves: dict[Key, NoiseMove] = {}
    numbers, here = plan.numbers, plan.environment
    for row in rows:
        key = (row.model, row.claim, record_key(row.protocol, row.metric))
        if row.status == OK and key in numbers:
            component, words = noise.change(here, environments[row.model], others)
            moves[key] = noise_move(numbers[key], row, component, of or words)
    return moves


def _other_problems(bench: ModelBench, k: int) -> ModelBench:
    """Other problems and seeds: newly generated ones, or a given set in another order, so that claims take other first ones."""
    draw = replace(bench, seed=1000 * k, permutations=NO_NULL, memo={})
    source = bench.problems
    if not source.given:
        return replace(draw, problems=replace(source, seed=1000 * k))
    order = stream(0, "calibrate", "problems", str(k)).permutation(len(source.given))
    return replace(draw, problems=replace(source, given=tuple(source.given[i] for i in order)))


def _draw(plan: CalibrationPlan, model: str, component: Component, name: str, bench: ModelBench) -> dict[Key, NoiseMove]:
    """The claims of a model measured by another bench, the sound protocol only on the same problems; saved in the work folder.

    A claim that the draw makes impossible (a class becomes too small) is left out.
    """
    path = plan.work / "draws" / model / f"{name}.json"
    if not path.is_file():
        draw: dict[Key, Value] = {}
        for claim in plan.claims(model):
            with suppress(MeasureError):
                draw |= _values(plan, model, claim, bench, sound=component != "sampling")
        write_text(path, json.dumps({f"{claim} {key}": value for (_, claim, key), value in draw.items()}, indent=1) + "\n")
    values = json.loads(path.read_text(encoding="utf-8"))
    return plan.moves({(model, *text.split(" ", 1)): value for text, value in values.items()}, component, DRAWS[component])


def _values(plan: CalibrationPlan, model: str, claim: Claim, bench: ModelBench, *, sound: bool = True) -> dict[Key, Value]:
    """The numbers and words of a claim on a bench."""
    protocols = claim.function(bench, published_values(plan.baselines[model, claim.id]))
    numbers = judge(next(protocols), next(protocols) if sound else [], bench.permutations)
    return {(model, claim.id, key): (measured.value, word_of(measured)) for key, measured in numbers.items()}


def ablations_turned(plan: CalibrationPlan, model: str, *, share: float, draws: int) -> dict[Key, list[NoiseMove]]:
    """The ablations of both protocols, derived again after each outcome of each condition turned with probability `share`.

    The control is not turned: replacing a latent by itself gives the clean run everywhere.
    """
    bench, rng = plan.benches[model], stream(0, "calibrate", model, "ablations")
    claims = [claim for claim in plan.claims(model) if claim.family == ABLATION]
    moves: dict[Key, list[NoiseMove]] = {}
    if not claims:
        return moves
    original, (clean, zeroed) = _words_rest_on(sweep(bench), bench.model.num_latents), without_token(bench)
    for _ in range(draws):
        right, study = ([row ^ (rng.random(row.shape) < share) for row in rows] for rows in (original.right, (clean, *zeroed)))
        identity, own = (original.names.index(name) for name in (SELF, CLEAN))
        right[identity] = right[own][: len(right[identity])]
        memo = done({sweep: replace(original, right=right), without_token: (study[0], np.stack(study[1:]))})
        for claim in claims:
            values = _values(plan, model, claim, replace(bench, memo=memo))
            for key, move in plan.moves(values, "turned", f"{share:.2%} of the outcomes turned").items():
                moves.setdefault(key, []).append(move)
    return moves


def _words_rest_on(full: Sweep, num_latents: int) -> Sweep:
    """The conditions of a sweep that numbers and verdicts need, without those that are only printed."""
    names = {CLEAN, SELF, ALL, f"{BOT}=zero", *(f"{place}={MAIN}" for place in range(num_latents))}
    indices = [i for i, name in enumerate(full.names) if name in names]
    right, log_probability = ([rows[i] for i in indices] for rows in (full.right, full.log_probability))
    return replace(full, names=tuple(full.names[i] for i in indices), right=right, log_probability=log_probability)


def share_turned(plan: CalibrationPlan, moves: dict[Key, list[NoiseMove]]) -> tuple[int, int, float]:
    """(outcomes that turned, outcomes measured again, upper bound of their share, not below FEWEST_TURNED) elsewhere."""
    flips, outcomes, share = noise.churn((number, noise.noise_of(moves.get(key, ()))) for key, number in plan.numbers.items())
    return flips, outcomes, max(FEWEST_TURNED, share) if outcomes else FEWEST_TURNED


def answers_turning(plan: CalibrationPlan, model: str, claim: str, share: float) -> int:
    """How many answers of a model may turn in one night; 1 for ablations, whose noise includes a night's turned outcomes."""
    if CLAIMS[claim].family == ABLATION:
        return 1
    answers = [number.n for (name, *_), number in plan.numbers.items() if name == model and number.outcomes is not None]
    return noise.turning(share, max(answers, default=1))


def calibrated(plan: CalibrationPlan, moves: dict[Key, list[NoiseMove]]) -> list[Baseline]:
    """The baselines with tolerances from these measurements; nothing else in them changes."""
    baselines, (*_, share) = [], share_turned(plan, moves)
    for (model, claim), record in plan.records.items():
        tolerance, turning = {}, answers_turning(plan, model, claim, share)
        for key, number in record.metrics.items():
            own = moves.get((model, claim, key), [])
            tolerance[key] = noise.tolerance_of(number, noise.noise_of(own), noise.words_of(number, own), turning=turning)
        baselines.append(plan.baselines[model, claim].model_copy(update={"tolerance": tolerance}))
    return baselines


def faults(plan: CalibrationPlan, moves: dict[Key, list[NoiseMove]]) -> list[str]:
    """Numbers that another batch size or one thread moved, in words: no bit of them should change."""
    numbers = plan.numbers
    return [
        f"{' '.join(key)}: {move.of} moved it by {move.difference:.3g}"
        for key, metric_moves in moves.items()
        for move in metric_moves
        if move.component == "batch" and (abs(move.difference) > noise.DETERMINISTIC or move.word != numbers[key].verdict)
    ]
