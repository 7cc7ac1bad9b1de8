"""Results of a sweep, one JSON file a task, in any place that fsspec knows: a folder, s3://…, gs://…"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from codi_bench.errors import CodiBenchError, one_line


@dataclass(frozen=True)
class Results:
    """`location`: a folder or a URL of fsspec. A result is there whole or not at all, with the key that it was made under."""

    location: str

    @cached_property
    def _where(self):
        from fsspec.core import url_to_fs

        try:
            return url_to_fs(self.location)
        except (ImportError, ValueError) as error:
            raise CodiBenchError(f"{self.location}: no place that can be written to ({one_line(error)})") from error

    def path(self, name: str) -> str:
        return f"{self._where[1].rstrip('/')}/{name}"

    def read(self, name: str, key: str) -> dict | None:
        """The result of a task under this key; None where there is none, or one of another key.

        Raises CodiBenchError for a file that cannot be read.
        """
        files, path = self._where[0], self.path(f"{name}.json")
        try:
            held = json.loads(files.cat_file(path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CodiBenchError(f"{path}: {one_line(error)}; remove it, and the sweep does that task again") from error
        return held["result"] if isinstance(held, dict) and held.get("key") == key else None

    def write(self, name: str, key: str, result: dict) -> None:
        text = json.dumps({"key": key, "result": result}, indent=1, sort_keys=True) + "\n"
        self.put(f"{name}.json", text.encode())

    def put(self, name: str, data: bytes) -> None:
        """A file, whole or not at all: written beside its place and moved there."""
        files, path = self._where[0], self.path(name)
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        half = f"{path}.{uuid.uuid4().hex}"
        files.pipe_file(half, data)
        if files.protocol == "file" or "file" in files.protocol:
            os.replace(half, path)  # fsspec's own move copies first
        else:
            files.mv(half, path)

    def put_folder(self, name: str, folder: Path) -> None:
        """Every file of a folder; what marks it as whole is the result of its task, written after it."""
        for path in sorted(folder.iterdir()):
            self.put(f"{name}/{path.name}", path.read_bytes())

    def get_folder(self, name: str, folder: Path) -> Path:
        """Copy a folder from there; raises CodiBenchError where it is not."""
        files, path = self._where[0], self.path(name)
        if not files.isdir(path):
            raise CodiBenchError(f"{path}: no such folder; remove the result of its task, and the sweep does it again")
        folder.mkdir(parents=True, exist_ok=True)
        for each in files.ls(path, detail=False):
            (folder / each.rpartition("/")[2]).write_bytes(files.cat_file(each))
        return folder
