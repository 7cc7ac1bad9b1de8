"""A pretrained backbone in a folder or on the hub: found, loaded strictly, and named by its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM

from codi_bench.errors import CheckpointError, one_line
from codi_bench.models import hub
from codi_bench.models.codi import Codi
from codi_bench.models.packaged import gguf_hash
from codi_bench.models.settings import check_words, placeholder

if TYPE_CHECKING:  # loaded with the first model
    from transformers import PreTrainedModel

WORDS = ("tokenizer*", "vocab*", "merges*", "special_tokens*", "added_tokens*")


def base_folder(base: str | Path) -> Path:
    """The folder of a backbone with its weights, from the hub if it is no folder.

    Raises CheckpointError, also for a file that was never downloaded: its hash would be taken for another base's.
    """
    folder = hub.locate(base, patterns=(*hub.BASE_FILES, "model*.safetensors*"))
    check_words(folder)
    for path in _weight_files(folder):
        if fault := placeholder(path):
            raise CheckpointError(f"{path}: no weights are in it ({fault}); download them again")
    return folder


def _weight_files(folder: Path) -> list[Path]:
    """Those that transformers reads: the first of a whole file and an index with its shards, safetensors before pickles."""
    for index, shards in hub.INDEXES.items():
        for name in (index.removesuffix(".index.json"), index):
            if (folder / name).is_file():
                return [folder / name, *(sorted(folder.glob(shards)) if name == index else [])]
    return []


def new_rows(model: Codi) -> dict[str, Tensor]:
    """The rows of pad, bot and eot, of the head too where it is not the embedding. They share memory with the model."""
    embedding, head = (
        cast(Tensor, m.weight).detach() for m in (model.backbone.get_input_embeddings(), model.backbone.get_output_embeddings())
    )
    rows = {"embedding": embedding[model.vocab_size :]}
    return rows if head.data_ptr() == embedding.data_ptr() else {**rows, "head": head[model.vocab_size :]}


def read_backbone(folder: Path) -> PreTrainedModel:
    """The causal LM of a folder in fp32; nothing may be missing from its weights."""
    attention = "sdpa" if torch.cuda.is_available() else "eager"  # on a CPU the plain attention is the faster one to train
    try:
        backbone, loading_info = cast(
            "tuple[PreTrainedModel, dict[str, Any]]",
            AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                attn_implementation=attention,
                torch_dtype=torch.float32,  # `dtype` in newer versions, which take this name too
                output_loading_info=True,
            ),
        )
    except Exception as error:  # OSError without weights, SafetensorError, and whatever damaged files make of it
        reason = "a damaged pickle or one of more than tensors" if "weights_only" in str(error) else one_line(error)
        raise CheckpointError(f"{folder}: the backbone's weights cannot be loaded ({reason}); download them again") from error
    bad_keys = sorted({*loading_info["missing_keys"], *(str(key[0]) for key in loading_info["mismatched_keys"])})
    if bad_keys:
        raise CheckpointError(
            f"{folder}: the backbone's weights do not fit config.json: {', '.join(bad_keys[:6])} missing or misshapen"
        )
    return backbone


def hash_files(folder: Path) -> str:
    """sha256 over configuration, tokenizer and weights of a backbone; the weights need not fit into memory.

    Of a packaged one that of its GGUF file: how transformers writes down what it reads there depends on its version.
    """
    if packaged_hash := gguf_hash(folder):
        return packaged_hash
    digest = hashlib.sha256()
    patterns = ("config.json", *WORDS, "model*.safetensors", "pytorch_model*.bin")
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
        with open(path, "rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars, and its remarks on freshly drawn embeddings, which are meant."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
