"""What `codi-bench baselines calibrate` prints: how far each number moved by component, and its tolerance, old to new."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from codi_bench.records.baseline import Baseline
from codi_bench.records.tolerance import ELSEWHERE
from codi_bench.report.console import printed, text_console

SHOWN = ("sampling", "seed", "turned", "batch", *ELSEWHERE, "dtype")
WIDTH = 130
LEGEND = (
    "Spreads in the number's own unit (fractions, points, features). sampling: other problems and seeds, as reported alone; "
    "seed: other seeds; turned: the answer to one problem; batch: its size and the threads; tolerance: in another environment, "
    "old → new; flips: problem by problem, by McNemar; may become: words that noise makes of the verdict elsewhere."
)


def terminal(before: Sequence[Baseline], after: Sequence[Baseline]) -> str:
    """A table a claim and model; components that nothing was measured of have no column."""
    console = text_console(width=WIDTH)
    components = {name for baseline in after for tolerance in baseline.tolerance.values() for name in tolerance.noise}
    columns = [name for name in SHOWN if name in components]
    for old, new in zip(before, after, strict=True):
        table = Table("metric", *columns, "tolerance", "may become", box=None, pad_edge=False)
        for key, tolerance in new.tolerance.items():
            spreads = (f"{tolerance.noise[name].spread:.2g}" if name in tolerance.noise else "" for name in columns)
            previous = f"{old.tolerance[key].device:.3g} → " if key in old.tolerance else ""
            limit = "flips" if tolerance.kind == "outcomes" else f"{previous}{tolerance.device:.3g}"
            table.add_row(escape(key), *spreads, limit, ", ".join(tolerance.words))
        console.print(f"[bold]{escape(new.model)} {escape(new.claim)}[/]")
        console.print(table)
    console.print(LEGEND, style="dim", markup=False)
    return printed(console)
