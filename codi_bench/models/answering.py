"""Answers to questions, batch by batch: clean, under edits, after fewer thoughts, with words for thoughts, and in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import cast

import numpy as np
import torch
from torch import Tensor

from codi_bench.errors import MeasureError, ProblemError
from codi_bench.models.codi import WIDE, Codi
from codi_bench.models.conditions import MASKED
from codi_bench.models.edits import KEEP, Directions, Replacement
from codi_bench.models.loop import (
    BRANCHES,
    Thinking,
    bot,
    encode,
    end_thoughts,
    force,
    forked,
    generate,
    generate_behind,
    noise_like,
    rethink,
    think,
)
from codi_bench.models.state import feed
from codi_bench.thoughts.record import Answers, Thoughts

# Before version 5 transformers changes the blocks themselves while it collects hidden states: a second thread would meet that.
THREADED = find_spec("transformers.utils.output_capturing") is not None
FEWEST_ROWS = 4  # of a batch that must round as any other does: a CPU multiplies one or two rows another way, and the odd one out

Parts = Iterable[tuple[int, list[list[list[int]]]]]  # of a batch: the first condition of a part, and its ids [b][C]


@dataclass(frozen=True)
class Pass:
    """Settings of a pass. max_new_tokens: limit of an answer; progress: called with the number of answered problems."""

    num_latents: int
    batch_size: int = 64
    max_new_tokens: int = 256
    padding: str = MASKED
    progress: Callable[[int], object] = lambda count: None


# Batches


def batches(sequences: Sequence[list[int]], size: int, padding: str = MASKED, *, exact: bool = False) -> list[np.ndarray]:
    """Indices of each batch: questions of similar length together, or the given order where padding changes results.

    So little padding is computed, and the order never changes a result.
    exact: each batch has questions of one length, an even number of rows and at least FEWEST_ROWS; repeated rows fill it up.
    Padding and the number of rows change how sums are rounded on a CPU; with `exact` no batch size changes a bit.
    """
    lengths = np.array([len(s) for s in sequences])
    order = np.argsort(lengths, kind="stable") if padding == MASKED else np.arange(len(sequences))
    if not exact or padding != MASKED:
        return [order[i : i + size] for i in range(0, len(order), size)]
    groups = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1) if len(order) else []
    parts = [rows[i : i + size] for rows in groups for i in range(0, len(rows), size)]
    return [np.resize(rows, max(len(rows) + len(rows) % 2, FEWEST_ROWS)) for rows in parts]


def each_batch(
    model: Codi, function: Callable[[np.ndarray], None], sequences: Sequence[list[int]], size: int, padding: str = MASKED
) -> None:
    """Call `function(rows)` for every batch, one after another; for narrow models on a CPU several at a time, each on one thread.

    The split of a sum over threads changes its rounding, and SAEs are trained on the states: no bit may depend on it.
    """
    row_batches = batches(sequences, size, padding, exact=_alone(model))
    if not _alone(model):
        for rows in row_batches:
            function(rows)
        return
    threads = torch.get_num_threads()

    def on_one_thread(rows: np.ndarray) -> None:
        with torch.inference_mode():  # a thread has its own mode
            function(rows)

    try:
        with ThreadPoolExecutor(threads if THREADED else 1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(on_one_thread, row_batches):
                pass
    finally:
        torch.set_num_threads(threads)


def _alone(model: Codi) -> bool:
    """Is each batch computed on one thread, so that its bits do not depend on the other batches?"""
    return model.device.type == "cpu" and model.width < WIDE


def answer_batches(
    model: Codi,
    ids: Sequence[list[int]],
    count: int,
    settings: Pass,
    answer: Callable[[np.ndarray], Parts],
) -> list[Answers]:
    """Collect the answers under `count` conditions; `answer(rows)` gives those of a batch."""
    tokens: list[list[list[int]]] = [[[] for _ in ids] for _ in range(count)]

    def write(rows: np.ndarray) -> None:
        for start, answer_ids in answer(rows):
            for row, branches in zip(rows, answer_ids):
                for c, branch_ids in enumerate(branches, start):
                    tokens[c][row] = branch_ids
        settings.progress(len(set(rows.tolist())))

    each_batch(model, write, ids, settings.batch_size, settings.padding)
    return [texts(model, condition_ids) for condition_ids in tokens]


def tokenise(model: Codi, questions: Sequence[str]) -> list[list[int]]:
    """Question ids, formatted as in the model's training. Raises ProblemError for an empty question."""
    ids = [model.tokenizer(model.prompt.question(question))["input_ids"] for question in questions]
    for number, (question, question_ids) in enumerate(zip(questions, ids), start=1):
        if not (question.strip() and question_ids):
            raise ProblemError(f"question {number} of {len(ids)} is empty")
    return ids


