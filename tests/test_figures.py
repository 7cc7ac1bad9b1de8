"""Figures from rows: drawn where their data is, saying what the rows say, the same bytes again, and safe to inline together."""

import itertools
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import rows as built
from rows import value
from test_goldens import GOLDEN, compare

from codi_bench.records.results import Row
from codi_bench.report import plots
from codi_bench.report.figures import figures, plans, write_figures
from codi_bench.sweep import figure as sweep_figure

ALL = ["headline", "probe-accuracy", "spread", "sae-error-prediction", "ablation", "task-accuracy-by-steps", "probe-step-values"]


def row(claim, metric, protocol="sound", **more):
    return built.row(claim, "mini", metric, protocol, **{"n": 400, "measured": value(0.761, 0.727, 0.792), **more})


PRINTED = [built.printed(), built.printed("llama-3.2-1b", 0.9761)]
BY_STUDY = row(
    *("probe-accuracy", "mean", "reported"),
    n=100,
    measured=value(0.887, 0.851, 0.919),
    null=value(0.812, 0.697, 0.922, p=0.11, quantiles=[0.6 + 0.02 * i for i in range(21)]),
    validity="ARTEFACT",
    detail={"grid": [[0.9, 1.0], [0.8, 0.85]]},
)
HELD_OUT = row(
    *("probe-accuracy", "mean"),
    null=value(0.707, 0.704, 0.708, p=None),
    validity="UNDERPOWERED",
    detail={
        "grid": [[0.77, 0.79], [0.75, None]],
        "layers": [4, 8],
        "latent_pos": ["bot", 0],
        "p_value_max_auc": [[0.005, 0.005], [0.3, 0.005]],
        "p_conditional": [[0.01, 0.4], [0.01, None]],
    },
)
SPREAD = [
    row(*("spread", "std", "reported"), unit="points", measured=value(7.4), null=value(12.6, 8.0, 16.3), validity="ARTEFACT"),
    row("spread", "std", unit="points", measured=value(1.6), null=value(1.4)),
    row("spread", "tau", unit="points", measured=value(0.9, 0.0, 1.7), validity="REFUTED", detail={"note": "spread: even"}),
]
SETS = {"sae": {"accuracy": [0.77, 0.7, 0.82], "auc": [0.85, 0.79, 0.9]}, "raw": {"accuracy": [0.78, 0.72, 0.83], "auc": None}}
SAE = [
    row("sae-error-prediction", "test_accuracy", null=value(0.663, 0.64, 0.68), validity="UNDERPOWERED", detail={"sets": SETS}),
    row("sae-error-prediction", "gain", unit="points", measured=value(-3.0), validity="REFUTED", detail={"over": "raw"}),
]
EFFECTS = {"mean": {"drop": [0.193, 0.143, 0.242]}, "mean direct": {"drop": [0.19, 0.14, 0.238]}, "zero": {"drop": None}}
ABLATION = [
    row("ablation", "drop_4", unit="points", measured=value(19.3), validity="SUPPORTED", detail={"effects": EFFECTS}),
    row("ablation", "drop_4", "reported", unit="points", n=100, measured=value(11.0, 2.9, 18.7)),
    row("ablation", "drop_bot", unit="points", measured=value(-0.01), validity="UNDERPOWERED"),
    row("ablation", "drop_all", unit="points", measured=value(36.0)),
]
STEPS = row(
    "task-accuracy",
    "accuracy",
    measured=value(0.669),
    null=value(0.054),
    validity="SUPPORTED",
    detail={"by_steps": {"1": [0.985, 0.946, 0.996], "10": [0.386, 0.322, 0.455]}},
)


def cell(x, p=0.025, control=0.4):
    return {"accuracy": value(x, x - 0.05, x + 0.04), "control": control, "selectivity": x - control, "p": p}


READ = {"step": 1, "n": 300, "majority": 0.12, "by_template": 0.31, "cells": [cell(0.81), cell(0.64), cell(0.93), cell(0.7)]}
PLACES = [{"layer": layer, "latent_pos": place} for layer in (4, 8) for place in ("bot", 0)]


def values_row(read, places=PLACES, model="mini"):
    detail = {"step_values": read, "places": places}
    return Row("step-values", model, "accuracy_step1", "sound", "ok", "fraction", 300, measured=value(0.93), detail=detail)


ROWS = [*PRINTED, BY_STUDY, HELD_OUT, *SPREAD, *SAE, *ABLATION, STEPS, values_row(READ)]


def planned(rows):
    """What would be drawn, which is quick."""
    return {each.name: each for each in plans(rows, {})}


@pytest.fixture(scope="module")
def everything():
    return {each.name: each for each in figures(ROWS, {})}


def test_every_figure_whose_data_is_there(everything):
    assert list(everything) == ALL
    assert planned(PRINTED) == {}, "nothing was measured"
    assert list(planned([STEPS])) == ["task-accuracy-by-steps"]
    assert planned([replace(row, status="blocked", measured=None, reason="no") for row in ROWS]) == {}


def test_titles_say_the_words_of_their_rows_and_alternatives_their_numbers(everything):
    compare(GOLDEN / "figures.txt", "\n".join(f"[{each.name}] {each.title}\n{each.alt}\n" for each in everything.values()))


