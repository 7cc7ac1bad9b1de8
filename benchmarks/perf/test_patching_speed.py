"""All patches together against one patch of one pair at a time, side by side in one run: the same answers."""

import pytest
import torch

from codi_bench import load
from codi_bench.audits.patching import DONOR, RANDOM, SAME, patches
from codi_bench.claims.runs import condition_of
from codi_bench.models.registry import EMBEDDED
from codi_bench.problems import generate
from codi_bench.problems.pairs import pairs, random_donors

pytestmark = pytest.mark.perf
N, SAMPLE = 200, 2  # pairs, and how many of them go one at a time
MAX_NEW_TOKENS = 16
FACTOR = 5  # what going together must gain


@pytest.mark.parametrize("name", EMBEDDED)
def test_patches_go_together(name, speed):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small operations on two threads lose by it, which is no merit of the other side
    model, asked = load(name, device="cpu"), pairs(N, step=1)
    donors = random_donors(asked, generate(400, seed=1, split="train"))
    sources = {side: [getattr(pair, side).question for pair in asked] for side in (DONOR, SAME)}
    sources[RANDOM] = [donor.question for donor in donors]
    every = patches(model.num_latents)
    questions = [pair.recipient.question for pair in asked]

    def together():
        conditions = [condition_of(patch, sources, {}) for patch in every]
        return model.answers(questions, conditions, batch_size=N, max_new_tokens=MAX_NEW_TOKENS)

    def alone():
        def one(patch, i):
            own = condition_of(patch, {side: [texts[i]] for side, texts in sources.items()}, {})
            return model.answers([questions[i]], [own], max_new_tokens=MAX_NEW_TOKENS)[0].tokens[0]

        return [[one(patch, i) for i in range(SAMPLE)] for patch in every]

    try:
        found, wanted = speed.rounds(together, alone, share=SAMPLE / N)
    finally:
        torch.set_num_threads(threads)
    drawn = {i for i, patch in enumerate(every) if patch.source == "noise"}  # another number of pairs, other vectors
    assert [list(each.tokens[:SAMPLE]) for i, each in enumerate(found) if i not in drawn] == [
        each for i, each in enumerate(wanted) if i not in drawn
    ]
    work = f"{N} pairs x {len(every)} patches, one at a time on {SAMPLE} pairs"
    print(f"\n{name}: {work}: {speed.ratio:.1f} times one at a time")
    assert speed.ratio >= FACTOR
    speed.assert_holds(work=work)
