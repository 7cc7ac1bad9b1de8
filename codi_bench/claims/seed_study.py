"""The first study: GPT-2 against LLaMA-3.2-1B CODI on GSM8K (2025-10-24), each claim under the protocol really used.

The document counts `bot-first`: its "token 0" is the bot step and tokens 1..5 are latents 0..4; a sixth latent was never
fed. Figures live in `baselines/`, never here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codi_bench.claims.claim import Bench, Captured, Claim, Measured
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
from codi_bench.models.edits import BOT, Edit
from codi_bench.problems import score
from codi_bench.stats import bootstrap_mean, newcombe_paired, stream, wilson

SOURCE = "GPT-2 vs LLaMA CODI: Comparative Analysis, 2025-10-24"
DECODING = "bot-first, so bot and five latents; greedy, at most 256 tokens; right if the integer part of the last number agrees"
PROBING = (
    "50 right and 50 wrong problems; three layers x six tokens (bot, latents 0-4); per cell StandardScaler on all 100, "
    "LogisticRegressionCV over six C, then the accuracy on the same 100: no problem is held out"
)
SAE = (
    "ReLU SAE with L1 trained on all problems, test problems included; features of all vectors of a problem concatenated; "
    "LogisticRegression, one 80/20 stratified split that ignores variants"
)
ABLATION = (
    "first 100 problems; token t's input zeroed and the next input not recomputed, so zeros are fed at t and t+1 "
    "(token t zeroes latents t-1 and t; token 0: bot and latent 0; token 5: latent 4)"
)
NO_INTERVAL = "extremes and spreads over cells have no honest interval"
NUM_PROBLEMS, NUM_PROBED, NUM_ABLATED = 1000, 100, 100
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


# --- what several claims share ---------------------------------------------------------------------------------------


def places(bench: Bench) -> tuple[int | str, ...]:
    """The study's tokens in our words, `bot-first`: bot, then the latent positions that it fed (one fewer than K)."""
    return (BOT, *range(bench.num_latents - 1))


def captured(bench: Bench, n: int, variants: int = 1) -> Captured:
    """Problems thought about with one latent fewer than K, as the study did."""
    return bench.captured(n, num_latents=bench.num_latents - 1, variants=variants)


def probes(bench: Bench) -> tuple[InSampleProbes, np.ndarray]:
    """In-sample probes over layers x tokens, and their accuracy as a grid [layers, tokens]."""

    def compute():
        found = captured(bench, NUM_PROBLEMS)
        chosen = balanced_sample(
            found.right, per_class=NUM_PROBED // 2, shuffle=bench.family == "gpt2"
        )  # the LLaMA script did not shuffle
        states = found.hidden_states[chosen][:, :, list(bench.layers)].astype(np.float32)  # [100, tokens, layers, d]
        cells = states.transpose(0, 2, 1, 3).reshape(NUM_PROBED, -1, states.shape[-1])
        fitted = in_sample_probes(cells, found.right[chosen])
        return fitted, fitted.accuracy.reshape(len(bench.layers), -1)

    return bench.once("probes", compute)


def errors(bench: Bench) -> tuple[ErrorPrediction, SaeQuality, int]:
    """Error prediction from SAE features, the SAE's quality, and its number of features."""

    def compute():
        protocol = SAE_PROTOCOLS[bench.family]
        found = captured(bench, protocol.n, protocol.variants)
        states = found.hidden_states[:, :, list(bench.sae_layers)].astype(np.float32)  # [n, tokens, layers, d]
        vectors = states.reshape(-1, states.shape[-1])
        features = round(protocol.widen * states.shape[-1])
        sae = train_relu_sae(
            vectors, features=features, l1=protocol.l1, l1_kind=protocol.l1_kind, lr=protocol.lr, seed=SAMPLE["sae"]
        )
        encoded = sae.encode(vectors).reshape(len(states), -1)
        return (
            predict_errors(encoded, found.right, seed=SAMPLE["split"]),
            measure_sae(sae, vectors, l0_above=STUDY_ACTIVE),
            features,
        )

    return bench.once("errors", compute)


