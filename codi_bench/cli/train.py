"""The commands that train and that show a training loss: `codi-bench train`, `codi-bench losses`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from codi_bench.cli.options import Base, Device, Dtype, LoraAlpha, ModelName, NumLatents, ProblemFile
from codi_bench.errors import CodiBenchError, arguments
from codi_bench.store.files import check_folder
from codi_bench.store.names import check_name

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
    name: str,
    base: Annotated[str | None, typer.Option(help="the language model to train over: a folder or a hub name")] = None,
    problems: Annotated[Path | None, typer.Option(help="training problems with steps, such as GSM8K-Aug's JSON lines")] = None,
    held_out: Annotated[Path | None, typer.Option("--eval", help="held-out problems, for the card")] = None,
    epochs: int | None = None,
    steps: Annotated[int | None, typer.Option(help="steps in all, instead of epochs")] = None,
    batch_size: int | None = None,
    accumulate: Annotated[int | None, typer.Option(help="batches a step")] = None,
    learning_rate: float | None = None,
    lora_rank: int | None = None,
    lora_alpha: float | None = None,
    num_latents: Annotated[int | None, typer.Option(min=1, max=arguments.LATENTS)] = None,
    projection_width: int | None = None,
    distill_factor: float | None = None,
    masks: Annotated[str | None, typer.Option(help="masked, unmasked-padding (as published) or fixed-mask")] = None,
    answer_shift: Annotated[int | None, typer.Option(help="1 if a token of its own stands before the answer's number")] = None,
    layout: Annotated[
        str, typer.Option("--format", help="own (LoRA merged), published (LoRA beside the weights) or adapter (it alone)")
    ] = "own",
    weights: Annotated[str, typer.Option(help="dtype of the own format's weights: float16, bfloat16 or float32")] = "float16",
    out: Path | None = None,
    work: Path | None = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=arguments.SEED, help="default: 0 from nothing, 11 (as published) over a base")
    ] = None,
    device: str = "cpu",
    dtype: Annotated[
        str, typer.Option(help="of the forward and backward pass: bfloat16 is faster where the CPU has it")
    ] = "bfloat16",
    threads: Annotated[int | None, typer.Option(min=1, max=arguments.COUNT, help="CPU threads")] = None,
) -> None:
    """Train a model and write it with its card; interrupted, the same command goes on.

    gpt2-mini and llama-mini are trained from nothing. With --base and --problems CODI is trained over a pretrained model by LoRA;
    the settings are the published ones of gpt2 or llama-3.2-1b, whichever the base is like, unless given here.
    """
    import torch

    from codi_bench.models.loading import DTYPES, check_device, resolve
    from codi_bench.training.recipes import RECIPES, recipe

    check_name(name, "NAME")
    files = {flag: value for flag, value in {"problems": problems, "eval": held_out}.items() if value is not None}
    settings = {name: value for name in SETTINGS if (value := context.params[name]) is not None}
    if base is None and recipe(name) in RECIPES.values() and (files or settings):
        extra = ", ".join(map(_flag, {**files, **settings}))
        raise CodiBenchError(f"{name} is trained from nothing, on its own: leave out {extra}, or give another name and --base")
    device, _ = resolve(device, dtype)
    check_device(device, dtype)
    for kind, value, known in (("weights", weights, DTYPES), ("format", layout, ("own", "published", "adapter"))):
        if value not in known:
            raise CodiBenchError(f"unknown {kind} '{value}': use one of {', '.join(known)}")
    if threads is not None:
        torch.set_num_threads(threads)
    folder = out or Path("runs") / name
    work = work or folder / "work"
    inputs = {"--base": base, "--problems": problems, "--eval": held_out}
    for place, flag in ((folder, "out"), (work, "work")):
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
    run = train(recipe, work, seed=seed, device=device, dtype=DTYPES[dtype])
    export(run, folder)
    command = f"codi-bench train {name} --seed {seed} --device {device} --dtype {dtype}"
    write_card(folder, recipe, run, seed=seed, dtype=dtype, command=command)
    print(f"{folder}: model, card (README.md) and figures (training.json)")


def _train_over(
    name: str,
    base: str | None,
    files: dict[str, Path],
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
    from codi_bench.training import lora
    from codi_bench.training.card import write_lora_card
    from codi_bench.training.recipes import LORA_RECIPES, RECIPES, lora_recipe

    if name in RECIPES:
        raise CodiBenchError(f"{name} is a recipe from nothing; give the model over {base} another name")
    if "problems" not in files:
        raise CodiBenchError(f"{name} is trained over a language model: give --problems FILE, problems with their steps")
    if settings.get("masks", MASKS[0]) not in MASKS:
        raise CodiBenchError(f"unknown masks '{settings['masks']}': use one of {', '.join(MASKS)}")
    if {"steps", "epochs"} <= settings.keys():
        raise CodiBenchError("--steps and --epochs: give one of them")
    training_set, held_out_set = read_problems(files["problems"]), read_problems(files["eval"]) if "eval" in files else None
    base = base or LORA_RECIPES[name].base
    architecture = lora.base_family(backbone.base_folder(base))
    fields = {FIELDS.get(name, name): value for name, value in settings.items()}
    recipe = lora.with_changes(lora_recipe(name, architecture), base=base, seed=seed, dtype=dtype, **fields)
    result = lora.finetune(recipe, training_set, work, device=device)
    if layout == "own":
        model_path = lora.export_own(result.run.model, result.base, folder, dtype=DTYPES[weights])
    elif layout == "published":
        model_path = lora.export_published(result.run.model, folder)
    else:
        model_path = lora.export_adapter(result.run.model, recipe, result.base_hash, folder)
    where = {"seed": recipe.seed, "device": device, "dtype": dtype, "format": layout}
    flags = {"base": base, **files, **settings, **where, **({"weights": weights} if layout == "own" else {})}
    command = " ".join([f"codi-bench train {name}", *(f"{_flag(flag)} {value}" for flag, value in flags.items())])
    write_lora_card(folder, result, command=command, weights=model_path, held_out=held_out_set)
    print(f"{model_path}: model; {folder}: card (README.md) and figures (training.json)")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def losses(
    model: ModelName,
    problems: ProblemFile,
    base: Base = None,
    masks: Annotated[str, typer.Option(help="masked, unmasked-padding (as published) or fixed-mask")] = "masked",
    distill_factor: Annotated[float | None, typer.Option(help="default: 1 for GPT-2, 20 for Llama, as published")] = None,
    answer_shift: Annotated[int | None, typer.Option(help="default: 0 for GPT-2, 1 for Llama, as published")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    num_latents: NumLatents = None,
    lora_alpha: LoraAlpha = None,
) -> None:
    """Print the training loss of all problems, as one batch and without dropout, under the published code's names."""
    import torch

    from codi_bench.models.loading import load
    from codi_bench.models.objective import MASKS, codi_losses, encode_examples
    from codi_bench.problems import read_problems
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
    with torch.inference_mode():
        terms = codi_losses(codi, encode_examples(codi, problem_set), masks=masks, answer_shift=shift)
    parts = {"ce_loss": terms.student, "distill_loss": factor * terms.distill, "ref_ce_loss": terms.teacher}
    total = terms.total(distill_factor=factor)
    print(json.dumps({"loss": total.item(), **{name: value.item() for name, value in parts.items()}}))
