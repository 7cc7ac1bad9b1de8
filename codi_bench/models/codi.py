"""The model: a causal backbone that feeds its own last hidden state back.

Words (DESIGN): `bot` opens the thoughts, `latent_pos` k is the step whose input is z_k, `eot` opens the answer; `layer`
counts blocks applied, so `hidden_states[0]` is the input embedding and the last entry, after the final norm, is
`final_normed`. Batches are padded on the left, and every phase uses mask and positions, so no result depends on the
other problems of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.activations import NewGELUActivation

from codi_bench.errors import ProblemError
from codi_bench.problems.answers import COCONUT_CUE, CODI_CUE

if TYPE_CHECKING:  # loaded with the first model
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prompt:
    """How a source's training formats questions and answers. suffix: after every question. cue: before the answer.

    tidy: strip questions and collapse double blanks? CODI's evaluation does so, Coconut's `dataset.py` does not.
    """

    suffix: str = ""
    cue: str = CODI_CUE
    tidy: bool = True

    def question(self, text: str) -> str:
        return (text.strip().replace("  ", " ") if self.tidy else text) + self.suffix

    def answer(self, gold: str) -> str:
        """`The answer is: 18`, or Coconut's `### 18`."""
        return f"{self.cue} {gold}"


CODI, COCONUT = Prompt(), Prompt("\n", COCONUT_CUE, tidy=False)
WIDE = 512  # narrower models gain nothing from other kernels, and what is recorded of the embedded ones rounds as before


