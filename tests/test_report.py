"""Tables and sentences from rows: every status is provoked, and no sentence says more than its rows.

What a whole report looks like, with every word and outcome, is in tests/golden.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import rows as built
from rows import printed, row, value

from codi_bench.errors import CodiBenchError
from codi_bench.records.results import read_results, write_results
from codi_bench.report.audit import evidence, says
from codi_bench.report.badge import BADGES
from codi_bench.report.contents import report_of
from codi_bench.report.render import FILES, next_steps, render, tables, terminal
from codi_bench.report.sentences import blocked_or_not_run
from codi_bench.report.table import CAME_OUT, CAME_OUT_LEGEND, LEGEND, SYMBOLS, WORDS, WORDS_LEGEND, number, place, results_table

HERE = Path("report")
CLAIMS = ("task-accuracy", "probe-accuracy", "probe-best", "probe-by-layer", "ablation", "spread", "size")
PROBES = row(
    null=value(0.851, 0.82, 0.88, p=0.12),
    validity="ARTEFACT",
    detail={"validity": "38.7 over chance, 35.1 of it from the null", "grid": [[0.9] * 6] * 3},
)
HELD_OUT = row(
    protocol="sound",
    n=400,
    measured=value(0.54, 0.481, 0.599),
    null=value(0.52, 0.44, 0.59, p=0.3),
    validity="REFUTED",
    detail={"validity": "effect +2.0 points, Delta +21.0"},
)
FAR = value(-0.999, -1.0, -0.998)
WIDEST = {"n": 1319, "null": {**FAR, "p": 0.001}, "measured": FAR, "cell": {"layer": 15, "latent_pos": "bot"}}


def environment(**more):
    return built.environment(dict.fromkeys(CLAIMS, "a family"), **more)


def lines_of(rows, **more):
    """The lines of the long table."""
    return tables(rows, environment(**more)).splitlines()


def in_one(rows, **more):
    """Its words with one space between them."""
    return " ".join("\n".join(lines_of(rows, **more)).split())


def markdown(rows, known=None):
    return FILES["report.md"](report_of(rows, known or environment()))


def texts_of(rows, *heads, model="gpt2-mini"):
    """Cells of a model's table under some heads, by claim."""
    return [(line.groups[-1], *(str(line[head]) for head in heads)) for line in results_table(rows, environment(), model).lines]


# --- the tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "heads", "numbers"),
    [
        ("gpt2-mini", ["GPT-2 reported"], ["92.1"]),
        ("llama-mini", ["LLaMA-1B reported"], ["97.6"]),
        ("mine", ["GPT-2 reported", "LLaMA-1B reported"], ["92.1", "97.6"]),
        ("coconut-gpt2", ["Coconut reported"], ["33.1"]),
    ],
)
def test_every_model_has_its_table_beside_its_counterpart(model, heads, numbers):
    own = row(model=model, reported=value(0.331) if model == "coconut-gpt2" else None)
    rows = [printed(), printed("llama-3.2-1b", 0.9761), row(model="other"), own]
    table = report_of(rows, environment()).tables[model]
    assert [column.head for column in table.columns if column.head.endswith(" reported")] == heads
    assert [line[head].text for line in table.lines for head in heads] == numbers
    assert f"mean, % {' '.join(numbers)} 88.7 [85.1, 91.9]" in in_one(rows)


def test_no_two_things_share_a_sign():
    signs = [*SYMBOLS.values(), *WORDS.values(), *CAME_OUT.values(), "*"]
    assert len(set(signs)) == len(signs)
    assert all(sign in LEGEND + WORDS_LEGEND + CAME_OUT_LEGEND for sign in signs)
    assert all(f"{sign} {word}" in WORDS_LEGEND + CAME_OUT_LEGEND for word, sign in (WORDS | CAME_OUT).items())


def test_the_n_that_would_decide_stands_on_the_sound_line_alone():
    sound = replace(HELD_OUT, validity="UNDERPOWERED", detail={"decide": 1140})
    reported = replace(sound, protocol="reported")  # has the word of the sound row, which says the n
    assert in_one([reported, sound]).count("n ≥ 1140") == 1


