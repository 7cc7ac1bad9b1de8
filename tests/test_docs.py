"""README and docs: what a command shows is what it prints, what a page names exists, and the site has every command and door.

```console blocks are run, in the order of their page and in one empty folder a page. A line `…` in the output stands for any
lines, a `…` inside a line for any text; numbers may differ as they do between instruction sets. A block with title="FILE" is
written to that file first, and `<!-- setup: COMMAND -->` is run unseen ($MODEL is the folder of gpt2-mini). `<!-- nightly -->`
before a block leaves one that takes long to the night. Commands and options in ```sh blocks are looked up.
`CODI_BENCH_DOCS=update pytest tests/test_docs.py` puts in what the commands print. Numbers that prose quotes are compared with
the records that `<!-- numbers: MODEL/CLAIM -->` names before their paragraph (`; and 50 3` lists those that are none).
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent, indent

import pytest
from typer.main import get_command

import codi_bench
from codi_bench.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted(DOCS.rglob("*.md"))] if DOCS.is_dir() else []
BLOCK = re.compile(r"(<!-- nightly -->\n+)?^( *)```(\w+)([^\n]*)\n(.*?)^ *```$", re.M | re.S)
TITLE = re.compile(r'title="([^"]+)"')
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?")
UPDATE = os.environ.get("CODI_BENCH_DOCS") == "update"
OTHERS = {"pip", "tox", "git", "gh", "hf", "cd", "cat", "ls", "head", "mkdir", "export", "pre-commit", "mkdocs", "."}  # not ours
DOORS = {  # what a user may rely on, by the name that it is documented under
    "codi_bench": ["load", "load_problems", "run"],
    "codi_bench.audit": ["probes", "outcomes", "read_probes", "read_outcomes"],
    "codi_bench.measures": ["probe_grid", "ProbeGrid", "load_sae"],
    "codi_bench.problems": ["load_problems", "score", "Problem"],
    "codi_bench.rules": ["wilson"],
}
MEMBERS = ("think", "answer", "answers", "explain")
pytestmark = pytest.mark.skipif(
    not (ROOT / "mkdocs.yml").is_file(), reason="NOT A CHECKOUT: the site does not travel with the package"
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. start, end: where what is in it stands in the page's text."""

    kind: str
    title: str
    nightly: bool
    margin: str
    text: str
    start: int
    end: int

    def commands(self) -> Iterator[tuple[str, str]]:
        """(command, output shown) of a console block."""
        for part in re.split(r"^\$ ", self.text, flags=re.M)[1:]:
            command = re.match(r"(?:[^\n]*\\\n)*[^\n]*\n?", part)
            assert command
            yield command[0].rstrip("\n"), part[command.end() :]


def blocks(text: str) -> list[Block]:
    parts = []
    for match in BLOCK.finditer(text):
        title = TITLE.search(match[4])
        span = match.span(5)
        parts.append(Block(match[3], title[1] if title else "", bool(match[1]), match[2], dedent(match[5]), *span))
    return parts


def pages_with(*kinds: str) -> list[Path]:
    return [page for page in PAGES if any(block.kind in kinds for block in blocks(page.read_text(encoding="utf-8")))]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# What commands print


