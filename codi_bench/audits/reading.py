"""Audits of early reading: how many thoughts an answer needs, and which values the head reads in a state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from codi_bench.errors import MeasureError
from codi_bench.problems import Problem
from codi_bench.rules.stats import Z95, Estimate, mcnemar_exact, newcombe_paired, rate_of, stream
from codi_bench.rules.validity import Verdict, none_stands_out, passes, sound_verdict

ENOUGH_MARGIN = 0.05
HIT_FLOOR = 0.05
SHUFFLED = "another problem's value"


def enough_word(full: np.ndarray, early: np.ndarray, p: float, *, tests: int) -> Verdict:
    """Are this many latents enough? SUPPORTED if the loss against all of them is surely below 5 points.

    full, early: right bool [n]. p: exact McNemar of a loss, corrected; with it the loss is there, and the claim REFUTED. tests:
    how many such losses are bounded together. Says nothing of a model that has nothing to lose (`rules.controls`).
    """
    loss, bound = newcombe_paired(full, early), newcombe_paired(full, early, level=1 - 0.1 / tests).high
    se = (loss.high - loss.low) / (2 * Z95)
    deviates = passes(p) and loss.low > 0
    return none_stands_out([bound], margin=ENOUGH_MARGIN, deviates=deviates, n=len(full), se=se)


@dataclass(frozen=True)
class Hits:
    """How often the head's first word is the value of a step, and how often another problem's value, at a cell chosen before.

    place, layer: of that cell (place 0 is bot; the layer after `final_normed` is the projected thought). hit, shuffled: rates;
    gain: their difference. hits bool [n]. rate [places, layers]: of every cell.
    """

    place: int
    layer: int
    hit: Estimate
    shuffled: Estimate
    gain: Estimate
    p: float
    hits: np.ndarray
    rate: np.ndarray


def choose_cell(ranks: np.ndarray) -> tuple[int, int]:
    """The place and layer at which most words have rank 0; ranks [n, places, layers]. Ties go to the first."""
    rate = (ranks == 0).mean(axis=0)
    return cast(tuple[int, int], tuple(int(i) for i in np.unravel_index(rate.argmax(), rate.shape)))


def hits(ranks: np.ndarray, others: np.ndarray, cell: tuple[int, int]) -> Hits:
    """Count hits. ranks, others: of the own value and of another problem's, [n, places, layers]; -1: not a single id.

    Raises MeasureError if no value is a single id.
    """
    rows = (ranks[:, 0, 0] >= 0) & (others[:, 0, 0] >= 0)
    if not rows.any():
        raise MeasureError("no value of this step is a single id of this tokenizer, so the head cannot read any")
    place, layer = cell
    own_hits, other_hits = ranks[rows, place, layer] == 0, others[rows, place, layer] == 0
    return Hits(
        place,
        layer,
        rate_of(own_hits),
        rate_of(other_hits),
        newcombe_paired(own_hits, other_hits),
        mcnemar_exact(own_hits, other_hits, "greater"),
        own_hits,
        (ranks[rows] == 0).mean(axis=0),
    )


def hit_word(found: Hits, p: float) -> Verdict:
    """Is the value read there more often than another problem's, by 5 points or more? p: corrected."""
    return sound_verdict(found.gain, delta=HIT_FLOOR, p={SHUFFLED: p}, marginal=SHUFFLED, n=len(found.hits))


def readable(problems: Sequence[Problem], values: Sequence[float] | np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose value can be read, and for each the row whose value it is compared with (a permutation of the rows).

    Problems whose question has one of the two numbers are left out: a state that repeats the question would be a hit.
    """
    values, rows = np.asarray(values), np.arange(len(problems))
    partner = stream(seed, "another problem's value").permutation(rows)
    operands = [set(problem.operands) for problem in problems]
    mask = np.array([not {values[i], values[j]} & operands[i] for i, j in zip(rows, partner)], bool)
    return rows[mask], partner[mask]
