"""Every claim that edits: where its edits do nothing, where a single answer changes, and of a model that answers 3 %."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from fake_bench import FakeBench, GivenOutcomes, N

from codi_bench.audits import steering
from codi_bench.claims import CLAIMS, transplants
from codi_bench.claims.branches import branches
from codi_bench.claims.claim import done
from codi_bench.errors import MeasureError
from codi_bench.measures.sae import Sae
from codi_bench.models.conditions import Discretised, Edited, Shortened
from codi_bench.problems.generator import Limits
from codi_bench.problems.pairs import Pair
from codi_bench.problems.problem import Problem
from codi_bench.records.baseline import Baseline
from codi_bench.store.cache import Store
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import measure_claim
from codi_bench.suite.problem_source import ProblemSource

UNEDITED = {"codi-acc-gsm8k", "codi-ood", "codi-ood-beats-cot", "scratch-baseline", "simcot-gain"}  # accuracies
UNEDITED |= {"cap-cfr", "contra-table3", "lens"}  # nothing is done to these problems: what they are read for
UNEDITED |= {"cap-batch-effect"}  # paddings that change nothing are how it should be
ELSEWHERE = {"pc-band", "steer-correctness", "kv-rank4"}  # planted where their states and keys are: test_latent_reasoning
FAMILIES = {"ablation", "edits", "latents", "contradictions"}
EDITED = (claim for claim in CLAIMS.values() if claim.runs and claim.family in FAMILIES)
EDITING = sorted(claim.id for claim in EDITED if claim.id not in UNEDITED | ELSEWHERE)
INDEX = np.arange(N)
FEW = INDEX % 33 == 0  # 3 % and some


def problem(number: int, group: str) -> Problem:
    return Problem(f"{group} {number}", ("<<1+1=2>>",) * 3, str(number), f"{group} {number}", values=(number % 9, 2, number))


def planted_pairs(n: int, *, step: int) -> list[Pair]:
    return [Pair(problem(i, f"r{step}"), problem(i + 1, f"d{step}"), problem(i, f"s{step}"), step) for i in range(N)]


class Planted(FakeBench):
    """A bench on which every edit does nothing; alive: but for one answer of one edit in a run."""

    def __init__(self, clean=INDEX % 4 > 0, *, alive=False):
        sets = {"pairs": planted_pairs, "sample": lambda n, edited=False: [], "limits": Limits()}
        sets["donors"] = lambda pairs, seed: [problem(i, "o") for i in range(len(pairs))]
        sets["first"] = lambda n, variants=1: [problem(i, "") for i in range(N)]
        super().__init__(sets=sets)
        self.model.entry, self.clean, self.alive = SimpleNamespace(beside="gpt2", architecture="gpt2"), clean, alive
        twins = transplants.Twins(tuple(planted_pairs(N, step=1)) * 9, *np.tile(INDEX + 0.0, (3, 9)))
        solved = np.tile(clean, 9)
        twins.recipient[~solved] = twins.fed[~solved] = -1
        twins.donor[:] = -2  # wrongly answered
        twins.fed[0] = -3.0 if alive else twins.fed[0]
        self.memo |= done({transplants.twins: twins})

    def answers(self, problems, conditions, **settings):
        outcomes = super().answers(problems, conditions, **settings)
        if self.alive and len(conditions) > 2:
            outcomes.answers[2].texts[1] = "another answer"
            outcomes.given_right[2, 1] ^= True
            outcomes.numbers[2, 1] = -9
        return outcomes

    def cached(self, kind, function, *arguments, **settings):
        return None if kind is Sae else super().cached(kind, function, *arguments, **settings)


@pytest.fixture(autouse=True)
def directions_of_nothing(monkeypatch):
    """Steering by vectors that nobody reads: what they are made of is tested elsewhere."""
    kinds = (*steering.KINDS, steering.RANDOM)
    monkeypatch.setattr(steering, "directions", lambda known, start, end, **_: dict.fromkeys(kinds, np.zeros((len(start), 2))))


def sound_of(claim: str, bench) -> list:
    """What the sound protocol gives, once the reported one gave what it did."""
    protocols = CLAIMS[claim].function(bench, {})
    next(protocols)
    return next(protocols)


def test_the_claims_that_edit_are_those_of_four_families():
    assert len(EDITING) >= 30 and {*CLAIMS} > UNEDITED and {"ablation", "steering", "patch-sets", "dyn-flip"} < {*EDITING}


@pytest.mark.parametrize("claim", EDITING)
def test_edits_that_change_nothing_are_dead(claim):
    with pytest.raises(MeasureError, match="^dead edit: "):
        sound_of(claim, Planted())


@pytest.mark.parametrize("claim", EDITING)
def test_one_answer_that_changes_is_a_result(claim):
    sound_of(claim, Planted(alive=True))


@pytest.mark.parametrize("claim", sorted({*EDITING} - {"dyn-flip"}))  # a wrong answer may change too
def test_a_model_that_answers_3_percent_has_nothing_to_lose_or_to_be_found(claim):
    with pytest.raises(MeasureError, match="^nothing to (lose|find): "):
        sound_of(claim, Planted(FEW, alive=True))


def outcomes(right, texts, golds) -> GivenOutcomes:
    answers, problems = [SimpleNamespace(texts=each) for each in texts], [SimpleNamespace(answer=gold) for gold in golds]
    return GivenOutcomes(given_right=np.array(right), answers=answers, problems=problems, log_probability=None)


def test_a_wrong_answer_that_becomes_another_wrong_one_shows_that_the_hook_works():
    right, own = [INDEX % 2 > 0] * 2, [*map(str, INDEX)]
    with pytest.raises(MeasureError, match="^dead edit"):
        branches(["clean", "zero"], outcomes(right, [own, own], own)).checked()
    assert branches(["clean", "zero"], outcomes(right, [own, ["-1", *own[1:]]], own)).checked()


def test_what_a_constant_answer_has_too_is_nothing_to_lose():
    right, texts = [INDEX < 120, INDEX < 100], [["5"] * N, ["6"] * N]  # 60 %
    assert branches(["clean", "zero"], outcomes(right, texts, map(str, INDEX))).checked()
    with pytest.raises(MeasureError, match="nothing to lose: 60.0 % .* a constant answer has 50.0 %"):
        branches(["clean", "zero"], outcomes(right, texts, ["5"] * 100 + [*map(str, INDEX[100:])])).checked()


class DeadHook(ModelBench):
    """A real bench whose conditions never reach the model."""

    def answers(self, problems, conditions, **settings):
        edited = (Edited, Discretised, Shortened)
        return super().answers(problems, [Edited() if isinstance(each, edited) else each for each in conditions], **settings)


def test_sound_rows_alone_are_blocked_and_say_why(tiny, tmp_path):
    bench = DeadHook(tiny, Store(tmp_path), ProblemSource(n=8), max_new_tokens=3)
    claim = CLAIMS["gs-discretise"]
    outcome = measure_claim(bench, claim, Baseline(schema=1, model=tiny.name, claim=claim.id))
    assert outcome.word == "blocked" and outcome.lines[0].startswith(
        "dead edit: none of 2 conditions (odd, all) changes anything"
    )
    assert {(row.protocol, row.status) for row in outcome.rows} == {("reported", "ok"), ("sound", "blocked")}
