"""The one engine: (model, claim, problems) → rows, with every comparison that the baseline allows."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, TypedDict, cast

import numpy as np

from codi_bench.claims import Claim, Measured
from codi_bench.errors import BaselineError, CodiBenchError, one_line
from codi_bench.records import results as schema
from codi_bench.records.baseline import (
    REPORTED,
    SOUND,
    Band,
    Baseline,
    Cell,
    Component,
    Noise,
    Record,
    Recorded,
    Reported,
    Tolerance,
    Word,
    of_record_key,
    pack_bits,
    record_key,
)
from codi_bench.records.changes import compare
from codi_bench.records.results import BLOCKED, OK, Row
from codi_bench.records.tolerance import carry_over, tolerance_of
from codi_bench.rules import validity
from codi_bench.rules.reproduction import Outcome, Regression, equivalence_margin, reproduce
from codi_bench.rules.stats import Estimate
from codi_bench.rules.validity import Verdict
from codi_bench.store.code import Code, code_of
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.environment import environment
from codi_bench.suite.log_bench import LogBench
from codi_bench.suite.winners import packed_scores

SCALE = {"points": 0.01}  # rules count in fractions
DRIFTED: Literal["DRIFTED"] = Regression.DRIFTED.value
OTHER_CODE = "recorded under other code"
MOST_MODULES = 6  # that a reason names
Unit = Literal["fraction", "points", "features", "count"]


@dataclass(frozen=True)
class ClaimResult:
    """Rows of one claim on one model, why it is red (empty: it is not), and the record that would be proposed."""

    rows: list[Row]
    red: list[str]
    proposal: Record | None = None


@dataclass(frozen=True)
class Assessment:
    """A measured number under one protocol with the word of its validity (verdict: None where no rule gives one)."""

    protocol: str
    measured: Measured
    verdict: Verdict | None

    @property
    def key(self) -> str:
        return record_key(self.protocol, self.measured.metric)

    @property
    def word(self) -> Word | None:
        return self.verdict.word.value if self.verdict and self.verdict.word else None


class Printed(TypedDict, total=False):
    """What a row says of a reported number, measured or not."""

    unit: str
    n: int | None
    cell: Cell | None


def measure_claim(
    bench: ModelBench | LogBench, claim: Claim, baseline: Baseline, *, compare: bool = True, recorded: int = 1
) -> ClaimResult:
    """Measure one claim under both protocols and compare it with what is reported and recorded.

    What goes wrong while measuring gives `blocked` rows, never an exception; where the sound protocol alone cannot be measured,
    its rows alone are blocked. compare: False where the user asked for other inputs than the recorded ones (`--n`): the rows are
    then UNCHECKED. recorded: metrics of the whole suite, among which an alarm is sought.
    Raises CodiBenchError for a baseline that measured numbers cannot be compared with.
    """
    name, sound, blocked_rows = bench.model.name, list[Measured](), list[Row]()
    protocols = claim.function(bench, published_values(baseline))
    try:
        reported = next(protocols)
    except (CodiBenchError, RuntimeError) as error:  # RuntimeError: out of memory, or what a device says
        return ClaimResult(unmeasured(name, claim, baseline, BLOCKED, one_line(error)), [])
    try:
        sound = next(protocols)
    except (CodiBenchError, RuntimeError) as error:
        blocked_rows = [Row(claim.id, name, "-", SOUND, BLOCKED, reason=one_line(error))]
    judgements = judge(reported, sound, bench.permutations)
    proposal = record_of(bench, claim, judgements)
    record, same = baseline.nearest(proposal.environment, proposal) if compare else (None, False)
    changes = _identity_changes(baseline, record, proposal) if record else []
    code = claim_code(claim, type(bench))
    note = code_note(code, record)
    rows = [_row(bench, claim, judgement, baseline, record, same, changes, compare, recorded, note) for judgement in judgements]
    for key in sorted(set(record.metrics if record else ()) - set(proposal.metrics)):
        assert record is not None
        protocol, metric = of_record_key(key)
        rows.append(
            Row(
                claim.id,
                name,
                metric,
                protocol,
                BLOCKED,
                recorded=_number(record.metrics[key]),
                regression=DRIFTED,
                reason=f"metric '{key}' is recorded and was not measured{f': {blocked_rows[0].reason}' if blocked_rows else ''}"
                + note.get("reason", ""),
            )
        )
    red = list(
        dict.fromkeys([*changes, *(row.reason for row in rows if row.regression == DRIFTED and row.reason not in changes)])
    )
    return ClaimResult([*rows, *blocked_rows], [f"{claim.id} on {name}: {line}" for line in red], proposal)


def published_values(baseline: Baseline) -> dict[str, float]:
    """The printed numbers by metric, of a range its lower end: what a sound protocol halves to find the effect that counts."""
    return {
        metric: cast(float, number.low) if number.value is None else number.value for metric, number in baseline.reported.items()
    }


def judge(reported: list[Measured], sound: list[Measured], permutations: int) -> list[Assessment]:
    """The words of both protocols: ARTEFACT where the published protocol makes its number itself, else that of the sound row."""
    words = {measured.metric: measured.verdict for measured in sound}
    judgements = []
    for measured in reported:
        verdict = None
        if measured.null is not None and measured.nominal is not None:
            scale = SCALE.get(measured.unit, 1.0)
            null, nominal = scale * measured.null.value, scale * measured.nominal
            verdict = validity.protocol_artefact(
                scale * measured.value, null_mean=null, nominal=nominal, p_null=measured.null.p, permutations=permutations
            )
        judgements.append(Assessment(REPORTED, measured, verdict or words.get(measured.metric)))
    return judgements + [Assessment(SOUND, measured, measured.verdict) for measured in sound]


def unmeasured(model: str, claim: Claim, baseline: Baseline, status: schema.Status, reason: str) -> list[Row]:
    """Rows of a claim that was not measured (not-run) or must not count (blocked), one a known metric, with the reason."""
    keys = {*baseline.reported, *(m for record in baseline.recorded for m in record.metrics)}
    rows = []
    for key in sorted(keys) or ["-"]:
        protocol, metric = of_record_key(key)
        reported = baseline.reported.get(key)
        facts: Printed = {"unit": reported.unit, "n": reported.n, "cell": reported.cell} if reported else {}
        rows.append(Row(claim.id, model, metric, protocol, status, reported=_number(reported), reason=reason, **facts))
    return rows


def _row(
    bench: ModelBench | LogBench,
    claim: Claim,
    judged: Assessment,
    baseline: Baseline,
    record: Record | None,
    same: bool,
    changes: list[str],
    compare: bool,
    family_size: int,
    note: Mapping[str, str],
) -> Row:
    measured, key = judged.measured, judged.key
    number = record.metrics.get(key) if record else None
    word: schema.Regression
    if record is None:
        word, why = "UNCHECKED", "nothing is recorded for this"
    elif changes:
        word, why = DRIFTED, changes[0]
    elif number is None:
        word, why = DRIFTED, f"metric '{key}' was measured ({measured.value:.6g}) and is not recorded"
    else:
        word, why = _compare(judged, number, baseline.tolerance.get(key), same, family_size)
    if word == DRIFTED and not changes:
        why += note.get("reason", "")
    if record is not None and not same:
        why += f"; compared with the nearest record, of {', '.join(record.environment.model_dump().values())}"
    detail: dict[str, Any] = {**measured.detail, "problems": bench.problems.hash}
    if note:
        detail["code"] = note["note"]
    if measured.outcomes is not None:
        detail["outcomes"] = pack_bits(measured.outcomes)
    if measured.ranked is not None:
        detail["ranked"] = packed_scores(measured.ranked)
    if judged.verdict is not None:
        detail |= {"validity": judged.verdict.why, "fragile": judged.verdict.fragile, "decide": judged.verdict.decide}
    reported = baseline.reported.get(measured.metric) if judged.protocol == REPORTED else None
    noise = baseline.tolerance[key].noise if key in baseline.tolerance else {}
    reproduction = _reproduction(measured, reported, bench.problems.on_gsm8k, noise) if reported and compare else None
    if reproduction:
        detail["reproduction"] = reproduction.why
    return Row(
        claim.id,
        bench.model.name,
        measured.metric,
        judged.protocol,
        OK,
        unit=measured.unit,
        n=measured.n,
        reported=_number(reported),
        measured=_number(measured),
        recorded=_number(number),
        null=None if measured.null is None else cast(schema.NullNumber, asdict(measured.null)),
        cell=measured.cell,
        seeds=claim.seeds,
        reproduction=cast(schema.Reproduction, reproduction.word.value) if reproduction else None,
        validity=judged.word,
        regression=word,
        reason=why,
        detail=cast(schema.Detail, detail),
    )


def _compare(
    judged: Assessment, number: Recorded, tolerance: Tolerance | None, same: bool, family_size: int
) -> tuple[schema.Regression, str]:
    """DRIFTED or SAME for one metric, and the line that names stored, measured and tolerance."""
    comparison = compare(number, _recorded(judged), tolerance, same=same, family_size=family_size)
    numbers = f"metric '{judged.key}': stored {number.value:.6g}, measured {judged.measured.value:.6g}"
    return cast(schema.Regression, comparison.word.value), f"{numbers}, {comparison.why}"


def _identity_changes(baseline: Baseline, record: Record, proposal: Record) -> list[str]:
    """What must be equal before two numbers are compared, both ways: protocol, seeds, weights, problems, metrics."""
    changes = [
        f"{field}: stored {getattr(record, field)}, now {getattr(proposal, field)}, tolerance 0"
        for field in record.changed_inputs(proposal)
    ]
    return changes + [
        f"metric '{metric}' has a tolerance and no record" for metric in sorted(set(baseline.tolerance) - set(record.metrics))
    ]


def record_of(bench: ModelBench | LogBench, claim: Claim, found: list[Assessment]) -> Record:
    """What would be recorded of a claim that was measured here, with everything that it depends on."""
    return Record(
        environment=environment(bench.model.device, bench.model.dtype),
        protocols={REPORTED: claim.protocol, SOUND: claim.sound_protocol},
        seeds=claim.seeds,
        weights=bench.model.fingerprint,
        partner=cast(ModelBench, bench).partner.model.fingerprint if claim.with_partner else None,
        problems=bench.problems.hash,
        code=claim_code(claim, type(bench)).text,
        date=datetime.date.today().isoformat(),
        reason="",
        metrics={judged.key: _recorded(judged) for judged in found},
    )


def _recorded(judged: Assessment) -> Recorded:
    m = judged.measured
    verdict = judged.verdict or Verdict(None, "")
    return Recorded(
        value=m.value,
        low=m.low,
        high=m.high,
        unit=cast(Unit, m.unit),
        n=m.n,
        cell=m.cell,
        null=None if m.null is None else Band(value=m.null.value, low=m.null.low, high=m.null.high, p=m.null.p),
        verdict=judged.word,
        fragile=verdict.fragile,
        decide=verdict.decide,
        outcomes=pack_bits(m.outcomes),
    )


def claim_code(claim: Claim, bench: type) -> Code:
    """What turns weights and problems into the numbers and words of a claim, on a bench of that class."""
    return _code(claim.function, bench)


@cache
def _code(function: Callable, bench: type) -> Code:
    return code_of(function, bench, judge)


def code_note(code: Code, before: Record | None) -> dict[str, str]:
    """Of a record that other code made: a note for its rows, and what the reason of a number that moved says besides; else {}."""
    if before is None or not code.differs(before.code):
        return {}
    names = code.changed(before.code)
    more = f" and {len(names) - MOST_MODULES} more" if len(names) > MOST_MODULES else ""
    which = f": {', '.join(names[:MOST_MODULES])}{more}" if names else ""
    return {"note": f"{OTHER_CODE} ({code.digest[:12]} now)", "reason": f"; the code differs too{which}"}


def accept(baseline: Baseline, proposal: Record, reason: str) -> Baseline:
    """The baseline with a record for the proposal's environment; tolerances of metrics that are gone go too."""
    rest = [record for record in baseline.recorded if record.environment != proposal.environment]
    records = sorted([*rest, proposal.model_copy(update={"reason": reason})], key=lambda record: str(record.environment))
    metrics = next((record.metrics for record in baseline.recorded if record.environment == proposal.environment), {})
    tolerance = {
        metric: carry_over(baseline.tolerance[metric], metrics.get(metric), number)
        if metric in baseline.tolerance
        else tolerance_of(number, {})
        for metric, number in proposal.metrics.items()
    }
    return baseline.model_copy(update={"recorded": records, "tolerance": tolerance})


