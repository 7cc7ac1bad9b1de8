"""The report's figures from rows alone: which there are, what they find (by rule, from the rows' numbers and words), and as text.

A model that was not measured gets no mark, and a figure without its data is not drawn. Here: the door, and the figures about SAE
features, ablations and task accuracy.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from codi_bench.records.results import OK, Row, finite, published_rows
from codi_bench.report import figure_probes, plots
from codi_bench.report.figure_data import (
    FigurePlan,
    Mark,
    Panel,
    Series,
    band_of,
    interval,
    mark_of,
    number_text,
    percent,
    verdict,
)
from codi_bench.report.table import REPORTED, SOUND, WORDS, measured_models
from codi_bench.store.files import write_bytes, write_text

SAE = "sae-error-prediction"
KINDS = ("zero", "mean", "mean direct", "resample", "noise")
SETS = {"sae": "SAE features", "topk": "TopK features", "raw": "raw activations", "pca": "PCA", "surface": "surface"}
LETTERS, HARD = 96, "\N{NO-BREAK SPACE}"  # of a title's line; SVG drops other spaces at its beginning


@dataclass(frozen=True)
class Figure:
    """A figure: what it finds, what it shows, all its numbers as text, the picture to inline (SVG) and the one to print (PNG).

    The pictures hold the title, not the caption.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    png: bytes


def figures(rows: Sequence[Row], environment: dict, only: Collection[str] = ()) -> list[Figure]:
    """Every figure whose data is there, the headline first; only: no others than those of these names."""
    return [_draw(plan) for plan in plans(rows, environment) if not only or plan.name in only]


def plans(rows: Sequence[Row], environment: dict) -> list[FigurePlan]:
    """What the figures will show and say, before any is drawn."""
    rows = [*rows, *published_rows(environment, rows)]
    measured = {row.key: row for row in rows if row.status == OK and finite((row.measured or {}).get("value")) is not None}
    models = [model for model in measured_models(rows) if any(key[1] == model for key in measured)]
    makers = (figure_probes.headline, figure_probes.cells, figure_probes.spread, sae, ablation, steps, figure_probes.values)
    return [plan for plan in (maker(rows, measured, models) for maker in makers) if plan.findings]


def write_figures(drawn: Sequence[Figure], folder: Path) -> list[Path]:
    """Each as folder/figures/<name>.svg and .png, every file whole or not at all."""
    paths = []
    for figure in drawn:
        svg, png = (folder / "figures" / f"{figure.name}.{kind}" for kind in ("svg", "png"))
        write_text(svg, figure.svg + "\n")
        write_bytes(png, figure.png)
        paths += [svg, png]
    return paths


def _draw(plan: FigurePlan) -> Figure:
    lines = [plan.headline] if plan.headline else [line for finding in plan.findings for line in _wrap(finding)]
    height = plan.height + 0.145 * len(lines)
    size = 11 if plan.headline else 8.5
    pictures = plots.picture(plan.name, "\n".join(lines), height, lambda figure: plan.draw(figure, plan.panels), plan.alt, size)
    return Figure(plan.name, plan.title, plan.caption, plan.alt, *pictures)


def _wrap(finding: str) -> list[str]:
    """Lines of a title, broken before no unit."""
    return textwrap.wrap(re.sub(r" (?=[%(])", HARD, finding), LETTERS, subsequent_indent=4 * HARD)


def sae(rows: Sequence[Row], measured: Mapping, models: Sequence[str]) -> FigurePlan:
    """Held-out error prediction from SAE features beside everything simpler."""
    panels: list[Panel] = []
    findings: list[str] = []
    for model in models:
        row, auc, gain = (measured.get((SAE, model, metric, SOUND)) for metric in ("test_accuracy", "auc", "gain"))
        sets = (row.detail.get("sets") if row else None) or {}
        accuracy = {name: mark for name in SETS if (mark := interval((sets.get(name) or {}).get("accuracy"), 100))}
        if row is None or not accuracy:
            continue
        places = [SETS[name] for name in accuracy]
        auc_marks = [interval(sets[name].get("auc"), 1) for name in accuracy]
        panels.append(Panel(model, "held-out accuracy, %", places, [Series("", [*accuracy.values()])], band=band_of(row, 100)))
        panels.append(Panel(model, "held-out AUC", places, [Series("", auc_marks)], "", band=auc and band_of(auc, 1)))
        parts = [", ".join(f"{SETS[name].split()[0]} {number_text(mark.value, ' %')}" for name, mark in accuracy.items())]
        null = f"SAE on permuted labels {percent(row.null)}: " if percent(row.null) else ""
        parts.append(f"{null}{verdict(row)}")
        if gain:
            over = gain.detail.get("over")
            rival = SETS.get(over if isinstance(over, str) else "", "the better of raw and PCA")
            parts.append(f"gain over {rival} {number_text(gain.measured['value'], ' points')}: {verdict(gain)}")
        findings.append(f"{model}: {'; '.join(parts)}")
    caption = (
        "Which answers are wrong, predicted on held-out problems from SAE features and, by the same classifier, from simpler "
        "things: a TopK SAE, the activations themselves, a PCA of the same width, the problem's surface. Grey: SAE features with "
        "permuted labels. Whiskers: 95 % intervals."
    )
    draw = partial(plots.dots, columns=2)
    return FigurePlan("sae-error-prediction", findings, caption, panels, draw, 0.6 + 0.8 * len(panels))


