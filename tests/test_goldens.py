"""What the report looks like, kept as files: fixed results with every outcome, rendered and compared letter by letter.

After a wanted change: `CODI_BENCH_GOLDEN=1 pytest tests/test_goldens.py` writes the files anew and fails; look at their diff.
"""

import csv
import difflib
import io
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
import rows as built
from rows import value

from codi_bench.records.results import Row
from codi_bench.report import render as rendering
from codi_bench.report.contents import report_of
from codi_bench.report.export import COLUMNS, escaped
from codi_bench.report.page import page
from codi_bench.report.render import terminal

GOLDEN = Path(__file__).parent / "golden"
REGENERATE = "CODI_BENCH_GOLDEN"
CLAIMS = {
    "task-accuracy": ("task accuracy", "value", "The model answers this share of the problems correctly."),
    "probe-accuracy": ("probes", "value", "Probes tell right from wrong answers."),
    "probe-best": ("probes", "location", "One cell is the best for a probe."),
    "ablation": ("ablation", "value", "Removing token t costs this many points of accuracy."),
    "spread": ("probes", "even", "Information is concentrated (GPT-2) or even (LLaMA)."),
    "size": ("size", "fact", "LLaMA has 100 % more layers & parameters."),
}


def row(number, model, x=None, low=None, high=None, why="", **more):
    """number: claim and metric, and "sound" where it is not the reported protocol; why: of the words and the regression."""
    claim, metric, *sound = number.split()
    given = {"reason": why} | ({"measured": value(x, low, high)} if more.get("status", "ok") == "ok" else {"measured": None})
    return built.row(claim, model, metric, *sound, **given | more)


def environment():
    pair = ["gpt2-mini", "llama-mini"]
    accuracy = {"claim": "task-accuracy", "metric": "accuracy", "unit": "fraction", "test": "exact McNemar on the same problems"}
    tau = {"claim": "spread", "metric": "tau", "unit": "points", "test": "difference of two estimates", "p": None, "winner": None}
    auc = {"claim": "probe-best", "metric": "auc", "unit": "fraction", "test": "bootstrap"}
    claims = {
        name: {
            **{"position": i, "family": family, "kind": kind, "sentence": sentence, "source": "A study, §1"},
            **{"protocol": f"{name}, as published", "sound": f"{name}, held out"},
        }
        for i, (name, (family, kind, sentence)) in enumerate(CLAIMS.items())
    }
    return {
        "claims": claims,
        "date": "2026-01-01T00:00:00+00:00",
        "device": "cpu",
        "devices": {"gpt2": "NVIDIA H100 float32", "gpt2-mini": "cpu float32"},
        "families": 8,
        "inputs": {"gpt2-mini": {"weights": "a" * 64, "problems": "b" * 64}},
        "layers": {"gpt2": [4, 8, 11], "gpt2-mini": [1, 2, 3]},
        "noise": {"text": "On pure noise the same protocol reads 94.3 %."},
        "winners": {
            "1": {**accuracy, "models": pair, "difference": value(0.084, 0.041, 0.127), "p": 0.0004, "winner": pair[0]},
            "2": {**tau, "models": pair, "difference": value(-0.4, -1.5, 0.8)},
            "3": {**accuracy, "models": ["gpt2-mini", "c"], "difference": value(0.001, -0.04, 0.05), "p": 0.5, "winner": None},
            "4": {**auc, "models": pair, "difference": value(0.052, 0.01, 0.1), "p": 0.01, "winner": "gpt2-mini"},
        },
    }


def published():
    """The study's GPT-2, measured: every outcome of a reproduction. Its LLaMA: missing."""
    same, other = {"reproduction": "same list: D = 0.0 points"}, {"reproduction": "other list"}
    artefact = other | {"validity": "+41.2 over the nominal null, 35.1 of it the protocol's own"}
    null, best = (
        value(0.851, 0.82, 0.884, p=0.006, quantiles=[0.81 + 0.004 * i for i in range(21)]),
        {"null": value(0.991, 0.94, 1.0, p=0.9), "cell": {"layer": 11, "latent_pos": "bot"}},
    )
    mean = {"null": null, "reported": value(0.9206), "reproduction": "INCONCLUSIVE", "validity": "ARTEFACT", "detail": artefact}
    mean["seeds"] = {"folds": 42}
    accuracy = {"n": 1319, "reported": value(0.437), "reproduction": "REPRODUCED", "detail": same}
    absent = {"status": "not-run", "why": "this machine has no GPU; `--device cpu` measures on the CPU"}
    return [
        row("task-accuracy accuracy", "gpt2", 0.4367, 0.4101, 0.4636, **accuracy),
        row("probe-accuracy mean", "gpt2", 0.9117, 0.888, 0.934, **mean),
        row("probe-best accuracy", "gpt2", 0.96, reported=value(1.0), reproduction="NOT REPRODUCED", **best),
        row("probe-best auc sound", "gpt2", 0.614, 0.552, 0.67, n=1319, validity="SUPPORTED"),
        row("task-accuracy accuracy", "llama-3.2-1b", reported=value(None, 0.5, 0.6), **absent),
        row("probe-accuracy mean", "llama-3.2-1b", reported=value(0.9761), **absent),
    ]


