"""What the journal behind the first study released of edited thoughts: paired, each problem once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codi_bench.audits.ablation import CLEAN, DROP_FLOOR
from codi_bench.claims.blocks import PAIRED, gains, losses, not_lost, rate, rates
from codi_bench.claims.claim import Measured, Protocols, Published, claim, without_word
from codi_bench.claims.first_study import LLAMA
from codi_bench.claims.on_files import ReleasedBench
from codi_bench.claims.released_journal import check
from codi_bench.claims.released_study import FAMILY, RELEASED, SOURCE, WORDS, distinct
from codi_bench.problems import parse_number
from codi_bench.rules.controls import check_alive, check_room
from codi_bench.rules.validity import half_effect
from codi_bench.thoughts.cot_exploration import problem_pairs
from codi_bench.thoughts.edited_runs import (
    Edited,
    llama_operations,
    llama_operations_multi,
    llama_projected,
    llama_projected_train,
    llama_teacher_projected,
    llama_without_bot,
)

VANILLA = "vanilla"
LOSS = f"loss against the run without edits on the same problems; {PAIRED}"


# Operations


@claim(
    "rel-operations",
    SOURCE,
    kind="exists",
    n=60,
    protocol=(
        "latent 1 becomes the projected mean state (layer 8) of problems with one operation, or a random vector; both: the last "
        "thought too; share of 60 answers (53 of GSM8K's training set) that change"
    ),
    sound=f"the same against the random vector, on the same problems: {PAIRED}",
    files={LLAMA: (llama_operations, llama_operations_multi)},
    **RELEASED,
)
def operations(bench: ReleasedBench, published: Published) -> Protocols:
    """The mean state of an operation in place of a latent changes answers more than a random vector."""
    single, multi = bench.read(llama_operations).changed, bench.read(llama_operations_multi).changed
    names = {"addition": "to_addition", "multiplication": "to_multiplication", "mixed": "to_mixed"}
    changed = {name: single[key] for name, key in names.items()} | {"both": multi["multi_token"]}
    control = {name: single["random_control"] for name in names} | {"both": multi["multi_random"]}
    yield [*rates(changed), rate("random", control["addition"])]
    check_alive(np.zeros(len(control["both"]), bool), changed)
    rows = gains({name: (changed[name], control[name]) for name in changed}, "random vector", family=FAMILY, delta=DROP_FLOOR)
    apart = sum((changed[name] != changed["addition"]).sum() for name in changed)
    rows.append(rate("random", control["addition"], detail=without_word("the control of the others")))
    rows[0].detail["note"] = f"{apart} problems on which one of the {len(changed)} edits changes the answer and another does not"
    yield rows


@claim(
    "rel-operations-last",
    SOURCE,
    kind="none",
    n=60,
    protocol="the same for the last thought, which its script computes and feeds to nothing, and a random vector there",
    sound="blocked where no edit, and not even noise, changes any answer",
    files={LLAMA: (llama_operations, llama_operations_multi)},
    **RELEASED,
)
def last_operation(bench: ReleasedBench, published: Published) -> Protocols:
    """The last thought does not matter: neither an operation's mean state nor a random vector there changes an answer."""
    single, multi = bench.read(llama_operations).changed, bench.read(llama_operations_multi).changed
    changed = {"mean": multi["token5_only"], "random": multi["token5_random"], "wrong_token": single["wrong_token_control"]}
    yield rates(changed)
    unchanged = np.ones(len(changed["mean"]), bool)
    check_alive(unchanged, {name: ~each for name, each in changed.items()})
    yield not_lost(unchanged, {name: ~each for name, each in changed.items()}, family=FAMILY)


# Words in the place of thoughts


@claim(
    "rel-discretise",
    SOURCE,
    kind="value",
    n=219,
    protocol=(
        "as its script counted: rows whose answer it knew (208 of 285 members of pairs that llama-3.2-1b loses with zeros); "
        "full, posthoc: each latent becomes its first word's vector, of equal norm, before or after all were computed"
    ),
    sound=(
        "each pair once (219), the member in GSM8K where it is there, the others with GPT-4's answer: 77 of 153 of them have "
        "no number in the file and 56 another one; losses against vanilla, and posthoc over full on the same problems; "
        f"{PAIRED}"
    ),
    files={model: (file, problem_pairs) for model, file in WORDS.items()},
    **RELEASED,
)
def discretise(bench: ReleasedBench, published: Published) -> Protocols:
    """With words in place of thoughts accuracy falls, less so if they are put in afterwards."""
    words = bench.read(WORDS[bench.model.name])
    known = np.isfinite(words.golds)
    yield rates({name: (numbers == words.golds)[known] for name, numbers in words.answers.items()})

    pairs = bench.read(problem_pairs)
    golds = {
        (problem.group, member): parse_number(problem.answer)
        for member, problems in ((True, pairs.clean), (False, pairs.perturbed))
        for problem in problems
    }
    rows = distinct(words)
    own = np.array([golds[words.groups[i], bool(words.clean[i])] for i in rows], float)
    outcomes = {name: numbers[rows] == own for name, numbers in words.answers.items()}
    check_alive(words.answers[VANILLA][rows], {name: numbers[rows] for name, numbers in words.answers.items() if name != VANILLA})
    check_room(outcomes[VANILLA])
    yield edited(outcomes, published, VANILLA) + gains(
        {"posthoc_over_full": (outcomes["posthoc"], outcomes["full"])}, "full", family=FAMILY, delta=DROP_FLOOR
    )


