"""`codi-bench sweep`: train and audit models of many sizes, and say what changes with size."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from codi_bench.errors import CodiBenchError, arguments
from codi_bench.store.files import check_writable, write_text


def sweep(
    out: Annotated[str, typer.Option(help="where results go: a folder, or a URL of fsspec (s3://…)")] = "runs/sweep",
    work: Annotated[Path, typer.Option(help="folder that a stopped training goes on from")] = Path("runs/sweep-work"),
    report: Annotated[Path, typer.Option(help="folder of sweep.json and the figure")] = Path("report/sweep"),
    width: Annotated[list[int] | None, typer.Option(help="repeatable; default: 24, 40, 64, 104")] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, max=arguments.SEED, help="repeatable; default: 0, 1, 2")] = None,
    architecture: Annotated[list[str] | None, typer.Option(help="repeatable; default: gpt2, llama")] = None,
    teacher_steps: Annotated[
        int, typer.Option(min=1, max=arguments.COUNT, help="of the training, before the student starts")
    ] = 600,
    student_steps: Annotated[
        int, typer.Option(min=1, max=arguments.COUNT, help="of the training, teacher and student together")
    ] = 400,
    workers: Annotated[int, typer.Option(min=1, max=arguments.COUNT, help="processes on this machine, each on one thread")] = 2,
    ray: Annotated[str | None, typer.Option(help="address of a Ray cluster, or local")] = None,
    n: Annotated[int, typer.Option(min=1, max=arguments.COUNT, help="problems of every claim")] = 300,
    dtype: Annotated[str, typer.Option(help="of the training's passes")] = "float32",
    cpus: Annotated[float, typer.Option(min=0, help="cores that a task asks a cluster for")] = 1,
    memory_gb: Annotated[float, typer.Option(min=0, help="memory that a task asks a cluster for")] = 0,
) -> None:
    """Train sizes x seeds x architectures with one recipe, run every claim on each, and test for a trend over sizes.

    Says first what it can detect. Stopped, it goes on where it was; what is finished is never done again.
    """
    from codi_bench.measures.trend import detectable
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
        print(f"{len(models)} models: a total change of {smallest_change:.1f} seed standard deviations is found with 90 % power")
    except CodiBenchError as error:
        print(f"{len(models)} models: no trend can be tested ({error})")
    phases = (("teacher", teacher_steps), ("both", student_steps))
    settings = Settings(phases=phases, n=n, dtype=dtype, cpus=cpus, memory_gb=memory_gb)
    if ray not in (None, "local") and "://" not in out:
        print(f"--out {out} is a folder: every machine of the cluster must see it under this name")
    out = out if "://" in out else str(Path(out).resolve())  # workers may stand elsewhere
    SweepResults(out).check()

    def say(text: str, done: int, total: int) -> None:
        print(f"{text}: {done} of {total}")

    with closing(RayCluster(ray, workers) if ray else ProcessPool(workers)) as executor:
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
