"""Every value that is recorded for the study: damaged, it makes its own test red and no other.

Claims give here what is recorded, so that a comparison takes milliseconds; all else is the suite's: models, problems, baseline
files, and what it judges. test_plugin.py damages files in whole runs of pytest, test_fuzz.py by other means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from codi_bench.claims import CLAIMS
from codi_bench.claims.claim import STUDY, Measured, Null
from codi_bench.models.registry import EMBEDDED
from codi_bench.records.baseline import (
    REPORTED,
    SOUND,
    Baseline,
    Record,
    Recorded,
    load_baseline,
    of_record_key,
    pack_bits,
    record_key,
    save_baseline,
    unpack_bits,
)
from codi_bench.rules.validity import Validity, Verdict
from codi_bench.store.files import package_folder
from codi_bench.suite import engine
from codi_bench.suite.environment import environment
from codi_bench.suite.suite import Suite

PAIRS = [(model, claim.id) for model in EMBEDDED for claim in CLAIMS.values() if claim.suite == STUDY]


def rows_of(record: Record, bench, published):
    """A claim that measures what is recorded."""
    rows: dict[str, list[Measured]] = {REPORTED: [], SOUND: []}
    for key, number in record.metrics.items():
        protocol, metric = of_record_key(key)
        facts = number.model_dump(include={"value", "n", "unit", "low", "high", "cell"})
        null = number.null and Null(**number.null.model_dump())
        verdict = Verdict(number.verdict and Validity(number.verdict), "", number.fragile, number.decide)
        bits = unpack_bits(number.outcomes, number.n)
        rows[protocol].append(Measured(metric, **facts, outcomes=bits, null=null, verdict=verdict))
    yield from rows.values()


def judged(reported, sound, permutations):
    """What is recorded has its words."""
    return {record_key(REPORTED, row.metric): row for row in reported} | {record_key(SOUND, row.metric): row for row in sound}


@dataclass
class Bookkeeping:
    """A folder of baselines, what is recorded there by pair, and the word of a pair that is measured."""

    folder: Path
    baselines: dict[tuple[str, str], Baseline]
    word: Callable[[tuple[str, str]], str]

    def write(self, pair, **numbers):
        """The record of a pair, but for these numbers."""
        baseline = self.baselines[pair]
        (record,) = baseline.recorded
        changed = record.model_copy(update={"metrics": {**record.metrics, **numbers}})
        save_baseline(self.folder, baseline.model_copy(update={"recorded": [changed]}))


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """The study's records, one a file, with the environment and the inputs of now."""
    folder = tmp_path_factory.mktemp("recorded")
    suite = Suite(models=EMBEDDED, baselines=folder, report=folder / "report")
    models = {model.name: model for model in suite.asked_models}
    here, baselines, claims = environment("cpu", "float32"), {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "judge", judged)
        for model, name in PAIRS:
            baseline = load_baseline(package_folder("baselines"), model, name)
            record, _ = baseline.nearest(here)
            claims[model, name] = replace(CLAIMS[name], function=partial(rows_of, record))
            now = suite.measure(models[model], claims[model, name]).proposal
            baselines[model, name] = baseline.model_copy(update={"recorded": [now]})
        yield Bookkeeping(folder, baselines, lambda pair: suite.measure(models[pair[0]], claims[pair]).word)


def damaged(number: Recorded, tolerance: float) -> Iterator[tuple[str, Recorded]]:
    """The number with one thing of it changed, and what that is. A word that is fragile may change by the rules."""
    changes: dict[str, object] = {"value": number.value + 2 * tolerance + 1e-5, "n": number.n + 8, "cell": {"layer": 99}}
    if number.verdict and not number.fragile:
        changes["verdict"] = "REFUTED" if number.verdict == "SUPPORTED" else "SUPPORTED"
    if number.outcomes:
        bits = unpack_bits(number.outcomes, number.n)
        bits[[bits.argmax(), bits.argmin()]] ^= True  # as many are right, where there are right and wrong ones
        changes["outcomes"] = pack_bits(bits)
    for field, value in changes.items():
        yield field, number.model_copy(update={field: value})


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_recorded_value_that_is_damaged_reddens_its_own_test(books, pair):
    baseline = books.baselines[pair]
    unseen = []
    for key, number in baseline.recorded[0].metrics.items():
        for field, other in damaged(number, baseline.tolerance[key].deterministic):
            books.write(pair, **{key: other})
            unseen += [f"{key}: {field}"] * (books.word(pair) != "red")
    books.write(pair)
    assert books.word(pair) == "ok" and not unseen


def test_and_no_other(books):
    """A pair is as recorded while every value of all the others is damaged."""

    def damage(pair):
        numbers = books.baselines[pair].recorded[0].metrics.items()
        books.write(pair, **{key: number.model_copy(update={"value": number.value + 1}) for key, number in numbers})

    for pair in PAIRS:
        damage(pair)
    for pair in PAIRS:
        assert books.word(pair) == "red"
        books.write(pair)
        assert books.word(pair) == "ok"
        damage(pair)
    for pair in PAIRS:
        books.write(pair)
