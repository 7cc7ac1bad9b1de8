"""The first study's own table, measured: a line for each row of its summary and what that rests on, a column a model, who wins.

Made of a run's rows and environment alone. Terminal, `report.md`, the page and README draw this one value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from codi_bench.records.results import BLOCKED, NOT_RUN, OK, Number, Row, finite
from codi_bench.report.table import REPORTED, REPORTING, SOUND, WORDS, Cell, counterparts, measured_models, number, shown_unit

PUBLISHED = dict(zip(REPORTING, ("GPT-2", "LLaMA"), strict=True))
GPT2, LLAMA = PUBLISHED
# what the study concluded in words; its tokens 2 and 3 are latents 1 and 2 here
CONCLUSIONS = {"ablation-critical": {GPT2: "1, 2", LLAMA: "none"}, "spread": {GPT2: "concentr.", LLAMA: "even"}}
# how records, which hold no more than the word, tell where information sits: by the sentence that was judged
SPREAD = {
    (GPT2, "SUPPORTED"): "concentrated",
    (GPT2, "REFUTED"): "even",
    (LLAMA, "SUPPORTED"): "even",
    (LLAMA, "REFUTED"): "uneven",
}
ABSENT, NO_TEST, NONE, UNDECIDED, UNJUDGED = "…", "–", "none", "undecided", "cannot be judged"
RECORDED = "°"  # behind a number that was not measured in this run and is recorded from released files
# what the study said who wins: the words for it, the winner, and the claim and metric that decide
WINNERS = (
    ("accuracy", LLAMA, "task-accuracy", "accuracy"),
    ("probes", LLAMA, "probe-best", "auc"),
    ("SAE errors", GPT2, "sae-error-prediction", "auc"),
    ("distribution", LLAMA, "spread", "tau"),
    ("robustness", LLAMA, "ablation-critical", "range"),
)


@dataclass(frozen=True)
class StudyLine:
    """One line. published: by the study's model; measured: by model, value, mark of its word and interval (the note).

    A heading has a name alone. winner: a name or "none", with p; a dash where no test decides.
    """

    name: str
    published: Mapping[str, str]
    measured: Mapping[str, Cell]
    winner: str = ""
    p: str = ""


@dataclass(frozen=True)
class StudyWinner:
    """Who won in the study, and whether that holds between the models of this run that stand beside its two."""

    subject: str
    winner: str
    outcome: str
    why: str


@dataclass(frozen=True)
class StudyTable:
    """The whole table. basis: on what it was measured; pair: the models that stand beside the study's two, or none."""

    models: tuple[str, ...]
    basis: str
    lines: tuple[StudyLine, ...]
    pair: tuple[str, ...]
    winners: tuple[StudyWinner, ...]


@dataclass(frozen=True)
class _Run:
    """Rows by key, and what the environment tells of models and winners."""

    rows: Sequence[Row]
    environment: dict

    @cached_property
    def by_key(self) -> dict[tuple[str, str, str, str], Row]:
        return {row.key: row for row in self.rows}

    @cached_property
    def models(self) -> list[str]:
        measured = {row.model for row in self.rows if row.claim in CLAIMS and row.status != NOT_RUN}
        recorded = {row.model for row in self.rows if row.claim in CLAIMS and row.status == NOT_RUN and row.recorded}
        return sorted({*measured_models(self.rows)} & measured | recorded)

    def row(self, claim: str, model: str, metric: str, protocol: str) -> Row | None:
        """The row, or that of the whole claim, which says why there is none."""
        return self.by_key.get((claim, model, metric, protocol)) or self.by_key.get((claim, model, "-", protocol))

    def sentences(self, claim: str, model: str, metric: str) -> list[Row]:
        """The sound rows by whose sentence a model is judged: one, or of a user's own model one for each of the study's two."""
        names = [metric, *(f"{metric}_as_{name}" for name in REPORTING)]
        rows = [self.by_key[key] for name in names if (key := (claim, model, name, SOUND)) in self.by_key]
        return rows or [row for row in [self.row(claim, model, metric, SOUND)] if row]

    def beside(self, model: str) -> str:
        """The study's model that this one stands beside; "" for a user's own."""
        names = counterparts(model)
        return (self.environment.get("beside") or {}).get(model) or (names[0] if len(names) == 1 else "")

    def absent(self, claim: str, model: str, row: Row | None = None) -> Cell:
        """Why there is no number: the status of its row, or that the claim was not measured at all; what is recorded of it."""
        if row is not None and row.status == NOT_RUN and row.recorded:
            cell = _cell(row.recorded, shown_unit(row), "")
            return Cell(cell.text + RECORDED, note=cell.note)
        if row is not None and row.status != OK:
            return Cell(row.status.replace("-", " "))
        statuses = {row.status for row in self.rows if (row.claim, row.model) == (claim, model)}
        return Cell(ABSENT if OK in statuses else "blocked" if BLOCKED in statuses else "not run")


