"""Sharing: are the thoughts of two models the same features?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from codi_bench.audits.sharing import (
    LABELS,
    OTHERS,
    SURFACE,
    UNTRAINED,
    Across,
    Aligned,
    Sharing,
    across,
    across_word,
    aligned_cka,
    aligned_features,
    aligned_word,
    matched_products,
    over,
    shared_p,
    shared_word,
    sharing,
    strictest,
)
from codi_bench.claims import runs
from codi_bench.claims.blocks import confidence_rows, one_more_test
from codi_bench.claims.claim import SEED, Bench, Null, Protocols, Published, claim, ends, measured, once, without_word
from codi_bench.claims.families import FAMILIES
from codi_bench.claims.open_questions import LEARNED, NO_ROWS, UNPUBLISHED
from codi_bench.errors import MeasureError
from codi_bench.measures.sae import Sae, train_topk_sae
from codi_bench.measures.sae_heldout import grouped_split
from codi_bench.rules.p_values import check_permutations, holm_p
from codi_bench.rules.stats import stream

if TYPE_CHECKING:
    from codi_bench.models.model import Model

EPOCHS = 15
FAMILY = "sharing"
TWO = (
    f"thoughts after the final norm of two models on the same {runs.NUM_PROBLEMS} problems, aligned by problem and position, 80 "
    "to 20 by groups; "
)
CONTROLS = "controls: problems of one model shuffled, and an untrained second model; Holm over the four tests of the family"
SHARED: dict[str, Any] = {
    "family": FAMILY,
    "kind": "exists",
    "n": runs.NUM_PROBLEMS,
    "protocol": UNPUBLISHED,
    "with_partner": True,
}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two models, the first by name and the second: a crosscoder with its controls, and what needs none.

    seeds: how alike two SAEs of the first model are that differ in their seed; again: the share of shared features by a
    crosscoder of another seed.
    """

    shared: Sharing
    controls: dict[str, Sharing]
    cka: Aligned
    matched: Aligned
    seeds: float
    again: float
    across: dict[str, Across | MeasureError]  # by the model whose errors are told
    n: int

    def p(self, name: str) -> dict[str, dict[str, float]]:
        """Corrected p of the family's four tests against each of their two nulls, for one of the models."""
        transfer, tests = self.across[name], FAMILIES[FAMILY].tests
        raw = {
            "shared": shared_p(self.shared, self.controls),
            "cka": self.cka.p,
            "matched": self.matched.p,
            "auc": dict.fromkeys((LABELS, SURFACE), 1.0) if isinstance(transfer, MeasureError) else transfer.p,
        }
        first, second = (
            holm_p({test: p[null[test == "auc"]] for test, p in raw.items()}, tests)
            for null in ((OTHERS, LABELS), (UNTRAINED, SURFACE))
        )
        return {test: dict(zip(p, (first[test], second[test]), strict=True)) for test, p in raw.items()}


def compared(bench: Bench) -> Comparison:
    """Both models on the same problems; the same for both of them, and computed once."""
    first, second = sorted((bench, bench.partner), key=lambda one: one.model.name)
    return comparison(first, second)


@once
def comparison(first: Bench, second: Bench) -> Comparison:
    check_permutations(first.permutations, FAMILIES[FAMILY].tests)
    first_capture, second_capture = runs.captured(first), runs.captured(second)
    names = first.model.name, second.model.name
    if first_capture.problems != second_capture.problems:
        raise MeasureError(f"{names[0]} and {names[1]} are measured on other problems: give both the same set")
    if first.model.num_latents != second.model.num_latents:
        counts = f"{first.model.num_latents} and {second.model.num_latents}"
        raise MeasureError(f"{names[0]} and {names[1]} have {counts} thoughts")
    seed, groups = SEED + first.seed, [p.group for p in first_capture.problems]
    a, b = (capture.hidden_states[:, 1:, -1].astype(np.float32) for capture in (first_capture, second_capture))  # [n, K, d]
    questions = [p.question for p in first_capture.problems]
    untrained = second.cached(np.ndarray, untrained_thoughts, second.model, questions, seed=seed)
    train, test = grouped_split(groups, np.zeros(len(groups)), seed=seed)  # what needs no labels is not blocked by them
    permutation = np.arange(len(b))
    for side in (train, test):
        permutation[side] = stream(seed, "other problems").permutation(side)
    crosscode = partial(sharing, a, train=train, test=test, epochs=EPOCHS, run=first.cached)
    shared = crosscode(b, seed=seed)
    rows = {"own": a, "other": b, "fresh": untrained}
    saes, reseeded = {name: topk_sae(first, x[train], seed) for name, x in rows.items()}, topk_sae(first, a[train], seed + 1)
    settings: dict[str, Any] = {"permutations": first.permutations, "seed": seed}
    pooled = shared.features[:, :, shared.shared].mean(axis=1)  # [n, shared features]
    surface, captures = first_capture.surface(len(groups)), dict(zip(names, (first_capture, second_capture), strict=True))
    transfer = partial(across, pooled, train=train, test=test, groups=groups, surface=surface, run=first.cached)
    return Comparison(
        shared,
        {OTHERS: crosscode(b[permutation], seed=seed), UNTRAINED: crosscode(untrained, seed=seed)},
        aligned_cka(a, b, untrained, **settings),
        aligned_features(saes["own"], saes["other"], saes["fresh"], (a, b, untrained), train, test, **settings),
        float(np.trace(matched_products(saes["own"], reseeded, a, a, train, test)) / len(test)),
        crosscode(b, seed=seed + 1).rate.value,
        {
            target: across_or_error(
                transfer,
                theirs=captures[source].right,
                own=captures[target].right,
                confidence=captures[target].confidence,
                **settings,
            )
            for target, source in (names, names[::-1])
        },
        len(test),
    )


