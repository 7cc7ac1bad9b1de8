"""Results of a sweep, one JSON file per task, in any place that fsspec knows: a folder, s3://… or gs://…."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from codi_bench.errors import CodiBenchError, one_line
from codi_bench.store.files import write_bytes
from codi_bench.store.names import check_name


@dataclass(frozen=True)
class SweepResults:
    """Results at `location`, a folder or a URL of fsspec. Each is complete or absent, and has the key under which it was made."""

    location: str

    @cached_property
    def _where(self):
        from fsspec.core import url_to_fs

        try:
            return url_to_fs(self.location)
        except (ImportError, ValueError) as error:
            raise CodiBenchError(f"{self.location}: cannot be written to ({one_line(error)})") from error

    def path(self, name: str) -> str:
        return f"{self._where[1].rstrip('/')}/{name}"

    def check(self) -> None:
        """Raises CodiBenchError for a place that cannot be written to. Call it before a training, which takes minutes."""
        files, mark = self._where[0], f"tried.{uuid.uuid4().hex}"
        try:
            self.put(mark, b"")
            files.rm_file(self.path(mark))
        except Exception as error:  # each kind of place has its own
            raise CodiBenchError(f"--out {self.location}: cannot be written to ({one_line(error)}); give another") from error

    def read(self, name: str, key: str) -> dict | None:
        """The result of a task under this key; None if there is none, or one with another key.

        Raises CodiBenchError for a file that cannot be read.
        """
        files, path = self._where[0], self.path(f"{name}.json")
        try:
            record = json.loads(files.cat_file(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CodiBenchError(f"{path}: {one_line(error)}; this file cannot be read") from error
        except ValueError as error:
            raise CodiBenchError(f"{path}: {one_line(error)}; remove it, and the sweep does that task again") from error
        return record["result"] if isinstance(record, dict) and record.get("key") == key else None

    def write(self, name: str, key: str, result: dict) -> None:
        text = json.dumps({"key": key, "result": result}, indent=1, sort_keys=True) + "\n"
        self.put(f"{name}.json", text.encode())

    def put(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all: under a temporary name first, then moved into place."""
        files, path = self._where[0], self.path(name)
        if files.protocol == "file" or "file" in files.protocol:
            return write_bytes(Path(path), data)
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        temporary = f"{path}.{uuid.uuid4().hex}"
        files.pipe_file(temporary, data)
        files.mv(temporary, path)

    def put_folder(self, name: str, folder: Path) -> None:
        """Copy every file of a folder, and then a mark that it is complete."""
        names = [path.name for path in sorted(folder.iterdir())]
        for file in names:
            self.put(f"{name}/{file}", (folder / file).read_bytes())
        self.put(f"{name}.json", json.dumps({"files": names}).encode())

    def there(self, name: str) -> bool:
        """Does a folder exist, and is it complete?"""
        return self._where[0].isfile(self.path(f"{name}.json"))

    def get_folder(self, name: str, folder: Path) -> Path:
        """Copy a folder from the location. Raises CodiBenchError if it is missing or incomplete."""
        files, path = self._where[0], self.path(name)
        if not self.there(name):
            raise CodiBenchError(
                f"{path}: the folder is missing or incomplete; remove the result of its training, and the sweep makes it again"
            )
        for file in json.loads(files.cat_file(f"{path}.json"))["files"]:
            write_bytes(folder / check_name(file, f"{path}.json: file"), files.cat_file(f"{path}/{file}"))
        return folder