def texts(model: Codi, tokens: Sequence[list[int]]) -> Answers:
    """Ids with their text, special tokens left out; ids beyond the tokenizer (pad, bot) have no text."""
    plain = [[t for t in ids if t < model.vocab_size] for ids in tokens]
    return Answers(tuple(map(tuple, tokens)), tuple(model.tokenizer.batch_decode(plain, skip_special_tokens=True)))


# Thoughts, and answers under each kind of condition


def capture(model: Codi, questions: Sequence[str], settings: Pass) -> Thoughts:
    """Think about every question and keep all states; with max_new_tokens above 0 also answer."""
    n, latents, width = len(questions), settings.num_latents, model.width
    thoughts = Thoughts(
        np.empty((n, 1 + latents, model.num_layers + 1, width), np.float32),
        np.empty((n, latents + 1, width), np.float32),
        np.empty((n, model.vocab_size + 2), np.float32),
    )
    (answers,) = answer_edited(model, questions, [{}], settings, keep=thoughts)
    return replace(thoughts, answers=answers if settings.max_new_tokens else None)


@torch.inference_mode()
def answer_edited(
    model: Codi,
    questions: Sequence[str],
    conditions: Sequence[Mapping[int | str, Replacement]],
    settings: Pass,
    *,
    keep: Thoughts | None = None,
    golds: Sequence[list[int]] | None = None,
    log_probabilities: np.ndarray | None = None,
) -> list[Answers]:
    """Greedy answers under several conditions, each a set of replacements (empty: the clean run).

    Question and clean thoughts are computed once a batch; a condition computes only what follows its first edit, and up to
    BRANCHES conditions go through the backbone together. keep: arrays that the clean run's states go to batch by batch
    (first_logits: those of the first condition). golds: ids of each problem's gold answer; the result of `force` is written to
    log_probabilities [C, n]. Raises MeasureError if a state exceeds the range of its array, ProblemError if a problem is longer
    than the model's positions.
    """
    if not conditions or not questions:
        return [Answers((), ()) for _ in conditions]
    ids, latents = tokenise(model, questions), settings.num_latents
    longest = max(range(len(ids)), key=lambda i: len(ids[i]))
    model.check_length(len(ids[longest]) + latents + 2, f"question {longest + 1} of {len(ids)} with bot, thoughts and eot")
    for i, gold in enumerate(golds or ()):  # the last id is not fed
        model.check_length(len(ids[i]) + latents + 1 + len(gold), f"question {i + 1} of {len(ids)} with its gold answer")
    all_layers = keep is not None and keep.hidden_states is not None

    def answer(rows: np.ndarray) -> Parts:
        clean = think(model, [ids[i] for i in rows], latents, padding=settings.padding, all_layers=all_layers)
        for start in range(0, len(conditions), BRANCHES):
            part = conditions[start : start + BRANCHES]
            edits = [{p: _input_at(model, clean, rows, p, value) for p, value in values.items()} for values in part]
            state = end_thoughts(model, rethink(model, clean, edits))
            if golds is None:
                confidence = None if keep is None or keep.confidence is None else torch.empty(*state.position.shape, 2)
                logits, answer_ids = generate(model, state, settings.max_new_tokens, confidence)
                if confidence is not None and keep is not None and start == 0:
                    _fill(keep.confidence, rows, confidence[:, 0])
            else:
                assert log_probabilities is not None
                batch_golds = [golds[i] for i in rows]
                forced = force(model, state, batch_golds, max(map(len, golds)))
                log_probabilities[start : start + len(part), rows] = forced.log_probability.T.cpu().numpy()
                logits, answer_ids = forced.first, generate_behind(model, forced, batch_golds, settings.max_new_tokens)
            if keep is not None and start == 0:
                _fill(keep.hidden_states, rows, clean.hidden_states)
                _fill(keep.latents, rows, clean.latents)
                _fill(keep.first_logits, rows, logits[:, 0])
            yield start, answer_ids

    return answer_batches(model, ids, len(conditions), settings, answer)


