"""Files written whole or not at all, hashes of files and of code, and the folders that travel with the package."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from codi_bench.errors import CodiBenchError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: `write(temporary_path)` in the same folder, then rename.

    Raises OSError, which names this file, where it cannot be written.
    """
    name = path.with_name(f".{path.name}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=name.name)
        os.close(handle)
        try:
            write(Path(made))
            os.chmod(made, 0o644)  # mkstemp makes files that only their owner can read
            os.replace(made, path)
        finally:
            Path(made).unlink(missing_ok=True)
    except OSError as error:
        if error.errno and (error.filename is None or str(error.filename).startswith(str(name))):
            error.filename = str(path)  # a full disk names no file, and nobody knows the temporary one
        raise


def write_text(path: Path, text: str) -> None:
    """Write text whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def check_writable(path: Path, mend: str) -> None:
    """Raises CodiBenchError unless a file can be made at that path, before hours are spent on what goes into it.

    Leaves nothing behind: of folders that do not exist yet, the one that they would be made in is tried.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CodiBenchError(f"{path}: cannot be written there ({error.strerror or error}); {mend}") from error


def file_hash(*paths: Path) -> str:
    """sha256 over the contents of some files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def code_hash(*modules) -> str:
    """sha256 over what some modules do: their source without comments, docstrings and the layout inside a statement."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(_statements(Path(module.__file__).read_text(encoding="utf-8")))
    return digest.hexdigest()


@cache  # some forty modules are part of most hashes
def _statements(source: str) -> bytes:
    blocks = {tokenize.NEWLINE: ";", tokenize.INDENT: "{", tokenize.DEDENT: "}"}  # a statement in another block is other code
    found, before, held = [], tokenize.NEWLINE, ""  # held: a string that opens a statement, a docstring if nothing follows
    for kind, text in _tokens(source):
        if kind in (tokenize.COMMENT, tokenize.NL):
            continue
        if kind == tokenize.STRING and before in blocks:
            held = text
        elif held and kind == tokenize.NEWLINE:
            held = ""
        else:
            found.append(f"{held}{blocks.get(kind, text)} ")
            held = ""
        before = kind
    return "".join(found).encode()


def _tokens(source: str) -> Iterator[tuple[int, str]]:
    """Kind and text of every token. From Python 3.12 on an f-string comes in parts: it is one string here, as before."""
    begins, ends = (getattr(tokenize, f"FSTRING_{end}", None) for end in ("START", "END"))
    lines, depth, start = io.StringIO(source).readlines(), 0, (0, 0)  # those that the tokenizer counts
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == begins:
            start = start if depth else token.start
            depth += 1
        elif token.type == ends:
            depth -= 1
            if not depth:
                (first, left), (last, right) = start, token.end
                inside = [*lines[first - 1 : last - 1], lines[last - 1][:right]]
                inside[0] = inside[0][left:]
                yield tokenize.STRING, "".join(inside)
        elif not depth:
            yield token.type, token.string


def modules_in(*packages: ModuleType) -> list[ModuleType]:
    """The modules that lie in some packages, by name, package after package."""
    return [import_module(f"{package.__name__}.{found.name}") for package in packages for found in iter_modules(package.__path__)]


def package_folder(name: str) -> Path:
    """`benchmarks` or `baselines`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return next((folder for folder in (package / name, package.parent / name) if folder.is_dir()), package.parent / name)
