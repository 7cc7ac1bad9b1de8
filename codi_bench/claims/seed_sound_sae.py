"""SAE features and error prediction as they should have been measured: nothing is fitted on a held-out group.

Each function gives the claim's metrics (and further ones) with their verdicts. `reported` holds the published values of the
source's own models, of which half the effect must at least be there; other models have the family's floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codi_bench.audits import sae as encoding
from codi_bench.audits.sae import SaeAudit
from codi_bench.claims import seed_reported
from codi_bench.claims.claim import Bench, Measured, Null
from codi_bench.claims.seed_reported import SAE_PROTOCOLS, places, study_sae
from codi_bench.claims.seed_sound import (
    ACCURACY_FLOOR,
    FAMILY_TESTS,
    SEED,
    TOPK_EPOCHS,
    as_points,
    captured,
    effect_over,
    ends,
    surface,
    without_word,
)
from codi_bench.measures.sae import Sae, train_topk_sae
from codi_bench.measures.sae_heldout import HeldoutQuality
from codi_bench.rules.validity import check_permutations, holm_p, sound_verdict


def errors(bench: Bench) -> SaeAudit:
    """The audit of error prediction from SAE features."""

    def compute():
        capture = captured(bench)
        tokens, layers = len(places(bench)), list(bench.sae_layers)
        states = capture.hidden_states[:, :tokens, layers].astype(np.float32)  # [n, tokens, layers, d]
        states = states.reshape(len(states), -1, states.shape[-1])
        d = states.shape[-1]
        width = round(SAE_PROTOCOLS[bench.architecture].widen * d)
        topk = {"features": width, "k": max(8, d // 16), "epochs": TOPK_EPOCHS, "seed": SEED + bench.seed}
        return encoding.audit_errors(
            states,
            capture.right,
            groups=[p.group for p in capture.problems],
            surface=surface(capture, len(capture.problems)),
            train_sae=lambda x: study_sae(bench, x),
            train_topk=lambda x: bench.kept(Sae, train_topk_sae, x, **topk),
            permutations=bench.permutations,
            seed=SEED + bench.seed,
            kept=bench.kept,
        )

    return bench.once("sound errors", compute)


def sae_tests(bench: Bench, null: str) -> dict[str, float]:
    """Corrected p of the family's four tests, that of the AUC against one of its two nulls: both must be passed."""
    audit = errors(bench)
    check_permutations(bench.permutations, FAMILY_TESTS["SAE errors"])
    p = {"auc": audit.p_auc[null], "gain": audit.gain_p, "incorrect": audit.p_precision[0], "correct": audit.p_precision[1]}
    return holm_p(p, FAMILY_TESTS["SAE errors"])


def sae_error_prediction(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Held-out accuracy and AUC from the study's kind of SAE, and what that adds to raw activations or their PCA."""
    audit = errors(bench)
    features, p_gain = audit.sets["sae"], sae_tests(bench, encoding.LABELS)["gain"]
    word = encoding.exists_word(audit, {name: sae_tests(bench, name)["auc"] for name in audit.p_auc})
    sets = {
        name: {"accuracy": ends(feature_set.accuracy), "auc": ends(feature_set.auc)} for name, feature_set in audit.sets.items()
    }
    detail = {"sets": sets, "added_auc": ends(audit.added), "seeds_of_the_sae": 1}
    accuracy, auc, gain = features.accuracy, features.auc, as_points(audit.gain)
    return [
        Measured(
            "test_accuracy",
            accuracy.value,
            audit.n,
            "fraction",
            accuracy.low,
            accuracy.high,
            outcomes=features.right,
            detail=detail,
            null=Null.of(audit.null_accuracy),
            verdict=word,
        ),
        Measured(
            "auc",
            auc.value,
            audit.n,
            "fraction",
            auc.low,
            auc.high,
            ranked=audit.ranked,
            null=Null.of(audit.null_auc, max(audit.p_auc.values())),
            verdict=word,
        ),
        Measured(
            "gain",
            *gain[:1],
            audit.n,
            "points",
            *gain[1:],
            detail={"over": audit.best_other},
            null=Null(0.0, p=audit.gain_p),
            verdict=encoding.gain_word(audit, p_gain),
        ),
    ]


def sae_train_accuracy(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Accuracy on the training groups and its distance to the held-out one: what fitting looks like, no claim of its own."""
    audit = errors(bench)
    why = without_word("measured on the problems the classifier was fitted to: judged under the reported protocol")
    gap = 100 * (audit.train_accuracy - audit.sets["sae"].accuracy.value)
    return [
        Measured("train_accuracy", audit.train_accuracy, audit.fitted, "fraction", detail=why),
        Measured("gap", gap, audit.fitted, "points", detail=why),
    ]


def sae_precision(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Share of held-out problems called incorrect (correct) that are so."""
    audit, p, rows = errors(bench), sae_tests(bench, encoding.LABELS), []
    for index, metric in enumerate(("incorrect", "correct")):
        rate, draws = audit.precision[index], audit.null_precision[index]
        if rate is None:
            continue  # the class was never predicted: a metric that is missing is loud in the comparison
        delta = effect_over(reported, metric, float(draws.mean()), encoding.RATE_FLOOR)
        verdict = encoding.precision_word(audit, index, p[metric], delta=delta)
        null = Null.of(draws, audit.p_precision[index])
        rows.append(Measured(metric, rate.value, audit.n, "fraction", rate.low, rate.high, null=null, verdict=verdict))
    return rows


def sae_quality(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Variance explained of held-out vectors, beside a PCA with as many numbers a vector; active and dead features."""
    audit = errors(bench)
    quality, gain = audit.quality, encoding.explained_over_pca(audit.quality, seed=SEED + bench.seed)
    assert gain.low is not None
    p = {"PCA of equal size": 0.0 if gain.low > 0 else 1.0}
    verdict = sound_verdict(gain, delta=ACCURACY_FLOOR, p=p, marginal="PCA of equal size", n=audit.n)
    detail = {"null": f"PCA with {quality.pca_components} components", "topk": _quality(audit.topk_quality)}
    detail["no_interval"] = "the interval is of the difference to the PCA"
    why = without_word("a count of features has no null")
    return [
        Measured(
            "explained_variance",
            quality.explained_variance,
            audit.n,
            "fraction",
            detail=detail,
            null=Null(quality.pca_explained_variance),
            verdict=replace(
                verdict, why=verdict.why.replace(", p = 0 (PCA of equal size)", "").replace(", p = 1 (PCA of equal size)", "")
            ),
        ),
        Measured("l0", quality.l0, audit.n, "features", detail=why),
        Measured("dead", quality.dead, audit.n, "fraction", detail=why),
    ]


def sae_width(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same counts: a fact has no null."""
    why = without_word("a fact has no null")
    return [replace(row, detail=why) for row in seed_reported.sae_width(bench)]


def _quality(quality: HeldoutQuality) -> dict[str, float]:
    return {
        "explained_variance": quality.explained_variance,
        "pca": quality.pca_explained_variance,
        "l0": quality.l0,
        "dead": quality.dead,
    }
