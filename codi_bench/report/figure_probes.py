"""Figures about probes: the study's headline number, every cell, the spread over cells, and the values of the steps."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial

from codi_bench.records.results import Row, finite
from codi_bench.report import plots
from codi_bench.report.audit import ALPHA, HEADLINE
from codi_bench.report.figure_data import (
    FigurePlan,
    Grid,
    Mark,
    Panel,
    Series,
    against,
    band_of,
    interval,
    mark_of,
    number_text,
    percent,
    published,
    scaled,
    verdict,
)
from codi_bench.report.table import REPORTED, SOUND, number

STAR = f"★ p ≤ {ALPHA} on both tests, corrected over cells: labels permuted, and labels drawn from the surface alone"
NO_STAR = "No stars: these results hold no corrected tests of the cells"


def headline(rows: Sequence[Row], measured: Mapping, models: Sequence[str]) -> FigurePlan | None:
    """The study's probe number by its own protocol and held out, each with its null, beside what was published."""
    claim, metric = HEADLINE
    places, marks, findings = [], [], []
    for place, mark in published(rows, claim, metric, " %").items():
        places.append(place)
        marks.append((0, mark))
    for model in models:
        by_protocol = {
            row.protocol: row for row in rows if row.claim == claim and row.model == model and row.metric in (metric, "-")
        }
        if not any(row.key in measured for row in by_protocol.values()):
            continue
        texts = [
            against(label, by_protocol.get(p), measured)
            for label, p in (("by the study’s protocol", REPORTED), ("held out", SOUND))
        ]
        findings.append(f"{model}: {'; '.join(texts)}")
        for j, label, protocol in ((1, "study’s protocol", REPORTED), (2, "held out", SOUND)):
            if row := measured.get((claim, model, metric, protocol)):
                places.append(f"{model}, {label}")
                marks.append((j, mark_of(row, verdict(row, symbol=True))))
    if not findings:
        return None
    series = [Series("", [mark if j == k else None for j, mark in marks], hollow=k == 0) for k in range(3)]
    caption = (
        "Mean accuracy of the study's probes over layers and positions. By the study's protocol a probe is scored on the "
        "problems it was fitted to, held out it is not. Grey: the same protocol with permuted labels. Whiskers: 95 % intervals. "
        "Published numbers are for reference: they belong to the models named."
    )
    panels = [Panel("", "mean probe accuracy, %", places, series)]
    return FigurePlan("headline", findings, caption, panels, plots.dots, 1.2 + 0.34 * len(places))


def cells(rows: Sequence[Row], measured: Mapping, models: Sequence[str]) -> FigurePlan | None:
    """Accuracy of every cell, as the study measured it beside held out."""
    grids, findings, any_tests = [], [], False
    for model in models:
        study, sound = (measured.get((HEADLINE[0], model, HEADLINE[1], protocol)) for protocol in (REPORTED, SOUND))
        # either row names layers and positions, older results only the sound one
        names = {**(study.detail if study else {}), **(sound.detail if sound else {})}
        pair = [_grid(f"{model}, in-sample", study, names), _grid(f"{model}, held out", sound, names)]
        if not any(cell is not None for grid in pair for line in grid.cells for cell in line):
            continue
        grids += pair
        parts = [f"{percent(row.measured)} {label}" for row, label in ((study, "in-sample"), (sound, "held out")) if row]
        finding = f"{model}: probes read {', '.join(parts)}"
        if sound and _tests(sound):
            any_tests = True
            finding += f"; {sum(map(sum, pair[1].starred))} of {sum(map(len, pair[1].cells))} cells pass both corrected tests"
        findings.append(finding)
    if not findings:
        return None
    note = STAR if any_tests else NO_STAR
    caption = (
        "Probe accuracy in percent by layer and latent position, one colour scale for all. Left: as the study measured, fitted "
        f"and scored on the same problems. Right: held out. {note}."
    )
    height = 0.85 + sum(0.5 + 0.27 * max(2, *(len(grid.cells) for grid in grids[i : i + 2])) for i in range(0, len(grids), 2))
    return FigurePlan("probe-accuracy", findings, caption, grids, partial(plots.heatmaps, note=note), height)


