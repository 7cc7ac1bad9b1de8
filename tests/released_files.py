"""Claims on made-up released files, and on the real ones where they are at hand."""

import json
import os
from pathlib import Path

import pytest

from codi_bench.claims import CLAIMS
from codi_bench.suite.released_bench import FilesBench, released_in

HOME = os.environ.get("CODI_BENCH_RELEASED")
with_real_files = pytest.mark.skipif(not HOME, reason="NOT GIVEN: CODI_BENCH_RELEASED names the folder with released files")


def protocols_on(folder, claim, model, contents, published=()):
    """The protocols of a claim, made one after the other, on files of these contents: a text, or what is written as JSON."""
    paths = {}
    for i, (file, content) in enumerate(contents.items()):
        paths[file] = folder / f"{i}"
        paths[file].write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    assert set(paths) == set(CLAIMS[claim].files(model))
    return CLAIMS[claim].on_files.function(FilesBench.of(model, paths), dict(published))


def real(claim, model):
    """The same on the released files themselves."""
    at_hand = released_in([Path(HOME)])
    return CLAIMS[claim].on_files.function(FilesBench.of(model, {file: at_hand[file] for file in CLAIMS[claim].files(model)}), {})


def by_metric(rows):
    return {row.metric: row for row in rows}


def word(row):
    return row.verdict.word.value
