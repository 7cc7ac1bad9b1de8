"""The one engine: (model, claim, problems) → rows, with every comparison that the baseline allows."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from dataclasses import dataclass, replace

import numpy as np
import torch

from codi_bench.baselines import Baseline, Environment, Record, Recorded, Reported, Tolerance, pack_bits, unpack_bits
from codi_bench.bench import ModelBench
from codi_bench.claims import CLAIMS, Claim, Measured
from codi_bench.errors import BaselineError, CodiBenchError, MeasureError
from codi_bench.files import code_hash
from codi_bench.problems import problems_hash
from codi_bench.results import BLOCKED, NOT_RUN, OK, Row
from codi_bench.stats import Estimate
from codi_bench.verdicts import Regression, regression_count, regression_value, reproduce, winner

PROTOCOL = "reported"
# A float may differ by rounding alone; one answered problem of 100 is 0.01, a hundred thousand times more.
DETERMINISTIC = 1e-6
DEVICE = {"fraction": 0.02, "points": 2.0, "features": 2.0, "count": 0.0}


@dataclass(frozen=True)
class Finding:
    """Rows of one claim on one model, why it is red (empty: it is not), and the record that would be proposed."""

    rows: list[Row]
    red: list[str]
    proposal: Record | None = None
    outcomes: dict[str, np.ndarray] | None = None


def measure_claim(bench: ModelBench, claim: Claim, baseline: Baseline, *, registered: bool) -> Finding:
    """Measure one claim and compare it with what is reported and recorded.

    What goes wrong while measuring gives `blocked` rows, never an exception. registered: an embedded or re-pointed model
    of the registry, which is red without a record; a user's own model has nothing to be red against.
    """
    try:
        found = claim.measure(bench)
        record = _record(bench, claim, found)
    except (MeasureError, CodiBenchError) as error:
        reason = str(error)
        names = sorted({*baseline.reported, *(m for r in baseline.recorded for m in r.metrics)}) or ["-"]
        return Finding([Row(claim.id, bench.model.name, name, PROTOCOL, BLOCKED, reported=_reported(baseline, name), reason=reason)
                        for name in names], [])
    previous, same = baseline.nearest(record.environment)
    red = [] if previous is None else _identity_changes(baseline, previous, record)
    rows = []
    for measured in found:
        row, complaint = _row(bench, claim, measured, baseline, previous, same)
        rows.append(row)
        red += complaint
    vanished = set(previous.metrics if previous else ()) - {m.metric for m in found}
    for metric in sorted(vanished):
        red.append(f"metric '{metric}' is recorded and was not measured")
        rows.append(Row(claim.id, bench.model.name, metric, PROTOCOL, BLOCKED, regression=Regression.DRIFTED.value, reason=red[-1]))
    if previous is None and registered and not baseline.reported:
        red.append("nothing is recorded for this embedded model; run `pytest benchmarks --update-baselines` and look at the result")
    if previous is not None and red:  # a changed hash or seed drifts every number of the claim
        rows = [replace(row, regression=Regression.DRIFTED.value) if row.status == OK and _identity_changes(baseline, previous, record) else row
                for row in rows]
    where = f"{claim.id} on {bench.model.name}"
    return Finding(rows, [f"{where}: {line}" for line in red], record, {m.metric: m.outcomes for m in found if m.outcomes is not None})


def not_run(model: str, claim: Claim, baseline: Baseline, reason: str) -> list[Row]:
    """Rows of a claim that was not measured, one a reported metric, with the reason."""
    return [Row(claim.id, model, metric, PROTOCOL, NOT_RUN, reported=_reported(baseline, metric), n=baseline.reported[metric].n,
                cell=baseline.reported[metric].cell, reason=reason) for metric in sorted(baseline.reported)]


def winners(outcomes: dict[str, dict[str, np.ndarray]]) -> dict[str, dict]:
    """For each compared claim: who is better on the same problems, with p. outcomes: claim → model → right or wrong, bool [n].

    Decided by an exact McNemar test, corrected for all winner rows of a model pair; None where it does not say so.
    """
    tests = sum(claim.compared for claim in CLAIMS.values())
    found = {}
    for name, models in outcomes.items():
        pair = sorted(models)[:2]
        if len(pair) == 2 and len(models[pair[0]]) == len(models[pair[1]]):
            word, p = winner(models[pair[0]], models[pair[1]], tests=tests)
            found[name] = {"winner": {"a": pair[0], "b": pair[1]}.get(word), "p": p, "models": pair}
    return found


def environment(device: str, dtype: str) -> Environment:
    """The key under which numbers are recorded."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
    return Environment(device=name, instructions=torch.backends.cpu.get_cpu_capability(), torch=".".join(torch.__version__.split(".")[:2]), dtype=dtype)


def versions() -> dict[str, str]:
    """What else may matter to someone who reads the results."""
    import sklearn
    import transformers

    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            "scikit-learn": sklearn.__version__, "platform": platform.platform(), "threads": str(torch.get_num_threads()),
            "cores": str(os.cpu_count())}


