"""The generated part of docs/findings/without-recurrence.md: the embedded pair beside its controls without recurrence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from codi_bench.claims import CLAIMS
from codi_bench.claims.claim import FACT
from codi_bench.cli.pages import label_of
from codi_bench.errors import CheckpointError
from codi_bench.models.registry import CONTROLS, REGISTRY
from codi_bench.records.baseline import SOUND
from codi_bench.records.results import Row
from codi_bench.report.console import grid
from codi_bench.report.table import number, p_clause, shown_unit, word

SUPPORTED = "SUPPORTED"
NUMBERS = (  # claim, metric: what thoughts are credited with most
    ("task-accuracy", "accuracy"),
    ("probe-best", "auc"),
    ("sae-error-prediction", "auc"),
    ("step-values", "accuracy_step1"),
    ("step-values", "accuracy_step2"),
    ("lens", "hit_step1"),
    ("lens", "hit_step2"),
    ("ablation", "drop_0"),
    ("ablation", "drop_4"),
    ("patch-all", "follow_step1"),
    ("patch-all", "follow_step2"),
)
OUTCOMES = {SUPPORTED: "holds too", "ARTEFACT": "falls", "REFUTED": "falls", "UNDERPOWERED": "undecided"}
ABSENT = "not judged"


def without_recurrence(rows: Sequence[Row]) -> str:
    """Accuracy by number of steps, the numbers that thoughts are credited with, and every claim that is SUPPORTED on the pair.

    Raises CheckpointError where the weights of a control are missing: its card has the paired tests.
    """
    judged = [row for row in rows if row.model in CONTROLS and row.protocol == SOUND and CLAIMS[row.claim].kind != FACT]
    supported = [row for row in judged if row.validity == SUPPORTED]
    total = Counter(_outcome(row) for row in supported)
    summary = (
        f"Of {len(supported)} numbers that are SUPPORTED on the pair, {total['holds too']} are SUPPORTED on the control as well, "
        f"{total['falls']} are ARTEFACT or REFUTED there, {total['undecided']} are undecided, and {total[ABSENT]} are {ABSENT}: "
        "the control's rows are blocked, or there is no such number of it."
    )
    parts = ["## Accuracy by number of steps", _by_steps(), "## What thoughts are credited with", _numbers(judged)]
    return "\n\n".join([*parts, "## Every claim that holds on the pair", summary, _claims(supported)])


def _by_steps() -> str:
    lines = []
    for model, control in CONTROLS.items():
        path = REGISTRY[control].folder / "training.json"
        try:
            figures = json.loads(path.read_text(encoding="utf-8"))["beside"]["by_steps"]
        except (OSError, KeyError, ValueError) as error:
            raise CheckpointError(f"{path}: has no figures of the control beside its model; restore it with git") from error
        for steps, row in figures.items():
            rates = [number(row[side], "fraction") for side in ("model", "control")]
            only = f"{row['only_model']} : {row['only_control']}"
            lines.append([model, steps, str(row["model"]["n"]), *rates, only, p_clause(row["p"]).removeprefix("p = ")])
    return grid(lines, ["model", "steps", "problems", "thoughts, %", "constants, %", "only one is right", "p"])


def _numbers(rows: Sequence[Row]) -> str:
    by_key = {(row.claim, row.metric, row.model): row for row in rows}
    lines = []
    for claim, metric in NUMBERS:
        for model in CONTROLS:
            if row := by_key.get((claim, metric, model)):
                control = row.detail.get("control")
                there = [number(control["number"], shown_unit(row)), word(control["word"])] if control else [ABSENT, ""]
                lines.append([label_of(row), model, number(row.measured, shown_unit(row)), word(row.validity), *there])
    return grid(lines, ["number", "model", "thoughts", "word", "constants", "word"])


def _claims(supported: Sequence[Row]) -> str:
    lines = []
    for claim in CLAIMS:
        for model in CONTROLS:
            rows = [row for row in supported if (row.claim, row.model) == (claim, model)]
            counts = Counter(map(_outcome, rows))
            if rows:
                shown = [str(counts[name] or "") for name in ("holds too", "falls", "undecided", ABSENT)]
                lines.append([f"`{claim}`", model, str(len(rows)), *shown])
    heads = ["claim", "model", "supported", "on the control too", "not on the control", "undecided there", ABSENT]
    return grid(lines, heads)


def _outcome(row: Row) -> str:
    control = row.detail.get("control")
    return OUTCOMES.get(control["word"] or "", ABSENT) if control else ABSENT
