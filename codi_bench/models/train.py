"""Train a CODI model from a recipe: progress, loss log, checkpoints, resume after a kill.

Every batch is a function of (seed, step), so a resumed run sees the batches that the killed one would have seen.
"""

from __future__ import annotations

import copy
import json
import math
import random
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from codi_bench.errors import CheckpointError
from codi_bench.files import write_text, write_whole
from codi_bench.models.checkpoint import save_folder
from codi_bench.models.codi import Codi, Projection, start_as_identity
from codi_bench.models.objective import Example, codi_losses, encode_examples, teacher_loss
from codi_bench.models.recipes import Recipe
from codi_bench.models.tokenizer import write_tokenizer
from codi_bench.problems import Problem, problems_hash, stream, vocabulary

POOL = 8  # batches that are formed together, so that questions of like length share a batch


@dataclass(frozen=True)
class Run:
    """What a training run left: the model in fp32, steps done, seconds spent, and the logged losses."""

    model: Codi
    steps: int
    seconds: float
    problems_hash: str
    log: list[dict]


@contextmanager
def _flushed_denormals():
    """Tiny gradients would slow a CPU down several times; the setting is the process's, so it is taken back."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@_flushed_denormals()
def train(
    recipe: Recipe,
    work: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    save_every: int = 250,
    log_every: int = 50,
) -> Run:
    """Run a recipe in the folder `work` (checkpoint, log); an interrupted run goes on where its checkpoint stands.

    dtype: of the forward and backward pass; the optimised weights are always fp32.
    Raises CheckpointError if the folder holds a run of another recipe or seed.
    """
    problems = _train_problems(recipe, seed)
    digest = problems_hash(problems)
    model = _new_model(recipe, work, seed).to(device)
    examples = encode_examples(model, problems)
    optimizer = _optimizer(model, recipe)
    identity = {"recipe": {**asdict(recipe), "notes": ()}, "seed": seed, "problems": digest}
    done, seconds, log = _resume(work, model, optimizer, identity)
    worker = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task(f"training {recipe.name}", total=recipe.steps, completed=done, losses="")
        recent, start = [], time.monotonic() - seconds
        for step in range(done, recipe.steps):
            if step == recipe.student_starts:
                _start_student(model, examples)
                if worker is not model:
                    _copy(model, worker)
            batch = [examples[i] for i in batch_indices(examples, recipe.batch_size, seed, step)]
            recent.append(_step(model, worker, optimizer, batch, recipe, step))
            if (step + 1) % log_every == 0 or step + 1 == recipe.steps:
                log.append({"step": step + 1, "seconds": round(time.monotonic() - start, 1), **_means(recent)})
                write_text(work / "loss.jsonl", "".join(json.dumps(line) + "\n" for line in log))
                progress.update(bar, losses=" ".join(f"{k} {v:.3f}" for k, v in _means(recent).items()))
                recent = []
            if (step + 1) % save_every == 0 or step + 1 == recipe.steps:
                _save(work, model, optimizer, {**identity, "step": step + 1, "seconds": time.monotonic() - start, "log": log})
            progress.advance(bar)
        seconds = time.monotonic() - start
    return Run(model.eval(), recipe.steps, seconds, digest, log)


def batch_indices(examples: list[Example], size: int, seed: int, step: int) -> list[int]:
    """The examples of one step: pools of random examples, cut into batches of like question length."""
    rng = random.Random(f"batches:{seed}:{step // POOL}")
    pool = sorted(rng.sample(range(len(examples)), size * POOL), key=lambda i: len(examples[i].question) + 6 * rng.random())
    order = rng.sample(range(POOL), POOL)
    start = order[step % POOL] * size
    return pool[start : start + size]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, a cosine down to 5 % at the horizon, and a linear cool-down to nothing at the last step."""
    warm, cool = min(1.0, (step + 1) / recipe.warmup), min(1.0, (recipe.steps - step) / max(1, recipe.cooldown))
    return recipe.learning_rate * warm * cool * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.horizon))))


