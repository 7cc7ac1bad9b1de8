"""Second task of a sweep's worker: measure every claim on one checkpoint, and compare two checkpoints."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from codi_bench.records.results import Row
from codi_bench.store.files import write_text
from codi_bench.sweep.results import SweepResults
from codi_bench.sweep.training import problems_of_sweep, right_of


def audit_one(location: str, weights: str, n: int, permutations: int) -> dict:
    """The study's claims on one model: value, null and word of each row, and accuracy by number of steps ("all")."""
    from codi_bench.claims import CLAIMS
    from codi_bench.claims.claim import STUDY

    claims = [claim.id for claim in CLAIMS.values() if claim.suite == STUDY]
    audit = _run(location, {"model": weights}, claims, n, permutations)
    problems, _ = problems_of_sweep()
    right, counts = right_of(SweepResults(location), weights, problems), np.array([problem.num_steps for problem in problems])
    by_steps = {str(k): float(right[counts == k].mean()) for k in sorted(set(counts.tolist()))}
    return audit | {"accuracy": {"all": float(right.mean()), **by_steps}}


def compare_one(location: str, first: str, second: str, n: int, permutations: int) -> dict:
    """The rows of the claims that compare two models, for two checkpoints."""
    from codi_bench.claims import CLAIMS

    claims = [claim.id for claim in CLAIMS.values() if claim.with_partner]
    comparison = _run(location, {"first": first, "second": second}, claims, n, permutations)
    return comparison | {"rows": [row for row in comparison["rows"] if row["model"] == "first"]}


def _run(location: str, weights: dict[str, str], claims: Sequence[str], n: int, permutations: int) -> dict:
    """Rows of some claims on checkpoints, by name, and the seconds they took."""
    import codi_bench

    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folders = {name: SweepResults(location).get_folder(place, Path(temporary) / name) for name, place in weights.items()}
        problems = Path(temporary) / "problems.jsonl"
        scoring, choosing = problems_of_sweep()
        write_text(problems, "".join(problem.to_json() + "\n" for problem in (*scoring[:n], *choosing)))
        results = codi_bench.run(
            folders, claims, problems={"generated": problems}, n=n, permutations=permutations, device="cpu", progress=False
        )
    return {
        "rows": [_summary(row) for row in results.rows if row.model in weights],
        "seconds": round(time.monotonic() - started, 1),
    }


def _summary(row: Row) -> dict:
    """The part of a row that a sweep saves; a complete row has every problem's outcome."""
    names = ("claim", "model", "metric", "protocol", "status", "measured", "validity", "n", "cell")
    return {name: getattr(row, name) for name in names} | {
        "null": None if row.null is None else row.null["value"],
        "note": row.detail.get("note"),
        "reason": row.reason if row.status != "ok" else "",
    }
