"""Read released runs in which states of thoughts were replaced by those of the other member of a pair, or by words.

Positions are `bot-first` there: the first of six tokens is bot, token t the latent position t - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codi_bench.thoughts.cot_exploration import COT_EXPLORATION, FP32, HERE, NO_HASH
from codi_bench.thoughts.edited_runs import Edited, conditions, cut_answers
from codi_bench.thoughts.internalize_cot import spelling
from codi_bench.thoughts.released import ReleasedFile, read_json, released

PATCHING = f"{HERE}/activation_patching"
ALL = 6  # tokens
BF16 = f"{NO_HASH}; bfloat16, batch size 1 in the script that wrote it"
LATE = "late"  # the layer of the source's tables: 14 of 16, 11 of 12


@dataclass(frozen=True, eq=False)
class PatchedPairs:
    """n pairs whose members are answered rightly. The first states of one are replaced by the other's; bool [n] by layer.

    follows: is the answer that of the other member? changed: did the text change? broken: is the output no answer at all?
    """

    groups: tuple[str, ...]
    follows: dict[str, np.ndarray]
    changed: dict[str, np.ndarray]
    broken: dict[str, np.ndarray]


def _patched(path: Path) -> PatchedPairs:
    rows = read_json(path)["valid_results"]

    def by_layer(holds: Callable[[dict, dict], bool]) -> dict[str, np.ndarray]:
        cells = {layer: [(row["patched"][layer], row["corrupted"]) for row in rows] for layer in rows[0]["patched"]}
        return {layer: np.array([holds(*cell) for cell in each], bool) for layer, each in cells.items()}

    return PatchedPairs(
        tuple(f"pair-{row['pair_id']}" for row in rows),
        by_layer(lambda cell, _: cell["matches_clean"]),
        by_layer(lambda cell, own: cell["generated"] != own["generated"]),
        by_layer(lambda cell, _: cell["classification"] == "gibberish"),
    )


def _files(model: str, names: dict[int, tuple[str, str]]) -> dict[int, ReleasedFile]:
    """By number of tokens replaced. names: folder and file, and sha256."""
    files = {}
    for count, (name, sha256) in names.items():

        def read(path: Path) -> PatchedPairs:
            return _patched(path)

        read.__name__ = f"{model}_patched_{count}"
        files[count] = released(COT_EXPLORATION, f"{PATCHING}/{name}", sha256, unknown=f"{FP32}; texts of the pairs")(read)
    return files


def _of_tokens(count: int, model: str = "") -> str:
    return f"results_ablation_{count}_tokens{model}/experiment_results_{count}_tokens.json"


GPT2_PATCHED = _files(
    "gpt2",
    {
        1: (
            "results_both_correct/experiment_results_both_correct.json",
            "018f12f575f6ec8203f32c45c140d29f26af91ea4aaafad07cf080be105d63b7",
        ),
        2: (_of_tokens(2), "e9c4ef285fc4a3db5223b43ba03a31937378e8151342ae85fec182fa448e07e7"),
        3: (_of_tokens(3), "e54645c93393bc0acef3eb38b419a5455ea63036155081235c2c3952fbbe1508"),
        4: (_of_tokens(4), "7fda0113770a67842006c472d9005db35576cb3f530fd4f1b04ca389a5917451"),
        5: (_of_tokens(5), "77a3261e1df441a10968725872ebf1fd0645a39fae166c1549215a9ea9d3d3a1"),
        ALL: (
            "results_both_correct_all_tokens/experiment_results_all_tokens.json",
            "0383d0a3daaf7f4dcf5654dd2046c88107ca3e10814c18e02484a778216b6c0c",
        ),
    },
)
LLAMA_PATCHED = _files(
    "llama",
    {
        count: (_of_tokens(count, "_llama"), sha256)
        for count, sha256 in enumerate(
            (
                "c1cd87d5eb769453955bcdf2d847249fb52c44a0c2ae0dad153a1e8948fa2af5",
                "c270ee8f8260878ca2216dba8c39da7b4304656985228519c8dde26ab97cb700",
                "f8b63fb2dd71d27504a2badf397be3532304ff1186c888d045511471bf96e3ed",
                "72bee375ea3fccea0f6ddfb34a5fff83c81948e194b954b1a8e930c41cfa8c21",
                "c63debcb62dfae5d094a5c49ba5fd37a0eaa8a2ce2bb914dc1eabe85d5dabd18",
                "37303544a6747aa14a0b113493f1b57d4727db3d2a18c3fbc55eb31db72e91c5",
            ),
            1,
        )
    },
)


@released(
    COT_EXPLORATION,
    f"{HERE}/28-10-2028-projection-replacement/projection_replacement_clean/results/llama_intervention_results_clean.json",
    "db244c1e96f3cacaf70d0a8b9d3459e4c469c384b5396c0164d8cf68207429c1",
    unknown=BF16,
)
def llama_number_five(path: Path) -> Edited:
    """CODI-LLaMA-3.2-1B on 132 members of pairs; where the head reads a number, the state's part along its vector is removed.

    `five`: three times that part is added along the vector of `5`.
    """
    rows = read_json(path)["results"]
    right = {name: np.array([row[f"correct_{name}"] for row in rows], bool) for name in ("no_intervention", "with_intervention")}
    changed = [row["predicted_no_intervention"] != row["predicted_with_intervention"] for row in rows]
    return Edited(
        tuple(spelling(row["question"]) for row in rows),
        right["no_intervention"],
        {"five": right["with_intervention"]},
        {"five": np.array(changed)},
        cut=cut_answers(rows),
    )


@released(
    COT_EXPLORATION,
    f"{HERE}/01-11-2025-diagonal-regularization/diagonal_reg_results/results_gsm8k_test.json",
    "48bcf5db50bd472ee4a9fe4c30558b5c23b216dbafc9327e445443b013eec91c",
    unknown=BF16,
)
def llama_mapped_words(path: Path) -> Edited:
    """CODI-LLaMA-3.2-1B on GSM8K test 0..131; each state becomes a linear map of its first word's vector.

    `no_reg`: as fitted to states of training problems; `strong_reg`: fitted and held near the identity.
    """
    return conditions(path, "condition", "predicted")
