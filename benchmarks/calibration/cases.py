"""What is calibrated, on what data, with how many draws: one entry a record in baselines/_calibration."""

from __future__ import annotations

import numpy as np

from . import doors, grids, judges, nights, outcomes
from .engine import Calibration, Case

STUDY = {"n": 100, "cells": 18, "folds": 5, "study_seed": 42}
# A cheap version of the sound protocol: its five folds, five C and 1000 permutations cost up to ten times as much.
CHEAP = {"probe": "ridge", "folds": 3, "Cs": [0.001, 0.01], "permutations": 99}
FIVE = {"probe": "ridge", "folds": 5, "Cs": [0.001, 0.01], "permutations": 99}
MEANS = ("auc", "phi", "phi_auc")
SEED_DROPS = [0.06, 0.07, 0.18, 0.20, 0.07, 0.07]  # the first study's, GPT-2


def ablations(name: str, judge, drops, n: int, gains: float) -> Case:
    return Case(name, outcomes.critical, {"n": n, "drops": drops, "baseline": 0.43, "gains": gains}, judge)


def rates_from(low: float, high: float, cells: int) -> list[float]:
    return np.linspace(low, high, cells).round(4).tolist()


ONE_STANDS_OUT = [0.7, *[0.5] * 17]
BOOTSTRAP = {"shared": 0.5, "bootstrap": 1000}

GRIDS = (
    Calibration(
        "noise-in-sample",
        "The study's protocol (fitted to and scored on the same 100 problems, mean over 18 cells) on noise: ARTEFACT is right",
        tuple(
            Case(
                f"width {d}, " + ("variance 1/rank" if decay else "isotropic"),
                grids.in_sample,
                STUDY | {"d": d, "decay": decay, "permutations": 199},
                judges.judge_in_sample,
                ("reads", "null", "fitted"),
            )
            for decay in (1.0, 0.0)
            for d in (768, 2048)
        ),
        draws=400,
        least=400,
    ),
    Calibration(
        "noise",
        "The sound protocol on noise: SUPPORTED is wrong",
        (Case("noise", grids.noise, CHEAP | {"n": 100, "cells": 6, "d": 16}, judges.judge_noise, MEANS),),
        draws=2000,
        least=2000,
    ),
    Calibration(
        "surface",
        "The sound protocol, surface given, where answers depend on the surface alone, also by a curve: SUPPORTED is wrong",
        (Case("surface only", grids.surface_only, CHEAP | {"n": 200, "cells": 6, "d": 16}, judges.judge_false, MEANS),),
        draws=2000,
        least=2000,
    ),
    Calibration(
        "leakage",
        "The sound protocol, groups given, where variants share label and activations and that is all: SUPPORTED is wrong",
        (
            Case(
                "leaking groups",
                grids.leaking,
                CHEAP | {"groups": 60, "variants": 3, "cells": 6, "d": 16},
                judges.judge_false,
                MEANS,
            ),
        ),
        draws=2000,
        least=2000,
    ),
    Calibration(
        "signal",
        "The sound protocol on a signal of attained held-out AUC 0.75 in one cell of six: SUPPORTED, that cell named, is right",
        (
            Case(
                "one of 6 cells",
                grids.signal,
                CHEAP | {"n": 400, "cells": 6, "d": 16, "where": 2, "target": 0.75},
                judges.judge_signal,
                MEANS,
            ),
        ),
        draws=2000,
        least=2000,
        prepare=grids.with_shift,
    ),
    Calibration(
        "spread",
        "Signal of attained held-out AUC 0.75 in one of 18 cells (concentrated is right) or in all of them (even is right)",
        tuple(
            Case(
                name,
                grids.spread,
                CHEAP | {"n": 400, "cells": 18, "d": 16, "where": where, "target": 0.75},
                judges.judge_spread,
                MEANS,
            )
            for name, where in (("concentrated", 4), ("even", None))
        ),
        draws=2000,
        least=2000,
        prepare=grids.with_shift,
    ),
    Calibration(
        "intervals-cross-validated",
        "Intervals of one cell's cross-validated accuracy and AUC cover the pipeline's expected score",
        (
            Case(
                "attained AUC 0.75",
                grids.signal,
                FIVE | {"n": 100, "cells": 2, "d": 16, "where": None, "target": 0.75},
                judges.judge_intervals,
                MEANS,
            ),
        ),
        draws=1000,
        least=1000,
        prepare=grids.with_shift,
    ),
)

