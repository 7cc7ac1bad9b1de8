"""`codi_bench.run`: run the suite from a notebook or a script, with the results as one object.

The module is not called `run`, because an imported submodule of that name would hide the function.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from codi_bench.claims import CLAIMS
from codi_bench.claims.claim import STUDY
from codi_bench.errors import CodiBenchError, UnknownNameError, arguments
from codi_bench.models.registry import REGISTRY
from codi_bench.records.results import NOT_RUN, Row, published_rows, write_results
from codi_bench.report import audit, export, render, sentences
from codi_bench.report.table import results_table
from codi_bench.store.cache import default_folder
from codi_bench.store.names import check_name
from codi_bench.suite.facts import run_environment
from codi_bench.suite.progress import Schedule, expected_seconds, progress
from codi_bench.suite.suite import Suite
from codi_bench.suite.winners import winners

Given = str | Iterable[str] | Mapping[str, str | Path | None]
NUMBERS = ("measured", "reported", "recorded", "null")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The results of a run.

    rows: of every requested model and claim, blocked and not-run ones too. environment: devices, versions, the claims in words,
    published numbers about them, winners.
    """

    rows: tuple[Row, ...]
    environment: dict

    def table(self) -> str:
        """The tables that `pytest benchmarks` shows, as text of 100 columns."""
        return render.tables(list(self.rows), self._environment())

    def _repr_html_(self) -> str:
        """The same as HTML for a notebook, without scripts or external content; all text is escaped."""
        models = dict.fromkeys(row.model for row in self.rows)
        tables = [export.html(results_table(self._shown(), self.environment, model)) for model in models]
        return "\n".join(["<div>", *tables, *(f"<p>{escape(text)}</p>" for text in self._notes()), "</div>"])

    def to_pandas(self):
        """The rows as a pandas DataFrame: numbers with `_low` and `_high`, p, cell, words."""
        import pandas

        columns = [name for name in export.flat(Row("", "", "", "", NOT_RUN)) if name != "decide"]
        frame = pandas.DataFrame([export.flat(row) for row in self.rows], columns=columns).rename(columns={"null_p": "p"})
        floats = [name for name in map(str, frame) if name.removesuffix("_low").removesuffix("_high") in (*NUMBERS, "p")]
        kinds = dict.fromkeys(map(str, frame), "string") | dict.fromkeys(floats, "float64")
        return frame.astype(kinds | {"n": "Int64", "layer": "Int64", "fragile": "bool"})

    def takeaways(self) -> list[str]:
        """The audit of these rows in sentences; about noise only if the probes were measured."""
        return audit.says(self._shown(), self._environment())

    def save(self, folder: str | Path) -> Path:
        """Write `results.json` and the report's files into a folder, and return the path of `results.json`."""
        path = arguments.path("folder", folder) / "results.json"
        render.check_report(path.parent, "give a folder that can be written to", {}, path.name)
        write_results(path, self.environment, list(self.rows))
        render.render(list(self.rows), self.environment, path.parent)
        return path

    def __repr__(self) -> str:
        models = ", ".join(dict.fromkeys(row.model for row in self.rows))
        return f"<codi-bench result: {models}; {_counts(self.rows)}; .table() shows it>"

    def _environment(self) -> dict:
        """The environment, without the probes' results on noise if no probes were measured."""
        probes = any(row.claim == audit.HEADLINE[0] for row in self.rows)
        return self.environment if probes else {**self.environment, "noise": None}

    def _shown(self) -> list[Row]:
        """The rows, and the published numbers of the same claims."""
        return [*self.rows, *published_rows(self.environment, self.rows)]

    def _notes(self) -> list[str]:
        """The lines below the tables: counts, winners, notes, numbers that moved, and what was not measured and why."""
        rows, drifts = self.rows, [f"✗ {text}" for text in sentences.drifted(self.rows)]
        texts = [*sentences.winners(self.environment), *sentences.notes(rows), *sentences.reproductions(rows)]
        return [_counts(rows), *texts, *drifts, *sentences.blocked_or_not_run(rows)]