def ablation(rows: Sequence[Row], measured: Mapping, models: Sequence[str]) -> FigurePlan:
    """What each place costs when it alone is replaced, by replacement, and what the study's protocol gives."""
    panels, findings = [], []
    for model in models:
        by_metric = {key[2:]: row for key, row in measured.items() if key[:2] == ("ablation", model) and key[2] != "drop_all"}
        if not by_metric:
            continue
        names = sorted({metric for metric, _ in by_metric}, key=lambda metric: (metric != "drop_bot", metric))
        sound = {name: by_metric[name, SOUND] for name in names if (name, SOUND) in by_metric}
        study = {name: by_metric[name, REPORTED] for name in names if (name, REPORTED) in by_metric}
        symbols = {name: WORDS.get(row.validity, "") for name, row in sound.items()}
        places = [f"{name.removeprefix('drop_')}\n{symbols.get(name, '')}" for name in names]
        series = _replacements(names, sound)
        if study:
            marks = [mark_of(study[name]) if name in study else None for name in names]
            series.append(Series(f"study’s zeroing, carried over{_n(study.values())}", marks, hollow=True))
        legend = ", ".join(f"{symbol} {word}" for word, symbol in WORDS.items())
        panels.append(
            Panel(f"{model}{_n(sound.values())}", "drop, points", places, series, " points", f"place replaced   {legend}")
        )
        by_word: dict[str, list[str]] = {}
        for name, row in sorted(sound.items(), key=lambda item: [*WORDS, item[1].validity].index(item[1].validity)):
            drop = number_text(row.measured["value"], " points").removesuffix(" points")
            by_word.setdefault(verdict(row), []).append(f"{name.removeprefix('drop_')} ({drop})")
        text = "; ".join(f"{word} at {', '.join(drops)}" for word, drops in by_word.items())
        findings.append(f"{model}, drop in points: {text or 'only as the study measured'}")
    caption = (
        "Points of accuracy lost when one place is replaced and the rest recomputed, by what replaces it, with 95 % paired "
        "intervals; direct: later latents kept. Title and symbols judge the mean (at bot, where a mean or another problem's "
        "would change nothing, zero). Diamonds: the study's own protocol, which zeroes the next input too."
    )
    return FigurePlan("ablation", findings, caption, panels, plots.bars, 0.8 + 1.75 * len(panels))


def _replacements(names: Sequence[str], sound: Mapping[str, Row]) -> list[Series]:
    """A series a replacement; where the rows do not hold them, what they measured."""
    effects = {name: row.detail.get("effects") or {} for name, row in sound.items()}
    kinds = [kind for kind in KINDS if any(kind in by_kind for by_kind in effects.values())]
    if not kinds:
        return [Series("place replaced", [mark_of(sound[name]) if name in sound else None for name in names])] if sound else []
    drops = {kind: [(effects.get(name, {}).get(kind) or {}).get("drop") for name in names] for kind in kinds}
    return [Series(kind, [interval(ends, 100) for ends in drops[kind]]) for kind in kinds]


def _n(rows: Collection[Row]) -> str:
    """The number of problems, if all rows agree on it."""
    counts = {row.n for row in rows}
    return f" (n = {counts.pop()})" if len(counts) == 1 and None not in counts else ""


def steps(rows: Sequence[Row], measured: Mapping, models: Sequence[str]) -> FigurePlan:
    """Task accuracy by the number of steps that a problem takes."""
    marks_by_model: dict[str, dict[int, Mark]] = {}
    findings: list[str] = []
    levels = []
    for model in models:
        row = measured.get(("task-accuracy", model, "accuracy", SOUND))
        by_steps = (row.detail.get("by_steps") if row else None) or {}
        marks = {int(count): mark for count, ends in by_steps.items() if (mark := interval(ends, 100))}
        if row is None or not marks:
            continue
        marks_by_model[model] = marks
        ends = [f"{number_text(marks[count].value, ' %')} at {count}" for count in sorted({min(marks), max(marks)})]
        null = finite((row.null or {}).get("value"))
        constant = "" if null is None else f", best constant answer {percent(row.null)}"
        findings.append(f"{model}, by steps: {', '.join(ends)}; overall {percent(row.measured)}{constant}: {verdict(row)}")
        if null is not None:
            levels.append((f"best constant answer, {model}", 100 * null))
    counts = sorted({count for marks in marks_by_model.values() for count in marks})
    series = [Series(model, [marks.get(count) for count in counts]) for model, marks in marks_by_model.items()]
    panels = [Panel("", "accuracy, %", [*map(str, counts)], series, across="steps of the problem", levels=levels)]
    caption = "Share of problems answered right, by the number of steps that a problem takes, with 95 % intervals."
    return FigurePlan("task-accuracy-by-steps", findings, caption, panels, plots.curves, 2.6)
