"""Which value of the annotated chain does a thought encode? Ridge probes of every step's value at the study's cells.

That a value can be read there is not that the model computes with it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from codi_bench.audits.values import StepValues, audit_step
from codi_bench.claims import runs
from codi_bench.claims.claim import SEED, Bench, Cell, Measured, Null, Protocols, Published, claim, measured, without_word
from codi_bench.claims.first_study import places
from codi_bench.claims.first_study.probes import NUM_PROBED
from codi_bench.claims.open_questions import LEFT_OPEN, NO_ROWS, UNPUBLISHED
from codi_bench.errors import MeasureError
from codi_bench.rules.validity import passes

MAX_STEPS = 4
PERMUTATIONS = 39  # the smallest p, 1/40, is just alpha
FEWEST = 2  # permutations where only the control is read
NO_WORD = "39 permutations carry one test, not those of four steps times the claims of the family"


@claim(
    "step-values",
    LEFT_OPEN + "what does a thought hold?",
    family="other probes",
    kind="exists",
    n=NUM_PROBED,
    protocol=UNPUBLISHED,
    sound=(
        f"the first {NUM_PROBED} problems that have the step; ridge probes of its value at the study's cells, five folds that "
        "divide no group; beside the best cell random values by the step's expression (what fixes a value) and by the template "
        "(which a thought tells nearly without error), the most frequent value, and the template's"
    ),
)
def step_values(bench: Bench, published: Published) -> Protocols:
    """The value of each step can be read in some thought, beyond what its expression fixes."""
    yield NO_ROWS
    shuffled = probed(bench, 1, shuffle=True)
    if passes(shuffled.p_value_any):
        raise MeasureError("a control fails: a probe reads values that were dealt out at random")
    rows = list[Measured]()
    for step in range(1, MAX_STEPS + 1):
        try:
            found, by_template = probed(bench, step), probed(bench, step, key="template", permutations=FEWEST)
        except MeasureError as error:
            if step == 1:
                raise
            rows[-1].detail["note"] = f"step {step}: {error}"
            break
        rows += step_rows(bench, found, by_template)
    yield rows


def step_rows(bench: Bench, found: StepValues, by_template: StepValues) -> list[Measured]:
    """Accuracy of the best cell, and what it reads above random values by expression."""
    cells: list[Cell] = [{"layer": layer, "latent_pos": place} for layer in bench.model.layers for place in places(bench)]
    best, cell = found.cells[found.best], cells[found.best]
    template_key = [{"control": one.control, "selectivity": one.selectivity} for one in by_template.cells]
    why = without_word(NO_WORD)
    detail: dict[str, Any] = {"step_values": asdict(found) | {"template_key": template_key}, "places": cells}
    accuracy, step = best.accuracy, found.step
    return [
        measured(f"accuracy_step{step}", accuracy, found.n, cell=cell, detail=detail | why, null=Null(best.control, p=best.p)),
        measured(f"selectivity_step{step}", best.selectivity, found.n, cell=cell, detail=dict(why)),
    ]


def probed(
    bench: Bench, step: int, *, key: str = "expression", permutations: int = PERMUTATIONS, shuffle: bool = False
) -> StepValues:
    """The probes of one step at the study's cells; raises MeasureError where too few problems have it."""
    capture = runs.captured(bench)
    rows = [i for i, p in enumerate(capture.problems) if p.num_steps >= step][:NUM_PROBED]
    problems = [capture.problems[i] for i in rows]
    templates, expressions = [p.template for p in problems], [p.steps[step - 1] for p in problems]
    return audit_step(
        capture.cells(rows, len(places(bench)), bench.model.layers),
        [p.values for p in problems],
        step=step,
        groups=[p.group for p in problems],
        templates=templates,
        control_key={"expression": expressions, "template": templates}[key],
        permutations=permutations,
        seed=SEED + bench.seed,
        shuffle=shuffle,
    )
