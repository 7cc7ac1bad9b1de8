"""What `codi-bench doctor` finds: what is at hand here, what can be measured with it, and what is missing for the rest.

Nothing here uses the network or loads a model, and whatever is broken is a finding and not an error.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from codi_bench import __version__
from codi_bench.errors import one_line
from codi_bench.models.hub import ANY_WEIGHTS, BASE_FILES
from codi_bench.models.registry import EMBEDDED, REGISTRY, ModelEntry
from codi_bench.problems.files import HUBS
from codi_bench.store.files import package_folder

OK, MISSING, BROKEN = "ok", "missing", "broken"
NEEDED = (
    *("torch", "transformers", "tokenizers", "huggingface_hub", "datasets", "safetensors", "numpy", "scipy", "scikit-learn"),
    *("statsmodels", "pydantic", "pytest", "rich", "typer", "pandas", "matplotlib"),
    *("jinja2", "tabulate", "threadpoolctl", "filelock", "fsspec", "platformdirs"),
)
LOADED = ("torch", "transformers", "datasets", "pytest")  # those that a run dies of where they do not load
ONLY_HUB = ("datasets",)  # a run goes without them: problems are generated, or given as files
BASE = [file for file in BASE_FILES if "*" not in file]
REINSTALL = "pip install --force-reinstall codi-bench"
EXTRAS = {  # module → its package, what it is for, and the mend
    "peft": ("peft", "training over a base, and adapters", "pip install 'codi-bench[train]'"),
    "gguf": ("gguf", "smollm2-135m", "pip install 'codi-bench[smollm]'"),
    "reasoning_gym": ("reasoning-gym", "the problem set gsm-symbolic", "pip install 'codi-bench[symbolic]'"),
    "ray": ("ray", "sweeps on a cluster", "pip install 'codi-bench[ray]'"),
    "xdist": ("pytest-xdist", "run -n WORKERS", "pip install pytest-xdist"),
    "pytest_benchmark": ("pytest-benchmark", "run -m perf", "pip install pytest-benchmark"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    state: ok, missing (something cannot be done) or broken (no claim can be measured); mend: a command.
    """

    part: str
    name: str
    state: str
    text: str
    mend: str = ""


def examine() -> list[Finding]:
    """Everything that is looked at, in order."""
    findings: list[Finding] = []
    for part, look in (
        ("versions", _versions),
        ("devices", _devices),
        ("cache", _cache),
        ("models", _models),
        ("problem sets", _problem_sets),
        ("extras", _extras),
    ):
        findings += _safely(part, look)
    return findings + list(_jobs(findings))


def broken(findings: Sequence[Finding]) -> list[Finding]:
    """What keeps the study on the embedded pair from being measured."""
    return [finding for finding in findings if finding.state == BROKEN]


def _safely(part: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(look())
    except Exception as error:  # a doctor that falls ill helps nobody
        return [Finding(part, part, MISSING, f"cannot be looked at: {one_line(error)}")]


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "codi-bench", OK, __version__)
    yield Finding("versions", "python", OK, platform.python_version())
    for name in NEEDED:
        mend, fault = f"pip install {name}", MISSING if name in ONLY_HUB else BROKEN
        try:
            text = version(name)
            if name in LOADED:
                importlib.import_module(name)
            yield Finding("versions", name, OK, text)
        except PackageNotFoundError:
            yield Finding("versions", name, fault, "not installed", mend)
        except Exception as error:  # such as a CUDA library that torch does not find
            yield Finding("versions", name, fault, f"does not load: {one_line(error)}", f"{mend} --force-reinstall")
    for name in ("benchmarks", "baselines"):
        if not package_folder(name).is_dir():
            yield Finding("versions", name, BROKEN, "missing in the package", REINSTALL)


# Devices and the cache