class Projection(nn.Sequential):
    """Hidden state → next input: Linear(d, p), GELU, Linear(p, d), LayerNorm(d); keys as published (`1`, `3`, `ln`)."""

    def __init__(self, width: int, inner: int, *, dropout: float = 0.0, layer_norm: bool = True):
        super().__init__(nn.Dropout(dropout), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        if layer_norm:
            self.add_module("ln", nn.LayerNorm(width))


class Pauses(nn.Module):
    """Learned constants that are fed instead of thoughts, [K, d]: a control in which no thought passes anything on.

    Source: Goyal et al. 2023, "Think before you speak" (pause tokens), and "pause as thought" in arXiv 2412.06769. There all
    places share one token; here each has its own vector, so that the control differs from CODI by the recurrence alone.
    """

    def __init__(self, num_latents: int, width: int):
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(num_latents, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.vectors)

    def forward(self, final_normed: Tensor, latent_pos: int) -> Tensor:
        """The constant of a place in the shape of final_normed [..., d]; places beyond the last repeat it."""
        return self.vectors[min(latent_pos, len(self.vectors) - 1)].expand_as(final_normed)


@torch.no_grad()
def start_as_identity(projection: Projection, scale: float) -> None:
    """Make a fresh projection of inner width 2 d an identity: it feeds the state, normalised to the given root mean square.

    GELU(x) - GELU(-x) = x, so [I, -I] after [I; -I] is the identity. Raises ValueError for another inner width.
    """
    first, second = cast(nn.Linear, projection[1]), cast(nn.Linear, projection[3])
    if first.out_features != 2 * first.in_features:
        raise ValueError(f"an identity needs the inner width {2 * first.in_features}, not {first.out_features}")
    eye = torch.eye(first.in_features, device=first.weight.device)
    first.weight.copy_(torch.cat([eye, -eye]))
    second.weight.copy_(torch.cat([eye, -eye], dim=1))
    first.bias.zero_()
    second.bias.zero_()
    cast(nn.LayerNorm, projection.ln).weight.fill_(scale)


class OneDNN(TorchFunctionMode):
    """Compute products of full-precision matrices on a CPU with oneDNN instead of torch's BLAS.

    1.7 times as fast with 16 rows, 1.5 with a hundred, 1.1 with a thousand. One row uses BLAS, which is faster there.
    The operator is private to torch (it serves its compiler); without it everything uses BLAS.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if not kwargs and args and isinstance(args[0], Tensor):
            if func is nn.functional.linear and args[0].shape[:-1].numel() > 1:
                x, weight, *bias = args
                return torch.ops.mkldnn._linear_pointwise(x, weight, *(bias or [None]), "none", [], "")
            if func is torch.addmm and len(args[1]) > 1:  # GPT-2's layers, whose weights are the other way round
                bias, x, weight = args
                return torch.ops.mkldnn._linear_pointwise(x, weight.t(), bias, "none", [], "")
        return func(*args, **(kwargs or {}))


def products(x: Tensor) -> AbstractContextManager[object]:
    """The mode to multiply x [..., d] in: `OneDNN` where it is faster."""
    wide = x.shape[-1] >= WIDE and x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled()
    available = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return OneDNN() if wide and available else nullcontext()


class Codi(nn.Module):
    """A backbone, its projection and the three ids that follow the tokenizer's vocabulary of size V.

    backbone: Hugging Face causal LM whose embeddings hold V + 3 rows. projection: a `Projection`, `nn.Identity()` where the
    hidden state itself is fed (Coconut), or `Pauses` where nothing is. num_latents: K, the thoughts fed between bot and eot.
    extra_ids: (pad, bot, eot), by default CODI's V, V + 1, V + 2. prompt: the format of questions and answers in training.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        projection: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        vocab_size: int,
        num_latents: int,
        name: str = "",
        extra_ids: tuple[int, int, int] | None = None,
        prompt: Prompt = CODI,
    ):
        super().__init__()
        self.backbone, self.projection, self.tokenizer = backbone, projection, tokenizer
        self.vocab_size, self.num_latents, self.name = vocab_size, num_latents, name
        self.pad_id, self.bot_id, self.eot_id = extra_ids or (vocab_size, vocab_size + 1, vocab_size + 2)
        self.prompt = prompt
        self.eos_id = tokenizer.eos_token_id
        self.fingerprint = ""  # sha256 of the files it was loaded from
        for module in backbone.modules():
            if self.width >= WIDE and isinstance(getattr(module, "act", None), NewGELUActivation):
                module.act = nn.GELU(approximate="tanh")  # the same function in one pass over memory, not eight

    @property
    def num_layers(self) -> int:
        return self.backbone.config.num_hidden_layers

    @property
    def width(self) -> int:
        return self.backbone.config.hidden_size

    @property
    def num_positions(self) -> int | None:
        """The number of position embeddings (GPT-2); None for a backbone without such a table."""
        config = self.backbone.config
        return config.max_position_embeddings if config.model_type == "gpt2" else None

    def check_length(self, needed: int, what: str) -> None:
        """Raises ProblemError if there are more inputs than positions."""
        if self.num_positions is not None and needed > self.num_positions:
            name = self.name or "the backbone"
            raise ProblemError(
                f"{what}: needs {needed} positions, but {name} has only {self.num_positions}; give shorter questions"
            )

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def num_parameters(self) -> int:
        """Every parameter once (a tied head shares the embedding), projection included."""
        return sum(p.numel() for p in self.parameters())

    def embed(self, ids: Tensor) -> Tensor:
        """ids [b, t] → input embeddings [b, t, d] (without position embeddings, which the backbone adds)."""
        return self.backbone.get_input_embeddings()(ids)

    def thought(self, final_normed: Tensor, latent_pos: int) -> Tensor:
        """What is fed at a latent position, in the shape of the state before it, [..., d]."""
        if isinstance(self.projection, Pauses):
            return self.projection(final_normed, latent_pos)
        return self.projection(final_normed)

    def logits(self, final_normed: Tensor) -> Tensor:
        """final_normed [..., d] → logits [..., V + 3]."""
        with products(final_normed):
            return self.backbone.get_output_embeddings()(final_normed)

    def answer_logits(self, final_normed: Tensor) -> Tensor:
        """final_normed [..., d] → logits [..., V + 2] over every id but eot, which is never generated."""
        logits = self.logits(final_normed)
        if self.eot_id == logits.shape[-1] - 1:
            return logits[..., :-1]
        return torch.cat([logits[..., : self.eot_id], logits[..., self.eot_id + 1 :]], dim=-1)

    def answer_ids(self, answer_logits: Tensor) -> Tensor:
        """The greedy ids of `answer_logits`, [...]."""
        ids = answer_logits.argmax(-1)
        return ids + (ids >= self.eot_id)

    def pad(self, sequences: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Left-padded ids [b, t] and their mask [b, t] (1 where there is a token)."""
        longest = max(len(s) for s in sequences)
        ids = torch.tensor([[self.pad_id] * (longest - len(s)) + list(s) for s in sequences], device=self.device)
        mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences], device=self.device)
        return ids, mask
