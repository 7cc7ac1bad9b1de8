"""The facts of a run besides its rows: devices, inputs, versions, speed, and the claims in words."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from codi_bench import __version__
from codi_bench.claims import CLAIMS, FAMILIES, in_words
from codi_bench.errors import CodiBenchError
from codi_bench.models.loading import resolve
from codi_bench.models.registry import REGISTRY
from codi_bench.problems.sources import SET, sets_of
from codi_bench.records.baseline import SOUND
from codi_bench.records.extras import noise_figures
from codi_bench.records.results import OK, Row
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.environment import available, environment, versions
from codi_bench.suite.problem_source import ProblemSource

if TYPE_CHECKING:
    from codi_bench.suite.suite import Suite


def run_environment(suite: Suite, rows: Sequence[Row] = (), facts: dict[str, dict] | None = None) -> dict:
    """Device, versions and threads of this run, and the claims in words, so that a report needs no model room.

    facts: of models that other processes measured.
    """
    device, dtype = resolve(suite.device_of(suite.asked_models[0]), suite.dtype)
    facts = {
        name: known
        for name in {*suite.benches, *suite.file_benches, *(facts or {})}
        if (known := facts_of(suite, name) or (facts or {})[name])
    }
    inputs = {name: known["inputs"] for name, known in sorted(facts.items())}
    measured = {(row.model, CLAIMS[row.claim].family) for row in rows if row.protocol == SOUND and row.status == OK}
    claims = {row.claim for row in rows}
    return {
        "families": sum(bool(FAMILIES[family].tests) for _, family in measured),
        "noise": noise_figures(suite.baseline_folder),
        "devices": {name: known["device"] for name, known in sorted(facts.items())},
        "inputs": inputs,
        "problem_sets": {name: known["problem_set"] for name, known in sorted(facts.items()) if "problem_set" in known},
        "speed": {name: known["speed"] for name, known in sorted(facts.items()) if "speed" in known},
        "gate": {name: known["gate"] for name, known in sorted(facts.items()) if "gate" in known},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "codi-bench": __version__,
        **({"options": options} if (options := _options(suite)) else {}),
        **environment(device if available(device) else "cpu", dtype).model_dump(),
        **versions(),
        "claims": in_words(claims),
        "published": [number for number in suite.published if number["claim"] in claims],
        "beside": {name: model.beside for name, model in REGISTRY.items() if model.beside},
        "layers": {name: list(model.layers) for name, model in REGISTRY.items()}
        | {name: known["layers"] for name, known in facts.items()},
    }


def facts_of(suite: Suite, name: str) -> dict:
    """Device, inputs, layers and speed of a model that was measured here; {} for others. A worker sends them along."""
    bench = suite.benches.get(name) or suite.file_benches.get(name)
    if bench is None:
        return {}
    inputs = {"weights": bench.model.fingerprint, "problems": bench.problems.hash}
    kind = bench.model.device.partition(":")[0]  # which of several GPUs it was is no property of a number
    device = f"{kind} {bench.model.dtype}" if isinstance(bench, ModelBench) else kind
    facts: dict[str, object] = {"device": device, "inputs": inputs, "layers": list(bench.model.layers)}
    if name in suite.gates and suite.stopped.get(name) == (OK, ""):
        facts["gate"] = suite.gates[name]
    if isinstance(bench, ModelBench):
        source = bench.problems
        facts["problem_set"] = _problem_set(source)
    if isinstance(bench, ModelBench) and any(claim.family == "task accuracy" for claim in suite.asked_claims):
        with suppress(RuntimeError, CodiBenchError):  # out of memory, or a question too long: its rows say so
            facts["speed"] = bench.speed
    return facts


def _problem_set(source: ProblemSource) -> str:
    """generated, gsm8k, gsm-symbolic, `gsm-symbolic and gsm8k` where a file mixes these, or else file."""
    if source.on_gsm8k or not source.given:
        return "gsm8k" if source.given else "generated"
    sets = sets_of(source.given)
    return " and ".join(sorted(sets)) if SET in sets else "file"


def _options(suite: Suite) -> str:
    """The given options of this run on which its numbers depend."""
    values: dict[str, object] = {"--n": suite.n, "--permutations": suite.permutations, "--num-latents": suite.num_latents}
    values |= {"--lora-alpha": suite.lora_alpha, "--dtype": None if suite.dtype == "auto" else suite.dtype}
    texts = [f"{name} {value}" for name, value in values.items() if value is not None]
    return " ".join([*texts, *(f"--problems {text}" for text in suite.problems)])
