"""Audit of ablations: one place is replaced and the rest recomputed, on the same problems.

A drop is a total effect: it acts through everything that follows, and early positions have more that follows. The direct effect
keeps the later latents unchanged. Bot has a row of its own, which says nothing about thoughts (docs/verdicts.md, section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codi_bench.errors import MeasureError
from codi_bench.measures.ablation import PositionEffects, position_effects
from codi_bench.rules.controls import check_alive, check_room
from codi_bench.rules.stats import Z95, Estimate, bootstrap_mean, mcnemar_exact, newcombe_paired, stream
from codi_bench.rules.validity import Validity, Verdict, none_stands_out, sound_verdict

MAIN = "mean"
KINDS = (MAIN, "zero", "noise", "resample")
DONORS = 5
DROP_FLOOR, CONTRAST_FLOOR = 0.02, 0.05
CLEAN, SELF, ALL = "clean", "all=self", "all=mean"


@dataclass(frozen=True, eq=False)
class Sweep:
    """right bool and log_probability float64 [n] of the clean run and of every named condition, in turn.

    The clean run has all problems, a condition has all or the first of them. A repeated name is another draw of the same
    condition. reference: the source of means and donors, in words. constant: accuracy of the best constant answer.
    """

    names: tuple[str, ...]
    right: Sequence[np.ndarray]
    log_probability: Sequence[np.ndarray]
    reference: str = ""
    constant: float = 0.0

    def rows(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Outcomes and log-probabilities [draws, n] of a condition."""
        draws = [i for i, condition in enumerate(self.names) if condition == name]
        if not draws:
            raise MeasureError(f"condition '{name}' was not run")
        return np.stack([self.right[i] for i in draws]), np.stack([self.log_probability[i] for i in draws])

    def beside(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Outcomes and log-probabilities [n] of the clean run on the problems of a condition."""
        n = len(self.right[self.names.index(name)])
        (right,), (log_probability,) = self.rows(CLEAN)
        return right[:n], log_probability[:n]


@dataclass(frozen=True)
class Effect:
    """Drop in accuracy (a fraction), change of the gold answer's log-probability (nats); p: exact McNemar of the first draw."""

    drop: Estimate
    log_probability: Estimate
    p: float


def check_controls(sweep: Sweep) -> None:
    """Raises MeasureError if the drops mean nothing.

    They mean nothing if replacing every latent by itself changes an answer, if no other replacement changes anything, or if the
    clean accuracy is too low to lose anything.
    """
    identity, (clean, _) = sweep.rows(SELF)[0][0], sweep.beside(SELF)
    changes = int((clean != identity).sum())
    if changes:
        raise MeasureError(f"a control fails: replacing every latent by itself changes {changes} of {clean.size} answers")
    (own,), (log,) = sweep.rows(CLEAN)
    names = sweep.names  # one that comes again is marked, so that each draw counts
    draws = {name + "'" * names[:i].count(name): i for i, name in enumerate(names) if name not in (CLEAN, SELF)}
    logs = {name: sweep.log_probability[i] for name, i in draws.items()}
    check_alive(own, {name: sweep.right[i] for name, i in draws.items()}, (log, logs))
    check_room(own, sweep.constant)


def effect(sweep: Sweep, name: str, *, seed: int = 0) -> Effect:
    """Drop and change of one condition against the clean run; several draws are averaged problem by problem."""
    (right, log), (clean, clean_log) = sweep.rows(name), sweep.beside(name)
    several = len(right) > 1
    drop = bootstrap_mean(clean - right.mean(0), rng=stream(seed, name)) if several else newcombe_paired(clean, right[0])
    change = bootstrap_mean(log.mean(0) - clean_log, rng=stream(seed, name, "log-probability"))
    return Effect(drop, change, mcnemar_exact(clean, right[0], "greater"))


def latents(sweep: Sweep, num_latents: int, kind: str = MAIN) -> PositionEffects:
    """Drops, contrasts and the critical positions of one replacement."""
    right = np.stack([sweep.rows(f"{place}={kind}")[0][0] for place in range(num_latents)])
    return position_effects(sweep.beside(f"0={kind}")[0], right, margin=CONTRAST_FLOOR, floor=DROP_FLOOR)


def drop_word(drop: Estimate, p: float, *, n: int, delta: float = DROP_FLOOR) -> Verdict:
    """Does the position matter on its own? p: exact McNemar, Holm over the positions."""
    return sound_verdict(drop, delta=delta, p={"no drop": p}, marginal="no drop", n=n)


def critical_word(found: PositionEffects, *, n: int, claimed: Sequence[int] | None = None) -> Verdict:
    """Is one of the claimed positions critical? The contrast of the strongest candidate and Cochran's Q decide."""
    candidates = range(len(found.drops)) if claimed is None else claimed
    best = max(candidates, key=lambda t: found.contrasts[t].value)
    p = {"equal positions": found.contrast_p[best], "no drop": found.drop_p[best]}
    verdict = sound_verdict(found.contrasts[best], delta=CONTRAST_FLOOR, p=p, marginal="equal positions", n=n)
    word = verdict.word
    if word is Validity.SUPPORTED and best not in found.critical:  # Q does not reject, or the drop alone is below its floor
        word = Validity.UNDERPOWERED
    return Verdict(word, f"latent {best}: {verdict.why}; Cochran's Q p = {found.q_p:.2g}", verdict.fragile, verdict.decide)


def none_word(found: PositionEffects, *, n: int) -> Verdict:
    """Is no position critical? The simultaneous upper bounds of the contrasts decide."""
    se = max((c.high - c.low) / (2 * Z95) for c in found.contrasts)
    return none_stands_out(found.upper, margin=CONTRAST_FLOOR, deviates=bool(found.critical), n=n, se=se)
