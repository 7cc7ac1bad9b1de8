"""Files written whole or not at all, hashes of files, and the folders that travel with the package."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from codi_bench.errors import CodiBenchError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: `write(temporary_path)` in the same folder, then rename.

    Raises OSError, which names this file, where it cannot be written.
    """
    name = path.with_name(f".{path.name}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=name.name)
        os.close(handle)
        try:
            write(Path(temporary))
            os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
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


def package_folder(name: str) -> Path:
    """`benchmarks` or `baselines`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return next((folder for folder in (package / name, package.parent / name) if folder.is_dir()), package.parent / name)
