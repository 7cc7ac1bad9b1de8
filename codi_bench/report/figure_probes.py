"""Figures about probes: the study's headline number, every cell, the spread over cells, and the values of the steps."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from codi_bench.records.results import Row, finite
from codi_bench.report import plots
from codi_bench.report.audit import ALPHA, HEADLINE
from codi_bench.report.figure_data import (
    FigurePlan,
    Mark,
    Panel,
    Series,
    against,
    band_of,
    interval,
    mark_of,
    number_text,
    one_each,
    percent,
    published,
    scaled,
    verdict,
)
from codi_bench.report.table import REPORTED, SOUND, number

HARD = "\N{NO-BREAK SPACE}"

STAR = f"★ p ≤ {ALPHA} on both tests, corrected over cells: labels permuted, and labels drawn from the surface alone"
NO_STAR = "No stars: these results hold no corrected tests of the cells"


def headline(rows: Sequence[Row], measured: Mapping, models: Sequence[str]) -> FigurePlan:
    """The study's probe number by its own protocol and held out, on real and on permuted labels, below what was published."""
    claim, metric = HEADLINE
    references = published(rows, claim, metric, " %")
    results = {(row.model, row.protocol): row for row in rows if row.claim == claim and row.metric in (metric, "-")}
    known = {key: row for key, row in results.items() if row.key in measured}
    shown = [model for model in models if {(model, REPORTED), (model, SOUND)} & {*known}]
    findings = [
        f"{model}: {against('by the study’s protocol', results.get((model, REPORTED)), measured)}; "
        f"{against('held out', results.get((model, SOUND)), measured)}"
        for model in shown
    ]
    panels = []
    for title, protocol in (
        ("as published: fitted and\nscored on the same problems", REPORTED),
        ("held out: scored on\nproblems not fitted to", SOUND),
    ):
        real: list[Mark | None] = []
        permuted: list[Mark | None] = []
        for model in shown:
            row = known.get((model, protocol))
            null = (row.null if row else None) or {}
            real.append(replace(mark_of(row, verdict(row, symbol=True)), band=None) if row else None)
            permuted.append(interval([null.get(end) for end in ("value", "low", "high")], 100))
        printed = [*references.values()] if protocol == REPORTED else [None] * len(references)
        nothing = [None] * len(references)
        series = [
            Series("published", [*printed, *[None] * len(shown)], hollow=True),
            Series("real labels", [*nothing, *real]),
            Series("permuted labels", [*nothing, *permuted]),
        ]
        panels.append(Panel(title, "mean accuracy of the probes, %", [*references, *shown], series))
    nulls = [percent(row.null) for model in shown if (row := known.get((model, REPORTED))) and percent(row.null)]
    head = f"On permuted labels the study’s protocol reads {' and '.join(_whole(text) for text in nulls)}" if nulls else ""
    caption = (
        "Mean accuracy of the study's probes over layers and positions. As published, a probe is scored on the problems it was "
        "fitted to; held out, it is not. Permuted labels hold nothing to read. Lines: 95 % intervals, of permuted labels 95 % of "
        "the draws. Published numbers belong to the models named."
    )
    return FigurePlan("headline", findings, caption, panels, plots.pairs, 1.3 + 0.24 * len(references) + 0.62 * len(shown), head)


def _whole(percent: str) -> str:
    """81.2 % as 81 %."""
    return f"{float(percent.split()[0]):.0f}{HARD}%"


