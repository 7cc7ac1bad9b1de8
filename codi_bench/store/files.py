"""Write files whole or not at all; hash files; find the folders that come with the package.

Links are followed. A device or fifo is written to, not replaced. An old file keeps its mode and, if the system allows it, its
owner; a new one has the mode of the user's umask. Of a file with several hard links, only this name gets the new contents. An old
file in a folder without write permission is overwritten in place, so a crash may leave it incomplete. No other module of the
package writes files (`tests/test_written_files.py`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock
from safetensors import SafetensorError

from codi_bench.errors import CodiBenchError, one_line

Write = Callable[[Path], object]
Inputs = Mapping[str, str | Path | None]  # what a command reads: paths by what they were given as
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
# files of a folder that a model may be read from
OF_MODELS = ("*.json", "*.txt", "*.model", "*.bin", "*.pt", "*model*.safetensors", "adapter*.safetensors", "checkpoint*")


def write_whole(path: Path, write: Write) -> None:
    """Write a file whole or not at all: `write(temporary_path)` writes it, then it is moved into place.

    Raises OSError, which names this file, if it cannot be written.
    """
    write_all({path: write})


def write_text(path: Path, text: str) -> None:
    """Write text whole or not at all, in UTF-8; a lone surrogate, which UTF-8 cannot write, becomes a question mark."""
    write_whole(path, _text(text))


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_bytes(data))


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write several texts: all of them or none."""
    write_all({path: _text(text) for path, text in texts.items()})


def write_all(writers: Mapping[Path, Write]) -> None:
    """`write_whole` for several files: none is moved into place before the last one is written."""
    drafts: dict[Path, _Draft] = {}
    try:
        for path, write in writers.items():
            with _naming(path):
                drafts[path] = draft = _Draft(path)
                write(draft.file)
        for path, draft in drafts.items():
            with _naming(path):
                draft.put()
    finally:
        for draft in drafts.values():
            draft.file.unlink(missing_ok=True)


def write_files(folder: Path, save: Write) -> None:
    """Write files that a library saves into a folder: `save(temporary_folder)` writes them, then each is moved into place."""
    with tempfile.TemporaryDirectory() as temporary:
        save(Path(temporary))
        for file in Path(temporary).iterdir():
            copy_file(file, folder / file.name)


def copy_file(source: Path, path: Path) -> None:
    """Copy a file."""
    write_whole(path, lambda temporary: shutil.copyfile(source, temporary))


def write_folder(folder: Path, fill: Write) -> None:
    """Make a folder whole or not at all: `fill(temporary_folder)` fills it, then it is moved into place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(_draft_name(folder.name))
    try:
        draft.mkdir()  # with the user's umask, which mkdtemp does not ask
        fill(draft)
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def open_log(path: Path) -> IO[str]:
    """Open a text log for writing; characters that UTF-8 cannot write are replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "w", encoding="utf-8", errors="replace")


def locked(path: Path) -> FileLock:
    """The lock of that path. Its file gets the mode of the umask; some versions of filelock would make it 0644."""
    touch(path)
    return FileLock(path, mode=0o600 | stat.S_IMODE(path.stat().st_mode) & 0o777)


