"""The blocks in order: commands of the package, what is read of their files, and the bars."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from codi_bench.models.registry import EMBEDDED, REGISTRY

from .runner import Bar, Block, Figures

CODI_BENCH, PARTS = (sys.executable, "-m", "codi_bench.cli"), (sys.executable, "-m", "benchmarks.gpu_day.parts")
# By published model: the embedded one that is enlarged to its size where it is not given, and the minutes that a study may take.
FULL_SIZE = {"gpt2": ("gpt2-mini", 1), "llama-3.2-1b": ("llama-mini", 3)}
ABLATION = {"gpt2": (Bar("seconds", 10, -1), Bar("ratio", 100)), "llama-3.2-1b": (Bar("seconds", 30, -1),)}
ADAPTER = "smollm2-135m"
PHASES = (("generated", 200_000, 4000), ("gsm-symbolic", 80_000, 8000))  # of its training: set, problems, steps; easy ones first
LAST_STEPS = 1200  # on each file of --train
HELD_OUT = ("gsm-symbolic", 500)
SLICES = 12  # pieces of the time limit that it gets in one day
TINY_STUDY = ("--claim", "size", "--claim", "task-accuracy", "--n", "8")
TINY_PHASES, TINY_STEPS, TINY_HELD_OUT = (("generated", 24, 2),), 2, ("generated", 4)


def blocks(options: Namespace, out: Path) -> list[Block]:
    """The blocks of a day with these options, whose folders lie in `out`."""
    day = [
        Block("facts", [(*CODI_BENCH, "doctor", "--json")], facts, codes=(0, 1)),
        pair(options, out),
        *(shape(name, options, out) for name in FULL_SIZE),
        *(study(name, options, out) for name in FULL_SIZE),
        Block("probes", [(*PARTS, "probes", *_tiny(options), "--device", options.device, str(out / "probes"))], probe_figures),
        *([] if ADAPTER in REGISTRY and not options.tiny else adapter(options, out)),
    ]
    return [*day, Block("records", [(*PARTS, "gather", str(out))], proposed, after=[block.name for block in day])]


def pair(options: Namespace, out: Path) -> Block:
    """The study on the embedded pair, against what is recorded on the CPU, and its numbers as proposals."""
    models = [word for name in EMBEDDED for word in ("--model", name)]
    return Block("pair", [(*_study(options, out / "pair"), *models, *_few(options), "--update-baselines")], rows, codes=(0, 1))


def shape(name: str, options: Namespace, out: Path) -> Block:
    """Ablations with capture on random weights against the study's loop, and the ratio as a proposal."""
    select = ("benchmarks/perf/test_full_size.py", "-m", "perf", "-k", f"{name}]", "--device", options.device)
    runs = ("--update-baselines", "--perf-runs", "2" if options.tiny else "3", *_tiny(options), *_given(name, options))
    command = (*CODI_BENCH, "run", *select, *runs, "--report", str(out / f"shape-{name}"))
    return Block(f"shape-{name}", [command], shape_figures, ABLATION[name], codes=(0, 1))


def study(name: str, options: Namespace, out: Path) -> Block:
    """The whole study on a thousand problems: on the checkpoint that was given, or on an embedded model of its size."""
    mini, minutes = FULL_SIZE[name]
    folder, commands = out / f"study-{name}", []
    model = next((["--model", text, *_given(name, options)] for text in options.model if text.startswith(f"{name}=")), None)
    if model is None:
        commands = [(*PARTS, "enlarge", *_tiny(options), mini, str(folder / "model"))]
        model = ["--model", f"{name}-size={folder / 'model'}"]
    many = _few(options) or ("--n", "1000", "--batch-size", "256")
    commands.append((*_study(options, folder), *model, *many))
    return Block(folder.name, commands, rows, [Bar("seconds", 60 * minutes, -1)], codes=(0, 1))


