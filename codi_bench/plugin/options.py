"""The command line of a run, and the suite that it asks for."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from codi_bench.errors import CodiBenchError

if TYPE_CHECKING:
    from codi_bench.suite.suite import Suite

STUDY = "study"  # measured where `-m` names no suite
SUITES = (STUDY, "questions", "literature")
EXTRA = ("perf", "calibration", "stress")  # benchmarks that run where `-m` names them
MARKERS = ("gpu", *SUITES, *EXTRA)
MANY = {"action": "append", "default": []}
OPTIONS: dict[str, dict[str, Any]] = {
    "models": MANY
    | {
        "flag": "--model",
        "metavar": "NAME[=PATH]",
        "help": "Measure this model: a registered name, or a name of your choice with its folder or hub name (mine=./dir). "
        "Repeatable; only the models that you name are measured.",
    },
    "bases": MANY
    | {
        "flag": "--base",
        "metavar": "NAME=PATH",
        "help": "The language model under a published checkpoint given as --model NAME=PATH: a folder or a hub name. Repeatable.",
    },
    "num_latents": {
        "type": int,
        "metavar": "K",
        "help": "Number of latent thoughts of the models given as --model NAME=PATH. Default: what the checkpoint says, else 6.",
    },
    "lora_alpha": {
        "type": float,
        "metavar": "ALPHA",
        "help": "LoRA alpha of published checkpoints given as --model NAME=PATH. Default: 32.",
    },
    "claims": MANY
    | {
        "flag": "--claim",
        "metavar": "ID",
        "help": "Measure this claim, whatever suite it is in (`codi-bench claims` lists them). Repeatable.",
    },
    "problems": MANY
    | {
        "metavar": "NAME=FILE",
        "help": "Read a problem set from a file: gsm8k=FILE, svamp=FILE, gsm-hard=FILE, multiarith=FILE, prosqa=FILE, "
        "prontoqa=FILE or generated=FILE. The name gsm-symbolic alone makes that set. Repeatable. Default: the hub, or generated "
        "problems.",
    },
    "released": MANY
    | {
        "metavar": "PATH",
        "help": "Measure claims on released outputs of other models: a file or a folder, recognised by its content. It adds the "
        "claims and models that it holds results of. Repeatable.",
    },
    "logs": MANY
    | {
        "flag": "--log",
        "metavar": "NAME=FILE",
        "help": "Measure claims on your own log of decoded thoughts. Repeatable.",
    },
    "n": {
        "type": int,
        "metavar": "N",
        "help": "Use at most this many problems: a quick look, which is not compared with the records.",
    },
    "permutations": {
        "type": int,
        "metavar": "N",
        "help": "Label permutations for each null distribution. Default: 1000; with another number nothing is compared with the "
        "records.",
    },
    "device": {
        "default": "auto",
        "metavar": "DEVICE",
        "help": "Where to compute: cpu, cuda, cuda:N or auto. Default: auto, which is the CPU for the embedded pair, and a GPU, "
        "if there is one, for other models and under -m gpu. Under pytest -n each worker takes a GPU of its own.",
    },
    "dtype": {"default": "auto", "metavar": "TYPE", "help": "Number format: float32 (default), bfloat16 or float16."},
    "batch_size": {
        "type": int,
        "default": 64,
        "metavar": "N",
        "help": "Problems per batch. Default: 64. It changes speed and memory, but no result.",
    },
    "report": {
        "type": Path,
        "default": Path("report"),
        "metavar": "DIR",
        "help": "Folder for results.json, the table, the page and the figures. Default: report.",
    },
    "baselines": {"metavar": "DIR", "help": "Folder of recorded baselines to compare with. Default: the package's own."},
    "update_baselines": {
        "action": "store_true",
        "default": False,
        "help": "Propose the measured numbers as new baselines. Such a run always fails; look at the proposals with "
        "`codi-bench baselines diff`.",
    },
}
PYTESTS: dict[str, dict[str, Any]] = {  # options of pytest itself and of its plugins that a run is often given
    "markers": {
        "flag": "-m",
        "metavar": "SUITE",
        "help": "Measure another suite: questions, literature, perf, calibration or stress; gpu: every registered model on "
        "a GPU. Expressions such as -m 'study or questions' work too. Default: study.",
    },
    "strict": {
        "flag": "--strict",
        "help": "Fail also where a claim could not be judged: blocked, unchecked or not run.",
    },
    "workers": {"flag": "-n", "metavar": "WORKERS", "help": "Measure in this many processes (needs pytest-xdist)."},
    "stop": {"flag": "-x", "help": "Stop at the first failure."},
    "last_failed": {"flag": "--lf", "help": "Measure again only what failed in the last run here."},
    "list_only": {"flag": "--collect-only", "help": "List what would be measured, and measure nothing."},
    "junit": {"flag": "--junitxml", "metavar": "FILE", "help": "Write the outcomes as JUnit XML too, for your CI."},
}
SUITE = pytest.StashKey["Suite"]()
REFUSED = pytest.StashKey[CodiBenchError]()
WHY_REFUSED = "codi-bench refused"  # of what a worker of xdist tells when it ends


def refuse(config, why: str) -> None:
    """End a run before anything is measured; what pytest remembers of the last one stays as it was."""
    for name in ("nfplugin", "lfplugin"):
        if plugin := config.pluginmanager.get_plugin(name):
            config.pluginmanager.unregister(plugin)
    pytest.exit(why, returncode=2)


def add_options(parser) -> None:
    """Register our options; one that another plugin has registered is read where it is."""
    group = parser.getgroup("codi-bench", "claims about continuous-thought models")
    others = {name for other in (parser._anonymous, *parser._groups) for option in other.options for name in option.names()}
    for name, option in OPTIONS.items():
        if _flag(name) not in others:
            attributes = {key: value for key, value in option.items() if key != "flag"}
            group.addoption(_flag(name), dest=f"codi_bench_{name}", **attributes)


def shown_options() -> dict[str, dict[str, Any]]:
    """What `codi-bench run --help` lists, with flag and panel; an option without a metavar takes no value."""
    ours = {name: {**option, "flag": _flag(name), "panel": "Options"} for name, option in OPTIONS.items()}
    return ours | {name: {**option, "panel": "Options of pytest"} for name, option in PYTESTS.items()}


def given(config) -> SimpleNamespace:
    """Our options as they were given; what another plugin registered is made what we take."""
    return SimpleNamespace(**{name: _value(config, name, option) for name, option in OPTIONS.items()})


def _flag(name: str) -> str:
    return OPTIONS[name].get("flag", f"--{name.replace('_', '-')}")


def _value(config, name: str, option: dict[str, Any]) -> Any:
    value, kind = config.getoption(_flag(name)), option.get("type", str)
    if value is None:
        return option.get("default")
    if option.get("action") == "append" and isinstance(value, str):
        return [value]
    return kind(value) if isinstance(value, str) else value


def suite_of(config) -> Suite:
    """The suite of this run, made once. Raises CodiBenchError for arguments or files that cannot be used."""
    if REFUSED in config.stash:
        raise config.stash[REFUSED]
    if SUITE not in config.stash:
        from codi_bench.suite.suite import Suite  # torch and transformers take seconds: only runs that measure load them

        arguments = vars(given(config)) | {"gpu": gpu_asked(config.option.markexpr)}
        if not arguments["gpu"]:
            arguments["models"] = _models_to_measure(config, arguments["models"])
        del arguments["update_baselines"]
        worker = re.search(r"\d+$", getattr(config, "workerinput", {}).get("workerid", ""))  # xdist names them gw0, gw1, …
        config.stash[SUITE] = Suite(**arguments, worker=int(worker[0]) if worker else None)
    return config.stash[SUITE]


def _models_to_measure(config, models: list[str]) -> list[str]:
    """These models, and those that tests given by name are about (`test_size[gpt2-size]`, copied from a run with -m gpu)."""
    from codi_bench.claims import CLAIMS
    from codi_bench.models.registry import EMBEDDED, REGISTRY

    parameters = {re.sub(r"^.*\[|\]$", "", test) for _, test in names_given(config)}
    by_test = {name for name in REGISTRY for claim in CLAIMS if f"{name}-{claim}" in parameters}
    others = sorted(by_test - {model.partition("=")[0] for model in models or EMBEDDED})
    return [*others, *(models or EMBEDDED)] if others else models


def names_given(config) -> set[tuple[Path, str]]:
    """File and test of every argument FILE::TEST."""
    arguments = [argument.partition("::") for argument in config.args]
    return {((config.invocation_params.dir / path).resolve(), test) for path, _, test in arguments if test}


def crowded(option, expression: str, workers: int) -> str:
    """Says it where several workers are to share a GPU, "" where none are. option: as `given`; expression: of `-m`."""
    has_own = any("=" in model for model in option.models)
    if option.device != "cuda" and not (option.device == "auto" and (has_own or gpu_asked(expression))):
        return ""
    import torch

    count = torch.cuda.device_count()
    gpus = "1 GPU" if count == 1 else f"{count} GPUs"
    return f"{workers} workers share {gpus}; with -n {count} each has its own" if 0 < count < workers else ""


def gpu_asked(expression: str) -> bool:
    """Does `-m` ask for the marker gpu? The models of such a run, the embedded pair too, are measured on cuda."""
    # alone (`gpu`, `gpu or perf`) or beside others (`gpu and study`) it makes the difference
    others = [name for name in MARKERS if name != "gpu"]
    subsets = [names for k in range(len(others) + 1) for names in combinations(others, k)]
    return bool(expression) and any(selects(expression, "gpu", *names) and not selects(expression, *names) for names in subsets)


def selects(expression: str, *markers: str) -> bool:
    """Does `-m` select what has these markers, by what -m itself uses? Of an expression that is none pytest says so."""
    from _pytest.mark.expression import Expression

    try:
        return not expression or Expression.compile(expression).evaluate(lambda name, /, **_: name in markers)
    except SyntaxError:
        return False


def named(expression: str) -> set[str]:
    """Our markers that `-m` names."""
    return {*MARKERS} & {*re.findall(r"\w+", expression)}


def strict(config) -> bool:
    """pytest's own --strict: an ini value since pytest 9, an option before."""
    try:
        return bool(config.getini("strict"))
    except ValueError:
        return bool(getattr(config.option, "strict", False))
