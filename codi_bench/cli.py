"""The command line: thin, each command checks its arguments and files before anything runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from codi_bench.errors import CodiBenchError
from codi_bench.files import package_folder, write_text, write_whole

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Claims about continuous-thought language models as executable tests.",
)
baselines_app = typer.Typer(no_args_is_help=True, help="Compare proposals with the recorded numbers, and accept them.")
app.add_typer(baselines_app, name="baselines")

Device = Annotated[str, typer.Option(help="cpu, cuda or auto")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto (float32)")]
BatchSize = Annotated[int, typer.Option(min=1, help="problems a batch; results do not depend on it")]
ModelName = Annotated[str, typer.Option("--model", help="a registered model, or a folder written by `codi-bench train`")]
Out = Annotated[Path, typer.Option(help="file to write")]
ProblemFile = Annotated[Path, typer.Option("--problems", help="JSON lines with question and answer")]


def main() -> None:
    """Run a command; what a user can cause ends with one line and exit status 2."""
    try:
        app()
    except CodiBenchError as error:
        print(f"codi-bench: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def problems(name: str, n: int = 1000, seed: int = 0, split: str = "test", variants: int = 1, out: Path | None = None) -> None:
    """Write problems of a set as JSON lines (to the terminal without --out)."""
    from codi_bench.errors import UnknownNameError
    from codi_bench.problems import generate
    from codi_bench.problems.files import NAMES

    if name not in NAMES:
        raise UnknownNameError("problem set", name, NAMES)
    text = "".join(problem.to_json() + "\n" for problem in generate(n, seed=seed, split=split, variants=variants))
    print(text, end="") if out is None else write_text(out, text)


@app.command()
def think(
    model: ModelName,
    problems: ProblemFile,
    out: Out,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = 64,
    num_latents: int | None = None,
) -> None:
    """Capture hidden_states, latents and first_logits of every problem into a safetensors file."""
    from safetensors.numpy import save_file

    from codi_bench.models.model import load
    from codi_bench.problems import read_problems

    asked = read_problems(problems)
    found = load(model, device=device, dtype=dtype, num_latents=num_latents).think(
        [p.question for p in asked], batch_size=batch_size
    )
    arrays = {"hidden_states": found.hidden_states, "latents": found.latents, "first_logits": found.first_logits}
    write_whole(out, lambda path: save_file(arrays, path))


@app.command()
def answer(
    model: ModelName,
    problems: ProblemFile,
    out: Out,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="WHERE=KIND (repeatable): WHERE a latent position, bot or all; KIND zero, mean, resample, noise or self"
        ),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="problems that means and donors come from")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = 64,
    num_latents: int | None = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 256,
    seed: int = 0,
) -> None:
    """Answer every problem greedily, under edits if any: one JSON line a problem."""
    from codi_bench.models.edits import needs_reference, parse_edit
    from codi_bench.models.model import load
    from codi_bench.problems import parse_number, read_problems, score

    asked, others = read_problems(problems), read_problems(reference) if reference else []
    loaded = load(model, device=device, dtype=dtype, num_latents=num_latents)
    edits = [parse_edit(text, loaded.num_latents) for text in edit or ()]
    donors = None
    if needs_reference(edits) and others:
        donors = loaded.reference(
            [p.question for p in others], [p.answer for p in others], [p.group for p in others], batch_size=batch_size
        )
    found = loaded.answer(
        [p.question for p in asked],
        edits=edits,
        reference=donors,
        answers=[p.answer for p in asked],
        groups=[p.group for p in asked],
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        seed=seed,
    )
    write_text(
        out,
        "".join(
            json.dumps({"tokens": list(tokens), "text": text, "answer": parse_number(text), "correct": score(text, p.answer)})
            + "\n"
            for tokens, text, p in zip(found.tokens, found.texts, asked, strict=True)
        ),
    )


@app.command()
def train(
    name: str,
    out: Path | None = None,
    work: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: Annotated[
        str, typer.Option(help="of the forward and backward pass: bfloat16 is faster where the CPU has it")
    ] = "bfloat16",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
) -> None:
    """Train a recipe (gpt2-mini, llama-mini) and write model and card; interrupted, the same command goes on."""
    import torch

    from codi_bench.models.card import write_card
    from codi_bench.models.model import DTYPES
    from codi_bench.models.recipes import recipe
    from codi_bench.models.train import export
    from codi_bench.models.train import train as run_training

    chosen = recipe(name)
    if dtype not in DTYPES:
        raise CodiBenchError(f"unknown dtype '{dtype}': use one of {', '.join(DTYPES)}")
    if threads is not None:
        torch.set_num_threads(threads)
    folder = out or Path("runs") / name
    done = run_training(chosen, work or folder / "work", seed=seed, device=device, dtype=DTYPES[dtype])
    export(done, folder)
    command = f"codi-bench train {name} --seed {seed} --device {device} --dtype {dtype}"
    write_card(folder, chosen, done, seed=seed, dtype=dtype, command=command)
    print(f"{folder}: model, card (README.md) and figures (training.json)")


@app.command()
def models() -> None:
    """List the registered models."""
    from codi_bench.models.registry import REGISTRY

    _list(
        ("model", "family", "probed layers", "weights"),
        [
            (m.name, m.family, " ".join(map(str, m.layers)), "in this package" if m.embedded else f"{m.hub} over {m.base}")
            for m in REGISTRY.values()
        ],
    )


@app.command()
def claims() -> None:
    """List the claims."""
    from codi_bench.claims import CLAIMS

    _list(("claim", "family", "kind", "sentence"), [(c.id, c.family, c.kind, c.sentence) for c in CLAIMS.values()])


@app.command()
def report(results: Annotated[Path, typer.Argument(help="a results.json")] = Path("report/results.json")) -> None:
    """Draw the table again from a results file."""
    from codi_bench.report.render import render
    from codi_bench.results import read_results

    environment, rows = read_results(results)
    print(render(rows, environment, results.parent), end="")


@baselines_app.command()
def diff(report: Path = Path("report"), baselines: Path | None = None) -> None:
    """What the proposals of the last `pytest benchmarks --update-baselines` would change."""
    for _, before, record, _ in _proposals(report, baselines):
        held, _ = before.nearest(record.environment)
        for metric, new in record.metrics.items():
            old = held.metrics.get(metric) if held else None
            was = "nothing" if old is None else f"{old.value:.6g}"
            print(f"{before.model} {before.claim} {metric}: {was} → {new.value:.6g}")


@baselines_app.command()
def accept(
    reason: Annotated[str, typer.Option(help="why these numbers are right; kept in the record")],
    report: Path = Path("report"),
    baselines: Path | None = None,
) -> None:
    """Record the proposals; `reported` figures are never touched."""
    from codi_bench.baselines import save_baseline
    from codi_bench.engine import accept as accepted

    for folder, before, record, units in _proposals(report, baselines):
        print(save_baseline(folder, accepted(before, record, units, reason)))


def _proposals(report: Path, baselines: Path | None):
    """(baselines folder, baseline, proposed record, units) of every proposal of a run."""
    from codi_bench.baselines import Record, load_baseline

    folder = baselines or package_folder("baselines")
    files = sorted((report / "proposals").glob("*/*.json"))
    if not files:
        raise CodiBenchError(f"{report / 'proposals'}: nothing is proposed; run `pytest benchmarks --update-baselines` first")
    for path in files:
        held = json.loads(path.read_text(encoding="utf-8"))
        yield folder, load_baseline(folder, path.parent.name, path.stem), Record.model_validate(held["record"]), held["units"]


def _list(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
