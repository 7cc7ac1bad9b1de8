"""The first study's claims measured as they should have been: all six latents, held-out groups, nulls, one edit at a time.

Each function gives the claim's metrics (and further ones) with their verdicts. `reported` holds the published values of the
source's own models, of which half the effect is what must at least be there; other models have the family's floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codi_bench.audits import ablation as ablating
from codi_bench.audits import probes as probing
from codi_bench.audits import sae as encoding
from codi_bench.audits.ablation import CLEAN, Sweep
from codi_bench.audits.probes import ProbeAudit
from codi_bench.audits.sae import SaeAudit
from codi_bench.claims import seed_reported
from codi_bench.claims.claim import Bench, Captured, Measured, Null
from codi_bench.claims.seed_reported import SAE_PROTOCOLS, places, study_sae
from codi_bench.measures.sae import train_topk_sae
from codi_bench.measures.spread import spread
from codi_bench.measures.surface import surface_design
from codi_bench.models.edits import BOT, Edit, direct
from codi_bench.problems.features import PRIORITY, surface_table
from codi_bench.stats import Estimate, bootstrap_mean, mcnemar_exact, newcombe_paired, stream, wilson
from codi_bench.validity import HETEROGENEOUS, Validity, Verdict, half_effect, holm_p, passes, sound

NUM_PROBLEMS, NUM_PROBED, NUM_ABLATED = 1000, 400, 300
PROBE_CS = (0.001, 0.01, 0.1)  # standardised features: at 0.1 the loss outweighs the penalty already, and fits take much longer
TOPK_EPOCHS = 10
ACCURACY_FLOOR = 0.05
SEED = 0
DEFAULT_PERMUTATIONS = 199  # of every null: carries Holm over five tests (VERDICTS.md, section 1)
# Tests a (source, model, claim family), corrected together by Holm. The grid of probes is one max-statistic, so one test.
FAMILY_TESTS = {"task accuracy": 1, "probes": 1, "SAE errors": 4, "ablation": 1, "spread": 1}
NO_BOUND = "an extreme over cells has no honest interval; its null band is printed"


# --- what several claims share ---------------------------------------------------------------------------------------


def captured(bench: Bench) -> Captured:
    """Problems thought about with all latents, in order."""
    return bench.captured(NUM_PROBLEMS, num_latents=bench.num_latents)


def surface(found: Captured, n: int) -> np.ndarray:
    """What the first n problems show without any thought, [n, columns]."""
    problems = found.problems[:n]
    table = surface_table(problems)
    return surface_design(table.numeric, table.categorical, len({p.group for p in problems}), priority=PRIORITY)


def probes(bench: Bench) -> ProbeAudit:
    """The audit of the study's cells: layers x (bot, latents 0..4), in the order of its grid."""

    def compute():
        found = captured(bench)
        n = min(NUM_PROBED, len(found.right))
        tokens, layers = len(places(bench)), list(bench.layers)
        states = found.hidden_states[:n, :tokens, layers].astype(np.float32)  # [n, tokens, layers, d]
        return probing.audit_probes(
            states.transpose(0, 2, 1, 3).reshape(n, -1, states.shape[-1]),
            found.right[:n],
            surface=surface(found, n),
            groups=[p.group for p in found.problems[:n]],
            bot=np.arange(len(layers)) * tokens if bench.permutations > DEFAULT_PERMUTATIONS else None,
            permutations=bench.permutations,
            seed=SEED,
            Cs=PROBE_CS,
            device=bench.device,
        )

    return bench.once("sound probes", compute)


