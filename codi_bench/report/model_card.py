"""The section that a model card on the Hugging Face Hub carries: evaluation results as `model-index`, and the same for readers.

Only sound numbers with a verdict become evaluation results: what a published protocol makes of itself belongs on no leaderboard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from tabulate import tabulate

from codi_bench.errors import CodiBenchError
from codi_bench.records.baseline import RELEASED
from codi_bench.records.results import OK, Row, finite, of_model
from codi_bench.report.audit import own_words
from codi_bench.report.sentences import stopped
from codi_bench.report.table import PROTOCOLS, SOUND, in_capitals, number, place, shown_unit, sign_of, word
from codi_bench.store.names import check_name

TASK: dict[str, Any] = {"task_type": "text-generation", "task_name": "Text generation with continuous thoughts"}
SETS: dict[str, dict[str, Any]] = {
    "gsm8k": {"dataset_type": "openai/gsm8k", "dataset_name": "GSM8K", "dataset_config": "main", "dataset_split": "test"},
    "generated": {"dataset_type": "codi-bench-generated", "dataset_name": "Word problems that codi-bench generates"},
}
OTHER_SET: dict[str, Any] = {"dataset_type": "problems", "dataset_name": "Problems, by their sha256"}
HEADS = ("claim", "metric", "protocol", "value [95 %]", "no effect gives [95 %]", "p", "n", "verdict")
LEGEND = (
    "SUPPORTED: the claim holds under a sound protocol. ARTEFACT: the protocol makes the number. REFUTED: the claim does not "
    "hold. UNDERPOWERED: more problems would decide. *: random draws or rounding could change the verdict."
)


def card_files(rows: Sequence[Row], models: Sequence[str]) -> dict[str, str]:
    """The name of the file for each of these models, or for each model of the results.

    Raises CodiBenchError for a model that the results do not tell of, and for a name that no file can have.
    """
    names = sorted({row.model for row in rows})
    for model in models:
        if model not in names:
            raise CodiBenchError(f"--model {model}: is not in these results; they have: {', '.join(names) or 'no model'}")
    return {model: f"model-card-{check_name(model, 'the model')}.md" for model in models or names}


def model_card(rows: Sequence[Row], environment: dict, model: str, *, source: str | None = None) -> str:
    """YAML front matter with the evaluation results, and a Markdown section: verdicts, intervals, and what was not measured.

    source: the address where the report can be read, which each evaluation result names.
    """
    from huggingface_hub import ModelCardData

    own = [row for row in rows if row.model == model]
    results = evaluation_results(own, environment, model, source=source)
    front = ModelCardData(model_name=model, eval_results=results or None, tags=["codi-bench"]).to_yaml()
    return f"---\n{front}\n---\n\n{section(own, environment, model)}"


def evaluation_results(rows: Sequence[Row], environment: dict, model: str, *, source: str | None = None) -> list[Any]:
    """huggingface_hub.EvalResult of each sound number of one model that has a verdict; rows are of that model alone."""
    from huggingface_hub import EvalResult

    problem_set = of_model(environment, "problem_sets", model)
    dataset = SETS.get(problem_set or "", OTHER_SET)
    return [
        EvalResult(
            **TASK,
            **dataset,
            dataset_revision=row.detail.get("problems"),
            metric_type="accuracy" if (row.claim, row.metric) == ("task-accuracy", "accuracy") else f"{row.claim}.{row.metric}",
            metric_value=row.measured["value"],
            metric_name=f"{row.claim}, {row.metric}: {row.validity}",
            metric_args=_arguments(row),
            source_name="codi-bench" if source else None,
            source_url=source,
        )
        for row in _judged(rows, environment)
        if row.protocol == SOUND and row.measured
    ]


def _arguments(row: Row) -> dict[str, Any]:
    """What stands beside a number; without what there is not."""
    measured, null = row.measured or {}, row.null or {}
    values: dict[str, Any] = {"verdict": row.validity, "protocol": row.protocol, "unit": row.unit, "n": row.n}
    values |= {"low": finite(measured.get("low")), "high": finite(measured.get("high"))}
    values |= {f"null_{name}": finite(null.get(name)) for name in ("value", "low", "high", "p")}
    values |= {"regression": row.regression} if row.regression == "DRIFTED" else {}
    return {name: value for name, value in values.items() if value is not None}


def _judged(rows: Sequence[Row], environment: dict) -> list[Row]:
    return [
        row for row in own_words(rows, environment) if row.status == OK and finite((row.measured or {}).get("value")) is not None
    ]


def section(rows: Sequence[Row], environment: dict, model: str) -> str:
    """The Markdown section of one model; rows are of that model alone."""
    body = [[escaped(text) for text in _cells(row)] for row in _judged(rows, environment)]
    drifted = [f"{row.claim} {row.metric}: {row.reason}" for row in rows if row.regression == "DRIFTED"]
    unmeasured = [
        f"{in_capitals(status)}: {', '.join(claims)}{' (sound protocol)' * sound_alone}{f': {reason}' * bool(reason)}"
        for status, _, claims, sound_alone, reason in stopped(rows)
    ]
    parts = ["## What codi-bench says", "", _origin(environment, model), ""]
    parts += (
        [tabulate(body, HEADS, "github", disable_numparse=True), "", escaped(LEGEND)] if body else ["No number got a verdict."]
    )
    parts += ["", "### Not measured", "", *_list(unmeasured or ["Nothing: every claim that was asked for was measured."])]
    parts += ["### Differs from what is recorded", "", *_list(drifted)] if drifted else []
    return "\n".join(parts)


def _cells(row: Row) -> list[str]:
    unit, p = shown_unit(row), finite((row.null or {}).get("p"))
    sign = sign_of(unit)
    value, at = number(row.measured, unit, sign), place(row)
    decide = row.detail.get("decide") if row.protocol == SOUND else None
    verdict = f"{word(row.validity or '')}{'*' * bool(row.detail.get('fragile'))}{f', n ≥ {decide}' * bool(decide)}"
    verdict += ", DRIFTED" * (row.regression == "DRIFTED")
    protocol = PROTOCOLS.get(row.protocol, row.protocol)
    null_text = number(row.null, unit, sign)
    return [
        *(row.claim, row.metric, protocol, f"{value}{f' at {at}' * bool(at)}", null_text),
        *("" if p is None else "<0.001" if p < 0.001 else f"{p:.2g}", str(row.n or ""), verdict),
    ]


def _origin(environment: dict, model: str) -> str:
    """With what, when and on what the numbers were measured, as far as the results say."""
    version, date = environment.get("codi-bench"), environment.get("date")
    device, inputs = of_model(environment, "devices", model), of_model(environment, "inputs", model) or {}
    did, device_text = ("Computed", "from files that others released") if device == RELEASED else ("Measured", f"({device})")
    texts = [f"{did} with codi-bench{f' {version}' * bool(version)}", f"on {str(date)[:10]}" if date else ""]
    texts += [device_text if device else ""]
    origin = escaped(" ".join(filter(None, texts))) + "."
    hashes = {name: re.sub("[^0-9a-f]", "", str(inputs.get(name, ""))) for name in ("weights", "problems")}
    return " ".join([origin, *(f"sha256 of the {name}: `{text}`." for name, text in hashes.items() if text)])


def _list(texts: Sequence[str]) -> list[str]:
    return [*(f"- {escaped(text)}" for text in texts), ""]


def escaped(text: str) -> str:
    """Text on one line that Markdown shows as it is: no tag, link, picture, code or emphasis is made of it."""
    return re.sub(r"([\\`*_\[\]|!~#])", r"\\\1", escape(" ".join(text.split()), quote=False))