def embedded():
    """The embedded pair: the four words, fragile, as recorded, drifted, blocked."""
    red = {"regression": "DRIFTED", "why": "metric 'sound accuracy': stored 0.7, measured 0.669, tolerance 1e-06"}
    accuracy = {"n": 1000, "null": value(0.054, p=3.9e-168), "validity": "SUPPORTED", **red}
    mean = {"decide": 401, "validity": "effect +5.4 points, Delta +7.1", "fragile": True}
    auc = {"cell": {"layer": 1, "latent_pos": 2}, "detail": {"validity": "effect -0.2 points, p = 0.24 (surface), n = 400"}}
    even = {"validity": "even, claimed concentrated: Q = 23.8 (p = 0.13)", "note": "spread: even"}
    drop = {"unit": "points", "n": 300, "null": value(0.0, p=0.2)}
    missing = {"unit": "points", "regression": "DRIFTED", "why": "metric 'tau' is recorded and was not measured"}
    under = {"validity": "UNDERPOWERED"}
    return [
        row("task-accuracy accuracy", "gpt2-mini", 0.516, 0.485, 0.547, n=1000),
        row("task-accuracy accuracy sound", "gpt2-mini", 0.669, 0.639, 0.697, **accuracy),
        row(
            "probe-accuracy mean sound",
            "gpt2-mini",
            0.761,
            0.727,
            0.792,
            n=400,
            null=value(0.707, 0.704, 0.708),
            detail=mean,
            **under,
        ),
        row(
            *("probe-best auc sound", "gpt2-mini", 0.82, 0.75, 0.88),
            **{"n": 400, "null": value(0.55, 0.48, 0.61, p=0.005), "validity": "ARTEFACT", **auc},
        ),
        row("ablation drop_0 sound", "gpt2-mini", 0.7, -1.5, 2.9, detail={"decide": 1008}, **under, **drop),
        row("ablation drop_1 sound", "gpt2-mini", 1.0, -2.3, 4.4, detail={"decide": 2303}, **under, **drop),
        row("ablation drop_4 sound", "gpt2-mini", 19.3, 14.3, 24.2, detail={"fragile": True}, validity="SUPPORTED", **drop),
        row("ablation drop_all sound", "gpt2-mini", 36.0, 29.5, 42.0, detail={"no_validity": "a control"}, **drop),
        row("spread tau sound", "gpt2-mini", 0.9, 0.0, 1.7, unit="points", n=400, validity="REFUTED", detail=even),
        row("size parameters", "gpt2-mini", 570440, unit="count", n=1),
        row("ablation - sound", "llama-mini", status="blocked", why="self-replacement changed 3 answers", unit=""),
        row("spread tau sound", "llama-mini", status="blocked", **missing),
    ]


def own():
    """A user's own model: nothing is recorded for it. Its name and reason hold what LaTeX and CSV must escape."""
    refuted, few = {"n": 200, "null": value(0.26, p=0.61), "validity": "REFUTED"}, 'only 12 wrong answers, "50" & more are needed'
    return [
        row("task-accuracy accuracy sound", "my_model 50%", 0.25, 0.195, 0.314, regression="UNCHECKED", **refuted),
        row("probe-accuracy mean", "my_model 50%", status="blocked", why=few),
    ]


def all_rows():
    return published() + embedded() + own()


def page_text(html):
    """What a page says, a line a paragraph; a picture by its words."""
    html = re.sub(r"\s+", " ", re.sub(r"(?s)<style.*?</style>", "", html))
    html = re.sub(r'<div class="lanes"[^>]*aria-label="([^"]*)".*?</div>', r"<p>[\1]</p>", html)
    lines = re.sub(r"</?(p|h\d|li|tr|dt|section|summary|caption|div)\b[^>]*>", "\n", html).splitlines()
    said = (" ".join(unescape(re.sub("<[^>]+>", " ", line)).split()) for line in lines)
    return "".join(f"{line}\n" for line in said if line)


FILES = {
    **{name: lambda rows, known, write=write: write(report_of(rows, known)) for name, write in rendering.FILES.items()},
    "page.txt": lambda rows, known: page_text(page(report_of(rows, known), [])),
    "terminal.txt": lambda rows, environment: terminal(rows, environment, Path("no-folder")),
    "nothing-measured.txt": lambda rows, environment: terminal(published()[-2:], environment, Path("no-folder")),
}


