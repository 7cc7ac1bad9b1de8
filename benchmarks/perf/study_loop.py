"""The study's plain loop, the reference that speed is compared with: one problem and one condition at a time.

It encodes the question anew for each condition, with the head over every input, thinks with inputs zeroed, and answers token
by token; where nothing is zeroed it also keeps every hidden state, as the study's capture does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from transformers import DynamicCache

from codi_bench.models.state import cache_argument


@torch.inference_mode()
def plain_loop(
    codi, questions: Sequence[str], conditions: Sequence[Collection[int]], max_new_tokens: int, follow=None
) -> tuple[list[list[tuple[int, ...]]], list, list]:
    """Greedy ids of every problem under every condition, each a collection of the latent positions that are fed zeros.

    follow: ids [condition][problem] to feed instead of its own. Also returned: the captured states [1 + K, L + 1, d] of each
    problem (float16, as kept), and in the order of the ids how far each returned or followed id was from the greedy one, in
    standard deviations of its logits (0: it was the greedy one).
    """
    backbone, embed, device = codi.backbone, codi.backbone.get_input_embeddings(), codi.device
    found, captured, missed = [], [], []
    for c, zeroed in enumerate(conditions):
        answers = []
        for i, question in enumerate(questions):
            ids = torch.tensor([[*codi.tokenizer(question)["input_ids"], codi.bot_id]], device=device)
            cache = {cache_argument(type(backbone)): DynamicCache(), "use_cache": True}
            out = backbone(input_ids=ids, **cache, output_hidden_states=True)
            states = [out.hidden_states]
            latent = codi.projection(out.hidden_states[-1][:, -1:])
            for k in range(codi.num_latents):
                fed = torch.zeros_like(latent) if k in zeroed else latent
                out = backbone(inputs_embeds=fed, **cache, output_hidden_states=True)
                latent = codi.projection(out.hidden_states[-1][:, -1:])
                states.append(out.hidden_states)
            if not zeroed:
                captured.append(torch.stack([torch.stack([h[0, -1] for h in one]) for one in states]).half().cpu().numpy())
            token, tokens = codi.eot_id, []
            while token != codi.eos_id and len(tokens) < max_new_tokens:
                fed = embed(torch.tensor([[token]], device=device))
                out = backbone(inputs_embeds=fed, **cache)
                logits = out.logits[0, -1, :-1]  # eot is the last id
                token = int(logits.argmax())
                if follow is not None:
                    best, token = token, follow[c][i][len(tokens)]
                    missed.append(float((logits[best] - logits[token]) / logits.float().std()))
                tokens.append(token)
            answers.append(tuple(tokens))
        found.append(answers)
    return found, captured, missed
