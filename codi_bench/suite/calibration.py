"""Measuring how much the recorded numbers move: the suite run again with one thing changed, and its measures drawn again.

*Runs* are the whole suite with another batch size, thread, instruction set or dtype, each in a process with an empty cache, and
results that were measured elsewhere. *Draws* are the measures in this process with other seeds, other problems, or the answer to
one problem turned. Each is kept in a work folder as soon as it is there: a calibration that was stopped goes on. What follows
from them is decided in `noise`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import platformdirs

from codi_bench.audits.ablation import ALL, CLEAN, MAIN, SELF, Sweep
from codi_bench.claims import CLAIMS, Claim
from codi_bench.claims.ablations import sweep
from codi_bench.claims.claim import Bench, done
from codi_bench.claims.first_study.ablation import without_token
from codi_bench.claims.first_study.probes import NUM_PROBED
from codi_bench.errors import CodiBenchError, MeasureError
from codi_bench.models.edits import BOT
from codi_bench.records import tolerance as noise
from codi_bench.records.baseline import Baseline, Component, Environment, Record, Recorded, load_baseline, record_key
from codi_bench.records.results import OK, environment_of, of_model, read_results
from codi_bench.records.tolerance import NoiseMove, noise_move
from codi_bench.rules.stats import stream
from codi_bench.store.files import write_text
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import judge, published_values, record_of
from codi_bench.suite.environment import versions
from codi_bench.suite.suite import Suite

ABLATION = "ablation"  # the family
CAPABILITY = "ATEN_CPU_CAPABILITY"  # PyTorch's own: the instruction set that it keeps to
NO_NULL = 2  # permutations where only the number itself is wanted
FEWEST_TURNED = 1e-3  # share of outcomes: what was not seen in a few runs may still happen elsewhere
Key = tuple[str, str, str]  # model, claim, key of the record
Step = tuple[str, Callable[[], dict[Key, NoiseMove]]]  # name, measurement


@dataclass(frozen=True)
class Variation:
    """One thing that a run does otherwise: in words, as options of pytest, as variables of its process."""

    of: str
    options: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return self.of.replace(" ", "-")


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
        """Those that change something here: a GPU does not use the CPU's instruction sets, and one of them is this machine's."""
        device, instructions = self.environment.device, self.environment.instructions.lower()
        return [
            variation
            for variation in VARIATIONS
            if variation.options or (device == "cpu" and variation.variables.get(CAPABILITY) != instructions)
        ]

    def claims(self, model: str) -> list[Claim]:
        return [CLAIMS[claim] for name, claim in self.records if name == model]


def default_work() -> Path:
    """Where measurements are kept: in the user's cache folder, or in $CODI_BENCH_CACHE."""
    return Path(os.environ.get("CODI_BENCH_CACHE") or platformdirs.user_cache_dir("codi-bench")) / "calibrate"


def plan_of(suite: Suite, work: Path) -> CalibrationPlan:
    """What the suite asks for; what is measured is kept in `work`, in a folder of these records.

    Raises CodiBenchError where a model cannot be measured here, where nothing is recorded for this environment, and where a
    record is of other weights or problems: noise around a number that would be another one today means nothing.
    """
    benches, baselines, records = {}, {}, {}
    for name in (model.name for model in suite.asked_models):
        bench, why = suite.bench_of(name)
        if bench is None:
            raise CodiBenchError(f"{name} cannot be measured here: {why}; give --model for the others")
        benches[name] = bench
        for claim in suite.asked_claims:
            baseline = load_baseline(suite.baseline_folder, name, claim.id)
            inputs = record_of(bench, claim, [])
            record, same = baseline.nearest(inputs.environment, inputs)
            advice = "`pytest benchmarks --update-baselines`, then `codi-bench baselines accept`"
            if record is None or not same:
                where = ", ".join(inputs.environment.model_dump().values())
                raise CodiBenchError(f"{name} {claim.id}: nothing is recorded for {where}; record it first: {advice}")
            if changes := record.changed_inputs(inputs):
                raise CodiBenchError(
                    f"{name} {claim.id}: field {changes[0]} of the record is another today; record it anew: {advice}"
                )
            baselines[name, claim.id], records[name, claim.id] = baseline, record
    digest = hashlib.sha256("".join(record.model_dump_json() for record in records.values()).encode()).hexdigest()[:12]
    return CalibrationPlan(suite, benches, baselines, records, work / digest)


def steps(plan: CalibrationPlan, results: Sequence[Path], *, runs: bool, seeds: int, turns: int, redraws: int) -> list[Step]:
    """(name, measurement) of everything that is measured, in order; the results of other runs are read first."""
    measurements: list[Step] = [(str(path), partial(run_moves, plan, path)) for path in results]
    measurements += [(variation.of, partial(run_again, plan, variation)) for variation in plan.variations if runs]
    for model in plan.benches:
        measurements += draws(plan, model, seeds=seeds, turns=turns, redraws=redraws)
    return measurements


# --- runs of the suite -----------------------------------------------------------------------------------------------


