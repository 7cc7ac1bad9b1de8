"""First task of a sweep's worker: train one model, save its snapshots, and measure their accuracy.

It takes JSON arguments and gives a JSON result; large files are at the sweep's location.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from codi_bench.problems.answers import score
from codi_bench.problems.generator import DIGITS, stream
from codi_bench.problems.problem import Problem
from codi_bench.sweep.members import Member, recipe, snapshots
from codi_bench.sweep.results import SweepResults

NUM_SCORED, NUM_CHOOSING, RETELLINGS = 300, 100, 3  # contents of the test split, which has 563 of digits; nobody trains on them


@cache
def problems_of_sweep() -> tuple[list[Problem], list[Problem]]:
    """Scored problems, and other problems (three tellings each) that choose checkpoints and are the reference of edits.

    Both are of the test split, since large models memorise more of their training problems. For each number of steps, every
    fourth drawn content belongs to the others: if they were only what the scored ones leave over, they would be rare and hard,
    and accuracies would differ.
    """
    scoring: list[Problem]
    choosing: list[Problem]
    counts: Counter[int]
    scoring, choosing, groups, source = [], [], set(), stream(0, "test", RETELLINGS, DIGITS)
    period, counts = 1 + NUM_SCORED // NUM_CHOOSING, Counter()
    while len(scoring) < NUM_SCORED or len(choosing) < RETELLINGS * NUM_CHOOSING:
        retellings = [next(source) for _ in range(RETELLINGS)]
        if retellings[0].group not in groups:
            groups.add(retellings[0].group)
            counts[retellings[0].num_steps] += 1
            if counts[retellings[0].num_steps] % period:
                scoring.append(retellings[0])
            else:
                choosing += retellings
    return scoring[:NUM_SCORED], choosing[: RETELLINGS * NUM_CHOOSING]


def train_one(location: str, family: str, width: int, seed: int, phases: list, dtype: str, weights: str, work: str) -> dict:
    """Train a member and save its snapshots as `weights`/steps. Continues an interrupted training in `work`."""
    from codi_bench.models.loading import DTYPES
    from codi_bench.training.train import TrainingRun, export, steps_done, train

    torch.set_num_threads(1)
    member, results, started = Member(family, width, seed), SweepResults(location), time.process_time()
    steps = set(snapshots(phases))
    folder = Path(work)
    if any(not results.there(f"{weights}/{step}") for step in steps if step <= steps_done(folder)):
        shutil.rmtree(folder)  # trained here, for another place: only training itself gives the snapshots

    def keep(step: int, model) -> None:
        if step not in steps:
            return
        with tempfile.TemporaryDirectory() as temporary:
            export(TrainingRun(model, step, 0.0, "", []), Path(temporary))
            results.put_folder(f"{weights}/{step}", Path(temporary))

    run = train(recipe(member, phases), folder, seed=seed, dtype=DTYPES[dtype], save_every=100, after=keep)
    return {
        "parameters": sum(parameter.numel() for parameter in run.model.backbone.parameters()),
        "loss": run.log[-1],
        "seconds": round(run.seconds, 1),
        "core_seconds": round(time.process_time() - started, 1),  # of this run: one that went on counts from there
    }


def choose_one(location: str, weights: str, steps: list[int]) -> dict:
    """Accuracy of every snapshot on the choosing problems, by steps."""
    torch.set_num_threads(1)
    _, choosing = problems_of_sweep()
    return {
        "choosing": {str(step): float(right_of(SweepResults(location), f"{weights}/{step}", choosing).mean()) for step in steps}
    }


def right_of(results: SweepResults, weights: str, problems: Sequence[Problem]) -> np.ndarray:
    """Does a saved checkpoint answer each problem rightly? bool [n]."""
    from codi_bench.models.loading import load

    with tempfile.TemporaryDirectory() as temporary:
        model = load(results.get_folder(weights, Path(temporary) / "model"), device="cpu")
    answers = model.answer([problem.question for problem in problems], max_new_tokens=16)
    return np.array([score(text, problem.answer) for text, problem in zip(answers.texts, problems, strict=True)])
