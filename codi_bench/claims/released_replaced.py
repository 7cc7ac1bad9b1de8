"""What the first study's group released of runs with other states in thoughts: those of a pair's other member, or words."""

from __future__ import annotations

import math

import numpy as np

from codi_bench.audits.ablation import CLEAN, DROP_FLOOR
from codi_bench.audits.decoding import HIT_FLOOR
from codi_bench.claims.blocks import gains, losses, rate, rates
from codi_bench.claims.claim import Measured, Protocols, Published, claim, without_word
from codi_bench.claims.comparisons import gained
from codi_bench.claims.families import budget_of
from codi_bench.claims.first_study import GPT2, LLAMA
from codi_bench.claims.on_files import ReleasedBench
from codi_bench.claims.released_study import FAMILY, RELEASED, SOURCE
from codi_bench.errors import MeasureError
from codi_bench.rules.controls import check_alive, check_room
from codi_bench.rules.validity import ALPHA, half_effect
from codi_bench.thoughts.cot_exploration import llama_words
from codi_bench.thoughts.edited_runs import llama_without_bot
from codi_bench.thoughts.internalize_cot import spelling
from codi_bench.thoughts.replaced_states import (
    ALL,
    GPT2_PATCHED,
    LATE,
    LLAMA_PATCHED,
    PatchedPairs,
    llama_mapped_words,
    llama_number_five,
)

PATCHED = {GPT2: GPT2_PATCHED, LLAMA: LLAMA_PATCHED}
EDITS = {"five": llama_number_five, "no_reg": llama_mapped_words, "strong_reg": llama_mapped_words}


@claim(
    "rel-patch-recovery",
    SOURCE,
    kind="exists",
    n=23,
    protocol=(
        "pairs of 45 whose members the model both answers rightly (gpt2 19, llama-3.2-1b 23); the first k of six tokens (bot, "
        "latents 0 to 4) take the state of the other member's run at the late layer (its script puts the state behind block L "
        "behind block L + 1): share that gives that member's answer; broken_6: that gives none"
    ),
    sound=(
        "the same at any of three layers (without a patch none does, as pairs were chosen): exact McNemar, Holm in the claim "
        "times the claims of the family. No word where most outputs are no answer: the hook of gpt2's script for six tokens "
        "stays on while eot and answer are read, that of llama-3.2-1b is turned off before. No patch of a random donor was "
        "released"
    ),
    files={model: tuple(files.values()) for model, files in PATCHED.items()},
    **RELEASED,
)
def patch_recovery(bench: ReleasedBench, published: Published) -> Protocols:
    """The more thoughts come from another problem's run, the more often its answer is given."""
    runs = {count: bench.read(file) for count, file in PATCHED[bench.model.name].items()}
    yield [
        *(rate(f"late_{count}", run.follows[LATE]) for count, run in runs.items()),
        rate(f"broken_{ALL}", runs[ALL].broken[LATE]),
    ]
    n = len(runs[1].groups)
    check_alive(np.zeros(n, bool), {f"{count} tokens": anywhere(run.changed) for count, run in runs.items()})
    legible = {count: run for count, run in runs.items() if not is_broken(run)}
    own = np.zeros(n, bool)
    pairs = {f"follows_{count}": (anywhere(run.follows), own) for count, run in legible.items()}
    least = math.ceil(math.log2(budget_of(FAMILY) * len(pairs) / ALPHA))
    note = f"{least} of {n} pairs must follow before the least of {len(pairs)} p values is at most {ALPHA}"
    rows = gains(pairs, "no patch", family=FAMILY, delta=HIT_FLOOR)
    yield [*(with_note(row, note) for row in rows), *(unread(count, run) for count, run in runs.items() if is_broken(run))]


def anywhere(layers: dict[str, np.ndarray]) -> np.ndarray:
    """Does it hold at any layer? bool [n]."""
    return np.asarray(np.any([*layers.values()], axis=0))


def is_broken(run: PatchedPairs) -> bool:
    """Are most outputs no answer?"""
    return bool(np.mean([*run.broken.values()]) > 0.5)


def unread(count: int, run: PatchedPairs) -> Measured:
    why = "most outputs are no answer: the patch stays on while it is given"
    return rate(f"follows_{count}", anywhere(run.follows), detail=without_word(why))


def with_note(row: Measured, note: str) -> Measured:
    row.detail["note"] = note
    return row


