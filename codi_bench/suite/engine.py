"""Measure one claim on one model: (model, claim, problems) → rows, with every comparison that the baseline allows."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, Literal, cast

import numpy as np

from codi_bench.claims import Claim, Measured
from codi_bench.errors import BaselineError, CodiBenchError, one_line
from codi_bench.models.registry import PUBLISHED
from codi_bench.records import results as schema
from codi_bench.records.baseline import (
    RELEASED,
    REPORTED,
    SOUND,
    Band,
    Baseline,
    Component,
    Noise,
    Record,
    Recorded,
    Reported,
    Tolerance,
    Unit,
    Word,
    of_record_key,
    pack_bits,
    record_key,
)
from codi_bench.records.changes import compare
from codi_bench.records.results import BLOCKED, NOT_RUN, OK, Row
from codi_bench.records.tolerance import carry_over, tolerance_of
from codi_bench.rules import validity
from codi_bench.rules.reproduction import Outcome, Regression, equivalence_margin, reproduce
from codi_bench.rules.stats import Estimate
from codi_bench.rules.validity import Verdict
from codi_bench.store.code import Code, code_of
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.environment import environment
from codi_bench.suite.problem_source import check_answers
from codi_bench.suite.released_bench import FilesBench
from codi_bench.suite.request import PairOutcome
from codi_bench.suite.winners import packed_scores

SCALE = {"points": 0.01}  # rules count in fractions
DRIFTED: Literal["DRIFTED"] = Regression.DRIFTED.value
OTHER_CODE = "recorded under other code"
MOST_MODULES = 6  # that a reason names


@dataclass(frozen=True)
class Standard:
    """The standard with which the numbers of one claim are compared.

    record: the nearest one; same: is it of this environment? changes: of its inputs, in words; note: on other code; total: number
    of metrics of the whole suite, for the correction; reproduces: are the numbers compared with published ones too?
    """

    baseline: Baseline
    record: Record | None = None
    same: bool = False
    changes: Sequence[str] = ()
    note: Mapping[str, str] = field(default_factory=dict)
    total: int = 1
    reproduces: bool = True


def measure_claim(
    bench: ModelBench | FilesBench, claim: Claim, baseline: Baseline, *, compare: bool = True, recorded: int = 1
) -> PairOutcome:
    """Measure one claim under both protocols and compare it with what is reported and recorded: ok, red or blocked.

    An error while measuring gives `blocked` rows, never an exception; if only the sound protocol cannot be measured, only its
    rows are blocked. compare: False if the user asked for other inputs than the recorded ones (`--n`); the rows are then
    UNCHECKED. recorded: number of recorded metrics of the whole suite.
    Raises CodiBenchError for a baseline with which measured numbers cannot be compared.
    """
    name, sound, blocked_rows = bench.model.name, list[Measured](), list[Row]()
    protocols = claim.function(bench, published_values(baseline))
    try:
        check_answers(claim, bench.problems)
        reported = next(protocols)
    except (CodiBenchError, RuntimeError) as error:  # RuntimeError: out of memory, or what a device says
        why = one_line(error)
        return PairOutcome(unmeasured(name, claim, baseline, BLOCKED, why), BLOCKED, [why])
    try:
        sound = next(protocols)
    except (CodiBenchError, RuntimeError) as error:
        blocked_rows = [Row(claim.id, name, "-", SOUND, BLOCKED, reason=one_line(error))]
    numbers = judge(reported, sound, bench.permutations)
    proposal = record_of(bench, claim, numbers)
    record, same = baseline.nearest(proposal.environment, proposal) if compare else (None, False)
    changes = _identity_changes(baseline, record, proposal) if record else []
    note = code_note(claim_code(claim, type(bench)), record)
    standard = Standard(baseline, record, same, changes, note, recorded, compare)
    rows = [_row(bench, claim, key, measured, standard) for key, measured in numbers.items()]
    recorded_metrics = record.metrics if record else {}
    for key in sorted(recorded_metrics.keys() - numbers.keys()):
        protocol, metric = of_record_key(key)
        why = f"metric '{key}' is recorded and was not measured{f': {blocked_rows[0].reason}' if blocked_rows else ''}"
        facts: dict[str, Any] = {
            "recorded": _number(recorded_metrics[key]),
            "regression": DRIFTED,
            "reason": why + note.get("reason", ""),
        }
        rows.append(Row(claim.id, name, metric, protocol, BLOCKED, **facts))
    red = dict.fromkeys([*changes, *(row.reason for row in rows if row.regression == DRIFTED and row.reason not in changes)])
    rows += blocked_rows
    if red:
        return PairOutcome(rows, "red", [f"{claim.id} on {name}: {line}" for line in red], proposal)
    return PairOutcome(rows, BLOCKED, [blocked_rows[0].reason]) if blocked_rows else PairOutcome(rows, OK, [], proposal)


def published_values(baseline: Baseline) -> dict[str, float]:
    """The printed numbers by metric (of a range, its lower end): a sound protocol takes half of the effect as Delta."""
    return {
        metric: cast(float, number.low) if number.value is None else number.value for metric, number in baseline.reported.items()
    }


def judge(reported: list[Measured], sound: list[Measured], permutations: int) -> dict[str, Measured]:
    """The numbers of both protocols with their words, by the key that a record has for them.

    A reported number is an ARTEFACT if its protocol makes the number itself; otherwise it has the word of the sound one.
    """
    words = {measured.metric: measured.verdict for measured in sound}
    numbers = {}
    for measured in reported:
        verdict = None
        if measured.null is not None and measured.nominal is not None:
            scale = SCALE.get(measured.unit, 1.0)
            null, nominal = scale * measured.null.value, scale * measured.nominal
            verdict = validity.protocol_artefact(
                scale * measured.value, null_mean=null, nominal=nominal, p_null=measured.null.p, permutations=permutations
            )
        numbers[record_key(REPORTED, measured.metric)] = replace(measured, verdict=verdict or words.get(measured.metric))
    return numbers | {record_key(SOUND, measured.metric): measured for measured in sound}


def unmeasured(model: str, claim: Claim, baseline: Baseline, status: schema.Status, reason: str) -> list[Row]:
    """Rows of a claim that was not measured (not-run) or must not count (blocked), one per known metric, with the reason.

    They show numbers recorded from released files, which a run with these files would give again.
    """
    keys = {*baseline.reported, *(m for record in baseline.recorded for m in record.metrics)}
    released = baseline.newest(RELEASED)
    is_open = claim.unreleased and status == NOT_RUN and model in PUBLISHED
    detail: Any = {"unreleased": claim.unreleased} if is_open else {}
    rows = []
    for key in sorted(keys) or ["-"]:
        protocol, metric = of_record_key(key)
        reported = baseline.reported.get(key)
        recorded = released.metrics.get(key) if released else None
        facts: dict[str, Any] = {}
        if number := recorded or reported:
            facts = {"unit": number.unit, "n": number.n, "cell": number.cell, "recorded": _number(recorded)}
        facts |= {"reported": _number(reported), "reason": reason, "detail": detail}
        rows.append(Row(claim.id, model, metric, protocol, status, **facts))
    return rows


def _row(bench: ModelBench | FilesBench, claim: Claim, key: str, measured: Measured, standard: Standard) -> Row:
    protocol, baseline = of_record_key(key)[0], standard.baseline
    number = standard.record.metrics.get(key) if standard.record else None
    word, why = _regression(key, measured, standard)
    why += bench.remark if isinstance(bench, FilesBench) else ""
    detail: dict[str, Any] = {"problems": bench.problems.hash, **measured.detail}
    origin: schema.Origin = "run"
    if isinstance(bench, FilesBench) and bench.origin:
        origin, detail["files"] = "released", list(bench.origin)
        detail["unknown"] = "; ".join(sorted({file.unknown for file in bench.files if file.unknown}))
    if standard.note:
        detail["code"] = standard.note["note"]
    if measured.outcomes is not None:
        detail["outcomes"] = pack_bits(measured.outcomes)
    if measured.ranked is not None:
        detail["ranked"] = packed_scores(measured.ranked)
    if (verdict := measured.verdict) is not None:
        detail |= {"validity": verdict.why, "fragile": verdict.fragile, "decide": verdict.decide}
    reported = baseline.reported.get(measured.metric) if protocol == REPORTED else None
    noise = baseline.tolerance[key].noise if key in baseline.tolerance else {}
    reading, released = claim.reading, origin == RELEASED
    # what is read in right answers is read in other problems where the model is run again
    same_list = bench.problems.on_gsm8k and (released or reading is None or reading.function != claim.function)
    if reported and released and reading and reading.same_list and reported.case == "other-list":
        reported = reported.model_copy(update={"case": "same-list"})
    reproduction = _reproduction(measured, reported, same_list, noise) if reported and standard.reproduces else None
    if reproduction:
        detail["reproduction"] = reproduction.why
    return Row(
        claim.id,
        bench.model.name,
        measured.metric,
        protocol,
        OK,
        origin=origin,
        unit=measured.unit,
        n=measured.n,
        reported=_number(reported),
        measured=_number(measured),
        recorded=_number(number),
        null=None if measured.null is None else cast(schema.NullNumber, asdict(measured.null)),
        cell=measured.cell,
        seeds=claim.seeds,
        reproduction=cast(schema.Reproduction, reproduction.word.value) if reproduction else None,
        validity=word_of(measured),
        regression=word,
        reason=why,
        detail=cast(schema.Detail, detail),
    )


def _regression(key: str, measured: Measured, standard: Standard) -> tuple[schema.Regression, str]:
    """Did our own number move? The word and its reason."""
    record, changes = standard.record, standard.changes
    if record is None:
        return "UNCHECKED", "nothing is recorded for this"
    word: schema.Regression = DRIFTED
    why = f"metric '{key}' was measured ({measured.value:.6g}) and is not recorded"
    if changes:
        why = changes[0]
    elif key in record.metrics:
        tolerance = standard.baseline.tolerance.get(key)
        word, why = compare_numbers(key, measured, record.metrics[key], tolerance, same=standard.same, total=standard.total)
    if word == DRIFTED and not changes:
        why += standard.note.get("reason", "")
    if not standard.same:
        why += f"; compared with the nearest record, of {', '.join(record.environment.model_dump().values())}"
    return word, why


def compare_numbers(
    key: str, measured: Measured, number: Recorded, tolerance: Tolerance | None, *, same: bool, total: int
) -> tuple[schema.Regression, str]:
    """DRIFTED or SAME for one metric, and the line that names stored, measured and tolerance."""
    comparison = compare(number, _recorded(measured), tolerance, same=same, family_size=total)
    line = f"metric '{key}': stored {number.value:.6g}, measured {measured.value:.6g}, {comparison.why}"
    return cast(schema.Regression, comparison.word.value), line


def _identity_changes(baseline: Baseline, record: Record, proposal: Record) -> list[str]:
    """The differences in what must be equal before two numbers are compared: protocol, seeds, weights, problems, metrics."""
    changes = []
    for name in record.changed_inputs(proposal):
        before, now = getattr(record, name), getattr(proposal, name)
        if isinstance(before, dict) and isinstance(now, dict):  # of protocols, which are long, what differs
            before, now = (
                {key: value for key, value in each.items() if before.get(key) != now.get(key)} for each in (before, now)
            )
        changes.append(f"{name}: stored {before}, now {now}, tolerance 0")
    return changes + [
        f"metric '{metric}' has a tolerance and no record" for metric in sorted(set(baseline.tolerance) - set(record.metrics))
    ]


def record_of(bench: ModelBench | FilesBench, claim: Claim, numbers: Mapping[str, Measured]) -> Record:
    """The record that a claim measured here would get, with everything that it depends on."""
    return Record(
        environment=environment(bench.model.device, bench.model.dtype),
        protocols={REPORTED: claim.protocol, SOUND: claim.sound_protocol},
        seeds=claim.seeds,
        weights=bench.model.fingerprint,
        partner=cast(ModelBench, bench).partner.model.fingerprint if claim.with_partner and _has_partner(bench) else None,
        files=bench.origin or None if isinstance(bench, FilesBench) else None,
        problems=bench.problems.hash,
        code=claim_code(claim, type(bench)).text,
        date=datetime.date.today().isoformat(),
        reason="",
        metrics={key: _recorded(measured) for key, measured in numbers.items()},
    )


def _has_partner(bench: ModelBench | FilesBench) -> bool:
    return isinstance(bench, ModelBench) and bench.other is not None


def word_of(measured: Measured) -> Word | None:
    """The word of its validity."""
    return measured.verdict.word.value if measured.verdict and measured.verdict.word else None


def _recorded(m: Measured) -> Recorded:
    verdict = m.verdict or Verdict(None, "")
    return Recorded(
        value=m.value,
        low=m.low,
        high=m.high,
        unit=cast(Unit, m.unit),
        n=m.n,
        cell=m.cell,
        null=None if m.null is None else Band(value=m.null.value, low=m.null.low, high=m.null.high, p=m.null.p),
        verdict=word_of(m),
        fragile=verdict.fragile,
        decide=verdict.decide,
        outcomes=pack_bits(m.outcomes),
    )


def claim_code(claim: Claim, bench: type) -> Code:
    """The code that turns weights and problems into the numbers and words of a claim, on a bench of that class."""
    return _code(claim.function, bench)


@cache
def _code(function: Callable, bench: type) -> Code:
    return code_of(function, bench, judge)


def code_note(code: Code, before: Record | None) -> dict[str, str]:
    """For a record that other code made: a note for its rows, and an addition to the reason of a number that moved; else {}."""
    if before is None or not code.differs(before.code):
        return {}
    names = code.changed(before.code)
    more = f" and {len(names) - MOST_MODULES} more" if len(names) > MOST_MODULES else ""
    which = f": {', '.join(names[:MOST_MODULES])}{more}" if names else ""
    return {"note": f"{OTHER_CODE} ({code.digest[:12]} now)", "reason": f"; the code differs too{which}"}


def accept(baseline: Baseline, proposal: Record, reason: str) -> Baseline:
    """The baseline with the proposal as the record of its environment, without tolerances of metrics that no longer exist."""
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
    """Turn numbers of numpy, which would print their type, into plain ones."""
    if value is None:
        return None
    ends = {"value": value.value, "low": value.low, "high": value.high}
    return cast(schema.Number, {key: end.item() if isinstance(end, np.generic) else end for key, end in ends.items()})


def _reproduction(measured: Measured, reported: Reported, same_list: bool, noise: Mapping[Component, Noise]) -> Outcome:
    """The rule of docs/verdicts.md, section 2, that the baseline names; only the source's own models have reported numbers.

    same_list: were these the source's problems? `same-list` judges no others. noise: as calibrated; for a number that is not a
    share of problems, redraws of its protocol give the error of both sides, and without them it is INCONCLUSIVE.
    """
    if reported.unit != measured.unit:
        raise BaselineError(f"reported.{measured.metric}.unit: is {reported.unit}, and {measured.unit} are measured")
    case = "other-list" if reported.case == "same-list" and not same_list else reported.case
    scale = SCALE.get(measured.unit, 1.0)
    low, high = (None if end is None else scale * end for end in (measured.low, measured.high))
    estimate = Estimate(scale * measured.value, low, high)
    if case == "stated-range":
        assert reported.low is not None and reported.high is not None
        return reproduce(case, estimate, low=scale * reported.low, high=scale * reported.high)
    assert reported.value is not None  # a baseline file without it is not read
    if case == "order":
        return reproduce(case, estimate)
    if case == "same-list":
        return reproduce(case, estimate.value, scale * reported.value, n=measured.n, printed_unit=scale * reported.printed_unit)
    if case == "other-list":
        margin = equivalence_margin(scale * reported.value, drop=measured.unit == "points")
        # p(1-p)/n is the error of a share of problems alone
        errors: dict[str, float | None] = {"n_measured": measured.n, "n_reported": reported.n}
        if measured.outcomes is None:
            s = scale * noise["sampling"].spread if "sampling" in noise else None
            errors = {"s_measured": s, "s_reported": s}
        effect = None if measured.nominal is None else scale * (reported.value - measured.nominal)
        return reproduce(case, estimate.value, scale * reported.value, margin=margin, effect=effect, **errors)
    return reproduce(case, measured.value, reported.value, printed_unit=reported.printed_unit)
