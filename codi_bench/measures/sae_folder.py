"""Load a published autoencoder from a folder. `sae_formats.py` knows what each architecture computes.

SAELens: `cfg.json` and `sae_weights.safetensors`. dictionary_learning: `config.json` and `ae.pt`.
Weights are read like those of checkpoints; the reader is imported late, since it loads transformers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue, TypeAdapter
from torch import Tensor

from codi_bench.errors import CheckpointError, arguments, one_line
from codi_bench.measures.pipeline import check_place
from codi_bench.measures.sae import Sae
from codi_bench.measures.sae_formats import Layout, dictionary_learning, sae_lens
from codi_bench.store.json_files import read_json

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
PICKLE_CONFIG, PICKLE = "config.json", "ae.pt"
SMALLEST_NORM = 1e-8  # of a feature's direction, as SAELens has it
OBJECT = TypeAdapter(dict[str, JsonValue])


def load_sae(folder: str | Path, *, device: str | torch.device = "cpu") -> Sae:
    """The autoencoder in a folder of SAELens (3 to 6) or of dictionary_learning, in float32 whatever it was saved in.

    SAELens: architectures standard, topk, jumprelu and batchtopk. dictionary_learning: AutoEncoder, AutoEncoderNew,
    AutoEncoderTopK, BatchTopKSAE, MatryoshkaBatchTopKSAE and JumpReluAutoEncoder; no code in its pickle is executed. Features are
    those of the saved weights: `AutoEncoder.from_pretrained` multiplies them by decoder norms, which changes no reconstruction.
    BatchTopK computes what both libraries compute of it at inference: features above its threshold, whatever the batch. Without
    one, or with the -1 of a training that ended before there was one, it is refused.
    If the library and `Sae` differ in whether they subtract the decoder bias, the encoder bias makes up for it.
    Raises CodiBenchError, naming the file and the fault: a missing or damaged file, an unknown architecture, a setting that is
    not supported or belongs to another architecture, or weights that are missing, unexpected, wrongly shaped or not finite.
    """
    folder = arguments.path("folder", folder)
    check_place(str(device) if isinstance(device, torch.device) else device, None)
    config, weights, pickled_config, pickled = (folder / name for name in (CONFIG, WEIGHTS, PICKLE_CONFIG, PICKLE))
    if not os.path.isfile(pickled):
        return _sae(sae_lens(_read_config(config), config), _read_tensors(weights), weights, device)
    if os.path.isfile(config):
        raise CheckpointError(f"{folder}: has both {CONFIG} and {PICKLE}; keep only the files of one autoencoder in the folder")
    tensors = _read_tensors(pickled)
    layout = dictionary_learning(_read_config(pickled_config), tensors, pickled_config)
    return _sae(layout, tensors, pickled, device)


def _sae(layout: Layout, tensors: dict[str, Tensor], path: Path, device: str | torch.device) -> Sae:
    """The `Sae` that computes what the layout computes with these tensors. Raises CheckpointError."""
    from codi_bench.models.strict import check

    d, features = layout.d, layout.features
    shapes = [(features, d), (features,), (d, features), (d,)]
    expected = {name: shape[::-1] if layout.transposed else shape for name, shape in zip(layout.weights, shapes)}
    names = list(layout.weights)
    if layout.thresholds:
        names.append(next((name for name in layout.thresholds if name in tensors), next(iter(layout.thresholds))))
        expected[names[-1]] = layout.thresholds[names[-1]]
    used = {name: _float32(name, tensor, path) for name, tensor in tensors.items() if name not in layout.unused}
    values = check(used, expected, shared=(), path=path, against=f"the architecture '{layout.name}'")
    encoder_weight, encoder_bias, decoder_weight, decoder_bias, *thresholds = (values[name] for name in names)
    if layout.transposed:
        encoder_weight, decoder_weight = encoder_weight.T.contiguous(), decoder_weight.T.contiguous()
    if layout.rescaled:
        norms = decoder_weight.norm(dim=0).clamp_min(SMALLEST_NORM)
        encoder_weight, encoder_bias = encoder_weight * norms[:, None], encoder_bias * norms
        decoder_weight = decoder_weight / norms
    sae_centres = layout.k is not None
    if layout.centred != sae_centres:
        shift = encoder_weight @ decoder_bias
        encoder_bias = encoder_bias + shift if sae_centres else encoder_bias - shift
    threshold = None
    if thresholds:
        if thresholds[0].ndim == 0 and thresholds[0] < 0:
            raise CheckpointError(
                f"{path}: {names[-1]} is {thresholds[0].item():g}: training ended before there was one, and without it every "
                "positive feature would be active; train for longer"
            )
        threshold = thresholds[0].expand(features).contiguous().to(device)
    return Sae(
        encoder_weight.to(device),
        encoder_bias.to(device),
        decoder_weight.to(device),
        decoder_bias.to(device),
        layout.k,
        threshold,
    )


def _read_config(path: Path) -> dict[str, Any]:
    from codi_bench.models.settings import placeholder

    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: there is no such file; give the folder that has {CONFIG} or {PICKLE}")
    try:
        return read_json(path, OBJECT.validate_json)
    except OSError as error:
        fault = one_line(error)
    except ValueError as error:
        fault = placeholder(path) or one_line(error)
    raise CheckpointError(f"{path}: cannot be read ({fault})")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file of weights, by name. Raises CheckpointError for anything else in it."""
    from codi_bench.models.strict import printable, read_safetensors
    from codi_bench.models.weights import read_pickle

    contents = read_pickle(path) if path.name == PICKLE else read_safetensors(path)
    if not isinstance(contents, dict):
        raise CheckpointError(f"{path}: holds a {type(contents).__name__}, not weights by name; save only the state dict")
    for name, value in contents.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            kind = type(value).__name__
            raise CheckpointError(f"{path}: holds {printable(name)} ({kind}), not a tensor by name; save only the state dict")
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise CheckpointError(f"{path}: {printable(name)} is not a plain dense tensor; save the state dict again")
    return contents


def _float32(name: str, tensor: Tensor, path: Path) -> Tensor:
    """A copy, since the file may be mapped into memory and may change. Raises CheckpointError for whole numbers and the like."""
    if not tensor.is_floating_point():
        raise CheckpointError(f"{path}: {name[:200]!r} is of {str(tensor.dtype)[6:]}; weights must be floating-point numbers")
    return tensor.detach().to(torch.float32, copy=True)
