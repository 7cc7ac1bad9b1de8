"""Assess a user's probes: the number as published, its null, the held-out number, the word, and the n that decides.

`audits.probes`, which audits the probes of claims, measures. This module adds the published protocol with its own null, the
comparison with the model's confidence, and the words of docs/verdicts.md, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from codi_bench.audits.confidence import OverConfidence
from codi_bench.audits.probe_arrays import NAMES, ProbeArrays, checked_arrays
from codi_bench.audits.probes import AUC_FLOOR, ProbeAudit, audit_probes, exists_word
from codi_bench.errors import InputError, MeasureError, arguments
from codi_bench.measures.grid import KERNELS, Probe, ProbeGrid
from codi_bench.measures.pipeline import penalties
from codi_bench.measures.surface import added_auc, held_out, standardised
from codi_bench.rules.intervals import auc_of_labels, fold_auc
from codi_bench.rules.p_values import p_above, permutation_p
from codi_bench.rules.stats import Estimate
from codi_bench.rules.validity import Validity, Verdict, passes, protocol_artefact

SCHEMA, OK, BLOCKED = 1, "ok", "blocked"
FEWEST_PERMUTATIONS = 99  # with fewer no p can be 0.01, the level at which a protocol makes its own number
NO_SURFACE = "No surface was given, so the probes may only read how difficult a problem is."


@dataclass(frozen=True)
class Band:
    """The result with permuted labels: mean and 95 % band of the draws, and the permutation p of the observed number."""

    value: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, observed: float, draws: np.ndarray) -> Band:
        low, high = np.quantile(draws, [0.025, 0.975])
        return cls(float(draws.mean()), float(low), float(high), permutation_p(observed, draws))


@dataclass(frozen=True)
class InSample:
    """An accuracy on the problems that the probes were fitted to, the same with permuted labels, and the word (section 3).

    artefact: the protocol makes the number itself; otherwise the word is that of the held-out row.
    """

    value: float
    null: Band
    artefact: bool
    verdict: Verdict


@dataclass(frozen=True)
class Published:
    """The numbers as they would be published: the mean over cells, and the best cell, with its index `cell` (from 0)."""

    mean: InSample
    best: InSample
    cell: int


@dataclass(frozen=True)
class HeldOut:
    """accuracy, auc: of the cell chosen inside the outer folds. auc_null: best AUC with permuted labels; p of the grid.

    cell: the best one, None if none can be named. p: by null, corrected over the cells. added: AUC over the strictest null.
    surface_auc: of the surface alone.
    """

    accuracy: Estimate
    auc: Estimate
    auc_null: Band
    cell: int | None
    p: dict[str, float]
    added: Estimate
    surface_auc: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Confidence:
    """AUC of the model's own confidence, and the AUC that the probes add to it with the verdict on that gain."""

    auc: Estimate
    gain: Estimate
    p: float
    verdict: Verdict