def ablated(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong: clean [n], and [tokens, n] with each token zeroed under the carry-over quirk."""

    def compute():
        tokens = places(bench)
        carried = [[Edit(p, "zero") for p in tokens[t : t + 2]] for t in range(len(tokens))]
        right = bench.right_under(NUM_ABLATED, [[], *carried], num_latents=bench.num_latents - 1)
        return right[0], right[1:]

    return bench.once("ablated", compute)


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
    fitted, grid = probes(bench)
    summary, n = grid_summary(grid), len(fitted.correct)
    mean = bootstrap_mean(fitted.correct, rng=stream(0, "probe-accuracy"))
    detail = {"grid": grid.tolist(), "layers": list(bench.layers), "latent_pos": list(places(bench))}
    return [
        Measured("mean", summary.mean, n, "fraction", mean.low, mean.high, detail=detail),
        Measured("std", 100 * summary.std, n, "points", detail={"no_interval": NO_INTERVAL}),
    ]


def probe_range(bench: Bench) -> list[Measured]:
    """Smallest and largest of the 18 cells."""
    fitted, grid = probes(bench)
    summary, n, why = grid_summary(grid), len(fitted.correct), {"no_interval": NO_INTERVAL}
    return [Measured("min", summary.min, n, "fraction", detail=why), Measured("max", summary.max, n, "fraction", detail=why)]


def probe_best(bench: Bench) -> list[Measured]:
    """Accuracy of the best cell, and which one it is (the first of equals)."""
    fitted, grid = probes(bench)
    layer, token = grid_summary(grid).best
    cell = {"layer": bench.layers[layer], "latent_pos": places(bench)[token]}
    return [
        Measured(
            "accuracy", float(grid[layer, token]), len(fitted.correct), "fraction", cell=cell, detail={"no_interval": NO_INTERVAL}
        )
    ]


def probe_by_layer(bench: Bench) -> list[Measured]:
    """Mean over the six tokens of each layer."""
    fitted, grid = probes(bench)
    correct = fitted.correct.reshape(len(fitted.correct), *grid.shape)
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
            )
        )
    return rows


def sae_error_prediction(bench: Bench) -> list[Measured]:
    """Test accuracy of predicting right or wrong from SAE features."""
    found, *_ = errors(bench)
    rate, protocol = wilson(found.test_right.sum(), len(found.test_right)), SAE_PROTOCOLS[bench.family]
    groups = len({p.group for p in captured(bench, protocol.n, protocol.variants).problems})
    alone = protocol.variants > 1 and groups > protocol.n // protocol.variants
    detail = {"note": f"the study had {protocol.variants} tellings of each problem; these are {groups} problems"} if alone else {}
    n = len(found.test_right)
    return [Measured("test_accuracy", rate.value, n, "fraction", rate.low, rate.high, outcomes=found.test_right, detail=detail)]


def sae_train_accuracy(bench: Bench) -> list[Measured]:
    """Accuracy on the training problems, and its gap to the test accuracy."""
    found, *_ = errors(bench)
    n, why = (
        SAE_PROTOCOLS[bench.family].n - len(found.test_right),
        {"no_interval": "measured on the problems the classifier was fitted to"},
    )
    gap = 100 * (found.train_accuracy - found.test_accuracy)
    return [
        Measured("train_accuracy", found.train_accuracy, n, "fraction", detail=why),
        Measured("gap", gap, n, "points", detail=why),
    ]


def sae_precision(bench: Bench) -> list[Measured]:
    """Share of problems called wrong (right) by the classifier that are so; Wilson over those called."""
    found, *_ = errors(bench)
    rows = []
    for metric, precision, called in (
        ("incorrect", found.precision_incorrect, found.called_incorrect),
        ("correct", found.precision_correct, found.called_correct),
    ):
        if precision is None:
            continue  # the class was never predicted: a metric that is missing is loud in the comparison
        rate = wilson(round(precision * called), called)
        rows.append(Measured(metric, rate.value, called, "fraction", rate.low, rate.high))
    return rows


def sae_quality(bench: Bench) -> list[Measured]:
    """Explained variance, active features a vector, share of dead features, on the vectors it was trained on."""
    _, quality, _ = errors(bench)
    n, why = SAE_PROTOCOLS[bench.family].n, {"no_interval": "measured on the training vectors, which are not independent"}
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
    *_, features = errors(bench)
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
    fitted, grid = probes(bench)
    found, n, why = spread(grid), len(fitted.correct), {"no_interval": NO_INTERVAL}
    return [
        Measured("std", found.std, n, "points", detail=why),
        Measured("range", found.range, n, "points", detail=why),
        Measured("evenness", found.evenness, n, "fraction", detail=why),
    ]


def size(bench: Bench) -> list[Measured]:
    """Parameters of the backbone, layers, width: facts."""
    return [Measured(metric, bench.facts()[metric], 1, "count") for metric in ("parameters", "layers", "width")]


FOLDS, SAMPLE = {"folds": 42, "sample": 42}, {"sae": 42, "split": 42}
CLAIMS = (
    Claim(
        "task-accuracy",
        "task accuracy",
        "value",
        "The model answers this share of the problems correctly.",
        f"{SOURCE}, summary table",
        DECODING,
        task_accuracy,
        compared=True,
    ),
    Claim(
        "probe-accuracy",
        "probes",
        "value",
        "Linear probes on the thoughts tell right from wrong answers, on average over cells.",
        f"{SOURCE}, §1",
        PROBING,
        probe_accuracy,
        FOLDS,
    ),
    Claim(
        "probe-range",
        "probes",
        "value",
        "Probe accuracy over the cells runs from this minimum to this maximum.",
        f"{SOURCE}, §1",
        PROBING,
        probe_range,
        FOLDS,
    ),
    Claim(
        "probe-best",
        "probes",
        "location",
        "One cell of layer and token is the best for a probe.",
        f"{SOURCE}, §1",
        PROBING,
        probe_best,
        FOLDS,
    ),
    Claim(
        "probe-by-layer",
        "probes",
        "value",
        "Probe accuracy differs by layer (GPT-2) or hardly does (LLaMA).",
        f"{SOURCE}, §5",
        PROBING,
        probe_by_layer,
        FOLDS,
    ),
    Claim(
        "sae-error-prediction",
        "SAE errors",
        "exists",
        "SAE features of the thoughts predict whether the answer will be wrong.",
        f"{SOURCE}, §2",
        SAE,
        sae_error_prediction,
        SAMPLE,
    ),
    Claim(
        "sae-train-accuracy",
        "SAE errors",
        "value",
        "The classifier fits its training problems and loses this much on others.",
        f"{SOURCE}, §2",
        SAE,
        sae_train_accuracy,
        SAMPLE,
    ),
    Claim(
        "sae-precision",
        "SAE errors",
        "value",
        "Of the answers called wrong (right), this share is so.",
        f"{SOURCE}, §2",
        SAE,
        sae_precision,
        SAMPLE,
    ),
    Claim(
        "sae-quality",
        "SAE errors",
        "value",
        "The SAE explains the thoughts with few active features.",
        f"{SOURCE}, §2",
        SAE,
        sae_quality,
        SAMPLE,
    ),
    Claim(
        "sae-width",
        "SAE errors",
        "fact",
        "The SAE has this many features from this many inputs.",
        f"{SOURCE}, §2",
        SAE,
        sae_width,
    ),
    Claim(
        "ablation",
        "ablation",
        "value",
        "Removing token t costs this many points of accuracy.",
        f"{SOURCE}, §3",
        ABLATION,
        ablation,
    ),
    Claim(
        "ablation-critical",
        "ablation",
        "location",
        "Some tokens are critical (GPT-2: 2 and 3) or none is (LLaMA).",
        f"{SOURCE}, §3",
        ABLATION,
        ablation_critical,
    ),
    Claim(
        "spread",
        "spread",
        "even",
        "Information is concentrated in few cells (GPT-2) or spread evenly (LLaMA).",
        f"{SOURCE}, §5",
        PROBING,
        encoding_spread,
        FOLDS,
    ),
    Claim(
        "size",
        "size",
        "fact",
        "LLaMA has about eight times the parameters.",
        f"{SOURCE}, §4",
        "counted, the backbone alone",
        size,
    ),
)
