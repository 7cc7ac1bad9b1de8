"""SAE folders as SAELens and dictionary_learning write them."""

from __future__ import annotations

import json

import torch
from safetensors.torch import save_file

from codi_bench.measures.sae_folder import CONFIG, PICKLE, PICKLE_CONFIG, WEIGHTS


def write_sae(sae, folder, **settings):
    """What `SAE.save_model` of SAELens 6 leaves of an SAE; settings: what its configuration says otherwise."""
    features, d = sae.encoder_weight.shape
    config = {"d_in": d, "d_sae": features, "dtype": "float32", "normalize_activations": "none"}
    if sae.k is not None:
        config |= {"architecture": "topk", "apply_b_dec_to_input": True, "k": sae.k, "rescale_acts_by_decoder_norm": False}
    else:
        config |= {"architecture": "standard" if sae.threshold is None else "jumprelu", "apply_b_dec_to_input": False}
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(config | settings))
    weights = {"W_enc": sae.encoder_weight.T, "b_enc": sae.encoder_bias, "W_dec": sae.decoder_weight.T, "b_dec": sae.decoder_bias}
    if sae.threshold is not None:
        weights["threshold"] = sae.threshold
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / WEIGHTS)
    return folder


def write_folder(folder, config, tensors):
    """A folder of dictionary_learning where the configuration is that of a trainer, else one of SAELens."""
    folder.mkdir(parents=True)
    if "dict_class" in config:
        (folder / PICKLE_CONFIG).write_text(json.dumps({"trainer": config, "buffer": {"ctx_len": 128}}))
        torch.save(tensors, folder / PICKLE)
    else:
        (folder / CONFIG).write_text(json.dumps(config))
        save_file(tensors, folder / WEIGHTS)
    return folder