def touch(path: Path) -> None:
    """Make an empty file, and its folder, unless it exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    open(path, "a").close()


def check_writable(path: Path, mend: str, inputs: Inputs | None = None) -> None:
    """Raises CodiBenchError unless a file can be written at that path. Call it before a long computation.

    inputs: the files and model folders that the command reads, which must not be overwritten under any name. Nothing is left
    on the disk: if folders do not exist yet, the folder that they would be made in is tested.
    """
    try:
        place = _place(path)
        if place and not place.exists():
            folder = next(parent for parent in place.parents if parent.exists())
            with tempfile.NamedTemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise CodiBenchError(f"{path}: cannot be written ({error.strerror or error}); {mend}") from error
    for name, source in (inputs or {}).items():
        if source is not None and _is_read(path, Path(source)):
            raise CodiBenchError(f"{path}: is an input too ({name}) and would be overwritten; {mend}")


def check_folder(folder: Path, files: Sequence[str], mend: str, inputs: Inputs | None = None, *, own: Sequence[str] = ()) -> None:
    """`check_writable` for files in a folder, which must not be one of the folders that are read.

    own: folders in it whose old files will be removed.
    """
    for name, source in (inputs or {}).items():
        if source is None or not Path(source).exists():
            continue
        inside = any(Path(source).resolve().is_relative_to((folder / other).resolve()) for other in own)
        if inside or (Path(source).is_dir() and folder.exists() and folder.samefile(source)):
            raise CodiBenchError(f"{folder}: is an input too ({name}) and would be overwritten; {mend}")
    for file in files:
        check_writable(folder / file, mend, inputs)


def _is_read(path: Path, source: Path) -> bool:
    """Is this existing file the source, or a file of a model in the source folder?"""
    with suppress(OSError):
        if source.is_dir():
            return any(file.samefile(path) for pattern in OF_MODELS for file in source.glob(pattern))
        return source.is_file() and source.samefile(path)  # of a terminal, which may be both, no input is lost
    return False


class _Draft:
    """An empty file beside a path, to be written and then put in its place."""

    def __init__(self, path: Path):
        self.path, place = path, _place(path)
        folder = place.parent if place else Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._make(folder)
        except OSError as error:
            if error.errno not in UNWRITABLE or not (place and place.exists()):
                raise
            self._make(Path(tempfile.gettempdir()))  # a file that may be written, in a folder that may not
        self.mode = stat.S_IMODE(self.file.stat().st_mode)  # a library may write another file in its place

    def _make(self, folder: Path) -> None:
        self.file = folder / _draft_name(self.path.name)
        os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # the system takes off the umask

    def put(self) -> None:
        """Move the draft into place, or write into a place that cannot be replaced."""
        place = _place(self.path)
        if place is None or place.parent != self.file.parent:
            return self._pour()
        if place.exists():
            old = place.stat()
            self.mode = stat.S_IMODE(old.st_mode)
            for owner in ((old.st_uid, old.st_gid), (-1, old.st_gid)):  # the group alone, where the owner may not be changed
                with suppress(OSError, AttributeError):
                    os.chown(self.file, *owner)
                    break
        if stat.S_IMODE(self.file.stat().st_mode) != self.mode:
            self.file.chmod(self.mode)
        try:
            os.replace(self.file, place)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            self._pour()  # a file that is a mount point, as those of containers are

    def _pour(self) -> None:
        with open(self.file, "rb") as source, _opened(self.path) as target:
            shutil.copyfileobj(source, target)


def _draft_name(name: str) -> str:
    """Hidden, and not longer than file systems allow."""
    return f".{name if len(os.fsencode(name)) <= 200 else name[:50]}.{secrets.token_hex(4)}"


def _place(path: Path) -> Path | None:
    """The place of the file that a path names through its links; None for one that is written to and not replaced.

    Raises OSError as `open` does for a folder, for links in a circle and for a file that may not be written.
    """
    place = Path(os.path.realpath(path))
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return place
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    is_there = place.exists() and os.path.samestat(place.stat(), status)  # not so of a pipe, or of a file that was removed
    return place if stat.S_ISREG(status.st_mode) and is_there and _standard(status) is None else None


def _standard(status: os.stat_result) -> int | None:
    """The standard stream of this process that a file is, if any: printed text goes there too, so it is not replaced."""
    for number in (1, 2):
        with suppress(OSError):
            if os.path.samestat(os.fstat(number), status):
                return number
    return None


def _opened(path: Path) -> IO[bytes]:
    number = _standard(os.stat(path))
    if number is None:  # no O_CREAT: of a fifo in a shared folder the system refuses it
        return open(path, "wb", opener=lambda name, flags: os.open(name, flags & ~os.O_CREAT))
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    return open(os.dup(number), "wb")


def _text(text: str) -> Write:
    return lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make an error name the target file: a full disk names no file, and nobody knows the temporary one."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(errno.EIO, one_line(error), str(path)) from error
    except OSError as error:
        temporary = f".{path.name[:50]}"
        if error.errno and (error.filename is None or Path(os.fsdecode(error.filename)).name.startswith(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


def file_hash(*paths: Path) -> str:
    """sha256 of the contents of some files, in order."""
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


def is_installed() -> bool:
    """Do the packaged baselines lie inside the installed package, where the next installation replaces them?"""
    return package_folder("baselines").parent == Path(__file__).resolve().parent.parent
