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
from codi_bench.rules.validity import HETEROGENEOUS, SpreadWord, Validity, Verdict, passes, sound


def probes(bench: Bench) -> ProbeAudit:
    """The audit of the study's cells: layers x (bot, latents 0..4), in the order of its grid."""

    def compute():
        found = captured(bench)
        n = min(NUM_PROBED, len(found.right))
        tokens = len(places(bench))
        return probing.audit_probes(
            found.cells(slice(n), tokens, bench.layers),
            found.right[:n],
            surface=surface(found, n),
            groups=[p.group for p in found.problems[:n]],
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
    found = captured(bench)
    golds = [p.answer for p in found.problems]
    common = max(sorted(set(golds)), key=golds.count)
    constant = np.array([gold == common for gold in golds])
    rate, n = wilson(found.right.sum(), len(found.right)), len(found.right)
    p = mcnemar_exact(found.right, constant, "greater")
    delta = effect_over(reported, "accuracy", float(constant.mean()), ACCURACY_FLOOR)
    verdict = sound(newcombe_paired(found.right, constant), delta=delta, p={"constant": p}, marginal="constant", n=n)
    null = Null(float(constant.mean()), p=p)
    detail = {"null": f"always answering {common}", "by_steps": _by_steps(found)}
    return [
        Measured(
            "accuracy",
            rate.value,
            n,
            "fraction",
            rate.low,
            rate.high,
            outcomes=found.right,
            detail=detail,
            null=null,
            verdict=verdict,
        )
    ]


def probe_accuracy(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Mean held-out accuracy over the cells, and their population std beside that of permuted labels."""
    found = probes(bench)
    grid = _grid(bench, found.grid.held_out_accuracy)
    delta = effect_over(reported, "mean", seed_reported.CHANCE, probing.ACCURACY_FLOOR)
    verdict = probing.accuracy_word(found, found.mean, delta=delta)
    draws = found.grid.null_held_out
    detail = {
        "grid": grid.tolist(),
        "auc": _grid(bench, found.grid.held_out_auc).tolist(),
        "p_value_max_auc": _grid(bench, found.grid.p_value_max_auc).tolist(),
        "p_conditional": _grid(bench, found.conditional.p_value_max).tolist(),
        "layers": list(bench.layers),
        "latent_pos": list(places(bench)),
        "null_mean": draws.mean(1).tolist(),
        "phi": found.phi,
        "phi_auc": found.phi_auc,
        "note": _difficulty(found),
    }
    std, mean = 100 * grid.std(), found.mean
    return [
        Measured(
            "mean",
            mean.value,
            found.n,
            "fraction",
            mean.low,
            mean.high,
            detail=detail,
            null=Null.of(draws.mean(1)),
            verdict=verdict,
        ),
        Measured("std", std, found.n, "points", detail=without_word("see spread: tau"), null=Null.of(100 * draws.std(1))),
    ]


def probe_range(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Smallest and largest held-out accuracy, and the accuracy of the cell chosen inside the outer folds."""
    found = probes(bench)
    grid, draws = found.grid.held_out_accuracy, found.grid.null_held_out
    delta = effect_over(reported, "max", seed_reported.CHANCE, probing.ACCURACY_FLOOR)
    verdict = probing.accuracy_word(found, found.best_accuracy, delta=delta, cells=len(grid))
    detail = {"no_interval": NO_BOUND, "validity_of": "the cell chosen inside the outer folds"}
    return [
        Measured("min", float(grid.min()), found.n, "fraction", detail=without_word(NO_BOUND), null=Null.of(draws.min(1))),
        Measured("max", float(grid.max()), found.n, "fraction", detail=detail, null=Null.of(draws.max(1)), verdict=verdict),
    ]


def probe_best(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The cell with the highest AUC, if its own corrected p passes; accuracy and AUC of the cell chosen inside the folds."""
    found = probes(bench)
    named = passes(found.grid.p_value_max_auc[found.best])
    layer, token = np.unravel_index(found.best, (len(bench.layers), len(places(bench))))
    cell = {"layer": bench.layers[layer], "latent_pos": places(bench)[token]} if named else None
    accuracy, auc = found.best_accuracy, found.best_auc
    delta = effect_over(reported, "accuracy", seed_reported.CHANCE, probing.ACCURACY_FLOOR)
    word = probing.accuracy_word(found, accuracy, delta=delta, cells=found.correct.shape[1])
    detail = {"added_auc": found.added.value, "surface_auc": found.surface_auc}
    return [
        Measured(
            "accuracy",
            accuracy.value,
            found.n,
            "fraction",
            accuracy.low,
            accuracy.high,
            cell=cell,
            null=Null.of(found.grid.null_held_out.max(1)),
            verdict=word,
        ),
        Measured(
            "auc",
            auc.value,
            found.n,
            "fraction",
            auc.low,
            auc.high,
            cell=cell,
            ranked=found.ranked,
            detail=detail,
            null=Null.of(found.grid.null_auc.max(1), found.grid.p_value_any_auc),
            verdict=probing.exists_word(found),
        ),
    ]


def probe_by_layer(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Mean held-out accuracy over the positions of each layer; the test is the grid's max-statistic over that layer's cells."""
    found, rows = probes(bench), []
    shape = (len(bench.layers), len(places(bench)))
    correct = found.correct.reshape(len(found.correct), *shape)
    draws = found.grid.null_held_out.reshape(-1, *shape)
    p_max = found.grid.p_value_max_auc.reshape(shape)
    p_surface = found.conditional.p_value_max.reshape(shape)
    for i, layer in enumerate(bench.layers):
        groups = [p.group for p in captured(bench).problems[: len(correct)]]
        mean = bootstrap_mean(
            correct[:, i], rng=stream(SEED + bench.seed, "probe-by-layer", str(layer)), groups=groups, phi=found.phi
        )
        p = {probing.LABELS: float(p_max[i].min()), probing.SURFACE: float(p_surface[i].min())}
        delta = effect_over(reported, f"mean_L{layer}", seed_reported.CHANCE, probing.ACCURACY_FLOOR)
        theta = Estimate(mean.value - found.q, mean.low - found.q, mean.high - found.q)
        verdict = sound(theta, delta=delta, p=p, marginal=probing.LABELS, n=found.n, permutations=found.permutations)
        cell, null = {"layer": layer, "latent_pos": None}, Null.of(draws[:, i].mean(1))
        rows.append(
            Measured(
                f"mean_L{layer}", mean.value, found.n, "fraction", mean.low, mean.high, cell=cell, null=null, verdict=verdict
            )
        )
    return rows


def encoding_spread(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """tau, the spread over cells beyond sampling error, and the word for it; std, range and evenness beside their null bands."""
    found = probes(bench)
    measured, spread_word = probing.spread_of(found)
    tau = as_points(measured.tau)
    verdict = _spread_verdict(bench.architecture, spread_word, measured.p)
    draws, grid = found.grid.null_held_out, found.grid.held_out_accuracy
    summary = spread(_grid(bench, grid), chance=min(found.q, float(grid.max()) - 1e-9))
    no_word = without_word("see tau: spreads of measured cells hold sampling error")
    sampling = 100 * float(np.sqrt(measured.variance))
    return [
        Measured("std", summary.std, found.n, "points", detail=no_word | {"null": "sampling error alone"}, null=Null(sampling)),
        Measured("range", summary.range, found.n, "points", detail=no_word, null=Null.of(100 * np.ptp(draws, axis=1))),
        Measured("evenness", summary.evenness, found.n, "fraction", detail=no_word),
        Measured(
            "tau",
            *tau[:1],
            found.n,
            "points",
            *tau[1:],
            detail={"note": f"spread: {spread_word.word}"},
            null=Null(0.0, p=measured.p),
            verdict=verdict,
        ),
    ]


def size(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same counts: a fact has no null."""
    return [replace(each, detail=without_word("a fact has no null")) for each in seed_reported.size(bench)]


def _grid(bench: Bench, cells: np.ndarray) -> np.ndarray:
    return np.asarray(cells).reshape(len(bench.layers), len(places(bench)))


def _by_steps(found: Captured) -> dict[str, list]:
    """Accuracy with its interval by number of steps."""
    steps = np.array([p.num_steps for p in found.problems])
    return {str(k): ends(wilson(found.right[steps == k].sum(), int((steps == k).sum()))) for k in np.unique(steps).tolist()}


def _difficulty(found: ProbeAudit) -> str:
    """A correctness probe may read how hard a problem is: of the thoughts only what bot does not tell already."""
    if found.beyond_bot is None:
        return "whether the thoughts add to what bot tells is tested with --permutations above the default"
    p = found.beyond_bot.p_value_any
    return f"of the thoughts, beyond surface and bot: p = {p:.2g}" + ("" if passes(p) else ", so not shown")


def _spread_verdict(architecture: str, found: SpreadWord, q_p: float) -> Verdict:
    """GPT-2's claim is `concentrated`, LLaMA's `even`; the other one of the two refutes it, for `even` any heterogeneity does."""
    claimed = "concentrated" if architecture == "gpt2" else "even"

    def validity(word: str) -> Validity:
        if word == claimed:
            return Validity.SUPPORTED
        refuted = word == "even" if claimed == "concentrated" else q_p <= HETEROGENEOUS
        return Validity.REFUTED if refuted else Validity.UNDERPOWERED

    word, why = validity(found.word), f"{found.word}, claimed {claimed}: {found.why}"
    fragile = any(validity(other) != word for other in found.others)
    if word is not Validity.UNDERPOWERED or found.decide is None:
        return Verdict(word, why, fragile)
    return Verdict(word, f"{why}: at least {found.decide} problems would decide", fragile, found.decide)
