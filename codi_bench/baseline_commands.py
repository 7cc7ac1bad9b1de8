"""Change control: `codi-bench baselines diff`, `accept` and `readme`. Proposals are looked at, then recorded with a reason."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Annotated

import typer

from codi_bench.errors import CodiBenchError
from codi_bench.files import package_folder

Report = Annotated[Path, typer.Option(help="folder of the run that proposed")]
Folder = Annotated[Path | None, typer.Option(help="folder of the baseline files (default: the package's own)")]
Models = Annotated[list[str] | None, typer.Option("--model", help="only the proposals of this model (repeatable)")]
Claims = Annotated[list[str] | None, typer.Option("--claim", help="only the proposals of this claim (repeatable)")]
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
    from codi_bench.proposals import read_proposals
    from codi_bench.report.proposals import terminal

    folder = baselines or package_folder("baselines")
    found, beside = read_proposals(report, folder, model, claim)
    texts = [text for each in beside for text in each.changes]
    print(terminal([each.changes for each in found], texts, everything=everything, colour=sys.stdout.isatty()), end="")


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
    from codi_bench.changes import weak_reason
    from codi_bench.engine import accept as accepted
    from codi_bench.proposals import check_clean, read_proposals, write_together

    folder, reason = baselines or package_folder("baselines"), " ".join(reason.split())
    if weak := weak_reason(reason):
        raise CodiBenchError(f"--reason {reason!r} {weak}")
    found, beside = read_proposals(report, folder, model, claim)
    turned = [line for each in found for line in each.changes.verdicts]
    if turned and not verdicts_changed:
        s = "" if len(turned) == 1 else "s"
        raise CodiBenchError(
            f"{len(turned)} verdict{s} would change: {'; '.join(turned)}; look at `codi-bench baselines diff`, and give "
            "--verdicts-changed if the reason explains it"
        )
    if not dirty and (unchecked := check_clean(folder, report)):
        print(f"codi-bench: other changes are not looked for: {unchecked}", file=sys.stderr)
    today = datetime.date.today().isoformat()
    after = [accepted(each.before, each.record.model_copy(update={"date": today}), reason) for each in found]
    for path in write_together(folder, after, {each.file: each.accepted(today, reason) for each in beside}):
        print(path)


@baselines_app.command()
def readme(
    file: Annotated[Path, typer.Argument(help="where the table stands")] = Path("README.md"),
    baselines: Path | None = None,
    check: Annotated[bool, typer.Option("--check", help="write nothing; exit 1 where the file says something else")] = False,
) -> None:
    """Draw the table and the figure of README.md from the recorded baselines."""
    from codi_bench.readme import readme_of

    asked = readme_of(file, baselines or package_folder("baselines"))
    stale = asked.outdated() if check else asked.update()
    print("\n".join(f"{path}: {'not what is recorded' if check else 'written'}" for path in stale) or f"{file}: as recorded")
    if check and stale:
        raise typer.Exit(1)
