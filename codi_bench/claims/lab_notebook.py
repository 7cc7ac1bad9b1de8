"""A lab notebook on CODI-GPT-2 (github.com/ethankimm/ai-capstone): batches, latents left out and replaced, twins."""

from __future__ import annotations

from typing import Any

import numpy as np

from codi_bench.audits.ablation import CLEAN, DROP_FLOOR
from codi_bench.audits.patching import DONOR
from codi_bench.claims import hits, operations, runs
from codi_bench.claims import transplants as twins
from codi_bench.claims.ablations import KINDS, NUM_ABLATED, by_place, replaced
from codi_bench.claims.blocks import NO_DROP, PAIRED, corrected, drops, gains, losses, rates
from codi_bench.claims.claim import NOTHING_MORE, Bench, Null, Protocols, Published, claim, measured, without_word
from codi_bench.claims.codi_paper import NUM_ANSWERED, answered
from codi_bench.claims.open_questions import NUM_PAIRS
from codi_bench.claims.open_questions.reading import NUM_READ
from codi_bench.claims.transplants import CONTROLS, NUM_TWINS, PAIR, PREFIX, SHIFTED, TWINS, WITHOUT
from codi_bench.errors import MeasureError
from codi_bench.models import conditions
from codi_bench.models.conditions import PUBLISHED
from codi_bench.rules.stats import mcnemar_exact, newcombe_paired
from codi_bench.rules.validity import order_verdict, sound_verdict

SOURCE = "lab notebook, github.com/ethankimm/ai-capstone"
LOSS = f"loss against the clean run; {PAIRED}"
BATCH_FLOOR, VALUE_FLOOR = 0.01, 0.05
LATENTS: dict[str, Any] = {"family": "latents"}
TWIN = LATENTS | {"kind": "exists", "n": 2 * NUM_PAIRS, "sound": CONTROLS}


@claim(
    "cap-batch-effect",
    SOURCE,
    kind="exists",
    n=NUM_ANSWERED,
    protocol=f"{NUM_ANSWERED} problems, batches of 128 in their order with paddings attended to, and each alone",
    sound="gain over each alone, of one point or more; exact McNemar",
    **LATENTS,
)
def batch_effect(bench: Bench, published: Published) -> Protocols:
    """In padded batches more problems are answered rightly than alone: thoughts attend to paddings."""
    problems = bench.problems.first(NUM_ANSWERED)
    batches, alone = (answered(bench, problems, condition) for condition in (PUBLISHED, conditions.CLEAN))
    yield rates({"batches": batches, "alone": alone})
    yield gains({"batches": (batches, alone)}, "alone", family="latents", delta=BATCH_FLOOR)


@claim(
    "cap-truncation",
    SOURCE,
    family="latents",
    kind="value",
    n=NUM_READ,
    protocol=f"eot behind the first k latents, {NUM_READ} problems (there: 1319, batch 1)",
    sound=f"loss against all latents; {PAIRED}",
    answers="either",
)
def truncation(bench: Bench, published: Published) -> Protocols:
    """With fewer latents the model answers fewer problems rightly, with steps at three and five latents."""
    outcomes = {f"accuracy_{k}": right for k, right in runs.shortened(bench, NUM_READ).items()}
    yield rates(outcomes)
    runs.shortened(bench, NUM_READ).checked()
    (last, full) = outcomes.popitem()
    yield drops({CLEAN: full, **outcomes}, {**published, CLEAN: published.get(last, 0)}, family="latents")


