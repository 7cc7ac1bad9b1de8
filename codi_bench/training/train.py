"""Train a CODI model from a recipe, with progress, loss log, checkpoints, and resuming after a kill.

Every batch is a function of (seed, step), so a resumed run sees the batches that the killed one would have seen.
"""

from __future__ import annotations

import copy
import errno
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from codi_bench.errors import CheckpointError, MeasureError, arguments, one_line
from codi_bench.models.checkpoint import save_folder
from codi_bench.models.codi import Codi, Pauses, Projection, start_as_identity
from codi_bench.models.loading import check_device
from codi_bench.models.objective import Example, codi_losses, encode_examples, teacher_loss
from codi_bench.problems import Problem, problems_hash, stream, vocabulary
from codi_bench.store.files import write_text, write_whole
from codi_bench.training.recipes import Recipe
from codi_bench.training.tokenizer import write_tokenizer

CHECKPOINT = "checkpoint.pt"
SAVE_SECONDS = 120.0  # after which a slow run keeps what it has, however few steps it did
Progress = Callable[
    [int, int, str], object
]  # told at the start and behind each step: steps done, of how many, the losses in words
POOL = 8  # batches that are formed together, so that questions of like length share a batch


@dataclass(frozen=True)
class TrainingRun:
    """The result of a training run: the model in fp32, steps done, seconds spent, and the logged losses."""

    model: Codi
    steps: int
    seconds: float
    problems_hash: str
    log: list[dict[str, float]]


@contextmanager
def _flush_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero: tiny gradients would slow a CPU down. The setting is process-wide, so it is restored."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@dataclass(frozen=True)
class Job:
    """Everything that the training loop needs; two kinds of recipe make jobs.

    parts(step): the examples of a step in parts whose gradients are added up. loss(worker, part, step): the loss and its parts.
    before(step): called before a step; returns True if it changed weights. after(steps done, model): called after a step. frozen:
    tensors that are not trained but belong to the run, by name; they share memory with the model.
    """

    name: str
    model: Codi
    optimizer: torch.optim.Optimizer
    steps: int
    identity: dict[str, Any]
    parts: Callable[[int], list[list[Example]]]
    loss: Callable[[Codi, list[Example], int], tuple[Tensor, dict[str, Tensor]]]
    rate: Callable[[int], float]
    before: Callable[[int], bool]
    max_norm: float
    frozen: dict[str, Tensor] = field(default_factory=dict)
    after: Callable[[int, Codi], None] = lambda steps, model: None


