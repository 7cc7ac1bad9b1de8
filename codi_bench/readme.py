"""The table and the figure of README.md, drawn from the recorded baselines so that neither can say what the records do not."""

from __future__ import annotations

from dataclasses import dataclass
from html import unescape
from pathlib import Path

from codi_bench.errors import CodiBenchError
from codi_bench.files import write_text
from codi_bench.recorded import recorded
from codi_bench.report.figures import Drawn, figures
from codi_bench.report.render import tables

BEGIN, END = "<!-- begin: codi-bench baselines readme -->", "<!-- end: codi-bench baselines readme -->"
FIGURE = "headline"


@dataclass(frozen=True)
class Readme:
    """A README, as it should be, and its figure, which lies in docs/ beside it."""

    path: Path
    text: str
    figure: Drawn

    @property
    def picture(self) -> Path:
        return self.path.parent / "docs" / f"{FIGURE}.svg"

    def outdated(self) -> list[Path]:
        """Which of the two files say something else; of the picture its words count, for its lines are matplotlib's."""
        picture = self.picture.read_text(encoding="utf-8") if self.picture.is_file() else ""
        stale = {self.path: self.path.read_text(encoding="utf-8") != self.text}
        stale |= {self.picture: self.figure.alt not in unescape(picture)}
        return [path for path, wrong in stale.items() if wrong]

    def update(self) -> list[Path]:
        """Write what is outdated; gives what was written."""
        stale = self.outdated()
        for path in stale:
            write_text(path, self.text if path == self.path else self.figure.svg + "\n")
        return stale


def readme_of(path: Path, baselines: Path) -> Readme:
    """What that file should be. Raises CodiBenchError where it cannot be read, or has not the two marks."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CodiBenchError(f"{path}: cannot be read ({error}); give the README that shows the table") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise CodiBenchError(f"{path}: has no lines '{BEGIN}' and '{END}'; put both where table and figure shall stand")
    environment, rows = recorded(baselines)
    found = figures(rows, environment, only=(FIGURE,))
    if not found:
        raise CodiBenchError(f"{baselines}: nothing is recorded there that a table could show; give --baselines DIR")
    figure = found[0]
    table = "\n".join(f"    {line}".rstrip() for line in tables(rows, environment).splitlines())
    said = f"{figure.caption} Recorded {environment['date']}; `=` stands for that: nothing was measured to draw this."
    inside = f"![{figure.title}](docs/{FIGURE}.svg)\n\n{said}\n\n{table}\n"
    return Readme(path, f"{before}{BEGIN}\n\n{inside}\n{END}{after}", figure)
