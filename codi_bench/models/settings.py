"""The JSON files of a model folder, looked at before a library builds from them: readable, and no size that would never end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from codi_bench.errors import CheckpointError, one_line
from codi_bench.store.json_files import read_json

OPEN = ConfigDict(extra="allow")  # the libraries know the other fields
# A layer takes milliseconds to build, and a matrix its memory, before weights of other sizes are refused.
Layers = Annotated[int, Field(ge=0, le=256)]
Heads = Annotated[int, Field(ge=0, le=1 << 14)]
Width = Annotated[int, Field(ge=0, le=1 << 18)]
Rows = Annotated[int, Field(ge=0, le=1 << 24)]


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


class FolderMeta(TypedDict, total=False):
    """codi.json of our own folders."""

    __pydantic_config__ = OPEN  # type: ignore[misc]  # where pydantic looks for it
    num_latents: Annotated[int, Field(ge=0, le=1024)]
    projection_width: Width
    vocab_size: Rows
    extra_ids: list[int]


class TokenizerConfig(TypedDict, total=False):
    """tokenizer_config.json: what is compared with the length of every question."""

    __pydantic_config__ = OPEN  # type: ignore[misc]  # where pydantic looks for it
    model_max_length: int | float | None


FILES = {
    "config.json": Config,
    "codi.json": FolderMeta,
    "tokenizer_config.json": TokenizerConfig,
    **dict.fromkeys(("tokenizer.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json"), dict[str, Any]),
}


def check_settings(folder: Path) -> None:
    """Raises CheckpointError naming file and field for a file that is no JSON object, or says what no model can have."""
    for name, schema in FILES.items():
        path = folder / name
        if path.is_file():
            try:
                read_json(path, TypeAdapter(schema).validate_json)
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{path}: not readable or incomplete ({one_line(error)}); copy the folder again") from error
