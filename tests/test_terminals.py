"""Terminals and pipes that lack signs, are closed or full: what is printed is legible there, and files are UTF-8 all the same."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rows import row

from codi_bench.cli import main
from codi_bench.plugin.xdist import check_names
from codi_bench.records.results import write_results
from codi_bench.report.streams import PLAIN, copy_of_stderr, make_tolerant

ENCODINGS = ("ascii", "cp1252", "latin-1", "cp437", "koi8-r", "utf-8")
UNDECODABLE = os.fsdecode(b"caf\xe9\xe2\x9c\x93")  # half in Latin-1, half in UTF-8


@pytest.fixture
def command(monkeypatch):
    """A function (*arguments, out, encoding): a command's exit status, and what its streams of that encoding got."""

    def run(*arguments, out=None, encoding="utf-8"):
        streams = [io.TextIOWrapper(out or io.BytesIO(), encoding=encoding), io.TextIOWrapper(io.BytesIO(), encoding=encoding)]
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as exit:
            patch.setattr(sys, "argv", ["codi-bench", *map(str, arguments)])
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            main()
        for stream in streams:
            stream.flush()
        texts = [stream.buffer.getvalue().decode(encoding) for stream in streams if out is None or stream is not streams[0]]
        return exit.value.code or 0, *texts

    return run


@pytest.fixture
def results(tmp_path):
    """A results file in a folder whose name is not UTF-8, of a model whose name is not ASCII."""
    path = tmp_path / UNDECODABLE / "results.json"
    write_results(path, {}, [row("size", "größe-✓", "parameters", "reported")])
    return path


# Any text, on any stream


@given(text=st.text(), encoding=st.sampled_from(ENCODINGS))
def test_any_text_prints_on_any_encoding(text, encoding):
    data = io.BytesIO()
    stream = io.TextIOWrapper(data, encoding=encoding, newline="\n")
    make_tolerant(stream)
    print(text, file=stream, flush=True)
    Console(file=stream).print(text, markup=False)
    expected = "".join(sign if _has(encoding, sign) else PLAIN.get(sign, "?") for sign in text)
    assert data.getvalue().decode(encoding).startswith(f"{expected}\n")


def _has(encoding: str, sign: str) -> bool:
    try:
        return bool(sign.encode(encoding))
    except UnicodeEncodeError:
        return False


def test_plain_signs_are_ascii_and_those_of_words_differ():
    words = "✓≈⊘…", "●○◐", "✗■–", "▲Δ⇄"
    assert all(sign.isascii() for sign in PLAIN.values())
    assert all(len({PLAIN[sign] for sign in signs}) == len(signs) for signs in words)


# Commands


@pytest.mark.parametrize(("encoding", "name"), [("cp1252", "größe-+"), ("ascii", "gr??e-+"), ("utf-8", "größe-✓")])
def test_a_report_is_printed_with_plain_signs_and_written_in_utf_8(results, command, encoding, name):
    status, text, error = command("report", results, encoding=encoding)
    assert (status, error) == (0, "") and name in text and len(text.splitlines()) > 5
    for file in ("report.md", "report.txt", "report.html", "report.csv"):
        assert "größe-✓" in (results.parent / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("run", "--help"), ("report", f"{UNDECODABLE}-✓.json"), ("show", "é✓"), ("claims", "--verdict", "✓")],
)
def test_help_lists_and_errors_print_everywhere(command, arguments, encoding):
    status, text, error = command(*arguments, encoding=encoding)
    assert text + error.strip() and "Traceback" not in error and status == (2 if error else 0)


def test_problems_that_are_printed_lose_no_sign(tmp_path, command):
    """A pipe may end in a file: there the signs are escapes of JSON, which read back."""
    path, question = tmp_path / "p.jsonl", "Zoë has 2 × 2 ✓ 🦉. How many?"
    path.write_text(json.dumps({"question": question, "answer": "#### 4"}), encoding="utf-8")
    for encoding in ("ascii", "cp1252", "utf-8"):
        _, text, _ = command("problems", "gsm8k", "--path", path, encoding=encoding)
        assert json.loads(text)["question"] == question


def test_a_c_locale_without_utf_8_mode_prints():
    environment = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONIOENCODING": ""}
    words = [sys.executable, "-m", "codi_bench.cli", "problems", "--help"]
    done = subprocess.run(words, capture_output=True, env=environment)
    assert done.returncode == 0 and done.stdout.isascii() and b"svamp" in done.stdout and not done.stderr


# Pipes


@pytest.mark.parametrize("arguments", [("cache", "ls"), ("problems", "generated", "--n", "100")], ids=["a line", "many"])
def test_who_stops_reading_is_told_nothing(command, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as out:
        assert command(*arguments, out=out) == (1, "")


def test_output_that_is_full_or_closed_ends_in_one_line_or_none(command, monkeypatch):
    with open("/dev/full", "wb") as out:
        assert command("cache", "ls", out=out) == (2, "codi-bench: No space left on device\n")
    monkeypatch.setattr(sys, "argv", ["codi-bench", "cache", "ls"])
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it where the caller closed it
    with pytest.raises(SystemExit) as exit:
        main()
    assert not exit.value.code


# Under pytest


@pytest.mark.usefixtures("plain_reports")
def test_the_table_under_pytest_is_a_table(run_benchmarks, pytester):
    pytester.makepyfile(narrow="import sys\nsys.stdout.reconfigure(encoding='ascii', errors='strict')")
    pytester.syspathinsert()
    result = run_benchmarks("--model", "gpt2-mini", "--claim", "size", "--report", UNDECODABLE, "-p", "narrow")
    assert result.ret == 0 and any(line.startswith("Parameters ") for line in result.outlines)
    assert any(set(line) == {"-"} for line in result.outlines) and not any("\\n" in line for line in result.outlines)
    assert "every number, with figures and evidence: caf?+/report.html, caf?+/report.txt" in result.outlines
    (pytester.path / UNDECODABLE / "report.md").read_text(encoding="utf-8")


def test_workers_are_sent_no_name_that_they_cannot_be_sent():
    for folder, argument in ((Path(UNDECODABLE), "-n1"), (Path(), f"--report={UNDECODABLE}")):
        config = SimpleNamespace(invocation_params=SimpleNamespace(dir=folder, args=["benchmarks", argument]))
        with pytest.raises(pytest.exit.Exception, match="no UTF-8") as exit:
            check_names(config)
        assert exit.value.returncode == 2


def test_the_live_line_speaks_the_encoding_of_the_terminal(monkeypatch):
    leader, follower = pty.openpty()
    saved = os.dup(2)
    os.dup2(follower, 2)
    try:
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
        with copy_of_stderr() as stream:
            stream.write("✓ größe → 1")
    finally:
        os.dup2(saved, 2)
        os.close(follower)
    assert os.read(leader, 100) == b"+ gr??e > 1"
    os.close(leader)
