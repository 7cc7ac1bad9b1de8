"""The tables and the figure of README.md and of the pages in docs/ that have any, drawn from what is recorded alone."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape
from itertools import chain
from pathlib import Path
from typing import cast

from codi_bench.claims import CLAIMS
from codi_bench.cli.control_page import without_recurrence
from codi_bench.cli.pages import contradictions, first_study
from codi_bench.errors import CodiBenchError
from codi_bench.models.registry import PUBLISHED
from codi_bench.records.as_rows import recorded_rows
from codi_bench.records.baseline import REPORTED, SOUND
from codi_bench.records.results import OK, Row
from codi_bench.report.comparison import StudyTable, study_table
from codi_bench.report.comparison_text import text_of
from codi_bench.report.console import cell, grid
from codi_bench.report.figures import Figure, figures
from codi_bench.report.render import comparison, tables
from codi_bench.report.table import number, shown_unit, word
from codi_bench.store.files import write_text
from codi_bench.thoughts.released import MODELS, RELEASED

BEGIN, END = "<!-- begin: codi-bench baselines readme -->", "<!-- end: codi-bench baselines readme -->"
FINDINGS_BEGIN, FINDINGS_END = "<!-- begin: findings -->", "<!-- end: findings -->"
CLAIM = "scratch-order"  # whose source README shows
CLAIM_BEGIN, CLAIM_END = "```python\n# codi_bench/claims/scratchpad.py", "```"
FIGURE = "headline"
CONTROL = "control"  # of a row: what is recorded of the model's control without recurrence
HEADS = "## Every claim that they decide", "## The files"

# Each finding takes its numbers from rows: claim, model, metric, protocol, and what of the row is shown.
FINDINGS: tuple[tuple[str, tuple[tuple[str, str, str, str, str], ...]], ...] = (
    (
        "CODI-LLaMA-1B answers more than CODI-GPT-2: {} against {} of the same 500 problems of GSM8K. The study said so.",
        (
            ("task-accuracy", "llama-3.2-1b", "accuracy_pairs", SOUND, "measured"),
            ("task-accuracy", "gpt2", "accuracy_pairs", SOUND, "measured"),
        ),
    ),
    (
        "What a question looks like (steps, length, size of numbers) predicts whether CODI-GPT-2 answers it rightly: AUC {} on "
        "1000 problems, without any thought. A probe on the thoughts has to do better than that.",
        (("rel-probe-surface", "gpt2", "auc_held_out_1000", SOUND, "measured"),),
    ),
    (
        "Read by the output head, every second thought of CODI-GPT-2 is a number and the others are none, in {} of problems; "
        "of CODI-LLaMA-1B in {}. The pattern belongs to one model, not to CODI.",
        (
            ("rel-parity", "gpt2", "alternates", SOUND, "measured"),
            ("rel-parity", "llama-3.2-1b", "alternates", SOUND, "measured"),
        ),
    ),
    (
        "Coconut over GPT-2, another model that reasons in vectors, answers {} of ProsQA without any thought. Its accuracy there "
        "is no evidence that it reasons in them.",
        (("rel-coconut-no-latents", "coconut-gpt2-prosqa-rizvi", "accuracy", SOUND, "measured"),),
    ),
    (
        "The study's probe protocol reads {} on `gpt2-mini`, and {} when the labels are permuted.",
        (
            ("probe-accuracy", "gpt2-mini", "mean", REPORTED, "measured"),
            ("probe-accuracy", "gpt2-mini", "mean", REPORTED, "null"),
        ),
    ),
    (
        "Learned constants in the place of thoughts, with nothing else changed, take `gpt2-mini` from {} to {} and `llama-mini` "
        "from {} to {}. Their probes read right from wrong about as well.",
        (
            ("task-accuracy", "gpt2-mini", "accuracy", SOUND, "measured"),
            ("task-accuracy", "gpt2-mini", "accuracy", SOUND, CONTROL),
            ("task-accuracy", "llama-mini", "accuracy", SOUND, "measured"),
            ("task-accuracy", "llama-mini", "accuracy", SOUND, CONTROL),
        ),
    ),
)

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

    README: the study's table, findings, and the source of a claim. docs/released.md: the table of the study's own two models,
    from what others released. docs/findings/: literature.md has the numbers of other sources; `cli.pages` writes first-study.md
    and contradictions.md, `cli.control_page` without-recurrence.md. Raises CodiBenchError for a file that cannot be read or lacks
    its marks, and for a number that is shown and not recorded.
    """
    environment, rows = recorded_rows(baselines, released=False)
    drawings = figures(rows, environment, only=(FIGURE,))
    if not drawings:
        raise CodiBenchError(f"{baselines}: nothing is recorded there that a table could show; give --baselines DIR")
    figure = drawings[0]
    paper_rows = [row for row in rows if row.claim in PAPERS and row.status == OK]
    note = f"Recorded {environment['date']}; `=` stands for that: nothing was measured to draw this."
    table = "\n".join(text_of(cast(StudyTable, study_table(rows, environment))))
    texts = {path: _fill(path, f"![{figure.title}](docs/{FIGURE}.svg)\n```text\n{table}\n```")}
    literature = path.parent / "docs" / "findings" / "literature.md"
    texts[literature] = _fill(literature, f"\n{note}\n\n{_indented(tables(paper_rows, environment))}\n")
    released = path.parent / "docs" / "released.md"
    environment, rows = recorded_rows(baselines)
    theirs = [row for row in rows if row.model in (*PUBLISHED, *MODELS)]
    table = _indented(comparison([row for row in theirs if row.model in PUBLISHED], environment))
    pages = {
        "first-study": first_study(rows, environment),
        "contradictions": contradictions(rows),
        "without-recurrence": without_recurrence(rows),
    }
    for name, inside in pages.items():
        page = literature.with_name(f"{name}.md")
        texts[page] = _fill(page, f"\nRecorded {environment['date']}.\n\n{inside}\n")
    parts = [note, table, HEADS[0], _words(theirs), HEADS[1], _files()]
    texts[released] = _fill(released, "\n" + "\n\n".join(parts) + "\n")
    texts[path] = _fill(path, _findings(rows), FINDINGS_BEGIN, FINDINGS_END, texts[path])
    texts[path] = _fill(path, inspect.getsource(CLAIMS[CLAIM].function).rstrip(), CLAIM_BEGIN, CLAIM_END, texts[path])
    return Readme(path, texts, figure)