def run_again(plan: CalibrationPlan, each: Variation) -> dict[Key, NoiseMove]:
    """The suite once more with that changed, from an empty cache, unless its results are there already.

    Raises CodiBenchError, naming the log, where the run ends without results.
    """
    folder = (plan.work / each.folder).absolute()
    results, log = folder / "results.json", folder / "log.txt"
    if not results.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        device = next(iter(plan.benches.values())).model.device
        command = [
            sys.executable,
            "-m",
            "pytest",
            "benchmarks",
            "-p",
            "no:cacheprovider",
            f"--device={device}",
            f"--report={folder}",
        ]
        command += [f"--baselines={plan.suite.baseline_folder.absolute()}", *(f"--model={name}" for name in plan.benches)]
        command += [f"--claim={claim}" for claim in dict.fromkeys(claim for _, claim in plan.records)]
        variables = {**os.environ, "CODI_BENCH_CACHE": str(folder / "cache"), **each.variables}
        with open(log, "w") as file:  # red: in another environment, or because what is calibrated is not so yet
            subprocess.run(
                [*command, *each.options], cwd=folder, env=variables, stdout=file, stderr=subprocess.STDOUT, check=False
            )
        shutil.rmtree(folder / "cache", ignore_errors=True)
        if not results.is_file():
            raise CodiBenchError(f"{log}: the run with {each.of} ended without results; see there, mend it and start again")
    return run_moves(plan, results, of=each.of)


def run_moves(plan: CalibrationPlan, path: Path, *, of: str = "") -> dict[Key, NoiseMove]:
    """How far the numbers of a results file are from the recorded ones. of: what was changed (default: the environment says).

    Raises CodiBenchError where the file is of other weights or problems.
    """
    facts, rows = read_results(path)
    environments: dict[str, Environment] = {}
    for name, bench in plan.benches.items():
        inputs = {"weights": bench.model.fingerprint, "problems": bench.problems.hash}
        if (of_model(facts, "inputs", name) or inputs) != inputs:
            raise CodiBenchError(
                f"{path}: field inputs: {name} has other weights or problems there; give results of the same ones"
            )
        environment = environment_of(facts, name)
        if environment is None:
            raise CodiBenchError(
                f"{path}: field environment: it does not say where {name} was measured; give a whole results file"
            )
        environments[name] = environment
    own_versions = {name: version for name, version in versions().items() if name in ("transformers", "scikit-learn")}
    other_versions = [f"{name} {facts.get(name)}" for name, version in own_versions.items() if facts.get(name) != version]
    moves: dict[Key, NoiseMove] = {}
    numbers, here = plan.numbers, plan.environment
    for row in rows:
        key = (row.model, row.claim, record_key(row.protocol, row.metric))
        if row.status == OK and key in numbers:
            where = environments[row.model]
            change = of or ", ".join([*noise.differences(here, where), *other_versions]) or "again"
            moves[key] = noise_move(numbers[key], row, noise.component(here, where, library=bool(other_versions)), change)
    return moves


# --- draws of the measures -------------------------------------------------------------------------------------------


def draws(plan: CalibrationPlan, model: str, *, seeds: int, turns: int, redraws: int) -> list[Step]:
    """(name, measurement) of every draw of a model: other seeds, one answer turned, other problems with other seeds."""
    bench = plan.benches[model]
    places = stream(0, "calibrate", model, "turned").permutation(min(NUM_PROBED, len(bench.problems.first(NUM_PROBED))))[:turns]
    variants: list[tuple[Component, str, ModelBench]]
    variants = [("seed", f"seed-{k}", replace(bench, seed=1000 * k, memo={})) for k in range(1, seeds + 1)]
    variants += [("turned", f"turned-{place}", replace(bench, turned=int(place), memo={})) for place in places]
    for k in range(1, redraws + 1):
        redraw = replace(_other_problems(bench, k), seed=1000 * k, permutations=NO_NULL, memo={})
        variants.append(("sampling", f"problems-{k}", redraw))
    return [
        (f"{model}, {name}", partial(_draw, plan, model, what, name, cast(Bench, variant))) for what, name, variant in variants
    ]


def _other_problems(bench: ModelBench, k: int) -> ModelBench:
    """Generated ones anew; of a given set another order, so that what takes the first ones takes others."""
    source = bench.problems
    if not source.given:
        return replace(bench, problems=replace(source, seed=1000 * k))
    order = stream(0, "calibrate", "problems", str(k)).permutation(len(source.given))
    return replace(bench, problems=replace(source, given=tuple(source.given[i] for i in order)))


