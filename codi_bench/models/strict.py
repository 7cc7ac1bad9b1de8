"""For own and published checkpoints: read files without executing them, and compare weights strictly.

Nothing here knows a layout. Every failure is one CheckpointError of one line that names the file and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from codi_bench.errors import CheckpointError, one_line
from codi_bench.models.codi import Codi
from codi_bench.models.settings import VOCABULARIES, check_words, placeholder

if TYPE_CHECKING:  # loaded with the first model
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SHOWN = 6  # keys of each kind that an error lists


def read_words(folder: Path, *files: str) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    """(configuration, tokenizer) of a Hugging Face folder. files: files it must have, besides config.json and a vocabulary."""
    missing = [name for name in ("config.json", *files) if not (folder / name).is_file()]
    if not missing and not any((folder / name).is_file() for name in VOCABULARIES):
        missing = [VOCABULARIES[0]]  # without it transformers makes up an empty tokenizer
    if missing:
        raise CheckpointError(
            f"{folder}: {' and '.join(missing)} missing; give a folder with config.json, tokenizer.json and tokenizer_config.json"
            f"{_swapped(folder, missing)}"
        )
    check_words(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise CheckpointError(
            f"{folder}: configuration or tokenizer cannot be read ({one_line(error)}); copy them again"
        ) from error
    if tokenizer.eos_token_id is None:
        raise CheckpointError(f"{folder}/tokenizer_config.json: field 'eos_token' is missing, so answers could never end; add it")
    return config, tokenizer


def _swapped(folder: Path, missing: list[str]) -> str:
    """What to do if the folder is a published checkpoint, which was given in place of its language model."""
    has_weights = any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin"))
    if "config.json" not in missing or not has_weights or (folder / "codi.json").is_file():
        return ""
    return "; if this is the checkpoint itself, give it as --model, and the language model under it as --base"


def build(config: PretrainedConfig, folder: Path) -> PreTrainedModel:
    """Build the causal LM of a configuration; inside `without_memory` its parameters have only shapes."""
    try:
        return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    except Exception as error:  # whatever a wrong number makes the constructors do
        raise CheckpointError(f"{folder / 'config.json'}: no model can be built from it ({one_line(error)})") from error


@contextmanager
def without_memory() -> Iterator[None]:
    """Inside, parameters get a shape but no memory and no random values; buffers (rotary frequencies) are real."""
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None and not parameter.is_meta:  # one that is there already is being tied: keep its identity
            module._parameters[name] = nn.Parameter(parameter.to("meta"))

    nn.Module.register_parameter = on_meta  # type: ignore[assignment, method-assign]  # for a while
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]  # as it was


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file, as they are on disk. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path.parent}: no weights ({path.name} is missing); copy the whole folder again")
    try:
        return load_file(path)
    except Exception as error:  # SafetensorError, OSError, and KeyError for a dtype that it does not know
        fault = other_file(path) or one_line(error)
        raise CheckpointError(f"{path}: not a complete safetensors file ({fault}); copy it again") from error


def other_file(path: Path) -> str:
    """For an error: what a file is that commonly stands in for weights (such as a text file); '' for anything else."""
    if fault := placeholder(path):
        return fault
    with open(path, "rb") as file:
        head = file.read(512)
    return "it is a text file" if all(byte >= 32 or byte in b"\t\n\r" for byte in head) else ""


def embedding_names(backbone: PreTrainedModel) -> tuple[str, str]:
    """State dict names of input embeddings and head."""
    names = {module: name for name, module in backbone.named_modules()}
    return cast(
        tuple[str, str], tuple(f"{names[m]}.weight" for m in (backbone.get_input_embeddings(), backbone.get_output_embeddings()))
    )


def is_tied(backbone: PreTrainedModel) -> bool:
    """Is the head the input embedding?"""
    return backbone.get_output_embeddings().weight is backbone.get_input_embeddings().weight


def lora_shapes(weight: Sequence[int], rank: int, *, transposed: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shapes of A and B beside a weight; transposed: it is [in, out] (transformers' Conv1D) and not [out, in]."""
    n_out, n_in = weight[::-1] if transposed else weight
    return (rank, n_in), (n_out, rank)


