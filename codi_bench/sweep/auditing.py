"""What a worker of a sweep does then: every claim on one kept checkpoint."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from codi_bench.problems.generator import DIGITS, generate
from codi_bench.sweep.results import Results
from codi_bench.sweep.training import right_of

NUM_SCORED = 400
NUM_REFERENCES = 80  # problems behind the scored ones, for the means and donors of edits; of digits there are 563 in all


def audit_one(location: str, name: str, steps: int, n: int, permutations: int) -> dict:
    """Value, null and word of every row, and accuracy by number of steps ("all" of them too)."""
    import codi_bench

    torch.set_num_threads(1)
    started = time.monotonic()
    weights = f"weights/{name}/{steps}"
    with tempfile.TemporaryDirectory() as made:
        folder = Results(location).get_folder(weights, Path(made) / "model")
        problems = Path(made) / "problems.jsonl"
        problems.write_text("".join(problem.to_json() + "\n" for problem in generate(n + NUM_REFERENCES, limits=DIGITS)))
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
    scored = generate(NUM_SCORED, limits=DIGITS)
    right, counts = right_of(Results(location), weights, scored), np.array([problem.num_steps for problem in scored])
    by_steps = {str(k): float(right[counts == k].mean()) for k in sorted(set(counts.tolist()))}
    return {
        "rows": rows,
        "accuracy": {"all": float(right.mean()), **by_steps},
        "seconds": round(time.monotonic() - started, 1),
    }
