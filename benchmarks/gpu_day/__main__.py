"""The command `python -m benchmarks.gpu_day`, which `tox -e gpu-day` calls."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from rich.table import Table

from codi_bench.errors import CodiBenchError
from codi_bench.report.console import printed, terminal_console
from codi_bench.store.files import file_hash

from . import __doc__ as about
from .blocks import FULL_SIZE, PARTS, blocks
from .runner import DONE, ROOT, Block, Day

MINUTES = 9.5  # machines are lent for ten


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, and show the day; 0 if every block is done, else 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if wrong := [text for text in (*options.model, *options.base) if text.partition("=")[0] not in FULL_SIZE]:
        parser.error(f"{wrong[0]}: give {' or '.join(f'{name}=FOLDER' for name in FULL_SIZE)}")
    out = (options.out or Path("report", "gpu-day-tiny" if options.tiny else "gpu-day")).absolute()
    for texts in (options.model, options.base, options.problems, options.train):
        texts[:] = [name + equals + str(Path(path).absolute()) for name, equals, path in (text.rpartition("=") for text in texts)]
    day_blocks = blocks(options, out)
    names = [block.name for block in day_blocks]
    if wrong := sorted({*options.only} - {*names}):
        parser.error(f"there is no block {wrong[0]}: use {', '.join(names)}")
    given = {name: value for name, value in vars(options).items() if name in ("tiny", "model", "base", "problems", "train")}
    try:
        day = Day(out, 60 * options.minutes, environment(options.device), given)
    except CodiBenchError as error:
        parser.error(str(error))
    measure_all([block for block in day_blocks if not options.only or block.name in options.only], day, together=2 * options.tiny)
    print(summary(day_blocks, day), end="")
    return 0 if all(day.result(block).state == DONE for block in day_blocks) else 1


def measure_all(chosen: Sequence[Block], day: Day, *, together: int) -> None:
    """Measure what is not measured yet: one block after the other, or where no time is judged so many together."""
    begun: dict[str, Future[None]] = {}

    def measure(block: Block) -> None:
        wait([begun[name] for name in block.after if name in begun])  # these began before, so none waits for another for ever
        if day.result(block).state != DONE:
            result = day.measure(block)
            print(f"{block.name}: {result.state} in {result.seconds:.0f} s {result.reason}".rstrip(), file=sys.stderr)

    if not together:
        for block in chosen:
            measure(block)
        return
    with ThreadPoolExecutor(together) as pool:
        for block in sorted(chosen, key=lambda block: -sum(block.name in other.after for other in chosen)):
            begun[block.name] = pool.submit(measure, block)
    for done in begun.values():
        done.result()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("gpu_day", description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the commands (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes and few problems, of which nothing is judged")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of all results (default: report/gpu-day)")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help=f"limit of a block (default: {MINUTES})")
    for flag, metavar, what in (
        ("--only", "BLOCK", "measure only this block"),
        ("--model", "NAME=FOLDER", f"checkpoint of {' or '.join(FULL_SIZE)}, instead of a model of its size"),
        ("--base", "NAME=FOLDER", "its base"),
        ("--problems", "NAME=FILE", "problem set, as of `codi-bench run`: gsm8k=test.jsonl"),
        ("--train", "FILE", "problems that the adapter is trained on last, such as GSM8K's train split"),
    ):
        parser.add_argument(flag, action="append", default=[], metavar=metavar, help=f"{what}; repeatable")
    return parser


def environment(device: str) -> dict[str, str]:
    """Device, driver, versions and the hash of the code. Asked in another process, so that this one holds no GPU memory."""
    done = subprocess.run([*PARTS, "environment", "--device", device], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CodiBenchError(done.stderr.strip().rpartition("\n")[2])
    files = sorted(path for name in ("codi_bench", "benchmarks") for path in (ROOT / name).rglob("*.py"))
    return json.loads(done.stdout) | {"code": file_hash(*files)}


def summary(day_blocks: Sequence[Block], day: Day) -> str:
    """One screen: block, state, seconds, first figures, bars."""
    table = Table("block", "state", "seconds", "figures", "bar on an H100-class GPU", box=None, pad_edge=False)
    for block in day_blocks:
        result = day.result(block)
        figures = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.figures.items()]
        bars = "\n".join(f"{bar}: {word}" for bar, word in result.bars.items())
        table.add_row(block.name, result.state, f"{result.seconds:.0f}", result.reason or ", ".join(figures[:6]), bars)
    console = terminal_console()
    console.print(table)
    return printed(console)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what a block has started is stopped on the way out
    sys.exit(main())
