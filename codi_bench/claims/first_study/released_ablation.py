"""The first study's claims about ablation on what was released: counts alone, by token, and no outcome of a problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from codi_bench.audits.ablation import CONTRAST_FLOOR, DROP_FLOOR
from codi_bench.claims.blocks import rate
from codi_bench.claims.claim import (
    Measured,
    Null,
    Protocols,
    Published,
    measured,
    points,
    without_word,
)
from codi_bench.claims.first_study import GPT2, LLAMA, NO_BOUND, NO_INTERVAL
from codi_bench.claims.first_study.ablation import NUM_ABLATED
from codi_bench.claims.on_files import ReleasedBench, on_released
from codi_bench.errors import MeasureError
from codi_bench.measures.ablation import BOUND_LEVEL, HETEROGENEOUS
from codi_bench.models.edits import BOT
from codi_bench.rules.counts import (
    cochran_largest,
    contrast_range,
    difference_range,
    mcnemar_each,
    mcnemar_range,
    paired_verdict,
    tables,
)
from codi_bench.rules.stats import Interval, holm
from codi_bench.rules.validity import ALPHA, Validity, half_effect, none_stands_out, sound_verdict
from codi_bench.thoughts.cot_exploration import gpt2_labels, llama_importance

EQUAL = "equal positions"
LATENTS = range(5)  # that the study fed: its tokens 1 to 5


@on_released(
    "ablation",
    {GPT2: (gpt2_labels,)},
    protocol="the clean run alone: right of the first 100 problems; no outcome under ablation was released",
    sound=(
        "the printed drops (token t zeroes latents t-1 and t, so tokens 2 and 3 share latent 2) from the clean count of the "
        "labels: McNemar over all tables of losses and gains that they allow, largest p of each, Holm over six; contrasts of the "
        "two latents called critical with the mean of the others, at the largest error of any joint table"
    ),
)
def ablation(bench: ReleasedBench, published: Published) -> Protocols:
    """Removing token t costs this many points of accuracy."""
    clean = bench.read(gpt2_labels).right[:NUM_ABLATED]
    yield [rate("clean", clean)]
    before, n = int(clean.sum()), len(clean)
    if missing := [f"drop_{place}" for place in (BOT, *LATENTS) if f"drop_{place}" not in published]:
        raise MeasureError(f"the baseline has no {', '.join(missing)} in its field 'reported': the printed drops are needed")
    after = {place: before - round(n * published[f"drop_{place}"] / 100) for place in (BOT, *LATENTS)}
    p_values = holm([mcnemar_range(before, right, n, "greater")[1] for right in after.values()])
    rows = [drop(place, before, right, n, float(p)) for (place, right), p in zip(after.items(), p_values, strict=True)]
    wrong = [n - after[latent] for latent in LATENTS]
    yield [rate("clean", clean, detail=without_word("what the drops are from")), *rows, *contrasts(wrong, (1, 2), n)]


def drop(place: int | str, before: int, after: int, n: int, p: float) -> Measured:
    """A printed drop with the bounds of all tables; p: the largest, corrected."""
    shown = tables(before, after, n)[6 * mcnemar_each(before, after, n, "greater") <= ALPHA]
    gains = f"shown if at most {shown[:, 2].max()} wrong answers turned right" if len(shown) else "shown by no table"
    delta = half_effect((before - after) / n, DROP_FLOOR)
    return points(
        f"drop_{place}",
        difference_range(before, after, n),
        n,
        cell={"layer": None, "latent_pos": place},
        detail={"note": f"{after} right of {n}; {gains}"},
        null=Null(0.0, p=p),
        verdict=paired_verdict(before, after, n, delta=delta, p=p),
    )


def contrasts(events: Sequence[int], latents: Sequence[int], n: int) -> list[Measured]:
    """Events at a latent over the mean of the others, at the largest error of any joint table; Holm over all latents."""
    rows, size = [], len(events)
    for latent in latents:
        value, error = contrast_range(events, latent, n)
        reach, p = student.ppf(0.975, n - 1) * error, min(1.0, size * float(student.sf(value / error, n - 1)))
        theta = Interval(value, value - reach, value + reach)
        word = sound_verdict(theta, delta=CONTRAST_FLOOR, p={EQUAL: p}, marginal=EQUAL, n=n)
        at = {"layer": None, "latent_pos": latent}
        rows.append(points(f"contrast_{latent}", theta, n, cell=at, null=Null(0.0, p=p), verdict=word))
    return rows


@on_released(
    "ablation-critical",
    {LLAMA: (llama_importance,)},
    protocol=(
        "another run of the same group: 100 problems, 25 each of 2, 3, 4 and 5 or more steps; the state behind block 8 zeroed at "
        "one token, what follows recomputed; share of all problems that turn wrong, range over the six tokens"
    ),
    sound=(
        "the same counts; contrast of each latent with the mean of the other four at the largest error of any joint table, "
        "one-sided t, Holm over five, and the largest p of Cochran's Q. Losses alone: what turned right was not released"
    ),
)
def ablation_critical(bench: ReleasedBench, published: Published) -> Protocols:
    """No token is critical."""
    importance = bench.read(llama_importance)
    n, share = importance.n, importance.share
    places = (BOT, *LATENTS)
    at = {"layer": None, "latent_pos": places[int(np.argmax(share))]}
    yield [measured("range", 100 * float(np.ptp(share)), n, "points", cell=at, detail={"no_interval": NO_INTERVAL})]
    losses = [round(n * part) for part in share[1:]]  # bot is no statement about a thought
    rows, q_p = contrasts(losses, LATENTS, n), cochran_largest(losses, n)
    critical = [row.cell["latent_pos"] for row in rows if row.cell and is_supported(row) and q_p <= HETEROGENEOUS]
    errors = [contrast_range(losses, latent, n) for latent in LATENTS]
    upper = [value + student.isf(BOUND_LEVEL / len(losses), n - 1) * error for value, error in errors]
    word = none_stands_out(upper, margin=CONTRAST_FLOOR, deviates=bool(critical), n=n, se=max(error for _, error in errors))
    names = ", ".join(map(str, critical)) or "none shown"
    detail = {"no_interval": NO_BOUND, "critical": critical, "note": f"critical latents, by losses alone: {names}"}
    value = 100 * float(np.ptp(losses)) / n
    why = f"losses alone, Cochran's Q p at most {q_p:.2g}: {word.why}"
    row = measured("range", value, n, "points", cell=at, detail=detail, null=Null(0.0, p=q_p), verdict=replace(word, why=why))
    yield [row, *rows]


def is_supported(row: Measured) -> bool:
    return row.verdict is not None and row.verdict.word is Validity.SUPPORTED
