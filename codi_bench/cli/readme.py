"""The tables and the figure of README.md and docs/literature.md, drawn from what is recorded, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from html import unescape
from pathlib import Path

from codi_bench.claims import CLAIMS
from codi_bench.errors import CodiBenchError
from codi_bench.records.as_rows import recorded_rows
from codi_bench.records.results import OK
from codi_bench.report.figures import Figure, figures
from codi_bench.report.render import comparison, tables
from codi_bench.store.files import write_text

BEGIN, END = "<!-- begin: codi-bench baselines readme -->", "<!-- end: codi-bench baselines readme -->"
FIGURE = "headline"


PAPERS = {claim.id for claim in CLAIMS.values() if claim.suite == "literature"}


@dataclass(frozen=True)
class Readme:
    """A README and docs/literature.md beside it, as they should be, and the README's figure, which lies in docs/ too."""

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
    """What these files should be: README with the table of the first study, docs/literature.md with all other sources' numbers.

    Raises CodiBenchError where one cannot be read, or has not the two marks.
    """
    environment, rows = recorded_rows(baselines)
    drawings = figures(rows, environment, only=(FIGURE,))
    if not drawings:
        raise CodiBenchError(f"{baselines}: nothing is recorded there that a table could show; give --baselines DIR")
    figure = drawings[0]
    paper_rows = [row for row in rows if row.claim in PAPERS and row.status == OK]
    note = f"Recorded {environment['date']}; `=` stands for that: nothing was measured to draw this."
    head = f"![{figure.title}](docs/{FIGURE}.svg)\n\n{figure.caption} {note}\n\n"
    texts = {path: _fill(path, head + _indented(comparison(rows, environment)))}
    literature = path.parent / "docs" / "literature.md"
    texts[literature] = _fill(literature, f"{note}\n\n" + _indented(tables(paper_rows, environment)))
    return Readme(path, texts, figure)


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
