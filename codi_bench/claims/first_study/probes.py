"""The first study: linear probes for right and wrong, and how evenly what they read is spread over cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from codi_bench.audits import probes as probing
from codi_bench.audits.probes import ProbeAudit
from codi_bench.claims import runs
from codi_bench.claims.blocks import confidence_rows, effect_over, one_more_test
from codi_bench.claims.claim import (
    SEED,
    Bench,
    Measured,
    Null,
    Protocols,
    Published,
    claim,
    measured,
    once,
    points,
    without_word,
)
from codi_bench.claims.families import FAMILIES
from codi_bench.claims.first_study import (
    GPT2,
    NO_BOUND,
    NO_INTERVAL,
    NUM_PROBLEMS,
    SOURCE,
    by_sentence,
    captured,
    logistic_permutations,
    places,
    script,
)
from codi_bench.measures import InSampleProbes, balanced_sample, grid_summary, in_sample_probes, spread
from codi_bench.measures.grid import in_sample_null
from codi_bench.rules.p_values import permutation_p
from codi_bench.rules.stats import Estimate, bootstrap_mean, stream
from codi_bench.rules.validity import HETEROGENEOUS, SpreadWord, Validity, Verdict, passes

PER_CLASS, NUM_PROBED = 50, FAMILIES["probes"].n
CHANCE = 0.5  # of a balanced sample
SEEDS = {"folds": 42, "sample": 42}
PROTOCOL = (
    "50 right and 50 wrong problems; three layers x six tokens (bot, latents 0-4); per cell StandardScaler on all 100, "
    "LogisticRegressionCV over six C, then the accuracy on the same 100: no problem is held out"
)
SOUND = (
    f"all latents fed, the same cells, first {NUM_PROBED} problems; ridge on +1 and -1; nested five folds that divide no group "
    "(scaling and penalty inside); labels permuted within folds through the whole pipeline; labels drawn from the surface "
    "alone; max-statistic over cells; AUC tested"
)
SOUND_SPREAD = (
    "tau over the held-out cells beyond sampling error (Q with cross-validation's inflation of the variance), against 0"
)
PROBES: dict[str, Any] = {"family": "probes", "n": NUM_PROBED, "protocol": PROTOCOL, "sound": SOUND, "seeds": SEEDS}


@dataclass(frozen=True, eq=False)
class Probed:
    """In-sample probes over layers x tokens, and their null.

    accuracy [layers, tokens], correct bool [100, layers x tokens]; null [permutations, layers, tokens]: accuracy of the same
    protocol on permuted labels.
    """

    accuracy: np.ndarray
    correct: np.ndarray
    null: np.ndarray


@once
def in_sample(bench: Bench) -> Probed:
    """The study's probes and their null."""
    capture, layers = captured(bench, NUM_PROBLEMS), bench.model.layers
    shuffle = script(bench) == GPT2  # the LLaMA script did not
    sample = balanced_sample(capture.right, per_class=PER_CLASS, seed=SEEDS["sample"] + bench.seed, shuffle=shuffle)
    cells, right = capture.cells(sample, len(places(bench)), layers), capture.right[sample]
    seed, groups = SEEDS["folds"] + bench.seed, [capture.problems[i].group for i in sample]
    fit = bench.cached(InSampleProbes, in_sample_probes, cells, right, seed=seed)
    null = bench.cached(
        np.ndarray, in_sample_null, cells, right, groups=groups, permutations=logistic_permutations(bench), seed=seed
    )
    shape = (len(layers), -1)
    return Probed(fit.accuracy.reshape(shape), fit.correct, null.reshape(len(null), *shape))


