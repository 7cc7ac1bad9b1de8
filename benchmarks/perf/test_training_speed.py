"""Training over a backbone with few large batches of like length, against many small mixed ones, side by side in one run.

The reference is the recipe of smollm2-135m as it was first run: batches of 8, in the order in which their problems were drawn,
and with dropout. Both sides make the same steps with the same problems. Most of a step over a narrow backbone is the cost of its
many small operations.
"""

from dataclasses import replace

import pytest
import torch

from benchmarks.stress.tiny import write_base
from codi_bench.problems import generate
from codi_bench.training import lora
from codi_bench.training.recipes import LORA_RECIPES

pytestmark = pytest.mark.perf
WIDTH, LAYERS, STEPS = 96, 5, 2
FACTOR = 2  # what large batches of like length must gain


def test_batches_of_like_length_are_fast(speed, tmp_path):
    pytest.importorskip("peft")
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "intermediate_size": 256}
    base = write_base("llama", tmp_path / "base", **sizes, tie_word_embeddings=True)
    ours = replace(LORA_RECIPES["smollm2-135m"], base=str(base), inner=2 * WIDTH, steps=(STEPS,), answer_shift=0, dtype="float32")
    first = replace(ours, batch_size=8, accumulate=ours.batch_size * ours.accumulate // 8, by_length=False, dropout=0.1)
    problems = generate(STEPS * ours.batch_size * ours.accumulate, seed=3, split="train")
    count = 0

    def train(recipe):
        nonlocal count
        count += 1
        return lora.finetune(recipe, [problems], tmp_path / str(count), log_every=1).run.log

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small operations on two threads lose by it, which is no merit of the other side
    try:
        log, wanted = speed.rounds(lambda: train(ours), lambda: train(first), rounds=3)
    finally:
        torch.set_num_threads(threads)
    for part in (
        "student",
        "teacher",
    ):  # of the first step, in which LoRA is still zero; means over batches that are not the same
        assert log[0][part] == pytest.approx(wanted[0][part], rel=0.03)
    work = f"{STEPS} steps of {ours.batch_size * ours.accumulate} problems over {LAYERS} layers of width {WIDTH}"
    print(f"\n{work}: {len(problems) / min(speed.seconds):.0f} examples/s, {speed.ratio:.1f} times batches of 8")
    assert speed.ratio >= FACTOR
    speed.assert_holds(work=work)
