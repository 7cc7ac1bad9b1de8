"""The first study: do SAE features of the thoughts predict errors, and how good is the SAE?"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codi_bench.audits import sae as encoding
from codi_bench.audits.sae import SaeAudit
from codi_bench.claims import runs
from codi_bench.claims.blocks import confidence_rows, effect_over
from codi_bench.claims.claim import (
    SEED,
    Bench,
    Measured,
    Null,
    Protocols,
    Published,
    claim,
    ends,
    measured,
    once,
    points,
    without_word,
)
from codi_bench.claims.families import FAMILIES
from codi_bench.claims.first_study import (
    GPT2,
    LLAMA,
    NUM_PROBLEMS,
    SAME,
    SOURCE,
    captured,
    counts,
    logistic_permutations,
    places,
    script,
)
from codi_bench.claims.first_study.probes import against
from codi_bench.claims.first_study.task import ACCURACY_FLOOR
from codi_bench.measures import ErrorPrediction, SaeQuality, predict_errors, sae_quality, train_relu_sae
from codi_bench.measures.grid import Scored, Split, permuted_labels, scores
from codi_bench.measures.sae import Sae, train_topk_sae
from codi_bench.measures.sae_heldout import HeldoutQuality, null_precisions
from codi_bench.rules.p_values import check_permutations, holm_p
from codi_bench.rules.stats import wilson
from codi_bench.rules.validity import sound_verdict

FAMILY = "SAE errors"
SEEDS = {"sae": 42, "split": 42}
STUDY_ACTIVE = 0.001  # a feature counts in L0 above this value
TOPK_EPOCHS = 10
PROTOCOL = (
    "ReLU SAE with L1 trained on all problems, test problems included; features of all vectors of a problem concatenated; "
    "LogisticRegression, one 80/20 stratified split that ignores variants"
)
SOUND = (
    f"all latents fed, {FAMILIES[FAMILY].n} problems, halved by group before any fit; the same SAE, a TopK one, raw activations, "
    "PCA and surface under one ridge classifier, penalty by inner folds; labels permuted, and drawn from the "
    "surface alone; Holm over five tests"
)
SAES: dict[str, Any] = {"family": FAMILY, "n": NUM_PROBLEMS, "protocol": PROTOCOL, "sound": SOUND, "seeds": SEEDS}


@dataclass(frozen=True)
class SaeProtocol:
    """How the study trained its SAE for one model; widen: features per input dimension, lr: its script's default."""

    n: int
    variants: int
    widen: float
    l1: float
    l1_kind: str
    lr: float


SAE_PROTOCOLS = {
    GPT2: SaeProtocol(n=1000, variants=1, widen=4096 / 768, l1=0.001, l1_kind="mean", lr=1e-3),
    # 914 solutions of original and perturbed problems: here two tellings of 457 contents
    LLAMA: SaeProtocol(n=914, variants=2, widen=1.0, l1=0.0005, l1_kind="sum", lr=3e-4),
}


@dataclass(frozen=True, eq=False)
class Predicted:
    """Error prediction from SAE features, with the SAE's quality and width.

    Under permuted labels, [permutations]: accuracies on training and test problems, and precision of calling a problem incorrect
    or correct. share: of the larger class.
    """

    prediction: ErrorPrediction
    quality: SaeQuality
    features: int
    share: float
    correct_share: float
    null_train: np.ndarray
    null_test: np.ndarray
    null_incorrect: np.ndarray
    null_correct: np.ndarray


def protocol_of(bench: Bench) -> SaeProtocol:
    return SAE_PROTOCOLS[script(bench)]


@once
def as_published(bench: Bench) -> Predicted:
    """The study's SAE and classifier, and the null of the classifier."""
    protocol = protocol_of(bench)
    capture = captured(bench, protocol.n, protocol.variants)
    states = capture.hidden_states[:, :, list(bench.model.sae_layers)].astype(np.float32)  # [n, tokens, layers, d]
    vectors = states.reshape(-1, states.shape[-1])
    sae = study_sae(bench, vectors)
    features = sae.encode(vectors).reshape(len(states), -1)
    seed, right = SEEDS["split"] + bench.seed, capture.right
    prediction = bench.cached(ErrorPrediction, predict_errors, features, right, seed=seed)
    test = prediction.test_index
    train, every = np.setdiff1d(np.arange(len(right)), test), np.arange(len(right))
    groups = [problem.group for problem in capture.problems]
    draws = permuted_labels(right, np.zeros(len(right), int), groups, permutations=logistic_permutations(bench), seed=seed)
    split = Split(train, every, ())
    fits = bench.cached(Scored, scores, [features], draws.T, [split], probe="logistic", Cs=(1.0,), loose=True, scale=False)
    predictions = fits.score[:, :, 0].T > 0
    hits = predictions == draws
    incorrect, correct = null_precisions(predictions[:, test], draws[:, test])
    return Predicted(
        prediction=prediction,
        quality=sae_quality(sae, vectors, l0_above=STUDY_ACTIVE),
        features=len(sae.encoder_bias),
        share=max(right.mean(), 1 - right.mean()),
        correct_share=float(right.mean()),
        null_train=hits[:, train].mean(1),
        null_test=hits[:, test].mean(1),
        null_incorrect=incorrect,
        null_correct=correct,
    )


