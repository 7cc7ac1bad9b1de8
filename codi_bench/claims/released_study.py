"""What else the first study's repository released: the problems of its probes, and the words that the head reads in thoughts."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from codi_bench.audits import probes as probing
from codi_bench.audits.decoding import HIT_FLOOR, HitComparison
from codi_bench.claims import hits
from codi_bench.claims.blocks import corrected, gains, rate
from codi_bench.claims.claim import (
    SEED,
    Measured,
    Null,
    Protocols,
    Published,
    claim,
    ends,
    measured,
    points,
)
from codi_bench.claims.families import budget_of
from codi_bench.claims.first_study import GPT2, LLAMA
from codi_bench.claims.first_study.probes import CHANCE, PER_CLASS, against
from codi_bench.claims.first_study.probes import SEEDS as PROBE_SEEDS
from codi_bench.claims.first_study.released import surface_of
from codi_bench.claims.on_files import ReleasedBench
from codi_bench.errors import MeasureError
from codi_bench.measures import balanced_sample, in_sample_probes
from codi_bench.measures.grid import in_sample_null
from codi_bench.problems import Problem
from codi_bench.rules.counts import stratified_difference
from codi_bench.rules.p_values import holm_permutations, p_above
from codi_bench.rules.stats import Interval, stream
from codi_bench.rules.validity import sound_verdict
from codi_bench.thoughts.cot_exploration import Words, gpt2_labels, gpt2_words, llama_labels, llama_words
from codi_bench.thoughts.decoded import Decoded, number
from codi_bench.thoughts.internalize_cot import gsm8k_chains, spelling

SOURCE = "results released in github.com/GusSand/CoT_Exploration, recomputed"
FAMILY = "released answers"
RELEASED: dict[str, Any] = {"family": FAMILY, "runs": False}
RESULTS = (1, 2, 3)  # before the last
Strata = list[tuple[int, int]]
WORDS, LABELS = {GPT2: gpt2_words, LLAMA: llama_words}, {GPT2: gpt2_labels, LLAMA: llama_labels}


@claim(
    "rel-probe-surface",
    SOURCE,
    kind="exists",
    n=2 * PER_CLASS,
    protocol=(
        "the 100 problems of the study's probes, which follow from labels and seed; its probe (StandardScaler, "
        "LogisticRegressionCV, accuracy on the same 100) given the surface of the problems instead of states: length, numbers, "
        "steps and operators"
    ),
    sound=(
        "the same surface under ridge, nested five folds, labels permuted; on the 100, and on all 1000 labels. Hidden states "
        "were not released: the probes themselves cannot be judged"
    ),
    files={GPT2: (gpt2_labels, gsm8k_chains)},
    **RELEASED,
)
def probe_surface(bench: ReleasedBench, published: Published) -> Protocols:
    """The surface of a problem tells right from wrong answers without any thought."""
    right = bench.read(gpt2_labels).right
    sample, seed = balanced_sample(right, per_class=PER_CLASS, seed=PROBE_SEEDS["sample"]), PROBE_SEEDS["folds"]
    surface = surface_of(bench, range(len(right)))[:, None]  # one cell
    probes = in_sample_probes(surface[sample], right[sample], seed=seed)
    null = in_sample_null(surface[sample], right[sample], permutations=min(bench.permutations, 199), seed=seed)
    yield [rate("in_sample", probes.correct[:, 0], **against(float(probes.accuracy[0]), null[:, 0], CHANCE))]
    sets = {"held_out": sample, "held_out_1000": np.arange(len(right))}
    permutations = max(bench.permutations, 3 * holm_permutations(len(sets) * budget_of(FAMILY)))  # 1 would just reach alpha
    run = partial(probing.audit_probes, permutations=permutations, seed=SEED + bench.seed)
    audits = {metric: run(surface[rows], right[rows]) for metric, rows in sets.items()}
    p_values = corrected([audit.p[probing.LABELS] for audit in audits.values()], FAMILY)
    yield [row for (metric, audit), p in zip(audits.items(), p_values, strict=True) for row in held_out(metric, audit, p)]


def held_out(metric: str, audit: probing.ProbeAudit, p: float) -> list[Measured]:
    """Accuracy and AUC of a probe of one cell; p: corrected, against permuted labels."""
    word = probing.accuracy_word(audit, audit.best_accuracy, p={probing.LABELS: p})
    nulls = Null.of(audit.grid.null_held_out, p), Null.of(audit.grid.null_auc, p)
    return [
        measured(metric, audit.best_accuracy, audit.n, null=nulls[0], outcomes=audit.correct[:, 0], verdict=word),
        measured(f"auc_{metric}", audit.best_auc, audit.n, null=nulls[1], ranked=audit.ranked, verdict=word),
    ]


@claim(
    "rel-parity",
    SOURCE,
    kind="exists",
    n=285,
    protocol=(
        "is the head's first word a number? number_0 to number_6: at bot and six latents, of 285 members of 219 pairs chosen for "
        "llama-3.2-1b's need of thoughts; unnormed_0 to unnormed_5: read without the final norm, of the labels (gpt2: 1000, "
        "llama-3.2-1b: 424 members of pairs, 29 of them twice)"
    ),
    sound=(
        "each pair once, the member in GSM8K where it is there: numbers at all even places and no odd one, against the other way "
        "round; with the final norm against without it, on the problems of both files: exact McNemar, Holm in the claim times "
        "the claims of the family"
    ),
    files={model: (WORDS[model], LABELS[model]) for model in WORDS},
    **RELEASED,
)
def parity(bench: ReleasedBench, published: Published) -> Protocols:
    """The head reads a number at even places and none at odd ones, if the final norm is applied."""
    words, labels = bench.read(WORDS[bench.model.name]), bench.read(LABELS[bench.model.name])
    numbers = np.array([[not np.isnan(number(place[0])) for place in places] for places in words.words])
    yield [
        *(rate(f"number_{place}", column) for place, column in enumerate(numbers.T)),
        *(rate(f"unnormed_{place}", column) for place, column in enumerate(labels.number.T)),
    ]
    rows = distinct(words)
    even, odd = numbers[rows, ::2], numbers[rows, 1::2]
    alternate, opposite = even.all(axis=1) & ~odd.any(axis=1), odd.all(axis=1) & ~even.any(axis=1)
    pairs = {"alternates": (np.asarray(alternate), np.asarray(opposite))}
    unnormed = {spelling(problem.question): row for problem, row in zip(labels.problems, labels.number, strict=True)}
    both = [i for i in rows if spelling(words.questions[i]) in unnormed]
    without = np.array([unnormed[spelling(words.questions[i])] for i in both])
    pairs |= {f"normed_{place}": (numbers[both, place], without[:, place]) for place in (0, 2, 4)}
    yield gains(pairs, "the other reading", family=FAMILY, delta=HIT_FLOOR)


def distinct(words: Words) -> np.ndarray:
    """Rows of one member of each pair: the clean one, where it is there."""
    order = np.argsort(~words.clean, kind="stable")
    return np.sort(order[np.unique(np.array(words.groups)[order], return_index=True)[1]])


@claim(
    "rel-decoding-selection",
    SOURCE,
    kind="exists",
    n=132,
    protocol=(
        "the 132 members of these pairs that stand in GSM8K, those with one to three results before the last: are all of them "
        "among the head's first three words behind bot and six latents? Of rightly, of wrongly answered problems and of all"
    ),
    sound=(
        "the same against the values of another such problem of as many steps, exact McNemar; right less wrong at equal numbers "
        "of results (Mantel-Haenszel weights), which a log of right answers alone leaves out, normal approximation; Holm in the "
        "claim times the claims of the family"
    ),
    files={model: (file, gsm8k_chains) for model, file in WORDS.items()},
    **RELEASED,
)
def selection(bench: ReleasedBench, published: Published) -> Protocols:
    """Intermediate results are read more often in thoughts that lead to a right answer."""
    words, chains = bench.read(WORDS[bench.model.name]), bench.read(gsm8k_chains)
    sets = {"right": words.clean & words.right, "wrong": words.clean & ~words.right, "all": words.clean}
    found = {name: by_results(words, chains, np.flatnonzero(rows)) for name, rows in sets.items()}
    pooled = {name: against_others(matrices, seed=SEED + bench.seed) for name, matrices in found.items()}
    yield [rate(name, comparison.own) for name, comparison in pooled.items()]
    counts = {name: [(int(np.trace(each[m])), len(each[m])) for m in RESULTS] for name, each in found.items()}
    difference = stratified_difference(counts["right"], counts["wrong"])
    *p_values, p = corrected([*(each.p for each in pooled.values()), p_above(difference)], FAMILY)
    own = [
        rate(
            name, each.own, null=Null(each.mean, p=corrected_p), verdict=each.word(corrected_p), detail={"gain": ends(each.gain)}
        )
        for (name, each), corrected_p in zip(pooled.items(), p_values, strict=True)
    ]
    yield [*own, left_out(difference, p, counts["right"], counts["wrong"])]


def left_out(difference: Interval, p: float, right: Strata, wrong: Strata) -> Measured:
    """Right less wrong answers at equal numbers of results; right, wrong: (read, n) by number of results; p: corrected."""
    n, control = sum(n for _, n in (*right, *wrong)), "wrong answers"
    word = sound_verdict(difference, delta=HIT_FLOOR, p={control: p}, marginal=control, n=n)
    strata = zip(RESULTS, right, wrong, strict=True)
    note = "; ".join(f"{m} results: {a} of {n_a} right, {b} of {n_b} wrong" for m, (a, n_a), (b, n_b) in strata)
    return points("selection", difference, n, null=Null(0.0, p=p), verdict=word, detail={"note": note})


def by_results(words: Words, chains: dict[str, Problem], rows: np.ndarray) -> dict[int, np.ndarray]:
    """By number of results before the last: are all those of row j among the words of row i? bool [n, n]."""
    problems = tuple(chains[spelling(words.questions[i])] for i in rows)
    decoded = Decoded(problems, tuple(words.words[i] for i in rows), ("",) * len(rows), len(rows))
    matrices = hits.intermediates(decoded, RESULTS, first=3)
    return {m: matrices.get(m, np.zeros((0, 0), bool)) for m in RESULTS}


def against_others(found: dict[int, np.ndarray], *, seed: int) -> HitComparison:
    """All numbers of results together, each problem with the values of another one of as many."""
    own, other, pairs = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for m, true in found.items():
        rows = stream(seed, "another problem's", str(m)).permutation(len(true))
        if len(rows) > 1:  # a problem alone has no other
            own.append(true[rows, rows])
            other.append(true[rows, np.roll(rows, 1)])
            pairs.append(true[~np.eye(len(true), dtype=bool)])
    if not own:
        raise MeasureError("no two problems have as many results: nothing can be compared")
    return HitComparison(np.concatenate(own), np.concatenate(other), float(np.concatenate(pairs).mean()))