def _step(model: Codi, worker: Codi, optimizer, batch: list[Example], recipe: Recipe, step: int) -> dict[str, float]:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, step)
    if not recipe.student_learns(step):
        parts = {"teacher": teacher_loss(worker, batch)}
        loss = parts["teacher"]
    else:
        losses = codi_losses(worker, batch)
        parts = {"student": losses.student, "teacher": losses.teacher, "distill": losses.distill}
        loss = losses.total(distill_factor=recipe.distill_factor)
    loss.backward()
    if worker is not model:
        for master, half in zip(model.parameters(), worker.parameters(), strict=True):
            master.grad, half.grad = (
                None if half.grad is None else half.grad.float(),
                None,
            )  # None: the projection, before the student
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if worker is not model:
        _copy(model, worker)
    return {part: value.item() for part, value in parts.items()}


@torch.no_grad()
def _start_student(model: Codi, examples: list[Example]) -> None:
    """Let the student begin as a soft version of the teacher: each thought is the state that would name its next word.

    The projection starts as the identity at the scale of the embeddings, bot as the word that ends a question and eot as the
    one that ends a step. From random ones the student learned the short way around its thoughts and never came back (see the
    notes of the recipes).
    """
    embeddings = model.backbone.get_input_embeddings().weight
    start_as_identity(model.projection, embeddings[: model.vocab_size].square().mean().sqrt().item())
    embeddings[model.bot_id] = embeddings[examples[0].question[-1]]
    embeddings[model.eot_id] = embeddings[next(e.thought[-1] for e in examples if e.thought)]


@torch.no_grad()
def _copy(model: Codi, worker: Codi) -> None:
    for master, half in zip(model.parameters(), worker.parameters(), strict=True):
        half.copy_(master)


def _means(recent: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each loss part over the steps that had it."""
    return {part: sum(p[part] for p in recent if part in p) / sum(part in p for p in recent) for part in recent[-1]}


def _train_problems(recipe: Recipe, seed: int) -> list[Problem]:
    source = stream(seed, "train")
    return [next(source) for _ in range(recipe.train_problems)]


def _new_model(recipe: Recipe, work: Path, seed: int) -> Codi:
    write_tokenizer(vocabulary(), work)
    tokenizer = AutoTokenizer.from_pretrained(work, local_files_only=True)
    torch.manual_seed(seed)
    # on a CPU the plain attention is the faster one to train in bf16
    backbone = AutoModelForCausalLM.from_config(recipe.config(len(tokenizer)), attn_implementation="eager")
    return Codi(
        backbone,
        Projection(recipe.width, recipe.inner),
        tokenizer,
        vocab_size=len(tokenizer),
        num_latents=recipe.num_latents,
        name=recipe.name,
    ).train()


def _optimizer(model: Codi, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def _save(work: Path, model: Codi, optimizer, progress: dict) -> None:
    """Weights and optimiser in one safetensors file that names its step, then the progress that makes it current."""
    tensors = {f"model.{k}": v.detach().cpu().contiguous() for k, v in model.named_parameters()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v.detach().cpu().contiguous() for k, v in state.items()}
    name = f"checkpoint-{progress['step']}.safetensors"
    write_whole(work / name, lambda path: save_file(tensors, path))
    write_text(work / "progress.json", json.dumps({**progress, "checkpoint": name}, indent=1) + "\n")
    for old in work.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink()


def _resume(work: Path, model: Codi, optimizer, identity: dict) -> tuple[int, float, list[dict]]:
    path = work / "progress.json"
    if not path.is_file():
        return 0, 0.0, []
    progress = json.loads(path.read_text())
    wanted = json.loads(json.dumps(identity))
    differs = [k for k in wanted if progress.get(k) != wanted[k]]
    if differs:
        raise CheckpointError(f"{path}: belongs to another run ({', '.join(differs)} differ); train into an empty --work folder")
    tensors = load_file(work / progress["checkpoint"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    state: dict[int, dict] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, field = key.split(".")
            state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return progress["step"], progress["seconds"], progress["log"]


def export(run: Run, folder: Path) -> None:
    """Write the trained model as a loadable folder: fp16 weights, configuration, tokenizer."""
    write_tokenizer(vocabulary(), folder)
    save_folder(run.model, folder)
