"""The JSON files of a model folder, looked at before a library builds from them: readable, and no size that would never end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from typing_extensions import TypedDict

from codi_bench.errors import CheckpointError, arguments, one_line
from codi_bench.store.json_files import read_json

OPEN = ConfigDict(extra="allow")  # the libraries know the other fields
FOLDER_META, ADAPTER_META = "codi.json", "adapter.json"
# A layer takes milliseconds to build, and a matrix its memory, before weights of other sizes are refused.
Layers = Annotated[int, Field(ge=0, le=256)]
Heads = Annotated[int, Field(ge=0, le=1 << 14)]
Width = Annotated[int, Field(ge=0, le=1 << 18)]
Rows = Annotated[int, Field(ge=0, le=1 << 24)]
Latents = Annotated[int, Field(ge=0, le=arguments.LATENTS)]
Schema = TypeVar("Schema")


class FolderMeta(BaseModel):
    """codi.json of our own folders. projection_width: 0 without a projection. extra_ids: those of pad, bot and eot."""

    model_config = OPEN
    format: Literal[1] = 1
    num_latents: Latents
    vocab_size: Rows
    projection_width: Width
    projection_layer_norm: bool
    extra_ids: tuple[int, int, int] | None = None  # V, V + 1, V + 2
    question_suffix: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        ids = [self.vocab_size + i for i in range(3)]
        if self.extra_ids is not None and sorted(self.extra_ids) != ids:
            raise ValueError(f"'extra_ids' must be {ids} in some order, not {list(self.extra_ids)}")
        if self.projection_layer_norm and not self.projection_width:
            raise ValueError("'projection_width' is 0 (no projection), but projection_layer_norm is true")
        return self


class AdapterMeta(BaseModel):
    """adapter.json: the base that it loads over, and what the weights do not tell."""

    model_config = ConfigDict(extra="forbid")
    format: Literal[1] = 1
    base: str
    base_hash: str
    num_latents: Latents
    projection_width: int = Field(ge=1, le=1 << 18)
    lora_alpha: float = Field(gt=0, allow_inf_nan=False)


class Config(TypedDict, total=False):
    """config.json of a GPT-2 or Llama."""

    __pydantic_config__ = OPEN  # type: ignore[misc]  # where pydantic looks for it
    n_layer: Layers
    num_hidden_layers: Layers
    n_head: Heads
    num_attention_heads: Heads
    num_key_value_heads: Heads | None
    head_dim: Width | None
    n_embd: Width
    hidden_size: Width
    n_inner: Width | None
    intermediate_size: Width
    n_positions: Rows
    max_position_embeddings: Rows
    vocab_size: Rows


class TokenizerConfig(TypedDict, total=False):
    """tokenizer_config.json: what is compared with the length of every question."""

    __pydantic_config__ = OPEN  # type: ignore[misc]  # where pydantic looks for it
    model_max_length: int | float | None


FILES: dict[str, Any] = {
    "config.json": Config,
    FOLDER_META: FolderMeta,
    ADAPTER_META: AdapterMeta,
    "tokenizer_config.json": TokenizerConfig,
    **dict.fromkeys(("tokenizer.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json"), dict[str, Any]),
}


def check_settings(folder: Path) -> None:
    """Raises CheckpointError naming file and field for a file that is no JSON object, or says what no model can have."""
    for name, schema in FILES.items():
        if (folder / name).is_file():
            read_settings(folder / name, schema)


def read_settings(path: Path, schema: type[Schema]) -> Schema:
    """What a settings file holds. Raises CheckpointError naming file and field."""
    try:
        return read_json(path, TypeAdapter(schema).validate_json)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable or incomplete ({one_line(error)}); copy the folder again") from error
