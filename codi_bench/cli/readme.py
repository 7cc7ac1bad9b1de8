"""The tables and the figure of README.md and of the pages in docs/ that have any, drawn from what is recorded alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape
from itertools import chain
from pathlib import Path

from codi_bench.claims import CLAIMS
from codi_bench.cli.pages import contradictions, first_study
from codi_bench.errors import CodiBenchError
from codi_bench.models.registry import PUBLISHED
from codi_bench.records.as_rows import recorded_rows
from codi_bench.records.baseline import SOUND
from codi_bench.records.results import OK, Row
from codi_bench.report.console import cell, grid
from codi_bench.report.figures import Figure, figures
from codi_bench.report.render import comparison, tables
from codi_bench.report.table import number, shown_unit, word
from codi_bench.store.files import write_text
from codi_bench.thoughts.released import MODELS, RELEASED

BEGIN, END = "<!-- begin: codi-bench baselines readme -->", "<!-- end: codi-bench baselines readme -->"
FIGURE = "headline"
HEADS = "## Every claim that they decide", "## The files"

PAPERS = {claim.id for claim in CLAIMS.values() if claim.suite == "literature"}


@dataclass(frozen=True)
class Readme:
    """A README and the pages of docs/ with generated tables, as they should be; and the README's figure, which lies in docs/."""

    path: Path
    texts: dict[Path, str]
    figure: Figure

    @property
    def picture(self) -> Path:
        return self.path.parent / "docs" / f"{FIGURE}.svg"

    def outdated(self) -> list[Path]:
        """Which of the files say something else; of the picture its words count, for its lines are matplotlib's."""
        picture = self.picture.read_text(encoding="utf-8") if self.picture.is_file() else ""
        stale = {path: path.read_text(encoding="utf-8") != text for path, text in self.texts.items()}
        stale |= {self.picture: self.figure.alt not in unescape(picture)}
        return [path for path, wrong in stale.items() if wrong]

    def update(self) -> list[Path]:
        """Write what is outdated; gives what was written."""
        stale = self.outdated()
        for path in stale:
            write_text(path, self.texts.get(path) or self.figure.svg + "\n")
        return stale


def readme_of(path: Path, baselines: Path) -> Readme:
    """What these files should be.

    README: the table of the first study; docs/released.md: that of the study's own two models, from what others released;
    docs/findings/: literature.md has the numbers of all other sources, first-study.md and contradictions.md are `cli.pages`.
    Raises CodiBenchError where a file cannot be read, or does not have the two marks.
    """
    environment, rows = recorded_rows(baselines, released=False)
    drawings = figures(rows, environment, only=(FIGURE,))
    if not drawings:
        raise CodiBenchError(f"{baselines}: nothing is recorded there that a table could show; give --baselines DIR")
    figure = drawings[0]
    paper_rows = [row for row in rows if row.claim in PAPERS and row.status == OK]
    note = f"Recorded {environment['date']}; `=` stands for that: nothing was measured to draw this."
    head = f"![{figure.title}](docs/{FIGURE}.svg)\n\n{figure.caption} {note}\n\n"
    texts = {path: _fill(path, head + _indented(comparison(rows, environment)))}
    literature = path.parent / "docs" / "findings" / "literature.md"
    texts[literature] = _fill(literature, f"{note}\n\n" + _indented(tables(paper_rows, environment)))
    released = path.parent / "docs" / "released.md"
    environment, rows = recorded_rows(baselines)
    theirs = [row for row in rows if row.model in (*PUBLISHED, *MODELS)]
    table = _indented(comparison([row for row in theirs if row.model in PUBLISHED], environment))
    for name, inside in (("first-study", first_study(rows, environment)), ("contradictions", contradictions(rows))):
        page = literature.with_name(f"{name}.md")
        texts[page] = _fill(page, f"Recorded {environment['date']}.\n\n{inside}")
    texts[released] = _fill(released, "\n\n".join([note, table, HEADS[0], _words(theirs), HEADS[1], _files()]))
    return Readme(path, texts, figure)


def _words(rows: Sequence[Row]) -> str:
    """Every claim that released files decide: its sentence, and its sound numbers that have a word, a line a metric."""
    parts = []
    for claim in CLAIMS.values():
        judged = [row for row in rows if row.claim == claim.id and row.origin == "released" and row.protocol == SOUND]
        lines = [
            [row.model, row.metric, number(row.measured, shown_unit(row)), str(row.n), word(row.validity)]
            for row in judged
            if row.validity
        ]
        if judged:
            table = grid(lines, ["model", "metric", "measured", "n", "word"]) if lines else "No number of it has a word."
            parts.append(f"**{claim.id}**: {cell(claim.sentence)}\n\n{table}")
    return "\n\n".join(parts)


def _files() -> str:
    """Which released files are known, a list a repository, and what is measured on each."""
    lines: list[str] = []
    for name in sorted({file.repository.name for file in RELEASED.values()}):
        files = [file for file in RELEASED.values() if file.repository.name == name]
        commit = files[0].repository.commit
        lines += ["", f"**github.com/{name}**{f' at `{commit}`' if commit else ''}", ""]
        for file in sorted(files, key=lambda file: file.path):
            used = {claim.id: None for claim in CLAIMS.values() if claim.reading and file in chain(*claim.reading.files.values())}
            lines.append(f"- `{file.path}` (sha256 `{file.sha256[:16]}…`): {', '.join(used) or 'nothing yet'}")
    return "\n".join(lines).strip()


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def _fill(path: Path, inside: str) -> str:
    """The file with this between its marks."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CodiBenchError(f"{path}: cannot be read ({error}); give the README that shows the table") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise CodiBenchError(f"{path}: has no lines '{BEGIN}' and '{END}'; put both where the table shall stand")
    return f"{before}{BEGIN}\n\n{inside}\n\n{END}{after}"
