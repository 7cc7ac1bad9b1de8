"""Run tasks in a pool of processes on this machine or on a Ray cluster, with one small interface and the same results.

A task is a function of the package with JSON arguments and a JSON result, and states the resources that it needs. If its worker
is lost, the task is run again; if it raises an exception, it has failed, and the other tasks continue.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Protocol

from codi_bench.errors import CodiBenchError

RETRIES = 3  # further tries of a task whose worker is lost, before it counts as failed


class LostWorkerError(CodiBenchError):
    """The process that ran a task was lost: killed, out of memory, or its machine failed."""


@dataclass(frozen=True)
class Task:
    """`function(**arguments)`: the function is found by its module and name.

    cpus, memory_gb: the resources to request from a cluster; 0 GB: no request.
    """

    name: str
    function: Callable[..., dict]
    arguments: dict
    cpus: float = 1
    memory_gb: float = 0


@dataclass(frozen=True)
class Ended:
    """A finished task: its result, or why there is none."""

    task: Task
    result: dict | None = None
    error: BaseException | None = None


class Executor(Protocol):
    """The interface to run single tasks; `run_all` counts their tries."""

    def submit(self, task: Task) -> None:
        """Start a task, now or when a worker is free."""

    def next_ended(self) -> Ended:
        """Wait for any submitted task; its error is a LostWorkerError if its worker was lost."""

    def close(self) -> None:
        """Stop the workers and all running tasks."""


def run_all(tasks: Sequence[Task], executor: Executor) -> Iterator[Ended]:
    """Yield every task as it ends; a task whose worker is lost is tried RETRIES more times.

    Tries are counted here for Ray too, whose own retries never end if a worker is out of memory.
    """
    losses: Counter[str] = Counter()
    for task in tasks:
        executor.submit(task)
    running = len(tasks)
    while running:
        outcome = executor.next_ended()
        if isinstance(outcome.error, LostWorkerError) and losses[outcome.task.name] < RETRIES:
            losses[outcome.task.name] += 1
            executor.submit(outcome.task)
        else:
            running -= 1
            yield outcome


@dataclass
class ProcessPool:
    """Processes of this machine, `workers` at a time, each a separate pool: if one dies, only its own task is tried again."""

    workers: int
    free: list[ProcessPoolExecutor] = field(default_factory=list)
    waiting: deque[Task] = field(default_factory=deque)
    running: dict[Future, tuple[Task, ProcessPoolExecutor]] = field(default_factory=dict)

    def submit(self, task: Task) -> None:
        self.waiting.append(task)
        self._begin()

    def _begin(self) -> None:
        while self.waiting and len(self.running) < self.workers:
            pool = self.free.pop() if self.free else _one_process()
            try:
                future = pool.submit(self.waiting[0].function, **self.waiting[0].arguments)
            except BrokenProcessPool:  # it died while it had nothing to do
                continue
            self.running[future] = self.waiting.popleft(), pool

    def next_ended(self) -> Ended:
        future = next(iter(wait(self.running, return_when=FIRST_COMPLETED).done))
        task, pool = self.running.pop(future)
        error = future.exception()
        is_lost = isinstance(error, BrokenProcessPool)
        if is_lost:
            pool.shutdown(wait=False)
        else:
            self.free.append(pool)
        self._begin()
        if is_lost:
            return Ended(task, error=LostWorkerError(f"the worker of {task.name} is gone"))
        return Ended(task, error=error) if error else Ended(task, future.result())

    def close(self) -> None:
        for pool in (*self.free, *(pool for _, pool in self.running.values())):
            processes = list((getattr(pool, "_processes", None) or {}).values())  # public only from Python 3.14 on
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
        self.free.clear()


def _one_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),))


def _end_with(parent: int) -> None:
    """End this process when its parent ends: a killed parent cannot stop its workers, which would run for minutes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclass
class RayCluster:
    """A Ray cluster: that at `address`, or one on this machine for the time of the run ("local").

    Raises CodiBenchError if Ray is not installed or the cluster cannot be reached.
    """

    address: str
    workers: int | None = None
    running: dict = field(default_factory=dict)
    ready: list = field(default_factory=list)  # ended, and not yet told
    functions: dict = field(default_factory=dict)  # sent to the cluster once

    def __post_init__(self):
        try:
            import ray
        except ImportError as error:
            raise CodiBenchError("a cluster needs Ray; run pip install 'codi-bench[ray]'") from error
        self.ray, self.own = ray, self.address == "local"
        quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
        try:
            if not ray.is_initialized():
                ray.init(**(quiet | {"num_cpus": self.workers} if self.own else {"address": self.address, **quiet}))
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise CodiBenchError(f"--ray {self.address}: no cluster can be reached at this address ({error})") from error

    def submit(self, task: Task) -> None:
        capacity = self.ray.cluster_resources()
        cpus, memory_gb = capacity.get("CPU", 0), capacity.get("memory", 0) / 2**30
        if task.cpus > cpus or task.memory_gb > memory_gb:
            raise CodiBenchError(
                f"{task.name} asks for {task.cpus:g} cores and {task.memory_gb:g} GB, but the cluster has {cpus:g} and "
                f"{memory_gb:.1f}; ask for less"
            )
        options = {"num_cpus": task.cpus, "memory": int(task.memory_gb * 2**30) or None, "max_retries": 0}
        if task.function not in self.functions:
            self.functions[task.function] = self.ray.remote(task.function)
        reference = self.functions[task.function].options(name=task.name, **options).remote(**task.arguments)
        self.running[reference] = task

    def next_ended(self) -> Ended:
        if not self.ready:  # all that have ended at once: asking costs as much for a thousand as for one
            self.ray.wait(list(self.running), num_returns=1, fetch_local=False)
            self.ready, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0, fetch_local=False)
        reference = self.ready.pop()
        task = self.running.pop(reference)
        try:
            return Ended(task, self.ray.get(reference))
        except self.ray.exceptions.RayTaskError as error:
            return Ended(task, error=error.as_instanceof_cause())
        except self.ray.exceptions.RayError as error:
            return Ended(task, error=LostWorkerError(f"the worker of {task.name} is gone ({type(error).__name__})"))

    def close(self) -> None:
        if self.own:
            self.ray.shutdown()
