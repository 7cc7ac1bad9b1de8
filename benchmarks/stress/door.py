"""`codi-bench run` in a process of its own that can be killed, and what it leaves on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from codi_bench.store.arrays import UnusableError, read_sealed

RESULTS = "report/results.json"
HALVES = {"an entry": "cache/store/.*.safetensors.*", "results.json": "report/.results.json.*", "the report": "report/**/.*"}
# all by which two reports may differ: when the run was, how long it took, and how fast the models were
TIMES = re.compile(
    rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d\+00:00)?"
    rb'|"seconds": \d+|"speed": {[^}]*}'
    rb"|Problems a second(</th>(?s:.*?)</tr>| .*)"
)
POLL = 0.001  # seconds
LONGEST = 3600.0  # seconds, after which a run is taken to hang


@dataclass(frozen=True)
class Door:
    """`codi-bench run` with these arguments, in a folder that has its report, what it said and, if not elsewhere, its cache.

    threads: None: as many as there are cores.
    """

    folder: Path
    arguments: tuple[str, ...]
    threads: int | None = None
    cache: Path | None = None

    @contextmanager
    def open(self) -> Iterator[subprocess.Popen]:
        """A started run; with everything that it started it is killed where the block ends, unless it has ended itself."""
        self.folder.mkdir(parents=True, exist_ok=True)
        threads = {} if self.threads is None else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))  # for -p slow_disk
        cache = str(self.cache or self.folder / "cache")
        with open(self.folder / "said.txt", "ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "codi_bench.cli", "run", *self.arguments, "-p", "no:cacheprovider"],
                cwd=self.folder,
                env={**os.environ, **threads, "PYTHONPATH": path, "CODI_BENCH_CACHE": cache},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def run(self) -> dict:
        """One run to its end: exit status, seconds, and when the first and the last half-written file of each kind was seen."""
        start, seen = time.monotonic(), {}
        with self.open() as process:
            while process.poll() is None and (now := time.monotonic() - start) < LONGEST:
                for name in HALVES:
                    if self.halves(name):
                        seen[name] = [seen.get(name, [now])[0], now]
                time.sleep(POLL)
        return {"exit": process.returncode, "seconds": time.monotonic() - start, "seen": seen}

    def halves(self, name: str) -> set[Path]:
        """The half-written files of that kind."""
        return set(self.folder.glob(HALVES[name]))

    def files(self) -> dict[str, str]:
        """What every file that counts says, by name, as a hash: of the report without its times, and of the store."""
        report = [path for path in self.folder.glob("report/**/*") if path.is_file() and not path.name.startswith(".")]
        says = {path: hashlib.sha256(TIMES.sub(b"", path.read_bytes())).hexdigest() for path in report}
        says |= {path: _entry(path) for path in self.folder.glob("cache/store/[!.]*.safetensors")}
        return {path.relative_to(self.folder).as_posix(): digest for path, digest in says.items()}

    def rows(self) -> list[dict]:
        """The rows of results.json."""
        return json.loads((self.folder / RESULTS).read_text(encoding="utf-8"))["rows"]


def _entry(path: Path) -> str:
    """Hash of key and arrays; the order in which the header names them is nobody's."""
    try:
        metadata, arrays = read_sealed(path, {})
    except UnusableError as error:
        return f"damaged: {error}"
    digest = hashlib.sha256(metadata["key"].encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode() + arrays[name].tobytes())
    return digest.hexdigest()
