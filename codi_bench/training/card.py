"""Model cards: what was trained and how, and the results, measured with the rounded weights."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from codi_bench.models.adapter import META
from codi_bench.models.conditions import CLEAN, Edited
from codi_bench.models.edits import Edit
from codi_bench.models.loading import load
from codi_bench.models.registry import REGISTRY
from codi_bench.problems import Problem, generate, problems_hash, score
from codi_bench.rules.stats import holm, mcnemar_exact, newcombe_paired, rate_of
from codi_bench.store.files import write_text
from codi_bench.training.lora import Finetuned
from codi_bench.training.recipes import Recipe
from codi_bench.training.train import TrainingRun

HELD_OUT, REFERENCE = 1000, 500
MAX_NEW_TOKENS = 64
CONTROL = (
    "It is a control: six learned constants are fed where a CODI model feeds its thoughts, so that nothing is passed on from "
    "one to the next. "
)
TEACHER, BARE = "teacher, chain of thought in words", "student, no latents (K = 0)"


# Figures


def write_card(folder: Path, recipe: Recipe, run: TrainingRun, *, seed: int, dtype: str, command: str) -> None:
    """Write `training.json` (figures) and `README.md` (the card) beside the weights."""
    settings = ("horizon", "cooldown", "batch_size", "learning_rate", "distill_factor", "train_problems")
    figures = {
        "command": command,
        "seed": seed,
        "dtype": dtype,
        "steps": run.steps,
        "phases": [list(phase) for phase in recipe.phases],
        **{name: getattr(recipe, name) for name in settings},
        **_circumstances(run),
    }
    figures["held_out"], right = evaluate(folder)
    if other := REGISTRY[recipe.name].control_of:
        figures["beside"] = beside(right, other)
    _write(folder, figures, card(recipe, figures))


def write_lora_card(
    folder: Path, done: Finetuned, *, command: str, weights: Path, held_out: list[Problem] | None, remark: str = ""
) -> None:
    """Write the card of a model over a backbone. weights: the exported folder, measured on held-out problems if there are any.

    remark: what a reader must know of the accuracy.
    """
    recipe, run = done.recipe, done.run
    figures = {
        **{k: v for k, v in asdict(recipe).items() if k not in ("notes", "epochs" if recipe.steps else "steps")},
        "command": command,
        "modules": list(recipe.modules),
        "base_sha256": done.base_hash,
        "phases": [asdict(phase) for phase in done.phases],
        "steps": run.steps,
        "trained_parameters": done.trained_parameters,
        "parameters": run.model.num_parameters - sum(p.numel() for n, p in run.model.named_parameters() if ".lora_" in n),
        **_circumstances(run),
        "held_out": None if held_out is None else _measure(weights, done, held_out),
    }
    if (weights / META).is_file():
        usage = (
            "The folder has only LoRA, projection and rows of embeddings, in fp16. It loads over "
            f"`{recipe.base}` only: `--model FOLDER`."
        )
    elif weights == folder:
        usage = "LoRA is merged into the weights, so the folder needs no base: `--model FOLDER`."
    else:
        options = f"--base {recipe.base} --num-latents {recipe.num_latents} --lora-alpha {recipe.alpha:g}"
        usage = (
            "LoRA is stored beside the frozen weights, in the published layout: "
            f"`--model FOLDER/{weights.relative_to(folder)} {options}`."
        )
    _write(folder, figures, lora_card(done, figures, usage, remark))


def held_out_problems() -> list[Problem]:
    """Those that a model from nothing is measured on."""
    return generate(HELD_OUT, seed=0, split="test")


def evaluate(folder: Path, *, batch_size: int = 64) -> tuple[dict[str, Any], np.ndarray]:
    """Accuracy of teacher, student and student under edits on held-out problems, read from the saved folder.

    Second, which of them the student answers rightly, bool [n]. Means come from 500 training problems. Positions: exact McNemar
    against the clean run, Holm over K.
    """
    model = load(folder)
    problems = held_out_problems()
    reference = generate(REFERENCE, seed=1, split="train")
    questions = [p.question for p in problems]
    means = model.reference([p.question for p in reference], [p.answer for p in reference], [p.group for p in reference])
    conditions = [CLEAN, *(Edited((Edit(place, "mean"),)) for place in ("all", *range(model.num_latents)))]
    answers = model.answers(questions, conditions, reference=means, max_new_tokens=MAX_NEW_TOKENS, batch_size=batch_size)
    texts = {
        TEACHER: model.explain(questions, max_new_tokens=MAX_NEW_TOKENS).texts,
        "student, 6 latents": answers[0].texts,
        BARE: model.answer(questions, num_latents=0, max_new_tokens=MAX_NEW_TOKENS).texts,
        "student, every latent at its mean": answers[1].texts,
    }
    clean, all_mean, *single = (_correctness(condition_answers.texts, problems) for condition_answers in answers)
    multi_step = np.array([p.num_steps > 1 for p in problems])
    drop = newcombe_paired(clean[multi_step], all_mean[multi_step])
    figures = {
        "n": HELD_OUT,
        "parameters": model.codi.num_parameters,
        "accuracy": _accuracies(texts, problems),
        "drop_all_mean_on_2_and_more_steps": {
            "points": 100 * drop.value,
            "low": 100 * drop.low,
            "high": 100 * drop.high,
            "n": int(multi_step.sum()),
        },
        "positions": [
            {"latent_pos": k, "drop": 100 * float(clean.mean() - correct.mean()), "p_holm": float(p)}
            for k, (correct, p) in enumerate(zip(single, holm([mcnemar_exact(clean, correct) for correct in single])))
        ],
    }
    return figures, clean


def beside(control: np.ndarray, name: str) -> dict[str, Any]:
    """Accuracy of a control and of its model on the same held-out problems, by number of steps.

    control: which of them the control answers rightly, bool [n]. p is that of an exact McNemar test, with Holm over the numbers
    of steps; `only_…` counts problems that one alone answers.
    """
    problems = held_out_problems()
    answers = load(name).answer([p.question for p in problems], max_new_tokens=MAX_NEW_TOKENS)
    model = _correctness(answers.texts, problems)
    groups = _by_steps(problems)
    p = [mcnemar_exact(control[mask], model[mask]) for mask in groups.values()]
    return {
        "model": name,
        "by_steps": {
            group: {
                "model": _rate(model[mask]),
                "control": _rate(control[mask]),
                "only_model": int((model & ~control)[mask].sum()),
                "only_control": int((control & ~model)[mask].sum()),
                "p": float(p_value),
            }
            for (group, mask), p_value in zip(groups.items(), [*holm(p[:-1]), p[-1]], strict=True)
        },
    }


def _measure(weights: Path, finetuned: Finetuned, problems: list[Problem]) -> dict[str, Any]:
    """Accuracy of teacher and student as they load from their folder, every batch masked."""
    recipe, device = finetuned.recipe, str(finetuned.run.model.device)
    is_whole, is_adapter = (weights / "codi.json").exists(), (weights / META).is_file()  # an adapter holds its alpha
    base = None if is_whole else finetuned.base
    lora_alpha = None if is_whole or is_adapter else recipe.alpha
    model = load(weights, base=base, device=device, num_latents=recipe.num_latents, lora_alpha=lora_alpha)
    questions = [p.question for p in problems]
    longest = max(map(len, model.codi.tokenizer(questions)["input_ids"])) + 2 + recipe.num_latents
    token_limit = max(1, min(256, model.codi.backbone.config.max_position_embeddings - longest))
    texts = {
        TEACHER: model.explain(questions, max_new_tokens=token_limit).texts,
        f"student, {recipe.num_latents} latents": model.answer(questions, max_new_tokens=token_limit).texts,
        BARE: model.answer(questions, num_latents=0, max_new_tokens=token_limit).texts,
    }
    return {
        "n": len(problems),
        "max_new_tokens": token_limit,
        "problems_sha256": problems_hash(problems),
        "accuracy": _accuracies(texts, problems),
    }


def _circumstances(run: TrainingRun) -> dict[str, Any]:
    cpu = f"{platform.machine()} {platform.system()}, {torch.get_num_threads()} CPU thread(s)"
    return {
        "problems_sha256": run.problems_hash,
        "seconds": round(run.seconds),
        "machine": cpu if str(run.model.device) == "cpu" else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "losses": run.log,
    }


def _correctness(texts: Sequence[str], problems: list[Problem]) -> np.ndarray:
    return np.array([score(text, p.answer) for text, p in zip(texts, problems, strict=True)])


def _accuracies(texts: Mapping[str, Sequence[str]], problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """The accuracy of each way to answer, with its Wilson interval, for each number of steps and overall."""
    return {
        name: {group: _rate(_correctness(answers, problems)[mask]) for group, mask in _by_steps(problems).items()}
        for name, answers in texts.items()
    }


def _by_steps(problems: list[Problem]) -> dict[str, np.ndarray]:
    """Which problems have how many steps, and all of them last: masks [n]."""
    steps = np.array([p.num_steps for p in problems])
    return {str(k): steps == k for k in sorted(set(steps.tolist()))} | {"all": steps >= 0}


def _rate(correct: np.ndarray) -> dict[str, Any]:
    rate = rate_of(correct)
    return {"value": rate.value, "low": rate.low, "high": rate.high, "n": len(correct)}


def _write(folder: Path, figures: dict[str, Any], text: str) -> None:
    write_text(folder / "training.json", json.dumps(figures, indent=1, sort_keys=True) + "\n")
    write_text(folder / "README.md", text)


# Cards


def card(recipe: Recipe, figures: dict[str, Any]) -> str:
    """The card as Markdown."""
    evaluation = figures["held_out"]
    drop = evaluation["drop_all_mean_on_2_and_more_steps"]
    positions = [[p["latent_pos"], f"{p['drop']:.1f}", f"{p['p_holm']:.2g}"] for p in evaluation["positions"]]
    return _paragraphs(
        f"# {recipe.name}",
        f"A CODI model of {evaluation['parameters']:,} parameters ({recipe.family} architecture, {recipe.layers} layers, "
        f"width {recipe.width}, K = {recipe.num_latents}), trained from scratch on generated word problems. "
        f"{'' if recipe.recurrent else CONTROL}"
        "The weights are stored in fp16 and computed with in fp32.",
        _facts(figures),
        f"## Accuracy by number of steps ({evaluation['n']} held-out problems, rounded weights)",
        _accuracy(evaluation["accuracy"]),
        *([] if "beside" not in figures else _against(figures["beside"])),
        f"With every latent replaced by its mean, accuracy on problems of two and more steps drops by "
        f"{drop['points']:.1f} points [{drop['low']:.1f}, {drop['high']:.1f}] (n = {drop['n']}).",
        "One latent replaced by its mean (exact McNemar, Holm over K):",
        tabulate(positions, ["latent_pos", "drop in points", "p"], tablefmt="github"),
        "## Loss",
        _losses(figures["losses"]),
        "## Earlier trials",
        _bullets(recipe.notes),
    )


def _against(figures: dict[str, Any]) -> list[str]:
    """The paragraphs that set a control beside its model."""
    cells = [
        [
            steps,
            *(f"{100 * row[side]['value']:.1f} %" for side in ("model", "control")),
            f"{row['only_model']} : {row['only_control']}",
            f"{row['p']:.2g}",
        ]
        for steps, row in figures["by_steps"].items()
    ]
    heads = ["steps", figures["model"], "this control", "only one is right", "p"]
    return [
        "## Beside its model",
        f"The same {figures['by_steps']['all']['model']['n']} problems, answered by `{figures['model']}` and by this control "
        "(exact McNemar, Holm over the numbers of steps).",
        tabulate(cells, heads, tablefmt="github"),
        "## Edits",
    ]


def lora_card(done: Finetuned, figures: dict[str, Any], usage: str, remark: str = "") -> str:
    """The card of a model over a backbone, as Markdown. usage: how its folder is loaded; remark: as in `write_lora_card`."""
    recipe, evaluation = done.recipe, figures["held_out"]
    accuracy = (
        ["Not measured: no held-out problems were given (`--eval FILE`)."]
        if evaluation is None
        else [
            f"{evaluation['n']} problems, sha256 `{evaluation['problems_sha256']}`, measured with the exported "
            "weights, every batch masked.",
            _accuracy(evaluation["accuracy"]),
        ]
    )
    if recipe.rows:
        trained, rest = "LoRA, the projection and the embedding rows of eos, pad, bot and eot", "The rest is the backbone's."
    else:
        trained = "LoRA and the projection"
        rest = "The rest is the backbone's; the three new embeddings keep their random values."
    return _paragraphs(
        f"# {recipe.name}",
        f"A CODI model of {figures['parameters']:,} parameters over `{recipe.base}`, K = {recipe.num_latents}. Only {trained} "
        f"were trained, {figures['trained_parameters']:,} parameters. {rest}",
        usage,
        f"    {figures['command']}",
        _facts(figures, but=("name", "command", "parameters")),
        "## Accuracy by number of steps",
        *accuracy,
        remark,
        "## Loss",
        "`distill` is the distillation loss before its factor.",
        _losses(figures["losses"]),
        _bullets(recipe.notes),
    )


def _paragraphs(*paragraphs: str) -> str:
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def _bullets(notes: Iterable[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


def _facts(figures: dict[str, Any], but: tuple[str, ...] = ()) -> str:
    rows = [[name, f"`{value}`"] for name, value in figures.items() if name not in (*but, "losses", "held_out", "beside")]
    return tabulate(rows, ["", ""], tablefmt="github")


def _accuracy(rows: dict[str, dict[str, Any]]) -> str:
    cells = [[name, *(f"{100 * cell['value']:.1f} %" for cell in row.values())] for name, row in rows.items()]
    return tabulate(cells, ["", *next(iter(rows.values()))], tablefmt="github")


def _losses(log: list[dict[str, float]]) -> str:
    """A table of about twenty lines of the log."""
    parts = ("teacher", "student", "distill")
    rows = [[line["step"], *(f"{line[p]:.3f}" if p in line else "" for p in parts)] for line in log[:: max(1, len(log) // 20)]]
    return tabulate(rows, ["step", *parts], tablefmt="github")
