"""SIM-CoT with fewer and with more latents than the six that it was trained with (github.com/anatissera/pondernet)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from codi_bench.claims.blocks import PAIRED, constant, not_lost, rate
from codi_bench.claims.claim import Measured, Null, Protocols, Published, claim, measured, points, without_word
from codi_bench.claims.comparisons import gained
from codi_bench.claims.on_files import ReleasedBench
from codi_bench.claims.released_study import FAMILY, RELEASED
from codi_bench.problems import problems_hash
from codi_bench.rules.controls import check_room
from codi_bench.rules.stats import mcnemar_exact, newcombe_paired
from codi_bench.rules.validity import Validity
from codi_bench.thoughts.pondernet import BudgetAnswers, simcot_budgets

TRAINED = 6  # latents
SIMCOT: dict[str, Any] = RELEASED | {"n": 7473, "files": {"sim-cot-gpt2": (simcot_budgets,)}}
SOURCE = "results released in github.com/anatissera/pondernet, recomputed"
POOL = "all 7473 training problems of GSM8K, from which the model was trained and each of which stands there once"


@claim(
    "rel-simcot-latents",
    SOURCE,
    kind="exists",
    protocol=f"{POOL}; right answers with one to eight latents, and of each number those of one latent fewer taken off",
    sound=f"gain over one latent fewer, of 2 points or more; {PAIRED}",
    **SIMCOT,
)
def by_number(bench: ReleasedBench, published: Published) -> Protocols:
    """Each further latent answers more problems rightly."""
    answers: BudgetAnswers = bench.read(simcot_budgets)
    pairs = {f"gain_{k}": (right, answers.right[k - 1]) for k, right in answers.right.items() if k - 1 in answers.right}
    rows = [rate(f"accuracy_{k}", right) for k, right in answers.right.items()]
    yield rows + [
        points(metric, newcombe_paired(*pair), len(pair[0]), null=Null(0.0, p=mcnemar_exact(*pair)))
        for metric, pair in pairs.items()
    ]
    detail = without_word("its gain over one latent fewer is judged") | {"problems": problems_hash(answers.problems)}
    accuracies = [rate(f"accuracy_{k}", right, detail=detail) for k, right in answers.right.items()]
    yield accuracies + gained(pairs, "one latent fewer", family=FAMILY)


@claim(
    "rel-simcot-enough",
    SOURCE,
    kind="none",
    protocol=f"{POOL}; one is enough: of all problems, those that no number of latents answers counted with them",
    sound=f"surely less than 5 points lost against six; {PAIRED}; one is enough: of the problems that some number answers",
    **SIMCOT,
)
def enough(bench: ReleasedBench, published: Published) -> Protocols:
    """Fewer latents than the six that it was trained with are enough."""
    answers: BudgetAnswers = bench.read(simcot_budgets)
    fewer = {f"accuracy_{k}": right for k, right in answers.right.items() if k < TRAINED}
    some, one = np.any([*answers.right.values()], axis=0), answers.right[1]
    yield [*(rate(metric, right) for metric, right in fewer.items()), rate("one_is_enough", one | ~some)]
    full = answers.right[TRAINED]
    check_room(full, float(constant([problem.answer for problem in answers.problems]).mean()))
    rows = not_lost(full, fewer, family=FAMILY)
    alone = rate("one_is_enough", one[some], detail=without_word("a share of problems: nothing that it should be above"))
    yield [
        *rows,
        measured("fewest", fewest(rows), len(full), "count", detail=without_word("it follows from the words of the others")),
        alone,
    ]


def fewest(rows: Sequence[Measured]) -> int:
    """The least number of latents from which on all are enough, of rows from one latent upwards."""
    short = [k for k, row in enumerate(rows, 1) if row.verdict is None or row.verdict.word is not Validity.SUPPORTED]
    return max(short, default=0) + 1
