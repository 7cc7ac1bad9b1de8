"""The ablation sweep against the study's plain loop, side by side in one run: same conditions, identical answers.

Both sides run on one thread, and what is compared is their ratio, never a time. The sweep is one batch of a narrow model, which
is computed on one thread anyway; the plain loop loses by a second one: on a busy machine its many small operations, each waiting
for the slower thread, made it three to ten times slower, which is no merit of the sweep.
"""

import pytest
import torch

from codi_bench import load
from codi_bench.models.conditions import CLEAN, Edited
from codi_bench.models.edits import Edit
from codi_bench.models.registry import EMBEDDED
from codi_bench.problems import generate

from .study_loop import plain_loop

pytestmark = pytest.mark.perf
N, SAMPLE = 256, 8  # problems, and how many of them the plain loop is timed on
MAX_NEW_TOKENS = 16
FACTOR = 10  # what the sweep must gain


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", EMBEDDED)
def test_sweep_beats_the_plain_loop(name, speed, one_thread):
    model = load(name, device="cpu")
    questions = [p.question for p in generate(N, seed=3)]
    places = [None, *range(model.num_latents)]
    conditions = [CLEAN, *(Edited((Edit(place, "zero"),)) for place in range(model.num_latents))]
    zeroed = [() if place is None else (place,) for place in places]

    def sweep():
        return model.answers(questions, conditions, max_new_tokens=MAX_NEW_TOKENS, batch_size=N)

    def plain():
        return plain_loop(model.codi, questions[:SAMPLE], zeroed, MAX_NEW_TOKENS)

    answers, (wanted, *_) = speed.rounds(sweep, plain, share=SAMPLE / N)
    assert [list(found.tokens[:SAMPLE]) for found in answers] == wanted
    work = f"{N} problems x {len(places)} conditions, the plain loop on {SAMPLE} of them"
    print(f"\n{name}: {work}: {speed.ratio:.1f} times the plain loop")
    assert speed.ratio >= FACTOR
    speed.assert_holds(work=work)
