"""A sweep: train every member, choose the checkpoints of matched accuracy, audit both, gather. Finished work is never redone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations

from codi_bench.errors import CodiBenchError
from codi_bench.files import code_hash, modules_in
from codi_bench.sweep.auditing import audit_one, compare_one
from codi_bench.sweep.executors import Ended, Executor, Resources, Task, run_all
from codi_bench.sweep.members import PHASES, Member, recipe, snapshots
from codi_bench.sweep.results import Results
from codi_bench.sweep.training import train_one

FINAL, MATCHED = "final", "matched"


@dataclass(frozen=True)
class Settings:
    """How members are trained and audited. n: problems of every claim; permutations: of every null."""

    phases: tuple[tuple[str, int], ...] = PHASES
    n: int = 400
    permutations: int = 199
    dtype: str = "float32"
    cpus: float = 1
    gpus: float = 0
    memory_gb: float = 0

    @property
    def resources(self) -> Resources:
        return Resources(self.cpus, self.gpus, self.memory_gb)


@dataclass(frozen=True)
class Audited:
    """A member at one of its checkpoints. which: FINAL or MATCHED."""

    member: Member
    which: str
    steps: int
    parameters: int
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
    results, failed = Results(location), {}
    training = {
        f"trained/{member.name}": (
            train_one,
            {**asdict(member), "phases": [list(phase) for phase in settings.phases], "work": work, "dtype": settings.dtype},
            (),
        )
        for member in members
    }
    trained = _do(training, location, results, executor, settings, failed, lambda done, total: told("trained", done, total))
    there = [member for member in members if f"trained/{member.name}" in trained]
    target = target_accuracy([trained[f"trained/{member.name}"]["choosing"] for member in there]) if there else None
    steps = {
        (member, which): steps
        for member in there
        for which, steps in (
            (FINAL, max(snapshots(settings.phases))),
            (MATCHED, matched(trained[f"trained/{member.name}"]["choosing"], target)),
        )
    }
    made = {member: _key(train_one, settings, recipe(member, settings.phases)) for member in there}
    numbers = {"n": settings.n, "permutations": settings.permutations}
    audits = {
        f"audited/{member.name}-{done}": (audit_one, {"weights": f"weights/{member.name}/{done}", **numbers}, (made[member],))
        for (member, _), done in steps.items()
    }
    audited = _do(audits, location, results, executor, settings, failed, lambda done, total: told("audited", done, total))
    last = max(snapshots(settings.phases))
    comparisons = {
        f"compared/{one.name}-{other.name}": (
            compare_one,
            {"first": f"weights/{one.name}/{last}", "second": f"weights/{other.name}/{last}", **numbers},
            (made[one], made[other]),
        )
        for one, other in couples(there)
    }
    compared = _do(comparisons, location, results, executor, settings, failed, lambda done, total: told("compared", done, total))
    return Found(
        tuple(
            Audited(member, which, done, trained[f"trained/{member.name}"]["parameters"], audited[name])
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
    jobs: dict[str, tuple[Callable, dict, tuple[str, ...]]],
    location: str,
    results: Results,
    executor: Executor,
    settings: Settings,
    failed: dict[str, str],
    told: Callable[[int, int], None],
) -> dict[str, dict]:
    """The result of each job, from the location or done now. A job: the task, its arguments, and keys of what it is made from."""
    keys = {
        name: _key(function, {name: value for name, value in arguments.items() if name != "work"}, " ".join(made))
        for name, (function, arguments, made) in jobs.items()
    }
    found = {name: held for name in jobs if (held := results.read(name, keys[name])) is not None}
    told(len(found), len(jobs))
    tasks = [
        Task(name, function, {"location": location, **arguments}, settings.resources)
        for name, (function, arguments, _) in jobs.items()
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
    results.write(name, keys[name], ended.result)
    found[name] = ended.result


def _key(function: Callable, *given) -> str:
    """What a result hangs on: the task, its arguments, and the code that trains (and, for an audit, that measures)."""
    text = json.dumps([function.__name__, [_plain(each) for each in given]], sort_keys=True, default=str)
    code = _training_code() if function is train_one else _auditing_code()
    return hashlib.sha256(f"{text} {code}".encode()).hexdigest()


@cache
def _training_code() -> str:
    from codi_bench.models import codi, loop, objective, train
    from codi_bench.problems import generator, templates
    from codi_bench.sweep import training

    return code_hash(codi, loop, objective, train, generator, templates, training)


@cache
def _auditing_code() -> str:
    from codi_bench import audits, bench, claims, engine, measures
    from codi_bench.models import edits, patching, reading
    from codi_bench.sweep import auditing

    return code_hash(bench, engine, edits, patching, reading, auditing, *modules_in(measures, audits, claims))


def _plain(value):
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
