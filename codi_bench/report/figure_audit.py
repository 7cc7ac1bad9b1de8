"""An assessment of the public auditor as a picture: probes against permuted labels, or what conditions cost."""

from __future__ import annotations

import textwrap
from pathlib import Path

from codi_bench.audits.outcome_assessment import ModelOutcomes, OutcomeAssessment
from codi_bench.audits.probe_assessment import Band, InSample, ProbeAssessment
from codi_bench.errors import InputError
from codi_bench.report import plots
from codi_bench.report.figure_data import Mark, Panel, Series, described
from codi_bench.rules.stats import Estimate
from codi_bench.store.files import write_bytes, write_text

LETTERS = 100  # of a title's line


def write_figure(assessment: ProbeAssessment | OutcomeAssessment, path: Path) -> None:
    """As SVG or PNG, by the name's end, whole or not at all.

    Raises InputError where probes are blocked: there is nothing to draw.
    """
    probes = isinstance(assessment, ProbeAssessment)
    panels = (
        _of_probes(assessment)
        if isinstance(assessment, ProbeAssessment)
        else [_of_model(model, assessment.source) for model in assessment.models]
    )
    if not panels:
        raise InputError(f"{path}: nothing to draw, the audit is blocked ({assessment.reason})")
    title = textwrap.wrap(assessment.sentence, LETTERS)
    height = 0.9 + 0.55 * len(panels) + 0.26 * sum(len(panel.places) for panel in panels) + 0.145 * len(title)
    alt = " ".join([assessment.sentence, *map(described, panels)])
    name = "audit-probes" if probes else "audit-outcomes"
    svg, png = plots.picture(name, "\n".join(title), height, lambda figure: plots.dots(figure, panels), alt)
    if path.suffix == ".png":
        write_bytes(path, png)
    else:
        write_text(path, svg + "\n")


def _of_probes(assessment: ProbeAssessment) -> list[Panel]:
    """Accuracies in sample and held out, and AUCs, with what permuted labels give."""
    published, held_out = assessment.published, assessment.held_out
    if published is None or held_out is None:
        return []
    accuracy = {
        "in sample, mean": _in_sample(published.mean),
        "in sample, best cell": _in_sample(published.best),
        "held out": _mark(held_out.accuracy, 100),
    }
    auc = {"held out": _mark(held_out.auc, 1, held_out.auc_null, str(held_out.verdict.word))}
    if assessment.confidence is not None:
        auc["confidence alone"] = _mark(assessment.confidence.auc, 1)
    return [
        Panel(assessment.source, "accuracy, %", [*accuracy], [Series("", [*accuracy.values()])]),
        Panel("", "AUC", [*auc], [Series("", [*auc.values()])], ""),
    ]


def _of_model(model: ModelOutcomes, source: str) -> Panel:
    """Drops of the conditions against the clean one; the clean accuracy alone where there are none."""
    title = f"{model.model or source} (n = {model.n})"
    edited = [row for row in model.conditions if row.drop is not None]
    if not edited:
        (clean,) = model.conditions
        return Panel(title, "right, %", [clean.condition], [Series("", [_mark(clean.accuracy, 100)])])
    words = [str(row.verdict.word) if row.verdict else "" for row in edited]
    marks = [_mark(row.drop, 100, word=word) for row, word in zip(edited, words, strict=True) if row.drop]
    axis, level = f"points lost against {model.conditions[0].condition}", [("no drop", 0.0)]
    return Panel(title, axis, [row.condition for row in edited], [Series("", marks)], " points", levels=level)


def _in_sample(number: InSample) -> Mark:
    return _mark(Estimate(number.value, None, None), 100, number.null, str(number.verdict.word))


def _mark(estimate: Estimate, scale: float, null: Band | None = None, word: str = "") -> Mark:
    low, high = (None if end is None else scale * end for end in (estimate.low, estimate.high))
    band = Mark(scale * null.value, scale * null.low, scale * null.high) if null else None
    return Mark(scale * estimate.value, low, high, band, word)