def test_a_claim_without_any_number_has_its_status_on_every_line():
    rows = [PROBES, HELD_OUT, printed(), row(metric="-", protocol="sound", status="blocked", reason="x", claim="ablation")]
    rows += [row("ablation", metric=f"drop_{i}", unit="points") for i in range(2)]
    shown = [cells for cells in texts_of(rows, "metric", "protocol", "regression") if cells[0] == "ablation"]
    expected = [("reported", "= SAME"), ("sound", "■ BLOCKED")]
    assert shown == [("ablation", f"drop_{i}, points", *cells) for i in range(2) for cells in expected]
    alone = [row("size", metric="-", status="blocked", reason="x", unit="")]
    assert ("size", "-", "■ BLOCKED") in texts_of(alone, "metric", "regression")


def test_layers_share_a_line_by_rank():
    rows = [row("probe-by-layer", metric=f"mean_L{layer}") for layer in (1, 2, 3)]
    rows += [printed(claim="probe-by-layer", metric="mean_L8", x=0.9), printed(claim="probe-by-layer", metric="mean_L9", x=0.8)]
    shown = {metric: cells for _, metric, *cells in texts_of(rows, "metric", "GPT-2 reported", "measured")}
    assert shown["mean, layer 2/3, %"] == ["90.0", "88.7 [85.1, 91.9]"] and shown["mean_L9, %"] == ["80.0", ""]


@pytest.mark.parametrize(
    ("metric", "cell", "text"),
    [
        ("range", {"layer": None, "latent_pos": 3}, "latent 3"),
        ("drop_3", {"layer": None, "latent_pos": 3}, ""),
        ("mean_L4", {"layer": 4, "latent_pos": None}, ""),
        ("mean", None, ""),
    ],
)
def test_a_place_is_named_unless_the_metric_says_it(metric, cell, text):
    assert place(row(metric=metric, cell=cell)) == text


@pytest.mark.parametrize(
    ("given", "unit", "text"),
    [
        (None, "points", ""),
        (value(-0.01), "points", "0.0"),
        (value(float("nan")), "points", ""),
        (value(104), "count", "104"),
        (value(1.2e9), "count", "1.2 B"),
    ],
)
def test_numbers_are_written_as_people_read_them(given, unit, text):
    assert number(given, unit) == text


def test_a_sign_stands_before_the_interval():
    assert number(value(0.5, 0.4, 0.6), "fraction", " %") == "50.0 % [40.0, 60.0]"


def test_a_reason_that_stopped_both_protocols_is_one_line():
    both = [row(status="blocked", reason="why", protocol=protocol) for protocol in ("reported", "sound")]
    assert blocked_or_not_run(both) == ["■ blocked gpt2-mini: 1 claim: why"]


# --- the paper it is printed on --------------------------------------------------------------------------------------


def wide_rows():
    """Everything as wide as it gets: intervals, bands, places, words, two columns of the study, long reasons."""
    detail = {"decide": 123456, "fragile": True, "validity": "x " * 90, "note": "y " * 90}
    return [
        *[printed(), printed("llama-3.2-1b", 0.9761)],
        *[
            row(claim, name, metric, protocol, validity="UNDERPOWERED", detail=detail, **WIDEST)
            for name in ("gpt2-mini", "llama-mini", "my-own-checkpoint")
            for protocol in ("reported", "sound")
            for claim, metric in (("probe-best", "accuracy"), ("probe-accuracy", "mean"), ("ablation", "explained_variance"))
        ],
        *[
            printed("llama-3.2-1b", 0.98, claim=claim, metric="accuracy", cell={"layer": 15, "latent_pos": 4})
            for claim in ("probe-best", "ablation")
        ],
    ]


