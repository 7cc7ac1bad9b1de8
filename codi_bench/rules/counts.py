"""Rules for releases that hold only counts, such as 151 of 200 right: counts in, p values and words out.

Two counts on the same problems tell only the difference between how many problems turned from right to wrong and how many turned
back. So every 2 x 2 table that the counts allow is tried, and there is a word only if all tables give the same one.
Source: docs/verdicts.md, section 9.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binom, chi2, fisher_exact

from codi_bench.errors import MeasureError, arguments
from codi_bench.rules.stats import ALTERNATIVES, Z95, Estimate, Interval, newcombe_limits
from codi_bench.rules.validity import Validity, Verdict, sound_verdict

MOST = 10**7  # problems; all tables of more would fill the memory
RANGE = "McNemar, largest p of all tables that the counts allow"


def fisher(right_a: int, n_a: int, right_b: int, n_b: int, alternative: str = "two-sided") -> float:
    """Fisher's exact p of two counts on different problems. alternative: `greater` asks whether a's rate is the greater one.

    Raises MeasureError for a count outside of 0..n, or no problems.
    """
    _check(alternative, (right_a, n_a), (right_b, n_b))
    right_a, n_a, right_b, n_b = map(int, (right_a, n_a, right_b, n_b))
    table = [[right_a, n_a - right_a], [right_b, n_b - right_b]]
    return float(fisher_exact(table, alternative=alternative).pvalue)


def tables(before: int, after: int, n: int) -> np.ndarray:
    """All tables that two counts of right answers on the same n problems allow, int [tables, 4], the fewest changes first.

    Columns: both right, right then wrong, wrong then right, both wrong. Raises MeasureError for a count outside of 0..n.
    """
    _check("greater", (before, n), (after, n))
    before, after, n = int(before), int(after), int(n)
    gained = np.arange(max(0, after - before), min(after, n - before) + 1)
    lost = gained + before - after
    return np.stack([before - lost, lost, gained, n - before - gained], axis=1)


def mcnemar_each(before: int, after: int, n: int, alternative: str = "two-sided") -> np.ndarray:
    """Exact McNemar p of each of the `tables`, float64 [tables].

    alternative: `greater` asks whether the rate before is the greater one (a loss), `less` whether it is the smaller one.
    """
    _check(alternative, (before, n))
    _, lost, gained, _ = tables(before, after, n).T
    greater, less = binom.sf(lost - 1, lost + gained, 0.5), binom.cdf(lost, lost + gained, 0.5)
    p = {"greater": greater, "less": less, "two-sided": np.minimum(1, 2 * np.minimum(greater, less))}[alternative]
    return np.asarray(p, float)


def mcnemar_range(before: int, after: int, n: int, alternative: str = "two-sided") -> tuple[float, float]:
    """Least and largest exact McNemar p over all tables that the counts allow; alternative as in `mcnemar_each`."""
    p = mcnemar_each(before, after, n, alternative)
    return float(p.min()), float(p.max())


def difference_range(before: int, after: int, n: int, level: float = 0.95) -> Interval:
    """(before - after) / n with the least lower and the greatest upper end of Newcombe's interval over all tables allowed."""
    both, lost, gained, neither = tables(before, after, n).T
    low, high = newcombe_limits(both, lost, gained, neither, level)
    return Interval((before - after) / n, float(low.min()), float(high.max()))


def paired_verdict(before: int, after: int, n: int, *, delta: float, p: float) -> Verdict:
    """The word for "fewer are right after than before, by Delta": that of all tables, else UNDERPOWERED with the range.

    p: the largest of `mcnemar_range(..., "greater")`, corrected. Which table is the true one does not matter where all say the
    same, so p is that of the worst one.
    """
    low, high = newcombe_limits(*tables(before, after, n).T)
    value = (before - after) / n
    ends = zip(low.tolist(), high.tolist(), strict=True)
    verdicts = [sound_verdict(Estimate(value, *each), delta=delta, p={RANGE: p}, marginal=RANGE, n=n) for each in ends]
    words, fragile = {verdict.word for verdict in verdicts}, any(verdict.fragile for verdict in verdicts)
    why = (
        f"{before} and {after} of {n}: effect {100 * value:+.1f} points, [{100 * low.min():+.1f}, {100 * high.max():+.1f}] "
        f"over all {len(verdicts)} tables that fit the counts, Delta {100 * delta:+.1f}, largest p {p:.2g}"
    )
    if len(words) == 1:
        return Verdict(words.pop(), why, fragile)
    return Verdict(Validity.UNDERPOWERED, f"{why}: the word depends on the table, and only counts were released", fragile)


