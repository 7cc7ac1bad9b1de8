"""What the journal behind the first study released of zeroed thoughts, and a contradiction in it, problem by problem."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np

from codi_bench.audits.ablation import DROP_FLOOR
from codi_bench.claims.blocks import PAIRED, rate
from codi_bench.claims.claim import SEED, Protocols, Published, claim, points, without_word
from codi_bench.claims.comparisons import gained
from codi_bench.claims.first_study import GPT2, LLAMA
from codi_bench.claims.on_files import ReleasedBench, on_released
from codi_bench.claims.released_study import FAMILY, RELEASED, SOURCE
from codi_bench.errors import MeasureError
from codi_bench.rules.controls import check_alive, check_room
from codi_bench.rules.stats import bootstrap_mean, newcombe_paired, stream
from codi_bench.rules.validity import half_effect, order_verdict
from codi_bench.thoughts.cot_exploration import problem_pairs
from codi_bench.thoughts.edited_runs import (
    Edited,
    Zeroed,
    gpt2_zeroed,
    llama_cumulative,
    llama_zeroed,
    llama_zeroed_532,
)
from codi_bench.thoughts.internalize_cot import spelling

MATCHED = {GPT2: gpt2_zeroed, LLAMA: llama_zeroed}
SPOILT = "its script goes on zeroing while eot and the answer are processed: no answer was left to be right"
CHOSEN = "all problems were chosen as wrong with zeros at all six places: such a share grows to 1 by construction"


def check(runs: Edited) -> None:
    """Raises MeasureError where a problem stands there twice, no edit changes anything, or there is nothing to lose."""
    if len(set(runs.questions)) < len(runs.questions):
        raise MeasureError("a problem occurs twice, but each must count once")
    check_alive(np.zeros(len(runs.clean), bool), runs.changed)
    check_room(runs.clean)


# Zeros at all places


def lost(pairs: Zeroed) -> np.ndarray:
    """Is a member of each pair right before and wrong with zeros, bool [n]?"""
    return np.asarray((pairs.clean & ~pairs.zeroed).any(axis=1))


@on_released(
    "gs-necessity",
    {GPT2: (gpt2_zeroed,), LLAMA: (llama_zeroed, llama_zeroed_532)},
    protocol=(
        "as it counted: 101 pairs of which both models answer both members rightly, lost where either member is wrong with zeros "
        "for bot and five latents behind the middle layer; lost_532: the same of all 532 pairs, members with other numbers "
        "compared with the answer of the clean member where there are zeros, with their own where there are none"
    ),
    sound=(
        "each pair once (96 and 500), by member; loss against the run without zeros, which nothing can be gained over where all "
        "were chosen as right; drop: clean members of all pairs, gains and losses; exact McNemar, Holm in the claim times the "
        "claims of the family. gpt2: no word, for its script zeroes the answer too"
    ),
    same_list=True,
)
def necessity(bench: ReleasedBench, published: Published) -> Protocols:
    """With zeros for all latents right answers become wrong."""
    sets = {"lost": bench.read(MATCHED[bench.model.name])}
    if bench.model.name == LLAMA:
        sets["lost_532"] = bench.read(llama_zeroed_532)
    yield [rate(name, lost(pairs)) for name, pairs in sets.items()]

    matched, *all_pairs = sets.values()
    once = matched.distinct
    pairs = {
        "drop_matched": (matched.clean[once, 0], matched.zeroed[once, 0]),
        "drop_matched_perturbed": (matched.clean[once, 1], matched.zeroed[once, 1]),
    }
    for each in all_pairs:
        pairs["drop"] = each.clean[each.distinct, 0], each.zeroed[each.distinct, 0]
    check_alive(*zeros_of(pairs))
    check_room(pairs["drop" if all_pairs else "drop_matched"][0])
    either = without_word("either of two members, and of perturbed ones by another's answer: judged by member")
    rows = [rate(name, lost(each)[each.distinct], detail=either) for name, each in sets.items()]
    delta = half_effect(published.get("lost"), DROP_FLOOR)
    if bench.model.name == GPT2:
        rows += [points(name, newcombe_paired(*pair), len(pair[0]), detail=without_word(SPOILT)) for name, pair in pairs.items()]
    else:
        rows += gained(pairs, "no drop", family="latents", delta=delta)
        rows[1].detail["note"] = scored_otherwise(matched, *all_pairs)
    yield rows


def zeros_of(pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Outcomes without and with zeros of all sets together, as `check_alive` takes them."""
    clean, zeroed = (np.concatenate([pair[i] for pair in pairs.values()]) for i in (0, 1))
    return clean, {"zeros": zeroed}