def agree(shown: str, printed: str) -> bool:
    """Is this what was printed? As a shell's pattern over lines, in which a line `…` is the star."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    parts = [[" ".join(line.split()) for line in part] for part in _divided(shown.splitlines())]
    first, *others = parts
    if not _at(first, lines, 0):
        return False
    place = len(first)
    if not others:
        return place == len(lines)
    *middle, last = others
    for part in middle:
        place = next((i + len(part) for i in range(place, len(lines) - len(part) + 1) if _at(part, lines, i)), -1)
        if place < 0:
            return False
    return len(lines) - len(last) >= place and _at(last, lines, len(lines) - len(last))


def _divided(lines: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for line in lines:
        if line.strip() == "…":
            parts.append([])
        else:
            parts[-1].append(line)
    return parts


def _at(part: list[str], lines: list[str], place: int) -> bool:
    return len(part) <= len(lines) - place and all(map(_same_line, part, lines[place:]))


def _same_line(shown: str, printed: str) -> bool:
    pattern = r"(.*?)".join(f"({NUMBER.pattern})".join(map(re.escape, NUMBER.split(part))) for part in shown.split("…"))
    match = re.fullmatch(pattern, printed)
    if not match:
        return False
    numbers = [NUMBER.findall(part) for part in shown.split("…")]
    groups, place = match.groups(), 0
    for part in numbers:
        if [*map(float, part)] != pytest.approx([*map(float, groups[place : place + len(part)])], rel=0.1, abs=0.11):
            return False
        place += len(part) + 1
    return True


def test_what_is_shown_may_leave_out_lines_and_say_other_seconds_and_nothing_else():
    printed = "one 0.51 [0.4]\ntwo in 12 s\nthree\nfour\n"
    assert agree(printed, printed) and agree("one 0.52 [0.4]\n…\nfour\n", printed) and agree("…\ntwo in … s\n…\n", printed)
    assert agree("…\n", printed) and agree("…\n", "") and agree("", "")
    for wrong in (
        "",
        "one 0.51 [0.4]\n",
        "…\nthree\n",
        "four\n…\n",
        "one 0.91 [0.4]\n…\n",
        "one 0.51 (0.4)\n…\n",
        "…\nfive\n…\n",
    ):
        assert not agree(wrong, printed), wrong


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A function (command) → what it prints, in an empty folder where `codi-bench` and `python` are those that run this test."""
    folder, programs = tmp_path / "folder", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, words in (("codi-bench", "-P -m codi_bench.cli "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words}"$@"\n')
        (programs / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
    }
    environment |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600
        )
        return done.stdout.decode()

    monkeypatch.chdir(folder)
    return run


def checked(page: Path, shell, *, nightly: bool) -> None:
    """Run the page's blocks, in order."""
    text = page.read_text(encoding="utf-8")
    new, end, wrong = [], 0, []
    for block in blocks(text):
        if block.nightly and not nightly:
            continue
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
        if block.kind != "console":
            continue
        results = [(command, shown, shell(command)) for command, shown in block.commands()]
        wrong += [
            (command, printed) for command, shown, printed in results if not agree(shown, printed) or "Traceback" in printed
        ]
        console = [f"$ {command}\n{shown if agree(shown, printed) else _lines(printed)}" for command, shown, printed in results]
        new += [text[end : block.start], indent("".join(console), block.margin)]
        end = block.end
    if wrong and UPDATE:
        page.write_text("".join([*new, text[end:]]), encoding="utf-8")
    texts = "\n".join(f"$ {command}\n{printed}" for command, printed in wrong)
    assert not wrong, f"{named(page)} shows something else; CODI_BENCH_DOCS=update puts this in:\n{texts}"


