"""The command that writes problem sets: `codi-bench problems`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codi_bench.cli import complete, options
from codi_bench.errors import CodiBenchError
from codi_bench.report.streams import print_json_line
from codi_bench.store.files import check_writable, write_text

if TYPE_CHECKING:
    from codi_bench.problems import Problem

OUT = "give --out FILE, in a folder that can be written to"
GENERATED_A_SECOND = 2000  # problems, on a slow core


def problems(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            autocompletion=complete.problem_sets,
            help="The set: generated, gsm-symbolic, or gsm8k, svamp, gsm-hard, multiarith from the hub. With --path it may have "
            "any name.",
        ),
    ],
    n: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            callback=options.within(1),
            help="Number of problems. Default: the whole set, or 1000 of generated and gsm-symbolic.",
        ),
    ] = None,
    seed: options.Seed = 0,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="Part of the set: test or train.")] = "test",
    variants: Annotated[
        int,
        typer.Option(metavar="N", callback=options.within(1), help="Tellings of each generated problem, with the same numbers."),
    ] = 1,
    steps: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            callback=options.within(1),
            help="gsm-symbolic: only problems with this number of steps. Repeatable. Default: all.",
        ),
    ] = None,
    by_generator: Annotated[
        bool,
        typer.Option("--by-generator", help="gsm-symbolic: no generator has problems in both splits. Give it for both."),
    ] = False,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs",
            help="gsm-symbolic: N pairs, so 2 N problems. The two of a pair follow each other, and differ in one number of the "
            "question and in the answer.",
        ),
    ] = False,
    path: Annotated[Path | None, typer.Option(metavar="FILE", help="Read the set from this file and not from the hub.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write. Default: print to the terminal.")] = None,
) -> None:
    """Write the problems of a set as JSON lines: generated arithmetic, a public set, or a file in another form.

    Generated problems need nothing, and gsm-symbolic needs `pip install 'codi-bench[symbolic]'`. A public set is downloaded once;
    without a network give its file with --path.
    """
    from codi_bench.problems import generate, load_problems
    from codi_bench.suite.progress import duration, progress

    if out is not None:
        check_writable(out, OUT, {"--path": path})
    symbolic = name == "gsm-symbolic" and path is None
    if (steps or by_generator or pairs) and not symbolic:
        kind = name if path is None else "a file"
        raise CodiBenchError(f"--steps, --by-generator and --pairs choose what gsm-symbolic generates; leave them out for {kind}")
    if name == "generated" and path is None:
        number = 1000 if n is None else n
        with progress(f"generating {number} problems, at most {duration(number / GENERATED_A_SECOND)}"):
            problem_set = generate(number, seed=seed, split=split, variants=variants)
    elif variants != 1:
        raise CodiBenchError(f"--variants {variants}: only generated problems have several tellings; leave it out for {name}")
    elif symbolic:
        with progress(f"generating {1000 if n is None else n} problems"):
            problem_set = _symbolic(1000 if n is None else n, seed, split, steps or (), by_generator, pairs)
    else:
        problem_set = load_problems(name, path=path, n=n, split=split, seed=seed)
    lines = [problem.to_json() for problem in problem_set]
    if out is not None:
        return write_text(out, "".join(f"{line}\n" for line in lines))
    for line in lines:
        print_json_line(line)


def _symbolic(n: int, seed: int, split: str, steps: Collection[int], by_generator: bool, pairs: bool) -> list[Problem]:
    """Problems of gsm-symbolic, or both problems of each pair."""
    from codi_bench.problems import symbolic, symbolic_pairs

    held_out = split == "test" if by_generator else None
    if not pairs:
        return symbolic.generate(n, seed=seed, split=split, steps=steps, held_out=held_out)
    made = symbolic_pairs.pairs(n, seed=seed, split=split, steps=steps, held_out=held_out)
    return [problem for pair in made for problem in (pair.recipient, pair.donor)]
