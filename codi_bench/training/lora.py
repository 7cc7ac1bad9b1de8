"""Train CODI over a pretrained backbone: LoRA beside its frozen weights, and a projection.

Source: github.com/zhenyi4/codi, `train.py` and `src/model.py`. As there, only LoRA and projection are trained. The embeddings
stay unchanged, as do the three new rows for pad, bot and eot, which transformers draws around the mean of the others, unless the
recipe trains rows. Two things differ: one pass of the teacher gives both its loss and the states to distil (there two passes,
each with its own dropout), and no part of an example is cut at 256 tokens.
"""

from __future__ import annotations

import copy
import hashlib
import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from codi_bench.errors import CheckpointError, CodiBenchError, InputError, ProblemError, arguments
from codi_bench.models import adapter
from codi_bench.models.backbone import WORDS, base_folder, hash_files, new_rows, quiet, read_backbone
from codi_bench.models.checkpoint import TOKENIZER_FILES, WEIGHTS, save_folder
from codi_bench.models.codi import Codi, Projection
from codi_bench.models.objective import Example, codi_losses, encode_examples
from codi_bench.models.settings import AdapterMeta
from codi_bench.models.strict import embedding_names, is_tied, read_words
from codi_bench.problems import Problem, problems_hash
from codi_bench.rules.stats import stream
from codi_bench.store.files import copy_file, write_files, write_text, write_whole
from codi_bench.training.recipes import LoraRecipe
from codi_bench.training.rows import RowCodi
from codi_bench.training.train import Job, Progress, TrainingRun, adamw, check_job, run_job

PUBLISHED_FOLDER = "codi-checkpoint"


@dataclass(frozen=True)
class Phase:
    """A part of a training with problems of its own. examples, skipped: their numbers, the latter by reason."""

    problems_sha256: str
    examples: int
    skipped: dict[str, int]
    steps: int


@dataclass(frozen=True)
class Finetuned:
    """A finished run with its inputs; its model has the trained rows in its tables. base: the folder of the backbone."""

    recipe: LoraRecipe
    run: TrainingRun
    base: Path
    base_hash: str
    phases: tuple[Phase, ...]
    trained_parameters: int


def base_family(folder: Path) -> str:
    """The architecture of a backbone: its configuration's model_type. Raises CheckpointError."""
    return read_words(folder)[0].model_type