def _devices() -> Iterator[Finding]:
    import torch

    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    instructions = torch.backends.cpu.get_cpu_capability()
    yield Finding("devices", "cpu", OK, f"{instructions}, {threads}, {_memory()}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for i in range(count):
        yield Finding("devices", f"cuda:{i}", OK, f"{torch.cuda.get_device_name(i)}, {_gpu_memory(i)}")
    if not count:
        built = "" if torch.version.cuda else ": this PyTorch is built for the CPU alone"
        yield Finding("devices", "cuda", MISSING, f"PyTorch sees no GPU{built}")


def _memory() -> str:
    try:
        free, total = (os.sysconf("SC_PAGE_SIZE") * os.sysconf(name) for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # macOS has no such name, Windows no such function
        return "memory unknown"
    return f"{_gb(free)} of {_gb(total)} GB memory free"


def _gpu_memory(index: int) -> str:
    import torch

    try:
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:  # another process has it to itself, or the driver is ill
        return f"memory unknown ({one_line(error)})"
    return f"{_gb(free)} of {_gb(total)} GB memory free"


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f}"


def _cache() -> Iterator[Finding]:
    from codi_bench.store.cache import default_bound, default_folder, entries

    folder = default_folder()
    try:
        bound = default_bound()
    except ValueError as error:
        yield Finding("cache", "bound", BROKEN, str(error), "unset CODI_BENCH_CACHE_MAX_GB")
        return
    try:
        place = next(parent for parent in (folder, *folder.parents) if parent.exists())
        with tempfile.TemporaryFile(dir=place):
            listing, free = entries(folder), shutil.disk_usage(place).free
        size = f"{_gb(sum(entry.size for entry in listing))} of at most {_gb(bound)} GB"
        yield Finding("cache", "results", OK, f"{len(listing)} entries, {size}, {_gb(free)} GB of disk free, in {folder}")
    except OSError as error:
        text = f"cannot be written to, so every run computes everything: {folder}: {error.strerror or one_line(error)}"
        yield Finding("cache", "results", MISSING, text, "export CODI_BENCH_CACHE=FOLDER")
    yield _hub_cache()


def _hub_cache() -> Finding:
    finding = partial(Finding, "cache", "hub")
    try:
        from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

        note = " (offline: HF_HUB_OFFLINE is set)" if HF_HUB_OFFLINE else ""
        num_folders = len([*os.scandir(HF_HUB_CACHE)]) if Path(HF_HUB_CACHE).exists() else 0
        return finding(OK, f"{num_folders} folders{note}, in {HF_HUB_CACHE}")
    except Exception as error:
        return finding(MISSING, f"cannot be read: {one_line(error)}", "export HF_HOME=FOLDER")


# Models and problem sets


def _models() -> Iterator[Finding]:
    for model in REGISTRY.values():
        yield from _safely_model(model)


def _safely_model(model: ModelEntry) -> Iterator[Finding]:
    finding = partial(Finding, "models", model.name)
    try:
        if model.control_of and not model.folder.is_dir():
            yield finding(MISSING, "its weights are in the repository alone", "pip install -e .  # in a clone of the repository")
        elif model.embedded:
            _check_weights(model.folder)
            yield finding(OK, model.whence)
        else:
            assert model.hub is not None and model.base is not None  # not embedded
            if not any(_cached(model.hub, file) for file in ([model.weights] if model.weights else ANY_WEIGHTS)):
                yield finding(MISSING, "not downloaded", model.download)
            elif not all(_cached(model.base, file) for file in BASE):
                yield finding(MISSING, "base not downloaded", f"hf download {model.base}")
            else:
                yield finding(OK, f"{model.hub} over {model.base}, in the hub cache")
    except Exception as error:
        state, mend = (BROKEN, REINSTALL) if model.embedded else (MISSING, "")
        yield finding(state, f"cannot be read: {one_line(error)}", mend)


def _check_weights(folder: Path) -> None:
    """Raises what is wrong with a folder of ours: a file that is not there, or weights that are cut off."""
    from safetensors import safe_open

    for name in ("config.json", "codi.json", "tokenizer.json"):
        (folder / name).read_text(encoding="utf-8")
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        file.keys()


def _cached(repository: str, file: str) -> bool:
    """Is that file of a repository in the hub's cache? The network is not asked."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, file), str)


def _problem_sets() -> Iterator[Finding]:
    yield Finding("problem sets", "generated", OK, "made when they are needed")
    for name, hub in HUBS.items():
        try:
            from datasets import config

            folder = Path(config.HF_DATASETS_CACHE) / hub.name.replace("/", "___").lower()
            there, text = next(folder.rglob("*.arrow"), None) is not None, "not downloaded"
        except Exception as error:
            there, text = False, f"cannot be looked for: {one_line(error)}"
        mend = f"codi-bench problems {name} --out {name}.jsonl"
        yield Finding("problem sets", name, OK, hub.name) if there else Finding("problem sets", name, MISSING, text, mend)


def _extras() -> Iterator[Finding]:
    for module, (package, purpose, mend) in EXTRAS.items():
        try:
            if find_spec(module) is None:
                raise PackageNotFoundError(package)
            yield Finding("extras", package, OK, version(package))
        except PackageNotFoundError:
            yield Finding("extras", package, MISSING, f"for {purpose}", mend)


# What can be done with all that


def _jobs(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Each kind of work with its command, or with what it still needs."""
    by_name = {(finding.part, finding.name): finding for finding in findings}
    job = partial(Finding, "what you can do")
    if faults := broken(findings):
        names = ", ".join(f"{fault.name} {fault.text}" for fault in faults)
        yield job("the study", BROKEN, f"needs: {names}", faults[0].mend)
        return
    pair = ", ".join(EMBEDDED)
    for name, command in (
        ("study", "codi-bench run"),
        ("questions", "codi-bench run -m questions"),
        ("literature", "codi-bench run -m literature"),
    ):
        yield job(name, OK, f"{command}, on {pair}")
    gsm8k = by_name["problem sets", "gsm8k"]
    ready = [model for model in REGISTRY if by_name["models", model].state == OK and not REGISTRY[model].embedded]
    gpus = [
        finding for finding in findings if finding.part == "devices" and finding.name.startswith("cuda") and finding.state == OK
    ]
    yield _published([model for model in ready if REGISTRY[model].problems == "gsm8k"], gpus, gsm8k, by_name)
    for model in (model for model in ready if REGISTRY[model].problems != "gsm8k"):
        problems = f"--problems {REGISTRY[model].problems}=FILE"
        yield job(model, OK, f"codi-bench run {'-m gpu' if gpus else '--device cpu'} --model {model} {problems}")
    yield job("your own", OK, "codi-bench run --model mine=DIR --base mine=BASE; codi-bench audit probes FILE")
    yield job("training", OK, "codi-bench train gpt2-mini; codi-bench sweep")


def _published(ready: list[str], gpus: list[Any], gsm8k: Finding, by_name: dict[tuple[str, str], Finding]) -> Finding:
    """Can the other registered models be measured, and where?"""
    job = partial(Finding, "what you can do", "published models")
    if not ready:
        return job(MISSING, "no weights of them are here", by_name["models", "gpt2"].mend)
    if gsm8k.state != OK:
        return job(MISSING, f"{', '.join(ready)}: the problem set gsm8k is missing", gsm8k.mend)
    command = "codi-bench run -m gpu" if gpus else f"codi-bench run --model {ready[0]} --device cpu (slow; no GPU here)"
    return job(OK, f"{', '.join(ready)}: {command}")