@claim(
    "rel-replaced-states",
    SOURCE,
    kind="value",
    n=132,
    protocol=(
        "as its scripts counted: five on 132 members of pairs chosen for llama-3.2-1b's need of thoughts (where the head reads a "
        "number, the part along its vector gives way to three times that of `5`), the others on GSM8K test 0..131 (each state "
        "becomes a linear map of its first word's vector, fitted to training problems: free, or held near the identity)"
    ),
    sound=(
        "problems whose answer has at most three digits, for an answer ends at its first token with one, and longer ones are "
        "wrong with and without an edit; loss against the same run without it, exact McNemar, Holm in the claim times the claims "
        "of the family"
    ),
    files={LLAMA: (llama_number_five, llama_mapped_words)},
    **RELEASED,
)
def replaced_states(bench: ReleasedBench, published: Published) -> Protocols:
    """With words in place of states that hold numbers, right answers are lost."""
    runs = {name: bench.read(file) for name, file in EDITS.items()}
    clean = {"without_five": runs["five"].clean, "without_map": runs["no_reg"].clean}
    yield [
        *(rate(metric, right) for metric, right in clean.items()),
        *(rate(name, run.right[name]) for name, run in runs.items()),
        rate("changed_five", runs["five"].changed["five"]),
    ]
    pairs, delta = dict[str, tuple[np.ndarray, np.ndarray]](), dict[str, float]()
    for name, run in runs.items():
        judged = run.judged()
        check_room(judged[CLEAN])
        pairs[name] = judged[CLEAN], judged[name]
        before = published.get("without_five" if name == "five" else "without_map")
        loss = None if before is None or name not in published else before - published[name]
        delta[name] = half_effect(loss, DROP_FLOOR)
    for name, run in runs.items():
        check_alive(np.zeros(len(run.clean), bool), {name: run.changed[name]})
    yield losses(pairs, "no edit", family=FAMILY, delta=delta)


@claim(
    "rel-unedited",
    SOURCE,
    kind="exists",
    n=132,
    protocol=(
        "runs without any edit on the same 132 members of pairs, which were chosen as answered rightly by another such run: each "
        "alone in float32 (that of rel-without-bot), in batches of 16, and alone in bfloat16 with answers that are cut; and the "
        "first of these without bot"
    ),
    sound=(
        "lost_batch_16, lost_bfloat16: what is lost against the first run (bfloat16 where answers are not cut); over_unedited: "
        "what leaving out bot loses more than batches of 16 do (Delta: half of what it was printed to lose); exact McNemar, Holm "
        "in the claim times the claims of the family"
    ),
    files={LLAMA: (llama_without_bot, llama_words, llama_number_five)},
    **RELEASED,
)
def unedited(bench: ReleasedBench, published: Published) -> Protocols:
    """On problems chosen because they were answered rightly, an edit costs more than another run without an edit."""
    runs, whole = same_problems(bench)
    yield rates(runs)

    alone, batch_16, bfloat16, without = runs.values()
    check_alive(alone, {name: right for name, right in runs.items() if name != "alone"})
    check_room(alone)
    printed = published["alone"] - published["without_bot"] if {"alone", "without_bot"} <= {*published} else None
    pairs = {
        "lost_batch_16": (alone, batch_16),
        "lost_bfloat16": (alone[whole], bfloat16[whole]),
        "over_unedited": (batch_16, without),
    }
    delta = dict.fromkeys(pairs, DROP_FLOOR) | {"over_unedited": half_effect(printed, DROP_FLOOR)}
    yield gained(pairs, "the other run", family=FAMILY, delta=delta)


def same_problems(bench: ReleasedBench) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Right bool [n] by run, problem by problem, and whether bfloat16's answer is whole. MeasureError for other problems."""
    first, words, cut = bench.read(llama_without_bot), bench.read(llama_words), bench.read(llama_number_five)
    batches = {spelling(words.questions[i]): bool(words.right[i]) for i in np.flatnonzero(words.clean)}
    if missing := {*first.questions} - {*batches} | {*first.questions} ^ {*cut.questions}:
        raise MeasureError(
            f"the runs are not of the same problems: {len(missing)} of {len(first.questions)} are not in all files"
        )
    batch_16 = np.array([batches[question] for question in first.questions])
    order = [cut.questions.index(question) for question in first.questions]
    runs = {"alone": first.clean, "batch_16": batch_16, "bfloat16": cut.clean[order], "without_bot": first.right["without_bot"]}
    return runs, cut.whole[order]