def _grid(title: str, row: Row | None, names: Mapping) -> Grid:
    """The cells of a row in percent; where they are not named, they are counted."""
    lines = [[scaled(cell, 100) for cell in line] for line in (row.detail.get("grid") if row else None) or []]
    if row is None or not lines:
        return Grid(f"{title}: not in these results", [], [], [], [])
    width = max(map(len, lines))
    lines = [line + [None] * (width - len(line)) for line in lines]
    layers, places = names.get("layers") or [], names.get("latent_pos") or []
    layers = layers if len(layers) == len(lines) else [f"#{i}" for i in range(1, len(lines) + 1)]
    places = places if len(places) == width else [f"#{i}" for i in range(1, width + 1)]
    tests = _tests(row) if row.protocol == SOUND else []
    starred = [[bool(tests) and all(_passes(test, y, x) for test in tests) for x in range(width)] for y in range(len(lines))]
    return Grid(title + (f" (n = {row.n})" if row.n else ""), [*map(str, layers)], [*map(str, places)], lines, starred)


def _tests(row: Row) -> list:
    """The corrected p of each cell by both tests; [] unless both are there."""
    tests = [row.detail.get(name) for name in ("p_value_max_auc", "p_conditional")]
    return tests if all(tests) else []


def _passes(test: Sequence, y: int, x: int) -> bool:
    p = finite(test[y][x]) if y < len(test) and x < len(test[y]) else None
    return p is not None and p <= ALPHA


def spread(rows: Sequence[Row], measured: Mapping, models: Sequence[str]) -> FigurePlan | None:
    """How unlike the cells are: as the study measured it, and what is left when sampling error is taken off."""
    study = {model: row for model in models if (row := measured.get(("spread", model, "std", REPORTED)))}
    taus = {model: row for model in models if (row := measured.get(("spread", model, "tau", SOUND)))}
    findings, panels = [], []
    for model in (model for model in models if model in study or model in taus):
        parts = []
        if row := study.get(model):
            null = f", permuted labels {number_text(row.null['value'], ' points')}" if band_of(row, 1) else ""
            parts.append(f"std {number_text(row.measured['value'], ' points')} as the study measured{null}: {verdict(row)}")
        if row := taus.get(model):
            note = f" ({row.detail['note']})" if row.detail.get("note") else ""
            parts.append(f"held out, tau {number(row.measured, 'points')} points: {verdict(row)}{note}")
        findings.append(f"{model}: {'; '.join(parts)}")
    if study:
        references = published(rows, "spread", "std", " points")
        marks: list[Mark | None] = [mark_of(row, verdict(row, symbol=True)) for row in study.values()]
        series = [
            Series("", [*references.values()] + [None] * len(marks), hollow=True),
            Series("", [None] * len(references) + marks),
        ]
        places = [*references, *study]
        panels.append(Panel("As the study measured", "std over cells, points", places, series, " points"))
    if taus:
        panels.append(_taus(measured, taus))
    caption = (
        "Standard deviation of probe accuracy over the cells. As the study measured it, with the same protocol on permuted "
        "labels in grey; and held out, where tau is what is left of the std of the cells when sampling error is taken off, with "
        "its 95 % interval. Sampling error: the std that equal cells would show at this n."
    )
    height = 1.45 + sum(0.45 + 0.27 * len(panel.places) for panel in panels)
    return FigurePlan("spread", findings, caption, panels, plots.dots, height) if panels else None


def _taus(measured: Mapping, taus: Mapping[str, Row]) -> Panel:
    """tau of each model, and under it the std of its held-out cells and of equal cells, where they are known."""
    places, marks = [], []
    for model, row in taus.items():
        std = measured.get(("spread", model, "std", SOUND))
        error = finite((std.null or {}).get("value")) if std else None
        places += [f"{model}, tau"] + [f"{model}, std"] * bool(std) + [f"{model}, sampling error"] * (error is not None)
        tau = mark_of(row, verdict(row, symbol=True))
        marks += [(0, Mark(tau.value, tau.low, tau.high, said=tau.said))]
        marks += [(1, Mark(std.measured["value"]))] if std else []
        marks += [(2, Mark(error))] if error is not None else []
    series = [Series("", [mark if j == k else None for j, mark in marks]) for k in range(3)]
    return Panel("Held out", "std over cells, points", places, series, " points", levels=[("0: all cells equal", 0.0)])


