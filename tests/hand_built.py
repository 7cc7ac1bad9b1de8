"""A CODI model built by hand: its answer is the number in the question, carried by one known latent and read from it alone."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from codi_bench.models.codi import Codi

NUMBERS = 100  # tokens 0..99 stand first in the vocabulary


class ByHand(nn.Module):
    """One attention layer with weights that are written down, behind the interface of a Hugging Face causal LM.

    A state is [what was read: a number, one-hot | the kind of input, one-hot]. Bot and latents announce the next latent; the one
    before latent `carrier` also reads the number of the question, and eot reads the number of latent `carrier`: of the input that
    says it is that, or, by_place, of whatever stands at its place.
    """

    def __init__(self, vocab_size: int, eos: int, *, carrier: int, num_latents: int, by_place: bool):
        super().__init__()
        self.back = num_latents - carrier if by_place else 0  # places from eot
        self.vocab_size, self.eos = vocab_size, eos
        kinds = ["word", "number", "bot", *range(num_latents + 1), "eot"]
        self.kind = {name: vocab_size + 3 + i for i, name in enumerate(kinds)}
        width = vocab_size + 3 + len(kinds)
        self.embedding = nn.Embedding(vocab_size + 3, width)
        self.head = nn.Linear(width, vocab_size + 3, bias=False)
        self.norm = nn.Identity()
        self.config = SimpleNamespace(num_hidden_layers=1, hidden_size=width, model_type="by hand")
        self.wanted, self.reads, self.next = torch.zeros(width, width), torch.zeros(width), torch.zeros(width, width)
        before = "bot" if carrier == 0 else carrier - 1
        for query, key in ((before, "number"), ("eot", carrier)):
            self.wanted[self.kind[query], self.kind[key]] = 1000.0
            self.reads[self.kind[query]] = 1.0
        for query, then in zip(["bot", *range(num_latents)], range(num_latents + 1)):
            self.next[self.kind[query], self.kind[then]] = 1.0
        self.next[self.kind["number"], eos] = 1.0  # an answer is one number long
        with torch.no_grad():
            self.embedding.weight.zero_()
            self.head.weight.copy_(torch.eye(vocab_size + 3, width))
            for token in range(vocab_size + 3):
                name = {vocab_size + 1: "bot", vocab_size + 2: "eot"}.get(token, "number" if token < NUMBERS else "word")
                self.embedding.weight[token, self.kind[name]] = 1.0
                if name == "number":
                    self.embedding.weight[token, token] = 1.0

    @property
    def base_model(self):
        return self

    @property
    def device(self):
        return self.embedding.weight.device

    @property
    def dtype(self):
        return self.embedding.weight.dtype

    def get_input_embeddings(self):
        return self.embedding

    def get_output_embeddings(self):
        return self.head

    def forward(self, *, inputs_embeds: Tensor, attention_mask: Tensor, position_ids: Tensor, cache, output_hidden_states, **_):
        x, place = inputs_embeds, position_ids[..., None].to(inputs_embeds)
        keys, values = cache.update(torch.cat([x, place], dim=-1)[:, None], x[:, None], 0)
        keys, places = keys[:, 0, :, :-1], keys[:, 0, :, -1]
        scores = x @ self.wanted @ keys.transpose(1, 2) + attention_mask[:, 0]
        if self.back:
            there = 1000.0 * (places[:, None] == place - self.back)
            scores = torch.where(x[..., self.kind["eot"], None] > 0.5, there + attention_mask[:, 0], scores)
        read = scores.softmax(-1) @ values[:, 0]
        read[..., self.vocab_size :] = 0
        read = read * (read > 0.5)  # a mixture of everything, where what is wanted is not there, is nothing
        hidden = (x @ self.reads)[..., None] * read + x @ self.next
        return SimpleNamespace(last_hidden_state=hidden, hidden_states=(x, hidden) if output_hidden_states else None)


def by_hand(tokenizer, *, carrier: int, num_latents: int = 6, by_place: bool = False) -> Codi:
    """The model, with thoughts fed as they are."""
    backbone = ByHand(len(tokenizer), tokenizer.eos_token_id, carrier=carrier, num_latents=num_latents, by_place=by_place)
    return Codi(backbone, nn.Identity(), tokenizer, vocab_size=len(tokenizer), num_latents=num_latents)
