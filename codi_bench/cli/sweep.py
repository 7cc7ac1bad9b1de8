"""`codi-bench sweep`: train and audit models of many sizes, and say what changes with size."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from codi_bench.cli.options import within
from codi_bench.errors import CodiBenchError, arguments
from codi_bench.store.files import check_writable, write_text

TRAINING_SECONDS, AUDIT_SECONDS = 0.6, 1.5  # on one core: of a step of the largest size at most, of a problem of an audit


def sweep(
    out: Annotated[
        str, typer.Option(metavar="DIR_OR_URL", help="Where results go: a folder, or a URL that fsspec knows, such as s3://….")
    ] = "runs/sweep",
    work: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for checkpoints, from which a stopped training goes on.")
    ] = Path("runs/sweep-work"),
    report: Annotated[Path, typer.Option(metavar="DIR", help="Folder for sweep.json and the figure.")] = Path("report/sweep"),
    width: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Width of the models. Repeatable. Default: 24, 40, 64 and 104.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(metavar="N", callback=within(0, arguments.SEED), help="Training seed. Repeatable. Default: 0, 1 and 2."),
    ] = None,
    architecture: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="gpt2 or llama. Repeatable. Default: both.")
    ] = None,
    teacher_steps: Annotated[
        int, typer.Option(metavar="N", callback=within(1), help="Training steps of the teacher alone, at the start.")
    ] = 600,
    student_steps: Annotated[
        int, typer.Option(metavar="N", callback=within(1), help="Training steps of teacher and student together, after that.")
    ] = 400,
    workers: Annotated[
        int, typer.Option(metavar="N", callback=within(1), help="Processes on this machine, each on one thread.")
    ] = 2,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on a Ray cluster instead: its address, or local.")
    ] = None,
    n: Annotated[int, typer.Option(metavar="N", callback=within(1), help="Problems for every claim.")] = 300,
    dtype: Annotated[str, typer.Option(metavar="TYPE", help="Number format of the training: float32 or bfloat16.")] = "float32",
    cpus: Annotated[float, typer.Option(min=0, metavar="N", help="Cores that each task asks a Ray cluster for.")] = 1,
    memory_gb: Annotated[
        float, typer.Option(min=0, metavar="GB", help="Memory, in gigabytes, that each task asks a Ray cluster for; 0: none.")
    ] = 0,
) -> None:
    """Train models of several sizes, seeds and architectures, measure every claim on each, and test for a trend over size.

    The default is 24 models, which takes hours: the first lines say how many models, how long at most, and which change could be
    detected. Stop it, and the same command goes on where it was.
    """
    from codi_bench.measures.trend import detectable
    from codi_bench.suite.progress import duration, progress
    from codi_bench.sweep.executors import ProcessPool, RayCluster
    from codi_bench.sweep.figure import draw, trend_line
    from codi_bench.sweep.findings import follow, gap, in_common
    from codi_bench.sweep.members import FAMILIES, LAYERS, SEEDS, WIDTHS, members
    from codi_bench.sweep.results import SweepResults
    from codi_bench.sweep.run import Settings
    from codi_bench.sweep.run import sweep as run

    models = members(architecture or FAMILIES, width or WIDTHS, seed or SEEDS)
    check_writable(report / "sweep.json", "give --report DIR")
    check_writable(work / "x", "give --work DIR")
    if dtype not in ("float32", "bfloat16"):
        raise CodiBenchError(f"--dtype {dtype}: use float32 or bfloat16")
    try:
        smallest_change = detectable([12 * LAYERS * member.width**2 for member in models], [member.family for member in models])
        print(f"{len(models)} models: a change of {smallest_change:.1f} seed standard deviations is detected with 90 % power")
    except CodiBenchError as error:
        print(f"{len(models)} models: no trend can be tested ({error})")
    seconds = len(models) * (TRAINING_SECONDS * (teacher_steps + student_steps) + 2 * AUDIT_SECONDS * n)
    if ray is None:
        print(f"about {duration(seconds / workers)} on {workers} cores, less what is finished already")
    phases = (("teacher", teacher_steps), ("both", student_steps))
    settings = Settings(phases=phases, n=n, dtype=dtype, cpus=cpus, memory_gb=memory_gb)
    if ray not in (None, "local") and "://" not in out:
        print(f"--out {out} is a folder: every machine of the cluster must have it under this name")
    out = out if "://" in out else str(Path(out).resolve())  # workers may stand elsewhere
    SweepResults(out).check()

    stages: dict[str, Callable[..., None]] = {}  # the bar of each stage, in which a task is a step

    def say(text: str, done: int, total: int) -> None:
        if text not in stages:
            bars.close()
            stages[text] = bars.enter_context(progress(text, total, done=done))
        else:
            stages[text](1)
        print(f"{text}: {done} of {total}")

    with ExitStack() as bars, closing(RayCluster(ray, workers) if ray else ProcessPool(workers)) as executor:
        findings = run(out, models, executor, settings, work=str(work.resolve()), told=say)
    for name, reason in findings.failed.items():
        print(f"FAILED {name}: {reason}")
    if findings.target is not None:
        distance = gap(findings.audited, findings.target)
        print(
            f"matched: {100 * findings.target:.1f} %, checkpoints at most {100 * distance:.1f} points off where they are chosen"
        )
    numbers = follow(findings.audited)
    for number in numbers:
        print(f"{number.which}, {number.name}: {trend_line(number)}")
    for line in in_common(findings.compared):
        print(line)
    summary = {
        "settings": asdict(settings),
        **asdict(findings),
        "said": {f"{number.which}, {number.name}": trend_line(number) for number in numbers},
        "in common": in_common(findings.compared),
    }
    write_text(report / "sweep.json", _lines(summary))
    print(f"{draw(numbers, report / 'sweep.svg')}: figure; beside it sweep.json")
    if findings.failed:
        raise typer.Exit(1)


def _lines(summary: dict) -> str:
    """JSON with a line a checkpoint and a pair, six digits, and without what is empty."""

    def text(value) -> str:
        return json.dumps(_short(value), separators=(",", ":"))

    parts = []
    for name, value in summary.items():
        body = "[\n" + ",\n".join(map(text, value)) + "\n]" if isinstance(value, list | tuple) and value else text(value)
        parts.append(f"{json.dumps(name)}: {body}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _short(value):
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items() if item not in (None, "")}
    return [_short(item) for item in value] if isinstance(value, list | tuple) else value
