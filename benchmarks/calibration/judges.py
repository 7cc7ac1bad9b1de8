"""Which words are right, how often they may be wrong, and what intervals must cover: rows of draws in, rates out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .engine import Bar, Rate, within

RARELY, MOSTLY = Bar(high=0.05, by_interval=True), Bar(low=0.9)
ALMOST_ALWAYS = Bar(low=0.98)
WINNER = Bar(high=0.05, by_interval=True)  # tested at 0.05 two-sided
BOUNDED, NEARLY_ALWAYS = Bar(high=0.05, upper=0.075), Bar(low=0.95)  # of the public auditor


# --- probes ----------------------------------------------------------------------------------------------------------


def judge_in_sample(rows, settings) -> list[Rate]:
    return [
        Rate("ARTEFACT", sum(row["word"] == "ARTEFACT" for row in rows), len(rows), ALMOST_ALWAYS),
        Rate("reads above 90 %", sum(row["reads"] > 0.9 for row in rows), len(rows), ALMOST_ALWAYS),
    ]


def judge_false(rows, settings) -> list[Rate]:
    """Nothing is there (beyond surface and groups): SUPPORTED is wrong."""
    return [Rate("SUPPORTED", sum(row["word"] == "SUPPORTED" for row in rows), len(rows), RARELY)]


def judge_noise(rows, settings) -> list[Rate]:
    return [*judge_false(rows, settings), *judge_cross_validated(rows, settings)]


def judge_signal(rows, settings) -> list[Rate]:
    supported = [row["word"] == "SUPPORTED" for row in rows]
    right = [row["named"] == settings["where"] for row in rows]
    return [
        Rate("SUPPORTED", sum(supported), len(rows), MOSTLY),
        Rate("SUPPORTED and the right cell named", sum(a and b for a, b in zip(supported, right)), len(rows), MOSTLY),
        *judge_cross_validated(rows, settings),
    ]


def judge_spread(rows, settings) -> list[Rate]:
    true = "even" if settings["where"] is None else "concentrated"
    return [Rate(true, sum(row["word"] == true for row in rows), len(rows), MOSTLY), *judge_cross_validated(rows, settings)]


def judge_cross_validated(rows, settings) -> list[Rate]:
    """Do intervals cover the expected score of the pipeline, taken from all draws together?"""
    value = {name: float(np.mean([row[name][0] for row in rows])) for name in ("accuracy", "AUC", "mean")}
    value["tau"] = _true_tau(rows, settings.get("where"))
    covered = {name: sum(row[name][1] <= value[name] <= row[name][2] for row in rows) for name in value}
    return [Rate(f"interval of {name} covers", hits, len(rows)) for name, hits in covered.items()]


def judge_intervals(rows, settings) -> list[Rate]:
    told = {rate.what: rate for rate in judge_cross_validated(rows, settings)}
    bars = {"accuracy": within(0.93, 0.97, 0.015), "AUC": within(0.95, 0.98, 0.015)}
    barred = [replace(told[f"interval of {name} covers"], bar=bar) for name, bar in bars.items()]
    return [*barred, *(rate for rate in told.values() if rate.what not in {one.what for one in barred})]


def _true_tau(rows, where: int | None) -> float:
    """Std over cells of their expected accuracies; cells that were made alike have one expectation."""
    if where is None:
        return 0.0
    cells = np.mean([row["cells"] for row in rows], axis=0)
    expected = np.full(len(cells), np.delete(cells, where).mean())
    expected[where] = cells[where]
    return float(expected.std())


# --- ablations -------------------------------------------------------------------------------------------------------


def judge_set(rows, settings) -> list[Rate]:
    """Positions 2 and 3 stand out, and no other."""
    return [Rate("critical set exactly 2, 3", sum(row["word"] == "critical: 2, 3" for row in rows), len(rows), MOSTLY)]


def judge_equal(rows, settings) -> list[Rate]:
    """All drops are equal: a critical position is wrong."""
    claimed = sum(row["word"].startswith("critical") for row in rows)
    return [Rate("a critical position claimed", claimed, len(rows), RARELY)]


def judge_none(rows, settings) -> list[Rate]:
    none = sum(row["word"] == "no critical position" for row in rows)
    return [Rate("no critical position", none, len(rows), MOSTLY), *judge_equal(rows, settings)]


def tell(judge):
    """The same rates without a bar: settings for which docs/verdicts.md promises nothing."""

    def told(rows, settings) -> list[Rate]:
        return [Rate(rate.what, rate.hits, rate.draws) for rate in judge(rows, settings)]

    return told


# --- the public auditor ------------------------------------------------------------------------------------------------


def judge_no_probes(rows, settings) -> list[Rate]:
    return [Rate("SUPPORTED", sum(row["word"] == "SUPPORTED" for row in rows), len(rows), BOUNDED)]


def judge_made_by_the_protocol(rows, settings) -> list[Rate]:
    artefacts = {what: sum(row[f"artefact_{what}"] for row in rows) for what in ("mean", "best")}
    return [
        *judge_no_probes(rows, settings),
        *(Rate(f"ARTEFACT, in sample, {what}", hits, len(rows), NEARLY_ALWAYS) for what, hits in artefacts.items()),
    ]


def judge_probes(rows, settings) -> list[Rate]:
    return [
        Rate("SUPPORTED", sum(row["word"] == "SUPPORTED" for row in rows), len(rows), MOSTLY),
        Rate("the right cell named", sum(row["cell"] == settings["where"] for row in rows), len(rows), MOSTLY),
    ]


def judge_drops(rows, settings) -> list[Rate]:
    """Conditions that cost something are to be SUPPORTED, each by itself; one that costs nothing is not."""
    true = [i for i, drop in enumerate(settings["drops"]) if drop > 0]
    wrong = sum(any(i not in true for i in row["supported"]) for row in rows)
    hits = [Rate(f"edit {i} SUPPORTED", sum(i in row["supported"] for row in rows), len(rows), MOSTLY) for i in true]
    critical = [Rate("a critical condition claimed", sum(bool(row["critical"]) for row in rows), len(rows), BOUNDED)]
    return [*hits, Rate("SUPPORTED without a drop", wrong, len(rows), BOUNDED), *([] if true else critical)]


def judge_no_winner(rows, settings) -> list[Rate]:
    return [Rate("a winner claimed", sum(row["winner"] is not None for row in rows), len(rows), WINNER)]


def judge_winner(rows, settings) -> list[Rate]:
    return [Rate("the better model wins", sum(row["winner"] == "b" for row in rows), len(rows), MOSTLY)]


# --- intervals of fixed outcomes ---------------------------------------------------------------------------------------


def covers(low: float, high: float):
    """The table's range, as a judge."""

    def judge(rows, settings) -> list[Rate]:
        return [Rate("covered", sum(row["word"] == "covered" for row in rows), len(rows), within(low, high, 0.01))]

    return judge
