"""What `gpu_day` runs in processes of their own, and no command of the package does."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from codi_bench.errors import CodiBenchError
from codi_bench.records import speed as perf
from codi_bench.records.baseline import read_strict, strict_text
from codi_bench.store.files import copy_file, write_text

SAME = 1e-3  # share of predictions that may differ from one device to another: those on the boundary


def environment(*, device: str, **_) -> None:
    """Print device, versions, instructions and driver."""
    import torch

    from codi_bench.suite import environment as here

    if not here.available(device):
        raise CodiBenchError(f"device '{device}' is not here; try the commands with --tiny --device cpu")
    found = here.environment(device, "float32").model_dump() | here.versions() | {"cuda": torch.version.cuda or "none"}
    driver = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which(driver[0]):
        found["driver"] = subprocess.run(driver, capture_output=True, text=True, check=False).stdout.strip()
    print(json.dumps({name: str(value) for name, value in found.items()}))


def enlarge(name: str, folder: Path, *, tiny: bool, **_) -> None:
    """An embedded model in the size of a published one."""
    from benchmarks.gpu_day import enlarged

    enlarged.enlarge(name, (enlarged.TINY if tiny else enlarged.SIZES)[name], folder)


def probes(folder: Path, *, device: str, tiny: bool, **_) -> None:
    """Closed-form probes of the widest model on the device, on the CPU, and some of the fits by scikit-learn."""
    from benchmarks.calibration.planted import signal
    from benchmarks.perf.test_probe_speed import FOLDS, scikit_learn
    from benchmarks.perf.timing import timed
    from codi_bench.measures.grid import nested_splits, probe_grid
    from codi_bench.rules.stats import stream

    n, d, permutations, sample = (80, 16, 199, 2) if tiny else (1000, 2048, 1000, 5)
    made = signal(stream(0, "gpu-day"), n=n, cells=2, d=d, shift=3.0, decay=1.0)
    x, y = made.activations, made.labels
    grid = partial(probe_grid, x, y, folds=FOLDS, permutations=permutations)
    timed(partial(grid, device=device), device)  # the first call starts libraries
    seconds, found = timed(partial(grid, device=device), device)
    on_cpu, expected = timed(grid, "cpu")
    splits, _fold = nested_splits(y, folds=FOLDS, seed=0)
    start = time.perf_counter()
    theirs = [(scikit_learn(x[:, 0].astype(np.float64), y, split), split.test) for split in splits[:sample]]
    figures = {
        "seconds": seconds,
        "times the CPU": on_cpu / seconds,
        "seconds a fit of scikit-learn": (time.perf_counter() - start) / sample,
        "differ from CPU": float((found.held_out_prediction != expected.held_out_prediction).mean()),
        "nulls differ from CPU": float(((found.null_score > 0) != (expected.null_score > 0)).mean()),
        "differ from scikit-learn": float(np.mean([found.held_out_prediction[rows, 0] != said for said, rows in theirs])),
        "accuracy": float(found.held_out_accuracy.max()),
    }
    write_text(folder / "probes.json", json.dumps(figures, indent=1) + "\n")
    if wrong := [name for name, value in figures.items() if "differ" in name and value > SAME]:
        sys.exit(f"{', '.join(wrong)}: by more than {SAME:g} of all predictions")


def base(folder: Path, **_) -> None:
    """A tiny Llama with random weights, over which training can be tried."""
    from benchmarks.stress.tiny import write_base

    write_base("llama", folder)


def gather(out: Path, **_) -> None:
    """The proposals of all blocks in one folder, where `codi-bench baselines diff` and `accept` find them."""
    shutil.rmtree(out / "proposals", ignore_errors=True)
    speeds = perf.Speeds(schema=1)
    for path in sorted(out.glob("*/proposals/*/*.json")):
        if path.parts[-2:] == perf.FILE.parts:
            for entry in read_strict(path, perf.Speeds).recorded:
                speeds = speeds.having(entry.machine, entry.ratios)
        else:
            copy_file(path, out.joinpath(*path.parts[-3:]))
    if speeds.recorded:
        write_text(out / "proposals" / perf.FILE, strict_text(speeds))


def main() -> None:
    parser = argparse.ArgumentParser(prog="gpu_parts", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for job in (environment, enlarge, probes, base, gather):
        command = commands.add_parser(job.__name__, help=job.__doc__)
        command.set_defaults(job=job)
        if job is enlarge:
            command.add_argument("name")
        if job is not environment:
            command.add_argument("out" if job is gather else "folder", type=Path)
        command.add_argument("--device", default="cpu")
        command.add_argument("--tiny", action="store_true")
    arguments = vars(parser.parse_args())
    try:
        arguments.pop("job")(**arguments)
    except CodiBenchError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
