"""Change control: `codi-bench baselines diff`, `accept`, `restamp`, `gate`, `calibrate` and `readme`.

Proposals are looked at, then recorded with a reason; how far recorded numbers may move is measured.
"""

from __future__ import annotations

import datetime
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from codi_bench.cli import complete
from codi_bench.cli.help import group, shown
from codi_bench.cli.options import Baselines, Device, Dtype, within
from codi_bench.errors import CodiBenchError
from codi_bench.store.files import is_installed, package_folder

Report = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the run that proposed or measured the numbers.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="MODEL", autocompletion=complete.models, help="Only this model. Repeatable."),
]
Claims = Annotated[
    list[str] | None, typer.Option("--claim", metavar="ID", autocompletion=complete.claims, help="Only this claim. Repeatable.")
]
baselines_app = group(
    "Compare measured numbers with the recorded ones, and accept new ones with a reason.",
    "codi-bench run --update-baselines  # propose what was measured",
    "codi-bench baselines diff  # look at it",
    'codi-bench baselines accept --reason "the probes now use five folds"',
)


@baselines_app.command(**shown("codi-bench baselines diff", "codi-bench baselines diff --model gpt2-mini --all"))
def diff(
    report: Report = Path("report"),
    baselines: Baselines = None,
    model: Models = None,
    claim: Claims = None,
    everything: Annotated[bool, typer.Option("--all", help="List unchanged numbers too.")] = False,
) -> None:
    """Show what the proposals of the last run would change, and whether each change is more than noise.

    You need the proposals first: `codi-bench run --update-baselines` writes them to report/proposals.
    """
    from codi_bench.records.proposals import read_proposals
    from codi_bench.report.proposals import terminal

    folder = baselines or package_folder("baselines")
    proposals, file_proposals = read_proposals(report, folder, model, claim)
    texts = [text for update in file_proposals for text in update.changes]
    found = [proposal.changes for proposal in proposals]
    print(terminal(found, texts, everything=everything, colour=sys.stdout.isatty()), end="")


@baselines_app.command(
    **shown(
        'codi-bench baselines accept --reason "the probes now use five folds"',
        'codi-bench baselines accept --claim size --reason "a layer was added"',
    )
)
def accept(
    reason: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Why these numbers are right: two words and ten letters or more. Kept in every record."
        ),
    ],
    report: Report = Path("report"),
    baselines: Baselines = None,
    model: Models = None,
    claim: Claims = None,
    verdicts_changed: Annotated[
        bool, typer.Option("--verdicts-changed", help="Accept changed verdicts too. Without this they are refused.")
    ] = False,
    dirty: Annotated[
        bool, typer.Option("--dirty", help="Accept although other files of the git tree are changed. Without this it is refused.")
    ] = False,
) -> None:
    """Record the proposed numbers as baselines, all of them or none; published figures stay as they are.

    A proposal replaces the record of its own environment, or is added beside the records of others. A git tree with other changes
    is refused, since no commit would then hold both the numbers and the code that made them.
    """
    from codi_bench.records.changes import weak_reason
    from codi_bench.records.extras import winners_of
    from codi_bench.records.proposals import check_clean, read_proposals, write_together
    from codi_bench.suite.engine import accept as next_baseline

    folder, reason = baselines or package_folder("baselines"), " ".join(reason.split())
    if weak := weak_reason(reason):
        raise CodiBenchError(f"--reason {reason!r} {weak}")
    if baselines is None and is_installed():
        raise CodiBenchError(
            f"{folder}: belongs to the installed package, and the next installation replaces it; make a folder of your own and "
            "give it with --baselines, here and to `codi-bench run`"
        )
    proposals, file_proposals = read_proposals(report, folder, model, claim)
    verdict_lines = [line for proposal in proposals for line in proposal.changes.verdicts]
    if verdict_lines and not verdicts_changed:
        s = "" if len(verdict_lines) == 1 else "s"
        raise CodiBenchError(
            f"{len(verdict_lines)} verdict{s} would change: {'; '.join(verdict_lines)}; look at `codi-bench baselines diff`, "
            "and give --verdicts-changed if your reason explains the change"
        )
    if not dirty and (problem := check_clean(folder, report)):
        print(f"codi-bench: other changes were not checked: {problem}", file=sys.stderr)
    today = datetime.date.today().isoformat()
    records = [next_baseline(each.before, each.record.model_copy(update={"date": today}), reason) for each in proposals]
    beside = {update.file: update.accepted(today, reason) for update in file_proposals} | winners_of(report)
    for path in write_together(folder, records, beside):
        print(path)


