"""The study's table as text for a terminal and README: what fits the width, and whether the study's winners hold."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from codi_bench.records.results import OK, Row
from codi_bench.report.comparison import PUBLISHED, StudyTable
from codi_bench.report.table import SOUND, WORDS, Cell

MOST_MODELS = 4  # columns of a table on a terminal
LEGEND = ("✓ supported", "≈ artefact: the protocol or a stricter null makes the number", "⊘ refuted", "… undecided")


@dataclass(frozen=True)
class _Layout:
    """What of the table is shown: models, how much of their names, and whether intervals, published numbers and p."""

    models: int
    size: int
    intervals: bool = False
    published: bool = False
    p: bool = False

    def columns(self, table: StudyTable) -> list[list[str]]:
        """Column after column with its head on top; a heading has no cells."""
        names = {name: name if len(name) <= self.size else f"{name[: self.size - 1]}…" for name in table.models}
        columns = [["", *(line.name if line.measured else "" for line in table.lines)]]
        if self.published:
            columns += [[name, *(line.published.get(model, "") for line in table.lines)] for model, name in PUBLISHED.items()]
        for model in table.models[: self.models]:
            cells = [line.measured.get(model, Cell()) for line in table.lines]
            texts = [names[model], *(f"{cell.text} {cell.note * self.intervals}".rstrip() for cell in cells)]
            width, marks = max(map(len, texts)), ["", *(cell.mark for cell in cells)]
            columns.append([f"{text:<{width}} {mark}" for text, mark in zip(texts, marks, strict=True)])
        if len(table.models) > 1:
            winners = [f"{names.get(line.winner, line.winner)} {line.p * self.p}".rstrip() for line in table.lines]
            columns.append([f"winner{', p' * self.p}", *winners])
        return columns

    def gaps(self, columns: int) -> list[str]:
        """What stands before each column."""
        return ["", *[" "] * (2 * self.published), *["  "] * columns][:columns]


def _layouts(models: Sequence[str]) -> Iterator[_Layout]:
    """Wide ones first: without intervals, without p, without what was published, with short names, and with fewer models."""
    most, size = min(len(models), MOST_MODELS), max(map(len, models))
    yield _Layout(most, size, intervals=True, published=True, p=True)
    yield _Layout(most, size, published=True, p=True)
    yield _Layout(most, size, published=True)
    yield _Layout(most, size)
    yield from (_Layout(most - i, 10) for i in range(most))


def text_of(table: StudyTable, width: int = 100) -> list[str]:
    """Head, lines and legend; what does not fit is left out, and the page has it."""
    for layout in _layouts(table.models):
        columns = layout.columns(table)
        sizes, gaps = [max(map(len, column)) for column in columns], layout.gaps(len(columns))
        if sum(sizes) + sum(map(len, gaps)) <= width:
            break
    lines = list(zip(*columns, strict=True))
    texts = ["".join(gap + text.ljust(size) for gap, text, size in zip(gaps, line, sizes)).rstrip() for line in lines]
    start = sizes[0] + len(gaps[1])
    over = "published".ljust(sum(sizes[1:3]) + 3) if layout.published else ""
    rule = "─" * min(width, max(map(len, texts)))
    body = [text if line.measured else line.name for line, text in zip(table.lines, texts[1:], strict=True)]
    legend = textwrap.wrap("   ".join(text.replace(" ", "\xa0") for text in LEGEND), width)
    left_out = len(table.models) - layout.models
    more = [f"{left_out} more model{'s' * (left_out > 1)}: on the page"] * bool(left_out)
    head = f"{' ' * start}{over}{table.basis}"[:width]
    return [line.replace("\xa0", " ") for line in [head, texts[0], rule, *body, rule, *legend, *more]]


def winners_text(table: StudyTable, width: int = 100) -> list[str]:
    """A line for each winner of the study: does it hold here?"""
    if not table.winners:
        return []
    lines = textwrap.wrap(f"The study's winners, with {table.pair[0]} for GPT-2 and {table.pair[1]} for LLaMA:", width)
    subjects = [f"{each.subject}: {each.winner}" for each in table.winners]
    size, outcomes = max(map(len, subjects)), max(len(each.outcome) for each in table.winners)
    for subject, each in zip(subjects, table.winners, strict=True):
        text = f"  {subject:<{size}}  {each.outcome:<{outcomes}}  {each.why}"
        lines += textwrap.wrap(text, width, subsequent_indent=" " * (size + 4), break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


# --- without the study -----------------------------------------------------------------------------------------------


def words_by_source(rows: Sequence[Row], environment: dict, width: int = 100, most: int = 22) -> list[str]:
    """How many numbers got which word, a line a source and family of claims: for a run that asked for nothing of the study."""
    claims = environment.get("claims") or {}
    tallies: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        if row.status == OK and row.validity and row.protocol == SOUND:
            text = claims.get(row.claim) or {}
            source = re.split(r"[,(:]", text.get("source") or "unknown")[0].strip()
            tallies.setdefault((source, text.get("family") or "other claims"), Counter())[row.validity] += 1
    if not tallies:
        return ["Nothing was measured under a sound protocol: no number has a word."]
    body = [[source, family, *(str(tally[word] or "") for word in WORDS)] for (source, family), tally in sorted(tallies.items())]
    heads = ["source", "claims about", *(f"{sign} {word.lower()}" for word, sign in WORDS.items())]
    lines = tabulate(body[:most], heads, "simple", disable_numparse=True, colalign=["left", "left", *["right"] * len(WORDS)])
    return [line[:width].rstrip() for line in lines.splitlines()] + [f"and {len(body) - most} more"] * (len(body) > most)
