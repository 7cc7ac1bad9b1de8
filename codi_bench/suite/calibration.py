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

import numpy as np
import platformdirs

from codi_bench.audits.ablation import ALL, CLEAN, MAIN, SELF, Sweep
from codi_bench.claims import CLAIMS, Claim
from codi_bench.claims.seed_reported import ABLATED, ablated
from codi_bench.claims.seed_sound import NUM_PROBED
from codi_bench.claims.seed_sound_ablation import SWEEP, sweep
from codi_bench.errors import CodiBenchError, MeasureError
from codi_bench.models.edits import BOT
from codi_bench.records import tolerance as noise
from codi_bench.records.baseline import Baseline, Environment, Record, Recorded, load_baseline, record_key
from codi_bench.records.results import OK, environment_of, of_model, read_results
from codi_bench.records.tolerance import Moved, moved
from codi_bench.rules.stats import stream
from codi_bench.store.files import write_text
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import judge, published, record_of
from codi_bench.suite.environment import versions
from codi_bench.suite.suite import Suite

ABLATION = "ablation"  # the family
CAPABILITY = "ATEN_CPU_CAPABILITY"  # PyTorch's own: the instruction set that it keeps to
NO_NULL = 2  # permutations where only the number itself is wanted
FEWEST_TURNED = 1e-3  # share of outcomes: what was not seen in a few runs may still happen elsewhere
Key = tuple[str, str, str]  # model, claim, key of the record


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
class Plan:
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
        return {(*pair, key): held for pair, record in self.records.items() for key, held in sorted(record.metrics.items())}

    @property
    def variations(self) -> list[Variation]:
        """Those that change something here: a GPU does not use the CPU's instruction sets, and one of them is this machine's."""
        device, own = self.environment.device, self.environment.instructions.lower()
        return [each for each in VARIATIONS if each.options or (device == "cpu" and each.variables.get(CAPABILITY) != own)]

    def claims(self, model: str) -> list[Claim]:
        return [CLAIMS[claim] for name, claim in self.records if name == model]


def default_work() -> Path:
    """Where measurements are kept: in the user's cache folder, or in $CODI_BENCH_CACHE."""
    return Path(os.environ.get("CODI_BENCH_CACHE") or platformdirs.user_cache_dir("codi-bench")) / "calibrate"


def plan_of(suite: Suite, work: Path) -> Plan:
    """What the suite asks for; what is measured is kept in `work`, in a folder of these records.

    Raises CodiBenchError where a model cannot be measured here, where nothing is recorded for this environment, and where a
    record is of other weights or problems: noise around a number that would be another one today means nothing.
    """
    benches, baselines, records = {}, {}, {}
    for name in (each.name for each in suite.asked_models):
        bench, why = suite.bench_of(name)
        if bench is None:
            raise CodiBenchError(f"{name} cannot be measured here: {why}; give --model for the others")
        benches[name] = bench
        for claim in suite.asked_claims:
            baseline = load_baseline(suite.baselines, name, claim.id)
            now = record_of(bench, claim, [])
            held, same = baseline.nearest(now.environment, now)
            again = "`pytest benchmarks --update-baselines`, then `codi-bench baselines accept`"
            if not same:
                where = ", ".join(now.environment.model_dump().values())
                raise CodiBenchError(f"{name} {claim.id}: nothing is recorded for {where}; record it first: {again}")
            if changed := held.changed_inputs(now):
                raise CodiBenchError(
                    f"{name} {claim.id}: field {changed[0]} of the record is another today; record it anew: {again}"
                )
            baselines[name, claim.id], records[name, claim.id] = baseline, held
    digest = hashlib.sha256("".join(each.model_dump_json() for each in records.values()).encode()).hexdigest()[:12]
    return Plan(suite, benches, baselines, records, work / digest)


def steps(
    plan: Plan, results: Sequence[Path], *, runs: bool, seeds: int, turns: int, redraws: int
) -> list[tuple[str, Callable[[], dict[Key, Moved]]]]:
    """(name, measurement) of everything that is measured, in order; the results of other runs are read first."""
    found = [(str(path), partial(run_moves, plan, path)) for path in results]
    found += [(each.of, partial(run_again, plan, each)) for each in plan.variations if runs]
    for model in plan.benches:
        found += draws(plan, model, seeds=seeds, turns=turns, redraws=redraws)
    return found


