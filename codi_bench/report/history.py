"""Many results files as a history: each number over time, the band it may lie in, where it drifted or changed its verdict.

`read_history` reads, `history` decides and is pure, history_text.py shows. None of them needs torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

from codi_bench.errors import CodiBenchError
from codi_bench.records.baseline import Baseline, load_baseline, path_of, record_key
from codi_bench.records.move import EQUAL, VERDICT, Key, Move, what_else
from codi_bench.records.results import BLOCKED, OK, Row, environment_of, finite
from codi_bench.report.runs import Run, keys_of, read_run, shown_word
from codi_bench.report.table import shown_unit

DRIFTED, EARLIER, BLOCKS = "DRIFTED", "drifted before", "blocked in the last run"
MOVED, GONE, STEADY, BREAK = "moved", "not in the last run", "steady", "another line"
WORDS = (DRIFTED, EARLIER, BLOCKS, VERDICT, MOVED, GONE, STEADY)  # the first that is true of a number is its word
BREAKS = 3  # of a model that are told, the latest
NET_CHANGE = 0.005  # of n: what right-or-wrong outcomes may change by in another environment (docs/verdicts.md, section 4)
Inputs = dict[str, str | int | None]  # what must be equal before two numbers of one name are the same measurement


@dataclass(frozen=True)
class ToleranceBand:
    """What was recorded, and how far a number may lie from it without DRIFTED, in the row's unit.

    decides: False where it is right-or-wrong outcomes in another environment: beyond the band McNemar decides.
    """

    recorded: float
    tolerance: float
    decides: bool = True

    @property
    def ends(self) -> tuple[float, float]:
        return self.recorded - self.tolerance, self.recorded + self.tolerance


@dataclass(frozen=True)
class Point:
    """One number in one run: the row that speaks for it (None: that file has none), and what it was compared with there."""

    at: int
    row: Row | None
    is_measured: bool = False
    inputs: Inputs | None = None
    band: ToleranceBand | None = None

    @property
    def value(self) -> float:
        """Of a point that was measured."""
        assert self.row is not None and self.row.measured is not None and self.row.measured["value"] is not None
        return self.row.measured["value"]

    @property
    def reason(self) -> str:
        """Why it was not measured."""
        return "no such number in that file" if self.row is None else "" if self.row.status == OK else self.row.reason

    @property
    def is_drift(self) -> bool:
        return self.row is not None and self.row.regression == DRIFTED


@dataclass(frozen=True)
class Track:
    """One number over all runs: a point a run in order of time, and a move from each measured point to the next."""

    key: Key
    unit: str
    family: str
    points: tuple[Point, ...]

    @cached_property
    def measured(self) -> list[Point]:
        return [point for point in self.points if point.is_measured]

    @cached_property
    def drifted(self) -> list[Point]:
        return [point for point in self.points if point.is_drift]

    @cached_property
    def moves(self) -> list[Move[Point]]:
        return [_move(self.key, old, new) for old, new in pairwise(self.measured)]

    def of_word(self, word: str) -> list[Move[Point]]:
        """Breaks (other inputs: no move), steps larger than the tolerance, or changes of the verdict."""
        return [move for move in self.moves if word == move.word or word in move.also]

    @cached_property
    def breaks(self) -> dict[int, str]:
        """Why the line begins anew, by the run in which it does."""
        return {move.new.at: move.why for move in self.of_word(BREAK) if move.new}

    @cached_property
    def word(self) -> str:
        last = self.points[-1]
        telling_points = [point for point in self.points if point.is_measured or point.is_drift]
        conditions = {
            DRIFTED: telling_points and telling_points[-1].is_drift,
            EARLIER: self.drifted,
            BLOCKS: last.row and last.row.status == BLOCKED,
            VERDICT: self.of_word(VERDICT),
            MOVED: self.of_word(MOVED),
            GONE: not last.is_measured,
        }
        return next((word for word in WORDS if conditions.get(word)), STEADY)

    @property
    def rank(self) -> tuple[int, int, int]:
        """What moved first: by word, then by how often and how lately."""
        events = [*self.drifted, *(move.new for move in (*self.of_word(VERDICT), *self.of_word(MOVED)) if move.new)]
        return WORDS.index(self.word), -max((point.at for point in events), default=-1), -len(self.drifted)


def _move(key: Key, old: Point, new: Point) -> Move[Point]:
    """One measured point after another: a break where the inputs are others, a move beyond the tolerance of the later one."""
    assert old.row and new.row and old.inputs and new.inputs
    if others := [name for name, value in new.inputs.items() if value != old.inputs[name]]:
        return Move(key, old, new, BREAK, f"other {', '.join(others)}")
    difference = new.value - old.value
    word = MOVED if abs(difference) > max(EQUAL, new.band.tolerance if new.band else 0) else STEADY
    also = what_else({VERDICT: ("", old.row.validity or None, new.row.validity or None, shown_word)})
    return Move(key, old, new, word, difference={"value": difference}, also=also)


@dataclass(frozen=True)
class History:
    """Runs in order of time, every number that was measured or red in one of them, and what has to be said beforehand.

    never: how many numbers no run measured.
    """

    runs: tuple[Run, ...]
    tracks: tuple[Track, ...]
    notes: tuple[str, ...]
    never: int

    @property
    def counts(self) -> dict[str, int]:
        counts = Counter(track.word for track in self.tracks)
        return {word: counts[word] for word in WORDS if counts[word]}


def results_files(paths: Sequence[Path]) -> list[Path]:
    """Results files, and those named results.json below folders. Raises CodiBenchError for a folder without any."""
    files: list[Path] = []
    for path in paths:
        matches = sorted(path.rglob("results.json")) if path.is_dir() else [path]
        if not matches:
            raise CodiBenchError(f"{path}: no results.json in or below this folder; name results files, or run `codi-bench run`")
        files += matches
    return files


def read_history(paths: Sequence[Path], baselines: Path) -> History:
    """The history of results files, and of those named results.json below folders.

    A file that was named must be a results file; one found in a folder that is none is left out, and said. Raises
    CodiBenchError naming path and mend.
    """
    files = {path.resolve(): path for path in results_files(paths)}
    explicit = {path.resolve() for path in paths if not path.is_dir()}
    notes: list[str] = []
    runs: list[Run] = []
    for name, path in files.items():
        try:
            runs.append(_without_arrays(read_run(path)))
        except CodiBenchError as error:
            if name in explicit:
                raise
            notes.append(f"left out: {error}")
    if not runs:
        raise CodiBenchError(f"{paths[0]}: none of {len(files)} files below it can be read: {notes[0]}")
    return history(runs, lambda model, claim: _baseline(baselines, model, claim), notes)


def _baseline(folder: Path, model: str, claim: str) -> Baseline:
    """Empty for what is no name of a file: results from before names were checked can be followed all the same."""
    try:
        path_of(folder, model, claim)
    except CodiBenchError:
        return Baseline(schema=1, model=model, claim=claim)
    return load_baseline(folder, model, claim)


def _without_arrays(run: Run) -> Run:
    """What figures need of rows would fill the memory with many files."""
    rows = {key: replace(row, detail={"fragile": bool(row.detail.get("fragile"))}) for key, row in run.rows.items()}
    return replace(run, rows=rows)


def history(runs: Sequence[Run], baseline: Callable[[str, str], Baseline], notes: Sequence[str] = ()) -> History:
    """Every number over the runs, those without a date first, by name. baseline: (model, claim) → its baseline, perhaps empty."""
    runs = sorted(runs, key=lambda run: (run.date is not None, run.date or 0, run.file))
    days = Counter(f"{run.date:%Y-%m-%d}" for run in runs if run.date)
    runs = [replace(run, label=_label(run, days)) for run in runs]
    if undated := [run.file for run in runs if not run.date]:
        names = ", ".join(undated[:3]) + (f" and {len(undated) - 3} more" if len(undated) > 3 else "")
        notes = [*notes, f"no date in {names}: taken by name, before all that have one"]
    keys, cached_baseline = keys_of(runs), cache(baseline)  # a file a (model, claim) is read once
    all_tracks = [_track(key, runs, cached_baseline) for key in keys]
    tracks = [track for track in all_tracks if track.measured or track.drifted]
    return History(tuple(runs), tuple(tracks), (*notes, *_breaks(tracks, runs)), len(keys) - len(tracks))


def _breaks(tracks: Sequence[Track], runs: Sequence[Run]) -> list[str]:
    """Where lines are broken, once a model and cause: with other weights all numbers of a model begin anew."""
    counts = Counter((track.key[1], at, why) for track in tracks for at, why in track.breaks.items())
    texts_by_model: dict[str, list[str]] = {}
    for (model, at, why), count in sorted(counts.items()):
        texts_by_model.setdefault(model, []).append(f"{why} from {runs[at].label} on ({count} numbers)")
    return [
        f"{model}: {'; '.join(texts[-BREAKS:])}"
        + (f"; and {len(texts) - BREAKS} times before" if len(texts) > BREAKS else "")
        + ": what came before is another line, and no move"
        for model, texts in texts_by_model.items()
    ]


def _label(run: Run, days: Counter[str]) -> str:
    """The day; with the time where several runs are of that day, the file where there is no date."""
    if run.date is None:
        return run.file
    day = f"{run.date:%Y-%m-%d}"
    return day if days[day] == 1 else f"{run.date:%Y-%m-%d %H:%M}"


def _track(key: Key, runs: Sequence[Run], baseline: Callable[[str, str], Baseline]) -> Track:
    rows = [run.rows[key] for run in runs if key in run.rows]
    unit = next((shown_unit(row) for row in reversed(rows) if row.status == OK), "")
    family = next((text for run in reversed(runs) if (text := run.of_model("claims", key[0]).get("family"))), "other")
    return Track(key, unit, family, tuple(_point(at, key, run, baseline) for at, run in enumerate(runs)))


def _point(at: int, key: Key, run: Run, baseline: Callable[[str, str], Baseline]) -> Point:
    row = run.measured(key)
    if row is None:
        return Point(at, run.row(key))
    hashes = run.of_model("inputs", row.model)
    inputs = {"weights": hashes.get("weights"), "problems": hashes.get("problems"), "options": run.environment.get("options")}
    inputs |= {"protocol": run.protocol_text(row), "n": row.n, "unit": shown_unit(row)}
    return Point(at, row, True, inputs, _band(run, row, inputs, baseline(key[1], key[0])))


def _band(run: Run, row: Row, inputs: Inputs, baseline: Baseline) -> ToleranceBand | None:
    """Around what that night was compared with; else around what is recorded now for the same weights, problems and n."""
    name = record_key(row.protocol, row.metric)
    tolerance, environment = baseline.tolerance.get(name), environment_of(run.environment, row.model)
    if tolerance is None or environment is None:
        return None
    record, exact = baseline.nearest(environment)
    current = record.metrics.get(name) if record else None
    value = finite((row.recorded or {}).get("value")) if row.regression != "UNCHECKED" else None
    if value is None:
        if record is None or current is None or inputs["options"]:
            return None
        if (record.weights, record.problems, current.n) != (inputs["weights"], inputs["problems"], row.n):
            return None
        value = current.value
    if exact and current and abs(current.value - value) <= EQUAL:
        return ToleranceBand(value, tolerance.deterministic)
    if tolerance.kind == "outcomes":
        return ToleranceBand(value, NET_CHANGE * (1 if row.unit == "fraction" else 100), decides=False)
    return ToleranceBand(value, tolerance.device)