@baselines_app.command(**shown("codi-bench baselines restamp --report report"))
def restamp(report: Report = Path("report"), baselines: Baselines = None, model: Models = None, claim: Claims = None) -> None:
    """Write the hash of today's code into records whose numbers the last run measured again and found the same.

    Only records of that run's environment are touched, and only where every number came out the same. Records that are left as
    they are, are named.
    """
    from codi_bench.records.extras import winners_of
    from codi_bench.records.proposals import write_together
    from codi_bench.suite.restamp import restamp

    folder = baselines or package_folder("baselines")
    records, leftovers = restamp(report, folder, model or (), claim or ())
    for path in write_together(folder, records, winners_of(report) if records else {}):
        print(path)
    for line in leftovers:
        print(f"left as it is: {line}", file=sys.stderr)
    if not records and not leftovers:
        print("nothing to restamp: every record of that run was made by today's code")


@baselines_app.command(
    **shown(
        "codi-bench baselines gate gpt2 --n 32  # a registered checkpoint",
        "codi-bench baselines gate mine=./dir --base gpt2 --problems gsm8k=f.jsonl",
    )
)
def gate(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", autocompletion=complete.models, help="A registered model, or NAME=PATH of your own."),
    ],
    baselines: Baselines = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="BASE", help="The language model under a model given as NAME=PATH: a folder or a hub name."),
    ] = None,
    problems: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="The file of its problem set, as for `codi-bench run`.")
    ] = None,
    n: Annotated[int, typer.Option(metavar="N", callback=within(1), help="Number of answers to record.")] = 32,
    may_differ: Annotated[
        int, typer.Option(metavar="N", callback=within(0), help="Number of answers that may differ on another machine.")
    ] = 0,
    source: Annotated[str, typer.Option(metavar="TEXT", help="Who produced the answers, in words.")] = "codi-bench",
    device: Device = "auto",
    answers_changed: Annotated[
        bool, typer.Option("--answers-changed", help="Replace recorded answers that come out differently now.")
    ] = False,
) -> None:
    """Record what a checkpoint answers now, so that later runs can tell that it is still the same checkpoint.

    Before its claims count, a run answers these problems again and compares. Where recorded answers come out differently, nothing
    is written unless you give --answers-changed.
    """
    from codi_bench.records.gate import Gate, gate_file, gate_text, load_gate
    from codi_bench.records.proposals import write_together
    from codi_bench.suite.gate import answers_otherwise, pinned
    from codi_bench.suite.suite import Suite

    folder, name = baselines or package_folder("baselines"), model.partition("=")[0]
    bases = [] if base is None else [f"{name}={base}"]
    suite = Suite([model], bases, problems=problems or (), device=device, baselines=folder)
    bench, before = suite.unchecked(name), load_gate(folder, name)
    if (fault := answers_otherwise(bench, before)) and not answers_changed:
        raise CodiBenchError(f"{folder / gate_file(name)}: {fault}; give --answers-changed to replace them")
    start = before or Gate(schema=1, model=name, checkpoint=bench.model.entry.hub or name)
    new = pinned(bench, start.model_copy(update={"source": source, "may_differ": may_differ}), n)
    print(*write_together(folder, [], {gate_file(name): gate_text(new)}))
    print(f"{len(new.answers)} answers, {sum(answer.right for answer in new.answers)} of them right")