def edited(right: Mapping[str, np.ndarray], published: Published, clean: str = CLEAN) -> list[Measured]:
    """Accuracy without and with edits, bool [n] each, and whether it is lost; clean: the name of the run without."""
    pairs = {name: (right[clean], each) for name, each in right.items() if name != clean}
    printed = {name: published.get(clean, 0) - published.get(name, 1) for name in pairs}
    delta = {name: half_effect(loss if loss > 0 else None, DROP_FLOOR) for name, loss in printed.items()}
    own = rate(clean, right[clean], detail=without_word("what the losses are from"))
    return [own, *losses(pairs, "no edit", family=FAMILY, delta=delta)]


# Projections


@claim(
    "rel-projections",
    SOURCE,
    kind="value",
    n=132,
    protocol=(
        "132 problems of GSM8K's test set, and 132 of the training set (train_): the mean state where a number is read in a "
        "thought, or the state projected on the span of its first K words' vectors, of equal norm (projK)"
    ),
    sound=(
        f"{LOSS}. Without 10 (train_: 9) answers of 1000 and more, which the script cuts at the comma and counts as wrong "
        "everywhere. The model was trained on the problems of train_: their accuracy is no measure of it, their losses are"
    ),
    files={LLAMA: (llama_projected, llama_projected_train)},
    **RELEASED,
)
def projections(bench: ReleasedBench, published: Published) -> Protocols:
    """Thoughts that are projected on the span of few words' vectors lose accuracy."""
    sets: dict[str, Edited] = {"": bench.read(llama_projected), "train_": bench.read(llama_projected_train)}
    outcomes = {
        name: {f"{name}{edit}": right for edit, right in {CLEAN: runs.clean, **runs.right}.items()} for name, runs in sets.items()
    }
    yield [row for part in outcomes.values() for row in rates(part)]
    for runs in sets.values():
        check(runs)
    judged = {name: {f"{name}{edit}": right for edit, right in runs.judged().items()} for name, runs in sets.items()}
    yield [row for name, part in judged.items() for row in edited(part, published, f"{name}{CLEAN}")]


@claim(
    "rel-without-bot",
    SOURCE,
    kind="value",
    n=132,
    protocol="132 problems, right before and wrong with zeros for all thoughts; bot left out; eot fed twice in both runs",
    sound=LOSS,
    files={LLAMA: (llama_without_bot,)},
    **RELEASED,
)
def without_bot(bench: ReleasedBench, published: Published) -> Protocols:
    """Without bot, thoughts still give most right answers, but fewer."""
    runs = bench.read(llama_without_bot)
    yield rates({CLEAN: runs.clean, **runs.right})
    check(runs)
    yield edited({CLEAN: runs.clean, **runs.right}, published)


@claim(
    "rel-teacher-projections",
    SOURCE,
    kind="none",
    n=132,
    protocol="the same 132 problems, thoughts written out; where a number comes next, its word read from the projected state",
    sound=(
        "is surely less than 5 points lost, of the 122 answers below 1000? (Others are cut at the comma and wrong everywhere.) "
        "The edit reaches the next word alone, for the cache keeps the state: it changes an answer only where it changes a word"
    ),
    files={LLAMA: (llama_teacher_projected,)},
    **RELEASED,
)
def teacher(bench: ReleasedBench, published: Published) -> Protocols:
    """In written thoughts, numbers are read the same from states projected on the vectors of a few words."""
    runs = bench.read(llama_teacher_projected)
    outcomes = {f"proj{k}": right for k, right in runs.right.items()}
    yield rates({CLEAN: runs.clean, **outcomes})
    check(runs)
    clean, *judged = runs.judged().values()
    yield not_lost(clean, dict(zip(outcomes, judged, strict=True)), family=FAMILY)
