"""The command line of a run, and the suite that it asks for."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from codi_bench.errors import CodiBenchError

if TYPE_CHECKING:
    from codi_bench.suite.suite import Suite

GATED = ("gpu", "slow", "perf", "calibration", "stress")
ARGUMENTS = (  # options that `Suite` takes as they are
    *("models", "bases", "claims", "problems", "logs", "num_latents", "lora_alpha", "n", "permutations"),
    *("device", "dtype", "batch_size", "report", "baselines"),
)
SUITE = pytest.StashKey["Suite"]()
REFUSED = pytest.StashKey[CodiBenchError]()


def pytest_addoption(parser):
    option = parser.getgroup("codi-bench", "claims about continuous-thought models").addoption
    many = {"action": "append", "default": []}
    help = "measure only this registered model, or add (re-point) one in a folder or on the hub"
    option("--model", **many, dest="models", metavar="NAME[=PATH]", help=help)
    help = "the language model under a published checkpoint given with --model NAME=PATH: a folder or a hub name"
    option("--base", **many, dest="bases", metavar="NAME=PATH", help=help)
    option("--num-latents", type=int, help="K of the models given with --model NAME=PATH, if not 6")
    option("--lora-alpha", type=float, help="LoRA alpha of published checkpoints given so, if not 32")
    option("--claim", **many, dest="claims", metavar="ID", help="measure only this claim (repeatable)")
    help = "where a problem set lies: gsm8k=FILE, svamp=FILE, gsm-hard=FILE, multiarith=FILE or generated=FILE"
    option("--problems", **many, metavar="NAME=PATH", help=help)
    help = "a released log of decoded thoughts, on which is measured what it tells (codi-gpt2=FILE: of CODI's authors)"
    option("--log", **many, dest="logs", metavar="NAME=FILE", help=help)
    option("--n", type=int, help="use at most this many problems; nothing is compared with the records then")
    help = "label permutations of every null (default: 1000); with others nothing is compared with the records"
    option("--permutations", type=int, help=help)
    help = (
        "cpu, cuda (under -n one for each worker), cuda:N or auto (default: cpu for the embedded pair, cuda under -m gpu "
        "and if it is there)"
    )
    option("--device", default="auto", help=help)
    option("--dtype", default="auto", help="float32 (default), bfloat16 or float16")
    option("--batch-size", type=int, default=64, help="problems a batch; results do not depend on it")
    option("--report", type=Path, default=Path("report"), metavar="DIR", help="where table and results.json go (default: report)")
    option("--baselines", metavar="DIR", help="baseline files (default: those of the package)")
    option("--update-baselines", action="store_true", help="propose what was measured as recorded; never passes")
    # --strict is pytest's own option; here blocked, unchecked and not-run claims fail under it too


def suite_of(config) -> Suite:
    """The suite of this run, made once. Raises CodiBenchError for arguments or files that cannot be used."""
    if REFUSED in config.stash:
        raise config.stash[REFUSED]
    if SUITE not in config.stash:
        from codi_bench.suite.suite import Suite  # torch and transformers take seconds: only runs that measure load them

        arguments = {name: getattr(config.option, name) for name in ARGUMENTS}
        worker = re.search(r"\d+$", getattr(config, "workerinput", {}).get("workerid", ""))  # xdist names them gw0, gw1, …
        config.stash[SUITE] = Suite(**arguments, gpu=gpu_asked(config.option.markexpr), worker=int(worker[0]) if worker else None)
    return config.stash[SUITE]


def crowded(option, workers: int) -> str:
    """Says it where several workers are to share a GPU, "" where none are."""
    has_own = any("=" in model for model in option.models)
    if option.device != "cuda" and not (option.device == "auto" and (has_own or gpu_asked(option.markexpr))):
        return ""
    import torch

    count = torch.cuda.device_count()
    gpus = "1 GPU" if count == 1 else f"{count} GPUs"
    return f"{workers} workers share {gpus}; with -n {count} each has its own" if 0 < count < workers else ""


def gpu_asked(expression: str) -> bool:
    """Does `-m` ask for the marker gpu? The models of such a run, the embedded pair too, are measured on cuda."""
    from _pytest.mark.expression import Expression  # what -m itself uses

    if not expression:
        return False
    try:
        condition = Expression.compile(expression)
    except SyntaxError:
        return False  # pytest says so itself

    def selects(names: set[str]) -> bool:
        return condition.evaluate(lambda name, /, **_: name in names)

    # alone (`gpu`, `gpu or slow`) or beside others (`gpu and slow`) it makes the difference
    other_gates = [name for name in GATED if name != "gpu"]
    subsets = [{*names} for k in range(len(other_gates) + 1) for names in combinations(other_gates, k)]
    return any(selects({"gpu", *names}) and not selects(names) for names in subsets)


def strict(config) -> bool:
    """pytest's own --strict: an ini value since pytest 9, an option before."""
    try:
        return bool(config.getini("strict"))
    except ValueError:
        return bool(getattr(config.option, "strict", False))