@baselines_app.command(
    **shown("codi-bench baselines calibrate", "codi-bench baselines calibrate --no-runs --seeds 2 --claim size")
)
def calibrate(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="results.json of runs in other environments, on the same weights and problems. What differs there counts too.",
        ),
    ] = None,
    baselines: Baselines = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            autocompletion=complete.models,
            help="This model, or NAME=PATH of your own. Repeatable. Default: the embedded pair.",
        ),
    ] = None,
    base: Annotated[
        list[str] | None,
        typer.Option("--base", metavar="NAME=PATH", help="The language model under a model given as NAME=PATH. Repeatable."),
    ] = None,
    claim: Claims = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    runs: Annotated[
        bool, typer.Option(help="Measure with other batch sizes, threads, instruction sets and number formats, or not.")
    ] = True,
    seeds: Annotated[int, typer.Option(metavar="N", callback=within(0), help="Repeats with other seeds.")] = 5,
    turns: Annotated[int, typer.Option(metavar="N", callback=within(0), help="Repeats with one answer turned.")] = 10,
    redraws: Annotated[
        int, typer.Option(metavar="N", callback=within(0), help="Repeats with other problems, of the published protocol.")
    ] = 50,
    flips: Annotated[
        int, typer.Option(metavar="N", callback=within(0), help="Repeats of the ablations' verdicts with outcomes turned.")
    ] = 2000,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for finished measurements. Default: in the cache folder.")
    ] = None,
) -> None:
    """Measure how far recorded numbers move when nothing that matters changes, and store that as their tolerances.

    This takes an hour or more on two cores for the embedded pair; stop it and the same command goes on where it was.
    Exit status 1 means that another batch size or one thread moved a number: that is a fault, and no tolerance covers it.
    """
    from codi_bench.models.registry import EMBEDDED
    from codi_bench.records.proposals import write_together
    from codi_bench.records.tolerance import NoiseMove
    from codi_bench.report.noise_table import terminal
    from codi_bench.suite.calibration import Key, ablations_turned, calibrated, default_work, faults, plan_of, share_turned, steps
    from codi_bench.suite.progress import duration
    from codi_bench.suite.suite import Suite

    folder = baselines or package_folder("baselines")
    work = work or default_work()
    suite = Suite(model or EMBEDDED, base or (), claim or (), device=device, dtype=dtype, baselines=folder, report=work)
    plan = plan_of(suite, work)
    moves: dict[Key, list[NoiseMove]] = {}
    measurements = steps(plan, results or (), runs=runs, seeds=seeds, turns=turns, redraws=redraws)
    for k, (name, measure) in enumerate(measurements, 1):
        start = time.monotonic()
        for key, move in measure().items():
            moves.setdefault(key, []).append(move)
        print(f"[{k} of {len(measurements)}] {name}: {duration(time.monotonic() - start)}", file=sys.stderr, flush=True)
    num_turned, num_outcomes, share = share_turned(plan, moves)
    for name in plan.benches:
        for key, draws in ablations_turned(plan, name, share=share, draws=flips).items():
            moves[key] = [*moves.get(key, []), *draws]
    new_baselines = calibrated(plan, moves)
    write_together(folder, new_baselines, {})
    print(terminal(list(plan.baselines.values()), new_baselines), end="")
    print(f"{num_turned} of {num_outcomes} outcomes turned in other environments; ablations allow for {share:.2%}")
    if lines := faults(plan, moves):
        print(*lines, sep="\n")
        raise typer.Exit(1)


@baselines_app.command(**shown("codi-bench baselines readme --check"))
def readme(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The README with the two marks that the table stands between.")
    ] = Path("README.md"),
    baselines: Baselines = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 where a file is not up to date.")] = False,
) -> None:
    """Draw the tables and the figure of the README and of docs/ again from the recorded baselines."""
    from codi_bench.cli.readme import readme_of

    page = readme_of(file, baselines or package_folder("baselines"))
    stale = page.outdated() if check else page.update()
    print("\n".join(f"{path}: {'not up to date' if check else 'written'}" for path in stale) or f"{file}: up to date")
    if check and stale:
        raise typer.Exit(1)