# --- what stands in a cell -------------------------------------------------------------------------------------------


def _measured(run: _Run, claim: str, model: str, metric: str, protocol: str) -> Cell:
    row = run.row(claim, model, metric, protocol)
    if row is None or row.status != OK or finite((row.measured or {}).get("value")) is None:
        return run.absent(claim, model, row)
    return _cell(row.measured, shown_unit(row), WORDS.get(row.validity or "", ""))


def _null(run: _Run, claim: str, model: str, metric: str, protocol: str) -> Cell:
    row = run.row(claim, model, metric, protocol)
    if row is not None and row.status == NOT_RUN and row.recorded:
        return Cell("not run")  # the null of a recorded number is not recorded beside it here
    return _cell(row.null, shown_unit(row), "") if row and row.null else run.absent(claim, model, row)


def _control(run: _Run, claim: str, model: str, metric: str, protocol: str) -> Cell:
    """What is recorded of the model's control without recurrence, with its own word; nothing for a model that has none.

    Of drops that of the latent that costs the model most.
    """
    rows = [row for row in run.rows if (row.claim, row.model, row.protocol, row.status) == (claim, model, protocol, OK)]
    row = run.row(claim, model, metric, protocol) or largest_drop(rows, "measured")
    control = row.detail.get("control") if row is not None else None
    return _cell(control["number"], shown_unit(row), WORDS.get(control["word"] or "", "")) if row and control else Cell()


def _cell(value: Number | Mapping | None, unit: str, mark: str) -> Cell:
    point, _, interval = number(value, unit).replace("100.0", "100").partition(" [")
    return Cell(point, mark, f"[{interval}" if interval else "")


def _largest_drop(run: _Run, claim: str, model: str, metric: str, protocol: str) -> Cell:
    """Without an interval: an extreme has no valid one."""
    rows = [row for row in run.rows if (row.claim, row.model, row.protocol, row.status) == (claim, model, protocol, OK)]
    row = largest_drop(rows, "measured")
    if row is None:
        return run.absent(claim, model, run.row(claim, model, metric, protocol))
    place = row.metric.removeprefix("drop_")
    return Cell(f"{number({'value': (row.measured or {}).get('value')}, row.unit)} @ {place}", WORDS.get(row.validity or "", ""))


def largest_drop(rows: Sequence[Row], part: str) -> Row | None:
    """Of rows of one claim, model and protocol the one of the latent that costs most; part: `measured` or `reported`."""
    drops = [row for row in rows if re.fullmatch(r"drop_\d+", row.metric)]
    return max(drops, key=lambda row: (getattr(row, part) or {}).get("value") or 0.0, default=None)


def _critical(run: _Run, claim: str, model: str, metric: str, protocol: str) -> Cell:
    """Which latents are critical; records hold the strongest alone, and whether there is any."""
    rows = run.sentences(claim, model, metric)
    if not rows or rows[0].status != OK:
        place = (rows[0].cell or {}).get("latent_pos") if rows and rows[0].recorded else None
        return run.absent(claim, model, *rows[:1]) if place is None else Cell(f"{place}{RECORDED}")
    row = rows[0]
    marks = "".join(WORDS.get(row.validity or "", "") for row in rows)
    critical = row.detail.get("critical")
    if critical is not None:
        return Cell(", ".join(map(str, critical)) or "none", marks)
    any_critical = {(GPT2, "SUPPORTED"): True, (LLAMA, "REFUTED"): True, (LLAMA, "SUPPORTED"): False}
    answer = any_critical.get((run.beside(model), row.validity or ""))
    return Cell({True: str((row.cell or {}).get("latent_pos")), False: "none", None: UNDECIDED}[answer], marks)


def _spread(run: _Run, claim: str, model: str, metric: str, protocol: str) -> Cell:
    rows = run.sentences(claim, model, metric)
    if not rows or rows[0].status != OK:
        return run.absent(claim, model, *rows[:1])
    note = str(rows[0].detail.get("note") or "")
    word = note.removeprefix("spread: ") if note.startswith("spread: ") else None
    word = word or SPREAD.get((run.beside(model), rows[0].validity or ""), UNDECIDED)
    return Cell(word, "".join(WORDS.get(row.validity or "", "") for row in rows))


