"""A claim, or a model, is added in one place, and changes nothing else: tried in a copy of the package."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codi_bench.claims import CLAIMS, FAMILIES
from codi_bench.claims.claim import Bench, claim
from codi_bench.store.files import package_folder
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import claim_code

ROOT, PACKAGE = Path(__file__).parent.parent, package_folder("baselines").parent
NEW, OLD = "scratch-single-again", "scratch-single"
RUN = """
import sys
import codi_bench
from codi_bench.claims import CLAIMS
from codi_bench.suite.bench import ModelBench
from codi_bench.suite.engine import claim_code
import json
result = codi_bench.run("gpt2-mini", claims=sys.argv[1:], n=40, progress=False)
rows = {f"{row.claim} {row.protocol} {row.metric}": [row.status, row.measured, row.validity] for row in result.rows}
print(json.dumps({"codes": {name: claim_code(each, ModelBench).text for name, each in CLAIMS.items()}, "rows": rows}))
"""


@pytest.fixture
def copy(tmp_path):
    """The package with its baselines and benchmarks, to be written in."""
    ignored = shutil.ignore_patterns("__pycache__", "controls")
    for name in ("codi_bench", "baselines", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "conftest.py", tmp_path)
    return tmp_path


def run(folder: Path, *command: str) -> str:
    variables = {**os.environ, "PYTHONPATH": str(folder)}
    result = subprocess.run([sys.executable, *command], cwd=folder, env=variables, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def source_of(name: str) -> str:
    """The text of a claim: its decorator and its function."""
    text = (PACKAGE / "codi_bench" / "claims" / "scratchpad.py").read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list and name in ast.unparse(node.decorator_list[0]):
            return "\n".join(text.splitlines()[node.decorator_list[0].lineno - 1 : node.end_lineno])
    raise AssertionError(name)


def test_a_claim_is_one_function_and_one_file_and_changes_nothing_else(copy):
    function = source_of(f"'{OLD}'").replace(f'"{OLD}"', f'"{NEW}"').replace("def single(", "def single_again(")
    module, figures = copy / "codi_bench" / "claims" / "scratchpad.py", copy / "baselines" / "gpt2" / f"{NEW}.json"
    module.write_text(module.read_text() + f"\n\n{function}\n")
    figures.write_text((copy / "baselines" / "gpt2" / f"{OLD}.json").read_text().replace(f'"{OLD}"', f'"{NEW}"'))
    assert len(function.splitlines()) <= 30 and len(figures.read_text().splitlines()) <= 40
    added = json.loads(run(copy, "-c", RUN, OLD, NEW).splitlines()[-1])
    codes = {name: claim_code(each, ModelBench).text for name, each in CLAIMS.items()}
    assert added["codes"] == codes | {NEW: codes[OLD]}
    rows = {key: row for key, row in added["rows"].items() if key.startswith(f"{OLD} ")}
    assert rows and all(added["rows"][key.replace(OLD, NEW, 1)] == row and row[0] == "ok" for key, row in rows.items())
    assert {row[2] for key, row in rows.items() if " sound " in key} != {None}
    tests = run(copy, "-m", "pytest", "benchmarks", "-q", "--collect-only", "--claim", NEW, "--model", "gpt2-mini")
    assert f"test_latents.py::test_latents[gpt2-mini-{NEW}]" in tests


def test_a_model_is_one_entry(copy):
    registry, folder = copy / "codi_bench" / "models" / "registry.py", copy / "codi_bench" / "embedded"
    shutil.copytree(folder / "gpt2-mini", folder / "mini-two")
    entry = 'ModelEntry("mini-two", "gpt2", layers=(1, 2, 3), sae_layers=(1, 2, 3), num_layers=4, width=104, beside="gpt2"),'
    registry.write_text(re.sub(r"(    for entry in \(\n)", rf"\1        {entry}\n", registry.read_text(), count=1))
    command = ("-m", "pytest", "benchmarks", "-q", "--claim", "size", "--claim", "ablation-critical", "--model", "mini-two")
    run(copy, *command, "--n", "40", "--report", str(copy / "report"))
    rows = json.loads((copy / "report" / "results.json").read_text())["rows"]
    found = {(row["claim"], row["metric"]) for row in rows if row["model"] == "mini-two" and row["status"] == "ok"}
    assert {("size", "parameters"), ("ablation-critical", "range")} <= found


def test_a_bench_has_few_members_and_a_claim_few_lines():
    assert len([name for name in vars(Bench) if not name.startswith("_")]) <= 10
    lengths = {}
    for each in CLAIMS.values():
        lines, _ = inspect.getsourcelines(each.function)  # the decorator is a part of it
        lengths[each.id] = len(lines)
    assert sorted(lengths.values())[len(lengths) // 2] <= 25 and max(lengths.values()) <= 40, lengths


def test_no_family_exceeds_its_budget():
    for name, family in FAMILIES.items():
        count = sum(each.family == name for each in CLAIMS.values())
        assert count and (family.budget is None or count <= family.budget)


def sentence(bench, published):
    """It holds."""
    yield []
    yield []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "size"}, "claim 'size': a claim with this id exists already"),
        ({"family": "latent"}, "claim 'mine': there is no family 'latent'"),
        ({"kind": "maybe"}, "claim 'mine': there is no kind 'maybe'"),
    ],
)
def test_a_claim_that_cannot_be_is_refused(change, message):
    given = {"id": "mine", "source": "s", "family": "latents", "kind": "exists", "n": 1, "protocol": "p", "sound": "q"} | change
    with pytest.raises(ValueError, match=message):
        claim(given.pop("id"), given.pop("source"), **given)(sentence)
    assert "mine" not in CLAIMS


def test_a_claim_beyond_the_budget_or_without_a_sentence_is_refused(monkeypatch):
    monkeypatch.setitem(FAMILIES, "latents", type(FAMILIES["latents"])(budget=29))
    given = {"family": "latents", "kind": "exists", "n": 1, "protocol": "p", "sound": "q"}
    with pytest.raises(ValueError, match="the budget of the family 'latents', 29 claims, is used up"):
        claim("mine", "s", **given)(sentence)
    with pytest.raises(ValueError, match="needs a docstring"):
        claim("mine", "s", **given)(lambda bench, published: iter(()))
