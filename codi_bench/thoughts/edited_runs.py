"""Read the edited runs that the first study's repository released: right and wrong by problem, with and without each edit.

Its positions are `bot-first`: 0 is bot, t is the latent position t - 1. The last thought is computed but never fed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codi_bench.thoughts.cot_exploration import COT_EXPLORATION, FP32, HERE, NO_HASH
from codi_bench.thoughts.internalize_cot import spelling
from codi_bench.thoughts.released import first_rows, read_json, released

PATCHING, OPERATIONS = f"{HERE}/activation_patching/results", f"{HERE}/operation_intervention"
PROJECTIONS = f"{HERE}/01-11-2025-topk-projection/intervention_comparison_results"
CLEAN = "clean"  # the run without edits


@dataclass(frozen=True, eq=False)
class Zeroed:
    """Both members of n pairs, that of GSM8K first: right bool [n, 2], and right with zeros for all positions; groups: pairs."""

    groups: tuple[str, ...]
    clean: np.ndarray
    zeroed: np.ndarray

    @property
    def distinct(self) -> np.ndarray:
        """Rows of the first occurrence of each pair."""
        return first_rows(self.groups)


@dataclass(frozen=True, eq=False)
class Edited:
    """n problems by the spelling of their question: right bool [n]; by edit, right and changed answers, bool [n] each.

    origin [n]: the set that a problem comes from, in a file that mixes several. cut [n]: answers that the script cuts, so that
    they are wrong with and without every edit; () if there is none.
    """

    questions: tuple[str, ...]
    clean: np.ndarray
    right: Mapping[str, np.ndarray]
    changed: Mapping[str, np.ndarray]
    origin: tuple[str, ...] = ()
    cut: tuple[bool, ...] = ()

    @classmethod
    def of(cls, rows: Sequence[dict], cells: Mapping[str, Sequence[dict]], *, right: str, said: str, **more: Any) -> Edited:
        """rows: one a problem; cells: of each condition one a problem, the run without edits first; right, said: their keys."""
        outcomes = {name: np.array([cell[right] for cell in each], bool) for name, each in cells.items()}
        answers = {name: np.array([f"{cell[said]}" for cell in each]) for name, each in cells.items()}
        first, *edits = cells
        return cls(
            tuple(spelling(row["question"]) for row in rows),
            outcomes[first],
            {name: outcomes[name] for name in edits},
            {name: answers[name] != answers[first] for name in edits},
            **more,
        )

    @property
    def whole(self) -> np.ndarray:
        """Which answers are not cut, bool [n]."""
        return ~np.array(self.cut, bool) if self.cut else np.ones(len(self.clean), bool)

    def judged(self) -> dict[str, np.ndarray]:
        """Right answers without and with edits, only of problems that can be right at all."""
        return {CLEAN: self.clean[self.whole], **{edit: right[self.whole] for edit, right in self.right.items()}}


def cut_answers(rows: Iterable[dict]) -> tuple[bool, ...]:
    """Is the answer too long to be right? Their scripts stop at the first token with a digit, which has at most three digits."""
    return tuple(not (f"{row['ground_truth']:g}".isdigit() and row["ground_truth"] < 1000) for row in rows)


def _zeroed(pairs: Iterable[object], members: Iterable[Sequence[tuple[bool, bool]]]) -> Zeroed:
    outcomes = np.array([*members], bool)
    return Zeroed(tuple(f"pair-{pair}" for pair in pairs), outcomes[..., 0], outcomes[..., 1])


def _simple(path: Path) -> Zeroed:
    rows, keys = read_json(path)["results"], ("baseline_correct", "ablated_correct")
    members = ([tuple(row[member][key] for key in keys) for member in ("clean", "corrupted")] for row in rows)
    return _zeroed((row["pair_id"] for row in rows), members)


@released(
    COT_EXPLORATION,
    f"{PATCHING}/cot_necessity_gpt2_simple.json",
    "a39e0a1222a6e87e8ea2e034800faa69da601cb9625bfb703c7561799f443ca2",
    unknown=FP32,
)
def gpt2_zeroed(path: Path) -> Zeroed:
    """CODI-GPT-2 on 101 pairs that both models answer rightly; zeros after layer 6, at bot and five latents."""
    return _simple(path)


@released(
    COT_EXPLORATION,
    f"{PATCHING}/cot_necessity_llama_simple.json",
    "3067349d02fb874232324e5297b229df3d9413b649f46fd3949123bd9b9f64c9",
    unknown=FP32,
)
def llama_zeroed(path: Path) -> Zeroed:
    """CODI-LLaMA-3.2-1B on the same pairs, zeros after layer 8."""
    return _simple(path)


@released(
    COT_EXPLORATION,
    f"{PATCHING}/llama_cot_necessity_532.json",
    "a8cf31c7062aad4a194018d62c18f0a576d53bc481fd8b871fa950aa5dcffdc8",
    unknown=FP32,
)
def llama_zeroed_532(path: Path) -> Zeroed:
    """The same on all 532 pairs. With zeros, perturbed members are compared with the answer of the clean member."""
    rows = read_json(path)
    members = (
        [(row[f"{member}_baseline_correct"], row[f"{member}_ablated_correct"]) for member in ("clean", "corrupted")]
        for row in rows
    )
    return _zeroed((row["pair_id"] for row in rows), members)


@released(
    COT_EXPLORATION,
    f"{HERE}/mechanistic_interp/data/step_importance_scores.json",
    "d0e736d643a4468b96cdd8d8ccd6399d569acaf35b9251600fca54a3405dc158",
    unknown=FP32,
)
def llama_cumulative(path: Path) -> Edited:
    """CODI-LLaMA-3.2-1B on 1000 problems with zeros after layer 8 at the first places: `bot`, then up to latents `0` to `3`.

    The problems were chosen: answered rightly, and wrongly with zeros at all six places. `eot` is fed twice in edited runs.
    """
    rows = read_json(path)
    places = {"bot": 1, **{f"{latent}": latent + 2 for latent in range(4)}}
    cells = {name: [row["position_results"][i] for row in rows] for name, i in places.items()}
    return Edited(
        tuple(spelling(row["question"]) for row in rows),
        np.array([row["baseline_correct"] for row in rows], bool),
        {name: np.array([cell["ablated_correct"] for cell in each], bool) for name, each in cells.items()},
        {
            name: np.array([cell["ablated_answer"] != row["baseline_answer"] for cell, row in zip(each, rows, strict=True)])
            for name, each in cells.items()
        },
        tuple(row["problem_id"].partition("_")[0] for row in rows),
    )


def _operations(path: Path) -> Edited:
    rows = read_json(path)
    names = sorted(rows[0]["conditions"], key=lambda name: name != "baseline")
    cells = {name: [row["conditions"][name] for row in rows] for name in names}
    origin = tuple(row["operation_type"] for row in rows)
    return Edited.of(rows, cells, right="is_correct", said="predicted_answer", origin=origin)


@released(
    COT_EXPLORATION,
    f"{OPERATIONS}/intervention_results.json",
    "57d77b4e8fe2852911d57b9d22767b4d72e42fcd206d2ea3e28f0e092d7a4b8e",
    unknown=FP32,
)
def llama_operations(path: Path) -> Edited:
    """CODI-LLaMA-3.2-1B on 60 problems; latent 1 becomes the projected mean state (layer 8) of one kind of operation.

    `random_control`: latent 1 becomes a random vector; `wrong_token_control`: the last thought, never fed, is edited.
    """
    return _operations(path)


@released(
    COT_EXPLORATION,
    f"{OPERATIONS}/multi_token_results.json",
    "12ad769b0c58dd0a0d9da7c20a715fb9edcd883d932b1ed45ca0eed7a361a7ad",
    unknown=FP32,
)
def llama_operations_multi(path: Path) -> Edited:
    """The same at latent 1, at the last thought, and at both, each with a random vector as control."""
    return _operations(path)


def conditions(path: Path, name: str, said: str) -> Edited:
    """A file with a list of conditions, the one without edits first; name, said: keys of a condition and of what was answered."""
    cells = {f"{condition[name]}": condition["results"] for condition in read_json(path)["conditions"]}
    rows = next(iter(cells.values()))
    return Edited.of(rows, cells, right="correct", said=said, cut=cut_answers(rows))


@released(
    COT_EXPLORATION,
    f"{PROJECTIONS}/full_results_gsm8k_test_132_examples.json",
    "f1c5befa25d21fb5d6aab94fdad7bae382de94292f86aaaa1723ec3ad5759f44",
)
def llama_projected(path: Path) -> Edited:
    """CODI-LLaMA-3.2-1B on the first 132 problems of GSM8K's test set; where the head reads a number in a state, an edit.

    `average`: the mean of such states; `projK`: the state projected on the span of its first K words' vectors.
    """
    return conditions(path, "intervention_type", "predicted_answer")


@released(
    COT_EXPLORATION,
    f"{PROJECTIONS}/full_results_gsm8k_train_132_examples.json",
    "d99044091c627adcd91d9a864daafefb1c684eb3aeb6744d271bb497a432eb0a",
)
def llama_projected_train(path: Path) -> Edited:
    """The same on 132 problems of GSM8K's training set, on which the model was trained."""
    return conditions(path, "intervention_type", "predicted_answer")


@released(
    COT_EXPLORATION,
    f"{HERE}/teacher_mode_projection_archive/teacher_projection_results_132ex_20251102_175938.json",
    "1e2c3a13d15c6b40bd135c2b0debf3e83f88239586b09f8dd9ba5b8b756f8dab",
)
def llama_teacher_projected(path: Path) -> Edited:
    """CODI-LLaMA-3.2-1B writing its thoughts out, on 132 members of pairs; states at numbers projected on K words' span."""
    return conditions(path, "k", "predicted_answer")


@released(
    COT_EXPLORATION,
    f"{HERE}/29-10-2025-cot-importance/llama_bot_comparison_results.json",
    "ae2a97edea1b7d7f0ace9c4afda7bdc545132676f6a31211ff718241964e1dc8",
    unknown=f"{NO_HASH}, dtype",
)
def llama_without_bot(path: Path) -> Edited:
    """CODI-LLaMA-3.2-1B on the same 132 problems with bot, and with nothing between question and thoughts."""
    content = read_json(path)
    cells = {CLEAN: content["results_with_bot"], "without_bot": content["results_without_bot"]}
    return Edited.of(cells[CLEAN], cells, right="correct", said="predicted_number")
