"""Several runs side by side: what moved against the first, and whether that is more than noise (docs/verdicts.md, section 4).

`compare` decides and is pure; differences.py shows. scipy and statsmodels are loaded only where two numbers differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from codi_bench.errors import CodiBenchError
from codi_bench.records.results import BLOCKED, OK, OWN_ERRORS, Number, Row, finite, read_results
from codi_bench.report.table import SOUND, WORDS, in_order, measured_models, metric_order, place, shown_unit

EQUAL = 1e-6
MOVED, CHANGED, APPEARED, GONE, NOISE, SAME, UNMEASURED = "moved", "changed", "appeared", "gone", "noise", "same", "unmeasured"
NUMBER_WORDS = (MOVED, CHANGED, APPEARED, GONE, NOISE, SAME, UNMEASURED)
ENVIRONMENT = ("device", "instructions", "dtype")  # and torch's major.minor: where these are equal a run is deterministic
VERDICT, STATUS = "verdict changed", "status changed"
Key = tuple[str, str, str, str]


class RowsOfRun(Protocol):
    """What the order of numbers is taken from: a results file of a comparison, or a night of a history."""

    @property
    def environment(self) -> dict: ...

    @property
    def rows(self) -> dict[Key, Row]: ...


@dataclass(frozen=True)
class ResultsRun:
    """One results file: its label ("run 1"), where it lies, its environment, and its rows by key."""

    label: str
    file: str
    environment: dict
    rows: dict[Key, Row]

    def measured(self, key: Key) -> Row | None:
        """The row of that key if it holds a finite number."""
        row = self.rows.get(key)
        return row if row and row.status == OK and row.measured and finite(row.measured.get("value")) is not None else None

    def absent(self, key: Key) -> tuple[str, str]:
        """(status, why) of a number that this run does not have; the row of a whole claim ("-") speaks for its metrics."""
        claim, model, _, protocol = key
        claim_rows = [row for row in self.rows.values() if (row.claim, row.model, row.metric) == (claim, model, "-")]
        candidates = [self.rows.get(key), *(row for row in claim_rows if row.protocol == protocol), *claim_rows]
        row = next((row for row in candidates if row is not None and row.status != OK), None)
        return (row.status, f"{row.status}: {row.reason}") if row else ("", "no such number in that file")

    def inputs(self, model: str, what: str) -> str | None:
        """Hash of a model's weights or problems; None in an older file."""
        return ((self.environment.get("inputs") or {}).get(model) or {}).get(what)


@dataclass(frozen=True)
class Change:
    """One number of a later run against the first.

    word: same, noise, moved, changed (no interval, so nothing about noise), appeared, gone or unmeasured (in neither). also:
    what else differs, by words such as `verdict changed` and `n differs`. difference: later - first, in the row's unit, with a
    95 % interval if there is one. why: what decided the word. remarks: reasons, and old -> new of what else differs.
    """

    word: str
    also: tuple[str, ...] = ()
    difference: dict[str, float] | None = None
    why: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        return bool(self.also) or self.word not in (SAME, UNMEASURED)


