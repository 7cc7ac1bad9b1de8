"""The first study's measurements, quirks included, and what each gives on permuted labels.

The document counts `bot-first`: its "token 0" is the bot step and tokens 1..5 are latents 0..4; a sixth latent was never fed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codi_bench.claims.claim import Bench, Captured, Measured, Null
from codi_bench.measures import (
    ErrorPrediction,
    InSampleProbes,
    SaeQuality,
    balanced_sample,
    criticality,
    drops,
    grid_summary,
    in_sample_probes,
    predict_errors,
    spread,
    train_relu_sae,
)
from codi_bench.measures import (
    sae_quality as measure_sae,
)
from codi_bench.measures.grid import Scored, Split, in_sample_null, permuted_labels, scores
from codi_bench.measures.sae import Sae
from codi_bench.measures.sae_heldout import null_precisions
from codi_bench.models.edits import BOT, Edit
from codi_bench.problems import score
from codi_bench.rules.stats import bootstrap_mean, newcombe_paired, stream, wilson
from codi_bench.rules.validity import permutation_p

NO_INTERVAL = "extremes and spreads over cells have no honest interval"
NUM_PROBLEMS, NUM_PROBED, NUM_ABLATED = 1000, 100, 100
CHANCE = 0.5  # of a balanced sample
FOLDS, SAMPLE = {"folds": 42, "sample": 42}, {"sae": 42, "split": 42}
ABLATED = "ablated"  # what `Bench.once` knows the outcomes by
STUDY_ACTIVE = 0.001  # a feature counts in L0 above this value


@dataclass(frozen=True)
class SaeProtocol:
    """How the study trained its SAE for one family; widen: features per input dimension, lr: its script's default."""

    n: int
    variants: int
    widen: float
    l1: float
    l1_kind: str
    lr: float


SAE_PROTOCOLS = {
    "gpt2": SaeProtocol(n=1000, variants=1, widen=4096 / 768, l1=0.001, l1_kind="mean", lr=1e-3),
    # 914 solutions of original and perturbed problems: here two tellings of 457 contents
    "llama": SaeProtocol(n=914, variants=2, widen=1.0, l1=0.0005, l1_kind="sum", lr=3e-4),
}


def against(value: float, draws, nominal: float) -> dict:
    """`null` and `nominal` of a measured value, from the values [permutations] that permuted labels give."""
    return {"null": Null.of(draws, permutation_p(value, draws)), "nominal": float(nominal)}


# --- what several claims share ---------------------------------------------------------------------------------------


def places(bench: Bench) -> tuple[int | str, ...]:
    """The study's tokens in our words, `bot-first`: bot, then the latent positions that it fed (one fewer than K)."""
    return (BOT, *range(bench.num_latents - 1))


def captured(bench: Bench, n: int, variants: int = 1) -> Captured:
    """Problems thought about with one latent fewer than K, as the study did."""
    return bench.captured(n, num_latents=bench.num_latents - 1, variants=variants)


@dataclass(frozen=True, eq=False)
class Probed:
    """In-sample probes over layers x tokens: accuracy [layers, tokens], correct bool [100, layers x tokens], and the accuracy
    null [permutations, layers, tokens] of the same protocol on permuted labels."""

    accuracy: np.ndarray
    correct: np.ndarray
    null: np.ndarray


def probes(bench: Bench) -> Probed:
    """The study's probes and their null."""

    def compute():
        found = captured(bench, NUM_PROBLEMS)
        chosen = balanced_sample(
            found.right, per_class=NUM_PROBED // 2, seed=FOLDS["sample"] + bench.seed, shuffle=bench.architecture == "gpt2"
        )  # the LLaMA script did not shuffle
        cells = found.cells(chosen, len(places(bench)), bench.layers)
        right, shape = found.right[chosen], (len(bench.layers), -1)
        seed = FOLDS["folds"] + bench.seed
        fitted = bench.kept(InSampleProbes, in_sample_probes, cells, right, seed=seed)
        draws = {"groups": [found.problems[i].group for i in chosen], "permutations": bench.permutations, "seed": seed}
        null = bench.kept(np.ndarray, in_sample_null, cells, right, **draws)
        return Probed(fitted.accuracy.reshape(shape), fitted.correct, null.reshape(len(null), *shape))

    return bench.once("probes", compute)


