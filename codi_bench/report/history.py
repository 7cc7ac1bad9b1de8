"""Many results files as a history: each number over time, the band it may lie in, where it drifted or changed its verdict.

`read_history` reads, `history` decides and is pure, history_text.py shows. None of them needs torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

from codi_bench.errors import CodiBenchError
from codi_bench.records.baseline import Baseline, load_baseline, record_key
from codi_bench.records.results import BLOCKED, OK, Row, environment_of, finite, of_model
from codi_bench.report.side_by_side import EQUAL, Key, keys_of, read_run
from codi_bench.report.table import SOUND, shown_unit

DRIFTED, EARLIER, BLOCKS, VERDICT = "DRIFTED", "drifted before", "blocked in the last run", "verdict changed"
MOVED, GONE, STEADY = "moved", "not in the last run", "steady"
WORDS = (DRIFTED, EARLIER, BLOCKS, VERDICT, MOVED, GONE, STEADY)  # the first that is true of a number is its word
BREAKS = 3  # of a model that are told, the latest
NET_CHANGE = 0.005  # of n: what right-or-wrong outcomes may change by in another environment (docs/verdicts.md, section 4)
Inputs = dict[str, str | int | None]  # what must be equal before two numbers of one name are the same measurement


@dataclass(frozen=True)
class Night:
    """One results file: its date (None: it has none), what to call it in text, environment, and rows by key without detail."""

    file: str
    date: datetime | None
    label: str
    environment: dict
    rows: dict[Key, Row]

    def of_model(self, name: str, model: str):
        """environment[name][model], None where an older or odd file does not have it."""
        return of_model(self.environment, name, model)

    def row(self, key: Key) -> Row | None:
        """The row of that key; the row of a whole claim ("-") speaks for metrics that are not there."""
        claim, model, _, protocol = key
        claim_keys = [(claim, model, "-", name) for name in (protocol, "reported", SOUND)]
        return next((self.rows[candidate] for candidate in (key, *claim_keys) if candidate in self.rows), None)


@dataclass(frozen=True)
class ToleranceBand:
    """What was recorded, and how far a number may lie from it without DRIFTED, in the row's unit.

    decides: False where it is right-or-wrong outcomes in another environment: beyond the band McNemar decides.
    """

    recorded: float
    tolerance: float
    decides: bool = True


@dataclass(frozen=True)
class Point:
    """One number in one run. value: None where it was not measured, and why; broken: why this is no move from the one before."""

    at: int
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    status: str
    why: str
    validity: str | None
    fragile: bool
    regression: str
    inputs: Inputs
    band: ToleranceBand | None
    broken: str = ""

    @property
    def number(self) -> float:
        """The value of a point that was measured."""
        assert self.value is not None
        return self.value


@dataclass(frozen=True)
class Track:
    """One number over all runs: a point a run, in order of time."""

    key: Key
    unit: str
    family: str
    points: tuple[Point, ...]

    @cached_property
    def measured(self) -> list[Point]:
        return [point for point in self.points if point.value is not None]

    @cached_property
    def drifted(self) -> list[Point]:
        return [point for point in self.points if point.regression == DRIFTED]

    @cached_property
    def breaks(self) -> list[Point]:
        return [point for point in self.measured if point.broken]

    @cached_property
    def turns(self) -> list[tuple[Point, Point]]:
        """(before, after) of every change of verdict between runs that can be compared."""
        return [(old, new) for old, new in pairwise(self.measured) if not new.broken and old.validity != new.validity]

    @cached_property
    def moves(self) -> list[tuple[Point, Point]]:
        """(before, after) of every step that is larger than the tolerance, between runs that can be compared."""
        pairs = [(old, new) for old, new in pairwise(self.measured) if not new.broken]
        return [
            (old, new) for old, new in pairs if abs(new.number - old.number) > max(EQUAL, new.band.tolerance if new.band else 0)
        ]

    @cached_property
    def word(self) -> str:
        last = self.points[-1]
        telling_points = [point for point in self.points if point.value is not None or point.regression == DRIFTED]
        conditions = {
            DRIFTED: telling_points and telling_points[-1].regression == DRIFTED,
            EARLIER: self.drifted,
            BLOCKS: last.status == BLOCKED,
            VERDICT: self.turns,
            MOVED: self.moves,
            GONE: last.value is None,
        }
        return next((word for word in WORDS if conditions.get(word)), STEADY)

    @property
    def rank(self) -> tuple:
        """What moved first: by word, then by how often and how lately."""
        latest = max((point.at for point in (*self.drifted, *(new for _, new in (*self.turns, *self.moves)))), default=-1)
        return WORDS.index(self.word), -latest, -len(self.drifted)


@dataclass(frozen=True)
class History:
    """Runs in order of time, every number that was measured or red in one of them, and what has to be said beforehand.

    never: how many numbers no run measured.
    """

    nights: tuple[Night, ...]
    tracks: tuple[Track, ...]
    notes: tuple[str, ...]
    never: int

    @property
    def counts(self) -> dict[str, int]:
        counts = Counter(track.word for track in self.tracks)
        return {word: counts[word] for word in WORDS if counts[word]}


def read_history(paths: Sequence[Path], baselines: Path) -> History:
    """The history of results files, and of those named results.json below folders.

    A file that was named must be a results file; one found in a folder that is none is left out, and said. Raises
    CodiBenchError naming path and mend.
    """
    files: dict[Path, tuple[Path, bool]] = {}
    notes: list[str] = []
    nights: list[Night] = []
    for path in paths:
        matches = sorted(path.rglob("results.json")) if path.is_dir() else [path]
        if not matches:
            raise CodiBenchError(
                f"{path}: no results.json in or below this folder; name results files, or run `pytest benchmarks`"
            )
        for file in matches:
            files[file.resolve()] = (file, files.get(file.resolve(), (file, False))[1] or not path.is_dir())
    for path, is_explicit in files.values():
        try:
            nights.append(_night(path))
        except CodiBenchError as error:
            if is_explicit:
                raise
            notes.append(f"left out: {error}")
    if not nights:
        raise CodiBenchError(f"{paths[0]}: none of {len(files)} files below it can be read: {notes[0]}")
    return history(nights, lambda model, claim: load_baseline(baselines, model, claim), notes)


def _night(path: Path) -> Night:
    file, environment, rows = read_run(path)
    # the arrays that figures need would fill the memory with many files
    slim = [replace(row, detail={"fragile": bool(row.detail.get("fragile"))}) for row in rows]
    return Night(file, _date(environment.get("date")), file, environment, {row.key: row for row in slim})


def _date(text) -> datetime | None:
    try:
        date = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def history(nights: Sequence[Night], baseline: Callable[[str, str], Baseline], notes: Sequence[str] = ()) -> History:
    """Every number over the runs, those without a date first, by name. baseline: (model, claim) → its baseline, perhaps empty."""
    nights = sorted(nights, key=lambda night: (night.date is not None, night.date or 0, night.file))
    days = Counter(f"{night.date:%Y-%m-%d}" for night in nights if night.date)
    nights = [replace(night, label=_label(night, days)) for night in nights]
    undated_files = [night.file for night in nights if not night.date]
    if undated_files:
        names = ", ".join(undated_files[:3]) + (f" and {len(undated_files) - 3} more" if len(undated_files) > 3 else "")
        notes = [*notes, f"no date in {names}: taken by name, before all that have one"]
    keys = keys_of(nights)
    cached_baseline = cache(baseline)  # a file a (model, claim) is read once
    all_tracks = [_track(key, nights, cached_baseline) for key in keys]
    tracks = [track for track in all_tracks if track.measured or track.drifted]
    return History(tuple(nights), tuple(tracks), (*notes, *_breaks(tracks, nights)), len(keys) - len(tracks))


def _breaks(tracks: Sequence[Track], nights: Sequence[Night]) -> list[str]:
    """Where lines are broken, once a model and cause: with other weights all numbers of a model begin anew."""
    counts = Counter((track.key[1], point.at, point.broken) for track in tracks for point in track.breaks)
    texts_by_model: dict[str, list[str]] = {}
    for (model, at, why), count in sorted(counts.items()):
        texts_by_model.setdefault(model, []).append(f"{why} from {nights[at].label} on ({count} numbers)")
    return [
        f"{model}: {'; '.join(texts[-BREAKS:])}"
        + (f"; and {len(texts) - BREAKS} times before" if len(texts) > BREAKS else "")
        + ": what came before is another line, and no move"
        for model, texts in texts_by_model.items()
    ]


def _label(night: Night, days: Counter) -> str:
    """The day; with the time where several runs are of that day, the file where there is no date."""
    if night.date is None:
        return night.file
    day = f"{night.date:%Y-%m-%d}"
    return day if days[day] == 1 else f"{night.date:%Y-%m-%d %H:%M}"


def _track(key: Key, nights: Sequence[Night], baseline: Callable[[str, str], Baseline]) -> Track:
    points: list[Point] = []
    previous: Point | None = None
    for at, night in enumerate(nights):
        point = _point(at, key, night, baseline)
        if point.value is not None:
            changed_inputs = [name for name, value in point.inputs.items() if previous and value != previous.inputs[name]]
            point = replace(point, broken=f"other {', '.join(changed_inputs)}" if changed_inputs else "")
            previous = point
        points.append(point)
    rows = [night.rows[key] for night in nights if key in night.rows]
    unit = next((shown_unit(row) for row in reversed(rows) if row.status == OK), "")
    texts = [night.of_model("claims", key[0]) for night in reversed(nights)]
    family = next((text["family"] for text in texts if isinstance(text, dict) and isinstance(text.get("family"), str)), "other")
    return Track(key, unit, family, tuple(points))


def _point(at: int, key: Key, night: Night, baseline: Callable[[str, str], Baseline]) -> Point:
    row = night.row(key)
    if row is None:
        return Point(at, None, None, None, None, "", "no such number in that file", None, False, "UNCHECKED", {}, None)
    measured = row.measured if row.status == OK and row.key == key else None
    value, low, high = [finite(measured.get(end)) for end in ("value", "low", "high")] if measured else [None] * 3
    why = "" if row.status == OK else str(row.reason)
    inputs = _inputs(night, row) if measured else {}
    band = _band(night, row, inputs, baseline(key[1], key[0])) if measured else None
    fragile = row.detail["fragile"]
    return Point(at, value, low, high, row.n, row.status, why, row.validity or None, fragile, row.regression, inputs, band)


def _inputs(night: Night, row: Row) -> Inputs:
    hashes, text = (night.of_model(*place) or {} for place in (("inputs", row.model), ("claims", row.claim)))
    hashes, text = (entry if isinstance(entry, dict) else {} for entry in (hashes, text))
    return {
        "weights": hashes.get("weights"),
        "problems": hashes.get("problems"),
        "options": night.environment.get("options"),
        "protocol": text.get("sound" if row.protocol == SOUND else "protocol"),
        "n": row.n,
        "unit": shown_unit(row),
    }


def _band(night: Night, row: Row, inputs: Inputs, baseline: Baseline) -> ToleranceBand | None:
    """Around what that night was compared with; else around what is recorded now for the same weights, problems and n."""
    name = record_key(row.protocol, row.metric)
    tolerance, environment = baseline.tolerance.get(name), environment_of(night.environment, row.model)
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
