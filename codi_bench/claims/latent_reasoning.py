"""A public ledger on CODI-GPT-2 (github.com/0x0shephard/latent-reasoning): where at the answer it is decided, and what is not.

Answers are asked for by the cue, and `final_normed` at its last token is edited, as there (the ledger's "state 12 at the colon").
Spaces and directions are fitted on training problems and never on those that are scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from codi_bench.audits.ablation import CLEAN, DROP_FLOOR
from codi_bench.audits.confidence import GAIN_FLOOR
from codi_bench.audits.predictors import auc_of, audit_scores, check_classes, gain_over
from codi_bench.audits.sae import AUC_FLOOR, LABELS, SURFACE
from codi_bench.claims import runs
from codi_bench.claims.ablations import NUM_ABLATED
from codi_bench.claims.blocks import corrected, effect_over, rate, rates
from codi_bench.claims.branches import Branches, branches
from codi_bench.claims.claim import SEED, Bench, Null, Protocols, Published, claim, measured, once, points
from codi_bench.claims.open_questions.reading import NUM_READ
from codi_bench.measures.subspaces import Axes, band, keeping, principal_axes, random_basis, removing, shifting
from codi_bench.models.conditions import CLEAN as NOTHING_DONE
from codi_bench.models.conditions import AtCue, Condition, KeysMoved
from codi_bench.models.cue import CueStates
from codi_bench.problems import Problem
from codi_bench.rules.stats import Z95, Estimate, mcnemar_exact, newcombe_paired, stream
from codi_bench.rules.validity import Verdict, none_stands_out, passes, sound_verdict

if TYPE_CHECKING:
    from codi_bench.models.model import Model

SOURCE = "ledger, github.com/0x0shephard/latent-reasoning"
NUM_FITTED, NUM_RANDOM, RANK = 1000, 3, 4
WIDTH, LEADING, BAND = 768, (0, 4), (4, 32)  # of the source's model, and its components there
STRENGTHS = {"quarter": 0.25, "half": 0.5, "1": 1.0, "2": 2.0, "4": 4.0}
FLOOR = 0.05
RANDOM_SPACES, ALL_LATENTS, NOT_STEERED = "random spaces of equal rank", "all latents", "not steered"
CUE = f"the answer asked for by its cue, `final_normed` at the cue's last token edited, {NUM_ABLATED} problems"
LATENTS: dict[str, Any] = {"family": "latents", "n": NUM_ABLATED}


# What is fitted, and what is asked


@once
def training(bench: Bench) -> list[Problem]:
    """Problems that nothing is scored on."""
    scored = bench.problems.first(NUM_ABLATED), bench.problems.sample(runs.NUM_PROBLEMS, edited=True)
    return bench.problems.references(max(scored, key=len), NUM_FITTED)[0]


def states(bench: Bench, problems: list[Problem]) -> CueStates:
    return bench.cached(CueStates, _states, bench.model, [p.question for p in problems])


def _states(model: Model, questions: list[str]) -> CueStates:
    return model.at_cue(questions)


def key_axes(bench: Bench) -> Axes:
    """Of keys and values [K, blocks, 2, heads, d_head]."""
    return bench.cached(Axes, _key_axes, bench.model, [p.question for p in training(bench)])


def _key_axes(model: Model, questions: list[str]) -> Axes:
    return principal_axes(model.keys_and_values(questions))


@once
def correctness(bench: Bench) -> np.ndarray:
    """Mean state of the training problems that are answered rightly, minus that of the others, [d]."""
    problems = training(bench)
    right, x = bench.answers(problems, [AtCue()]).right()[0], states(bench, problems).states
    check_classes(right)
    return np.asarray(x[right].mean(0) - x[~right].mean(0))


def answer_under(bench: Bench, conditions: Mapping[str, Condition]) -> Branches:
    return branches(
        [*conditions], bench.answers(bench.problems.first(NUM_ABLATED), [*conditions.values()], seed=SEED + bench.seed)
    )


def draws_of(run: Branches, start: str) -> list[np.ndarray]:
    """Outcomes of all draws of a kind, the one with the fewest right first."""
    return sorted((right for name, right in run.items() if name.startswith(start)), key=np.sum)


# How it is judged


@dataclass(frozen=True, eq=False)
class Contrast:
    """Is `more` right more often than `less`, bool [n] each? delta: that counts; None: the claim is that it is not, by FLOOR."""

    more: np.ndarray
    less: np.ndarray
    control: str
    delta: float | None = None


def judge(contrasts: Mapping[str, Contrast], family: str) -> dict[str, tuple[Estimate, float, Verdict]]:
    """Difference, corrected p of a one-sided exact McNemar test, and word of each contrast of a claim."""
    p_values = corrected([mcnemar_exact(each.more, each.less, "greater") for each in contrasts.values()], family)
    tests = sum(each.delta is None for each in contrasts.values())
    words = dict[str, tuple[Estimate, float, Verdict]]()
    for (name, each), p in zip(contrasts.items(), p_values, strict=True):
        difference, n = newcombe_paired(each.more, each.less), len(each.more)
        if each.delta is None:
            bound = newcombe_paired(each.more, each.less, level=1 - 0.1 / tests)
            word = nothing_more(difference, bound, p, margin=FLOOR, n=n)
        else:
            word = sound_verdict(difference, delta=each.delta, p={each.control: p}, marginal=each.control, n=n)
        words[name] = difference, p, word
    return words


def nothing_more(gain: Estimate, bound: Estimate, p: float, *, margin: float, n: int) -> Verdict:
    """Is a gain surely below the margin? bound: the gain with an interval that is simultaneous; p: that it is above zero."""
    assert gain.low is not None and gain.high is not None and bound.high is not None
    se, deviates = (gain.high - gain.low) / (2 * Z95), passes(p) and gain.low > 0
    return none_stands_out([bound.high], margin=margin, deviates=deviates, n=n, se=se)


# The claims


@once
def band_run(bench: Bench) -> Branches:
    """Leading components and the band behind them kept and removed, and random spaces of the band's rank."""
    axes, rng = principal_axes(states(bench, training(bench)).states), stream(SEED + bench.seed, "random spaces")
    d = len(axes.centre)
    spaces = {name: axes.axes[band(d, *ends, of=WIDTH)] for name, ends in (("band", BAND), ("leading", LEADING))}
    spaces |= {f"random_{i}": random_basis(spaces["band"].shape, rng) for i in range(NUM_RANDOM)}
    conditions: dict[str, Condition] = {CLEAN: AtCue()}
    for name, basis in spaces.items():
        conditions |= {f"keep_{name}": AtCue(keeping(basis, axes.centre)), f"remove_{name}": AtCue(removing(basis, axes.centre))}
    return answer_under(bench, conditions)