@dataclass(frozen=True, eq=False)
class Predicted:
    """Error prediction from SAE features, the SAE's quality and width, and under permuted labels [permutations]: accuracies on
    training and test problems, and precision of calling a problem incorrect or correct; share: of the larger class."""

    found: ErrorPrediction
    quality: SaeQuality
    features: int
    share: float
    correct_share: float
    null_train: np.ndarray
    null_test: np.ndarray
    null_incorrect: np.ndarray
    null_correct: np.ndarray


def errors(bench: Bench) -> Predicted:
    """The study's SAE and classifier, and the null of the classifier."""

    def compute():
        protocol = SAE_PROTOCOLS[bench.architecture]
        given = captured(bench, protocol.n, protocol.variants)
        states = given.hidden_states[:, :, list(bench.sae_layers)].astype(np.float32)  # [n, tokens, layers, d]
        vectors = states.reshape(-1, states.shape[-1])
        sae = study_sae(bench, vectors)
        encoded = sae.encode(vectors).reshape(len(states), -1)
        seed = SAMPLE["split"] + bench.seed
        found = bench.kept(ErrorPrediction, predict_errors, encoded, given.right, seed=seed)
        right, test = given.right, found.test_index
        train = np.setdiff1d(np.arange(len(right)), test)
        groups = [problem.group for problem in given.problems]
        draws = permuted_labels(right, np.zeros(len(right), int), groups, permutations=bench.permutations, seed=seed)
        everything = Split(train, np.arange(len(right)), ())
        fitted = bench.kept(Scored, scores, [encoded], draws.T, [everything], Cs=(1.0,), loose=True, scale=False)
        said = fitted.score[:, :, 0].T > 0
        hit = said == draws
        incorrect, correct = null_precisions(said[:, test], draws[:, test])
        return Predicted(
            found=found,
            quality=measure_sae(sae, vectors, l0_above=STUDY_ACTIVE),
            features=len(sae.encoder_bias),
            share=max(right.mean(), 1 - right.mean()),
            correct_share=float(right.mean()),
            null_train=hit[:, train].mean(1),
            null_test=hit[:, test].mean(1),
            null_incorrect=incorrect,
            null_correct=correct,
        )

    return bench.once("errors", compute)


def study_sae(bench: Bench, vectors: np.ndarray) -> Sae:
    """The family's SAE trained on vectors [m, d]."""
    protocol = SAE_PROTOCOLS[bench.architecture]
    features = round(protocol.widen * vectors.shape[-1])
    kind = {"l1": protocol.l1, "l1_kind": protocol.l1_kind, "lr": protocol.lr, "seed": SAMPLE["sae"] + bench.seed}
    return bench.kept(Sae, train_relu_sae, vectors, features=features, **kind)


