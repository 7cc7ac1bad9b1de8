"""The ablation sweep against the study's plain loop, side by side in one run: same conditions, identical answers.

Both sides run with the same threads; what is compared is their ratio, never a time.
"""

import time

import numpy as np
import pytest
import torch
from study_loop import plain_loop

from codi_bench import load
from codi_bench.models.edits import Edit
from codi_bench.models.registry import EMBEDDED
from codi_bench.problems import generate

pytestmark = pytest.mark.perf
N = 256
MAX_NEW_TOKENS = 16
FACTOR = 10  # what the sweep must gain


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
    plain, *_ = plain_loop(model.codi, sample, [() if place is None else (place,) for place in places], MAX_NEW_TOKENS)
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
