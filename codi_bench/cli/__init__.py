"""The command line: thin, each command checks its arguments and files before anything runs."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from codi_bench.cli import options
from codi_bench.cli.audit import audit_app
from codi_bench.cli.baselines import baselines_app
from codi_bench.cli.cache import cache_app
from codi_bench.cli.show import show
from codi_bench.cli.sweep import sweep
from codi_bench.cli.train import losses, train
from codi_bench.errors import CodiBenchError, arguments, one_line
from codi_bench.report.streams import print_json_line, standard_streams
from codi_bench.store.files import check_folder, check_writable, write_text, write_whole

if TYPE_CHECKING:
    from codi_bench.records.results import Row

OUT = "give --out FILE, in a folder that can be written to"
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Claims about continuous-thought language models as executable tests.",
)
app.add_typer(audit_app, name="audit")
app.add_typer(baselines_app, name="baselines")
app.add_typer(cache_app, name="cache")


def main() -> None:
    """Run a command; what a user can cause ends with one line and exit status 2."""
    try:
        with standard_streams():
            app()
    except (CodiBenchError, OSError, MemoryError) as error:
        text = str(error)
        if isinstance(error, OSError):  # such as a disk that became full; what was there before is still whole
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or one_line(error)
        elif isinstance(error, MemoryError):
            text = f"out of memory ({one_line(error)}); ask for fewer problems or thoughts at once"
        print(f"codi-bench: {text}", file=sys.stderr)
        sys.exit(2)


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="as of `pytest benchmarks`; -- --help lists them")
    ] = None,
) -> None:
    """Measure the study on the embedded pair, or what ARGS ask for, and show the comparison: `pytest benchmarks` from any folder.

    ARGS are pytest's: --claim ID, --model NAME[=PATH], -m questions, benchmarks/test_probes.py …
    """
    from codi_bench.plugin.run import run

    raise typer.Exit(run(arguments or ()))


@app.command()
def problems(
    name: str,
    n: Annotated[
        int | None, typer.Option(min=1, max=arguments.COUNT, help="how many (default: the whole set; 1000 generated ones)")
    ] = None,
    seed: options.Seed = 0,
    split: str = "test",
    variants: Annotated[int, typer.Option(min=1, max=arguments.COUNT)] = 1,
    path: Annotated[Path | None, typer.Option(help="the set's own file, instead of the hub")] = None,
    out: Path | None = None,
) -> None:
    """Write problems of a set as JSON lines (to the terminal without --out): generated ones, or gsm8k, svamp … from the hub."""
    from codi_bench.problems import generate, load_problems

    if out is not None:
        check_writable(out, OUT, {"--path": path})
    if name == "generated" and path is None:
        problem_set = generate(1000 if n is None else n, seed=seed, split=split, variants=variants)
    elif variants != 1:
        raise CodiBenchError(f"--variants {variants}: only generated problems come in several tellings, not {name}")
    else:
        problem_set = load_problems(name, path=path, n=n, split=split, seed=seed)
    lines = [problem.to_json() for problem in problem_set]
    if out is not None:
        return write_text(out, "".join(f"{line}\n" for line in lines))
    for line in lines:
        print_json_line(line)


@app.command()
def think(
    model: options.ModelName,
    problems: options.ProblemFile,
    out: options.Out,
    base: options.Base = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch_size: options.BatchSize = 64,
    protocol: options.Protocol = "masked",
    num_latents: options.NumLatents = None,
    lora_alpha: options.LoraAlpha = None,
    seed: Annotated[int, typer.Option(min=0, max=arguments.SEED, help="taken as `answer` takes it; thinking draws nothing")] = 0,
) -> None:
    """Capture hidden_states, latents and first_logits of every problem into a safetensors file."""
    from safetensors.numpy import save_file

    from codi_bench.models.loading import load
    from codi_bench.problems import read_problems

    check_writable(out, OUT, {"--problems": problems, "--model": model, "--base": base})
    problem_set = read_problems(problems, unanswered=True)
    loaded = load(model, base=base, device=device, dtype=dtype, num_latents=num_latents, lora_alpha=lora_alpha)
    with _progress(f"thinking about {len(problem_set)} problems", len(problem_set)) as advance:
        thoughts = loaded.think([p.question for p in problem_set], batch_size=batch_size, protocol=protocol, progress=advance)
    states, latents, logits = thoughts.hidden_states, thoughts.latents, thoughts.first_logits
    assert states is not None and latents is not None and logits is not None  # `think` keeps them all unless told otherwise
    arrays = {"hidden_states": states, "latents": latents, "first_logits": logits}
    write_whole(out, lambda path: save_file(arrays, path))


@app.command()
def answer(
    model: options.ModelName,
    problems: options.ProblemFile,
    out: options.Out,
    base: options.Base = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="WHERE=KIND (repeatable): WHERE a latent position, bot or all; KIND zero, mean, resample, noise, self or kept"
        ),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="problems that means and donors come from")] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch_size: options.BatchSize = 64,
    protocol: options.Protocol = "masked",
    num_latents: options.NumLatents = None,
    lora_alpha: options.LoraAlpha = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=arguments.COUNT)] = 256,
    seed: options.Seed = 0,
) -> None:
    """Answer every problem greedily, under edits if any: one JSON line a problem.

    `correct` is the published scoring (the last number, equal as a float; in a set of words those behind the cue); where the
    study's (equal integer parts) differs, the line has `correct_study` too. Problems without an answer have neither.
    """
    from codi_bench.cli.answers import answer_lines, right_counts
    from codi_bench.models.conditions import Edited
    from codi_bench.models.edits import needs_reference, parse_edit
    from codi_bench.models.loading import load
    from codi_bench.problems import read_problems

    check_writable(out, OUT, {"--problems": problems, "--reference": reference, "--model": model, "--base": base})
    problem_set = read_problems(problems, unanswered=True)
    reference_set = read_problems(reference) if reference else []
    loaded = load(model, base=base, device=device, dtype=dtype, num_latents=num_latents, lora_alpha=lora_alpha)
    edits = [parse_edit(text, loaded.num_latents) for text in edit or ()]
    if any(each.kind == "resample" for each in edits) and not all(p.answer for p in problem_set):
        raise CodiBenchError(f"{problems}: resample takes donors of another answer, so every problem needs its own; add answers")
    donors = None
    if needs_reference(edits) and reference_set:
        donors = loaded.reference(
            [p.question for p in reference_set],
            [p.answer for p in reference_set],
            [p.group for p in reference_set],
            batch_size=batch_size,
            protocol=protocol,
        )
    with _progress(f"answering {len(problem_set)} problems", len(problem_set)) as advance:
        (answers,) = loaded.answers(
            [p.question for p in problem_set],
            [Edited(tuple(edits), protocol)],
            reference=donors,
            golds=[p.answer for p in problem_set],
            groups=[p.group for p in problem_set],
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            seed=seed,
            progress=advance,
        )
    lines = answer_lines(answers, [p.answer for p in problem_set])
    write_text(out, "".join(json.dumps(line) + "\n" for line in lines))
    print(right_counts(lines))


@contextmanager
def _progress(text: str, total: int):
    """A bar on the error stream, where somebody watches; gives the function to tell it of problems done."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(text, total=total)
        yield lambda done: bar.advance(task, done)