@claim(
    "pc-band",
    SOURCE,
    kind="value",
    protocol=f"{CUE}: components 4 to 31 of 768 (0 to 3: leading), or as large a share, kept or removed; {NUM_FITTED} to fit",
    sound=f"against the best of {NUM_RANDOM} random spaces of equal rank, leading against band; exact McNemar, Holm",
    **LATENTS,
)
def pc_band(bench: Bench, published: Published) -> Protocols:
    """Middle components carry the answer: alone they preserve it, without them it is lost; leading ones do neither."""
    run = band_run(bench)
    kept, removed = draws_of(run, "keep_random")[-1], draws_of(run, "remove_random")[0]
    rows = {name: run[name] for name in (CLEAN, "keep_band", "remove_band", "keep_leading", "remove_leading")}
    yield rates(rows | {"keep_random": kept})
    run.checked()

    def delta(more: str, less: str) -> float:
        return effect_over(published, more, published.get(less, 0), FLOOR)

    contrasts = {
        "keep_band": Contrast(run["keep_band"], kept, RANDOM_SPACES, delta("keep_band", "keep_random")),
        "remove_band": Contrast(removed, run["remove_band"], RANDOM_SPACES, delta(CLEAN, "remove_band")),
        "keep_leading": Contrast(run["keep_band"], run["keep_leading"], "the band", delta("keep_band", "keep_leading")),
        "remove_leading": Contrast(run[CLEAN], run["remove_leading"], CLEAN),
    }
    nulls = {"keep_band": kept, "remove_band": removed, "keep_leading": run["keep_band"], "remove_leading": run[CLEAN]}
    yield [
        rate(name, run[name], null=Null(float(nulls[name].mean()), p=p), verdict=word)
        for name, (_, p, word) in judge(contrasts, "latents").items()
    ]


