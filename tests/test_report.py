"""Tables and sentences from rows: every word and status is provoked, and no sentence says more than its rows."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from codi_bench.records.results import Row, read_results, write_results
from codi_bench.report import render as rendering
from codi_bench.report.audit import evidence, says, without_word
from codi_bench.report.render import markdown, next_steps, render, terminal
from codi_bench.report.table import (
    CAME_OUT,
    CAME_OUT_LEGEND,
    LEGEND,
    SYMBOLS,
    WORDS,
    WORDS_LEGEND,
    blocked_or_not_run,
    counts,
    number,
    place,
    table,
)
from codi_bench.report.takeaways import FALLS, HOLDS, OPEN, takeaways

HERE = Path("report")
CLAIMS = ("task-accuracy", "probe-accuracy", "probe-best", "probe-by-layer", "ablation", "spread", "size")


def claim_text(position, name):
    return {
        "position": position,
        "family": "a family",
        "sentence": f"{name} holds.",
        "source": "a study, §1",
        "protocol": f"{name} as published: no problem is held out",
        "sound": f"{name}, held out",
    }


def environment(**more):
    layers = {"gpt2": [4, 8, 11], "llama-3.2-1b": [8, 14, 15], "gpt2-mini": [1, 2, 3], "llama-mini": [2, 3, 4]}
    return {
        "device": "cpu",
        "claims": {name: claim_text(i, name) for i, name in enumerate(CLAIMS)},
        "layers": layers,
        "winners": {},
        **more,
    }


def value(x, low=None, high=None, **more):
    return {"value": x, "low": low, "high": high, **more}


def row(claim="probe-accuracy", model="gpt2-mini", metric="mean", protocol="reported", status="ok", **more):
    given = {
        "unit": "fraction",
        "n": 100,
        "measured": value(0.887, 0.851, 0.919) if status == "ok" else None,
        "regression": "SAME",
    }
    return Row(claim, model, metric, protocol, status, **{**given, **more})


def printed(model="gpt2", x=0.9206, **more):
    return row(model=model, status="not-run", reported=value(x), regression="UNCHECKED", reason="not asked for", **more)


NULL = value(0.851, 0.82, 0.88, p=0.12)
PROBES = row(
    null=NULL, validity="ARTEFACT", detail={"validity": "38.7 over chance, 35.1 of it from the null", "grid": [[0.9] * 6] * 3}
)
HELD_OUT = row(
    protocol="sound",
    n=400,
    measured=value(0.54, 0.481, 0.599),
    null=value(0.52, 0.44, 0.59, p=0.3),
    validity="REFUTED",
    detail={"validity": "effect +2.0 points, Delta +21.0"},
)


def lines_of(rows, **more):
    return terminal(rows, environment(**more), HERE).splitlines()


def cells_of(markdown_line):
    return [cell.strip() for cell in markdown_line.strip("|").split("|")]


# --- the tables ------------------------------------------------------------------------------------------------------


def test_a_line_has_the_study_s_number_what_it_did_and_what_is_sound():
    shown = lines_of([printed(), PROBES, HELD_OUT])
    at = shown.index("probe-accuracy")
    assert shown[at + 1].split() == [
        "mean,",
        "%",
        "92.1",
        "88.7",
        "[85.1,",
        "91.9]",
        *["85.1", "[82.0,", "88.0]", "100", "≈", "ARTEFACT", "="],
    ]
    assert shown[at + 2].split() == ["soundly", "54.0", "[48.1,", "59.9]", "52.0", "[44.0,", "59.0]", "400", "⊘", "REFUTED", "="]


def test_every_model_has_its_table_beside_its_counterpart():
    rows = [printed(), printed("llama-3.2-1b", 0.9761), *(row(model=name) for name in ("gpt2-mini", "llama-mini", "mine"))]
    text = "\n".join(lines_of(rows))
    gpt2, llama, mine = (text[text.index(f"\n{name} ") :].split("\n\n")[0] for name in ("gpt2-mini", "llama-mini", "mine"))
    assert "92.1" in gpt2 and "97.6" not in gpt2.split("\n=")[0]
    assert "97.6" in llama and "92.1" not in llama
    assert "GPT-2 LLaMA-1B" in " ".join(mine.split()) and "92.1" in mine and "97.6" in mine


def test_coconut_stands_beside_its_own_numbers_alone():
    own = row(model="coconut-gpt2", reported=value(0.331))
    shown = [" ".join(line.split()) for line in lines_of([own, printed()])]
    assert "coconut-gpt2 Coconut measured" in " ".join(shown) and not any("92.1" in line for line in shown)
    assert any(line.startswith("mean, % 33.1 88.7") for line in shown)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_shown_as_a_word_with_its_sign(word):
    rows = [replace(HELD_OUT, validity=word)]
    assert any(" ".join(line.split()).endswith(f"{WORDS[word]} {word} =") for line in lines_of(rows))
    assert f"{WORDS[word]} {word}" in markdown(rows, environment())
    assert f"{WORDS[word]} {word}" in WORDS_LEGEND


def test_no_two_things_share_a_sign():
    signs = [*SYMBOLS.values(), *WORDS.values(), *CAME_OUT.values(), "*"]
    assert len(set(signs)) == len(signs)
    assert all(sign in LEGEND + WORDS_LEGEND + CAME_OUT_LEGEND for sign in signs)


def test_underpowered_says_the_n_and_fragile_is_marked():
    found = replace(HELD_OUT, validity="UNDERPOWERED", detail={"decide": 1140, "fragile": True, "validity": "wide"})
    shown = lines_of([found])
    at = next(i for i, line in enumerate(shown) if "UNDERPOWERED*" in line)
    assert shown[at + 1].strip() == "n ≥ 1140"
    beside = replace(found, protocol="reported")  # has the word of the sound row, which says the n
    assert sum("n ≥ 1140" in line for line in lines_of([beside, found])) == 1
    text = markdown([found], environment())
    assert r"… UNDERPOWERED\*, n ≥ 1140" in text
    assert "**UNDERPOWERED (at least 1140 problems would decide, fragile)**: wide" in text


MARKS = {
    "=": {"regression": "SAME"},
    "✗": {"regression": "DRIFTED", "reason": "moved"},
    "?": {"regression": "UNCHECKED"},
    "■": {"status": "blocked", "reason": "a control fails", "regression": "UNCHECKED"},
    "■ ✗": {"status": "blocked", "reason": "vanished", "regression": "DRIFTED"},
}


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("protocol", ["reported", "sound"])
def test_every_status_is_shown_under_both_protocols(mark, protocol):
    rows = [PROBES, replace(HELD_OUT, metric="std")]
    bad = row(metric="max", protocol=protocol, **MARKS[mark])
    line = next(line for line in lines_of([*rows, bad]) if line.strip().startswith("max"))
    assert line.endswith(f" {mark}") and ("soundly" in line) == (protocol == "sound")
    text = markdown([*rows, bad], environment())
    said = bad.status.upper() if bad.status != "ok" else bad.regression
    assert any(cells_of(line)[-1].startswith(f"{mark} {said}") for line in text.splitlines() if "| max, %" in line)
    how = ", soundly" if protocol == "sound" else ""
    if "✗" in mark:
        assert f"- probe-accuracy on gpt2-mini{how}: {bad.reason}" in text
    if "■" in mark:
        assert f"■ blocked gpt2-mini: 1 claim{how}: {bad.reason}" in text


def test_a_claim_without_any_number_has_its_status_on_every_line():
    rows = [PROBES, HELD_OUT, printed(), row(metric="-", protocol="sound", status="blocked", reason="x", claim="ablation")]
    rows += [row("ablation", metric="drop_0", unit="points"), row("ablation", metric="drop_1", unit="points")]
    found = [line for line in table(rows, environment(), "gpt2-mini") if line.claim == "ablation"]
    assert [(line.metric, line.protocol, line.mark) for line in found] == [
        ("drop_0, points", "reported", "="),
        ("drop_0, points", "sound", "■"),
        ("drop_1, points", "reported", "="),
        ("drop_1, points", "sound", "■"),
    ]
    alone = table([row("size", metric="-", status="blocked", reason="x", unit="")], environment(), "gpt2-mini")
    assert ("size", "-", "■") in {(line.claim, line.metric, line.mark) for line in alone}


def test_layers_share_a_line_by_rank():
    rows = [row("probe-by-layer", metric=f"mean_L{layer}") for layer in (1, 2, 3)]
    rows += [printed(claim="probe-by-layer", metric="mean_L8", x=0.9), printed(claim="probe-by-layer", metric="mean_L9", x=0.8)]
    found = {line.metric: line for line in table(rows, environment(), "gpt2-mini")}
    assert found["mean, layer 2/3, %"].study == {"gpt2": ("90.0", "")} and found["mean, layer 2/3, %"].measured
    assert found["mean_L9, %"].study == {"gpt2": ("80.0", "")} and not found["mean_L9, %"].measured


def test_a_place_is_named_unless_the_metric_says_it():
    assert place(row(cell={"layer": 4, "latent_pos": "bot"})) == "L4 bot"
    assert place(row(cell={"layer": 4, "latent_pos": 1})) == "L4 latent 1"
    assert place(row(metric="range", cell={"layer": None, "latent_pos": 3})) == "latent 3"
    assert place(row(metric="drop_3", cell={"layer": None, "latent_pos": 3})) == ""
    assert place(row(metric="mean_L4", cell={"layer": 4, "latent_pos": None})) == place(row()) == ""
    best = row("probe-best", metric="accuracy", cell={"layer": 1, "latent_pos": 3})
    shown = lines_of([best])
    at = next(i for i, line in enumerate(shown) if "accuracy, %" in line)
    assert shown[at + 1].strip() == "L1 latent 3"
    assert "@ L1 latent 3" in markdown([best], environment())


def test_numbers_are_written_as_people_read_them():
    assert number(value(0.9206), "fraction") == "92.1" and number(value(0.5, 0.4, 0.6), "fraction", " %") == "50.0 % [40.0, 60.0]"
    assert number(value(None, 0.5, 0.6), "fraction") == "50.0–60.0" and number(None, "points") == ""
    assert number(value(-0.01), "points") == "0.0" and number(value(0.614, 0.5, 0.7), "auc") == "0.61 [0.50, 0.70]"
    assert [number(value(x), "count") for x in (104, 570440, 1.2e9)] == ["104", "0.57 M", "1.2 B"]
    auc = replace(HELD_OUT, claim="probe-best", metric="auc", measured=value(0.61, 0.55, 0.67))
    assert any(line.split()[:3] == ["auc,", "soundly", "0.61"] for line in lines_of([PROBES, auc]))


def test_rows_are_counted_over_both_protocols():
    rows = [PROBES, replace(HELD_OUT, regression="UNCHECKED"), printed(), row(metric="a", protocol="sound", status="blocked")]
    rows += [row(metric="b", regression="DRIFTED"), row(metric="c", status="blocked", regression="DRIFTED")]
    rows[3] = replace(rows[3], regression="UNCHECKED")
    assert counts(rows) == {"same": 1, "drifted": 2, "unchecked": 1, "blocked": 1, "not-run": 1}


def test_a_reason_that_stopped_both_protocols_is_one_line():
    both = [row(status="blocked", reason="why", protocol=protocol) for protocol in ("reported", "sound")]
    assert blocked_or_not_run(both) == ["■ blocked gpt2-mini: 1 claim: why"]


# --- the paper it is printed on --------------------------------------------------------------------------------------


def wide_rows():
    """Everything as wide as it gets: intervals, bands, places, words, two columns of the study, long reasons."""
    far = value(-0.999, -1.0, -0.998)
    rows = [printed(), printed("llama-3.2-1b", 0.9761)]
    for name in ("gpt2-mini", "llama-mini", "my-own-checkpoint"):
        for protocol in ("reported", "sound"):
            more = {"n": 1319, "null": {**far, "p": 0.001}, "measured": far, "cell": {"layer": 15, "latent_pos": "bot"}}
            detail = {"decide": 123456, "fragile": True, "validity": "x " * 90, "note": "y " * 90}
            for claim, metric in (("probe-best", "accuracy"), ("probe-accuracy", "mean"), ("ablation", "explained_variance")):
                rows.append(row(claim, name, metric, protocol, validity="UNDERPOWERED", detail=detail, **more))
    for claim in ("probe-best", "ablation"):
        rows.append(printed("llama-3.2-1b", 0.98, claim=claim, metric="accuracy", cell={"layer": 15, "latent_pos": 4}))
    return rows


@pytest.mark.parametrize("columns", ["40", "200"])
def test_no_line_is_wider_than_a_hundred_columns(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    shown = lines_of(wide_rows(), noise={"text": "noise " * 60}, families=10)
    assert max(map(len, shown)) <= 100
    assert not any("…" in line.replace("… UNDERPOWERED", "") for line in shown)  # nothing was cut off
    assert not any(line != line.rstrip() for line in shown)


@pytest.mark.parametrize("force", ["", "1"])
def test_piped_text_has_no_colours(force, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(rendering.sys.stdout, "isatty", lambda: bool(force), raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = terminal([PROBES, HELD_OUT], environment(), HERE)
    assert ("\x1b[" in text) == bool(force)
    assert "⊘" in text and "REFUTED" in text and "92" not in text


def test_markup_in_rows_is_text():
    rows = [
        replace(PROBES, detail={"note": "a [red]note[/] [85.1] :100:"}),
        row(status="blocked", metric="max", reason="[bold]why"),
    ]
    text = "\n".join(lines_of(rows))
    assert "a [red]note[/] [85.1] :100:" in text and "[bold]why" in text


def test_winners_notes_and_reproductions_stay():
    accuracy = {"claim": "task-accuracy", "metric": "accuracy", "unit": "fraction", "test": "McNemar"}
    lost = accuracy | {"models": ["a", "b"], "winner": "b", "p": 0.001, "difference": value(-0.052, -0.1, -0.01)}
    equal = accuracy | {"models": ["a", "c"], "winner": None, "p": 0.5, "difference": value(0.001, -0.04, 0.05)}
    tau = {"claim": "spread", "metric": "tau", "unit": "points", "test": "two estimates", "models": ["a", "b"], "winner": None}
    tau |= {"p": None, "difference": value(1.5, -2.0, 3.5)}
    auc = accuracy | {"metric": "auc", "claim": "probe-best", "models": ["a", "b"], "winner": "a", "p": 0.01}
    auc |= {"difference": value(0.052, 0.01, 0.1)}
    winner = {"1": lost, "2": tau, "3": auc}
    rows = [
        replace(HELD_OUT, detail={"note": "one split"}),
        row(model="gpt2", reported=value(0.9206), reproduction="INCONCLUSIVE", detail={"reproduction": "too few"}),
    ]
    for text in ("\n".join(lines_of(rows, winners=winner)), markdown(rows, environment(winners=winner))):
        assert "winner, task-accuracy accuracy: b (a - b = -5.2 [-10.0, -1.0] points, p = 0.001); McNemar" in text
        assert "winner, spread tau: none (a - b = +1.5 [-2.0, +3.5] points); two estimates" in text
        assert "winner, probe-best auc: a (a - b = +0.052 [+0.010, +0.100], p = 0.01)" in text
        assert "note, probe-accuracy on gpt2-mini: mean, soundly: one split" in text
        assert "INCONCLUSIVE" in text
    pairs = lines_of(rows, winners=winner | {"4": equal})
    assert "points, p = 0.001); none (a - c = +0.1 [-4.0, +5.0] points, p = 0.5)" in " ".join(" ".join(pairs).split())


# --- what the audit says ---------------------------------------------------------------------------------------------


def said(*rows, **more):
    return "\n".join(says(rows, environment(**more)))


def test_the_probes_of_a_model_in_one_paragraph():
    assert says([PROBES, HELD_OUT], environment())[0] == (
        "gpt2-mini: probes read 88.7 % [85.1, 91.9] as the study measured (mean over 18 cells, fitted and scored on the same 100 "
        "problems); permuted labels read 85.1 % [82.0, 88.0] there (p = 0.12): ARTEFACT, the protocol makes the number itself. "
        "Held out 54.0 % [48.1, 59.9] (n = 400) against 52.0 % [44.0, 59.0] of permuted labels (p = 0.3): REFUTED."
    )


def test_what_a_row_does_not_carry_is_not_said():
    bare = said(row())
    assert "permuted" not in bare and "ARTEFACT" not in bare and "cells, fitted" in bare
    assert "Held out: not in these results." in bare
    assert "ARTEFACT" not in said(replace(PROBES, validity=None), HELD_OUT)
    assert "no word (too few)" in said(PROBES, replace(HELD_OUT, validity=None, detail={"no_validity": "too few"}))
    assert "permuted labels read" in said(PROBES) and "of permuted labels" not in said(PROBES, replace(HELD_OUT, null=None))
    stopped = row(protocol="sound", metric="-", status="blocked", reason="a control fails")
    assert "Held out: blocked, a control fails." in said(PROBES, stopped)
    assert said(row(status="blocked", reason="x"), replace(stopped, metric="mean")) == ""
    assert said(HELD_OUT).startswith("gpt2-mini: held out 54.0 %")


def test_a_reported_row_that_repeats_the_sound_word_is_not_evidence_of_its_own():
    repeated = replace(PROBES, validity="REFUTED", detail=HELD_OUT.detail)
    assert "as the study measured, " not in said(repeated, HELD_OUT)
    assert len(evidence([repeated, HELD_OUT], environment())) == 1
    surface = replace(HELD_OUT, validity="ARTEFACT")
    for copied in (replace(PROBES, detail={}), replace(PROBES, detail=surface.detail)):
        assert "makes the number itself" not in said(copied, surface)
        assert len(evidence([copied, surface], environment())) == 1
    assert "makes the number itself" in said(PROBES, surface) and len(evidence([PROBES, surface], environment())) == 2


def test_words_are_listed_by_claim_and_by_metric_where_they_differ():
    rows = [replace(HELD_OUT, claim="ablation", metric=f"drop_{i}", validity="SUPPORTED") for i in range(2)]
    assert "gpt2-mini, soundly, SUPPORTED: ablation." in said(*rows)
    rows.append(replace(rows[0], metric="drop_2", validity="UNDERPOWERED"))
    assert "soundly, SUPPORTED: ablation (drop_0, drop_1); UNDERPOWERED: ablation (drop_2)." in said(*rows)


def test_the_headline_numbers_stand_beside_the_noise():
    noise = {"text": "On pure noise of that shape the study's protocol reads 84-100 %."}
    text = said(printed(), printed("llama-3.2-1b", 0.9761), PROBES, HELD_OUT, noise=noise)
    first = text.splitlines()[0]
    assert "numbers are 92.06 % (GPT-2) and 97.61 % (LLaMA-1B), mean probe accuracy." in first
    assert "no problem is held out" in first and noise["text"] in first
    assert "GPT-2 and LLaMA-1B were not measured here: no word is given to these numbers." in first
    assert first.endswith("What follows is about the models that it names.")


def test_the_headline_says_only_what_is_there():
    assert "noise" not in said(printed()) and "What follows" not in said(printed())
    assert "number is 92.06 % (GPT-2), mean" in said(printed()) and "GPT-2 was not measured here" in said(printed())
    measured = replace(PROBES, model="gpt2", reported=value(0.9206))
    assert "not measured here" not in said(measured)
    assert "LLaMA-1B was not measured here: no word is given to that number" in said(measured, printed("llama-3.2-1b", 0.9761))
    assert "headline" not in said(PROBES, HELD_OUT)
    assert said(noise={"text": "Noise reads 90 %."}) == "Noise reads 90 %."


def test_the_expected_number_of_false_supported_comes_from_the_families():
    line = "Expected number of false SUPPORTED: 0.025 × 12 families = 0.3; SUPPORTED stands on 1 sound row."
    rows = [PROBES, HELD_OUT, replace(HELD_OUT, metric="auc", validity="SUPPORTED")]
    assert line in said(*rows, families=12)
    assert "Expected" not in said(*rows) and "Expected" not in said(row(), families=12)


def test_what_has_no_word_says_why():
    rows = [replace(HELD_OUT, metric=m, validity=None, detail={"no_validity": "extremes"}) for m in ("min", "max")]
    assert without_word(rows) == ["probe-accuracy (min, max): extremes"]
    assert "- no word: probe-accuracy (min, max): extremes" in markdown([PROBES, *rows], environment())


# --- the page and the file -------------------------------------------------------------------------------------------


def test_the_page_has_evidence_and_both_protocols():
    text = markdown([printed(), PROBES, HELD_OUT], environment())
    assert "| family   | claim          | metric   | protocol   | GPT-2 reported   |" in text
    table_lines = [cells_of(line) for line in text.splitlines() if line.startswith("|")]
    assert table_lines[2] == [
        *("a family", "probe-accuracy", "mean, %", "reported", "92.1", "88.7 [85.1, 91.9]"),
        *("85.1 [82.0, 88.0], p = 0.12", "100", "≈ ARTEFACT", "= SAME"),
    ]
    assert table_lines[3][:4] == ["", "", "mean, %", "sound"] and table_lines[3][-2:] == ["⊘ REFUTED", "= SAME"]
    assert "- probe-accuracy, mean, sound: **REFUTED**: effect +2.0 points, Delta +21.0" in text
    assert "*probe-accuracy as published: no problem is held out*" in text and "  - soundly: *probe-accuracy, held out*" in text
    for head in ("## gpt2-mini", "## What the audit says", "## Evidence", "## Protocols", "## Drifted", "## Not measured"):
        assert f"\n{head}\n" in text


def test_an_older_run_without_sound_rows_still_renders(tmp_path):
    older = environment()
    for text in older["claims"].values():
        del text["sound"]
    rows = [printed(), row(), row("size", metric="layers", unit="count", n=1, measured=value(4))]
    write_results(tmp_path / "results.json", older, rows)
    assert json.loads((tmp_path / "results.json").read_text())["schema"] == 1
    held, read = read_results(tmp_path / "results.json")
    shown = render(read, held, tmp_path)
    assert "soundly" not in shown and "null" not in shown and "validity" not in shown and WORDS_LEGEND not in shown
    assert "mean, % 92.1 88.7 [85.1, 91.9] 100 =" in " ".join(shown.split())
    page = (tmp_path / "report.md").read_text()
    assert "## Evidence" not in page and "soundly:" not in page and "| layers" in page


def test_nothing_measured_shows_what_the_study_printed():
    rows = [printed(), printed("llama-3.2-1b", 0.9761)]
    shown = lines_of(rows)
    assert "Claims measured on: nothing" in shown
    assert ["mean,", "%", "92.1", "97.6"] in [line.split() for line in shown]
    assert any(line.endswith(", 2 not-run") for line in shown) and "## Nothing was measured" in markdown(rows, environment())


# --- what the reader can do, and what to take away -------------------------------------------------------------------


def test_claims_stand_under_their_family_with_its_winner():
    known = environment(winners={"1": {"claim": "ablation", "metric": "auc", "unit": "fraction", "models": ["gpt2-mini", "b"]}})
    known["winners"]["1"] |= {"winner": None, "p": 0.16, "difference": value(0.034, 0.001, 0.07), "test": "bootstrap"}
    for name in ("probe-accuracy", "ablation"):
        known["claims"][name]["family"] = name.split("-")[0]
    known["claims"]["spread"]["family"] = "probe"  # apart from its family in the source's order
    rows = [row(), row("spread", metric="std", unit="points"), row("ablation", metric="drop_0", unit="points")]
    shown = terminal(rows, known, HERE).splitlines()
    heads = [i for i, line in enumerate(shown) if line.startswith("── ")]
    assert [shown[i].split()[1] for i in heads] == ["probe", "ablation"]
    assert shown[heads[0] + 1] == "probe-accuracy" and "spread" in shown[heads[0] : heads[1]]
    assert shown[heads[1] + 1] == "winner by auc (ablation): none, gpt2-mini - b = +0.034, p = 0.16"
    assert not any("winner by" in line for line in terminal([row(model="c")], known, HERE).splitlines())


@pytest.mark.parametrize("word", CAME_OUT)
def test_a_reproduction_is_shown_where_there_is_one_and_no_number_is_cut(word):
    far = value(-0.999, -1.0, -0.998)
    wide = {"n": 1319, "measured": far, "null": {**far, "p": 0.001}, "reported": value(0.98), "validity": "UNDERPOWERED"}
    wide |= {"cell": {"layer": 15, "latent_pos": "bot"}, "detail": {"decide": 123456, "fragile": True}}
    rows = [row("probe-best", "gpt2", "explained_variance", how, reproduction=word, **wide) for how in ("reported", "sound")]
    rows.append(row("ablation", "gpt2", "drop_all", "sound", unit="points", **wide))
    shown = lines_of(rows)
    assert max(map(len, shown)) <= 100
    text = " ".join(" ".join(shown).split())
    assert f"{CAME_OUT[word]} {word.split()[0]}" in text and word.split()[-1] in text and "reproduction" in text
    for number_ in ("-99.9", "-1.0", "[-100.0, -99.8]", "1319", "n ≥ 123456", "… UNDERPOWERED*"):
        assert number_ in text
    assert "reproduction" not in "\n".join(lines_of([PROBES, HELD_OUT]))


def test_what_is_to_be_done_follows_from_the_rows():
    assert next_steps([row()]) == ["next: nothing is to be done"]
    commands = ["pytest benchmarks --update-baselines", "codi-bench baselines diff", "codi-bench baselines accept"]
    for regression, said in (("DRIFTED", "only if the new ones are right"), ("UNCHECKED", "nothing is recorded")):
        found = next_steps([row(), row(regression=regression)])
        assert regression in found[0] and said in found[0]
        assert all(line.strip().startswith(command) for line, command in zip(found[1:], commands, strict=True))
    no_gpu = row(status="not-run", regression="UNCHECKED", reason="no GPU here; use a CPU")
    assert next_steps([no_gpu]) == ["next, NOT RUN for want of a GPU: nothing is to be done on this machine"]
    assert [line.split(":")[0] for line in next_steps([no_gpu, printed()])] == [
        "next, NOT RUN for want of a GPU",
        "next, NOT RUN",
    ]
    assert "BLOCKED: mend" in next_steps([row(status="blocked", regression="UNCHECKED")])[0]
    red = [row(metric=f"m{i}", regression="DRIFTED", reason=f"why {i}") for i in range(20)]
    assert sum("DRIFTED probe-accuracy" in line for line in lines_of(red)) == 12
    assert any("and 8 more in report/report.md" in line for line in lines_of(red))


def taken(*rows, kind="value"):
    known = environment()
    for text in known["claims"].values():
        text["kind"] = kind
    return takeaways(rows, known)


@pytest.mark.parametrize("word, group", [("SUPPORTED", HOLDS), ("ARTEFACT", FALLS), ("REFUTED", FALLS), ("UNDERPOWERED", OPEN)])
def test_a_takeaway_names_claim_model_number_null_and_n(word, group):
    found = taken(replace(HELD_OUT, validity=word, detail={"decide": 1140} if word == "UNDERPOWERED" else {}))
    assert [(each.group, each.claim, each.models) for each in found] == [(group, "probe-accuracy", ("gpt2-mini",))]
    assert found[0].text.startswith(f"“probe-accuracy holds.” {word}")
    assert "gpt2-mini: mean 54.0 % [48.1, 59.9] (null 52.0 [44.0, 59.0]); n = 400" in found[0].text
    assert ("at least 1140 problems would decide" in found[0].text) == (word == "UNDERPOWERED")


def test_a_takeaway_of_the_reported_protocol_says_that_the_protocol_makes_the_number():
    (one,) = taken(PROBES)
    assert one.group == FALLS and "the reported protocol makes the number itself: gpt2-mini: mean 88.7 %" in one.text
    assert [each.group for each in taken(replace(PROBES, validity="SUPPORTED"), HELD_OUT)] == [
        FALLS
    ]  # the sound row's word alone
    repeated = replace(PROBES, detail=HELD_OUT.detail)
    assert "reported protocol" not in taken(repeated, replace(HELD_OUT, validity="ARTEFACT"))[0].text


def test_metrics_of_a_claim_share_a_takeaway():
    def drop(i, **more):
        return replace(HELD_OUT, claim="ablation", metric=f"drop_{i}", unit="points", validity="UNDERPOWERED", detail=more)

    (one,) = taken(drop(0, decide=300), drop(1, decide=900, fragile=True), replace(drop(2), regression="UNCHECKED"))
    assert one.text.count("UNDERPOWERED") == one.text.count("n = 400") == one.text.count("“") == 1
    assert one.text.endswith("n = 400; at least 300 to 900 problems, by metric, would decide drop_0, drop_1.")
    assert "0.6]; fragile), drop_2" in one.text and "0.6]; nothing recorded to check it against); n" in one.text
    (both,) = taken(HELD_OUT, replace(HELD_OUT, model="mine", n=7))
    assert both.models == ("gpt2-mini", "mine") and "n = 400. mine: mean" in both.text and both.text.endswith("n = 7.")


def test_where_no_null_tells_it_the_evidence_does():
    found = replace(HELD_OUT, claim="spread", metric="tau", detail={"validity": "even, claimed concentrated: Q = 23.8"})
    (one,) = taken(found, kind="even")
    assert "(even, claimed concentrated: Q = 23.8); n = 400" in one.text and "smallest that counts" not in one.text
    assert "smallest that counts" in taken(found)[0].text


def test_what_was_not_measured_gives_no_takeaway_but_is_named():
    text = {each.group: each.text for each in taken(printed())}
    assert set(text) == {OPEN} and "not run, not asked for" in text[OPEN]
    assert taken(printed())[0].text.startswith("Nothing was measured") and taken()[0].text.startswith("Nothing was measured")
    assert "no number has a verdict" in taken(row())[0].text
    stopped = row(status="blocked", reason="a control fails", protocol="sound", regression="UNCHECKED", validity="SUPPORTED")
    (one,) = taken(stopped, replace(HELD_OUT, claim="size", validity=None))[1:]
    assert (one.group, one.text) == (OPEN, "gpt2-mini: probe-accuracy, soundly: blocked, a control fails.")
    page = markdown([printed()], environment())
    assert page.index("## Key takeaways") < page.index("## Nothing was measured")
    assert "### What holds\n\n- Nothing, in these results." in page
    assert "GPT-2 and LLaMA-1B, which the study is about, were not measured" in page
    assert "LLaMA-1B, which the study is about, was not measured" in markdown([row(model="gpt2")], environment())


def test_the_report_needs_neither_torch_nor_a_model():
    """In a process of its own: the other tests import everything."""
    rooms = ("torch", "transformers", "codi_bench.claims", "codi_bench.models", "codi_bench.suite")
    rooms += ("matplotlib", "jinja2")  # a run that draws nothing does not pay for them
    code = "import sys, codi_bench.report.render; print(*[name for name in sys.argv[1:] if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code, *rooms], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_every_file_lies_beside_the_results(tmp_path):
    shown = render([PROBES, HELD_OUT], environment(), tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    assert set(written) >= {"report.html", "report.md", "report.csv", "report.tex"} and all(
        "54" in text for text in written.values()
    )
    assert all(name in shown for name in ("report.html", "report.md", "report.csv", "report.tex", "figures/"))
    assert "results.json" not in shown  # there is none here
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg", ".png"}
