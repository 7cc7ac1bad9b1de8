"""Results as a folder that `datasets.load_dataset` reads: a row for each number, each column of one type, None for no value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codi_bench.records.results import Row, of_model
from codi_bench.report.export import flat
from codi_bench.report.table import by_family
from codi_bench.store.files import write_text, write_whole

CARD, ROWS = FILES = ("dataset/README.md", "dataset/results.parquet")
NUMBERS = ("reported", "measured", "recorded", "null")
# pandas' types that know None, by column
COLUMNS = {
    **dict.fromkeys(("claim", "family", "model", "metric", "protocol", "status", "origin", "unit"), "string"),
    "n": "Int64",
    **{name + end: "Float64" for name in NUMBERS for end in ("", "_low", "_high")},
    "null_p": "Float64",
    "layer": "Int64",
    **dict.fromkeys(("latent_pos", "reproduction", "validity"), "string"),
    "fragile": "boolean",
    "decide": "Int64",
    **dict.fromkeys(("regression", "reason", "sentence", "source"), "string"),
    **dict.fromkeys(("device", "weights", "problems", "date", "version"), "string"),
}
TEXT = """\
---
pretty_name: codi-bench results
configs:
- config_name: default
  data_files:
  - split: train
    path: {rows}
---

# codi-bench results

Load it with `datasets.load_dataset(FOLDER, split="train")`. There is one row for each claim, model, metric and protocol.

- `measured`, `reported`, `recorded` and `null` are the number of this run, the published one, the recorded one, and what the same
  protocol gives where there is no effect. Each has `_low` and `_high`, the 95 % interval. Fractions stay fractions; `unit` says
  what a number is.
- `status` is `ok`, `blocked` or `not-run`. A row that is not `ok` was not measured, has no verdict, and says why in `reason`.
- `validity` is the verdict (SUPPORTED, ARTEFACT, REFUTED or UNDERPOWERED), null where no rule gives one.
- `regression` is SAME, DRIFTED or UNCHECKED: does the number agree with the recorded one?
- `weights` and `problems` are sha256 hashes of what was measured.
"""


def write_dataset(rows: Sequence[Row], environment: dict, folder: Path) -> Path:
    """Write the rows into `folder`/dataset, which is given back: one Parquet file and a README that says what it is.

    Raises OSError where that cannot be written.
    """
    from pandas import DataFrame

    families, claims = dict(by_family(rows, environment)), environment.get("claims") or {}
    records = [
        flat(row)
        | {"fragile": bool(row.detail.get("fragile")) if row.validity else None, "origin": row.origin}
        | {"family": families[row.claim], **{name: claims.get(row.claim, {}).get(name) for name in ("sentence", "source")}}
        | {"device": of_model(environment, "devices", row.model), **(of_model(environment, "inputs", row.model) or {})}
        | {"date": environment.get("date"), "version": environment.get("codi-bench")}
        for row in rows
    ]
    frame = DataFrame(records, columns=list(COLUMNS), dtype=object).astype(COLUMNS)
    write_text(folder / CARD, TEXT.format(rows=Path(ROWS).name))
    write_whole(folder / ROWS, lambda path: frame.to_parquet(path, index=False))
    return (folder / ROWS).parent
