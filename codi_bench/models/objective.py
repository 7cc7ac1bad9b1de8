"""The CODI training loss: teacher, student and the distillation between them, on one shared backbone.

Source: arXiv 2502.21074 §3 and the released training code. Examples are formatted as published: question; chain of
thought *without its last step*; `The answer is: N` (Coconut's: `### N`) and eos. The distilled position is the token
before the answer.

The released code drops the mask of the question after encoding it, and has a flag that restores it for the answer only:
`unmasked-padding` and `fixed-mask` here. The default masks paddings everywhere, so that a batch does not change a loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from codi_bench.errors import ProblemError
from codi_bench.models.codi import Codi
from codi_bench.models.conditions import MASKED, UNMASKED
from codi_bench.models.loop import think
from codi_bench.models.state import State, feed
from codi_bench.problems import Problem

FIXED = "fixed-mask"
MASKS = (MASKED, UNMASKED, FIXED)
IGNORE = -100


@dataclass(frozen=True)
class Example:
    """Token ids of one training example: question, chain of thought without its last step, answer sentence with eos."""

    question: list[int]
    thought: list[int]
    answer: list[int]


@dataclass(frozen=True)
class Losses:
    """The parts of the loss, each a scalar: student and teacher cross-entropy per token, and the distillation."""

    student: Tensor
    teacher: Tensor
    distill: Tensor

    def total(self, *, distill_factor: float = 1.0, teacher_factor: float = 1.0) -> Tensor:
        return self.student + distill_factor * self.distill + teacher_factor * self.teacher


def encode_examples(model: Codi, problems: Sequence[Problem]) -> list[Example]:
    """Tokenise problems in the published training format, with a begin-of-text token only before the question."""
    questions = model.tokenizer([p.question + model.prompt.suffix for p in problems])["input_ids"]  # not tidied, as published
    thoughts = _bare_ids(model, [" ".join(p.steps[:-1]) for p in problems])
    answers = _bare_ids(model, [model.prompt.answer(p.answer) for p in problems])
    return [Example(q, t, [*a, model.eos_id]) for q, t, a in zip(questions, thoughts, answers)]


def codi_losses(model: Codi, batch: list[Example], *, masks: str = MASKED, answer_shift: int = 0) -> Losses:
    """The parts of the loss of a batch.

    masks: `masked`, `unmasked-padding` or `fixed-mask`. answer_shift: how much further than the last token of the cue the
    distilled position is; the released code has 1 for Llama, whose tokenizer makes the blank before a number a token.
    Raises ProblemError for examples longer than the backbone has positions, or an answer_shift outside of an answer.
    Scalars: cross-entropies are means over the tokens of the batch, the distillation a mean over layers.
    """
    cue = len(_bare_ids(model, [model.prompt.cue])[0]) + answer_shift
    if not 0 < cue <= min(len(e.answer) for e in batch):
        raise ProblemError(f"answer_shift {answer_shift} points outside the answer")
    longest = max(len(e.question) + max(len(e.thought), model.num_latents + 2) + len(e.answer) for e in batch)
    model.check_length(longest, "the longest example of the batch")
    question, teacher, teacher_ce = _teach(model, batch)
    ids, mask = _pad_right([[model.eot_id, *e.answer] for e in batch], model)
    student = feed(model, _thought(model, batch, question, masks), model.embed(ids), mask, all_layers=True)
    target_mask = mask[:, 1:].bool()
    student_ce = F.cross_entropy(model.logits(student.hidden[:, :-1][target_mask]).float(), ids[:, 1:][target_mask])

    rows = torch.arange(len(batch))
    cue_index = torch.tensor([len(e.thought) + cue - 1 for e in batch])
    distill = [_distill(s[:, cue], t[rows, cue_index]) for s, t in zip(student.hidden_states, teacher.hidden_states)]
    return Losses(student_ce, teacher_ce, torch.stack(distill).mean())


def teacher_loss(model: Codi, batch: list[Example]) -> Tensor:
    """The teacher's part alone: chain of thought and answer in words."""
    return _teach(model, batch)[2]


def _thought(model: Codi, batch: list[Example], question: State, masks: str) -> State:
    """The student's state after the last latent. With masks, it continues from the question that the teacher read too."""
    if masks != MASKED:
        state = think(model, [e.question for e in batch], model.num_latents, padding=UNMASKED).state
        if masks == FIXED:
            _, mask = model.pad([[*e.question, model.bot_id] for e in batch])
            latent_sees = state.sees[:, :, mask.shape[1] :]
            state = replace(state, sees=torch.cat([mask[:, None].bool(), latent_sees], dim=2))
        return state
    state = feed(model, question, model.embed(torch.full((len(batch), 1), model.bot_id, device=model.device)))
    for k in range(model.num_latents):
        state = feed(model, state, model.thought(state.last, k).unsqueeze(1))
    return state


def _teach(model: Codi, batch: list[Example]) -> tuple[State, State, Tensor]:
    """States after the question and after the teacher's words, and the teacher's cross-entropy."""
    ids, mask = model.pad([e.question for e in batch])
    question = feed(model, None, model.embed(ids), mask)
    ids, mask = _pad_right([e.thought + e.answer for e in batch], model)
    teacher = feed(model, question, model.embed(ids), mask, all_layers=True)
    predictors = torch.cat([question.hidden[:, -1:], teacher.hidden[:, :-1]], dim=1)  # the state that predicts each word
    return question, teacher, F.cross_entropy(model.logits(predictors[mask.bool()]).float(), ids[mask.bool()])


def _bare_ids(model: Codi, texts: list[str]) -> list[list[int]]:
    return model.tokenizer(texts, add_special_tokens=False)["input_ids"]


def _distill(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth-L1 of one layer [b, d], divided by the teacher's standard deviation; no gradient into the teacher."""
    teacher = teacher.detach().float()
    return F.smooth_l1_loss(student.float(), teacher) / teacher.std()


def _pad_right(sequences: list[list[int]], model: Codi) -> tuple[Tensor, Tensor]:
    longest = max(map(len, sequences))
    ids = torch.tensor([s + [model.pad_id] * (longest - len(s)) for s in sequences], device=model.device)
    mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in sequences], device=model.device)
    return ids, mask
