"""The command line: thin, each command checks its arguments and files before anything runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from codi_bench import __version__
from codi_bench.cli import complete, options
from codi_bench.cli.audit import audit_app
from codi_bench.cli.baselines import baselines_app
from codi_bench.cli.cache import cache_app
from codi_bench.cli.doctor import doctor
from codi_bench.cli.help import AUDIT, HOUSEKEEPING, MATERIAL, MEASURE, RECORDS, Group, shown
from codi_bench.cli.problems import OUT, problems
from codi_bench.cli.report import report
from codi_bench.cli.run import RunCommand, run
from codi_bench.cli.show import show
from codi_bench.cli.sweep import sweep
from codi_bench.cli.train import losses, train
from codi_bench.errors import CodiBenchError, arguments, one_line
from codi_bench.report.streams import standard_streams
from codi_bench.store.files import check_folder, check_writable, write_text, write_whole

UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's, or that of typer's own copy of click
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Check claims about models that reason in latent thoughts (CODI, Coconut), as published and by a sound protocol.",
    **shown(
        "codi-bench run  # the first study on two small models, in two minutes",
        "codi-bench show probe-best  # one claim in full",
        "codi-bench run --help  # every command has its own help",
        cls=Group,
    ),
)


def main() -> None:
    """Run a command; what a user can cause ends with one line and exit status 2."""
    try:
        with standard_streams():
            status = app(prog_name="codi-bench", standalone_mode=False)
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help was asked for, and printed
            sys.exit(2)
        text, context = error.format_message(), error.ctx  # type: ignore[attr-defined]
        mend = f"; see `{context.command_path} --help`" if context is not None else ""
        print(f"codi-bench: {' '.join(text.split()).rstrip('.')}{mend}", file=sys.stderr)
        sys.exit(2)
    except (CodiBenchError, OSError, MemoryError) as error:
        text = str(error)
        if isinstance(error, OSError):  # such as a disk that became full; what was there before is still whole
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or one_line(error)
        elif isinstance(error, MemoryError):
            text = f"out of memory ({one_line(error)}); ask for fewer problems or thoughts at once"
        print(f"codi-bench: {text}", file=sys.stderr)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _print_version(value: bool) -> None:
    if value:
        print(f"codi-bench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None: ...


app.command(
    **shown(
        "codi-bench run",
        "codi-bench run --model mine=./checkpoint --base mine=gpt2  # your own",
        "codi-bench run -m questions --report report/questions  # another suite",
        "codi-bench run --claim size --model gpt2-mini  # one claim, one model",
        panel=MEASURE,
        cls=RunCommand,
    ),
    context_settings={"ignore_unknown_options": True},
)(run)
app.add_typer(audit_app, name="audit", rich_help_panel=AUDIT)
app.add_typer(baselines_app, name="baselines", rich_help_panel=RECORDS)
app.add_typer(cache_app, name="cache", rich_help_panel=HOUSEKEEPING)
app.command(
    **shown(
        "codi-bench problems generated --n 1000 --out problems.jsonl",
        "codi-bench problems gsm8k --path test.jsonl --n 5",
        "codi-bench problems gsm-symbolic --n 500 --steps 3 --out three.jsonl",
        panel=MATERIAL,
    )
)(problems)


@app.command(**shown("codi-bench think --model gpt2-mini --problems p.jsonl --out t.safetensors", panel=MATERIAL))
def think(
    model: options.ModelName,
    problems: options.ProblemFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .safetensors file to write.")],
    base: options.Base = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch_size: options.BatchSize = 64,
    protocol: options.Protocol = "masked",
    num_latents: options.NumLatents = None,
    lora_alpha: options.LoraAlpha = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            callback=options.within(0, arguments.SEED),
            help="No effect: thinking draws nothing. Taken as in `answer`.",
        ),
    ] = 0,
) -> None:
    """Let a model think about every problem, and write its hidden states, latents and first logits as arrays.

    You need a model and a file of problems, which `codi-bench problems` writes; answers in it are not used.
    """
    from safetensors.numpy import save_file

    from codi_bench.models.loading import load
    from codi_bench.problems import read_problems
    from codi_bench.suite.progress import progress

    check_writable(out, OUT, {"--problems": problems, "--model": model, "--base": base})
    problem_set = read_problems(problems, unanswered=True)
    loaded = load(model, base=base, device=device, dtype=dtype, num_latents=num_latents, lora_alpha=lora_alpha)
    with progress("thinking", len(problem_set)) as tell:
        thoughts = loaded.think([p.question for p in problem_set], batch_size=batch_size, protocol=protocol, progress=tell)
    states, latents, logits = thoughts.hidden_states, thoughts.latents, thoughts.first_logits
    assert states is not None and latents is not None and logits is not None  # `think` keeps them all unless told otherwise
    arrays = {"hidden_states": states, "latents": latents, "first_logits": logits}
    write_whole(out, lambda path: save_file(arrays, path))


@app.command(
    **shown(
        "codi-bench answer --model gpt2-mini --problems problems.jsonl --out a.jsonl",
        "codi-bench answer --model gpt2-mini --problems p.jsonl --out a --edit 3=zero",
        panel=MATERIAL,
    )
)
def answer(
    model: options.ModelName,
    problems: options.ProblemFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file of JSON lines to write.")],
    base: options.Base = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHERE=KIND",
            help="Edit a thought before it is used. WHERE: a latent position (0 is the first), bot, or all. KIND: zero, mean, "
            "resample, noise, self or kept. Repeatable.",
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Problems from which mean and resample take their thoughts.")
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch_size: options.BatchSize = 64,
    protocol: options.Protocol = "masked",
    num_latents: options.NumLatents = None,
    lora_alpha: options.LoraAlpha = None,
    max_new_tokens: Annotated[
        int, typer.Option(metavar="N", callback=options.within(1), help="Longest answer, in tokens.")
    ] = 256,
    seed: options.Seed = 0,
) -> None:
    """Let a model answer every problem, with its thoughts edited if you like, and say how many are right.

    You need a model and a file of problems, which `codi-bench problems` writes. Each line of --out has the answer's `tokens`,
    `text`, `answer` and, for a problem with an answer, `correct`: the published scoring, which compares the last number. Where
    the study's scoring (equal integer parts) differs, the line has `correct_study` too.
    """
    from codi_bench.cli.answers import answer_lines, right_counts
    from codi_bench.models.conditions import Edited
    from codi_bench.models.edits import needs_reference, parse_edit
    from codi_bench.models.loading import load
    from codi_bench.problems import read_problems
    from codi_bench.suite.progress import progress

    check_writable(out, OUT, {"--problems": problems, "--reference": reference, "--model": model, "--base": base})
    problem_set = read_problems(problems, unanswered=True)
    reference_set = read_problems(reference) if reference else []
    loaded = load(model, base=base, device=device, dtype=dtype, num_latents=num_latents, lora_alpha=lora_alpha)
    edits = [parse_edit(text, loaded.num_latents) for text in edit or ()]
    if any(each.kind == "resample" for each in edits) and not all(p.answer for p in problem_set):
        raise CodiBenchError(f"{problems}: --edit …=resample needs the answer of every problem, and some have none; add `answer`")
    donors = None
    if needs_reference(edits) and reference_set:
        donors = loaded.reference(
            [p.question for p in reference_set],
            [p.answer for p in reference_set],
            [p.group for p in reference_set],
            batch_size=batch_size,
            protocol=protocol,
        )
    with progress("answering", len(problem_set)) as tell:
        (answers,) = loaded.answers(
            [p.question for p in problem_set],
            [Edited(tuple(edits), protocol)],
            reference=donors,
            golds=[p.answer for p in problem_set],
            groups=[p.group for p in problem_set],
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            seed=seed,
            progress=tell,
        )
    lines = answer_lines(answers, [p.answer for p in problem_set])
    write_text(out, "".join(json.dumps(line) + "\n" for line in lines))
    print(right_counts(lines))


app.command(
    **shown(
        "codi-bench train gpt2-mini --out runs/gpt2-mini  # from nothing",
        "codi-bench train mine --base gpt2 --problems aug.jsonl --out runs/mine",
        panel=MATERIAL,
    )
)(train)
app.command(**shown("codi-bench losses --model gpt2-mini --problems problems.jsonl", panel=MATERIAL))(losses)
app.command(
    **shown(
        "codi-bench sweep --workers 4",
        "codi-bench sweep --width 24 --width 40 --seed 0 --out runs/small",
        panel=MEASURE,
    )
)(sweep)
app.command(**shown("codi-bench show probe-best", "codi-bench show ablation --model gpt2-mini --report report", panel=RECORDS))(
    show
)
app.command(**shown("codi-bench doctor", "codi-bench doctor --json", panel=HOUSEKEEPING))(doctor)


@app.command(**shown("codi-bench models", panel=MATERIAL))
def models() -> None:
    """List the models that codi-bench knows by name, and where their weights come from."""
    from codi_bench.models.registry import REGISTRY

    options.print_list(
        ("model", "family", "probed layers", "weights"),
        [(m.name, m.architecture, " ".join(map(str, m.layers)), m.whence) for m in REGISTRY.values()],
    )


@app.command(
    **shown("codi-bench claims --family probes", "codi-bench claims --model gpt2-mini --verdict REFUTED", panel=MATERIAL)
)
def claims(
    source: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only claims whose source has this in its name, such as CODI or notebook.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only claims of this family, such as probes, decoding or latents.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            autocompletion=complete.models,
            help="Only claims with a published or recorded number of this model or log.",
        ),
    ] = None,
    verdict: Annotated[
        str | None,
        typer.Option(
            metavar="WORD", autocompletion=complete.verdicts, help="Only claims with this recorded verdict, such as REFUTED."
        ),
    ] = None,
    baselines: options.Baselines = None,
) -> None:
    """List the claims that can be measured, with their sources and the verdicts recorded for them."""
    from codi_bench.claims import CLAIMS
    from codi_bench.cli.claims import listed
    from codi_bench.store.files import package_folder

    folder = baselines or package_folder("baselines")
    rows = listed(CLAIMS.values(), folder, source=source, family=family, model=model, verdict=verdict)
    options.print_list(("claim", "family", "kind", "sentence", "source", "verdicts"), rows)


app.command(
    **shown(
        "codi-bench report  # draw report/ again",
        "codi-bench report old/results.json new/results.json --out comparison",
        "codi-bench report --model-card --model gpt2-mini  # for the Hugging Face Hub",
        panel=RECORDS,
    )
)(report)


@app.command(**shown("codi-bench history report/nights --out report/history", panel=RECORDS))
def history(
    results: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_DIR", help="Results files, or folders that hold results.json somewhere.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the table, the CSV file and the figures.")] = Path(
        "report/history"
    ),
    baselines: options.Baselines = None,
) -> None:
    """Follow each number over many runs: where it stayed in its band, where it drifted, where its verdict changed.

    You need two or more results.json, such as those of nightly runs.
    """
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
