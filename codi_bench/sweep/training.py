"""What a worker of a sweep does first: train one model and keep its snapshots.

Takes JSON arguments and gives a JSON result; what is large lies at the sweep's location.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from codi_bench.problems.generator import DIGITS, generate
from codi_bench.problems.problem import Problem, score
from codi_bench.sweep.members import Member, recipe, snapshots
from codi_bench.sweep.results import Results

NUM_CHOOSING = 300
CHOOSING_SEED = 7  # training contents under other words: the problems that checkpoints are chosen on are never scored


def train_one(location: str, family: str, width: int, seed: int, phases: list, work: str, dtype: str) -> dict:
    """Train a member and keep its snapshots: accuracy on the choosing problems, by steps. Goes on in `work` where it stood."""
    from codi_bench.models.model import DTYPES
    from codi_bench.models.train import Run, export, train

    torch.set_num_threads(1)
    member, results, started = Member(family, width, seed), Results(location), time.process_time()
    steps = set(snapshots(phases))
    folder = Path(work) / member.name
    folder.mkdir(parents=True, exist_ok=True)

    def keep(done: int, model) -> None:
        if done not in steps:
            return
        with tempfile.TemporaryDirectory() as made:
            export(Run(model, done, 0.0, "", []), Path(made))
            results.put_folder(_weights(member, done), Path(made))

    run = train(recipe(member, phases), folder, seed=seed, dtype=DTYPES[dtype], save_every=100, after=keep)
    choosing = generate(NUM_CHOOSING, seed=CHOOSING_SEED, split="train", limits=DIGITS)
    accuracy = {str(done): float(right_of(results, _weights(member, done), choosing).mean()) for done in sorted(steps)}
    return {
        "parameters": sum(parameter.numel() for parameter in run.model.backbone.parameters()),
        "loss": run.log[-1],
        "choosing": accuracy,
        "seconds": round(run.seconds, 1),
        "core_seconds": round(time.process_time() - started, 1),  # of this run: one that went on counts from there
    }


def _weights(member: Member, steps: int) -> str:
    return f"weights/{member.name}/{steps}"


def right_of(results: Results, weights: str, problems: Sequence[Problem]) -> np.ndarray:
    """Which problems a kept checkpoint answers rightly, bool [n]."""
    from codi_bench.models.model import load

    with tempfile.TemporaryDirectory() as made:
        model = load(results.get_folder(weights, Path(made) / "model"), device="cpu")
    answers = model.answer([problem.question for problem in problems], max_new_tokens=16)
    return np.array([score(text, problem.answer) for text, problem in zip(answers.texts, problems, strict=True)])