@pytest.mark.parametrize("columns", ["40", "200"])
def test_no_line_is_wider_than_a_hundred_columns(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    shown = lines_of(wide_rows(), noise={"text": "noise " * 60}, families=10)
    assert max(map(len, shown)) <= 100
    assert not any("…" in line.replace("… UNDERPOWERED", "") for line in shown)  # nothing was cut off
    assert not any(line != line.rstrip() for line in shown)


@pytest.mark.parametrize("word", CAME_OUT)
def test_no_number_is_cut_where_there_are_reproductions_too(word):
    wide = {**WIDEST, "reported": value(0.98), "validity": "UNDERPOWERED", "detail": {"decide": 123456, "fragile": True}}
    rows = [row("probe-best", "gpt2", "explained_variance", how, reproduction=word, **wide) for how in ("reported", "sound")]
    rows.append(row("ablation", "gpt2", "drop_all", "sound", **wide, unit="points"))
    assert max(map(len, lines_of(rows))) <= 100
    parts = ("-99.9", "-1.0", "[-100.0, -99.8]", "1319", "n ≥ 123456", "… UNDERPOWERED*", word.split()[-1], CAME_OUT[word])
    assert all(part in in_one(rows) for part in parts)


@pytest.mark.parametrize("watched", [False, True])
def test_piped_text_has_no_colours(watched, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: watched, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = terminal([PROBES, HELD_OUT], environment(), HERE)
    assert ("\x1b[" in text) == watched and "⊘ refuted" in text.replace("\x1b[31m", "").replace("\x1b[0m", "")


def test_markup_in_rows_is_text():
    note = replace(PROBES, detail={"note": "a [red]note[/] [85.1] :100:"})
    text = in_one([note, row(status="blocked", metric="[b]max|", reason="[bold]why"), row(metric="a|*b*")])
    assert "a [red]note[/] [85.1] :100:" in text and "[bold]why" in text and "[b]max|" in text
    long = markdown([note, row(metric="a|*b*")]).partition("## gpt2-mini")[2]
    lines = [line for line in long.splitlines() if line.startswith("|")]
    assert r"| a\|\*b\*, %" in "".join(lines) and len({line.replace(r"\|", "").count("|") for line in lines}) == 1


# --- what the audit says ---------------------------------------------------------------------------------------------


def audit(*rows, **more):
    return "\n".join(says(rows, environment(**more)))


STOPPED = row(protocol="sound", metric="-", status="blocked", reason="a control fails")


@pytest.mark.parametrize(
    ("rows", "there", "not_there"),
    [
        ([row()], ["cells, fitted", "Held out: not in these results."], ["permuted", "ARTEFACT"]),
        ([replace(PROBES, validity=None), HELD_OUT], [], ["ARTEFACT"]),
        ([PROBES, replace(HELD_OUT, validity=None, detail={"no_validity": "too few"})], ["no word (too few)"], []),
        ([PROBES, replace(HELD_OUT, null=None)], ["with permuted labels they read"], [", with permuted labels"]),
        ([PROBES, STOPPED], ["Held out: blocked, a control fails."], []),
        ([HELD_OUT], ["gpt2-mini: held out, probes read 54.0 %"], []),
    ],
)
def test_what_a_row_does_not_carry_is_not_said(rows, there, not_there):
    text = audit(*rows)
    assert all(part in text for part in there) and not any(part in text for part in not_there)


def test_of_what_was_stopped_nothing_is_said():
    assert audit(row(status="blocked", reason="x"), replace(STOPPED, metric="mean")) == ""


def test_a_reported_row_that_repeats_the_sound_word_is_not_evidence_of_its_own():
    repeated = replace(PROBES, validity="REFUTED", detail=HELD_OUT.detail)
    assert "as the study measured, " not in audit(repeated, HELD_OUT)
    assert len(evidence([repeated, HELD_OUT], environment())) == 1
    surface = replace(HELD_OUT, validity="ARTEFACT")
    for reported, own in ((replace(PROBES, detail={}), False), (replace(PROBES, detail=surface.detail), False), (PROBES, True)):
        assert ("makes the number itself" in audit(reported, surface)) == own
        assert len(evidence([reported, surface], environment())) == 1 + own


def test_the_headline_says_only_what_is_there():
    alone = audit(printed())
    assert "noise" not in alone and "The next sentences" not in alone
    assert "accuracy: 92.06 % (GPT-2)." in alone and "without a word: GPT-2." in alone
    assert "without a word: GPT-2 and LLaMA-1B." in audit(printed(), printed("llama-3.2-1b", 0.9761), PROBES)
    assert "ot measured in this run" not in audit(replace(PROBES, model="gpt2", reported=value(0.9206)))
    assert "headline" not in audit(PROBES, HELD_OUT)
    assert audit(noise={"text": "Noise reads 90 %."}) == "Noise reads 90 %."


# --- the page and the file -------------------------------------------------------------------------------------------


def test_an_older_run_without_sound_rows_still_renders(tmp_path):
    older = environment()
    for text in older["claims"].values():
        del text["sound"]
    rows = [printed(), row(), row("size", metric="layers", unit="count", n=1, measured=value(4))]
    write_results(tmp_path / "results.json", older, rows)
    assert json.loads((tmp_path / "results.json").read_text())["schema"] == 1
    known, read = read_results(tmp_path / "results.json")
    shown = render(read, known, tmp_path)
    assert "as published, mean 92.1 88.7 [85.1, 91.9]" in " ".join(shown.split())
    long = (tmp_path / "report.txt").read_text()
    assert not any(text in long for text in ("sound", "null", "validity", WORDS_LEGEND))
    assert "mean, % 92.1 88.7 [85.1, 91.9] 100 =" in " ".join(long.split())
    page = (tmp_path / "report.md").read_text()
    assert "## Evidence" not in page and "sound:" not in page and "| layers" in page


@pytest.mark.parametrize("further", [{"nobody": "reads this"}, {"scale": 0.5}, {}])
def test_details_that_a_report_does_not_read_stay_in_the_file(further, tmp_path):
    detail = {"note": "x", "control": {"model": "gpt2-mini-pause", "number": value(0.5), "word": None}, **further}
    for name in ("one", "again"):
        write_results(tmp_path / name, environment(), [row(detail=detail)])
        detail = read_results(tmp_path / name)[1][0].detail
    assert detail.keys() == {"note", "control", *further} and further.items() <= detail.items()


@pytest.mark.parametrize("control", [{"model": "mine"}, {"model": "", "number": value(0.5), "word": None}, "gpt2-mini-pause"])
def test_a_broken_control_is_no_results_file(control, tmp_path):
    write_results(tmp_path / "results.json", environment(), [row(detail={"control": control})])
    with pytest.raises(CodiBenchError, match="detail.control"):
        read_results(tmp_path / "results.json")


def test_every_file_lies_beside_the_results(tmp_path):
    shown = render([PROBES, HELD_OUT], environment(), tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    assert set(written) == {"report.html", *FILES, *BADGES}
    assert all("54" in text for name, text in written.items() if name not in BADGES)
    assert all(str(tmp_path / name) in "".join(shown.split()) for name in ("report.html", "report.txt"))
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg", ".png"}


@pytest.mark.parametrize("module", ["render", "page", "figures"])
def test_the_report_needs_neither_torch_nor_a_model(module):
    """In a process of its own: the other tests import everything."""
    rooms = ("torch", "transformers", "codi_bench.claims", "codi_bench.models", "codi_bench.suite")
    rooms += ("matplotlib", "jinja2", "pandas")  # a run that draws nothing does not pay for them
    code = f"import sys, codi_bench.report.{module}; print(*[name for name in sys.argv[1:] if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code, *rooms], capture_output=True, text=True, check=True).stdout.split() == []


# --- what the reader can do, and what to take away -------------------------------------------------------------------

NO_GPU = row(status="not-run", reason="this machine has no GPU; use a CPU")


@pytest.mark.parametrize(
    ("rows", "heads"),
    [
        ([row(), NO_GPU], []),
        ([row(status="blocked")], ["next, BLOCKED: mend"]),
    ],
)
def test_what_is_to_be_done_follows_from_the_rows(rows, heads):
    steps = next_steps(rows)
    assert len(steps) == len(heads) and all(step.startswith(head) for step, head in zip(steps, heads))


def test_of_many_drifts_the_terminal_shows_the_first():
    red = [row(metric=f"m{i}", regression="DRIFTED", reason=f"why {i}") for i in range(20)]
    shown = terminal(red, environment(), HERE).splitlines()
    assert sum("DRIFTED probe-accuracy" in line for line in shown) == 12
    assert any("✗ and 8 more in report/report.md" in line for line in shown)
