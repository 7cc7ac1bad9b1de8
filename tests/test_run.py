"""`codi_bench.run`, measured for real on the cheapest claim: what comes out, what it refuses, what it leaves behind."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import codi_bench
import codi_bench.suite.notebook
from codi_bench.errors import CodiBenchError
from codi_bench.models.registry import REGISTRY
from codi_bench.records.results import Row, read_results

NUMBERS = {("layers", 4), ("width", 104)}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An empty working folder with a cache beside it, for the whole module."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODI_BENCH_CACHE", str(folder / "cache"))
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield folder


@pytest.fixture(scope="module")
def found(home):
    return codi_bench.run("gpt2-mini", ["size"])


class Text(HTMLParser):
    """The tags of a page, and what a browser would show of it."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.shown = set(), ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.shown += data


def test_only_what_was_asked_for_is_measured_and_compared(found):
    assert codi_bench.run is codi_bench.suite.notebook.run  # the door stays a function once its module is loaded
    assert {(row.claim, row.model, row.status, row.regression) for row in found.rows} == {("size", "gpt2-mini", "ok", "SAME")}
    assert {(row.metric, row.measured["value"]) for row in found.rows} >= NUMBERS
    assert {number["model"] for number in found.environment["published"]} >= {"gpt2", "llama-3.2-1b"}


def test_nothing_is_written_where_it_runs(found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codi_bench.run({"llama-mini": None}, "size", progress=False)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_measured_alone_under_its_own_name_and_claims_nothing(home):
    found = codi_bench.run({"mine": REGISTRY["gpt2-mini"].folder}, ["size"])
    assert {row.model for row in found.rows} == {"mine"}
    assert {row.regression for row in found.rows} == {"UNCHECKED"}
    assert (
        "?" in found.table() and "pure noise" not in found.table() and " unchecked" in repr(found) and " same" not in repr(found)
    )


def test_a_published_model_without_gpu_or_weights_is_a_row_that_says_so(home, monkeypatch):
    monkeypatch.setattr("codi_bench.suite.suite.available", lambda device: device == "cpu")
    found = codi_bench.run(["gpt2"], ["size"])
    assert {row.status for row in found.rows} == {"not-run"}
    assert "no GPU here" in found.table() and "no GPU here" in found._repr_html_()
    assert "not-run" in repr(found)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"models": "gpt2-min"}, "unknown model 'gpt2-min'.*gpt2-mini, llama-mini, gpt2"),
        ({"claims": ["sizes"]}, "unknown claim 'sizes'.*size"),
        ({"models": []}, "models must be names"),
        ({"models": [3]}, r"models\[0\] must be text, got 3"),
        ({"claims": []}, "claims must be names"),
        ({"models": {"mine": "/nowhere"}}, "/nowhere"),
        ({"problems": "gsm8k"}, "write NAME=PATH"),
        ({"models": "gpt2-mini", "problems": {"gsm8k": "some.jsonl"}}, "gsm8k"),  # which this model is not asked
        ({"base": {"mine": "x"}}, "belongs to no model"),
        ({"n": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_measured(home, monkeypatch, asked, said, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("some.jsonl").write_text('{"question": "1+1?", "answer": 2, "steps": ["<<1+1=2>>"], "group": "a"}\n' * 3)
    monkeypatch.setattr("codi_bench.suite.suite.Suite.measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(CodiBenchError, match=said) as caught:
        codi_bench.run(**asked)
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)


def test_the_table_has_the_study_s_number_and_words_beside_signs(found):
    line = next(line for line in found.table().splitlines() if " layers " in line)
    assert line.split() == ["layers", "12", "4", "="] and "= as recorded" in found.table()
    assert max(map(len, found.table().splitlines())) <= 100


def test_html_is_self_contained_and_escapes_every_text(found):
    bad = "<script>alert('&')</script>"
    blocked = Row("size", bad, "-", "reported", "blocked", reason=bad)
    noted = replace(found.rows[0], detail={"note": bad})
    html = replace(found, rows=(*found.rows, noted, blocked))._repr_html_()
    page = Text(html)
    assert page.tags == {"div", "table", "caption", "b", "thead", "tr", "th", "tbody", "td", "p"}
    assert page.shown.count(bad) >= 3  # the model's name, the note and the reason
    assert "= SAME" in page.shown and "■ BLOCKED" in page.shown and "1 blocked" in page.shown


def test_a_data_frame_has_a_row_each_with_fixed_kinds(found):
    row = replace(
        found.rows[0],
        n=None,
        measured={"value": 0.5, "low": 0.25, "high": 0.75},
        null={"value": 0.1, "low": None, "high": None, "p": 0.01},
        cell={"layer": None, "latent_pos": "bot"},
        validity="SUPPORTED",
        detail={"fragile": True},
    )
    frame = replace(found, rows=(*found.rows, row)).to_pandas()
    kinds = {name: str(kind) for name, kind in frame.dtypes.items()}
    assert len(frame) == len(found.rows) + 1
    assert {name for name, kind in kinds.items() if kind == "Int64"} == {"n", "layer"}
    assert kinds["measured"] == kinds["null_high"] == kinds["p"] == "float64" and kinds["fragile"] == "bool"
    assert kinds["latent_pos"] == kinds["reason"] == "string"
    last = frame.iloc[-1]
    assert (last.measured_low, last.p, last.latent_pos, last.validity, last.fragile) == (0.25, 0.01, "bot", "SUPPORTED", True)
    assert frame.n.isna().iloc[-1] and frame.null_low.isna().iloc[-1] and not frame.fragile.iloc[0]
    empty = replace(found, rows=(Row("size", "mine", "-", "reported", "not-run", reason="no GPU here"),))
    assert empty.to_pandas().dtypes.equals(found.to_pandas().dtypes)


def test_takeaways_speak_of_noise_only_beside_probes(found):
    probe = Row("probe-accuracy", "gpt2-mini", "mean", "sound", "ok", unit="fraction", n=400, measured={"value": 0.54})
    noisy = replace(found, environment={**found.environment, "noise": {"text": "Noise reads 94.3 %."}})
    assert not any("Noise" in text for text in noisy.takeaways())
    assert "Noise reads 94.3 %." in " ".join(replace(noisy, rows=(*found.rows, probe)).takeaways())


def test_what_is_saved_reads_back(found, tmp_path):
    path = found.save(tmp_path / "deep" / "report")
    environment, rows = read_results(path)
    assert environment == found.environment
    assert sorted(rows, key=lambda row: row.key) == sorted(found.rows, key=lambda row: row.key)
    assert "size" in (path.parent / "report.md").read_text()
    with pytest.raises(CodiBenchError, match="cannot be written"):
        found.save(path)  # which is a file
    for folder in (None, 3, b"report", "a\0b"):
        with pytest.raises(CodiBenchError, match="folder must be a path"):
            found.save(folder)
    (tmp_path / "taken" / "report.html").mkdir(parents=True)
    with pytest.raises(CodiBenchError, match="report.html: cannot be written"):
        found.save(tmp_path / "taken")
    assert not (tmp_path / "taken" / "results.json").exists()


def test_a_bar_is_shown_only_where_somebody_watches_and_wants_it(home, capfd, monkeypatch):
    codi_bench.run("gpt2-mini", "size")
    assert "size on gpt2-mini" not in capfd.readouterr().err
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.delenv("CI", raising=False)
    codi_bench.run("gpt2-mini", "size", progress=False)
    assert "size on gpt2-mini" not in capfd.readouterr().err
    codi_bench.run("gpt2-mini", "size")
    captured = capfd.readouterr()
    assert "size on gpt2-mini" in captured.err and not captured.out
