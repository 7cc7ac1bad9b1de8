"""The ablation sweep against the study's plain loop, side by side in one run: same conditions, identical answers.

The plain loop takes one problem and one condition at a time and encodes the question anew for each. Both sides run with the
same threads; what is compared is their ratio, never a time.
"""

import time

import numpy as np
import pytest
import torch

from codi_bench import load
from codi_bench.models.edits import Edit
from codi_bench.models.registry import EMBEDDED
from codi_bench.problems import generate

pytestmark = pytest.mark.perf
N = 256
MAX_NEW_TOKENS = 16
FACTOR = 10  # what the sweep must gain


@torch.inference_mode()
def plain_loop(model, questions, places):
    """The study's way: for each condition and each problem encode, think with one input zeroed, answer."""
    codi = model.codi
    backbone, embed = codi.backbone, codi.backbone.get_input_embeddings()
    found = []
    for place in places:
        texts = []
        for question in questions:
            ids = torch.tensor([[*codi.tokenizer(question)["input_ids"], codi.bot_id]])
            out = backbone(input_ids=ids, use_cache=True, output_hidden_states=True)
            latent = codi.projection(out.hidden_states[-1][:, -1:])
            for k in range(codi.num_latents):
                fed = torch.zeros_like(latent) if place == k else latent
                out = backbone(inputs_embeds=fed, past_key_values=out.past_key_values, use_cache=True, output_hidden_states=True)
                latent = codi.projection(out.hidden_states[-1][:, -1:])
            token, tokens = codi.eot_id, []
            while token != codi.eos_id and len(tokens) < MAX_NEW_TOKENS:
                out = backbone(inputs_embeds=embed(torch.tensor([[token]])), past_key_values=out.past_key_values, use_cache=True)
                token = int(out.logits[0, -1, :-1].argmax())
                tokens.append(token)
            texts.append(tuple(tokens))
        found.append(texts)
    return found


@pytest.mark.parametrize("name", EMBEDDED)
def test_sweep_beats_the_plain_loop(name, benchmark):
    model = load(name, device="cpu")
    questions = [p.question for p in generate(N, seed=3)]
    places = [None, *range(model.num_latents)]
    conditions = [[] if place is None else [Edit(place, "zero")] for place in places]

    def sweep():
        return model.answer_conditions(questions, conditions, max_new_tokens=MAX_NEW_TOKENS, batch_size=N)

    answers = benchmark.pedantic(sweep, rounds=3, warmup_rounds=1)
    sample = questions[:24]
    start = time.perf_counter()
    plain = plain_loop(model, sample, places)
    each = (time.perf_counter() - start) / len(sample)
    for found, wanted in zip(answers, plain, strict=True):
        assert list(found.tokens[: len(sample)]) == wanted

    ratio = each * N / float(np.median(benchmark.stats.stats.data))
    benchmark.extra_info.update(
        ratio=ratio, plain_loop=f"timed on {len(sample)} of {N} problems and scaled", threads=torch.get_num_threads()
    )
    print(
        f"\n{name}: {N} problems x {len(places)} conditions, {ratio:.1f} times the plain loop "
        f"(timed on {len(sample)} problems and scaled)"
    )
    assert ratio >= FACTOR
