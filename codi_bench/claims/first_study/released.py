"""The first study's claims on what was released of its models: right and wrong by problem, and counts.

Hidden states were not released, so nothing here is about probes; SAE and ablation are judged by the counts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from codi_bench.audits.sae import RATE_FLOOR
from codi_bench.claims.blocks import rate
from codi_bench.claims.claim import (
    SEED,
    Measured,
    Null,
    Protocols,
    Published,
    measured,
    points,
    without_word,
)
from codi_bench.claims.families import FAMILIES
from codi_bench.claims.first_study import GPT2, LLAMA
from codi_bench.claims.first_study.ablation import NUM_ABLATED
from codi_bench.claims.first_study.sae import FAMILY, SEEDS
from codi_bench.claims.first_study.task import share_over_constant
from codi_bench.claims.on_files import ReleasedBench, not_released, on_released
from codi_bench.measures import predict_errors
from codi_bench.measures.surface import surface_design
from codi_bench.problems import Problem, problems_hash, score
from codi_bench.problems.features import PRIORITY, surface_table
from codi_bench.rules.counts import difference_range, fisher, mcnemar_range, paired_verdict
from codi_bench.rules.intervals import mover_difference
from codi_bench.rules.stats import bootstrap_mean, stream, wilson
from codi_bench.rules.validity import Validity, Verdict, order_verdict
from codi_bench.thoughts.cot_exploration import (
    Labels,
    gpt2_error_classifier,
    gpt2_labels,
    gpt2_pairs,
    llama_pairs,
    problem_pairs,
)
from codi_bench.thoughts.internalize_cot import gsm8k_chains, spelling

PAIRS = {GPT2: gpt2_pairs, LLAMA: llama_pairs}
LLAMA_SAE = 128, 183  # right of so many, as the document prints (70.0 %): nothing more is known of LLaMA's classifier
not_released("the hidden states of these models", "probe-accuracy", "probe-range", "probe-best", "probe-by-layer", "spread")
not_released("what its classifier said of each problem", "sae-error-prediction", "sae-precision", "sae-quality")


# Task accuracy


@on_released(
    "task-accuracy",
    {GPT2: (gpt2_labels, problem_pairs, gpt2_pairs), LLAMA: (problem_pairs, llama_pairs)},
    protocol=(
        "as its scripts counted: gpt2 on GSM8K test 0..999 and its first 100; both models on 532 pairs of a problem and the same "
        "with other numbers, clean members alone and all 1064 answers. 32 of the pairs stand there twice, five gold answers are "
        "cut at a comma (2 for 2,125), and llama-3.2-1b is known on these pairs alone"
    ),
    sound=(
        "each of the 500 pairs once, gold answers of clean members from the full solutions, integer parts compared as on the "
        "labels; against always giving the most frequent answer, exact McNemar; all answers: the mean of a pair's two, intervals "
        "over pairs (gold answers of other numbers were computed by GPT-4)"
    ),
    compared="accuracy_pairs",
)
def task_accuracy(bench: ReleasedBench, published: Published) -> Protocols:
    """The model answers this share of the problems correctly."""
    answers, labels = bench.read(PAIRS[bench.model.name]), bench.read(gpt2_labels) if bench.model.name == GPT2 else None
    clean, every = answers.right[:, 0], answers.right.ravel()
    own = {"accuracy": clean} if labels is None else {"accuracy": labels.right, "accuracy_first_100": labels.right[:NUM_ABLATED]}
    yield [rate(metric, right) for metric, right in {**own, "accuracy_pairs": clean, "accuracy_answers": every}.items()]

    problems, right = once_each(bench)
    golds, same = [p.answer for p in problems], {"problems": problems_hash(problems)}
    rows = [share_over_constant("accuracy", right[:, 0], golds, published, **same)]
    if labels is not None:
        rows, same["note"] = on_labels(labels, published), disagreements(labels, problems, right[:, 0])
    mean = bootstrap_mean(right, rng=stream(SEED + bench.seed, "task-accuracy", "answers"))
    why = without_word("half of the gold answers were computed by GPT-4: the clean members are judged")
    yield [
        *rows,
        share_over_constant("accuracy_pairs", right[:, 0], golds, published, **same),
        measured("accuracy_answers", mean, len(right), detail=why | same),
    ]


def on_labels(labels: Labels, published: Published) -> list[Measured]:
    """Accuracy on all labels, and on those of the ablation run."""
    part = without_word("the first 100 of the 1000 above")
    return [
        share_over_constant("accuracy", labels.right, [p.answer for p in labels.problems], published),
        rate("accuracy_first_100", labels.right[:NUM_ABLATED], detail=part),
    ]


def disagreements(labels: Labels, problems: Sequence[Problem], right: np.ndarray) -> str:
    """How often the labels and another run of the same model, right bool [n], differ on the same problems."""
    known = {spelling(p.question): label for p, label in zip(labels.problems, labels.right, strict=True)}
    others = sum(known[spelling(p.question)] != each for p, each in zip(problems, right, strict=True))
    return f"{others} of {len(problems)} answers are right in one of labels and pairs and wrong in the other"


def once_each(bench: ReleasedBench) -> tuple[list[Problem], np.ndarray]:
    """Clean members of each pair once, and right or wrong of them and of the perturbed ones, bool [groups, 2].

    Right as on the labels: the integer parts agree.
    """
    pairs, answers = bench.read(problem_pairs), bench.read(PAIRS[bench.model.name])
    members = (pairs.clean, answers.clean), (pairs.perturbed, answers.perturbed)
    right = [[score(texts[i], problems[i].answer, "study") for problems, texts in members] for i in pairs.distinct]
    return [pairs.clean[i] for i in pairs.distinct], np.array(right)


# SAE features that predict errors


@on_released(
    "sae-error-prediction",
    {GPT2: (gpt2_error_classifier, gpt2_labels, gsm8k_chains)},
    protocol="as its script printed it: a share of the 200 problems of one stratified split, SAE trained on them too",
    sound=(
        "counts alone: the same split made again from labels and seed; against always saying the larger class there, and against "
        "the study's own classifier on the question's surface (length, numbers, steps and operators of its solution), fitted on "
        "the same 800; McNemar over all tables that the counts allow, times the five tests of the family. The other model: "
        "Fisher, 128 of 183 as the document prints (70.0 %; its reports have 69.40)"
    ),
    compared="test_accuracy",
    same_list=True,
)
def sae_error_prediction(bench: ReleasedBench, published: Published) -> Protocols:
    """SAE features of the thoughts predict whether the answer will be wrong."""
    labels, accuracy = bench.read(gpt2_labels), bench.read(gpt2_error_classifier).test_accuracy
    surface = predict_errors(surface_of(bench, range(len(labels.right))), labels.right, seed=SEEDS["split"])
    n = len(surface.test_right)
    right = round(accuracy * n)
    yield [measured("test_accuracy", wilson(right, n), n)]

    majority = max(int(labels.right[surface.test_index].sum()), int((~labels.right[surface.test_index]).sum()))
    others = {"majority": majority, "surface": int(surface.test_right.sum())}
    rows = {name: over_count(f"over_{name}", right, other, n) for name, other in others.items()}
    word = strictest(rows["majority"], rows["surface"])
    counts = {
        "counts": [right, n],
        "against": {LLAMA: [*LLAMA_SAE]},
        "note": ", ".join(f"{name} {other} of {n}" for name, other in others.items()),
    }
    why = without_word("a control: what the question shows without any thought")
    yield [
        measured("test_accuracy", wilson(right, n), n, detail=counts, null=Null(others["surface"] / n), verdict=word),
        rate("surface_accuracy", surface.test_right, detail=why),
        *rows.values(),
        over_llama(right, n),
    ]


def surface_of(bench: ReleasedBench, rows: Sequence[int]) -> np.ndarray:
    """What some of the labelled problems show without any thought, [n, columns]: the question, and its gold solution's steps."""
    labels, chains = bench.read(gpt2_labels), bench.read(gsm8k_chains)
    table = surface_table([chains[spelling(labels.problems[i].question)] for i in rows])
    return surface_design(table.numeric, table.categorical, len(rows), priority=PRIORITY)


