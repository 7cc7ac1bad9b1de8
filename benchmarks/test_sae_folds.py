"""How much of the AUC of error prediction is the split, and how much the seed of the SAE? (docs/verdicts.md, section 6)

Slow: `pytest benchmarks/test_sae_folds.py -m slow`. Five splits of 80 to 20 by groups (seeds 0..4: five different splits, whose
held-out sides may overlap, so their spread is not that of a partition), and five SAEs on each.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest

from codi_bench.audits.sae import audit_errors
from codi_bench.claims import seed_sound_sae
from codi_bench.claims.seed_reported import SAE_PROTOCOLS, SAMPLE, places
from codi_bench.claims.seed_sound import SEED, TOPK_EPOCHS, captured, surface
from codi_bench.measures.sae import train_relu_sae, train_topk_sae
from codi_bench.measures.sae_heldout import grouped_split
from codi_bench.models.registry import EMBEDDED
from codi_bench.plugin import suite_of
from codi_bench.store.files import write_text

pytestmark = pytest.mark.slow
SEEDS = range(5)  # of the splits, and of the SAEs on each
PERMUTATIONS = 2  # the fewest there can be: of the audit only AUCs are read, and no null moves those


@dataclass(frozen=True)
class Folds:
    """auc [folds][seeds] of the SAE's features; std_seeds: root mean square over folds of the std inside one; n: held out."""

    auc: list[list[float]]
    raw: list[float]
    n: list[int]
    mean: float
    std: float
    std_seeds: float
    std_folds: float


@pytest.mark.parametrize("name", EMBEDDED)
def test_sae_folds(name, request):
    suite = suite_of(request.config)
    bench, why = suite.bench_of(name)
    if bench is None:
        pytest.skip(why)
    found = folds(bench)
    claimed = seed_sound_sae.errors(bench).sets["sae"].auc.value  # the claim's own number: split 0, the study's SAE seed
    kept = {
        "model": name,
        "problems": len(captured(bench).problems),
        "splits": list(SEEDS),
        "sae_seeds": list(SEEDS),
        "one_split": {"auc": claimed, "split": SEED, "sae_seed": SAMPLE["sae"]},
    }
    write_text(Path(suite.report) / f"sae-folds-{name}.json", json.dumps(kept | asdict(found), indent=1) + "\n")
    print(f"\n{name}: AUC {found.mean:.3f}, std {found.std_seeds:.3f} over SAE seeds and {found.std_folds:.3f} over splits")
    for split, (row, raw) in enumerate(zip(found.auc, found.raw, strict=True)):
        print(f"  split {split}: {' '.join(f'{auc:.3f}' for auc in row)}  raw activations {raw:.3f}")
    print(f"  one split, as the claim has it: {claimed:.3f}")
    assert abs(claimed - found.mean) <= 3 * found.std


def folds(bench, seeds=SEEDS) -> Folds:
    """The audit of error prediction on each split with each SAE; asserts that no group is on both sides of a split."""
    given, protocol = captured(bench), SAE_PROTOCOLS[bench.architecture]
    groups, right = np.array([p.group for p in given.problems]), given.right
    states = given.hidden_states[:, : len(places(bench)), list(bench.sae_layers)].astype(np.float32)
    d = states.shape[-1]
    states, width, table = states.reshape(len(states), -1, d), round(protocol.widen * d), surface(given, len(right))
    kind = {"features": width, "l1": protocol.l1, "l1_kind": protocol.l1_kind, "lr": protocol.lr}
    auc, raw, n = [], [], []
    for split in seeds:
        train, test = grouped_split(groups, right, seed=split)
        assert not set(groups[train]) & set(groups[test])
        topk = train_topk_sae(  # the audit wants one; its seed is no matter here, so that one a split will do
            states[train].reshape(-1, d), features=width, k=max(8, d // 16), epochs=TOPK_EPOCHS, seed=SEED
        )
        found = [
            audit_errors(
                states,
                right,
                groups=groups,
                surface=table,
                train_sae=lambda x, seed=seed: train_relu_sae(x, **kind, seed=seed),
                train_topk=lambda x, topk=topk: topk,
                permutations=PERMUTATIONS,
                seed=split,
            )
            for seed in seeds
        ]
        # these are the groups that the audit held out
        assert all((each.fitted, each.n) == (len(train), len(set(groups[test]))) for each in found)
        auc.append([each.sets["sae"].auc.value for each in found])
        raw.append(found[0].sets["raw"].auc.value)
        n.append(found[0].n)
    table = np.array(auc)
    within, between = table.var(1, ddof=1).mean(), table.mean(1).std(ddof=1)
    return Folds(auc, raw, n, float(table.mean()), float(table.std(ddof=1)), float(np.sqrt(within)), float(between))
