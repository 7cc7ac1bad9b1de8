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

from codi_bench.errors import CodiBenchError
from codi_bench.store.files import package_folder

Report = Annotated[Path, typer.Option(help="folder of the run that proposed or measured")]
Folder = Annotated[Path | None, typer.Option(help="folder of the baseline files (default: the package's own)")]
Models = Annotated[list[str] | None, typer.Option("--model", help="only this model (repeatable)")]
Claims = Annotated[list[str] | None, typer.Option("--claim", help="only this claim (repeatable)")]
baselines_app = typer.Typer(no_args_is_help=True, help="Compare proposals with the recorded numbers, and accept them.")


@baselines_app.command()
def diff(
    report: Report = Path("report"),
    baselines: Folder = None,
    model: Models = None,
    claim: Claims = None,
    everything: Annotated[bool, typer.Option("--all", help="list also what did not change")] = False,
) -> None:
    """What the proposals of the last `pytest benchmarks --update-baselines` would change, and whether it is more than noise."""
    from codi_bench.records.proposals import read_proposals
    from codi_bench.report.proposals import terminal

    folder = baselines or package_folder("baselines")
    proposals, file_proposals = read_proposals(report, folder, model, claim)
    texts = [text for update in file_proposals for text in update.changes]
    found = [proposal.changes for proposal in proposals]
    print(terminal(found, texts, everything=everything, colour=sys.stdout.isatty()), end="")


@baselines_app.command()
def accept(
    reason: Annotated[str, typer.Option(help="why these numbers are right, in words; kept in every record")],
    report: Report = Path("report"),
    baselines: Folder = None,
    model: Models = None,
    claim: Claims = None,
    verdicts_changed: Annotated[
        bool, typer.Option("--verdicts-changed", help="verdicts may change: the reason says why")
    ] = False,
    dirty: Annotated[bool, typer.Option("--dirty", help="accept although other files of the git tree are changed")] = False,
) -> None:
    """Record the proposals, all of them or none; `reported` figures are never touched.

    Each replaces the record of its own environment, or is added. Refused: a reason of fewer than two words or ten letters; a
    changed verdict, without --verdicts-changed; a git tree with other changes than those of the baselines, without --dirty, since
    no commit would then hold both the numbers and what made them.
    """
    from codi_bench.records.changes import weak_reason
    from codi_bench.records.extras import winners_of
    from codi_bench.records.proposals import check_clean, read_proposals, write_together
    from codi_bench.suite.engine import accept as next_baseline

    folder, reason = baselines or package_folder("baselines"), " ".join(reason.split())
    if weak := weak_reason(reason):
        raise CodiBenchError(f"--reason {reason!r} {weak}")
    proposals, file_proposals = read_proposals(report, folder, model, claim)
    verdict_lines = [line for proposal in proposals for line in proposal.changes.verdicts]
    if verdict_lines and not verdicts_changed:
        s = "" if len(verdict_lines) == 1 else "s"
        raise CodiBenchError(
            f"{len(verdict_lines)} verdict{s} would change: {'; '.join(verdict_lines)}; look at `codi-bench baselines diff`, "
            "and give --verdicts-changed if the reason explains it"
        )
    if not dirty and (problem := check_clean(folder, report)):
        print(f"codi-bench: other changes are not looked for: {problem}", file=sys.stderr)
    today = datetime.date.today().isoformat()
    records = [next_baseline(each.before, each.record.model_copy(update={"date": today}), reason) for each in proposals]
    beside = {update.file: update.accepted(today, reason) for update in file_proposals} | winners_of(report)
    for path in write_together(folder, records, beside):
        print(path)


@baselines_app.command()
def restamp(report: Report = Path("report"), baselines: Folder = None, model: Models = None, claim: Claims = None) -> None:
    """Write the present code's hash into records that the last run measured SAME under other code, and nothing else.

    Only records of that run's own environment, of which every number came out the same. What is left alone is named.
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
        print("nothing is to be restamped: no record of that run was made by other code")


@baselines_app.command()
def gate(
    model: Annotated[str, typer.Argument(help="a model, or NAME=PATH")],
    baselines: Folder = None,
    base: Annotated[str | None, typer.Option(help="folder of the base under a model given so")] = None,
    problems: Annotated[list[str] | None, typer.Option(help="NAME=FILE of its problem set, as for a run")] = None,
    n: Annotated[int, typer.Option(min=1, help="problems whose answers are pinned")] = 32,
    may_differ: Annotated[int, typer.Option(min=0, help="answers that another machine may turn")] = 0,
    source: Annotated[str, typer.Option(help="who decoded them, in words")] = "codi-bench",
    device: str = "auto",
    answers_changed: Annotated[bool, typer.Option("--answers-changed", help="replace answers that are others now")] = False,
) -> None:
    """Pin what a checkpoint answers now: before its claims count, a run decodes it again and compares.

    Written whole or not at all. Where answers are pinned already that come out otherwise, nothing is written without
    --answers-changed.
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
        raise CodiBenchError(f"{folder / gate_file(name)}: {fault}; give --answers-changed if that is meant")
    start = before or Gate(schema=1, model=name, checkpoint=bench.model.entry.hub or name)
    new = pinned(bench, start.model_copy(update={"source": source, "may_differ": may_differ}), n)
    print(*write_together(folder, [], {gate_file(name): gate_text(new)}))
    print(f"{len(new.answers)} answers, {sum(answer.right for answer in new.answers)} of them right")


@baselines_app.command()
def calibrate(
    results: Annotated[
        list[Path] | None, typer.Argument(help="results.json of runs in other environments, of the same weights and problems")
    ] = None,
    baselines: Folder = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="this model, or NAME=PATH (default: the embedded pair)")
    ] = None,
    base: Annotated[list[str] | None, typer.Option("--base", help="NAME=PATH of the base under a model given so")] = None,
    claim: Claims = None,
    device: str = "auto",
    dtype: str = "auto",
    runs: Annotated[bool, typer.Option(help="run the suite with other batch sizes, threads, instruction sets, dtype")] = True,
    seeds: Annotated[int, typer.Option(min=0, help="draws with other seeds")] = 5,
    turns: Annotated[int, typer.Option(min=0, help="draws with one answer turned")] = 10,
    redraws: Annotated[int, typer.Option(min=0, help="draws with other problems, of the reported protocol")] = 50,
    flips: Annotated[int, typer.Option(min=0, help="draws of the ablations' verdicts with outcomes turned")] = 2000,
    work: Annotated[Path | None, typer.Option(help="where measurements are kept (default: in the cache folder)")] = None,
) -> None:
    """Measure how far the recorded numbers move where nothing that matters changed, and write it as their tolerances.

    Takes an hour or more on two cores for the embedded pair; stopped, it goes on where it was. Records stay as they are. Exit 1
    where another batch size or one thread moves a number: that is a fault, and no tolerance covers it.
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


@baselines_app.command()
def readme(
    file: Annotated[Path, typer.Argument(help="where the table stands")] = Path("README.md"),
    baselines: Path | None = None,
    check: Annotated[bool, typer.Option("--check", help="write nothing; exit 1 where the file says something else")] = False,
) -> None:
    """Draw the table and the figure of README.md from the recorded baselines."""
    from codi_bench.cli.readme import readme_of

    page = readme_of(file, baselines or package_folder("baselines"))
    stale = page.outdated() if check else page.update()
    print("\n".join(f"{path}: {'not what is recorded' if check else 'written'}" for path in stale) or f"{file}: as recorded")
    if check and stale:
        raise typer.Exit(1)
