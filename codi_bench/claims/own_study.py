"""Questions that the first study left open, answered by experiment. Nothing was published on them, so nothing is reproduced."""

from __future__ import annotations

from codi_bench.claims import own_edits, own_reading, own_sharing, own_steering
from codi_bench.claims.claim import Bench, Claim, Measured
from codi_bench.claims.own_edits import NUM_FULL, NUM_PAIRS
from codi_bench.claims.own_reading import NUM_CHOOSING, NUM_READ
from codi_bench.claims.own_steering import NUM_TRAINING

LEFT_OPEN = "GPT-2 vs LLaMA CODI: Comparative Analysis, 2025-10-24, left open: "
STEERED = LEFT_OPEN + "can editing one thought steer the answer?"
LEARNED = LEFT_OPEN + "do two models learn the same features?"
UNPUBLISHED = "nothing was published"
PATCHING = (
    f"{NUM_PAIRS} generated pairs a step that differ in one number, which that step alone uses; of them those whose two problems "
    "are answered rightly; {what}; the rate at which the answer becomes the donor's, over the highest rate of the controls: a "
    "donor with the same value there, a problem of like length{noise}; exact McNemar against each, {corrected}"
)
TWO = (
    "thoughts after the final norm of two models on the same 1000 problems, aligned by problem and position, 80 to 20 by groups; "
)
CONTROLS = "controls: problems of one model shuffled, and an untrained second model; Holm over the four tests of the family"


def unpublished(bench: Bench) -> list[Measured]:
    """What a claim measures whose source printed no number."""
    return []


CLAIMS = (
    Claim(
        "patch-latent",
        "edits",
        "exists",
        "Putting another problem's latent at one position turns the answer into the one that its value would give.",
        STEERED,
        UNPUBLISHED,
        unpublished,
        PATCHING.format(
            what="one latent is the donor's",
            noise=", a random vector of equal norm",
            corrected="Holm over both steps and all positions",
        ),
        own_edits.patch_latent,
    ),
    Claim(
        "patch-keys",
        "edits",
        "exists",
        "Another problem's keys and values at one latent position turn the answer; the thought itself goes on as it was.",
        STEERED,
        UNPUBLISHED,
        unpublished,
        PATCHING.format(
            what="keys and values of one latent position are the donor's",
            noise="",
            corrected="Holm over both steps and all positions",
        ),
        own_edits.patch_keys,
    ),
    Claim(
        "patch-all",
        "edits",
        "exists",
        "Putting all of another problem's latents in turns the answer: what thoughts carry is enough.",
        STEERED,
        UNPUBLISHED,
        unpublished,
        PATCHING.format(
            what="all latents are the donor's", noise=", random vectors of equal norm", corrected="Holm over both steps"
        ),
        own_edits.patch_all,
    ),
    Claim(
        "early-answer",
        "edits",
        "none",
        "The answer is settled before the last latent: after k latents it is as often right.",
        STEERED,
        UNPUBLISHED,
        unpublished,
        f"{NUM_READ} problems; eot is fed after the first k latents; loss against all latents, exact McNemar, Holm over k; "
        "enough where the loss is surely below 5 points",
        own_reading.early_answer,
    ),
    Claim(
        "lens",
        "edits",
        "exists",
        "The head reads intermediate values in the states of the thoughts (logit lens).",
        STEERED,
        UNPUBLISHED,
        unpublished,
        f"the value of a step is the first of all ids, final norm before the head; cell of place and layer (the projected "
        f"thought too) chosen on {NUM_CHOOSING} problems and scored on {NUM_READ} others; against another problem's value there, "
        "exact McNemar, Holm over the steps",
        own_reading.lens,
    ),
    Claim(
        "patch-sets",
        "edits",
        "exists",
        "Another problem's latents at the first k, the last k or two positions turn the answer.",
        STEERED,
        UNPUBLISHED,
        unpublished,
        PATCHING.replace(str(NUM_PAIRS), str(NUM_FULL), 1).format(
            what="the first or last k latents are the donor's, or two, chosen on half of the pairs",
            noise=", random vectors of equal norm",
            corrected="Holm over steps and sets",
        ),
        own_edits.patch_sets,
        slow=True,
    ),
    Claim(
        "steering",
        "edits",
        "exists",
        "A direction added to one thought moves the answer to the value that was intended.",
        STEERED,
        UNPUBLISHED,
        unpublished,
        f"{NUM_FULL} pairs a step; directions from the recipient's value to the donor's, from {NUM_TRAINING} training problems: "
        "mean difference, probe weights, SAE features, all as long; place and strength chosen on half of the pairs; against a "
        "random direction there, exact McNemar, Holm over kinds and steps",
        own_steering.steer,
        slow=True,
    ),
    Claim(
        "shared-features",
        own_sharing.FAMILY,
        "exists",
        "Two models think in the same features.",
        LEARNED,
        UNPUBLISHED,
        unpublished,
        TWO + "one TopK crosscoder with as many features as the narrower model has dimensions; shared: between 0.3 and 0.7 of a "
        "feature's decoder norms are the second model's; the unit is the feature of this crosscoder; " + CONTROLS,
        own_sharing.shared_features,
        slow=True,
        with_partner=True,
    ),
    Claim(
        "alignment",
        own_sharing.FAMILY,
        "exists",
        "Thoughts of two models are alike, as CKA and as features of separately trained SAEs have it.",
        LEARNED,
        UNPUBLISHED,
        unpublished,
        TWO + "linear CKA; mean correlation on held-out problems of the features of two TopK SAEs, matched "
        "one to one on the others; intervals by a jackknife over 20 blocks of problems; " + CONTROLS,
        own_sharing.alignment,
        slow=True,
        with_partner=True,
    ),
    Claim(
        "shared-errors",
        own_sharing.FAMILY,
        "exists",
        "Features that two models share predict the errors of one from those of the other.",
        LEARNED,
        UNPUBLISHED,
        unpublished,
        TWO
        + "a logistic classifier of the other model's errors on the mean activation of shared features, held-out AUC for this "
        "model's errors; nulls: labels permuted, labels drawn given the surface; Holm over the four tests of the family",
        own_sharing.shared_errors,
        slow=True,
        with_partner=True,
    ),
)