@once
def held_out(bench: Bench) -> ProbeAudit:
    """The audit of the study's cells: layers x (bot, latents 0..4), in the order of its grid."""
    capture, layers, tokens = runs.captured(bench), bench.model.layers, len(places(bench))
    n = len(bench.problems.sample(NUM_PROBED))
    return probing.audit_probes(
        capture.cells(slice(n), tokens, layers),
        capture.right[:n],
        surface=capture.surface(n),
        groups=[p.group for p in capture.problems[:n]],
        bot=np.arange(len(layers)) * tokens,
        confidence=capture.confidence[:n],
        permutations=bench.permutations,
        seed=SEED + bench.seed,
        device=bench.model.device,
        run=bench.cached,
    )


def against(value: float, draws: ArrayLike, nominal: float) -> dict[str, Any]:
    """`null` and `nominal` of a measured value, from the values [permutations] that permuted labels give."""
    return {"null": Null.of(draws, permutation_p(value, draws)), "nominal": float(nominal)}


def grid(bench: Bench, cells: np.ndarray) -> np.ndarray:
    """What cells have, as [layers, tokens]."""
    return np.asarray(cells).reshape(len(bench.model.layers), len(places(bench)))


def accuracy_word(audit: ProbeAudit, accuracy: Estimate, published: Published, metric: str, **how: Any) -> Verdict:
    """Is held-out accuracy above chance, by half of what was published?"""
    delta = effect_over(published, metric, CHANCE, probing.ACCURACY_FLOOR)
    return probing.accuracy_word(audit, accuracy, delta=delta, **how)


@claim("probe-accuracy", f"{SOURCE}, §1", kind="value", **PROBES)
def probe_accuracy(bench: Bench, published: Published) -> Protocols:
    """Linear probes on the thoughts tell right from wrong answers, on average over cells."""
    probes, where = in_sample(bench), {"layers": list(bench.model.layers), "latent_pos": list(places(bench))}
    summary, n, null = grid_summary(probes.accuracy), len(probes.correct), probes.null.mean((1, 2))
    mean = bootstrap_mean(probes.correct, rng=stream(0, "probe-accuracy"))
    std, no_interval = 100 * summary.std, {"no_interval": NO_INTERVAL}
    detail = {"grid": probes.accuracy.tolist(), **where, "null_mean": null.tolist()}
    yield [
        measured("mean", Estimate(summary.mean, mean.low, mean.high), n, detail=detail, **against(summary.mean, null, CHANCE)),
        measured("std", std, n, "points", detail=no_interval, **against(std, 100 * probes.null.std((1, 2)), 0)),
    ]
    audit = held_out(bench)
    cells, draws = grid(bench, audit.grid.held_out_accuracy), audit.grid.null_held_out
    word = accuracy_word(audit, audit.mean, published, "mean")
    assert audit.conditional is not None  # the surface is given
    detail = {
        "grid": cells.tolist(),
        "auc": grid(bench, audit.grid.held_out_auc).tolist(),
        "p_value_max_auc": grid(bench, audit.grid.p_value_max_auc).tolist(),
        "p_conditional": grid(bench, audit.conditional.p_value_max).tolist(),
        **where,
        "null_mean": draws.mean(1).tolist(),
        "phi": audit.phi,
        "phi_auc": audit.phi_auc,
        "note": difficulty(audit),
    }
    no_word = without_word("see spread: tau")
    yield [
        measured("mean", audit.mean, audit.n, detail=detail, null=Null.of(draws.mean(1)), verdict=word),
        measured("std", 100 * cells.std(), audit.n, "points", detail=no_word, null=Null.of(100 * draws.std(1))),
    ]


def difficulty(audit: ProbeAudit) -> str:
    """A correctness probe may read how hard a problem is: of the thoughts only what bot does not tell already."""
    assert audit.beyond_bot is not None  # the cells at bot are named
    p = audit.beyond_bot.p_value_any
    return f"of the thoughts, beyond surface and bot: p = {p:.2g}" + ("" if passes(p) else ", so not shown")


