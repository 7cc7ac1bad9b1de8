"""The page: its HTML is sound, whatever an older results file lacks.

What it says of every outcome is in tests/golden/page.txt.
"""

import itertools
import re
import time
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import pytest
import rows as built
from rows import printed, row, value
from test_goldens import all_rows
from test_goldens import environment as golden_environment

from codi_bench.claims import CLAIMS as CLAIMS_KNOWN
from codi_bench.models.registry import EMBEDDED
from codi_bench.records.as_rows import recorded_rows
from codi_bench.report import page as pages
from codi_bench.report.contents import report_of
from codi_bench.report.lanes import Labelled, picture
from codi_bench.report.page import MEANINGS, THEMED, differences
from codi_bench.report.table import CAME_OUT, WORDS, results_table
from codi_bench.store.files import package_folder

NAMES = ("task-accuracy", "probe-accuracy", "probe-best", "ablation", "size")
CLAIMS = dict(zip(NAMES, ("task accuracy", "probes", "probes", "ablation", "size")))
VOID = {*("meta", "link", "br", "hr", "img", "input"), *("rect", "line", "circle", "path")}  # of SVG: those that close themselves
TRICK = "<script>alert('x')</script>"


@dataclass
class Figure:
    """What the page asks of a figure."""

    name: str
    title: str = "A finding."
    caption: str = "What is shown & how."
    alt: str = "12 of 18 cells"
    svg: str = '<?xml version="1.0"?>\n<svg viewBox="0 0 10 10" role="img" aria-label="cells"><text x="1" y="9">tick</text></svg>'


def environment(**more):
    run = {"date": "2026-01-02T03:04:05+00:00", "torch": "2.6.0", "devices": {"gpt2-mini": "cpu float32"}}
    run["inputs"] = {"gpt2-mini": {"weights": "a" * 64, "problems": "b" * 64}}
    return built.environment(CLAIMS, **run | more)


def page(rows, known, drawn=()):
    return pages.page(report_of(rows, known), drawn)


NULL = value(0.8, 0.7, 0.9, p=0.11, quantiles=[0.7 + 0.01 * i for i in range(21)])
PRINTED = printed()
MEASURED = row(null=NULL, validity="ARTEFACT", seeds={"folds": 42}, detail={"validity": "38.7 over chance, 35.1 from the null"})
SOUND = row(protocol="sound", n=400, measured=value(0.761, 0.727, 0.792), validity="UNDERPOWERED", detail={"decide": 642})


