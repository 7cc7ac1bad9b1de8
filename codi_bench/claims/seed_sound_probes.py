"""Task accuracy, probes and spread as they should have been measured: all latents, held-out groups, two nulls.

Each function gives the claim's metrics (and further ones) with their verdicts. `reported` holds the published values of the
source's own models, of which half the effect must at least be there; other models have the family's floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codi_bench.audits import probes as probing
from codi_bench.audits.probes import ProbeAudit
from codi_bench.claims import seed_reported
from codi_bench.claims.claim import Bench, Captured, Measured, Null
from codi_bench.claims.seed_reported import places
from codi_bench.claims.seed_sound import (
    ACCURACY_FLOOR,
    DEFAULT_PERMUTATIONS,
    NO_BOUND,
    NUM_PROBED,
    PROBE_CS,
    SEED,
    as_points,
    captured,
    effect_over,
    ends,
    surface,
    without_word,
)
from codi_bench.measures.spread import spread
from codi_bench.rules.stats import Estimate, bootstrap_mean, mcnemar_exact, newcombe_paired, stream, wilson
from codi_bench.rules.validity import HETEROGENEOUS, SpreadWord, Validity, Verdict, passes, sound_verdict


def probes(bench: Bench) -> ProbeAudit:
    """The audit of the study's cells: layers x (bot, latents 0..4), in the order of its grid."""

    def compute():
        capture = captured(bench)
        n = min(NUM_PROBED, len(capture.right))
        tokens = len(places(bench))
        return probing.audit_probes(
            capture.cells(slice(n), tokens, bench.layers),
            capture.right[:n],
            surface=surface(capture, n),
            groups=[p.group for p in capture.problems[:n]],
            bot=np.arange(len(bench.layers)) * tokens if bench.permutations > DEFAULT_PERMUTATIONS else None,
            permutations=bench.permutations,
            seed=SEED + bench.seed,
            Cs=PROBE_CS,
            device=bench.device,
            kept=bench.kept,
        )

    return bench.once("sound probes", compute)


