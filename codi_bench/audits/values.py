"""Audit of value probes: which value of the annotated chain can be read from a thought? One probe per cell and step.

The accuracy of a cell is compared with three others. Its null: the values permuted (corrected over the cells). Its control:
random values by a surface key that the caller names, which only memory can predict. And the template: always the most frequent
value of the story.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from codi_bench.errors import MeasureError
from codi_bench.measures.value_probes import ValueProbes, value_probes
from codi_bench.rules.stats import Estimate, stream
from codi_bench.rules.validity import passes


@dataclass(frozen=True)
class ValueCell:
    """Held-out accuracy of one cell, control accuracy (mean of its draws), their difference, and p corrected over the cells."""

    accuracy: Estimate
    control: float
    selectivity: float
    p: float


@dataclass(frozen=True)
class StepValues:
    """One step (from 1) on the n problems kept of those that have it; classes: the values kept.

    majority: share of the most frequent value; by_template: held-out accuracy of the template's most frequent one.
    """

    step: int
    n: int
    classes: tuple[float, ...]
    majority: float
    by_template: float
    p_value_any: float
    cells: tuple[ValueCell, ...]

    @property
    def best(self) -> int:
        """The most accurate cell."""
        return int(np.argmax([cell.accuracy.value for cell in self.cells]))

    @property
    def decodable(self) -> bool:
        """Is there a cell that passes the corrected test and beats its control?"""
        return any(passes(cell.p) and cell.selectivity > 0 for cell in self.cells)


def audit_step(
    states: np.ndarray,
    values: Sequence[Sequence[float]],
    *,
    step: int,
    groups: Sequence[str],
    templates: Sequence[str],
    control_key: Sequence[str],
    permutations: int,
    seed: int = 0,
    shuffle: bool = False,
) -> StepValues:
    """states float32 [n, cells, d]; values: the results of each problem's steps; the rest one name a problem.

    Only problems with that step count. shuffle: permute its values over them first, so that nothing is there to be found.
    Raises MeasureError where too few problems have the step with a value that is frequent enough.
    """
    has_step = np.array([len(row) >= step for row in values], bool)
    if not has_step.any():
        raise MeasureError(f"none of {len(values)} problems has a step {step} with a value")
    value = np.array([row[step - 1] for row in values if len(row) >= step])
    if shuffle:
        value = stream(seed, "values shuffled", str(step)).permutation(value)
    groups, templates, control_key = (np.asarray(names)[has_step] for names in (groups, templates, control_key))
    probes = value_probes(states[has_step], value, groups=groups, control_key=control_key, permutations=permutations, seed=seed)
    assert probes.control is not None and probes.selectivity is not None
    control = probes.control.mean(0)
    return StepValues(
        step=step,
        n=probes.n,
        classes=tuple(probes.classes.tolist()),
        majority=probes.majority,
        by_template=template_accuracy(value[probes.kept], cast(np.ndarray, templates)[probes.kept], probes),
        p_value_any=probes.p_value_any,
        cells=tuple(
            ValueCell(accuracy, float(control[i]), float(probes.selectivity[i]), float(probes.p_value_max[i]))
            for i, accuracy in enumerate(probes.accuracy)
        ),
    )


def template_accuracy(values: np.ndarray, templates: np.ndarray, found: ValueProbes) -> float:
    """Share right by the value that a template most often has outside the fold; the smallest of equals; wrong if it is new."""
    right = np.zeros(len(values), bool)
    for name, fold in set(zip(templates.tolist(), found.fold.tolist(), strict=True)):
        fold_rows, other_rows = (templates == name) & (found.fold == fold), (templates == name) & (found.fold != fold)
        if other_rows.any():
            candidates, counts = np.unique(values[other_rows], return_counts=True)
            right[fold_rows] = values[fold_rows] == candidates[counts.argmax()]
    return float(right.mean())
