"""What CODI training adds to a backbone, alone: LoRA, projection and the rows of pad, bot and eot, in fp16 beside its settings.

A folder of some megabytes that loads over the base it was trained over, and over no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from codi_bench.errors import CheckpointError, one_line
from codi_bench.models.backbone import base_folder, hash_files, new_rows, quiet, read_backbone
from codi_bench.models.codi import Codi, Projection
from codi_bench.models.loop import UNMASKED
from codi_bench.models.published import LORA_MODULES
from codi_bench.models.strict import read_words
from codi_bench.store.files import file_hash, write_text, write_whole
from codi_bench.store.json_files import read_json

if TYPE_CHECKING:  # loaded with the first model
    from transformers.pytorch_utils import Conv1D

WEIGHTS, META = "adapter.safetensors", "adapter.json"


@dataclass(frozen=True)
class LoraRecipe:
    """CODI over a pretrained backbone: LoRA beside frozen weights and a projection are trained, nothing else.

    base: folder or hub name. A step takes batch_size * accumulate examples. steps: instead of epochs if it is not 0. inner: width
    of the projection. max_tokens: examples with more in question, chain and answer are skipped, and so are answers that do not
    begin with a digit. masks, answer_shift: see `codi_losses`. The optimiser is AdamW without decay of vectors; the learning
    rate warms up over `warmup` of all steps and falls to nothing along a cosine.
    """

    name: str
    family: str
    base: str
    epochs: int
    batch_size: int
    accumulate: int
    learning_rate: float
    inner: int
    distill_factor: float
    max_tokens: int
    answer_shift: int
    steps: int = 0
    num_latents: int = 6
    rank: int = 128
    alpha: float = 32
    dropout: float = 0.1
    weight_decay: float = 0.1
    warmup: float = 0.03
    max_norm: float = 2.0
    dtype: str = "bfloat16"
    masks: str = UNMASKED
    seed: int = 11
    notes: tuple[str, ...] = ()

    @property
    def modules(self) -> tuple[str, ...]:
        """The linear maps that get LoRA."""
        return LORA_MODULES[self.family]


class AdapterMeta(BaseModel):
    """adapter.json: the base that it loads over, and what the weights do not tell."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[1]
    base: str
    base_hash: str
    num_latents: int = Field(ge=0, le=1024)
    projection_width: int = Field(ge=1, le=1 << 18)
    lora_alpha: float = Field(gt=0, allow_inf_nan=False)


def export_adapter(model: Codi, recipe: LoraRecipe, base_hash: str, folder: Path) -> Path:
    """Write a model whose LoRA is not merged. base_hash: of the files of its backbone. Raises CheckpointError beyond fp16."""
    from peft.tuners.lora import LoraLayer

    tensors = {f"projection.{name}": value for name, value in model.projection.state_dict().items()}
    tensors |= {f"rows.{name}": rows for name, rows in new_rows(model).items()}
    for name, module in model.backbone.named_modules():
        if isinstance(module, LoraLayer):
            tensors[f"lora.{name}.A"] = module.lora_A["default"].weight
            tensors[f"lora.{name}.B"] = module.lora_B["default"].weight
    half = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in tensors.items()}
    if not all(torch.isfinite(value).all() for value in half.values()):
        raise CheckpointError(f"{folder}: a weight does not fit into float16; use --format own --weights bfloat16")
    write_whole(folder / WEIGHTS, lambda path: save_file(half, path))
    meta = AdapterMeta(
        format=1,
        base=recipe.base,
        base_hash=base_hash,
        num_latents=recipe.num_latents,
        projection_width=recipe.inner,
        lora_alpha=recipe.alpha,
    )
    write_text(folder / META, meta.model_dump_json(indent=1) + "\n")
    return folder


def load_adapter(
    folder: Path,
    base: str | Path | None,
    *,
    device: str | torch.device,
    dtype: torch.dtype,
    name: str = "",
    num_latents: int | None = None,
) -> Codi:
    """Load an adapter over its base, LoRA merged in fp32. base: folder or name, default: the one that it names.

    Raises CheckpointError with the file, what is wrong and the mend, such as another base than it was trained over.
    """
    meta = _read_meta(folder)
    base_path = base_folder(base or meta.base)
    base_hash = hash_files(base_path)
    if base_hash != meta.base_hash:
        raise CheckpointError(
            f"{folder / META}: trained over the base {meta.base} with hash {meta.base_hash[:16]}, {base_path} has "
            f"{base_hash[:16]}; give that base"
        )
    tensors = _read_tensors(folder / WEIGHTS)
    config, tokenizer = read_words(base_path, "config.json, weights and tokenizer")
    with quiet():
        backbone = read_backbone(base_path)
        backbone.resize_token_embeddings(config.vocab_size + 3)
    projection = Projection(config.hidden_size, meta.projection_width)
    model = Codi(
        backbone,
        projection,
        tokenizer,
        vocab_size=len(tokenizer),
        num_latents=meta.num_latents if num_latents is None else num_latents,
        name=name or folder.name,
    )
    with torch.no_grad():
        try:
            _fill(model, tensors, meta.lora_alpha)
        except (KeyError, RuntimeError, AttributeError) as error:
            raise CheckpointError(
                f"{folder / WEIGHTS}: does not fit the base {base_path} ({one_line(error)}); copy it again"
            ) from error
    model.fingerprint = f"adapter 1 {file_hash(folder / WEIGHTS, folder / META)} over {base_hash}"
    return model.to(device=device, dtype=dtype).requires_grad_(False).eval()


def _fill(model: Codi, tensors: dict[str, Tensor], alpha: float) -> None:
    """Every tensor has its place, and every place of rows and projection its tensor."""
    rest = {name: value.float() for name, value in tensors.items()}
    model.projection.load_state_dict({name: rest.pop(f"projection.{name}") for name in model.projection.state_dict()})
    for name, rows in new_rows(model).items():
        rows.copy_(rest.pop(f"rows.{name}"))
    for key in sorted(key for key in rest if key.startswith("lora.") and key.endswith(".A")):
        a, b = rest.pop(key), rest.pop(f"{key[:-2]}.B")
        module = cast("nn.Linear | Conv1D", model.backbone.get_submodule(key[len("lora.") : -2]))
        change = alpha / len(a) * (b @ a)  # W + alpha / r B A
        module.weight += change if isinstance(module, nn.Linear) else change.T  # GPT-2 stores its maps [in, out]
    if rest:
        raise KeyError(f"unexpected {', '.join(sorted(rest)[:3])}")


def _read_meta(folder: Path) -> AdapterMeta:
    path = folder / META
    try:
        return read_json(path, AdapterMeta.model_validate_json)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({one_line(error)}); copy the folder again") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # OSError, SafetensorError
        raise CheckpointError(f"{path}: cannot be read ({one_line(error)}); copy the folder again") from error
