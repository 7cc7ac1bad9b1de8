"""Probes on planted activations: the study's protocol on noise, and how often the sound protocol's words are wrong."""

from __future__ import annotations

from functools import cache

import numpy as np

from benchmarks.calibration import planted
from codi_bench.audits.probes import ProbeAudit, audit_probes, exists_word, spread_of
from codi_bench.measures.grid import Probe, in_sample_split, permuted_labels, scores
from codi_bench.rules.intervals import cv_accuracy, cv_auc, heterogeneity
from codi_bench.rules.validity import NULL_LEVEL, protocol_artefact

STAGES = (10, 40)  # permutations


# --- the study's protocol on noise -------------------------------------------------------------------------------------


def in_sample(rng, *, n, cells, d, decay, folds, study_seed, permutations) -> dict:
    """The study's number on noise, and the word of its row; mean over cells, fits in float32.

    The word depends on p only through p > 0.01. So permutations come in stages, and end where no further one can change it.
    """
    made, seed = planted.noise(rng, n=n, cells=cells, d=d, decay=decay), int(rng.integers(2**31))
    columns = in_sample_columns(made.labels, folds=folds, seed=study_seed, permutations=permutations, null_seed=seed)
    whole = in_sample_split(made.labels, folds=folds, seed=study_seed)
    grid, read = [made.activations[:, cell] for cell in range(cells)], np.empty(0)
    for stage in (*STAGES, permutations):
        todo = columns[:, len(read) : 1 + stage]
        score = scores(grid, todo, [whole], probe="logistic", loose=True, workers=1).score  # [n, todo, cells]
        read = np.r_[read, ((score > 0) == todo[:, :, None]).mean((0, 2))]
        measured, null = read[0], read[1:]
        p = (1 + (null >= measured).sum()) / (permutations + 1)  # of all permutations, if no other one came up to measured
        if p > NULL_LEVEL:
            break
    verdict = protocol_artefact(measured, null_mean=null.mean(), nominal=0.5, p_null=p, permutations=permutations)
    word = "no word" if verdict is None else str(verdict.word)
    return {"word": word, "reads": float(measured), "null": float(null.mean()), "fitted": len(null)}


def in_sample_columns(labels, *, folds: int, seed: int, permutations: int, null_seed: int) -> np.ndarray:
    """The labels, and beside them the permutations that `in_sample_null` would fit: bool [n, 1 + permutations]."""
    fold = np.empty(len(labels), int)
    for k, (_, test) in enumerate(in_sample_split(labels, folds=folds, seed=seed).inner):
        fold[test] = k
    return np.column_stack([labels, permuted_labels(labels, fold, permutations=permutations, seed=null_seed).T])


# --- the sound protocol ------------------------------------------------------------------------------------------------


def audited(make, rng, *, permutations, folds, probe, Cs, grouped=True, look=0, **settings) -> dict:
    """One audit of planted data: the word of `exists`, the cell it names, and numbers and intervals of the cell `look`."""
    made = make(rng, **{key: value for key, value in settings.items() if key != "target"})
    audit = audit_probes(
        made.activations,
        made.labels,
        surface=made.surface,
        groups=made.groups if grouped else None,
        permutations=permutations,
        seed=int(rng.integers(2**31)),
        probe=probe,
        Cs=Cs,
        folds=folds,
        workers=1,
    )
    return {"word": str(exists_word(audit).word), "named": audit.best, "spread": spread_of(audit)[1].word} | _numbers(audit, look)


def _numbers(audit: ProbeAudit, look: int) -> dict:
    smaller = len(audit.correct) // 2
    auc, variance = float(audit.grid.held_out_auc[look]), float(audit.grid.auc_variance[look])
    found = {
        "accuracy": cv_accuracy(float(audit.correct[:, look].mean()), audit.n, audit.phi),
        "AUC": cv_auc(auc, variance, audit.phi_auc, smaller_class=smaller),
        "tau": heterogeneity(audit.correct, audit.phi).tau,
        "mean": audit.mean,
    }
    numbers = {"phi": audit.phi, "phi_auc": audit.phi_auc, "auc": auc, "cells": audit.correct.mean(0).tolist()}
    return numbers | {name: [one.value, one.low, one.high] for name, one in found.items()}


def noise(rng, **settings) -> dict:
    return audited(planted.noise, rng, **settings)


def surface_only(rng, **settings) -> dict:
    return audited(planted.surface_only, rng, **settings)


def leaking(rng, **settings) -> dict:
    return audited(planted.leaking, rng, **settings)


def signal(rng, **settings) -> dict:
    return audited(planted.signal, rng, look=settings["where"] or 0, **settings)


def spread(rng, **settings) -> dict:
    row = signal(rng, **settings)
    return row | {"word": row["spread"]}


@cache
def _shift(target: float, n: int, d: int, folds: int, probe: Probe, Cs: tuple[float, ...]) -> float:
    return planted.shift_for_auc(target, n, d, folds=folds, probe=probe, Cs=Cs)


def with_shift(settings: dict) -> dict:
    """`target`, an attained held-out AUC, where there is one, as the shift that attains it under the settings of the audit."""
    if "target" not in settings:
        return settings
    keys = ("target", "n", "d", "folds", "probe")
    return settings | {"shift": _shift(*(settings[key] for key in keys), tuple(settings["Cs"]))}