def train(
    recipe: Recipe,
    work: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    save_every: int = 250,
    log_every: int = 50,
    after: Callable[[int, Codi], None] = lambda steps, model: None,
    progress: Progress = lambda done, total, text: None,
) -> TrainingRun:
    """Run a recipe in the folder `work` (checkpoint, log); an interrupted run continues from its checkpoint.

    dtype: of the forward and backward pass; the optimised weights are always fp32. after: called behind each step with the number
    of steps done and the model; a resumed run calls it again for the steps that it does again. progress: as of `Progress`.
    Raises CheckpointError if the folder holds a run of another recipe or seed, InputError for an argument that cannot be.
    """
    arguments.instance("recipe", recipe, Recipe)
    arguments.instance("dtype", dtype, torch.dtype)
    work, seed = check_job(work, device, save_every, log_every), arguments.seed(seed)
    arguments.function("after", after)
    arguments.function("progress", progress)
    problems = _train_problems(recipe, seed)
    digest = problems_hash(problems)
    model = _new_model(recipe, work, seed).to(device)
    examples = encode_examples(model, problems)

    def before(step: int) -> bool:
        if step == recipe.student_starts:
            _start_student(model, examples)
        return step == recipe.student_starts

    def loss(worker: Codi, part: list[Example], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        if not recipe.student_learns(step):
            teacher = teacher_loss(worker, part)
            return teacher, {"teacher": teacher}
        losses = codi_losses(worker, part)
        return losses.total(distill_factor=recipe.distill_factor), vars(losses)

    job = Job(
        recipe.name,
        model,
        adamw(model, recipe.weight_decay, (0.9, 0.98)),
        recipe.steps,
        {"recipe": {**asdict(recipe), "notes": ()}, "seed": seed, "problems": digest},
        lambda step: [[examples[i] for i in batch_indices(examples, recipe.batch_size, seed, step)]],
        loss,
        lambda step: learning_rate(recipe, step),
        before,
        max_norm=1.0,
        after=after,
    )
    seconds, log = run_job(job, work, dtype=dtype, save_every=save_every, log_every=log_every, progress=progress)
    return TrainingRun(model.eval(), recipe.steps, seconds, digest, log)


def check_job(work: Path, device: str, save_every: int, log_every: int, *, fewest: int = 1) -> Path:
    """Check the arguments of a run and return its folder. Raises InputError, or CheckpointError for the device; fewest: steps."""
    work = arguments.path("work", work)
    check_device(arguments.text("device", device), "float32")
    arguments.whole("save_every", save_every)
    arguments.whole("log_every", log_every, fewest)
    return work


@_flush_denormals()
def run_job(
    job: Job, work: Path, *, dtype: torch.dtype, save_every: int, log_every: int, progress: Progress
) -> tuple[float, list[dict[str, float]]]:
    """Train the job's model; gives the seconds and the log. A run that was killed goes on from its checkpoint, bit by bit."""
    model = job.model
    first_step, seconds, log, recent_losses = _resume(work, job)
    worker = model if dtype == torch.float32 else _cast_copy(model, dtype)
    progress(first_step, job.steps, "")
    start = time.monotonic() - seconds
    num_examples, interval_start = 0, time.monotonic()
    last_save = interval_start
    for step in range(first_step, job.steps):
        if job.before(step) and worker is not model:
            _copy(model, worker)
        parts = job.parts(step)
        recent_losses.append(_step(job, worker, parts, step))
        num_examples += sum(map(len, parts))
        job.after(step + 1, model)
        losses = " ".join(f"{k} {v:.3f}" for k, v in _means(recent_losses).items())
        progress(step + 1, job.steps, f"{losses}, {num_examples / (time.monotonic() - interval_start):.3g} examples/s")
        if (step + 1) % log_every == 0 or step + 1 == job.steps:
            log.append({"step": step + 1, "seconds": round(time.monotonic() - start, 1), **_means(recent_losses)})
            write_text(work / "loss.jsonl", "".join(json.dumps(line) + "\n" for line in log))
            recent_losses, num_examples, interval_start = [], 0, time.monotonic()
        save_due = (step + 1) % save_every == 0 or time.monotonic() - last_save > SAVE_SECONDS
        if save_due or step + 1 == job.steps:
            record = {"step": step + 1, "seconds": time.monotonic() - start, "log": log, "recent": recent_losses}
            _save(work, job, record)
            last_save = time.monotonic()
    return time.monotonic() - start, log


def batch_indices(examples: list[Example], size: int, seed: int, step: int) -> list[int]:
    """The examples of one step: pools of random examples, cut into batches of similar question length."""
    rng = random.Random(f"batches:{seed}:{step // POOL}")
    pool = sorted(rng.sample(range(len(examples)), size * POOL), key=lambda i: len(examples[i].question) + 6 * rng.random())
    order = rng.sample(range(POOL), POOL)
    start = order[step % POOL] * size
    return pool[start : start + size]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, a cosine down to 5 % at the horizon, and a linear cool-down to zero at the last step."""
    warm, cool = min(1.0, (step + 1) / recipe.warmup), min(1.0, (recipe.steps - step) / max(1, recipe.cooldown))
    return recipe.learning_rate * warm * cool * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.horizon))))


def _step(job: Job, worker: Codi, parts: list[list[Example]], step: int) -> dict[str, float]:
    for group in job.optimizer.param_groups:
        group["lr"] = job.rate(step)
    means: dict[str, float]
    count, means = sum(map(len, parts)), {}
    for part in parts:
        share = len(part) / count
        loss, terms = job.loss(worker, part, step)
        if not math.isfinite(loss.item()):
            mend = "use a lower --learning-rate or another base (the last checkpoint is intact)"
            raise MeasureError(f"step {step + 1}: the loss is {loss.item()}; {mend}")
        (share * loss).backward()
        if worker is not job.model:
            _hand_over(job.model, worker)
        for name, value in terms.items():
            means[name] = means.get(name, 0.0) + share * value.item()
    nn.utils.clip_grad_norm_(job.model.parameters(), job.max_norm)
    job.optimizer.step()
    job.optimizer.zero_grad(set_to_none=True)
    if worker is not job.model:
        _copy(job.model, worker)
    return means


def _hand_over(model: Codi, worker: Codi) -> None:
    """Add the worker's gradients to the model's, in fp32; frozen parameters have none, nor the projection before the student."""
    for master, half in zip(model.parameters(), worker.parameters(), strict=True):
        if half.grad is not None:
            master.grad = half.grad.float() if master.grad is None else master.grad + half.grad.float()
            half.grad = None


@torch.no_grad()
def _start_student(model: Codi, examples: list[Example]) -> None:
    """Start the student as a soft version of the teacher: each thought is the state from which the teacher reads its next word.

    The projection starts as the identity at the scale of the embeddings, bot as the word that ends a question and eot as the
    one that ends a step. From random ones the student learned to answer without its thoughts and never unlearned it (see the
    notes of the recipes). Constants instead of thoughts start as random vectors of the same scale.
    """
    embeddings = cast(Tensor, model.backbone.get_input_embeddings().weight)
    scale = embeddings[: model.vocab_size].square().mean().sqrt().item()
    if isinstance(model.projection, Pauses):
        model.projection.vectors.mul_(scale / model.projection.vectors.square().mean().sqrt())
    else:
        start_as_identity(cast(Projection, model.projection), scale)
    embeddings[model.bot_id] = embeddings[examples[0].question[-1]]
    embeddings[model.eot_id] = embeddings[next(e.thought[-1] for e in examples if e.thought)]


def _cast_copy(model: Codi, dtype: torch.dtype) -> Codi:
    """A copy with parameters of dtype. Buffers keep theirs: rounded rotary frequencies would be wrong at late positions."""
    worker = copy.deepcopy(model)
    for parameter in worker.parameters():
        parameter.data = parameter.data.to(dtype)
    return worker


@torch.no_grad()
def _copy(model: Codi, worker: Codi) -> None:
    for master, half in zip(model.parameters(), worker.parameters(), strict=True):
        if master.requires_grad:
            half.copy_(master)


def _means(recent: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each loss part over the steps that had it."""
    return {part: sum(p[part] for p in recent if part in p) / sum(part in p for p in recent) for part in recent[-1]}


def _train_problems(recipe: Recipe, seed: int) -> list[Problem]:
    source = stream(seed, "train", limits=recipe.limits)
    return [next(source) for _ in range(recipe.train_problems)]


def _new_model(recipe: Recipe, work: Path, seed: int) -> Codi:
    write_tokenizer(vocabulary(), work)
    tokenizer = AutoTokenizer.from_pretrained(work, local_files_only=True)
    torch.manual_seed(seed)
    # on a CPU the plain attention is the faster one to train in bf16
    backbone = AutoModelForCausalLM.from_config(recipe.config(len(tokenizer)), attn_implementation="eager")
    return Codi(
        backbone,
        Projection(recipe.width, recipe.inner) if recipe.recurrent else Pauses(recipe.num_latents, recipe.width),
        tokenizer,
        vocab_size=len(tokenizer),
        num_latents=recipe.num_latents,
        name=recipe.name,
    ).train()


def adamw(model: Codi, weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """The optimiser of everything that is not frozen; vectors (biases, norms) do not decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=betas)


def _tensors(job: Job) -> dict[str, Tensor]:
    """The tensors in a checkpoint: everything that is trained, and the run's own rows."""
    return {name: p.detach() for name, p in job.model.named_parameters() if p.requires_grad} | job.frozen


def _save(work: Path, job: Job, progress: dict[str, Any]) -> None:
    """Weights, optimiser and progress in one file."""
    tensors = {name: value.cpu().clone() for name, value in _tensors(job).items()}  # of a few rows, torch would save the table
    state = {**progress, "identity": _plain(job.identity), "tensors": tensors, "optimizer": job.optimizer.state_dict()}

    def write(path: Path) -> None:
        try:
            torch.save(state, path)
        except RuntimeError as error:  # what PyTorch says of a full disk
            raise OSError(errno.EIO, f"cannot be written ({one_line(error)}); is the disk full?") from error

    write_whole(work / CHECKPOINT, write)


def _resume(work: Path, job: Job) -> tuple[int, float, list[dict[str, float]], list[dict[str, float]]]:
    """Steps done, their seconds, the log, and the losses of the steps since its last line."""
    state = _load(work)
    if not state:
        return 0, 0.0, [], []
    conflicts = [k for k, value in _plain(job.identity).items() if state["identity"].get(k) != value]
    if conflicts:
        raise CheckpointError(
            f"{work / CHECKPOINT}: belongs to another run ({', '.join(conflicts)} differ); give an empty folder as --work"
        )
    for name, value in _tensors(job).items():
        value.copy_(state["tensors"][name])
    job.optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"], state["log"], state["recent"]


def _load(work: Path) -> dict[str, Any]:
    path = work / CHECKPOINT
    return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else {}


def steps_done(work: Path) -> int:
    """The steps done in the checkpoint of a training in that folder; 0 without one."""
    return _load(work).get("step", 0)


def _plain(identity: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back: without tuples and classes."""
    return json.loads(json.dumps(identity))


def export(run: TrainingRun, folder: Path) -> None:
    """Write the trained model as a loadable folder: fp16 weights, configuration, tokenizer."""
    write_tokenizer(vocabulary(), folder)
    save_folder(run.model, folder)
