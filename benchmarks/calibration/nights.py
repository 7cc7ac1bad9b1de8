"""Nights of a nightly run, made up: the recorded problems measured again, and what the suite's own comparison says of them.

What is recorded is that of the embedded pair. Elsewhere (another device, dtype or library) a share of all problems, the churn,
goes from right to wrong and as many the other way, in every metric by itself; floats move by normal noise of a quarter of their
tolerance, since a tolerance is four times the device's spread, and verdicts stay as recorded. `derived` makes a whole night
instead: floats move by the noise that was measured, and ablations with their verdicts follow from the outcomes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from codi_bench.audits.ablation import CONTRAST_FLOOR, DROP_FLOOR, critical_word, drop_word, none_word
from codi_bench.claims import CLAIMS, Measured
from codi_bench.measures.ablation import position_effects
from codi_bench.models.registry import CONTROLS
from codi_bench.records import changes
from codi_bench.records import tolerance as noise
from codi_bench.records.baseline import (
    Recorded,
    Tolerance,
    load_baseline,
    metrics_recorded,
    of_record_key,
    pack_bits,
    unpack_bits,
)
from codi_bench.records.tolerance import DETERMINISTIC, SPREADS, spread_elsewhere
from codi_bench.rules import reproduction as verdicts
from codi_bench.rules.reproduction import Regression, regression_count
from codi_bench.rules.validity import Validity, Verdict
from codi_bench.store.code import code_hash
from codi_bench.store.files import package_folder
from codi_bench.suite import engine

from . import planted
from .engine import Bar, Rate

PAIR = ("gpt2-mini", "llama-mini")
OUTCOMES = Tolerance(kind="outcomes", deterministic=DETERMINISTIC, device=0.0, why="right or wrong, problem by problem")
SELDOM, SEEN, NEARLY_SEEN = Bar(high=0.01), Bar(low=0.95), Bar(low=0.9)


ABLATED = [claim.id for claim in CLAIMS.values() if claim.family == "ablation"]
ANSWERS, SOUND_ANSWERS = ("task-accuracy", "accuracy"), ("task-accuracy", "sound accuracy")


@dataclass(frozen=True, eq=False)
class Metric:
    """A recorded metric: its model, claim and key, what is stored, its tolerance, and the number of metrics in its file.

    bits: its outcomes bool [n], where there are any.
    """

    model: str
    claim: str
    key: str
    held: Recorded
    tolerance: Tolerance
    bits: np.ndarray | None


@cache
def suite(models: Sequence[str] = PAIR) -> tuple[Metric, ...]:
    """What a night measures of some models, as recorded on the CPU, of each file the newest record: those of the study."""
    folder, found = package_folder("baselines"), []
    for model in models:
        for claim in (each.id for each in CLAIMS.values() if each.suite == "study"):
            baseline = load_baseline(folder, model, claim)
            if record := baseline.newest("cpu"):
                for key, held in record.metrics.items():
                    bits = unpack_bits(held.outcomes, held.n)
                    found.append(Metric(model, claim, key, held, baseline.tolerance[key], bits))
    return tuple(found)


def with_suite(settings: dict) -> dict:
    """The settings with what the draws depend on besides them: the rules, and what is recorded."""
    recorded = suite()
    text = "".join(f"{m.model} {m.claim} {m.key} {m.held.model_dump_json()} {m.tolerance.model_dump_json()}" for m in recorded)
    turned, again, share = noise.churn((m.held, m.tolerance.noise) for m in recorded)
    if "churn" in settings and settings["churn"] is None:  # a share of problems turns: half of them either way
        settings = settings | {"churn": share / 2, "turned": turned, "measured again": again}
    return settings | {
        "rules": code_hash(verdicts, changes, engine)[:12],
        "recorded": hashlib.sha256(text.encode()).hexdigest()[:12],
        "metrics": metrics_recorded(package_folder("baselines"), without=CONTROLS.values()),  # M, of which a night measures these
        "measured": len(recorded),
        "with outcomes": sum(m.tolerance.kind == "outcomes" for m in recorded),
        "floats": sum(m.tolerance.kind == "value" and m.tolerance.device > 0 for m in recorded),
    }


# --- measured again ----------------------------------------------------------------------------------------------------


def elsewhere(rng, bits: np.ndarray, *, churn: float, loss: float = 0.0) -> np.ndarray:
    """Right/wrong bool [n] of the same problems in another environment: expected flips, of all n problems, are churn + loss from
    right to wrong and churn from wrong to right, each problem by itself.

    Churn is what leaves the rate as it is: where fewer are right, or wrong, than would turn, no more turn the other way either.
    """
    n, right = len(bits), int(bits.sum())
    churn = min(churn, right / n, (n - right) / n)
    flips = np.where(bits, (churn + loss) * n / max(right, 1), churn * n / max(n - right, 1))
    return bits ^ (rng.random(n) < flips)


def measured(metric: Metric, *, bits=None, value: float | None = None, verdict: Verdict | None = None) -> Measured:
    """The metric as a night measures it: other outcomes [n], another value, or another verdict than the one recorded."""
    held, (_, name) = metric.held, of_record_key(metric.key)
    if bits is not None:
        gain = (int(bits.sum()) - int(metric.bits.sum())) / held.n
        value = held.value - 100 * gain if held.unit == "points" else held.value + gain  # a drop falls by what is gained
    word = Validity(held.verdict) if held.verdict else None
    value = held.value if value is None else value
    return Measured(name, value, held.n, held.unit, cell=held.cell, outcomes=bits, verdict=verdict or Verdict(word, ""))


def drifted(metric: Metric, number: Measured, *, same: bool, family: int) -> bool:
    """Is it red? By the comparison of the suite itself."""
    word, _ = engine.compare_numbers(metric.key, number, metric.held, metric.tolerance, same=same, total=family)
    return word == Regression.DRIFTED


@cache
def by_counts(metric: Metric, lost: int, gained: int, family: int) -> bool:
    """Is it red elsewhere, with that many flips either way? Outcomes are compared by these counts alone: each is asked once."""
    after = metric.bits.copy()
    after[np.flatnonzero(metric.bits)[:lost]] = False
    after[np.flatnonzero(~metric.bits)[:gained]] = True
    return drifted(metric, measured(metric, bits=after), same=False, family=family)


# --- draws -------------------------------------------------------------------------------------------------------------


def quiet(rng, *, churn, metrics, **_) -> dict:
    """Nothing changed, another environment: model, claim and metric of what is red, by outcomes and by floats."""
    found = {"outcomes": [], "floats": []}
    for metric in suite():
        if metric.tolerance.kind == "outcomes":
            after = elsewhere(rng, metric.bits, churn=churn)
            counts = int((metric.bits & ~after).sum()), int((after & ~metric.bits).sum())
            kind, red = "outcomes", by_counts(metric, *counts, metrics)
        else:
            value = metric.held.value + rng.normal() * metric.tolerance.device / SPREADS
            kind, red = "floats", drifted(metric, measured(metric, value=value), same=False, family=metrics)
        if red:
            found[kind].append(f"{metric.model} {metric.claim} {metric.key}")
    return {"word": "alarm" if any(found.values()) else "quiet", **found}


def lost(rng, *, n, rate, churn, loss, sizes, **_) -> dict:
    """A metric of n problems loses `loss`, another environment: is it seen where M is each of the sizes?"""
    bits = rng.random(n) < rate
    metric = made_up(bits)
    night = measured(metric, bits=elsewhere(rng, bits, churn=churn, loss=loss))
    seen = [drifted(metric, night, same=False, family=size) for size in sizes]
    return {"word": "seen" if all(seen) else "seen at a smaller M" if any(seen) else "missed", "seen": seen}


def doubled(rng, *, n, rate, drop, churn, sizes, **_) -> dict:
    """The drop of one ablated position becomes twice as large, another environment."""
    made = planted.ablations(rng, n=n, drops=[drop], baseline=rate, gains=0.0)
    metric = made_up(made.ablated[0], unit="points", value=100 * (made.clean.mean() - made.ablated[0].mean()))
    night = measured(metric, bits=elsewhere(rng, made.ablated[0], churn=churn, loss=drop))
    seen = [drifted(metric, night, same=False, family=size) for size in sizes]
    return {"word": "seen" if all(seen) else "seen at a smaller M" if any(seen) else "missed", "seen": seen}


def flipped(rng, *, cancelling, metrics, **_) -> dict:
    """The same environment: one answer (or two that cancel) of one recorded metric changed."""
    counted = [metric for metric in suite() if metric.tolerance.kind == "outcomes"]
    if cancelling:
        counted = [metric for metric in counted if 0 < metric.bits.sum() < len(metric.bits)]
    metric = counted[rng.integers(len(counted))]
    bits = metric.bits.copy()
    flips = [rng.choice(np.flatnonzero(bits == side)) for side in (True, False)] if cancelling else [rng.integers(len(bits))]
    bits[flips] ^= True
    seen = drifted(metric, measured(metric, bits=bits), same=True, family=metrics)
    return {"word": "seen" if seen else "missed"}


def tested(rng, *, n, rate, churn, loss, sizes, **_) -> dict:
    """The rule alone, as docs/verdicts.md, section 4 tells its price: the same as `lost` without the suite around it."""
    bits = rng.random(n) < rate
    after = elsewhere(rng, bits, churn=churn, loss=loss)
    seen = [regression_count(bits, after, same_environment=False, family_size=m).word == Regression.DRIFTED for m in sizes]
    return {"word": "seen" if all(seen) else "seen at a smaller M" if any(seen) else "missed", "seen": seen}


def derived(rng, *, churn, metrics, **_) -> dict:
    """Nothing changed, another environment, and a whole night in it: model, claim and metric of what is red, and by what.

    Outcomes turn by churn, and the ablations are derived anew from them: drops, their range, every verdict. Floats move by their
    calibrated spread, and once more by that of a turned answer for each answer of their model that turned (of ablations, by that
    of a night's share of outcomes).
    """
    found = {"outcomes": [], "floats": [], "verdicts": []}
    for model in PAIR:
        mine = {(m.claim, m.key): m for m in suite() if m.model == model}
        right = {key: elsewhere(rng, m.bits, churn=churn) for key, m in mine.items() if m.bits is not None}
        turned = int((right[ANSWERS] != mine[ANSWERS].bits).sum())
        again = ablations(mine, right) if any((bits != mine[key].bits).any() for key, bits in right.items()) else {}
        for key, metric in mine.items():
            value, verdict = again.get(key, (metric.held.value, None))
            if metric.bits is None and key not in again:
                value += rng.normal() * spread_elsewhere(metric.tolerance.noise, turning=0)
                one, often = metric.tolerance.noise.get("turned"), 1 if metric.claim in ABLATED else turned
                value += rng.normal(size=often).sum() * (one.spread if one else 0.0)
            asked = measured(metric, bits=right.get(key), value=value, verdict=verdict)
            if drifted(metric, asked, same=False, family=metrics):
                changed = engine.word_of(asked) != metric.held.verdict
                kind = "verdicts" if changed else "floats" if metric.bits is None else "outcomes"
                found[kind].append(f"{model} {metric.claim} {metric.key}")
    return {"word": "alarm" if any(found.values()) else "quiet", **found}


def ablations(mine: dict[tuple[str, str], Metric], right: dict) -> dict[tuple[str, str], tuple[float, Verdict]]:
    """Verdict of each drop, value and verdict of their range, from outcomes by (claim, key); both protocols carry the sound word.

    The value of a drop is left as it was: what has outcomes is compared by them.
    """
    places = [place for place in range(6) if ("ablation", f"sound drop_{place}") in mine]
    whole = mine["ablation-critical", "sound range"]
    n = whole.held.n
    rows = np.stack([right["ablation", f"sound drop_{place}"] for place in places])
    effects = position_effects(right[SOUND_ANSWERS][:n], rows, margin=CONTRAST_FLOOR, floor=DROP_FLOOR)
    over = (critical_word if whole.model.startswith("gpt2") else none_word)(effects, n=n)
    spread = 100 * float(np.ptp([drop.value for drop in effects.drops]))
    found = {("ablation-critical", "sound range"): (spread, over)}
    of_study = [bits for (claim, key), bits in right.items() if claim == "ablation" and not key.startswith("sound")]
    found["ablation-critical", "range"] = (100 * float(np.ptp([bits.mean() for bits in of_study])), over)
    for place, drop, p in zip(places, effects.drops, effects.drop_p):
        for key in (f"drop_{place}", f"sound drop_{place}"):
            if ("ablation", key) in mine:
                found["ablation", key] = (mine["ablation", key].held.value, drop_word(drop, p, n=n))
    return found


def made_up(bits: np.ndarray, *, unit: str = "fraction", value: float | None = None) -> Metric:
    """A metric recorded with these outcomes; no verdict."""
    held = Recorded(value=bits.mean() if value is None else value, unit=unit, n=len(bits), outcomes=pack_bits(bits))
    return Metric("made up", "made up", "sound accuracy" if unit == "fraction" else "sound drop_0", held, OUTCOMES, bits)


# --- rates -------------------------------------------------------------------------------------------------------------


def judge_quiet(rows, settings) -> list[Rate]:
    def rate(what, *kinds, bar=None):
        return Rate(what, sum(any(row[kind] for kind in kinds) for row in rows), len(rows), bar)

    return [
        rate("alarm", "outcomes", "floats", bar=SELDOM),
        rate("alarm by outcomes", "outcomes"),
        rate("alarm by floats", "floats"),
    ]


def judge_seen(bar: Bar | None):
    """Seen, for each M."""

    def judge(rows, settings) -> list[Rate]:
        return [
            Rate(f"seen, M = {size}", sum(row["seen"][i] for row in rows), len(rows), bar)
            for i, size in enumerate(settings["sizes"])
        ]

    return judge


def judge_flipped(rows, settings) -> list[Rate]:
    return [Rate("seen", sum(row["word"] == "seen" for row in rows), len(rows), Bar(low=1.0))]


def judge_derived(bar: Bar | None):
    """An alarm at all, and by what."""

    def judge(rows, settings) -> list[Rate]:
        kinds = {"alarm": ("outcomes", "floats", "verdicts")} | {
            f"alarm by {kind}": (kind,) for kind in ("outcomes", "floats", "verdicts")
        }
        return [
            Rate(what, sum(any(row[kind] for kind in which) for row in rows), len(rows), bar if what == "alarm" else None)
            for what, which in kinds.items()
        ]

    return judge