def _speed(run: _Run, claim: str, model: str, metric: str, protocol: str) -> Cell:
    speed = finite((run.environment.get("speed") or {}).get(model))
    return Cell(ABSENT if speed is None else f"{speed:.0f}")


Show = Callable[[_Run, str, str, str, str], Cell]


@dataclass(frozen=True)
class _Spec:
    """A line to be: of which claim, metric and protocol, and how it is shown."""

    name: str
    claim: str
    metric: str
    protocol: str = REPORTED
    show: Show = _measured


LINES: tuple[str | _Spec, ...] = (
    _Spec("Task accuracy, %", "task-accuracy", "accuracy", SOUND),
    _Spec("without recurrence", "task-accuracy", "accuracy", SOUND, _control),
    "Probes, %: do the thoughts tell right from wrong?",
    _Spec("as published, mean", "probe-accuracy", "mean"),
    _Spec("  permuted labels", "probe-accuracy", "mean", REPORTED, _null),
    _Spec("as published, best", "probe-best", "accuracy"),
    _Spec("  permuted labels", "probe-best", "accuracy", REPORTED, _null),
    _Spec("held out, AUC, best", "probe-best", "auc", SOUND),
    _Spec("  without recurrence", "probe-best", "auc", SOUND, _control),
    "SAE features: do they predict errors? (beyond: points)",
    _Spec("as published, %", "sae-error-prediction", "test_accuracy"),
    _Spec("  permuted labels", "sae-error-prediction", "test_accuracy", REPORTED, _null),
    _Spec("held out, AUC", "sae-error-prediction", "auc", SOUND),
    _Spec("beyond raw states", "sae-error-prediction", "gain", SOUND),
    _Spec("beyond confidence", "sae-error-prediction", "gain_confidence", SOUND),
    "Ablation: one thought replaced, points lost",
    _Spec("largest @ latent", "ablation", "drop", SOUND, _largest_drop),
    _Spec("  without recurrence", "ablation", "drop", SOUND, _control),
    _Spec("critical latents", "ablation-critical", "range", SOUND, _critical),
    _Spec("Information sits", "spread", "tau", SOUND, _spread),
    _Spec("Parameters", "size", "parameters"),
    _Spec("Problems a second", "task-accuracy", "speed", REPORTED, _speed),
)
CLAIMS = frozenset(line.claim for line in LINES if isinstance(line, _Spec))
TESTED = {(claim, metric) for _, _, claim, metric in WINNERS[:3]}


def _published(run: _Run, spec: _Spec, model: str) -> str:
    """As short as it was printed: a range where only that was."""
    if spec.claim in CONCLUSIONS:
        return CONCLUSIONS[spec.claim][model]
    rows = [row for row in run.rows if (row.claim, row.model, row.protocol) == (spec.claim, model, REPORTED) and row.reported]
    if spec.show is _largest_drop:
        largest = largest_drop(rows, "reported")
        rows = [largest] if largest else []
    else:
        rows = [row for row in rows if row.metric == spec.metric]
    if not rows or spec.show in (_null, _control):
        return ""
    text = re.sub(r"\.0(?=–|$)", "", number(rows[0].reported, shown_unit(rows[0])))
    has_place = spec.show is _largest_drop and (rows[0].reported or {}).get("value") is not None
    return f"{text} @ {rows[0].metric.removeprefix('drop_')}" if has_place else text


# --- who wins --------------------------------------------------------------------------------------------------------


def _winner(run: _Run, claim: str, metric: str, models: Sequence[str]) -> tuple[str, float | None]:
    """Who beats every other one of these models, with the largest of its p; else none, or a sign that there was no test."""
    if (claim, metric) not in TESTED:
        return NO_TEST, None
    comparisons = [
        comparison
        for comparison in (run.environment.get("winners") or {}).values()
        if comparison["claim"] == claim and set(comparison["models"]) <= set(models)
    ]
    p = [value for comparison in comparisons if (value := finite(comparison["p"])) is not None]
    for model in models:
        wins = [finite(comparison["p"]) or 0.0 for comparison in comparisons if comparison["winner"] == model]
        if p and len(wins) == len(models) - 1:
            return model, max(wins)
    return (NONE if p else ABSENT), (p[0] if len(p) == 1 else None)


def _p(p: float | None) -> str:
    """As tables print it: .16, <.001."""
    return "" if p is None else "<.001" if p < 0.001 else f"{p:.2g}".replace("0.", ".")


