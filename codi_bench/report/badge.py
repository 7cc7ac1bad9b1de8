"""The badge of a report: how many verdicts came out how, and whatever is no pass, as SVG and for the endpoint of shields.io.

The colour never stands for a verdict: a refuted claim is a result. Green says that every number was measured and is as recorded.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from codi_bench.records.results import BLOCKED, OK, Row
from codi_bench.report.audit import own_words
from codi_bench.report.contents import Report
from codi_bench.report.sentences import counts
from codi_bench.report.table import WORDS, in_capitals

LABEL = "codi-bench"
# with white text on it each has a contrast of at least 4.5 : 1
GREEN, RED, ORANGE, BLUE, GREY = "#2e7d32", "#b3261e", "#a84300", "#1f5fa8", "#57606a"
FONT, SIZE, HEIGHT, MARGIN = "Verdana,DejaVu Sans,sans-serif", 11, 20, 6  # pixels
LABEL_COLOUR = "#3d444d"


@dataclass(frozen=True)
class Badge:
    """What a badge says, and its colour as #rrggbb."""

    message: str
    colour: str

    def json(self) -> str:
        """In the schema that https://shields.io/badges/endpoint-badge reads."""
        fields = {"schemaVersion": 1, "label": LABEL, "message": self.message, "color": self.colour}
        return json.dumps(fields, ensure_ascii=False, indent=1) + "\n"

    def svg(self) -> str:
        """A picture of its own: nothing is loaded, and a title says the same to who cannot see it."""
        texts = (LABEL, self.message)
        left, right = widths = [_width(text) + 2 * MARGIN for text in texts]
        title, total = escape(f"{LABEL}: {self.message}"), sum(widths)
        spans = [
            f'<text x="{start + MARGIN}" y="14" textLength="{width - 2 * MARGIN}">{escape(text)}</text>'
            for text, start, width in zip(texts, (0, left), widths, strict=True)
        ]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{HEIGHT}" role="img" aria-label="{title}">'
            f'<title>{title}</title><clipPath id="round"><rect width="{total}" height="{HEIGHT}" rx="3"/></clipPath>'
            f'<g clip-path="url(#round)"><rect width="{left}" height="{HEIGHT}" fill="{LABEL_COLOUR}"/>'
            f'<rect x="{left}" width="{right}" height="{HEIGHT}" fill="{self.colour}"/></g>'
            f'<g fill="#fff" font-family="{FONT}" font-size="{SIZE}">{"".join(spans)}</g></svg>\n'
        )


def badge(rows: Sequence[Row], environment: dict) -> Badge:
    """The badge of a run: what is no pass first, then the verdicts, once where both protocols give the same."""
    outcomes = counts(rows)
    words = Counter(str(row.validity) for row in own_words(rows, environment) if row.status == OK)
    stopped = {name: outcomes[name] for name in ("drifted", BLOCKED, "not-run")}
    return _badge(stopped, words, outcomes["unchecked"], outcomes["same"])


def audit_badge(assessment: Mapping[str, Any]) -> Badge:
    """The badge of an audit, from what `codi-bench audit --json` prints: every verdict in it counts once.

    An audit compares nothing with a record, so its badge is never green.
    """
    words = Counter(_words_in(assessment))
    blocked = sum(bool(model["reason"]) for model in assessment.get("models", ())) or int(assessment["status"] == BLOCKED)
    return _badge({BLOCKED: blocked}, words, sum(words.values()), 0)


def _words_in(value: object) -> list[str]:
    if isinstance(value, Mapping):  # a verdict says why; the word of a whole audit only repeats one of them
        own = [str(value["word"])] if value.get("word") in WORDS and "why" in value else []
        return own + [word for part in value.values() for word in _words_in(part)]
    return [word for part in value for word in _words_in(part)] if isinstance(value, list | tuple) else []


def _badge(stopped: Mapping[str, int], words: Mapping[str, int], unchecked: int, same: int) -> Badge:
    """stopped: numbers that are no pass, by why, the worst first; unchecked, same: numbers without and with the same record."""
    parts = [(stopped[name], in_capitals(name).lower()) for name in stopped]
    parts += [(words.get(word, 0), word.lower()) for word in WORDS]
    message = " · ".join(f"{count} {name}" for count, name in parts if count)
    if stopped.get("drifted"):
        colour = RED
    elif any(stopped.values()):
        colour = ORANGE
    elif unchecked:
        colour = BLUE
    else:
        colour = GREEN if same else GREY
    return Badge(message or ("no verdicts" if unchecked or same else "nothing measured"), colour)


def _width(text: str) -> int:
    """Pixels that a text takes in the font of badges, whose metrics DejaVu Sans shares."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=SIZE)
    return round(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


# files of a report's folder
BADGES: dict[str, Callable[[Report], str]] = {
    "badge.svg": lambda report: badge(report.rows, report.environment).svg(),
    "badge.json": lambda report: badge(report.rows, report.environment).json(),
}