SUPPORTED = replace(HELD_OUT, validity="SUPPORTED", measured=value(0.9), detail={"fragile": True})
BLOCKED = built.row("probe-accuracy", "mini", "-", "sound", "blocked", reason="a control failed")
BARE = [replace(row, detail={}, validity=None) for row in (*PRINTED, BY_STUDY, HELD_OUT)]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([BY_STUDY, SUPPORTED], ": ARTEFACT; held out 90.0 %, permuted labels 70.7 %: SUPPORTED (fragile)."),
        ([replace(BY_STUDY, validity=None)], "no word; held out not measured."),
        ([BY_STUDY, BLOCKED], "ARTEFACT; held out blocked."),
        (BARE, "88.7 %, permuted labels 81.2 %: no word; held out 76.1 %, permuted labels 70.7 %: no word."),
    ],
)
def test_a_title_changes_with_its_row(rows, text):
    plan = planned(rows)["headline"]
    assert plan.title.endswith(text)
    assert rows != BARE or list(planned(rows)) == ["headline"]


def test_where_no_cell_passes_the_title_says_so():
    unread = values_row(READ | {"cells": [cell(0.8, p=0.05), cell(0.3)]})
    assert "no cell passes" in planned([unread])["probe-step-values"].title


def test_only_measured_models_get_a_mark(everything):
    """A study's model that was not measured stands as a published number alone; another model not at all."""
    asked = Row("task-accuracy", "other-mini", "accuracy", "sound", "not-run", reason="no weights")
    assert [plan.alt for plan in plans([STEPS, asked], {})] == [everything["task-accuracy-by-steps"].alt]
    assert "gpt2" not in everything["probe-accuracy"].alt + everything["headline"].title
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", everything["headline"].svg)
    assert sum("published" in text for text in shown) == 3, "a panel's title and both published numbers, and nothing else"
    assert everything["headline"].alt.count("not measured here") == 2


def test_missing_details_do_not_show():
    bare = [replace(row, detail={}, null=None, validity=None, n=None) for row in ROWS]
    hollow = [replace(HELD_OUT, detail={"grid": [[0.7, float("nan")], [None]]}), replace(STEPS, detail={"by_steps": {"1": None}})]
    unread = [values_row({}, model="a"), values_row({"cells": [cell(0.5, p=None)]}, PLACES[:1])]
    shown = figures([*hollow, *unread], {}) + plans(bare, {})
    shown += plans([replace(row, measured=value(float("nan"))) for row in ROWS], {})
    assert {each.name for each in shown} == {"headline", "probe-accuracy", "spread", "ablation", "probe-step-values"}
    for each in shown:
        text = re.sub(r'fill(: |=")none', "", " ".join([each.title, each.alt, each.caption, getattr(each, "svg", "")]))
        assert not re.search(r"\b(none|nan)\b", text.lower()), each.name


def test_the_headline_says_what_the_protocol_reads_on_permuted_labels_over_pairs_of_dots(everything):
    plan, svg = planned(ROWS)["headline"], everything["headline"].svg
    assert "permuted labels" in plan.headline and plan.headline.endswith("81\xa0%")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert [text for text in texts if text in ("88.7", "81.2", "76.1", "70.7", "92.1", "97.6")] == [
        "92.1",
        "97.6",
        "88.7",
        "81.2",
        "76.1",
        "70.7",
    ]
    assert texts.count("real labels") == texts.count("permuted labels") == 1 and "legend" not in svg
    bare = planned([*PRINTED, replace(BY_STUDY, null=None)])["headline"]
    assert bare.headline == "" and "88.7 %" in bare.title


def lightness(colour):
    """L* of a colour, 0 to 100: what is left of it in greyscale."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_series_can_be_told_apart_in_greyscale():
    assert lightness("#ffffff") == pytest.approx(100) and lightness("#777777") == pytest.approx(50, abs=1)
    for (colour, marker, hatch, dashes), (other, *rest) in itertools.combinations(plots.STYLES, 2):
        assert marker != rest[0]
        assert (hatch != rest[1] and dashes != rest[2]) or abs(lightness(colour) - lightness(other)) > 15
    assert len({style["marker"] for style in plots.PAIR}) == 3
    (gpt2, *marks), (llama, *others) = sweep_figure.STYLES.values()
    assert abs(lightness(gpt2) - lightness(llama)) > 25 and not {*marks} & {*others}


def test_same_rows_same_bytes(everything):
    """One of each kind: dots, a heatmap, bars."""
    again = figures([*PRINTED, BY_STUDY, HELD_OUT, *ABLATION], {})
    assert [each.name for each in again] == ["headline", "probe-accuracy", "ablation"]
    assert again == [everything[each.name] for each in again]


def test_pictures_can_be_inlined_together(everything):
    ids = []
    for each in everything.values():
        assert each.svg.startswith("<svg ")
        root = ElementTree.fromstring(each.svg)
        assert "viewBox" in root.attrib and not {"width", "height"} & set(root.attrib)
        assert root.get("aria-label") == each.alt
        own = re.findall(r'\bid="([^"]+)"', each.svg)
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', each.svg)) <= set(own)
        ids += own
    assert len(ids) == len(set(ids))
    assert not any("*{" in rule.replace(" *{", "") for each in everything.values() for rule in re.findall(r"<style.*", each.svg))


def test_files(everything, tmp_path):
    paths = write_figures([everything["headline"]], tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["figures/headline.svg", "figures/headline.png"]
    assert paths[0].read_text(encoding="utf-8").strip() == everything["headline"].svg
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["headline.png", "headline.svg"]
