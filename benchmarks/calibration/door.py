"""The public auditor on planted data: what `codi_bench.audit` says to somebody who brings arrays or a table."""

from __future__ import annotations

from benchmarks.calibration import planted
from codi_bench.audits import public

CLEAN = "clean"


def probes(rng, *, kind, permutations, probe, folds, Cs, **settings) -> dict:
    """The word of the held-out row, and that of the number in sample; kind: `noise` or `signal`."""
    made = getattr(planted, kind)(rng, **{key: value for key, value in settings.items() if key != "target"})
    how = {"permutations": permutations, "probe": probe, "folds": folds, "Cs": Cs, "workers": 1}
    found = public.probes(made.activations, made.labels, seed=int(rng.integers(2**31)), **how)
    assert found.published is not None and found.held_out is not None  # planted labels permute
    in_sample = found.published.mean
    return {"word": str(found.held_out.verdict.word), "in_sample": str(in_sample.verdict.word), "reads": in_sample.value}


def outcomes(rng, *, n, drops, baseline, gains) -> dict:
    """The word of each condition that was planted, and in short whether any is SUPPORTED."""
    made = planted.ablations(rng, n=n, drops=drops, baseline=baseline, gains=gains)
    columns = [(CLEAN, made.clean), *((f"latent {k}", right) for k, right in enumerate(made.ablated))]
    rows = [{"problem": i, "condition": name, "right": bool(x)} for name, right in columns for i, x in enumerate(right)]
    (model,) = public.outcomes(rows).models
    words = [str(row.verdict.word) for row in model.conditions[1:] if row.verdict]
    return {"word": "SUPPORTED" if "SUPPORTED" in words else "none SUPPORTED", "words": words}
