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
    """In-sample probes over layers x tokens, and their null.

    accuracy [layers, tokens], correct bool [100, layers x tokens]; null [permutations, layers, tokens]: accuracy of the same
    protocol on permuted labels.
    """

    accuracy: np.ndarray
    correct: np.ndarray
    null: np.ndarray


def probes(bench: Bench) -> Probed:
    """The study's probes and their null."""

    def compute():
        capture = captured(bench, NUM_PROBLEMS)
        sample = balanced_sample(
            capture.right, per_class=NUM_PROBED // 2, seed=FOLDS["sample"] + bench.seed, shuffle=bench.architecture == "gpt2"
        )  # the LLaMA script did not shuffle
        cells = capture.cells(sample, len(places(bench)), bench.layers)
        right, shape = capture.right[sample], (len(bench.layers), -1)
        seed = FOLDS["folds"] + bench.seed
        fit = bench.kept(InSampleProbes, in_sample_probes, cells, right, seed=seed)
        draws = {"groups": [capture.problems[i].group for i in sample], "permutations": bench.permutations, "seed": seed}
        null = bench.kept(np.ndarray, in_sample_null, cells, right, **draws)
        return Probed(fit.accuracy.reshape(shape), fit.correct, null.reshape(len(null), *shape))

    return bench.once("probes", compute)


@dataclass(frozen=True, eq=False)
class Predicted:
    """Error prediction from SAE features, with the SAE's quality and width.

    Under permuted labels, [permutations]: accuracies on training and test problems, and precision of calling a problem incorrect
    or correct. share: of the larger class.
    """

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
        capture = captured(bench, protocol.n, protocol.variants)
        states = capture.hidden_states[:, :, list(bench.sae_layers)].astype(np.float32)  # [n, tokens, layers, d]
        vectors = states.reshape(-1, states.shape[-1])
        sae = study_sae(bench, vectors)
        features = sae.encode(vectors).reshape(len(states), -1)
        seed = SAMPLE["split"] + bench.seed
        prediction = bench.kept(ErrorPrediction, predict_errors, features, capture.right, seed=seed)
        right, test = capture.right, prediction.test_index
        train = np.setdiff1d(np.arange(len(right)), test)
        groups = [problem.group for problem in capture.problems]
        draws = permuted_labels(right, np.zeros(len(right), int), groups, permutations=bench.permutations, seed=seed)
        split = Split(train, np.arange(len(right)), ())
        fits = bench.kept(Scored, scores, [features], draws.T, [split], Cs=(1.0,), loose=True, scale=False)
        predictions = fits.score[:, :, 0].T > 0
        hits = predictions == draws
        incorrect, correct = null_precisions(predictions[:, test], draws[:, test])
        return Predicted(
            found=prediction,
            quality=measure_sae(sae, vectors, l0_above=STUDY_ACTIVE),
            features=len(sae.encoder_bias),
            share=max(right.mean(), 1 - right.mean()),
            correct_share=float(right.mean()),
            null_train=hits[:, train].mean(1),
            null_test=hits[:, test].mean(1),
            null_incorrect=incorrect,
            null_correct=correct,
        )

    return bench.once("errors", compute)


def study_sae(bench: Bench, vectors: np.ndarray) -> Sae:
    """The family's SAE trained on vectors [m, d]."""
    protocol = SAE_PROTOCOLS[bench.architecture]
    features = round(protocol.widen * vectors.shape[-1])
    settings = {"l1": protocol.l1, "l1_kind": protocol.l1_kind, "lr": protocol.lr, "seed": SAMPLE["sae"] + bench.seed}
    return bench.kept(Sae, train_relu_sae, vectors, features=features, **settings)


def ablated(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong: clean [n], and [tokens, n] with each token zeroed under the carry-over quirk."""

    def compute():
        tokens = places(bench)
        conditions = [[Edit(p, "zero") for p in tokens[t : t + 2]] for t in range(len(tokens))]
        right = bench.right_under(NUM_ABLATED, [[], *conditions], num_latents=bench.num_latents - 1)
        return right[0], right[1:]

    return bench.once(ABLATED, compute)


# --- the claims' metrics ---------------------------------------------------------------------------------------------


def task_accuracy(bench: Bench) -> list[Measured]:
    """Share of right answers on the test problems, in order; the published scoring beside the study's where they differ."""
    capture = captured(bench, NUM_PROBLEMS)
    rate = wilson(capture.right.sum(), len(capture.right))
    published_share = np.mean([score(text, p.answer, "published") for text, p in zip(capture.answers.texts, capture.problems)])
    detail = (
        {}
        if published_share == rate.value
        else {"note": f"{100 * published_share:.1f} % by the published scoring (equal as floats)"}
    )
    return [
        Measured(
            "accuracy", rate.value, len(capture.right), "fraction", rate.low, rate.high, outcomes=capture.right, detail=detail
        )
    ]


def probe_accuracy(bench: Bench) -> list[Measured]:
    """Mean over the 18 cells (bootstrap over problems, probes not refitted) and population std."""
    probe_grid = probes(bench)
    summary, n = grid_summary(probe_grid.accuracy), len(probe_grid.correct)
    mean = bootstrap_mean(probe_grid.correct, rng=stream(0, "probe-accuracy"))
    detail = {"grid": probe_grid.accuracy.tolist(), "layers": list(bench.layers), "latent_pos": list(places(bench))}
    detail["null_mean"] = probe_grid.null.mean((1, 2)).tolist()
    null_mean, null_std = against(summary.mean, probe_grid.null.mean((1, 2)), CHANCE), probe_grid.null.std((1, 2))
    std = 100 * summary.std
    return [
        Measured("mean", summary.mean, n, "fraction", mean.low, mean.high, detail=detail, **null_mean),
        Measured("std", std, n, "points", detail={"no_interval": NO_INTERVAL}, **against(std, 100 * null_std, 0)),
    ]


def probe_range(bench: Bench) -> list[Measured]:
    """Smallest and largest of the 18 cells."""
    probe_grid, why = probes(bench), {"no_interval": NO_INTERVAL}
    summary, n, null = grid_summary(probe_grid.accuracy), len(probe_grid.correct), probe_grid.null
    return [
        Measured("min", summary.min, n, "fraction", detail=why, **against(summary.min, null.min((1, 2)), CHANCE)),
        Measured("max", summary.max, n, "fraction", detail=why, **against(summary.max, null.max((1, 2)), CHANCE)),
    ]


def probe_best(bench: Bench) -> list[Measured]:
    """Accuracy of the best cell, and which one it is (the first of equals)."""
    probe_grid = probes(bench)
    layer, token = grid_summary(probe_grid.accuracy).best
    cell, value = {"layer": bench.layers[layer], "latent_pos": places(bench)[token]}, float(probe_grid.accuracy[layer, token])
    null = against(value, probe_grid.null.max((1, 2)), CHANCE)
    detail = {"no_interval": NO_INTERVAL}
    return [Measured("accuracy", value, len(probe_grid.correct), "fraction", cell=cell, detail=detail, **null)]


def probe_by_layer(bench: Bench) -> list[Measured]:
    """Mean over the six tokens of each layer."""
    probe_grid = probes(bench)
    correct = probe_grid.correct.reshape(len(probe_grid.correct), *probe_grid.accuracy.shape)
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
                **against(mean.value, probe_grid.null[:, i].mean(1), CHANCE),
            )
        )
    return rows