def _study_winners(run: _Run, pair: tuple[str, ...], asked: Collection[str]) -> list[StudyWinner]:
    """One for each winner of the study: by the test between both models, or by the words of what it said of each."""
    models = dict(zip(REPORTING, pair))
    winners = []
    for subject, published, claim, metric in WINNERS:
        if claim not in asked:
            continue
        if (claim, metric) in TESTED:
            name, p = _winner(run, claim, metric, pair)
            outcome = "holds" if name == models[published] else "does not hold" if name in pair else _open(run, claim, pair)
            why = {NONE: "no difference shown", ABSENT: _missing(run, claim, pair)}.get(name, f"{name} is better")
            why = f"{why}, p\xa0{_p(p)}" if p is not None else why
            winners.append(StudyWinner(subject, PUBLISHED[published], outcome, why))
            continue
        words = [row.validity for model in pair for row in run.sentences(claim, model, metric)[:1] if row.status == OK]
        holds, falls = words == ["SUPPORTED"] * 2, any(word in ("REFUTED", "ARTEFACT") for word in words)
        show = _spread if claim == "spread" else _critical
        texts = [f"{model} {show(run, claim, model, metric, SOUND).text}" for model in pair]
        why = ", ".join(texts) if claim == "spread" else f"critical: {', '.join(texts)}"
        why = why if words else _missing(run, claim, pair)
        outcome = "holds" if holds else "does not hold" if falls else _open(run, claim, pair)
        winners.append(StudyWinner(subject, PUBLISHED[published], outcome, why))
    return winners


def _open(run: _Run, claim: str, pair: tuple[str, ...]) -> str:
    """What is not decided: by more problems, or, where others released no more, not at all."""
    rows = [row for row in run.rows if row.claim == claim and row.model in pair]
    return UNJUDGED if any(row.origin == "released" or row.detail.get("unreleased") for row in rows) else UNDECIDED


def _missing(run: _Run, claim: str, pair: tuple[str, ...]) -> str:
    """Why two models were not compared."""
    rows = [row for row in run.rows if row.claim == claim and row.model in pair]
    return next((f"nobody released {row.detail['unreleased']}" for row in rows if row.detail.get("unreleased")), "not tested")


def study_table(rows: Sequence[Row], environment: dict) -> StudyTable | None:
    """The table of what was measured of the study; None where nothing of it was."""
    run = _Run(rows, environment)
    if not run.models:
        return None
    asked = {row.claim for row in rows if row.model in run.models}
    lines: list[StudyLine] = []
    for spec in LINES:
        if isinstance(spec, str):
            lines.append(StudyLine(spec, {}, {}))
        elif spec.claim in asked and (spec.show is not _speed or environment.get("speed")):  # records have no speed
            line = _line(run, spec)
            if spec.show is not _control or any(cell.text for cell in line.measured.values()):
                lines.append(line)
    followers = [*lines[1:], StudyLine("", {}, {})]
    lines = [line for line, follower in zip(lines, followers, strict=True) if line.measured or follower.name.startswith(" ")]
    pairs = [(a, b) for a in run.models if run.beside(a) == GPT2 for b in run.models if run.beside(b) == LLAMA]
    compared = [set(comparison["models"]) for comparison in (environment.get("winners") or {}).values()]
    pair = max(pairs, key=lambda pair: compared.count(set(pair)), default=())
    sizes = [row.n for row in rows if row.claim in CLAIMS and row.model in run.models and row.status == OK and row.n]
    devices, theirs = environment.get("devices") or {}, {row.model for row in rows if row.origin == "released"}
    names = {str(devices[model]).split(" float")[0] for model in run.models if devices.get(model)} - {"released"}
    names |= {"° recorded"} if any(row.recorded and row.status == NOT_RUN and row.model in run.models for row in rows) else set()
    how = "measured here" if {*run.models} - theirs else "measured on what others released"
    how = how if sizes else "not measured in this run"
    basis = ", ".join([how, *[f"up to {max(sizes, default=0)} problems"] * (max(sizes, default=0) > 1), *sorted(names)])
    return StudyTable(tuple(run.models), basis, tuple(lines), pair, tuple(_study_winners(run, pair, asked) if pair else ()))


def _line(run: _Run, spec: _Spec) -> StudyLine:
    published = {model: _published(run, spec, model) for model in REPORTING}
    cells = {model: spec.show(run, spec.claim, model, spec.metric, spec.protocol) for model in run.models}
    is_tested = len(run.models) > 1 and spec.show not in (_null, _control)
    winner, p = _winner(run, spec.claim, spec.metric, run.models) if is_tested else ("", None)
    name = spec.name if spec.name[0].isupper() else f"  {spec.name}"
    return StudyLine(name, published, cells, winner, _p(p))
