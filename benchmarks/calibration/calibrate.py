"""Run calibrations: python -m benchmarks.calibration.calibrate [NAME ...] [--draws N] [--minutes M].

Without a name all of them, an hour and a half on two cores; what was drawn before is not drawn again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from codi_bench.store.files import package_folder

from .cases import CALIBRATIONS
from .engine import processes, run, work_folder


def folder() -> Path:
    """Where the records are."""
    return package_folder("baselines") / "_calibration"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="calibrate", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(CALIBRATIONS)}; default: all")
    parser.add_argument("--draws", type=int, help="of each case, instead of the calibration's own number")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin no chunk later; records say how many draws fit"
    )
    parser.add_argument("--processes", type=int, default=2, help="changes no result")
    parser.add_argument("--out", type=Path, default=folder(), help="default: baselines/_calibration")
    parser.add_argument("--work", type=Path, default=work_folder(), help="where chunks are kept")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.names if name not in CALIBRATIONS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(CALIBRATIONS)}")
    until, met = time.time() + 60 * asked.minutes, []
    with processes(asked.processes) as pool:
        for name in asked.names or CALIBRATIONS:
            record = run(CALIBRATIONS[name], pool=pool, out=asked.out, work=asked.work, draws=asked.draws, until=until)
            met.append(record["met"])
            print(*lines(record), sep="\n", flush=True)
    return 0 if all(met) else 1


def lines(record: dict) -> list[str]:
    """A line a rate."""
    return [
        f"{record['name']}, {case}: {what} {rate['rate']:.4f} [{rate['low']:.4f}, {rate['high']:.4f}] of {rate['draws']}"
        + (f", bar {rate['bar']}: {'met' if rate['met'] else 'MISSED'}" if "bar" in rate else "")
        for case, found in record["cases"].items()
        for what, rate in found["rates"].items()
    ]


if __name__ == "__main__":
    sys.exit(main())
