"""The controls that every edited run must pass before it can get a word (docs/verdicts.md, section 3).

Each raises MeasureError, which blocks the sound rows with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from codi_bench.errors import MeasureError, arguments
from codi_bench.rules.stats import bits, finite, wilson

DEAD = 1e-6  # nats: an edit that reaches the model moves some log-probability by more
ROOM = 0.05  # over the best constant answer: floor of the task accuracy


def check_alive(
    clean: ArrayLike,
    edited: Mapping[str, ArrayLike],
    log_probability: tuple[ArrayLike, Mapping[str, ArrayLike]] | None = None,
) -> None:
    """Raises MeasureError, `dead edit: …`, if no condition changes anything: no p value shows that a hook does nothing.

    clean [n]: answers (numbers, texts, or right and wrong) of the clean run; edited: by condition, [n] each, of the first n
    problems. log_probability: the same of the clean run and by condition, nats. NaN, an answer without a number, equals itself.
    It is enough that one condition has an effect: a condition without effect is then a result.
    """
    if not arguments.instance("edited", edited, Mapping, error=MeasureError):
        raise MeasureError("dead edit: no condition was run that must change something")
    if any(_differ(clean, answers) for answers in edited.values()):
        return
    if log_probability is not None:
        before, after = log_probability
        before = np.asarray(before, float)
        moves = [np.abs(each - before[: len(each)]) for each in (np.asarray(part, float) for part in after.values())]
        if any((move > DEAD).any() for move in moves):
            return
    n, names = len(np.asarray(clean)), ", ".join(list(edited)[:3]) + ", …" * (len(edited) > 3)
    raise MeasureError(
        f"dead edit: none of {len(edited)} condition{'s' * (len(edited) > 1)} ({names}) changes anything on {n} problems: the "
        "edit does not reach the model"
    )


def _differ(clean: ArrayLike, answers: ArrayLike) -> bool:
    one, other = np.asarray(clean), np.asarray(answers)
    one = one[: len(other)]
    different = one != other
    if one.dtype.kind == other.dtype.kind == "f":
        different &= ~(np.isnan(one) & np.isnan(other))
    return bool(different.any())


def check_room(right: ArrayLike, constant: float = 0.0, *, floor: float = ROOM, what: str = "to lose") -> None:
    """Raises MeasureError, `nothing to lose: …`, if the clean run is hardly better than a constant answer.

    At 3 % accuracy "no latent is critical" is true of anything. right bool [n]: of the clean run; constant: accuracy of the best
    constant answer; floor: of the family. Needed: the lower Wilson bound of the clean accuracy above constant + floor.
    """
    right = bits(right)
    finite(0, 1, constant=constant, floor=floor)
    low = wilson(int(right.sum()), right.size).low
    if low <= constant + floor:
        raise MeasureError(
            f"nothing {what}: {100 * right.mean():.1f} % of {right.size} problems are answered correctly, at least "
            f"{100 * low:.1f} % by the interval; a constant answer has {100 * constant:.1f} %, and the model needs "
            f"{100 * floor:.0f} points more"
        )