def study_sae(bench: Bench, vectors: np.ndarray, seed: int = SEEDS["sae"]) -> Sae:
    """The study's SAE trained on vectors [m, d]."""
    protocol = protocol_of(bench)
    features = round(protocol.widen * vectors.shape[-1])
    settings = {"l1": protocol.l1, "l1_kind": protocol.l1_kind, "lr": protocol.lr, "seed": seed + bench.seed}
    return bench.cached(Sae, train_relu_sae, vectors, features=features, **settings)


@once
def held_out(bench: Bench) -> SaeAudit:
    """The audit of error prediction from SAE features; what was published is computed beside it, where a core would wait."""

    def published() -> None:
        with suppress(ValueError, RuntimeError):  # remembered, and raised where its numbers are asked for
            as_published(bench)

    capture, seed = runs.captured(bench), SEED + bench.seed
    return audit_of(bench, capture, permutations=bench.permutations, seed=seed, meanwhile=published)


def audit_of(
    bench: Bench, capture: runs.Captured, *, permutations: int, seed: int, sae_seed: int = SEEDS["sae"], **how: Any
) -> SaeAudit:
    """The same on other problems, by another split or with another SAE."""
    tokens = len(places(bench))
    states = capture.hidden_states[:, :tokens, list(bench.model.sae_layers)].astype(np.float32)  # [n, tokens, layers, d]
    states = states.reshape(len(states), -1, states.shape[-1])
    d = states.shape[-1]
    topk = {"features": round(protocol_of(bench).widen * d), "k": max(8, d // 16), "epochs": TOPK_EPOCHS}
    return encoding.audit_errors(
        states,
        capture.right,
        groups=[p.group for p in capture.problems],
        surface=capture.surface(len(capture.problems)),
        confidence=capture.confidence,
        train_sae=lambda x: study_sae(bench, x, sae_seed),
        train_topk=lambda x: bench.cached(Sae, train_topk_sae, x, **topk, seed=SEED + bench.seed),
        permutations=permutations,
        seed=seed,
        run=bench.cached,
        **how,
    )


def corrected(bench: Bench, null: str = encoding.LABELS) -> dict[str, float]:
    """Corrected p of the family's five tests, that of the AUC against one of its two nulls: both must be passed."""
    audit, tests = held_out(bench), FAMILIES[FAMILY].tests
    check_permutations(bench.permutations, tests)
    p = {"auc": audit.p_auc[null], "gain": audit.gain_p, "gain_confidence": audit.over_confidence.p}
    p |= {"incorrect": audit.p_precision[0], "correct": audit.p_precision[1]}
    return holm_p(p, tests)


@claim("sae-error-prediction", f"{SOURCE}, §2", kind="exists", compared="auc", **SAES)
def sae_error_prediction(bench: Bench, published: Published) -> Protocols:
    """SAE features of the thoughts predict whether the answer will be wrong."""
    with suppress(ValueError, RuntimeError):  # the audit first, for it computes both; its error is raised below
        held_out(bench)
    result, protocol = as_published(bench), protocol_of(bench)
    right = result.prediction.test_right
    rate, groups = wilson(right.sum(), len(right)), {p.group for p in captured(bench, protocol.n, protocol.variants).problems}
    note = f"the study had {protocol.variants} tellings of each problem; these are {len(groups)} problems"
    detail: dict[str, Any] = {"note": note} if protocol.variants > 1 and len(groups) > protocol.n // protocol.variants else {}
    null = against(rate.value, result.null_test, result.share)
    yield [measured("test_accuracy", rate, len(right), outcomes=right, detail=detail, **null)]
    audit = held_out(bench)
    features, word = audit.sets["sae"], encoding.exists_word(audit, {null: corrected(bench, null)["auc"] for null in audit.p_auc})
    sets = {name: {"accuracy": ends(each.accuracy), "auc": ends(each.auc)} for name, each in audit.sets.items()}
    detail = {"sets": sets, "added_auc": ends(audit.added), "seeds_of_the_sae": 1}
    null_auc, gain = Null.of(audit.null_auc, max(audit.p_auc.values())), encoding.gain_word(audit, corrected(bench)["gain"])
    yield [
        measured(
            "test_accuracy",
            features.accuracy,
            audit.n,
            outcomes=features.right,
            detail=detail,
            null=Null.of(audit.null_accuracy),
            verdict=word,
        ),
        measured("auc", features.auc, audit.n, ranked=audit.ranked, null=null_auc, verdict=word),
        points("gain", audit.gain, audit.n, detail={"over": audit.best_other}, null=Null(0.0, p=audit.gain_p), verdict=gain),
        *confidence_rows(audit.over_confidence, corrected(bench)["gain_confidence"], audit.n),
    ]


@claim("sae-train-accuracy", f"{SOURCE}, §2", kind="value", **SAES)
def sae_train_accuracy(bench: Bench, published: Published) -> Protocols:
    """The classifier fits its training problems and loses this much on others."""
    result = as_published(bench)
    prediction, n = result.prediction, protocol_of(bench).n - len(result.prediction.test_right)
    why = {"no_interval": "measured on the problems the classifier was fitted to"}
    train, gap = prediction.train_accuracy, 100 * (prediction.train_accuracy - prediction.test_accuracy)
    null_gap = against(gap, 100 * (result.null_train - result.null_test), 0)
    yield [
        measured("train_accuracy", train, n, detail=why, **against(train, result.null_train, result.share)),
        measured("gap", gap, n, "points", detail=why, **null_gap),
    ]
    audit = held_out(bench)
    why = without_word("measured on the problems the classifier was fitted to: judged under the reported protocol")
    gap = 100 * (audit.train_accuracy - audit.sets["sae"].accuracy.value)
    yield [
        measured("train_accuracy", audit.train_accuracy, audit.fitted, detail=why),
        measured("gap", gap, audit.fitted, "points", detail=why),
    ]


@claim("sae-precision", f"{SOURCE}, §2", kind="value", **SAES)
def sae_precision(bench: Bench, published: Published) -> Protocols:
    """Of the answers called wrong (right), this share is wrong (right)."""
    yield published_precision(as_published(bench))
    audit, rows, p = held_out(bench), [], corrected(bench)
    for index, metric in enumerate(("incorrect", "correct")):
        rate, draws = audit.precision[index], audit.null_precision[index]
        if rate is not None:  # where a class is never predicted, a metric that is missing is loud in the comparison
            delta = effect_over(published, metric, float(draws.mean()), encoding.RATE_FLOOR)
            word = encoding.precision_word(audit, index, p[metric], delta=delta)
            rows.append(measured(metric, rate, audit.n, null=Null.of(draws, audit.p_precision[index]), verdict=word))
    yield rows


def published_precision(result: Predicted) -> list[Measured]:
    """Wilson over the problems that are called so. n: the test problems, since how many are called so is itself an outcome."""
    prediction, share, rows = result.prediction, result.correct_share, []
    n = len(prediction.test_right)
    for metric, precision, num_called, null, base in (
        ("incorrect", prediction.precision_incorrect, prediction.called_incorrect, result.null_incorrect, 1 - share),
        ("correct", prediction.precision_correct, prediction.called_correct, result.null_correct, share),
    ):
        if precision is not None:
            rate, detail = wilson(round(precision * num_called), num_called), {"note": f"{num_called} of {n} were called so"}
            rows.append(measured(metric, rate, n, detail=detail, **against(rate.value, null, base)))
    return rows


@claim("sae-quality", f"{SOURCE}, §2", kind="value", **SAES)
def quality(bench: Bench, published: Published) -> Protocols:
    """The SAE explains the thoughts with few active features."""
    trained, n = as_published(bench).quality, protocol_of(bench).n
    why = {"no_interval": "measured on the training vectors, which are not independent"}
    formula = {"per_dimension": trained.explained_variance, "formula": "the study's: pooled around one mean over all elements"}
    yield [
        measured("explained_variance", trained.explained_variance_pooled, n, detail=why | formula),
        measured("l0", trained.l0, n, "features", detail=why),
        measured("dead", trained.dead, n, detail=why),
    ]
    audit, no_word = held_out(bench), without_word("a count of features has no null")
    held, gain, pca = audit.quality, encoding.explained_over_pca(audit.quality, seed=SEED + bench.seed), "PCA of equal size"
    assert gain.low is not None
    word = sound_verdict(gain, delta=ACCURACY_FLOOR, p={pca: 0.0 if gain.low > 0 else 1.0}, marginal=pca, n=audit.n)
    without_p = replace(word, why=word.why.replace(f", p = 0 ({pca})", "").replace(f", p = 1 ({pca})", ""))
    detail = {"null": f"PCA with {held.pca_components} components", "topk": summary(audit.topk_quality)}
    detail |= {"no_interval": "the interval is of the difference to the PCA"}
    null = Null(held.pca_explained_variance)
    yield [
        measured("explained_variance", held.explained_variance, audit.n, detail=detail, null=null, verdict=without_p),
        measured("l0", held.l0, audit.n, "features", detail=no_word),
        measured("dead", held.dead, audit.n, detail=no_word),
    ]


def summary(held: HeldoutQuality) -> dict[str, float]:
    return {"explained_variance": held.explained_variance, "pca": held.pca_explained_variance, "l0": held.l0, "dead": held.dead}


@claim("sae-width", f"{SOURCE}, §2", family=FAMILY, kind="fact", n=1, protocol=PROTOCOL, sound=SAME)
def sae_width(bench: Bench, published: Published) -> Protocols:
    """The SAE has this many features from this many inputs."""
    yield from counts({"features": as_published(bench).features, "inputs": bench.model.width})
