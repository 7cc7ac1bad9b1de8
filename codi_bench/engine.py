"""The one engine: (model, claim, problems) → rows, with every comparison that the baseline allows."""

from __future__ import annotations

import datetime
import sys
from dataclasses import dataclass
from itertools import combinations

from codi_bench import stats
from codi_bench.baselines import Baseline, Record, Recorded, Reported, Tolerance, pack_bits, unpack_bits
from codi_bench.bench import ModelBench
from codi_bench.claims import CLAIMS, Claim, Measured
from codi_bench.environment import environment
from codi_bench.errors import CodiBenchError, one_line
from codi_bench.files import code_hash
from codi_bench.results import BLOCKED, OK, Row
from codi_bench.stats import Estimate
from codi_bench.verdicts import (
    Outcome,
    Regression,
    equivalence_margin,
    regression_count,
    regression_value,
    regression_verdict,
    reproduce,
    winner,
)

PROTOCOL = "reported"
DRIFTED = Regression.DRIFTED.value
# A float may differ by rounding alone; one answered problem of 100 is 0.01, a hundred thousand times more.
DETERMINISTIC = 1e-6
DEVICE = {"fraction": 0.02, "points": 2.0, "features": 2.0, "count": 0.0}
WHY_OUTCOMES = (
    "same environment: greedy answers are deterministic, so no flip; another one: exact McNemar on the same problems (VERDICTS 4)"
)
WHY_VALUE = (
    "same environment: the computation is deterministic, 1e-6 is rounding; another one: rounding may flip problems, two of the "
    "100 behind a probe cell or a drop are 2 points (not calibrated yet)"
)
WHY_COUNT = "a count is exact everywhere"


@dataclass(frozen=True)
class Finding:
    """Rows of one claim on one model, why it is red (empty: it is not), and the record that would be proposed."""

    rows: list[Row]
    red: list[str]
    proposal: Record | None = None


def measure_claim(bench: ModelBench, claim: Claim, baseline: Baseline, *, compare: bool = True) -> Finding:
    """Measure one claim and compare it with what is reported and recorded.

    What goes wrong while measuring gives `blocked` rows, never an exception. compare: False where the user asked for other
    inputs than the recorded ones (`--n`): the rows are then UNCHECKED.
    """
    name = bench.model.name
    try:
        found = claim.measure(bench)
        now = _record(bench, claim, found)
    except (CodiBenchError, RuntimeError) as error:  # RuntimeError: out of memory, or what a device says
        return Finding(unmeasured(name, claim, baseline, BLOCKED, one_line(error)), [])
    before, same = baseline.nearest(now.environment) if compare else (None, False)
    changed = _identity_changes(baseline, before, now) if before else []
    rows = [_row(bench, claim, measured, baseline, before, same, changed, compare) for measured in found]
    for metric in sorted(set(before.metrics if before else ()) - set(now.metrics)):
        rows.append(
            Row(
                claim.id,
                name,
                metric,
                PROTOCOL,
                BLOCKED,
                recorded=_number(before.metrics[metric]),
                regression=DRIFTED,
                reason=f"metric '{metric}' is recorded and was not measured",
            )
        )
    red = list(
        dict.fromkeys([*changed, *(row.reason for row in rows if row.regression == DRIFTED and row.reason not in changed)])
    )
    return Finding(rows, [f"{claim.id} on {name}: {line}" for line in red], now)


def unmeasured(model: str, claim: Claim, baseline: Baseline, status: str, reason: str) -> list[Row]:
    """Rows of a claim that was not measured (not-run) or must not count (blocked), one a known metric, with the reason."""
    metrics = sorted({*baseline.reported, *(m for record in baseline.recorded for m in record.metrics)}) or ["-"]
    rows = []
    for metric in metrics:
        reported = baseline.reported.get(metric)
        known = {"unit": reported.unit, "n": reported.n, "cell": reported.cell} if reported else {}
        rows.append(Row(claim.id, model, metric, PROTOCOL, status, reported=_number(reported), reason=reason, **known))
    return rows