def _findings(rows: Sequence[Row]) -> str:
    """A line each, with its numbers in it. Raises CodiBenchError for a number that is not recorded."""
    by_key = {row.key: row for row in rows}
    lines: list[str] = []
    for sentence, places in FINDINGS:
        numbers = []
        for *key, part in places:
            row = by_key.get((key[0], key[1], key[2], key[3]))
            control = row.detail.get("control") if row is not None else None
            shown = (control["number"] if control else None) if part == CONTROL else getattr(row, part, None)
            if row is None or not shown:
                raise CodiBenchError(f"{key[1]}/{key[0]}: '{key[2]}' is not recorded, and README shows it; record it first")
            unit = "auc" if key[2].startswith("auc") else shown_unit(row)
            numbers.append(number(shown, unit, " %" * (unit == "fraction")))
        lines.append(f"{len(lines) + 1}. {sentence.format(*numbers)}")
    return "\n".join(lines)


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


def _fill(path: Path, inside: str, begin: str = BEGIN, end: str = END, text: str = "") -> str:
    """The file, or what shall be its text, with this between two marks."""
    try:
        text = text or path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CodiBenchError(
            f"{path}: cannot be read ({error}); give the file that has the lines '{begin}' and '{end}'"
        ) from error
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (opened and closed):
        raise CodiBenchError(f"{path}: has no lines '{begin}' and '{end}'; put both where the generated part belongs")
    return f"{before}{begin}\n{inside}\n{end}{after}"