def contrast_range(counts: Sequence[int], position: int, n: int) -> tuple[float, float]:
    """Share at a position less the mean share at the others, and its largest standard error over all joint tables of the counts.

    counts [positions]: events (wrong answers, losses) at each position, on the same n problems. The error is largest where the
    others' events fall on the same problems and those of the position on problems with the fewest of them: both squares in
    E[(x - m)^2] = E[x^2] + E[m^2] - 2 E[xm] are at their greatest then, and E[xm] at its least.
    """
    counts, n = _events(counts, n)
    position = arguments.whole("position", position, 0, len(counts) - 1, error=MeasureError)
    others = [count for i, count in enumerate(counts) if i != position]
    rank = np.arange(n)
    m = np.mean([rank < count for count in others], axis=0)  # falls with the rank
    contrast = (rank >= n - counts[position]) - m
    return float(contrast.mean()), float(contrast.std(ddof=1) / np.sqrt(n))


def cochran_largest(counts: Sequence[int], n: int) -> float:
    """Largest p of Cochran's Q over all joint tables of events [positions] on the same n problems.

    Q is least where every problem has equally many events, or one more than others.
    """
    counts, n = _events(counts, n)
    k, total = len(counts), sum(counts)
    each, more = divmod(total, n)
    squares = (n - more) * each**2 + more * (each + 1) ** 2
    spread = (k - 1) * (k * sum(count**2 for count in counts) - total**2)
    return float(chi2.sf(spread / (k * total - squares), k - 1)) if spread else 1.0


def stratified_difference(a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]]) -> Interval:
    """Rate of a less rate of b at equal strata, each (count, n) by stratum, with a 95 % interval.

    Strata in which one side has no problem are left out. Source: Mantel and Haenszel's weights with the variance of Greenland and
    Robins 1985, Biometrics 41:55. Raises MeasureError where no stratum has both sides.
    """
    a = arguments.entries("a", a, error=MeasureError)
    b = arguments.entries("b", b, len(a), of="stratum", error=MeasureError)
    sides = [
        tuple(arguments.entries("a stratum", pair, 2, of="count and n", error=MeasureError) for pair in ab) for ab in zip(a, b)
    ]
    _check("greater", *(pair for side in sides for pair in side if pair[1] != 0))
    shared = [(*one, *other) for one, other in sides if one[1] and other[1]]
    if not shared:
        raise MeasureError("no stratum has problems on both sides, so the rates cannot be compared")
    x, n, y, m = np.array(shared, float).T
    weight = n * m / (n + m)
    value = float(weight @ (x / n - y / m) / weight.sum())
    error = np.sqrt(weight**2 @ (x * (n - x) / n**3 + y * (m - y) / m**3)) / weight.sum()
    reach = Z95 * float(error)
    return Interval(value, max(value - reach, -1.0), min(value + reach, 1.0))


def _events(counts: Sequence[int], n: int) -> tuple[list[int], int]:
    """Counts at two positions or more, and n, as whole numbers."""
    counts = arguments.entries("counts", counts, error=MeasureError)
    if len(counts) < 2:
        raise MeasureError(f"counts for at least two positions are needed, got {len(counts)}")
    _check("greater", *((count, n) for count in counts))
    return list(map(int, counts)), int(n)


def _check(alternative: str, *counts: Sequence[float]) -> None:
    arguments.choice("alternative", alternative, ALTERNATIVES, error=MeasureError)
    for right, n in counts:
        most = arguments.number("n", n, 1, MOST, error=MeasureError)
        if not (most.is_integer() and arguments.number(f"right of {n}", right, 0, most, error=MeasureError).is_integer()):
            raise MeasureError(f"{right} right of {n}: a count needs whole numbers")