class Document(HTMLParser):
    """Elements with their attributes and own text, in order; fails on tags that do not close."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.handle_data(" ")  # words of two elements are two words
        self.elements.append({"tag": tag, "text": "", **dict(attributes)})
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attributes):
        self.elements.append({"tag": tag, "text": "", **dict(attributes)})

    def handle_endtag(self, tag):
        assert self.open and self.open[-1]["tag"] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def of(self, tag, **attributes):
        return [element for element in self.elements if element["tag"] == tag and attributes.items() <= element.items()]

    def words(self, tag, **attributes):
        """Of the first such element."""
        return words(self.of(tag, **attributes)[0])


def document(rows, drawn=(), **more):
    return Document(page(rows, environment(**more), drawn))


def words(element):
    return " ".join(element["text"].split())


def line(found, *parts):
    """The rows of the tables that say all of these parts."""
    return [words(each) for each in found.of("tr") if all(part in words(each) for part in parts)]


def sound_html(html):
    """Balanced, ids once, links that lead somewhere, headings without a gap, nothing that runs or loads."""
    found = Document(html)
    ids = [each["id"] for each in found.elements if "id" in each]
    assert len(ids) == len(set(ids))
    named = [each.get("aria-labelledby") for each in found.elements]
    assert {*filter(None, named)} <= set(ids)
    assert {each["href"][1:] for each in found.of("a")} <= set(ids)
    levels = [int(each["tag"][1]) for each in found.elements if re.fullmatch("h[1-6]", each["tag"])]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert not found.of("script") and not [key for each in found.elements for key in each if key.startswith("on")]
    assert not [each for each in found.elements if re.match(r"(https?:)?//", each.get("href") or each.get("src") or "")]
    assert all(each.get("aria-label") or each.get("aria-hidden") for each in found.of("svg"))
    assert all(each.get("scope") for each in found.of("th")) and len(found.of("caption")) == len(found.of("table"))
    text = " ".join(value for each in found.elements if each["tag"] != "style" for value in each.values() if value)
    assert not re.search(r"\bNone\b|\bnan\b|\binf\b|Undefined", text)
    return found


# --- parts of the page ----------------------------------------------------------------------------------------------------


def test_differences_between_protocols_are_marked_by_word():
    before, after = differences("scored on the same 100 problems", "scored on 20 held-out problems")
    assert before == [(False, "scored on "), (True, "the same 100 "), (False, "problems")]
    assert after == [(False, "scored on "), (True, "20 held-out "), (False, "problems")]
    assert differences("the same count", "the same count") == ([(False, "the same count")],) * 2
    assert [changed for changed, _ in differences("all of it", "none of that")[0]] == [True]  # `of` alone is a coincidence
    html = document([MEASURED, SOUND])
    assert "the same 100" in map(words, html.of("del")) and "problems held out" in map(words, html.of("ins"))


# --- pictures of lanes -----------------------------------------------------------------------------------------------------


def lanes(*rows):
    lines = results_table(rows, environment(), "gpt2-mini").lines
    return picture("mean, %", {"gpt2-mini": [Labelled(line["protocol"].text, "permuted labels", line) for line in lines]})


def test_a_picture_has_published_measured_and_null_on_one_axis_each_with_its_label_and_number():
    drawn = lanes(PRINTED, MEASURED, SOUND)
    published, study, null, sound = drawn.lanes["gpt2-mini"]
    assert [each.label for each in (published, study, null, sound)] == [
        "published, GPT-2",
        "reported",
        "permuted labels",
        "sound",
    ]
    assert [each.text.split()[0] for each in (published, study, null, sound)] == ["92.1", "88.7", "80.0", "76.1"]
    assert [str(each.sign or "") for each in (study, null, sound)] == ["≈ ARTEFACT", "", "… UNDERPOWERED"]
    assert 0 < sound.at < null.at < study.at < published.at < 100
    assert null.span[0] < sound.at and null.span[0] + null.span[1] > study.at and published.span is None
    # equal steps of the axis are equal widths of the picture
    (first, _), (second, _), *_ = drawn.ticks
    step = float(drawn.ticks[1][1]) - float(drawn.ticks[0][1])
    assert (study.at - null.at) / (88.7 - 80) == pytest.approx((second - first) / step, rel=0.05)
    assert all(each.label in drawn.text and each.text in drawn.text for each in drawn.lanes["gpt2-mini"])


def test_counts_have_no_picture_and_numbers_that_all_agree_still_have_an_axis():
    assert lanes(replace(MEASURED, unit="count")) is None
    drawn = lanes(row(measured=value(1.0), null=value(1.0, 1.0, 1.0, p=1.0)))
    assert [each.at for each in drawn.lanes["gpt2-mini"]] == [drawn.lanes["gpt2-mini"][0].at] * 2 and len(drawn.ticks) > 1


# --- the study's rows and anchors ------------------------------------------------------------------------------------------


def test_the_table_is_first_and_then_each_row_of_the_study_with_a_picture_a_sentence_and_both_protocols():
    found = sound_html(page(all_rows(), golden_environment()))
    headings = [(each["tag"], words(each)) for each in found.elements if re.fullmatch("h[1-3]", each["tag"])]
    assert headings[1] == ("h2", "The study, measured") and headings[2] == ("h2", "The study, row by row")
    sections = {each["id"]: words(each) for each in found.of("section", **{"class": "row"})}
    assert list(sections) == [f"row-{claim}" for claim in ("task-accuracy", "probe-accuracy", "ablation", "spread")]
    assert "As published, probes are right on 91.2 % (gpt2), against 85.1 % on permuted labels" in sections["row-probe-accuracy"]
    assert "held out, 76.1 % (gpt2-mini)" in sections["row-probe-accuracy"]
    for claim in ("probe-accuracy", "spread"):
        assert f"{claim}, as published" in sections[f"row-{claim}"] and f"{claim}, held out" in sections[f"row-{claim}"]
    pictures = [each for each in found.of("div", **{"class": "lanes"}) if "published, GPT-2 92.1" in each["aria-label"]]
    assert len(pictures) == 1 and "permuted labels 85.1 [82.0, 88.4]" in pictures[0]["aria-label"]


def test_a_number_from_released_files_is_neither_held_out_nor_compared_with_permuted_labels():
    number = row("sae-error-prediction", "gpt2", "test_accuracy", "sound", measured=value(0.755), null=value(0.655))
    run = page([number, replace(number, model="gpt2-mini")], environment())
    assert "held out, 75.5 % (gpt2)" not in Document(run).words("section", id="row-sae-error-prediction")
    found = sound_html(page([replace(number, origin="released"), replace(number, model="gpt2-mini")], environment()))
    section = found.words("section", id="row-sae-error-prediction")
    assert "75.5 % (gpt2-mini), against 65.5 % on permuted labels" in section and "the question alone" in section
    assert "Numbers of gpt2 come from released files" in section
    (picture,) = [each for each in found.of("div", **{"class": "lanes"}) if "gpt2: sound protocol 75.5" in each["aria-label"]]
    assert "gpt2-mini: held out 75.5" in picture["aria-label"]


def test_a_blocked_row_has_no_place_in_a_picture_whatever_its_file_says():
    blocked = row("task-accuracy", metric="accuracy", status="blocked", reason="why", measured=value(0.9))
    html = sound_html(page([blocked], environment()))
    assert not html.of("section", **{"class": "row"}) and "90.0" not in html.words("body")


def test_every_claim_stands_under_its_own_id_and_under_the_number_that_older_pages_gave_it():
    rows = [*full(), row(claim="study"), row(claim=TRICK), row(claim="run", protocol="sound")]
    found = sound_html(page(rows, environment()))
    ids = {each["id"]: each for each in found.elements if "id" in each}
    assert all(words(ids[name]).startswith(name) for name in NAMES)
    older = [f"claim-{i}-{name}" for i, name in enumerate(NAMES, 1)]
    assert all(ids[anchor]["class"] == "claim" and name in words(ids[anchor]) for anchor, name in zip(older, NAMES))
    # a claim that is called like a part of the page does not take its place
    assert ids["study"]["tag"] == ids["run"]["tag"] == "h2" and words(ids["claim-study"]).startswith("study")


# --- files of other runs ---------------------------------------------------------------------------------------------------


def test_what_only_the_study_printed_has_no_verdict_and_of_nothing_nothing_is_said():
    html = sound_html(page([PRINTED], environment()))
    assert line(html, "mean, %", "92.1", "– not in these results")
    assert "– NOT RUN 1" in html.words("dl", **{"class": "run"})
    empty = sound_html(page([], {}))
    assert "nothing was measured" in empty.words("dl", **{"class": "run"})
    assert not [element for element in empty.of("td") if "SUPPORTED" in element["text"]]


@pytest.mark.parametrize("known", [{}, {"claims": {"probe-accuracy": {"position": 0}}}, dict.fromkeys(environment())])
def test_an_older_file_without_nulls_words_and_most_of_the_environment_is_drawn(known):
    old = replace(MEASURED, null={"value": 0.8}, validity=None, seeds={}, detail={}, reason="")
    html = sound_html(page([PRINTED, old, replace(old, protocol="sound", null=None)], known))
    assert line(html, "88.7 [85.1, 91.9]") and "not described in these results" in html.words("body")


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_printed(odd):
    null = value(0.8, odd, odd, p=odd, quantiles=[odd] * 21)
    rows = [
        row(measured=value(odd), null=null),
        row(protocol="sound", measured=None, null=value(None)),
        row(metric="std", null=null),
    ]
    sound_html(page(rows, environment()))


def test_names_and_reasons_cannot_become_markup():
    rows = [
        row(claim=TRICK, model=TRICK, metric=TRICK, validity="REFUTED", detail={"validity": TRICK, "note": TRICK}),
        row(claim=TRICK, model="gpt2-mini", metric="-", status="blocked", reason=TRICK),
    ]
    html = page(rows, environment(torch=TRICK), [Figure("values", TRICK, TRICK, f'"{TRICK}')])
    assert "<script" not in html
    assert TRICK in sound_html(html).words("body")


# --- the file --------------------------------------------------------------------------------------------------------------


def full():
    """Every word there is, on two models."""
    return [
        *(PRINTED, MEASURED, SOUND),
        *(row("probe-best", metric=f"m{i}", protocol="sound", validity=word) for i, word in enumerate(WORDS)),
        *(
            row("ablation", metric=f"m{i}", regression=word, reason="why")
            for i, word in enumerate(("SAME", "DRIFTED", "UNCHECKED"))
        ),
        *(row("task-accuracy", "gpt2", f"m{i}", reported=value(0.4), reproduction=word) for i, word in enumerate(CAME_OUT)),
        row("size", metric="-", status="blocked", unit="", reason="no weights"),
    ]


def test_the_page_is_sound_small_and_quick():
    drawn = [Figure(name) for name in ("overview", "probes", "ablation-drops", "values")]
    started = time.perf_counter()
    html = page(full(), environment(), drawn)
    assert time.perf_counter() - started < 1.5 and len(html.encode()) < 3_000_000
    legend = sound_html(html).words("dl", **{"class": "legend"})
    assert all(meaning in legend for meaning in MEANINGS.values())


def test_figures_take_the_colours_of_the_page_light_or_dark_and_those_that_the_rows_show_are_left_out():
    drawn = Figure("overview", svg='<svg aria-label="x"><path style="fill: #ffffff; stroke: #222222"/></svg>')
    found = document([MEASURED], [drawn, Figure("headline", caption="Dots.")])
    assert found.of("path")[0]["style"] == "fill: var(--card); stroke: var(--ink)"
    assert "Dots." not in found.words("body")
    used = set(re.findall(r"var\((--[\w-]+)\)", " ".join(THEMED.values()) + found.words("style")))
    for block in re.findall(r":root \{(.*?)\}", found.words("style")):
        assert used <= set(re.findall(r"(--[\w-]+):", block)), "a colour is missing in light, dark or print"


def test_a_figure_stands_with_its_family_or_in_a_section_of_its_own():
    html = document([MEASURED], [Figure("probes", caption="Cells."), Figure("overview", caption="Bars.")])
    general, probes = (html.words("section", **{"aria-labelledby": name}) for name in ("figures", "family-2"))
    assert "Bars." in general and "Cells." not in general and "Cells." in probes and "Bars." not in probes
    assert len(html.of("div", role="img", **{"aria-label": "12 of 18 cells"})) == 2


EVIDENCE = {"validity": "the effect, what it was tested against, by how much and with which p, " * 3}
FIGURES = 200_000  # bytes, a third more than the study's take


@pytest.mark.parametrize(("suites", "limit"), [({"study"}, 700_000), ({"study", "literature", "questions"}, 3_000_000)])
def test_the_page_of_every_recorded_claim_is_small_enough_to_be_sent(suites, limit):
    """Records hold neither evidence nor what figures need: both are put beside them, longer than they are."""
    known, rows = recorded_rows(package_folder("baselines"), released=False)
    pair = [replace(each, detail=EVIDENCE | each.detail) for each in rows if each.model in EMBEDDED and each.status == "ok"]
    pair = [each for each in pair if CLAIMS_KNOWN[each.claim].suite in suites]
    assert len({each.claim for each in pair}) > 10
    known["claims"] = {name: claim for name, claim in known["claims"].items() if name in {each.claim for each in pair}}
    html = page(pair, known)
    assert limit / 4 < len(html.encode()) + FIGURES < limit
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert {each.claim for each in pair} <= {*ids} and len(ids) == len({*ids})
