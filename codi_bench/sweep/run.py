"""A sweep: train every member, choose checkpoints of matched accuracy, audit them, gather. Finished work is not repeated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations

from codi_bench.errors import CodiBenchError
from codi_bench.models.codi import Codi
from codi_bench.models.model import Model
from codi_bench.store.code import code_hash
from codi_bench.sweep.auditing import audit_one, compare_one
from codi_bench.sweep.executors import Executor, Task, run_all
from codi_bench.sweep.members import PHASES, Member, recipe, snapshots
from codi_bench.sweep.results import SweepResults
from codi_bench.sweep.training import NUM_SCORED, choose_one, train_one

FINAL, MATCHED = "final", "matched"


@dataclass(frozen=True)
class Settings:
    """Settings of training and audit. n: problems of every claim; permutations: of every null."""

    phases: tuple[tuple[str, int], ...] = PHASES
    n: int = 300
    permutations: int = 199
    dtype: str = "float32"
    cpus: float = 1
    memory_gb: float = 0


@dataclass(frozen=True)
class Audited:
    """A member at one of its checkpoints. which: FINAL or MATCHED; choosing: its accuracy on the problems that choose."""

    member: Member
    which: str
    steps: int
    parameters: int
    choosing: float
    result: dict


@dataclass(frozen=True)
class CheckpointComparison:
    """The comparison of two members at the end of training."""

    one: Member
    other: Member
    result: dict


@dataclass(frozen=True)
class SweepFindings:
    """The results of a sweep: the accuracy of matched checkpoints, failures and reasons, audited and compared checkpoints."""

    target: float | None
    failed: dict[str, str]
    audited: tuple[Audited, ...]
    compared: tuple[CheckpointComparison, ...]


def sweep(
    location: str,
    members: Sequence[Member],
    executor: Executor,
    settings: Settings,
    *,
    work: str,
    told: Callable[[str, int, int], None] = lambda text, done, total: None,
) -> SweepFindings:
    """Run all tasks without a result; a member that is named twice is run once.

    work: a folder for checkpoints, from which killed trainings continue.
    told(text, done, total): called at the start of each stage and as its tasks end.
    """
    if settings.n > NUM_SCORED:
        raise CodiBenchError(f"{settings.n} problems are asked for, but a sweep scores {NUM_SCORED}; give a smaller --n")
    members = [*dict.fromkeys(members)]
    failures: dict[str, str] = {}

    def stage(name: str, function: Callable[..., dict], jobs: dict[str, dict]) -> dict[str, dict]:
        """The result of each job, from the location or computed now. jobs: arguments by name."""
        tasks = {
            job: Task(f"{name}/{job}", function, {"location": location, **arguments}, settings.cpus, settings.memory_gb)
            for job, arguments in jobs.items()
        }
        by_name = _run_tasks(list(tasks.values()), SweepResults(location), executor, failures, partial(told, name))
        return {job: by_name[task.name] for job, task in tasks.items() if task.name in by_name}

    digests = {
        member: _key(train_one, settings.dtype, asdict(recipe(member, settings.phases)), member.seed)[:16] for member in members
    }
    weights = {member: f"weights/{member.name}-{digests[member]}" for member in members}
    trainings = {
        member.name: {
            **asdict(member),
            "phases": [list(phase) for phase in settings.phases],
            "dtype": settings.dtype,
            "weights": weights[member],
            "work": f"{work}/{member.name}-{digests[member]}",
        }
        for member in members
    }
    trained = stage("trained", train_one, trainings)
    checkpoints = snapshots(settings.phases)
    choices = {
        member.name: {"weights": weights[member], "steps": list(checkpoints)} for member in members if member.name in trained
    }
    chosen = stage("chosen", choose_one, choices)
    ready = [member for member in members if member.name in chosen]
    accuracy = {member: chosen[member.name]["choosing"] for member in ready}
    target = target_accuracy(list(accuracy.values())) if ready else None
    nearest = {} if target is None else {member: matched(accuracy[member], target) for member in ready}
    steps = {(member, which): step for member in ready for which, step in ((FINAL, max(checkpoints)), (MATCHED, nearest[member]))}
    numbers = {"n": settings.n, "permutations": settings.permutations}
    audits = {f"{member.name}-{step}": {"weights": f"{weights[member]}/{step}", **numbers} for (member, _), step in steps.items()}
    audited = stage("audited", audit_one, audits)
    last = {member: f"{weights[member]}/{max(checkpoints)}" for member in ready}
    pairs = {f"{one.name}-{other.name}": (one, other) for one, other in couples(ready)}
    comparisons = {name: {"first": last[one], "second": last[other], **numbers} for name, (one, other) in pairs.items()}
    compared = stage("compared", compare_one, comparisons)
    return SweepFindings(
        target,
        failures,
        tuple(
            Audited(member, which, step, trained[member.name]["parameters"], accuracy[member][str(step)], audited[name])
            for (member, which), step in steps.items()
            if (name := f"{member.name}-{step}") in audited
        ),
        tuple(CheckpointComparison(*pairs[name], result) for name, result in compared.items()),
    )


def couples(members: Sequence[Member]) -> list[tuple[Member, Member]]:
    """The pairs to compare, among the widest models: seeds of one architecture, and different architectures."""
    widest = [member for member in members if member.width == max(candidate.width for candidate in members)]
    return [(one, other) for one, other in combinations(widest, 2) if (one.family == other.family) != (one.seed == other.seed)]


def target_accuracy(choosing: Sequence[dict[str, float]]) -> float:
    """The accuracy that every member reaches: the lowest of their best ones. choosing: accuracy by steps, for each member."""
    if not choosing:
        raise CodiBenchError("nothing was trained: there is no accuracy to match")
    return min(max(accuracies.values()) for accuracies in choosing)


def matched(choosing: dict[str, float], target: float) -> int:
    """The steps of the checkpoint nearest to the target, the earliest on ties."""
    return min((abs(accuracy - target), int(steps)) for steps, accuracy in choosing.items())[1]


def _run_tasks(
    tasks: Sequence[Task], results: SweepResults, executor: Executor, failures: dict[str, str], told: Callable[[int, int], None]
) -> dict[str, dict]:
    """Results by task, existing and new ones; failed tasks go to `failures`.

    Arguments name weights by their training, so that a result belongs only to them.
    """
    keys = {
        task.name: _key(
            task.function, {name: value for name, value in task.arguments.items() if name not in ("location", "work")}
        )
        for task in tasks
    }
    by_name = {task.name: result for task in tasks if (result := results.read(task.name, keys[task.name])) is not None}
    told(len(by_name), len(tasks))
    for outcome in run_all([task for task in tasks if task.name not in by_name], executor):
        name = outcome.task.name
        if outcome.result is None:
            failures[name] = f"{type(outcome.error).__name__}: {outcome.error}"
        else:
            results.write(name, keys[name], outcome.result)
            by_name[name] = outcome.result
        told(len(by_name), len(tasks))
    return by_name


def _key(function: Callable, *arguments) -> str:
    """The key of a result: the task, its arguments, and the code that trains (and, for other tasks, that measures)."""
    text = json.dumps([function.__name__, arguments], sort_keys=True, default=str)
    return hashlib.sha256(f"{text} {code_hash(function, Codi, Model)}".encode()).hexdigest()
