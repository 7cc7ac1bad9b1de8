"""The first study: GPT-2 against LLaMA-3.2-1B CODI on GSM8K (2025-10-24): what it claimed, as it measured and as it should have.

Figures live in `baselines/`, never here.
"""

from __future__ import annotations

from codi_bench.claims import seed_reported, seed_sound_ablation, seed_sound_probes, seed_sound_sae
from codi_bench.claims.claim import Claim
from codi_bench.claims.seed_reported import FOLDS, SAMPLE

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

SOUND_DECODING = "all latents, 1000 problems in order; against always giving the most frequent answer, exact McNemar"
SOUND_PROBING = (
    "all latents fed, the same cells, first 400 problems; nested five folds that divide no group (scaling and C inside); labels "
    "permuted within folds through the whole pipeline; labels drawn from the surface alone; max-statistic over cells; AUC tested"
)
SOUND_SAE = (
    "all latents fed, 1000 problems, one split by group before any fit; the same SAE, a TopK one, raw activations, PCA "
    "and surface under one classifier, C by inner folds; labels permuted, and drawn from the surface alone; Holm over four tests"
)
SOUND_ABLATION = (
    "300 problems; one place replaced (by its mean over training problems; bot by zeros) and all that follows recomputed; exact "
    "McNemar, Holm over the latents; zero, noise of equal norm, another problem's latent (5 donors) and direct effects beside it"
)
SOUND_SPREAD = (
    "tau over the held-out cells beyond sampling error (Q with cross-validation's inflation of the variance), against 0"
)
SAME = "the same count"

CLAIMS = (
    Claim(
        "task-accuracy",
        "task accuracy",
        "value",
        "The model answers this share of the problems correctly.",
        f"{SOURCE}, summary table",
        DECODING,
        seed_reported.task_accuracy,
        SOUND_DECODING,
        seed_sound_probes.task_accuracy,
        compared="accuracy",
    ),
    Claim(
        "probe-accuracy",
        "probes",
        "value",
        "Linear probes on the thoughts tell right from wrong answers, on average over cells.",
        f"{SOURCE}, §1",
        PROBING,
        seed_reported.probe_accuracy,
        SOUND_PROBING,
        seed_sound_probes.probe_accuracy,
        FOLDS,
    ),
    Claim(
        "probe-range",
        "probes",
        "value",
        "Probe accuracy over the cells runs from this minimum to this maximum.",
        f"{SOURCE}, §1",
        PROBING,
        seed_reported.probe_range,
        SOUND_PROBING,
        seed_sound_probes.probe_range,
        FOLDS,
    ),
    Claim(
        "probe-best",
        "probes",
        "location",
        "One cell of layer and token is the best for a probe.",
        f"{SOURCE}, §1",
        PROBING,
        seed_reported.probe_best,
        SOUND_PROBING,
        seed_sound_probes.probe_best,
        FOLDS,
        compared="auc",
    ),
    Claim(
        "probe-by-layer",
        "probes",
        "value",
        "Probe accuracy differs by layer (GPT-2) or hardly does (LLaMA).",
        f"{SOURCE}, §5",
        PROBING,
        seed_reported.probe_by_layer,
        SOUND_PROBING,
        seed_sound_probes.probe_by_layer,
        FOLDS,
    ),
    Claim(
        "sae-error-prediction",
        "SAE errors",
        "exists",
        "SAE features of the thoughts predict whether the answer will be wrong.",
        f"{SOURCE}, §2",
        SAE,
        seed_reported.sae_error_prediction,
        SOUND_SAE,
        seed_sound_sae.sae_error_prediction,
        SAMPLE,
        compared="auc",
    ),
    Claim(
        "sae-train-accuracy",
        "SAE errors",
        "value",
        "The classifier fits its training problems and loses this much on others.",
        f"{SOURCE}, §2",
        SAE,
        seed_reported.sae_train_accuracy,
        SOUND_SAE,
        seed_sound_sae.sae_train_accuracy,
        SAMPLE,
    ),
    Claim(
        "sae-precision",
        "SAE errors",
        "value",
        "Of the answers called wrong (right), this share is so.",
        f"{SOURCE}, §2",
        SAE,
        seed_reported.sae_precision,
        SOUND_SAE,
        seed_sound_sae.sae_precision,
        SAMPLE,
    ),
    Claim(
        "sae-quality",
        "SAE errors",
        "value",
        "The SAE explains the thoughts with few active features.",
        f"{SOURCE}, §2",
        SAE,
        seed_reported.sae_quality,
        SOUND_SAE,
        seed_sound_sae.sae_quality,
        SAMPLE,
    ),
    Claim(
        "sae-width",
        "SAE errors",
        "fact",
        "The SAE has this many features from this many inputs.",
        f"{SOURCE}, §2",
        SAE,
        seed_reported.sae_width,
        SAME,
        seed_sound_sae.sae_width,
    ),
    Claim(
        "ablation",
        "ablation",
        "value",
        "Removing token t costs this many points of accuracy.",
        f"{SOURCE}, §3",
        ABLATION,
        seed_reported.ablation,
        SOUND_ABLATION,
        seed_sound_ablation.ablation,
    ),
    Claim(
        "ablation-critical",
        "ablation",
        "location",
        "Some tokens are critical (GPT-2: 2 and 3) or none is (LLaMA).",
        f"{SOURCE}, §3",
        ABLATION,
        seed_reported.ablation_critical,
        SOUND_ABLATION,
        seed_sound_ablation.ablation_critical,
    ),
    Claim(
        "spread",
        "spread",
        "even",
        "Information is concentrated in few cells (GPT-2) or spread evenly (LLaMA).",
        f"{SOURCE}, §5",
        PROBING,
        seed_reported.encoding_spread,
        SOUND_SPREAD,
        seed_sound_probes.encoding_spread,
        FOLDS,
        compared="tau",
    ),
    Claim(
        "size",
        "size",
        "fact",
        "LLaMA has about eight times the parameters.",
        f"{SOURCE}, §4",
        "counted, the backbone alone",
        seed_reported.size,
        SAME,
        seed_sound_probes.size,
    ),
)
