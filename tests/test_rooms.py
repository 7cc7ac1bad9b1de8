"""The house: imports run one way by the table of docs/architecture.md, and no file or folder outgrows its reader."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import codi_bench

PACKAGE = Path(codi_bench.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"
DATA = {"controls", "embedded", "benchmarks", "baselines"}
ALONE = {
    "transformers": {"models", "training"},
    "peft": {"models", "training"},
    "pytest": {"plugin"},
    "_pytest": {"plugin"},
    "typer": {"cli"},
}
LARGE = {"models/model.py"}  # the model, and how one is found and loaded
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="NOT A CHECKOUT: docs do not travel with the package")


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of the page."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


ROOMS = [row[0] for row in table("Rooms")] if PAGE.is_file() else []
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in DATA)


def imported(source: str, name: str = "") -> Iterator[str]:
    """The modules that a source file imports anywhere, also inside functions; names taken from a package with it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def upward(room: str, source: str) -> list[str]:
    """What a file of a room imports from rooms that stand below it in the table."""
    rooms = [module.split(".")[1] for module in imported(source) if module.startswith("codi_bench.") and module.count(".")]
    return [other for other in rooms if other in ROOMS and ROOMS.index(other) > ROOMS.index(room)]


def test_every_folder_of_the_package_is_a_room_of_the_table():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries - DATA == {"__init__.py", "py.typed", *ROOMS} and len(entries - {"benchmarks", "baselines"}) <= 20


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py" or len(path.parts) > 1], ids=str)
def test_imports_run_one_way(path):
    assert not upward(room_of(path), (PACKAGE / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("rules", "from codi_bench.models.loading import load", ["models"]),
        ("rules", "def f():\n    import codi_bench.report.table", ["report"]),
        ("report", "from codi_bench import rules, suite", ["suite"]),
        ("suite", "from codi_bench.rules import stats\nimport torch", []),
    ],
)
def test_the_check_sees_an_import_of_the_wrong_way(room, source, found):
    assert upward(room, source) == found


@pytest.mark.parametrize("library", ALONE)
def test_a_library_is_known_to_its_room_alone(library):
    users = {
        room_of(path)
        for path in FILES
        for module in imported((PACKAGE / path).read_text(encoding="utf-8"))
        if module.split(".")[0] == library
    }
    assert users <= ALONE[library]


def test_files_are_short():
    lengths = {path.as_posix(): len((PACKAGE / path).read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path for path, length in lengths.items() if length > 450} <= LARGE


def test_the_spine_is_there_and_short():
    files = [PACKAGE.parent / row[0] for row in table("The spine")]
    assert all(path.is_file() for path in files) and 10 <= len(files) <= 17
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 4000


@pytest.mark.parametrize("path", ["README.md", *sorted(path.name for path in PAGE.parent.glob("*.md"))])
def test_files_that_the_docs_name_are_there(path):
    root = PACKAGE.parent
    text = (root / path if path == "README.md" else PAGE.parent / path).read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])((?:codi_bench|benchmarks|tests|docs)/[\w/.-]+\.(?:py|md|svg|json))\b", text)
    assert [name for name in named if not (root / name).is_file()] == []