# --- runs of the suite -----------------------------------------------------------------------------------------------


def run_again(plan: Plan, each: Variation) -> dict[Key, Moved]:
    """The suite once more with that changed, from an empty cache, unless its results are there already.

    Raises CodiBenchError, naming the log, where the run ends without results.
    """
    folder = (plan.work / each.folder).absolute()
    results, log = folder / "results.json", folder / "log.txt"
    if not results.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        device = next(iter(plan.benches.values())).device
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
        command += [f"--baselines={plan.suite.baselines.absolute()}", *(f"--model={name}" for name in plan.benches)]
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


def run_moves(plan: Plan, path: Path, *, of: str = "") -> dict[Key, Moved]:
    """How far the numbers of a results file are from the recorded ones. of: what was changed (default: the environment says).

    Raises CodiBenchError where the file is of other weights or problems.
    """
    told, rows = read_results(path)
    there = {}
    for name, bench in plan.benches.items():
        inputs = {"weights": bench.model.fingerprint, "problems": bench.problems_hash}
        if (of_model(told, "inputs", name) or inputs) != inputs:
            raise CodiBenchError(
                f"{path}: field inputs: {name} has other weights or problems there; give results of the same ones"
            )
        there[name] = environment_of(told, name)
        if there[name] is None:
            raise CodiBenchError(
                f"{path}: field environment: it does not say where {name} was measured; give a whole results file"
            )
    known = {name: version for name, version in versions().items() if name in ("transformers", "scikit-learn")}
    others = [f"{name} {told.get(name)}" for name, version in known.items() if told.get(name) != version]
    found, numbers, here = {}, plan.numbers, plan.environment
    for row in rows:
        key = (row.model, row.claim, record_key(row.protocol, row.metric))
        if row.status == OK and key in numbers:
            where = there[row.model]
            said = of or ", ".join([*noise.differences(here, where), *others]) or "again"
            found[key] = moved(numbers[key], row, noise.component(here, where, library=bool(others)), said)
    return found


# --- draws of the measures -------------------------------------------------------------------------------------------


def draws(plan: Plan, model: str, *, seeds: int, turns: int, redraws: int) -> list[tuple[str, Callable[[], dict[Key, Moved]]]]:
    """(name, measurement) of every draw of a model: other seeds, one answer turned, other problems with other seeds."""
    bench = plan.benches[model]
    at = stream(0, "calibrate", model, "turned").permutation(min(NUM_PROBED, len(bench.problems(NUM_PROBED))))[:turns]
    asked = [("seed", f"seed-{k}", replace(bench, seed=1000 * k, seen={})) for k in range(1, seeds + 1)]
    asked += [("turned", f"turned-{place}", replace(bench, turned=int(place), seen={})) for place in at]
    for k in range(1, redraws + 1):
        again = replace(_other_problems(bench, k), seed=1000 * k, permutations=NO_NULL, seen={})
        asked.append(("sampling", f"problems-{k}", again))
    return [(f"{model}, {name}", partial(_drawn, plan, model, what, name, again)) for what, name, again in asked]


def _other_problems(bench: ModelBench, k: int) -> ModelBench:
    """Generated ones anew; of a given set another order, so that what takes the first ones takes others."""
    if not bench.given:
        return replace(bench, problem_seed=1000 * k)
    order = stream(0, "calibrate", "problems", str(k)).permutation(len(bench.given))
    return replace(bench, given=tuple(bench.given[i] for i in order))


def _drawn(plan: Plan, model: str, what: noise.Component, name: str, bench: ModelBench) -> dict[Key, Moved]:
    """The claims of a model measured by another bench, the sound protocol only on the same problems; kept in the work folder.

    A claim that the draw does not allow (a class that is too small) is left out.
    """
    path = plan.work / "draws" / model / f"{name}.json"
    if not path.is_file():
        found = {}
        for claim in plan.claims(model):
            try:
                sound = claim.sound(bench, published(plan.baselines[model, claim.id])) if what != "sampling" else []
                judged = judge(claim.measure(bench), sound, bench.permutations)
            except MeasureError:
                continue
            found |= {f"{claim.id} {each.key}": [each.measured.value, each.word] for each in judged}
        write_text(path, json.dumps(found, indent=1) + "\n")
    of = {"seed": "other seeds", "turned": "one answer turned", "sampling": "other problems and seeds"}[what]
    held, values = plan.numbers, json.loads(path.read_text(encoding="utf-8"))
    keys = {(model, *text.split(" ", 1)): value for text, value in values.items()}
    return {key: Moved(what, of, value - held[key].value, word=word) for key, (value, word) in keys.items() if key in held}


