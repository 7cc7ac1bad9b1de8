"""Adapters: only what CODI training adds to a backbone (LoRA, projection, embedding rows), in fp16, with its settings.

A folder of a few megabytes that loads only over the base that it was trained over.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from codi_bench.errors import CheckpointError
from codi_bench.models.backbone import base_folder, hash_files, new_rows, quiet, read_backbone
from codi_bench.models.codi import Codi, Projection
from codi_bench.models.published import LORA_MODULES
from codi_bench.models.settings import ADAPTER_META as META
from codi_bench.models.settings import AdapterMeta, read_settings
from codi_bench.models.strict import check, lora_shapes, merged, read_safetensors, read_words
from codi_bench.store.files import file_hash

WEIGHTS = "adapter.safetensors"


def row_places(model: Codi, *, eos: bool) -> dict[str, Tensor]:
    """The embedding rows of an adapter, by their names in its file: those of pad, bot and eot, and that of eos if it was trained.

    They share memory with the model.
    """
    places = {f"rows.{name}": rows for name, rows in new_rows(model).items()}
    if eos:
        modules = {"embedding": model.backbone.get_input_embeddings(), "head": model.backbone.get_output_embeddings()}
        rows = {name: cast(Tensor, module.weight).detach()[model.eos_id :][:1] for name, module in modules.items()}
        places |= {f"eos.{name}": row for name, row in rows.items() if f"rows.{name}" in places}  # none of a tied head
    return places


def load_adapter(
    folder: Path,
    base: str | Path | None,
    *,
    device: str | torch.device,
    dtype: torch.dtype,
    name: str = "",
    num_latents: int | None = None,
) -> Codi:
    """Load an adapter over its base and merge LoRA in fp32. base: folder or name, by default the one that the adapter names.

    Raises CheckpointError, naming the file, the fault and what to do, for example for a base that it was not trained over.
    """
    meta = read_settings(folder / META, AdapterMeta)
    base_path = base_folder(base or meta.base)
    base_hash = hash_files(base_path)
    if base_hash != meta.base_hash:
        raise CheckpointError(
            f"{folder / META}: trained over the base {meta.base} with hash {meta.base_hash[:16]}, {base_path} has "
            f"{base_hash[:16]}; give that base"
        )
    config, tokenizer = read_words(base_path)
    with quiet():
        backbone = read_backbone(base_path)
        backbone.resize_token_embeddings(config.vocab_size + 3)
    model = Codi(
        backbone,
        Projection(config.hidden_size, meta.projection_width),
        tokenizer,
        vocab_size=len(tokenizer),
        num_latents=meta.num_latents if num_latents is None else num_latents,
        name=name or folder.name,
    )
    _fill(model, read_safetensors(folder / WEIGHTS), meta, folder / WEIGHTS, base_path)
    model.fingerprint = f"adapter 1 {file_hash(folder / WEIGHTS, folder / META)} over {base_hash}"
    return model.to(device=device, dtype=dtype).requires_grad_(False).eval()


@torch.no_grad()
def _fill(model: Codi, tensors: dict[str, Tensor], meta: AdapterMeta, path: Path, base: Path) -> None:
    """Copy every tensor to its place. Each place in rows and projection must get one."""
    places = {f"projection.{name}": value for name, value in model.projection.state_dict().items()}
    places |= row_places(model, eos=meta.eos_row)
    shapes = {name: tuple(value.shape) for name, value in places.items()}
    adapted: dict[str, tuple[Tensor, bool]] = {}
    for name, module in model.backbone.named_modules():
        a = tensors.get(f"lora.{name}.A")
        if a is not None and a.dim() and name.endswith(LORA_MODULES.get(model.backbone.config.model_type, ())):
            weight, transposed = module.weight, not isinstance(module, nn.Linear)
            adapted[name] = weight, transposed
            shapes[f"lora.{name}.A"], shapes[f"lora.{name}.B"] = lora_shapes(weight.shape, len(a), transposed=transposed)
    check(tensors, shapes, shared=(), path=path, against=f"the base {base}")
    for name, place in places.items():
        place.copy_(tensors[name])
    for name, (weight, transposed) in adapted.items():
        weight.copy_(merged(weight, tensors[f"lora.{name}.A"], tensors[f"lora.{name}.B"], meta.lora_alpha, transposed=transposed))