def cells(rows: Sequence[Row], measured: Mapping, models: Sequence[str]) -> FigurePlan:
    """Accuracy of every cell, as the study measured it beside held out."""
    panels: list[Panel] = []
    findings, any_tests = [], False
    for model in models:
        study, sound = (measured.get((HEADLINE[0], model, HEADLINE[1], protocol)) for protocol in (REPORTED, SOUND))
        # either row names layers and positions, older results only the sound one
        names = {**(study.detail if study else {}), **(sound.detail if sound else {})}
        pair = [_grid(f"{model}, in-sample", study, names), _grid(f"{model}, held out", sound, names)]
        if not any(mark for panel in pair for series in panel.series for mark in series.marks):
            continue
        panels += pair
        parts = [f"{percent(row.measured)} {label}" for row, label in ((study, "in-sample"), (sound, "held out")) if row]
        finding = f"{model}: probes read {', '.join(parts)}"
        if sound and _tests(sound):
            any_tests, marks = True, [mark for series in pair[1].series for mark in series.marks]
            finding += f"; {sum(bool(mark and mark.word) for mark in marks)} of {len(marks)} cells pass both corrected tests"
        findings.append(finding)
    note = STAR if any_tests else NO_STAR
    caption = (
        "Probe accuracy in percent by layer and latent position, one colour scale for all. Left: as the study measured, fitted "
        f"and scored on the same problems. Right: held out. {note}."
    )
    lines = [max(2, *(len(panel.series) for panel in panels[i : i + 2])) for i in range(0, len(panels), 2)]
    height = 0.85 + sum(0.5 + 0.27 * count for count in lines)
    return FigurePlan("probe-accuracy", findings, caption, panels, partial(plots.heatmaps, note=note), height)


def _grid(title: str, row: Row | None, names: Mapping) -> Panel:
    """The cells of a row in percent, a series a layer; where they are not named, they are counted."""
    lines = (row.detail.get("grid") if row else None) or []
    if row is None or not lines:
        return Panel(f"{title}: not in these results", "accuracy", [], [])
    width = max(map(len, lines))
    layers, places = names.get("layers") or [], names.get("latent_pos") or []
    layers = layers if len(layers) == len(lines) else [f"#{i}" for i in range(1, len(lines) + 1)]
    places = places if len(places) == width else [f"#{i}" for i in range(1, width + 1)]
    tests = _tests(row) if row.protocol == SOUND else []
    series = []
    for y, (layer, line) in enumerate(zip(layers, lines, strict=True)):
        stars = ["★" if tests and all(_passes(test, y, x) for test in tests) else "" for x in range(width)]
        marks = [interval([cell], 100, star) for cell, star in zip([*line, *[None] * (width - len(line))], stars, strict=True)]
        series.append(Series(f"layer {layer}", marks))
    return Panel(title + (f" (n = {row.n})" if row.n else ""), "accuracy", [*map(str, places)], series)


def _tests(row: Row) -> list:
    """The corrected p of each cell by both tests; [] unless both are there."""
    tests = [row.detail.get(name) for name in ("p_value_max_auc", "p_conditional")]
    return tests if all(tests) else []


def _passes(test: Sequence, y: int, x: int) -> bool:
    p = finite(test[y][x]) if y < len(test) and x < len(test[y]) else None
    return p is not None and p <= ALPHA


def spread(rows: Sequence[Row], measured: Mapping, models: Sequence[str]) -> FigurePlan:
    """How unlike the cells are: as the study measured it, and what is left when sampling error is taken off."""
    findings, study_points, sound_points = [], [], []
    for model in models:
        parts = []
        if row := measured.get(("spread", model, "std", REPORTED)):
            null = f", permuted labels {number_text(row.null['value'], ' points')}" if band_of(row, 1) else ""
            parts.append(f"std {number_text(row.measured['value'], ' points')} as the study measured{null}: {verdict(row)}")
            study_points.append((model, 1, mark_of(row, verdict(row, symbol=True))))
        if row := measured.get(("spread", model, "tau", SOUND)):
            note = f" ({row.detail['note']})" if row.detail.get("note") else ""
            parts.append(f"held out, tau {number(row.measured, 'points')} points: {verdict(row)}{note}")
            sound_points += _sound_spread(model, row, measured.get(("spread", model, "std", SOUND)))
        findings += [f"{model}: {'; '.join(parts)}"] * bool(parts)
    panels, axis, levels = [], "std over cells, points", [("0: all cells equal", 0.0)]
    if study_points:
        references = [(place, 0, mark) for place, mark in published(rows, "spread", "std", " points").items()]
        panels.append(Panel("As the study measured", axis, *one_each(references + study_points, hollow=True), " points"))
    if sound_points:
        panels.append(Panel("Held out", axis, *one_each(sound_points), " points", levels=levels))
    caption = (
        "Standard deviation of probe accuracy over the cells. As the study measured it, with the same protocol on permuted "
        "labels in grey; and held out, where tau is what is left of the std of the cells when sampling error is taken off, with "
        "its 95 % interval. Sampling error: the std that equal cells would show at this n."
    )
    height = 1.45 + sum(0.45 + 0.27 * len(panel.places) for panel in panels)
    return FigurePlan("spread", findings, caption, panels, plots.dots, height)


