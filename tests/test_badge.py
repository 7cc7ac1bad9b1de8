"""The badge of a report: what it counts, its colours, and that nothing but a clean run is green."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from rows import environment, row
from typer.testing import CliRunner

from codi_bench.audits import public
from codi_bench.cli import app
from codi_bench.report.badge import BLUE, GREEN, GREY, ORANGE, RED, audit_badge, badge
from codi_bench.report.render import render

KNOWN = environment({"probe-accuracy": "probes", "size": "size"})
SUPPORTED = row(protocol="sound", validity="SUPPORTED")
ARTEFACT = row(validity="ARTEFACT")


def of(*rows):
    return badge(rows, KNOWN)


def test_words_are_counted_once_and_green_is_a_run_as_recorded():
    repeated = row(metric="std", validity="REFUTED"), row(metric="std", protocol="sound", validity="REFUTED")
    clean = of(SUPPORTED, ARTEFACT, *repeated)
    assert (clean.message, clean.colour) == ("1 supported · 1 artefact · 1 refuted", GREEN)


@pytest.mark.parametrize(
    ("other", "message", "colour"),
    [
        (row("size", regression="DRIFTED"), "1 drifted · 1 supported", RED),
        (row("size", status="blocked", reason="why"), "1 blocked · 1 supported", ORANGE),
        (row("size", status="not-run", reason="no GPU"), "1 not run · 1 supported", ORANGE),
        (row("size", regression="UNCHECKED"), "1 supported", BLUE),
        (row("size", metric="width", validity="UNDERPOWERED", protocol="sound"), "1 supported · 1 underpowered", GREEN),
    ],
)
def test_what_is_no_pass_stands_in_front_and_is_never_green(other, message, colour):
    assert (of(SUPPORTED, other).message, of(SUPPORTED, other).colour) == (message, colour)


def test_of_nothing_and_of_what_was_stopped_there_is_no_verdict():
    assert (of().message, of().colour) == ("nothing measured", GREY)
    assert (of(row()).message, of(row()).colour) == ("no verdicts", GREEN)
    assert (of(row(status="not-run")).message, of(row(status="not-run")).colour) == ("1 not run", ORANGE)


def _channel(x):
    return x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4


@pytest.mark.parametrize("colour", [GREEN, RED, ORANGE, BLUE, GREY])
def test_white_text_is_legible_on_every_colour(colour):
    r, g, b = (_channel(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    assert 1.05 / (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05) >= 4.5  # WCAG 2, AA


def test_both_files_of_a_report_say_the_same(tmp_path):
    render([SUPPORTED, ARTEFACT], KNOWN, tmp_path)
    endpoint = json.loads((tmp_path / "badge.json").read_text(encoding="utf-8"))
    assert endpoint == {"schemaVersion": 1, "label": "codi-bench", "message": "1 supported · 1 artefact", "color": GREEN}
    root = ElementTree.fromstring((tmp_path / "badge.svg").read_text(encoding="utf-8"))
    svg = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{svg}title").text == root.get("aria-label") == f"codi-bench: {endpoint['message']}"
    label, message = root.iter(f"{svg}text")
    assert (label.text, message.text) == ("codi-bench", endpoint["message"])
    start, length = float(message.get("x")), float(message.get("textLength"))
    assert float(label.get("x")) + float(label.get("textLength")) < start and start + length < float(root.get("width"))


OUTCOMES = [
    {"problem": i, "condition": condition, "right": int(i < right)}
    for condition, right in {"clean": 90, "zero 0": 30, "zero 1": 90}.items()
    for i in range(100)
]


def test_an_audit_has_a_badge_that_is_never_green():
    assert audit_badge(public.outcomes(OUTCOMES).as_dict()).message == "1 supported · 1 underpowered"
    dead = [one for one in OUTCOMES if one["condition"] != "zero 0"]
    blocked = audit_badge(public.outcomes(dead).as_dict())
    assert (blocked.message, blocked.colour) == ("1 blocked", ORANGE)
    assert audit_badge(public.outcomes(OUTCOMES).as_dict()).colour == BLUE


def test_an_audit_writes_a_folder(tmp_path):
    file = tmp_path / "outcomes.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in OUTCOMES))
    ended = CliRunner().invoke(app, ["audit", "outcomes", str(file), "--report", str(tmp_path / "out")])
    assert ended.exit_code == 0, ended.output
    texts = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir()}
    assert set(texts) == {"audit.txt", "audit.json", "audit.svg", "badge.svg", "badge.json"}
    assert texts["audit.txt"] == ended.output and json.loads(texts["audit.json"])["kind"] == "outcomes"
    assert json.loads(texts["badge.json"])["message"] == "1 supported · 1 underpowered"


def test_an_audit_s_folder_is_none_that_it_reads(tmp_path):
    file = tmp_path / "audit.json"
    file.write_text("")
    ended = CliRunner().invoke(app, ["audit", "outcomes", str(file), "--report", str(tmp_path)])
    assert str(file) in str(ended.exception) and [*tmp_path.iterdir()] == [file]
