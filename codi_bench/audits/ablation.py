"""What does one thought carry: one place replaced and the rest recomputed, on the same problems.

A drop is a total effect, through everything that follows, of which early positions have more; the direct effect keeps the later
latents as they were. Bot is its own row and no statement about a thought (docs/verdicts.md, section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codi_bench.errors import MeasureError
from codi_bench.measures.ablation import PositionEffects, position_effects
from codi_bench.rules.stats import Estimate, bootstrap_mean, mcnemar_exact, newcombe_paired, stream
from codi_bench.rules.validity import Z95, Validity, Verdict, none_stands_out, sound_verdict

MAIN = "mean"
KINDS = (MAIN, "zero", "noise", "resample")
DONORS = 5
DROP_FLOOR, CONTRAST_FLOOR = 0.02, 0.05
CLEAN, SELF, ALL = "clean", "all=self", "all=mean"


@dataclass(frozen=True, eq=False)
class Sweep:
    """right bool and log_probability float64 [conditions, n] of the clean run and of every named condition.

    A name that comes again is another draw of the same condition. reference: where means and donors come from, in words.
    """

    names: tuple[str, ...]
    right: np.ndarray
    log_probability: np.ndarray
    reference: str = ""

    def rows(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Outcomes and log-probabilities [draws, n] of a condition."""
        draws = [i for i, condition in enumerate(self.names) if condition == name]
        if not draws:
            raise MeasureError(f"condition '{name}' was not run")
        return self.right[draws], self.log_probability[draws]


@dataclass(frozen=True)
class Effect:
    """Drop in accuracy (a fraction), change of the gold answer's log-probability (nats); p: exact McNemar of the first draw."""

    drop: Estimate
    log_probability: Estimate
    p: float


def check_controls(sweep: Sweep) -> None:
    """Raises MeasureError where replacing every latent by itself changes an answer: then no drop means anything."""
    (clean, _), (identity, _) = sweep.rows(CLEAN), sweep.rows(SELF)
    changes = int((clean != identity).sum())
    if changes:
        raise MeasureError(f"a control fails: replacing every latent by itself changes {changes} of {clean.size} answers")


def effect(sweep: Sweep, name: str, *, seed: int = 0) -> Effect:
    """Drop and change of one condition against the clean run; several draws are averaged problem by problem."""
    (clean, clean_log), (right, log) = sweep.rows(CLEAN), sweep.rows(name)
    if len(right) == 1:
        drop = newcombe_paired(clean[0], right[0])
    else:
        drop = bootstrap_mean(clean[0] - right.mean(0), rng=stream(seed, name))
    change = bootstrap_mean(log.mean(0) - clean_log[0], rng=stream(seed, name, "log-probability"))
    return Effect(drop, change, mcnemar_exact(clean[0], right[0], "greater"))


def latents(sweep: Sweep, num_latents: int, kind: str = MAIN) -> PositionEffects:
    """Drops, contrasts and the critical positions of one replacement."""
    right = np.stack([sweep.rows(f"{place}={kind}")[0][0] for place in range(num_latents)])
    return position_effects(sweep.rows(CLEAN)[0][0], right, margin=CONTRAST_FLOOR, floor=DROP_FLOOR)


def drop_word(drop: Estimate, p: float, *, n: int, delta: float = DROP_FLOOR) -> Verdict:
    """Does the position matter on its own? p: exact McNemar, Holm over the positions."""
    return sound_verdict(drop, delta=delta, p={"no drop": p}, marginal="no drop", n=n)


def critical_word(found: PositionEffects, *, n: int, claimed: Sequence[int] | None = None) -> Verdict:
    """Is a position (of the claimed ones) critical? The contrast of the strongest candidate decides, Cochran's Q beside it."""
    candidates = range(len(found.drops)) if claimed is None else claimed
    best = max(candidates, key=lambda t: found.contrasts[t].value)
    p = {"equal positions": found.contrast_p[best], "no drop": found.drop_p[best]}
    verdict = sound_verdict(found.contrasts[best], delta=CONTRAST_FLOOR, p=p, marginal="equal positions", n=n)
    word = verdict.word
    if word is Validity.SUPPORTED and best not in found.critical:  # Q does not reject, or the drop alone is below its floor
        word = Validity.UNDERPOWERED
    return Verdict(word, f"latent {best}: {verdict.why}; Cochran's Q p = {found.q_p:.2g}", verdict.fragile, verdict.decide)


def none_word(found: PositionEffects, *, n: int) -> Verdict:
    """Is no position critical? By the simultaneous upper bounds of the contrasts."""
    se = max((c.high - c.low) / (2 * Z95) for c in found.contrasts)
    return none_stands_out(found.upper, margin=CONTRAST_FLOOR, deviates=bool(found.critical), n=n, se=se)