OUTCOMES = (
    Calibration(
        "ablation",
        "Critical positions from the study's drops, and none where all drops are equal",
        (
            ablations("the study's drops", judges.judge_set, SEED_DROPS, 300, 0.0),
            ablations("equal drops of 5 points", judges.judge_none, [0.05] * 6, 600, 0.0),
            ablations("no drops", judges.judge_equal, [0.0] * 6, 300, 0.02),
            ablations("equal drops of 10 points", judges.judge_equal, [0.10] * 6, 300, 0.02),
            ablations("the study's drops, gains of 1 point", judges.tell(judges.judge_set), SEED_DROPS, 300, 0.01),
            ablations("equal drops of 5 points, gains of 1 point", judges.tell(judges.judge_none), [0.05] * 6, 600, 0.01),
        ),
        draws=2000,
        least=2000,
    ),
    Calibration(
        "interval-rate",
        "Wilson's interval of a rate covers",
        (
            *(
                Case(f"p = {p}, n = {n}", outcomes.rate_interval, {"n": n, "p": p}, judges.covers(0.93, 0.97))
                for p, n in ((0.02, 100), (0.1, 100), (0.43, 100), (0.7, 183), (0.98, 100), (0.43, 1319), (0.9, 1000))
            ),
            Case("p = 0.99, n = 100", outcomes.rate_interval, {"n": 100, "p": 0.99}, judges.covers(0.92, 0.92)),
        ),
        draws=4000,
        least=4000,
    ),
    Calibration(
        "interval-drop",
        "Newcombe's interval of a paired difference of rates covers",
        (
            *(
                Case(
                    f"drop {drop}, gains {gains}, n = {n}",
                    outcomes.drop_interval,
                    {"n": n, "drop": drop, "baseline": 0.43, "gains": gains},
                    judges.covers(0.93, 0.96),
                )
                for drop, gains, n in ((0.05, 0.02, 100), (0.2, 0.02, 100), (0.07, 0.05, 300), (0.05, 0.02, 1000))
            ),
            Case(
                "no drop, n = 100",
                outcomes.drop_interval,
                {"n": 100, "drop": 0.0, "baseline": 0.43, "gains": 0.02},
                judges.covers(0.98, 0.98),
            ),
        ),
        draws=4000,
        least=4000,
    ),
    Calibration(
        "interval-tau",
        "The interval of tau, the std over cells beyond sampling error, covers",
        tuple(
            Case(name, outcomes.tau_interval, {"n": n, "rates": rates, "shared": shared}, judges.covers(0.92, 0.98))
            for name, n, rates, shared in (
                ("equal cells", 100, [0.6] * 18, 0.0),
                ("equal cells, shared difficulty", 400, [0.6] * 18, 0.5),
                ("one of 18 cells stands out", 400, ONE_STANDS_OUT, 0.0),
                ("rates from 0.5 to 0.7", 100, rates_from(0.5, 0.7, 18), 0.3),
                ("six positions, rates from 0.3 to 0.45", 300, rates_from(0.3, 0.45, 6), 0.5),
            )
        ),
        draws=4000,
        least=4000,
    ),
    Calibration(
        "interval-mean",
        "The bootstrap interval of a mean over cells, and of a difference of means, covers",
        (
            *(
                Case(
                    f"mean over {len(rates)} cells, n = {n}" + (f", {variants} variants" if variants > 1 else ""),
                    outcomes.mean_interval,
                    BOOTSTRAP | {"n": n, "rates": rates, "variants": variants},
                    judges.covers(0.92, 0.96),
                )
                for rates, n, variants in ((rates_from(0.5, 0.8, 18), 100, 1), (rates_from(0.5, 0.8, 18), 400, 4))
            ),
            Case(
                "difference of means, n = 100",
                outcomes.difference_interval,
                BOOTSTRAP | {"n": 100, "rates": rates_from(0.5, 0.8, 18), "other": rates_from(0.6, 0.7, 15), "variants": 1},
                judges.covers(0.92, 0.96),
            ),
        ),
        draws=4000,
        least=4000,
    ),
)

ACCURACY = {"n": 1000, "rate": 0.43, "loss": 0.05}
RECORDED = {"sizes": [1884]}  # M: all that is recorded
# docs/verdicts.md, section 4: detected at M = 20, 100, 200, by churn.
PUBLISHED = {0.005: [1.0, 0.999, 0.999], 0.01: [0.997, 0.99, 0.98], 0.02: [0.96, 0.91, 0.88]}