def across_or_error(transfer: Callable[..., Across], **settings: Any) -> Across | MeasureError:
    """Errors across, or why they cannot be told: the other tests of the family do not need them."""
    try:
        return transfer(**settings)
    except MeasureError as error:
        return error


def untrained_thoughts(model: Model, questions: list[str], *, seed: int) -> np.ndarray:
    """What the same architecture with fresh weights thinks, float32 [n, K, d] after the final norm."""
    states = model.untrained(seed).think(questions).hidden_states
    assert states is not None
    return np.ascontiguousarray(states[:, 1:, -1], np.float32)


def topk_sae(bench: Bench, thoughts: np.ndarray, seed: int) -> Sae:
    width = thoughts.shape[-1]
    vectors = thoughts.reshape(-1, width)
    return bench.cached(Sae, train_topk_sae, vectors, features=width, k=max(4, width // 16), epochs=EPOCHS, seed=seed)


@claim(
    "shared-features",
    LEARNED,
    sound=TWO
    + "one TopK crosscoder with as many features as the narrower model has dimensions; shared: between 0.3 and 0.7 of a "
    "feature's decoder norms are the second model's; the unit is the feature of this crosscoder; " + CONTROLS,
    **SHARED,
)
def shared_features(bench: Bench, published: Published) -> Protocols:
    """Two models think in the same features."""
    yield NO_ROWS
    found = compared(bench)
    shared, p, control = found.shared, found.p(bench.model.name)["shared"], strictest(found.controls)
    counts = {name: [each.only_first, each.both, each.only_second] for name, each in found.controls.items()}
    side = 0 if bench.model.name < bench.partner.model.name else 1
    exclusive = (shared.only_first, shared.only_second)[side] / shared.alive
    why = without_word("a share of the features, judged as the shared ones")
    explained = without_word("explained by all features, shared or not")
    detail = {"over": ends(over(shared, control)), "controls": counts, "another seed": found.again, "p": p}
    word, null = shared_word(shared, found.controls, p), Null.at(control.rate, max(p.values()))
    yield [
        measured("shared", shared.rate, shared.alive, detail=detail, null=null, verdict=word),
        measured("exclusive", exclusive, shared.alive, detail=why),
        measured("explained_variance", shared.explained[side], found.n, detail=explained),
    ]


@claim(
    "alignment",
    LEARNED,
    sound=TWO + "linear CKA; mean correlation on held-out problems of the features of two TopK SAEs, matched "
    "one to one on the others; intervals by a jackknife over 20 blocks of problems; " + CONTROLS,
    **SHARED,
)
def alignment(bench: Bench, published: Published) -> Protocols:
    """The thoughts of two models are alike, by CKA and by the features of separately trained SAEs."""
    yield NO_ROWS
    found, rows = compared(bench), []
    for metric, aligned, extra in (("cka", found.cka, {}), ("matched", found.matched, {"two seeds": found.seeds})):
        p = found.p(bench.model.name)[metric]
        detail = {"untrained": aligned.untrained, "gain": ends(aligned.gain), "p": p, **extra}
        null, word = Null.of(aligned.null, max(p.values())), aligned_word(aligned, p)
        rows.append(measured(metric, aligned.value, aligned.n, detail=detail, null=null, verdict=word))
    yield rows


@claim(
    "shared-errors",
    LEARNED,
    sound=TWO + "a ridge classifier of the other model's errors on the mean activation of shared features, held-out AUC for this "
    "model's errors; nulls: labels permuted, labels drawn given the surface; Holm over the four tests of the family",
    **SHARED,
)
def shared_errors(bench: Bench, published: Published) -> Protocols:
    """Features that two models share predict the errors of one from those of the other."""
    yield NO_ROWS
    found, name = compared(bench), bench.model.name
    p, transfer = found.p(name)["auc"], found.across[name]
    if isinstance(transfer, MeasureError):
        raise transfer
    detail = {"own": ends(transfer.own), "added_auc": ends(transfer.added), "p": p}
    null, word, n = Null.of(transfer.null_auc, max(p.values())), across_word(transfer, p), len(transfer.ranked.labels)
    yield [
        measured("auc", transfer.auc, n, ranked=transfer.ranked, detail=detail, null=null, verdict=word),
        *confidence_rows(transfer.over_confidence, one_more_test(FAMILY, transfer.over_confidence.p), n),
    ]