@claim(
    "cap-truncation-by-steps",
    SOURCE,
    kind="exists",
    n=NUM_READ,
    protocol=f"the same by the number of steps, 4 and more together, {NUM_READ} problems",
    sound="problems of three steps and more: none against two latents, exact McNemar",
    **LATENTS,
)
def truncation_by_steps(bench: Bench, published: Published) -> Protocols:
    """Problems of three steps or more are answered worst after two latents."""
    right = [*runs.shortened(bench, NUM_READ).values()]
    steps = np.minimum([p.num_steps for p in bench.problems.first(NUM_READ)], 4)
    parts = {f"steps{k}": steps == k for k in (1, 2, 3, 4) if (steps == k).any()}
    yield rates({f"{name}_{k}": outcomes[rows] for name, rows in parts.items() for k, outcomes in enumerate(right)})
    runs.shortened(bench, NUM_READ).checked()
    long = steps >= 3
    if len(right) < 3 or not long.any():
        raise MeasureError(
            "a dip at two latents needs a model with two latents and problems with three steps: give more problems"
        )
    before, after = right[0][long], right[2][long]
    dip, (p,) = newcombe_paired(before, after), corrected([mcnemar_exact(before, after, "greater")], "latents")
    word = sound_verdict(dip, delta=DROP_FLOOR, p={NO_DROP: p}, marginal=NO_DROP, n=int(long.sum()))
    yield [measured("dip", dip, int(long.sum()), null=Null(0.0, p=p), verdict=word)]


@claim(
    "cap-ablate-all",
    SOURCE,
    kind="value",
    n=NUM_ABLATED,
    protocol=(
        f"all latents zero, mean of training problems (there: of test problems) or noise of equal norm, {NUM_ABLATED} problems"
    ),
    sound=LOSS,
    answers="either",
    **LATENTS,
)
def ablate_all(bench: Bench, published: Published) -> Protocols:
    """With all latents replaced accuracy falls, least with zeros, most with means."""
    outcomes = replaced(bench).chosen(KINDS)
    yield rates(outcomes)
    outcomes.checked()
    order = []
    for better, worse in (("zero", "noise"), ("noise", "mean")):  # zeros leave more than noise, and noise more than means
        gain = newcombe_paired(outcomes[better], outcomes[worse])
        order.append(measured(f"{better}_over_{worse}", gain, len(outcomes[CLEAN]), verdict=order_verdict(gain)))
    yield drops(outcomes, published, family="latents") + order


@claim(
    "cap-ablate-one",
    SOURCE,
    kind="value",
    n=NUM_ABLATED,
    protocol=f"one latent zero, mean or noise of equal norm, what follows recomputed, {NUM_ABLATED} problems",
    sound=LOSS,
    answers="either",
    **LATENTS,
)
def ablate_one(bench: Bench, published: Published) -> Protocols:
    """With one latent replaced accuracy falls; by how much depends on the replacement."""
    yield rates(by_place(bench))
    yield drops(by_place(bench).checked(), published, family="latents")


@claim("cap-minimal-pair", SOURCE, protocol=TWINS.format(what="all latents of the twin, or one,"), **TWIN)
def minimal_pair(bench: Bench, published: Published) -> Protocols:
    """With its twin's thoughts a problem gets the twin's answer."""
    places = twins.places_of(bench, PAIR)
    yield twins.follow_rates(bench, places)
    yield twins.follow_over_controls(bench, places)


@claim("cap-minimal-pair-without", SOURCE, protocol=TWINS.format(what="all latents of the twin but one"), **TWIN)
def minimal_pair_without(bench: Bench, published: Published) -> Protocols:
    """With all of its twin's thoughts but one a problem gets the twin's answer."""
    places = twins.places_of(bench, WITHOUT)
    yield twins.follow_rates(bench, places)
    yield twins.follow_over_controls(bench, places)


@claim("cap-minimal-pair-prefix", SOURCE, protocol=TWINS.format(what="the first latents of the twin"), **TWIN)
def minimal_pair_prefix(bench: Bench, published: Published) -> Protocols:
    """With the first of its twin's thoughts a problem gets the twin's answer."""
    places = twins.places_of(bench, PREFIX)
    yield twins.follow_rates(bench, places)
    yield twins.follow_over_controls(bench, places)