@dataclass(frozen=True)
class ProbeAssessment:
    """n: problems, or groups if given; ones: rows with the label 1. A blocked assessment has a reason and no numbers."""

    source: str
    n: int
    rows: int
    ones: int
    cells: int
    width: int
    probe: str
    folds: int
    permutations: int
    seed: int
    reason: str = ""
    published: Published | None = None
    held_out: HeldOut | None = None
    confidence: Confidence | None = None

    @property
    def status(self) -> str:
        return BLOCKED if self.held_out is None else OK

    @property
    def word(self) -> Validity | None:
        """The held-out word; ARTEFACT if it is not SUPPORTED and the published protocol makes the best cell's number itself."""
        if self.published is None or self.held_out is None:
            return None
        word = self.held_out.verdict.word
        return Validity.ARTEFACT if self.published.best.artefact and word is not Validity.SUPPORTED else word

    @property
    def decide(self) -> int | None:
        """The number of problems that would decide an UNDERPOWERED held-out row."""
        return None if self.held_out is None else self.held_out.verdict.decide

    @property
    def sentence(self) -> str:
        """The result in plain words."""
        if self.published is None or self.held_out is None:
            return f"The probes cannot be judged: {self.reason}."
        parts = [_held_out_sentence(self.held_out, "problems" if self.n == self.rows else "groups")]
        if self.published.best.artefact:
            value, null = self.published.best.value, self.published.best.null.value
            same = f"fitted to permuted labels, the same probes read {100 * null:.1f} %"
            parts.insert(0, f"The {100 * value:.1f} % in sample are no evidence: {same}.")
        if self.held_out.surface_auc is None:
            parts.append(NO_SURFACE)
        if self.confidence is not None:
            more = (
                "predict more than"
                if self.confidence.verdict.word is Validity.SUPPORTED
                else "are not shown to predict more than"
            )
            parts.append(f"The probes {more} the model's own confidence.")
        return " ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON; `codi_bench.audits.public` says what the keys are."""
        summary = {"status": self.status, "word": self.word, "sentence": self.sentence, "decide": self.decide}
        return {"schema": SCHEMA, "kind": "probes", **summary, **asdict(self)}

    def __str__(self) -> str:
        from codi_bench.audits.assessment_text import probe_text

        return probe_text(self)


def probes(
    activations: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    surface: ArrayLike | None = None,
    confidence: ArrayLike | None = None,
    permutations: int = 1000,
    seed: int = 0,
    probe: Probe = "ridge",
    Cs: Sequence[float] | None = None,
    folds: int = 5,
    workers: int | None = None,
    source: str = "arrays",
    progress: Callable[[str], object] | None = None,
) -> ProbeAssessment:
    """Assess linear probes: do they read these labels from these activations, and is their in-sample accuracy evidence?

    activations [n, cells, d] or [n, d]; labels [n], 0 or 1; groups [n]: variants of one problem, never divided, then n counts
    groups; surface [n] or [n, columns]: numbers that the question shows (steps, length), held fixed in a second null; confidence
    [n] or [n, columns]: the model's own in its answers. probe: "ridge", or "logistic" as the first study had it (slow); Cs: as in
    `measures.probe_grid`. workers: threads, which change no result. progress: called with the name of each computation.
    Raises InputError, naming array and row, and what to do.
    """
    permutations = arguments.whole("permutations", permutations, FEWEST_PERMUTATIONS, arguments.PERMUTATIONS)
    folds, seed = arguments.whole("folds", folds, 2), arguments.seed(seed, arguments.FOLD_SEED)
    arguments.choice("probe", probe, KERNELS, error=InputError)
    arguments.text("source", source)
    if Cs is not None:
        Cs = _penalties(Cs)
    if workers is not None:
        arguments.whole("workers", workers)
    if progress is not None:
        arguments.function("progress", progress)
    values = (activations, labels, groups, surface, confidence)
    arrays = checked_arrays(dict(zip(NAMES, values, strict=True)), folds=folds)
    (rows, cells, width), ones = arrays.activations.shape, int(arrays.labels.sum())
    shape = (arrays.num_groups, rows, ones, cells, width)
    assessment = partial(ProbeAssessment, source, *shape, probe, folds, permutations, seed)
    try:
        audit = audit_probes(
            arrays.activations,
            arrays.labels,
            surface=arrays.surface,
            groups=arrays.groups,
            permutations=permutations,
            seed=seed,
            probe=probe,
            Cs=Cs,
            folds=folds,
            workers=workers,
            run=partial(_with_in_sample, progress or (lambda text: None)),
        )
        verdict = exists_word(audit)
        return assessment(
            published=_published(audit, arrays.labels, verdict),
            held_out=_held_out(audit, verdict),
            confidence=None if arrays.confidence is None else _over_confidence(audit, arrays, arrays.confidence),
        )
    except MeasureError as error:  # a control fails, or the surface leaves nothing to be tested
        return assessment(reason=str(error))


def _penalties(Cs: Sequence[float]) -> tuple[float, ...]:
    try:
        return penalties(Cs)
    except MeasureError as error:
        raise InputError(str(error)) from error