app.command()(train)
app.command()(losses)
app.command()(sweep)
app.command()(show)


@app.command()
def models() -> None:
    """List the registered models."""
    from codi_bench.models.registry import REGISTRY

    options.print_list(
        ("model", "family", "probed layers", "weights"),
        [(m.name, m.architecture, " ".join(map(str, m.layers)), m.whence) for m in REGISTRY.values()],
    )


@app.command()
def claims(
    source: Annotated[str | None, typer.Option(help="a part of the source's name, such as CODI or notebook")] = None,
    family: Annotated[str | None, typer.Option(help="such as probes, decoding, latents")] = None,
    model: Annotated[str | None, typer.Option(help="claims with a published or recorded number of this model or log")] = None,
    verdict: Annotated[str | None, typer.Option(help="claims with this recorded verdict, such as REFUTED")] = None,
    baselines: Annotated[Path | None, typer.Option(help="baseline files (default: those of the package)")] = None,
) -> None:
    """List the claims, with the verdicts recorded for them; every option leaves some out."""
    from codi_bench.claims import CLAIMS
    from codi_bench.cli.claims import listed
    from codi_bench.store.files import package_folder

    folder = baselines or package_folder("baselines")
    rows = listed(CLAIMS.values(), folder, source=source, family=family, model=model, verdict=verdict)
    options.print_list(("claim", "family", "kind", "sentence", "source", "verdicts"), rows)


