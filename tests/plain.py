"""A CODI model one problem at a time: no batch, no cache, no padding, everything computed anew at every step."""

from types import SimpleNamespace

import torch


@torch.inference_mode()
def plain(codi, question, replaced=None, *, latents=6, in_words=False, discretised=(), gold=None, cue=(), moved=None, new=6):
    """Hidden states and latents by place, first logits, tokens; with a gold answer its log-probability.

    replaced: place → the embedding fed there; discretised: latent positions fed a word's embedding, projected.
    cue: ids fed behind eot; moved: what becomes of the state at the last of them.
    """
    table = codi.backbone.get_input_embeddings().weight
    fed = [table[i] for i in codi.tokenizer(question)["input_ids"]]

    def step():
        out = codi.backbone(inputs_embeds=torch.stack(fed)[None], output_hidden_states=True, use_cache=False)
        return torch.stack([h[0, -1] for h in out.hidden_states]), out.logits[0, -1, :-1]  # eot is the last id

    def log_probability():
        total, length = 0.0, len(fed)
        for i in [*codi.tokenizer(f"The answer is: {gold}", add_special_tokens=False)["input_ids"], codi.eos_id]:
            total += float(step()[1].double().log_softmax(-1)[i])
            fed.append(table[i])
        del fed[length:]
        return total

    hidden, thoughts, value = [], [], table[codi.vocab_size + 1]
    for following, place in enumerate([] if in_words else ["bot", *range(latents)]):
        fed.append((replaced or {}).get(place, value))
        hidden.append(step()[0])
        thought = hidden[-1][-1]
        if following in discretised:
            thought = table[codi.logits(thought)[: codi.vocab_size].argmax()]
        value = codi.projection(thought)
        thoughts.append(value)
    if not in_words:
        fed += [table[codi.vocab_size + 2], *(table[i] for i in cue)]
    likely = None if gold is None else log_probability()
    first = logits = step()[1] if moved is None else codi.logits(moved(step()[0][-1]))[:-1]
    tokens = [int(logits.argmax())]
    while tokens[-1] != codi.eos_id and len(tokens) < new:
        fed.append(table[tokens[-1]])
        logits = step()[1]
        tokens.append(int(logits.argmax()))
    states = {} if in_words else {"hidden": torch.stack(hidden).numpy(), "latents": torch.stack(thoughts).numpy()}
    return SimpleNamespace(first=first.numpy(), tokens=tuple(tokens), log_probability=likely, **states)