def _row(bench, claim: Claim, measured: Measured, baseline: Baseline, previous: Record | None, same: bool) -> tuple[Row, list[str]]:
    before = previous.metrics.get(measured.metric) if previous else None
    tolerance = baseline.tolerance.get(measured.metric)
    word, why = Regression.UNCHECKED.value, "nothing recorded"
    if previous is not None and before is None:
        word, why = Regression.DRIFTED.value, f"metric '{measured.metric}' was measured ({measured.value:.6g}) and is not recorded"
    elif before is not None:
        word, why = _compare(measured, before, tolerance, same, len(previous.metrics))
    if before is not None and not same:
        why += f"; nearest record: {previous.environment.model_dump()}"
    reported = baseline.reported.get(measured.metric)
    row = Row(
        claim.id, bench.model.name, measured.metric, PROTOCOL, OK, unit=measured.unit, n=measured.n,
        reported=_reported(baseline, measured.metric), measured=_number(measured), recorded=_number(before), cell=measured.cell,
        seeds=claim.seeds, reproduction=_reproduction(measured, reported), regression=word, reason=why,
        detail={**measured.detail, **({"outcomes": pack_bits(measured.outcomes)} if measured.outcomes is not None else {})},
    )
    return row, [why] if word == Regression.DRIFTED else []


def _compare(measured: Measured, before: Recorded, tolerance: Tolerance | None, same: bool, family_size: int) -> tuple[str, str]:
    """DRIFTED or SAME for one metric, and the line that names stored, measured and tolerance."""
    stored = f"metric '{measured.metric}': stored {before.value:.6g}, measured {measured.value:.6g}"
    if tolerance is None:
        return Regression.DRIFTED.value, f"{stored}, but the baseline has no tolerance for it"
    if before.n != measured.n:
        return Regression.DRIFTED.value, f"{stored}: n stored {before.n}, measured {measured.n}; tolerance 0"
    if before.cell != measured.cell and (same or tolerance.device == 0):
        return Regression.DRIFTED.value, f"{stored}: cell stored {before.cell}, measured {measured.cell}; tolerance 0"
    allowed = tolerance.deterministic if same else tolerance.device
    by_value = regression_value(before.value, measured.value, allowed if same or tolerance.kind == "value" else float(measured.n))
    if by_value.word == Regression.DRIFTED:
        return by_value.word.value, f"{stored}, tolerance {allowed:.3g}"
    if tolerance.kind == "outcomes":
        if measured.outcomes is None or before.outcomes is None:
            return Regression.DRIFTED.value, f"{stored}: outcomes a problem are missing on one side"
        by_count = regression_count(unpack_bits(before.outcomes, before.n), measured.outcomes, same_environment=same, family_size=family_size)
        return by_count.word.value, f"{stored}; {by_count.why}"
    return Regression.SAME.value, f"{stored}, tolerance {allowed:.3g}"


def _identity_changes(baseline: Baseline, before: Record, now: Record) -> list[str]:
    """What must be equal before two numbers are compared: protocol, seeds, weights, problems, code."""
    changes = [f"{field}: stored {getattr(before, field)}, now {getattr(now, field)}; tolerance 0"
               for field in ("protocol", "seeds", "weights", "problems", "code") if getattr(before, field) != getattr(now, field)]
    stray = sorted(set(baseline.tolerance) - set(before.metrics))
    return changes + [f"metric '{metric}' has a tolerance and no record" for metric in stray]


def _record(bench: ModelBench, claim: Claim, found: list[Measured]) -> Record:
    measuring = sys.modules[claim.measure.__module__]
    rooms = [module for name, module in sorted(sys.modules.items()) if name.startswith("codi_bench.measures.")]
    stats = sys.modules["codi_bench.stats"]
    return Record(
        environment=environment(bench.model.device, bench.model.dtype), protocol=claim.protocol, seeds=claim.seeds,
        weights=bench.model.fingerprint, problems=problems_hash(bench.problems(1000)), code=code_hash(measuring, stats, *rooms, *bench.code),
        date=datetime.date.today().isoformat(), reason="",
        metrics={m.metric: Recorded(value=m.value, low=m.low, high=m.high, n=m.n, cell=m.cell, outcomes=pack_bits(m.outcomes)) for m in found},
    )


def _number(value) -> dict | None:
    return None if value is None else {"value": value.value, "low": value.low, "high": value.high}


def _reported(baseline: Baseline, metric: str) -> dict | None:
    return _number(baseline.reported.get(metric))


def _reproduction(measured: Measured, reported: Reported | None) -> str | None:
    """By the rule of VERDICTS §2; None where the row's model is not the source's model (nothing is reported for it)."""
    if reported is None:
        return None
    if reported.case == "stated-range":
        scale = 0.01 if measured.unit == "points" else 1.0
        if measured.low is None:
            return "INCONCLUSIVE"
        estimate = Estimate(scale * measured.value, scale * measured.low, scale * measured.high)
        return reproduce("stated-range", estimate, low=scale * reported.low, high=scale * reported.high).word.value
    if reported.case == "fact":
        return reproduce("fact", measured.value, reported.value, printed_unit=reported.printed_unit).word.value
    raise BaselineError(f"metric '{measured.metric}': no rule for case '{reported.case}'")
