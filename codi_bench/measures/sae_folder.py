"""An SAE as a folder that SAELens loads: `cfg.json` and `sae_weights.safetensors`.

Format: SAELens 6 (`SAE.save_model`, `SAE.load_from_disk`), architectures "standard" (ReLU) and "topk". There W_enc is [d, F]
and W_dec [F, d]; `apply_b_dec_to_input` says whether the decoder bias is subtracted before encoding: our ReLU SAE does not, our
TopK SAE does. Older SAELens folders name their settings otherwise; SAELens itself brings them up to date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from codi_bench.errors import CodiBenchError, one_line
from codi_bench.measures.sae import Sae

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
KEYS = {"W_enc", "W_dec", "b_enc", "b_dec"}
# Settings that change what an SAE computes, and the one value of each that `Sae` computes; absent means this value.
PLAIN = {
    "normalize_activations": "none",
    "reshape_activations": "none",
    "rescale_acts_by_decoder_norm": False,
    "activation_fn": "relu",
    "activation_fn_str": "relu",
}


def load_sae(folder: Path, *, device: str | torch.device = "cpu") -> Sae:
    """The SAE in a folder that SAELens 6 wrote, in float32.

    A decoder bias that is subtracted where `Sae` does not, or the other way round, goes into the encoder bias.
    Raises CodiBenchError naming the file and what is wrong: a missing or damaged file, an unknown architecture, a setting that
    `Sae` does not compute, or weights that are missing, unexpected, wrongly shaped or not finite.
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG)
    try:
        tensors = load_file(folder / WEIGHTS, device=str(device))
    except (OSError, SafetensorError) as error:
        raise CodiBenchError(f"{folder / WEIGHTS}: cannot be read ({one_line(error)})") from error
    d, features, k = config["d_in"], config["d_sae"], config["k"]
    if tensors.keys() != KEYS:
        raise CodiBenchError(f"{folder / WEIGHTS}: has {sorted(tensors)}, an SAE has {sorted(KEYS)}")
    shapes = {"W_enc": (d, features), "b_enc": (features,), "W_dec": (features, d), "b_dec": (d,)}
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise CodiBenchError(f"{folder / WEIGHTS}: {name} is {list(tensors[name].shape)}, {CONFIG} says {list(shape)}")
        if not tensors[name].isfinite().all():
            raise CodiBenchError(f"{folder / WEIGHTS}: {name} contains values that are not finite")
    encoder_weight, decoder_weight = (tensors[name].float().T.contiguous() for name in ("W_enc", "W_dec"))
    encoder_bias, decoder_bias = tensors["b_enc"].float(), tensors["b_dec"].float()
    file_centres, sae_centres = config["apply_b_dec_to_input"], k is not None
    if file_centres != sae_centres:
        shift = encoder_weight @ decoder_bias
        encoder_bias = encoder_bias + shift if sae_centres else encoder_bias - shift
    return Sae(encoder_weight, encoder_bias, decoder_weight, decoder_bias, k)


def _read_config(path: Path) -> dict[str, Any]:
    """d_in, d_sae, apply_b_dec_to_input, and k (None: standard), checked."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CodiBenchError(f"{path}: cannot be read ({one_line(error)})") from error
    if not isinstance(config, dict):
        raise CodiBenchError(f"{path}: is not a JSON object")
    architecture = config.get("architecture")
    if architecture not in ("standard", "topk"):
        raise CodiBenchError(f"{path}: architecture is {architecture!r}; 'standard' and 'topk' can be loaded")
    for field, value in PLAIN.items():
        if config.get(field, value) != value:
            raise CodiBenchError(f"{path}: {field} is {config[field]!r}; only {value!r} can be loaded")
    centres = config.get("apply_b_dec_to_input", True)  # SAELens's default
    if not isinstance(centres, bool):
        raise CodiBenchError(f"{path}: apply_b_dec_to_input is {centres!r}, not true or false")
    counts: dict[str, Any] = {field: config.get(field) for field in ("d_in", "d_sae", *(["k"] if architecture == "topk" else []))}
    for field, count in counts.items():
        if type(count) is not int or count < 1:
            raise CodiBenchError(f"{path}: {field} is {count!r}, not a positive number")
    if counts.get("k", 1) > counts["d_sae"]:
        raise CodiBenchError(f"{path}: k is {counts['k']}, of {counts['d_sae']} features")
    return {"k": None, "apply_b_dec_to_input": centres, **counts}