@claim("probe-range", f"{SOURCE}, §1", kind="value", **PROBES)
def probe_range(bench: Bench, published: Published) -> Protocols:
    """Probe accuracy over the cells runs from this minimum to this maximum."""
    probes, why = in_sample(bench), {"no_interval": NO_INTERVAL}
    summary, n, null = grid_summary(probes.accuracy), len(probes.correct), probes.null
    yield [
        measured("min", summary.min, n, detail=why, **against(summary.min, null.min((1, 2)), CHANCE)),
        measured("max", summary.max, n, detail=why, **against(summary.max, null.max((1, 2)), CHANCE)),
    ]
    audit = held_out(bench)
    cells, draws = audit.grid.held_out_accuracy, audit.grid.null_held_out
    word = accuracy_word(audit, audit.best_accuracy, published, "max", cells=len(cells))
    detail = {"no_interval": NO_BOUND, "validity_of": "the cell chosen inside the outer folds"}
    yield [
        measured("min", float(cells.min()), audit.n, detail=without_word(NO_BOUND), null=Null.of(draws.min(1))),
        measured("max", float(cells.max()), audit.n, detail=detail, null=Null.of(draws.max(1)), verdict=word),
    ]


@claim("probe-best", f"{SOURCE}, §1", kind="location", compared="auc", **PROBES)
def probe_best(bench: Bench, published: Published) -> Protocols:
    """One cell of layer and token is the best for a probe."""
    probes, layers = in_sample(bench), bench.model.layers
    layer, token = grid_summary(probes.accuracy).best  # the first of equals
    cell, value = {"layer": layers[layer], "latent_pos": places(bench)[token]}, float(probes.accuracy[layer, token])
    null = against(value, probes.null.max((1, 2)), CHANCE)
    yield [measured("accuracy", value, len(probes.correct), cell=cell, detail={"no_interval": NO_INTERVAL}, **null)]
    audit = held_out(bench)
    layer, token = divmod(audit.best, len(places(bench)))
    shown = passes(audit.grid.p_value_max_auc[audit.best])  # else no cell can be named
    best = {"layer": layers[layer], "latent_pos": places(bench)[token]} if shown else None
    word = accuracy_word(audit, audit.best_accuracy, published, "accuracy", cells=audit.correct.shape[1])
    null_accuracy = Null.of(audit.grid.null_held_out.max(1))
    null_auc = Null.of(audit.grid.null_auc.max(1), audit.grid.p_value_any_auc)
    detail = {"added_auc": audit.added.value, "surface_auc": audit.surface_auc}
    exists, beyond = probing.exists_word(audit), audit.over_confidence
    assert beyond is not None  # the confidence is given
    yield [
        measured("accuracy", audit.best_accuracy, audit.n, cell=best, null=null_accuracy, verdict=word),
        measured("auc", audit.best_auc, audit.n, cell=best, ranked=audit.ranked, detail=detail, null=null_auc, verdict=exists),
        *confidence_rows(beyond, one_more_test("probes", beyond.p), audit.n),
    ]


@claim("probe-by-layer", f"{SOURCE}, §5", kind="value", **PROBES)
def probe_by_layer(bench: Bench, published: Published) -> Protocols:
    """Probe accuracy differs by layer (GPT-2) or hardly does (LLaMA)."""
    probes, layers, rows = in_sample(bench), bench.model.layers, []
    correct = probes.correct.reshape(len(probes.correct), *probes.accuracy.shape)
    for i, layer in enumerate(layers):
        mean = bootstrap_mean(correct[:, i], rng=stream(0, "probe-by-layer", str(layer)))
        null = against(mean.value, probes.null[:, i].mean(1), CHANCE)
        rows.append(measured(f"mean_L{layer}", mean, len(correct), cell={"layer": layer, "latent_pos": None}, **null))
    yield rows
    yield [layer_mean(bench, held_out(bench), i, published) for i in range(len(layers))]


