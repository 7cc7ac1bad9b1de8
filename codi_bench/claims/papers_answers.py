"""How often answers are right: the published evaluation, each problem alone, and problems unlike those of training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codi_bench.claims.claim import Bench, Measured, Null
from codi_bench.claims.papers_latents import NUM_CLAIMS, rate_of, rates
from codi_bench.claims.seed_sound import ACCURACY_FLOOR, effect_over, ends
from codi_bench.models.loop import MASKED, UNMASKED
from codi_bench.problems import Problem
from codi_bench.rules.stats import Estimate, mcnemar_exact, newcombe_paired
from codi_bench.rules.validity import across_claims, order_verdict, sound_verdict

NUM_ANSWERED = 1319  # problems, as many as GSM8K's test split has
BATCH_FLOOR = 0.01


def accuracy(bench: Bench) -> list[Measured]:
    """Share of problems answered rightly by the published evaluation, whose thoughts attend to paddings."""
    return [rate_of("accuracy", bench.answered(bench.problems(NUM_ANSWERED), padding=UNMASKED))]


def alone(bench: Bench) -> list[Measured]:
    """Share of problems answered rightly, each alone."""
    return [rate_of("accuracy", bench.answered(bench.problems(NUM_ANSWERED), padding=MASKED))]


def alone_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same against always giving the most frequent answer."""
    problems = bench.problems(NUM_ANSWERED)
    return _over_constant({"accuracy": (bench.answered(problems, padding=MASKED), problems)}, reported)


def batch_effect(bench: Bench) -> list[Measured]:
    """The same beside the accuracy of problems answered alone."""
    return rates(_batches(bench))


def batch_effect_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """Are more problems answered rightly in padded batches than alone?"""
    batches, single = _batches(bench).values()
    gain, p = newcombe_paired(batches, single), float(across_claims([mcnemar_exact(batches, single, "greater")], NUM_CLAIMS)[0])
    word = sound_verdict(gain, delta=BATCH_FLOOR, p={"alone": p}, marginal="alone", n=len(single))
    null = Null(float(single.mean()), p=p)
    return [rate_of("batches", batches, null=null, verdict=word, detail={"gain": ends(gain)})]


def _batches(bench: Bench) -> dict[str, np.ndarray]:
    problems = bench.problems(NUM_ANSWERED)
    return {"batches": bench.answered(problems, padding=UNMASKED), "alone": bench.answered(problems, padding=MASKED)}


# Out of distribution


def elsewhere(bench: Bench) -> list[Measured]:
    """Share of each other set answered rightly by the published evaluation."""
    return rates({_metric(name): bench.answered(problems, padding=UNMASKED) for name, problems in _sets(bench).items()})


def elsewhere_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same, each problem alone, against always giving the set's most frequent answer."""
    return _over_constant(
        {_metric(name): (bench.answered(problems, padding=MASKED), problems) for name, problems in _sets(bench).items()}, reported
    )


def beats_words(bench: Bench) -> list[Measured]:
    """How much more often thoughts answer rightly than the own teacher in words, on each other set."""
    return [Measured(name, gain.value, n, "fraction", gain.low, gain.high) for name, (gain, n) in _gains(bench, UNMASKED).items()]


def beats_words_sound(bench: Bench, reported: Mapping[str, float]) -> list[Measured]:
    """The same, each problem alone."""
    return [
        Measured(name, gain.value, n, "fraction", gain.low, gain.high, verdict=order_verdict(gain))
        for name, (gain, n) in _gains(bench, MASKED).items()
    ]


def _gains(bench: Bench, padding: str) -> dict[str, tuple[Estimate, int]]:
    return {
        _metric(name).replace("accuracy", "gain"): (
            newcombe_paired(bench.answered(problems, padding=padding), bench.explained(problems)),
            len(problems),
        )
        for name, problems in _sets(bench).items()
    }


def _sets(bench: Bench) -> dict[str, list[Problem]]:
    return bench.once("problems out of distribution", bench.elsewhere)


def _metric(name: str) -> str:
    return f"accuracy_{name.replace('-', '_')}"


def _over_constant(sets: Mapping[str, tuple[np.ndarray, list[Problem]]], reported: Mapping[str, float]) -> list[Measured]:
    """Accuracy of each set over that of always giving its most frequent answer."""
    constants = {}
    for name, (_, problems) in sets.items():
        answers = [problem.answer for problem in problems]
        common = max(sorted(set(answers)), key=answers.count)
        constants[name] = np.array([answer == common for answer in answers])
    p = across_claims([mcnemar_exact(sets[name][0], constant, "greater") for name, constant in constants.items()], NUM_CLAIMS)
    rows = []
    for (name, constant), corrected in zip(constants.items(), p, strict=True):
        right, null = sets[name][0], Null(float(constant.mean()), p=float(corrected))
        gain, delta = newcombe_paired(right, constant), effect_over(reported, name, null.value, ACCURACY_FLOOR)
        assert null.p is not None
        word = sound_verdict(gain, delta=delta, p={"constant": null.p}, marginal="constant", n=len(right))
        rows.append(rate_of(name, right, null=null, verdict=word, detail={"gain": ends(gain)}))
    return rows