def _draw(plan: CalibrationPlan, model: str, component: Component, name: str, bench: Bench) -> dict[Key, NoiseMove]:
    """The claims of a model measured by another bench, the sound protocol only on the same problems; kept in the work folder.

    A claim that the draw does not allow (a class that is too small) is left out.
    """
    path = plan.work / "draws" / model / f"{name}.json"
    if not path.is_file():
        draw: dict[str, list[float | str | None]] = {}
        for claim in plan.claims(model):
            try:
                protocols = claim.function(bench, published_values(plan.baselines[model, claim.id]))
                reported = next(protocols)
                judgements = judge(reported, next(protocols) if component != "sampling" else [], bench.permutations)
            except MeasureError:
                continue
            draw |= {f"{claim.id} {judgement.key}": [judgement.measured.value, judgement.word] for judgement in judgements}
        write_text(path, json.dumps(draw, indent=1) + "\n")
    of = {"seed": "other seeds", "turned": "one answer turned", "sampling": "other problems and seeds"}[component]
    numbers, values = plan.numbers, json.loads(path.read_text(encoding="utf-8"))
    keys = {(model, *text.split(" ", 1)): value for text, value in values.items()}
    return {
        key: NoiseMove(component, of, value - numbers[key].value, word=word)
        for key, (value, word) in keys.items()
        if key in numbers
    }


def ablations_turned(plan: CalibrationPlan, model: str, *, share: float, draws: int) -> dict[Key, list[NoiseMove]]:
    """The ablations of both protocols derived anew where each outcome of each condition turns with probability `share`.

    But for the control: replacing a latent by itself is the clean run everywhere.
    """
    bench, rng = plan.benches[model], stream(0, "calibrate", model, "ablations")
    numbers = {key: number for key, number in plan.numbers.items() if key[0] == model and CLAIMS[key[1]].family == ABLATION}
    moves: dict[Key, list[NoiseMove]] = {key: [] for key in numbers}
    of = f"{share:.2%} of the outcomes turned"
    if not numbers:
        return moves
    original, (clean, zeroed) = _words_rest_on(sweep(bench), bench.model.num_latents), without_token(bench)
    for _ in range(draws):
        right, study = (rows ^ (rng.random(rows.shape) < share) for rows in (original.right, np.stack([clean, *zeroed])))
        right[original.names.index(SELF)] = right[original.names.index(CLEAN)]
        memo = done({sweep: replace(original, right=right), without_token: (study[0], study[1:])})
        variant = cast(Bench, replace(bench, memo=memo))
        for claim in plan.claims(model):
            if claim.family == ABLATION:
                reported, sound = claim.function(variant, published_values(plan.baselines[model, claim.id]))
                for judgement in judge(reported, sound, bench.permutations):
                    key = (model, claim.id, judgement.key)
                    moves[key].append(NoiseMove("turned", of, judgement.measured.value - numbers[key].value, word=judgement.word))
    return moves


def _words_rest_on(full: Sweep, num_latents: int) -> Sweep:
    """The conditions of a sweep that numbers and verdicts come from, without those that are printed beside them."""
    names = {CLEAN, SELF, ALL, f"{BOT}=zero", *(f"{place}={MAIN}" for place in range(num_latents))}
    indices = [i for i, name in enumerate(full.names) if name in names]
    return Sweep(tuple(full.names[i] for i in indices), full.right[indices], full.log_probability[indices], full.reference)


# --- what follows ----------------------------------------------------------------------------------------------------


def share_turned(plan: CalibrationPlan, moves: dict[Key, list[NoiseMove]]) -> tuple[int, int, float]:
    """(outcomes that turned, outcomes measured again, upper bound of their share, not below FEWEST_TURNED) elsewhere."""
    flips, outcomes, share = noise.churn((number, noise.noise_of(moves.get(key, ()))) for key, number in plan.numbers.items())
    return flips, outcomes, max(FEWEST_TURNED, share) if outcomes else FEWEST_TURNED


def answers_turning(plan: CalibrationPlan, model: str, claim: str, share: float) -> int:
    """How many answers of a model may turn in one night; 1 for ablations, whose noise is that of a night's share of outcomes."""
    if CLAIMS[claim].family == ABLATION:
        return 1
    answers = [number.n for (name, *_), number in plan.numbers.items() if name == model and number.outcomes is not None]
    return noise.turning(share, max(answers, default=1))


def calibrated(plan: CalibrationPlan, moves: dict[Key, list[NoiseMove]]) -> list[Baseline]:
    """The baselines with the tolerances that follow from what was measured; nothing else of them changes."""
    baselines, (*_, share) = [], share_turned(plan, moves)
    for (model, claim), record in plan.records.items():
        tolerance, turning = {}, answers_turning(plan, model, claim, share)
        for key, number in record.metrics.items():
            metric_moves = moves.get((model, claim, key), [])
            tolerance[key] = noise.tolerance_of(
                number, noise.noise_of(metric_moves), noise.words_of(number, metric_moves), turning=turning
            )
        baselines.append(plan.baselines[model, claim].model_copy(update={"tolerance": tolerance}))
    return baselines


def faults(plan: CalibrationPlan, moves: dict[Key, list[NoiseMove]]) -> list[str]:
    """Numbers that another batch size or one thread moved, in words: they should be the same bits."""
    numbers = plan.numbers
    return [
        f"{' '.join(key)}: {move.of} moved it by {move.difference:.3g}"
        for key, metric_moves in moves.items()
        for move in metric_moves
        if move.component == "batch" and (abs(move.difference) > noise.DETERMINISTIC or move.word != numbers[key].verdict)
    ]