def scored_otherwise(matched: Zeroed, every: Zeroed) -> str:
    """How many outcomes with zeros two files of the same run disagree on, by member."""
    rows = {group: i for i, group in enumerate(every.groups)}
    both = [(i, rows[matched.groups[i]]) for i in matched.distinct if matched.groups[i] in rows]
    one, other = (np.array(each, int) for each in zip(*both, strict=True)) if both else (np.zeros(0, int),) * 2
    clean, perturbed = (matched.zeroed[one] != every.zeroed[other]).sum(axis=0)
    return (
        f"{len(both)} pairs in both files: with zeros {clean} clean members and {perturbed} perturbed ones are scored otherwise"
    )


# Zeros for the first places


@claim(
    "rel-cumulative",
    SOURCE,
    kind="order",
    n=1000,
    protocol=(
        "zeros behind layer 8 for bot, then for bot and latents up to 0, 1, 2, 3: share of answers that become wrong, of 1000 "
        "problems (809 of GSM8K's training set, 191 of its test set), all right before"
    ),
    sound=(
        "what each further place adds on the same problems: exact McNemar, Holm in the claim times the claims of the family; "
        "late_over_early: latents 1 to 3 less bot and latent 0, mean by place, bootstrap. All problems were chosen as wrong with "
        "zeros at all six places, and edited runs feed eot twice, the others once: the first step holds both"
    ),
    files={LLAMA: (llama_cumulative,)},
    **RELEASED,
)
def cumulative(bench: ReleasedBench, published: Published) -> Protocols:
    """Late thoughts matter more than early ones, judged by the cost of zeros up to a place."""
    runs: Edited = bench.read(llama_cumulative)
    yield [rate(f"lost_{place}", ~right) for place, right in runs.right.items()]

    check(runs)
    steps = [runs.clean, *runs.right.values()]
    pairs = {f"more_{place}": pair for place, pair in zip(runs.right, pairwise(steps), strict=True)}
    added = np.array([before.astype(float) - after for before, after in pairs.values()])
    late = bootstrap_mean(added[2:].mean(axis=0) - added[:2].mean(axis=0), rng=stream(SEED + bench.seed, "rel-cumulative"))
    shares = [
        rate(f"lost_{place}", ~right, detail=without_word(CHOSEN) | {"note": by_origin(runs, ~right)})
        for place, right in runs.right.items()
    ]
    yield [
        *shares,
        *gained(pairs, "no further loss", family=FAMILY),
        points("late_over_early", late, len(runs.clean), verdict=order_verdict(late)),
    ]


def by_origin(runs: Edited, outcomes: np.ndarray) -> str:
    """Counts of outcomes, bool [n], by the set that problems are of."""
    origin = np.array(runs.origin)
    return ", ".join(f"{name} {outcomes[origin == name].sum()} of {n}" for name, n in sorted(Counter(runs.origin).items()))


@claim(
    "contra-necessity",
    f"{SOURCE}: zeros at five places lose 86.8 % of 1000 right answers, zeros at all six 32.7 % of 202 and 63.5 % of 474",
    family="contradictions",
    kind="value",
    n=132,
    protocol="share of right answers that become wrong, each on its own problems, as the files have them",
    sound=(
        "the 132 problems that both have: how many points more six places cost than five; "
        f"{PAIRED}. six_unchosen: of the clean members of all pairs, each once; those that six places lose were chosen "
        "for the 1000"
    ),
    files={LLAMA: (llama_cumulative, llama_zeroed, llama_zeroed_532, problem_pairs)},
    runs=False,
)
def contradiction(bench: ReleasedBench, published: Published) -> Protocols:
    """The choice of problems explains why zeros at five places lose more right answers than zeros at all six."""
    five, every = bench.read(llama_cumulative), bench.read(llama_zeroed_532)
    last = [*five.right][-1]
    sets = {"six_matched": bench.read(llama_zeroed), "six_532": every}
    six = {name: ~pairs.zeroed[pairs.clean] for name, pairs in sets.items()}
    yield [rate("five", ~five.right[last][five.clean]), *(rate(name, gone) for name, gone in six.items())]

    groups = {spelling(problem.question): problem.group for problem in bench.read(problem_pairs).clean}
    rows = {every.groups[i]: i for i in every.distinct if every.clean[i, 0]}
    shared = [(i, rows[groups[q]]) for i, q in enumerate(five.questions) if groups.get(q) in rows]
    if not shared:
        raise MeasureError("no problem has outcomes with five and with six places zeroed")
    with_five, with_six = np.array([(five.right[last][i], every.zeroed[j, 0]) for i, j in shared], bool).T
    unchosen = ~every.zeroed[[*rows.values()], 0]
    known = without_word(
        f"of these, {(~with_six).sum()} of {unchosen.sum()} lost ones are among the {len(shared)} shared problems"
    )
    yield [
        *gained({"six_over_five": (with_five, with_six)}, "five places", family="contradictions"),
        rate("five", ~with_five, detail=without_word("on the shared problems; judged by six_over_five")),
        rate("six", ~with_six, detail=without_word("on the shared problems; judged by six_over_five")),
        rate("six_unchosen", unchosen, detail=known),
    ]