def task_accuracy(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Share right with all latents, against always giving the most frequent answer."""
    capture = captured(bench)
    golds = [p.answer for p in capture.problems]
    common = max(sorted(set(golds)), key=golds.count)
    constant = np.array([gold == common for gold in golds])
    rate, n = wilson(capture.right.sum(), len(capture.right)), len(capture.right)
    p = mcnemar_exact(capture.right, constant, "greater")
    delta = effect_over(reported, "accuracy", float(constant.mean()), ACCURACY_FLOOR)
    verdict = sound_verdict(newcombe_paired(capture.right, constant), delta=delta, p={"constant": p}, marginal="constant", n=n)
    null = Null(float(constant.mean()), p=p)
    detail = {"null": f"always answering {common}", "by_steps": _by_steps(capture)}
    return [
        Measured(
            "accuracy",
            rate.value,
            n,
            "fraction",
            rate.low,
            rate.high,
            outcomes=capture.right,
            detail=detail,
            null=null,
            verdict=verdict,
        )
    ]


def probe_accuracy(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Mean held-out accuracy over the cells, and their population std beside that of permuted labels."""
    audit = probes(bench)
    grid = _grid(bench, audit.grid.held_out_accuracy)
    delta = effect_over(reported, "mean", seed_reported.CHANCE, probing.ACCURACY_FLOOR)
    verdict = probing.accuracy_word(audit, audit.mean, delta=delta)
    assert audit.conditional is not None  # the surface is given
    draws = audit.grid.null_held_out
    detail = {
        "grid": grid.tolist(),
        "auc": _grid(bench, audit.grid.held_out_auc).tolist(),
        "p_value_max_auc": _grid(bench, audit.grid.p_value_max_auc).tolist(),
        "p_conditional": _grid(bench, audit.conditional.p_value_max).tolist(),
        "layers": list(bench.layers),
        "latent_pos": list(places(bench)),
        "null_mean": draws.mean(1).tolist(),
        "phi": audit.phi,
        "phi_auc": audit.phi_auc,
        "note": _difficulty(audit),
    }
    std, mean = 100 * grid.std(), audit.mean
    return [
        Measured(
            "mean",
            mean.value,
            audit.n,
            "fraction",
            mean.low,
            mean.high,
            detail=detail,
            null=Null.of(draws.mean(1)),
            verdict=verdict,
        ),
        Measured("std", std, audit.n, "points", detail=without_word("see spread: tau"), null=Null.of(100 * draws.std(1))),
    ]


def probe_range(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Smallest and largest held-out accuracy, and the accuracy of the cell chosen inside the outer folds."""
    audit = probes(bench)
    grid, draws = audit.grid.held_out_accuracy, audit.grid.null_held_out
    delta = effect_over(reported, "max", seed_reported.CHANCE, probing.ACCURACY_FLOOR)
    verdict = probing.accuracy_word(audit, audit.best_accuracy, delta=delta, cells=len(grid))
    detail = {"no_interval": NO_BOUND, "validity_of": "the cell chosen inside the outer folds"}
    return [
        Measured("min", float(grid.min()), audit.n, "fraction", detail=without_word(NO_BOUND), null=Null.of(draws.min(1))),
        Measured("max", float(grid.max()), audit.n, "fraction", detail=detail, null=Null.of(draws.max(1)), verdict=verdict),
    ]


def probe_best(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The cell with the highest AUC, if its own corrected p passes; accuracy and AUC of the cell chosen inside the folds."""
    audit = probes(bench)
    significant = passes(audit.grid.p_value_max_auc[audit.best])
    layer, token = np.unravel_index(audit.best, (len(bench.layers), len(places(bench))))
    cell = {"layer": bench.layers[layer], "latent_pos": places(bench)[token]} if significant else None
    accuracy, auc = audit.best_accuracy, audit.best_auc
    delta = effect_over(reported, "accuracy", seed_reported.CHANCE, probing.ACCURACY_FLOOR)
    word = probing.accuracy_word(audit, accuracy, delta=delta, cells=audit.correct.shape[1])
    detail = {"added_auc": audit.added.value, "surface_auc": audit.surface_auc}
    return [
        Measured(
            "accuracy",
            accuracy.value,
            audit.n,
            "fraction",
            accuracy.low,
            accuracy.high,
            cell=cell,
            null=Null.of(audit.grid.null_held_out.max(1)),
            verdict=word,
        ),
        Measured(
            "auc",
            auc.value,
            audit.n,
            "fraction",
            auc.low,
            auc.high,
            cell=cell,
            ranked=audit.ranked,
            detail=detail,
            null=Null.of(audit.grid.null_auc.max(1), audit.grid.p_value_any_auc),
            verdict=probing.exists_word(audit),
        ),
    ]


def probe_by_layer(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Mean held-out accuracy over the positions of each layer; the test is the grid's max-statistic over that layer's cells."""
    audit, rows = probes(bench), []
    shape = (len(bench.layers), len(places(bench)))
    correct = audit.correct.reshape(len(audit.correct), *shape)
    draws = audit.grid.null_held_out.reshape(-1, *shape)
    p_max = audit.grid.p_value_max_auc.reshape(shape)
    assert audit.conditional is not None  # the surface is given
    p_surface = audit.conditional.p_value_max.reshape(shape)
    for i, layer in enumerate(bench.layers):
        groups = [p.group for p in captured(bench).problems[: len(correct)]]
        mean = bootstrap_mean(
            correct[:, i], rng=stream(SEED + bench.seed, "probe-by-layer", str(layer)), groups=groups, phi=audit.phi
        )
        p = {probing.LABELS: float(p_max[i].min()), probing.SURFACE: float(p_surface[i].min())}
        delta = effect_over(reported, f"mean_L{layer}", seed_reported.CHANCE, probing.ACCURACY_FLOOR)
        assert mean.low is not None and mean.high is not None
        theta = Estimate(mean.value - audit.q, mean.low - audit.q, mean.high - audit.q)
        verdict = sound_verdict(theta, delta=delta, p=p, marginal=probing.LABELS, n=audit.n, permutations=audit.permutations)
        cell, null = {"layer": layer, "latent_pos": None}, Null.of(draws[:, i].mean(1))
        rows.append(
            Measured(
                f"mean_L{layer}", mean.value, audit.n, "fraction", mean.low, mean.high, cell=cell, null=null, verdict=verdict
            )
        )
    return rows


def encoding_spread(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """tau, the spread over cells beyond sampling error, and the word for it; std, range and evenness beside their null bands."""
    audit = probes(bench)
    dispersion, spread_word = probing.spread_of(audit)
    tau = as_points(dispersion.tau)
    verdict = _spread_verdict(bench.architecture, spread_word, dispersion.p)
    draws, grid = audit.grid.null_held_out, audit.grid.held_out_accuracy
    summary = spread(_grid(bench, grid), chance=min(audit.q, float(grid.max()) - 1e-9))
    no_word = without_word("see tau: spreads of measured cells hold sampling error")
    sampling = 100 * float(np.sqrt(dispersion.variance))
    return [
        Measured("std", summary.std, audit.n, "points", detail=no_word | {"null": "sampling error alone"}, null=Null(sampling)),
        Measured("range", summary.range, audit.n, "points", detail=no_word, null=Null.of(100 * np.ptp(draws, axis=1))),
        Measured("evenness", summary.evenness, audit.n, "fraction", detail=no_word),
        Measured(
            "tau",
            *tau[:1],
            audit.n,
            "points",
            *tau[1:],
            detail={"note": f"spread: {spread_word.word}"},
            null=Null(0.0, p=dispersion.p),
            verdict=verdict,
        ),
    ]


def size(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same counts: a fact has no null."""
    return [replace(row, detail=without_word("a fact has no null")) for row in seed_reported.size(bench)]


def _grid(bench: Bench, cells: np.ndarray) -> np.ndarray:
    return np.asarray(cells).reshape(len(bench.layers), len(places(bench)))


def _by_steps(capture: Captured) -> dict[str, list]:
    """Accuracy with its interval by number of steps."""
    steps = np.array([p.num_steps for p in capture.problems])
    return {str(k): ends(wilson(capture.right[steps == k].sum(), int((steps == k).sum()))) for k in np.unique(steps).tolist()}


def _difficulty(audit: ProbeAudit) -> str:
    """A correctness probe may read how hard a problem is: of the thoughts only what bot does not tell already."""
    if audit.beyond_bot is None:
        return "whether the thoughts add to what bot tells is tested with --permutations above the default"
    p = audit.beyond_bot.p_value_any
    return f"of the thoughts, beyond surface and bot: p = {p:.2g}" + ("" if passes(p) else ", so not shown")


def _spread_verdict(architecture: str, spread_word: SpreadWord, q_p: float) -> Verdict:
    """GPT-2's claim is `concentrated`, LLaMA's `even`; the other one of the two refutes it, for `even` any heterogeneity does."""
    claim = "concentrated" if architecture == "gpt2" else "even"

    def validity(word: str) -> Validity:
        if word == claim:
            return Validity.SUPPORTED
        refuted = word == "even" if claim == "concentrated" else q_p <= HETEROGENEOUS
        return Validity.REFUTED if refuted else Validity.UNDERPOWERED

    word, why = validity(spread_word.word), f"{spread_word.word}, claimed {claim}: {spread_word.why}"
    fragile = any(validity(alternative) != word for alternative in spread_word.others)
    if word is not Validity.UNDERPOWERED or spread_word.decide is None:
        return Verdict(word, why, fragile)
    return Verdict(word, f"{why}: at least {spread_word.decide} problems would decide", fragile, spread_word.decide)
