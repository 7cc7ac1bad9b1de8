"""Read proposals with their baselines, and write them into the baselines together, from a clean git tree."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from codi_bench.errors import BaselineError, CodiBenchError, UnknownNameError, one_line
from codi_bench.records import speed as perf
from codi_bench.records.baseline import (
    Baseline,
    Record,
    load_baseline,
    metrics_recorded,
    path_of,
    read_strict,
    save_baseline,
    strict_text,
)
from codi_bench.records.changes import Changes, changes
from codi_bench.records.results import OWN_ERRORS
from codi_bench.store.files import check_writable, write_text, write_texts

PROPOSE = "run `codi-bench run --update-baselines`"


@dataclass(frozen=True)
class Proposal:
    """One proposed record, the baseline it is for, and what it would change there."""

    before: Baseline
    record: Record
    changes: Changes


@dataclass(frozen=True)
class ExtraProposal:
    """A proposed file that belongs to no claim: its place below the baselines, what it would change, its text when accepted."""

    file: Path
    changes: list[str]
    accepted: Callable[[str, str], str]  # date, reason


def read_proposals(
    report: Path, folder: Path, models: Sequence[str] | None = None, claims: Sequence[str] | None = None
) -> tuple[list[Proposal], list[ExtraProposal]]:
    """The proposals of a run for the baselines of a folder: those of claims, and those of other files.

    models, claims: only these; another file goes by its own name and that of its folder. Raises CodiBenchError if there are none,
    for a name without a proposal, and, naming the field, for a file that cannot be used.
    """
    if not folder.is_dir():
        raise CodiBenchError(f"{folder}: no such folder; give --baselines DIR")
    files = sorted((report / "proposals").glob("*/*.json"))
    if not files:
        raise CodiBenchError(f"{report / 'proposals'}: there are no proposals; {PROPOSE} first")
    names = {p: (p.stem, p.parent.name) if p.parent.name in EXTRA_READERS else (p.parent.name, p.stem) for p in files}
    for i, (kind, choice) in enumerate((("proposal of model", models), ("proposal of claim", claims))):
        for name in choice or ():
            if name not in (available := {pair[i] for pair in names.values()}):
                raise UnknownNameError(kind, name, available)
    paths = [path for path in files if all(not only or name in only for name, only in zip(names[path], (models, claims)))]
    if not paths:
        raise CodiBenchError(f"{report / 'proposals'}: there are no proposals for these models and claims; {PROPOSE} for them")
    recorded = metrics_recorded(folder)
    proposals = [_read(path, folder, recorded) for path in paths if not path.parent.name.startswith("_")]
    return proposals, [EXTRA_READERS[path.parent.name](path, folder) for path in paths if path.parent.name in EXTRA_READERS]


def _read(path: Path, folder: Path, recorded: int) -> Proposal:
    before = load_baseline(folder, path.parent.name, path.stem)
    record = read_strict(path, Record, f"{PROPOSE} again")
    held, own = before.nearest(record.environment)[0], False
    if held and held.weights != record.weights:  # do other weights score other problems here? Loading claims takes seconds
        from codi_bench.claims import CLAIMS

        own = path.stem not in CLAIMS or CLAIMS[path.stem].family == OWN_ERRORS
    return Proposal(before, record, changes(before, record, own_problems=own, recorded=recorded))


def _speeds(path: Path, folder: Path) -> ExtraProposal:
    """The proposals of benchmarks/perf, one file for all machines."""
    old, new = perf.load_speeds(folder), read_strict(path, perf.Speeds, f"{perf.PROPOSE} again")
    return ExtraProposal(
        perf.FILE, perf.changes(old, new), lambda date, reason: strict_text(perf.accept(old, new, date=date, reason=reason))
    )


EXTRA_READERS = {perf.FILE.parent.name: _speeds}


def check_clean(folder: Path, report: Path) -> str | None:
    """Check that the git tree around a baselines folder has no other changes; returns why git cannot be asked, or None.

    The report folder may be there, as the proposals came in it. Raises CodiBenchError, naming the changed files.
    """
    try:
        top = _git(folder, "rev-parse", "--show-toplevel")
        if top.returncode and "not a git repository" in top.stderr:
            return f"{folder} is in no git repository"
        if not top.returncode and not _git(folder, "check-ignore", "-q", ".").returncode:
            return f"git ignores {folder}"
        root = Path(top.stdout.rstrip("\n"))
        own = [path.resolve().relative_to(root) for path in (folder, report) if path.resolve().is_relative_to(root)]
        excludes = [f":(top,exclude,literal){path.as_posix()}" for path in own if path != Path(".")]
        status = top if top.returncode else _git(root, "status", "--porcelain", "--", ":(top)", *excludes)
    except OSError as error:
        return f"git cannot be run ({one_line(error)})"
    if status.returncode:
        raise CodiBenchError(f"{folder}: git cannot list its changes ({status.stderr.strip()}); correct that or give --dirty")
    lines = status.stdout.splitlines() if root.resolve() != folder.resolve() else []
    if lines:
        names = ", ".join(line[3:] for line in lines[:5]) + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")
        raise CodiBenchError(
            f"{root}: other files have changed too: {names}; commit them first, so that history shows what made the numbers, "
            "or give --dirty"
        )
    return None


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False
    )


def write_together(folder: Path, baselines: Sequence[Baseline], beside: dict[Path, str]) -> list[Path]:
    """Write baselines and other texts, all or none; baselines are first read back as a check.

    The text of `reported` is kept byte for byte.
    """
    targets = [path_of(folder, baseline.model, baseline.claim) for baseline in baselines] + [folder / file for file in beside]
    for path in targets:
        check_writable(path, "give --baselines DIR, a folder that can be written to")
    try:
        with tempfile.TemporaryDirectory() as stage:
            texts = [_read_back(Path(stage), baseline, target) for baseline, target in zip(baselines, targets)]
        write_texts(dict(zip(targets, [*texts, *beside.values()], strict=True)))
    except OSError as error:
        raise BaselineError(
            f"{folder}: cannot be written ({one_line(error)}); see `git status` there, and accept again"
        ) from error
    return targets


def _read_back(stage: Path, baseline: Baseline, target: Path) -> str:
    """The text of a baseline, after writing it below `stage` and reading it again."""
    file = save_baseline(stage, baseline)
    if target.is_file():
        write_text(file, _with_reported(file.read_text(encoding="utf-8"), target.read_text(encoding="utf-8")))
    if load_baseline(stage, baseline.model, baseline.claim) != baseline:  # a NaN, for one, equals nothing
        raise BaselineError(f"{target}: reads back differently from what was written (is a number NaN?); nothing was recorded")
    return file.read_text(encoding="utf-8")


def _with_reported(new: str, old: str) -> str:
    """The new text of a baseline file, with the text of the old `reported` part."""
    old_span, new_span = _part(old, "reported"), _part(new, "reported")
    return new[: new_span[0]] + old[slice(*old_span)] + new[new_span[1] :] if old_span and new_span else new


def _part(text: str, field: str) -> tuple[int, int] | None:
    """The start and end of the value of a top-level field in the text of a JSON object."""
    decoder, at = json.JSONDecoder(), text.index("{") + 1
    while text[at := _skip(text, at)] != "}":
        name, at = decoder.raw_decode(text, at)
        begin = _skip(text, at)
        _, at = decoder.raw_decode(text, begin)
        if name == field:
            return begin, at
    return None


def _skip(text: str, at: int) -> int:
    """Skip the characters between names and values."""
    return at + len(text[at:]) - len(text[at:].lstrip(",: \t\r\n"))
