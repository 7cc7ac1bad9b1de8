"""Outcomes of the same problems under named conditions, with the result of the controls of that run.

A failing control forbids every word, but not the published protocol's numbers. So its error is stored with the outcomes, and
raised when the sound protocol uses them (docs/verdicts.md, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from codi_bench.audits.ablation import CLEAN
from codi_bench.claims.blocks import constant
from codi_bench.claims.claim import Outcomes
from codi_bench.errors import MeasureError
from codi_bench.problems import Problem
from codi_bench.rules.controls import check_alive, check_room


class Branches(dict[str, np.ndarray]):
    """Right or wrong by the name of the condition, bool [n] each. failure: the control that fails, None where all hold."""

    def __init__(self, right: Mapping[str, np.ndarray], failure: MeasureError | None = None):
        super().__init__(right)
        self.failure = failure

    def checked(self) -> Branches:
        """Returns itself; raises MeasureError if a control of its run fails."""
        if self.failure is not None:
            raise self.failure
        return self

    def chosen(self, names: Sequence[str]) -> Branches:
        """The clean run and some conditions, as far as they exist."""
        return Branches({name: self[name] for name in (CLEAN, *names) if name in self}, self.failure)


def branches(
    names: Sequence[str], outcomes: Outcomes, *, clean: str = CLEAN, same: Sequence[str] = (), scoring: str = "study"
) -> Branches:
    """A run by the names of its conditions. clean: which of them is the clean run; same: those that should change nothing."""
    right = dict(zip(names, outcomes.right(scoring), strict=True))
    return Branches(right, failure_of(_check, names, outcomes, right[clean], clean, same))


def _check(names: Sequence[str], outcomes: Outcomes, right: np.ndarray, clean: str, same: Sequence[str]) -> None:
    texts, logs = [np.array(answers.texts) for answers in outcomes.answers], outcomes.log_probability
    own, edited = names.index(clean), {name: i for i, name in enumerate(names) if name not in (clean, *same)}
    change = None if logs is None else (logs[own], {name: logs[i] for name, i in edited.items()})
    check_alive(texts[own], {name: texts[i] for name, i in edited.items()}, change)
    check_room_of(right, outcomes.problems)


def check_room_of(right: np.ndarray, problems: Sequence[Problem], **how: Any) -> None:
    """Raises MeasureError if the answers, right bool [n], are hardly better than one constant answer."""
    check_room(right, float(constant([problem.answer for problem in problems]).mean()), **how)


def failure_of(check: Callable[..., None], *arguments: Any) -> MeasureError | None:
    """The error that a check raises, to be raised later, before a word is given."""
    try:
        check(*arguments)
    except MeasureError as error:
        return error
    return None
