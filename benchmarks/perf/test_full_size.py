"""Clean run, capture and seven ablations at full size, without the weights: how fast, and how near to the machine.

The backbones have the published shapes and random weights. Tokenizer and questions are the real ones where folders are given
(`--base gpt2=FOLDER --problems gsm8k=FILE`), else stand-ins with question lengths like GSM8K's. The study's loop is timed on
a few problems before each round and scaled. Seconds and the fraction of the machine are of the fastest round, for other work on
the machine only ever slows one down. Nothing here depends on what the weights know: answers have a fixed length.

    pytest benchmarks/perf -m perf -k full_size -s             16 problems (LLaMA: 4) on a CPU, a thousand on a GPU
    pytest benchmarks/perf -m perf -k full_size -s --n 64      figures alone, no bars
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig

from codi_bench.models.codi import Codi, Projection
from codi_bench.models.conditions import Edited
from codi_bench.models.edits import Edit
from codi_bench.models.loading import DTYPES, resolve
from codi_bench.models.model import Model
from codi_bench.models.registry import entry
from codi_bench.plugin.options import given
from codi_bench.problems import load_problems
from codi_bench.store.files import write_text
from codi_bench.suite.environment import environment, versions

from .study_loop import plain_loop
from .timing import timed

pytestmark = pytest.mark.perf
K, NEW_TOKENS = 6, 8
CONDITIONS = [(), *((k,) for k in range(K)), tuple(range(K))]  # the latent positions fed zeros: none, each, all
GPU_BATCH = 256


@dataclass(frozen=True)
class Size:
    """What is run on a kind of device, and what it must reach there (None: no bar)."""

    problems: int
    sample: int  # problems that the study's loop is timed on
    rounds: int  # of both
    ratio: float | None = None  # times the study's loop, at least
    fraction: float | None = None  # of the matmul rate measured beside it, at least
    seconds: float | None = None  # at most


@dataclass(frozen=True)
class Shape:
    """A backbone by the name under which its checkpoint is registered."""

    name: str
    config: Callable
    cpu: Size
    cuda: Size

    @property
    def tiny(self) -> Shape:
        """The same family with a few thousand weights and no bars, on which the commands can be tried."""
        sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "initializer_range": 0.3}
        sizes |= {"bos_token_id": 1, "eos_token_id": 1}
        if self.name != "gpt2":
            sizes |= {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8}
        small = Size(4, sample=1, rounds=2)
        return replace(self, config=lambda: type(self.config())(vocab_size=400, **sizes), cpu=small, cuda=small)


SHAPES = [
    Shape(
        "gpt2",
        lambda: GPT2Config(vocab_size=50257 + 3),
        cpu=Size(16, sample=2, rounds=3, ratio=7, fraction=0.35),
        cuda=Size(1000, sample=8, rounds=3, ratio=100, seconds=10),
    ),
    Shape(
        "llama-3.2-1b",
        lambda: LlamaConfig(
            vocab_size=128256 + 3,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=64,
            max_position_embeddings=131072,
            rms_norm_eps=1e-5,
            rope_theta=500000.0,
            tie_word_embeddings=True,
        ),
        cpu=Size(4, sample=1, rounds=2, ratio=7, fraction=0.35),  # two minutes and 6 GiB
        cuda=Size(1000, sample=8, rounds=3, seconds=30),
    ),
]


class Ids:
    """A stand-in tokenizer: a text is its ids in digits, blank-separated."""

    eos_token_id = None

    def __call__(self, text: str) -> dict:
        return {"input_ids": [int(word) for word in text.split()]}

    def batch_decode(self, sequences, **_) -> list[str]:
        return [" ".join(map(str, ids)) for ids in sequences]


def stand_in_questions(n: int, vocab_size: int) -> list[str]:
    """Seeded ids; lengths are log-normal with GSM8K's mean of about 55 GPT-2 tokens and deviation of 22, within 15..180."""
    rng = np.random.default_rng(0)
    spread = np.log(1 + (22 / 55) ** 2)
    lengths = rng.lognormal(np.log(55) - spread / 2, np.sqrt(spread), n).round().clip(15, 180).astype(int)
    return [" ".join(map(str, rng.integers(vocab_size, size=length))) for length in lengths]


