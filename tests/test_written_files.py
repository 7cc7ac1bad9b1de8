"""Everything that is written: whole, in one way, in the mode that was there; no device is replaced and no input written over."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import resource
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from torch import nn

import codi_bench
from codi_bench.cli import main
from codi_bench.errors import CodiBenchError
from codi_bench.store.cache import Store
from codi_bench.store.files import check_folder, check_writable, locked, write_folder, write_text, write_texts, write_whole
from codi_bench.suite.suite import Suite
from codi_bench.training import train
from codi_bench.training.tokenizer import write_tokenizer

PACKAGE = Path(codi_bench.__file__).parent
# store/files writes; store/arrays fills the file that it is given; a stream is no file
WRITERS = {"store/files.py", "store/arrays.py", "report/streams.py"}
METHODS = {"write_text", "write_bytes", "mkdir", "savefig", "save_pretrained", "symlink_to", "hardlink_to"}
FUNCTIONS = {
    *(
        "os.replace",
        "os.rename",
        "os.open",
        "os.mkdir",
        "os.link",
        "os.symlink",
        "shutil.copy",
        "shutil.copy2",
        "shutil.copyfile",
    ),
    *("shutil.copytree", "shutil.move", "tempfile.mkstemp", "tempfile.mkdtemp", "tempfile.NamedTemporaryFile", "torch.save"),
    *("json.dump", "np.save", "np.savez", "np.savetxt", "save_file", "FileLock"),
}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NO ROOT: device nodes cannot be made")


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    """A command's exit status, and the lines of its error stream."""
    monkeypatch.setattr(sys, "argv", ["codi-bench", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    return exit.value.code or 0, capsys.readouterr().err


# One way


def writes(source: str) -> list[str]:
    """By what a module writes files itself; what it hands to a function of store/files may write the draft that it is given."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    calls = [
        node for node in nodes if isinstance(node, ast.Call) and re.match("write_(whole|files|folder)$", ast.unparse(node.func))
    ]
    names = {argument.id for call in calls for argument in call.args if isinstance(argument, ast.Name)}
    drafts = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name in names]
    allowed = {id(node) for root in (*calls, *drafts) for node in ast.walk(root)}
    return [ast.unparse(node) for node in nodes if id(node) not in allowed and _is_writing(node)]


def _is_writing(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute | ast.Name):  # also where it is handed on
        return ast.unparse(node) in FUNCTIONS or (isinstance(node, ast.Attribute) and node.attr in METHODS)
    if not isinstance(node, ast.Call) or not re.search(r"\bopen$", ast.unparse(node.func)):
        return False
    texts = [a.value for a in (*node.args, *(word.value for word in node.keywords)) if isinstance(a, ast.Constant)]
    return any(isinstance(text, str) and re.fullmatch(r"[rbt]*[wax+][rwaxbt+]*", text) for text in texts)


def test_no_module_writes_by_other_means():
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    sources = {name: path.read_text("utf-8") for name, path in files.items() if not name.startswith("benchmarks/")}
    faults = {name: lines for name, source in sources.items() if name not in WRITERS and (lines := writes(source))}
    assert len(sources) > 150 and faults == {}


@pytest.mark.parametrize(
    ("source", "number"),
    [
        *(("open(p, 'w')", 1), ("p.open(mode='ab')", 1), ("open(p, 'r+b')", 1), ("p.write_text('x')", 1)),
        *(
            ("save_file(t, p)", 1),
            ("partial(Path.write_bytes, data=b'')", 1),
            ("os.replace(a, b)", 1),
            ("tempfile.mkstemp()", 1),
            ("p.mkdir()", 1),
        ),
        *(
            ("open(p, 'rb')", 0),
            ("write_text(p, 'x')", 0),
            ("write_whole(p, lambda d: save_file(t, d))", 0),
            ("t.replace(a, b)", 0),
        ),
        ("def fill(d):\n    d.write_text('x')\nwrite_folder(p, fill)", 0),
    ],
)
def test_the_check_sees_what_writes(source, number):
    assert len(writes(source)) == number


# What was there


def prepare(before: str, folder: Path, old: int) -> Path:
    """The path to write, where that stands already; of a link or of one name of two the old file is `target`."""
    path, target, other = folder / "out", folder / "target", folder / "other"
    if before in ("file", "link", "link to a link", "hard link"):
        target.write_text("old")
        target.chmod(old)
    if before == "file":
        target.rename(path)
    elif before == "hard link":
        path.hardlink_to(target)
    elif before in ("link", "dangling link"):
        path.symlink_to(target.name)  # relative to the folder of the link
    elif before == "link to a link":
        other.symlink_to(target)
        path.symlink_to(other)
    return folder / "new" / "out" if before == "no folder" else path


@given(
    before=st.sampled_from(["nothing", "file", "link", "dangling link", "link to a link", "hard link", "no folder"]),
    mask=st.sampled_from([0o022, 0o002, 0o077, 0o027, 0o000]),
    old=st.sampled_from([0o644, 0o600, 0o664, 0o640, 0o755, 0o666]),
    text=st.text(max_size=30),
    library=st.booleans(),
)
def test_whatever_stood_there_the_file_is_whole_and_the_rest_is_as_it_was(before, mask, old, text, library):
    with tempfile.TemporaryDirectory() as name, umask(mask):
        folder, data = Path(name), text.encode("utf-8", "replace")
        path = prepare(before, folder, old)
        kinds = {file: stat.S_IFMT(file.lstat().st_mode) for file in folder.iterdir()}
        if library:  # one that puts a file of its own, for its owner alone, where it should write
            write_whole(path, lambda draft: (draft.unlink(), draft.write_bytes(data), draft.chmod(0o600)))
        else:
            write_text(path, text)
        is_new = before in ("nothing", "dangling link", "no folder")
        assert path.read_bytes() == data and mode(path) == (0o666 & ~mask if is_new else old)
        assert {file: stat.S_IFMT(file.lstat().st_mode) for file in kinds} == kinds and not list(folder.rglob(".*"))
        assert before != "hard link" or (folder / "target").read_text() == "old"  # the other name keeps what it had
        assert before != "no folder" or mode(path.parent) == 0o777 & ~mask


@given(text=st.text(max_size=30), linked=st.booleans())
def test_a_fifo_and_a_device_are_written_to_and_stay(text, linked):
    with tempfile.TemporaryDirectory() as name:
        fifo, null, path = (Path(name) / name_ for name_ in ("fifo", "null", "link"))
        os.mkfifo(fifo)
        if linked:
            path.symlink_to(fifo)
        contents: list[bytes] = []
        reader = threading.Thread(target=lambda: contents.append(fifo.read_bytes()), daemon=True)
        reader.start()
        check_writable(fifo, "mend")  # which does not let the reader go
        write_text(path if linked else fifo, text)
        reader.join(10)
        assert contents == [text.encode("utf-8", "replace")] and stat.S_ISFIFO(fifo.lstat().st_mode)
        if not os.geteuid():
            os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            write_text(null, text)
            assert stat.S_ISCHR(null.lstat().st_mode) and null.lstat().st_rdev == os.makedev(1, 3)


@needs_root
def test_an_old_file_keeps_its_owner_and_group(tmp_path):
    path = tmp_path / "out"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    write_text(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid, mode(path), path.read_text()) == (1234, 2345, 0o640, "new")


def test_what_libraries_write_follows_the_umask_and_a_shared_cache_is_shared(tmp_path):
    """safetensors makes files that their owner alone can read, and some versions of filelock make them 0644."""
    with umask(0o002):
        Store(tmp_path / "cache").fetch({"key": 1}, lambda: {"a": np.zeros(3)})
        write_whole(tmp_path / "w.safetensors", lambda draft: save_file({"a": np.zeros(3)}, draft))
        write_tokenizer(["a"], tmp_path / "words")
        write_folder(tmp_path / "base", lambda draft: save_file({"a": np.zeros(3)}, draft / "w.safetensors"))
        assert locked(tmp_path / "cache" / "a.lock").mode == 0o664
    paths = [path for path in tmp_path.rglob("*") if path.parent.name != "base"]
    others = {path.name: mode(path) for path in paths if mode(path) != (0o775 if path.is_dir() else 0o664)}
    assert len(paths) == 10 and others == {}


def test_several_texts_are_written_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("old")
    second.mkdir()
    with pytest.raises(IsADirectoryError):
        write_texts({first: "new", second: "new"})
    assert first.read_text() == "old" and sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_file_in_a_folder_that_may_not_be_written_to_is_written_in_its_place(tmp_path, monkeypatch):
    path, make = tmp_path / "out", os.open
    path.write_text("old")
    inode = path.stat().st_ino

    def refuse(name, flags, *more, **words):
        if flags & os.O_CREAT and Path(os.fsdecode(name)).parent == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return make(name, flags, *more, **words)

    monkeypatch.setattr(os, "open", refuse)
    check_writable(path, "mend")
    write_text(path, "new")
    assert path.read_text() == "new" and path.stat().st_ino == inode
    with pytest.raises(PermissionError) as error:
        write_text(tmp_path / "another", "new")
    assert error.value.filename == str(tmp_path / "another")


def test_a_mount_point_is_written_to(tmp_path, monkeypatch):
    """Containers mount single files, over which nothing can be renamed."""
    path = tmp_path / "out"
    path.write_text("a longer old text")

    def busy(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    write_text(path, "new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_text_with_half_a_sign_is_written_in_utf_8(tmp_path):
    write_text(tmp_path / "out", "é \udce9 ✓ \ud83d")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "é ? ✓ ?"


# One line


@pytest.mark.parametrize("kind", ["circle", "folder", "below a file", "read-only file", "full"])
def test_where_nothing_can_be_written_is_said_in_one_line(kind, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    if kind == "circle":
        out.symlink_to("other")
        (tmp_path / "other").symlink_to("out")
    elif kind == "folder":
        out.mkdir()
    elif kind == "below a file":
        out.write_text("old")
        out /= "p.jsonl"
    elif kind == "read-only file":
        out.write_text("old")
        monkeypatch.setattr(os, "access", lambda _, right, **how: right != os.W_OK)  # root may write what is read-only
    elif os.geteuid():
        pytest.skip("NO ROOT: device nodes cannot be made")
    else:
        os.mknod(out, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    before = sorted((path, path.lstat().st_mode) for path in tmp_path.iterdir())
    status, error = run(monkeypatch, capsys, "problems", "generated", "--n", 2, "--out", out)
    assert status == 2 and error.count("\n") == 1 and str(out) in error
    assert sorted((path, path.lstat().st_mode) for path in tmp_path.iterdir()) == before


def test_a_disk_that_is_full_is_an_oserror_whichever_library_writes(tmp_path):
    """A limit on the length of files, which the system enforces as it does a full disk."""
    model, before = nn.Linear(100, 100), resource.getrlimit(resource.RLIMIT_FSIZE)
    job = SimpleNamespace(model=model, frozen={}, identity={}, optimizer=torch.optim.AdamW(model.parameters()))
    writers = {
        "checkpoint.pt": lambda path: train._save(path.parent, job, {}),
        "w.safetensors": lambda path: write_whole(path, lambda draft: save_file({"a": np.zeros(9999)}, draft)),
        "text": lambda path: write_text(path, "x" * 9999),
    }
    for name, write in writers.items():
        (tmp_path / name).write_text("old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
        try:
            with pytest.raises(OSError) as error:
                write(tmp_path / name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert error.value.filename == str(tmp_path / name) and (tmp_path / name).read_text() == "old"
    assert len(list(tmp_path.iterdir())) == len(writers)


@pytest.mark.parametrize("end", ["file", "pipe"])
def test_standard_output_may_be_named(end, tmp_path):
    """A file that standard output goes to is not replaced: what is printed later comes behind it."""
    code = "print('first'); from codi_bench.store.files import *; write_text(Path('/dev/stdout'), 'é\\n'); print('last')"
    out = tmp_path / "out"
    with open(out, "wb") as file:
        done = subprocess.run([sys.executable, "-c", code], stdout=file if end == "file" else subprocess.PIPE, check=True)
    assert (done.stdout or out.read_bytes()).decode() == "first\né\nlast\n"


# An output that is an input

LINE = json.dumps({"question": "What is 1 + 1 ?", "answer": "2"}) + "\n"


@pytest.fixture
def inputs(tmp_path, monkeypatch, tiny_folders):
    """A folder to stand in: problems under four names, the auditor's table, results, and a model's folder."""
    monkeypatch.chdir(tmp_path)
    Path("p.jsonl").write_text(LINE)
    Path("soft").symlink_to("p.jsonl")
    Path("hard").hardlink_to("p.jsonl")
    Path("t.svg").write_text("problem,condition,right\n1,clean,1\n")
    for name in ("report.md", "comparison.md", "history.csv", "results.json"):
        Path(name).write_text('{"schema": 1, "environment": {}, "rows": []}')
    Path("model").symlink_to(tiny_folders["gpt2"])
    Path("copy").symlink_to(tiny_folders["gpt2"] / "codi.json")
    return tmp_path


ANSWER = ("answer", "--model", "model", "--problems")


@pytest.mark.parametrize(
    "command",
    [
        *((*ANSWER, "p.jsonl", "--out", out) for out in ("p.jsonl", "./p.jsonl", "soft", "hard")),
        *((*ANSWER, "p.jsonl", "--out", out) for out in ("model/model.safetensors", "copy")),
        (*ANSWER, "t.svg", "--reference", "p.jsonl", "--out", "soft"),
        (*ANSWER, "soft", "--base", "model", "--out", "model/config.json"),
        ("think", "--model", "model", "--problems", "p.jsonl", "--out", "hard"),
        ("problems", "gsm8k", "--path", "p.jsonl", "--out", "p.jsonl"),
        ("audit", "outcomes", "t.svg", "--figure", "t.svg"),
        ("report", "report.md"),
        ("report", "results.json", "comparison.md"),
        ("history", "history.csv", "--out", "."),
        ("history", "results.json", "--out", "base", "--baselines", "base"),
        ("train", "mine", "--base", "model", "--problems", "p.jsonl", "--out", "model"),
        ("train", "mine", "--base", "gpt2", "--problems", "soft", "--out", "new", "--work", "work"),
    ],
    ids=" ".join,
)
def test_an_output_that_is_an_input_is_refused(command, inputs, monkeypatch, capsys):
    (inputs / "base" / "proposals").mkdir(parents=True)
    (inputs / "work").mkdir()
    (inputs / "work" / "loss.jsonl").symlink_to("../p.jsonl")
    before = {path: path.read_bytes() for path in sorted(inputs.rglob("*")) if path.is_file()}
    model = {path: path.read_bytes() for path in sorted(Path("model").iterdir())}
    status, error = run(monkeypatch, capsys, *command)
    assert status == 2 and error.count("\n") == 1 and "is an input too" in error
    assert {path: path.read_bytes() for path in sorted(inputs.rglob("*")) if path.is_file()} == before
    assert {path: path.read_bytes() for path in sorted(Path("model").iterdir())} == model


@pytest.mark.parametrize(
    "options",
    [
        {"models": ["mine=model"], "report": "model"},
        {"baselines": "base/proposals", "report": "base"},
        {"baselines": "base", "report": "./base"},
        {"problems": ["generated=report.md"], "report": "."},
        {"released": ["report.csv"], "report": ""},
    ],
    ids=str,
)
def test_a_report_over_what_a_run_reads_is_refused(options, inputs, monkeypatch):
    (inputs / "base" / "proposals").mkdir(parents=True)
    Path("report.md").write_text(LINE)
    Path("report.csv").symlink_to("soft")
    monkeypatch.setattr("codi_bench.suite.suite.released_in", lambda paths: dict.fromkeys(paths, *paths))
    with pytest.raises(CodiBenchError, match="is an input too"):
        Suite(**options, claims=["size"])


def test_what_is_not_read_may_stand_in_a_folder_that_is(inputs):
    """Whoever stands in the folder of a model writes the same answers and the same report twice."""
    folder = inputs / "mine"
    folder.mkdir()
    for name in ("answers.jsonl", "thoughts.safetensors"):
        (folder / name).write_text("old")
        check_writable(folder / name, "mend", {"--model": folder, "--base": None, "--problems": "p.jsonl"})
    (folder / "report").mkdir()
    (folder / "report" / "report.md").write_text("old")
    check_folder(folder / "report", ["report.md", "results.json"], "mend", {"--model": folder, "--log": "nowhere"})


@needs_root
def test_a_device_may_be_both(tmp_path):
    """A terminal is read and written; nothing of it is lost."""
    os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    check_writable(tmp_path / "null", "mend", {"--problems": tmp_path / "null"})