@claim(
    "cap-minimal-pair-wrong",
    SOURCE,
    kind="exists",
    n=2 * NUM_TWINS,
    protocol=(
        f"{NUM_TWINS} generated pairs a step; the recipient answered rightly, the twin wrongly and not as the recipient; all "
        "latents of the twin fed"
    ),
    sound="the twin's wrong answer against its right one: exact McNemar times the claims of the family",
    **LATENTS,
)
def wrong_twin(bench: Bench, published: Published) -> Protocols:
    """With the thoughts of a twin that is answered wrongly a problem gets the twin's wrong answer, not its right one."""
    outcomes = twins.wrong_twins(bench)
    yield rates(outcomes)
    twins.check_twins(bench)
    yield gains({"wrong": (outcomes["wrong"], outcomes["gold"])}, "its right answer", family="latents", delta=VALUE_FLOOR)


@claim(
    "cap-cfr",
    SOURCE,
    kind="value",
    n=2 * NUM_TWINS,
    protocol=f"{NUM_TWINS} generated pairs a step, over all and by the number of steps, 5 and more together",
    sound="nothing more: a share of problems that nothing is done to",
    **LATENTS,
)
def response_rate(bench: Bench, published: Published) -> Protocols:
    """Of the problems that are solved this share has a twin that is solved too."""
    found = twins.twins(bench)
    steps = np.minimum([pair.recipient.num_steps for pair in found.pairs], 5)
    rows_of = {"all": found.solved} | {f"steps_{k}": found.solved & (steps == k) for k in (2, 3, 4, 5)}
    yield rates({name: found.twin_solved[rows] for name, rows in rows_of.items() if rows.any()})
    yield NOTHING_MORE


@claim(
    "cap-off-by-one",
    SOURCE,
    kind="exists",
    n=2 * NUM_PAIRS,
    protocol=TWINS.format(what="each latent of the twin, one place too early,"),
    sound="loss against the right places; exact McNemar, Holm",
    **LATENTS,
)
def off_by_one(bench: Bench, published: Published) -> Protocols:
    """A transplant one place off does less: information looks diffuse there."""
    in_place, shifted = (twins.followed(bench, source, twins.places_of(bench, PAIR)) for source in (DONOR, SHIFTED))
    yield rates(shifted)
    twins.checked(bench)
    pairs = {name: (in_place[name], shifted[name]) for name in in_place}
    yield losses(pairs, "the right places", family="latents", delta=VALUE_FLOOR)


@claim(
    "cap-probe-metric",
    SOURCE,
    family="other probes",
    kind="exists",
    n=runs.NUM_PROBLEMS,
    protocol=(
        "rightly answered problems alone, values of steps 1 and 2, ridge regression on the last layer at each place, five folds; "
        "hit: within one percent; read: the head's first word"
    ),
    sound=(
        "read at some place, against regression that rounds to it or is within a percent at some place: exact McNemar, Holm in "
        "the claim times the claims of the family"
    ),
)
def probe_metric(bench: Bench, published: Published) -> Protocols:
    """Regression finds no value where the head reads it."""
    by_step, why = operations.regressions(bench), without_word("a mean over cells that share their problems: no valid interval")
    n = sum(len(step.hit) for step in by_step)
    means = {name: [getattr(step, name).mean() for step in by_step] for name in ("r2", "pearson", "hit", "read")}
    yield [measured(name, float(np.mean(values)), n, detail=why) for name, values in means.items()]
    anywhere = [(np.any(step.read, axis=1), np.any(step.near, axis=1)) for step in by_step]
    pairs = {f"read_step{i}": pair for i, pair in enumerate(anywhere, start=1)}
    yield gains(pairs, "ridge regression", family="other probes", delta=VALUE_FLOOR)


@claim(
    "cap-decode",
    SOURCE,
    kind="value",
    protocol=f"{hits.RIGHT}all results before the last, at any place (there: of problems whose intermediates were checked)",
    sound=hits.OTHERS,
    **hits.DECODED,
)
def decode(bench: Bench, published: Published) -> Protocols:
    """All intermediate results are among the head's first five words for some thought."""
    yield hits.hit_rates(bench, hits.table)
    yield hits.hits_over_others(bench, hits.table, published)