def layer_mean(bench: Bench, audit: ProbeAudit, i: int, published: Published) -> Measured:
    """Mean held-out accuracy over the positions of a layer; the test is the grid's max-statistic over that layer's cells."""
    layer, shape = bench.model.layers[i], (len(bench.model.layers), len(places(bench)))
    correct, draws = (array.reshape(-1, *shape)[:, i] for array in (audit.correct, audit.grid.null_held_out))
    groups = [p.group for p in runs.captured(bench).problems[: len(correct)]]
    mean = bootstrap_mean(correct, rng=stream(SEED + bench.seed, "probe-by-layer", str(layer)), groups=groups, phi=audit.phi)
    assert audit.conditional is not None  # the surface is given
    p_labels, p_surface = (grid(bench, p)[i] for p in (audit.grid.p_value_max_auc, audit.conditional.p_value_max))
    p = {probing.LABELS: float(p_labels.min()), probing.SURFACE: float(p_surface.min())}
    word = accuracy_word(audit, mean, published, f"mean_L{layer}", p=p)
    cell = {"layer": layer, "latent_pos": None}
    return measured(f"mean_L{layer}", mean, audit.n, cell=cell, null=Null.of(draws.mean(1)), verdict=word)


@claim(
    "spread",
    f"{SOURCE}, §5",
    family="spread",
    kind="even",
    n=NUM_PROBED,
    protocol=PROTOCOL,
    sound=SOUND_SPREAD,
    seeds=SEEDS,
    compared="tau",
)
def encoding_spread(bench: Bench, published: Published) -> Protocols:
    """Information is concentrated in few cells (GPT-2) or spread evenly (LLaMA)."""
    probes, why = in_sample(bench), {"no_interval": NO_INTERVAL}
    summary, n, null = spread(probes.accuracy), len(probes.correct), [spread(cells) for cells in probes.null]
    rows = []
    for name, unit in {"std": "points", "range": "points", "evenness": "fraction"}.items():
        value = getattr(summary, name)
        rows.append(measured(name, value, n, unit, detail=why, **against(value, [getattr(draw, name) for draw in null], 0)))
    yield rows
    audit = held_out(bench)
    dispersion, word = probing.spread_of(audit)
    draws, cells = audit.grid.null_held_out, audit.grid.held_out_accuracy
    summary = spread(grid(bench, cells), chance=min(audit.q, float(cells.max()) - 1e-9))
    no_word = without_word("see tau: spreads of measured cells hold sampling error")
    sampling, sentences = Null(100 * float(np.sqrt(dispersion.variance))), by_sentence(bench, "tau")
    words = {name: spread_verdict(name, word, dispersion.p) for name in sentences}
    tau: dict[str, Any] = {"n": audit.n, "detail": {"note": f"spread: {word.word}"}, "null": Null(0.0, p=dispersion.p)}
    yield [
        measured("std", summary.std, audit.n, "points", detail=no_word | {"null": "sampling error alone"}, null=sampling),
        measured("range", summary.range, audit.n, "points", detail=no_word, null=Null.of(100 * np.ptp(draws, axis=1))),
        measured("evenness", summary.evenness, audit.n, detail=no_word),
        *(points(metric, dispersion.tau, verdict=words[name], **tau) for name, metric in sentences.items()),
    ]


def spread_verdict(published_model: str, spread_word: SpreadWord, q_p: float) -> Verdict:
    """GPT-2's claim is `concentrated`, LLaMA's `even`; the other one of the two refutes it, for `even` any heterogeneity does."""
    claimed = "concentrated" if published_model == GPT2 else "even"

    def validity(word: str) -> Validity:
        if word == claimed:
            return Validity.SUPPORTED
        refuted = word == "even" if claimed == "concentrated" else q_p <= HETEROGENEOUS
        return Validity.REFUTED if refuted else Validity.UNDERPOWERED

    word, why = validity(spread_word.word), f"{spread_word.word}, claimed {claimed}: {spread_word.why}"
    fragile = any(validity(alternative) != word for alternative in spread_word.others)
    if word is not Validity.UNDERPOWERED or spread_word.decide is None:
        return Verdict(word, why, fragile)
    return Verdict(word, f"{why}: at least {spread_word.decide} problems would decide", fragile, spread_word.decide)