@app.command()
def report(
    results: Annotated[
        list[Path] | None, typer.Argument(help="a results.json, or several to compare (default: report/results.json)")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for what is written (default: that of the first results)")] = None,
    model_card: Annotated[bool, typer.Option("--model-card", help="write model-card-NAME.md too: for a card on the Hub")] = False,
    model: Annotated[list[str] | None, typer.Option(help="the model of the card (repeatable; default: every one)")] = None,
    source: Annotated[str | None, typer.Option(help="where the report can be read, https://…, for the card")] = None,
    dataset: Annotated[bool, typer.Option("--dataset", help="write dataset/ too: for datasets.load_dataset")] = False,
) -> None:
    """Draw the report again from a results file, or lay several side by side: what moved, and is it more than noise?"""
    from codi_bench.report.runs import read_run

    files = results or [Path("report/results.json")]
    folder = out or files[0].parent
    if (model or source) and not model_card:
        raise CodiBenchError(f"{'--model' if model else '--source'}: belongs to a model card; give --model-card too")
    if len(files) > 1 and (model_card or dataset):
        raise CodiBenchError("--model-card and --dataset are written from one results file; give one")
    if source is not None and not re.match(r"https?://\S+$", source):
        raise CodiBenchError(f"--source {source}: is no address; give one that begins with https://")
    runs, inputs = [read_run(path) for path in files], {str(path): path for path in files}
    if len(runs) == 1:
        from codi_bench.report.dataset_folder import FILES
        from codi_bench.report.model_card import card_files
        from codi_bench.report.render import check_report, render

        rows, environment = list(runs[0].rows.values()), runs[0].environment
        cards = card_files(rows, model or ()) if model_card else {}
        check_report(folder, "give --out DIR", inputs, *cards.values(), *(FILES if dataset else ()))
        print(render(rows, environment, folder), end="")
        _write_more(rows, environment, folder, cards, source, dataset=dataset)
        return
    from codi_bench.report.differences import markdown, terminal
    from codi_bench.report.side_by_side import compare

    check_writable(folder / "comparison.md", "give --out DIR", inputs)
    comparison = compare(runs)
    write_text(folder / "comparison.md", markdown(comparison))
    print(terminal(comparison, colour=sys.stdout.isatty()) + f"{folder / 'comparison.md'}")


def _write_more(
    rows: list[Row], environment: dict, folder: Path, cards: dict[str, str], source: str | None, *, dataset: bool
) -> None:
    """Model cards, files by model, and the dataset folder, as far as they were asked for."""
    from codi_bench.report.dataset_folder import write_dataset
    from codi_bench.report.model_card import model_card

    for name, file in cards.items():
        write_text(folder / file, model_card(rows, environment, name, source=source))
        print(f"for the model card of {name}: {folder / file}")
    if dataset:
        print(f"for datasets.load_dataset: {write_dataset(rows, environment, folder)}")


@app.command()
def history(
    results: Annotated[list[Path], typer.Argument(help="results files, or folders to search for results.json")],
    out: Annotated[Path, typer.Option(help="folder for what is written")] = Path("report/history"),
    baselines: Annotated[Path | None, typer.Option(help="baseline files (default: those of the package)")] = None,
) -> None:
    """Each number over many runs: within its band, where it drifted or changed its verdict; as table, CSV and figures."""
    from codi_bench.report.history import read_history, results_files
    from codi_bench.report.history_text import FILES, terminal, write_history
    from codi_bench.store.files import package_folder

    if baselines is not None and not baselines.is_dir():
        raise CodiBenchError(f"{baselines}: no such folder; --baselines needs the folder that holds <model>/<claim>.json")
    folder = baselines or package_folder("baselines")
    inputs = {"--baselines": folder} | {str(path): path for path in results_files(results)}
    check_folder(out, FILES, "give --out DIR", inputs)
    series = read_history(results, folder)
    files = write_history(series, out)
    note = f"beside it {files[1].name} and figures/"
    print(terminal(series, colour=sys.stdout.isatty()) + f"{files[0]}; {note}")
