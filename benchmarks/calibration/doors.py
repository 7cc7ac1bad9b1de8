"""The public auditor, as anybody calls it, on arrays and tables whose truth is known."""

from __future__ import annotations

import numpy as np

import codi_bench
from benchmarks.calibration import planted
from codi_bench.audits.public import OutcomeAssessment

# --- probes ------------------------------------------------------------------------------------------------------------


def assessed(make, rng, *, permutations, folds, probe, Cs, **settings) -> dict:
    """The word of an assessment, those of its parts, and the number as it would be published."""
    made = make(rng, **{key: value for key, value in settings.items() if key != "target"})
    found = codi_bench.audit.probes(
        made.activations,
        made.labels,
        groups=made.groups,
        surface=made.surface,
        permutations=permutations,
        seed=int(rng.integers(2**31)),
        probe=probe,
        Cs=Cs,
        folds=folds,
        workers=1,
    )
    published = {"mean": found.published.mean.artefact, "best": found.published.best.artefact}
    held_out = str(found.held_out.verdict.word)
    return {"word": str(found.word), "held_out": held_out, "reads": found.published.best.value, "cell": found.held_out.cell} | {
        f"artefact_{name}": artefact for name, artefact in published.items()
    }


def noise(rng, **settings) -> dict:
    return assessed(planted.noise, rng, **settings)


def leaking(rng, **settings) -> dict:
    return assessed(planted.leaking, rng, **settings)


def signal(rng, **settings) -> dict:
    return assessed(planted.signal, rng, **settings)


# --- outcomes ----------------------------------------------------------------------------------------------------------


def dropping(rng, *, n, drops, baseline, gains, variants) -> dict:
    """Which conditions are SUPPORTED and critical; variants: as many rows of each group say the same."""
    made = planted.ablations(rng, n=n, drops=drops, baseline=baseline, gains=gains)
    found = table({"clean": made.clean} | {f"edit {i}": right for i, right in enumerate(made.ablated)}, variants)
    (model,) = found.models
    supported = [i for i, row in enumerate(model.conditions[1:]) if row.verdict and row.verdict.word == "SUPPORTED"]
    critical = list(model.critical.conditions) if model.critical else []
    return {"word": f"SUPPORTED: {', '.join(map(str, supported)) or 'none'}", "supported": supported, "critical": critical}


def two_models(rng, *, n, rates, shared) -> dict:
    """Who is better of two models, whose problems are hard or easy for both."""
    right = planted.answers(rng, n=n, rates=rates, shared=shared)
    rows = [
        {"model": model, "problem": i, "condition": "clean", "right": int(right[i, j])}
        for j, model in enumerate("ab")
        for i in range(n)
    ]
    (pair,) = codi_bench.audit.outcomes(rows).pairs
    return {"word": f"winner: {pair.winner or 'none'}", "winner": pair.winner}


def table(conditions: dict[str, np.ndarray], variants: int = 1) -> OutcomeAssessment:
    """The assessment of right and wrong [n] by condition, each problem a group of so many rows that agree."""
    rows = [
        {"problem": f"{i}.{k}", "group": i, "condition": name, "right": bool(right[i])}
        for name, right in conditions.items()
        for i in range(len(right))
        for k in range(variants)
    ]
    return codi_bench.audit.outcomes(rows)
