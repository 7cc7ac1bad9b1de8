"""Sharing: are the thoughts of two models the same features?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

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
from codi_bench.claims.claim import Bench, Measured, Null
from codi_bench.claims.seed_sound import FAMILY_TESTS, SEED, captured, ends, surface, without_word
from codi_bench.errors import MeasureError
from codi_bench.measures.sae import Sae, train_topk_sae
from codi_bench.measures.sae_heldout import grouped_split
from codi_bench.rules.stats import stream
from codi_bench.rules.validity import check_permutations, holm_p

EPOCHS = 15
FAMILY = "sharing"


@dataclass(frozen=True, eq=False)
class Study:
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
        transfer = self.across[name]
        raw = {
            "shared": shared_p(self.shared, self.controls),
            "cka": self.cka.p,
            "matched": self.matched.p,
            "auc": dict.fromkeys((LABELS, SURFACE), 1.0) if isinstance(transfer, MeasureError) else transfer.p,
        }
        first, second = (
            holm_p({test: p[null[test == "auc"]] for test, p in raw.items()}, FAMILY_TESTS[FAMILY])
            for null in ((OTHERS, LABELS), (UNTRAINED, SURFACE))
        )
        return {test: dict(zip(p, (first[test], second[test]), strict=True)) for test, p in raw.items()}


def study(bench: Bench) -> Study:
    """Both models on the same problems; the same for both of them, and computed once."""
    first, second = sorted((bench, bench.partner), key=lambda model: model.name)
    return first.once(f"sharing with {second.name}", lambda: _study(first, second))


def _study(first: Bench, second: Bench) -> Study:
    check_permutations(first.permutations, FAMILY_TESTS[FAMILY])
    first_capture, second_capture = captured(first), captured(second)
    if first_capture.problems != second_capture.problems:
        raise MeasureError(f"{first.name} and {second.name} are measured on other problems: give both the same set")
    if first.num_latents != second.num_latents:
        raise MeasureError(f"{first.name} and {second.name} have {first.num_latents} and {second.num_latents} thoughts")
    seed, groups = SEED + first.seed, [p.group for p in first_capture.problems]
    a, b = (capture.hidden_states[:, 1:, -1].astype(np.float32) for capture in (first_capture, second_capture))  # [n, K, d]
    untrained = second.untrained_thoughts(first_capture.problems, seed=seed)
    train, test = grouped_split(groups, np.zeros(len(groups)), seed=seed)  # what needs no labels is not blocked by them
    permutation = np.arange(len(b))
    for side in (train, test):
        permutation[side] = stream(seed, "other problems").permutation(side)
    crosscode = partial(sharing, a, train=train, test=test, epochs=EPOCHS, kept=first.kept)
    shared = crosscode(b, seed=seed)
    rows = {"own": a, "other": b, "fresh": untrained}
    saes = {name: _sae(first, x[train], seed) for name, x in rows.items()}
    reseeded = _sae(first, a[train], seed + 1)
    settings = {"permutations": first.permutations, "seed": seed}
    thoughts = tuple(rows.values())
    pooled = shared.features[:, :, shared.shared].mean(axis=1)  # [n, shared features]
    rights = {first.name: first_capture.right, second.name: second_capture.right}
    transfer = partial(
        across, pooled, train=train, test=test, groups=groups, surface=surface(first_capture, len(groups)), kept=first.kept
    )
    return Study(
        shared,
        {OTHERS: crosscode(b[permutation], seed=seed), UNTRAINED: crosscode(untrained, seed=seed)},
        aligned_cka(*thoughts, **settings),  # type: ignore[arg-type]  # mypy matches * and ** with the same parameters
        aligned_features(*saes.values(), thoughts, train, test, **settings),  # type: ignore[arg-type, call-arg]  # as above
        float(np.trace(matched_products(saes["own"], reseeded, a, a, train, test)) / len(test)),
        crosscode(b, seed=seed + 1).rate.value,
        {
            target: _across_or_error(transfer, theirs=rights[source], own=rights[target], **settings)
            for target, source in ((first.name, second.name), (second.name, first.name))
        },
        len(test),
    )


def _across_or_error(transfer: Callable[..., Across], **settings) -> Across | MeasureError:
    """Errors across, or why they cannot be told: the other tests of the family do not need them."""
    try:
        return transfer(**settings)
    except MeasureError as error:
        return error


def _sae(bench: Bench, thoughts: np.ndarray, seed: int) -> Sae:
    width = thoughts.shape[-1]
    vectors = thoughts.reshape(-1, width)
    return bench.kept(Sae, train_topk_sae, vectors, features=width, k=max(4, width // 16), epochs=EPOCHS, seed=seed)


def shared_features(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Share of living crosscoder features that both models have, and what it explains of each."""
    comparison = study(bench)
    p, rate, control = comparison.p(bench.name)["shared"], comparison.shared.rate, strictest(comparison.controls)
    counts = {
        name: [crosscoder.only_first, crosscoder.both, crosscoder.only_second] for name, crosscoder in comparison.controls.items()
    }
    side = 0 if bench.name < bench.partner.name else 1
    only_first, only_second = comparison.shared.only_first, comparison.shared.only_second
    exclusive = (only_first, only_second)[side] / comparison.shared.alive
    why = without_word("a share of the features, judged as the shared ones")
    explained = without_word("explained by all features, shared or not")
    return [
        Measured(
            "shared",
            rate.value,
            comparison.shared.alive,
            "fraction",
            rate.low,
            rate.high,
            detail={"over": ends(over(comparison.shared, control)), "controls": counts, "another seed": comparison.again, "p": p},
            null=Null(control.rate.value, control.rate.low, control.rate.high, max(p.values())),
            verdict=shared_word(comparison.shared, comparison.controls, p),
        ),
        Measured("exclusive", exclusive, comparison.shared.alive, "fraction", detail=why),
        Measured("explained_variance", comparison.shared.explained[side], comparison.n, "fraction", detail=explained),
    ]


def alignment(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """CKA of the thoughts, and how well features of two separate SAEs match."""
    comparison = study(bench)
    p, rows = comparison.p(bench.name), []
    for metric, similarity, extra in (
        ("cka", comparison.cka, {}),
        ("matched", comparison.matched, {"two seeds": comparison.seeds}),
    ):
        detail = {"untrained": similarity.untrained, "gain": ends(similarity.gain), "p": p[metric], **extra}
        rows.append(
            Measured(
                metric,
                similarity.value.value,
                similarity.n,
                "fraction",
                similarity.value.low,
                similarity.value.high,
                detail=detail,
                null=Null.of(similarity.null, max(p[metric].values())),
                verdict=aligned_word(similarity, p[metric]),
            )
        )
    return rows


def shared_errors(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """AUC of the partner's error classifier, on shared features, for this model's errors."""
    comparison, p = study(bench), study(bench).p(bench.name)["auc"]
    transfer = comparison.across[bench.name]
    if isinstance(transfer, MeasureError):
        raise transfer
    return [
        Measured(
            "auc",
            transfer.auc.value,
            len(transfer.ranked.labels),
            "fraction",
            transfer.auc.low,
            transfer.auc.high,
            ranked=transfer.ranked,
            detail={"own": ends(transfer.own), "added_auc": ends(transfer.added), "p": p},
            null=Null.of(transfer.null_auc, max(p.values())),
            verdict=across_word(transfer, p),
        )
    ]