def texts_for(option, shape: Shape, n: int, vocab_size: int) -> tuple[object, list[str], str]:
    """Tokenizer, n questions, and in words what they are."""
    folder = dict(text.partition("=")[::2] for text in option.bases).get(shape.name)
    file = dict(text.partition("=")[::2] for text in option.problems).get("gsm8k")
    if folder and file:
        questions = [p.question for p in load_problems("gsm8k", path=file, n=n)]
        return AutoTokenizer.from_pretrained(folder, local_files_only=True), questions, "GSM8K questions"
    return Ids(), stand_in_questions(n, vocab_size), "stand-in questions of GSM8K's lengths"


def build(shape: Shape, tokenizer, device: str, dtype: str) -> Model:
    """The shape with seeded random weights and CODI's projection; answers never end by themselves."""
    config = shape.config()
    torch.manual_seed(0)
    with torch.device(device):
        backbone = AutoModelForCausalLM.from_config(config)
        projection = Projection(config.hidden_size, config.hidden_size)
    codi = Codi(backbone, projection, tokenizer, vocab_size=config.vocab_size - 3, num_latents=K, name=shape.name)
    codi.eos_id = -1
    return Model(codi.to(DTYPES[dtype]).eval(), entry(shape.name), device, dtype)


def useful_flops(codi: Codi, lengths: Sequence[int], conditions: Sequence[Sequence[int]], new_tokens: int) -> float:
    """Floating-point operations that the job cannot do without.

    An input through the blocks costs 2 a weight and 4 d an earlier input (itself included) a layer for its attention. Inputs
    are: the question, bot and K latents once; under each condition what follows its first edit (the edit included), eot, and
    the answer but its last token, which is never fed. To that come the projection, once for each input that it makes, and
    the head, once for each token of an answer. Paddings and anything computed twice are not useful; norms, activations and
    softmax are not counted.
    """
    config = codi.backbone.config
    block = sum(p.numel() for p in codi.backbone.base_model.parameters() if p.ndim == 2) - sum(
        m.weight.numel() for m in codi.backbone.base_model.modules() if isinstance(m, torch.nn.Embedding)
    )
    projection = sum(p.numel() for p in codi.projection.parameters() if p.ndim == 2)
    head = codi.backbone.get_output_embeddings().weight.numel()

    def fed(start: int, end: int) -> int:  # inputs at positions start..end - 1
        context = (end * (end + 1) - start * (start + 1)) // 2
        return 2 * block * (end - start) + 4 * config.hidden_size * config.num_hidden_layers * context

    total = 0
    for length in lengths:
        thought = length + 1 + K
        total += fed(0, thought) + 2 * projection * K
        for zeroed in conditions:
            first = min(zeroed, default=K)
            total += fed(length + 1 + first, thought + new_tokens) + 2 * head * new_tokens
            total += 2 * projection * sum(k not in zeroed for k in range(first, K))
    return total


def matmul_rate(device: str, dtype: str, tiny: bool = False) -> float:
    """FLOP/s of the best of a few large square matmuls, with the threads that the model has."""
    best = 0.0
    for size in (128,) if tiny else (2048, 3072) if device == "cpu" else (4096, 8192):
        one, other = (torch.randn(size, size, device=device, dtype=DTYPES[dtype]) for _ in range(2))
        for _ in range(6):
            best = max(best, 2 * size**3 / timed(partial(torch.matmul, one, other), device)[0])
    return best