def finetune(
    recipe: LoraRecipe,
    problem_sets: Sequence[Sequence[Problem]],
    work: Path,
    *,
    device: str = "cpu",
    save_every: int = 250,
    log_every: int = 0,
    progress: Progress = lambda done, total, text: None,
) -> Finetuned:
    """Train a recipe in the folder `work`; an interrupted run continues from its checkpoint.

    problem_sets: problems with steps, one set for each phase of the training. The checkpoint holds what is trained and the three
    new rows. Weights are optimised in fp32; recipe.dtype is that of the passes, as under autocast. log_every: 0 gives a log of
    some 500 lines at most. progress: as of `Progress`.
    Raises CodiBenchError without peft, CheckpointError for a base that does not fit or a folder of another run, ProblemError
    where nothing can be trained on, InputError for steps of another number of phases.
    """
    _peft()
    arguments.instance("recipe", recipe, LoraRecipe)
    problem_sets = [
        [
            arguments.instance(f"problem_sets[{i}][{j}]", p, Problem)
            for j, p in enumerate(arguments.entries(f"problem_sets[{i}]", s))
        ]
        for i, s in enumerate(arguments.entries("problem_sets", problem_sets))
    ]
    if recipe.steps and len(recipe.steps) != len(problem_sets):
        raise InputError(
            f"steps are given for {len(recipe.steps)} phases, but problems for {len(problem_sets)}; give --steps once for each "
            "--problems"
        )
    work = check_job(work, device, save_every, log_every, fewest=0)
    arguments.function("progress", progress)
    for problems in problem_sets or [[]]:
        if not any(p.steps for p in problems):
            raise ProblemError(
                "no problem has steps, but the teacher needs the chain of thought; give it in the field 'cot' (GSM8K-Aug) or "
                "'steps'"
            )
    folder = base_folder(recipe.base)
    model = new_model(recipe, folder)
    size = recipe.batch_size * recipe.accumulate
    example_sets, phases = [], []
    for i, problems in enumerate(problem_sets):
        selection, skipped = usable(problems, model, recipe)
        example_sets.append(encode_examples(model, selection))
        steps_of_set = recipe.steps[i] if recipe.steps else math.ceil(len(selection) / size) * recipe.epochs
        phases.append(Phase(problems_hash(problems), len(selection), skipped, steps_of_set))
    model = model.to(device)
    *starts, steps = accumulate((phase.steps for phase in phases), initial=0)
    base_hash = hash_files(folder)
    identity = {
        "recipe": {**asdict(recipe), "base": "", "notes": [], "epochs": 0, "steps": [phase.steps for phase in phases]},
        "base": base_hash,
        "examples": [hashlib.sha256("".join(f"{e}\n" for e in examples).encode()).hexdigest() for examples in example_sets],
    }

    def parts(step: int) -> list[list[Example]]:
        phase = bisect_right(starts, step) - 1
        examples = example_sets[phase]
        batch = [examples[i] for i in step_indices(len(examples), size, recipe.seed, step - starts[phase])]
        if recipe.by_length:
            batch.sort(key=lambda e: len(e.question) + len(e.thought) + len(e.answer))
        return [batch[start : start + recipe.batch_size] for start in range(0, len(batch), recipe.batch_size)]

    def loss(worker: Codi, part: list[Example], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        losses = codi_losses(worker, part, masks=recipe.masks, answer_shift=recipe.answer_shift)
        return losses.total(distill_factor=recipe.distill_factor), vars(losses)

    def before(step: int) -> bool:
        torch.manual_seed(random.Random(f"dropout:{recipe.seed}:{step}").getrandbits(63))
        return False

    job = Job(
        recipe.name,
        model,
        adamw(model, recipe.weight_decay, (0.9, 0.999)),
        steps,
        identity,
        parts,
        loss,
        lambda step: learning_rate(recipe, step, steps),
        before,
        recipe.max_norm,
        frozen={} if recipe.rows else new_rows(model),
    )
    log_interval = log_every or max(10, steps // 500)
    dtype = getattr(torch, recipe.dtype)
    seconds, log = run_job(job, work, dtype=dtype, save_every=save_every, log_every=log_interval, progress=progress)
    trained_parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if isinstance(model, RowCodi):
        model = model.plain()
    run = TrainingRun(model.eval(), steps, seconds, problems_hash([p for problems in problem_sets for p in problems]), log)
    return Finetuned(recipe, run, folder, base_hash, tuple(phases), trained_parameters)


def new_model(recipe: LoraRecipe, folder: Path) -> Codi:
    """The backbone of a folder with three more embeddings, fresh LoRA (everything else is frozen), and a fresh projection."""
    config, tokenizer = read_words(folder)
    if config.model_type != recipe.family:
        raise CheckpointError(f"{folder}: the backbone is {config.model_type}, recipe '{recipe.name}' is for {recipe.family}")
    if len(tokenizer) != config.vocab_size:
        raise CheckpointError(
            f"{folder}: config.json says {config.vocab_size} words, but the tokenizer has {len(tokenizer)}; they must agree"
        )
    peft = _peft()
    with quiet():
        backbone = read_backbone(folder)
        torch.manual_seed(recipe.seed)
        backbone.resize_token_embeddings(config.vocab_size + 3)
    lora = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=list(recipe.modules),
        fan_in_fan_out=recipe.family == "gpt2",  # its maps are stored [in, out]
    )
    peft.inject_adapter_in_model(lora, backbone)  # freezes the rest
    model = Codi(
        backbone,
        Projection(config.hidden_size, recipe.inner),
        tokenizer,
        vocab_size=len(tokenizer),
        num_latents=recipe.num_latents,
        name=recipe.name,
    )
    return (RowCodi(model) if recipe.rows else model).train()


def usable(problems: Sequence[Problem], model: Codi, recipe: LoraRecipe) -> tuple[list[Problem], dict[str, int]]:
    """The problems to train on, and how many are left out and why.

    As published, answers must begin with a digit, and question, chain and answer together must not exceed max_tokens. A
    backbone with fewer positions lowers that limit. Raises ProblemError if no problem is left.
    """
    reserve = model.num_latents + len(model.tokenizer(model.prompt.cue, add_special_tokens=False)["input_ids"]) + 8
    limit = min(recipe.max_tokens, model.backbone.config.max_position_embeddings - reserve)
    texts = [p.question + " ".join(p.steps) + p.answer for p in problems]
    lengths = [len(ids) for ids in model.tokenizer(texts)["input_ids"]]
    non_numeric = [not p.answer[:1].isdigit() for p in problems]
    selection = [p for p, length, skip in zip(problems, lengths, non_numeric) if length <= limit and not skip]
    reasons = {
        "answer does not begin with a digit": sum(non_numeric),
        f"more than {limit} tokens": sum(length > limit and not skip for length, skip in zip(lengths, non_numeric)),
    }
    skipped = {reason: count for reason, count in reasons.items() if count}
    if not selection:
        summary = ", ".join(f"{count}: {reason}" for reason, count in skipped.items())
        raise ProblemError(f"none of the {len(problems)} problems can be trained on ({summary})")
    return selection, skipped


def step_indices(count: int, size: int, seed: int, step: int) -> list[int]:
    """The examples of one step: every epoch has its own order, and its last step may be smaller."""
    epoch, part = divmod(step, math.ceil(count / size))
    return _order(count, seed, epoch)[part * size : (part + 1) * size].tolist()


@lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return stream(seed, "epoch", str(epoch)).permutation(count)


def learning_rate(recipe: LoraRecipe, step: int, steps: int) -> float:
    """Linear warm-up from zero, then half a cosine to zero (transformers' `cosine` schedule)."""
    warm = math.ceil(recipe.warmup * steps)
    if step < warm:
        return recipe.learning_rate * step / warm
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


# Export


def merged(model: Codi) -> Codi:
    """A copy with LoRA merged, W + alpha / r B A in fp32: a plain model without peft."""
    from peft.tuners.lora import LoraLayer

    plain = copy.deepcopy(model)
    for name, module in list(plain.backbone.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, leaf = name.rpartition(".")
            setattr(plain.backbone.get_submodule(parent), leaf, module.get_base_layer())
    return plain.requires_grad_(False)


def export_own(model: Codi, base: Path, folder: Path, *, dtype: torch.dtype = torch.float16) -> Path:
    """Write a trained model, merged, as a folder that needs no base; the tokenizer's files come from the base.

    Raises CheckpointError if a weight is too large for dtype.
    """
    plain = merged(model)
    largest = max(float(p.abs().max()) for p in plain.parameters())
    if largest > torch.finfo(dtype).max:
        raise CheckpointError(f"{folder}: a weight of {largest:.3g} does not fit into {str(dtype)[6:]}; use --weights bfloat16")
    save_folder(plain, folder, dtype=dtype)
    for path in sorted({path for pattern in WORDS for path in base.glob(pattern) if path.is_file()}):
        copy_file(path, folder / path.name)
    if not all((folder / name).is_file() for name in TOKENIZER_FILES):  # a base with an older tokenizer's files alone
        write_files(folder, model.tokenizer.save_pretrained)
    return folder


def export_published(model: Codi, folder: Path) -> Path:
    """Write a trained model as the published code does: LoRA beside frozen weights, to be loaded over the base.

    Frozen weights that bf16 represents exactly are stored in bf16, others in fp32. A tied head is left out.
    """
    head = embedding_names(model.backbone)[1] if is_tied(model.backbone) else ""
    trained_names = {name for name, p in model.named_parameters() if p.requires_grad}
    tensors = {}
    for name, value in model.state_dict().items():
        root, _, key = name.partition(".")
        if root == "projection":
            tensors[f"prj.{key}"] = value.cpu().contiguous()
        elif key != head:
            half = value.bfloat16()
            is_exact = name not in trained_names and torch.equal(half.to(value.dtype), value)
            tensors[f"codi.base_model.model.{key}"] = (half if is_exact else value).cpu().contiguous()
    write_whole(folder / PUBLISHED_FOLDER / WEIGHTS, lambda path: save_file(tensors, path))
    return folder / PUBLISHED_FOLDER


def export_adapter(model: Codi, recipe: LoraRecipe, base_hash: str, folder: Path) -> Path:
    """Write the trained weights, the new rows, and that of eos if it was trained. base_hash: of the backbone's files.

    Raises CheckpointError beyond fp16.
    """
    from peft.tuners.lora import LoraLayer

    tensors = {f"projection.{name}": value for name, value in model.projection.state_dict().items()}
    tensors |= adapter.row_places(model, eos=recipe.rows)
    for name, module in model.backbone.named_modules():
        if isinstance(module, LoraLayer):
            tensors |= {f"lora.{name}.A": module.lora_A["default"].weight, f"lora.{name}.B": module.lora_B["default"].weight}
    half = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in tensors.items()}
    if not all(torch.isfinite(value).all() for value in half.values()):
        raise CheckpointError(f"{folder}: a weight does not fit into float16; use --format own --weights bfloat16")
    write_whole(folder / adapter.WEIGHTS, lambda path: save_file(half, path))
    meta = AdapterMeta(
        base=recipe.base,
        base_hash=base_hash,
        num_latents=recipe.num_latents,
        projection_width=recipe.inner,
        lora_alpha=recipe.alpha,
        eos_row=recipe.rows,
    )
    write_text(folder / adapter.META, meta.model_dump_json(indent=1) + "\n")
    return folder


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as error:
        raise CodiBenchError("training over a backbone needs the library peft; run pip install codi-bench[train]") from error
    return peft


def with_changes(recipe: LoraRecipe, **changes: Any) -> LoraRecipe:
    """The recipe with every setting that is not None. Raises InputError for an invalid number."""
    flags = {"rank": "lora-rank", "alpha": "lora-alpha", "inner": "projection-width"}
    changes = {name: value for name, value in changes.items() if value is not None}
    for name, value in changes.items():
        flag = f"--{flags.get(name, name.replace('_', '-'))}"
        if name in ("rank", "inner", "epochs", "batch_size", "accumulate"):
            arguments.whole(flag, value)
        elif name == "steps":
            changes[name] = tuple(arguments.whole(flag, steps) for steps in arguments.entries(flag, value))
        elif name == "num_latents":
            arguments.whole(flag, value, 1, arguments.LATENTS)
        elif name in ("alpha", "learning_rate", "distill_factor"):
            arguments.number(flag, value, 0 if name == "distill_factor" else math.ulp(0))
        elif name in ("answer_shift", "seed"):
            arguments.whole(flag, value, 0, arguments.SEED if name == "seed" else arguments.COUNT)
    return replace(arguments.instance("recipe", recipe, LoraRecipe), **changes)
