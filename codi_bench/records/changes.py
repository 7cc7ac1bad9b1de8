"""What a proposed record would change in a baseline: numbers, words, verdicts and inputs. Pure rules, nothing is read or written.

The word of a number (SAME, DRIFTED) is `compare`, which the suite asks too: the rules of verdicts.py in their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from codi_bench.records.baseline import Baseline, Cell, Record, Recorded, Tolerance, unpack_bits
from codi_bench.rules.reproduction import Outcome, Regression, regression_count, regression_value, regression_verdict
from codi_bench.rules.stats import mcnemar_exact, paired_counts

DUST = 1e-6  # as in the deterministic tolerance: floats that are nearer than this are not listed as moved
REASON_WORDS, REASON_LETTERS = 2, 10


@dataclass(frozen=True)
class Flips:
    """Problems whose outcome turned: right then wrong, wrong then right, of n, with the exact McNemar p."""

    lost: int
    gained: int
    n: int
    p: float


@dataclass(frozen=True)
class Move:
    """One metric, held (old; None: it appeared) against proposed (new; None: it vanished).

    units: the difference over the tolerance, with its sign; None without a difference or where nothing may move. also: old -> new
    of what else changed beside value and verdict.
    """

    metric: str
    old: Recorded | None
    new: Recorded | None
    word: str
    why: str
    units: float | None = None
    flips: Flips | None = None
    also: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        """New - old in the number's own unit; None unless both are there and count the same."""
        if self.old is None or self.new is None or self.old.unit != self.new.unit:
            return None
        return self.new.value - self.old.value

    @property
    def verdict(self) -> str:
        """Old -> new verdict, which of the two is fragile said; empty if it stays."""
        old, new = (number.verdict if number else None for number in (self.old, self.new))
        if old == new:
            return ""
        notes = ["recorded fragile"] * bool(self.old and self.old.fragile) + ["now fragile"] * bool(self.new and self.new.fragile)
        return f"{old or 'none'} → {new or 'none'}" + (f" ({', '.join(notes)})" if notes else "")

    @property
    def listed(self) -> bool:
        """Is there anything to look at?"""
        turned = self.flips is not None and self.flips.lost + self.flips.gained > 0
        moved = self.difference is None or _moved(0, self.difference)
        return self.word != Regression.SAME.value or turned or moved or bool(self.verdict or self.also)