def winners(rows: list[Row]) -> dict[str, dict]:
    """For each compared claim: who is better on the same problems, with the corrected p.

    An exact McNemar test on the outcomes that the rows carry, corrected for all winner rows of a model pair (their number is
    fixed by the registry); no winner where it does not say so, or where the two were not asked the same problems.
    """
    tests = sum(claim.compared for claim in CLAIMS.values())
    found = {}
    for claim in (claim for claim in CLAIMS.values() if claim.compared):
        held = {row.model: row for row in rows if row.claim == claim.id and row.status == OK and "outcomes" in row.detail}
        for a, b in combinations(sorted(held), 2):
            one, two = held[a], held[b]
            if one.detail["problems"] == two.detail["problems"] and one.n == two.n:
                word, p = winner(*(unpack_bits(row.detail["outcomes"], row.n) for row in (one, two)), tests=tests)
                found[f"{claim.id}: {a} / {b}"] = {
                    "claim": claim.id,
                    "models": [a, b],
                    "winner": {"a": a, "b": b}.get(word),
                    "p": p,
                }
    return found


def _row(
    bench: ModelBench,
    claim: Claim,
    measured: Measured,
    baseline: Baseline,
    before: Record | None,
    same: bool,
    changed: list[str],
    compare: bool,
) -> Row:
    held = before.metrics.get(measured.metric) if before else None
    if before is None:
        word, why = "UNCHECKED", "nothing is recorded for this"
    elif changed:
        word, why = DRIFTED, changed[0]
    elif held is None:
        word, why = DRIFTED, f"metric '{measured.metric}' was measured ({measured.value:.6g}) and is not recorded"
    else:
        word, why = _compare(measured, held, baseline.tolerance.get(measured.metric), same, len(before.metrics))
    if before is not None and not same:
        why += f"; compared with the nearest record, of {', '.join(before.environment.model_dump().values())}"
    detail = dict(measured.detail)
    if measured.outcomes is not None:
        detail |= {"outcomes": pack_bits(measured.outcomes), "problems": bench.problems_hash}
    reported = baseline.reported.get(measured.metric)
    reproduction = _reproduction(measured, reported, bench.on_gsm8k) if reported and compare else None
    if reproduction:
        detail["reproduction"] = reproduction.why
    return Row(
        claim.id,
        bench.model.name,
        measured.metric,
        PROTOCOL,
        OK,
        unit=measured.unit,
        n=measured.n,
        reported=_number(reported),
        measured=_number(measured),
        recorded=_number(held),
        cell=measured.cell,
        seeds=claim.seeds,
        reproduction=reproduction.word.value if reproduction else None,
        regression=word,
        reason=why,
        detail=detail,
    )


def _compare(measured: Measured, held: Recorded, tolerance: Tolerance | None, same: bool, family_size: int) -> tuple[str, str]:
    """DRIFTED or SAME for one metric, and the line that names stored, measured and tolerance."""
    stored = f"metric '{measured.metric}': stored {held.value:.6g}, measured {measured.value:.6g}"
    if tolerance is None:
        return DRIFTED, f"{stored}, but the baseline has no tolerance for it"
    if held.n != measured.n:
        return DRIFTED, f"{stored}: n stored {held.n}, measured {measured.n}, tolerance 0"
    if same and held.cell != measured.cell:
        return DRIFTED, f"{stored}: cell stored {held.cell}, measured {measured.cell}, tolerance 0"
    verdict = regression_verdict(held.verdict, None)  # no protocol of this version gives a validity yet
    if verdict.word == DRIFTED:
        return DRIFTED, f"{stored}: {verdict.why}, tolerance 0"
    if tolerance.kind == "outcomes":
        if measured.outcomes is None or held.outcomes is None:
            return DRIFTED, f"{stored}, but the outcomes a problem are missing on one side"
        bits = unpack_bits(held.outcomes, held.n)
        counted = regression_count(bits, measured.outcomes, same_environment=same, family_size=family_size)
        if counted.word == DRIFTED or not same:
            return counted.word.value, f"{stored}; {counted.why}"
    allowed = tolerance.deterministic if same else tolerance.device
    return regression_value(held.value, measured.value, allowed).word.value, f"{stored}, tolerance {allowed:.3g}"