def errors(bench: Bench) -> SaeAudit:
    """The audit of error prediction from SAE features."""

    def compute():
        found = captured(bench)
        tokens, layers = len(places(bench)), list(bench.sae_layers)
        states = found.hidden_states[:, :tokens, layers].astype(np.float32)  # [n, tokens, layers, d]
        states = states.reshape(len(states), -1, states.shape[-1])
        d = states.shape[-1]
        width = round(SAE_PROTOCOLS[bench.family].widen * d)
        return encoding.audit_errors(
            states,
            found.right,
            groups=[p.group for p in found.problems],
            surface=surface(found, len(found.problems)),
            train_sae=lambda x: study_sae(bench, x)[0],
            train_topk=lambda x: train_topk_sae(x, features=width, k=max(8, d // 16), epochs=TOPK_EPOCHS, seed=SEED),
            permutations=bench.permutations,
            seed=SEED,
        )

    return bench.once("sound errors", compute)


def sae_tests(bench: Bench, null: str) -> dict[str, float]:
    """Corrected p of the family's four tests, that of the AUC against one of its two nulls: both must be passed."""
    found = errors(bench)
    p = {"auc": found.p_auc[null], "gain": found.gain_p, "incorrect": found.p_precision[0], "correct": found.p_precision[1]}
    return holm_p(p, FAMILY_TESTS["SAE errors"])


def sweep(bench: Bench) -> Sweep:
    """Every place replaced in every way, with the controls, checked."""

    def compute():
        names, edits = conditions(bench.num_latents)
        found = bench.effects(NUM_ABLATED, edits, num_latents=bench.num_latents, scoring="study", seed=SEED)
        swept = Sweep(names, found.right, found.log_probability, found.reference)
        ablating.check_controls(swept)
        return swept

    return bench.once("sound sweep", compute)


def conditions(num_latents: int) -> tuple[tuple[str, ...], list[list[Edit]]]:
    """Names and edits of the sweep: clean, controls, each place by each kind, and direct effects by the main kind.

    Bot is the same in every problem, so its mean and another problem's bot are itself: zero and noise remain.
    """
    main = ablating.MAIN
    found: list[tuple[str, list[Edit]]] = [
        (CLEAN, []),
        (ablating.SELF, [Edit("all", "self")]),
        (ablating.ALL, [Edit("all", main)]),
    ]
    found += [(f"{BOT}={kind}", [Edit(BOT, kind)]) for kind in ("zero", "noise")]
    for place in range(num_latents):
        for kind in ablating.KINDS:
            found += [(f"{place}={kind}", [Edit(place, kind)])] * (ablating.DONORS if kind == "resample" else 1)
        found.append((f"{place}={main} direct", direct(Edit(place, main), num_latents)))
    return tuple(name for name, _ in found), [edits for _, edits in found]


def band(draws, p: float | None = None) -> Null:
    """Mean and 95 % band of null draws."""
    draws = np.asarray(draws, float)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Null(float(draws.mean()), float(low), float(high), p)


def effect_over(reported: Mapping[str, float], metric: str, nominal: float, floor: float) -> float:
    """Delta: half of the published effect over its null, not below the floor."""
    value = reported.get(metric)
    return half_effect(None if value is None else value - nominal, floor)


def as_points(value: Estimate) -> tuple[float, float | None, float | None]:
    return tuple(None if part is None else 100 * part for part in (value.value, value.low, value.high))


def without_word(why: str) -> dict:
    return {"no_validity": why}


# --- the claims' metrics ---------------------------------------------------------------------------------------------


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
            "mean", mean.value, found.n, "fraction", mean.low, mean.high, detail=detail, null=band(draws.mean(1)), verdict=verdict
        ),
        Measured("std", std, found.n, "points", detail=without_word("see spread: tau"), null=band(100 * draws.std(1))),
    ]