def peak_bytes(device: str) -> int:
    """Highest use so far: of the device, or of this process where that is the CPU (weights included in both)."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_full_size(shape, speed, request, tmp_path):
    option, tiny = given(request.config), request.config.getoption("tiny", False)
    shape = shape.tiny if tiny else shape
    device, dtype = resolve(option.device, option.dtype)
    size = shape.cpu if device == "cpu" else shape.cuda
    if device != "cpu":
        dtype = "bfloat16" if option.dtype == "auto" else dtype
        torch.cuda.reset_peak_memory_stats(device)
    n = option.n or size.problems
    batch_size = option.batch_size if device == "cpu" else max(option.batch_size, GPU_BATCH)
    tokenizer, questions, what = texts_for(option, shape, n, shape.config().vocab_size - 3)
    model = build(shape, tokenizer, device, dtype)
    codi = model.codi
    lengths = [len(tokenizer(question)["input_ids"]) for question in questions]
    conditions = [Edited(tuple(Edit(k, "zero") for k in zeroed)) for zeroed in CONDITIONS]
    states = np.lib.format.open_memmap(tmp_path / "states.npy", "w+", np.float16, (n, 1 + K, codi.num_layers + 1, codi.width))

    def job():
        return model.answers(
            questions,
            conditions,
            hidden_states=states,
            max_new_tokens=NEW_TOKENS,
            batch_size=batch_size,
        )

    rates = []

    def beside():
        rates.append(matmul_rate(device, dtype, tiny))

    answers = job()  # which warms up, too
    memory = peak_bytes(device)
    ranks = np.argsort(lengths)[((np.arange(min(size.sample, n)) + 0.5) * n / min(size.sample, n)).astype(int)]
    sample = [questions[i] for i in ranks]  # evenly over the lengths, so that their mean is that of all
    follow = None if dtype == "float32" else [[found.tokens[i] for i in ranks] for found in answers]
    plain_loop(codi, sample[:1], CONDITIONS[:1], 1)
    answers, (plain, captured, missed) = speed.rounds(
        job,
        lambda: plain_loop(codi, sample, CONDITIONS, NEW_TOKENS, follow),
        share=len(sample) / n,
        rounds=size.rounds,
        warmup=0,
        beside=beside,
        device=device,
    )
    taken, ratio = min(speed.seconds), speed.ratio

    if follow is None:
        assert [[found.tokens[i] for i in ranks] for found in answers] == plain
    else:  # rounding decides near-ties: every id must be within it of the greedy one
        assert max(missed) < 0.1, f"an id is {max(missed):.3f} deviations of its logits from the greedy one"
    tolerance = 2e-3 if dtype == "float32" else 0.1
    assert max(abs(states[i].astype(np.float32) - c).max() / abs(c).max() for i, c in zip(ranks, captured)) < tolerance
    assert len({found.tokens for found in answers}) > 1, "the edits changed no answer, so equal answers would prove nothing"

    flops, rate = useful_flops(codi, lengths, CONDITIONS, NEW_TOKENS), max(rates)
    figures = {
        "problems": n,
        "conditions": len(CONDITIONS),
        "questions": f"{what}, {np.mean(lengths):.1f} tokens on average",
        "seconds": taken,
        "problems_per_second": n / taken,
        "tokens_per_second": len(CONDITIONS) * NEW_TOKENS * n / taken,
        "peak_bytes": memory,
        "ratio": ratio,
        "plain_loop": f"timed on {len(sample)} of {n} problems and scaled",
        "matmul_flops_per_second": rate,
        "useful_flops_per_problem": flops / n,
        "fraction": flops / taken / rate,
    }
    speed.benchmark.extra_info.update(figures)
    print(
        f"\n{shape.name} ({dtype}, {device}): {n} problems x {len(CONDITIONS)} conditions in {taken:.2f} s, "
        f"{n / taken:.2f} problems/s, {figures['tokens_per_second']:.0f} tokens/s, peak {memory / 2**30:.2f} GiB"
        f"\n  {ratio:.1f} times the study's loop ({figures['plain_loop']})"
        f"\n  {flops / n / 1e9:.1f} useful GFLOP a problem, {flops / taken / 1e9:.1f} GFLOP/s, {figures['fraction']:.0%} of the "
        f"{rate / 1e9:.0f} GFLOP/s of a large matmul; {figures['questions']}"
    )
    around = {**environment(device, dtype).model_dump(), **versions()}
    write_text(
        Path(option.report) / "perf" / f"full-size-{shape.name}.json",
        json.dumps({"environment": around, "figures": figures}, indent=1) + "\n",
    )
    if option.n is None:
        bars = [
            ("times the study's loop", ratio, size.ratio, 1),
            ("of the matmul rate", figures["fraction"], size.fraction, 1),
            ("seconds", taken, size.seconds, -1),
        ]
        missed_bars = [
            f"{value:.3g} {name}, the bar is {bar:g}" for name, value, bar, sign in bars if bar and sign * value < sign * bar
        ]
        assert not missed_bars, "; ".join(missed_bars)
    what = f"{what}, tiny" if tiny else what
    work = f"{n} {what} x {len(CONDITIONS)} conditions in batches of {batch_size}, the study's loop on {len(sample)} of them"
    speed.assert_holds(work=work, device=device, dtype=dtype)
