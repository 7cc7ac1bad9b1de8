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
from codi_bench.sweep.results import Results
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
class Compared:
    """What two members share at the end of training."""

    one: Member
    other: Member
    result: dict


@dataclass(frozen=True)
class Found:
    """What a sweep found: audited checkpoints, compared ones, what failed and why, and the accuracy of matched checkpoints."""

    audited: tuple[Audited, ...]
    compared: tuple[Compared, ...]
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
) -> Found:
    """Run what is not there yet. work: a folder for checkpoints of trainings that go on after a kill.

    told(text, done, total): called at the start of both stages and as tasks end.
    """
    results = Results(location)
    failed: dict[str, str] = {}
    if settings.n > NUM_SCORED:
        raise CodiBenchError(f"{settings.n} problems are asked for, and a sweep scores {NUM_SCORED}: give a smaller --n")
    made = {
        member: _key(train_one, settings.dtype, asdict(recipe(member, settings.phases)), member.seed)[:16] for member in members
    }
    training = {
        f"trained/{member.name}": (
            train_one,
            {
                **asdict(member),
                "phases": [list(phase) for phase in settings.phases],
                "dtype": settings.dtype,
                "weights": f"weights/{member.name}-{made[member]}",
                "work": f"{work}/{member.name}-{made[member]}",
            },
        )
        for member in members
    }
    trained = _do(training, location, results, executor, settings, failed, lambda done, total: told("trained", done, total))
    there = [member for member in members if f"trained/{member.name}" in trained]
    weights = {member: training[f"trained/{member.name}"][1]["weights"] for member in there}
    every = snapshots(settings.phases)
    choosing = {f"chosen/{member.name}": (choose_one, {"weights": weights[member], "steps": list(every)}) for member in there}
    chosen = _do(choosing, location, results, executor, settings, failed, lambda done, total: told("chosen", done, total))
    there = [member for member in there if f"chosen/{member.name}" in chosen]
    accuracy = {member: chosen[f"chosen/{member.name}"]["choosing"] for member in there}
    target = target_accuracy(list(accuracy.values())) if there else None
    nearest = {} if target is None else {member: matched(accuracy[member], target) for member in there}
    steps = {(member, which): done for member in there for which, done in ((FINAL, max(every)), (MATCHED, nearest[member]))}
    numbers = {"n": settings.n, "permutations": settings.permutations}
    audits = {
        f"audited/{member.name}-{done}": (audit_one, {"weights": f"{weights[member]}/{done}", **numbers})
        for (member, _), done in steps.items()
    }
    audited = _do(audits, location, results, executor, settings, failed, lambda done, total: told("audited", done, total))
    comparisons = {
        f"compared/{one.name}-{other.name}": (
            compare_one,
            {"first": f"{weights[one]}/{max(every)}", "second": f"{weights[other]}/{max(every)}", **numbers},
        )
        for one, other in couples(there)
    }
    compared = _do(comparisons, location, results, executor, settings, failed, lambda done, total: told("compared", done, total))
    return Found(
        tuple(
            Audited(
                member, which, done, trained[f"trained/{member.name}"]["parameters"], accuracy[member][str(done)], audited[name]
            )
            for (member, which), done in steps.items()
            if (name := f"audited/{member.name}-{done}") in audited
        ),
        tuple(
            Compared(one, other, compared[name])
            for one, other in couples(there)
            if (name := f"compared/{one.name}-{other.name}") in compared
        ),
        failed,
        target,
    )


def couples(members: Sequence[Member]) -> list[tuple[Member, Member]]:
    """Which of the widest models are compared: those of an architecture with other seeds, and those of other architectures."""
    widest = [member for member in members if member.width == max(each.width for each in members)]
    return [(one, other) for one, other in combinations(widest, 2) if (one.family == other.family) != (one.seed == other.seed)]


def target_accuracy(choosing: Sequence[dict[str, float]]) -> float:
    """The accuracy that every member reaches: the lowest of their best checkpoints. choosing: accuracy by steps, of each."""
    if not choosing:
        raise CodiBenchError("nothing was trained: there is no accuracy to match")
    return min(max(each.values()) for each in choosing)


def matched(choosing: dict[str, float], target: float) -> int:
    """The checkpoint nearest to the target, the earliest on ties; steps."""
    return min((abs(accuracy - target), int(steps)) for steps, accuracy in choosing.items())[1]


def _do(
    jobs: dict[str, tuple[Callable, dict]],
    location: str,
    results: Results,
    executor: Executor,
    settings: Settings,
    failed: dict[str, str],
    told: Callable[[int, int], None],
) -> dict[str, dict]:
    """The result of each job, from the location or done now. A job: the task and its arguments.

    Arguments name weights by what they were trained with, so that a result belongs to them alone.
    """
    keys = {
        name: _key(function, {name: value for name, value in arguments.items() if name != "work"})
        for name, (function, arguments) in jobs.items()
    }
    found = {name: held for name in jobs if (held := results.read(name, keys[name])) is not None}
    told(len(found), len(jobs))
    tasks = [
        Task(name, function, {"location": location, **arguments}, settings.resources)
        for name, (function, arguments) in jobs.items()
        if name not in found
    ]
    for ended in run_all(tasks, executor) if tasks else ():
        _keep(ended, results, keys, found, failed)
        told(len(found), len(jobs))
    return found


def _keep(ended: Ended, results: Results, keys: dict[str, str], found: dict, failed: dict[str, str]) -> None:
    name = ended.task.name
    if ended.error is not None:
        failed[name] = f"{type(ended.error).__name__}: {ended.error}"
        return
    assert ended.result is not None  # what has no error has a result
    results.write(name, keys[name], ended.result)
    found[name] = ended.result


def _key(function: Callable, *given) -> str:
    """What a result hangs on: the task, its arguments, and the code that trains (and, for another task, that measures)."""
    text = json.dumps([function.__name__, given], sort_keys=True, default=str)
    return hashlib.sha256(f"{text} {code_hash(function, Codi, Model)}".encode()).hexdigest()