def probe_range(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Smallest and largest held-out accuracy, and the accuracy of the cell chosen inside the outer folds."""
    found = probes(bench)
    grid, draws = found.grid.held_out_accuracy, found.grid.null_held_out
    delta = effect_over(reported, "max", seed_reported.CHANCE, probing.ACCURACY_FLOOR)
    verdict = probing.accuracy_word(found, found.best_accuracy, delta=delta, cells=len(grid))
    detail = {"no_interval": NO_BOUND, "validity_of": "the cell chosen inside the outer folds"}
    return [
        Measured("min", float(grid.min()), found.n, "fraction", detail=without_word(NO_BOUND), null=band(draws.min(1))),
        Measured("max", float(grid.max()), found.n, "fraction", detail=detail, null=band(draws.max(1)), verdict=verdict),
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
            null=band(found.grid.null_held_out.max(1)),
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
            detail=detail,
            null=band(found.grid.null_auc.max(1), found.grid.p_value_any_auc),
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
        mean = bootstrap_mean(correct[:, i], rng=stream(SEED, "probe-by-layer", str(layer)), groups=groups, phi=found.phi)
        p = {probing.LABELS: float(p_max[i].min()), probing.SURFACE: float(p_surface[i].min())}
        delta = effect_over(reported, f"mean_L{layer}", seed_reported.CHANCE, probing.ACCURACY_FLOOR)
        theta = Estimate(mean.value - found.q, mean.low - found.q, mean.high - found.q)
        verdict = sound(theta, delta=delta, p=p, marginal=probing.LABELS, n=found.n, permutations=found.permutations)
        cell, null = {"layer": layer, "latent_pos": None}, band(draws[:, i].mean(1))
        rows.append(
            Measured(
                f"mean_L{layer}", mean.value, found.n, "fraction", mean.low, mean.high, cell=cell, null=null, verdict=verdict
            )
        )
    return rows


def sae_error_prediction(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Held-out accuracy and AUC from the study's kind of SAE, and what that adds to raw activations or their PCA."""
    found = errors(bench)
    features, p_gain = found.sets["sae"], sae_tests(bench, encoding.LABELS)["gain"]
    word = encoding.exists_word(found, {name: sae_tests(bench, name)["auc"] for name in found.p_auc})
    sets = {name: {"accuracy": _ends(each.accuracy), "auc": _ends(each.auc)} for name, each in found.sets.items()}
    detail = {"sets": sets, "added_auc": _ends(found.added), "seeds_of_the_sae": 1}
    accuracy, auc, gain = features.accuracy, features.auc, as_points(found.gain)
    return [
        Measured(
            "test_accuracy",
            accuracy.value,
            found.n,
            "fraction",
            accuracy.low,
            accuracy.high,
            outcomes=features.right,
            detail=detail,
            null=band(found.null_accuracy),
            verdict=word,
        ),
        Measured(
            "auc",
            auc.value,
            found.n,
            "fraction",
            auc.low,
            auc.high,
            null=band(found.null_auc, max(found.p_auc.values())),
            verdict=word,
        ),
        Measured(
            "gain",
            *gain[:1],
            found.n,
            "points",
            *gain[1:],
            detail={"over": found.best_other},
            null=Null(0.0, p=found.gain_p),
            verdict=encoding.gain_word(found, p_gain),
        ),
    ]


def sae_train_accuracy(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Accuracy on the training groups and its distance to the held-out one: what fitting looks like, no claim of its own."""
    found = errors(bench)
    why = without_word("measured on the problems the classifier was fitted to: judged under the reported protocol")
    gap = 100 * (found.train_accuracy - found.sets["sae"].accuracy.value)
    return [
        Measured("train_accuracy", found.train_accuracy, found.fitted, "fraction", detail=why),
        Measured("gap", gap, found.fitted, "points", detail=why),
    ]


def sae_precision(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Share of held-out problems called incorrect (correct) that are so."""
    found, p, rows = errors(bench), sae_tests(bench, encoding.LABELS), []
    for which, metric in enumerate(("incorrect", "correct")):
        rate, draws = found.precision[which], found.null_precision[which]
        if rate is None:
            continue  # the class was never predicted: a metric that is missing is loud in the comparison
        delta = effect_over(reported, metric, float(draws.mean()), encoding.RATE_FLOOR)
        verdict = encoding.precision_word(found, which, p[metric], delta=delta)
        null = band(draws, found.p_precision[which])
        rows.append(Measured(metric, rate.value, found.n, "fraction", rate.low, rate.high, null=null, verdict=verdict))
    return rows


def sae_quality(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Variance explained of held-out vectors, beside a PCA with as many numbers a vector; active and dead features."""
    found = errors(bench)
    quality, over = found.quality, encoding.explained_over_pca(found.quality, seed=SEED)
    p = {"PCA of equal size": 0.0 if over.low > 0 else 1.0}
    verdict = sound(over, delta=ACCURACY_FLOOR, p=p, marginal="PCA of equal size", n=found.n)
    detail = {"null": f"PCA with {quality.pca_components} components", "topk": _quality(found.topk_quality)}
    detail["no_interval"] = "the interval is of the difference to the PCA"
    why = without_word("a count of features has no null")
    return [
        Measured(
            "explained_variance",
            quality.explained_variance,
            found.n,
            "fraction",
            detail=detail,
            null=Null(quality.pca_explained_variance),
            verdict=replace(
                verdict, why=verdict.why.replace(", p = 0 (PCA of equal size)", "").replace(", p = 1 (PCA of equal size)", "")
            ),
        ),
        Measured("l0", quality.l0, found.n, "features", detail=why),
        Measured("dead", quality.dead, found.n, "fraction", detail=why),
    ]


def sae_width(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same counts: a fact has no null."""
    why = without_word("a fact has no null")
    return [replace(each, detail=why) for each in seed_reported.sae_width(bench)]


def ablation(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Accuracy drop when one place is replaced by its mean (bot: zeros) and the rest recomputed."""
    swept, n = sweep(bench), len(sweep(bench).right[0])
    found = ablating.latents(swept, bench.num_latents)
    rows = []
    for place in (BOT, *range(bench.num_latents)):
        names = [name for name in dict.fromkeys(swept.names) if name.split("=")[0] == str(place)]
        effects = {name.split("=")[1]: ablating.effect(swept, name, seed=SEED) for name in names}
        main = effects["zero" if place == BOT else ablating.MAIN]
        p = main.p if place == BOT else found.drop_p[place]  # bot is a row of its own, no statement about a thought
        delta = effect_over({k: v / 100 for k, v in reported.items()}, f"drop_{place}", 0.0, ablating.DROP_FLOOR)
        outcomes = swept.rows(f"{place}={'zero' if place == BOT else ablating.MAIN}")[0][0]
        value, low, high = as_points(main.drop)
        detail = {
            "replaced_by": "zero" if place == BOT else ablating.MAIN,
            "effects": {
                kind: {"drop": _ends(e.drop), "log_probability": _ends(e.log_probability), "p": e.p}
                for kind, e in effects.items()
            },
            "reference": swept.reference,
        }
        rows.append(
            Measured(
                f"drop_{place}",
                value,
                n,
                "points",
                low,
                high,
                cell={"layer": None, "latent_pos": place},
                outcomes=outcomes,
                detail=detail,
                null=Null(0.0, p=p),
                verdict=ablating.drop_word(main.drop, p, n=n, delta=delta),
            )
        )
    all_of_them = ablating.effect(swept, ablating.ALL, seed=SEED)
    value, low, high = as_points(all_of_them.drop)
    why = without_word("a control: what all latents together carry")
    rows.append(Measured("drop_all", value, n, "points", low, high, detail=why, null=Null(0.0, p=all_of_them.p)))
    return rows


def ablation_critical(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Range of the drops over the latents, and whether one stands out (GPT-2's claim) or none does (LLaMA's)."""
    swept = sweep(bench)
    found, n = ablating.latents(swept, bench.num_latents), len(swept.right[0])
    verdict = ablating.critical_word(found, n=n) if bench.family == "gpt2" else ablating.none_word(found, n=n)
    drops = [100 * drop.value for drop in found.drops]
    place = int(np.argmax([c.value for c in found.contrasts]))
    detail = {
        "no_interval": NO_BOUND,
        "critical": list(found.critical),
        "contrasts": [_ends(c) for c in found.contrasts],
        "contrast_p": list(found.contrast_p),
        "upper": list(found.upper),
        "note": "critical latents: " + (", ".join(map(str, found.critical)) or "none shown"),
    }
    cell = {"layer": None, "latent_pos": place}
    null = Null(0.0, p=found.q_p)
    return [Measured("range", float(np.ptp(drops)), n, "points", cell=cell, detail=detail, null=null, verdict=verdict)]


def encoding_spread(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """tau, the spread over cells beyond sampling error, and the word for it; std, range and evenness beside their null bands."""
    found = probes(bench)
    measured, word, why = probing.spread_of(found)
    tau = as_points(measured.tau)
    verdict = _spread_verdict(bench.family, word, why, measured.p)
    draws, grid = found.grid.null_held_out, found.grid.held_out_accuracy
    summary = spread(_grid(bench, grid), chance=min(found.q, float(grid.max()) - 1e-9))
    no_word = without_word("see tau: spreads of measured cells hold sampling error")
    sampling = 100 * float(np.sqrt(measured.variance))
    return [
        Measured("std", summary.std, found.n, "points", detail=no_word | {"null": "sampling error alone"}, null=Null(sampling)),
        Measured("range", summary.range, found.n, "points", detail=no_word, null=band(100 * np.ptp(draws, axis=1))),
        Measured("evenness", summary.evenness, found.n, "fraction", detail=no_word),
        Measured(
            "tau",
            *tau[:1],
            found.n,
            "points",
            *tau[1:],
            detail={"note": f"spread: {word}"},
            null=Null(0.0, p=measured.p),
            verdict=verdict,
        ),
    ]


def size(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same counts: a fact has no null."""
    return [replace(each, detail=without_word("a fact has no null")) for each in seed_reported.size(bench)]


# --- helpers ---------------------------------------------------------------------------------------------------------


def _grid(bench: Bench, cells: np.ndarray) -> np.ndarray:
    return np.asarray(cells).reshape(len(bench.layers), len(places(bench)))


def _ends(value: Estimate) -> list[float | None]:
    return [value.value, value.low, value.high]


def _by_steps(found: Captured) -> dict[str, list]:
    """Accuracy with its interval by number of steps."""
    steps = np.array([p.num_steps for p in found.problems])
    return {str(k): _ends(wilson(found.right[steps == k].sum(), int((steps == k).sum()))) for k in np.unique(steps).tolist()}


def _difficulty(found: ProbeAudit) -> str:
    """A correctness probe may read how hard a problem is: of the thoughts only what bot does not tell already."""
    if found.beyond_bot is None:
        return "whether the thoughts add to what bot tells is tested with --permutations above the default"
    p = found.beyond_bot.p_value_any
    return f"of the thoughts, beyond surface and bot: p = {p:.2g}" + ("" if passes(p) else ", so not shown")


def _quality(found) -> dict[str, float]:
    return {
        "explained_variance": found.explained_variance,
        "pca": found.pca_explained_variance,
        "l0": found.l0,
        "dead": found.dead,
    }


def _spread_verdict(family: str, word: str, why: str, q_p: float) -> Verdict:
    """GPT-2's claim is `concentrated`, LLaMA's `even`; the other one of the two refutes it, for `even` any heterogeneity does."""
    claimed = "concentrated" if family == "gpt2" else "even"
    refuted = word == "even" if claimed == "concentrated" else q_p <= HETEROGENEOUS
    found = Validity.SUPPORTED if word == claimed else Validity.REFUTED if refuted else Validity.UNDERPOWERED
    return Verdict(found, f"{word}, claimed {claimed}: {why}")
