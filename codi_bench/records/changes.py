"""What a proposed record would change in a baseline: numbers, words, verdicts and inputs. Pure rules: no file is read or written.

`compare` gives the word of a number (SAME, DRIFTED), for the suite too. It applies the rules of reproduction.py in order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from codi_bench.records.baseline import Baseline, Cell, Record, Recorded, Tolerance, of_record_key, unpack_bits
from codi_bench.records.move import EQUAL, VERDICT, Facet, Flips, Move, what_else
from codi_bench.records.results import Number
from codi_bench.rules.reproduction import Outcome, Regression, regression_count, regression_value, regression_verdict
from codi_bench.rules.stats import mcnemar_exact, paired_counts

REASON_WORDS, REASON_LETTERS = 2, 10


@dataclass(frozen=True)
class Changes:
    """A proposal and the record it is compared with: that of its own environment (same), else the nearest, or none."""

    model: str
    claim: str
    proposed: Record
    held: Record | None
    same: bool
    inputs: tuple[str, ...]
    moves: tuple[Move[Recorded], ...]

    @property
    def listed(self) -> tuple[Move[Recorded], ...]:
        """The changes to look at, including numbers that moved within their tolerance."""
        return tuple(move for move in self.moves if move.listed or _moved(0, (move.difference or {}).get("value", 0)))

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Every verdict that would change, appear or vanish. A first record changes none."""
        changed = [move for move in self.moves if VERDICT in move.also and self.held]
        return tuple(f"{self.model} {self.claim} {move.name} {move.also[VERDICT].removeprefix('verdict ')}" for move in changed)


def changes(baseline: Baseline, proposed: Record, *, own_problems: bool = False, recorded: int = 1) -> Changes:
    """Compare a proposal with its baseline.

    own_problems: which problems are scored depends on the model (SAE errors): then outcomes of other weights are not paired.
    recorded: the number of recorded metrics of the whole suite, for the correction.
    """
    held, same = baseline.nearest(proposed.environment)
    others = held.changed_inputs(proposed) if held else []
    paired = not {"protocols", "seeds", "problems", *["weights"] * own_problems} & set(others)
    moves = []
    for name in sorted({*proposed.metrics, *(held.metrics if held else ())}):
        old, new = held.metrics.get(name) if held else None, proposed.metrics.get(name)
        protocol, metric = of_record_key(name)
        flips = _flips(old, new) if old and new and paired else None
        key, also = (baseline.claim, baseline.model, metric, protocol), _what_else(old, new, flips)
        if held is None:
            moves.append(Move(key, old, new, Regression.UNCHECKED.value, "nothing is recorded", also=also))
        elif old is None or new is None:
            why = "not recorded before" if old is None else "not measured any more"
            moves.append(Move(key, old, new, Regression.DRIFTED.value, why, also=also))
        else:
            tolerance = baseline.tolerance.get(name)
            allowed = 0.0 if tolerance is None else tolerance.deterministic if same else tolerance.device
            outcome = compare(old, new, tolerance, same=same, family_size=recorded, paired=paired)
            difference = new.value - old.value if old.unit == new.unit else None
            units = difference / allowed if difference is not None and allowed else None
            number: Number | None = None if difference is None else {"value": difference}
            moves.append(Move(key, old, new, outcome.word.value, outcome.why, number, also, units, flips))
    inputs = [text for field in others for text in _input(field, getattr(held, field), getattr(proposed, field))]
    if held:
        inputs += [f"{name}: a tolerance, but no record" for name in sorted(set(baseline.tolerance) - set(held.metrics))]
    return Changes(baseline.model, baseline.claim, proposed, held, same and held is not None, tuple(inputs), tuple(moves))


def _flips(old: Recorded, new: Recorded) -> Flips | None:
    before, after = unpack_bits(old.outcomes, old.n), unpack_bits(new.outcomes, new.n)
    if old.n != new.n or before is None or after is None:
        return None
    _, lost, gained, _ = paired_counts(before, after)
    return Flips(lost, gained, old.n, mcnemar_exact(before, after))


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


def _what_else(old: Recorded | None, new: Recorded | None, flips: Flips | None) -> dict[str, str]:
    """old -> new of everything but the value; an interval that moves with its number is not listed."""
    before, after = (number.verdict if number else None for number in (old, new))
    also = what_else({VERDICT: ("verdict", before, after, _or_none)})
    if VERDICT in also:
        notes = ["recorded fragile"] * bool(old and old.fragile) + ["now fragile"] * bool(new and new.fragile)
        also[VERDICT] += f" ({', '.join(notes)})" if notes else ""
    if flips and flips.lost + flips.gained:
        also["flips"] = f"flips b {flips.lost}, g {flips.gained} of {flips.n}, p = {flips.p:.2g}"
    if old is None or new is None:
        return also
    facets: dict[str, Facet] = {"unit": ("unit", old.unit, new.unit, str), "n": ("n", old.n, new.n, str)}
    facets["cell"] = ("cell", old.cell, new.cell, _cell)
    if VERDICT not in also:
        facets["decide"] = ("n that would decide", old.decide, new.decide, _or_none)
    also |= what_else(facets)
    if VERDICT not in also and old.fragile != new.fragile:
        also["fragile"] = "now fragile" if new.fragile else "no longer fragile"
    if (old.outcomes is None) != (new.outcomes is None):
        also["outcomes"] = f"outcomes {'appeared' if old.outcomes is None else 'vanished'}"
    if not _moved(old.value, new.value) and any(_moved(getattr(old, end), getattr(new, end)) for end in ("low", "high")):
        also["interval"] = f"interval {' → '.join(f'[{_number(x.low)}, {_number(x.high)}]' for x in (old, new))}"
    for end in ("value", "low", "high", "p"):
        low, high = (getattr(number.null, end) if number.null else None for number in (old, new))
        if _moved(low, high):
            also[f"null {end}"] = f"null{'' if end == 'value' else f' {end}'} {_number(low)} → {_number(high)}"
    return also


def _moved(before: float | None, after: float | None) -> bool:
    """Did it move by more than rounding? A NaN, or a number on one side only, has moved."""
    if before is None or after is None:
        return before is not after
    return before != after and not abs(after - before) <= EQUAL


def _input(field: str, old: str | Mapping[str, Any] | None, new: str | Mapping[str, Any] | None) -> Iterator[str]:
    """old -> new of a changed input: the beginning of hashes; for protocols and seeds, those that differ."""
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


def _or_none(value: object) -> str:
    return str(value or "none")


def weak_reason(reason: str) -> str | None:
    """Why a reason is too short for a record, or None: it needs two words and ten letters or digits."""
    words, letters = len(reason.split()), sum(character.isalnum() for character in reason)
    if words >= REASON_WORDS and letters >= REASON_LETTERS:
        return None
    return f"needs at least {REASON_WORDS} words and {REASON_LETTERS} letters; say what moved the numbers and why that is right"