def _number(value: Measured | Reported | Recorded | None) -> schema.Number | None:
    """Plain numbers, whatever measured them: numpy's would print their type."""
    if value is None:
        return None
    ends = {"value": value.value, "low": value.low, "high": value.high}
    return cast(schema.Number, {key: end.item() if isinstance(end, np.generic) else end for key, end in ends.items()})


def _reproduction(measured: Measured, reported: Reported, same_list: bool, noise: Mapping[Component, Noise]) -> Outcome:
    """The rule of docs/verdicts.md, section 2, that the baseline names; only the source's own models have reported numbers.

    same_list: were these the source's problems? `same-list` judges no others. noise: as calibrated; a number that is no share of
    problems has the error that redraws of its protocol show, on both sides, and without them stays INCONCLUSIVE.
    """
    if reported.unit != measured.unit:
        raise BaselineError(f"reported.{measured.metric}.unit: is {reported.unit}, and {measured.unit} are measured")
    case = "other-list" if reported.case == "same-list" and not same_list else reported.case
    scale = SCALE.get(measured.unit, 1.0)
    value, low, high = (None if v is None else scale * v for v in (measured.value, measured.low, measured.high))
    assert value is not None
    if case == "stated-range":
        assert reported.low is not None and reported.high is not None
        return reproduce(case, Estimate(value, low, high), low=scale * reported.low, high=scale * reported.high)
    assert reported.value is not None  # a baseline file without it is not read
    if case == "order":
        return reproduce(case, Estimate(value, low, high))
    if case == "same-list":
        return reproduce(case, value, scale * reported.value, n=measured.n, printed_unit=scale * reported.printed_unit)
    if case == "other-list":
        margin = equivalence_margin(scale * reported.value, drop=measured.unit == "points")
        # p(1-p)/n is the error of a share of problems alone
        errors: dict[str, float | None] = {"n_measured": measured.n, "n_reported": reported.n}
        if measured.outcomes is None:
            s = scale * noise["sampling"].spread if "sampling" in noise else None
            errors = {"s_measured": s, "s_reported": s}
        effect = None if measured.nominal is None else scale * (reported.value - measured.nominal)
        return reproduce(case, value, scale * reported.value, margin=margin, effect=effect, **errors)
    return reproduce(case, measured.value, reported.value, printed_unit=reported.printed_unit)
