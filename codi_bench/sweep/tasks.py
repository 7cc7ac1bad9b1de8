"""What workers of a sweep do: train one model, choose its checkpoint of matched accuracy, audit one checkpoint.

Each takes JSON arguments and gives a JSON result; what is large lies at the sweep's location.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from codi_bench.problems.generator import DIGITS, generate
from codi_bench.problems.problem import score
from codi_bench.sweep.members import Member, recipe, snapshots
from codi_bench.sweep.results import Results

NUM_CHOOSING, NUM_SCORED = 300, 400
CHOOSING_SEED = 7  # training contents under other words: the problems that checkpoints are chosen on are never scored


def train_one(location: str, family: str, width: int, seed: int, phases: list, work: str, dtype: str) -> dict:
    """Train a member and keep its snapshots: accuracy on the choosing problems, by steps. Goes on in `work` where it stood."""
    from codi_bench.models.model import DTYPES
    from codi_bench.models.train import Run, export, train

    torch.set_num_threads(1)
    member, results, started = Member(family, width, seed), Results(location), time.monotonic()
    chosen, steps = recipe(member, phases), set(snapshots(phases))
    folder = Path(work) / member.name
    folder.mkdir(parents=True, exist_ok=True)

    def keep(done: int, model) -> None:
        if done not in steps:
            return
        with tempfile.TemporaryDirectory() as made:
            export(Run(model, done, 0.0, "", []), Path(made))
            results.put_folder(f"weights/{member.name}/{done}", Path(made))

    run = train(chosen, folder, seed=seed, dtype=DTYPES[dtype], save_every=100, after=keep)
    accuracy = {str(done): _accuracy(results, f"weights/{member.name}/{done}", choosing=True) for done in sorted(steps)}
    backbone = sum(parameter.numel() for parameter in run.model.backbone.parameters())
    return {
        "parameters": backbone,
        "loss": run.log[-1],
        "choosing": accuracy,
        "seconds": round(run.seconds, 1),
        "worked": round(time.monotonic() - started, 1),
    }


def audit_one(location: str, name: str, steps: int, n: int, permutations: int) -> dict:
    """Every claim on one checkpoint: value, interval, null and word of each row, and accuracy by number of steps."""
    import codi_bench

    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        folder = Results(location).get_folder(f"weights/{name}/{steps}", Path(made) / "model")
        problems = Path(made) / "problems.jsonl"
        problems.write_text("".join(problem.to_json() + "\n" for problem in generate(n, limits=DIGITS)))
        found = codi_bench.run({name: folder}, problems={"generated": problems}, n=n, permutations=permutations, device="cpu")
    rows = [
        {
            "claim": row.claim,
            "metric": row.metric,
            "protocol": row.protocol,
            "status": row.status,
            "measured": row.measured,
            "null": None if row.null is None else row.null["value"],
            "validity": row.validity,
            "n": row.n,
            "cell": row.cell,
            "note": row.detail.get("note"),
            "reason": row.reason if row.status != "ok" else "",
        }
        for row in found.rows
    ]
    return {"rows": rows, "accuracy": _by_steps(location, name, steps), "seconds": round(time.monotonic() - started, 1)}


def _accuracy(results: Results, weights: str, *, choosing: bool) -> float:
    problems = (
        generate(NUM_CHOOSING, seed=CHOOSING_SEED, split="train", limits=DIGITS)
        if choosing
        else generate(NUM_SCORED, limits=DIGITS)
    )
    return float(np.mean(_right(results, weights, problems)))


def _by_steps(location: str, name: str, steps: int) -> dict[str, float]:
    problems = generate(NUM_SCORED, limits=DIGITS)
    right = _right(Results(location), f"weights/{name}/{steps}", problems)
    counts = np.array([problem.num_steps for problem in problems])
    return {"all": float(right.mean()), **{str(k): float(right[counts == k].mean()) for k in sorted(set(counts.tolist()))}}


def _right(results: Results, weights: str, problems: list) -> np.ndarray:
    from codi_bench.models.model import load

    with tempfile.TemporaryDirectory() as made:
        model = load(results.get_folder(weights, Path(made) / "model"), device="cpu")
    answers = model.answer([problem.question for problem in problems], max_new_tokens=16)
    return np.array([score(text, problem.answer) for text, problem in zip(answers.texts, problems, strict=True)])