def _identity_changes(baseline: Baseline, before: Record, now: Record) -> list[str]:
    """What must be equal before two numbers are compared, both ways: protocol, seeds, weights, problems, code, metrics."""
    changes = [
        f"{field}: stored {getattr(before, field)}, now {getattr(now, field)}, tolerance 0"
        for field in ("protocol", "seeds", "weights", "problems", "code")
        if getattr(before, field) != getattr(now, field)
    ]
    return changes + [
        f"metric '{metric}' has a tolerance and no record" for metric in sorted(set(baseline.tolerance) - set(before.metrics))
    ]


def _record(bench: ModelBench, claim: Claim, found: list[Measured]) -> Record:
    measures = [module for name, module in sorted(sys.modules.items()) if name.startswith("codi_bench.measures.")]
    source = sys.modules[claim.measure.__module__]
    return Record(
        environment=environment(bench.model.device, bench.model.dtype),
        protocol=claim.protocol,
        seeds=claim.seeds,
        weights=bench.model.fingerprint,
        problems=bench.problems_hash,
        code=bench.once(f"code of {source.__name__}", lambda: code_hash(source, stats, *measures, *bench.code)),
        date=datetime.date.today().isoformat(),
        reason="",
        metrics={
            m.metric: Recorded(value=m.value, low=m.low, high=m.high, n=m.n, cell=m.cell, outcomes=pack_bits(m.outcomes))
            for m in found
        },
    )


def accept(baseline: Baseline, proposal: Record, units: dict[str, str], reason: str) -> Baseline:
    """The baseline with a record for the proposal's environment; tolerances of metrics that are gone go too."""
    others = [record for record in baseline.recorded if record.environment != proposal.environment]
    records = sorted([*others, proposal.model_copy(update={"reason": reason})], key=lambda record: str(record.environment))
    tolerance = {
        metric: baseline.tolerance.get(metric) or default_tolerance(held, units[metric])
        for metric, held in proposal.metrics.items()
    }
    return baseline.model_copy(update={"recorded": records, "tolerance": tolerance})


def default_tolerance(held: Recorded, unit: str) -> Tolerance:
    """What a newly recorded metric may move by."""
    if held.outcomes is not None:
        return Tolerance(kind="outcomes", deterministic=DETERMINISTIC, device=0.0, why=WHY_OUTCOMES)
    return Tolerance(kind="value", deterministic=DETERMINISTIC, device=DEVICE[unit], why=WHY_VALUE if DEVICE[unit] else WHY_COUNT)


def _number(value) -> dict | None:
    return None if value is None else {"value": value.value, "low": value.low, "high": value.high}


def _reproduction(measured: Measured, reported: Reported, same_list: bool) -> Outcome:
    """The rule of VERDICTS §2 that the baseline names; only the source's own models have reported numbers.

    same_list: were these the source's problems? `same-list` judges no others.
    """
    case = "other-list" if reported.case == "same-list" and not same_list else reported.case
    scale = 0.01 if measured.unit == "points" else 1.0
    value, low, high = (None if v is None else scale * v for v in (measured.value, measured.low, measured.high))
    if case == "stated-range":
        return reproduce(case, Estimate(value, low, high), low=scale * reported.low, high=scale * reported.high)
    if case == "same-list":
        return reproduce(case, value, scale * reported.value, n=measured.n, printed_unit=scale * reported.printed_unit)
    if case == "other-list":
        margin = equivalence_margin(scale * reported.value, drop=measured.unit == "points")
        # only a share of problems has the error p(1-p)/n; other numbers need redraws of their protocol and stay INCONCLUSIVE
        n = (measured.n, reported.n) if measured.outcomes is not None else (None, None)
        return reproduce(case, value, scale * reported.value, margin=margin, n_measured=n[0], n_reported=n[1])
    return reproduce(case, measured.value, reported.value, printed_unit=reported.printed_unit)