def compare(path, text):
    """Fail where the file differs, with the difference; asked to write it, write it and fail all the same."""
    held = path.read_text(encoding="utf-8") if path.exists() else ""
    changed = "".join(difflib.unified_diff(held.splitlines(True), text.splitlines(True), f"golden {path.name}", "now"))
    if os.environ.get(REGENERATE):
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{path.name} was written anew: look at it, then run without {REGENERATE}\n{changed}", pytrace=False)
    if held != text:
        pytest.fail(f"{path.name} has changed; if it should, run with {REGENERATE}=1\n{changed}", pytrace=False)


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_the_golden_one(name, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    compare(GOLDEN / name, FILES[name](all_rows(), environment()))


def test_no_golden_file_is_left_over():
    assert {path.name for path in GOLDEN.iterdir()} == {*FILES, "figures.txt"}  # which test_figures.py compares


@pytest.mark.parametrize("held", [None, "one\ntwo\n"])
def test_a_difference_fails_with_it_and_writing_anew_never_passes(held, tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    if held:
        path.write_text(held)
    monkeypatch.delenv(REGENERATE, raising=False)
    with pytest.raises(pytest.fail.Exception, match=r"(?s)has changed.*\+\+\+ now\n.*\+three"):
        compare(path, "one\nthree\n")
    monkeypatch.setenv(REGENERATE, "1")
    for _ in range(2):
        with pytest.raises(pytest.fail.Exception, match="written anew"):
            compare(path, "one\nthree\n")
    monkeypatch.delenv(REGENERATE)
    compare(path, "one\nthree\n")


# --- what must be true of the files whatever is in the golden ones ---------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_nothing_that_is_not_there_is_printed(name):
    gone = [Row(**{**vars(row), "null": {"value": float("nan"), "low": None, "high": float("nan")}}) for row in all_rows()]
    for rows, known in ((all_rows(), environment()), (gone, environment()), (all_rows(), {}), ([], {})):
        assert not re.search(r"\b(None|nan|NaN)\b", FILES[name](rows, known))


def test_the_csv_has_every_row_once():
    read = list(csv.DictReader(io.StringIO(FILES["report.csv"](all_rows(), environment()))))
    keys = {(line["claim"], line["model"], line["metric"], line["protocol"]) for line in read}
    assert keys == {row.key for row in all_rows()} and len(read) == len(all_rows()) and tuple(read[0]) == COLUMNS
    line = next(line for line in read if line["metric"] == "auc" and line["model"] == "gpt2-mini")
    assert (line["family"], line["measured"], line["null_p"], line["fragile"]) == ("probes", "0.82", "0.005", "no")
    assert next(line["reason"] for line in read if "50" in line["reason"]) == 'only 12 wrong answers, "50" & more are needed'


def test_latex_is_ascii_balanced_and_escaped():
    text = FILES["report.tex"](all_rows(), environment())
    assert text.isascii() and text.count(r"\begin{longtable}") == 4
    opened = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        opened.append(name) if what == "begin" else (lambda last: last == name or pytest.fail(name))(opened.pop())
    assert not opened and text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[#%$^~]", body) and not re.search(r"(?<!\\)_", body)
    for part in re.findall(r"\\begin\{longtable\}\{(\w+)\}(.*?)\\end\{longtable\}", body, re.S):
        lines = [line for line in part[1].splitlines() if line.endswith(r"\\") and "caption" not in line]
        assert lines and all(len(re.findall(r"(?<!\\)&", line)) == len(part[0]) - 1 for line in lines)
    assert (
        r"my\_model 50\%" in text
        and r"\&" in escaped("&")
        and escaped("≠ modèle ≥ 5 – “x” ％") == "? modele at least 5 -- ``x'' ?"
    )


def test_a_long_table_has_every_metric_and_its_head_on_every_page():
    rows = [row(f"{claim} m{i}", "gpt2-mini", 0.5) for claim in ("probe-accuracy", "ablation") for i in range(30)]
    text = FILES["report.tex"](rows, environment())
    assert text.count(r"\begin{longtable}") == text.count(r"\endhead") == 1
    assert all(text.count(rf"\quad m{i}, ") == 2 for i in range(30))


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here; the rules above stand in for it")
def test_latex_compiles(tmp_path):
    page = (
        r"\documentclass{article}\usepackage{booktabs,longtable}\begin{document}"
        + FILES["report.tex"](all_rows(), environment())
        + r"\end{document}"
    )
    (tmp_path / "x.tex").write_text(page.replace("\\begin{document}%", "\\begin{document}\n%"))
    subprocess.run(["pdflatex", "-interaction=batchmode", "-halt-on-error", "x.tex"], cwd=tmp_path, check=True, timeout=60)