def sae_error_prediction(bench: Bench) -> list[Measured]:
    """Test accuracy of predicting right or wrong from SAE features."""
    result, protocol = errors(bench), SAE_PROTOCOLS[bench.architecture]
    prediction = result.found
    rate = wilson(prediction.test_right.sum(), len(prediction.test_right))
    groups = len({p.group for p in captured(bench, protocol.n, protocol.variants).problems})
    without_variants = protocol.variants > 1 and groups > protocol.n // protocol.variants
    detail = (
        {"note": f"the study had {protocol.variants} tellings of each problem; these are {groups} problems"}
        if without_variants
        else {}
    )
    n, null = len(prediction.test_right), against(rate.value, result.null_test, result.share)
    right = prediction.test_right
    return [Measured("test_accuracy", rate.value, n, "fraction", rate.low, rate.high, outcomes=right, detail=detail, **null)]


def sae_train_accuracy(bench: Bench) -> list[Measured]:
    """Accuracy on the training problems, and its gap to the test accuracy."""
    result = errors(bench)
    prediction, null_gap = result.found, 100 * (result.null_train - result.null_test)
    n = SAE_PROTOCOLS[bench.architecture].n - len(prediction.test_right)
    why = {"no_interval": "measured on the problems the classifier was fitted to"}
    train, gap = prediction.train_accuracy, 100 * (prediction.train_accuracy - prediction.test_accuracy)
    return [
        Measured("train_accuracy", train, n, "fraction", detail=why, **against(train, result.null_train, result.share)),
        Measured("gap", gap, n, "points", detail=why, **against(gap, null_gap, 0)),
    ]


def sae_precision(bench: Bench) -> list[Measured]:
    """Share of problems called wrong (right) by the classifier that are so; Wilson over those called.

    n: the test problems, since how many of them are called so is itself an outcome.
    """
    result, rows = errors(bench), []
    prediction, share = result.found, result.correct_share
    n = len(prediction.test_right)
    for metric, precision, num_called, null, base in (
        ("incorrect", prediction.precision_incorrect, prediction.called_incorrect, result.null_incorrect, 1 - share),
        ("correct", prediction.precision_correct, prediction.called_correct, result.null_correct, share),
    ):
        if precision is None:
            continue  # the class was never predicted: a metric that is missing is loud in the comparison
        rate = wilson(round(precision * num_called), num_called)
        null_of = against(rate.value, null, base)
        detail = {"note": f"{num_called} of {n} were called so"}
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
        assert drop.low is not None and drop.high is not None
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
    summary = criticality(drops(clean, right))
    cell = {"layer": None, "latent_pos": places(bench)[summary.position_index]}
    return [Measured("range", summary.range, len(clean), "points", cell=cell, detail={"no_interval": NO_INTERVAL})]


def encoding_spread(bench: Bench) -> list[Measured]:
    """Population std, range and Pielou's evenness of the in-sample probe accuracies over layers x tokens."""
    probe_grid, why = probes(bench), {"no_interval": NO_INTERVAL}
    summary, n, null = spread(probe_grid.accuracy), len(probe_grid.correct), [spread(grid) for grid in probe_grid.null]
    return [
        Measured("std", summary.std, n, "points", detail=why, **against(summary.std, [draw.std for draw in null], 0)),
        Measured("range", summary.range, n, "points", detail=why, **against(summary.range, [draw.range for draw in null], 0)),
        Measured(
            "evenness",
            summary.evenness,
            n,
            "fraction",
            detail=why,
            **against(summary.evenness, [draw.evenness for draw in null], 0),
        ),
    ]


def size(bench: Bench) -> list[Measured]:
    """Parameters of the backbone, layers, width: facts."""
    return [Measured(metric, bench.facts()[metric], 1, "count") for metric in ("parameters", "layers", "width")]