def over_count(metric: str, right: int, other: int, n: int) -> Measured:
    """Are surely more right than another classifier has on the same n problems?"""
    p = min(1.0, FAMILIES[FAMILY].tests * mcnemar_range(right, other, n, "greater")[1])
    word = paired_verdict(right, other, n, delta=RATE_FLOOR, p=p)
    return points(metric, difference_range(right, other, n), n, null=Null(0.0, p=p), verdict=word)


def strictest(marginal: Measured, stricter: Measured) -> Verdict:
    """The word over both nulls: what is above the marginal one and surely not above the stricter one is an artefact."""
    assert marginal.verdict is not None and stricter.verdict is not None
    if marginal.verdict.word is not Validity.SUPPORTED:
        return marginal.verdict
    verdict = stricter.verdict
    word = Validity.ARTEFACT if verdict.word is Validity.REFUTED else verdict.word
    return replace(verdict, word=word, why=f"{stricter.metric}: {verdict.why}")


def over_llama(right: int, n: int) -> Measured:
    """The count of the other model is known from the document alone."""
    difference = mover_difference(wilson(right, n), wilson(*LLAMA_SAE))
    p, note = fisher(right, n, *LLAMA_SAE), "{} {} of {}, other problems: Fisher's exact test".format(LLAMA, *LLAMA_SAE)
    return points("over_llama", difference, n, null=Null(0.0, p=p), verdict=order_verdict(difference), detail={"note": note})


@on_released(
    "sae-train-accuracy",
    {GPT2: (gpt2_error_classifier,)},
    protocol="as its script printed it: 800 of 1000 problems, the other 200",
    sound="nothing more: which problems were predicted rightly was not released",
    same_list=True,
)
def sae_train_accuracy(bench: ReleasedBench, published: Published) -> Protocols:
    """The classifier fits its training problems and loses this much on others."""
    classifier, n, why = bench.read(gpt2_error_classifier), 800, {"no_interval": "measured on the problems it was fitted to"}
    gap = 100 * (classifier.train_accuracy - classifier.test_accuracy)
    rows = [
        measured("train_accuracy", classifier.train_accuracy, n, detail=why),
        measured("gap", gap, n, "points", detail=why),
    ]
    yield rows
    no_word = without_word("measured on the problems it was fitted to, and no outcome was released that could be permuted")
    yield [replace(row, detail=row.detail | no_word) for row in rows]