def _input_at(model: Codi, clean: Thinking, rows: np.ndarray, place: int | str, value: Replacement) -> Tensor | None:
    """What a condition feeds at one place of a batch, [b, d]; None for the model's own input."""
    if value is None:
        return None
    if isinstance(value, Directions):
        return noise_like(model, torch.as_tensor(value.vectors[rows], device=model.device), clean, place)
    if value is KEEP:
        return clean.latents[:, cast(int, place)]
    return torch.as_tensor(cast(np.ndarray, value)[rows], device=model.device)


def _fill(array: np.ndarray | None, rows: np.ndarray, values: Tensor | None) -> None:
    if array is None:
        return
    assert values is not None
    states = values.float().cpu().numpy()
    if array.dtype == np.float16 and np.abs(states).max() > np.finfo(np.float16).max:
        raise MeasureError(f"states reach {np.abs(states).max():.3g}, more than half precision, which stores them, can hold")
    array[rows] = states


@torch.inference_mode()
def answer_early(model: Codi, questions: Sequence[str], counts: Sequence[int], settings: Pass) -> list[Answers]:
    """Greedy answers after the first k latents, for each k of `counts`: eot is fed after them, nothing else changes.

    All K thoughts are computed once. Raises what `think` raises.
    """
    ids = tokenise(model, questions)

    def answer(rows: np.ndarray) -> Parts:
        thinking = think(model, [ids[i] for i in rows], model.num_latents)
        state = forked(thinking, [1 + k for k in counts])  # bot and k latents stay
        yield 0, generate(model, end_thoughts(model, state), settings.max_new_tokens)[1]

    return answer_batches(model, ids, len(counts), settings, answer)


@torch.inference_mode()
def answer_discretised(model: Codi, questions: Sequence[str], places: Sequence[int], settings: Pass) -> Answers:
    """Greedy answers where the latents at some positions are the projected embedding of the head's first word there.

    The word is read from the state of this run, after the earlier replacements. The ids pad, bot and eot are not words. Raises
    ProblemError for an empty question.
    """
    ids = tokenise(model, questions)

    def answer(rows: np.ndarray) -> Parts:
        state = feed(model, encode(model, [ids[i] for i in rows]), bot(model, len(rows)).unsqueeze(1))
        for place in range(model.num_latents):
            thought = state.last
            if place in places:
                thought = model.embed(model.logits(thought)[..., : model.vocab_size].argmax(-1))
            state = feed(model, state, model.thought(thought, place).unsqueeze(1))
        yield 0, generate(model, end_thoughts(model, state), settings.max_new_tokens)[1]

    return answer_batches(model, ids, 1, settings, answer)[0]


@torch.inference_mode()
def explain(model: Codi, questions: Sequence[str], settings: Pass) -> Answers:
    """The teacher's answer: a greedy chain of thought in words, right after the question."""
    ids = tokenise(model, questions)
    model.check_length(max(map(len, ids), default=0), "the longest question")
    tokens: list[list[int]] = [[] for _ in ids]
    for rows in batches(ids, settings.batch_size):
        _, answer_ids = generate(model, encode(model, [ids[i] for i in rows]), settings.max_new_tokens)
        for row, (branch_ids,) in zip(rows, answer_ids):
            tokens[row] = branch_ids
    return texts(model, tokens)