def merged(weight: Tensor, a: Tensor, b: Tensor, alpha: float, *, transposed: bool) -> Tensor:
    """W + alpha / r B A, in fp32."""
    change = alpha / len(a) * (b.float() @ a.float())
    return weight.float() + (change.T if transposed else change)


def check(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Sequence[int]],
    *,
    shared: Sequence[str],
    path: Path,
    against: str,
    without_shared: str = "",
) -> dict[str, Tensor]:
    """The tensors, if their names and shapes are exactly the expected ones and every number is finite.

    shared: names of one tensor; any of them may be missing if another is there. without_shared: what to add to the error if none
    is there. against: what the weights must fit.
    Raises one CheckpointError that lists missing, unexpected and wrongly shaped keys, or NaN, or shared tensors that differ.
    """
    present = [name for name in shared if name in tensors]
    tensors = {**{name: tensors[present[0]] for name in shared if present}, **tensors}
    mismatches = {
        "missing": expected.keys() - tensors.keys(),
        "unexpected": tensors.keys() - expected.keys(),
        "wrong shape": {
            f"{name} {list(tensors[name].shape)} instead of {list(shape)}"
            for name, shape in expected.items()
            if name in tensors and tuple(tensors[name].shape) != tuple(shape)
        },
    }
    if any(mismatches.values()):
        summary = "; ".join(f"{kind}: {enumeration(keys)}" for kind, keys in mismatches.items() if keys)
        if without_shared and not present:
            summary += f"; {without_shared}"
        raise CheckpointError(f"{path}: the weights do not fit {against}: {summary}")
    nonfinite = {name for name, value in tensors.items() if not _is_finite(value)}
    if nonfinite:
        raise CheckpointError(
            f"{path}: NaN or infinite weights in {enumeration(nonfinite)}; the file is damaged or training diverged"
        )
    for name in present[1:]:
        if not torch.equal(tensors[name], tensors[present[0]]):
            raise CheckpointError(
                f"{path}: {present[0]} and {name} should be one tied tensor according to config.json, but differ; "
                "set tie_word_embeddings to false there if the model was trained so, or save the model again"
            )
    return tensors


def fill(
    model: Codi, weights: Iterable[tuple[str, Tensor]], *, device: str | torch.device, dtype: torch.dtype, path: Path
) -> Codi:
    """Give a model built `without_memory` its (name, tensor) pairs in dtype; a tied head takes the embedding's.

    Buffers keep their precision: rotary frequencies in half precision would be wrong at late positions.
    """
    state = {}
    for name, value in weights:
        state[name] = value.to(dtype, copy=True, memory_format=torch.contiguous_format)
        if not _is_finite(state[name]):
            raise CheckpointError(f"{path}: {name} does not fit into {str(dtype)[6:]}; use --dtype float32")
    model.load_state_dict(state, assign=True, strict=False)
    if model.backbone.config.tie_word_embeddings:
        model.backbone.get_output_embeddings().weight = model.backbone.get_input_embeddings().weight
    assert not any(p.is_meta for p in model.parameters()), "`check` lets no missing weight pass"
    return model.to(device).eval()


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value if value.element_size() > 1 else value.float()).all())


def printable(key: object) -> str:
    """A key of a file as text for a terminal: one line, no control characters, limited length."""
    return "".join(c if c.isprintable() else " " for c in str(key))[:200]


def enumeration(keys: Iterable[str]) -> str:
    """The first few sorted keys of a file as text for a terminal, and their number."""
    keys = [printable(key) for key in sorted(keys)]
    return ", ".join(keys[:SHOWN]) + (f" … ({len(keys)} in all)" if len(keys) > SHOWN else "")