def _lines(printed: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


@pytest.mark.parametrize("page", pages_with("console"), ids=named)
def test_a_page_shows_what_its_commands_print(page, shell):
    checked(page, shell, nightly=False)


AT_NIGHT = [page for page in PAGES if any(block.nightly for block in blocks(page.read_text(encoding="utf-8")))]


@pytest.mark.nightly
@pytest.mark.parametrize("page", AT_NIGHT, ids=named)
def test_a_page_shows_what_its_long_commands_print(page, shell):
    checked(page, shell, nightly=True)


# What pages name


def command_lines(block: Block) -> Iterator[list[str]]:
    """The words of each simple command of a block: of console blocks those behind `$`, of others every line."""
    lines = (
        [command for command, _ in block.commands()] if block.kind == "console" else block.text.replace("\\\n", " ").splitlines()
    )
    for line in lines:
        lexer = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;()"):
                yield from [words] if words else []
                words = []
            elif words or not re.match(r"\w+=", word):  # a variable that is set for the command
                words.append(word)


def pytest_options(config) -> set[str]:
    groups = (config._parser._anonymous, *config._parser._groups)
    return {name for group in groups for option in group.options for name in option.names()}


def unknown(words: list[str], config) -> str:
    """What of a command line does not exist; "" if all of it does."""
    name, *rest = Path(words[0]).name or words[0], *words[1:]
    if name in OTHERS:
        return ""
    if name in ("python", "python3"):
        return "" if rest[:1] != ["-m"] or find_spec(rest[1]) else rest[1]
    if name == "pytest":
        return _unknown_option(rest, pytest_options(config))
    if name != "codi-bench":
        return name
    command = get_command(app)
    while hasattr(command, "list_commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return rest[0]
        command = command.commands[rest.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
    return _unknown_option(rest, options | (pytest_options(config) if command.name == "run" else set()))


def _unknown_option(words: list[str], options: set[str]) -> str:
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
    return next((option for option in given if option not in options), "")


@pytest.mark.parametrize("page", pages_with("console", "sh"), ids=named)
def test_commands_and_options_that_a_page_names_exist(page, pytestconfig):
    shells = [block for block in blocks(page.read_text(encoding="utf-8")) if block.kind in ("console", "sh")]
    wrong = [(shlex.join(words), unknown(words, pytestconfig)) for block in shells for words in command_lines(block)]
    assert [(line, what) for line, what in wrong if what] == []


def test_a_command_or_option_that_does_not_exist_is_noticed(pytestconfig):
    lines = {
        "codi-bench run --model mine=FOLDER -n 4 | head": "",
        "HF_HUB_OFFLINE=1 codi-bench baselines accept --reason 'a b' && git commit": "",
        "codi-bench audit probe FILE": "probe",
        "codi-bench think --modell gpt2": "--modell",
        "pytest benchmarks --claims size": "--claims",
        "python -m benchmarks.calibration.calibrate x; python -m benchmarks.calibrated": "benchmarks.calibrated",
        "codybench run": "codybench",
    }
    for line, what in lines.items():
        answers = [unknown(words, pytestconfig) for words in command_lines(Block("sh", "", False, "", line, 0, 0))]
        assert "".join(answers) == what, line


@pytest.mark.parametrize("page", pages_with("python"), ids=named)
def test_python_of_a_page_is_python_and_what_it_imports_of_ours_exists(page):
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.kind != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("codi_bench"):
                assert all(hasattr(import_module(node.module), alias.name) for alias in node.names), ast.unparse(node)


# Numbers in prose

QUOTED = re.compile(r"<!-- numbers: ([^;]+?)(?:; and (.+?))? -->\n(.*?)(?=\n\n|\Z)", re.S)
INTERVAL = re.compile(r"\[[-+]?\d[\d.]*, [-+]?\d[\d.]*\]")
GENERATED = re.compile(r"<!-- begin: .*?<!-- end: [^\n]*|^( *)```.*?^ *```$|^(?: {4}.*\n)+", re.S | re.M)


def quotable(rows, source: str) -> list[float]:
    """Numbers as a page may print what SOURCE has: MODEL/CLAIM, MODEL/CLAIM:METRIC or a file of baselines."""
    if source.endswith(".json"):
        recorded = json.loads((ROOT / "baselines" / source).read_text(encoding="utf-8"))
        texts = json.dumps([recorded[name] for name in ("settings", "target", "said", "in common")])
        values = [scale * float(text) for text in NUMBER.findall(texts) for scale in (1, 100, 0.01)]
    else:
        place, _, metric = source.partition(":")
        values = [
            scale * abs(value)
            for row in rows
            if f"{row.model}/{row.claim}" == place and row.metric.startswith(metric)
            for value in _values(row)
            for scale in ((1, 100) if row.unit == "fraction" else (1,))
        ]
    assert values, f"{source} is not recorded"
    return values


def _values(row) -> list[float]:
    """What is published, measured and recorded of a row, by how much it is more than its null, and what its control gave."""
    numbers = [row.reported or {}, row.measured or {}, row.null or {}, row.detail.get("control", {}).get("number", {})]
    both = [number["value"] for number in numbers[1:3] if number.get("value") is not None]
    values = [value for number in numbers for value in number.values() if isinstance(value, int | float)]
    return [*values, row.n or 0, *([both[0] - both[1]] if len(both) == 2 else [])]


def not_recorded(text: str, rows) -> list[str]:
    """Numbers of a page that its `<!-- numbers: SOURCE …; and OTHER … -->` does not account for."""
    wrong = []
    for sources, others, block in QUOTED.findall(text):
        if sources == "elsewhere":  # published by others, and not measured here
            continue
        values = [value for source in sources.split() for value in quotable(rows, source)]
        prose = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", block)
        for number in re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])", prose):
            half = 0.5 * 10.0 ** -len(number.partition(".")[2]) + 1e-9
            if number not in others.split() and all(abs(value - float(number)) > half for value in values):
                wrong.append(number)
    return wrong


@pytest.fixture(scope="module")
def recorded():
    from codi_bench.records.as_rows import recorded_rows

    return recorded_rows(ROOT / "baselines")[1]


@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- numbers: " in page.read_text(encoding="utf-8")], ids=named)
def test_numbers_that_a_page_quotes_are_those_of_the_records(page, recorded):
    assert not_recorded(page.read_text(encoding="utf-8"), recorded) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_number_with_an_interval_says_which_record_it_quotes(page):
    prose = QUOTED.sub("", GENERATED.sub("", page.read_text(encoding="utf-8")))
    assert [line for line in prose.splitlines() if INTERVAL.search(line)] == [], "put <!-- numbers: MODEL/CLAIM --> before it"


def test_a_quoted_number_that_moved_is_noticed(recorded):
    page = "<!-- numbers: gpt2-mini/probe-accuracy:mean; and 50 -->\nChance is 50 %, read is 88.7 % [85.1, 91.9], null {} %.\n"
    assert not_recorded(page.format("81.2"), recorded) == [] and not_recorded(page.format("81.3"), recorded) == ["81.3"]
    with pytest.raises(AssertionError, match="not recorded"):
        not_recorded(page.replace("accuracy", "accurate"), recorded)


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A function (page) → its text, of the site without what notebooks show (`tox -e docs` runs those)."""
    pytest.importorskip("mkdocs", reason="NOT INSTALLED: pip install 'codi-bench[docs]'")
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "CODI_BENCH_NOTEBOOKS": "false", "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def text_of(site: Path, page: str) -> str:
    """The words of a page, one blank between them."""
    html = (site / page / "index.html").read_text(encoding="utf-8")
    article = re.search(r"<article.*?</article>", html, re.S)
    assert article
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", article[0])).split())


def test_the_reference_has_every_command_and_option(site):
    text = text_of(site, "reference/command-line")
    commands = [(["codi-bench"], get_command(app))]
    for path, command in commands:
        commands += [([*path, name], child) for name, child in getattr(command, "commands", {}).items()]
        assert f"{' '.join(path)} " in text and " ".join((command.help or "").split("`")[0].split()[:6]) in text, path
        section = text.split(f"{' '.join(path)} ")[1:]
        for option in [option for parameter in command.params for option in parameter.opts if option.startswith("--")]:
            assert any(option in part for part in section), (path, option)
    assert len(commands) > 20


def test_the_reference_has_every_option_of_a_run(site, pytestconfig):
    text = text_of(site, "reference/options")
    ours = [option for group in pytestconfig._parser._groups if group.name == "codi-bench" for option in group.options]
    assert len(ours) > 12 and all(f"{option.names()[0]} " in text for option in ours)
    assert [option for option in re.findall(r"(?<= )--?[a-z][\w-]*", text) if option not in pytest_options(pytestconfig)] == []


def test_the_reference_has_every_public_door(site):
    text = text_of(site, "reference/python")
    assert all(f" {module}.{name} " in text for module, names in DOORS.items() for name in names)
    for module in DOORS:
        public = import_module(module.replace(".audit", ".audits.public"))
        assert {*DOORS[module]} <= {*public.__all__}
        assert all(f"{module}.{name}" in text for name in public.__all__ if callable(getattr(public, name)))
    assert all(f" {member} ¶ {member} (" in text for member in MEMBERS) and "hidden_states [n, 1 + K, L + 1, d]" in text
    assert {*codi_bench.__all__} - {"audit"} == {*DOORS["codi_bench"]}


def test_the_reference_has_every_field_of_the_files(site):
    from codi_bench.records.baseline import Record, Reported, Tolerance
    from codi_bench.records.results import Row, RunEnvironment

    text = text_of(site, "reference/files")
    fields = [
        *Row.__annotations__,
        *RunEnvironment.__annotations__,
        *Record.model_fields,
        *Reported.model_fields,
        *Tolerance.model_fields,
    ]
    assert [field for field in fields if f" {field} " not in text] == []


def test_the_site_needs_nothing_from_elsewhere(site):
    loaded = re.compile(r'<(?:script|img|iframe)[^>]+src="?(?:https?:)?//|<link[^>]+rel="?stylesheet"?[^>]+href="?(?:https?:)?//')
    pages = [*site.rglob("*.html")]
    assert len(pages) > 20 and [page for page in pages if loaded.search(page.read_text(encoding="utf-8"))] == []
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert '<td><span class="whole">✓ SUPPORTED</span></td>' in text  # neither broken there, nor numbers with intervals
    assert "<!-- from the code" not in text and not re.search(r'href="(?!http)[^"]*\.(md|ipynb)[#"]', text)


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.ipynb")), ids=named)
def test_a_notebook_is_kept_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 3 and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