@dataclass(frozen=True)
class Changes:
    """One proposal against the record it is compared with: that of its own environment (same), else the nearest, or none."""

    model: str
    claim: str
    proposed: Record
    held: Record | None
    same: bool
    inputs: tuple[str, ...]
    moves: tuple[Move, ...]

    @property
    def listed(self) -> tuple[Move, ...]:
        return tuple(move for move in self.moves if move.listed)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Every verdict that would change, appear or vanish. A first record changes none: nothing was there to be changed."""
        if self.held is None:
            return ()
        return tuple(f"{self.model} {self.claim} {move.metric} {move.verdict}" for move in self.moves if move.verdict)


def changes(baseline: Baseline, proposed: Record, *, own_problems: bool = False, recorded: int = 1) -> Changes:
    """A proposal against its baseline.

    own_problems: which problems are scored depends on the model (SAE errors): then outcomes of other weights are not paired.
    recorded: metrics of the whole suite, among which an alarm is sought.
    """
    record, same = baseline.nearest(proposed.environment)
    if record is None:
        moves = [Move(name, None, new, Regression.UNCHECKED.value, "nothing is recorded") for name, new in _sorted(proposed)]
        return Changes(baseline.model, baseline.claim, proposed, None, False, (), tuple(moves))
    changed = record.changed_inputs(proposed)
    pairing = {"protocols", "seeds", "problems"} | ({"weights"} if own_problems else set())
    names = dict(_sorted(record)) | dict(_sorted(proposed))
    moves = [
        _move(
            name, record, proposed, baseline.tolerance.get(name), same=same, paired=not pairing & set(changed), recorded=recorded
        )
        for name in sorted(names)
    ]
    inputs = [text for field in changed for text in _input(field, getattr(record, field), getattr(proposed, field))]
    inputs += [f"{name}: a tolerance, but no record" for name in sorted(set(baseline.tolerance) - set(record.metrics))]
    return Changes(baseline.model, baseline.claim, proposed, record, same, tuple(inputs), tuple(moves))


def weak_reason(reason: str) -> str | None:
    """Why a reason says too little to be kept in a record, or None: it needs two words and ten letters or digits."""
    words, letters = len(reason.split()), sum(character.isalnum() for character in reason)
    if words >= REASON_WORDS and letters >= REASON_LETTERS:
        return None
    return f"needs at least {REASON_WORDS} words and {REASON_LETTERS} letters; say what moved the numbers and why that is right"


def _move(
    name: str, record: Record, proposed: Record, tolerance: Tolerance | None, *, same: bool, paired: bool, recorded: int
) -> Move:
    old, new = record.metrics.get(name), proposed.metrics.get(name)
    drifted = Regression.DRIFTED.value
    if old is None or new is None:
        return Move(name, old, new, drifted, "not recorded before" if old is None else "not measured any more")
    before, after = unpack_bits(old.outcomes, old.n), unpack_bits(new.outcomes, new.n)
    flips = None
    if paired and old.n == new.n and before is not None and after is not None:
        _, lost, gained, _ = paired_counts(before, after)
        flips = Flips(lost, gained, old.n, mcnemar_exact(before, after))
    allowed = 0.0 if tolerance is None else tolerance.deterministic if same else tolerance.device
    units = (new.value - old.value) / allowed if allowed and old.unit == new.unit else None
    outcome = compare(old, new, tolerance, same=same, family_size=recorded, paired=paired)
    return Move(name, old, new, outcome.word.value, outcome.why, units, flips, tuple(_also(old, new)))


def compare(
    old: Recorded, new: Recorded, tolerance: Tolerance | None, *, same: bool, family_size: int, paired: bool = True
) -> Outcome:
    """SAME or DRIFTED for one number measured again (docs/verdicts.md, section 4).

    same: in the same environment. family_size: metrics of the whole suite. paired: were the same problems scored?
    Raises BaselineError for outcomes that do not hold n bits.
    """
    if tolerance is None:
        return Outcome(Regression.DRIFTED, "the baseline has no tolerance for it")
    for field in ("n", "unit", "cell") if same else ("n", "unit"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            return Outcome(Regression.DRIFTED, f"{field} stored {before}, measured {after}, tolerance 0")
    verdict = regression_verdict(old.verdict, new.verdict, fragile=old.fragile, words=() if same else tolerance.words)
    if verdict.word == Regression.DRIFTED:
        return Outcome(Regression.DRIFTED, f"{verdict.why}, tolerance 0")
    note = f"; {verdict.why}" if old.verdict != new.verdict else ""
    outcomes = paired and None not in (old.outcomes, new.outcomes)
    if tolerance.kind == "outcomes" or (same and outcomes):  # in the same environment any flip is seen, whatever the tolerance
        if not outcomes:
            return Outcome(Regression.DRIFTED, "outcomes of the same problems are not on both sides")
        before_bits, after_bits = unpack_bits(old.outcomes, old.n), unpack_bits(new.outcomes, new.n)
        assert before_bits is not None and after_bits is not None  # both have outcomes
        flip_outcome = regression_count(before_bits, after_bits, same_environment=same, family_size=family_size)
        if flip_outcome.word == Regression.DRIFTED or not same:
            return Outcome(flip_outcome.word, flip_outcome.why + note)
    allowed = tolerance.deterministic if same else tolerance.device
    return Outcome(regression_value(old.value, new.value, allowed).word, f"tolerance {allowed:.3g}{note}")


def _also(old: Recorded, new: Recorded) -> Iterator[str]:
    """old -> new of all that stands beside value and verdict; an interval that moves with its number goes without saying."""
    for field, show in (("unit", str), ("n", str), ("cell", _cell)):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield f"{field} {show(before)} → {show(after)}"
    if old.verdict == new.verdict and old.fragile != new.fragile:
        yield "now fragile" if new.fragile else "no longer fragile"
    if old.verdict == new.verdict and old.decide != new.decide:
        yield f"n that would decide {old.decide or 'none'} → {new.decide or 'none'}"
    if (old.outcomes is None) != (new.outcomes is None):
        yield f"outcomes {'appeared' if old.outcomes is None else 'vanished'}"
    if not _moved(old.value, new.value) and any(_moved(getattr(old, end), getattr(new, end)) for end in ("low", "high")):
        yield f"interval [{_number(old.low)}, {_number(old.high)}] → [{_number(new.low)}, {_number(new.high)}]"
    for end in ("value", "low", "high", "p"):
        before, after = (getattr(number.null, end) if number.null else None for number in (old, new))
        if _moved(before, after):
            yield f"null{'' if end == 'value' else f' {end}'} {_number(before)} → {_number(after)}"


def _moved(before: float | None, after: float | None) -> bool:
    """By more than dust; a NaN or a number on one side only has moved."""
    if before is None or after is None:
        return before is not after
    return before != after and not abs(after - before) <= DUST


def _sorted(record: Record) -> list[tuple[str, Recorded]]:
    return sorted(record.metrics.items())


def _input(field: str, old: str | Mapping[str, Any] | None, new: str | Mapping[str, Any] | None) -> Iterator[str]:
    """old -> new of a changed input: hashes by their beginning, of protocols and seeds those that differ."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):  # a claim may have a partner now that had none
        yield f"{field}: {_short(old)} → {_short(new)}"
        return
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            yield f"{field}, {name}: {old.get(name, 'none')} → {new.get(name, 'none')}"


def _short(value: object) -> str:
    """The beginning of a hash."""
    return "none" if value is None else f"{str(value)[:12]}…"


def _cell(cell: Cell | None) -> str:
    return " ".join(f"{name} {place}" for name, place in cell.items() if place is not None) if cell else "none"


def _number(value: float | None) -> str:
    return "none" if value is None else "NaN" if math.isnan(value) else f"{value:.6g}"