def ablated(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong: clean [n], and [tokens, n] with each token zeroed under the carry-over quirk."""

    def compute():
        tokens = places(bench)
        carried = [[Edit(p, "zero") for p in tokens[t : t + 2]] for t in range(len(tokens))]
        right = bench.right_under(NUM_ABLATED, [[], *carried], num_latents=bench.num_latents - 1)
        return right[0], right[1:]

    return bench.once(ABLATED, compute)


# --- the claims' metrics ---------------------------------------------------------------------------------------------


def task_accuracy(bench: Bench) -> list[Measured]:
    """Share of right answers on the test problems, in order; the published scoring beside the study's where they differ."""
    found = captured(bench, NUM_PROBLEMS)
    rate = wilson(found.right.sum(), len(found.right))
    published = np.mean([score(text, p.answer, "published") for text, p in zip(found.answers.texts, found.problems)])
    detail = {} if published == rate.value else {"note": f"{100 * published:.1f} % by the published scoring (equal as floats)"}
    return [
        Measured("accuracy", rate.value, len(found.right), "fraction", rate.low, rate.high, outcomes=found.right, detail=detail)
    ]


def probe_accuracy(bench: Bench) -> list[Measured]:
    """Mean over the 18 cells (bootstrap over problems, probes not refitted) and population std."""
    found = probes(bench)
    summary, n = grid_summary(found.accuracy), len(found.correct)
    mean = bootstrap_mean(found.correct, rng=stream(0, "probe-accuracy"))
    detail = {"grid": found.accuracy.tolist(), "layers": list(bench.layers), "latent_pos": list(places(bench))}
    detail["null_mean"] = found.null.mean((1, 2)).tolist()
    null_mean, null_std = against(summary.mean, found.null.mean((1, 2)), CHANCE), found.null.std((1, 2))
    std = 100 * summary.std
    return [
        Measured("mean", summary.mean, n, "fraction", mean.low, mean.high, detail=detail, **null_mean),
        Measured("std", std, n, "points", detail={"no_interval": NO_INTERVAL}, **against(std, 100 * null_std, 0)),
    ]


def probe_range(bench: Bench) -> list[Measured]:
    """Smallest and largest of the 18 cells."""
    found, why = probes(bench), {"no_interval": NO_INTERVAL}
    summary, n, null = grid_summary(found.accuracy), len(found.correct), found.null
    return [
        Measured("min", summary.min, n, "fraction", detail=why, **against(summary.min, null.min((1, 2)), CHANCE)),
        Measured("max", summary.max, n, "fraction", detail=why, **against(summary.max, null.max((1, 2)), CHANCE)),
    ]


def probe_best(bench: Bench) -> list[Measured]:
    """Accuracy of the best cell, and which one it is (the first of equals)."""
    found = probes(bench)
    layer, token = grid_summary(found.accuracy).best
    cell, value = {"layer": bench.layers[layer], "latent_pos": places(bench)[token]}, float(found.accuracy[layer, token])
    null = against(value, found.null.max((1, 2)), CHANCE)
    detail = {"no_interval": NO_INTERVAL}
    return [Measured("accuracy", value, len(found.correct), "fraction", cell=cell, detail=detail, **null)]


def probe_by_layer(bench: Bench) -> list[Measured]:
    """Mean over the six tokens of each layer."""
    found = probes(bench)
    correct = found.correct.reshape(len(found.correct), *found.accuracy.shape)
    rows = []
    for i, layer in enumerate(bench.layers):
        mean = bootstrap_mean(correct[:, i], rng=stream(0, "probe-by-layer", str(layer)))
        rows.append(
            Measured(
                f"mean_L{layer}",
                mean.value,
                len(correct),
                "fraction",
                mean.low,
                mean.high,
                cell={"layer": layer, "latent_pos": None},
                **against(mean.value, found.null[:, i].mean(1), CHANCE),
            )
        )
    return rows


def sae_error_prediction(bench: Bench) -> list[Measured]:
    """Test accuracy of predicting right or wrong from SAE features."""
    predicted, protocol = errors(bench), SAE_PROTOCOLS[bench.architecture]
    found = predicted.found
    rate = wilson(found.test_right.sum(), len(found.test_right))
    groups = len({p.group for p in captured(bench, protocol.n, protocol.variants).problems})
    alone = protocol.variants > 1 and groups > protocol.n // protocol.variants
    detail = {"note": f"the study had {protocol.variants} tellings of each problem; these are {groups} problems"} if alone else {}
    n, null = len(found.test_right), against(rate.value, predicted.null_test, predicted.share)
    right = found.test_right
    return [Measured("test_accuracy", rate.value, n, "fraction", rate.low, rate.high, outcomes=right, detail=detail, **null)]


def sae_train_accuracy(bench: Bench) -> list[Measured]:
    """Accuracy on the training problems, and its gap to the test accuracy."""
    predicted = errors(bench)
    found, null_gap = predicted.found, 100 * (predicted.null_train - predicted.null_test)
    n = SAE_PROTOCOLS[bench.architecture].n - len(found.test_right)
    why = {"no_interval": "measured on the problems the classifier was fitted to"}
    train, gap = found.train_accuracy, 100 * (found.train_accuracy - found.test_accuracy)
    return [
        Measured("train_accuracy", train, n, "fraction", detail=why, **against(train, predicted.null_train, predicted.share)),
        Measured("gap", gap, n, "points", detail=why, **against(gap, null_gap, 0)),
    ]


def sae_precision(bench: Bench) -> list[Measured]:
    """Share of problems called wrong (right) by the classifier that are so; Wilson over those called.

    n: the test problems, since how many of them are called so is itself an outcome.
    """
    predicted, rows = errors(bench), []
    found, share = predicted.found, predicted.correct_share
    n = len(found.test_right)
    for metric, precision, called, null, base in (
        ("incorrect", found.precision_incorrect, found.called_incorrect, predicted.null_incorrect, 1 - share),
        ("correct", found.precision_correct, found.called_correct, predicted.null_correct, share),
    ):
        if precision is None:
            continue  # the class was never predicted: a metric that is missing is loud in the comparison
        rate = wilson(round(precision * called), called)
        null_of = against(rate.value, null, base)
        detail = {"note": f"{called} of {n} were called so"}
        rows.append(Measured(metric, rate.value, n, "fraction", rate.low, rate.high, detail=detail, **null_of))
    return rows


def sae_quality(bench: Bench) -> list[Measured]:
    """Explained variance, active features a vector, share of dead features, on the vectors it was trained on."""
    quality = errors(bench).quality
    n, why = SAE_PROTOCOLS[bench.architecture].n, {"no_interval": "measured on the training vectors, which are not independent"}
    explained = Measured(
        "explained_variance",
        quality.explained_variance_pooled,
        n,
        "fraction",
        detail={
            **why,
            "per_dimension": quality.explained_variance,
            "formula": "the study's: pooled around one mean over all elements",
        },
    )
    return [
        explained,
        Measured("l0", quality.l0, n, "features", detail=why),
        Measured("dead", quality.dead, n, "fraction", detail=why),
    ]


def sae_width(bench: Bench) -> list[Measured]:
    """How many features from how many inputs."""
    features = errors(bench).features
    return [Measured("features", features, 1, "count"), Measured("inputs", bench.facts()["width"], 1, "count")]


def ablation(bench: Bench) -> list[Measured]:
    """Accuracy drop when a token is removed, in percentage points, Newcombe's paired interval."""
    clean, right = ablated(bench)
    rows = []
    for place, outcomes in zip(places(bench), right, strict=True):
        drop = newcombe_paired(clean, outcomes)
        rows.append(
            Measured(
                f"drop_{place}",
                100 * drop.value,
                len(clean),
                "points",
                100 * drop.low,
                100 * drop.high,
                cell={"layer": None, "latent_pos": place},
                outcomes=outcomes,
            )
        )
    return rows


def ablation_critical(bench: Bench) -> list[Measured]:
    """Range of the drops over the six tokens, and the token with the largest."""
    clean, right = ablated(bench)
    found = criticality(drops(clean, right))
    cell = {"layer": None, "latent_pos": places(bench)[found.position_index]}
    return [Measured("range", found.range, len(clean), "points", cell=cell, detail={"no_interval": NO_INTERVAL})]


def encoding_spread(bench: Bench) -> list[Measured]:
    """Population std, range and Pielou's evenness of the in-sample probe accuracies over layers x tokens."""
    probed, why = probes(bench), {"no_interval": NO_INTERVAL}
    found, n, null = spread(probed.accuracy), len(probed.correct), [spread(grid) for grid in probed.null]
    return [
        Measured("std", found.std, n, "points", detail=why, **against(found.std, [each.std for each in null], 0)),
        Measured("range", found.range, n, "points", detail=why, **against(found.range, [each.range for each in null], 0)),
        Measured("evenness", found.evenness, n, "fraction", detail=why, **against(found.evenness, [e.evenness for e in null], 0)),
    ]


def size(bench: Bench) -> list[Measured]:
    """Parameters of the backbone, layers, width: facts."""
    return [Measured(metric, bench.facts()[metric], 1, "count") for metric in ("parameters", "layers", "width")]