def _with_in_sample(progress: Callable[[str], object], kind: type, function: Any, /, *arguments: Any, **settings: Any) -> Any:
    """Like `store.memo.uncached`, but grids of probes also get their in-sample accuracies, for every permutation too."""
    in_grid = kind is ProbeGrid
    progress("probes and permuted labels" if in_grid else "labels drawn from the surface")
    return function(*arguments, **(settings | {"in_sample_null": True} if in_grid else settings))


def _published(audit: ProbeAudit, labels: np.ndarray, sound: Verdict) -> Published:
    """In-sample accuracies and their words; nominal is the share of the larger class."""
    accuracy, draws = audit.grid.in_sample_accuracy, audit.grid.null_in_sample
    assert accuracy is not None and draws is not None  # asked for by _with_in_sample
    nominal = float(max(labels.mean(), 1 - labels.mean()))

    def number(value: float, null_draws: np.ndarray) -> InSample:
        null = Band.of(value, null_draws)
        verdict = protocol_artefact(value, null_mean=null.value, nominal=nominal, p_null=null.p, permutations=audit.permutations)
        return InSample(value, null, verdict is not None, verdict or sound)

    mean, best = number(float(accuracy.mean()), draws.mean(1)), number(float(accuracy.max()), draws.max(1))
    return Published(mean, best, int(accuracy.argmax()))


def _held_out(audit: ProbeAudit, verdict: Verdict) -> HeldOut:
    draws = audit.grid.null_auc.max(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return HeldOut(
        accuracy=audit.best_accuracy,
        auc=audit.best_auc,
        auc_null=Band(float(draws.mean()), float(low), float(high), audit.grid.p_value_any_auc),
        cell=audit.best if passes(float(audit.grid.p_value_max_auc[audit.best])) else None,
        p=audit.p,
        added=audit.added,
        surface_auc=audit.surface_auc,
        verdict=verdict,
    )


def _over_confidence(audit: ProbeAudit, arrays: ProbeArrays, confidence: np.ndarray) -> Confidence:
    """Cross-fitted logistic regression on confidence and score against the same on confidence alone; floor 0.03 (section 6)."""
    labels, fold = arrays.labels, audit.grid.fold
    columns = standardised(confidence, np.zeros(len(labels), int))
    auc, variance = fold_auc(held_out(columns, labels, fold), labels, fold)
    # Permuted groups tell what groups add to the variance of an AUC; without them DeLong's own is that of fixed scores.
    phi = 1.0 if arrays.groups is None else audit.phi_auc
    gain, _ = added_auc(audit.ranked.score, labels, columns, fold, phi=audit.phi_auc)
    over = OverConfidence(auc_of_labels(auc, variance, labels, phi), gain, p_above(gain))
    return Confidence(over.alone, over.gain, over.p, over.word(over.p, n=audit.n))


def _held_out_sentence(held_out: HeldOut, unit: str) -> str:
    auc, verdict = f"AUC {held_out.auc.value:.2f}", held_out.verdict
    if verdict.word is Validity.SUPPORTED:
        where = "" if held_out.cell is None else f", best at cell {held_out.cell}"
        beyond = "" if held_out.surface_auc is None else ", beyond what the surface explains"
        return f"On held-out {unit} the probes predict the labels{beyond} ({auc}{where})."
    if verdict.word is Validity.ARTEFACT:
        return f"On held-out {unit} the probes predict the labels ({auc}), but the surface explains that."
    if verdict.word is Validity.REFUTED:
        assert held_out.added.high is not None  # no word without this bound
        most = max(0.0, held_out.added.high)
        return f"On held-out {unit} they add at most {most:.2f} of AUC; less than {AUC_FLOOR:.2f} does not count."
    if verdict.decide is None:
        return (
            f"On held-out {unit} ({auc}) the result is undecided, and more of them need not decide: the effect lies near a bound."
        )
    return f"On held-out {unit} ({auc}) the result is undecided: at least {verdict.decide} would decide."