@once
def steering_run(bench: Bench) -> Branches:
    """The state shifted along the correctness direction, and along random ones as long."""
    direction, rng = correctness(bench), stream(SEED + bench.seed, "random directions")
    others = rng.standard_normal((NUM_RANDOM, len(direction)))
    others *= np.linalg.norm(direction) / np.linalg.norm(others, axis=1, keepdims=True)
    conditions: dict[str, Condition] = {CLEAN: AtCue()}
    for name, strength in STRENGTHS.items():
        conditions |= {f"change_{name}": AtCue(shifting(strength * direction))}
        conditions |= {f"random_{name}_{i}": AtCue(shifting(strength * other)) for i, other in enumerate(others)}
    return answer_under(bench, conditions)


@claim(
    "steer-correctness",
    SOURCE,
    kind="none",
    protocol=(
        f"{CUE}: plus the difference of the mean states of right and wrong answers to {NUM_FITTED} training problems, times "
        "1/4 to 4 (there the unit is not known)"
    ),
    sound=f"the gain is surely below 5 points; null: {NUM_RANDOM} random directions of equal norm",
    **LATENTS,
)
def steer_correctness(bench: Bench, published: Published) -> Protocols:
    """Steering along the direction of correctness does not make more answers right, at any strength."""
    run = steering_run(bench)
    clean, names = run[CLEAN], [f"change_{name}" for name in STRENGTHS]
    yield [points(name, newcombe_paired(run[name], clean), len(clean)) for name in names]
    run.checked()
    contrasts, rows = {name: Contrast(run[name], clean, NOT_STEERED) for name in names}, []
    for name, (gain, p, word) in judge(contrasts, "latents").items():
        draws = draws_of(run, f"{name.replace('change', 'random')}_")
        null = Null.of([100 * (float(draw.mean()) - float(clean.mean())) for draw in draws], p)
        rows.append(points(name, gain, len(clean), null=null, verdict=word))
    yield rows


@once
def key_run(bench: Bench) -> Branches:
    """Keys and values of one place without their leading directions, and without random ones scaled to weigh as much."""
    axes, rng = key_axes(bench), stream(SEED + bench.seed, "random directions of keys and values")
    learned = axes.axes[..., : min(RANK, axes.axes.shape[-1]), :]
    bases = {"learned_{}": learned} | {f"random_{{}}_{i}": random_basis(learned.shape, rng) for i in range(NUM_RANDOM)}
    conditions: dict[str, Condition] = {CLEAN: NOTHING_DONE}
    for name, basis in bases.items():
        scale = axes.scale(learned, basis)
        for k, directions in enumerate(zip(basis, axes.centre, scale, strict=True)):
            conditions[name.format(k)] = KeysMoved(k, removing(*directions))
    return answer_under(bench, conditions)