@dataclass(frozen=True)
class NumberInRuns:
    """One number in all runs. values: {"value", "low", "high"} or None, a run each; changes: one a run after the first."""

    key: Key
    unit: str
    values: tuple[Number | None, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs, their numbers by model and claim, and what has to be said before any of it is read: other models, other problems."""

    runs: tuple[ResultsRun, ...]
    entries: tuple[NumberInRuns, ...]
    notes: tuple[str, ...]

    def counts(self, later: int) -> dict[str, int]:
        """How many numbers got which word in the later-th run after the first, verdict changes and other differences too."""
        changes = [entry.changes[later] for entry in self.entries]
        also = dict.fromkeys(word for change in changes for word in change.also)
        totals = {word: sum(change.word == word for change in changes) for word in NUMBER_WORDS}
        return totals | {word: sum(word in change.also for change in changes) for word in also}


def read_run(path: Path) -> tuple[str, dict, list[Row]]:
    """A run as `compare` takes it. Raises CodiBenchError naming file and field if it is no results file."""
    return str(path), *read_results(path)


def compare(runs: Sequence[tuple[str, dict, list[Row]]]) -> Comparison:
    """Every number of every run against the first run. runs: (file, environment, rows) each.

    Raises CodiBenchError for fewer than two runs and for outcomes that cannot be unpacked.
    """
    if len(runs) < 2:
        raise CodiBenchError(f"a comparison needs at least two runs, got {len(runs)}; give another results.json")
    labelled_runs = tuple(
        ResultsRun(f"run {i}", name, environment, {row.key: row for row in rows})
        for i, (name, environment, rows) in enumerate(runs, 1)
    )
    first, *later = labelled_runs
    keys = keys_of(labelled_runs)
    family_sizes = [max(1, sum(bool(first.measured(key) and run.measured(key)) for key in keys)) for run in later]
    entries = []
    for key in keys:
        rows = [run.measured(key) for run in labelled_runs]
        changes = tuple(_change(first, run, key, family_size) for run, family_size in zip(later, family_sizes, strict=True))
        values = tuple(_number(row) if row else None for row in rows)
        entries.append(NumberInRuns(key, next((shown_unit(row) for row in rows if row), ""), values, changes))
    return Comparison(labelled_runs, tuple(entries), tuple(note for run in later for note in _inputs(first, run)))


def keys_of(runs: Sequence[RowsOfRun]) -> list[Key]:
    """The keys of all runs by model, claim and metric; without those that only stand for a claim whose numbers are there."""
    rows = {key: row for run in runs for key, row in run.rows.items()}
    claim_models = {key[:2] for key in rows if key[2] != "-"}
    claims = in_order({name: text for run in runs for name, text in (run.environment.get("claims") or {}).items()})
    positions = {name: i for i, name in enumerate(claims)}
    candidates = [row for key, row in rows.items() if key[2] != "-" or key[:2] not in claim_models]
    sorted_rows = sorted(
        candidates, key=lambda r: (r.model, positions.get(r.claim, len(positions)), r.claim, metric_order(r), r.protocol)
    )
    return [row.key for row in sorted_rows]


def _change(first: ResultsRun, later: ResultsRun, key: Key, family_size: int) -> Change:
    old, new = first.measured(key), later.measured(key)
    if old and new:
        also = dict(_also(first, later, old, new))
        remarks = tuple(filter(None, also.values()))
        return replace(_difference(first, later, old, new, family_size), also=tuple(also), remarks=remarks)
    if old:
        return Change(GONE, remarks=(f"in {later.label} {later.absent(key)[1]}",))
    if new:
        return Change(APPEARED, remarks=(f"in {first.label} {first.absent(key)[1]}",))
    (old_status, old_reason), (new_status, new_reason) = first.absent(key), later.absent(key)
    if old_status != new_status and BLOCKED in (old_status, new_status):
        return Change(UNMEASURED, (STATUS,), remarks=(f"{old_reason} → {new_reason}",))
    return Change(UNMEASURED)


def _difference(first: ResultsRun, later: ResultsRun, old: Row, new: Row, family_size: int) -> Change:
    """Two measured numbers: by their outcomes, by their intervals, or without either."""
    if shown_unit(old) != shown_unit(new):
        return Change(CHANGED, why="other units: no difference can be taken")
    delta = _value(new) - _value(old)
    bits = _outcomes(first, later, old, new)
    any_flip = bits is not None and any(bits[0] != bits[1])
    if (any_flip or abs(delta) > EQUAL) and old.n == new.n and _deterministic(first, later, old.model):
        return Change(MOVED, difference={"value": delta}, why="same environment, weights and problems: no noise there")
    if bits and (change := _by_outcomes(*bits, delta, 1 if old.unit == "fraction" else 100, family_size)):
        return change
    if abs(delta) <= EQUAL:
        return Change(SAME, difference={"value": delta})
    numbers = [_number(row) for row in (new, old)]
    if any(finite(end) is None for number in numbers for end in (number["low"], number["high"])):
        return Change(CHANGED, difference={"value": delta}, why="no interval")
    from codi_bench.rules.intervals import mover_difference
    from codi_bench.rules.stats import Estimate

    estimates = [Estimate(_value(row), number["low"], number["high"]) for row, number in zip((new, old), numbers, strict=True)]
    estimate = mover_difference(*estimates)
    assert estimate.low is not None and estimate.high is not None
    word = NOISE if estimate.low <= 0 <= estimate.high else MOVED
    ends = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return Change(word, difference=ends, why=f"95 % interval of the difference {'contains' if word == NOISE else 'excludes'} 0")


def _number(row: Row) -> Number:
    """Value and interval of a row that was measured."""
    assert row.measured is not None
    return {"value": row.measured.get("value"), "low": row.measured.get("low"), "high": row.measured.get("high")}


def _value(row: Row) -> float:
    """The number of a row that was measured."""
    value = _number(row)["value"]
    assert value is not None
    return value


def _deterministic(first: ResultsRun, later: ResultsRun, model: str) -> bool:
    """Same machine, weights, problems and options: then docs/verdicts.md, section 4, allows no change and needs no statistics."""
    environments = [run.environment for run in (first, later)]
    keys = [[environment.get("options", ""), *(environment.get(name) for name in ENVIRONMENT)] for environment in environments]
    torch = [(environment.get("torch") or "").split("+")[0].split(".")[:2] for environment in environments]
    inputs = [[run.inputs(model, what) for what in ("weights", "problems")] for run in (first, later)]
    complete = None not in keys[0] and all(torch) and None not in inputs[0]
    devices = [(environment.get("devices") or {}).get(model) for environment in environments]
    return complete and (keys[0], torch[0], inputs[0], devices[0]) == (keys[1], torch[1], inputs[1], devices[1])


def _outcomes(first: ResultsRun, later: ResultsRun, old: Row, new: Row) -> tuple[np.ndarray, np.ndarray] | None:
    """Right or wrong per problem of both rows, bool [n] each; None unless both are about the same problems in the same order."""
    packed_bits = [row.detail.get("outcomes") for row in (old, new)]
    problems = {row.detail.get("problems") for row in (old, new)}
    if not all(packed_bits) or old.n != new.n or not old.n or len(problems) > 1 or None in problems:
        return None
    family = ((first.environment.get("claims") or {}).get(old.claim) or {}).get("family", OWN_ERRORS)
    if family == OWN_ERRORS:  # one answer that turned can give another test split
        return None
    from codi_bench.records.baseline import unpack_bits

    def unpack(run: ResultsRun, row: Row) -> np.ndarray:
        assert row.n is not None
        try:
            bits = unpack_bits(row.detail["outcomes"], row.n)
        except CodiBenchError as error:
            raise CodiBenchError(f"{run.file}: {row.claim} {row.metric} on {row.model}: {error}; run the suite again") from error
        assert bits is not None
        return bits

    return unpack(first, old), unpack(later, new)


def _by_outcomes(old: np.ndarray, new: np.ndarray, delta: float, scale: float, family_size: int) -> Change | None:
    """By McNemar, where the turned answers are the whole difference: of a drop, the answers without an edit have a part too."""
    from codi_bench.rules.reproduction import DRIFT_LEVEL, Regression, regression_count
    from codi_bench.rules.stats import mcnemar_exact, newcombe_paired, paired_counts

    _, lost, gained, _ = paired_counts(old, new)
    drop = scale != 1  # points lost: fewer right answers make a larger drop
    if abs(delta - scale * (lost - gained if drop else gained - lost) / len(old)) > EQUAL * scale:
        return None
    if not lost + gained:
        return Change(SAME, difference={"value": delta})
    interval = newcombe_paired(*((old, new) if drop else (new, old)))
    is_drift = regression_count(old, new, same_environment=False, family_size=family_size).word == Regression.DRIFTED
    return Change(
        MOVED if is_drift else NOISE,
        difference={"value": delta, "low": scale * interval.low, "high": scale * interval.high},
        why=f"{lost} right → wrong, {gained} wrong → right of {len(old)}; McNemar p = "
        f"{mcnemar_exact(old, new):.2g}, level {DRIFT_LEVEL / family_size:.2g}",
    )


def _also(first: ResultsRun, later: ResultsRun, old: Row, new: Row) -> Iterator[tuple[str, str]]:
    """(word, old → new) of everything beside the number."""
    if old.validity != new.validity:
        fragile = " and ".join(run.label for run, row in ((first, old), (later, new)) if row.detail.get("fragile"))
        yield VERDICT, f"verdict {_word(old.validity)} → {_word(new.validity)}" + (fragile and f", recorded fragile in {fragile}")
    if old.reproduction != new.reproduction:
        yield "reproduction changed", f"{old.reproduction or 'no word'} → {new.reproduction or 'no word'}"
    if old.n != new.n:
        yield "n differs", f"n {old.n or 'unknown'} → {new.n or 'unknown'}"
    if old.cell != new.cell:
        yield "other cell", " → ".join(place(row) or "none" for row in (old, new))
    if old.seeds != new.seeds:
        yield "seeds differ", ""
    texts = [((run.environment.get("claims") or {}).get(old.claim) or {}) for run in (first, later)]
    protocols = [text.get("sound" if old.protocol == SOUND else "protocol") for text in texts]
    if None not in protocols and protocols[0] != protocols[1]:
        yield "protocol differs", "the protocol's own words differ: the difference is between protocols"


def _inputs(first: ResultsRun, later: ResultsRun) -> Iterator[str]:
    """Whether a name means the same model and the same problems in both runs, and whether both were asked for the same."""
    old, new = ((run.environment.get("options") or "none") for run in (first, later))
    if old != new:
        yield f"options differ: {first.label} {old}, {later.label} {new}: numbers of other sizes are compared"
    models = [name for name in measured_models(list(first.rows.values())) if name in measured_models(list(later.rows.values()))]
    for model in models:
        for kind, noun, plural in (("weights", "model", "models"), ("problems", "list of problems", "problems")):
            old, new = first.inputs(model, kind), later.inputs(model, kind)
            where = f"{model} in {first.label} and {later.label}"
            if old is None or new is None:
                yield f"{where}: whether it is the same {noun} is not known, a file does not say"
            elif old != new:
                yield f"{where}: not the same {noun} ({old[:8]}…, {new[:8]}…): differences are between {plural}"


def _word(validity: str | None) -> str:
    return f"{WORDS.get(validity, '')} {validity}".strip() if validity else "no word"