def _sound_spread(model: str, tau: Row, std: Row | None) -> list[tuple[str, int, Mark]]:
    """tau of a model, and under it the std of its held-out cells and of equal cells, where they are known."""
    points = [(f"{model}, tau", 0, replace(mark_of(tau, verdict(tau, symbol=True)), band=None))]
    points += [(f"{model}, std", 1, replace(mark_of(std), low=None, high=None, band=None))] if std else []
    error = finite((std.null or {}).get("value")) if std else None
    return points + ([(f"{model}, sampling error", 2, Mark(error))] if error is not None else [])


def values(rows: Sequence[Row], measured: dict[tuple[str, str, str, str], Row], models: Sequence[str]) -> FigurePlan:
    """Which step's value can be read at which latent position: a row of panels a model, one a step."""
    told = {key: row.detail for key, row in measured.items() if key[0] == "step-values" and _cells(row.detail.get("step_values"))}
    steps_of = {model: [detail for key, detail in sorted(told.items()) if key[1] == model] for model in sorted(models)}
    steps_of = {model: steps for model, steps in steps_of.items() if steps}
    columns = max(map(len, steps_of.values()), default=1)
    panels, findings = [], []
    for model, details in steps_of.items():
        steps = [(detail["step_values"].get("step", i), detail["step_values"]) for i, detail in enumerate(details, 1)]
        panels += [_step(model, i, step, cast("Sequence[dict[str, Any]]", details[0].get("places") or [])) for i, step in steps]
        panels += [Panel("", "", [], [], empty="no such step")] * (columns - len(steps))
        best = ", ".join(f"step {i} {number_text(100 * max(a for _, a in _cells(step)), ' %')}" for i, step in steps)
        readable = [f"{i}" for i, step in steps if any(_decodable(cell) for cell, _ in _cells(step))]
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
    return FigurePlan("probe-step-values", findings, caption, panels, draw, 0.8 + 1.85 * len(steps_of))


def _step(model: str, i: int, step: Mapping[str, Any], places: Sequence[Mapping[str, Any]]) -> Panel:
    title = f"{textwrap.fill(model, 20)}\nstep {i}" + (f", n = {step['n']}" if step.get("n") else "")
    best: dict[str, tuple] = {}  # the most accurate layer of each latent position
    for place, cell in zip(places, step["cells"], strict=False):
        accuracy, latent_pos = _accuracy(cell), str(place.get("latent_pos"))
        if accuracy is not None and (latent_pos not in best or accuracy > best[latent_pos][0]):
            best[latent_pos] = accuracy, place.get("layer"), cell
    ends = [[cell["accuracy"].get(end) for end in ("value", "low", "high")] for _, _, cell in best.values()]
    marks = [interval(bounds, 100, f"L{layer}") for bounds, (_, layer, _) in zip(ends, best.values(), strict=True)]
    control = [interval([cell.get("control")], 100) for _, _, cell in best.values()]
    levels = [("majority", scaled(step.get("majority"), 100)), ("by template", scaled(step.get("by_template"), 100))]
    series = [Series("best layer", marks), Series("control: random values", control)]
    known_levels = [(label, value) for label, value in levels if value is not None]
    return Panel(title, "accuracy, %", list(best), series, across="latent position", levels=known_levels)


def _cells(step: Mapping[str, Any] | None) -> list[tuple[dict, float]]:
    """The cells of a step that have an accuracy, with it."""
    return [(cell, accuracy) for cell in (step or {}).get("cells") or [] if (accuracy := _accuracy(cell)) is not None]


def _accuracy(cell: dict) -> float | None:
    return finite((cell.get("accuracy") or {}).get("value"))


def _decodable(cell: dict) -> bool:
    p, selectivity = finite(cell.get("p")), finite(cell.get("selectivity"))
    return p is not None and p <= ALPHA and selectivity is not None and selectivity > 0
