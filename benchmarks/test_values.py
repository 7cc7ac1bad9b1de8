"""Which value of the annotated chain does a thought encode? Softmax probes of every step's value at the study's cells.

Slow: `pytest benchmarks/test_values.py -m slow`; with `--update-baselines` what it finds is proposed for baselines/_values,
and reports of the same weights and problems show it as a figure. The first 400 problems that have the step, thought about
with all latents. That a value can be read there is not that the model computes with it.

Two control tasks: random values by the step's own expression (12/4), which is what fixes a value, and by the template. A thought
tells its template nearly without error, so that random values by template are easier than the true ones and selectivity against
them is negative: it is reported, and only the one by expression is asserted.
"""

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path

import pytest

from codi_bench.audits.values import StepValues, audit_step
from codi_bench.claims.seed_reported import places
from codi_bench.claims.seed_sound import NUM_PROBED, captured
from codi_bench.errors import MeasureError
from codi_bench.models.registry import EMBEDDED
from codi_bench.plugin import suite_of
from codi_bench.rules.validity import passes
from codi_bench.store.files import write_text
from codi_bench.suite.environment import environment

pytestmark = pytest.mark.slow
STEPS = (1, 2, 3, 4)
PERMUTATIONS = 39  # the smallest p, 1/40, is just alpha
FEWEST = 2  # permutations where only the control is read


@pytest.mark.parametrize("name", EMBEDDED)
def test_values(name, request):
    suite = suite_of(request.config)
    bench, why = suite.bench_of(name)
    if bench is None:
        pytest.skip(why)
    cells = [{"layer": layer, "latent_pos": place} for layer in bench.layers for place in places(bench)]
    found = {step: values_of(bench, step) for step in STEPS}
    by_template = {step: values_of(bench, step, key="template", permutations=FEWEST) for step in STEPS}
    shuffled = values_of(bench, 1, shuffle=True)
    kept = {
        "model": name,
        "inputs": {"weights": bench.model.fingerprint, "problems": bench.problems_hash},
        "date": date.today().isoformat(),
        "environment": environment(bench.model.device, bench.model.dtype).model_dump(),
        "problems": f"the first {NUM_PROBED} that have the step",
        "permutations": PERMUTATIONS,
        "cells": cells,
        "steps": [numbers(found[step]) | template_control(by_template[step]) for step in STEPS],
        "shuffled": numbers(shuffled),
    }
    write_text(Path(suite.report) / f"values-{name}.json", json.dumps(kept, indent=1) + "\n")
    print(f"\n{name}", *table(found, by_template, cells), sep="\n")

    assert isinstance(shuffled, StepValues), shuffled
    assert not passes(shuffled.p_value_any), "a probe reads values that were dealt out at random"
    assert isinstance(found[1], StepValues), found[1]
    assert found[1].decodable, "no cell tells the value of step 1"
    if request.config.option.update_baselines:
        write_text(Path(suite.report) / "proposals" / "_values" / f"{name}.json", json.dumps(kept, indent=1) + "\n")
        pytest.fail(f"{name}: step values proposed, not accepted: `codi-bench baselines accept`", pytrace=False)


def values_of(
    bench, step: int, *, key: str = "expression", permutations: int = PERMUTATIONS, shuffle: bool = False
) -> StepValues | str:
    """The probes of one step at the study's cells; in words why there are none, where too few problems have it."""
    given = captured(bench)
    rows = [i for i, p in enumerate(given.problems) if p.num_steps >= step][:NUM_PROBED]
    asked = [given.problems[i] for i in rows]
    templates = [p.template for p in asked]
    expressions = [p.steps[step - 1] for p in asked]
    try:
        return audit_step(
            given.cells(rows, len(places(bench)), bench.layers),
            [p.values for p in asked],
            step=step,
            groups=[p.group for p in asked],
            templates=templates,
            control_key={"expression": expressions, "template": templates}[key],
            permutations=permutations,
            shuffle=shuffle,
        )
    except MeasureError as error:
        return str(error)


def numbers(found: StepValues | str) -> dict:
    return {"left_out": found} if isinstance(found, str) else asdict(found)


def template_control(found: StepValues | str) -> dict:
    """Control and selectivity of each cell where the key is the template."""
    if isinstance(found, str):
        return {}
    return {"template_key": [{"control": cell.control, "selectivity": cell.selectivity} for cell in found.cells]}


def table(found: dict[int, StepValues | str], by_template: dict[int, StepValues | str], cells: list[dict]) -> list[str]:
    """A line a step: its most accurate cell beside what needs no thought, and selectivity by expression and by template."""
    lines = ["step   n  values  best cell    accuracy  control  selective  (template)  majority  template  p"]
    for step, each in found.items():
        if isinstance(each, str):
            lines.append(f"{step:4}  {each}")
            continue
        cell, at, other = each.cells[each.best], cells[each.best], by_template[step].cells[each.best]
        where = f"layer {at['layer']}, {at['latent_pos']}"
        lines.append(
            f"{step:4} {each.n:4} {len(each.classes):6}  {where:13}{cell.accuracy.value:8.3f} {cell.control:8.3f} "
            f"{cell.selectivity:10.3f} {other.selectivity:11.3f} {each.majority:9.3f} {each.by_template:9.3f}  {cell.p:.3f}"
        )
    return lines