NIGHTS = Calibration(
    "nights",
    "Nights of the suite over its recorded problems: alarms where nothing changed, and losses that must be seen",
    (
        *(
            Case(f"nothing changed, churn {churn:.1%}", nights.quiet, {"churn": churn}, nights.judge_quiet)
            for churn in (0.005, 0.01, 0.02)
        ),
        *(
            Case(f"loss of 5 points, n = 1000, churn {churn:.1%}", nights.lost, ACCURACY | RECORDED | {"churn": churn}, judge)
            for churn, judge in (
                (0.0, nights.judge_seen(nights.SEEN)),
                (0.005, nights.judge_seen(nights.SEEN)),
                (0.01, nights.judge_seen(nights.SEEN)),
                (0.02, nights.judge_seen(None)),
            )
        ),
        # What nine nights of ten see grows with M (docs/verdicts.md, section 4): at M = 200 it was 10 points at a churn of 0.5 %.
        *(
            Case(
                f"drop of {points} points doubled, n = 300, churn {churn:.1%}",
                nights.doubled,
                {"n": 300, "rate": 0.7, "drop": points / 100, "churn": churn} | RECORDED,
                judge,
            )
            for points, churn, judge in (
                (10, 0.0, nights.judge_seen(nights.NEARLY_SEEN)),
                (10, 0.005, nights.judge_seen(None)),
                (11, 0.005, nights.judge_seen(nights.NEARLY_SEEN)),
                (10, 0.01, nights.judge_seen(None)),
            )
        ),
        Case("same environment, one flip", nights.flipped, {"cancelling": False}, nights.judge_flipped),
        Case("same environment, two flips that cancel", nights.flipped, {"cancelling": True}, nights.judge_flipped),
        *(
            Case(
                f"the rule alone, loss of 5 points, n = 1000, churn {churn:.1%}",
                nights.tested,
                ACCURACY | {"churn": churn, "sizes": [20, 100, 200], "published": published},
                nights.judge_seen(None),
            )
            for churn, published in PUBLISHED.items()
        ),
        *(
            Case(f"a whole night, nothing changed, churn {churn}", nights.derived, {"churn": share}, nights.judge_derived(bar))
            for churn, share, bar in (("as measured", None, nights.SELDOM), ("0.1%", 0.001, None), ("0.5%", 0.005, None))
        ),
    ),
    draws=4000,
    least=2000,
    prepare=nights.with_suite,
)

OTHERS = [0.0] * 5


def dropping(name: str, n: int, drops: list[float], variants: int = 1) -> Case:
    return Case(
        name,
        doors.dropping,
        {"n": n, "drops": drops, "baseline": 0.43, "gains": 0.02, "variants": variants},
        judges.judge_drops,
    )


DOORS = (
    Calibration(
        "audit-probes",
        "codi_bench.audit.probes on noise (in sample ARTEFACT is right, SUPPORTED is wrong) and on an attained AUC of 0.75",
        (
            *(
                Case(
                    f"noise, {spectrum}",
                    doors.noise,
                    CHEAP | {"n": 100, "cells": 6, "d": 256, "decay": decay},
                    judges.judge_made_by_the_protocol,
                    ("reads",),
                )
                for spectrum, decay in (("isotropic", 0.0), ("variance 1/rank", 1.0))
            ),
            Case(
                "noise in groups",
                doors.leaking,
                CHEAP | {"groups": 60, "variants": 3, "cells": 6, "d": 16},
                judges.judge_no_probes,
                ("reads",),
            ),
            Case(
                "signal in one of 6 cells",
                doors.signal,
                CHEAP | {"n": 400, "cells": 6, "d": 16, "where": 2, "target": 0.75},
                judges.judge_probes,
                ("reads",),
            ),
        ),
        draws=1000,
        least=400,
        prepare=lambda settings: grids.with_shift(settings) if "target" in settings else settings,
    ),
    Calibration(
        "audit-outcomes",
        "codi_bench.audit.outcomes: drops that are there (at an n of 90 % power) and that are not, and who is better",
        (
            dropping("no drop", 300, [0.0, *OTHERS]),
            dropping("no drop, groups of 4 rows that agree", 100, [0.0, *OTHERS], 4),
            dropping("one drop of 7 points, n = 340", 340, [0.07, *OTHERS]),
            dropping("one drop of 18 points, n = 100", 100, [0.18, *OTHERS]),
            Case("two equal models", doors.two_models, {"n": 300, "rates": [0.5, 0.5], "shared": 0.5}, judges.judge_no_winner),
            Case(
                "43.2 against 55.6 %, n = 300",
                doors.two_models,
                {"n": 300, "rates": [0.432, 0.556], "shared": 0.5},
                judges.judge_winner,
            ),
        ),
        draws=2000,
        least=400,
    ),
)

CALIBRATIONS = {calibration.name: calibration for calibration in (*GRIDS, *OUTCOMES, *DOORS, NIGHTS)}
