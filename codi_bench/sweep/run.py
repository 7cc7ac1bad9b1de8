"""A sweep: train every member, choose the checkpoints of matched accuracy, audit both, gather. Finished work is never redone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

from codi_bench.errors import CodiBenchError
from codi_bench.models.codi import Codi
from codi_bench.models.model import Model
from codi_bench.store.code import code_hash
from codi_bench.sweep.auditing import audit_one, compare_one
from codi_bench.sweep.executors import Ended, Executor, Resources, Task, run_all
from codi_bench.sweep.members import PHASES, Member, recipe, snapshots
from codi_bench.sweep.results import SweepResults
from codi_bench.sweep.training import NUM_SCORED, choose_one, train_one

FINAL, MATCHED = "final", "matched"


@dataclass(frozen=True)
class Settings:
    """How members are trained and audited. n: problems of every claim; permutations: of every null."""

    phases: tuple[tuple[str, int], ...] = PHASES
    n: int = 300
    permutations: int = 199
    dtype: str = "float32"
    cpus: float = 1
    memory_gb: float = 0

    @property
    def resources(self) -> Resources:
        return Resources(self.cpus, self.memory_gb)


@dataclass(frozen=True)
class Audited:
    """A member at one of its checkpoints. which: FINAL or MATCHED; choosing: accuracy there on the problems that choose."""

    member: Member
    which: str
    steps: int
    parameters: int
    choosing: float
    result: dict


@dataclass(frozen=True)
class CheckpointComparison:
    """What two members share at the end of training."""

    one: Member
    other: Member
    result: dict


@dataclass(frozen=True)
class SweepFindings:
    """What a sweep found: audited checkpoints, compared ones, what failed and why, and the accuracy of matched checkpoints."""

    audited: tuple[Audited, ...]
    compared: tuple[CheckpointComparison, ...]
    failed: dict[str, str]
    target: float | None


def sweep(
    location: str,
    members: Sequence[Member],
    executor: Executor,
    settings: Settings,
    *,
    work: str,
    told: Callable[[str, int, int], None] = lambda text, done, total: None,
) -> SweepFindings:
    """Run what is not there yet. work: a folder for checkpoints of trainings that go on after a kill.

    told(text, done, total): called at the start of both stages and as tasks end.
    """
    results = SweepResults(location)
    failures: dict[str, str] = {}
    if settings.n > NUM_SCORED:
        raise CodiBenchError(f"{settings.n} problems are asked for, and a sweep scores {NUM_SCORED}: give a smaller --n")
    digests = {
        member: _key(train_one, settings.dtype, asdict(recipe(member, settings.phases)), member.seed)[:16] for member in members
    }
    training = {
        f"trained/{member.name}": (
            train_one,
            {
                **asdict(member),
                "phases": [list(phase) for phase in settings.phases],
                "dtype": settings.dtype,
                "weights": f"weights/{member.name}-{digests[member]}",
                "work": f"{work}/{member.name}-{digests[member]}",
            },
        )
        for member in members
    }
    training_results = _run_jobs(
        training, location, results, executor, settings, failures, lambda done, total: told("trained", done, total)
    )
    ready = [member for member in members if f"trained/{member.name}" in training_results]
    weights = {member: training[f"trained/{member.name}"][1]["weights"] for member in ready}
    checkpoints = snapshots(settings.phases)
    choosing = {
        f"chosen/{member.name}": (choose_one, {"weights": weights[member], "steps": list(checkpoints)}) for member in ready
    }
    choices = _run_jobs(
        choosing, location, results, executor, settings, failures, lambda done, total: told("chosen", done, total)
    )
    ready = [member for member in ready if f"chosen/{member.name}" in choices]
    accuracy = {member: choices[f"chosen/{member.name}"]["choosing"] for member in ready}
    target = target_accuracy(list(accuracy.values())) if ready else None
    nearest = {} if target is None else {member: matched(accuracy[member], target) for member in ready}
    steps = {(member, which): step for member in ready for which, step in ((FINAL, max(checkpoints)), (MATCHED, nearest[member]))}
    numbers = {"n": settings.n, "permutations": settings.permutations}
    audits = {
        f"audited/{member.name}-{step}": (audit_one, {"weights": f"{weights[member]}/{step}", **numbers})
        for (member, _), step in steps.items()
    }
    audit_results = _run_jobs(
        audits, location, results, executor, settings, failures, lambda done, total: told("audited", done, total)
    )
    comparisons = {
        f"compared/{one.name}-{other.name}": (
            compare_one,
            {"first": f"{weights[one]}/{max(checkpoints)}", "second": f"{weights[other]}/{max(checkpoints)}", **numbers},
        )
        for one, other in couples(ready)
    }
    comparison_results = _run_jobs(
        comparisons, location, results, executor, settings, failures, lambda done, total: told("compared", done, total)
    )
    return SweepFindings(
        tuple(
            Audited(
                member,
                which,
                step,
                training_results[f"trained/{member.name}"]["parameters"],
                accuracy[member][str(step)],
                audit_results[name],
            )
            for (member, which), step in steps.items()
            if (name := f"audited/{member.name}-{step}") in audit_results
        ),
        tuple(
            CheckpointComparison(one, other, comparison_results[name])
            for one, other in couples(ready)
            if (name := f"compared/{one.name}-{other.name}") in comparison_results
        ),
        failures,
        target,
    )


def couples(members: Sequence[Member]) -> list[tuple[Member, Member]]:
    """Which of the widest models are compared: those of an architecture with other seeds, and those of other architectures."""
    widest = [member for member in members if member.width == max(candidate.width for candidate in members)]
    return [(one, other) for one, other in combinations(widest, 2) if (one.family == other.family) != (one.seed == other.seed)]


def target_accuracy(choosing: Sequence[dict[str, float]]) -> float:
    """The accuracy that every member reaches: the lowest of their best checkpoints. choosing: accuracy by steps, of each."""
    if not choosing:
        raise CodiBenchError("nothing was trained: there is no accuracy to match")
    return min(max(accuracies.values()) for accuracies in choosing)


def matched(choosing: dict[str, float], target: float) -> int:
    """The checkpoint nearest to the target, the earliest on ties; steps."""
    return min((abs(accuracy - target), int(steps)) for steps, accuracy in choosing.items())[1]


def _run_jobs(
    jobs: dict[str, tuple[Callable, dict]],
    location: str,
    results: SweepResults,
    executor: Executor,
    settings: Settings,
    failures: dict[str, str],
    report: Callable[[int, int], None],
) -> dict[str, dict]:
    """The result of each job, from the location or done now. A job: the task and its arguments.

    Arguments name weights by what they were trained with, so that a result belongs to them alone.
    """
    keys = {
        name: _key(function, {name: value for name, value in arguments.items() if name != "work"})
        for name, (function, arguments) in jobs.items()
    }
    by_name = {name: result for name in jobs if (result := results.read(name, keys[name])) is not None}
    report(len(by_name), len(jobs))
    tasks = [
        Task(name, function, {"location": location, **arguments}, settings.resources)
        for name, (function, arguments) in jobs.items()
        if name not in by_name
    ]
    for outcome in run_all(tasks, executor) if tasks else ():
        _record(outcome, results, keys, by_name, failures)
        report(len(by_name), len(jobs))
    return by_name


def _record(outcome: Ended, results: SweepResults, keys: dict[str, str], by_name: dict, failures: dict[str, str]) -> None:
    name = outcome.task.name
    if outcome.error is not None:
        failures[name] = f"{type(outcome.error).__name__}: {outcome.error}"
        return
    assert outcome.result is not None  # what has no error has a result
    results.write(name, keys[name], outcome.result)
    by_name[name] = outcome.result


def _key(function: Callable, *arguments) -> str:
    """What a result hangs on: the task, its arguments, and the code that trains (and, for another task, that measures)."""
    text = json.dumps([function.__name__, arguments], sort_keys=True, default=str)
    return hashlib.sha256(f"{text} {code_hash(function, Codi, Model)}".encode()).hexdigest()
