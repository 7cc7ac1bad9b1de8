"""Assess a user's right and wrong answers: accuracies, paired drops, critical conditions, and which model is better.

The statistics are those of the claims about ablations (docs/verdicts.md, sections 3, 5 and 6). A group of problems counts once:
its rate is the mean of its problems, it is lost if more of them are lost than gained, and n counts groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import norm

from codi_bench.audits.ablation import DROP_FLOOR, critical_word, drop_word, none_word
from codi_bench.audits.outcome_table import ModelTable, checked_table, rows_of
from codi_bench.audits.probe_assessment import BLOCKED, OK, SCHEMA
from codi_bench.errors import MeasureError, arguments
from codi_bench.measures.ablation import position_effects
from codi_bench.rules.controls import check_alive, check_room
from codi_bench.rules.reproduction import winner
from codi_bench.rules.stats import Z95, Interval, holm, mcnemar_exact, newcombe_limits, wilson
from codi_bench.rules.validity import Validity, Verdict, n_decide

FEWEST_CONDITIONS = 3  # that are compared with each other
ACCURACY_FLOOR = 0.05  # of task accuracy: the difference between two models that a number of problems is named for
TWO_SIDED = 0.05
LISTED = 4  # names in a sentence


@dataclass(frozen=True)
class ConditionOutcome:
    """One condition: accuracy; drop: the clean accuracy minus this one; p: exact McNemar, Holm over the model's conditions.

    drop, p: None for the clean condition; verdict: None for it and for a blocked model.
    """

    condition: str
    accuracy: Interval
    drop: Interval | None = None
    p: float | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Critical:
    """The conditions that stand out from the others; none: surely none does. q_p: of Cochran's Q; contrast: that of `top`.

    verdict: for the sentence that one is critical; decide: number of problems needed if neither is shown.
    """

    conditions: tuple[str, ...]
    none: bool
    q_p: float
    top: str
    contrast: Interval
    verdict: Verdict
    decide: int | None


@dataclass(frozen=True)
class ModelOutcomes:
    """One model; n counts groups. reason: the control that fails; then there are no words.

    critical: None for fewer than 3 edited conditions.
    """

    model: str
    n: int
    problems: int
    conditions: tuple[ConditionOutcome, ...]
    critical: Critical | None = None
    reason: str = ""


@dataclass(frozen=True)
class Pair:
    """Two models, clean, on the n problems (or groups) that they share: difference a - b, two-sided p, Holm.

    decide: number of problems that would decide a difference of 5 points, if there is no winner.
    """

    a: str
    b: str
    n: int
    difference: Interval
    p: float
    winner: str | None
    decide: int | None


@dataclass(frozen=True)
class OutcomeAssessment:
    """A table of outcomes, model by model, and the models in pairs."""

    source: str
    models: tuple[ModelOutcomes, ...]
    pairs: tuple[Pair, ...]

    @property
    def status(self) -> str:
        """Blocked if a control fails for every model."""
        return BLOCKED if all(model.reason for model in self.models) else OK

    @property
    def reason(self) -> str:
        return "; ".join(dict.fromkeys(model.reason for model in self.models)) if self.status == BLOCKED else ""

    @property
    def decide(self) -> int | None:
        """The largest number of problems that an undecided condition, contrast or pair needs."""
        conditions = [c.verdict.decide for model in self.models for c in model.conditions if c.verdict]
        others = [model.critical.decide for model in self.models if model.critical] + [pair.decide for pair in self.pairs]
        return max((number for number in conditions + others if number), default=None)

    @property
    def sentence(self) -> str:
        """The result in plain words."""
        sentences = [_model_sentence(model) for model in self.models]
        return " ".join(filter(None, [*sentences, *map(_pair_sentence, self.pairs)]))

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON; `codi_bench.audits.public` says what the keys are."""
        summary = {"status": self.status, "reason": self.reason, "sentence": self.sentence, "decide": self.decide}
        return {"schema": SCHEMA, "kind": "outcomes", **summary, **asdict(self)}

    def __str__(self) -> str:
        from codi_bench.audits.assessment_text import outcome_text

        return outcome_text(self)


def outcomes(table: Any, *, clean: str | None = None, constant: float = 0.0, source: str = "table") -> OutcomeAssessment:
    """Assess outcomes: what conditions cost on the same problems, whether one stands out, and which model is better.

    table: rows with problem, condition, right and optionally model and group, as a pandas DataFrame, a mapping of columns, a
    list of mappings, or the result of `read_outcomes`. clean: the condition that the others are compared with (default: the one
    called clean or baseline). constant: share of problems that the best constant answer has right.
    Raises InputError, naming column and row, and what to do.
    """
    constant = arguments.number("constant", constant, 0, math.nextafter(1, 0))
    arguments.text("source", source)
    if clean is not None:
        arguments.text("clean", clean)
    tables = checked_table(rows_of(table), clean)
    return OutcomeAssessment(source, tuple(_assessed(each, constant) for each in tables), _pairs(tables))


@dataclass(frozen=True)
class _Paired:
    """Two rows of outcomes on the same problems: difference with Newcombe's interval, and for each group the sign of its loss."""

    difference: Interval
    lost: np.ndarray
    gained: np.ndarray

    def p(self, alternative: str) -> float:
        """Exact McNemar over groups."""
        return mcnemar_exact(self.lost, self.gained, alternative)


