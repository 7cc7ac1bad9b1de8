"""Read the configuration of a published autoencoder: the names of its tensors, and what is computed with them.

SAELens (github.com/decoderesearch/SAELens, `sae_lens/saes/`, versions 3 to 6): `cfg.json`; W_enc is [d, F], W_dec [F, d].
BatchTopK is saved for inference as JumpReLU; a folder that says "batchtopk" is a checkpoint of its training. Before version 5
TopK called itself "standard" with another activation function; that is refused, and SAELens 6 saves it as "topk".
dictionary_learning (github.com/saprmarks/dictionary_learning, `dictionary.py`, `trainers/`): `trainer` of `config.json`.

A setting that changes what is computed, or that belongs to another architecture, is either followed or refused by name.
Other settings (training, model, hook, dtype) are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from codi_bench.errors import CheckpointError

Shape = tuple[int, ...]

ACTIVATIONS = {"standard": "relu", "topk": "topk", "jumprelu": "relu", "batchtopk": "batchtopk"}  # SAELens's architectures
# Fields of some architectures alone: elsewhere they say that the folder is another kind of autoencoder than it calls itself.
# SAELens 4 and 5 write `jumprelu_init_threshold` and `jumprelu_bandwidth`, which training alone reads, for every architecture.
LENS_OWNERS = {
    "k": ("topk", "batchtopk"),
    "activation_fn_kwargs": ("topk",),
    "rescale_acts_by_decoder_norm": ("topk", "batchtopk"),
    "topk_threshold_lr": ("batchtopk",),
    "matryoshka_widths": (),
    "d_out": (),
    "threshold": (),
    "topk_threshold": (),
}
# Settings of any architecture, and the values of each that are computed here; absent means the same.
PLAIN: dict[str, tuple[Any, ...]] = {
    "normalize_activations": ("none", None, False),
    "reshape_activations": ("none", None),
    "finetuning_scaling_factor": (False, None),
}

MODULES = ("encoder.weight", "encoder.bias", "decoder.weight")  # [F, d], [F], [d, F]
MATRICES = ("W_enc", "b_enc", "W_dec")  # [d, F], [F], [F, d]


@dataclass(frozen=True)
class Layout:
    """How one architecture names its tensors, and what it computes with them.

    weights: names of encoder weight and bias, decoder weight and bias. transposed: the weights are [d, F] and [F, d].
    centred: the decoder bias is subtracted from vectors before they are encoded. k: of TopK.
    thresholds: shapes of what the threshold may be called, of which there must be one. unused: tensors that change nothing.
    rescaled: pre-activations are multiplied by the norms of the decoder, and features divided by them.
    """

    name: str
    d: int
    features: int
    weights: tuple[str, str, str, str]
    transposed: bool
    centred: bool
    k: int | None = None
    thresholds: Mapping[str, Shape] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    rescaled: bool = False


def sae_lens(config: Mapping[str, Any], path: Path) -> Layout:
    """The layout that a `cfg.json` describes. Raises CheckpointError, naming the field."""
    architecture = config.get("architecture")
    if architecture not in list(ACTIVATIONS):
        raise CheckpointError(f"{path}: architecture is {_shown(architecture)}; {_listed(ACTIVATIONS)} can be loaded")
    _check_owners(config, LENS_OWNERS, f"architecture is '{architecture}'", architecture, path)
    for name, values in PLAIN.items():
        if config.get(name, values[0]) not in values:
            raise CheckpointError(f"{path}: {name} is {_shown(config[name])}; only {values[0]!r} can be loaded")
    activations = {name: config[name] for name in ("activation_fn", "activation_fn_str") if config.get(name) is not None}
    for name, value in activations.items():
        if value != ACTIVATIONS[architecture]:
            raise CheckpointError(
                f"{path}: {name} is {_shown(value)}, which is no '{architecture}' architecture; "
                "correct the one that is wrong, or load and save the folder with SAELens 6"
            )
    centred = config.get("apply_b_dec_to_input", True)  # SAELens's default
    rescaled = config.get("rescale_acts_by_decoder_norm", False)
    for name, value in (("apply_b_dec_to_input", centred), ("rescale_acts_by_decoder_norm", rescaled)):
        if not isinstance(value, bool):
            raise CheckpointError(f"{path}: {name} is {_shown(value)}, not true or false")
    d, features = (_count(config.get(name), name, path) for name in ("d_in", "d_sae"))
    thresholds: dict[str, Shape] = {}
    if architecture in ("jumprelu", "batchtopk"):
        thresholds["threshold"] = (features,)
    if architecture == "batchtopk":
        thresholds["topk_threshold"] = ()
    return Layout(
        name=architecture,
        d=d,
        features=features,
        weights=(*MATRICES, "b_dec"),
        transposed=True,
        centred=centred,
        k=_lens_k(config, bool(activations), features, path) if architecture == "topk" else None,
        thresholds=thresholds,
        rescaled=rescaled,
    )


def _lens_k(config: Mapping[str, Any], is_named: bool, features: int, path: Path) -> int:
    """k: field `k` in SAELens 6, `activation_fn_kwargs` in 3 to 5; if both are there, they must be equal."""
    keywords = config.get("activation_fn_kwargs") or {}
    if not keywords:
        return _count(config.get("k"), "k", path, features)
    if not isinstance(keywords, dict) or list(keywords) != ["k"]:
        raise CheckpointError(f"{path}: activation_fn_kwargs is {_shown(keywords)}; topk has only k")
    if not is_named and config.get("k") is None:
        raise CheckpointError(
            f"{path}: activation_fn_kwargs is {_shown(keywords)}, without an activation_fn; write the field k instead"
        )
    k = _count(keywords["k"], "activation_fn_kwargs.k", path, features)
    if config.get("k", k) != k:
        raise CheckpointError(f"{path}: k is {_shown(config['k'])} and activation_fn_kwargs.k is {k}; keep the right one")
    return k


@dataclass(frozen=True)
class _Class:
    """A class of dictionary_learning; activation: relu, topk, threshold (one for each feature) or batch (one for all)."""

    weights: tuple[str, str, str, str]
    activation: str
    centred: bool
    unused: tuple[str, ...] = ()


CLASSES = {
    "AutoEncoder": _Class((*MODULES, "bias"), "relu", True),
    "AutoEncoderNew": _Class((*MODULES, "decoder.bias"), "relu", False),
    "AutoEncoderTopK": _Class((*MODULES, "b_dec"), "topk", True, ("k", "threshold")),  # it encodes without its threshold
    "BatchTopKSAE": _Class((*MODULES, "b_dec"), "batch", True, ("k",)),
    "MatryoshkaBatchTopKSAE": _Class((*MATRICES, "b_dec"), "batch", True, ("k", "group_sizes")),  # all groups are active
    "JumpReluAutoEncoder": _Class((*MATRICES, "b_dec"), "threshold", False),
}
CLASS_OWNERS = {
    "k": ("AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE"),
    "threshold": ("AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"),
    "group_sizes": ("MatryoshkaBatchTopKSAE",),
}


def dictionary_learning(config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> Layout:
    """The layout that `trainer` of a `config.json` describes; the tensors must agree on sizes and k. Raises CheckpointError."""
    trainer = config.get("trainer")
    if not isinstance(trainer, dict):
        raise CheckpointError(f"{path}: trainer is {_shown(trainer)}, not the settings of a training run")
    name = trainer.get("dict_class")
    if name not in list(CLASSES):
        raise CheckpointError(f"{path}: trainer.dict_class is {_shown(name)}; {_listed(CLASSES)} can be loaded")
    kind = CLASSES[name]
    _check_owners(trainer, CLASS_OWNERS, f"dict_class is '{name}'", name, path)
    encoder, transposed = kind.weights[0], kind.weights[0] == MATRICES[0]
    if encoder not in tensors:
        raise CheckpointError(f"{path}: dict_class is '{name}', but the weights beside it have no {encoder}")
    sizes = ("activation_dim", "dict_size")
    saved_sizes = dict(zip(sizes if transposed else sizes[::-1], tensors[encoder].shape))
    d, features = (_count(trainer.get(size, saved_sizes.get(size)), f"trainer.{size}", path) for size in sizes)
    k = trainer.get("k")
    if "k" in kind.unused and "k" in tensors:
        saved_k = tensors["k"].tolist()
        if k is not None and k != saved_k:
            raise CheckpointError(
                f"{path}: trainer.k is {_shown(k)}, but the weights say {_shown(saved_k)}; correct the wrong one"
            )
        k = saved_k
    shapes: dict[str, dict[str, Shape]] = {"threshold": {"threshold": (features,)}, "batch": {"threshold": ()}}
    return Layout(
        name=name,
        d=d,
        features=features,
        weights=kind.weights,
        transposed=transposed,
        centred=kind.centred,
        k=_count(k, "trainer.k", path, features) if kind.activation == "topk" else None,
        thresholds=shapes.get(kind.activation, {}),
        unused=kind.unused,
    )


def _check_owners(config: Mapping[str, Any], owners: Mapping[str, tuple[str, ...]], words: str, name: str, path: Path) -> None:
    """Raises CheckpointError for a field with a value that belongs to other architectures."""
    for key, names in owners.items():
        value = config.get(key)
        if name not in names and not (value is None or value is False or value == {}):
            owner = f"belongs to {_listed(names)}" if names else "is not supported by any architecture that can be loaded"
            raise CheckpointError(f"{path}: {key} is {_shown(value)} and {owner}, but {words}; correct the one that is wrong")


def _count(value: Any, name: str, path: Path, most: int | None = None) -> int:
    """A positive whole number, at most the number of features. Raises CheckpointError."""
    if type(value) is not int or value < 1:
        raise CheckpointError(f"{path}: {name} is {_shown(value)}, not a positive number")
    if most is not None and value > most:
        raise CheckpointError(f"{path}: {name} is {value}, but there are {most} features")
    return value


def _listed(names: Any) -> str:
    *most, last = [f"'{name}'" for name in names]
    return f"{', '.join(most)} and {last}" if most else last


def _shown(value: Any) -> str:
    return repr(value)[:100]