def run(
    models: Given | None = None,
    claims: str | Iterable[str] | None = None,
    *,
    base: Given | None = None,
    problems: Given | None = None,
    logs: Given | None = None,
    released: str | Path | Sequence[str | Path] = (),
    n: int | None = None,
    permutations: int | None = None,
    num_latents: int | None = None,
    lora_alpha: float | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 64,
    baselines: str | Path | None = None,
    progress: bool = True,
) -> Result:
    """Measure claims on models and compare them with what was reported and recorded, as `pytest benchmarks` does.

    models: registered names, "NAME=FOLDER" texts or {name: folder}; only these are measured (default: the embedded pair).
    claims: ids (default: those of the study). base, problems, logs: "NAME=PATH" texts or {name: path}, as for `--base`,
    `--problems` and `--log` (logs without models: only the logs are measured). released: files and folders that others released
    (without models: their models are measured as well as the embedded pair). The other options are those of `pytest benchmarks`.
    progress: show on stderr what is being measured, if it is a terminal.

    An error while a claim is measured becomes a row with the reason. Raises CodiBenchError, a ValueError, before anything is
    measured: for unknown names, with the known ones, and for folders, files and numbers that cannot be used.
    """
    log_texts = _texts("logs", logs)
    names = [text.partition("=")[0] for text in log_texts] if models is None else _texts("models", models)
    with tempfile.TemporaryDirectory() as folder:  # a suite makes sure that its report can be written; here there is none yet
        try:
            suite = Suite(
                models=names,
                bases=_texts("base", base),
                claims=_texts("claims", claims),
                problems=_texts("problems", problems),
                logs=log_texts,
                released=[released] if isinstance(released, str | Path) else arguments.entries("released", released),
                num_latents=num_latents,
                lora_alpha=lora_alpha,
                n=n,
                permutations=permutations,
                device=device,
                dtype=dtype,
                batch_size=batch_size,
                report=Path(folder),
                baselines=baselines,
            )
        except UnknownNameError as error:
            choices = f"models: {', '.join(REGISTRY)}, or your own as {{name: folder}}; claims: {', '.join(CLAIMS)}"
            raise CodiBenchError(f"{error} ({choices})") from error
    logs_alone = models is None and bool(log_texts)
    rows = sorted(_measure(suite, progress, study=not logs_alone), key=lambda row: row.key)
    return Result(tuple(rows), {**run_environment(suite, rows), "winners": winners(rows)})


def _measure(suite: Suite, visible: bool, *, study: bool) -> list[Row]:
    """Measure the named claims, and those of the study if requested; returns their rows."""
    pairs = {
        f"{claim.id} on {model.name}": (model, claim)
        for model in suite.asked_models
        for claim in suite.asked_claims
        if suite.takes(model, claim) and (suite.names(model, claim) or (study and claim.suite == STUDY))
    }
    cache = default_folder().parent
    schedule = Schedule(list(pairs), {} if suite.changed else expected_seconds(cache, list(pairs))[0])
    rows = []
    with progress("", len(pairs), left=False, visible=visible) as tell:
        for name, (model, claim) in pairs.items():
            tell(0, f"{name}; {schedule.says()}")
            start = time.perf_counter()
            rows += suite.measure(model, claim).rows
            schedule.taken[name] = time.perf_counter() - start
            tell()
    return rows


def _texts(parameter: str, value: Given | None) -> list[str]:
    """Names and NAME=PATH texts from one text, several, or a mapping. An empty list is an error: it would mean everything."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        names = [check_name(name, parameter) for name in arguments.texts(parameter, list(value))]
        places = [None if path is None else arguments.path(f"{parameter}['{name}']", path) for name, path in value.items()]
        texts = [name if path is None else f"{name}={path}" for name, path in zip(names, places, strict=True)]
    else:
        texts = arguments.texts(parameter, value)
    if not texts:
        raise CodiBenchError(f"{parameter} is empty; give names or NAME=PATH texts, or leave it out for the default")
    return texts


def _counts(rows: Iterable[Row]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sentences.counts(list(rows)).items() if count) or "nothing asked"