def _paired(before: np.ndarray, after: np.ndarray, group: np.ndarray) -> _Paired:
    """Compare bool [n] each; group int [n]. With one problem per group, this is newcombe_paired and mcnemar_exact."""
    cells = (before & after, before & ~after, ~before & after, ~before & ~after)
    both, lost, gained, neither = (_group_sum(cell, group) for cell in cells)
    low, high = newcombe_limits(both, lost, gained, neither)
    net = np.bincount(group, before.astype(int) - after.astype(int))
    return _Paired(Interval((lost - gained) / _count(group), float(low), float(high)), net > 0, net < 0)


def _group_sum(outcomes: np.ndarray, group: np.ndarray) -> float:
    """Sum over groups of the share of each group's problems: the count itself where every problem is its own group."""
    return float((np.bincount(group, outcomes) / np.bincount(group)).sum())


def _count(group: np.ndarray) -> int:
    return int(group.max()) + 1


def _assessed(table: ModelTable, constant: float) -> ModelOutcomes:
    n, (clean, *edited), names = _count(table.group), table.right, table.conditions
    accuracies = [wilson(min(_group_sum(right, table.group), n), n) for right in table.right]
    paired = [_paired(clean, right, table.group) for right in edited]
    p_values: Sequence[float] = holm([each.p("greater") for each in paired]).tolist() if paired else []
    first = np.unique(table.group, return_index=True)[1]  # where problems must be bool and independent: one a group
    reason, critical = "", None
    if edited:
        try:
            check_alive(clean, dict(zip(names[1:], edited, strict=True)))
            check_room(clean[first], constant)
        except MeasureError as error:
            reason = str(error)
    if len(edited) >= FEWEST_CONDITIONS and n > 1 and not reason:
        critical = _critical(clean[first], np.stack(edited)[:, first], names[1:])
    rows = [ConditionOutcome(names[0], accuracies[0])]
    for name, accuracy, each, p in zip(names[1:], accuracies[1:], paired, p_values, strict=True):
        verdict = None if reason else drop_word(each.difference, float(p), n=n)
        rows.append(ConditionOutcome(name, accuracy, each.difference, float(p), verdict))
    return ModelOutcomes(table.model, n, len(table.problems), tuple(rows), critical, reason)


def _critical(clean: np.ndarray, edited: np.ndarray, names: Sequence[str]) -> Critical:
    effects, n = position_effects(clean, edited), len(clean)
    top = max(range(len(names)), key=lambda i: effects.contrasts[i].value)
    some, none = critical_word(effects, n=n), none_word(effects, n=n)
    undecided = not effects.critical and not effects.none_critical
    return Critical(
        conditions=tuple(names[i] for i in effects.critical),
        none=effects.none_critical,
        q_p=effects.q_p,
        top=names[top],
        contrast=effects.contrasts[top],
        verdict=Verdict(some.word, some.why.replace(f"latent {top}:", f"{names[top]}:", 1), some.fragile, some.decide),
        decide=none.decide if undecided else None,
    )


def _pairs(tables: Sequence[ModelTable]) -> tuple[Pair, ...]:
    """Every two models that share a problem; Holm over the pairs."""
    found = []
    for a, b in combinations(tables, 2):
        problems = sorted(set(a.problems) & set(b.problems))
        if problems:
            rows_a, rows_b = ([table.problems.index(problem) for problem in problems] for table in (a, b))
            group = np.unique(a.group[rows_a], return_inverse=True)[1]
            found.append((a.model, b.model, _count(group), _paired(a.right[0, rows_a], b.right[0, rows_b], group)))
    if not found:
        return ()
    p_values, z = holm([paired.p("two-sided") for *_, paired in found]), float(norm.isf(TWO_SIDED / 2 / len(found)))
    return tuple(_pair(*each, float(p), z) for each, p in zip(found, p_values, strict=True))


def _pair(a: str, b: str, n: int, paired: _Paired, p: float, z: float) -> Pair:
    difference = paired.difference
    side = winner(difference.value, p)
    decide = n_decide(n, (difference.high - difference.low) / (2 * Z95), ACCURACY_FLOOR, z)
    return Pair(a, b, n, difference, p, {"a": a, "b": b}[side] if side else None, decide if not side and decide > n else None)


# --- in words --------------------------------------------------------------------------------------------------------


def _model_sentence(model: ModelOutcomes) -> str:
    if model.reason:
        return f"The conditions{f' of {model.model}' if model.model else ''} cannot be judged: {model.reason}."
    by_word: dict[Validity | None, list[str]] = {}
    for row in model.conditions:
        if row.verdict:
            by_word.setdefault(row.verdict.word, []).append(row.condition)
    endings = {
        Validity.SUPPORTED: ("costs accuracy", "cost accuracy"),
        Validity.REFUTED: (least := f"costs less than {100 * DROP_FLOOR:.0f} points", least.replace("costs", "cost")),
        Validity.UNDERPOWERED: ("is undecided", "are undecided"),
    }
    parts = [f"{listed(by_word[word])} {ending[len(by_word[word]) > 1]}" for word, ending in endings.items() if word in by_word]
    if critical := model.critical:
        if critical.conditions:
            parts.append(f"{listed(critical.conditions)} stand{'s' * (len(critical.conditions) == 1)} out from the others")
        else:
            parts.append("no condition stands out from the others" if critical.none else "whether one stands out is undecided")
    return f"{f'{model.model}: ' if model.model else ''}{'; '.join(parts)}." if parts else ""


def _pair_sentence(pair: Pair) -> str:
    if pair.winner is None:
        return f"Between {pair.a} and {pair.b} there is no winner."
    other = pair.b if pair.winner == pair.a else pair.a
    return f"{pair.winner} is better than {other}, by {100 * abs(pair.difference.value):.1f} points."


def listed(names: Sequence[str]) -> str:
    """A few names in words; of many names, only their number."""
    if len(names) > LISTED:
        return f"{len(names)} conditions"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
