"""What a run's rows say, computed once: every file and the terminal are written from this one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codi_bench.records.results import Row, published_rows
from codi_bench.report import sentences
from codi_bench.report.audit import says
from codi_bench.report.comparison import StudyTable, study_table
from codi_bench.report.table import Table, by_family, measured_models, results_table


@dataclass(frozen=True)
class Report:
    """Tables by model (where nothing was measured one of no model, "", with what the study printed), and what stands beside them.

    study: the first study's own table, None where nothing of it was measured. families: of the claims, a family at a time, in the
    source's order. audit: what it says, in sentences.
    """

    rows: Sequence[Row]
    environment: dict
    study: StudyTable | None
    families: Mapping[str, str]
    tables: Mapping[str, Table]
    audit: Sequence[str]
    winners: Sequence[str]
    notes: Sequence[str]
    reproductions: Sequence[str]
    unmeasured: Sequence[str]
    drifted: Sequence[str]
    counts: Mapping[str, int]

    @property
    def models(self) -> list[str]:
        """Those that have a table of their own."""
        return [model for model in self.tables if model]


def report_of(rows: Sequence[Row], environment: dict) -> Report:
    """The report of a results file's rows."""
    everything = [*rows, *published_rows(environment, rows)]
    return Report(
        rows,
        environment,
        study=study_table(everything, environment),
        families=dict(by_family(rows, environment)),
        tables={model: results_table(everything, environment, model) for model in measured_models(rows) or [""]},
        audit=says(everything, environment),
        winners=sentences.winners(environment),
        notes=[*sentences.related_sets(environment), *sentences.decoded_again(environment), *sentences.notes(rows)],
        reproductions=sentences.reproductions(rows),
        unmeasured=sentences.blocked_or_not_run(rows),
        drifted=sentences.drifted(rows),
        counts=sentences.counts(rows),
    )
