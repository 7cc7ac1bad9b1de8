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
        told = self.across[name]
        raw = {
            "shared": shared_p(self.shared, self.controls),
            "cka": self.cka.p,
            "matched": self.matched.p,
            "auc": dict.fromkeys((LABELS, SURFACE), 1.0) if isinstance(told, MeasureError) else told.p,
        }
        first, second = (
            holm_p({test: p[null[test == "auc"]] for test, p in raw.items()}, FAMILY_TESTS[FAMILY])
            for null in ((OTHERS, LABELS), (UNTRAINED, SURFACE))
        )
        return {test: dict(zip(p, (first[test], second[test]), strict=True)) for test, p in raw.items()}


def study(bench: Bench) -> Study:
    """Both models on the same problems; the same for both of them, and computed once."""
    first, second = sorted((bench, bench.partner), key=lambda each: each.name)
    return first.once(f"sharing with {second.name}", lambda: _study(first, second))


def _study(first: Bench, second: Bench) -> Study:
    check_permutations(first.permutations, FAMILY_TESTS[FAMILY])
    one, other = captured(first), captured(second)
    if one.problems != other.problems:
        raise MeasureError(f"{first.name} and {second.name} are measured on other problems: give both the same set")
    if first.num_latents != second.num_latents:
        raise MeasureError(f"{first.name} and {second.name} have {first.num_latents} and {second.num_latents} thoughts")
    seed, groups = SEED + first.seed, [p.group for p in one.problems]
    a, b = (found.hidden_states[:, 1:, -1].astype(np.float32) for found in (one, other))  # [n, K, d]
    fresh = second.untrained_thoughts(one.problems, seed=seed)
    train, test = grouped_split(groups, np.zeros(len(groups)), seed=seed)  # what needs no labels is not blocked by them
    shuffled = np.arange(len(b))
    for side in (train, test):
        shuffled[side] = stream(seed, "other problems").permutation(side)
    crossed = partial(sharing, a, train=train, test=test, epochs=EPOCHS, kept=first.kept)
    shared = crossed(b, seed=seed)
    rows = {"own": a, "other": b, "fresh": fresh}
    saes = {name: _sae(first, x[train], seed) for name, x in rows.items()}
    again = _sae(first, a[train], seed + 1)
    numbers = {"permutations": first.permutations, "seed": seed}
    thoughts = tuple(rows.values())
    pooled = shared.features[:, :, shared.shared].mean(axis=1)  # [n, shared features]
    rights = {first.name: one.right, second.name: other.right}
    tell = partial(across, pooled, train=train, test=test, groups=groups, surface=surface(one, len(groups)), kept=first.kept)
    return Study(
        shared,
        {OTHERS: crossed(b[shuffled], seed=seed), UNTRAINED: crossed(fresh, seed=seed)},
        aligned_cka(*thoughts, **numbers),
        aligned_features(*saes.values(), thoughts, train, test, **numbers),
        float(np.trace(matched_products(saes["own"], again, a, a, train, test)) / len(test)),
        crossed(b, seed=seed + 1).rate.value,
        {
            told: _told(tell, theirs=rights[learned], own=rights[told], **numbers)
            for told, learned in ((first.name, second.name), (second.name, first.name))
        },
        len(test),
    )


def _told(tell: Callable[..., Across], **given) -> Across | MeasureError:
    """Errors across, or why they cannot be told: the other tests of the family do not need them."""
    try:
        return tell(**given)
    except MeasureError as error:
        return error


def _sae(bench: Bench, thoughts: np.ndarray, seed: int) -> Sae:
    width = thoughts.shape[-1]
    vectors = thoughts.reshape(-1, width)
    return bench.kept(Sae, train_topk_sae, vectors, features=width, k=max(4, width // 16), epochs=EPOCHS, seed=seed)


def shared_features(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Share of living crosscoder features that both models have, and what it explains of each."""
    found = study(bench)
    p, rate, control = found.p(bench.name)["shared"], found.shared.rate, strictest(found.controls)
    counts = {name: [each.only_first, each.both, each.only_second] for name, each in found.controls.items()}
    own = 0 if bench.name < bench.partner.name else 1
    one, two = found.shared.only_first, found.shared.only_second
    exclusive = (one, two)[own] / found.shared.alive
    why = without_word("a share of the features, judged as the shared ones")
    explained = without_word("explained by all features, shared or not")
    return [
        Measured(
            "shared",
            rate.value,
            found.shared.alive,
            "fraction",
            rate.low,
            rate.high,
            detail={"over": ends(over(found.shared, control)), "controls": counts, "another seed": found.again, "p": p},
            null=Null(control.rate.value, control.rate.low, control.rate.high, max(p.values())),
            verdict=shared_word(found.shared, found.controls, p),
        ),
        Measured("exclusive", exclusive, found.shared.alive, "fraction", detail=why),
        Measured("explained_variance", found.shared.explained[own], found.n, "fraction", detail=explained),
    ]


def alignment(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """CKA of the thoughts, and how well features of two separate SAEs match."""
    found = study(bench)
    p, rows = found.p(bench.name), []
    for metric, each, more in (("cka", found.cka, {}), ("matched", found.matched, {"two seeds": found.seeds})):
        detail = {"untrained": each.untrained, "gain": ends(each.gain), "p": p[metric], **more}
        rows.append(
            Measured(
                metric,
                each.value.value,
                each.n,
                "fraction",
                each.value.low,
                each.value.high,
                detail=detail,
                null=Null.of(each.null, max(p[metric].values())),
                verdict=aligned_word(each, p[metric]),
            )
        )
    return rows


def shared_errors(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """AUC of the partner's error classifier, on shared features, for this model's errors."""
    found, p = study(bench), study(bench).p(bench.name)["auc"]
    each = found.across[bench.name]
    if isinstance(each, MeasureError):
        raise each
    return [
        Measured(
            "auc",
            each.auc.value,
            len(each.ranked.labels),
            "fraction",
            each.auc.low,
            each.auc.high,
            ranked=each.ranked,
            detail={"own": ends(each.own), "added_auc": ends(each.added), "p": p},
            null=Null.of(each.null_auc, max(p.values())),
            verdict=across_word(each, p),
        )
    ]
