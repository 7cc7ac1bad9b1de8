"""Check the JSON files of a model folder before a library uses them: they exist, can be read and have sane sizes."""

from __future__ import annotations

import re
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
    """codi.json of our own folders. projection_width: 0 without a projection. extra_ids: those of pad, bot and eot.

    pauses: are learned constants fed instead of thoughts (`codi.Pauses`)? prompt: the source whose training format questions and
    answers have, by default CODI.
    """

    model_config = OPEN
    format: Literal[1] = 1
    num_latents: Latents
    vocab_size: Rows
    projection_width: Width
    projection_layer_norm: bool
    pauses: bool | None = None
    extra_ids: tuple[int, int, int] | None = None  # V, V + 1, V + 2
    prompt: Literal["codi", "coconut"] | None = None
    question_suffix: str | None = None  # of folders written before there was a prompt

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.question_suffix:
            self.prompt, self.question_suffix = "coconut", None
        ids = [self.vocab_size + i for i in range(3)]
        if self.extra_ids is not None and sorted(self.extra_ids) != ids:
            raise ValueError(f"'extra_ids' must be {ids} in some order, not {list(self.extra_ids)}")
        if self.pauses and (self.projection_width or not self.num_latents):
            raise ValueError("'pauses' needs a projection_width of 0 and a num_latents of 1 or more")
        if self.projection_layer_norm and not self.projection_width:
            raise ValueError("'projection_width' is 0 (no projection), but projection_layer_norm is true")
        return self


class AdapterMeta(BaseModel):
    """adapter.json: the base that it loads over, and settings that are not in the weights. eos_row: was that row trained too?"""

    model_config = ConfigDict(extra="forbid")
    format: Literal[1] = 1
    base: str
    base_hash: str
    num_latents: Latents
    projection_width: int = Field(ge=1, le=1 << 18)
    lora_alpha: float = Field(gt=0, allow_inf_nan=False)
    eos_row: bool = False


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
    """tokenizer_config.json: only the limit with which the length of every question is compared."""

    __pydantic_config__ = OPEN  # type: ignore[misc]  # where pydantic looks for it
    model_max_length: int | float | None


class ShardIndex(TypedDict):
    """<weights>.index.json of transformers: the file of the folder that has each tensor."""

    __pydantic_config__ = OPEN  # type: ignore[misc]  # where pydantic looks for it
    weight_map: dict[str, str]


VOCABULARIES = ("tokenizer.json", "vocab.json", "tokenizer.model")  # one of them is a tokenizer's vocabulary
MERGES = "merges.txt"  # beside vocab.json
WORD_SETTINGS: dict[str, Any] = {
    "config.json": Config,
    "tokenizer_config.json": TokenizerConfig,
    **dict.fromkeys(("special_tokens_map.json", "added_tokens.json"), dict[str, Any]),
}


def check_words(folder: Path) -> None:
    """Raises CheckpointError, naming file and field, if configuration or tokenizer cannot be read.

    Other files of the folder are ignored, and so are other vocabularies if there is a tokenizer.json.
    """
    whole = VOCABULARIES[0]
    schemas = WORD_SETTINGS | ({whole: dict[str, Any]} if (folder / whole).is_file() else {})
    for name, schema in schemas.items():
        if (folder / name).is_file():
            read_settings(folder / name, schema)
    for name in () if whole in schemas else (*VOCABULARIES[1:], MERGES):
        if (folder / name).is_file() and (fault := placeholder(folder / name)):
            raise CheckpointError(f"{folder / name}: not the files of a tokenizer ({fault}); copy the folder again")


def read_settings(path: Path, schema: type[Schema]) -> Schema:
    """Read a settings file. Raises CheckpointError, naming file and field."""
    try:
        return read_json(path, TypeAdapter(schema).validate_json)
    except (OSError, ValueError) as error:
        fault = "" if isinstance(error, OSError) else placeholder(path)
        raise CheckpointError(f"{path}: unreadable or incomplete ({fault or one_line(error)}); copy the folder again") from error


def placeholder(path: Path) -> str:
    """Why a file is a placeholder that a download left (empty, or a Git LFS pointer), in words; "" if it is not."""
    with open(path, "rb") as file:
        head = file.read(512).strip()
    if not head:
        return "it is empty"
    if re.match(rb"version https?://(git-lfs|git-media|hawser)\b", head):
        return "it is a Git LFS pointer: its content was not downloaded, run `git lfs pull`"
    return ""