@claim(
    "kv-rank4",
    SOURCE,
    kind="none",
    protocol=(
        f"the {RANK} leading directions of keys and of values of a latent position, in each block and head, over {NUM_FITTED} "
        f"training problems (there: those that predict the teacher's), removed as soon as they are there, {NUM_ABLATED} problems"
    ),
    sound=(
        f"what is lost beyond the middle of {NUM_RANDOM} random draws that remove as much variance is surely below 5 points; "
        "exact McNemar, Holm over positions"
    ),
    **LATENTS,
)
def kv_rank4(bench: Bench, published: Published) -> Protocols:
    """At no position do learned directions of keys and values matter more than random ones."""
    run, places = key_run(bench), range(bench.model.num_latents)
    learned = {f"learned_{k}": run[f"learned_{k}"] for k in places}
    random = {f"random_{k}": draws_of(run, f"random_{k}_")[NUM_RANDOM // 2] for k in places}
    yield rates({CLEAN: run[CLEAN]} | learned | random)
    run.checked()
    contrasts = {f"learned_{k}": Contrast(random[f"random_{k}"], learned[f"learned_{k}"], "random directions") for k in places}
    yield [
        rate(name, learned[name], null=Null(float(contrasts[name].more.mean()), p=p), verdict=word)
        for name, (_, p, word) in judge(contrasts, "latents").items()
    ]


@claim(
    "latent-budget",
    SOURCE,
    family="latents",
    kind="value",
    n=NUM_READ,
    protocol=f"eot behind all latents, or all but up to three, {NUM_READ} problems",
    sound="loss against all latents, but for the last surely below 5 points; exact McNemar, Holm",
    answers="either",
)
def latent_budget(bench: Bench, published: Published) -> Protocols:
    """The last latent is not needed; those before it are."""
    right = runs.shortened(bench, NUM_READ)
    budgets = {f"accuracy_{k}": right[str(k)] for k in range(max(0, len(right) - 4), len(right))}
    yield rates(budgets)
    (full_name, full) = budgets.popitem()
    right.checked()
    spare = next(reversed(budgets))
    lost = {name: effect_over(published, full_name, published.get(name, 0), DROP_FLOOR) for name in budgets}
    contrasts = {name: Contrast(full, each, ALL_LATENTS, None if name == spare else lost[name]) for name, each in budgets.items()}
    yield [
        rate(name, budgets[name], null=Null(float(full.mean()), p=p), verdict=word)
        for name, (_, p, word) in judge(contrasts, "latents").items()
    ]


@claim(
    "confidence-baseline",
    SOURCE,
    family="other probes",
    kind="exists",
    n=runs.NUM_PROBLEMS,
    protocol=(
        "AUC for a right answer asked for by its cue: the lead of its first token (logits), and the state there along the "
        f"difference of the means of right and wrong answers to {NUM_FITTED} training problems"
    ),
    sound=(
        "labels permuted (Mann-Whitney), and drawn from the surface alone; what the direction adds to the margin, cross-fitted, "
        "is surely below 3 points; Holm in the claim times the claims of the family"
    ),
)
def confidence_baseline(bench: Bench, published: Published) -> Protocols:
    """The answer's own margin predicts errors; a direction in the state predicts them too, but adds hardly anything."""
    problems = bench.problems.sample(runs.NUM_PROBLEMS, edited=True)
    cue, right = states(bench, problems), bench.answers(problems, [AtCue()]).right()[0]
    n, scores = len(right), {"auc_margin": cue.margin, "auc_direction": (cue.states @ correctness(bench)).astype(float)}
    yield [measured(name, auc_of(score, right), n) for name, score in scores.items()]
    split: dict[str, Any] = {"groups": [p.group for p in problems], "seed": SEED + bench.seed}
    audits = audit_scores(scores, right, surface=runs.surface_of(problems), permutations=bench.permutations, **split)
    gain, p_gain = gain_over(scores["auc_direction"], scores["auc_margin"], right, **split)
    *by_labels, p_gain = corrected([*(audit.p[LABELS] for audit in audits.values()), p_gain], "other probes")
    by_surface = corrected([audit.p[SURFACE] for audit in audits.values()], "other probes")
    rows = []
    for (name, audit), *p in zip(audits.items(), by_labels, by_surface, strict=True):
        p_values = dict(zip((LABELS, SURFACE), p, strict=True))
        settings: dict[str, Any] = {"p": p_values, "marginal": LABELS, "n": n, "permutations": bench.permutations}
        word = sound_verdict(audit.added, delta=AUC_FLOOR, **settings)
        rows.append(measured(name, audit.auc, n, null=Null(0.5, p=max(p)), verdict=word))
    word = nothing_more(gain, gain, p_gain, margin=GAIN_FLOOR, n=n)
    yield [*rows, points("gain_direction", gain, n, null=Null(0.0, p=p_gain), verdict=word)]
