"""Restamp records that other code made and whose numbers came out the same: only their `code` is written again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codi_bench.claims import get_claim
from codi_bench.errors import CodiBenchError, UnknownNameError
from codi_bench.records.baseline import RELEASED, Baseline, Record, load_baseline, record_key
from codi_bench.records.results import Row, environment_of, read_results
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import claim_code
from codi_bench.suite.released_bench import FilesBench


def restamp(
    report: Path, folder: Path, models: Sequence[str] = (), claims: Sequence[str] = ()
) -> tuple[list[Baseline], list[str]]:
    """The restamped baselines whose record a run has just measured SAME under other code, and why others are unchanged.

    report: the folder of that run; models, claims: only these. A record is restamped if it is of the run's own environment, every
    number of it was measured SAME against it, and the code is still what the run measured with.
    Raises CodiBenchError for results that cannot be read, and for names that the run did not measure.
    """
    facts, rows = read_results(report / "results.json")
    for kind, names, known in (("model", models, {row.model for row in rows}), ("claim", claims, {row.claim for row in rows})):
        for name in names:
            if name not in known:
                raise UnknownNameError(kind, name, known)
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if (not models or row.model in models) and (not claims or row.claim in claims):
            pairs.setdefault((row.model, row.claim), []).append(row)
    baselines: list[Baseline] = []
    notes: list[str] = []
    for (model, claim), results in sorted(pairs.items()):
        if not any("code" in row.detail for row in results):
            continue
        baseline, environment = load_baseline(folder, model, claim), environment_of(facts, model)
        on_files = any(row.origin == RELEASED for row in results)
        if environment and on_files:  # of a model that others of its claims were run for
            environment = environment.model_copy(update={"device": RELEASED})
        record = next((candidate for candidate in baseline.recorded if candidate.environment == environment), None)
        try:
            wanted = get_claim(claim).on_files if on_files else get_claim(claim)
            code = claim_code(wanted, FilesBench if on_files else ModelBench)
            why = _why_not(record, results, code.digest)
        except CodiBenchError as error:
            why = str(error)
        if record is None or why:
            notes.append(f"{claim} on {model}: {why}")
            continue
        records = [record.model_copy(update={"code": code.text}) if other is record else other for other in baseline.recorded]
        baselines.append(baseline.model_copy(update={"recorded": records}))
    return baselines, notes


def _why_not(record: Record | None, rows: Sequence[Row], digest: str) -> str:
    """Why the record cannot be restamped, or "" if it can."""
    if record is None:
        return "nothing is recorded in the run's environment"
    same_rows = {record_key(row.protocol, row.metric): row for row in rows if row.regression == "SAME"}
    if any(row.regression != "SAME" for row in rows) or same_rows.keys() != record.metrics.keys():
        return "some numbers did not come out the same"
    if any((row.recorded or {}).get("value") != record.metrics[key].value for key, row in same_rows.items()):
        return "the record has changed since the run; run again"
    if any(digest[:12] not in row.detail.get("code", "") for row in rows):
        return "the code has changed since the run; run again"
    return ""