def adapter(options: Namespace, out: Path) -> list[Block]:
    """Train the adapter over SmolLM2 piece by piece, then measure it."""
    folder = out / "training"
    phases, last, held_out = (TINY_PHASES, TINY_STEPS, TINY_HELD_OUT) if options.tiny else (PHASES, LAST_STEPS, HELD_OUT)
    commands: list[Sequence[str]] = []

    def file(split: str, name: str, n: int) -> str:
        """A file of problems; one that is there from the last slice is not made again."""
        path = folder / f"{name}-{split}-{n}.jsonl"
        if not path.is_file():
            commands.append((*CODI_BENCH, "problems", name, "--n", str(n), "--split", split, "--out", str(path)))
        return str(path)

    files = {file("train", name, n): steps for name, n, steps in phases} | dict.fromkeys(options.train, last)
    train = [word for path, steps in files.items() for word in ("--problems", path, "--steps", str(steps))]
    train += ["--eval", file("test", *held_out)]
    if options.tiny:
        commands.append((*PARTS, "base", str(folder / "base")))
        train += ["--base", str(folder / "base"), "--batch-size", "2", "--accumulate", "1"]
    where = ("--device", options.device, "--work", str(folder / "work"), "--out", str(folder / "model"))
    commands.append((*CODI_BENCH, "train", ADAPTER, "--format", "adapter", *train, *where))
    model = ("--model", f"{ADAPTER}={folder / 'model'}", "--update-baselines")
    measure = (*_study(options, out / "adapter", "study or questions"), *model, *_few(options))
    return [
        Block("training", commands, training_figures, slices=SLICES, cleared="model"),  # it goes on from work
        Block("adapter", [measure], rows, codes=(0, 1), after=["training"]),
    ]


def _study(options: Namespace, folder: Path, suite: str = "study") -> tuple[str, ...]:
    return (*CODI_BENCH, "run", "-m", suite, "--device", options.device, "--report", str(folder))


def _given(name: str, options: Namespace) -> list[str]:
    """What was given for a published model: its base, and problem sets."""
    bases = [text for text in options.base if text.startswith(f"{name}=")]
    return [
        word for flag, texts in (("--base", bases), ("--problems", options.problems)) for text in texts for word in (flag, text)
    ]


def _few(options: Namespace) -> tuple[str, ...]:
    return TINY_STUDY if options.tiny else ()


def _tiny(options: Namespace) -> list[str]:
    return ["--tiny"] * options.tiny


# What is read of a block's folder


def facts(folder: Path, _seconds: Sequence[float]) -> Figures:
    """Devices, and what is broken."""
    text = (folder / "log.txt").read_text(encoding="utf-8")
    findings = json.JSONDecoder().raw_decode(text[text.index("\n{") + 1 :])[0]["findings"]
    figures = {finding["name"]: finding["text"] for finding in findings if finding["part"] == "devices"}
    return figures | {"broken": ", ".join(finding["name"] for finding in findings if finding["state"] == "broken") or "nothing"}


def rows(folder: Path, seconds: Sequence[float]) -> Figures:
    """How long the last command took, how many of its numbers have which word, and which claims moved.

    Raises ValueError where no number was measured, or memory ran out: what is blocked takes no time, and would meet a bar.
    """
    table = _json(folder / "results.json")["rows"]
    if not any(row["status"] == "ok" for row in table):
        raise ValueError(next((row["reason"] for row in table), "no rows"))
    if short := [row["reason"] for row in table if "out of memory" in row["reason"]]:
        raise ValueError(f"{len(short)} rows: {short[0]}")
    words = [row["regression"] or row["status"] if row["status"] == "ok" else row["status"] for row in table]
    moved = sorted({f"{row['claim']} on {row['model']}" for row in table if row["regression"] == "DRIFTED"})
    counts = {word: words.count(word) for word in sorted({*words})}
    return {"seconds": round(seconds[-1], 2), **counts, **({"moved": ", ".join(moved)} if moved else {})}


def shape_figures(folder: Path, _seconds: Sequence[float]) -> Figures:
    """Those of the full-size benchmark that a reader wants first."""
    (path,) = (folder / "perf").glob("full-size-*.json")
    figures = _json(path)["figures"]
    return {name: figures[name] for name in ("seconds", "ratio", "fraction", "problems", "problems_per_second", "peak_bytes")}


def probe_figures(folder: Path, _seconds: Sequence[float]) -> Figures:
    """All of them."""
    return _json(folder / "probes.json")


def training_figures(folder: Path, _seconds: Sequence[float]) -> Figures:
    """The accuracy on held-out problems by how they were answered, and the last losses."""
    figures = _json(folder / "model" / "training.json")
    accuracy = {name: groups["all"]["value"] for name, groups in figures["held_out"]["accuracy"].items()}
    return accuracy | figures["losses"][-1]


def proposed(folder: Path, _seconds: Sequence[float]) -> Figures:
    """How many proposals there are."""
    return {"proposals": len([*folder.parent.glob("proposals/*/*.json")])}


def _json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))