def ablations_turned(plan: Plan, model: str, *, share: float, draws: int) -> dict[Key, list[Moved]]:
    """The ablations of both protocols derived anew where each outcome of each condition turns with probability `share`.

    But for the control: replacing a latent by itself is the clean run everywhere.
    """
    bench, rng = plan.benches[model], stream(0, "calibrate", model, "ablations")
    held = {key: number for key, number in plan.numbers.items() if key[0] == model and CLAIMS[key[1]].family == ABLATION}
    found, of = {key: [] for key in held}, f"{share:.2%} of the outcomes turned"
    if not held:
        return found
    swept, (clean, zeroed) = _words_rest_on(sweep(bench), bench.num_latents), ablated(bench)
    for _ in range(draws):
        right, study = (rows ^ (rng.random(rows.shape) < share) for rows in (swept.right, np.stack([clean, *zeroed])))
        right[swept.names.index(SELF)] = right[swept.names.index(CLEAN)]
        seen = {SWEEP: (replace(swept, right=right), None), ABLATED: ((study[0], study[1:]), None)}
        turned = replace(bench, seen=seen)
        for claim in plan.claims(model):
            if claim.family == ABLATION:
                sound = claim.sound(turned, published(plan.baselines[model, claim.id]))
                for each in judge(claim.measure(turned), sound, bench.permutations):
                    key = (model, claim.id, each.key)
                    found[key].append(Moved("turned", of, each.measured.value - held[key].value, word=each.word))
    return found


def _words_rest_on(swept: Sweep, num_latents: int) -> Sweep:
    """The conditions of a sweep that numbers and verdicts come from, without those that are printed beside them."""
    names = {CLEAN, SELF, ALL, f"{BOT}=zero", *(f"{place}={MAIN}" for place in range(num_latents))}
    at = [i for i, name in enumerate(swept.names) if name in names]
    return Sweep(tuple(swept.names[i] for i in at), swept.right[at], swept.log_probability[at], swept.reference)


# --- what follows ----------------------------------------------------------------------------------------------------


def share_turned(plan: Plan, moves: dict[Key, list[Moved]]) -> tuple[int, int, float]:
    """(outcomes that turned, outcomes measured again, upper bound of their share, not below FEWEST_TURNED) elsewhere."""
    turned, again, share = noise.churn((held, noise.noise_of(moves.get(key, ()))) for key, held in plan.numbers.items())
    return turned, again, max(FEWEST_TURNED, share) if again else FEWEST_TURNED


def answers_turning(plan: Plan, model: str, claim: str, share: float) -> int:
    """How many answers of a model may turn in one night; 1 for ablations, whose noise is that of a night's share of outcomes."""
    if CLAIMS[claim].family == ABLATION:
        return 1
    answers = [held.n for (name, *_), held in plan.numbers.items() if name == model and held.outcomes is not None]
    return noise.turning(share, max(answers, default=1))


def calibrated(plan: Plan, moves: dict[Key, list[Moved]]) -> list[Baseline]:
    """The baselines with the tolerances that follow from what was measured; nothing else of them changes."""
    found, (*_, share) = [], share_turned(plan, moves)
    for (model, claim), record in plan.records.items():
        tolerance, often = {}, answers_turning(plan, model, claim, share)
        for key, held in record.metrics.items():
            mine = moves.get((model, claim, key), [])
            tolerance[key] = noise.tolerance_of(held, noise.noise_of(mine), noise.words_of(held, mine), turning=often)
        found.append(plan.baselines[model, claim].model_copy(update={"tolerance": tolerance}))
    return found


def faults(plan: Plan, moves: dict[Key, list[Moved]]) -> list[str]:
    """Numbers that another batch size or one thread moved, in words: they should be the same bits."""
    numbers = plan.numbers
    return [
        f"{' '.join(key)}: {each.of} moved it by {each.difference:.3g}"
        for key, found in moves.items()
        for each in found
        if each.component == "batch" and (abs(each.difference) > noise.DETERMINISTIC or each.word != numbers[key].verdict)
    ]
