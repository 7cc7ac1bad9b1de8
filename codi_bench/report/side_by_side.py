"""Several runs side by side: what moved against the first, and whether that is more than noise (docs/verdicts.md, section 4).

`compare` decides and is pure; differences.py shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codi_bench.errors import CodiBenchError
from codi_bench.records.baseline import unpack_bits
from codi_bench.records.move import EQUAL, VERDICT, Key, Move, what_else
from codi_bench.records.results import BLOCKED, OK, OWN_ERRORS, Number, Row, environment_of, finite
from codi_bench.report.runs import Run, keys_of, shown_word
from codi_bench.report.table import measured_models, place, shown_unit
from codi_bench.rules.intervals import mover_difference
from codi_bench.rules.reproduction import DRIFT_LEVEL, Regression, regression_count
from codi_bench.rules.stats import Estimate, mcnemar_exact, newcombe_paired, paired_counts

MOVED, CHANGED, APPEARED, GONE, NOISE, SAME, UNMEASURED = "moved", "changed", "appeared", "gone", "noise", "same", "unmeasured"
NUMBER_WORDS = (MOVED, CHANGED, APPEARED, GONE, NOISE, SAME, UNMEASURED)
STATUS = "status changed"


@dataclass(frozen=True)
class Comparison:
    """Runs, what has to be said before any of it is read, and for each run after the first the moves of all numbers.

    The word of a move is one of NUMBER_WORDS; changed: without an interval nothing is said about noise; unmeasured: in neither.
    """

    runs: tuple[Run, ...]
    moves: tuple[tuple[Move[Row], ...], ...]
    notes: tuple[str, ...]

    def counts(self, later: int) -> dict[str, int]:
        """How many numbers got which word in the later-th run after the first, verdict changes and other differences too."""
        counts = Counter(move.word for move in self.moves[later])
        others = Counter(word for move in self.moves[later] for word in move.also)
        return {word: counts[word] for word in NUMBER_WORDS if counts[word]} | others


def compare(runs: Sequence[Run]) -> Comparison:
    """Every number of every run against the first run.

    Raises CodiBenchError for fewer than two runs and for outcomes that cannot be unpacked.
    """
    if len(runs) < 2:
        raise CodiBenchError(f"a comparison needs at least two runs, got {len(runs)}; give another results.json")
    first, *later = runs = [replace(run, label=f"run {i}") for i, run in enumerate(runs, 1)]
    keys, moves = keys_of(runs), []
    for run in later:
        family_size = max(1, sum(bool(first.measured(key) and run.measured(key)) for key in keys))
        moves.append(tuple(_move(first, run, key, family_size) for key in keys))
    return Comparison(tuple(runs), tuple(moves), tuple(note for run in later for note in _inputs(first, run)))


def _move(first: Run, later: Run, key: Key, family_size: int) -> Move[Row]:
    old, new = first.measured(key), later.measured(key)
    if old and new:
        word, difference, why = _difference(first, later, old, new, family_size)
        return Move(key, old, new, word, why, difference, _what_else(first, later, old, new))
    (old_status, old_reason), (new_status, new_reason) = (_absent(run, key) for run in (first, later))
    if old:
        return Move(key, old, None, GONE, f"in {later.label} {new_reason}")
    if new:
        return Move(key, None, new, APPEARED, f"in {first.label} {old_reason}")
    is_news = old_status != new_status and BLOCKED in (old_status, new_status)
    return Move(key, None, None, UNMEASURED, also={STATUS: f"{old_reason} → {new_reason}"} if is_news else {})


def _absent(run: Run, key: Key) -> tuple[str, str]:
    """(status, why) of a number that a run does not have."""
    row = run.row(key)
    return (row.status, f"{row.status}: {row.reason}") if row and row.status != OK else ("", "no such number in that file")


def _difference(first: Run, later: Run, old: Row, new: Row, family_size: int) -> tuple[str, Number | None, str]:
    """Word, difference and why of two measured numbers: by their outcomes, by their intervals, or without either."""
    if shown_unit(old) != shown_unit(new):
        return CHANGED, None, "other units: no difference can be taken"
    before, after = _estimate(old), _estimate(new)
    delta = after.value - before.value
    bits = _outcomes(first, later, old, new)
    any_flip = bits is not None and any(bits[0] != bits[1])
    if (any_flip or abs(delta) > EQUAL) and old.n == new.n and _deterministic(first, later, old.model):
        return MOVED, {"value": delta}, "same environment, weights and problems: no noise there"
    if bits and (found := _by_outcomes(*bits, delta, 1 if old.unit == "fraction" else 100, family_size)):
        return found
    if abs(delta) <= EQUAL:
        return SAME, {"value": delta}, ""
    if None in (before.low, before.high, after.low, after.high):
        return CHANGED, {"value": delta}, "no interval"
    between = mover_difference(after, before)
    assert between.low is not None and between.high is not None
    word = NOISE if between.low <= 0 <= between.high else MOVED
    why = f"95 % interval of the difference {'contains' if word == NOISE else 'excludes'} 0"
    return word, {"value": between.value, "low": between.low, "high": between.high}, why


def _estimate(row: Row) -> Estimate:
    """Value and interval of a row that was measured."""
    assert row.measured is not None
    value, low, high = (finite(row.measured.get(end)) for end in ("value", "low", "high"))
    assert value is not None
    return Estimate(value, low, high)


def _deterministic(first: Run, later: Run, model: str) -> bool:
    """Same machine, weights, problems and options: then docs/verdicts.md, section 4, allows no change and needs no statistics."""
    old, new = (
        [environment_of(run.environment, model), *(run.of_model("inputs", model).get(what) for what in ("weights", "problems"))]
        for run in (first, later)
    )
    return None not in old and old == new and first.environment.get("options", "") == later.environment.get("options", "")


def _outcomes(first: Run, later: Run, old: Row, new: Row) -> tuple[np.ndarray, np.ndarray] | None:
    """Right or wrong per problem of both rows, bool [n] each; None unless both are about the same problems in the same order."""
    problems = {row.detail.get("problems") for row in (old, new)}
    if old.n != new.n or not old.n or len(problems) > 1 or None in problems:
        return None
    if first.of_model("claims", old.claim).get("family", OWN_ERRORS) == OWN_ERRORS:
        return None  # one answer that turned can give another test split
    bits = []
    for run, row in ((first, old), (later, new)):
        try:
            bits.append(unpack_bits(row.detail.get("outcomes") or None, old.n))
        except CodiBenchError as error:
            raise CodiBenchError(f"{run.file}: {row.claim} {row.metric} on {row.model}: {error}; run the suite again") from error
    return None if bits[0] is None or bits[1] is None else (bits[0], bits[1])


def _by_outcomes(
    old: np.ndarray, new: np.ndarray, delta: float, scale: float, family_size: int
) -> tuple[str, Number, str] | None:
    """By McNemar, where the turned answers are the whole difference: of a drop, the answers without an edit have a part too."""
    _, lost, gained, _ = paired_counts(old, new)
    drop = scale != 1  # points lost: fewer right answers make a larger drop
    if abs(delta - scale * (lost - gained if drop else gained - lost) / len(old)) > EQUAL * scale:
        return None
    if not lost + gained:
        return SAME, {"value": delta}, ""
    interval = newcombe_paired(*((old, new) if drop else (new, old)))
    is_drift = regression_count(old, new, same_environment=False, family_size=family_size).word == Regression.DRIFTED
    why = (
        f"{lost} right → wrong, {gained} wrong → right of {len(old)}; McNemar p = {mcnemar_exact(old, new):.2g}, "
        f"level {DRIFT_LEVEL / family_size:.2g}"
    )
    ends: Number = {"value": delta, "low": scale * interval.low, "high": scale * interval.high}
    return MOVED if is_drift else NOISE, ends, why


def _what_else(first: Run, later: Run, old: Row, new: Row) -> dict[str, str]:
    def shown(x: object) -> str:
        return str(x or "unknown")

    also = what_else(
        {
            VERDICT: ("verdict", old.validity, new.validity, shown_word),
            "reproduction changed": ("", old.reproduction, new.reproduction, lambda word: word or "no word"),
            "n differs": ("n", old.n, new.n, shown),
        }
    )
    if VERDICT in also and (fragile := [run.label for run, row in ((first, old), (later, new)) if row.detail.get("fragile")]):
        also[VERDICT] += f", recorded fragile in {' and '.join(fragile)}"
    if old.cell != new.cell:
        also["other cell"] = " → ".join(place(row) or "none" for row in (old, new))
    if old.seeds != new.seeds:
        also["seeds differ"] = ""
    protocols = [run.protocol_text(row) for run, row in ((first, old), (later, new))]
    if None not in protocols and protocols[0] != protocols[1]:
        also["protocol differs"] = "the protocol's own words differ: the difference is between protocols"
    return also


def _inputs(first: Run, later: Run) -> Iterator[str]:
    """Whether a name means the same model and the same problems in both runs, and whether both were asked for the same."""
    old, new = ((run.environment.get("options") or "none") for run in (first, later))
    if old != new:
        yield f"options differ: {first.label} {old}, {later.label} {new}: numbers of other sizes are compared"
    both = [measured_models(list(run.rows.values())) for run in (first, later)]
    for model in (name for name in both[0] if name in both[1]):
        for kind, noun, plural in (("weights", "model", "models"), ("problems", "list of problems", "problems")):
            old, new = (run.of_model("inputs", model).get(kind) for run in (first, later))
            where = f"{model} in {first.label} and {later.label}"
            if old is None or new is None:
                yield f"{where}: whether it is the same {noun} is not known, a file does not say"
            elif old != new:
                yield f"{where}: not the same {noun} ({old[:8]}…, {new[:8]}…): differences are between {plural}"
