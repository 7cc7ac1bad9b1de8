"""How much recorded numbers move although nothing that matters changed, and the resulting tolerance. Pure rules, no model.

A number measured again on the same problems moves only through batch, dtype, device and libraries; these give the tolerance of a
regression. The effect of other problems and other seeds belongs to a reproduction (docs/verdicts.md, sections 2 and 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import beta, poisson

from codi_bench.errors import CodiBenchError
from codi_bench.records.baseline import Component, Environment, Noise, Recorded, Tolerance, Word, unpack_bits
from codi_bench.records.results import Row
from codi_bench.rules.stats import paired_counts

DETERMINISTIC = 1e-6  # rounding; one answered problem of 100 is 0.01, ten thousand times more
SPREADS = 4  # of the device, in a tolerance: docs/verdicts.md, section 4
ELSEWHERE: tuple[Component, ...] = ("instructions", "library", "device")
DRAWN: tuple[Component, ...] = ("sampling", "seed")  # draws around a mean of their own, not moves from the recorded number
WIDEST: dict[str, Component] = {"device": "device", "dtype": "dtype", "torch": "library", "instructions": "instructions"}
SELDOM = 0.001  # of nights in which more answers turn than a tolerance allows for
RELATIVE = 0.001  # of a mean number of features: what one problem of a thousand contributes


@dataclass(frozen=True)
class NoiseMove:
    """How far a number was from the recorded one after one change. of: what was changed to.

    flips: outcomes that turned, None without outcomes. word: the new verdict.
    """

    component: Component
    of: str
    difference: float
    flips: int | None = None
    word: Word | None = None


def change(here: Environment, there: Environment, versions: Sequence[str] = ()) -> tuple[Component, str]:
    """The main difference between two environments (the widest, if there are several), and all differences in words.

    versions: other ones of what the environment's key does not name. Where nothing differs, the batch may: its size, the threads.
    """
    words = {name: getattr(there, name) for name in Environment.model_fields if getattr(there, name) != getattr(here, name)}
    texts = [f"torch {word}" if name == "torch" else word for name, word in words.items()] + [*versions]
    widest: Component = next(
        (component for name, component in WIDEST.items() if name in words or (name == "torch" and versions)), "batch"
    )
    return widest, ", ".join(texts) or "again"


def noise_move(held: Recorded, row: Row, component: Component, of: str) -> NoiseMove:
    """One number of a run and the recorded one. Raises CodiBenchError if they differ in the number of problems."""
    value = row.measured.get("value") if row.measured else None
    if row.n != held.n or value is None:
        where = f"{row.model} {row.claim} {row.metric}"
        raise CodiBenchError(
            f"{where}: field n is {row.n} in the run ({of}) and {held.n} in the record; give a run with the same problems"
        )
    flips, after = None, row.detail.get("outcomes")
    if held.outcomes is not None and after is not None:
        before, turned = unpack_bits(held.outcomes, held.n), unpack_bits(after, held.n)
        assert before is not None and turned is not None
        _, lost, gained, _ = paired_counts(before, turned)
        flips = lost + gained
    return NoiseMove(component, of, value - held.value, flips, row.validity)


def noise_of(moves: Sequence[NoiseMove]) -> dict[Component, Noise]:
    """The moves of one number by component: root mean square, or standard deviation for draws."""
    found: dict[Component, Noise] = {}
    for name in dict.fromkeys(move.component for move in moves):
        own = [move for move in moves if move.component == name]
        differences, flips = np.array([move.difference for move in own]), [move.flips for move in own if move.flips is not None]
        is_draw = name in DRAWN and len(own) > 1
        found[name] = Noise(
            spread=float(differences.std(ddof=1) if is_draw else np.sqrt(np.mean(differences**2))),
            runs=len(own),
            of=", ".join(dict.fromkeys(move.of for move in own)),
            flips=sum(flips) if len(flips) == len(own) else None,
        )
    return found


def words_of(held: Recorded, moves: Iterable[NoiseMove]) -> set[Word]:
    """The verdicts in other environments of the same dtype, and after one answer turned."""
    return {move.word for move in moves if move.component in (*ELSEWHERE, "turned") and move.word and move.word != held.verdict}


def resolution(held: Recorded) -> float:
    """The change that one problem can make: the least tolerance of a number made from n problems. A count is exact."""
    one = {"fraction": 1.0, "points": 100.0, "features": RELATIVE * held.n * abs(held.value), "count": 0.0}
    return one[held.unit] / held.n


def spread_elsewhere(noise: Mapping[Component, Noise], *, turning: int) -> float:
    """The spread from everything that another environment changes, if so many answers turn. Each part counts by itself."""
    variance = sum(noise[name].spread ** 2 for name in ELSEWHERE if name in noise)
    return math.sqrt(variance + (turning * noise["turned"].spread ** 2 if "turned" in noise else 0.0))


def turning(share: float, n: int) -> int:
    """The most answers of n that turn in one night elsewhere, but for a share SELDOM of nights, if each has this chance."""
    return max(1, int(poisson.ppf(1 - SELDOM, share * n)))


def tolerance_of(held: Recorded, noise: Mapping[Component, Noise], words: Iterable[Word] = (), *, turning: int = 1) -> Tolerance:
    """The tolerance of a number with this noise, and the reason for it. turning: how many answers of its model may turn."""
    elsewhere, spread = {name: noise[name] for name in ELSEWHERE if name in noise}, spread_elsewhere(noise, turning=turning)
    runs = sum(entry.runs for entry in elsewhere.values())
    answers = [noise["turned"].of + (f", {turning} times" if turning > 1 else "")] if "turned" in noise else []
    sources = "; ".join([*(entry.of for entry in elsewhere.values()), *answers])
    same = "same environment: rounding alone"
    if "batch" in noise:
        same += f", {noise['batch'].of} moved it by {noise['batch'].spread:.2g}"
    kind: Literal["outcomes", "value"] = "value"
    device = max(SPREADS * spread, resolution(held))
    if held.unit == "count":
        device, other = 0.0, "a count is exact everywhere"
    elif held.outcomes is not None:
        kind, device, other = "outcomes", 0.0, "another one: exact McNemar on the same problems (VERDICTS 4)"
        if runs:
            other += f"; {sum(entry.flips or 0 for entry in elsewhere.values())} of {runs * held.n} outcomes turned"
    elif not sources:
        other = "another one: what one problem moves; nothing was measured elsewhere yet"
    else:
        other = f"another one: {SPREADS} times the spread of {spread:.2g} ({sources})"
        other += "" if SPREADS * spread > resolution(held) else ", but not below what one problem moves"
    return Tolerance(
        kind=kind,
        deterministic=DETERMINISTIC,
        device=device,
        why=f"{same}; {other}",
        words=tuple(sorted(set(words) - {held.verdict})),
        noise=dict(noise),
    )


def churn(found: Iterable[tuple[Recorded, Mapping[Component, Noise]]]) -> tuple[int, int, float]:
    """(outcomes that turned, outcomes measured again, exact 97.5 % upper bound of their share) in other environments."""
    flips = outcomes = 0
    for held, noise in found:
        for entry in (noise[name] for name in ELSEWHERE if name in noise):
            if entry.flips is not None:
                flips, outcomes = flips + entry.flips, outcomes + entry.runs * held.n
    bound = float(beta.isf(0.025, flips + 1, outcomes - flips)) if flips < outcomes else 1.0
    return flips, outcomes, bound


def carry_over(tolerance: Tolerance, before: Recorded | None, after: Recorded) -> Tolerance:
    """The tolerance of a number that is recorded anew, without the words that noise could give to the old verdict.

    A number that gains or loses its right/wrong outcomes gets another kind of tolerance.
    """
    fresh = tolerance_of(after, {})
    if (tolerance.kind == "outcomes") != (fresh.kind == "outcomes"):
        return fresh
    same = before is not None and (before.value, before.verdict) == (after.value, after.verdict)
    return tolerance if same else tolerance.model_copy(update={"words": ()})