def values(found: Mapping[str, dict]) -> FigurePlan | None:
    """Which step's value can be read at which latent position: a row of panels a model, one a step."""
    found = {model: entry for model, entry in sorted(found.items()) if any(map(_cells, entry.get("steps") or []))}
    if not found:
        return None
    columns = max(len(entry["steps"]) for entry in found.values())
    panels, findings = [], []
    for model, entry in found.items():
        row = [_step(model, i, step, entry.get("cells") or []) for i, step in enumerate(entry["steps"], 1)]
        panels += row + [Panel("", "", [], [], empty="no such step")] * (columns - len(row))
        by_step = [(step.get("step", i), _cells(step)) for i, step in enumerate(entry["steps"], 1) if _cells(step)]
        best = ", ".join(f"step {i} {number_text(100 * _highest(cells), ' %')}" for i, cells in by_step)
        readable = [f"{i}" for i, cells in by_step if any(map(_decodable, cells))]
        phrase = "passes the corrected test and reads above its control"
        test = f"a cell {phrase} at step {', '.join(readable)}" if readable else f"no cell {phrase}"
        findings.append(f"{model}, most accurate cell: {best}; {test}")
    caption = (
        "Held-out accuracy of a probe for the value of each step, by latent position: at the best of the probed layers, named "
        "above the point and chosen on the same numbers, which the 95 % intervals do not account for. Control: random values by "
        "the step's expression. By template: the most frequent value of the story told. That a value can be read is not that the "
        "model computes with it."
    )
    draw = partial(plots.curves, columns=columns)
    return FigurePlan("probe-step-values", findings, caption, panels, draw, 0.8 + 1.85 * len(found))


def _step(model: str, i: int, step: dict, places: Sequence[dict]) -> Panel:
    title = f"{textwrap.fill(model, 20)}\nstep {step.get('step', i)}" + (f", n = {step['n']}" if step.get("n") else "")
    if not _cells(step):
        return Panel(title, "accuracy, %", [], [], empty=textwrap.fill(step.get("left_out") or "not measured", 20))
    by_latent: dict[str, list[tuple]] = {}
    for place, cell in zip(places, step["cells"], strict=False):
        if _accuracy(cell) is not None:
            by_latent.setdefault(str(place.get("latent_pos")), []).append((_accuracy(cell), place.get("layer"), cell))
    best = [max(candidates, key=lambda candidate: candidate[0]) for candidates in by_latent.values()]
    ends = [[cell["accuracy"].get(end) for end in ("value", "low", "high")] for _, _, cell in best]
    marks = [interval(bounds, 100, f"L{layer}") for bounds, (_, layer, _) in zip(ends, best, strict=True)]
    control = [interval([cell.get("control")], 100) for _, _, cell in best]
    levels = [("majority", scaled(step.get("majority"), 100)), ("by template", scaled(step.get("by_template"), 100))]
    series = [Series("best layer", marks), Series("control: random values", control)]
    known_levels = [(label, value) for label, value in levels if value is not None]
    return Panel(title, "accuracy, %", list(by_latent), series, across="latent position", levels=known_levels)


def _cells(step: dict) -> list[dict]:
    """The cells of a step that have an accuracy."""
    return [cell for cell in step.get("cells") or [] if _accuracy(cell) is not None]


def _accuracy(cell: dict) -> float | None:
    return finite((cell.get("accuracy") or {}).get("value"))


def _highest(cells: Sequence[dict]) -> float:
    """The highest accuracy of cells, at least one of which has one."""
    return max(accuracy for cell in cells if (accuracy := _accuracy(cell)) is not None)


def _decodable(cell: dict) -> bool:
    p, selectivity = finite(cell.get("p")), finite(cell.get("selectivity"))
    return p is not None and p <= ALPHA and selectivity is not None and selectivity > 0
